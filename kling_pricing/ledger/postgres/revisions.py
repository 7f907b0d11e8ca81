"""Installs revisions of the budgets, and adjusts the balances to them. Only the ledger's owner may do this."""

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
from kling_pricing.ledger.postgres.locks import limit_locks, locks_explained
from kling_pricing.ledger.postgres.server import Server, rows_query
from kling_pricing.money import format_decimal, multiply, nanos_up
from kling_pricing.windows import FOREVER

_OPEN = ("reserved", "dispatching", "bound")
_Answer = TypeVar("_Answer")


class _Revising(NamedTuple):
    """A transaction during which no verb runs.

    Attributes:
        call: calls a function of the schema and returns its only row.
        rows: calls a function of the schema and returns all its rows.
        revisions: every revision, the oldest first.
        now: the instant on the ledger's clock.
    """

    call: Callable[..., Any]
    rows: Callable[..., Sequence[Any]]
    revisions: list[Revision]
    now: datetime


def install(server: Server, budgets: BudgetsFile) -> Revision:
    """Installs budgets if the ledger has none yet, and returns the budgets in force.

    Raises:
        BudgetError: the role may not install budgets.
    """

    def work(revising: _Revising) -> Revision:
        if revising.revisions:
            return revising.revisions[-1]
        _put(revising, uuid4().hex, budgets)
        return Revision(budgets.digest, budgets.document)

    try:
        return _revised(server, work)
    except LedgerUnavailableError as error:
        if not isinstance(error.__cause__, psycopg.errors.InsufficientPrivilege):
            raise
        raise BudgetError(
            f"ledger {server.name} has no budgets yet, and this role may not install any; ask the ledger's "
            "administrator to run `kling-pricing ledger init URL` and then `kling-pricing budget apply FILE "
            "--ledger URL`"
        ) from error


def replace(server: Server, budgets: BudgetsFile) -> tuple[Alert, ...]:
    """Replaces the budgets in force.

    Returns:
        Alerts for the new thresholds that existing balances already reach.

    Raises:
        BudgetError: a budget has the name of an earlier one but a different match, window, zone or currency,
            and does not carry over the earlier spend.
    """
    call_id = uuid4().hex

    def work(revising: _Revising) -> tuple[Alert, ...]:
        revisions = [budgets_from_document(revision.document) for revision in revising.revisions]
        # computes the digest again, because the stored digest may come from an older release
        if revisions and revisions[-1].digest == budgets.digest:
            # the budgets may be in force because of this very call, if its response was lost
            return codec.alerts(revising.call("revision_alerts", call_id))
        in_force = {budget.name for budget in revisions[-1].budgets} if revisions else set()
        definitions = {budget.name: budget.definition for revision in revisions for budget in revision.budgets}
        carrying_over = []
        for budget in budgets.budgets:
            old = definitions.get(budget.name, budget.definition)
            if revisions and (budget.name not in in_force or old != budget.definition):
                if budget.carry_over:
                    carrying_over.append(budget)
                elif old != budget.definition:
                    raise BudgetError(
                        f"budget {budget.name} now has a different match, window, time zone or currency; "
                        "give the budget another name, or set carry_over: true so that the budget counts "
                        "earlier spend"
                    )
        return _put(revising, call_id, budgets, carrying_over)

    return _revised(server, work)


def _revised(server: Server, work: Callable[[_Revising], _Answer]) -> _Answer:
    def transaction(connection: Connection) -> _Answer:
        def rows(function: str, *arguments: Any) -> list[Any]:
            query = rows_query(function, len(arguments)).encode()
            return [row for (row,) in connection.execute(query, arguments)]

        def call(function: str, *arguments: Any) -> Any:
            return rows(function, *arguments)[0]

        with connection.transaction():
            limit_locks(connection)
            ledger_state = call("revision_begin")
            revisions = [Revision(**columns) for columns in ledger_state["revisions"]]
            return work(_Revising(call, rows, revisions, datetime.fromisoformat(ledger_state["now"])))

    with locks_explained(server.name):
        return server.transaction(transaction)


def _put(
    revising: _Revising, call_id: str, budgets: BudgetsFile, carrying_over: Sequence[BudgetEntry] = ()
) -> tuple[Alert, ...]:
    """Writes a revision, and adds earlier reservations to the budgets that carry over."""
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
    revising.call("put_in_force", json.dumps(in_force), revising.now)
    for budget in carrying_over:
        _carry_over(revising, budgets, budget)
    return codec.alerts(revising.call("revision_end", call_id, budgets.digest, budgets.document, revising.now))


def _carry_over(revising: _Revising, budgets: BudgetsFile, budget: BudgetEntry) -> None:
    """Adds existing reservations that a budget matches to its buckets, for windows that are not over."""
    current = budget.period(revising.now)
    since = None if current in {None, FOREVER} else current.start
    for row in revising.rows("reservations", None, None, "false", since, None):
        reservation = codec.reservation(row)
        bucket_labels = budget.bucket_labels(reservation.labels)
        period = budget.period(reservation.created_at)
        if bucket_labels is not None and period is not None and period.end > revising.now:
            _carry(revising, budget, bucket_labels, budgets.rate(reservation.currency, budget), reservation)
    if revising.call("has_opening", budget.name, budget.definition, revising.now):
        raise BudgetError(
            f"budget {budget.name} began its window with an opening balance, which cannot be carried over; "
            "give the new budget another name, and record everything spent so far in its window with "
            "`kling-pricing budget open`"
        )


def _carry(
    revising: _Revising,
    budget: BudgetEntry,
    labels: dict[str, str],
    rate: Decimal | None,
    reservation: Reservation,
) -> None:
    """Adds a reservation to a bucket, unless the bucket already counts it."""
    held, spent = (
        nanos_up(amount if rate is None else multiply(amount, rate))
        for amount in (reservation.reserved, reservation.billed or Decimal(0))
    )
    bucket_claim = codec.claim_text(claim(budget, labels, rate, reservation.created_at))
    revising.call("carry_over", reservation.id, bucket_claim, held, spent, revising.now)
