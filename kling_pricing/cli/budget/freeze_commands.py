"""`budget freeze` and `budget thaw`: stop and allow spending."""

from __future__ import annotations

from typing import Any

import click

from kling_pricing.cli.failures import errors_shown
from kling_pricing.cli.ledger_options import (
    LEDGER_EXIT_CODES,
    actor_option,
    json_option,
    ledger_option,
    reason_option,
)
from kling_pricing.cli.output import echo, to_json
from kling_pricing.guard import freeze_all, freeze_budgets, freezes, thaw_all, thaw_budgets
from kling_pricing.ledger.freezing import Freeze

_names_argument = click.argument("names", nargs=-1, metavar="[NAME]...")


@click.command("freeze", epilog=LEDGER_EXIT_CODES)
@_names_argument
@click.option("--all", "everything", is_flag=True, help="Freeze all spending, whether or not a budget matches.")
@reason_option
@actor_option
@ledger_option
@json_option
def freeze_command(
    names: tuple[str, ...], everything: bool, reason: str, actor: str | None, ledger: str, as_json: bool
) -> None:
    """Stop spending from budgets, or all spending, immediately.

    Until you thaw a budget, no request that it matches is admitted, in any process. If a program tries to send
    a job that is already reserved, the job is not sent, and its reservation is released. Jobs that were sent
    before the freeze are settled as usual. An allowance does not lift a freeze.

    With --all, the freeze includes requests that no budget matches and budgets that you add later.

    \b
    Examples:
      kling-pricing budget freeze trailer --reason "the bill looks wrong"
      kling-pricing budget freeze --all --reason "the bill looks wrong"
    """
    _require_one_choice(names, everything=everything)
    with errors_shown(as_json=as_json):
        frozen = (
            (freeze_all(ledger, actor=actor, reason=reason),)
            if everything
            else freeze_budgets(ledger, names, actor=actor, reason=reason)
        )
    if as_json:
        echo(to_json({"freezes": [freeze_dict(freeze) for freeze in frozen]}))
        return
    for freeze in frozen:
        echo(freeze_line(freeze))


@click.command("thaw", epilog=LEDGER_EXIT_CODES)
@_names_argument
@click.option("--all", "everything", is_flag=True, help="End the freeze of all spending.")
@reason_option
@actor_option
@ledger_option
@json_option
def thaw_command(
    names: tuple[str, ...], everything: bool, reason: str, actor: str | None, ledger: str, as_json: bool
) -> None:
    """Allow spending again after a freeze.

    The command ends the freezes that you name. A budget that was frozen by name stays frozen after thaw --all,
    and the command says so.

    \b
    Examples:
      kling-pricing budget thaw trailer --reason "the provider corrected the bill"
      kling-pricing budget thaw --all --reason "the provider corrected the bill"
    """
    _require_one_choice(names, everything=everything)
    with errors_shown(as_json=as_json):
        if everything:
            ended: list[str | None] = [None] if thaw_all(ledger, actor=actor, reason=reason) else []
        else:
            ended = [freeze.budget for freeze in thaw_budgets(ledger, names, actor=actor, reason=reason)]
        remaining = freezes(ledger)
    if as_json:
        document = {
            "thawed": ["all" if everything else budget for budget in ended],
            "freezes": [freeze_dict(freeze) for freeze in remaining],
        }
        echo(to_json(document))
        return
    if everything and not ended:
        echo("Spending is not frozen; there is nothing to thaw.")
    elif everything:
        echo("The freeze on all spending has been lifted." if remaining else "Spending is allowed again.")
    for name in names:
        echo(
            f"Budget {name} is thawed."
            if name in ended
            else f"Budget {name} is not frozen; there is nothing to thaw."
        )
    for freeze in remaining:
        echo(f"This freeze remains: {freeze_line(freeze)}")


def freeze_dict(freeze: Freeze) -> dict[str, Any]:
    """Returns a freeze as JSON-ready data; `budget` is null if all spending is frozen."""
    return freeze._asdict() | {"frozen_at": freeze.frozen_at.isoformat()}


def freeze_line(freeze: Freeze) -> str:
    """Returns a freeze as a sentence."""
    subject = "All spending" if freeze.budget is None else f"Budget {freeze.budget}"
    return f"{subject} is frozen: {freeze.actor}, {freeze.frozen_at:%Y-%m-%d %H:%M} UTC ({freeze.reason})"


def _require_one_choice(names: tuple[str, ...], *, everything: bool) -> None:
    if everything == bool(names):
        raise click.UsageError("give the names of budgets, or --all for all spending")
