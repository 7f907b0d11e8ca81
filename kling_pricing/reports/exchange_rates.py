"""The exchange rates with which a journal is booked in one currency, given per currency and date."""

from __future__ import annotations

from bisect import bisect_right
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Annotated, Any, NamedTuple

from pydantic import AfterValidator

from kling_pricing.errors import KlingPricingError, TableError
from kling_pricing.strict_yaml import Currency, Day, FileModel, Price, Text, read


def _above_zero(rate: Decimal) -> Decimal:
    if not rate:
        raise ValueError("must be above zero; write the value of one unit of the currency")
    return rate


ExchangeRate = Annotated[Price, AfterValidator(_above_zero)]
"""The value of one unit of a currency in the currency of the accounts, exact."""


class ExchangeRatesFile(FileModel):
    """The content of a file of exchange rates.

    Attributes:
        book_currency: the currency of your accounts.
        source: where the rates come from, such as a central bank.
        rates: currency -> day -> the value of one unit in `book_currency` from that day on.
    """

    book_currency: Currency
    source: Text | None = None
    rates: dict[Currency, dict[Day, ExchangeRate]]


class DatedRate(NamedTuple):
    """A rate, the day for which it is used, and its own day.

    Attributes:
        rate: the value of one unit of the currency.
        day: the day for which it is used.
        rate_day: the day of the rate, which is that day or an earlier one.
    """

    rate: Decimal
    day: date
    rate_day: date

    @property
    def age_days(self) -> int:
        """The number of days by which the rate is older than its use."""
        return (self.day - self.rate_day).days

    @property
    def age_text(self) -> str:
        """The age in words, such as `the rate of 2026-10-30 for 2026-11-01, 2 days older`."""
        days = "1 day" if self.age_days == 1 else f"{self.age_days} days"
        return f"the rate of {self.rate_day} for {self.day}, {days} older"


class ExchangeRates(NamedTuple):
    """Exchange rates, each in force from its day until the next one.

    Attributes:
        file: the name of the file, for messages.
        book_currency: the currency of the accounts.
        source: where the rates come from; None: the file does not say.
        rates: currency -> its rates by day, in order.
    """

    file: str
    book_currency: str
    source: str | None
    rates: dict[str, list[tuple[date, Decimal]]]

    def rate(self, currency: str, day: date) -> DatedRate:
        """Returns the rate of a currency for a day: that of the day itself, or else of the newest earlier day.

        Raises:
            KlingPricingError: there is no rate for that day or an earlier one.
        """
        if currency == self.book_currency:
            return DatedRate(Decimal(1), day, day)
        rates = self.rates.get(currency, [])
        place = bisect_right(rates, day, key=lambda rate: rate[0])
        if not place:
            raise KlingPricingError(
                f"{self.file}: no rate for {currency} on {day} or an earlier day; add the rate of that day to "
                f"rates.{currency}"
            )
        rate_day, rate = rates[place - 1]
        return DatedRate(rate, day, rate_day)


def load_exchange_rates(path: str | Path) -> ExchangeRates:
    """Reads a file of exchange rates.

    Raises:
        TableError: the file cannot be read or is invalid; it names the place and the remedy.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise TableError(f"cannot be read: {error.strerror}; check the path", file=str(path)) from None
    content, document = read(data, ExchangeRatesFile, name=str(path))
    if content.book_currency in content.rates:
        problem = "a unit of the book currency is worth itself; remove this currency"
        raise document.error(("rates", content.book_currency), problem)
    rates = {currency: sorted(by_day.items()) for currency, by_day in content.rates.items()}
    return ExchangeRates(str(path), content.book_currency, content.source, rates)


def exchange_rates_schema() -> dict[str, Any]:
    """Returns the JSON Schema of a file of exchange rates, for editors."""
    return ExchangeRatesFile.model_json_schema()
