"""The commands that change balances. With them, a shell script can use all functions of the guard."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

import click

from kling_pricing.cli.exit_codes import exit_codes_help
from kling_pricing.cli.failures import errors_shown
from kling_pricing.cli.inputs import UnreadableInputError, input_name, only_request, whole
from kling_pricing.cli.ledger_options import (
    CHARGED_HELP,
    LEDGER_EXIT_CODES,
    READING_EXIT_CODES,
    account_option,
    json_option,
    labels_option,
    ledger_option,
    opened_guard,
    read_amount,
    read_ref,
    ref_argument,
    show_reservation,
    show_reservations,
    task_id_argument,
)
from kling_pricing.cli.options import instant_option, provider_options, require_provider, wire_format_option
from kling_pricing.cli.output import echo, to_json
from kling_pricing.display import shown
from kling_pricing.errors import WireFormatError
from kling_pricing.guard.responses import read_answer
from kling_pricing.ledger.model import Ref
from kling_pricing.money import format_decimal
from kling_pricing.tables.price_book import PriceBook


@click.command(
    "pre-submit",
    epilog=exit_codes_help(
        "submit the printed payload",
        "refused; submit nothing",
        "bad usage, or the input or the ledger cannot be read; submit nothing",
    ),
)
@click.argument("file", metavar="FILE|-")
@click.option("--project", required=True, help="Project that the request belongs to.")
@click.option(
    "--key", help="Your own name for the job, such as shot-1. Using a key again never creates a second job."
)
@labels_option
@account_option
@ledger_option
@click.option("--budgets", metavar="FILE", help="Budgets file to install if the ledger has no budgets yet.")
@provider_options
@json_option
def pre_submit_command(
    file: str,
    project: str,
    key: str | None,
    labels: dict[str, str],
    account: str | None,
    ledger: str,
    budgets: str | None,
    book: PriceBook,
    as_json: bool,
    **options: Any,
) -> None:
    """Reserve the cost of a request and print the payload to submit.

    FILE contains one JSON request; - means standard input. The command prints each payload only once. Submit
    the payload, then pass the provider's response to `observe`. If the request does not fit into a
    budget with `on_exceed: cap`, the payload is a cheaper variant of the request in FILE.

    \b
    Example:
      kling-pricing pre-submit request.json --project trailer --key shot-1
    """
    with errors_shown(as_json=as_json):
        _, payload = only_request(file)
    with opened_guard(ledger, budgets=budgets, book=book, as_json=as_json) as guard:
        admission, body = guard.admit_and_dispatch(
            payload, project=project, key=key, labels=labels, account=account, **options
        )
    reservation = admission.reservation
    amount = format_decimal(reservation.reserved)
    if as_json:
        answer = {
            "reservation_id": admission.reservation_id,
            "key": reservation.key,
            "account": reservation.account,
            "reserved": amount,
            "currency": reservation.currency,
            "capped": admission.capped,
            "changes": dict(admission.changes),
            "payload": body,
        }
        echo(to_json(answer))
        return
    changes = ", ".join(f"{setting} = {shown(value)}" for setting, value in admission.changes.items())
    capped = f"; changed to fit: {changes}" if changes else ""
    echo(f"reserved {amount} {reservation.currency} as {reservation.id}{capped}", err=True)
    echo(to_json(body))


@click.command("bind", epilog=LEDGER_EXIT_CODES)
@ref_argument
@task_id_argument
@ledger_option
@json_option
def bind_command(ref: Ref, task_id: str, ledger: str, as_json: bool) -> None:
    """Bind a reservation to the provider's task.

    REF is the reservation's id, which `pre-submit` printed. TASK_ID is the provider's id for the task. You can
    pass the whole response to `observe` instead.

    \b
    Example:
      kling-pricing bind "$reservation" task-123
    """
    with opened_guard(ledger, as_json=as_json) as guard:
        show_reservation(guard.bind(ref, task_id), as_json=as_json)


@click.command(
    "observe",
    epilog=exit_codes_help(
        refused="the response does not name a task, or the ledger refuses the update",
        unreadable="bad usage, unreadable input, or a ledger that cannot be used",
    ),
)
@click.argument("file", metavar="FILE|-")
@click.option("--provider", required=True, help="Provider that sent the response.")
@click.option(
    "--reservation",
    metavar="REF",
    callback=read_ref,
    help="Reservation that the response belongs to. Required until the reservation is bound to its task.",
)
@wire_format_option(
    "API that sent the response. Default: the reservation's API. Without --reservation, the API is detected "
    "from the response."
)
@ledger_option
@json_option
def observe_command(
    file: str, provider: str, reservation: Ref | None, wire_format: str | None, ledger: str, as_json: bool
) -> None:
    """Update a reservation from a provider's response.

    FILE contains the response to a submission or to a status request, or the body of a callback; - means
    standard input. The response to a submission binds the reservation to its task. A response about a finished
    task settles the reservation. Passing the same response again changes nothing.

    \b
    Examples:
      kling-pricing observe response.json --provider qingbo --reservation REF
      kling-pricing observe callback.json --provider qingbo
    """
    with errors_shown(as_json=as_json):
        answer = _read_answer(file)
    with opened_guard(ledger, as_json=as_json) as guard:
        if wire_format is None and reservation is None:
            require_provider(guard.book, provider)
        observed = guard.observe(answer, provider=provider, reservation=reservation, wire_format=wire_format)
        if observed is not None:
            show_reservation(observed, as_json=as_json)
        else:
            later = "the response is stored for later, because its task is not bound to a reservation yet"
            echo("null" if as_json else later)


def _read_answer(file: str) -> Mapping[str, Any]:
    body = whole(file)
    try:
        return read_answer(body)
    except WireFormatError as error:
        raise UnreadableInputError(f"{input_name(file)}: {error}") from None


@click.command("release", epilog=LEDGER_EXIT_CODES)
@ref_argument
@click.option("--refused", is_flag=True, help="The job was sent, and the provider definitely refused it.")
@click.option("--reason", default="released", show_default=True, help="Reason to store with the reservation.")
@ledger_option
@json_option
def release_command(ref: Ref, refused: bool, reason: str, ledger: str, as_json: bool) -> None:
    """Release the money reserved for a job that was never sent.

    Use --refused for a job that was sent but that the provider definitely refused. After a timeout or a 5xx
    response, do not release the money. Instead, leave the reservation in doubt, and run `resolve` later. REF is
    the reservation's id or PROVIDER:TASK_ID.

    \b
    Examples:
      kling-pricing release "$reservation"
      kling-pricing release "$reservation" --refused --reason "HTTP 402"
    """
    with opened_guard(ledger, as_json=as_json) as guard:
        released = guard.release_refused(ref, reason) if refused else guard.release(ref, reason)
        show_reservation(released, as_json=as_json)


@click.command("resolve", epilog=LEDGER_EXIT_CODES)
@ref_argument
@click.option(
    "--charged/--not-charged", default=None, help="Whether the provider charged for the job. Required."
)
@click.option("--amount", callback=read_amount, metavar="AMOUNT", help=CHARGED_HELP)
@ledger_option
@json_option
def resolve_command(ref: Ref, charged: bool | None, amount: Decimal | None, ledger: str, as_json: bool) -> None:
    """Record whether the provider charged for a job.

    Look up the job at the provider first. --charged settles the reservation, and --not-charged releases its
    money. REF is the reservation's id or PROVIDER:TASK_ID. To correct a settled reservation, run
    `settle --basis operator`.

    \b
    Examples:
      kling-pricing resolve "$reservation" --charged --amount 0.7
      kling-pricing resolve "$reservation" --not-charged
    """
    if charged is None:
        raise click.UsageError("give --charged or --not-charged")
    if amount is not None and not charged:
        raise click.UsageError("--amount cannot be combined with --not-charged; omit one of them")
    with opened_guard(ledger, as_json=as_json) as guard:
        resolved = guard.resolve(ref, "charged" if charged else "not_charged", amount=amount)
        show_reservation(resolved, as_json=as_json)


@click.command("history", epilog=READING_EXIT_CODES)
@click.option("--project", help="List only this project. Default: all projects.")
@click.option("--key", help="List only the reservations with this key. Default: all keys.")
@instant_option("--since", "Start of the period, inclusive (ISO 8601).")
@instant_option("--until", "End of the period, exclusive (ISO 8601).")
@ledger_option
@json_option
def history_command(
    project: str | None,
    key: str | None,
    since: datetime | None,
    until: datetime | None,
    ledger: str,
    as_json: bool,
) -> None:
    """List reservations, oldest first.

    \b
    Example:
      kling-pricing history --project trailer --since 2026-11-01
    """
    with opened_guard(ledger, as_json=as_json) as guard:
        reservations = guard.history(project=project, key=key, since=since, until=until)
    show_reservations(reservations, as_json=as_json)
