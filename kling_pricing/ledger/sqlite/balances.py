"""Buckets and journal: a balance moves only together with the entry that says why."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple, TypeAlias

from kling_pricing.ledger.model import Alert, BucketClaim, PricedVariant, Shortfall
from kling_pricing.ledger.sqlite.codec import alert_parts, alert_texts, instant, labels_text, object_of, written
from kling_pricing.money import format_decimal, from_nanos, multiply
from kling_pricing.windows import Period


class BucketBalance(NamedTuple):
    """A bucket as a transaction finds it, and the place of the claim on it.

    `bucket` is its row; None: nothing was ever counted in it, and it has none yet.
    `has_alerts`: whether it has thresholds.
    """

    place: int
    claim: BucketClaim
    period: Period
    bucket: int | None
    cap: int
    held: int
    spent: int
    has_alerts: bool

    @property
    def available(self) -> int:
        """What is left; below zero after an overrun or a lowered cap."""
        return self.cap - self.held - self.spent

    def takes(self, amount: int) -> bool:
        """Whether a request of this amount fits."""
        limit = self.claim.max_request
        return self.available >= amount and (limit is None or amount <= limit)


class Move(NamedTuple):
    """What one event does to one bucket."""

    bucket: int
    held: int
    spent: int


Window: TypeAlias = tuple[int, BucketClaim, Period]
"""The place of a claim among the claims of its order, the claim, and its window that lies around an instant."""

ROOM = "wanted.column1, bucket.id, cap, held, spent, alerts <> '[]'"
"""What `rooms_of` reads of each row of `buckets_wanted`: the last columns."""


def wanted(claims: Iterable[BucketClaim], at: datetime) -> tuple[list[Window], list[Any]]:
    """The windows that claims speak of, and the values by which `buckets_wanted` finds their buckets.

    A claim whose only window does not lie around the instant has none.
    """
    windows: list[Window] = []
    values: list[Any] = []
    for place, claim in enumerate(claims):
        for period in claim.periods:
            if period.start <= at < period.end:
                labels = labels_text(claim.labels)
                values += (len(windows), claim.budget, claim.definition, labels, written(period.start))
                windows.append((place, claim, period))
    return windows, values


def buckets_wanted(windows: int) -> str:
    """What to select `ROOM` from: a row for each window, with its bucket if it has one; one row for none."""
    if not windows:
        return "(VALUES (NULL)) AS wanted LEFT JOIN bucket ON bucket.id = wanted.column1"
    return (
        f"(VALUES {', '.join(['(?, ?, ?, ?, ?)'] * windows)}) AS wanted LEFT JOIN bucket ON"
        " budget = column2 AND definition = column3 AND labels = column4 AND window_start = column5"
    )


def rooms_of(windows: Sequence[Window], rows: Iterable[Sequence[Any]]) -> list[BucketBalance]:
    """The buckets in rows of `ROOM`."""
    balances = []
    for row in rows if windows else ():
        number, bucket, cap, held, spent, has_alerts = row[-6:]
        place, claim, period = windows[number]
        if bucket is None:
            cap, held, spent, has_alerts = claim.cap, 0, 0, bool(claim.alerts)
        balances.append(BucketBalance(place, claim, period, bucket, cap, held, spent, has_alerts))
    return balances


def rooms(db: sqlite3.Connection, claims: Iterable[BucketClaim], at: datetime) -> list[BucketBalance]:
    """The buckets that claims speak of at an instant."""
    windows, values = wanted(claims, at)
    rows = db.execute(f"SELECT {ROOM} FROM {buckets_wanted(len(windows))}", values)  # noqa: S608 (our own words)
    return rooms_of(windows, rows)


def opened(db: sqlite3.Connection, room: BucketBalance) -> int:
    """Returns the id of a bucket, which is made now if there is none."""
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
            written(room.period.start),
            written(room.period.end),
            claim.currency,
            claim.cap,
            alert_texts(claim.alerts),
        ),
    ).fetchone()
    return row[0]


def choose(rooms: Sequence[BucketBalance], candidates: Sequence[PricedVariant]) -> PricedVariant | None:
    """The first candidate that every bucket takes; only the first at all, if a budget does not cap."""
    for candidate in candidates:
        refusing = [room for room in rooms if not room.takes(candidate.amounts[room.place])]
        if not refusing:
            return candidate
        if candidate is candidates[0] and not all(room.claim.may_cap for room in refusing):
            return None
    return None


def shortfalls(rooms: Iterable[BucketBalance], candidate: PricedVariant) -> tuple[Shortfall, ...]:
    """Every bucket that does not take a candidate."""
    return tuple(
        Shortfall(
            room.claim.budget,
            room.claim.labels,
            candidate.amounts[room.place],
            room.available,
            room.claim.max_request,
            room.claim.currency,
            room.period.end,
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
    """Moves the balances and writes down why, in one place, so that neither is done without the other."""
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
    """The buckets of which more is used than before: only these can have reached a threshold."""
    return [bucket for bucket, held, spent in moves if held + spent > 0]


def threshold_alerts(
    db: sqlite3.Connection, buckets: Iterable[int], reservation: str | None, now: datetime
) -> tuple[Alert, ...]:
    """The thresholds of buckets reached for the first time; each is written down, so that it alerts once.

    A threshold is a part of a cap, so another cap has other thresholds.
    """
    alerts: list[Alert] = []
    for bucket in buckets:
        row = db.execute("SELECT alerts, cap, held + spent FROM bucket WHERE id = ?", (bucket,)).fetchone()
        parts, cap, used = row
        alerts += [
            _made_alert(db, "threshold", bucket, part, reservation)
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
    """The alerts of a bill above what was reserved, once for each bucket and amount."""
    return tuple(
        _made_alert(db, "overrun", move.bucket, None, reservation)
        for move in moves
        if _alert(db, move.bucket, f"{format_decimal(billed)} billed for {reservation}", reservation, now)
    )


def charge_alerts(db: sqlite3.Connection, reservation: str, text: str, now: datetime) -> tuple[Alert, ...]:
    """Returns the alerts of a doubtful charge, once for each bucket of the reservation and text."""
    rows = db.execute(
        "SELECT bucket FROM reservation_line WHERE reservation = ? ORDER BY bucket", (reservation,)
    ).fetchall()
    return tuple(
        _made_alert(db, "charge", bucket, None, reservation)._replace(detail=text)
        for (bucket,) in rows
        if _alert(db, bucket, f"charge of {reservation}: {text}", reservation, now)
    )


def _alert(db: sqlite3.Connection, bucket: int, detail: str, reservation: str | None, now: datetime) -> bool:
    """Writes an alert down; False: it was there before."""
    return (
        db.execute(
            "INSERT OR IGNORE INTO journal (at, kind, reservation, bucket, detail)"
            " VALUES (?, 'alert', ?, ?, ?)",
            (written(now), reservation, bucket, detail),
        ).rowcount
        == 1
    )


def _made_alert(
    db: sqlite3.Connection, kind: str, bucket: int, threshold: Decimal | None, reservation: str | None
) -> Alert:
    budget, labels, cap, used, currency, window_end = db.execute(
        "SELECT budget, labels, cap, held + spent, currency, window_end FROM bucket WHERE id = ?", (bucket,)
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
