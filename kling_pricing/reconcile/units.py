"""The units of statements, and their values."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

from kling_pricing.display import shown
from kling_pricing.errors import KlingPricingError, PriceNotFoundError
from kling_pricing.tables.price_book import PriceBook
from kling_pricing.tables.price_table import PriceTable

_CURRENCY = re.compile("[A-Z]{3}")

WORTH_DIGITS = 18
"""Decimals of a unit's worth: nine of the price, and nine of a discount on it."""


class Unit(NamedTuple):
    """A provider's own unit.

    Attributes:
        name: the provider's name for it.
        currency: the currency of `worth`.
        worth: the value of one unit.
    """

    name: str
    currency: str
    worth: Decimal


def units_of(book: PriceBook, provider: str, at: datetime) -> dict[str, Unit]:
    """Returns the provider's units by name, with their worth in the table in force, else in the last table.

    Raises:
        PriceNotFoundError: the provider is unknown.
    """
    units = {unit.name: unit for table in book.tables_of(provider) for unit in _units(table)}
    try:
        in_force = book.table(provider, at)
    except PriceNotFoundError:
        return units
    return units | {unit.name: unit for unit in _units(in_force)}


def _units(table: PriceTable) -> Iterator[Unit]:
    for kind, value in table.units.items():
        yield Unit(kind, table.currency, value)
    named = set()
    for rate in table.rates.values():
        counted = table.counted_in(rate)
        if counted is not None and counted[0] not in named:
            named.add(counted[0])
            yield Unit(counted[0], table.currency, counted[1])


def check_account_currency(account_currency: str | None) -> None:
    """Refuses an account currency that is not a currency.

    Raises:
        KlingPricingError: it is not a code of three capital letters.
    """
    if account_currency is not None and not _CURRENCY.fullmatch(account_currency):
        raise KlingPricingError(
            "the account currency must be a code of three capital letters, such as CNY, "
            f"got {shown(account_currency)}"
        )
