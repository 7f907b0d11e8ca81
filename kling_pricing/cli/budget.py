"""`kling-pricing budget`: checks and installs budgets, and shows the amount left in each."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import groupby
from typing import Any

import click
from rich.table import Column, Table
from rich.text import Text

from kling_pricing.budgets import BudgetsFile, budgets_file_schema, load_budgets
from kling_pricing.cli.exit_codes import REFUSED, exit_codes_help
from kling_pricing.cli.failures import errors_shown
from kling_pricing.cli.groups import Group
from kling_pricing.cli.ledger_options import (
    LEDGER_EXIT_CODES,
    READING_EXIT_CODES,
    current_user,
    json_option,
    labels_option,
    ledger_option,
    opened_guard,
    read_amount,
    reason_option,
)
from kling_pricing.cli.options import at_option
from kling_pricing.cli.output import counted, echo, print_table, to_json
from kling_pricing.errors import BudgetError
from kling_pricing.guard import apply_budgets, calendar_changes, freeze_all, thaw_all
from kling_pricing.ledger.calendars import CalendarChange
from kling_pricing.ledger.journal import Bucket
from kling_pricing.money import format_decimal
from kling_pricing.windows import FOREVER

_DAY = timedelta(days=1)
_UNPRICED_PERIOD = timedelta(days=30)
"""The period for which `budget status` shows the requests that passed without a price."""

_BAR_CHARS = 20


@click.group("budget", cls=Group)
def budget() -> None:
    """Check, install and show budgets.

    \b
    Examples:
      kling-pricing budget check budgets.yaml
      kling-pricing budget apply budgets.yaml
      kling-pricing budget status
    """


@budget.command("check", epilog=exit_codes_help("the file is valid", "the file is invalid"))
@click.argument("file", type=click.Path(exists=True, dir_okay=False))
def check_command(file: str) -> None:
    """Check the budgets in FILE.

    The command reports the first mistake with its line number.

    \b
    Example:
      kling-pricing budget check budgets.yaml
    """
    try:
        checked = load_budgets(file)
    except BudgetError as error:
        echo(str(error), err=True)
        sys.exit(REFUSED)
    echo(f"OK: {counted(len(checked.budgets), 'budget')} ({_names(checked)})")


@budget.command(
    "apply",
    epilog=exit_codes_help(
        refused="refused by the ledger; nothing changed",
        unreadable="bad usage, or budgets or a ledger that cannot be used",
    ),
)
@click.argument("file")
@ledger_option
def apply_command(file: str, ledger: str) -> None:
    """Install the budgets from FILE in a ledger.

    These budgets replace the ledger's current budgets. Balances do not change. You can always change caps,
    limits per request, alerts, and the shortest duration and lowest resolution that capping may choose. To
    change a budget's match, window, time zone or currency, rename the budget or set carry_over: true.

    The command also extends the ledger's calendar, so that it covers the windows of the budgets for at least
    ten years. If this machine's time zone data has new rules, the command shows the window bounds that move.
    The start of a window that is already open does not move.

    \b
    Example:
      kling-pricing budget apply budgets.yaml --ledger sqlite:///spend.db
    """
    with errors_shown(as_json=False):
        for change in calendar_changes(ledger, file):
            _show_moved(change)
        installed = apply_budgets(ledger, file)
    echo(f"Installed {counted(len(installed.budgets), 'budget')}: {_names(installed)}")


@budget.command("freeze", epilog=LEDGER_EXIT_CODES)
@click.option("--all", "everything", is_flag=True, required=True, help="Freeze every budget.")
@reason_option
@ledger_option
def freeze_command(everything: bool, reason: str, ledger: str) -> None:  # noqa: ARG001 (required)
    """Stop all spending at once.

    Until you run `budget thaw --all`, no request is admitted. If a program tries to send a job that is already
    reserved, the job is not sent, and its reservation is released. Jobs that were sent before the freeze are
    settled as usual.

    \b
    Example:
      kling-pricing budget freeze --all --reason "the bill looks wrong"
    """
    with errors_shown(as_json=False):
        freeze_all(ledger, actor=current_user(), reason=reason)
    echo("All spending is frozen.")


@budget.command("thaw", epilog=LEDGER_EXIT_CODES)
@click.option("--all", "everything", is_flag=True, required=True, help="Thaw every budget.")
@reason_option
@ledger_option
def thaw_command(everything: bool, reason: str, ledger: str) -> None:  # noqa: ARG001 (required)
    """Allow spending again after a freeze.

    \b
    Example:
      kling-pricing budget thaw --all --reason "the provider corrected the bill"
    """
    with errors_shown(as_json=False):
        was_frozen = thaw_all(ledger, actor=current_user(), reason=reason)
    echo("Spending is allowed again." if was_frozen else "Spending was not frozen.")


@budget.command("status", epilog=READING_EXIT_CODES)
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


@budget.command("open", epilog=LEDGER_EXIT_CODES)
@click.argument("name", metavar="BUDGET")
@click.option(
    "--spent",
    required=True,
    callback=read_amount,
    metavar="AMOUNT",
    help="Amount spent in the current window, in the budget's currency.",
)
@labels_option
@ledger_option
def open_command(name: str, spent: Decimal, labels: dict[str, str], ledger: str) -> None:
    """Record money that was spent before the ledger was in use.

    The amount counts towards the current window of BUDGET. Each window accepts only one opening amount.

    \b
    Example:
      kling-pricing budget open trailer --spent 12.5
    """
    with opened_guard(ledger) as guard:
        guard.open_budget(name, spent, labels=labels)
    echo(f"{name}: {format_decimal(spent)} counted as spent")


@budget.command("schema", epilog=exit_codes_help())
def schema_command() -> None:
    """Print the JSON Schema of a budgets file.

    A text editor can use the schema to complete and check budgets files.

    \b
    Example:
      kling-pricing budget schema
    """
    echo(to_json(budgets_file_schema()))


def _show_moved(change: CalendarChange) -> None:
    """Prints the bounds of windows that move because of new time zone data."""
    if change.moved:
        before, after = (f"{bound:%Y-%m-%d %H:%M} UTC" for bound in change.moved[0])
        number = counted(len(change.moved), "window bound")
        echo(
            f"{change.schedule}: time zone data {change.zone_data} moves {number}; the first moves from "
            f"{before} to {after}"
        )


def _names(installed: BudgetsFile) -> str:
    return ", ".join(entry.name for entry in installed.budgets)


def _bucket_dict(row: Bucket) -> dict[str, Any]:
    amounts = {name: format_decimal(getattr(row, name)) for name in ("cap", "held", "spent", "available")}
    return {
        "budget": row.budget,
        "labels": dict(row.labels),
        **amounts,
        "currency": row.currency,
        "window_start": row.window_start.isoformat(),
        "window_end": row.window_end.isoformat(),
        "rolling": row.rolling,
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
    if row.rolling is not None:
        return f"rolling {row.rolling}"
    return "never" if row.window_end == FOREVER.end else f"{row.window_end:%Y-%m-%d %H:%M} UTC"
