"""Reservations: their rows, and what happens to one inside a transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from kling_pricing.ledger import refusals
from kling_pricing.ledger.outcomes import Charge, outcome
from kling_pricing.ledger.records import (
    BASES,
    Basis,
    Candidate,
    Change,
    Observation,
    Order,
    Ref,
    Reservation,
    State,
)
from kling_pricing.ledger.sqlite.balances import Move, enter, overrun_alerts, risen, threshold_alerts
from kling_pricing.ledger.sqlite.schema import RESERVATION_COLUMNS
from kling_pricing.ledger.sqlite.values import decimal, instant, object_of, object_text, text, written
from kling_pricing.money import from_nanos, multiply, nanos_up

UNSENT = "reserved"
OPEN = ("reserved", "dispatching", "bound")

SELECT = f"SELECT {', '.join(RESERVATION_COLUMNS)} FROM reservation"  # noqa: S608 (only our own words)


def from_row(row: Sequence[Any], now: datetime) -> Reservation:
    """The reservation in a row of `SELECT`, as it stands at an instant."""
    kept: Any = Reservation._make(row)  # as written: the columns stand in the order of its fields
    deadline = instant(kept.deadline)
    read: Reservation = kept._replace(
        in_doubt=kept.state == "dispatching" and (bool(kept.in_doubt) or deadline <= now),
        quantity=Decimal(kept.quantity),
        expected=from_nanos(kept.expected),
        reserved=from_nanos(kept.reserved),
        billed=None if kept.billed is None else from_nanos(kept.billed),
        unit_value=decimal(kept.unit_value),
        labels=object_of(kept.labels),
        changes=object_of(kept.changes),
        created_at=instant(kept.created_at),
        dispatched_at=kept.dispatched_at and instant(kept.dispatched_at),
        closed_at=kept.closed_at and instant(kept.closed_at),
        deadline=deadline,
    )
    return read


def find(db: sqlite3.Connection, ref: Ref, now: datetime) -> Reservation | None:
    """A reservation, if there is one."""
    if isinstance(ref, str):
        row = db.execute(f"{SELECT} WHERE id = ?", (ref,)).fetchone()
    else:
        row = db.execute(f"{SELECT} WHERE provider = ? AND task_id = ?", tuple(ref)).fetchone()
    return None if row is None else from_row(row, now)


def get(db: sqlite3.Connection, ref: Ref, now: datetime) -> Reservation:
    """A reservation.

    Raises:
        ReservationNotFoundError: there is none.
    """
    found = find(db, ref, now)
    if found is None:
        raise refusals.unknown(ref)
    return found


def newest(db: sqlite3.Connection, project: str, key: str) -> Sequence[Any] | None:
    """The row of the newest reservation of a key; None: there is none."""
    found = db.execute(
        "SELECT id FROM reservation WHERE project = ? AND key = ? ORDER BY attempt DESC LIMIT 1", (project, key)
    ).fetchone()  # most keys are new, and a row of so many columns takes time even if it is not there
    row: Sequence[Any] | None = found and db.execute(f"{SELECT} WHERE id = ?", found).fetchone()
    return row


def last_attempt(db: sqlite3.Connection, order: Order, now: datetime) -> Reservation | None:
    """The newest reservation of an order's key: one still to be sent, or one that was released; or none.

    Raises:
        IdempotencyError: the key stands for another request.
        ReservationStateError: the key's job was sent already.
    """
    row = newest(db, order.project, order.key)
    if row is None:
        return None
    found = from_row(row, now)
    if found.fingerprint != order.fingerprint:
        raise refusals.key_taken(found)
    if found.state in {UNSENT, "released"}:
        return found
    raise refusals.key_sent(found)


def insert(
    db: sqlite3.Connection,
    order: Order,
    candidate: Candidate,
    reservation: str,
    key: str,
    attempt: int,
    now: datetime,
    deadline: datetime,
) -> Reservation:
    """Writes down a reservation that is still to be sent; lines and journal are the caller's to write."""
    db.execute(
        "INSERT INTO reservation (id, project, key, attempt, state, provider, wire_format, model, resolution,"
        " tier, quantity, unit, currency, expected, reserved, price_table, table_digest, statement_unit,"
        " unit_value, failed_tasks, labels, changes, fingerprint, created_at, deadline)"
        " VALUES (?, ?, ?, ?, 'reserved', ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            reservation,
            order.project,
            key,
            attempt,
            order.provider,
            order.wire_format,
            candidate.model,
            candidate.resolution,
            candidate.tier,
            str(candidate.quantity),
            candidate.unit,
            order.currency,
            candidate.expected,
            candidate.reserved,
            order.table,
            order.table_digest,
            order.statement_unit,
            text(order.unit_value),
            order.failed_tasks,
            object_text(order.labels),
            object_text(candidate.changes),
            order.fingerprint,
            written(now),
            written(deadline),
        ),
    )
    return Reservation(
        id=reservation,
        project=order.project,
        key=key,
        attempt=attempt,
        state="reserved",
        in_doubt=False,
        provider=order.provider,
        task_id=None,
        wire_format=order.wire_format,
        model=candidate.model,
        resolution=candidate.resolution,
        tier=candidate.tier,
        quantity=candidate.quantity,
        unit=candidate.unit,
        currency=order.currency,
        expected=from_nanos(candidate.expected),
        reserved=from_nanos(candidate.reserved),
        billed=None,
        basis=None,
        table=order.table,
        statement_unit=order.statement_unit,
        unit_value=order.unit_value,
        failed_tasks=order.failed_tasks,
        labels=order.labels,
        changes=candidate.changes,
        reason=None,
        fingerprint=order.fingerprint,
        created_at=now,
        dispatched_at=None,
        closed_at=None,
        deadline=deadline,
    )


def bind(db: sqlite3.Connection, found: Reservation, task_id: str, now: datetime) -> Change:
    """Notes a reservation's task, and applies what was observed of that before, in the order it was seen.

    Raises:
        ReservationStateError: it was never sent, or one of the two belongs to another.
    """
    if found.task_id == task_id:
        return Change(found)
    if found.task_id is not None:
        raise refusals.bound_to_another(found, task_id)
    if found.dispatched_at is None:
        raise refusals.bound_unsent(found, task_id)
    task = (found.provider, task_id)
    other = db.execute("SELECT id FROM reservation WHERE provider = ? AND task_id = ?", task).fetchone()
    if other is not None:
        raise refusals.task_of_another(found, task_id, other[0])
    db.execute(
        "UPDATE reservation SET task_id = ?, doubted = 0,"
        " state = iif(state = 'dispatching', 'bound', state) WHERE id = ?",
        (task_id, found.id),
    )
    enter(db, now, "bind", found.id, (), None)
    state: State = "bound" if found.state == "dispatching" else found.state
    change = Change(found._replace(task_id=task_id, state=state, in_doubt=False))
    rows = db.execute(
        "SELECT state, amount, amount_unit FROM observation WHERE provider = ? AND task_id = ? ORDER BY id",
        task,
    ).fetchall()
    for state, amount, unit in rows:
        seen = Observation(found.provider, task_id, state, decimal(amount), unit, None, None, now)
        after = take_up(db, change.reservation, seen, now)
        change = Change(after.reservation, change.alerts + after.alerts)
    return change


def take_up(db: sqlite3.Connection, found: Reservation, seen: Observation, now: datetime) -> Change:
    """Applies what was observed of a reservation's task; once, since later it might mean something else."""
    meant = outcome(found, seen)
    if isinstance(meant, Charge):
        return settle(db, found, meant.amount, meant.basis, now)
    if meant is None or found.state == "released":
        return Change(found)
    if found.state == "settled":
        return settle(db, found, Decimal(0), "response", now)
    return Change(release(db, found, meant.reason, "release", now))


def release(db: sqlite3.Connection, found: Reservation, reason: str, kind: str, now: datetime) -> Reservation:
    """Gives back what is held."""
    moves = [Move(bucket, -held, 0) for bucket, held, _, _ in _lines(db, found.id)]
    db.execute(
        "UPDATE reservation SET state = 'released', reason = ?, closed_at = ? WHERE id = ?",
        (reason, written(now), found.id),
    )
    enter(db, now, kind, found.id, moves, reason)
    return found._replace(state="released", reason=reason, closed_at=now, in_doubt=False)


def settle(db: sqlite3.Connection, found: Reservation, billed: Decimal, basis: Basis, now: datetime) -> Change:
    """Settles, unless what it is settled at holds."""
    if found.dispatched_at is None:
        raise refusals.settled_unsent(found)
    if found.state == "settled" and not _replaces(found, billed, basis):
        return Change(found)
    held_back = found.state in OPEN
    nanos = nanos_up(billed)
    moves, lines = [], []
    for bucket, held, spent, rate in _lines(db, found.id):
        counted = nanos if rate is None else nanos_up(multiply(billed, rate))
        moves.append(Move(bucket, -held if held_back else 0, counted - spent))
        lines.append((counted, found.id, bucket))
    db.executemany("UPDATE reservation_line SET spent = ? WHERE reservation = ? AND bucket = ?", lines)
    db.execute(
        "UPDATE reservation SET state = 'settled', billed = ?, basis = ?, closed_at = ?, doubted = 0,"
        " reason = NULL WHERE id = ?",
        (nanos, basis, written(now), found.id),
    )
    enter(db, now, "settle", found.id, moves, basis)
    alerts = threshold_alerts(db, risen(moves), found.id, now)
    if billed > found.reserved:
        alerts += overrun_alerts(db, moves, billed, found.id, now)
    settled = found._replace(
        state="settled", billed=from_nanos(nanos), basis=basis, closed_at=now, in_doubt=False, reason=None
    )
    return Change(settled, alerts)


def _replaces(found: Reservation, billed: Decimal, basis: Basis) -> bool:
    """Whether an amount replaces the one a reservation was settled at.

    A stronger basis does, and on the same basis the dearer amount, so that it does not matter which of two
    answers comes first; an operator may always correct.
    """
    if found.basis is None or found.billed is None or basis == "operator":
        return True
    stronger = BASES.index(basis) - BASES.index(found.basis)
    return stronger > 0 or (stronger == 0 and billed > found.billed)


def disagrees(found: Reservation, billed: Decimal, basis: Basis) -> bool:
    """Whether it is settled at another amount on the same basis, which holds."""
    return found.basis == basis and found.billed != billed and not _replaces(found, billed, basis)


def _lines(db: sqlite3.Connection, reservation: str) -> list[tuple[int, int, int, Decimal | None]]:
    """Bucket, held, spent and accounting rate of each line of a reservation."""
    rows = db.execute(
        "SELECT bucket, held, spent, rate FROM reservation_line WHERE reservation = ? ORDER BY bucket",
        (reservation,),
    )
    return [(bucket, held, spent, decimal(rate)) for bucket, held, spent, rate in rows]


def expire(db: sqlite3.Connection, now: datetime) -> None:
    """Releases what was reserved and not dispatched in time: it is certainly unsent.

    However many there are, it takes the same few statements.
    """
    at = written(now)
    late = "SELECT id FROM reservation WHERE state = 'reserved' AND deadline <= ?"
    if db.execute(f"{late} LIMIT 1", (at,)).fetchone() is None:
        return
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
    db.execute(
        "UPDATE reservation SET state = 'released', reason = 'expired', closed_at = ?1"
        " WHERE state = 'reserved' AND deadline <= ?1",
        (at,),
    )
