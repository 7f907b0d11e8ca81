"""What the commands that use a ledger share: their options, their errors, how a reservation is shown."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

import click
from rich.table import Column, Table

from kling_pricing.cli.output import error_dict, error_text, print_table, to_json
from kling_pricing.errors import BudgetError, KlingPricingError, LedgerUnavailableError
from kling_pricing.guard import BudgetGuard
from kling_pricing.ledger.model import Alert, Ref, Reservation
from kling_pricing.money import format_decimal
from kling_pricing.tables.price_table import PriceBook

LEDGER_VARIABLE = "KLING_PRICING_LEDGER"
_REFUSED, _UNUSABLE = 1, 2
F = TypeVar("F", bound=Callable[..., Any])

ledger_option = click.option(
    "--ledger",
    metavar="URL",
    envvar=LEDGER_VARIABLE,
    show_envvar=True,
    required=True,
    help="The ledger: sqlite:///spend.db is a file of this folder, postgresql://... a database.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def _labels(_ctx: click.Context, _option: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    pairs = [value.partition("=") for value in values]
    names = [label for label, _, _ in pairs]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise click.BadParameter(f"{twice} is given twice; keep one of them")
    if wrong := next((label for label, equals, value in pairs if not (label and equals and value)), None):
        raise click.BadParameter(f"{wrong!r} is not LABEL=VALUE, such as user=li")
    return {label: value for label, _, value in pairs}


labels_option = click.option(
    "--label", "labels", multiple=True, callback=_labels, metavar="LABEL=VALUE", help="What budgets may match."
)


def read_ref(_ctx: click.Context, _argument: click.Parameter, value: str | None) -> Ref | None:
    """A reservation's id, or the provider and task of `PROVIDER:TASK_ID`."""
    if value is None or ":" not in value:
        return value
    provider, _, task_id = value.partition(":")
    return provider, task_id


ref_argument = click.argument("ref", metavar="REF", callback=read_ref)


@contextmanager
def opened_guard(
    ledger: str, *, budgets: str | None = None, book: PriceBook | None = None, as_json: bool = False
) -> Iterator[BudgetGuard]:
    """A guard on the ledger; an error inside the block becomes a message and an exit code."""
    with errors_shown(as_json=as_json):
        guard = BudgetGuard(ledger, budgets, book=book, on_alert=show_alert)
        try:
            yield guard
        finally:
            guard.close()


@contextmanager
def errors_shown(*, as_json: bool) -> Iterator[None]:
    """Turns an error into a message and an exit code: 1 refused, 2 a ledger or budgets that cannot be used."""
    try:
        yield
    except KlingPricingError as error:
        unusable = isinstance(error, BudgetError | LedgerUnavailableError)
        if as_json:
            click.echo(to_json(error_dict(error)))
        else:
            click.echo(error_text(error, "unusable" if unusable else "refused"), err=True)
        sys.exit(_UNUSABLE if unusable else _REFUSED)


def show_alert(alert: Alert) -> None:
    """Tells of an alert on standard error."""
    of = "".join(f" of {label} {value}" for label, value in alert.labels.items())
    used = f"{format_decimal(alert.used)} of {format_decimal(alert.cap)} {alert.currency}"
    why = "a bill was above what was set aside; " if alert.kind == "overrun" else ""
    whose = f" ({alert.reservation_id})" if alert.reservation_id else ""
    click.echo(f"alert: {why}budget {alert.budget}{of} has used {used}{whose}", err=True)


def reservation_dict(reservation: Reservation) -> dict[str, Any]:
    """A reservation as JSON-ready data; amounts are text, instants ISO 8601."""
    found = reservation.as_dict() | {"labels": dict(reservation.labels), "changes": dict(reservation.changes)}
    for name in ("expected", "reserved", "billed", "quantity", "unit_value"):
        found[name] = None if found[name] is None else format_decimal(found[name])
    for name in ("created_at", "dispatched_at", "closed_at", "deadline"):
        found[name] = found[name] and found[name].isoformat()
    del found["fingerprint"]
    return found


def show_reservation(reservation: Reservation, *, as_json: bool) -> None:
    """Prints how a reservation now stands."""
    if as_json:
        click.echo(to_json(reservation_dict(reservation)))
        return
    amount = reservation.reserved if reservation.billed is None else reservation.billed
    state = f"{reservation.state}, in doubt" if reservation.in_doubt else reservation.state
    task = f", task {reservation.task_id}" if reservation.task_id else ""
    paid = (
        "nothing to pay"
        if reservation.state == "released"
        else f"{format_decimal(amount)} {reservation.currency}"
    )
    click.echo(f"{reservation.id}: {state}, {paid}{task}")


def show_reservations(found: list[Reservation], *, as_json: bool) -> None:
    """Prints a table of reservations."""
    if as_json:
        for each in found:
            click.echo(to_json(reservation_dict(each)))
        return
    if not found:
        click.echo("no reservations")
        return
    grid = Table(
        *(
            Column(name, no_wrap=True, overflow="fold")
            for name in ("reservation", "project", "key", "state", "amount", "model", "task", "since")
        )
    )
    for each in found:
        amount = each.reserved if each.billed is None else each.billed
        grid.add_row(
            each.id,
            each.project,
            each.key,
            f"{each.state}, in doubt" if each.in_doubt else each.state,
            f"{format_decimal(amount)} {each.currency}",
            each.model,
            each.task_id or "",
            f"{each.created_at:%Y-%m-%d %H:%M}",
        )
    print_table(grid)
