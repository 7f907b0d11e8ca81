"""`budget log`: who changed what, when, and why."""

from __future__ import annotations

from typing import Any

import click

from kling_pricing.cli.ledger_options import READING_EXIT_CODES, json_option, ledger_option, opened_guard
from kling_pricing.cli.output import echo, to_json
from kling_pricing.ledger.actions import AdministrativeAction


@click.command("log", epilog=READING_EXIT_CODES)
@ledger_option
@json_option
def log_command(ledger: str, as_json: bool) -> None:
    """Show who changed the budgets, when, and why.

    The newest action comes last. In a PostgreSQL ledger, the database role of the session stands in parentheses
    after the actor.

    \b
    Example:
      kling-pricing budget log --ledger sqlite:///spend.db
    """
    with opened_guard(ledger, as_json=as_json) as guard:
        actions = guard.log()
    for action in actions:
        echo(to_json(_action_dict(action)) if as_json else _line(action))


def _line(action: AdministrativeAction) -> str:
    role = "" if action.role is None else f" ({action.role})"
    reason = "" if action.reason is None else f": {action.reason}"
    return f"{action.at:%Y-%m-%d %H:%M:%S} UTC  {action.actor}{role}  {action.action} {action.subject}{reason}"


def _action_dict(action: AdministrativeAction) -> dict[str, Any]:
    return action._asdict() | {"at": action.at.isoformat()}
