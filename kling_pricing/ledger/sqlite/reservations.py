"""Reservations: their rows, and how they are read and made."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from kling_pricing.ledger import refusals
from kling_pricing.ledger.records import (
    Candidate,
    Order,
    Ref,
    Reservation,
)
from kling_pricing.ledger.sqlite.schema import RESERVATION_COLUMNS
from kling_pricing.ledger.sqlite.values import decimal, instant, object_of, object_text, text, written
from kling_pricing.money import from_nanos

UNSENT = "reserved"

COLUMNS = ", ".join(RESERVATION_COLUMNS)

SELECT = f"SELECT {COLUMNS} FROM reservation"  # noqa: S608 (only our own words)
_SELECT_BY_ID = f"{SELECT} WHERE id = ?"
_SELECT_BY_TASK = f"{SELECT} WHERE provider = ? AND task_id = ?"


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
        row = db.execute(_SELECT_BY_ID, (ref,)).fetchone()
    else:
        row = db.execute(_SELECT_BY_TASK, tuple(ref)).fetchone()
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


def doubted(db: sqlite3.Connection, reservation: str) -> bool:
    """Whether it was marked as in doubt, which it is by its deadline too."""
    return bool(db.execute("SELECT doubted FROM reservation WHERE id = ?", (reservation,)).fetchone()[0])


def newest(db: sqlite3.Connection, project: str, key: str) -> Sequence[Any] | None:
    """The row of the newest reservation of a key; None: there is none."""
    found = db.execute(
        "SELECT id FROM reservation WHERE project = ? AND key = ? ORDER BY attempt DESC LIMIT 1", (project, key)
    ).fetchone()  # most keys are new, and a row of so many columns takes time even if it is not there
    row: Sequence[Any] | None = found and db.execute(_SELECT_BY_ID, found).fetchone()
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
