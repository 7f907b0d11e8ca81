"""Statements as XLSX: text is text, and a number is the shortest decimal of the double that the file holds.

A spreadsheet keeps 15 digits of a number, so one with more is no longer what it was.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from zipfile import BadZipFile

from kling_pricing.display import not_installed
from kling_pricing.reconcile.files.file_reader import DATE_CELL, FileReader, RowSource

_MAX_DIGITS = 15
_FIRST_LOST = 10**_MAX_DIGITS
"""From here on the last digit may be one that the spreadsheet has made a zero."""


class XlsxReader(FileReader):
    """One sheet of a workbook."""

    def header(self) -> Sequence[str]:
        """See `FileReader.header`."""
        _, header = next(self._records(), (1, ()))
        names = ["" if name is None else str(name) for name in header]
        if not any(names):
            raise self.error("is empty; its first row must name the columns")
        return names

    def source(self, columns: Sequence[str], exact: Sequence[str]) -> RowSource:
        """See `FileReader.source`."""
        del exact  # a number of too many digits is refused in any column
        places = self.places(self.header(), columns)
        return self.staged(list(places), self._rows(places))

    def _rows(self, places: Mapping[str, int]) -> Iterator[tuple[int, Sequence[str], str]]:
        records = self._records()
        next(records)
        for row, record in records:
            if any(cell is not None for cell in record):
                read = {
                    name: _text(record[place] if place < len(record) else None)
                    for name, place in places.items()
                }
                lost = ", ".join(name for name, text in read.items() if text is None)
                fault = f"{lost}: a spreadsheet keeps {_MAX_DIGITS} digits of a number; export it as text"
                yield row, [text or "" for text in read.values()], fault if lost else ""

    def _records(self) -> Iterator[tuple[int, Sequence[Any]]]:
        try:
            import openpyxl  # noqa: PLC0415 (an extra, and slow to import)
        except ModuleNotFoundError as error:
            raise self.error(not_installed("XLSX", "openpyxl", "reports")) from error
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of styles and extensions, which are not looked at
            try:
                book = openpyxl.load_workbook(self.path, read_only=True, data_only=True)
            except (BadZipFile, KeyError, ValueError, OSError) as error:
                raise self.error(f"cannot be read as XLSX: {error}") from None
        try:
            named = self.layout.sheet or book.sheetnames[0]
            if named not in book.sheetnames:
                raise self.error(f"has no sheet {named!r}; it has {', '.join(book.sheetnames)}")
            sheet = book[named]
            sheet.reset_dimensions()  # what a file says of its size need not be true
            yield from enumerate(sheet.iter_rows(values_only=True), start=1)
        finally:
            book.close()


def _text(cell: Any) -> str | None:
    """The text of a cell; None: it is a number of which digits are lost."""
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
