"""`budget freeze` and `budget thaw`: stop and allow spending."""

from __future__ import annotations

import click

from kling_pricing.cli.failures import errors_shown
from kling_pricing.cli.ledger_options import LEDGER_EXIT_CODES, actor_option, ledger_option, reason_option
from kling_pricing.cli.output import echo
from kling_pricing.guard import freeze_all, thaw_all


@click.command("freeze", epilog=LEDGER_EXIT_CODES)
@click.option("--all", "everything", is_flag=True, required=True, help="Freeze every budget.")
@reason_option
@actor_option
@ledger_option
def freeze_command(
    everything: bool,  # noqa: ARG001 (required)
    reason: str,
    actor: str | None,
    ledger: str,
) -> None:
    """Stop all spending at once.

    Until you run `budget thaw --all`, no request is admitted. If a program tries to send a job that is already
    reserved, the job is not sent, and its reservation is released. Jobs that were sent before the freeze are
    settled as usual.

    \b
    Example:
      kling-pricing budget freeze --all --reason "the bill looks wrong"
    """
    with errors_shown(as_json=False):
        freeze_all(ledger, actor=actor, reason=reason)
    echo("All spending is frozen.")


@click.command("thaw", epilog=LEDGER_EXIT_CODES)
@click.option("--all", "everything", is_flag=True, required=True, help="Thaw every budget.")
@reason_option
@actor_option
@ledger_option
def thaw_command(
    everything: bool,  # noqa: ARG001 (required)
    reason: str,
    actor: str | None,
    ledger: str,
) -> None:
    """Allow spending again after a freeze.

    \b
    Example:
      kling-pricing budget thaw --all --reason "the provider corrected the bill"
    """
    with errors_shown(as_json=False):
        was_frozen = thaw_all(ledger, actor=actor, reason=reason)
    echo("Spending is allowed again." if was_frozen else "Spending was not frozen.")
