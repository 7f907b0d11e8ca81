"""Rolling windows: the steps that count at an instant, and the thresholds that have fired.

A rolling window of one budget and set of labels has one bucket for each step in which it was used. All steps
that have not left the window count, and so do later ones, which exist if the clock has stepped back. So no
sequence of instants can reserve more than the cap in any period of the window's length.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from datetime import datetime, timedelta
from decimal import Decimal
from typing import NamedTuple

from kling_pricing.ledger.model import BucketClaim
from kling_pricing.ledger.sqlite.codec import alert_parts, labels_text, written
from kling_pricing.money import format_decimal, from_nanos, multiply
from kling_pricing.windows import STEPS, counting_period

_MICROSECOND = timedelta(microseconds=1)

_COUNTING = (
    "SELECT id, window_start, window_end, cap, held, spent, alerts <> '[]' FROM bucket"
    " WHERE budget = ? AND definition = ? AND labels = ? AND window_start >= ? ORDER BY window_start"
)


class RollingStep(NamedTuple):
    """A step of a rolling window in which the budget was used.

    Attributes:
        bucket: the id of its bucket.
        opens: the start of the step, as text.
        closes: the instant at which the step leaves the window, as text.
        cap: the cap in nanos.
        held: the held nanos.
        spent: the spent nanos.
        has_alerts: whether the budget has thresholds.
    """

    bucket: int
    opens: str
    closes: str
    cap: int
    held: int
    spent: int
    has_alerts: bool


def step_us(step: timedelta | None) -> int | None:
    """Returns a step in microseconds, as the table of buckets has it."""
    return None if step is None else step // _MICROSECOND


def counting(
    db: sqlite3.Connection, budget: str, definition: str, labels: str, step: timedelta, at: datetime
) -> list[RollingStep]:
    """Returns the steps that count at an instant, in order."""
    first = counting_period(at, step).start - STEPS * step
    return [RollingStep(*row) for row in db.execute(_COUNTING, (budget, definition, labels, written(first)))]


def steps_of(db: sqlite3.Connection, claim: BucketClaim, step: timedelta, at: datetime) -> list[RollingStep]:
    """Returns the steps of the bucket of a claim that count at an instant, in order."""
    return counting(db, claim.budget, claim.definition, labels_text(claim.labels), step, at)


def begin(db: sqlite3.Connection, claim: BucketClaim) -> None:
    """Writes the row of the rolling window of a claim, unless it exists."""
    db.execute(
        "INSERT OR IGNORE INTO rolling_window (budget, definition, labels, reached) VALUES (?, ?, ?, '[]')",
        (claim.budget, claim.definition, labels_text(claim.labels)),
    )


class RollingPlace(NamedTuple):
    """The place of a bucket: its rolling window, and its step.

    Attributes:
        budget: the budget's name.
        definition: the definition of the budget.
        labels: the labels, as text.
        closes: the instant at which the bucket's step leaves the window, as text.
        step: the step by which the window moves.
    """

    budget: str
    definition: str
    labels: str
    closes: str
    step: timedelta


def window_of(db: sqlite3.Connection, bucket: int) -> RollingPlace | None:
    """Returns the rolling window to which a bucket belongs; None if the bucket has another kind of window."""
    budget, definition, labels, closes, step = db.execute(
        "SELECT budget, definition, labels, window_end, step_us FROM bucket WHERE id = ?", (bucket,)
    ).fetchone()
    return None if step is None else RollingPlace(budget, definition, labels, closes, step * _MICROSECOND)


def used(db: sqlite3.Connection, window: RollingPlace, now: datetime) -> int:
    """Returns the nanos that are held and spent in a rolling window at an instant."""
    budget, definition, labels, _, step = window
    return sum(part.held + part.spent for part in counting(db, budget, definition, labels, step, now))


def newly_reached(
    db: sqlite3.Connection, window: RollingPlace, alerts: str, cap: int, grown: int, now: datetime
) -> Iterable[Decimal]:
    """Returns the thresholds that a rolling window has just reached, and remembers them.

    A threshold fires once, and again after the window was below it.

    Args:
        db: the connection.
        window: the window.
        alerts: the thresholds, as text.
        cap: the cap in nanos.
        grown: the nanos by which the bucket of the window has just grown.
        now: the instant.
    """
    after = used(db, window, now)
    before = after - (grown if window.closes > written(now) else 0)
    place = window[:3]
    row = db.execute(
        "SELECT reached FROM rolling_window WHERE budget = ? AND definition = ? AND labels = ?", place
    ).fetchone()
    remembered = json.loads(row[0])
    amounts = {part: multiply(part, cap) for part in alert_parts(alerts)}
    names = {part: threshold_text(part, cap) for part in amounts}
    kept = {part for part, amount in amounts.items() if names[part] in remembered and before >= amount}
    new = [part for part, amount in amounts.items() if after > 0 and after >= amount and part not in kept]
    reached = sorted(names[part] for part in (*kept, *new))
    if reached != remembered:
        db.execute(
            "UPDATE rolling_window SET reached = ? WHERE budget = ? AND definition = ? AND labels = ?",
            (json.dumps(reached), *place),
        )
    return new


def threshold_text(part: Decimal, cap: int) -> str:
    """Returns a threshold as the journal has it: `0.8 of 10`."""
    return f"{format_decimal(part)} of {format_decimal(from_nanos(cap))}"


def crossing_text(db: sqlite3.Connection, bucket: int, threshold: str) -> str:
    """Returns the text of a further alert for a threshold that has fired before in the same step."""
    (earlier,) = db.execute(
        "SELECT count(*) FROM journal WHERE kind = 'alert' AND bucket = ? AND detail || ' ' LIKE ? || ' %'",
        (bucket, threshold),
    ).fetchone()
    return f"{threshold} ({earlier + 1})" if earlier else threshold
