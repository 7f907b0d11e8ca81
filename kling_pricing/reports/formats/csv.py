"""Tables as CSV files: UTF-8, comma-separated, quoted where needed, one heading, no totals.

Spreadsheets run text that starts with `=`, `+`, `-` or `@` as a formula, even if it is quoted.
So an apostrophe is put in front of such text, and in front of text that starts with an apostrophe, a tab or
a line break.
The same applies after a semicolon, a tab or a line break in text, where some spreadsheets start the next cell.
Removing one apostrophe at each of these places restores the exact text.
Numbers are never changed.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from pathlib import Path

from kling_pricing.money import format_decimal
from kling_pricing.reports.document import Cell, Document, Section
from kling_pricing.reports.formatting import instant_text

_FORMULA = re.compile(r"(\A(?=[\t\r\n])|(?:\A|[;\t\r\n])(?=[^\S\t\r\n]*[=+\-@\uff1d\uff0b\uff0d\uff20']))")
"""Each place where a spreadsheet could see the start of a formula, in normal or full width, or an apostrophe.

Such a place is the start of a text, or follows a character that ends a cell in some spreadsheets."""


def write(document: Document, folder: Path) -> None:
    """Writes each table of a report into its own file."""
    for section in document.sections:
        write_section(section, folder / f"{section.name}.csv")


def write_section(section: Section, path: Path, *, number: Callable[[Decimal], str] = format_decimal) -> None:
    """Writes one table; `number` formats its decimals."""
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow([column.name for column in section.columns])
        for row in section.rows():
            rows.writerow([_cell(cell, number) for cell in row])


def _cell(cell: Cell, number: Callable[[Decimal], str]) -> str | int | None:
    if isinstance(cell, str):
        return escape_formulas(cell)
    if isinstance(cell, Decimal):
        return number(cell)
    return instant_text(cell) if isinstance(cell, datetime) else cell


def escape_formulas(text: str) -> str:
    """Returns the text with an apostrophe at each place where a spreadsheet could see a formula."""
    if text[:1].isalnum() and text.isprintable() and ";" not in text:  # the usual case has no such place
        return text
    return _FORMULA.sub(r"\1'", text)
