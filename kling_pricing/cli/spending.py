"""The commands that move money: a shell script can use the whole guard with them."""

from __future__ import annotations

import sys
from datetime import datetime
from typing import Any

import click

from kling_pricing.cli.inputs import only_request, whole
from kling_pricing.cli.ledger_options import (
    json_option,
    labels_option,
    ledger_option,
    opened_guard,
    read_ref,
    ref_argument,
    show_reservation,
    show_reservations,
)
from kling_pricing.cli.options import instant_option, provider_options
from kling_pricing.cli.output import error_dict, to_json
from kling_pricing.errors import KlingPricingError
from kling_pricing.ledger.model import BASES, Basis, Ref
from kling_pricing.money import exact_amount, format_decimal
from kling_pricing.tables.price_table import PriceBook

_UNREADABLE = 2


@click.command("pre-submit")
@click.argument("file", metavar="FILE|-")
@click.option("--project", required=True, help="Whose request it is.")
@click.option("--key", help="Your name for the job: the same key never makes a second one.")
@labels_option
@ledger_option
@click.option("--budgets", metavar="FILE", help="Budgets to install, if the ledger has none yet.")
@provider_options
@json_option
def pre_submit_command(
    file: str,
    project: str,
    key: str | None,
    labels: dict[str, str],
    ledger: str,
    budgets: str | None,
    book: PriceBook,
    as_json: bool,
    **said: Any,
) -> None:
    """Set aside what a request will cost, and print the payload to submit.

    FILE holds one JSON request; - is standard input. What is printed is given out once: submit it, then `bind`
    the task that the provider answers with. Where a budget caps, the payload may be cheaper than FILE.

    Exit codes: 0 submit what is printed; 1 refused, submit nothing; 2 bad usage, or nothing can be decided.
    """
    try:
        _, payload = only_request(file)
    except KlingPricingError as error:
        click.echo(to_json(error_dict(error)) if as_json else str(error), err=not as_json)
        sys.exit(_UNREADABLE)
    with opened_guard(ledger, budgets=budgets, book=book, as_json=as_json) as guard:
        admission = guard.admit(payload, project=project, key=key, labels=labels, **said)
        body = guard.dispatch(admission)
    reserved = admission.reservation
    if as_json:
        found = {
            "reservation_id": admission.reservation_id,
            "key": reserved.key,
            "reserved": format_decimal(reserved.reserved),
            "currency": reserved.currency,
            "capped": admission.capped,
            "changes": dict(admission.changes),
            "payload": body,
        }
        click.echo(to_json(found))
        return
    capped = "".join(f", {setting} made {value}" for setting, value in admission.changes.items())
    click.echo(
        f"reserved {format_decimal(reserved.reserved)} {reserved.currency} as {reserved.id}{capped}", err=True
    )
    click.echo(to_json(body))


@click.command("bind")
@ref_argument
@click.argument("task_id")
@ledger_option
@json_option
def bind_command(ref: Ref, task_id: str, ledger: str, as_json: bool) -> None:
    """Note that reservation REF became the provider's task TASK_ID.

    REF is the id that `pre-submit` printed.
    """
    with opened_guard(ledger, as_json=as_json) as guard:
        show_reservation(guard.bind(ref, task_id), as_json=as_json)


@click.command("observe")
@click.argument("file", metavar="FILE|-")
@click.option("--provider", required=True, help="Who answered.")
@click.option(
    "--reservation", callback=read_ref, help="Whose answer it is, where its task is not bound yet: its id."
)
@click.option("--wire-format", help="The API that answered; by default the reservation's.")
@ledger_option
@json_option
def observe_command(
    file: str, provider: str, reservation: Ref | None, wire_format: str | None, ledger: str, as_json: bool
) -> None:
    """Take in an answer of the provider: a submit or status response, or the body of a callback.

    A finished task settles its reservation. Repeating it changes nothing.
    """
    try:
        body = whole(file)
    except KlingPricingError as error:
        click.echo(to_json(error_dict(error)) if as_json else str(error), err=not as_json)
        sys.exit(_UNREADABLE)
    with opened_guard(ledger, as_json=as_json) as guard:
        found = guard.observe(body, provider=provider, reservation=reservation, wire_format=wire_format)
        if found is not None:
            show_reservation(found, as_json=as_json)
        else:
            click.echo("null" if as_json else "remembered; no reservation has this task yet")


@click.command("settle")
@ref_argument
@click.option("--amount", help="What was charged, in the reservation's currency; by default the quote.")
@click.option("--basis", type=click.Choice(BASES), help="What the amount rests on, the weakest first.")
@ledger_option
@json_option
def settle_command(ref: Ref, amount: str | None, basis: Basis | None, ledger: str, as_json: bool) -> None:
    """Spend what the job of reservation REF cost, in place of what was set aside.

    REF is its id, or PROVIDER:TASK_ID.
    """
    with opened_guard(ledger, as_json=as_json) as guard:
        found = guard.settle(ref, amount, basis=basis)
        show_reservation(found, as_json=as_json)
    if amount is not None and exact_amount(amount) != found.billed:
        click.echo(f"it stays as it was: it rests on the {found.basis}, which outweighs {amount}", err=True)


@click.command("release")
@ref_argument
@click.option("--refused", is_flag=True, help="It was sent, and the provider definitely did not accept it.")
@click.option("--reason", default="released", show_default=True, help="Kept with the reservation.")
@ledger_option
@json_option
def release_command(ref: Ref, refused: bool, reason: str, ledger: str, as_json: bool) -> None:
    """Give back what was set aside as reservation REF, which was not sent, or (--refused) not accepted.

    After a timeout or a 5xx answer nobody knows; leave it in doubt, and `resolve` it later.
    REF is its id, or PROVIDER:TASK_ID.
    """
    with opened_guard(ledger, as_json=as_json) as guard:
        found = guard.release_refused(ref, reason) if refused else guard.release(ref, reason)
        show_reservation(found, as_json=as_json)


@click.command("resolve")
@ref_argument
@click.option(
    "--charged/--not-charged", default=None, help="What the provider's own pages say; one of them is needed."
)
@click.option("--amount", help="What was charged; by default the quote.")
@ledger_option
@json_option
def resolve_command(ref: Ref, charged: bool | None, amount: str | None, ledger: str, as_json: bool) -> None:
    """Decide what became of reservation REF, which was sent, on the word of whoever looked it up.

    REF is its id, or PROVIDER:TASK_ID. What is settled already is corrected with `settle --basis operator`.
    """
    if charged is None:
        raise click.UsageError("give --charged or --not-charged")
    if amount is not None and not charged:
        raise click.UsageError("give --amount with --charged only")
    with opened_guard(ledger, as_json=as_json) as guard:
        found = guard.resolve(ref, "charged" if charged else "not_charged", amount=amount)
        show_reservation(found, as_json=as_json)


@click.command("record")
@click.argument("provider")
@click.argument("task_id")
@click.argument("amount")
@click.option("--project", required=True, help="Whose spend it is.")
@labels_option
@instant_option("--at", "When it was spent; by default now.")
@click.option("--currency", help="Of the amount; by default the provider's.")
@ledger_option
@json_option
def record_command(
    provider: str,
    task_id: str,
    amount: str,
    project: str,
    labels: dict[str, str],
    at: datetime | None,
    currency: str | None,
    ledger: str,
    as_json: bool,
) -> None:
    """Book AMOUNT that was spent elsewhere on TASK_ID of PROVIDER, whatever the caps say."""
    with opened_guard(ledger, as_json=as_json) as guard:
        found = guard.record(
            provider, task_id, amount, labels={**labels, "project": project}, at=at, currency=currency
        )
        show_reservation(found, as_json=as_json)


@click.command("history")
@click.option("--project", help="Only this project's.")
@click.option("--key", help="Only the attempts of this key.")
@instant_option("--since", "Only from this instant on.")
@instant_option("--until", "Only before this instant.")
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
    """List reservations, the oldest first."""
    with opened_guard(ledger, as_json=as_json) as guard:
        found = guard.history(project=project, key=key, since=since, until=until)
    show_reservations(found, as_json=as_json)


@click.command("verify")
@ledger_option
def verify_command(ledger: str) -> None:
    """Derive every balance from the journal once more, and compare."""
    with opened_guard(ledger) as guard:
        guard.verify()
    click.echo("sound: the balances are what the journal says")
