"""Reservations: their rows, and how they are read and made."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple

from kling_pricing.ledger import errors
from kling_pricing.ledger.model import (
    DOUBTABLE,
    UNSENT,
    PricedVariant,
    Ref,
    Reservation,
    ReservationRequest,
    unsent,
)
from kling_pricing.ledger.sqlite.balances import ROOM, BucketBalance, buckets_wanted, rooms_of, wanted
from kling_pricing.ledger.sqlite.codec import (
    instant,
    labels_text,
    object_of,
    object_text,
    written,
)
from kling_pricing.ledger.sqlite.schema import RESERVATION_COLUMNS
from kling_pricing.ledger.terms import Terms, read_terms, written_terms
from kling_pricing.money import from_nanos

COLUMNS = ", ".join(RESERVATION_COLUMNS)

SELECT = f"SELECT {COLUMNS} FROM reservation"  # noqa: S608 (only our own words)
_SELECT_BY_ID = f"{SELECT} WHERE id = ?"
_SELECT_BY_TASK = f"{SELECT} WHERE provider = ? AND task_id = ?"
_INSERTED = (
    *(
        "id",
        "project",
        "key",
        "attempt",
        "state",
        "provider",
        "wire_format",
        *Terms._fields,
        "reserved",
        "labels",
    ),
    *("changes", "fingerprint", "created_at", "deadline"),
)
_INSERT = f"INSERT INTO reservation ({', '.join(_INSERTED)}) VALUES ({', '.join('?' * len(_INSERTED))})"  # noqa: S608
_SELECT_BY_KEY = f"{SELECT} WHERE project = ? AND key = ? ORDER BY attempt DESC LIMIT 1"


_FIRST = RESERVATION_COLUMNS.index(Terms._fields[0])
_TERMS = slice(_FIRST, _FIRST + len(Terms._fields))
"""The place of the terms among the columns."""


@lru_cache(maxsize=1024)  # the same terms come again and again
def _terms(values: tuple[Any, ...]) -> Terms:
    return read_terms(dict(zip(Terms._fields, values, strict=True)))


def from_row(values: Sequence[Any], now: datetime) -> Reservation:
    """Returns the reservation in a row of `SELECT`, as it stands at an instant."""
    row = dict(zip(RESERVATION_COLUMNS, values, strict=False))  # another column may follow
    state, deadline = row["state"], instant(row["deadline"])
    dispatched_at, closed_at, billed = row["dispatched_at"], row["closed_at"], row["billed"]
    return Reservation(
        id=row["id"],
        project=row["project"],
        key=row["key"],
        attempt=row["attempt"],
        state=state,
        in_doubt=(bool(row["doubted"]) and state in DOUBTABLE) or (state == "dispatching" and deadline <= now),
        provider=row["provider"],
        task_id=row["task_id"],
        wire_format=row["wire_format"],
        terms=_terms(tuple(values[_TERMS])),
        reserved=from_nanos(row["reserved"]),
        billed=None if billed is None else from_nanos(billed),
        basis=row["basis"],
        labels=object_of(row["labels"]),
        changes=object_of(row["changes"]),
        reason=row["reason"],
        fingerprint=row["fingerprint"],
        created_at=instant(row["created_at"]),
        dispatched_at=dispatched_at and instant(dispatched_at),
        closed_at=closed_at and instant(closed_at),
        deadline=deadline,
    )


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
    reservation = find(db, ref, now)
    if reservation is None:
        raise errors.unknown(ref)
    return reservation


def doubted(db: sqlite3.Connection, reservation: str) -> bool:
    """Whether it was marked as in doubt, which it is by its deadline too."""
    return bool(db.execute("SELECT doubted FROM reservation WHERE id = ?", (reservation,)).fetchone()[0])


class Look(NamedTuple):
    """What an order asks before anything else.

    Attributes:
        budgets: digest of those in force; None: there are none.
        is_late: whether something is still reserved that has expired.
        is_known: whether its key was used before.
        rooms: the buckets its claims speak of.
    """

    budgets: str | None
    is_late: bool
    is_known: bool
    rooms: list[BucketBalance]


@lru_cache(maxsize=64)
def _look(windows: int) -> str:
    """What an order with so many windows asks."""
    return (
        "SELECT (SELECT digest FROM budget_revision ORDER BY revision DESC LIMIT 1),"  # noqa: S608 (our words)
        " EXISTS (SELECT 1 FROM reservation WHERE state = 'reserved' AND deadline <= ?),"
        " EXISTS (SELECT 1 FROM reservation WHERE project = ? AND key = ?),"
        f" {ROOM} FROM {buckets_wanted(windows)}"
    )


def look(db: sqlite3.Connection, order: ReservationRequest, now: datetime) -> Look:
    """In one statement, for it is asked every time, and mostly there is nothing to do."""
    windows, values = wanted(order.claims, now)
    rows = db.execute(_look(len(windows)), (written(now), order.project, order.key, *values)).fetchall()
    budgets, is_late, is_known = rows[0][:3]
    return Look(budgets, is_late, is_known, rooms_of(windows, rows))


def newest(db: sqlite3.Connection, project: str, key: str) -> Sequence[Any] | None:
    """The row of the newest reservation of a key; None: there is none."""
    row: Sequence[Any] | None = db.execute(_SELECT_BY_KEY, (project, key)).fetchone()
    return row


def last_attempt(db: sqlite3.Connection, order: ReservationRequest, now: datetime) -> Reservation | None:
    """The newest reservation of an order's key: one still to be sent, or one that was released; or none.

    Raises:
        IdempotencyError: the key stands for another request.
        ReservationStateError: the key's job was sent already.
    """
    row = newest(db, order.project, order.key)
    if row is None:
        return None
    reservation = from_row(row, now)
    if reservation.fingerprint != order.fingerprint:
        raise errors.key_taken(reservation)
    if reservation.state in {UNSENT, "released"}:
        return reservation
    raise errors.key_sent(reservation)


def insert(
    db: sqlite3.Connection,
    order: ReservationRequest,
    candidate: PricedVariant,
    reservation: str,
    key: str,
    attempt: int,
    now: datetime,
    deadline: datetime,
) -> Reservation:
    """Writes down a reservation that is still to be sent; lines and journal are the caller's to write."""
    db.execute(
        _INSERT,
        (
            reservation,
            order.project,
            key,
            attempt,
            UNSENT,
            order.provider,
            order.wire_format,
            *written_terms(candidate.terms),
            candidate.reserved,
            labels_text(order.labels),
            object_text(candidate.changes),
            order.fingerprint,
            written(now),
            written(deadline),
        ),
    )
    return unsent(order, candidate, reservation, key, attempt, now, deadline)
