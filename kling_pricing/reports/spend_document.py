"""A ledger's spend as a document: what is spent, what is not final, and how the budgets were used up."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from decimal import Decimal

from kling_pricing.ledger.model import Reservation
from kling_pricing.reports import burn_down
from kling_pricing.reports.charts import Bar, BarChart, Chart, Series, Share, ShareChart
from kling_pricing.reports.document import Column, Document, Equation, Fact, Figure, Row, Section, Verdict, Word
from kling_pricing.reports.formatting import (
    MAX_BARS,
    counted,
    every_day,
    grouped,
    labels_text,
    percent,
    period_text,
    safe,
    safe_or_none,
    safe_prose,
)
from kling_pricing.reports.spend import (
    NOTHING,
    STANDINGS,
    Amounts,
    Grouped,
    Spend,
    amounts_of,
    standing_of,
    taken_together,
)


def document(spent: Spend) -> Document:
    """What there is to show of a period's spend."""
    jobs = spent.jobs
    overall = dict(sorted(taken_together(jobs, lambda _: ()).items()))
    by_project = taken_together(jobs, lambda job: (job.project,))
    by_day = taken_together(jobs, lambda job: (f"{job.created_at.astimezone(spent.zone):%Y-%m-%d}",))
    by_provider = taken_together(jobs, lambda job: (job.provider,))
    by_model = taken_together(jobs, lambda job: (job.model or "unknown model",))
    whose = "" if spent.project is None else f"{safe(spent.project)}, "
    return Document(
        kind="spend",
        title=f"{whose}{period_text(spent.since, spent.until, spent.zone)}",
        subtitle="Spend statement from our ledger",
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
                taken_together(jobs, lambda job: (job.project, job.model or "unknown model")),
                overall,
            ),
            _table("by_model", "By model", ("Model",), by_model, overall),
            _table("by_provider", "By provider", ("Provider",), by_provider, overall),
            _table("by_day", "By day", (f"Day ({spent.zone})",), by_day, overall, chronological=True),
            burn_down.balances(spent.buckets, spent.zone),
            burn_down.days(spent.buckets, spent.since, spent.until, spent.zone),
            _jobs(jobs),
        ),
    )


def _verdict(spent: Spend, overall: Grouped) -> Verdict:
    if not spent.jobs:
        about = "The ledger has no job in this period."
        if spent.project is not None:
            about = f"The ledger has no job of project {safe(spent.project)} in this period."
        return Verdict(tone="good", headline="Nothing was spent", about=about)
    provisional = sum(standing_of(job) == "provisional" for job in spent.jobs)
    held = sum(amounts_of(job).held > 0 for job in spent.jobs)
    total = " and ".join(f"{grouped(amounts.spent, 2)} {currency}" for (currency,), amounts in overall.items())
    jobs = counted(len(spent.jobs), "job")
    if not provisional and not held:
        return Verdict(
            tone="good", headline="All settled", about=f"{total} spent; {jobs}, all settled or released."
        )
    open_ends = [
        *([f"{counted(provisional, 'job')} settled at the quote alone"] if provisional else []),
        *([f"{counted(held, 'job')} not settled yet"] if held else []),
    ]
    return Verdict(
        tone="wait",
        headline="Not final yet",
        about=f"{total} spent so far on {jobs}, with {' and '.join(open_ends)}.",
    )


def _facts(spent: Spend) -> tuple[Fact, ...]:
    start, end = (f"{each.astimezone(spent.zone):%Y-%m-%d %H:%M}" for each in (spent.since, spent.until))
    instants = [
        *(at for job in spent.jobs for at in (job.created_at, job.dispatched_at, job.closed_at) if at),
        *(entry.at for each in spent.buckets for entry in each.entries),
    ]
    as_of = f"{max(instants).astimezone(spent.zone):%Y-%m-%d %H:%M:%S}" if instants else "no entry yet"
    return (
        Fact("Project", "all" if spent.project is None else safe(spent.project)),
        Fact("Period", f"reserved from {start} until before {end}, {spent.zone}"),
        Fact("Source", "the ledger alone, without a statement of a provider"),
        Fact("As of", f"{as_of}, the last that the ledger knows of these jobs and budgets"),
    )


def _equation(currency: str, amounts: Amounts) -> Equation:
    provisional = (
        f"of which {grouped(amounts.provisional, 2)} provisional"
        if amounts.provisional
        else "nothing provisional"
    )
    return Equation(
        (
            Figure("Spent", amounts.spent, currency, provisional),
            Figure("Held", amounts.held, currency, "set aside for jobs that are not settled"),
            Figure("Committed", amounts.committed, currency, counted(amounts.jobs, "job")),
        ),
        ("+", "="),
    )


_SERIES = (Series("Spent", "main"), Series("Spent, provisional", "wait"), Series("Held", "second"))


def _parts(amounts: Amounts) -> tuple[Decimal, ...]:
    return (amounts.spent - amounts.provisional, amounts.provisional, amounts.held)


def _charts(
    spent: Spend,
    overall: Grouped,
    by_project: Grouped,
    by_day: Grouped,
    by_model: Grouped,
) -> Iterator[Chart]:
    for (currency,), whole in overall.items():
        if whole.committed:
            parts = _parts(whole)
            yield ShareChart(
                f"final_{currency}",
                "How final it is",
                "How much is spent for good, spent at the quote alone, and held.",
                _SERIES,
                (
                    Share(
                        f"{grouped(whole.committed, 2)} {currency} committed",
                        parts,
                        tuple(
                            f"{percent(each, whole.committed)} % ({grouped(each)} {currency})" for each in parts
                        ),
                    ),
                ),
            )
        yield _bar_chart("by_day", "By day", "each day", currency, upright=True, bars=_days(by_day, currency))
        bars = _largest(by_project, currency)
        if len(bars) > 1:
            yield _bar_chart("by_project", "By project", "each project", currency, upright=False, bars=bars)
        bars = _largest(by_model, currency)
        yield _bar_chart("by_model", "By model", "each model", currency, upright=False, bars=bars)
    yield from burn_down.charts(spent.buckets, spent.since, spent.until, spent.zone)


def _bar_chart(
    name: str, title: str, of_what: str, currency: str, *, upright: bool, bars: tuple[Bar, ...]
) -> BarChart:
    about = f"What was spent on the jobs of {of_what}, and what is held for them, in {currency}."
    return BarChart(f"{name}_{currency}", title, about, currency, upright, upright, _SERIES, None, bars)


def _days(totals: Grouped, currency: str) -> tuple[Bar, ...]:
    days = {day: amounts for (own, day), amounts in totals.items() if own == currency}
    return tuple(Bar(day, _parts(days.get(day, NOTHING))) for day in every_day(days))


def _largest(totals: Grouped, currency: str) -> tuple[Bar, ...]:
    """The largest as bars of their own, the others as one."""
    own = [(name, amounts) for (other, name), amounts in totals.items() if other == currency]
    own.sort(key=lambda each: (-each[1].committed, each[0]))
    bars = [Bar(safe(name), _parts(amounts)) for name, amounts in own[:MAX_BARS]]
    if rest := [_parts(amounts) for _, amounts in own[MAX_BARS:]]:
        bars.append(
            Bar(f"{len(rest)} others", tuple(sum(each, Decimal(0)) for each in zip(*rest, strict=True)))
        )
    return tuple(bars)


_AMOUNTS = (
    Column("jobs", "Jobs", "count"),
    Column("spent", "Spent", "amount"),
    Column("provisional", "Of it provisional", "amount"),
    Column("held", "Held", "amount"),
)
_STANDING = Column(
    "standing", "Standing", words={name: Word(each.title, each.tone) for name, each in STANDINGS.items()}
)


def _summary(jobs: Sequence[Reservation], overall: Grouped) -> Section:
    found = taken_together(jobs, lambda job: (standing_of(job),))
    order = list(STANDINGS)
    rows: list[Row] = [
        (standing, STANDINGS[standing].about, currency, *found[currency, standing])
        for currency, standing in sorted(found, key=lambda each: (each[0], order.index(each[1])))
    ]
    return Section(
        "summary",
        "Summary",
        "What became of the jobs that were reserved in the period.",
        (_STANDING, Column("meaning", "Meaning", "prose"), Column("currency", "Currency"), *_AMOUNTS),
        lambda: rows,
        tuple(("Total", None, currency, *amounts) for (currency,), amounts in overall.items()),
    )


def _table(
    name: str,
    title: str,
    what: tuple[str, ...],
    totals: Grouped,
    overall: Grouped,
    *,
    chronological: bool = False,
) -> Section:
    """Jobs taken together; the largest first, or by day."""
    ordered = sorted(
        totals.items(),
        key=lambda each: (
            each[0] if chronological else (each[0][0], *each[0][1:-1], -each[1].committed, each[0])
        ),
    )
    rows: list[Row] = [(*map(safe, names), currency, *amounts) for (currency, *names), amounts in ordered]
    columns = name.removeprefix("by_").split("_and_")
    return Section(
        name,
        title,
        "",
        (
            *(Column(column, each) for column, each in zip(columns, what, strict=True)),
            Column("currency", "Currency"),
            *_AMOUNTS,
        ),
        lambda: rows,
        tuple(
            ("Total", *[None] * (len(columns) - 1), currency, *amounts)
            for (currency,), amounts in overall.items()
        ),
    )


_JOB_COLUMNS = (
    _STANDING,
    Column("project", "Project"),
    Column("key", "Job key"),
    Column("task_id", "Task"),
    Column("provider", "Provider"),
    Column("model", "Model"),
    Column("resolution", "Resolution"),
    Column("tier", "Tier"),
    Column("quantity", "Quantity", "quantity"),
    Column("unit", "Unit", on_page=False),
    Column("currency", "Currency"),
    Column("expected", "Expected", "amount"),
    Column("spent", "Spent", "amount"),
    Column("held", "Held", "amount"),
    Column("basis", "Basis"),
    Column("created_at", "Reserved (UTC)", "instant"),
    Column("dispatched_at", "Sent (UTC)", "instant", on_page=False),
    Column("closed_at", "Closed (UTC)", "instant", on_page=False),
    Column("attempt", "Attempt", "count", on_page=False),
    Column("price_table", "Price table", on_page=False),
    Column("changes", "Changed to fit", on_page=False),
    Column("reason", "Reason", "prose", on_page=False),
    Column("reservation_id", "Reservation", on_page=False),
    Column("labels", "Labels", on_page=False),
)


def _jobs(jobs: Sequence[Reservation]) -> Section:
    return Section(
        "jobs",
        "All jobs",
        "Every job that was reserved in the period.",
        _JOB_COLUMNS,
        lambda: map(_job_row, jobs),
        length=len(jobs),
    )


def _job_row(job: Reservation) -> Row:
    amounts = amounts_of(job)
    return (
        standing_of(job),
        safe(job.project),
        safe(job.key),
        safe_or_none(job.task_id),
        job.provider,
        job.model or None,
        job.resolution or None,
        job.tier or None,
        job.quantity or None,
        job.unit or None,
        job.currency,
        job.expected,
        amounts.spent,
        amounts.held,
        job.basis,
        job.created_at,
        job.dispatched_at,
        job.closed_at,
        job.attempt,
        job.table or None,
        json.dumps(dict(job.changes), ensure_ascii=False) if job.changes else None,
        safe_prose(job.reason or ""),
        job.id,
        safe(labels_text(job.labels)) or None,
    )
