"""Checks of a booked journal that hold for every month, whatever happened in it."""

from collections import defaultdict
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path

from kling_pricing.reconcile import Reconciliation
from kling_pricing.reports import AccountsFile, Booking, ExchangeRates
from kling_pricing.reports.booked_journal import BookedEntry, booked_journal
from kling_pricing.reports.exchange_rates import load_exchange_rates

CENT = Decimal("0.01")

RATES = """\
book_currency: EUR
source: made up
rates:
  USD:
    2020-01-01: 0.9
    2026-09-05: 0.8517
    2026-09-30: 0.913000001
    2026-10-15: 1.07
    2026-10-31: 0.8642
    2026-11-28: 0.8591
    2026-12-06: 0.99999
"""
"""Exchange rates that change within and between months."""


def rates_file(folder: Path) -> ExchangeRates:
    """Writes and reads the exchange rates."""
    path = folder / "rates.yaml"
    path.write_text(RATES)
    return load_exchange_rates(path)


def check_entry(entry: BookedEntry) -> None:
    """Checks that an entry is balanced, in cents, and equal to the exact totals."""
    assert sum(line.amount for line in entry.lines) == 0
    assert all(line.amount == line.amount.quantize(CENT) for line in entry.lines)
    exact = [line for line in entry.lines if line.account != "rounding"]
    assert sum(line.exact for line in exact) == 0
    assert all(abs(line.amount - line.exact) <= CENT / 2 for line in exact)
    credit = sum(line.exact for line in exact if line.account == "liability")
    assert credit == -entry.liability
    debits = sum(line.amount for line in exact if line.account != "liability")
    assert debits + entry.rounding == entry.liability
    rounding = sum(line.amount for line in entry.lines if line.account == "rounding")
    assert abs(rounding - entry.rounding) <= CENT / 2


class BookedMonths:
    """Books one month after the other, in the currency of the charges and in another one."""

    def __init__(self, folder: Path) -> None:
        self._rates = rates_file(folder)
        self._owed = Decimal(0)

    def add(self, result: Reconciliation) -> None:
        """Books a month; its exact lines are the journal, and the liability is worth what is owed then."""
        payable = next(iter(result.payable()), None)
        plain = booked_journal(result, Booking())
        exact: defaultdict[tuple[str, str], Decimal] = defaultdict(Decimal)
        for entry in plain:
            check_entry(entry)
            for line in entry.lines:
                if line.account != "rounding":
                    sign = -1 if line.account == "liability" else 1
                    exact[line.account, line.project or ""] += sign * line.exact
        journal: defaultdict[tuple[str, str], Decimal] = defaultdict(Decimal)
        for booked in result.journal():
            project = "" if booked.account == "liability" else booked.project
            journal[booked.account, project] += booked.amount
        assert {key: amount for key, amount in exact.items() if amount} == {
            key: amount for key, amount in journal.items() if amount
        }
        last: date = (result.until - timedelta(microseconds=1)).date()
        closing = self._rates.rate("USD", last).rate
        for entry in booked_journal(result, Booking(AccountsFile(), self._rates)):
            assert (entry.currency, entry.original_currency) == ("EUR", "USD")
            check_entry(entry)
            self._owed += entry.liability
        if payable is not None:
            self._owed -= payable.invoiced * closing
            assert self._owed == payable.accrue * closing
