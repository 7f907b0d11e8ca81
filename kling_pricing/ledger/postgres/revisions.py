"""Revisions of the budgets, and what becomes of the balances when they change: for the ledger's owner."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple, TypeVar
from uuid import uuid4

import psycopg

from kling_pricing.budgets import BudgetEntry, BudgetsFile, budgets_from_document
from kling_pricing.errors import BudgetError, LedgerUnavailableError
from kling_pricing.ledger.claims import claim
from kling_pricing.ledger.model import Alert, Reservation, Revision
from kling_pricing.ledger.postgres import codec
from kling_pricing.ledger.postgres.connection import Connection
from kling_pricing.ledger.postgres.server import Server, rows_query
from kling_pricing.money import format_decimal, multiply, nanos_up
from kling_pricing.windows import FOREVER

_OPEN = ("reserved", "dispatching", "bound")
_Answer = TypeVar("_Answer")


class _Revising(NamedTuple):
    """A transaction in which no verb runs.

    Attributes:
        ask: calls a function of the schema.
        rows: the rows of one that returns many.
        revisions: every revision, the oldest first.
        now: by the ledger's clock.
    """

    ask: Callable[..., Any]
    rows: Callable[..., Sequence[Any]]
    revisions: list[Revision]
    now: datetime


def install(server: Server, budgets: BudgetsFile) -> Revision:
    """Installs budgets if there are none; returns those in force.

    Raises:
        BudgetError: the role may not.
    """

    def work(at: _Revising) -> Revision:
        if at.revisions:
            return at.revisions[-1]
        _put(at, uuid4().hex, budgets)
        return Revision(budgets.digest, budgets.document)

    try:
        return _revised(server, work)
    except LedgerUnavailableError as error:
        if not isinstance(error.__cause__, psycopg.errors.InsufficientPrivilege):
            raise
        raise BudgetError(
            f"ledger {server.name} has no budgets yet, and this role may not install any; its administrator "
            "does, with `kling-pricing ledger init URL` and `kling-pricing budget apply FILE --ledger URL`"
        ) from error


def replace(server: Server, budgets: BudgetsFile) -> tuple[Alert, ...]:
    """Installs budgets in place of those in force.

    Returns:
        The alerts of thresholds that are reached by what was counted before.

    Raises:
        BudgetError: a budget of the same name counts otherwise, and does not carry over what was counted.
    """
    call = uuid4().hex

    def work(at: _Revising) -> tuple[Alert, ...]:
        revisions = [budgets_from_document(revision.document) for revision in at.revisions]
        if revisions and revisions[-1].digest == budgets.digest:  # the ledger's own may be of an older kind
            return codec.alerts(at.ask("revision_alerts", call))  # of this call, if its answer was lost
        in_force = {budget.name for budget in revisions[-1].budgets} if revisions else set()
        counted = {budget.name: budget.definition for revision in revisions for budget in revision.budgets}
        carried = []
        for budget in budgets.budgets:
            old = counted.get(budget.name, budget.definition)
            if revisions and (budget.name not in in_force or old != budget.definition):
                if budget.carry_over:
                    carried.append(budget)
                elif old != budget.definition:
                    raise BudgetError(
                        f"budget {budget.name} has another match, window, zone or currency than before; give "
                        "it another name, or say carry_over: true, so that it counts what was spent until now"
                    )
        return _put(at, call, budgets, carried)

    return _revised(server, work)


def _revised(server: Server, work: Callable[[_Revising], _Answer]) -> _Answer:
    def transaction(connection: Connection) -> _Answer:
        def rows(function: str, *arguments: Any) -> list[Any]:
            query = rows_query(function, len(arguments)).encode()
            return [row for (row,) in connection.execute(query, arguments)]

        def ask(function: str, *arguments: Any) -> Any:
            return rows(function, *arguments)[0]

        with connection.transaction():
            begun = ask("revision_begin")
            known = [Revision(**each) for each in begun["revisions"]]
            return work(_Revising(ask, rows, known, datetime.fromisoformat(begun["now"])))

    return server.transaction(transaction)


def _put(
    at: _Revising, call: str, budgets: BudgetsFile, carried: Sequence[BudgetEntry] = ()
) -> tuple[Alert, ...]:
    """Writes down a revision, and gives the budgets that carry over what they count from now on."""
    in_force = [
        {
            "name": budget.name,
            "definition": budget.definition,
            "currency": budget.currency,
            "cap": nanos_up(budget.cap),
            "max_request": None if budget.max_request is None else nanos_up(budget.max_request),
            "may_cap": budget.on_exceed == "cap",
            "alerts": [format_decimal(part) for part in budget.alerts],
        }
        for budget in budgets.budgets
    ]
    at.ask("put_in_force", json.dumps(in_force), at.now)
    for budget in carried:
        _carry_over(at, budgets, budget)
    return codec.alerts(at.ask("revision_end", call, budgets.digest, budgets.document, at.now))


def _carry_over(at: _Revising, budgets: BudgetsFile, budget: BudgetEntry) -> None:
    """Counts in a budget's buckets what the ledger holds of requests it matches, in windows not yet over."""
    current = budget.period(at.now)
    since = None if current in {None, FOREVER} else current.start
    for row in at.rows("reservations", None, None, "false", since, None):
        reservation = codec.reservation(row)
        own = budget.bucket_labels(reservation.labels)
        period = budget.period(reservation.created_at)
        if own is not None and period is not None and period.end > at.now:
            _carry(at, budget, own, budgets.rate(reservation.currency, budget), reservation)
    if at.ask("has_opening", budget.name, budget.definition, at.now):
        raise BudgetError(
            f"budget {budget.name} began its window with an opening balance, which cannot be carried over; "
            "give the new budget another name and open it with the whole balance"
        )


def _carry(
    at: _Revising, budget: BudgetEntry, own: dict[str, str], rate: Decimal | None, reservation: Reservation
) -> None:
    """Adds a line of one reservation to one bucket, unless it has it."""
    held, spent = (
        nanos_up(amount if rate is None else multiply(amount, rate))
        for amount in (reservation.reserved, reservation.billed or Decimal(0))
    )
    wanted = codec.claim_text(claim(budget, own, rate, reservation.created_at))
    at.ask("carry_over", reservation.id, wanted, held, spent, at.now)
