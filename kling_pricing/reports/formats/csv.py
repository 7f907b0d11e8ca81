"""Tables as CSV files: UTF-8, comma, quoted where needed, one heading, no totals.

Spreadsheets run a text that begins with `=`, `+`, `-` or `@` as a formula, quoted or not.
So a text that would be read as one, and one that begins with an apostrophe, gets an apostrophe in front; so
does what follows a semicolon, a tab or a line break in it, which some spreadsheets take for the next cell.
Whoever takes away one such apostrophe at each of these places has the exact text again.
Numbers are left alone.
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
"""Where a formula may begin, in either width, or what marks those that would: in a text, or where a spreadsheet
that takes semicolons or tabs for commas would begin another."""


def write(document: Document, folder: Path) -> None:
    """Writes each table of a report into a file of its own."""
    for section in document.sections:
        write_section(section, folder / f"{section.name}.csv")


def write_section(section: Section, path: Path, *, number: Callable[[Decimal], str] = format_decimal) -> None:
    """Writes one table; `number` says how a decimal is written."""
    with path.open("w", encoding="utf-8", newline="") as file:
        rows = csv.writer(file)
        rows.writerow([column.name for column in section.columns])
        for row in section.rows():
            rows.writerow([_cell(cell, number) for cell in row])


def _cell(cell: Cell, number: Callable[[Decimal], str]) -> str | int | None:
    if isinstance(cell, str):
        return harmless(cell)
    if isinstance(cell, Decimal):
        return number(cell)
    return instant_text(cell) if isinstance(cell, datetime) else cell


def harmless(text: str) -> str:
    """A text that no spreadsheet takes for a formula."""
    return _FORMULA.sub(r"\1'", text)
