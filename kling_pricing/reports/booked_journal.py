"""The journal as it is booked: in whole cents, with your accounts, and in your currency if rates are given.

One entry per currency of the charges. Its debits are the expense, the variance and the disputed charges, by
project, cost centre and tax text; its credit is the liability. Every line is rounded once. What the lines lack
then to the rounded liability is the rounding line, so debits equal credits in every entry.

In another currency, a line counts at the rate of the day on which its tasks were sent, and the liability at the
rate of the last day of the period. The difference is a line of its own. So is the change in value of what was
owed at the start of the period. A day without a rate of its own has that of the newest earlier day; the memo of
each line names the oldest of these rates.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, timedelta
from decimal import Decimal
from typing import NamedTuple

from kling_pricing.money import add, multiply, subtract, sum_of
from kling_pricing.reconcile.model import AccruedMonth, BookingGroup, Payable, Reconciled, accrued_text
from kling_pricing.reports.accounts_file import AccountsFile, BookedAccount
from kling_pricing.reports.currency_decimals import cents
from kling_pricing.reports.exchange_rates import DatedRate, ExchangeRates

COST_ACCOUNTS: tuple[BookedAccount, ...] = ("expense", "variance", "disputed")
"""The accounts with an amount per project; the liability is the sum of them."""

_NOTHING: Mapping[str, str] = {}


class Booking(NamedTuple):
    """How the journal is booked.

    Attributes:
        accounts: the accounts and cost centres.
        rates: the exchange rates; None: every currency is booked as it is.
    """

    accounts: AccountsFile = AccountsFile()
    rates: ExchangeRates | None = None


NO_BOOKING = Booking()
"""Books every currency as it is, with the usual names of the accounts."""


class BookedLine(NamedTuple):
    """A line of an entry.

    Attributes:
        account: the account.
        code: its code; None: none is given.
        name: its name.
        cost_centre: the cost centre; None: none is given, or the account has none.
        project: the project; None: unknown, or the account has none.
        tax_text: the text about tax; None: none is given.
        amount: the amount in whole cents, a debit if it is above zero.
        exact: the same before it was rounded. A rounding line has the amount itself.
        original: the same in the currency of the charges; None: it is not booked in another currency, or is a
            difference that arises from that.
        memo: what the line is.
        tasks: the number of tasks; 0: of no task in particular.
    """

    account: BookedAccount
    code: str | None
    name: str
    cost_centre: str | None
    project: str | None
    tax_text: str | None
    amount: Decimal
    exact: Decimal
    original: Decimal | None
    memo: str
    tasks: int


class BookedEntry(NamedTuple):
    """The entry of one currency. The amounts of its lines add up to zero.

    Attributes:
        currency: the currency in which it is booked.
        original_currency: the currency of the charges.
        lines: the lines, the liability and the rounding last.
        liability: the exact liability; the debits but for the rounding, and `rounding`, add up to it.
        rounding: what the debits in cents lack to the exact liability.
        older_rates: the rates that are older than the days for which they are used, by day.
    """

    currency: str
    original_currency: str
    lines: tuple[BookedLine, ...]
    liability: Decimal
    rounding: Decimal
    older_rates: tuple[DatedRate, ...]


def booked_journal(reconciled: Reconciled, booking: Booking) -> list[BookedEntry]:
    """Returns the entries of a reconciliation's period, one per currency of the charges.

    Raises:
        KlingPricingError: an exchange rate is missing.
    """
    days = (reconciled.since.date(), (reconciled.until - timedelta(microseconds=1)).date())
    return booked_entries(
        reconciled.booking_groups(),
        reconciled.payable(),
        reconciled.provider,
        days,
        booking,
        reconciled.accrued_months(),
    )


def booked_entries(
    groups: Sequence[BookingGroup],
    payables: Iterable[Payable],
    provider: str,
    days: tuple[date, date],
    booking: Booking,
    accrued: Sequence[AccruedMonth] = (),
) -> list[BookedEntry]:
    """Returns the entries of a period.

    Args:
        groups: the journal of the period in groups.
        payables: the amounts to pay and to accrue at its end, by currency.
        provider: the provider that bills.
        days: the first and the last day of the period.
        booking: the accounts and the rates.
        accrued: the parts of the amounts to accrue, which the memo of the liability names.

    Raises:
        KlingPricingError: an exchange rate is missing.
    """
    by_currency: dict[str, list[BookingGroup]] = {}
    for group in groups:
        by_currency.setdefault(group.currency, []).append(group)
    known = {payable.currency: payable for payable in payables}
    entries = []
    for currency in sorted({*by_currency, *known}):
        parts = by_currency.get(currency, [])
        added = sum_of(group.liability for group in parts)
        owed_before = Decimal(0)
        if (payable := known.get(currency)) is not None:
            owed_before = subtract(payable.accrue, subtract(added, payable.invoiced))
        entry = _Entry(currency, provider, days, booking).booked(
            parts, added, owed_before, [each for each in accrued if each.currency == currency]
        )
        if entry.lines:
            entries.append(entry)
    return entries


class _Entry:
    """Makes the entry of one currency."""

    def __init__(self, currency: str, provider: str, days: tuple[date, date], booking: Booking) -> None:
        self._original, self._provider, self._accounts = currency, provider, booking.accounts
        self._first, self._last = days
        self._rates = booking.rates
        self._is_exchanged = booking.rates is not None and booking.rates.book_currency != currency
        self._currency = booking.rates.book_currency if booking.rates is not None else currency
        self._older: dict[date, DatedRate] = {}

    def booked(
        self,
        groups: Sequence[BookingGroup],
        added: Decimal,
        owed_before: Decimal,
        accrued: Sequence[AccruedMonth],
    ) -> BookedEntry:
        """Returns the entry of the groups, which add `added` to what is invoiced or owed."""
        lines = list(self._costs(groups))
        liability = added
        if self._is_exchanged and (groups or owed_before):
            closing = self._rate(self._last)
            of_costs = subtract(multiply(added, closing), sum_of(line.exact for line in lines))
            of_owed, before = Decimal(0), self._first - timedelta(days=1)
            if owed_before:
                of_owed = multiply(owed_before, subtract(closing, self._rate(before)))
            liability = add(multiply(added, closing), of_owed)
            memo = "from the days of use to the end of the period"
            lines += self._other("exchange", of_costs, self._with_age(memo, self._last))
            memo = "of the amount owed at the start of the period"
            lines += self._other("exchange", of_owed, self._with_age(memo, before, self._last))
        original = -added if self._is_exchanged else None
        memo = self._with_age("invoiced or owed", self._last)
        if accrued:
            memo += f"; not charged at the end of the period, in {self._original}: {accrued_text(accrued)}"
        credit = list(self._other("liability", -liability, memo, original))
        rounding = subtract(liability, sum_of(line.amount for line in lines))
        difference = -sum_of(line.amount for line in [*lines, *credit])
        lines += credit
        if difference:
            lines += self._other("rounding", difference, "each line is rounded on its own")
        older = tuple(self._older[day] for day in sorted(self._older))
        return BookedEntry(self._currency, self._original, tuple(lines), liability, rounding, older)

    def _rate(self, day: date) -> Decimal:
        """Returns the rate for a day, and notes it if it is older than that."""
        if self._rates is None:
            return Decimal(1)
        dated = self._rates.rate(self._original, day)
        if dated.age_days:
            self._older[day] = dated
        return dated.rate

    def _with_age(self, memo: str, *days: date) -> str:
        """Returns a memo that names the oldest rate of these days, if it is older than its day."""
        older = [self._older[day] for day in days if day in self._older]
        return f"{memo}; {max(older, key=lambda dated: dated.age_days).age_text}" if older else memo

    def _costs(self, groups: Sequence[BookingGroup]) -> Iterator[BookedLine]:
        """Yields the lines of the costs, by account, project, cost centre and tax text."""
        amounts: dict[BookedLine, tuple[Decimal, Decimal, int, frozenset[date]]] = {}
        for group in groups:
            rate = self._rate(group.day) if self._is_exchanged else Decimal(1)
            labels = {"project": group.project, **group.labels} if group.project else group.labels
            for account in COST_ACCOUNTS:
                amount: Decimal = getattr(group, account)
                if not amount:
                    continue
                code, name = self._accounts.account(account, self._provider, labels)
                zero = Decimal(0)
                place = BookedLine(
                    account,
                    code,
                    name,
                    self._accounts.cost_centre(self._provider, labels),
                    group.project or None,
                    self._accounts.tax_text(self._provider, labels),
                    *(zero, zero, None, "", 0),
                )
                exact, original, tasks, days = amounts.get(place, (zero, zero, 0, frozenset()))
                amounts[place] = (
                    add(exact, multiply(amount, rate)),
                    add(original, amount),
                    tasks + group.tasks,
                    days | {group.day},
                )
        for place in sorted(amounts, key=_order):
            exact, original, tasks, days = amounts[place]
            yield place._replace(
                amount=cents(exact, self._currency),
                exact=exact,
                original=original if self._is_exchanged else None,
                memo=self._with_age(_MEMOS[place.account], *sorted(days)),
                tasks=tasks,
            )

    def _other(
        self, account: BookedAccount, exact: Decimal, memo: str, original: Decimal | None = None
    ) -> Iterator[BookedLine]:
        """Yields the line of an account that has no project; none if the amount is zero."""
        if exact:
            code, name = self._accounts.account(account, self._provider, _NOTHING)
            tax_text = self._accounts.tax_text(self._provider, _NOTHING)
            amount = cents(exact, self._currency)
            yield BookedLine(account, code, name, None, None, tax_text, amount, exact, original, memo, 0)


_MEMOS: Mapping[BookedAccount, str] = {
    "expense": "used, at the expected amount",
    "variance": "billed differently: billed minus expected",
    "disputed": "disputed with the provider",
}


def _order(line: BookedLine) -> tuple[int, str, str, str, str]:
    account = COST_ACCOUNTS.index(line.account)
    return account, line.code or "", line.cost_centre or "", line.project or "", line.tax_text or ""
