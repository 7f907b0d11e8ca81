"""`kling-pricing tables`: what prices are known, and whether table files are sound."""

from __future__ import annotations

import sys

import click
from rich.console import Console
from rich.table import Column, Table

from kling_pricing.cli.options import tables_option
from kling_pricing.cli.output import to_json
from kling_pricing.errors import TableError
from kling_pricing.money import plain
from kling_pricing.price_table import PriceBook, PriceTable, period
from kling_pricing.table_files import capability_file_schema, price_file_schema
from kling_pricing.tables import TABLES_VARIABLE, load_price_book


@click.group()
def tables() -> None:
    """Look at price tables, and check your own."""


@tables.command("list")
@tables_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a table.")
def list_command(book: PriceBook, as_json: bool) -> None:
    """List every price table."""
    found = [table for each in book.tables.values() for table in each]
    if as_json:
        for table in found:
            click.echo(to_json(_summary(table)))
        return
    grid = Table(Column("table", no_wrap=True), "in force", "currency", "rates", "wire formats", "last checked")
    for table in found:
        grid.add_row(
            table.id,
            period(table),
            table.currency,
            str(len(table.rates)),
            ", ".join(table.wire_formats),
            f"{table.checked:%Y-%m-%d}",
        )
    _console().print(grid)


@tables.command("show")
@click.argument("table_id", metavar="TABLE")
@tables_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def show_command(table_id: str, book: PriceBook, as_json: bool) -> None:
    """Show the rates of one TABLE, such as qingbo/2026-04-29."""
    found = {table.id: table for each in book.tables.values() for table in each}
    if table_id not in found:
        raise click.UsageError(f"no table {table_id!r}; there are: {', '.join(found)}")
    table = found[table_id]
    rates = [
        {**rate.cell._asdict(), "unit_price": plain(rate.unit_price), "description": rate.description}
        for rate in table.rates.values()
    ]
    unpriced = [entry._asdict() for entry in table.unpriced]
    if as_json:
        click.echo(to_json({**_summary(table), "rates": rates, "unpriced": unpriced}))
        return
    grid = Table(
        *(
            Column(name, no_wrap=True, overflow="fold")
            for name in ("model", "resolution", "tier", f"{table.currency} per unit")
        ),
        "what one unit costs",
        title=table.id,
    )
    for rate in rates:
        grid.add_row(rate["model"], rate["resolution"], rate["tier"], rate["unit_price"], rate["description"])
    for entry in unpriced:
        grid.add_row(entry["model"], entry["resolution"] or "all", entry["tier"] or "all", "-", entry["why"])
    console = _console()
    console.print(grid)
    for source in table.sources:
        console.print(f"{source.authority} source: {source.ref}, checked {source.checked:%Y-%m-%d}")
    console.print(f"in force: {period(table)}")


@tables.command("check")
@click.argument("folder", required=False, envvar=TABLES_VARIABLE)
def check_command(folder: str | None) -> None:
    """Check the bundled tables and, over them, those in FOLDER."""
    try:
        book = load_price_book(folder)
    except TableError as error:
        click.echo(str(error), err=True)
        sys.exit(1)
    found = [table for each in book.tables.values() for table in each]
    rates = sum(len(table.rates) for table in found)
    click.echo(
        f"sound; price tables: {len(found)}, their rates: {rates}, capability matrices: {len(book.matrices)}"
    )


@tables.command("schema")
@click.argument("kind", type=click.Choice(["prices", "capabilities"]))
def schema_command(kind: str) -> None:
    """Print the JSON Schema of a kind of file, for an editor's completion."""
    click.echo(to_json(price_file_schema() if kind == "prices" else capability_file_schema()))


def _summary(table: PriceTable) -> dict[str, object]:
    return {
        "table": table.id,
        "digest": table.digest,
        "provider": table.provider,
        "currency": table.currency,
        "valid_from": table.valid_from.isoformat() if table.valid_from else None,
        "valid_until": table.valid_until.isoformat() if table.valid_until else None,
        "wire_formats": list(table.wire_formats),
        "checked": f"{table.checked:%Y-%m-%d}",
        "rate_count": len(table.rates),
    }


def _console() -> Console:
    """The terminal as wide as it is; a file or pipe wide enough that nothing is cut."""
    return Console(width=None if sys.stdout.isatty() else 160)
