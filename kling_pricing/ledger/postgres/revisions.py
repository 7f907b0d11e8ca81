"""Installs revisions of the budgets, and adjusts the balances to them. Only the ledger's owner may do this."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, NamedTuple, TypeVar
from uuid import uuid4

import psycopg

from kling_pricing.budgets import BudgetEntry, BudgetsFile, budgets_from_document
from kling_pricing.errors import BudgetError, LedgerUnavailableError
from kling_pricing.ledger.actions import Author
from kling_pricing.ledger.calendars import CalendarChange, Uncalendared, calendar_changes
from kling_pricing.ledger.errors import no_rate
from kling_pricing.ledger.model import Alert, Revision
from kling_pricing.ledger.postgres import codec
from kling_pricing.ledger.postgres.connection import Connection
from kling_pricing.ledger.postgres.locks import limit_locks, locks_explained
from kling_pricing.ledger.postgres.server import Refusal, Server, rows_query
from kling_pricing.ledger.verification import row_in_force
from kling_pricing.windows import FOREVER, Period

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


def install(server: Server, budgets: BudgetsFile, author: Author) -> Revision:
    """Installs budgets if the ledger has none yet, and returns the budgets in force.

    Raises:
        BudgetError: the role may not install budgets.
    """

    def work(revising: _Revising) -> Revision:
        if revising.revisions:
            return revising.revisions[-1]
        put_calendar(revising, budgets)
        _put(revising, uuid4().hex, budgets, author)
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


def replace(server: Server, budgets: BudgetsFile, author: Author) -> tuple[Alert, ...]:
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
        put_calendar(revising, budgets)
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
        return _put(revising, call_id, budgets, author, carrying_over)

    return _revised(server, work)


def _revised(server: Server, work: Callable[[_Revising], _Answer]) -> _Answer:
    def transaction(connection: Connection) -> _Answer:
        with connection.transaction():
            limit_locks(connection)
            return work(_begun(connection))

    try:
        with locks_explained(server.name):
            return server.transaction(transaction)
    except Refusal as refusal:
        raise no_rate(**refusal.about) from None


def _begun(connection: Connection) -> _Revising:
    def rows(function: str, *arguments: Any) -> list[Any]:
        query = rows_query(function, len(arguments)).encode()
        return [row for (row,) in connection.execute(query, arguments)]

    def call(function: str, *arguments: Any) -> Any:
        return rows(function, *arguments)[0]

    ledger_state = call("revision_begin")
    revisions = [Revision(**columns) for columns in ledger_state["revisions"]]
    return _Revising(call, rows, revisions, datetime.fromisoformat(ledger_state["now"]))


def _put(
    revising: _Revising,
    call_id: str,
    budgets: BudgetsFile,
    author: Author,
    carrying_over: Sequence[BudgetEntry] = (),
) -> tuple[Alert, ...]:
    """Writes a revision, and adds earlier reservations to the budgets that carry over."""
    revising.call("put_in_force", in_force_text(budgets), revising.now)
    for budget in carrying_over:
        _carry_over(revising, budgets, budget)
    end = (call_id, budgets.digest, budgets.document, revising.now, *author)
    return codec.alerts(revising.call("revision_end", *end))


def in_force_text(budgets: BudgetsFile) -> str:
    """Returns the rows of the budgets in force as JSON."""
    return json.dumps([row_in_force(budget, place) for place, budget in enumerate(budgets.budgets)])


def put_calendar(revising: _Revising, budgets: BudgetsFile, earlier: Uncalendared | None = None) -> None:
    """Makes the calendar reach years ahead for budgets, by the time zone data of this machine."""
    changes = calendar_changes_for(budgets, revising.rows("windows", None), revising.now, earlier)
    if not changes:
        return
    revisions = [budgets_from_document(revision.document) for revision in revising.revisions]
    schedules = {budget.definition: budget.schedule for revision in revisions for budget in revision.budgets}
    texts = [
        {
            "schedule": change.schedule,
            "zone_data": change.zone_data,
            "windows": [[bound.isoformat() for bound in window] for window in change.past + change.after],
        }
        for change in changes
    ]
    is_replaced = not all(change.is_new for change in changes)
    revising.call("put_calendar", json.dumps(texts), json.dumps(schedules), is_replaced, revising.now)


def calendar_changes_for(
    budgets: BudgetsFile, rows: Sequence[Any], now: datetime, earlier: Uncalendared | None = None
) -> tuple[CalendarChange, ...]:
    """Returns the changes that a calendar needs for budgets, see `calendar_changes`.

    Args:
        budgets: the budgets that will be in force.
        rows: the rows of the calendar from the server.
        now: the instant on the ledger's clock.
        earlier: the windows of the buckets of a ledger that has no calendar yet.
    """
    kept: dict[str, list[Period]] = {}
    for window in map(codec.window, rows):
        kept.setdefault(window.schedule, []).append(window.period)
    return calendar_changes(budgets, kept, now, earlier)


def _carry_over(revising: _Revising, budgets: BudgetsFile, budget: BudgetEntry) -> None:
    """Adds existing reservations that a budget matches to its buckets, for windows that are not over."""
    rates = json.dumps([rate.model_dump(mode="json") for rate in budgets.accounting_rates])
    revising.call("carry_over", budget.name, rates, revising.now)
    if revising.call("has_opening", budget.name, budget.definition, revising.now):
        raise BudgetError(
            f"budget {budget.name} began its window with an opening balance, which cannot be carried over; "
            "give the new budget another name, and record everything spent so far in its window with "
            "`kling-pricing budget open`"
        )


def make_calendar(connection: Connection) -> None:
    """Makes the calendar of a ledger that has none yet, in the transaction of its migration.

    Open buckets keep their windows.
    """
    revising = _begun(connection)
    if not revising.revisions:
        return
    budgets = budgets_from_document(revising.revisions[-1].document)
    entries = [
        entry for revision in revising.revisions for entry in budgets_from_document(revision.document).budgets
    ]
    schedules = {entry.definition: entry.schedule for entry in entries}
    opened, oldest = {}, revising.now
    for definition, *bounds in sorted(revising.rows("windows_of_buckets"), reverse=True):
        window = Period(*map(datetime.fromisoformat, bounds))
        if window != FOREVER:
            oldest = min(oldest, window.start)
            if window.start <= revising.now < window.end:
                opened[schedules.get(definition, definition)] = window
    revising.call("put_in_force", in_force_text(budgets), revising.now)
    put_calendar(revising, budgets, Uncalendared(opened, oldest))
