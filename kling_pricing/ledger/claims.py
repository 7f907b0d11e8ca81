"""From budgets to claims: which buckets a request needs room in. Pure."""

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
    """The claims of a request on every budget that matches it.

    Args:
        budgets: those in force.
        labels: of the request, its project among them.
        currency: of its quote.
        at: now, by the caller's clock; the ledger's own may be in the window before or after.

    Raises:
        BudgetError: a budget counts in another currency, and no accounting rate is given.
    """
    matching = []
    for budget in budgets.budgets:
        own = budget.bucket_labels(labels)
        if own is not None:
            matching.append(claim(budget, own, budgets.rate(currency, budget), at))
    return tuple(matching)


def claim(budget: BudgetEntry, labels: Mapping[str, str], rate: Decimal | None, at: datetime) -> BucketClaim:
    """The claim on the bucket of a budget with these labels."""
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
    """The window around an instant and its neighbours; a window that comes once, whether it is open or not.

    The ledger's clock decides, and it may be further than the caller's was.
    """
    current = budget.only_period or budget.period(at)
    if current is None or current in {FOREVER, budget.only_period}:
        return () if current is None else (current,)
    before, after = budget.period(current.start - _INSTANT), budget.period(current.end)
    return tuple(period for period in (before, current, after) if period is not None)
