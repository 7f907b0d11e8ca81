"""A reconciliation as a document: the answers that finance needs, the verdict first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, time
from decimal import Decimal
from typing import Literal

from kling_pricing.errors import KlingPricingError
from kling_pricing.money import add, format_decimal, sum_of
from kling_pricing.reconcile.aggregates import BLIND_SPOTS
from kling_pricing.reconcile.categories import CATEGORIES, STANDINGS, exceptions_text
from kling_pricing.reconcile.causes import Cause, exceptions_by_cause
from kling_pricing.reconcile.model import Line, Payable, Reconciled, Total
from kling_pricing.reports import accruals
from kling_pricing.reports import reconciliation_tables as tables
from kling_pricing.reports.charts import Bar, BarChart, Chart, Delta, DeltaChart, Series, Share, ShareChart
from kling_pricing.reports.document import Document, Equation, Fact, Figure, Section, Verdict
from kling_pricing.reports.formats.focus import FocusCharge
from kling_pricing.reports.formatting import (
    MAX_BARS,
    amount_share_text,
    amount_text,
    count_share_text,
    counted,
    every_day,
    number_text,
    period_text,
    safe,
)
from kling_pricing.reports.reconciliation_tables import NAMED, TONES

_DIMENSIONS: Mapping[Literal["project", "model", "day"], tuple[str, str]] = {
    "project": ("By project", "Project"),
    "model": ("By model", "Model"),
    "day": ("By day", "Day (UTC)"),
}
"""Dimension of the totals -> the title of its table, and the heading of its column."""


def document(reconciled: Reconciled) -> Document:
    """Returns the document of a reconciliation.

    Raises:
        KlingPricingError: its totals do not tie out, so it must not be reported.
    """
    by_category = [total for total in reconciled.totals("category") if total.lines]
    by_size = sorted(reconciled.totals("all"), key=lambda total: (-total.lines, total.currency))
    overall = {total.currency: total for total in by_size}
    by_standing = reconciled.totals("standing")
    dimensions = {
        name: reconciled.totals(name) if not reconciled.grain or name in reconciled.grain else []
        for name in _DIMENSIONS
    }
    for totals in (by_category, by_standing, *filter(None, dimensions.values())):
        _ensure_tied_out(totals, overall)
    order, sizes = list[str](CATEGORIES), list(overall)
    by_category.sort(key=lambda total: (sizes.index(total.currency), order.index(total.name)))
    by_cause = exceptions_by_cause(reconciled)
    count = sum(total.lines for total in overall.values())
    return Document(
        kind="reconciliation",
        title=f"{_owner(reconciled)}, {period_text(reconciled.since, reconciled.until)}",
        subtitle="Reconciliation of the provider's statement with our ledger",
        verdict=_verdict(reconciled, overall),
        facts=_facts(reconciled),
        equations=(
            *(
                _due(payable, is_preliminary=bool(reconciled.gaps))
                for payable in sorted(
                    reconciled.payable(),
                    key=lambda payable: (
                        sizes.index(payable.currency) if payable.currency in sizes else len(sizes)
                    ),
                )
            ),
            *(_equation(total, by_standing) for total in overall.values()),
        ),
        charts=tuple(_charts(overall, by_category, by_standing, dimensions)),
        sections=(
            tables.summary(by_category, overall, is_sums=bool(reconciled.grain)),
            *(
                tables.totals(
                    f"by_{name}",
                    title,
                    "Day" if reconciled.grain and name == "day" else heading,
                    dimensions[name],
                    overall,
                    chronological=name == "day",
                )
                for name, (title, heading) in _DIMENSIONS.items()
                if not reconciled.grain or name in reconciled.grain
            ),
            tables.causes(by_cause),
            _with_totals(tables.exceptions(reconciled, by_cause), _exception_totals(by_cause, overall)),
            *(() if reconciled.grain else (accruals.section(reconciled),)),
            _with_totals(tables.lines(reconciled, count), overall.values()),
        ),
    )


def _exception_totals(by_cause: Sequence[Cause], currencies: Iterable[str]) -> Iterator[Total]:
    """Yields the sums of the exceptions of each currency that has any."""
    for currency in currencies:
        causes = [cause for cause in by_cause if cause.currency == currency]
        if causes:
            expected, billed, variance = (
                sum_of(getattr(cause, name) for cause in causes) for name in ("expected", "billed", "variance")
            )
            yield Total("", currency, sum(cause.lines for cause in causes), expected, billed, variance)


def _with_totals(section: Section, totals: Iterable[Total]) -> Section:
    """Returns a table of lines with a row of totals for each currency."""
    rows = []
    for total in totals:
        values = total._asdict() | {"category": "Total"}
        rows.append(tuple(values.get(column.name) for column in section.columns))
    return section._replace(totals=tuple(rows))


def _owner(reconciled: Reconciled) -> str:
    """Returns the provider, and the account if it has a name of its own."""
    if reconciled.account == reconciled.provider:
        return reconciled.provider
    return f"{reconciled.provider}, account {safe(reconciled.account)}"


def _ensure_tied_out(totals: Sequence[Total], overall: dict[str, Total]) -> None:
    """Compares some totals with the totals of all lines.

    Raises:
        KlingPricingError: they differ.
    """
    for currency, whole in overall.items():
        parts = [total for total in totals if total.currency == currency]
        expected, billed = (sum_of(getattr(total, name) for total in parts) for name in ("expected", "billed"))
        variance = sum_of(total.variance for total in parts)
        if (
            (expected, billed, variance) != (whole.expected, whole.billed, whole.variance)
            or add(whole.expected, whole.variance) != whole.billed
            or sum(total.lines for total in parts) != whole.lines
        ):
            raise KlingPricingError(
                f"the reconciliation does not tie out in {currency}: {format_decimal(expected)} "
                f"expected plus variances of {format_decimal(variance)} does not equal "
                f"{format_decimal(whole.billed)} billed; no report was written"
            )
    if {total.currency for total in totals} - set(overall):
        raise KlingPricingError(
            "the reconciliation does not tie out: a currency has no total; no report was written"
        )


def _verdict(reconciled: Reconciled, overall: dict[str, Total]) -> Verdict:
    lines = sum(total.lines for total in overall.values())
    confirmed = "".join(f" {_sentence(clause)}" for clause in reconciled.confirmed)
    if reconciled.gaps:
        gaps = " ".join(map(_sentence, reconciled.gaps))
        return Verdict(tone="bad", headline="Not reconciled", about=f"{gaps}{confirmed}")
    tied = "The expected amount and every variance add up to the billed amount, to the last digit"
    if not reconciled.exceptions:
        return Verdict(tone="good", headline="Ties out", about=f"{tied}. No line needs action.{confirmed}")
    need = "needs" if reconciled.exceptions == 1 else "need"
    return Verdict(
        tone="bad",
        headline=f"Ties out with {exceptions_text(reconciled.exceptions, reconciled.open)}",
        about=f"{tied}. {number_text(reconciled.exceptions)} of {counted(lines, 'line')} {need} action."
        f"{confirmed}",
    )


def _sentence(clause: str) -> str:
    return safe(f"{clause[0].upper()}{clause[1:]}.")


def _facts(reconciled: Reconciled) -> tuple[Fact, ...]:
    since, until = (f"{at:%Y-%m-%d %H:%M}" for at in (reconciled.since, reconciled.until))
    return (
        Fact("Provider", reconciled.provider),
        *([Fact("Account", safe(reconciled.account))] if reconciled.account != reconciled.provider else []),
        Fact("Period", f"{since} to {until} (exclusive), UTC"),
        *(
            [Fact("Compared by", f"{', '.join(reconciled.grain)}. These are sums: {BLIND_SPOTS}.")]
            if reconciled.grain
            else []
        ),
        *(
            Fact("Statement", f"{safe(name)} (SHA-256 {digest})")
            for name, digest in sorted(reconciled.statements.items())
        ),
        *(
            [
                Fact(
                    "Invoice",
                    f"{safe(invoice.id or 'no number')}, {format_decimal(invoice.total)} {invoice.currency}",
                )
            ]
            if (invoice := reconciled.invoice)
            else []
        ),
    )


def _due(payable: Payable, *, is_preliminary: bool) -> Equation:
    """Returns what to do about the money of a currency."""
    invoiced = f"of {format_decimal(payable.invoiced)} charged in the period"
    if is_preliminary:
        invoiced += "; preliminary, because the period is not reconciled"
    not_accepted = "charged, and not accepted"
    if before := payable.disputed_before:
        not_accepted += f"; {format_decimal(before)} at the start of the period"
    return Equation(
        (
            Figure("Pay", payable.pay, payable.currency, invoiced),
            Figure("In dispute", payable.disputed, payable.currency, not_accepted),
            Figure("Accrue", payable.accrue, payable.currency, "used, and not charged yet"),
        ),
        ("", ""),
    )


def _equation(whole: Total, by_standing: Sequence[Total]) -> Equation:
    currency = whole.currency
    still_open = [total for total in by_standing if (total.name, total.currency) == ("open", currency)]
    variance = sum_of(total.variance for total in still_open)
    count = sum(total.lines for total in still_open)
    return Equation(
        (
            Figure("Expected", whole.expected, currency, "in our ledger"),
            Figure(
                "Variance",
                whole.variance,
                currency,
                f"still open: {format_decimal(variance)} on {counted(count, 'line')}"
                if count
                else "nothing left open",
            ),
            Figure("Billed", whole.billed, currency, "on the statement"),
        ),
        ("+", "="),
    )


def _charts(
    overall: dict[str, Total],
    by_category: Sequence[Total],
    by_standing: Sequence[Total],
    dimensions: Mapping[Literal["project", "model", "day"], Sequence[Total]],
) -> Iterator[Chart]:
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
                yield _beside_names(f"by_{noun}", _DIMENSIONS[noun][0], noun, currency, named)
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
    """Returns the chart of the parts of a currency's lines and of its billed amount, as in the figures above."""
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


def _invoice_id(reconciled: Reconciled, currency: str) -> str | None:
    """Returns the number of the invoice if it is in a currency."""
    invoice = reconciled.invoice
    return invoice.id if invoice is not None and invoice.currency == currency else None


def _charged_at(line: Line) -> datetime | None:
    """Returns when a line was submitted, else charged; a sum has its day, whatever the zone of the day is."""
    if line.day is not None:
        return datetime.combine(line.day, time(), UTC)
    return line.submitted_at or line.billed_at


def charges(reconciled: Reconciled) -> Iterator[FocusCharge]:
    """Yields the charges of the statement, line by line."""
    for line in reconciled.lines():
        if line.billed is not None:
            yield FocusCharge(
                provider=line.provider,
                account=reconciled.account,
                task_id=line.task_id,
                billed=line.billed,
                expected=line.expected,
                quoted=line.quoted,
                list_total=line.list_total,
                currency=line.currency,
                at=_charged_at(line) or reconciled.since,
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
                invoice_id=_invoice_id(reconciled, line.currency),
            )
