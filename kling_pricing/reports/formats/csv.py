"""Tables as CSV files: UTF-8, comma-separated, quoted where needed, one heading, no totals.

Excel reads UTF-8 only after a byte order mark, so the files begin with one unless `bom` is false.

Spreadsheets run text that starts with `=`, `+`, `-` or `@` as a formula, even if it is quoted.
So an apostrophe is put in front of such text, and in front of text that starts with an apostrophe, a tab or
a line break.
The same applies after a semicolon, a tab or a line break in text, where some spreadsheets start the next cell.
Removing one apostrophe at each of these places restores the exact text.
Numbers are never changed.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from decimal import Decimal
from functools import partial
from pathlib import Path

from kling_pricing.display import escape_formulas
from kling_pricing.money import format_decimal
from kling_pricing.reports.cell_conversion import convert_rows
from kling_pricing.reports.document import Cell, Column, Document, Section
from kling_pricing.reports.formatting import instant_text


def write(document: Document, folder: Path, *, bom: bool = True) -> None:
    """Writes each table of a report into its own file."""
    for section in document.sections:
        write_section(section, folder / f"{section.name}.csv", bom=bom)


def write_section(
    section: Section, path: Path, *, number: Callable[[Decimal], str] = format_decimal, bom: bool = True
) -> None:
    """Writes one table.

    Args:
        section: the table.
        path: the file.
        number: formats a decimal.
        bom: whether the file begins with a byte order mark.
    """
    with path.open("w", encoding="utf-8-sig" if bom else "utf-8", newline="") as file:
        lines = csv.writer(file)
        lines.writerow([column.name for column in section.columns])
        lines.writerows(csv_rows(section.columns, section.rows(), number))


def csv_rows(
    columns: Sequence[Column], rows: Iterable[Sequence[Cell]], number: Callable[[Decimal], str]
) -> Iterator[tuple[str | int | None, ...]]:
    """Yields the rows of a table as a CSV file has them; `number` formats a decimal."""
    converters = [partial(_cell, number=_with_zeros if column.keeps_zeros else number) for column in columns]
    return convert_rows(columns, rows, converters)


def _cell(cell: Cell, number: Callable[[Decimal], str]) -> str | int | None:
    if isinstance(cell, str):
        return escape_formulas(cell)
    if isinstance(cell, Decimal):
        return number(cell)
    return instant_text(cell) if isinstance(cell, datetime) else cell


def _with_zeros(number: Decimal) -> str:
    return f"{number:f}"
