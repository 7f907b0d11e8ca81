"""`budget show` and `budget log`: the current budgets, and who changed them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import click

from kling_pricing.budgets import BudgetEntry, BudgetsFile, budgets_from_document
from kling_pricing.budgets.differences import differences, value_shown
from kling_pricing.budgets.writing import budget_yaml, budgets_yaml
from kling_pricing.cli.budget.plan_text import PlanLine, change_lines, print_lines
from kling_pricing.cli.ledger_options import READING_EXIT_CODES, json_option, ledger_option, opened_guard
from kling_pricing.cli.output import echo, to_json
from kling_pricing.ledger.actions import AdministrativeAction, CapOverlay
from kling_pricing.ledger.carry_over import budget_named
from kling_pricing.ledger.journal import Bucket
from kling_pricing.money import format_decimal

_NAME_CHARS = 16


@click.command("show", epilog=READING_EXIT_CODES)
@click.argument("name", metavar="[BUDGET]", required=False)
@click.option(
    "--yaml", "as_yaml", is_flag=True, help="Print a budgets file that `budget apply` accepts as it is."
)
@json_option
@ledger_option
def show_command(name: str | None, as_yaml: bool, as_json: bool, ledger: str) -> None:
    """Show the current budgets, or one of them.

    With --yaml, the command prints a budgets file. The file contains all current settings,
    so `budget apply` with this file changes nothing. Temporary caps from `budget set --until` are comments.

    \b
    Examples:
      kling-pricing budget show
      kling-pricing budget show --yaml > budgets.yaml
    """
    if as_yaml and as_json:
        raise click.UsageError("--yaml and --json cannot be used together; choose one of them")
    with opened_guard(ledger, as_json=as_json) as guard:
        budgets, overlays, actions = guard.budgets(), guard.cap_overlays(), guard.log()
        shown = budgets.budgets if name is None else [budget_named(budgets, name)]
        balances = guard.status() if not as_yaml else []
    overlays = [overlay for overlay in overlays if overlay.budget in {budget.name for budget in shown}]
    if as_yaml:
        _show_yaml(budgets, name, shown, overlays)
    elif as_json:
        echo(to_json(_document(budgets, name, shown, overlays, actions)))
    else:
        lines = [line for budget in shown for line in _budget_lines(budget, overlays, balances)]
        print_lines([*lines, *(_setting_lines(budgets, actions) if name is None else ())])


def _show_yaml(
    budgets: BudgetsFile, name: str | None, shown: Sequence[BudgetEntry], overlays: Sequence[CapOverlay]
) -> None:
    if name is not None:
        count = len(budgets.budgets)
        echo(f"# one of the {count} current budgets; a file with this budget alone would remove the others")
    for overlay in overlays:
        echo(f"# {overlay.budget}: {_overlay(overlay, budget_named(budgets, overlay.budget).currency)}")
    echo((budgets_yaml(budgets) if name is None else budget_yaml(shown[0])).rstrip())


def _document(
    budgets: BudgetsFile,
    name: str | None,
    shown: Sequence[BudgetEntry],
    overlays: Sequence[CapOverlay],
    actions: Sequence[AdministrativeAction],
) -> dict[str, Any]:
    document = json.loads(budgets.document) if name is None else shown[0].model_dump(mode="json")
    caps = [
        overlay._asdict()
        | {
            "cap": format_decimal(overlay.cap),
            "set_at": overlay.set_at.isoformat(),
            "until": overlay.until.isoformat(),
        }
        for overlay in overlays
    ]
    newest = _newest(actions)
    installed = None if newest is None else _action_dict(newest._replace(old=None, new=None))
    return {**document, "caps_until": caps, "installed": installed}


def _newest(actions: Sequence[AdministrativeAction]) -> AdministrativeAction | None:
    """Returns the action that made the newest revision; None: an earlier release did not keep it."""
    return next(
        (
            action
            for action in reversed(actions)
            if action.action == "apply" or (action.action == "set" and "until" not in action.new)
        ),
        None,
    )


def _budget_lines(
    budget: BudgetEntry, overlays: Sequence[CapOverlay], balances: Sequence[Bucket]
) -> list[PlanLine]:
    given = budget.model_dump(mode="json", exclude_defaults=True, exclude={"name", "currency", "cap"})
    lines = [PlanLine(budget.name, "bold"), _fact("cap", f"{format_decimal(budget.cap)} {budget.currency}")]
    lines += [
        _fact("", _overlay(overlay, budget.currency)) for overlay in overlays if overlay.budget == budget.name
    ]
    facts = {"match": {}, "window": budget.window, **given}
    for key, value in facts.items():
        shown = "every request" if key == "match" and not value else value_shown(value)
        lines.append(_fact(key, f"{shown} {budget.currency}" if key == "max_request" else shown))
    for bucket in balances:
        if bucket.budget == budget.name:
            labels = "".join(f"{label} {value}: " for label, value in bucket.labels.items())
            spent, held, left = (
                format_decimal(getattr(bucket, part)) for part in ("spent", "held", "available")
            )
            lines.append(_fact("now", f"{labels}spent {spent}, held {held}, left {left} {bucket.currency}"))
    return [*lines, PlanLine("")]


def _overlay(overlay: CapOverlay, currency: str) -> str:
    reason = "" if overlay.reason is None else f": {overlay.reason}"
    return (
        f"until {overlay.until:%Y-%m-%d %H:%M} UTC, the cap is {format_decimal(overlay.cap)} {currency} "
        f"({overlay.actor}{reason})"
    )


def _setting_lines(budgets: BudgetsFile, actions: Sequence[AdministrativeAction]) -> list[PlanLine]:
    settings = {"unmatched": budgets.unmatched}
    settings |= budgets.model_dump(mode="json", exclude_defaults=True, exclude={"budgets"})
    lines = [
        PlanLine("for all budgets", "bold"),
        *(_fact(key, value_shown(value)) for key, value in settings.items()),
    ]
    newest = _newest(actions)
    return lines if newest is None else [*lines, PlanLine(""), PlanLine(f"in effect since {_heading(newest)}")]


def _fact(key: str, text: str) -> PlanLine:
    return PlanLine(f"  {key:<{_NAME_CHARS}} {text}")


@click.command("log", epilog=READING_EXIT_CODES)
@json_option
@ledger_option
def log_command(as_json: bool, ledger: str) -> None:
    """Show who changed the budgets, when, and why.

    The newest action comes last. In a PostgreSQL ledger, the database role of the session follows
    the actor in parentheses.

    \b
    Example:
      kling-pricing budget log --ledger sqlite:///spend.db
    """
    with opened_guard(ledger, as_json=as_json) as guard:
        actions = guard.log()
    for action in actions:
        if as_json:
            echo(to_json(_action_dict(action)))
        else:
            print_lines([PlanLine(_heading(action), "bold"), *_effects(action)])


def _heading(action: AdministrativeAction) -> str:
    role = "" if action.role is None else f" ({action.role})"
    reason = "" if action.reason is None else f": {action.reason}"
    return f"{action.at:%Y-%m-%d %H:%M:%S} UTC  {action.actor}{role}  {action.action} {action.subject}{reason}"


def _effects(action: AdministrativeAction) -> list[PlanLine]:
    """Returns the lines about the values before and after an action."""
    if action.action == "apply":
        old, new = (
            None if value is None else budgets_from_document(json.dumps(value))
            for value in (action.old, action.new)
        )
        changes = () if new is None else differences(old, new)
        return [line._replace(text=f"    {line.text}") for change in changes for line in change_lines(change)]
    if action.action in {"freeze", "thaw"}:
        return []
    if action.action in {"allow", "ask"}:
        facts = {**action.new, "amount": f"{action.new['amount']} {action.new['currency']}"}
        del facts["currency"]
        return [
            PlanLine(f"    {key} {value_shown(value)}") for key, value in facts.items() if value is not None
        ]
    shown = [value_shown(value) for value in (action.old, action.new) if value is not None]
    return [PlanLine(f"    {' -> '.join(shown)}")] if shown else []


def _action_dict(action: AdministrativeAction) -> dict[str, Any]:
    return action._asdict() | {"at": action.at.isoformat()}
