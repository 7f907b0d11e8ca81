"""Finds the buckets that a request must fit into: its claims on the matching budgets. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import Decimal

from kling_pricing.budgets import BudgetEntry, BudgetsFile
from kling_pricing.ledger.model import BucketClaim
from kling_pricing.money import nanos_up
from kling_pricing.windows import FOREVER, Period

_INSTANT = timedelta(microseconds=1)


def claims(
    budgets: BudgetsFile, labels: Mapping[str, str], currency: str, at: datetime
) -> tuple[BucketClaim, ...]:
    """Returns the claims of a request on every budget that matches it.

    Args:
        budgets: the budgets in force.
        labels: the labels of the request, including its project.
        currency: the currency of its quote.
        at: the current instant on the caller's clock. The ledger's clock may be in the previous or next window.

    Raises:
        BudgetError: a budget counts in another currency, and the budgets give no accounting rate for it.
    """
    matching = []
    for budget in budgets.budgets:
        bucket_labels = budget.bucket_labels(labels)
        if bucket_labels is not None:
            matching.append(claim(budget, bucket_labels, budgets.rate(currency, budget), at))
    return tuple(matching)


def claim(budget: BudgetEntry, labels: Mapping[str, str], rate: Decimal | None, at: datetime) -> BucketClaim:
    """Returns the claim on the bucket of a budget that has these labels."""
    return BucketClaim(
        budget.name,
        budget.definition,
        labels,
        _periods(budget, at),
        nanos_up(budget.cap),
        budget.currency,
        rate,
        budget.on_exceed == "cap",
        None if budget.max_request is None else nanos_up(budget.max_request),
        budget.alerts,
    )


def _periods(budget: BudgetEntry, at: datetime) -> tuple[Period, ...]:
    """Returns the window that contains an instant, and the windows before and after it.

    The ledger picks one of them by its own clock, which may differ from the caller's. For a budget with only
    one window, returns that window, whether it is open or not.
    """
    current = budget.only_period or budget.period(at)
    if current is None or current in {FOREVER, budget.only_period}:
        return () if current is None else (current,)
    before, after = budget.period(current.start - _INSTANT), budget.period(current.end)
    return tuple(period for period in (before, current, after) if period is not None)
