"""The table that compares a period with the one before it, by project."""

from __future__ import annotations

from kling_pricing.money import subtract
from kling_pricing.reports.document import Column, Row, Section
from kling_pricing.reports.formatting import percent, period_text, safe
from kling_pricing.reports.spend import NO_AMOUNTS, Amounts, Spend, Totals, totals_by
from kling_pricing.windows import Period


def comparison_table(spent: Spend, previous: Period, overall: Totals) -> Section:
    """Returns what each project committed in a period and in the one before it; each sum is of one currency.

    Args:
        spent: the spend of the period and the jobs of the one before it.
        previous: that earlier period.
        overall: currency -> the totals of the period, in the order of the report.
    """
    now = totals_by(spent.jobs, lambda job: (job.project,))
    before = totals_by(spent.previous_jobs, lambda job: (job.project,))
    sums = totals_by(spent.previous_jobs, lambda _: ())
    currencies = list(dict.fromkeys(currency for (currency, *_) in (*overall, *sorted(sums))))
    places = sorted(
        {*now, *before},
        key=lambda place: (currencies.index(place[0]), -now.get(place, NO_AMOUNTS).committed, place),
    )
    name = period_text(previous.start, previous.end, spent.zone)
    return Section(
        "comparison",
        "Against the period before",
        f"Spent and held amounts, compared with {name}.",
        (
            Column("project", "Project"),
            Column("currency", "Currency"),
            Column("jobs_before", "Jobs before", "count"),
            Column("jobs", "Jobs", "count"),
            Column("before", "Before", "amount"),
            Column("committed", "Now", "amount"),
            Column("change", "Change", "amount"),
            Column("change_percent", "Change, %", "percent"),
        ),
        lambda: [_row((safe(place[1]), place[0]), before.get(place), now.get(place)) for place in places],
        tuple(
            _row(("Total", currency), sums.get((currency,)), overall.get((currency,)))
            for currency in currencies
        ),
    )


def _row(heads: tuple[str, str], before: Amounts | None, now: Amounts | None) -> Row:
    earlier, current = before or NO_AMOUNTS, now or NO_AMOUNTS
    change = subtract(current.committed, earlier.committed)
    return (
        *heads,
        earlier.jobs,
        current.jobs,
        earlier.committed,
        current.committed,
        change,
        percent(change, earlier.committed),
    )
