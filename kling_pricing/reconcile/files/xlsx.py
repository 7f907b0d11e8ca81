"""Reads statements in XLSX; a number is read as the shortest decimal for the double in the file.

A spreadsheet program keeps 15 digits of a number, so a longer number may have lost digits.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import date, datetime
from decimal import Decimal
from functools import cached_property
from itertools import count, islice
from typing import Any, BinaryIO
from zipfile import ZipFile

from kling_pricing.display import not_installed
from kling_pricing.errors import StatementError
from kling_pricing.reconcile.files.file_reader import (
    DATE_CELL,
    MAX_COLUMNS,
    MAX_ROWS,
    MAX_TITLE_ROWS,
    TOO_MANY_COLUMNS,
    FileReader,
    Layout,
    RowSource,
    column_name,
    text_in,
)

_MAX_DIGITS = 15
_FIRST_LOST = 10**_MAX_DIGITS
"""The smallest number whose last digit a spreadsheet program may have replaced with a zero."""

_MAX_RATIO = 100
"""The maximum ratio of a workbook's expanded size to its size on the disk; for tables, it is 5 to 30."""

_ALWAYS_EXPANDED = 1 << 26
"""The expanded size in bytes up to which the ratio is not checked."""

_MAX_EXPANDED = 1 << 32
"""The maximum expanded size in bytes of a workbook."""

_MAX_CELLS = 1 << 28
"""The maximum number of cells in a sheet. A cell in the last column of a row adds thousands of empty ones."""

_MAX_REASON = 200
"""The maximum number of characters of an openpyxl error that are shown."""


class XlsxReader(FileReader):
    """A reader of one sheet of a workbook."""

    _sheets: Sequence[str] = ()
    """The names of the sheets, once a sheet was read."""

    def header(self) -> Sequence[str]:
        """See `FileReader.header`."""
        row = self.layout.header_row
        names = next((names for number, names in self._head if number >= row), [])
        if not any(names):
            raise self.error("is empty; the first row must contain the column names")
        return names

    def layouts(
        self, prescribed: Layout, wanted: Sequence[Sequence[str]] | None = None
    ) -> Iterator[tuple[Layout, Sequence[str]]]:
        """See `FileReader.layouts`."""
        del wanted  # the header has every column
        self.layout = prescribed
        first = self._head
        names = self._sheets if prescribed.sheet is None and len(self._sheets) > 1 else [prescribed.sheet]
        sheets = [prescribed._replace(sheet=sheet) for sheet in names]
        heads = []
        for layout in sheets:
            self.layout = layout
            heads.append(first if layout is sheets[0] else self._head)
        self.layout = next((layout for layout, head in zip(sheets, heads, strict=True) if head), prescribed)
        self.header()  # if every sheet is empty, the file is refused
        for layout, head in zip(sheets, heads, strict=True):
            for row, columns in head:
                yield layout._replace(header_row=row), columns

    def source(self, columns: Sequence[str], exact: Sequence[str]) -> RowSource:
        """See `FileReader.source`."""
        del exact  # a number with too many digits is refused in any column
        cells = self.cells(self.header(), columns)
        return self.staged(list(cells), self._rows(cells))

    @property
    def _head(self) -> list[tuple[int, list[str]]]:
        """The first rows of the sheet that are not blank."""
        sheet = self.layout.sheet
        if sheet not in self._heads:
            self._heads[sheet] = self._read_head()
        return self._heads[sheet]

    @cached_property
    def _heads(self) -> dict[str | None, list[tuple[int, list[str]]]]:
        """Sheet -> its first rows that are not blank."""
        return {}

    def _read_head(self) -> list[tuple[int, list[str]]]:
        names = (
            (row, ["" if cell is None else column_name(str(cell)) for cell in record])
            for row, record in self._records()
        )
        return list(islice(((row, cells) for row, cells in names if any(cells)), MAX_TITLE_ROWS))

    def _rows(self, cells: Mapping[str, tuple[int, str]]) -> Iterator[tuple[int, Sequence[str], str]]:
        for row, record in self._records():
            if row > self.layout.header_row and any(cell is not None for cell in record):
                texts = {
                    name: _text(record[place] if place < len(record) else None)
                    for name, (place, _) in cells.items()
                }
                lost = ", ".join(name for name, text in texts.items() if text is None)
                fault = (
                    f"a spreadsheet keeps only {_MAX_DIGITS} digits of a number, so digits of {lost} are "
                    "missing; export the column as text"
                )
                if not lost:
                    texts = {name: text_in(text or "", cells[name][1]) for name, text in texts.items()}
                    nested = next((name for name, text in texts.items() if text is None), "")
                    fault = f"{nested} is not valid JSON text"
                    lost = nested
                yield row, [text or "" for text in texts.values()], fault if lost else ""

    def _records(self) -> Iterator[tuple[int, Sequence[Any]]]:
        try:
            import openpyxl  # noqa: PLC0415 (an extra, and slow to import)
        except ModuleNotFoundError as error:
            raise self.error(not_installed("XLSX", "openpyxl", "reports")) from error
        with self.path.open("rb") as file:  # openpyxl leaves a file open if it cannot read it
            yield from self._records_in(file, openpyxl.load_workbook)

    def _records_in(self, file: BinaryIO, load: Callable[..., Any]) -> Iterator[tuple[int, Sequence[Any]]]:
        with warnings.catch_warnings(), self._damage_reported():
            warnings.simplefilter("ignore")  # the warnings are about styles and extensions, which are not read
            self._refuse_inflated(file)
            book = load(file, read_only=True, data_only=True)
            if not book.worksheets:
                raise self.error("has no worksheet; export it again")
            names = [sheet.title for sheet in book.worksheets]
            self._sheets = names
            sheet_name = self.layout.sheet or names[0]
            if sheet_name not in names:
                raise self.error(f"has no sheet {sheet_name!r}; it has {', '.join(names)}")
            sheet = book[sheet_name]
            sheet.reset_dimensions()  # the size that a file states may be wrong
            records = iter(sheet.iter_rows(values_only=True))
        cell_count = 0
        for row in count(1):
            with self._damage_reported():
                record = next(records, None)
            if record is None:
                return
            if row > MAX_ROWS:
                raise self.error(f"has more than {MAX_ROWS} rows; split it into several files", row=row)
            cell_count += len(record)
            if cell_count > _MAX_CELLS:
                raise self.error(
                    f"has more than {_MAX_CELLS} cells, empty ones included; remove the empty columns, or save "
                    "the statement as CSV",
                    row=row,
                )
            if len(record) > MAX_COLUMNS:
                raise self.error(TOO_MANY_COLUMNS, row=row)
            yield row, record

    def _refuse_inflated(self, file: BinaryIO) -> None:
        """Refuses a file that expands to a multiple of its size, because reading it might never end."""
        with ZipFile(file) as archive:
            expanded = sum(member.file_size for member in archive.infolist())
        stored = self.path.stat().st_size
        if expanded > _MAX_EXPANDED or expanded > max(_ALWAYS_EXPANDED, _MAX_RATIO * stored):
            raise self.error(
                f"expands from {stored} to {expanded} bytes, which is too much for a statement; export "
                "the statement again, or save it as CSV"
            )

    @contextmanager
    def _damage_reported(self) -> Iterator[None]:
        """Converts every error of openpyxl to a `StatementError`.

        With a damaged file, openpyxl raises errors of ZIP, of XML and of its own code, so no list of them is
        complete.
        """
        try:
            yield
        except StatementError:
            raise
        except Exception as error:  # noqa: BLE001 (see above)
            reason = " ".join(str(error).split()) or type(error).__name__
            raise self.error(
                f"cannot be read as XLSX: {reason[:_MAX_REASON]}; export the statement again, as XLSX or as CSV"
            ) from None


def _text(cell: Any) -> str | None:
    """Returns the text of a cell; None: the cell is a number that may have lost digits."""
    if cell is None:
        return ""
    if isinstance(cell, bool):
        return str(cell).lower()
    if isinstance(cell, int | float):
        if abs(cell) >= _FIRST_LOST:
            return None
        number = Decimal(repr(cell))
        significant = len(number.normalize().as_tuple().digits)
        return format(number, "f") if significant <= _MAX_DIGITS else None
    if isinstance(cell, datetime | date):
        return f"{DATE_CELL}{cell.isoformat()}"
    return str(cell)
