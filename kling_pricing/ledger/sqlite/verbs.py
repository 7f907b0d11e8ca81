"""The verbs of a ledger. Each runs inside one transaction, at the instant at which the transaction began.

An exception rolls back the transaction. A verb that must keep changes despite an error returns the error
instead of raising it.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from decimal import Decimal

from kling_pricing.budgets import BudgetsFile, Consent
from kling_pricing.errors import KlingPricingError, LedgerError, ReservationStateError
from kling_pricing.ledger import errors
from kling_pricing.ledger.actions import Author, amount_of
from kling_pricing.ledger.freezing import FROZEN
from kling_pricing.ledger.journal import Observation, UnpricedRequests
from kling_pricing.ledger.kept_charges import written_charge
from kling_pricing.ledger.model import (
    DOUBTED,
    UNSENT,
    Alert,
    Basis,
    BucketClaim,
    Change,
    Mistimed,
    Outdated,
    PricedVariant,
    Ref,
    Refused,
    Reservation,
    ReservationRequest,
    Reserved,
    Revision,
    unsent,
)
from kling_pricing.ledger.outcomes import NOTHING, Comparison, Uncompared, needs_comparison
from kling_pricing.ledger.sqlite import (
    action_rows,
    allowances,
    balances,
    choosing,
    freezes,
    reservations,
    revisions,
    transitions,
)
from kling_pricing.ledger.sqlite.balances import Move, grown
from kling_pricing.ledger.sqlite.codec import object_text, text, written
from kling_pricing.ledger.sqlite.seals import seal
from kling_pricing.ledger.terms import SEALED_OBSERVATION_COLUMNS
from kling_pricing.money import format_decimal, from_nanos

_OBSERVE = (
    f"INSERT OR IGNORE INTO observation ({', '.join(SEALED_OBSERVATION_COLUMNS)}, seal)"  # noqa: S608
    f" VALUES ({', '.join('?' * len(SEALED_OBSERVATION_COLUMNS))}, ?)"
)
_APPLY = (
    "UPDATE observation SET applied_to = ? WHERE provider = ? AND task_id = ?"
    " AND ifnull(state, '') = ifnull(?, '') AND ifnull(charge, '') = ifnull(?, '')"
    " AND ifnull(duration_s, '') = ifnull(?, '') AND ifnull(facts, '') = ifnull(?, '') AND applied_to IS NULL"
)


def install(db: sqlite3.Connection, now: datetime, budgets: BudgetsFile, author: Author) -> Revision:
    """See `Ledger.install`."""
    return revisions.current(db) or revisions.install(db, budgets, author, now)


def apply(
    db: sqlite3.Connection, now: datetime, budgets: BudgetsFile, author: Author, consent: Consent
) -> tuple[Alert, ...]:
    """See `Ledger.apply`."""
    return revisions.replace(db, budgets, author, consent, now)


def reserve(
    db: sqlite3.Connection,
    now: datetime,
    order: ReservationRequest,
    candidates: Sequence[PricedVariant],
    expires_after: timedelta,
    doubtful_after: timedelta | None = None,
) -> Reserved | Refused | Outdated | Mistimed:
    """See `Ledger.reserve`, and with `doubtful_after` `Ledger.reserve_and_dispatch`."""
    look = reservations.look(db, order, now)
    if look.budgets != order.budgets:
        return Outdated(revisions.in_force(db))
    if look.is_late:
        transitions.expire(db, now)
        look = reservations.look(db, order, now)
    choice = choosing.choose(db, look, order, candidates, now, allowances.Allowing(db, order, now))
    if isinstance(choice, Reservation):
        return Reserved(choice, replayed=True, alerts=())
    if not isinstance(choice, choosing.Chosen):
        return choice
    chosen, rooms = candidates[choice.place], look.rooms
    expires_at = now + expires_after
    reserved = unsent(order, chosen, _new_id(), order.key, choice.attempt, now, expires_at)
    if doubtful_after is not None:
        reserved = reserved._replace(state="dispatching", dispatched_at=now, deadline=now + doubtful_after)
    reservation = reserved.id
    reservations.insert(db, reserved, order, chosen)
    moves = [Move(balances.opened(db, room), chosen.amounts[room.place], 0) for room in rooms]
    for move, room in zip(moves, rooms, strict=True):
        db.execute(
            "INSERT INTO reservation_line (reservation, bucket, held, rate) VALUES (?, ?, ?, ?)",
            (reservation, move.bucket, move.held, text(room.claim.rate)),
        )
    balances.enter(db, now, "reserve", reservation, moves, written(expires_at))
    choosing.waive(db, now, reservation, rooms, moves)
    if choice.covers:
        buckets = {room.place: move.bucket for room, move in zip(rooms, moves, strict=True)}
        allowances.use(db, now, reservation, choice.covers, buckets)
    watched = grown(move for move, room in zip(moves, rooms, strict=True) if room.has_alerts)
    alerts = balances.threshold_alerts(db, watched, reservation, now)
    if doubtful_after is not None:
        balances.enter(db, now, "dispatch", reservation, (), written(reserved.deadline))
    return Reserved(reserved, replayed=False, alerts=alerts)


def dispatch(
    db: sqlite3.Connection, now: datetime, reservation: str, doubtful_after: timedelta
) -> KlingPricingError | None:
    """See `Ledger.dispatch`. Returns an error, so that a release or an expiry is committed."""
    refusal = freezes.refusal_of(db, reservation)
    if refusal is not None:
        unsent = reservations.get(db, reservation, now)
        if unsent.state == UNSENT:
            transitions.release(db, unsent, FROZEN, "release", now)
            return refusal
    if transitions.dispatch(db, reservation, doubtful_after, now):
        return None
    current = reservations.get(db, reservation, now)
    if current.state == UNSENT:  # it has expired
        transitions.expire(db, now)
        current = reservations.get(db, reservation, now)
    return errors.not_dispatched(current)


def bind(
    db: sqlite3.Connection, now: datetime, ref: Ref, task_id: str, compared: Mapping[int, Comparison]
) -> Change | Uncompared:
    """See `Ledger.bind`."""
    return transitions.bind(db, ref, task_id, compared, now)


def doubt(db: sqlite3.Connection, now: datetime, ref: Ref, reason: str) -> Reservation:
    """See `Ledger.doubt`."""
    reservation = reservations.get(db, ref, now)
    if reservation.state == UNSENT:
        raise errors.not_doubtful(reservation)
    if reservation.state != "dispatching" or (reservation.in_doubt and reservation.reason == reason):
        return reservation
    db.execute("UPDATE reservation SET doubted = 1, reason = ? WHERE id = ?", (reason, reservation.id))
    balances.enter(db, now, "doubt", reservation.id, (), reason)
    return reservations.get(db, reservation.id, now)


def release(
    db: sqlite3.Connection, now: datetime, ref: Ref, reason: str, states: Collection[str]
) -> Reservation:
    """See `Ledger.release`."""
    reservation = reservations.get(db, ref, now)
    if reservation.state == "released":
        return reservation
    if reservation.state not in states:
        raise errors.not_released(reservation)
    if (
        reservation.state == "dispatching"
        and DOUBTED not in states
        and reservations.doubted(db, reservation.id)
    ):
        raise errors.doubted(reservation)
    return transitions.release(db, reservation, reason, "release", now)


def settle(
    db: sqlite3.Connection, now: datetime, ref: Ref, amount: Decimal | None, basis: Basis, author: Author | None
) -> Change:
    """See `Ledger.settle`."""
    if author is not None:
        before = reservations.get(db, ref, now)
        change = settle(db, now, ref, amount, basis, None)
        after = change.reservation
        if (before.billed, before.basis) != (after.billed, after.basis):
            action_rows.administer(db, now, author, "settle", after.id, amount_of(before), amount_of(after))
        return change
    if isinstance(ref, str):
        settled = transitions.settle_open(db, ref, amount, basis, now)
        if settled is not None:
            return settled
    reservation = reservations.get(db, ref, now)
    billed = reservation.expected if amount is None else amount
    if transitions.disagrees(reservation, billed, basis):
        raise errors.settled_otherwise(reservation, billed)
    return transitions.settle(db, reservation, billed, basis, now)


def observe(
    db: sqlite3.Connection,
    now: datetime,
    seen: Observation,
    ref: Ref | None,
    compared: Comparison | None,
) -> Change | Uncompared | LedgerError | None:
    """See `Ledger.observe`. Returns an error, so that the observation is committed: the task may be billed."""
    task = (seen.provider, seen.task_id)
    if compared is None and needs_comparison(seen):
        reservation = reservations.find(db, task, now)
        if reservation is not None and ref in {None, reservation.id, task}:
            return Uncompared(reservation, ((0, seen),))
    facts = object_text(seen.facts) if seen.facts else None
    response = (*task, seen.state, written_charge(seen.charge), text(seen.duration_s))
    stored = (*response, seen.model, facts, written(now))
    db.execute(_OBSERVE, (*stored, seal(*stored)))
    reservation = reservations.find(db, task, now) if ref is None else reservations.get(db, ref, now)
    if reservation is None:
        return None
    if reservation.provider != seen.provider:
        return errors.other_provider(reservation, seen.provider)
    if reservation.task_id == seen.task_id:
        # an equal observation that was refused earlier was stored but not applied
        if not db.execute(_APPLY, (reservation.id, *response, facts)).rowcount:
            return Change(reservation)
        return transitions.take_up(db, reservation, seen, now, compared or NOTHING)
    try:
        return transitions.bind(db, reservation.id, seen.task_id, {}, now)
    except ReservationStateError as error:
        return error


def record(
    db: sqlite3.Connection,
    now: datetime,
    order: ReservationRequest,
    spent: PricedVariant,
    task_id: str,
    at: datetime,
    author: Author | None,
) -> Change | Outdated:
    """See `Ledger.record`."""
    if not revisions.is_in_force(db, order.budgets):
        return Outdated(revisions.in_force(db))
    existing = reservations.find(db, (order.provider, task_id), now)
    if existing is not None:
        if existing.fingerprint == order.fingerprint and existing.billed == spent.terms.expected:
            return Change(existing)
        raise errors.task_known(existing)
    reservation = _new_id()
    rooms = balances.rooms(db, order.claims, at)
    is_taken = reservations.newest(db, order.project, order.key) is not None
    key = f"{order.key}:{reservation}" if is_taken else order.key  # a job may have the same key
    reservations.insert(db, unsent(order, spent, reservation, key, 1, at, at), order, spent)
    db.execute(
        "UPDATE reservation SET state = 'settled', task_id = ?, billed = expected, basis = 'operator',"
        " dispatched_at = created_at, closed_at = ? WHERE id = ?",
        (task_id, written(now), reservation),
    )
    moves = [Move(balances.opened(db, room), 0, spent.amounts[room.place]) for room in rooms]
    db.executemany(
        "INSERT INTO reservation_line (reservation, bucket, held, spent, rate) VALUES (?, ?, 0, ?, ?)",
        [
            (reservation, move.bucket, move.spent, text(room.claim.rate))
            for move, room in zip(moves, rooms, strict=True)
        ],
    )
    balances.enter(db, now, "record", reservation, moves, task_id)
    alerts = balances.threshold_alerts(db, grown(moves), reservation, now)
    recorded = reservations.get(db, reservation, now)
    if author is not None:
        action_rows.administer(db, now, author, "record", reservation, None, amount_of(recorded))
    return Change(recorded, alerts)


def open_bucket(
    db: sqlite3.Connection, now: datetime, claim: BucketClaim, spent: int, author: Author
) -> tuple[Alert, ...]:
    """See `Ledger.open_bucket`."""
    if claim.step is not None:
        raise errors.no_opening(claim.budget)
    rooms = balances.rooms(db, [claim], now)
    if not rooms:
        raise errors.no_window(claim.budget)
    bucket = balances.opened(db, rooms[0])
    opened = db.execute("SELECT 1 FROM journal WHERE kind = 'opening' AND bucket = ?", (bucket,))
    if opened.fetchone():
        raise errors.opened(claim.budget)
    moves = [Move(bucket, 0, spent)]
    balances.enter(db, now, "opening", None, moves, None)
    opening = {"spent": format_decimal(from_nanos(spent)), "labels": dict(claim.labels)}
    action_rows.administer(db, now, author, "open", claim.budget, None, opening)
    return balances.threshold_alerts(db, grown(moves), None, now)


def count_unpriced(db: sqlite3.Connection, _now: datetime, counts: Sequence[UnpricedRequests]) -> None:
    """See `Ledger.count_unpriced`."""
    db.executemany(
        "INSERT INTO unpriced_requests (provider, path, day, requests) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (provider, path, day) DO UPDATE SET requests = requests + excluded.requests",
        [(count.provider, count.path, count.day.isoformat(), count.requests) for count in counts],
    )


def _new_id() -> str:
    return os.urandom(16).hex()
