"""Rows in temporary files: several formats print the same rows, which are made only once."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Iterable, Iterator
from itertools import groupby, islice
from operator import attrgetter
from pathlib import Path
from typing import Any, BinaryIO, get_args

from kling_pricing.reconcile.categories import Category
from kling_pricing.reconcile.model import (
    AccruedMonth,
    BookingGroup,
    Dimension,
    JournalLine,
    Line,
    Payable,
    Reconciled,
    Total,
)
from kling_pricing.reports.document import Row, Section

_BLOCK = 500
"""The number of rows that are written and read together: equal values in a block are stored once."""


class KeptLines:
    """A reconciliation whose lines are read and worded only once; see `model.Reconciled`.

    Args:
        reconciled: the reconciliation.
        folder: a folder for the lines, which must exist as long as lines are read.
    """

    def __init__(self, reconciled: Reconciled, folder: Path) -> None:
        self._reconciled = reconciled
        self._folder = folder
        self._kept: set[Category] = set()
        self.provider = reconciled.provider
        self.account = reconciled.account
        self.since = reconciled.since
        self.until = reconciled.until
        self.statements = reconciled.statements
        self.exceptions = reconciled.exceptions
        self.open = reconciled.open
        self.in_dispute = reconciled.in_dispute
        self.gaps = reconciled.gaps
        self.confirmed = reconciled.confirmed
        self.invoice = reconciled.invoice
        self.grain = reconciled.grain

    def lines(self, *categories: Category) -> Iterator[Line]:
        """Yields the lines of these categories, or all lines; always in the same order."""
        wanted = [name for name in get_args(Category) if not categories or name in categories]
        self._keep([name for name in wanted if name not in self._kept])
        for category in wanted:
            yield from map(Line._make, _rows(self._path(category)))

    def totals(self, dimension: Dimension) -> list[Total]:
        """Returns the sums of the lines by currency and name."""
        return self._reconciled.totals(dimension)

    def journal(self) -> list[JournalLine]:
        """Returns the journal of the period."""
        return self._reconciled.journal()

    def booking_groups(self) -> list[BookingGroup]:
        """Returns the journal in groups of tasks with the same project, labels, day and currency."""
        return self._reconciled.booking_groups()

    def charged_before(self) -> frozenset[str]:
        """Returns the tasks with a charge in the period that were also charged before it."""
        return self._reconciled.charged_before()

    def payable(self) -> list[Payable]:
        """Returns the amounts to pay, in dispute and to accrue."""
        return self._reconciled.payable()

    def accrued_months(self) -> list[AccruedMonth]:
        """Returns the parts of the amounts to accrue."""
        return self._reconciled.accrued_months()

    def _keep(self, categories: list[Category]) -> None:
        """Writes the lines of categories, which come one category after the other, to a file each."""
        if not categories:
            return
        for category in categories:
            self._path(category).touch()
        for category, lines in groupby(self._reconciled.lines(*categories), key=attrgetter("category")):
            with self._path(category).open("ab") as file:
                _write(map(tuple, lines), file)
        self._kept.update(categories)

    def _path(self, category: Category) -> Path:
        return self._folder / f"{category}.lines"


def kept_section(section: Section, folder: Path) -> Section:
    """Returns a table whose rows are made when they are first read, and then kept in a file."""
    return section._replace(rows=_kept(section.rows, folder / f"{section.name}.rows"))


def _kept(make: Callable[[], Iterable[Row]], path: Path) -> Callable[[], Iterator[Row]]:
    def rows() -> Iterator[Row]:
        if not path.exists():
            with path.open("wb") as file:
                _write(make(), file)
        return _rows(path)

    return rows


def _write(rows: Iterable[tuple[Any, ...]], file: BinaryIO) -> None:
    rest = iter(rows)
    while block := list(islice(rest, _BLOCK)):
        pickle.dump(block, file, pickle.HIGHEST_PROTOCOL)


def _rows(path: Path) -> Iterator[tuple[Any, ...]]:
    with path.open("rb") as file:
        while file.peek(1):
            yield from pickle.load(file)  # noqa: S301 (our own file, in a folder of this user)
