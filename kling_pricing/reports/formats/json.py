"""A report as JSON: the whole of it in one file, and the tasks one to a line in a file of their own.

Amounts are text in plain decimal notation, so that no reader makes floats of them; instants are ISO 8601.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from kling_pricing.money import format_decimal
from kling_pricing.reports.document import Cell, Column, Document, Row, Section
from kling_pricing.reports.formatting import instant_text

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def write(document: Document, folder: Path) -> None:
    """Writes `report.json`, and for each table of tasks a file with a JSON object a line."""
    with (folder / "report.json").open("w", encoding="utf-8", newline="\n") as file:
        json.dump(as_data(document), file, ensure_ascii=False, indent=2)
        file.write("\n")
    for section in document.sections:
        if section.per_task:
            write_lines(section, folder / f"{section.name}.jsonl")


def write_lines(section: Section, path: Path) -> None:
    """Writes one table, a JSON object a line; what there is not is null."""
    with path.open("w", encoding="utf-8", newline="\n") as file:
        for each in _objects(section.columns, section.rows()):
            file.write(_encode(each))
            file.write("\n")


def as_data(document: Document) -> dict[str, Any]:
    """A report as JSON-ready data, but for the rows of its tables of tasks."""
    return {
        "report": document.kind,
        "title": document.title,
        "subtitle": document.subtitle,
        "verdict": document.verdict._asdict(),
        "facts": [each._asdict() for each in document.facts],
        "figures": [
            {"title": each.title, "amount": format_decimal(each.amount), "unit": each.unit, "about": each.about}
            for equation in document.equations
            for each in equation.figures
        ],
        "tables": {each.name: _table(each) for each in document.sections},
    }


def _table(section: Section) -> dict[str, Any]:
    found: dict[str, Any] = {"title": section.title, "about": section.about}
    if section.per_task:
        return found | {"length": section.length, "file": f"{section.name}.jsonl"}
    rows = list(_objects(section.columns, section.rows()))
    return found | {"rows": rows, "totals": list(_objects(section.columns, section.totals))}


def _objects(columns: tuple[Column, ...], rows: Any) -> Iterator[dict[str, Any]]:
    names = [column.name for column in columns]
    row: Row
    for row in rows:
        yield dict(zip(names, map(_value, row), strict=True))


def _value(cell: Cell) -> str | int | None:
    if isinstance(cell, Decimal):
        return format_decimal(cell)
    return instant_text(cell) if isinstance(cell, datetime) else cell
