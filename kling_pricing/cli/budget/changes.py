"""`budget apply` and `budget open`: changes to the budgets of a ledger."""

from __future__ import annotations

from decimal import Decimal

import click

from kling_pricing.cli.budget.files import names
from kling_pricing.cli.exit_codes import exit_codes_help
from kling_pricing.cli.failures import errors_shown
from kling_pricing.cli.ledger_options import (
    LEDGER_EXIT_CODES,
    actor_option,
    labels_option,
    ledger_option,
    opened_guard,
    optional_reason_option,
    read_amount,
)
from kling_pricing.cli.output import counted, echo
from kling_pricing.guard import apply_budgets, calendar_changes
from kling_pricing.ledger.calendars import CalendarChange
from kling_pricing.money import format_decimal


@click.command(
    "apply",
    epilog=exit_codes_help(
        refused="refused by the ledger; nothing changed",
        unreadable="bad usage, or budgets or a ledger that cannot be used",
    ),
)
@click.argument("file")
@optional_reason_option
@actor_option
@ledger_option
def apply_command(file: str, reason: str | None, actor: str | None, ledger: str) -> None:
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
        installed = apply_budgets(ledger, file, actor=actor, reason=reason)
    echo(f"Installed {counted(len(installed.budgets), 'budget')}: {names(installed)}")


@click.command("open", epilog=LEDGER_EXIT_CODES)
@click.argument("name", metavar="BUDGET")
@click.option(
    "--spent",
    required=True,
    callback=read_amount,
    metavar="AMOUNT",
    help="Amount spent in the current window, in the budget's currency.",
)
@labels_option
@optional_reason_option
@actor_option
@ledger_option
def open_command(
    name: str,
    spent: Decimal,
    labels: dict[str, str],
    reason: str | None,
    actor: str | None,
    ledger: str,
) -> None:
    """Record money that was spent before the ledger was in use.

    The amount counts towards the current window of BUDGET. Each window accepts only one opening amount.

    \b
    Example:
      kling-pricing budget open trailer --spent 12.5
    """
    with opened_guard(ledger, actor=actor) as guard:
        guard.open_budget(name, spent, labels=labels, reason=reason)
    echo(f"{name}: {format_decimal(spent)} counted as spent")


def _show_moved(change: CalendarChange) -> None:
    """Prints the bounds of windows that move because of new time zone data."""
    if change.moved:
        before, after = (f"{bound:%Y-%m-%d %H:%M} UTC" for bound in change.moved[0])
        number = counted(len(change.moved), "window bound")
        echo(
            f"{change.schedule}: time zone data {change.zone_data} moves {number}; the first moves from "
            f"{before} to {after}"
        )
