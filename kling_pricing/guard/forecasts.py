"""The pace of spending, and the instant at which a budget is exhausted if spending goes on at that pace.

The pace is the amount held and spent since the start of the window, divided by the time since then. If the
ledger began to count later, the pace is measured from its first budgets on, without the opening balance of the
window. There is a pace only after a tenth of the window, or a day if that is shorter, because a single early
job says little about the rest of the window.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal
from typing import NamedTuple

from kling_pricing.budgets import BudgetsFile
from kling_pricing.guard.budget_status import balances
from kling_pricing.ledger import Ledger
from kling_pricing.ledger.alerting import Opening
from kling_pricing.ledger.journal import Bucket
from kling_pricing.money import NANOS, from_nanos, multiply, subtract

_DAY = timedelta(days=1)
_PARTS = 10
_MICROSECOND = timedelta(microseconds=1)


class BudgetForecast(NamedTuple):
    """The pace of spending in one bucket, and its consequence.

    Attributes:
        bucket: the balance of the bucket.
        measured_from: the start of the period in which the pace was measured, UTC.
        pace_per_day: the pace in the budget's currency per 24 hours, rounded down to a billionth; None: too
            little of the window is over, or the window rolls, so that money becomes available all the time.
        exhausted_at: the instant at which nothing is left at this pace, UTC; None: the window ends before that,
            nothing is left already, or there is no pace.
    """

    bucket: Bucket
    measured_from: datetime
    pace_per_day: Decimal | None
    exhausted_at: datetime | None


def forecasts(ledger: Ledger, budgets: BudgetsFile, now: datetime) -> list[BudgetForecast]:
    """Returns a forecast for each balance of the budgets."""
    begun_at = ledger.begun_at() or now
    openings = ledger.openings(now)
    return [_forecast(bucket, begun_at, openings, now) for bucket in balances(ledger, budgets, now)]


def _forecast(bucket: Bucket, begun_at: datetime, openings: list[Opening], now: datetime) -> BudgetForecast:
    measured_from = max(bucket.window_start, begun_at)
    if bucket.rolling is not None:
        return BudgetForecast(bucket, measured_from, None, None)
    used = bucket.held + bucket.spent
    if measured_from > bucket.window_start:
        place = (bucket.budget, bucket.labels, bucket.window_start)
        for opening in openings:
            if (opening.budget, opening.labels, opening.window_start) == place:
                used = subtract(used, opening.spent)
    measured = now - measured_from
    if measured < min((bucket.window_end - bucket.window_start) // _PARTS, _DAY) or used < 0:
        return BudgetForecast(bucket, measured_from, None, None)
    used_nanos, measured_us = int(multiply(used, NANOS)), measured // _MICROSECOND
    pace = from_nanos(used_nanos * (_DAY // _MICROSECOND) // measured_us)
    left_nanos = int(multiply(bucket.available, NANOS))
    exhausted_at = None
    if used_nanos and left_nanos > 0:
        rest_us = -(-left_nanos * measured_us // used_nanos)  # rounded up
        if rest_us < (bucket.window_end - now) // _MICROSECOND:
            exhausted_at = now + rest_us * _MICROSECOND
    return BudgetForecast(bucket, measured_from, pace, exhausted_at)
