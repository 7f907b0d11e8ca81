"""The table of the booked journal."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta

from kling_pricing.money import sum_of
from kling_pricing.reconcile.model import Reconciled
from kling_pricing.reports.booked_journal import BookedEntry, Booking, booked_journal
from kling_pricing.reports.document import Column, Row, Section
from kling_pricing.reports.formatting import counted, safe_or_none


def journal_table(reconciled: Reconciled, booking: Booking) -> Section:
    """Returns the lines to book for a period, in whole cents; debits equal credits in each entry.

    Raises:
        KlingPricingError: an exchange rate is missing.
    """
    entries = booked_journal(reconciled, booking)
    day = f"{reconciled.until - timedelta(microseconds=1):%Y-%m-%d}"
    rows = tuple(_rows(entries, day))
    is_exchanged = any(entry.currency != entry.original_currency for entry in entries)
    has_codes = booking.accounts.accounts.model_fields_set or booking.accounts.rules
    return Section(
        "journal",
        "Journal",
        "One entry per currency of the charges, rounded to the decimal places of the currency. The rounding "
        f"line balances the rounding of the other lines.{_older_rates_text(entries)}",
        (
            Column("entry", "Entry", "count"),
            Column("day", "Day", "day"),
            Column("account_code", "Code", on_page=bool(has_codes)),
            Column("account", "Account"),
            Column("cost_centre", "Cost centre", on_page=bool(booking.accounts.rules)),
            Column("project", "Project"),
            Column("currency", "Currency"),
            Column("debit", "Debit", "amount", keeps_zeros=True),
            Column("credit", "Credit", "amount", keeps_zeros=True),
            Column("exact", "Exact amount", "amount"),
            Column("original_currency", "Charged in", on_page=is_exchanged),
            Column("original", "Amount charged", "amount", on_page=is_exchanged),
            Column("tax_text", "Tax", on_page=any(row[12] for row in rows)),
            Column("memo", "Memo", "prose"),
        ),
        lambda: rows,
        tuple(_totals(entries)),
    )


def _older_rates_text(entries: Sequence[BookedEntry]) -> str:
    """Returns a sentence per currency with days that have no rate of their own."""
    text = ""
    for entry in entries:
        if entry.older_rates:
            oldest = max(entry.older_rates, key=lambda dated: dated.age_days)
            days = counted(len(entry.older_rates), "day")
            text += (
                f" For {days}, there is no exchange rate for {entry.original_currency} of that day; the oldest "
                f"rate that is used instead is {oldest.age_text}."
            )
    return text


def _rows(entries: Sequence[BookedEntry], day: str) -> Iterator[Row]:
    for number, entry in enumerate(entries, start=1):
        for line in entry.lines:
            tasks = f" ({counted(line.tasks, 'task')})" if line.tasks else ""
            is_debit = line.amount > 0 or (not line.amount and line.exact > 0)
            yield (
                number,
                day,
                safe_or_none(line.code),
                line.name,
                safe_or_none(line.cost_centre),
                safe_or_none(line.project),
                entry.currency,
                abs(line.amount) if is_debit else None,
                None if is_debit else abs(line.amount),
                None if line.account == "rounding" else line.exact,
                None if line.original is None else entry.original_currency,
                line.original,
                safe_or_none(line.tax_text),
                f"{line.memo}{tasks}",
            )


def _totals(entries: Sequence[BookedEntry]) -> Iterator[Row]:
    for currency in dict.fromkeys(entry.currency for entry in entries):
        lines = [line for entry in entries if entry.currency == currency for line in entry.lines]
        debit = sum_of(line.amount for line in lines if line.amount > 0)
        credit = sum_of(-line.amount for line in lines if line.amount < 0)
        exact = sum_of(line.exact for line in lines if line.account != "rounding")
        named: tuple[None, ...] = (None, None)
        yield (None, None, None, "Total", *named, currency, debit, credit, exact, *(None,) * 4)
