"""Which columns a sheet has, and how wide they are.

The columns that a page shows come first, because a printed sheet has only these. Each amount has two columns: a
number to sum and sort by, and text with every digit. Each label has a column of its own.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import UTC, date, datetime, time
from decimal import Decimal
from functools import lru_cache
from itertools import islice
from typing import Any, NamedTuple

from kling_pricing.money import format_decimal
from kling_pricing.reports.document import Cell, Column, Kind, Row, Section
from kling_pricing.reports.formatting import number_text
from kling_pricing.reports.text_width import lines_of, width_of

_MEASURED_ROWS = 2_000
"""The number of rows whose widths are measured; text that is wider later on is wrapped."""

_MAX_WIDTHS: dict[Kind, int] = {"text": 38, "prose": 52, "labels": 24}
_MIN_WIDTH, _OTHER_MAX_WIDTH = 9, 34
_MARGIN = 3
_MAX_CHARS = 32_767
LINE_HEIGHT = 15
"""The height of a line in points."""


class SheetColumn(NamedTuple):
    """A column of a sheet.

    Attributes:
        place: the place of its value in the rows of the section.
        column: the column of the section.
        title: its heading.
        is_exact: whether it has the digits of an amount as text.
        label: the label whose values it has; None: it has the value itself.
    """

    place: int
    column: Column
    title: str
    is_exact: bool = False
    label: str | None = None

    def value_of(self, row: Row) -> Cell:
        """Returns the value of a row in this column."""
        return self.shown(row[self.place])

    def shown(self, cell: Cell) -> Cell:
        """Returns what this column has of a cell of the section: the cell, its digits, or a label."""
        if self.label is not None:
            return labels_of(cell if isinstance(cell, str) else "").get(self.label)
        if not self.is_exact or not isinstance(cell, Decimal):
            return cell
        return f"{cell:f}" if self.column.keeps_zeros else format_decimal(cell)

    def lines_in(self, cell: Cell, width: int) -> int:
        """Returns the number of lines that a value needs in a column of this width."""
        is_wide = isinstance(cell, str) and (len(cell) > width or width_of(cell) > width)
        return len(lines_of(str(cell), width)) if is_wide else 1


class WrittenCell(NamedTuple):
    """A cell of a sheet.

    Attributes:
        kind: the kind of its format: that of its column, or `exact`.
        value: its value; None: the cell is empty.
    """

    kind: str
    value: str | int | Decimal | datetime | None


def written_cell(column: SheetColumn, cell: Cell) -> WrittenCell:
    """Returns how a sheet writes the value of a column; one that is missing has the words for it, if any."""
    kind = "exact" if column.is_exact else column.column.kind
    if cell is None:
        return WrittenCell("text", column.column.missing) if column.column.missing else WrittenCell(kind, None)
    if isinstance(cell, datetime):
        return WrittenCell(kind, cell.astimezone(UTC).replace(tzinfo=None))
    if not isinstance(cell, str):
        return WrittenCell(kind, cell)
    if kind == "day":
        day = _start_of_day(cell)
        if day is not None:
            return WrittenCell(kind, day)
    display = column.column.display_names.get(cell)
    return WrittenCell(
        "text" if kind == "day" else kind, cell[:_MAX_CHARS] if display is None else display.title
    )


def _start_of_day(text: str) -> datetime | None:
    """Returns the start of a day; None: the text is not a day, such as the word for a total."""
    try:
        return datetime.combine(date.fromisoformat(text), time())
    except ValueError:
        return None


class SheetLayout(NamedTuple):
    """The columns of a sheet.

    Attributes:
        columns: the columns, in order.
        widths: the width of each, in characters.
        printed: the number of columns that the printed sheet has.
    """

    columns: tuple[SheetColumn, ...]
    widths: tuple[int, ...]
    printed: int

    def lines_of_row(self, cells: Sequence[Cell]) -> int:
        """Returns the number of lines that the printed part of a row needs.

        Programs do not agree on when to make rows higher, so the workbook says how high they are.
        """
        printed = zip(self.columns[: self.printed], self.widths, cells, strict=False)
        return max(column.lines_in(cell, width) for column, width, cell in printed)

    def lines_of_headings(self) -> int:
        """Returns the number of lines that the headings need, which are bold."""
        return max(
            len(lines_of(column.title, width - _MARGIN))
            for column, width in zip(self.columns, self.widths, strict=True)
        )


def layout_of(section: Section) -> SheetLayout:
    """Returns the layout of a section's sheet; reads its rows."""
    places = list(enumerate(section.columns))
    has_labels = any(column.kind == "labels" for column in section.columns)
    rows = list(islice(section.rows(), _MEASURED_ROWS))
    named = section.rows() if has_labels else ()
    columns: list[SheetColumn] = []
    for shown in (True, False):
        for place, column in places:
            if column.on_page is shown:
                columns += _columns(place, column, named)
        if shown:
            printed = len(columns)
    measured = [*rows, *section.totals]
    return SheetLayout(tuple(columns), tuple(_width(column, measured) for column in columns), printed)


@lru_cache(maxsize=4096)  # many rows have the same labels
def labels_of(text: str) -> dict[str, Any]:
    """Returns the labels in a cell, which are JSON; empty if they are not, because a secret was left out."""
    try:
        labels = json.loads(text)
    except ValueError:
        return {}
    return labels if isinstance(labels, dict) else {}


def _columns(place: int, column: Column, rows: Iterable[Row]) -> list[SheetColumn]:
    if column.kind == "amount":
        exact = SheetColumn(place, column, f"{column.title}, exactly", is_exact=True)
        return [SheetColumn(place, column, column.title), exact]
    if column.kind == "labels":
        texts = {text for row in rows if isinstance(text := row[place], str)}
        names = sorted({name for text in texts for name in labels_of(text)} - {"project"})
        return [SheetColumn(place, column, f"Label {name}", label=name) for name in names]
    return [SheetColumn(place, column, column.title)]


def _width(column: SheetColumn, rows: Sequence[Row]) -> int:
    """Returns the width of a column: that of its widest value, within limits."""
    heading = max(map(width_of, column.title.split()), default=0)
    widest = max([heading, *(width_of(_text(column, column.value_of(row))) for row in rows)])
    most = _MAX_WIDTHS.get(column.column.kind, _OTHER_MAX_WIDTH)
    return max(min(widest, most), min(heading, most), _MIN_WIDTH) + _MARGIN


def _text(column: SheetColumn, cell: Cell) -> str:
    """Returns a value about as a spreadsheet shows it."""
    if isinstance(cell, datetime):
        return f"{cell:%Y-%m-%d %H:%M:%S}"
    if isinstance(cell, Decimal | int):
        return number_text(cell, 2 if column.column.kind == "amount" else 0)
    display = column.column.display_names.get(cell or "")
    return display.title if display is not None else cell or column.column.missing
