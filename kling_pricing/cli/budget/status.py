"""`budget status`: the amount left in each budget."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import groupby
from typing import Any

import click
from rich.table import Column, Table
from rich.text import Text

from kling_pricing.cli.ledger_options import READING_EXIT_CODES, json_option, ledger_option, opened_guard
from kling_pricing.cli.options import at_option
from kling_pricing.cli.output import counted, echo, to_json
from kling_pricing.cli.terminal import print_table
from kling_pricing.ledger.journal import Bucket
from kling_pricing.money import format_decimal
from kling_pricing.windows import FOREVER

_DAY = timedelta(days=1)
_UNPRICED_PERIOD = timedelta(days=30)
"""The period for which `budget status` shows the requests that passed without a price."""

_BAR_CHARS = 20


@click.command("status", epilog=READING_EXIT_CODES)
@ledger_option
@at_option
@json_option
def status_command(ledger: str, at: datetime | None, as_json: bool) -> None:
    """Show the amount left in each budget.

    For each budget's current window, the table shows the money spent, the money held for jobs that are not
    settled yet, and the money left. Below the table, the command lists the requests from the last 30 days that
    hooks let through without a price. No budget counts the cost of these requests.

    \b
    Example:
      kling-pricing budget status --ledger sqlite:///spend.db
    """
    with opened_guard(ledger, as_json=as_json) as guard:
        rows = guard.status(at)
        today = (guard.clock() if at is None else at).astimezone(UTC).date()
        unpriced = guard.unpriced(since=today - (_UNPRICED_PERIOD - _DAY), until=today + _DAY)
    if as_json:
        document = {
            "budgets": [_bucket_dict(row) for row in rows],
            "unpriced": [row._asdict() | {"day": row.day.isoformat()} for row in unpriced],
        }
        echo(to_json(document))
        return
    grid = Table(
        Column("Budget", no_wrap=True),
        Column("Spent", justify="right", no_wrap=True),
        Column("Held", justify="right", no_wrap=True),
        Column("Left", justify="right", no_wrap=True),
        Column("Cap", justify="right", no_wrap=True),
        Column("Spent █ held ▒", no_wrap=True),
        Column("Window ends", no_wrap=True),
    )
    for row in rows:
        name = ", ".join([row.budget, *(f"{label} {value}" for label, value in row.labels.items())])
        amounts = [format_decimal(amount) for amount in (row.spent, row.held, row.available)]
        grid.add_row(name, *amounts, f"{format_decimal(row.cap)} {row.currency}", _bar(row), _ends(row))
    print_table(grid)
    for (provider, path), group in groupby(unpriced, lambda row: row[:2]):
        requests = counted(sum(row.requests for row in group), "request")
        echo(
            f"in the last {counted(_UNPRICED_PERIOD.days, 'day')}, hooks let {requests} to {path} at "
            f"{provider} through without a price; no budget counts the cost"
        )


def _bucket_dict(row: Bucket) -> dict[str, Any]:
    amounts = {name: format_decimal(getattr(row, name)) for name in ("cap", "held", "spent", "available")}
    return {
        "budget": row.budget,
        "labels": dict(row.labels),
        **amounts,
        "currency": row.currency,
        "window_start": row.window_start.isoformat(),
        "window_end": row.window_end.isoformat(),
    }


def _bar(row: Bucket) -> Text:
    """Draws spent, held and remaining amounts in proportion. Any amount above zero has at least one mark."""
    whole = max(row.cap, row.spent + row.held)
    spent, held = (_marks(amount, whole) for amount in (row.spent, row.held))
    spent = min(spent, _BAR_CHARS - (1 if held else 0))
    held = min(held, _BAR_CHARS - spent)
    if row.available <= 0:  # nothing is left, so the bar is full
        spent, held = (_BAR_CHARS - held, held) if spent else (0, _BAR_CHARS)
    return Text("█" * spent + "▒" * held + "·" * (_BAR_CHARS - spent - held))


def _marks(amount: Decimal, whole: Decimal) -> int:
    return 0 if not amount else max(1, int(amount * _BAR_CHARS / whole))


def _ends(row: Bucket) -> str:
    return "never" if row.window_end == FOREVER.end else f"{row.window_end:%Y-%m-%d %H:%M} UTC"
