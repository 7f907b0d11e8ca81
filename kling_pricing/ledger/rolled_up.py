"""Adds up the steps of rolling windows, as people see them: one balance for each window. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from itertools import groupby

from kling_pricing.ledger.journal import Bucket
from kling_pricing.money import add, subtract, sum_of
from kling_pricing.windows import STEPS, length_text, rolling_period

_MICROSECOND = timedelta(microseconds=1)


def rolling_length(step_us: int | None) -> str | None:
    """Returns the length of a rolling window as text, from its step in microseconds."""
    return None if step_us is None else length_text(STEPS * step_us * _MICROSECOND)


def rolled_up(buckets: Iterable[tuple[str, Bucket]], at: datetime) -> list[tuple[str, Bucket]]:
    """Returns buckets with one bucket for the steps of each rolling window.

    Args:
        buckets: the buckets that count at an instant, each with its budget's definition; those of a budget,
            labels and definition follow each other, the steps of a rolling window in order.
        at: the instant.
    """
    added_up = []
    for (definition, *_), group in groupby(buckets, _window):
        members = [bucket for _, bucket in group]
        added_up.append((definition, members[0] if members[0].rolling is None else _sum(members, at)))
    return added_up


def _window(row: tuple[str, Bucket]) -> tuple[str, str, tuple[tuple[str, str], ...], str | datetime]:
    """Returns values that the steps of one rolling window share, and that differ between all other buckets."""
    definition, bucket = row
    return definition, bucket.budget, tuple(bucket.labels.items()), bucket.rolling or bucket.window_start


def _sum(steps: Sequence[Bucket], at: datetime) -> Bucket:
    newest = steps[-1]
    held, spent = sum_of(step.held for step in steps), sum_of(step.spent for step in steps)
    start, end = rolling_period(at, (newest.window_end - newest.window_start) / (STEPS + 1))
    left = subtract(newest.cap, add(held, spent))
    return newest._replace(held=held, spent=spent, available=left, window_start=start, window_end=end)
