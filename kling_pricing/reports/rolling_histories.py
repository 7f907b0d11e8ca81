"""Makes one history of each rolling window, from the histories of its steps."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from decimal import Decimal
from itertools import groupby

from kling_pricing.ledger.journal import BucketHistory, Entry
from kling_pricing.money import add, subtract

LEAVES = "leave"
"""The kind of the entry with which a step leaves a rolling window."""

_NOTHING = Decimal(0)


def with_rolling_windows(histories: Sequence[BucketHistory], until: datetime) -> list[BucketHistory]:
    """Returns histories with one history for the steps of each rolling window; the others stay as they are.

    When a step leaves the window, its money no longer counts. The history then has an entry of the kind
    `LEAVES`, which is not in the journal. Changes of a step that has left the window are left out.

    Args:
        histories: the histories of buckets.
        until: the instant at which the balances are taken; steps that leave later still count.
    """
    others = [history for history in histories if history.bucket.rolling is None]
    steps = sorted((history for history in histories if history.bucket.rolling is not None), key=_window)
    return others + [_rolled_up(list(group), until) for _, group in groupby(steps, _window)]


def _window(history: BucketHistory) -> tuple[str, list[tuple[str, str]], str]:
    bucket = history.bucket
    return bucket.budget, sorted(bucket.labels.items()), history.definition


def _rolled_up(steps: Sequence[BucketHistory], until: datetime) -> BucketHistory:
    newest = max((step.bucket for step in steps), key=lambda bucket: bucket.window_start)
    counting = [step.bucket for step in steps if step.bucket.window_end > until]
    held, spent = _sum((bucket.held, bucket.spent) for bucket in counting)
    entries = [entry for step in steps for entry in _entries(step, until)]
    bucket = newest._replace(
        held=held,
        spent=spent,
        available=subtract(newest.cap, add(held, spent)),
        window_start=min(step.bucket.window_start for step in steps),
        window_end=max(step.bucket.window_end for step in steps),
    )
    return BucketHistory(bucket, steps[0].definition, tuple(sorted(entries, key=lambda entry: entry.at)))


def _entries(step: BucketHistory, until: datetime) -> Iterable[Entry]:
    """Returns the entries of a step while it counts, and the entry with which it leaves the window."""
    leaves = step.bucket.window_end
    counted = [entry for entry in step.entries if entry.at < leaves]
    yield from counted
    held, spent = _sum((entry.held, entry.spent) for entry in counted)
    if counted and leaves <= until and (held or spent):
        last = counted[-1]
        yield last._replace(at=leaves, kind=LEAVES, reservation_id=None, held=-held, spent=-spent, detail=None)


def _sum(amounts: Iterable[tuple[Decimal, Decimal]]) -> tuple[Decimal, Decimal]:
    held = spent = _NOTHING
    for more_held, more_spent in amounts:
        held, spent = add(held, more_held), add(spent, more_spent)
    return held, spent
