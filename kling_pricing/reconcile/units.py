"""The units that statements count in, and what they are worth."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

from kling_pricing.errors import PriceNotFoundError
from kling_pricing.tables.price_table import PriceBook, PriceTable

WORTH_DIGITS = 18
"""Decimals of a unit's worth: those of a price, and as many of a discount on it."""


class Unit(NamedTuple):
    """A unit of a provider's own.

    Attributes:
        name: what the provider calls it.
        currency: in which it is worth something.
        worth: what one is worth.
    """

    name: str
    currency: str
    worth: Decimal


def units_of(book: PriceBook, provider: str, at: datetime) -> dict[str, Unit]:
    """The provider's units, by name, each worth what the table in force at an instant says, else the last one.

    Raises:
        PriceNotFoundError: the provider is unknown.
    """
    found = {unit.name: unit for table in book.tables_of(provider) for unit in _units(table)}
    try:
        in_force = book.table(provider, at)
    except PriceNotFoundError:
        return found
    return found | {unit.name: unit for unit in _units(in_force)}


def _units(table: PriceTable) -> Iterator[Unit]:
    for rate in table.rates.values():
        counted = table.counted_in(rate)
        if counted is not None:
            name, worth = counted
            yield Unit(name, table.currency, worth)
            return
