"""Reads and writes the rows of reservations."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from datetime import datetime
from functools import lru_cache
from operator import itemgetter
from typing import Any, NamedTuple

from kling_pricing.ledger import errors
from kling_pricing.ledger.model import (
    UNSENT,
    PricedVariant,
    Ref,
    Reservation,
    ReservationRequest,
)
from kling_pricing.ledger.sqlite.balances import (
    ROOM,
    BucketBalance,
    buckets_wanted,
    calendared,
    rooms_of,
    wanted,
    with_rolling,
)
from kling_pricing.ledger.sqlite.codec import (
    instant,
    labels_text,
    object_of,
    object_text,
    written,
)
from kling_pricing.ledger.sqlite.schema import RESERVATION_COLUMNS
from kling_pricing.ledger.sqlite.seals import seal
from kling_pricing.ledger.terms import SEALED_COLUMNS, Terms, read_terms, written_terms
from kling_pricing.money import from_nanos

COLUMNS = ", ".join(RESERVATION_COLUMNS)

SELECT = f"SELECT {COLUMNS} FROM reservation"  # noqa: S608 (constants only)
_SELECT_BY_ID = f"{SELECT} WHERE id = ?"
_SELECT_BY_TASK = f"{SELECT} WHERE provider = ? AND task_id = ?"
_DOUBTABLE = ("dispatching", "bound", "settled")
"""The states in which a mark of doubt counts."""

_INSERTED = (*SEALED_COLUMNS, "seal", "state", "dispatched_at", "deadline")
_INSERT = f"INSERT INTO reservation ({', '.join(_INSERTED)}) VALUES ({', '.join('?' * len(_INSERTED))})"  # noqa: S608
_SELECT_BY_KEY = f"{SELECT} WHERE project = ? AND key = ? ORDER BY attempt DESC LIMIT 1"


_FIRST = RESERVATION_COLUMNS.index(Terms._fields[0])
_TERMS = slice(_FIRST, _FIRST + len(Terms._fields))
"""The columns of a row that hold the terms."""

_others = itemgetter(
    *map(
        RESERVATION_COLUMNS.index,
        (
            *("id", "project", "key", "attempt", "state", "doubted", "provider", "task_id", "wire_format"),
            *("reserved", "billed", "basis", "labels", "changes", "reason", "fingerprint"),
            *("created_at", "dispatched_at", "closed_at", "deadline"),
        ),
    )
)
"""Returns the other columns of a row, in this order."""


@lru_cache(maxsize=1024)  # many reservations have the same terms
def _terms(values: tuple[Any, ...]) -> Terms:
    return read_terms(dict(zip(Terms._fields, values, strict=True)))


def from_row(values: Sequence[Any], now: datetime) -> Reservation:
    """Returns the reservation in a row of `SELECT`. The instant decides whether it is in doubt."""
    (
        name, project, key, attempt, state, doubted, provider, task_id, wire_format,
        reserved, billed, basis, labels, changes, reason, fingerprint,
        created_at, dispatched_at, closed_at, deadline_text,
    ) = _others(values)  # fmt: skip
    deadline = instant(deadline_text)
    in_doubt = (bool(doubted) and state in _DOUBTABLE) or (state == "dispatching" and deadline <= now)
    return Reservation(
        name, project, key, attempt, state, in_doubt, provider, task_id, wire_format,
        _terms(tuple(values[_TERMS])), from_nanos(reserved), None if billed is None else from_nanos(billed),
        basis, object_of(labels), object_of(changes), reason, fingerprint,
        instant(created_at), dispatched_at and instant(dispatched_at), closed_at and instant(closed_at),
        deadline,
    )  # fmt: skip


def find(db: sqlite3.Connection, ref: Ref, now: datetime) -> Reservation | None:
    """Returns a reservation, or None if it does not exist."""
    if isinstance(ref, str):
        row = db.execute(_SELECT_BY_ID, (ref,)).fetchone()
    else:
        row = db.execute(_SELECT_BY_TASK, tuple(ref)).fetchone()
    return None if row is None else from_row(row, now)


def get(db: sqlite3.Connection, ref: Ref, now: datetime) -> Reservation:
    """Returns a reservation.

    Raises:
        ReservationNotFoundError: the reservation does not exist.
    """
    reservation = find(db, ref, now)
    if reservation is None:
        raise errors.unknown(ref)
    return reservation


def doubted(db: sqlite3.Connection, reservation: str) -> bool:
    """Returns whether a reservation was marked in doubt, regardless of its deadline."""
    return bool(db.execute("SELECT doubted FROM reservation WHERE id = ?", (reservation,)).fetchone()[0])


class Look(NamedTuple):
    """The state of the ledger that a request to reserve checks first.

    Attributes:
        budgets: digest of the current budgets; None: the ledger has no budgets.
        is_frozen: whether spending is frozen.
        is_late: whether an expired reservation has not been released yet.
        is_known: whether the request's key was used before.
        rooms: the balances of the buckets that the request claims.
    """

    budgets: str | None
    is_frozen: bool
    is_late: bool
    is_known: bool
    rooms: list[BucketBalance]


@lru_cache(maxsize=64)
def _look(claims: int) -> str:
    """Returns the query of `look` for a number of claims."""
    return (
        "SELECT (SELECT digest FROM budget_revision ORDER BY revision DESC LIMIT 1),"  # noqa: S608 (constants only)
        " EXISTS (SELECT 1 FROM frozen),"
        " EXISTS (SELECT 1 FROM reservation WHERE state = 'reserved' AND deadline <= ?),"
        " EXISTS (SELECT 1 FROM reservation WHERE project = ? AND key = ?),"
        f" {ROOM} FROM {buckets_wanted(claims)}"
    )


def look(db: sqlite3.Connection, order: ReservationRequest, now: datetime) -> Look:
    """Reads the state that a request checks first, in one statement, because every reservation needs it."""
    at = written(now)
    values = (at, order.project, order.key, *wanted(order.claims, at))
    rows = db.execute(_look(calendared(order.claims)), values).fetchall()
    budgets, is_frozen, is_late, is_known = rows[0][:4]
    rooms = with_rolling(db, order.claims, now, rooms_of(order.claims, at, rows))
    return Look(budgets, is_frozen, is_late, is_known, rooms)


def newest(db: sqlite3.Connection, project: str, key: str) -> Sequence[Any] | None:
    """Returns the row of the newest reservation with a key, or None if the key is unused."""
    row: Sequence[Any] | None = db.execute(_SELECT_BY_KEY, (project, key)).fetchone()
    return row


def last_attempt(db: sqlite3.Connection, order: ReservationRequest, now: datetime) -> Reservation | None:
    """Returns the unsent or released reservation with a request's key, or None if the key is unused.

    A reservation that has expired counts as released, even if it has not been released yet.

    Raises:
        IdempotencyError: the key belongs to a different request.
        ReservationStateError: the key's job was already sent.
    """
    row = newest(db, order.project, order.key)
    if row is None:
        return None
    reservation = from_row(row, now)
    if reservation.fingerprint != order.fingerprint:
        raise errors.key_taken(reservation)
    if reservation.state == UNSENT and reservation.deadline <= now:
        return reservation._replace(state="released")
    if reservation.state in {UNSENT, "released"}:
        return reservation
    raise errors.key_sent(reservation)


def insert(
    db: sqlite3.Connection, reservation: Reservation, order: ReservationRequest, candidate: PricedVariant
) -> None:
    """Writes the row of a new reservation. The caller writes its lines and its journal entries."""
    sealed = (
        reservation.id,
        reservation.project,
        reservation.key,
        reservation.attempt,
        reservation.provider,
        reservation.wire_format,
        *written_terms(candidate.terms),
        candidate.reserved,
        labels_text(order.labels),
        object_text(candidate.changes),
        reservation.fingerprint,
        written(reservation.created_at),
    )
    dispatched_at = None if reservation.dispatched_at is None else written(reservation.dispatched_at)
    state = (reservation.state, dispatched_at, written(reservation.deadline))
    db.execute(_INSERT, (*sealed, seal(*sealed), *state))
