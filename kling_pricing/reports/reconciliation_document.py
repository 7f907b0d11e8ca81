"""The reconciliation as a document: its verdict, figures and tables."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence

from kling_pricing.errors import KlingPricingError
from kling_pricing.money import add, format_decimal, sum_of
from kling_pricing.reconcile.aggregates import BLIND_SPOTS
from kling_pricing.reconcile.categories import CATEGORIES, exceptions_text
from kling_pricing.reconcile.causes import Cause, exceptions_by_cause
from kling_pricing.reconcile.model import AccruedMonth, Payable, Reconciled, Total, accrued_text
from kling_pricing.reports import accruals
from kling_pricing.reports import reconciliation_tables as tables
from kling_pricing.reports.booked_journal import NO_BOOKING, Booking
from kling_pricing.reports.document import Document, Equation, Fact, Figure, Section, Verdict
from kling_pricing.reports.formatting import counted, number_text, period_text, safe
from kling_pricing.reports.journal_table import journal_table
from kling_pricing.reports.reconciliation_charts import DIMENSIONS, charts


def document(reconciled: Reconciled, booking: Booking = NO_BOOKING) -> Document:
    """Returns the document of a reconciliation.

    Args:
        reconciled: the reconciliation.
        booking: how its journal is booked.

    Raises:
        KlingPricingError: its totals do not tie out, so it must not be reported; or an exchange rate is
            missing.
    """
    by_category = [total for total in reconciled.totals("category") if total.lines]
    by_size = sorted(reconciled.totals("all"), key=lambda total: (-total.lines, total.currency))
    overall = {total.currency: total for total in by_size}
    by_standing = reconciled.totals("standing")
    dimensions = {
        name: reconciled.totals(name) if not reconciled.grain or name in reconciled.grain else []
        for name in DIMENSIONS
    }
    for totals in (by_category, by_standing, *filter(None, dimensions.values())):
        _ensure_tied_out(totals, overall)
    order, sizes = list[str](CATEGORIES), list(overall)
    by_category.sort(key=lambda total: (sizes.index(total.currency), order.index(total.name)))
    by_cause, accrued = exceptions_by_cause(reconciled), reconciled.accrued_months()
    count = sum(total.lines for total in overall.values())
    return Document(
        kind="reconciliation",
        title=f"{_owner(reconciled)}, {period_text(reconciled.since, reconciled.until)}",
        subtitle="Reconciliation of the provider's statement with our ledger",
        verdict=_verdict(reconciled, overall),
        facts=_facts(reconciled),
        equations=(
            *(
                _due(payable, accrued, is_preliminary=bool(reconciled.gaps))
                for payable in sorted(
                    reconciled.payable(),
                    key=lambda payable: (
                        sizes.index(payable.currency) if payable.currency in sizes else len(sizes)
                    ),
                )
            ),
            *(_equation(total, by_standing) for total in overall.values()),
        ),
        charts=tuple(charts(overall, by_category, by_standing, dimensions)),
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
                for name, (title, heading) in DIMENSIONS.items()
                if not reconciled.grain or name in reconciled.grain
            ),
            tables.causes(by_cause),
            _with_totals(
                _without_in_print(tables.exceptions(reconciled, by_cause), "expected", "billed"),
                _exception_totals(by_cause, overall),
            ),
            *(
                ()
                if reconciled.grain
                else (
                    journal_table(reconciled, booking),
                    accruals.section(reconciled),
                    accruals.by_month(accrued),
                )
            ),
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


def _without_in_print(section: Section, *names: str) -> Section:
    """Returns a table whose printed form lacks some columns; the printed table of all lines has them."""
    columns = (
        column._replace(in_print=column.in_print and column.name not in names) for column in section.columns
    )
    return section._replace(columns=tuple(columns))


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
        headline="Ties out with "
        + exceptions_text(reconciled.exceptions, reconciled.open, reconciled.in_dispute),
        about=f"{tied}. {number_text(reconciled.exceptions)} of {counted(lines, 'line')} {need} action."
        f"{confirmed}",
    )


def _sentence(clause: str) -> str:
    """Returns a clause as a sentence; the name of a file at its start, as in `may.csv:9`, stays as it is."""
    start = clause[0] if re.match(r"[^ ]+:[0-9]", clause) else clause[0].upper()
    return safe(f"{start}{clause[1:]}.")


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


def _due(payable: Payable, accrued: Iterable[AccruedMonth], *, is_preliminary: bool) -> Equation:
    """Returns what to do about the money of a currency."""
    invoiced = f"of {format_decimal(payable.invoiced)} charged in the period"
    if is_preliminary:
        invoiced += "; preliminary, because the period is not reconciled"
    not_accepted = "charged, and not accepted"
    if before := payable.disputed_before:
        not_accepted += f"; {format_decimal(before)} at the start of the period"
    not_charged = "used, and not charged yet"
    if months := [each for each in accrued if each.currency == payable.currency]:
        not_charged += f": {accrued_text(months)}"
    return Equation(
        (
            Figure("Pay", payable.pay, payable.currency, invoiced),
            Figure("In dispute", payable.disputed, payable.currency, not_accepted),
            Figure("Accrue", payable.accrue, payable.currency, not_charged),
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
