"""From budgets to claims: which buckets a request needs room in. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import Decimal

from kling_pricing.budgets import BudgetEntry, BudgetsFile
from kling_pricing.ledger.records import Claim
from kling_pricing.money import nanos_up
from kling_pricing.windows import FOREVER, Period

_INSTANT = timedelta(microseconds=1)


def claims(budgets: BudgetsFile, labels: Mapping[str, str], currency: str, at: datetime) -> tuple[Claim, ...]:
    """The claims of a request on every budget that matches it and has a window around an instant.

    Args:
        budgets: those in force.
        labels: of the request, its project among them.
        currency: of its quote.
        at: now, by the caller's clock; the ledger's own may be in the window before or after.

    Raises:
        BudgetError: a budget counts in another currency, and no accounting rate is given.
    """
    found = []
    for budget in budgets.budgets:
        own = budget.bucket_labels(labels)
        if own is not None:
            found.append(claim(budget, own, budgets.rate(currency, budget), at))
    return tuple(each for each in found if each is not None)


def claim(budget: BudgetEntry, labels: Mapping[str, str], rate: Decimal | None, at: datetime) -> Claim | None:
    """The claim on the bucket of a budget with these labels; None: it has no window around the instant."""
    periods = _periods(budget, at)
    if not periods:
        return None
    return Claim(
        budget.name,
        budget.definition,
        labels,
        periods,
        nanos_up(budget.cap),
        budget.currency,
        rate,
        budget.on_exceed == "cap",
        None if budget.max_request is None else nanos_up(budget.max_request),
        budget.alerts,
    )


def _periods(budget: BudgetEntry, at: datetime) -> tuple[Period, ...]:
    """The window around an instant and its neighbours, where there are any."""
    current = budget.period(at)
    if current is None or current == FOREVER:
        return () if current is None else (current,)
    before, after = budget.period(current.start - _INSTANT), budget.period(current.end)
    return tuple(period for period in (before, current, after) if period is not None)
