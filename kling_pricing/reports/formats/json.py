"""A report as JSON: one file for the whole report, and a JSON Lines file for each table with a row per task.

Amounts are strings in plain decimal notation, so that no reader turns them into floats; instants are ISO 8601.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any, TypeAlias

from kling_pricing.money import format_decimal
from kling_pricing.reports.cell_conversion import convert_rows
from kling_pricing.reports.document import Cell, Column, Document, Row, Section
from kling_pricing.reports.formatting import instant_text

JsonValue: TypeAlias = str | int | None
"""The value of a cell in JSON."""

_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def write(document: Document, folder: Path) -> None:
    """Writes `report.json`, and one JSON Lines file for each table with a row per task."""
    with (folder / "report.json").open("w", encoding="utf-8", newline="\n") as file:
        json.dump(as_data(document), file, ensure_ascii=False, indent=2)
        file.write("\n")
    for section in document.sections:
        if section.per_task:
            write_lines(section, folder / f"{section.name}.jsonl")


def write_lines(section: Section, path: Path) -> None:
    """Writes one table, one JSON object per line; missing values are null."""
    with path.open("w", encoding="utf-8", newline="\n") as file:
        file.writelines(json_lines(section.columns, section.rows()))


def json_lines(
    columns: Sequence[Column],
    rows: Iterable[Row],
    value: Callable[[Cell, bool], JsonValue] | None = None,
) -> Iterator[str]:
    """Yields each row as a JSON object on a line of its own.

    Args:
        columns: the columns.
        rows: the rows.
        value: returns the value of a cell, and is told whether the cell's column keeps zeros; by default,
            `json_value`.
    """
    converters = [
        partial(_member, f"{_encode(column.name)}:", column.keeps_zeros, value or json_value)
        for column in columns
    ]
    for members in convert_rows(columns, rows, converters):
        yield f"{{{','.join(members)}}}\n"


def _member(
    start: str,
    with_zeros: bool,  # noqa: FBT001 (bound to its column)
    value: Callable[[Cell, bool], JsonValue],
    cell: Cell,
) -> str:
    """Returns a member of an object: `"lines":3`."""
    return start + _encode(value(cell, with_zeros))


def as_data(document: Document) -> dict[str, Any]:
    """Returns a report as JSON-ready data, without the rows of tables that have a row per task."""
    return {
        "report": document.kind,
        "title": document.title,
        "subtitle": document.subtitle,
        "verdict": document.verdict._asdict(),
        "facts": [fact._asdict() for fact in document.facts],
        "figures": [
            {**figure._asdict(), "amount": format_decimal(figure.amount)}
            for equation in document.equations
            for figure in equation.figures
        ],
        "tables": {section.name: _table(section) for section in document.sections},
    }


def _table(section: Section) -> dict[str, Any]:
    table: dict[str, Any] = {"title": section.title, "about": section.about}
    if section.per_task:
        return table | {"length": section.length, "file": f"{section.name}.jsonl"}
    rows = list(_objects(section.columns, section.rows()))
    return table | {"rows": rows, "totals": list(_objects(section.columns, section.totals))}


def _objects(columns: tuple[Column, ...], rows: Any) -> Iterator[dict[str, Any]]:
    names = [column.name for column in columns]
    with_zeros = [column.keeps_zeros for column in columns]
    row: Row
    for row in rows:
        yield dict(zip(names, map(json_value, row, with_zeros), strict=True))


def json_value(cell: Cell, with_zeros: bool) -> JsonValue:  # noqa: FBT001 (mapped over the columns)
    """Returns the value of a cell; `with_zeros`: whether a decimal keeps its trailing zeros."""
    if cell is None or isinstance(cell, str):  # the usual cases
        return cell
    if isinstance(cell, Decimal):
        return f"{cell:f}" if with_zeros else format_decimal(cell)
    return instant_text(cell) if isinstance(cell, datetime) else cell
