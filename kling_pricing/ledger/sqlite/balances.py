"""Buckets and the journal. Every change of a balance writes a journal entry."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple

from kling_pricing.ledger import errors
from kling_pricing.ledger.model import Alert, BucketClaim, PricedVariant, Shortfall
from kling_pricing.ledger.sqlite.codec import alert_parts, alert_texts, instant, labels_text, object_of, written
from kling_pricing.money import format_decimal, from_nanos, multiply

CAP = """
ifnull((
  SELECT overlay.cap FROM cap_overlay AS overlay WHERE overlay.budget = bucket.budget AND overlay.ends_at > ?
), bucket.cap)
"""
"""The cap in force of a bucket at an instant, which is its parameter."""

_USE = f"SELECT alerts, {CAP}, held + spent FROM bucket WHERE id = ?"  # noqa: S608 (constants only)


class BucketBalance(NamedTuple):
    """The balance of a bucket inside a transaction, and the claim on the bucket.

    Attributes:
        place: the index of the claim in its request.
        claim: the claim.
        opens: the start of the bucket's window, as text.
        closes: the end of the window, as text.
        bucket: the id of the bucket's row; None: the bucket has no row yet, because it has never counted
            anything.
        cap: the cap in force in nanos.
        held: the held nanos.
        spent: the spent nanos.
        has_alerts: whether the bucket has thresholds.
    """

    place: int
    claim: BucketClaim
    opens: str
    closes: str
    bucket: int | None
    cap: int
    held: int
    spent: int
    has_alerts: bool

    @property
    def available(self) -> int:
        """The nanos that are left; negative after an overrun or a lowered cap."""
        return self.cap - self.held - self.spent

    def takes(self, amount: int) -> bool:
        """Returns whether a request for this amount fits."""
        limit = self.claim.max_request
        return self.available >= amount and (limit is None or amount <= limit)


class Move(NamedTuple):
    """The change of one bucket's balance by one event, in nanos."""

    bucket: int
    held: int
    spent: int


ROOM = (
    "wanted.column1, calendar.window_start, calendar.window_end, overlay.cap, bucket.id, bucket.cap, held,"
    " spent, alerts <> '[]'"
)
"""The columns that `rooms_of` reads. They are the last columns of each row."""

_ROOM_COLUMNS = 9


def wanted(claims: Sequence[BucketClaim], at: str) -> list[Any]:
    """Returns the parameters of the query from `buckets_wanted` for the windows that contain an instant."""
    values: list[Any] = []
    for place, claim in enumerate(claims):
        values += (place, claim.budget, claim.definition, labels_text(claim.labels), claim.schedule, at)
    return values


def buckets_wanted(claims: int) -> str:
    """Returns the FROM clause for `ROOM`: one row per claim, with its window, and its bucket if there is one.

    The window is the last one in the calendar that has begun. Without claims the clause yields one row.
    """
    if not claims:
        return (
            "(VALUES (NULL)) AS wanted LEFT JOIN calendar ON calendar.schedule = wanted.column1"
            " LEFT JOIN bucket ON bucket.id = wanted.column1"
            " LEFT JOIN cap_overlay AS overlay ON overlay.budget = wanted.column1"
        )
    return (
        f"(VALUES {', '.join(['(?, ?, ?, ?, ?, ?)'] * claims)}) AS wanted"  # noqa: S608 (constants only)
        " LEFT JOIN calendar ON calendar.schedule = column5 AND calendar.window_start ="
        " (SELECT max(begun.window_start) FROM calendar AS begun"
        " WHERE begun.schedule = column5 AND begun.window_start <= column6)"
        " LEFT JOIN bucket ON bucket.budget = column2 AND definition = column3 AND labels = column4"
        " AND bucket.window_start = calendar.window_start"
        " LEFT JOIN cap_overlay AS overlay ON overlay.budget = column2 AND overlay.ends_at > column6"
    )


def rooms_of(claims: Sequence[BucketClaim], at: str, rows: Iterable[Sequence[Any]]) -> list[BucketBalance]:
    """Returns the balances in rows of `ROOM`.

    A claim without a window that contains the instant is left out: its only window has not begun or is over, or
    the instant is before the calendar.

    Raises:
        LedgerUnavailableError: the instant is after the calendar.
    """
    balances = []
    for row in rows if claims else ():
        place, opens, closes, overlaid, bucket, cap, held, spent, has_alerts = row[-_ROOM_COLUMNS:]
        claim = claims[place]
        if opens is None or closes <= at:
            if claim.recurs and opens is not None:
                raise errors.calendar_over(claim.budget, instant(closes))
            continue
        if bucket is None:
            cap, held, spent, has_alerts = claim.cap, 0, 0, bool(claim.alerts)
        cap = cap if overlaid is None else overlaid
        balances.append(BucketBalance(place, claim, opens, closes, bucket, cap, held, spent, has_alerts))
    return balances


def rooms(db: sqlite3.Connection, claims: Sequence[BucketClaim], at: datetime) -> list[BucketBalance]:
    """Returns the balances of the buckets that claims refer to at an instant."""
    instant_text = written(at)
    query = f"SELECT {ROOM} FROM {buckets_wanted(len(claims))}"  # noqa: S608 (constants only)
    return rooms_of(claims, instant_text, db.execute(query, wanted(claims, instant_text)))


def opened(db: sqlite3.Connection, room: BucketBalance) -> int:
    """Returns the id of a bucket, and creates the bucket if it has no row yet."""
    if room.bucket is not None:
        return room.bucket
    claim = room.claim
    row: tuple[int] = db.execute(
        "INSERT INTO bucket"
        " (budget, definition, labels, window_start, window_end, currency, cap, alerts)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?) RETURNING id",
        (
            claim.budget,
            claim.definition,
            labels_text(claim.labels),
            room.opens,
            room.closes,
            claim.currency,
            claim.cap,
            alert_texts(claim.alerts),
        ),
    ).fetchone()
    return row[0]


def choose(rooms: Sequence[BucketBalance], candidates: Sequence[PricedVariant]) -> PricedVariant | None:
    """Returns the first candidate that fits every bucket, or None.

    If the first candidate does not fit a budget that does not cap, the others are not tried.
    """
    for candidate in candidates:
        too_small = [room for room in rooms if not room.takes(candidate.amounts[room.place])]
        if not too_small:
            return candidate
        if candidate is candidates[0] and not all(room.claim.may_cap for room in too_small):
            return None
    return None


def shortfalls(rooms: Iterable[BucketBalance], candidate: PricedVariant) -> tuple[Shortfall, ...]:
    """Returns a shortfall for every bucket that a candidate does not fit into."""
    return tuple(
        Shortfall(
            room.claim.budget,
            room.claim.labels,
            candidate.amounts[room.place],
            room.available,
            room.claim.max_request,
            room.claim.currency,
            instant(room.closes),
            room.claim.may_cap,
        )
        for room in rooms
        if not room.takes(candidate.amounts[room.place])
    )


def enter(
    db: sqlite3.Connection,
    now: datetime,
    kind: str,
    reservation: str | None,
    moves: Sequence[Move],
    detail: str | None,
) -> None:
    """Changes balances and writes the journal entry for each change."""
    at = written(now)
    if not moves:
        db.execute(
            "INSERT INTO journal (at, kind, reservation, detail) VALUES (?, ?, ?, ?)",
            (at, kind, reservation, detail),
        )
    for bucket, held, spent in moves:
        db.execute("UPDATE bucket SET held = held + ?, spent = spent + ? WHERE id = ?", (held, spent, bucket))
        db.execute(
            "INSERT INTO journal (at, kind, reservation, bucket, held_delta, spent_delta, detail)"
            " VALUES (?, ?, ?, ?, ?, ?, ?)",
            (at, kind, reservation, bucket, held, spent, detail),
        )


def grown(moves: Iterable[Move]) -> list[int]:
    """Returns the buckets whose use has grown. Only these can have reached a threshold."""
    return [bucket for bucket, held, spent in moves if held + spent > 0]


def threshold_alerts(
    db: sqlite3.Connection, buckets: Iterable[int], reservation: str | None, now: datetime
) -> tuple[Alert, ...]:
    """Returns alerts for the thresholds that buckets reach for the first time.

    Writes each alert to the journal, so that it fires once. A threshold is a fraction of a cap, so a changed
    cap has new thresholds.
    """
    alerts: list[Alert] = []
    for bucket in buckets:
        row = db.execute(_USE, (written(now), bucket)).fetchone()
        parts, cap, used = row
        alerts += [
            _new_alert(db, "threshold", bucket, part, reservation, now)
            for part in alert_parts(parts)
            if used > 0
            and used >= multiply(part, cap)
            and _alert(
                db, bucket, f"{format_decimal(part)} of {format_decimal(from_nanos(cap))}", reservation, now
            )
        ]
    return tuple(alerts)


def overrun_alerts(
    db: sqlite3.Connection, moves: Iterable[Move], billed: Decimal, reservation: str, now: datetime
) -> tuple[Alert, ...]:
    """Returns alerts for a bill above the reserved amount, once for each bucket and amount."""
    return tuple(
        _new_alert(db, "overrun", move.bucket, None, reservation, now)
        for move in moves
        if _alert(db, move.bucket, f"{format_decimal(billed)} billed for {reservation}", reservation, now)
    )


def charge_alerts(db: sqlite3.Connection, reservation: str, text: str, now: datetime) -> tuple[Alert, ...]:
    """Returns the alerts of a doubtful charge, once for each bucket of the reservation and text."""
    rows = db.execute(
        "SELECT bucket FROM reservation_line WHERE reservation = ? ORDER BY bucket", (reservation,)
    ).fetchall()
    return tuple(
        _new_alert(db, "charge", bucket, None, reservation, now)._replace(detail=text)
        for (bucket,) in rows
        if _alert(db, bucket, f"charge of {reservation}: {text}", reservation, now)
    )


def _alert(db: sqlite3.Connection, bucket: int, detail: str, reservation: str | None, now: datetime) -> bool:
    """Writes an alert to the journal. Returns False if the journal already has it."""
    return (
        db.execute(
            "INSERT OR IGNORE INTO journal (at, kind, reservation, bucket, detail)"
            " VALUES (?, 'alert', ?, ?, ?)",
            (written(now), reservation, bucket, detail),
        ).rowcount
        == 1
    )


def _new_alert(
    db: sqlite3.Connection,
    kind: str,
    bucket: int,
    threshold: Decimal | None,
    reservation: str | None,
    now: datetime,
) -> Alert:
    budget, labels, cap, used, currency, window_end = db.execute(
        f"SELECT budget, labels, {CAP}, held + spent, currency, window_end FROM bucket WHERE id = ?",  # noqa: S608
        (written(now), bucket),
    ).fetchone()
    return Alert(
        kind,
        budget,
        object_of(labels),
        threshold,
        from_nanos(cap),
        from_nanos(used),
        currency,
        instant(window_end),
        reservation,
    )
