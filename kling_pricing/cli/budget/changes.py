"""`budget plan`, `budget apply`, `budget set` and `budget open`: changes to the budgets of a ledger."""

from __future__ import annotations

import sys
from datetime import datetime
from decimal import Decimal

import click

from kling_pricing.budgets import read_budgets
from kling_pricing.budgets.differences import ensure_not_kept
from kling_pricing.cli.budget.check_and_schema import names
from kling_pricing.cli.budget.plan_text import PlanLine, needed_options, plan_lines, print_lines
from kling_pricing.cli.exit_codes import DONE, REFUSED, exit_codes_help
from kling_pricing.cli.failures import error_dict, errors_shown, fail
from kling_pricing.cli.ledger_options import (
    LEDGER_EXIT_CODES,
    actor_option,
    json_option,
    labels_option,
    ledger_option,
    opened_guard,
    optional_reason_option,
    read_amount,
    reason_option,
)
from kling_pricing.cli.options import instant_option
from kling_pricing.cli.output import counted, echo, to_json
from kling_pricing.errors import BudgetError
from kling_pricing.guard import BudgetPlan, apply_budgets, calendar_changes, plan_budgets
from kling_pricing.guard.budget_plans import CapChange
from kling_pricing.ledger.calendars import CalendarChange
from kling_pricing.money import format_decimal

_yes_option = click.option("--yes", is_flag=True, help="Do not ask whether to make the changes.")


@click.command(
    "plan",
    epilog=exit_codes_help(
        "no change", "there are changes", "bad usage, or budgets or a ledger that cannot be used"
    ),
)
@click.argument("file")
@ledger_option
@json_option
def plan_command(file: str, ledger: str, as_json: bool) -> None:
    """Show how the budgets in FILE differ from a ledger's budgets.

    The command changes nothing. Lines with + are budgets that `budget apply` would add, lines with - are
    budgets that it would remove, and lines with ~ are changes. A change is marked `weaker` if it allows more
    spending, or if fewer requests are checked after it.

    \b
    Example:
      kling-pricing budget plan budgets.yaml --ledger sqlite:///spend.db
    """
    with errors_shown(as_json=as_json):
        plan = plan_budgets(ledger, file)
        moved = [change for change in calendar_changes(ledger, plan.budgets) if change.moved]
    if as_json:
        echo(to_json(plan.as_dict()))
    else:
        _show_plan(plan, moved)
        print_lines([PlanLine(f"warning: {warning}") for warning in plan.warnings], err=True)
        if plan.changes and (options := needed_options(plan)):
            echo(f"`budget apply` needs these options: {options}")
    sys.exit(REFUSED if plan.changes else DONE)


@click.command(
    "apply",
    epilog=exit_codes_help(
        "the budgets are installed",
        "refused; nothing changed",
        "bad usage, or budgets or a ledger that cannot be used",
    ),
)
@click.argument("file")
@click.option(
    "--remove",
    multiple=True,
    metavar="NAME",
    help="Remove a budget that FILE does not contain. Repeat the option for several budgets.",
)
@click.option("--allow-weaker", is_flag=True, help="Make the changes that weaken protection.")
@_yes_option
@optional_reason_option
@actor_option
@ledger_option
@json_option
def apply_command(
    file: str,
    remove: tuple[str, ...],
    allow_weaker: bool,
    yes: bool,
    reason: str | None,
    actor: str,
    ledger: str,
    as_json: bool,
) -> None:
    """Replace a ledger's budgets with the budgets in FILE.

    The command first shows the changes, as `budget plan` does. Balances do not change. To change a budget's
    match, window, time zone or currency, rename the budget or set carry_over: true.

    Nothing is removed or weakened by mistake. A budget that FILE does not contain is removed only if you name
    it with --remove. A change that allows more spending, or after which fewer requests are checked, needs
    --allow-weaker, or your consent in a terminal. --yes does not give this consent.

    The command also extends the ledger's calendar, so that it covers the windows of the budgets for at least
    ten years. If this machine's time zone data has new rules, the command shows the window boundaries that
    move. The start of a window that is already open does not move.

    \b
    Example:
      kling-pricing budget apply budgets.yaml --ledger sqlite:///spend.db
    """
    with errors_shown(as_json=as_json):
        budgets = read_budgets(file)
        ensure_not_kept(budgets, remove)
        moved = [change for change in calendar_changes(ledger, budgets) if change.moved]
        plan = plan_budgets(ledger, budgets)
    if not as_json:
        _show_plan(plan, moved)
        allow_weaker = _confirmed(plan, remove, allow_weaker=allow_weaker, yes=yes)
    with errors_shown(as_json=as_json):
        try:
            apply_budgets(ledger, plan, remove=remove, allow_weaker=allow_weaker, actor=actor, reason=reason)
        except BudgetError as error:
            if as_json:
                echo(to_json(plan.as_dict() | {"applied": False} | error_dict(error)))
                sys.exit(REFUSED)
            fail(error, as_json=False, code=REFUSED)
    if as_json:
        echo(to_json(plan.as_dict() | {"applied": True}))
    elif plan.changes:
        echo(f"Installed {counted(len(budgets.budgets), 'budget')}: {names(budgets)}")


def _show_plan(plan: BudgetPlan, moved: list[CalendarChange]) -> None:
    for change in moved:
        _show_moved(change)
    print_lines(plan_lines(plan))
    if not plan.changes:
        echo(
            f"No change: the ledger has {counted(len(plan.budgets.budgets), 'budget')} ({names(plan.budgets)})"
        )


def _confirmed(plan: BudgetPlan, remove: tuple[str, ...], *, allow_weaker: bool, yes: bool) -> bool:
    """Asks in a terminal whether to carry out a plan, and returns whether protection may become weaker."""
    if not plan.changes or not _is_terminal() or {*plan.removed} - {*remove}:
        return allow_weaker
    if plan.weaker and not allow_weaker:
        _ask("The marked changes weaken protection. Make these changes?")
        return True
    if plan.base is not None and not yes:
        _ask("Make these changes?")
    return allow_weaker


def _ask(question: str) -> None:
    """Asks a question, and ends the command if the answer is no."""
    if not click.confirm(question):
        echo("Nothing was changed.")
        sys.exit(REFUSED)


def _is_terminal() -> bool:
    return sys.stdin.isatty() and sys.stdout.isatty()


@click.command("set", epilog=LEDGER_EXIT_CODES)
@click.argument("name", metavar="BUDGET")
@click.option(
    "--cap", required=True, callback=read_amount, metavar="AMOUNT", help="New cap, in the budget's currency."
)
@instant_option("--until", "End of the new cap (ISO 8601). Default: the new cap stays.")
@_yes_option
@reason_option
@actor_option
@ledger_option
@json_option
def set_command(
    name: str,
    cap: Decimal,
    until: datetime | None,
    yes: bool,
    reason: str,
    actor: str,
    ledger: str,
    as_json: bool,
) -> None:
    """Change the cap of one budget immediately, for every process.

    With --until, the new cap is temporary: after that time, the budget's own cap applies again. Without
    --until, the new cap stays, and your budgets file no longer matches the ledger: write the new cap into the
    file too, or save the output of `budget show --yaml`.

    \b
    Examples:
      kling-pricing budget set trailer --cap 50 --reason "the second trailer"
      kling-pricing budget set trailer --cap 80 --until 2099-12-01 --reason "rush"
    """
    with opened_guard(ledger, actor=actor, as_json=as_json) as guard:
        change = guard.cap_change(name, cap, until=until)
        if not as_json:
            echo(_cap_text(change))
            print_lines([PlanLine(f"note: {note}") for note in change.notes])
            if change.weaker and not yes and _is_terminal():
                _ask("This change weakens protection. Make the change?")
        guard.set_cap(name, cap, until=until, reason=reason)
    if as_json:
        echo(to_json(change.as_dict()))


def _cap_text(change: CapChange) -> str:
    if change.old == change.new:
        return (
            f"{change.budget}: no change: cap {format_decimal(change.new[0])} {change.currency}{_end(change)}"
        )
    mark = " (weaker)" if change.weaker else ""
    old, new = (format_decimal(cap) for cap, _ in (change.old, change.new))
    return f"{change.budget}: cap {old} -> {new} {change.currency}{_end(change)}{mark}"


def _end(change: CapChange) -> str:
    until = change.new[1]
    return "" if until is None else f" until {until:%Y-%m-%d %H:%M} UTC"


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
@json_option
def open_command(
    name: str,
    spent: Decimal,
    labels: dict[str, str],
    reason: str | None,
    actor: str,
    ledger: str,
    as_json: bool,
) -> None:
    """Record money that was spent before the ledger was in use.

    The amount counts towards the current window of BUDGET. Each window accepts only one opening amount.

    \b
    Example:
      kling-pricing budget open trailer --spent 12.5
    """
    with opened_guard(ledger, actor=actor, as_json=as_json) as guard:
        guard.open_budget(name, spent, labels=labels, reason=reason)
    if as_json:
        echo(to_json({"budget": name, "labels": labels, "spent": format_decimal(spent)}))
        return
    echo(f"{name}: {format_decimal(spent)} counted as spent")


def _show_moved(change: CalendarChange) -> None:
    """Prints the bounds of windows that move because of new time zone data."""
    before, after = (f"{bound:%Y-%m-%d %H:%M} UTC" for bound in change.moved[0])
    number = counted(len(change.moved), "window boundary", "window boundaries")
    echo(
        f"{change.schedule}: time zone data {change.zone_data} moves {number}; the first moves from "
        f"{before} to {after}"
    )
