"""Shared by the commands that use a ledger: options, the opened guard, and the display of reservations."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from decimal import Decimal
from typing import Any, TypeVar

import click

from kling_pricing.cli.exit_codes import exit_codes_help
from kling_pricing.cli.failures import errors_shown
from kling_pricing.cli.output import echo, to_json
from kling_pricing.errors import KlingPricingError
from kling_pricing.guard import BudgetGuard
from kling_pricing.ledger.actions import actor_name
from kling_pricing.ledger.environment import LEDGER_VARIABLE
from kling_pricing.ledger.model import Alert, Ref, Reservation
from kling_pricing.ledger.redaction import short_text
from kling_pricing.money import format_decimal, ledger_amount
from kling_pricing.tables.price_book import PriceBook

LEDGER_EXIT_CODES = exit_codes_help(
    refused="refused by the ledger; nothing changed",
    unreadable="bad usage, unreadable input, or a ledger that cannot be used",
)
READING_EXIT_CODES = exit_codes_help(unreadable="bad usage, unreadable input, or a ledger that cannot be used")
CHARGED_HELP = "Amount charged, in the reservation's currency. Default: the quoted amount."
F = TypeVar("F", bound=Callable[..., Any])

ledger_option = click.option(
    "--ledger",
    metavar="URL",
    envvar=LEDGER_VARIABLE,
    show_envvar=True,
    required=True,
    help="Ledger URL, such as sqlite:///spend.db (a local file) or postgresql://user@host/database.",
)
ledgers_option = click.option(
    "--ledger",
    "ledgers",
    metavar="URL",
    envvar=LEDGER_VARIABLE,
    show_envvar=True,
    multiple=True,
    required=True,
    help="Ledger URL. Repeat the option for several ledgers.",
)
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


reason_option = click.option(
    "--reason", required=True, metavar="TEXT", help="Reason that `budget log` shows with your name."
)
optional_reason_option = click.option(
    "--reason", metavar="TEXT", help="Reason that `budget log` shows with your name."
)


def _actor(_ctx: click.Context, _option: click.Parameter, value: str | None) -> str:
    """Reads the name of an actor; by default, the name of the system's user."""
    try:
        return actor_name(value)
    except KlingPricingError as error:
        raise click.BadParameter(str(error)) from None


actor_option = click.option(
    "--actor",
    metavar="NAME",
    callback=_actor,
    help="Your name for `budget log`. Default: your user name on this system.",
)


def _labels(_ctx: click.Context, _option: click.Parameter, values: tuple[str, ...]) -> dict[str, str]:
    pairs = [value.partition("=") for value in values]
    names = [label for label, _, _ in pairs]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise click.BadParameter(f"label {twice} is given more than once; give each label only once")
    if wrong := next((label for label, equals, value in pairs if not (label and equals and value)), None):
        raise click.BadParameter(f"{wrong!r} is not a label with a value; write LABEL=VALUE, such as user=li")
    return {label: value for label, _, value in pairs}


labels_option = click.option(
    "--label",
    "labels",
    multiple=True,
    callback=_labels,
    metavar="LABEL=VALUE",
    help="Label that budgets can match, such as user=li. Repeat the option for several labels.",
)


def read_account(_ctx: click.Context, _option: click.Parameter, value: str | None) -> str | None:
    """Reads the name of an account."""
    try:
        return None if value is None else short_text("the account", value)
    except KlingPricingError as error:
        raise click.BadParameter(str(error)) from None


account_option = click.option(
    "--account",
    metavar="NAME",
    callback=read_account,
    help="Your own name for the account at the provider that the job is sent with. Default: the provider's "
    "name.",
)


def read_amount(_ctx: click.Context, _option: click.Parameter, value: str | None) -> Decimal | None:
    """Reads an amount that a ledger can hold."""
    try:
        return None if value is None else ledger_amount(value)
    except KlingPricingError as error:
        raise click.BadParameter(str(error)) from None


def read_ref(_ctx: click.Context, _argument: click.Parameter, value: str | None) -> Ref | None:
    """Reads a reservation's id, or the provider and the task id from `PROVIDER:TASK_ID`."""
    return None if value is None else reference(value)


def reference(text: str) -> Ref:
    """Returns the reservation that a text names: its id, or `PROVIDER:TASK_ID`."""
    provider, colon, task_id = text.partition(":")
    return (provider, task_id) if colon else text


def _task_id(_ctx: click.Context, _argument: click.Parameter, value: str) -> str:
    try:
        return short_text("the task id", value)
    except KlingPricingError as error:
        raise click.BadParameter(str(error)) from None


task_id_argument = click.argument("task_id", callback=_task_id)
ref_argument = click.argument("ref", metavar="REF", callback=read_ref)


_GUARD_LOG = logging.getLogger("kling_pricing.guard")


@contextmanager
def opened_guard(
    ledger: str,
    *,
    budgets: str | None = None,
    book: PriceBook | None = None,
    actor: str | None = None,
    as_json: bool = False,
) -> Iterator[BudgetGuard]:
    """Opens a guard on the ledger. An error in the block ends the command with a message and an exit code."""
    with errors_shown(as_json=as_json):
        guard = BudgetGuard(ledger, budgets, book=book, on_alert=show_alert, actor=actor)
        _GUARD_LOG.addHandler(logging.NullHandler())  # its warnings are alerts here
        try:
            yield guard
        finally:
            guard.close()


def show_alert(alert: Alert) -> None:
    """Prints an alert on standard error."""
    if alert.kind == "charge":
        budget = f" (budget {alert.budget})"
        echo(f"alert: reservation {alert.reservation_id}{budget}: {alert.detail}", err=True)
        return
    labels = ", ".join(f"{label} {value}" for label, value in alert.labels.items())
    budget = f"{alert.budget} ({labels})" if labels else alert.budget
    used = f"{format_decimal(alert.used)} of {format_decimal(alert.cap)} {alert.currency}"
    overrun = "a charge exceeds its reservation; " if alert.kind == "overrun" else ""
    reservation = f" (reservation {alert.reservation_id})" if alert.reservation_id else ""
    echo(f"alert: {overrun}budget {budget} has used {used}{reservation}", err=True)


def reservation_dict(reservation: Reservation) -> dict[str, Any]:
    """Returns a reservation as JSON-ready data; amounts are text, instants are ISO 8601."""
    fields = reservation.as_dict() | {
        "labels": dict(reservation.labels),
        "changes": dict(reservation.changes),
    }
    for name in ("expected", "reserved", "billed", "quantity", "unit_value"):
        fields[name] = None if fields[name] is None else format_decimal(fields[name])
    for name in ("created_at", "dispatched_at", "closed_at", "deadline"):
        fields[name] = fields[name] and fields[name].isoformat()
    del fields["fingerprint"]
    return fields


def show_reservation(reservation: Reservation, *, as_json: bool) -> None:
    """Prints the state of a reservation."""
    if as_json:
        echo(to_json(reservation_dict(reservation)))
        return
    task = f", task {reservation.task_id}" if reservation.task_id else ""
    amount = "nothing to pay" if reservation.state == "released" else _amount(reservation)
    echo(f"{reservation.id}: {_state(reservation)}, {amount}{task}{_charge_problem(reservation, '; ')}")


def show_reservations(reservations: list[Reservation], *, as_json: bool) -> None:
    """Prints a table of reservations."""
    if as_json:
        for reservation in reservations:
            echo(to_json(reservation_dict(reservation)))
        return
    if not reservations:
        echo("no reservations")
        return
    from rich.table import Column, Table  # noqa: PLC0415 (slow to import)

    from kling_pricing.cli.terminal import print_table  # noqa: PLC0415 (imports rich)

    grid = Table(
        *(
            Column(name, no_wrap=True, overflow="fold")
            for name in ("Reservation", "Project", "Key", "State", "Amount", "Model", "Task", "Created (UTC)")
        )
    )
    for reservation in reservations:
        grid.add_row(
            reservation.id,
            reservation.project,
            reservation.key,
            _state(reservation),
            _amount(reservation),
            reservation.model,
            reservation.task_id or "",
            f"{reservation.created_at:%Y-%m-%d %H:%M}",
        )
    print_table(grid)
    for reservation in reservations:
        if problem := _charge_problem(reservation, f"{reservation.id}: "):
            echo(problem)


def _charge_problem(reservation: Reservation, before: str) -> str:
    """Returns some text and why a finished job is in doubt; empty if its charge is clear."""
    is_open = reservation.in_doubt and reservation.state in {"bound", "settled"}
    return f"{before}{reservation.reason}" if is_open else ""


def _state(reservation: Reservation) -> str:
    return f"{reservation.state}, in doubt" if reservation.in_doubt else reservation.state


def _amount(reservation: Reservation) -> str:
    amount = reservation.reserved if reservation.billed is None else reservation.billed
    return f"{format_decimal(amount)} {reservation.currency}"
