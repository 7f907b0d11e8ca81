"""`kling-pricing budget`: what may be spent, and what is left of it."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any

import click
from rich.table import Column, Table
from rich.text import Text

from kling_pricing.budgets import budgets_file_schema, load_budgets
from kling_pricing.cli.ledger_options import (
    errors_shown,
    json_option,
    labels_option,
    ledger_option,
    opened_guard,
)
from kling_pricing.cli.options import at_option
from kling_pricing.cli.output import print_table, to_json
from kling_pricing.guard import apply_budgets
from kling_pricing.ledger.journal import Bucket
from kling_pricing.money import format_decimal
from kling_pricing.windows import FOREVER

_BAR_CHARS = 20


@click.group("budget")
def budget() -> None:
    """See, install and open budgets."""


@budget.command("check")
@click.argument("file")
def check_command(file: str) -> None:
    """Say whether a FILE of budgets can be used, and if not, where it is wrong."""
    with errors_shown(as_json=False):
        found = load_budgets(file)
        click.echo(f"sound; budgets: {', '.join(each.name for each in found.budgets)}")


@budget.command("apply")
@click.argument("file")
@ledger_option
def apply_command(file: str, ledger: str) -> None:
    """Install the budgets of FILE in the ledger, in place of those it has.

    Balances stay. Caps, limits, alerts and floors may change freely; a budget whose match, window, zone or
    currency changes needs another name, or carry_over: true.
    """
    with errors_shown(as_json=False):
        found = apply_budgets(ledger, file)
        click.echo(f"in force: {', '.join(each.name for each in found.budgets)}")


@budget.command("status")
@ledger_option
@at_option
@json_option
def status_command(ledger: str, at: datetime | None, as_json: bool) -> None:
    """Show what each budget has spent, holds and has left in its current window."""
    with opened_guard(ledger, as_json=as_json) as guard:
        rows = guard.status(at)
    if as_json:
        click.echo(to_json([_bucket_dict(row) for row in rows]))
        return
    grid = Table(
        Column("budget", no_wrap=True),
        Column("spent", justify="right", no_wrap=True),
        Column("held", justify="right", no_wrap=True),
        Column("left", justify="right", no_wrap=True),
        Column("cap", justify="right", no_wrap=True),
        Column("spent █ held ▒", no_wrap=True),
        Column("window ends", no_wrap=True),
    )
    for row in rows:
        named = " ".join([row.budget, *(f"{label}={value}" for label, value in row.labels.items())])
        amounts = [format_decimal(amount) for amount in (row.spent, row.held, row.available)]
        grid.add_row(named, *amounts, f"{format_decimal(row.cap)} {row.currency}", _bar(row), _ends(row))
    print_table(grid)


@budget.command("open")
@click.argument("name", metavar="BUDGET")
@click.option("--spent", required=True, help="What was spent in the current window before, in its currency.")
@labels_option
@ledger_option
def open_command(name: str, spent: str, labels: dict[str, str], ledger: str) -> None:
    """Count in a BUDGET what its current window had spent before the ledger knew of it, once a window."""
    with opened_guard(ledger) as guard:
        guard.open_budget(name, spent, labels=labels)
    click.echo(f"{name}: {spent} counted as spent")


@budget.command("schema")
def schema_command() -> None:
    """Print the JSON Schema of a file of budgets, for an editor's completion."""
    click.echo(to_json(budgets_file_schema()))


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
    """Spent, held and left in proportion; what is used at all has a mark."""
    whole = max(row.cap, row.spent + row.held)
    spent, held = (_marks(amount, whole) for amount in (row.spent, row.held))
    spent = min(spent, _BAR_CHARS - (1 if held else 0))
    held = min(held, _BAR_CHARS - spent)
    if row.available <= 0:  # nothing is left, and the bar has no room for it
        spent, held = (_BAR_CHARS - held, held) if spent else (0, _BAR_CHARS)
    return Text("█" * spent + "▒" * held + "·" * (_BAR_CHARS - spent - held))


def _marks(amount: Decimal, whole: Decimal) -> int:
    return 0 if not amount else max(1, int(amount * _BAR_CHARS / whole))


def _ends(row: Bucket) -> str:
    return "never" if row.window_end == FOREVER.end else f"{row.window_end:%Y-%m-%d %H:%M} UTC"
