"""`budget status`: the amount left in each budget, its pace, and the requests that were refused."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import groupby
from typing import Any, NamedTuple

import click
from rich.table import Column, Table
from rich.text import Text

from kling_pricing.cli.budget.exceptions import Exceptions, exceptions, exceptions_dict, exceptions_lines
from kling_pricing.cli.budget.watching import watched
from kling_pricing.cli.ledger_options import READING_EXIT_CODES, json_option, ledger_option, opened_guard
from kling_pricing.cli.options import at_option
from kling_pricing.cli.output import counted, echo, to_json
from kling_pricing.cli.terminal import print_table
from kling_pricing.guard import BudgetForecast, BudgetGuard
from kling_pricing.ledger.alerting import RefusedRequests
from kling_pricing.ledger.journal import Bucket, UnpricedRequests
from kling_pricing.money import format_decimal
from kling_pricing.windows import FOREVER

_DAY = timedelta(days=1)
_UNPRICED_PERIOD = timedelta(days=30)
"""The period for which `budget status` shows the requests that passed without a price."""

_BAR_CHARS = 20
_SHORT_BAR_CHARS = 8

_REASONS = {
    "cap": "not enough was left",
    "max_request": "the cost exceeded the maximum for a single request",
    "frozen": "spending was frozen",
    "unmatched": "no budget matched",
}


class BudgetReport(NamedTuple):
    """What `budget status` shows.

    Attributes:
        at: the instant of the balances.
        forecasts: the balances. Without a pace if another instant than now was asked for.
        exceptions: freezes, allowances, and refusals that budgets in observe mode waived.
        refusals: the requests that were refused on that day.
        unpriced: the requests that passed without a price in the last 30 days.
    """

    at: datetime
    forecasts: list[BudgetForecast]
    exceptions: Exceptions
    refusals: list[RefusedRequests]
    unpriced: list[UnpricedRequests]


@click.command("status", epilog=READING_EXIT_CODES)
@click.option("--watch", is_flag=True, help="Keep showing the newest balances until Ctrl-C.")
@click.option(
    "--every",
    type=click.IntRange(min=1, max=3600),
    default=2,
    show_default=True,
    metavar="SECONDS",
    help="With --watch: the time between two readings.",
)
@ledger_option
@at_option
@json_option
def status_command(watch: bool, every: int, ledger: str, at: datetime | None, as_json: bool) -> None:
    """Show the amount left in each budget.

    For each budget's current window, the table shows the money spent, the money held for jobs that are not
    settled yet, and the money left. Below the table, the command lists the current freezes, the open
    allowances, and the requests that budgets in observe mode would have refused. It also lists the budgets
    that, at their current pace, will be exhausted before their windows end, and the requests that were refused
    today. Finally, it lists the requests of the last 30 days that hooks let through without a price, and that
    no budget counts.

    The pace is the money spent and held since the start of the window, per day. The pace is unknown until a
    tenth of the window, or a day, has passed.

    With --watch, the command keeps the balances, the pace and the forecasts on the screen. If the output is not
    a terminal, the command prints a line whenever a balance changes; with --json, it prints a JSON document at
    every update.

    \b
    Examples:
      kling-pricing budget status --ledger sqlite:///spend.db
      kling-pricing budget status --watch
    """
    if watch and at is not None:
        raise click.UsageError("--watch always shows the current balances; omit --at")
    with opened_guard(ledger, as_json=as_json) as guard:
        if watch:
            as_dict = report_dict if as_json else None
            watched(lambda: _report(guard, None), _live_table, _lines, every=every, as_dict=as_dict)
            return
        report = _report(guard, at)
    if as_json:
        echo(to_json(report_dict(report)))
        return
    print_table(_table(report))
    for line in (*_lines_below(report), *_unpriced_lines(report.unpriced)):
        echo(line)


def _report(guard: BudgetGuard, at: datetime | None) -> BudgetReport:
    now = guard.clock() if at is None else at.astimezone(UTC)
    today = now.date()
    forecasts = (
        guard.forecasts()
        if at is None
        else [BudgetForecast(bucket, now, None, None) for bucket in guard.status(at)]
    )
    return BudgetReport(
        now,
        forecasts,
        exceptions(guard, [forecast.bucket for forecast in forecasts], now),
        guard.refusals(since=today, until=today + _DAY),
        guard.unpriced(since=today - (_UNPRICED_PERIOD - _DAY), until=today + _DAY),
    )


def report_dict(report: BudgetReport) -> dict[str, Any]:
    """Returns a report as JSON-ready data."""
    return {
        "at": report.at.isoformat(),
        "budgets": [_forecast_dict(row) for row in report.forecasts],
        **exceptions_dict(report.exceptions, report.at),
        "refusals": [
            row._asdict() | {"labels": dict(row.labels), "day": row.day.isoformat()} for row in report.refusals
        ],
        "unpriced": [row._asdict() | {"day": row.day.isoformat()} for row in report.unpriced],
    }


def _table(report: BudgetReport) -> Table:
    grid = Table(
        Column("Budget", no_wrap=True),
        Column("Spent", justify="right", no_wrap=True),
        Column("Held", justify="right", no_wrap=True),
        Column("Left", justify="right", no_wrap=True),
        Column("Cap", justify="right", no_wrap=True),
        Column("Spent █ held ▒", no_wrap=True),
        Column("Window ends", no_wrap=True),
    )
    for row, *_ in report.forecasts:
        amounts = [format_decimal(amount) for amount in (row.spent, row.held, row.available)]
        cap = f"{format_decimal(row.cap)} {row.currency}"
        grid.add_row(_name(row), *amounts, cap, _bar(row, _BAR_CHARS), _ends(row))
    return grid


def _live_table(report: BudgetReport) -> Table:
    """Returns a table that fits 80 columns for usual names and amounts."""
    grid = Table(
        Column("Budget", overflow="fold", max_width=20),
        Column("Left", justify="right", no_wrap=True),
        Column("Cap", justify="right", no_wrap=True),
        Column("Used", no_wrap=True),
        Column("Per day", justify="right", no_wrap=True),
        Column("Exhausted (UTC)", no_wrap=True),
        title=f"{report.at:%Y-%m-%d %H:%M:%S} UTC",
        caption="\n".join([*exceptions_lines(report.exceptions), *_refusal_lines(report)]) or None,
    )
    for row, _, pace, exhausted_at in report.forecasts:
        if row.available <= 0:
            until = "nothing left"
        elif pace is None:
            until = "not known yet" if row.rolling is None else f"rolling {row.rolling}"
        else:
            until = "after the window" if exhausted_at is None else f"{exhausted_at:%Y-%m-%d %H:%M}"
        grid.add_row(
            _name(row),
            _short(row.available),
            f"{format_decimal(row.cap)} {row.currency}",
            _bar(row, _SHORT_BAR_CHARS),
            "" if pace is None else _short(pace),
            until,
        )
    return grid


def _lines(report: BudgetReport) -> list[str]:
    """Returns one line per balance, without the time."""
    lines = []
    for row, _, pace, exhausted_at in report.forecasts:
        amounts = ", ".join(
            f"{format_decimal(getattr(row, name))} {word}"
            for name, word in (("spent", "spent"), ("held", "held"), ("available", "left"))
        )
        per_day = "" if pace is None else f", {_short(pace)} {row.currency} a day"
        end = "" if exhausted_at is None else f", exhausted at {exhausted_at:%Y-%m-%d %H:%M} UTC"
        lines.append(f"{_name(row)}: {amounts} of {format_decimal(row.cap)} {row.currency}{per_day}{end}")
    return [*lines, *exceptions_lines(report.exceptions), *_refusal_lines(report)]


def _lines_below(report: BudgetReport) -> Iterator[str]:
    yield from exceptions_lines(report.exceptions)
    yield from _forecast_lines(report)
    yield from _refusal_lines(report)


def _forecast_lines(report: BudgetReport) -> Iterator[str]:
    for row, _, pace, exhausted_at in report.forecasts:
        if exhausted_at is not None and pace is not None and row.window_end != FOREVER.end:
            yield (
                f"{_name(row)}: at its pace of {_short(pace)} {row.currency} a day, the budget will be "
                f"exhausted at {exhausted_at:%Y-%m-%d %H:%M} UTC, before its window ends"
            )


def _refusal_lines(report: BudgetReport) -> Iterator[str]:
    for row in report.refusals:
        labels = "".join(f", {label} {value}" for label, value in row.labels.items())
        subject = f"{row.budget}{labels}: " if row.budget else ""
        reason = _REASONS.get(row.reason, row.reason)
        yield f"{subject}{counted(row.requests, 'request')} refused on {row.day.isoformat()}, because {reason}"


def _unpriced_lines(unpriced: Sequence[UnpricedRequests]) -> Iterator[str]:
    for (provider, path), group in groupby(unpriced, lambda row: row[:2]):
        requests = counted(sum(row.requests for row in group), "request")
        yield (
            f"in the last {counted(_UNPRICED_PERIOD.days, 'day')}, hooks let through {requests} to {path} at "
            f"{provider} without a price; no budget counts the cost"
        )


def _forecast_dict(forecast: BudgetForecast) -> dict[str, Any]:
    row, _, pace, exhausted_at = forecast
    amounts = {name: format_decimal(getattr(row, name)) for name in ("cap", "held", "spent", "available")}
    return {
        "budget": row.budget,
        "labels": dict(row.labels),
        **amounts,
        "currency": row.currency,
        "window_start": row.window_start.isoformat(),
        "window_end": row.window_end.isoformat(),
        "rolling": row.rolling,
        "pace_per_day": None if pace is None else format_decimal(pace),
        "exhausted_at": None if exhausted_at is None else exhausted_at.isoformat(),
    }


def _name(row: Bucket) -> str:
    return ", ".join([row.budget, *(f"{label} {value}" for label, value in row.labels.items())])


def _short(amount: Decimal) -> str:
    """Returns an amount for people: rounded down to three decimal places, unless it is smaller."""
    if amount == amount.to_integral_value() or abs(amount) < Decimal("0.001"):
        return format_decimal(amount)
    return format_decimal(amount.quantize(Decimal("0.001"), "ROUND_DOWN"))


def _bar(row: Bucket, chars: int) -> Text:
    """Draws spent, held and remaining amounts in proportion. Any amount above zero has at least one mark."""
    whole = max(row.cap, row.spent + row.held)
    spent, held = (_marks(amount, whole, chars) for amount in (row.spent, row.held))
    spent = min(spent, chars - (1 if held else 0))
    held = min(held, chars - spent)
    if row.available <= 0:  # nothing is left, so the bar is full
        spent, held = (chars - held, held) if spent else (0, chars)
    return Text("█" * spent + "▒" * held + "·" * (chars - spent - held))


def _marks(amount: Decimal, whole: Decimal, chars: int) -> int:
    return 0 if not amount else max(1, int(amount * chars / whole))


def _ends(row: Bucket) -> str:
    if row.rolling is not None:
        return f"rolling {row.rolling}"
    return "never" if row.window_end == FOREVER.end else f"{row.window_end:%Y-%m-%d %H:%M} UTC"
