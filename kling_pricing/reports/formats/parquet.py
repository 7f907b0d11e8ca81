"""Tables with a row per task as Parquet files, written by DuckDB: exact decimals, and instants in UTC."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from tempfile import gettempdir

from kling_pricing.errors import KlingPricingError
from kling_pricing.money import MAX_DECIMALS, format_decimal
from kling_pricing.reports.document import Cell, Column, Document, Kind, Row, Section
from kling_pricing.reports.formats.json import JsonValue, json_lines, json_value
from kling_pricing.reports.formatting import decimals_of
from kling_pricing.temporary import temporary_folder

_TYPES: dict[Kind, str] = {
    "text": "VARCHAR",
    "prose": "VARCHAR",
    "day": "DATE",
    "labels": "VARCHAR",
    "count": "BIGINT",
    "amount": "DECIMAL(38, 9)",
    "quantity": "DECIMAL(38, 9)",
    "percent": "DECIMAL(5, 2)",
    "instant": "TIMESTAMPTZ",
}


_ROW_GROUP = 10_240
"""The number of rows of a group; the groups are small, because each is in memory until it is written."""


def write(document: Document, folder: Path) -> None:
    """Writes each table that has a row per task."""
    for section in document.sections:
        if section.per_task:
            write_section(section, folder / f"{section.name}.parquet")


def write_section(section: Section, path: Path) -> None:
    """Writes one table.

    Raises:
        KlingPricingError: an amount has more decimals than the file can hold; DuckDB would round it.
    """
    with temporary_folder("kling-pricing-rows-", gettempdir()) as folder:
        lines = folder / "rows.jsonl"
        with lines.open("w", encoding="utf-8", newline="\n") as file:
            file.writelines(exact_lines(section.columns, section.rows()))
        copy_lines(section.columns, lines, path)


def exact_lines(columns: Sequence[Column], rows: Iterable[Row]) -> Iterator[str]:
    """Yields the rows of a table as JSON Lines, for `copy_lines`.

    Raises:
        KlingPricingError: as for `write_section`.
    """
    return json_lines(columns, rows, _exact_value)


def copy_lines(columns: Sequence[Column], lines: Path, path: Path) -> None:
    """Writes a table from JSON Lines that have at least its columns.

    Values reach DuckDB as text, so that none passes through a float.
    DuckDB uses one thread, so that the same rows always give the same bytes.
    """
    import duckdb  # noqa: PLC0415 (an extra, and slow to load)

    selected = ", ".join(
        f'CAST("{column.name}" AS {_TYPES[column.kind]}) AS "{column.name}"' for column in columns
    )
    text_columns = ", ".join(f"'{column.name}': 'VARCHAR'" for column in columns)
    source = f"read_json({_literal(lines)}, format = 'newline_delimited', columns = {{{text_columns}}})"
    with duckdb.connect(config={"threads": 1, "autoload_known_extensions": False}) as database:
        database.execute(
            f"COPY (SELECT {selected} FROM {source}) TO {_literal(path)}"  # noqa: S608 (our own column names)
            f" (FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {_ROW_GROUP})"
        )


def _literal(path: Path) -> str:
    """Returns a path as an SQL literal: older versions of DuckDB accept no parameter here."""
    return "'" + str(path).replace("'", "''") + "'"


def _exact_value(cell: Cell, with_zeros: bool) -> JsonValue:  # noqa: FBT001 (as `json_value`)
    """Returns the value of a cell if Parquet can hold it exactly."""
    if isinstance(cell, Decimal) and decimals_of(cell) > MAX_DECIMALS:
        raise KlingPricingError(
            f"{format_decimal(cell)} has more than {MAX_DECIMALS} decimal places, which is too many for "
            "Parquet; leave out the formats `parquet` and `focus`"
        )
    return json_value(cell, with_zeros)
