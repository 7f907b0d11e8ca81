"""The error of a shot list that cannot be read or written."""

from __future__ import annotations

from kling_pricing.errors import KlingPricingError


class ShotListError(KlingPricingError):
    """A shot list cannot be read, or a file with results cannot be written.

    Attributes:
        file: the file.
        row: the number of the row in the file, from 1, with the header counted; None: the whole file.
        column: the column, as the header writes it; empty: the whole row.
    """

    def __init__(self, problem: str, *, file: str, row: int | None = None, column: str = "") -> None:
        place = file if row is None else f"{file}:{row}"
        super().__init__(": ".join(part for part in (place, column, problem) if part))
        self.file = file
        self.row = row
        self.column = column
