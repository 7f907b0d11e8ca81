"""`kling-pricing tables`: shows the price tables, and compares them."""

from __future__ import annotations

import sys
from decimal import Decimal

import click
from rich.table import Column, Table

from kling_pricing.cli.exit_codes import DONE, REFUSED, exit_codes_help
from kling_pricing.cli.groups import Group
from kling_pricing.cli.options import tables_option
from kling_pricing.cli.output import counted, echo, to_json
from kling_pricing.cli.own_tables import all_tables, check_command, new_command, schema_command
from kling_pricing.cli.terminal import wide_console
from kling_pricing.display import did_you_mean
from kling_pricing.money import format_decimal, percent_change
from kling_pricing.tables.price_book import PriceBook
from kling_pricing.tables.price_table import PriceTable, period
from kling_pricing.tables.providers import UnpricedProvider
from kling_pricing.tables.rates import Cell, Contract, Validity


@click.group(cls=Group)
def tables() -> None:
    """Show price tables, compare them, and check your own.

    \b
    Examples:
      kling-pricing tables list
      kling-pricing tables show qingbo/2026-04-29
    """


@tables.command("list", epilog=exit_codes_help())
@tables_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per table or provider.")
def list_command(book: PriceBook, as_json: bool) -> None:
    """List price tables, contracts, and providers without prices.

    \b
    Example:
      kling-pricing tables list --tables my-tables
    """
    listed = all_tables(book)
    if as_json:
        for table in listed:
            echo(to_json(_summary(table)))
        for provider in _without_prices(book):
            echo(to_json(_provider_summary(provider)))
        return
    grid = Table(Column("Table", no_wrap=True), "In force", "Currency", "Rates", "Wire formats", "Last checked")
    for table in listed:
        grid.add_row(
            table.id,
            period(table),
            table.currency,
            str(len(table.rates))
            if table.contract is None
            else f"contract: {_contract_text(table, table.contract)}",
            ", ".join(table.wire_formats),
            f"{table.checked:%Y-%m-%d}",
        )
    for provider in _without_prices(book):
        checked = max(source.checked for source in provider.sources)
        wire_formats = ", ".join(provider.wire_formats)
        grid.add_row(provider.provider, "no prices", "-", "-", wire_formats, f"{checked:%Y-%m-%d}")
    wide_console().print(grid)


@tables.command("show", epilog=exit_codes_help())
@click.argument("table_id", metavar="TABLE")
@tables_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def show_command(table_id: str, book: PriceBook, as_json: bool) -> None:
    """Show the rates and sources of price table TABLE.

    \b
    Example:
      kling-pricing tables show qingbo/2026-04-29
    """
    table = _table(book, table_id)
    rates = [
        {**rate.cell._asdict(), "unit_price": format_decimal(rate.unit_price), "description": rate.description}
        for rate in table.rates.values()
    ]
    unpriced = [entry._asdict() for entry in table.unpriced]
    if as_json:
        shown = {"rates": rates, "unpriced": unpriced, "unpriced_rest": table.unpriced_rest}
        echo(to_json({**_summary(table), **shown}))
        return
    grid = Table(
        *(
            Column(name, no_wrap=True, overflow="fold")
            for name in ("Model", "Resolution", "Tier", f"{table.currency} per unit")
        ),
        "Description",
        title=table.id,
    )
    for rate in rates:
        grid.add_row(rate["model"], rate["resolution"], rate["tier"], rate["unit_price"], rate["description"])
    for entry in unpriced:
        grid.add_row(entry["model"], entry["resolution"] or "all", entry["tier"] or "all", "-", entry["why"])
    if table.unpriced_rest is not None:
        grid.add_row("all others", "all", "all", "-", table.unpriced_rest)
    console = wide_console()
    console.print(grid)
    for source in table.sources:
        console.print(f"{source.authority} source: {source.ref}, checked {source.checked:%Y-%m-%d}")
    console.print(f"{table.id} applies: {period(table)}")
    if table.contract is not None:
        console.print(f"{table.id} is a contract: {_contract_text(table, table.contract)}")
        if table.contract.discount:
            console.print("the prices above do not include the contract discount")
    for model, validity in table.model_periods.items():
        console.print(f"{model} applies: {period(validity)}")


@tables.command(
    "diff",
    epilog=exit_codes_help(
        "the prices are the same", "a price or a rule differs", "bad usage, or an unknown table"
    ),
)
@click.argument("before_id", metavar="A")
@click.argument("after_id", metavar="B")
@tables_option
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def diff_command(before_id: str, after_id: str, book: PriceBook, as_json: bool) -> None:
    """Show the differences between price tables A and B.

    \b
    Example:
      kling-pricing tables diff qingbo-ai/2026-09-19 qingbo-ai/2026-09-24
    """
    before, after = _table(book, before_id), _table(book, after_id)
    rates = _changed_rates(before, after)
    other = _other_changes(before, after)
    if as_json:
        diff = {
            "before": before.id,
            "after": after.id,
            "currencies": [before.currency, after.currency],
            "rates": rates,
            "other": other,
        }
        echo(to_json(diff))
    else:
        _show_diff(before, after, rates, other)
    sys.exit(REFUSED if rates or other else DONE)


def _show_diff(
    before: PriceTable, after: PriceTable, rates: list[dict[str, str | None]], other: list[str]
) -> None:
    if not rates and not other:
        echo(f"{before.id} and {after.id} have the same prices")
        return
    if rates:
        headings = ("Model", "Resolution", "Tier", before.id, after.id)
        grid = Table(
            *(Column(name, no_wrap=True) for name in headings), Column("Change", justify="right", no_wrap=True)
        )
        for rate in rates:
            amounts = (
                "-" if rate[side] is None else f"{rate[side]} {table.currency}"
                for side, table in (("before", before), ("after", after))
            )
            grid.add_row(rate["model"], rate["resolution"], rate["tier"], *amounts, _change_in_words(rate))
        wide_console().print(grid)
    for line in other:
        echo(line)


def _change_in_words(rate: dict[str, str | None]) -> str:
    if rate["before"] is None or rate["after"] is None:
        return "removed" if rate["after"] is None else "added"
    percent = rate["change_percent"]
    return "not compared" if percent is None else f"{'' if percent.startswith('-') else '+'}{percent}%"


def _changed_rates(before: PriceTable, after: PriceTable) -> list[dict[str, str | None]]:
    """Returns the rates that differ, or every rate if the currencies differ."""
    changed = []
    for cell in dict.fromkeys((*before.rates, *after.rates)):
        old, new = _unit_price(before, cell), _unit_price(after, cell)
        same_currency = before.currency == after.currency
        if same_currency and old == new:
            continue
        percent = percent_change(old, new) if same_currency and old and new is not None else None
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
    """Describes every other difference that affects the cost of a request."""
    changes = []
    if before.currency != after.currency:
        changes.append(
            f"the currencies differ ({before.currency} and {after.currency}), so no percentages are shown"
        )
    if before.tiers != after.tiers:
        changes.append("the rules that choose the tier differ; compare the files")
    if before.quantity != after.quantity:
        changes.append("the rules that count the units differ; compare the files")
    if before.model_periods != after.model_periods:
        changes.append("the validity periods of individual models differ; compare the files")
    if _discount(before) != _discount(after):
        changes.append(f"the contract discount changes from {_discount(before)} to {_discount(after)}")
    return changes


def _contract_text(table: PriceTable, contract: Contract) -> str:
    """Describes a contract: `10% discount, 2 own rates`."""
    parts = [f"{format_decimal(contract.percent)}% discount"] if contract.discount else []
    listed = [cell for cell in contract.list_rates if cell not in contract.own_cells]
    if any(contract.list_rates[cell] != table.rates[cell] for cell in listed):
        parts.append("a different unit value")
    if contract.own_cells:
        parts.append(counted(len(contract.own_cells), "own rate"))
    return ", ".join(parts) or "the published prices"


def _discount(table: PriceTable) -> str:
    return "none" if table.contract is None else f"{format_decimal(table.contract.percent)}%"


def _table(book: PriceBook, table_id: str) -> PriceTable:
    known = {table.id: table for table in all_tables(book)}
    if table_id in book.unpriced:
        raise click.UsageError(str(book.without_prices(book.unpriced[table_id])))
    if table_id not in known:
        raise click.UsageError(f"unknown price table {table_id!r}; {did_you_mean(table_id, [*known])}")
    return known[table_id]


def _without_prices(book: PriceBook) -> list[UnpricedProvider]:
    return [provider for name, provider in book.unpriced.items() if name not in book.tables]


def _provider_summary(provider: UnpricedProvider) -> dict[str, object]:
    return {
        "table": None,
        "provider": provider.provider,
        "hosts": list(provider.hosts),
        "wire_formats": list(provider.wire_formats),
        "checked": f"{max(source.checked for source in provider.sources):%Y-%m-%d}",
        "rate_count": 0,
        "why": provider.why,
    }


def _contract_summary(contract: Contract | None) -> dict[str, object] | None:
    if contract is None:
        return None
    return {
        "discount_percent": format_decimal(contract.percent),
        "own_rates": sorted(map(str, contract.own_cells)),
    }


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
        "model_periods": {model: _bounds(validity) for model, validity in table.model_periods.items()},
        "wire_formats": list(table.wire_formats),
        "checked": f"{table.checked:%Y-%m-%d}",
        "rate_count": len(table.rates),
        "contract": _contract_summary(table.contract),
    }


for command in (check_command, new_command, schema_command):
    tables.add_command(command)
