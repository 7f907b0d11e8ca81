"""Tables of tasks as Parquet files, made by DuckDB: amounts are exact decimals, instants are UTC."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory

from kling_pricing.errors import KlingPricingError
from kling_pricing.money import MAX_DECIMALS, format_decimal
from kling_pricing.reports.document import Document, Kind, Row, Section
from kling_pricing.reports.formats.json import write_lines
from kling_pricing.reports.formatting import decimals_of

_TYPES: dict[Kind, str] = {
    "text": "VARCHAR",
    "prose": "VARCHAR",
    "count": "BIGINT",
    "amount": "DECIMAL(38, 9)",
    "quantity": "DECIMAL(38, 9)",
    "percent": "DECIMAL(5, 2)",
    "instant": "TIMESTAMPTZ",
}


def write(document: Document, folder: Path) -> None:
    """Writes each table that has a row for each task."""
    for section in document.sections:
        if section.per_task:
            write_section(section, folder / f"{section.name}.parquet")


def write_section(section: Section, path: Path) -> None:
    """Writes one table.

    Its values reach DuckDB as text, so that none passes through a float; one thread keeps the order of rows and
    the bytes the same each time.

    Raises:
        KlingPricingError: an amount has more decimals than can be kept, which DuckDB would round.
    """
    import duckdb  # noqa: PLC0415 (an extra, and slow to load)

    wanted = ", ".join(
        f'CAST("{column.name}" AS {_TYPES[column.kind]}) AS "{column.name}"' for column in section.columns
    )
    read_as = ", ".join(f"'{column.name}': 'VARCHAR'" for column in section.columns)
    with TemporaryDirectory() as folder:
        lines = Path(folder) / "rows.jsonl"
        write_lines(section._replace(rows=lambda: map(_kept, section.rows())), lines)
        source = f"read_json({_literal(lines)}, format = 'newline_delimited', columns = {{{read_as}}})"
        with duckdb.connect(config={"threads": 1, "autoload_known_extensions": False}) as database:
            database.execute(
                f"COPY (SELECT {wanted} FROM {source}) TO {_literal(path)}"  # noqa: S608 (our own names)
                " (FORMAT parquet, COMPRESSION zstd)"
            )


def _literal(path: Path) -> str:
    """A path in SQL: older versions take no parameter here."""
    return "'" + str(path).replace("'", "''") + "'"


def _kept(row: Row) -> Row:
    for cell in row:
        if isinstance(cell, Decimal) and decimals_of(cell) > MAX_DECIMALS:
            raise KlingPricingError(
                f"{format_decimal(cell)} has more than {MAX_DECIMALS} decimals; Parquet would not keep it exactly"
            )
    return row
