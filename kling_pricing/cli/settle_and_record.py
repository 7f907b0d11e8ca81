"""The commands that book amounts: `kling-pricing settle` and `kling-pricing record`."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from decimal import Decimal
from typing import Any, TypeVar

import click

from kling_pricing.cli.corrections import plan_text, planned, read_corrections
from kling_pricing.cli.failures import errors_shown
from kling_pricing.cli.ledger_options import (
    CHARGED_HELP,
    LEDGER_EXIT_CODES,
    account_option,
    actor_option,
    json_option,
    labels_option,
    ledger_option,
    opened_guard,
    optional_reason_option,
    read_amount,
    read_ref,
    show_reservation,
    task_id_argument,
)
from kling_pricing.cli.options import instant_option, require_provider
from kling_pricing.cli.output import echo
from kling_pricing.ledger.model import BASES, Basis, Ref
from kling_pricing.money import format_decimal

F = TypeVar("F", bound=Callable[..., Any])


def _correction_options(command: F) -> F:
    """Adds the options `--reason` and `--actor`."""
    return optional_reason_option(actor_option(command))


@click.command("settle", epilog=LEDGER_EXIT_CODES)
@click.argument("ref", metavar="[REF]", required=False, callback=read_ref)
@click.option("--amount", callback=read_amount, metavar="AMOUNT", help=CHARGED_HELP)
@click.option(
    "--basis",
    type=click.Choice(BASES),
    help="Source of the amount. The choices are listed from the weakest to the strongest; a stronger source "
    "replaces a weaker one.",
)
@click.option(
    "--file",
    metavar="FILE",
    help="CSV file with the columns ref and amount, and optionally reason: settles many reservations with the "
    "basis operator. Without --yes, the command only shows the changes.",
)
@click.option("--yes", "is_confirmed", is_flag=True, help="Make the changes in --file.")
@_correction_options
@ledger_option
@json_option
def settle_command(
    ref: Ref | None,
    amount: Decimal | None,
    basis: Basis | None,
    file: str | None,
    is_confirmed: bool,
    reason: str | None,
    actor: str | None,
    ledger: str,
    as_json: bool,
) -> None:
    """Settle a reservation at the actual cost of its job.

    The cost counts as spent, and the rest of the reserved money becomes available again. REF is the
    reservation's id or PROVIDER:TASK_ID. To correct an amount, settle again with a stronger --basis.

    \b
    Examples:
      kling-pricing settle "$reservation" --amount 0.7
      kling-pricing settle qingbo:task-123 --amount 0.5 --basis operator
      kling-pricing settle --file corrections.csv --reason "credit note"
    """
    if file is not None:
        if ref is not None or amount is not None or basis is not None:
            raise click.UsageError("--file cannot be combined with REF, --amount or --basis")
        _settle_file(file, ledger, reason, actor, is_confirmed=is_confirmed, as_json=as_json)
        return
    if ref is None:
        raise click.UsageError("give the reservation REF, or a file of corrections with --file")
    with opened_guard(ledger, actor=actor, as_json=as_json) as guard:
        settled = guard.settle(ref, amount, basis=basis, reason=reason)
        show_reservation(settled, as_json=as_json)
    if amount is not None and amount != settled.billed:
        echo(
            f"the amount was not changed to {format_decimal(amount)}, because the recorded amount has a "
            f"stronger basis ({settled.basis})",
            err=True,
        )


def _settle_file(
    file: str, ledger: str, reason: str | None, actor: str | None, *, is_confirmed: bool, as_json: bool
) -> None:
    """Shows what the corrections in a file change and, if that is confirmed, makes the changes."""
    with errors_shown(as_json=as_json):
        corrections = read_corrections(file)
    with opened_guard(ledger, actor=actor, as_json=as_json) as guard:
        plan = planned(guard, corrections)
        if not as_json or not is_confirmed:
            for line in plan_text(plan, "operator"):
                echo(line, err=as_json)
        if not is_confirmed:
            echo("nothing was changed; add --yes to make these changes", err=as_json)
            return
        for each in plan:
            if each.changes("operator"):
                why = each.correction.reason or reason
                settled = guard.settle(each.before.id, each.correction.amount, basis="operator", reason=why)
                show_reservation(settled, as_json=as_json)


@click.command("record", epilog=LEDGER_EXIT_CODES)
@click.argument("provider")
@task_id_argument
@click.argument("amount", callback=read_amount)
@click.option("--project", required=True, help="Project that the spend belongs to.")
@labels_option
@account_option
@instant_option("--at", "Time at which the money was spent (ISO 8601). Default: now.")
@click.option("--currency", help="Currency of the amount, such as USD. Default: the provider's currency.")
@_correction_options
@ledger_option
@json_option
def record_command(
    provider: str,
    task_id: str,
    amount: Decimal,
    project: str,
    labels: dict[str, str],
    account: str | None,
    at: datetime | None,
    currency: str | None,
    reason: str | None,
    actor: str | None,
    ledger: str,
    as_json: bool,
) -> None:
    """Record spend that did not go through this ledger.

    AMOUNT is the amount that PROVIDER charged for TASK_ID. The amount counts immediately towards every
    matching budget, even if a cap is then exceeded. You can safely repeat the command.

    \b
    Example:
      kling-pricing record qingbo task-123 0.7 --project trailer
    """
    with opened_guard(ledger, actor=actor, as_json=as_json) as guard:
        if currency is None:
            require_provider(guard.book, provider)
        recorded = guard.record(
            *(provider, task_id, amount),
            labels={**labels, "project": project},
            at=at,
            currency=currency,
            account=account,
            reason=reason,
        )
        show_reservation(recorded, as_json=as_json)
