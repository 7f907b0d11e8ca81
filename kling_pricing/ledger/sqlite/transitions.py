"""The transitions of a reservation from one state to another, inside a transaction.

Where possible, one conditional statement makes the transition. Only if it changes no row is the reservation
read to find the reason.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import Decimal

from kling_pricing.ledger import errors
from kling_pricing.ledger.journal import Observation
from kling_pricing.ledger.kept_charges import read_charge
from kling_pricing.ledger.model import BASES, Basis, Change, Ref, Reservation
from kling_pricing.ledger.outcomes import (
    NOTHING,
    Charged,
    Comparison,
    NotCharged,
    Unclear,
    Uncompared,
    implausible,
    needs_comparison,
    outcome,
)
from kling_pricing.ledger.sqlite import allowances
from kling_pricing.ledger.sqlite.balances import (
    Move,
    charge_alerts,
    enter,
    grown,
    overrun_alerts,
    threshold_alerts,
)
from kling_pricing.ledger.sqlite.codec import decimal, object_of, written
from kling_pricing.ledger.sqlite.reservations import get
from kling_pricing.money import MAX_AMOUNT, multiply, nanos_up

OPEN = ("reserved", "dispatching", "bound")

_DISPATCH = (
    "UPDATE reservation SET state = 'dispatching', dispatched_at = ?1, deadline = ?2"
    " WHERE id = ?3 AND state = 'reserved' AND deadline > ?1"
)
_BIND = (
    "UPDATE OR IGNORE reservation SET task_id = ?1, doubted = 0,"
    " state = iif(state = 'dispatching', 'bound', state)"
    " WHERE id = ?2 AND task_id IS NULL AND dispatched_at IS NOT NULL"
)
_BIND_UNSEEN = (
    f"{_BIND} AND NOT EXISTS (SELECT 1 FROM observation AS seen WHERE seen.provider = reservation.provider"  # noqa: S608
    " AND seen.task_id = ?1)"
)
_SELECT_SEEN = (
    "SELECT seen.id, seen.provider, seen.state, charge, duration_s, facts FROM observation AS seen"
    " JOIN reservation ON reservation.provider = seen.provider"
    " WHERE reservation.id = ? AND seen.task_id = ? ORDER BY seen.id"
)
_SETTLE = (
    "UPDATE reservation SET state = 'settled', billed = ifnull(?, expected), basis = ?, closed_at = ?,"
    " doubted = 0, reason = NULL WHERE id = ?"
)
_SETTLE_OPEN = f"{_SETTLE} AND state IN ('dispatching', 'bound')"
_SPEND_LINE = "UPDATE reservation_line SET spent = ? WHERE reservation = ? AND bucket = ?"


def dispatch(db: sqlite3.Connection, reservation: str, doubtful_after: timedelta, now: datetime) -> bool:
    """Moves a reservation from reserved to dispatching. Returns False if it is not reserved or has expired."""
    deadline = written(now + doubtful_after)
    updated = db.execute(_DISPATCH, (written(now), deadline, reservation))
    if updated.rowcount == 0:
        return False
    enter(db, now, "dispatch", reservation, (), deadline)
    return True


def bind(
    db: sqlite3.Connection, ref: Ref, task_id: str, compared: Mapping[int, Comparison], now: datetime
) -> Change | Uncompared:
    """Binds a reservation to a task, and applies earlier observations of the task in their order.

    Returns:
        The change to the reservation; or the earlier observations that need a comparison, if `compared` lacks
        one of them. Nothing was changed then.

    Raises:
        ReservationStateError: the reservation was never sent or has another task, or the task belongs to
            another reservation.
    """
    if isinstance(ref, str) and db.execute(_BIND_UNSEEN, (task_id, ref)).rowcount:  # usually
        enter(db, now, "bind", ref, (), task_id)
        return Change(get(db, ref, now))
    observations = _observations(db, ref, task_id, now) if isinstance(ref, str) else ()
    unknown = tuple(
        (number, seen) for number, seen in observations if needs_comparison(seen) and number not in compared
    )
    if unknown:
        reservation = get(db, ref, now)
        if reservation.task_id is not None or reservation.dispatched_at is None or _has_task(db, unknown[0][1]):
            return _bound_already(db, ref, task_id, now)
        return Uncompared(reservation, unknown)
    if not isinstance(ref, str) or db.execute(_BIND, (task_id, ref)).rowcount == 0:
        return _bound_already(db, ref, task_id, now)
    change = Change(get(db, ref, now))
    enter(db, now, "bind", ref, (), task_id)
    for number, seen in observations:
        after = take_up(db, change.reservation, seen, now, compared.get(number, NOTHING))
        change = Change(after.reservation, change.alerts + after.alerts)
    db.execute(
        "UPDATE observation SET applied_to = ? WHERE provider = ? AND task_id = ?",
        (ref, change.reservation.provider, task_id),
    )
    return change


def _observations(
    db: sqlite3.Connection, reservation: str, task_id: str, now: datetime
) -> tuple[tuple[int, Observation], ...]:
    """Returns the observations of a task at a reservation's provider in their order, each with its number."""
    rows = db.execute(_SELECT_SEEN, (reservation, task_id)).fetchall()
    return tuple(
        (
            number,
            Observation(
                provider, task_id, state, read_charge(charge), decimal(duration_s), None, object_of(facts), now
            ),
        )
        for number, provider, state, charge, duration_s, facts in rows
    )


def _has_task(db: sqlite3.Connection, seen: Observation) -> bool:
    """Returns whether a reservation has the task of an observation."""
    row = db.execute(
        "SELECT 1 FROM reservation WHERE provider = ? AND task_id = ?", (seen.provider, seen.task_id)
    )
    return row.fetchone() is not None


def _bound_already(db: sqlite3.Connection, ref: Ref, task_id: str, now: datetime) -> Change:
    """Returns the reservation unchanged if it is already bound to this task.

    Raises:
        ReservationStateError: the reservation cannot be bound to this task.
    """
    reservation = get(db, ref, now)
    if reservation.task_id == task_id:
        return Change(reservation)
    if reservation.task_id is not None:
        raise errors.bound_to_another(reservation, task_id)
    if reservation.dispatched_at is None:
        raise errors.bound_unsent(reservation, task_id)
    raise errors.task_of_another(reservation, task_id, get(db, (reservation.provider, task_id), now).id)


def take_up(
    db: sqlite3.Connection,
    reservation: Reservation,
    seen: Observation,
    now: datetime,
    compared: Comparison,
) -> Change:
    """Applies an observation of a reservation's task, and its comparison with the quote.

    An observation is applied only once, because its effect could differ later.
    """
    effect = outcome(reservation, seen, compared.made)
    if (
        isinstance(effect, Charged)
        and effect.amount > reservation.reserved
        and _is_too_much(db, reservation, effect)
    ):
        effect = implausible(effect.amount, reservation.currency)
    change = _take_up(db, reservation, effect, now)
    if compared.remark is None:
        return change
    remarks = charge_alerts(db, reservation.id, compared.remark, now)
    return Change(change.reservation, change.alerts + remarks)


def _is_too_much(db: sqlite3.Connection, reservation: Reservation, charged: Charged) -> bool:
    """Returns whether a charge in the currency of one of its budgets is more than a ledger can hold."""
    rates = [rate for *_, rate in _lines(db, reservation.id) if rate is not None]
    return any(multiply(charged.amount, rate) > MAX_AMOUNT for rate in rates)


def _take_up(
    db: sqlite3.Connection,
    reservation: Reservation,
    effect: Charged | NotCharged | Unclear | None,
    now: datetime,
) -> Change:
    if isinstance(effect, Charged):
        return settle(db, reservation, effect.amount, effect.basis, now)
    if isinstance(effect, Unclear):
        return _keep_open(db, reservation, effect.reason, now)
    if effect is None or reservation.state == "released":
        return Change(reservation)
    if reservation.state == "settled":
        return settle(db, reservation, Decimal(0), "response", now)
    return Change(release(db, reservation, effect.reason, "release", now))


def _keep_open(db: sqlite3.Connection, reservation: Reservation, reason: str, now: datetime) -> Change:
    """Marks a reservation in doubt whose charge has no value here, unless its amount is known already."""
    if reservation.basis not in {None, "quote"}:
        return Change(reservation)
    is_marked = reservation.in_doubt and reservation.reason == reason
    if reservation.state != "released" and not is_marked:
        db.execute("UPDATE reservation SET doubted = 1, reason = ? WHERE id = ?", (reason, reservation.id))
        enter(db, now, "doubt", reservation.id, (), reason)
    alerts = charge_alerts(db, reservation.id, reason, now)
    return Change(get(db, reservation.id, now), alerts)


def release(
    db: sqlite3.Connection, reservation: Reservation, reason: str, kind: str, now: datetime
) -> Reservation:
    """Releases the held money of a reservation."""
    moves = [Move(bucket, -held, 0) for bucket, held, _, _ in _lines(db, reservation.id)]
    db.execute(
        "UPDATE reservation SET state = 'released', reason = ?, closed_at = ? WHERE id = ?",
        (reason, written(now), reservation.id),
    )
    enter(db, now, kind, reservation.id, moves, reason)
    allowances.give_back(db, now, reservation.id, kind)
    return reservation._replace(state="released", reason=reason, closed_at=now, in_doubt=False)


def settle_open(
    db: sqlite3.Connection, reservation: str, amount: Decimal | None, basis: Basis, now: datetime
) -> Change | None:
    """Settles a dispatched or bound reservation, by default at the quote. Returns None in any other state."""
    nanos = None if amount is None else nanos_up(amount)
    if db.execute(_SETTLE_OPEN, (nanos, basis, written(now), reservation)).rowcount == 0:
        return None
    settled = get(db, reservation, now)
    return _spend(db, settled, settled.expected if amount is None else amount, now, was_open=True)


def settle(
    db: sqlite3.Connection, reservation: Reservation, billed: Decimal, basis: Basis, now: datetime
) -> Change:
    """Settles a reservation, unless it is already settled on a basis that prevails."""
    if reservation.dispatched_at is None:
        raise errors.settled_unsent(reservation)
    if reservation.state == "settled" and not _replaces(reservation, billed, basis):
        return Change(reservation)
    db.execute(_SETTLE, (nanos_up(billed), basis, written(now), reservation.id))
    return _spend(db, get(db, reservation.id, now), billed, now, was_open=reservation.state in OPEN)


def _spend(
    db: sqlite3.Connection, settled: Reservation, billed: Decimal, now: datetime, *, was_open: bool
) -> Change:
    """Counts the settled amount in every bucket, in place of the held or previously spent amount."""
    nanos = nanos_up(billed)
    moves = []
    for bucket, held, spent, rate in _lines(db, settled.id):
        amount = nanos if rate is None else nanos_up(multiply(billed, rate))
        moves.append(Move(bucket, -held if was_open else 0, amount - spent))
        db.execute(_SPEND_LINE, (amount, settled.id, bucket))
    enter(db, now, "settle", settled.id, moves, settled.basis, nanos)
    allowances.spend(db, now, settled.id, was_open=was_open)
    alerts = threshold_alerts(db, grown(moves), settled.id, now)
    if billed > settled.reserved:
        alerts += overrun_alerts(db, moves, billed, settled.id, now)
    return Change(settled, alerts)


def _replaces(reservation: Reservation, billed: Decimal, basis: Basis) -> bool:
    """Returns whether an amount replaces the amount at which a reservation is settled.

    A stronger basis replaces a weaker one. On the same basis the higher amount wins, so the order of two
    responses does not matter. The basis operator always replaces.
    """
    if reservation.basis is None or reservation.billed is None or basis == "operator":
        return True
    difference = BASES.index(basis) - BASES.index(reservation.basis)
    return difference > 0 or (difference == 0 and billed > reservation.billed)


def disagrees(reservation: Reservation, billed: Decimal, basis: Basis) -> bool:
    """Returns whether another amount on the same basis prevails over this one."""
    return (
        reservation.basis == basis
        and reservation.billed != billed
        and not _replaces(reservation, billed, basis)
    )


def _lines(db: sqlite3.Connection, reservation: str) -> list[tuple[int, int, int, Decimal | None]]:
    """Returns bucket, held, spent and accounting rate of each line of a reservation."""
    rows = db.execute(
        "SELECT bucket, held, spent, rate FROM reservation_line WHERE reservation = ? ORDER BY bucket",
        (reservation,),
    )
    return [(bucket, held, spent, decimal(rate)) for bucket, held, spent, rate in rows]


def expire(db: sqlite3.Connection, now: datetime) -> int:
    """Releases the expired reservations, and returns their number.

    They were never dispatched, so they are certainly unsent.

    Needs the same three statements for any number of reservations.
    """
    allowances.give_back_late(db, now)
    at = written(now)
    late = "SELECT id FROM reservation WHERE state = 'reserved' AND deadline <= ?"
    db.execute(
        "UPDATE bucket SET held = held - freed FROM (SELECT bucket AS id, sum(held) AS freed"  # noqa: S608
        f" FROM reservation_line WHERE reservation IN ({late}) GROUP BY bucket) AS line"
        " WHERE bucket.id = line.id",
        (at,),
    )
    db.execute(
        "INSERT INTO journal (at, kind, reservation, bucket, held_delta, detail)"  # noqa: S608
        " SELECT ?1, 'expire', late.id, line.bucket, -ifnull(line.held, 0), 'expired'"
        f" FROM ({late.replace('?', '?1')}) AS late"
        " LEFT JOIN reservation_line AS line ON line.reservation = late.id",
        (at,),
    )
    return db.execute(
        "UPDATE reservation SET state = 'released', reason = 'expired', closed_at = ?1"
        " WHERE state = 'reserved' AND deadline <= ?1",
        (at,),
    ).rowcount
