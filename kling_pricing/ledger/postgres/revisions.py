"""Installs revisions of the budgets, and adjusts the balances to them. Only the ledger's owner may do this."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple, TypeVar
from uuid import uuid4

import psycopg

from kling_pricing.budgets import BudgetEntry, BudgetsFile, Consent, budgets_from_document
from kling_pricing.budgets.differences import ensure_known
from kling_pricing.errors import BudgetError, LedgerError
from kling_pricing.ledger.actions import Author, CapOverlay, cap_value, value_text
from kling_pricing.ledger.calendars import CalendarChange, Uncalendared, calendar_changes, is_current
from kling_pricing.ledger.carry_over import (
    budget_named,
    carrying_over,
    ensure_agreed,
    of_another_currency,
    with_cap,
)
from kling_pricing.ledger.errors import no_rate
from kling_pricing.ledger.freezing import require_thawed
from kling_pricing.ledger.model import Alert, Revision
from kling_pricing.ledger.postgres import codec
from kling_pricing.ledger.postgres.connection import Connection
from kling_pricing.ledger.postgres.interventions import freeze_of
from kling_pricing.ledger.postgres.locks import limit_locks, locks_explained
from kling_pricing.ledger.postgres.server import Refusal, Server, rows_query
from kling_pricing.ledger.verification import row_in_force
from kling_pricing.money import nanos_up
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
    """Installs budgets if the ledger has none yet, and returns the current budgets.

    Raises:
        BudgetError: the role may not install budgets.
    """

    def work(revising: _Revising) -> Revision:
        if revising.revisions:
            return revising.revisions[-1]
        put_calendar(revising, budgets)
        _put(revising, uuid4().hex, budgets, _applied(None, budgets, author))
        return Revision(budgets.digest, budgets.document)

    try:
        return _revised(server, work)
    except LedgerError as error:
        if not isinstance(error.__cause__, psycopg.errors.InsufficientPrivilege):
            raise
        raise BudgetError(
            f"ledger {server.name} has no budgets yet, and this role may not install any; ask the ledger's "
            "administrator to run `kling-pricing ledger init URL` and then `kling-pricing budget apply FILE "
            "--ledger URL`"
        ) from error


def replace(server: Server, budgets: BudgetsFile, author: Author, consent: Consent) -> tuple[Alert, ...]:
    """Replaces the current budgets.

    Returns:
        Alerts for the new thresholds that existing balances already reach.

    Raises:
        BudgetWeakenedError: a budget is removed or protection becomes weaker without consent.
        BudgetError: a budget has the name of an earlier one but a different match, window, zone or currency,
            and does not carry over the earlier spend.
    """
    call_id = uuid4().hex

    def work(revising: _Revising) -> tuple[Alert, ...]:
        if not revising.revisions:
            ensure_known(consent.remove, ())
            put_calendar(revising, budgets)
            return _put(revising, call_id, budgets, _applied(None, budgets, author))
        before = revising.revisions[-1]
        installed = budgets_from_document(before.document)
        require_thawed(map(freeze_of, revising.rows("freezes")), installed, budgets)
        revisions = [budgets_from_document(revision.document) for revision in revising.revisions]
        known = [budget for revision in revisions for budget in revision.budgets]
        ensure_known(consent.remove, {budget.name for budget in known})
        put_calendar(revising, budgets)
        # computes the digest again, because the stored digest may come from an older release
        if installed.digest == budgets.digest:
            # the budgets may be in force because of this very call, if its response was lost
            return codec.alerts(revising.call("revision_alerts", call_id))
        carried = carrying_over(budgets, installed, known)
        ensure_agreed(before, installed, budgets, consent)
        for name in of_another_currency(budgets, installed):
            revising.call("end_cap_overlays", name)
        return _put(revising, call_id, budgets, _applied(before, budgets, author), carried)

    return _revised(server, work)


def set_cap(
    server: Server, name: str, cap: Decimal, until: datetime | None, author: Author
) -> tuple[Alert, ...]:
    """See `Ledger.set_cap`."""
    call_id = uuid4().hex

    def work(revising: _Revising) -> tuple[Alert, ...]:
        if not revising.revisions:
            raise LedgerError("the ledger has no budgets yet; run `kling-pricing budget apply FILE`")
        before, now = revising.revisions[-1], revising.now
        budget = budget_named(budgets_from_document(before.document), name)
        newest = {row["budget"]: codec.cap_overlay(row) for row in revising.rows("cap_overlays")}.get(name)
        overlay = newest if newest is not None and newest.until > now else None
        wanted = None if until is None else CapOverlay(name, cap, now, until, author.actor, author.reason)
        old, new = value_text(cap_value(budget.cap, overlay)), value_text(cap_value(cap, wanted))
        if wanted is not None and overlay is not None and overlay == wanted._replace(set_at=overlay.set_at):
            return codec.alerts(revising.call("revision_alerts", call_id))
        if wanted is None and overlay is None and budget.cap == cap:
            return codec.alerts(revising.call("revision_alerts", call_id))
        if wanted is None and budget.cap != cap:
            revising.call("end_cap_overlays", name)
            by = (*author, "set", name, old, new)
            return _put(revising, call_id, with_cap(before.document, name, cap), by)
        nanos = None if wanted is None else nanos_up(cap)
        return codec.alerts(revising.call("set_cap", call_id, name, nanos, until, now, *author, old, new))

    return _revised(server, work)


def _applied(before: Revision | None, budgets: BudgetsFile, author: Author) -> tuple[str | None, ...]:
    """Returns the author and the administrative action of a revision, as the arguments of `revision_end`."""
    return (*author, "apply", "budgets", None if before is None else before.document, budgets.document)


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
    action: Sequence[str | None],
    carried: Sequence[BudgetEntry] = (),
) -> tuple[Alert, ...]:
    """Writes a revision and its administrative action, and adds earlier reservations to `carried`."""
    revising.call("put_in_force", in_force_text(budgets), revising.now)
    for budget in carried:
        _carry_over(revising, budgets, budget)
    revising.call("end_cap_overlays", None)
    end = (call_id, budgets.digest, budgets.document, revising.now, *action)
    return codec.alerts(revising.call("revision_end", *end))


def in_force_text(budgets: BudgetsFile) -> str:
    """Returns the rows of the current budgets as JSON."""
    return json.dumps([row_in_force(budget, place) for place, budget in enumerate(budgets.budgets)])


def put_calendar(revising: _Revising, budgets: BudgetsFile, earlier: Uncalendared | None = None) -> None:
    """Makes the calendar reach years ahead for budgets, by the time zone data of this machine."""
    changes = calendar_changes_for(budgets, revising.rows, revising.now, earlier)
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
    budgets: BudgetsFile, rows: Callable[..., Sequence[Any]], now: datetime, earlier: Uncalendared | None = None
) -> tuple[CalendarChange, ...]:
    """Returns the changes that a calendar needs for budgets, see `calendar_changes`.

    Args:
        budgets: the budgets that will be in force.
        rows: returns the rows of a function of the server.
        now: the instant on the ledger's clock.
        earlier: the windows of the buckets of a ledger that has no calendar yet.
    """
    if earlier is None and is_current(budgets, map(codec.window, rows("calendar_ends")), now):
        return ()
    kept: dict[str, list[Period]] = {}
    for window in map(codec.window, rows("windows", None)):
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
