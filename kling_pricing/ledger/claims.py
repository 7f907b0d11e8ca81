"""Finds the buckets that a request must fit into: its claims on the matching budgets. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta, tzinfo
from decimal import Decimal

from kling_pricing.budgets import BudgetEntry, BudgetsFile
from kling_pricing.ledger.model import BucketClaim
from kling_pricing.money import nanos_up
from kling_pricing.windows import FOREVER, Period, bounds_after

_INSTANT = timedelta(microseconds=1)


def claims(budgets: BudgetsFile, labels: Mapping[str, str], currency: str) -> tuple[BucketClaim, ...]:
    """Returns the claims of a request on every budget that matches it.

    Args:
        budgets: the current budgets.
        labels: the labels of the request, including its project.
        currency: the currency of its quote.

    Raises:
        BudgetError: a budget counts in another currency, and the budgets give no accounting rate for it.
    """
    matching = []
    for budget in budgets.budgets:
        bucket_labels = budget.bucket_labels(labels)
        if bucket_labels is not None:
            matching.append(claim(budget, bucket_labels, budgets.rate(currency, budget)))
    return tuple(matching)


def claim(budget: BudgetEntry, labels: Mapping[str, str], rate: Decimal | None) -> BucketClaim:
    """Returns the claim on the bucket of a budget that has these labels."""
    return BucketClaim(
        budget.name,
        budget.definition,
        labels,
        budget.schedule,
        budget.recurs,
        nanos_up(budget.cap),
        budget.currency,
        rate,
        budget.on_exceed == "cap",
        budget.observes,
        None if budget.max_request is None else nanos_up(budget.max_request),
        budget.alerts,
        budget.step,
    )


def clocks_agree(
    budgets: BudgetsFile, claimed: Sequence[BucketClaim], at: datetime, priced_until: datetime | None
) -> Period:
    """Returns the period in which the ledger's instant must be for a request that was priced at an instant.

    The two clocks may differ by one window of every budget with recurring windows, and no new price may be in
    force. Which window counts is decided by the ledger's calendar alone.
    """
    names = {claim.budget for claim in claimed if claim.recurs}
    first, last = FOREVER.start, priced_until or FOREVER.end
    for budget in budgets.budgets:
        if budget.name in names:
            around = _around(budget, at)
            first, last = max(first, around.start), min(last, around.end)
    return Period(first, last)


_known: dict[tuple[str, tzinfo, str], tuple[Period, Period]] = {}
"""By unit, zone and first day of the week: the latest window asked for, and what `_around` returns in it."""


def _around(budget: BudgetEntry, at: datetime) -> Period:
    """Returns the period of the window that contains an instant, the window before it and the one after it."""
    rule = (budget.unit, budget.zone, budget.week_starts)
    window, around = _known.get(rule, (None, None))
    if window is None or around is None or not window.start <= at < window.end:
        start = budget.first_start(at)
        following = bounds_after(budget.unit, start, budget.zone, budget.week_starts)
        window = Period(start, next(following))
        around = Period(budget.first_start(start - _INSTANT), next(following))
        _known[rule] = window, around
    return around
