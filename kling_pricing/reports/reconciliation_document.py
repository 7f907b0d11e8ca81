"""A reconciliation as a document: what finance asks of it, the verdict first."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal

from kling_pricing.errors import KlingPricingError
from kling_pricing.money import add, format_decimal, sum_of
from kling_pricing.reconcile.model import Reconciled, Total
from kling_pricing.reports import accruals
from kling_pricing.reports import reconciliation_tables as tables
from kling_pricing.reports.categories import CATEGORIES, STANDINGS, standing_of
from kling_pricing.reports.charts import Bar, BarChart, Chart, Delta, DeltaChart, Series, Share, ShareChart
from kling_pricing.reports.document import Document, Equation, Fact, Figure, Verdict
from kling_pricing.reports.formats.focus import FocusCharge
from kling_pricing.reports.formatting import MAX_BARS, counted, every_day, grouped, percent, period_text, safe
from kling_pricing.reports.reconciliation_tables import NAMED


def document(reconciled: Reconciled) -> Document:
    """What there is to show of a reconciliation.

    Raises:
        KlingPricingError: its totals do not tie out, so there must be no report of it.
    """
    by_category = [each for each in reconciled.totals("category") if each.lines]
    overall = {each.currency: each for each in reconciled.totals("all")}
    by_project, by_model, by_day = (reconciled.totals(name) for name in ("project", "model", "day"))
    for totals in (by_category, by_project, by_model, by_day):
        _ensure_tied_out(totals, overall)
    order = list(CATEGORIES)
    by_category.sort(key=lambda each: (each.currency, order.index(each.name)))
    journal = accruals.section(reconciled)
    return Document(
        kind="reconciliation",
        title=f"{reconciled.provider}, {period_text(reconciled.since, reconciled.until)}",
        subtitle="Reconciliation of the provider's statement with our ledger",
        verdict=_verdict(reconciled, overall),
        facts=_facts(reconciled),
        equations=tuple(_equation(each, by_category) for each in overall.values()),
        charts=tuple(_charts(overall, by_category, by_project, by_model, by_day)),
        sections=(
            tables.summary(by_category, overall),
            tables.totals("by_project", "By project", "Project", by_project, overall),
            tables.totals("by_model", "By model", "Model", by_model, overall),
            tables.totals("by_day", "By day", "Day (UTC)", by_day, overall, chronological=True),
            tables.exceptions(reconciled),
            journal,
            tables.lines(reconciled, sum(each.lines for each in overall.values())),
        ),
    )


def _ensure_tied_out(totals: Sequence[Total], overall: dict[str, Total]) -> None:
    """Holds totals against the whole.

    Raises:
        KlingPricingError: they are not the same money.
    """
    for currency, whole in overall.items():
        parts = [each for each in totals if each.currency == currency]
        expected, billed = (sum_of(getattr(each, name) for each in parts) for name in ("expected", "billed"))
        variance = sum_of(each.variance for each in parts)
        if (
            (expected, billed, variance) != (whole.expected, whole.billed, whole.variance)
            or add(whole.expected, whole.variance) != whole.billed
            or sum(each.lines for each in parts) != whole.lines
        ):
            raise KlingPricingError(
                f"the reconciliation does not tie out in {currency}: expected {format_decimal(expected)} and variances "
                f"of {format_decimal(variance)} are not {format_decimal(whole.billed)} billed; no report is written"
            )
    if {each.currency for each in totals} - set(overall):
        raise KlingPricingError(
            "the reconciliation does not tie out: a currency has no total; no report is written"
        )


def _verdict(reconciled: Reconciled, overall: dict[str, Total]) -> Verdict:
    lines = sum(each.lines for each in overall.values())
    if not lines:
        return Verdict(
            tone="good", headline="Nothing to reconcile", about="Neither side has a line in this period."
        )
    tied = "Expected and every variance add up to what was billed, to the last digit"
    if not reconciled.exceptions:
        return Verdict(tone="good", headline="Ties out", about=f"{tied}, and no line needs attention.")
    return Verdict(
        tone="bad",
        headline=f"Ties out with {counted(reconciled.exceptions, 'exception')}",
        about=f"{tied}. Somebody has to look at {counted(reconciled.exceptions, 'line')} of {grouped(lines)}.",
    )


def _facts(reconciled: Reconciled) -> tuple[Fact, ...]:
    since, until = (f"{each:%Y-%m-%d %H:%M}" for each in (reconciled.since, reconciled.until))
    return (
        Fact("Provider", reconciled.provider),
        Fact("Period", f"from {since} until before {until}, UTC"),
        *(
            Fact("Statement", f"{safe(name)} (SHA-256 {digest})")
            for name, digest in sorted(reconciled.statements.items())
        ),
    )


def _equation(whole: Total, by_category: Sequence[Total]) -> Equation:
    currency = whole.currency
    unexplained = [each for each in by_category if (each.name, each.currency) == ("unexplained", currency)]
    residual = sum_of(each.variance for each in unexplained)
    count = sum(each.lines for each in unexplained)
    return Equation(
        (
            Figure("Expected", whole.expected, currency, "what our ledger says"),
            Figure(
                "Variance",
                whole.variance,
                currency,
                f"unexplained: {format_decimal(residual)} on {counted(count, 'line')}"
                if count
                else "nothing unexplained",
            ),
            Figure("Billed", whole.billed, currency, "what the statement says"),
        ),
        ("+", "="),
    )


def _charts(
    overall: dict[str, Total],
    by_category: Sequence[Total],
    by_project: Sequence[Total],
    by_model: Sequence[Total],
    by_day: Sequence[Total],
) -> Iterator[Chart]:
    for currency, whole in overall.items():
        if not whole.lines:
            continue
        own = [each for each in by_category if each.currency == currency]
        yield _coverage(currency, own)
        days = {each.name: each for each in by_day if each.currency == currency and each.name}
        if days:
            yield BarChart(
                f"by_day_{currency}",
                "Billed and expected by day",
                f"What was billed for the tasks of each day, in {currency}, and what was expected.",
                currency,
                upright=True,
                wide=True,
                series=(Series("Billed", "main"),),
                mark="Expected",
                bars=tuple(_day(day, days.get(day)) for day in every_day(days)),
            )
        projects = [each for each in by_project if each.currency == currency]
        yield _beside_names("by_project", "By project", "project", currency, projects)
        models = [each for each in by_model if each.currency == currency]
        yield _beside_names("by_model", "By model", "model", currency, models)
        deltas = tuple(
            Delta(CATEGORIES[each.name].title, each.variance, STANDINGS[standing_of(each)])
            for each in own
            if each.variance
        )
        if deltas:
            yield DeltaChart(
                f"variance_{currency}",
                "Variance by category",
                f"How much more (right) or less (left) was billed than expected, in {currency}.",
                currency,
                deltas,
            )


def _day(day: str, found: Total | None) -> Bar:
    zero = Decimal(0)
    return Bar(day, (zero,), zero) if found is None else Bar(day, (max(found.billed, zero),), found.expected)


def _coverage(currency: str, by_category: Sequence[Total]) -> ShareChart:
    lines = [Decimal(0)] * len(STANDINGS)
    billed = [Decimal(0)] * len(STANDINGS)
    for each in by_category:
        place = list(STANDINGS).index(standing_of(each))
        lines[place] = add(lines[place], Decimal(each.lines))
        billed[place] = add(billed[place], max(each.billed, Decimal(0)))
    all_lines, all_billed = sum_of(lines), sum_of(billed)
    shares = [
        Share(
            f"{grouped(all_lines)} lines",
            tuple(lines),
            tuple(f"{percent(each, all_lines)} % ({grouped(each)})" for each in lines),
        )
    ]
    if all_billed:
        shares.append(
            Share(
                f"{grouped(all_billed)} {currency} billed",
                tuple(billed),
                tuple(f"{percent(each, all_billed)} % ({grouped(each)} {currency})" for each in billed),
            )
        )
    return ShareChart(
        f"coverage_{currency}",
        "Coverage, by count and by value",
        "How much of it is matched or explained, how much waits for the other side of the cut-off, "
        "and how much is open.",
        tuple(Series(name, tone) for name, tone in STANDINGS.items()),
        tuple(shares),
    )


def _beside_names(name: str, title: str, what: str, currency: str, totals: Sequence[Total]) -> BarChart:
    return BarChart(
        f"{name}_{currency}",
        title,
        f"What was billed for each {what}, in {currency}, and what was expected.",
        currency,
        upright=False,
        wide=False,
        series=(Series("Billed", "main"),),
        mark="Expected",
        bars=_bars(totals, NAMED[what]),
    )


def _bars(totals: Sequence[Total], unnamed: str) -> tuple[Bar, ...]:
    """The largest as bars of their own, the others as one."""
    ordered = sorted(totals, key=lambda each: (-each.billed, -each.expected, each.name))
    shown, rest = ordered[:MAX_BARS], ordered[MAX_BARS:]
    bars = [Bar(safe(each.name) or unnamed, (max(each.billed, Decimal(0)),), each.expected) for each in shown]
    if rest:
        billed, expected = sum_of(each.billed for each in rest), sum_of(each.expected for each in rest)
        bars.append(Bar(f"{len(rest)} others", (max(billed, Decimal(0)),), expected))
    return tuple(bars)


def charges(reconciled: Reconciled) -> Iterator[FocusCharge]:
    """What the statement charges, line by line."""
    for line in reconciled.lines():
        if line.billed is not None:
            yield FocusCharge(
                provider=line.provider,
                task_id=line.task_id,
                billed=line.billed,
                expected=line.expected,
                quoted=line.quoted,
                list_total=line.list_total,
                currency=line.currency,
                at=line.submitted_at or line.billed_at or reconciled.since,
                model=line.model,
                resolution=line.resolution,
                tier=line.tier,
                quantity=line.quantity,
                unit=line.unit,
                table=line.table,
                labels=line.labels,
                project=line.project,
                reservation_id=line.reservation_id,
                standing=line.category,
                cause=line.cause or None,
            )
