"""What price tables are made of: cells, rates, how units are counted, and what a number of them costs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple

from kling_pricing.money import divide, multiply, round_money, round_to

ANY = "any"
"""The resolution of a price that does not depend on one."""


class Cell(NamedTuple):
    """One place in a price table."""

    model: str
    resolution: str
    tier: str

    def __str__(self) -> str:
        return f"{self.model} {self.resolution} {self.tier}"


class Quantity(NamedTuple):
    """How the billed units are counted.

    Attributes:
        fact: the fact that counts them.
        unit: what one unit is: `second`, `call`, `5 seconds`.
        per: how much of the fact makes one unit, after rounding.
        rounding: `exact`, or how a length is made a whole multiple of `step`: `truncate`, `nearest`, `ceil`.
        step: what it is made a multiple of.
        minimum: the least that is billed, in the fact's own measure.
    """

    fact: str
    unit: str = "second"
    per: int = 1
    rounding: str = "exact"
    step: int = 1
    minimum: int = 0

    def of(self, facts: Mapping[str, Any]) -> Decimal:
        """The billed units of a request."""
        amount = Decimal(facts[self.fact])
        if self.rounding != "exact":
            amount = max(round_to(amount, self.step, self.rounding), Decimal(self.minimum))
        return amount if self.per == 1 else divide(amount, self.per)


class Rate(NamedTuple):
    """The price of one cell.

    Attributes:
        cell: model, resolution and tier.
        unit_price: exact, in the table's currency.
        description: the cell in words, and the price in the provider's own unit where it has one.
        own_units: the price in the provider's own unit, where it has one.
    """

    cell: Cell
    unit_price: Decimal
    description: str
    own_units: Decimal | None = None


class LineItem(NamedTuple):
    """One part of a quote's total.

    Attributes:
        description: what is paid for.
        quantity: how many units.
        unit: what one unit is: `second`.
        unit_price: of one unit, in the quote's currency.
        amount: `unit_price` x `quantity`, exactly.
    """

    description: str
    quantity: Decimal
    unit: str
    unit_price: Decimal
    amount: Decimal


class Bill(NamedTuple):
    """What a number of units of one cell costs.

    Attributes:
        rate: the rate that applies.
        lines: the parts of the total; never empty.
        total: their exact sum.
        list_total: under a contract, what it would be at the published prices; else None.
    """

    rate: Rate
    lines: tuple[LineItem, ...]
    total: Decimal
    list_total: Decimal | None


class Validity(NamedTuple):
    """A half-open period: from its first instant, up to the first that is no longer in it; None is open."""

    valid_from: datetime | None
    valid_until: datetime | None

    def holds(self, at: datetime) -> bool:
        """Whether an instant is in it."""
        return (self.valid_from is None or self.valid_from <= at) and (
            self.valid_until is None or at < self.valid_until
        )


class Contract(NamedTuple):
    """What a customer pays instead of the published prices.

    Attributes:
        list_rates: the published rates.
        discount: what is taken off the list total, as a part of one.
        own_cells: the cells that have a price of the contract's own, off which no discount is taken.
    """

    list_rates: Mapping[Cell, Rate]
    discount: Decimal
    own_cells: frozenset[Cell]

    def discount_of(self, cell: Cell) -> Decimal:
        """The part of one that is taken off a cell's price; none off one of the contract's own."""
        return Decimal(0) if cell in self.own_cells else self.discount

    def taken_off(self, cell: Cell, amount: Decimal) -> Decimal:
        """What is taken off an amount: rounded once, half up, to the last digit that the ledger keeps."""
        return round_money(multiply(amount, self.discount_of(cell)))


class Cells(NamedTuple):
    """Some cells of a table, and what is to be said of them; None is every resolution, every tier."""

    model: str
    resolution: str | None
    tier: str | None
    why: str

    def covers(self, cell: Cell) -> bool:
        """Whether the entry speaks of this cell."""
        return (
            cell.model == self.model
            and self.resolution in {None, cell.resolution}
            and self.tier in {None, cell.tier}
        )

    def __str__(self) -> str:
        return " ".join(part for part in (self.model, self.resolution, self.tier) if part)


@dataclass(frozen=True, slots=True)
class TableSource:
    """Where a table was published.

    Attributes:
        ref: seed or page.
        checked: UTC midnight of the day on which somebody last compared the table with it.
        authority: `official` (the provider's own words) or `secondary` (somebody else's copy).
    """

    ref: str
    checked: datetime
    authority: str


@dataclass(frozen=True, slots=True)
class StatementUnit:
    """The unit the provider bills in.

    Attributes:
        name: what the provider calls it.
        per_currency_unit: how many make one unit of the table's currency.
        rounding: how a fraction of one is rounded, or `unconfirmed`.
    """

    name: str
    per_currency_unit: int
    rounding: str


@dataclass(frozen=True, slots=True)
class Billing:
    """How the provider bills.

    Attributes:
        failed_tasks: `refunded`, `charged` or `unconfirmed`.
        statement_unit: None when it bills in the currency itself.
    """

    failed_tasks: str
    statement_unit: StatementUnit | None
