"""`kling-pricing tables`: what prices are known, and whether table files are sound."""

from __future__ import annotations

import sys
from decimal import Decimal

import click
from rich.table import Column, Table

from kling_pricing.cli.options import tables_option
from kling_pricing.cli.output import to_json, wide_console
from kling_pricing.errors import TableError
from kling_pricing.money import format_decimal, percent_change
from kling_pricing.tables.loading.book import load_price_book
from kling_pricing.tables.loading.files import capability_file_schema, price_file_schema
from kling_pricing.tables.loading.folders import TABLES_VARIABLE
from kling_pricing.tables.price_table import PriceBook, PriceTable, period
from kling_pricing.tables.rates import Cell, Validity


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
    wide_console().print(grid)


@tables.command("show")
@click.argument("table_id", metavar="TABLE")
@tables_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def show_command(table_id: str, book: PriceBook, as_json: bool) -> None:
    """Show the rates of one TABLE, such as qingbo/2026-04-29."""
    table = _table(book, table_id)
    rates = [
        {**rate.cell._asdict(), "unit_price": format_decimal(rate.unit_price), "description": rate.description}
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
    console = wide_console()
    console.print(grid)
    for source in table.sources:
        console.print(f"{source.authority} source: {source.ref}, checked {source.checked:%Y-%m-%d}")
    console.print(f"in force: {period(table)}")
    for model, own in table.model_periods.items():
        console.print(f"{model} in force: {period(own)}")


@tables.command("diff")
@click.argument("before_id", metavar="A")
@click.argument("after_id", metavar="B")
@tables_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def diff_command(before_id: str, after_id: str, book: PriceBook, as_json: bool) -> None:
    """Show what changed from table A to table B, such as qingbo-ai/2026-06-19 to qingbo-ai/2026-09-19.

    Exit codes: 0 the same prices; 1 something differs; 2 there is no such table.
    """
    before, after = _table(book, before_id), _table(book, after_id)
    rates = _changed_rates(before, after)
    other = _other_changes(before, after)
    if as_json:
        found = {
            "before": before.id,
            "after": after.id,
            "currencies": [before.currency, after.currency],
            "rates": rates,
            "other": other,
        }
        click.echo(to_json(found))
    else:
        _show_diff(before, after, rates, other)
    sys.exit(1 if rates or other else 0)


def _show_diff(
    before: PriceTable, after: PriceTable, rates: list[dict[str, str | None]], other: list[str]
) -> None:
    if not rates and not other:
        click.echo(f"{before.id} and {after.id} have the same prices")
        return
    if rates:
        headings = ("model", "resolution", "tier", before.id, after.id)
        grid = Table(
            *(Column(name, no_wrap=True) for name in headings), Column("change", justify="right", no_wrap=True)
        )
        for rate in rates:
            amounts = (
                "-" if rate[side] is None else f"{rate[side]} {table.currency}"
                for side, table in (("before", before), ("after", after))
            )
            grid.add_row(rate["model"], rate["resolution"], rate["tier"], *amounts, _change_in_words(rate))
        wide_console().print(grid)
    for line in other:
        click.echo(line)


def _change_in_words(rate: dict[str, str | None]) -> str:
    if rate["before"] is None or rate["after"] is None:
        return "removed" if rate["after"] is None else "added"
    percent = rate["change_percent"]
    return "not compared" if percent is None else f"{'' if percent.startswith('-') else '+'}{percent} %"


def _changed_rates(before: PriceTable, after: PriceTable) -> list[dict[str, str | None]]:
    """The rates that differ; every rate when the currencies do, for then none are known to be the same."""
    changed = []
    for cell in dict.fromkeys((*before.rates, *after.rates)):
        old, new = _unit_price(before, cell), _unit_price(after, cell)
        alike = before.currency == after.currency
        if alike and old == new:
            continue
        percent = percent_change(old, new) if alike and old and new is not None else None
        changed.append(
            {
                **cell._asdict(),
                "before": None if old is None else format_decimal(old),
                "after": None if new is None else format_decimal(new),
                "change_percent": None if percent is None else str(percent),
            }
        )
    return changed


def _unit_price(table: PriceTable, cell: Cell) -> Decimal | None:
    rate = table.rates.get(cell)
    return None if rate is None else rate.unit_price


def _other_changes(before: PriceTable, after: PriceTable) -> list[str]:
    """What else makes the same request cost differently, in words."""
    found = []
    if before.currency != after.currency:
        found.append(
            f"the currencies differ: {before.currency} and {after.currency}; "
            "their amounts are not compared in percent"
        )
    if before.tiers != after.tiers:
        found.append("the rules that choose the tier differ; compare the files")
    if before.quantity != after.quantity:
        found.append("the rules that count the units differ; compare the files")
    if before.model_periods != after.model_periods:
        found.append("the periods of single models differ; compare the files")
    if _discount(before) != _discount(after):
        found.append(f"the contract's discount differs: {_discount(before)} and {_discount(after)}")
    return found


def _discount(table: PriceTable) -> str:
    return "none" if table.contract is None else f"{format_decimal(table.contract.percent)} %"


def _table(book: PriceBook, table_id: str) -> PriceTable:
    books = (*book.tables.values(), *book.contracts.values())
    found = {table.id: table for each in books for table in each}
    if table_id not in found:
        raise click.UsageError(f"no table {table_id!r}; there are: {', '.join(found)}")
    return found[table_id]


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
@click.argument("kind", type=click.Choice(["prices", "capabilities", "statements"]))
def schema_command(kind: str) -> None:
    """Print the JSON Schema of a kind of file, for an editor's completion."""
    from kling_pricing.reconcile.mappings import statement_file_schema  # noqa: PLC0415 (models take time to make)

    schemas = {
        "prices": price_file_schema,
        "capabilities": capability_file_schema,
        "statements": statement_file_schema,
    }
    click.echo(to_json(schemas[kind]()))


def _bounds(entry: PriceTable | Validity) -> dict[str, str | None]:
    return {
        "valid_from": entry.valid_from.isoformat() if entry.valid_from else None,
        "valid_until": entry.valid_until.isoformat() if entry.valid_until else None,
    }


def _summary(table: PriceTable) -> dict[str, object]:
    return {
        "table": table.id,
        "digest": table.digest,
        "provider": table.provider,
        "currency": table.currency,
        **_bounds(table),
        "model_periods": {model: _bounds(own) for model, own in table.model_periods.items()},
        "wire_formats": list(table.wire_formats),
        "checked": f"{table.checked:%Y-%m-%d}",
        "rate_count": len(table.rates),
    }
