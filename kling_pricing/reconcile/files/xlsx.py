"""Statements as XLSX: text stays text, and a number is the shortest decimal of the double in the file.

A spreadsheet keeps 15 digits of a number, so a number with more may have lost digits.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from functools import cached_property
from itertools import islice
from typing import Any
from zipfile import BadZipFile

from kling_pricing.display import not_installed
from kling_pricing.reconcile.files.file_reader import (
    DATE_CELL,
    MAX_TITLE_ROWS,
    FileReader,
    Layout,
    RowSource,
    text_in,
)

_MAX_DIGITS = 15
_FIRST_LOST = 10**_MAX_DIGITS
"""From this number on, the spreadsheet may have replaced the last digit with a zero."""


class XlsxReader(FileReader):
    """One sheet of a workbook."""

    def header(self) -> Sequence[str]:
        """See `FileReader.header`."""
        row = self.layout.header_row
        names = next((names for number, names in self._head if number >= row), [])
        if not any(names):
            raise self.error("is empty; the first row must hold the column names")
        return names

    def layouts(
        self, prescribed: Layout, wanted: Sequence[Sequence[str]] | None = None
    ) -> Iterator[tuple[Layout, Sequence[str]]]:
        """See `FileReader.layouts`."""
        del wanted  # the header has every column
        self.layout = prescribed
        self.header()  # an empty sheet is refused
        for row, names in self._head:
            yield prescribed._replace(header_row=row), names

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
        """Sheet -> its first rows."""
        return {}

    def _read_head(self) -> list[tuple[int, list[str]]]:
        names = (
            (row, ["" if cell is None else str(cell) for cell in record]) for row, record in self._records()
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
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about styles and extensions, which are not read
            try:
                book = openpyxl.load_workbook(self.path, read_only=True, data_only=True)
            except (BadZipFile, KeyError, ValueError, OSError) as error:
                raise self.error(f"cannot be read as XLSX: {error}") from None
        try:
            sheet_name = self.layout.sheet or book.sheetnames[0]
            if sheet_name not in book.sheetnames:
                raise self.error(f"has no sheet {sheet_name!r}; it has {', '.join(book.sheetnames)}")
            sheet = book[sheet_name]
            sheet.reset_dimensions()  # the size that a file states may be wrong
            yield from enumerate(sheet.iter_rows(values_only=True), start=1)
        finally:
            book.close()


def _text(cell: Any) -> str | None:
    """Returns the text of a cell; None: it is a number that may have lost digits."""
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
