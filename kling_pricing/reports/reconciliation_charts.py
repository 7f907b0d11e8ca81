"""The charts of a reconciliation."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Literal

from kling_pricing.money import sum_of
from kling_pricing.reconcile.categories import CATEGORIES, STANDINGS
from kling_pricing.reconcile.model import Total
from kling_pricing.reports.charts import Bar, BarChart, Chart, Delta, DeltaChart, Series, Share, ShareChart
from kling_pricing.reports.formatting import (
    MAX_BARS,
    amount_share_text,
    amount_text,
    count_share_text,
    counted,
    every_day,
    number_text,
    safe,
)
from kling_pricing.reports.reconciliation_tables import NAMED, TONES

DIMENSIONS: Mapping[Literal["project", "model", "day"], tuple[str, str]] = {
    "project": ("By project", "Project"),
    "model": ("By model", "Model"),
    "day": ("By day", "Day (UTC)"),
}
"""Dimension of the totals -> the title of its table, and the heading of its column."""


def charts(
    overall: Mapping[str, Total],
    by_category: Sequence[Total],
    by_standing: Sequence[Total],
    dimensions: Mapping[Literal["project", "model", "day"], Sequence[Total]],
) -> Iterator[Chart]:
    """Yields the charts of a reconciliation.

    Args:
        overall: currency -> the totals of all lines, in the order of the report.
        by_category: the totals by category.
        by_standing: the totals by standing.
        dimensions: the totals by project, model and day.
    """
    for currency, whole in overall.items():
        if not whole.lines:
            continue
        yield _coverage(whole, [total for total in by_standing if total.currency == currency])
        days = {total.name: total for total in dimensions["day"] if total.currency == currency and total.name}
        if days:
            yield BarChart(
                f"by_day_{currency}",
                "Billed and expected by day",
                f"The amounts billed for the tasks of each day, in {currency}, and the expected amounts.",
                currency,
                upright=True,
                wide=True,
                series=(Series("Billed", "main"),),
                mark="Expected",
                bars=tuple(_day(day, days.get(day)) for day in every_day(days)),
            )
        for noun in ("project", "model"):
            named = [total for total in dimensions[noun] if total.currency == currency]
            if named:
                yield _beside_names(f"by_{noun}", DIMENSIONS[noun][0], noun, currency, named)
        variances = {total.name: total.variance for total in by_category if total.currency == currency}
        deltas = tuple(
            Delta(rule.title, variances[name], TONES[rule.standing])
            for name, rule in CATEGORIES.items()
            if variances.get(name)
        )
        if deltas:
            yield DeltaChart(
                f"variance_{currency}",
                "Variance by category",
                f"How much more (right) or less (left) was billed than expected, in {currency}.",
                currency,
                deltas,
            )


def _day(day: str, total: Total | None) -> Bar:
    zero = Decimal(0)
    return Bar(day, (zero,), zero) if total is None else Bar(day, (total.billed,), total.expected)


def _coverage(whole: Total, by_standing: Sequence[Total]) -> ShareChart:
    """Returns the chart of the parts of a currency's lines and of its billed amount, as in the figures."""
    totals = {total.name: total for total in by_standing}
    lines = [Decimal(totals[name].lines if name in totals else 0) for name in STANDINGS]
    billed = [totals[name].billed if name in totals else Decimal(0) for name in STANDINGS]
    count, currency = Decimal(whole.lines), whole.currency
    shares = [
        Share(
            f"{number_text(count)} lines",
            tuple(lines),
            tuple(count_share_text(part, count) for part in lines),
        )
    ]
    if any(billed):
        shares.append(
            Share(
                f"{amount_text(whole.billed)} {currency} billed",
                tuple(billed),
                tuple(
                    f"{amount_text(part)} {currency}"  # of a sum with refunds, no part has a share
                    if min(billed) < 0
                    else amount_share_text(part, whole.billed, currency)
                    for part in billed
                ),
            )
        )
    return ShareChart(
        f"coverage_{currency}",
        "Coverage, by count and by value",
        "How much is matched or explained, how much falls outside the period, and how much is still open.",
        tuple(Series(title, TONES[name]) for name, title in STANDINGS.items()),
        tuple(shares),
    )


def _beside_names(name: str, title: str, noun: str, currency: str, totals: Sequence[Total]) -> BarChart:
    return BarChart(
        f"{name}_{currency}",
        title,
        f"The amounts billed for each {noun}, in {currency}, and the expected amounts.",
        currency,
        upright=False,
        wide=False,
        series=(Series("Billed", "main"),),
        mark="Expected",
        bars=_bars(totals, NAMED[noun]),
    )


def _bars(totals: Sequence[Total], unnamed: str) -> tuple[Bar, ...]:
    """Returns a bar for each of the largest totals, and one for all others."""
    ordered = sorted(totals, key=lambda total: (-total.billed, -total.expected, total.name))
    shown, rest = ordered[:MAX_BARS], ordered[MAX_BARS:]
    bars = [Bar(safe(total.name) or unnamed, (total.billed,), total.expected) for total in shown]
    if rest:
        billed, expected = sum_of(total.billed for total in rest), sum_of(total.expected for total in rest)
        bars.append(Bar(counted(len(rest), "other"), (billed,), expected))
    return tuple(bars)
