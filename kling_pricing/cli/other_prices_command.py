"""`kling-pricing reprice`: what past jobs would have cost under another price table, provider or contract."""

from __future__ import annotations

from datetime import date, datetime
from typing import Any

import click

from kling_pricing.cli.exit_codes import exit_codes_help
from kling_pricing.cli.failures import errors_shown
from kling_pricing.cli.ledger_options import json_option, ledger_option
from kling_pricing.cli.options import known_provider, tables_option
from kling_pricing.cli.output import counted, echo, signed, to_json
from kling_pricing.cli.period import chosen_period, period_options
from kling_pricing.display import did_you_mean
from kling_pricing.guard.other_prices import Repriced, RepricedTotal, reprice
from kling_pricing.money import format_decimal, subtract
from kling_pricing.quoting.quote import shown_range
from kling_pricing.tables.price_book import PriceBook


def _table(ctx: click.Context, _option: click.Parameter, value: str | None) -> str | None:
    """Reads the id of a price table or contract. The command must also have `tables_option`."""
    book: PriceBook = ctx.params["book"]
    tables = (*book.tables.values(), *book.contracts.values())
    known = sorted(table.id for group in tables for table in group)
    if value is not None and value not in known:
        raise click.BadParameter(f"unknown price table {value!r}; {did_you_mean(value, known)}")
    return value


@click.command("reprice", epilog=exit_codes_help(unreadable="bad usage, or a ledger that cannot be used"))
@click.option("--provider", callback=known_provider, help="Provider whose prices apply instead.")
@click.option(
    "--table", "table_id", metavar="ID", callback=_table, help="Price table or contract that applies instead."
)
@click.option("--project", help="Only the jobs of this project. Default: all projects.")
@period_options(current=False)
@ledger_option
@tables_option
@json_option
def reprice_command(
    provider: str | None,
    table_id: str | None,
    project: str | None,
    month: str | None,
    since: date | datetime | None,
    until: date | datetime | None,
    timezone: str,
    ledger: str,
    book: PriceBook,
    as_json: bool,
) -> None:
    """Show what past jobs would have cost at other prices.

    For each job that was sent in the period, the command compares the quote and the amount that the ledger
    counts with the price under another table, provider or contract. With --provider, each job has the prices
    that were in force when it was reserved. With --table, every job has the prices of that table.

    A job without a price there is left out of both sums, and its reason is listed. If the ledger does not keep
    enough about a job to know its price, the price is a range. The command changes nothing.

    \b
    Examples:
      kling-pricing reprice --month 2026-11 --provider kling
      kling-pricing reprice --month 2026-11 --tables FOLDER --table qingbo/ours
    """
    if (provider is None) == (table_id is None):
        raise click.UsageError("give either --provider or --table: the prices that apply instead")
    with errors_shown(as_json=as_json):
        start, end = chosen_period(month, since, until, timezone, current=False)
        repriced = reprice(
            ledger, table_id, provider=provider, since=start, until=end, project=project, book=book
        )
    if as_json:
        echo(to_json(_data(repriced)))
        return
    without = [job for job in repriced.jobs if job.why_not]
    echo(f"{counted(len(repriced.jobs), 'job')} sent, {len(repriced.jobs) - len(without)} of them repriced")
    for total in repriced.totals:
        echo(_text(total))
    for reason, count in repriced.reasons:
        echo(f"left out: {counted(count, 'job')}: {reason}")


def _text(total: RepricedTotal) -> str:
    price = f"{shown_range(total.minimum, total.maximum)} {total.other_currency}"
    now = f"{format_decimal(total.quoted)} {total.currency} quoted, {format_decimal(total.counted)} counted"
    if total.currency != total.other_currency:
        return f"{counted(total.jobs, 'job')}: {now}; {price} at the other prices"
    low, high = (subtract(amount, total.counted) for amount in (total.minimum, total.maximum))
    difference = signed(low) if low == high else f"{signed(low)} to {signed(high)}"
    return f"{counted(total.jobs, 'job')}: {now}; {price} at the other prices ({difference})"


def _data(repriced: Repriced) -> dict[str, Any]:
    """Returns the result as JSON-ready data; amounts are text."""
    amounts = ("quoted", "counted", "minimum", "maximum")
    totals = [
        total._asdict() | {name: format_decimal(getattr(total, name)) for name in amounts}
        for total in repriced.totals
    ]
    jobs = [
        {
            "reservation_id": job.reservation.id,
            "project": job.reservation.project,
            "model": job.reservation.model,
            "resolution": job.reservation.resolution,
            "tier": job.reservation.tier,
            "quoted": format_decimal(job.reservation.expected),
            "counted": format_decimal(job.counted),
            "currency": job.reservation.currency,
            "table": job.table,
            "minimum": None if job.minimum is None else format_decimal(job.minimum),
            "maximum": None if job.maximum is None else format_decimal(job.maximum),
            "other_currency": job.currency,
            "why_not": job.why_not,
        }
        for job in repriced.jobs
    ]
    return {"totals": totals, "left_out": dict(repriced.reasons), "jobs": jobs}
