"""The spend statement as a document: spent and held amounts, and the burn-down of budgets."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from decimal import Decimal

from kling_pricing.ledger.journal import WaivedRefusals
from kling_pricing.ledger.model import Reservation
from kling_pricing.reports import burn_down
from kling_pricing.reports.burn_down import ReportTime
from kling_pricing.reports.chargeback import USUAL_CHARGEBACK, Chargeback, chargeback_table
from kling_pricing.reports.charts import Bar, BarChart, Chart, Series, Share, ShareChart
from kling_pricing.reports.comparison_table import comparison_table
from kling_pricing.reports.document import (
    Column,
    Document,
    Equation,
    Fact,
    Figure,
    Row,
    Section,
    Verdict,
)
from kling_pricing.reports.formatting import (
    MAX_BARS,
    amount_share_text,
    amount_text,
    bounds_text,
    counted,
    every_day,
    labels_text,
    period_text,
    safe,
)
from kling_pricing.reports.jobs_table import STATUS, jobs_table
from kling_pricing.reports.rolling_histories import LEAVES
from kling_pricing.reports.spend import (
    JOB_STATUSES,
    NO_AMOUNTS,
    Amounts,
    Spend,
    Totals,
    amounts_of,
    status_of,
    totals_by,
)

_UNKNOWN_MODEL = "unknown model"


def document(spent: Spend, chargeback: Chargeback = USUAL_CHARGEBACK) -> Document:
    """Returns the spend statement of a period.

    Args:
        spent: the spend.
        chargeback: how the spend is divided in the table `chargeback`.
    """
    jobs = spent.jobs
    overall = dict(sorted(totals_by(jobs, lambda _: ()).items(), key=_by_size))
    by_project = totals_by(jobs, lambda job: (job.project,))
    by_day = totals_by(jobs, lambda job: (f"{job.created_at.astimezone(spent.zone):%Y-%m-%d}",))
    by_provider = totals_by(jobs, lambda job: (job.provider,))
    by_model = totals_by(jobs, lambda job: (job.model or _UNKNOWN_MODEL,))
    by_project_and_model = totals_by(jobs, lambda job: (job.project, job.model or _UNKNOWN_MODEL))
    by_account = totals_by(jobs, lambda job: (job.provider, job.account))
    are_named = any(job.account != job.provider for job in jobs)
    chosen = "".join(f"{safe(name)}, " for name in (spent.project, spent.account) if name is not None)
    return Document(
        kind="spend",
        title=f"{chosen}{period_text(spent.since, spent.until, spent.zone)}",
        subtitle="Spend statement",
        verdict=_verdict(spent, overall),
        facts=_facts(spent),
        equations=tuple(_equation(currency, amounts) for (currency,), amounts in overall.items()),
        charts=tuple(_charts(spent, overall, by_project, by_day, by_model)),
        sections=(
            _summary(jobs, overall),
            _table("by_project", "By project", ("Project",), by_project, overall),
            _table(
                "by_project_and_model",
                "By project and model",
                ("Project", "Model"),
                by_project_and_model,
                overall,
            ),
            _table("by_model", "By model", ("Model",), by_model, overall),
            _table("by_provider", "By provider", ("Provider",), by_provider, overall),
            *(
                [_table("by_provider_and_account", "By account", ("Provider", "Account"), by_account, overall)]
                if are_named
                else []
            ),
            _table("by_day", "By day", (f"Day ({spent.zone})",), by_day, overall, chronological=True),
            chargeback_table(jobs, overall, chargeback),
            *([] if spent.previous is None else [comparison_table(spent, spent.previous, overall)]),
            burn_down.balances(spent.buckets, _time(spent)),
            burn_down.days(spent.buckets, spent.since, spent.until, spent.zone),
            *([_waived(spent.waived)] if spent.waived else []),
            jobs_table(jobs, [currency for (currency,) in overall]),
        ),
        remarks=tuple(burn_down.remarks(spent.buckets)),
    )


def _by_size(total: tuple[tuple[str, ...], Amounts]) -> tuple[int, tuple[str, ...]]:
    """Orders currencies: the one with the most jobs first, because their amounts cannot be compared."""
    return -total[1].jobs, total[0]


def _latest(spent: Spend) -> datetime | None:
    """Returns the instant of the latest entry about the jobs and budgets; None: there is none."""
    instants = [
        *(at for job in spent.jobs for at in (job.created_at, job.dispatched_at, job.closed_at) if at),
        *(entry.at for history in spent.buckets for entry in history.entries if entry.kind != LEAVES),
    ]
    return max(instants, default=None)


def _time(spent: Spend) -> ReportTime:
    """Returns what the times of the budgets refer to; the instant of the report never comes from a clock."""
    begun_at = min((entry.at for history in spent.buckets for entry in history.entries), default=spent.since)
    now = spent.as_of or _latest(spent) or spent.since
    return ReportTime(spent.since, spent.until, spent.zone, spent.begun_at or begun_at, now)


def _verdict(spent: Spend, overall: Totals) -> Verdict:
    if not spent.jobs:
        about = "The ledger has no jobs in this period."
        if spent.project is not None:
            about = f"The ledger has no jobs for project {safe(spent.project)} in this period."
        elif spent.account is not None:
            about = f"The ledger has no jobs for account {safe(spent.account)} in this period."
        return Verdict(tone="good", headline="No spend", about=about)
    provisional = sum(status_of(job) == "provisional" for job in spent.jobs)
    held = sum(amounts_of(job).held > 0 for job in spent.jobs)
    total = " and ".join(f"{amount_text(amounts.spent)} {currency}" for (currency,), amounts in overall.items())
    jobs = counted(len(spent.jobs), "job")
    if not provisional and not held:
        return Verdict(
            tone="good",
            headline="All settled",
            about=f"{total} spent on {jobs}. Every job is settled or released.",
        )
    pending = [
        *(
            [f"{provisional:,} {_is_or_are(provisional)} settled provisionally at the quoted price"]
            if provisional
            else []
        ),
        *([f"{held:,} {_is_or_are(held)} not settled yet"] if held else []),
    ]
    return Verdict(
        tone="wait",
        headline="Not final yet",
        about=f"{total} spent so far. Of {jobs}, {' and '.join(pending)}.",
    )


def _is_or_are(count: int) -> str:
    return "is" if count == 1 else "are"


def _facts(spent: Spend) -> tuple[Fact, ...]:
    if spent.as_of is not None:
        as_of = f"{spent.as_of.astimezone(spent.zone):%Y-%m-%d %H:%M:%S} {spent.zone}, as the ledger stood then"
        return (*_scope(spent), Fact("As of", as_of))
    latest = _latest(spent)
    as_of = (
        "no ledger entries yet"
        if latest is None
        else f"{latest.astimezone(spent.zone):%Y-%m-%d %H:%M:%S} {spent.zone} (latest ledger entry)"
    )
    return (*_scope(spent), Fact("As of", as_of))


def _scope(spent: Spend) -> tuple[Fact, ...]:
    return (
        Fact("Project", "all" if spent.project is None else safe(spent.project)),
        *([Fact("Account", safe(spent.account))] if spent.account is not None else []),
        Fact("Period", f"{bounds_text(spent.since, spent.until, spent.zone)}, by reservation time"),
        Fact("Source", "ledger only, no provider statement"),
    )


def _equation(currency: str, amounts: Amounts) -> Equation:
    provisional = (
        f"including {amount_text(amounts.provisional)} provisional"
        if amounts.provisional
        else "none provisional"
    )
    return Equation(
        (
            Figure("Spent", amounts.spent, currency, provisional),
            Figure("Held", amounts.held, currency, "reserved for unsettled jobs"),
            Figure("Committed", amounts.committed, currency, counted(amounts.jobs, "job")),
        ),
        ("+", "="),
    )


_SERIES = (Series("Final", "main"), Series("Provisional", "wait"), Series("Held", "second"))


def _parts(amounts: Amounts) -> tuple[Decimal, ...]:
    return (amounts.spent - amounts.provisional, amounts.provisional, amounts.held)


def _charts(
    spent: Spend,
    overall: Totals,
    by_project: Totals,
    by_day: Totals,
    by_model: Totals,
) -> Iterator[Chart]:
    for (currency,), total in overall.items():
        if total.committed:
            parts = _parts(total)
            yield ShareChart(
                f"final_{currency}",
                "Settlement status",
                "Final: settled at the actual charge. Provisional: settled at the quoted price for now. "
                "Held: not settled yet.",
                _SERIES,
                (
                    Share(
                        f"{amount_text(total.committed)} {currency} committed",
                        parts,
                        tuple(amount_share_text(part, total.committed, currency) for part in parts),
                    ),
                ),
            )
        yield _bar_chart("day", currency, upright=True, bars=_days(by_day, currency))
        bars = _largest(by_project, currency)
        if len(bars) > 1:
            yield _bar_chart("project", currency, upright=False, bars=bars)
        yield _bar_chart("model", currency, upright=False, bars=_largest(by_model, currency))
    yield from burn_down.charts(spent.buckets, _time(spent))


def _bar_chart(group: str, currency: str, *, upright: bool, bars: tuple[Bar, ...]) -> BarChart:
    return BarChart(
        f"by_{group}_{currency}",
        f"Spend by {group}",
        f"Spent and held amounts by {group}, in {currency}.",
        currency,
        upright=upright,
        wide=upright,
        series=_SERIES,
        mark=None,
        bars=bars,
    )


def _days(totals: Totals, currency: str) -> tuple[Bar, ...]:
    days = {day: amounts for (day_currency, day), amounts in totals.items() if day_currency == currency}
    return tuple(Bar(day, _parts(days.get(day, NO_AMOUNTS))) for day in every_day(days))


def _largest(totals: Totals, currency: str) -> tuple[Bar, ...]:
    """Returns one bar per name for the largest totals, and one bar that sums the rest."""
    ordered = sorted(
        ((name, amounts) for (name_currency, name), amounts in totals.items() if name_currency == currency),
        key=lambda total: (-total[1].committed, total[0]),
    )
    bars = [Bar(safe(name), _parts(amounts)) for name, amounts in ordered[:MAX_BARS]]
    if rest := [_parts(amounts) for _, amounts in ordered[MAX_BARS:]]:
        sums = tuple(sum(parts, Decimal(0)) for parts in zip(*rest, strict=True))
        bars.append(Bar(counted(len(rest), "other"), sums))
    return tuple(bars)


_AMOUNTS = (
    Column("jobs", "Jobs", "count"),
    Column("spent", "Spent", "amount"),
    Column("provisional", "Provisional", "amount"),
    Column("held", "Held", "amount"),
)


def _summary(jobs: Sequence[Reservation], overall: Totals) -> Section:
    totals = totals_by(jobs, lambda job: (status_of(job),))
    order, sizes = list(JOB_STATUSES), [currency for (currency,) in overall]
    rows: list[Row] = [
        (status, JOB_STATUSES[status].about, currency, *totals[currency, status])
        for currency, status in sorted(totals, key=lambda group: (sizes.index(group[0]), order.index(group[1])))
    ]
    return Section(
        "summary",
        "Summary",
        "Status of the jobs reserved in the period.",
        (STATUS, Column("meaning", "Meaning", "prose"), Column("currency", "Currency"), *_AMOUNTS),
        lambda: rows,
        tuple(("Total", None, currency, *amounts) for (currency,), amounts in overall.items()),
    )


def _table(
    name: str,
    title: str,
    headings: tuple[str, ...],
    totals: Totals,
    overall: Totals,
    *,
    chronological: bool = False,
) -> Section:
    """Returns a table of totals, largest first, or by day."""
    sizes = [currency for (currency,) in overall]
    ordered = sorted(
        totals.items(),
        key=lambda total: (
            sizes.index(total[0][0]),
            *(total[0] if chronological else (*total[0][1:-1], -total[1].committed, total[0])),
        ),
    )
    rows: list[Row] = [(*map(safe, names), currency, *amounts) for (currency, *names), amounts in ordered]
    columns = name.removeprefix("by_").split("_and_")
    return Section(
        name,
        title,
        "",
        (
            *(
                Column(column, heading, "day" if column == "day" else "text")
                for column, heading in zip(columns, headings, strict=True)
            ),
            Column("currency", "Currency"),
            *_AMOUNTS,
        ),
        lambda: rows,
        tuple(
            ("Total", *[None] * (len(columns) - 1), currency, *amounts)
            for (currency,), amounts in overall.items()
        ),
    )


def _waived(waived: Sequence[WaivedRefusals]) -> Section:
    """Returns the refusals that budgets in observe mode waived."""
    rows: list[Row] = [
        (
            safe(row.budget),
            safe(labels_text(row.labels)) or None,
            safe(row.project),
            row.currency,
            row.requests,
            row.amount,
        )
        for row in waived
    ]
    return Section(
        "observed",
        "Observed budgets",
        "Jobs that a budget in observe mode would have refused or made cheaper. The budget refused nothing.",
        (
            Column("budget", "Budget"),
            Column("labels", "Labels"),
            Column("project", "Project"),
            Column("currency", "Currency"),
            Column("jobs", "Jobs", "count"),
            Column("reserved", "Reserved", "amount"),
        ),
        lambda: rows,
    )
