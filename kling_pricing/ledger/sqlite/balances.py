"""Buckets and the journal. Every change of a balance writes a journal entry."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from itertools import accumulate
from typing import Any, NamedTuple

from kling_pricing.ledger import errors
from kling_pricing.ledger.model import Alert, BucketClaim
from kling_pricing.ledger.sqlite import rolling
from kling_pricing.ledger.sqlite.codec import alert_parts, alert_texts, instant, labels_text, object_of, written
from kling_pricing.money import format_decimal, from_nanos, multiply
from kling_pricing.windows import FOREVER, counting_period

CAP = """
ifnull((
  SELECT overlay.cap FROM cap_overlay AS overlay WHERE overlay.budget = bucket.budget AND overlay.ends_at > ?
), bucket.cap)
"""
"""The cap in force of a bucket at an instant, which is its parameter."""

_USE = f"SELECT alerts, {CAP}, held + spent, step_us FROM bucket WHERE id = ?"  # noqa: S608 (constants only)


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
        held: the held nanos; for a rolling window, those of all steps that count.
        spent: the spent nanos, likewise.
        has_alerts: whether the bucket has thresholds.
        steps: the steps of a rolling window that count; empty for all other windows.
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
    steps: tuple[rolling.RollingStep, ...] = ()

    @property
    def available(self) -> int:
        """The nanos that are left; negative after an overrun or a lowered cap."""
        return self.cap - self.held - self.spent

    def takes(self, amount: int) -> bool:
        """Returns whether the budget lets a request for this amount pass."""
        return self.claim.observes or self.fits(amount)

    def fits(self, amount: int) -> bool:
        """Returns whether a request for this amount is within the budget's limits."""
        limit = self.claim.max_request
        return self.available >= amount and (limit is None or amount <= limit)

    def without(self, late: Mapping[int, int]) -> BucketBalance:
        """Returns the balance without the nanos that expired reservations still hold, by bucket."""
        if self.claim.step is None:
            return self if self.bucket is None else self._replace(held=self.held - late.get(self.bucket, 0))
        steps = tuple(step._replace(held=step.held - late.get(step.bucket, 0)) for step in self.steps)
        return self._replace(held=sum(step.held for step in steps), steps=steps)

    def with_held(self, nanos: int) -> BucketBalance:
        """Returns the balance with further nanos held."""
        if not nanos:
            return self
        step = rolling.RollingStep(0, self.opens, self.closes, self.cap, nanos, 0, self.has_alerts)
        steps = self.steps if self.claim.step is None else (*self.steps, step)
        return self._replace(held=self.held + nanos, steps=steps)

    def ends(self, amount: int) -> datetime:
        """Returns the end of the window; for a rolling window, when so much has left it that an amount fits."""
        if self.claim.step is None:
            return instant(self.closes)
        leaving = sorted((step.closes, step.held + step.spent) for step in self.steps)
        freed = accumulate(used for _, used in leaving)
        enough = (
            closes for (closes, _), left in zip(leaving, freed, strict=True) if self.available + left >= amount
        )
        closes = next(enough, None)
        return FOREVER.end if closes is None else instant(closes)


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
        if claim.step is None:
            values += (place, claim.budget, claim.definition, labels_text(claim.labels), claim.schedule, at)
    return values


def calendared(claims: Sequence[BucketClaim]) -> int:
    """Returns the number of claims whose windows are in the calendar: all but rolling windows."""
    return sum(claim.step is None for claim in claims)


def buckets_wanted(claims: int) -> str:
    """Returns the FROM clause for `ROOM`: one row per claim, with its window, and its bucket if there is one.

    The window is the last one in the calendar that has begun. Without claims the clause yields one row.

    Args:
        claims: the number of claims whose windows are in the calendar.
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
    for row in rows:
        place, opens, closes, overlaid, bucket, cap, held, spent, has_alerts = row[-_ROOM_COLUMNS:]
        if place is None:  # without claims there is one row
            break
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
    query = f"SELECT {ROOM} FROM {buckets_wanted(calendared(claims))}"  # noqa: S608 (constants only)
    balances = rooms_of(claims, instant_text, db.execute(query, wanted(claims, instant_text)))
    return with_rolling(db, claims, at, balances)


def with_rolling(
    db: sqlite3.Connection, claims: Sequence[BucketClaim], at: datetime, balances: list[BucketBalance]
) -> list[BucketBalance]:
    """Adds the balances of rolling windows at an instant to the other balances, in the order of the claims."""
    if len(balances) == len(claims):  # the usual case
        return balances
    added = [
        _rolling_room(db, place, claim, at) for place, claim in enumerate(claims) if claim.step is not None
    ]
    return sorted((*balances, *added), key=lambda room: room.place)


def _rolling_room(db: sqlite3.Connection, place: int, claim: BucketClaim, at: datetime) -> BucketBalance:
    assert claim.step is not None  # noqa: S101 (for the type checker)
    steps = rolling.steps_of(db, claim, claim.step, at)
    opens, closes = map(written, counting_period(at, claim.step))
    current = next((step for step in steps if step.opens == opens), None)
    held, spent = sum(step.held for step in steps), sum(step.spent for step in steps)
    bucket, has_alerts = (None, bool(claim.alerts)) if current is None else (current.bucket, current.has_alerts)
    overlay = db.execute(
        "SELECT cap FROM cap_overlay WHERE budget = ? AND ends_at > ?", (claim.budget, written(at))
    ).fetchone()
    cap = claim.cap if current is None else current.cap
    cap = cap if overlay is None else overlay[0]
    return BucketBalance(place, claim, opens, closes, bucket, cap, held, spent, has_alerts, tuple(steps))


def opened(db: sqlite3.Connection, room: BucketBalance) -> int:
    """Returns the id of a bucket, and creates the bucket if it has no row yet."""
    if room.bucket is not None:
        return room.bucket
    claim = room.claim
    if claim.step is not None:
        rolling.begin(db, claim)
    row: tuple[int] = db.execute(
        "INSERT INTO bucket"
        " (budget, definition, labels, window_start, window_end, currency, cap, alerts, step_us)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) RETURNING id",
        (
            claim.budget,
            claim.definition,
            labels_text(claim.labels),
            room.opens,
            room.closes,
            claim.currency,
            claim.cap,
            alert_texts(claim.alerts),
            rolling.step_us(claim.step),
        ),
    ).fetchone()
    return row[0]


def enter(
    db: sqlite3.Connection,
    now: datetime,
    kind: str,
    reservation: str | None,
    moves: Sequence[Move],
    detail: str | None,
    billed: int | None = None,
) -> None:
    """Changes balances and writes the journal entry for each change; of a settlement, with its amount."""
    at = written(now)
    if not moves:
        db.execute(
            "INSERT INTO journal (at, kind, reservation, detail, billed) VALUES (?, ?, ?, ?, ?)",
            (at, kind, reservation, detail, billed),
        )
    for bucket, held, spent in moves:
        db.execute("UPDATE bucket SET held = held + ?, spent = spent + ? WHERE id = ?", (held, spent, bucket))
        db.execute(
            "INSERT INTO journal (at, kind, reservation, bucket, held_delta, spent_delta, detail, billed)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (at, kind, reservation, bucket, held, spent, detail, billed),
        )


def grown(moves: Iterable[Move]) -> dict[int, int]:
    """Returns the buckets whose use has grown, each with its growth in nanos.

    Only these can have reached a threshold.
    """
    return {bucket: held + spent for bucket, held, spent in moves if held + spent > 0}


def threshold_alerts(
    db: sqlite3.Connection, buckets: Mapping[int, int], reservation: str | None, now: datetime
) -> tuple[Alert, ...]:
    """Returns alerts for the thresholds that buckets reach for the first time.

    Writes each alert to the journal, so that it fires once; in a rolling window, once per crossing. A threshold
    is a fraction of a cap, so a changed cap has new thresholds.

    Args:
        db: the connection.
        buckets: the buckets, each with the nanos by which it has just grown.
        reservation: the id of the reservation that caused the growth.
        now: the instant.
    """
    alerts: list[Alert] = []
    for bucket, growth in buckets.items():
        row = db.execute(_USE, (written(now), bucket)).fetchone()
        parts, cap, used, step = row
        window = None if step is None else rolling.window_of(db, bucket)
        if window is not None:
            for part in rolling.newly_reached(db, window, parts, cap, growth, now):
                text = rolling.crossing_text(db, bucket, rolling.threshold_text(part, cap))
                _alert(db, bucket, text, reservation, now)
                alerts.append(_new_alert(db, "threshold", bucket, part, reservation, now))
            continue
        alerts += [
            _new_alert(db, "threshold", bucket, part, reservation, now)
            for part in alert_parts(parts)
            if used > 0
            and used >= multiply(part, cap)
            and _alert(db, bucket, rolling.threshold_text(part, cap), reservation, now)
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
    window = rolling.window_of(db, bucket)
    return Alert(
        kind,
        budget,
        object_of(labels),
        threshold,
        from_nanos(cap),
        from_nanos(used if window is None else rolling.used(db, window, now)),
        currency,
        instant(window_end),
        reservation,
    )
