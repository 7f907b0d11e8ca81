"""Tables as CSV files: UTF-8, comma, quoted where needed, one heading, no totals.

Spreadsheets run a text that begins with `=`, `+`, `-` or `@` as a formula, quoted or not.
So a text that would be read as one, and one that begins with an apostrophe, gets an apostrophe in front:
whoever takes away one leading apostrophe has the exact text again.
Numbers are left alone.
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from pathlib import Path

from kling_pricing.money import plain
from kling_pricing.reports.document import Cell, Document, Section
from kling_pricing.reports.words import instant_text

_DANGEROUS = frozenset("=+-@\uff1d\uff0b\uff0d\uff20'")
"""What makes a spreadsheet read a text as a formula, in either width; and what marks those that would be."""


def write(document: Document, folder: Path) -> None:
    """Writes each table of a report into a file of its own."""
    for section in document.sections:
        write_section(section, folder / f"{section.name}.csv")


def write_section(section: Section, path: Path, *, number: Callable[[Decimal], str] = plain) -> None:
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
    begins = text.lstrip()[:1] or text[:1]
    if begins in _DANGEROUS or text[:1] in {"\t", "\r", "\n"}:
        return f"'{text}"
    return text
