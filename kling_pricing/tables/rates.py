"""The parts of price tables: cells, rates, the counting of units, bills, and contracts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple

from kling_pricing.money import add, divide, multiply, round_money, round_to, subtract

ANY = "any"
"""The resolution of a price that does not depend on the resolution."""


class Cell(NamedTuple):
    """One combination of model, resolution and tier in a price table."""

    model: str
    resolution: str
    tier: str

    def __str__(self) -> str:
        return f"{self.model} {self.resolution} {self.tier}"


class Quantity(NamedTuple):
    """How the billed units are counted.

    Attributes:
        fact: the fact that is counted.
        unit: the name of one unit: `second`, `call`, `5 seconds`.
        per: how much of the fact makes one unit, after rounding.
        rounding: `exact`, or how the fact is rounded to a multiple of `step`: `truncate`, `nearest`, `ceil`.
        step: the fact is rounded to a multiple of this.
        minimum: the least that is billed, in units of the fact.
        added: further facts that are counted together with the fact.
        floor: a fact and a multiplier; at least the multiple of the fact is billed.
    """

    fact: str
    unit: str = "second"
    per: int = 1
    rounding: str = "exact"
    step: int = 1
    minimum: int = 0
    added: tuple[str, ...] = ()
    floor: tuple[str, int] | None = None

    @property
    def facts(self) -> tuple[str, ...]:
        """All facts that decide the quantity."""
        floor = () if self.floor is None else (self.floor[0],)
        return tuple(dict.fromkeys((self.fact, *self.added, *floor)))

    def of(self, facts: Mapping[str, Any]) -> Decimal:
        """Returns the billed units of a request."""
        amount = Decimal(facts[self.fact])
        for fact in self.added:
            amount = add(amount, Decimal(facts[fact]))
        if self.floor is not None:
            fact, times = self.floor
            amount = max(amount, multiply(Decimal(facts[fact]), times))
        if self.rounding != "exact":
            amount = max(round_to(amount, self.step, self.rounding), Decimal(self.minimum))
        return amount if self.per == 1 else divide(amount, self.per)


class Rate(NamedTuple):
    """The price of one cell.

    Attributes:
        cell: model, resolution and tier.
        unit_price: the exact price of one unit, in the table's currency.
        description: the cell and, if the rate is published in the provider's own unit, the price in that unit.
        own_units: the price in the provider's own unit; None: the rate is published in the currency.
        own_unit: the name of that unit; None: the rate is published in the currency.
    """

    cell: Cell
    unit_price: Decimal
    description: str
    own_units: Decimal | None = None
    own_unit: str | None = None


class LineItem(NamedTuple):
    """One part of a quote's total.

    Attributes:
        description: the item that is charged.
        quantity: the number of units.
        unit: the name of one unit: `second`.
        unit_price: the price of one unit, in the quote's currency.
        amount: `unit_price` x `quantity`, exact.
    """

    description: str
    quantity: Decimal
    unit: str
    unit_price: Decimal
    amount: Decimal


class Bill(NamedTuple):
    """The price of a number of units of one cell.

    Attributes:
        rate: the rate that applies.
        lines: the parts of the total; never empty.
        total: the exact sum of the lines.
        list_total: the total at the published prices, under a contract; else None.
    """

    rate: Rate
    lines: tuple[LineItem, ...]
    total: Decimal
    list_total: Decimal | None


class Validity(NamedTuple):
    """A half-open period `[valid_from, valid_until)`; None: no limit on that side."""

    valid_from: datetime | None
    valid_until: datetime | None

    def holds(self, at: datetime) -> bool:
        """Returns whether an instant is in the period."""
        since, until = self
        return (since is None or since <= at) and (until is None or at < until)


class Contract(NamedTuple):
    """A customer's prices in place of the published ones; all arithmetic with its discount is here.

    Attributes:
        list_rates: the published rates.
        discount: the fraction that is taken off the price of a cell, such as 0.1.
        own_cells: the cells for which the contract sets its own price, which has no discount.
    """

    list_rates: Mapping[Cell, Rate]
    discount: Decimal
    own_cells: frozenset[Cell]

    @property
    def percent(self) -> Decimal:
        """The discount in percent."""
        return multiply(self.discount, 100)

    def discount_of(self, cell: Cell) -> Decimal:
        """Returns the discount of a cell as a fraction; zero if the contract sets the cell's own price."""
        return Decimal(0) if cell in self.own_cells else self.discount

    def taken_off(self, cell: Cell, amount: Decimal) -> Decimal:
        """Returns the discount on an amount, rounded once, half up, to the last digit that the ledger keeps."""
        return round_money(multiply(amount, self.discount_of(cell)))

    def charge(self, cell: Cell, amount: Decimal) -> Decimal:
        """Returns an amount with its rounded discount taken off."""
        return subtract(amount, self.taken_off(cell, amount))

    def unit_value(self, cell: Cell, value: Decimal) -> Decimal:
        """Returns the value of a provider's unit after the discount; a ratio, so it is not rounded."""
        return subtract(value, multiply(value, self.discount_of(cell)))

    def list_total(self, cell: Cell, units: Decimal) -> Decimal:
        """Returns the price of a number of units at the published rate."""
        return multiply(self.list_rates[cell].unit_price, units)


class Cells(NamedTuple):
    """A group of cells and the reason for listing it; None: every resolution, every tier."""

    model: str
    resolution: str | None
    tier: str | None
    why: str

    def covers(self, cell: Cell) -> bool:
        """Returns whether a cell is in the group."""
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
        ref: the page or document.
        checked: the day of the copy that was read, as its midnight in UTC.
        authority: `official` (published by the provider) or `secondary` (a copy by others).
    """

    ref: str
    checked: datetime
    authority: str


@dataclass(frozen=True, slots=True)
class StatementUnit:
    """The unit in which the provider bills.

    Attributes:
        name: the provider's name for it.
        per_currency_unit: the number of these units in one unit of the table's currency.
        rounding: how the provider rounds a fraction of a unit, or `unconfirmed`.
    """

    name: str
    per_currency_unit: int
    rounding: str


@dataclass(frozen=True, slots=True)
class Billing:
    """The provider's billing rules.

    Attributes:
        failed_tasks: whether failed tasks are `refunded` or `charged`, or `unconfirmed`.
        statement_unit: the unit of the statements; None: the currency.
    """

    failed_tasks: str
    statement_unit: StatementUnit | None
