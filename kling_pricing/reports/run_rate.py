"""The run rate of a budget's window: the pace of spending, and what is used at its end at that pace. Pure.

The rules are those of `guard.forecasts`, applied to the instant of the report instead of the present.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from typing import NamedTuple

from kling_pricing.ledger.journal import BucketHistory
from kling_pricing.money import NANOS, add, from_nanos, multiply, subtract, sum_of
from kling_pricing.reports.charts import Forecast, Step
from kling_pricing.windows import FOREVER

_DAY = timedelta(days=1)
_PARTS = 10
_MICROSECOND = timedelta(microseconds=1)


class RunRate(NamedTuple):
    """The pace of spending in a window that is not over, and its consequence.

    Attributes:
        per_day: the pace in the budget's currency per 24 hours, rounded down to a billionth.
        used_at_end: the amount held and spent at the end of the window at this pace, rounded down likewise.
        exhausted_at: the instant at which nothing is left at this pace, UTC; None: the window ends before that,
            or nothing is left already.
    """

    per_day: Decimal
    used_at_end: Decimal
    exhausted_at: datetime | None


def run_rate(history: BucketHistory, begun_at: datetime, now: datetime) -> RunRate | None:
    """Returns the run rate of a window at an instant.

    Args:
        history: the bucket, with its entries until the instant.
        begun_at: the instant at which the ledger began to count.
        now: the instant.

    Returns:
        The run rate; None: the window is over, rolls or never ends, or too little of it is over.
    """
    bucket = history.bucket
    is_open = bucket.window_start <= now < bucket.window_end < FOREVER.end
    if not is_open or bucket.rolling is not None:
        return None
    measured_from = max(bucket.window_start, begun_at)
    used = add(bucket.held, bucket.spent)
    paced = used
    if measured_from > bucket.window_start:
        paced = subtract(used, sum_of(entry.spent for entry in history.entries if entry.kind == "opening"))
    measured = now - measured_from
    if measured <= timedelta(0) or measured < min((bucket.window_end - bucket.window_start) // _PARTS, _DAY):
        return None
    if paced < 0:
        return None
    paced_nanos, measured_us = int(multiply(paced, NANOS)), measured // _MICROSECOND
    rest_us = (bucket.window_end - now) // _MICROSECOND
    more = from_nanos(paced_nanos * rest_us // measured_us)
    exhausted_at = None
    left_nanos = int(multiply(bucket.available, NANOS))
    if paced_nanos and left_nanos > 0:
        until_us = -(-left_nanos * measured_us // paced_nanos)  # rounded up
        if until_us < rest_us:
            exhausted_at = now + until_us * _MICROSECOND
    pace = from_nanos(paced_nanos * (_DAY // _MICROSECOND) // measured_us)
    return RunRate(pace, add(used, more), exhausted_at)


def forecast_line(history: BucketHistory, rate: RunRate | None, now: datetime) -> Forecast | None:
    """Returns the line from what is left at an instant to what is left at the end, or to zero before that."""
    if rate is None:
        return None
    bucket = history.bucket
    start = Step(now, bucket.available)
    if rate.exhausted_at is not None:
        return Forecast(start, Step(rate.exhausted_at, Decimal(0)))
    return Forecast(start, Step(bucket.window_end, subtract(bucket.cap, rate.used_at_end)))
