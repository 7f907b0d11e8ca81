"""Every way to calculate a charge: all known tables, resolutions, tiers, lengths and rules, priced again.

The ways to charge for a model are calculated once per statement unit, and looked up by the amount they give.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from itertools import product
from math import ceil, floor
from typing import Any, Literal, NamedTuple, TypeAlias

from kling_pricing.money import divide, round_to, subtract
from kling_pricing.tables.capabilities import ModelCapabilities
from kling_pricing.tables.price_book import PriceBook
from kling_pricing.tables.price_table import PriceTable
from kling_pricing.tables.rates import Cell, Quantity, Rate
from kling_pricing.tables.rules import Between, Choice, OneOf, hold, possible
from kling_pricing.wire.facts import EMPTY_FACTS

Rounding: TypeAlias = Literal["exact", "up", "down"]
Length: TypeAlias = Literal["quoted", "stated", "truncate", "nearest", "ceil", "other"]
"""The source of a number of units: the quote, the length that the statement states, that length rounded to
whole seconds or blocks of seconds, or another length that the model allows."""

_MAX_LENGTH_S = 60
_ROUNDINGS: tuple[Literal["truncate", "nearest", "ceil"], ...] = ("truncate", "nearest", "ceil")
TIMES = (2, 3)
"""How many times a price may be charged."""


class Counted(NamedTuple):
    """The unit of a statement.

    Attributes:
        unit: a currency, or the provider's own unit.
        worth: the value of one unit, in the currency of the quote.
        decimals: the number of digits after the point.
    """

    unit: str
    worth: Decimal
    decimals: int

    def expressed(self, exact: Fraction) -> Iterator[tuple[int, Rounding, bool]]:
        """Yields an amount in units of the statement's last digit, rounded both ways if it has more digits.

        Yields:
            The amount, how it was rounded, and whether rounding half up gives the same amount.
        """
        steps = exact * 10**self.decimals
        if steps.denominator == 1:
            yield steps.numerator, "exact", True
        else:
            is_up = floor(steps + Fraction(1, 2)) == ceil(steps)
            yield floor(steps), "down", not is_up
            yield ceil(steps), "up", is_up


class Units(NamedTuple):
    """A number of units, and its source.

    Attributes:
        number: the number of units.
        length: its source.
        step_s: the seconds to a multiple of which the stated length is rounded.
    """

    number: Decimal
    length: Length
    step_s: int = 1


LengthsOf: TypeAlias = Callable[[PriceTable, Cell], Sequence[Units]]
"""The numbers of units that a table may charge for in a cell."""


class Fit(NamedTuple):
    """One way to calculate a charge.

    Attributes:
        table: the price table.
        cell: the rate's model, resolution and tier.
        units: the number of units.
        times: how many times the price is charged.
        discounted_twice: whether a contract's discount is taken off twice.
        rounding: how the amount is rounded to the statement's unit.
        is_nearest: whether rounding half up gives the same amount.
    """

    table: PriceTable
    cell: Cell
    units: Units
    times: int
    discounted_twice: bool
    rounding: Rounding = "exact"
    is_nearest: bool = True


class Repricer:
    """Prices the tasks of one provider again."""

    def __init__(self, book: PriceBook, provider: str) -> None:
        self.tables = book.tables_of(provider)
        self._lengths = _lengths(book)
        self._steps: dict[tuple[str, Cell, str], tuple[int, ...]] = {}
        self._by_model = lru_cache(maxsize=1024)(self._fits_by_model)
        self._by_task = lru_cache(maxsize=16384)(self._fits_by_task)

    def fits(
        self,
        models: Iterable[str],
        counted: Counted,
        unit: str,
        quoted: Decimal,
        stated: Decimal | None,
        charged: int,
    ) -> list[Fit]:
        """Returns every way to calculate a charge.

        Args:
            models: the models that the task can have.
            counted: the unit of the statement.
            unit: the unit of the quoted quantity.
            quoted: that quantity.
            stated: the length that the statement states, in seconds; None: not stated.
            charged: the charge, in units of the statement's last digit.
        """
        fits: dict[tuple[str, Cell, Decimal, int, bool], Fit] = {}
        for model in models:
            by_task = self._by_task(model, counted, unit, quoted, stated)
            by_model = self._by_model(model, counted, unit)
            for fit in (*by_task.get(charged, ()), *by_model.get(charged, ())):
                key = (fit.table.id, fit.cell, fit.units.number, fit.times, fit.discounted_twice)
                fits.setdefault(key, fit)
        return list(fits.values())

    def _fits_by_model(self, model: str, counted: Counted, unit: str) -> Mapping[int, Sequence[Fit]]:
        """Returns the fits for every length that the model allows, by the amount they give."""
        lengths = [Units(length, "other") for length in self._lengths.get((model, unit), ())]
        return self._index(model, counted, lambda _table, _cell: lengths, ())

    def _fits_by_task(
        self, model: str, counted: Counted, unit: str, quoted: Decimal, stated: Decimal | None
    ) -> Mapping[int, Sequence[Fit]]:
        """Returns the fits for the quoted quantity and the stated length, by the amount they give."""
        seconds = self.seconds_of(unit)

        def lengths(table: PriceTable, cell: Cell) -> list[Units]:
            steps = self._steps_of(table, cell, unit) if stated is not None and seconds else ()
            rounded = () if stated is None else _roundings(stated, seconds, steps)
            return [Units(quoted, "quoted"), *rounded]

        return self._index(model, counted, lengths, TIMES)

    def seconds_of(self, unit: str) -> int:
        """Returns how many seconds a unit has; 0: it is not a unit of time."""
        return next(
            (
                choice.result.per
                for table in self.tables
                for choice in table.quantity
                if choice.result.unit == unit and choice.result.fact.endswith("_s")
            ),
            0,
        )

    def _steps_of(self, table: PriceTable, cell: Cell, unit: str) -> tuple[int, ...]:
        """Returns the seconds to whose multiples a length in a cell may be rounded: 1, and the table's own."""
        place = (table.id, cell, unit)
        if place not in self._steps:
            own = {
                choice.result.step
                for choice in table.quantity
                if choice.result.unit == unit
                and choice.result.fact.endswith("_s")
                and _counts(table, choice, cell)
            }
            self._steps[place] = tuple(sorted({1, *own}))
        return self._steps[place]

    def _index(
        self, model: str, counted: Counted, lengths: LengthsOf, times: Sequence[int]
    ) -> Mapping[int, Sequence[Fit]]:
        """Returns the fits for some lengths, by the amount they give."""
        fits: dict[int, list[Fit]] = {}
        for table in self.tables:
            for rate in table.rates.values():
                if rate.cell.model == model:
                    for units in lengths(table, rate.cell):
                        for fit, exact in _ways(table, rate, units, counted, times):
                            for steps, rounding, is_nearest in counted.expressed(exact):
                                rounded = fit._replace(rounding=rounding, is_nearest=is_nearest)
                                fits.setdefault(steps, []).append(rounded)
        return fits


def _ways(
    table: PriceTable, rate: Rate, units: Units, counted: Counted, times: Sequence[int]
) -> Iterator[tuple[Fit, Fraction]]:
    """Yields the charges of a rate for some units, in the statement's unit."""
    once = _in_unit(table, rate, units.number, counted)
    if once is None:
        return
    fit = Fit(table, rate.cell, units, 1, discounted_twice=False)
    yield fit, once
    if units.length == "quoted":
        for many in times:
            yield fit._replace(times=many), once * many
    twice = _discounted_twice(table, rate, units.number, counted)
    if twice is not None:
        yield fit._replace(discounted_twice=True), twice


def _discounted_twice(table: PriceTable, rate: Rate, units: Decimal, counted: Counted) -> Fraction | None:
    """Returns the price in the statement's unit, with a contract's discount taken off twice; None: none is.

    Of a number of own units, whose value has the discount already, the discount is taken off once more.
    """
    discount = Decimal(0) if table.contract is None else table.contract.discount_of(rate.cell)
    if table.contract is None or not discount:
        return None
    if rate.own_units is not None and counted.unit == rate.own_unit:
        return Fraction(rate.own_units) * Fraction(units) * (1 - Fraction(discount))
    charge = table.charge(rate, units)
    twice = Fraction(subtract(charge, table.contract.taken_off(rate.cell, charge)))
    if counted.unit == table.currency:
        return twice
    counts_in = table.counted_in(rate)
    return twice / Fraction(counts_in[1]) if counts_in is not None and counts_in[0] == counted.unit else None


def _in_unit(table: PriceTable, rate: Rate, units: Decimal, counted: Counted) -> Fraction | None:
    """Returns the price in the statement's unit; None: the table cannot express prices in that unit."""
    if rate.own_units is not None and counted.unit == rate.own_unit:
        return Fraction(rate.own_units) * Fraction(units)
    if counted.unit == table.currency:
        return Fraction(table.charge(rate, units))
    counts_in = table.counted_in(rate)
    if counts_in is None or counts_in[0] != counted.unit:
        return None
    return Fraction(table.charge(rate, units)) / Fraction(counts_in[1])


def _roundings(stated: Decimal, seconds: int, steps: Iterable[int]) -> Iterator[Units]:
    """Yields the stated length in units of some seconds, exactly and rounded to multiples of some seconds."""
    if seconds == 1:
        yield Units(stated, "stated")
    for step in steps:
        for rounding in _ROUNDINGS:
            rounded = round_to(stated, step, rounding)
            if rounded > 0 and rounded % seconds == 0:
                yield Units(divide(rounded, seconds), rounding, step)


def _counts(table: PriceTable, choice: Choice[Quantity], cell: Cell) -> bool:
    """Returns whether a table may count the units of a cell in a certain way."""
    unknown: dict[str, Any] = dict.fromkeys(EMPTY_FACTS)
    facts = unknown | {"model": cell.model, "resolution": cell.resolution}
    if hold(choice.when, facts) is False:
        return False
    values = {
        fact: condition.values if isinstance(condition, OneOf) else (None,)
        for fact, condition in choice.when.items()
        if fact not in {"model", "resolution"}
    }
    return any(
        cell.tier in possible(table.tiers, facts | dict(zip(values, combination, strict=True)))
        for combination in product(*values.values())
    )


def _lengths(book: PriceBook) -> dict[tuple[str, str], tuple[Decimal, ...]]:
    """Returns every length in whole seconds, or number of images, that an API allows, by model and unit."""
    allowed: dict[tuple[str, str], set[int]] = {}
    for matrix in book.matrices.values():
        for model, capabilities in matrix.models.items():
            durations = set(_allowed(capabilities, "duration_s"))
            seconds = durations or set(_allowed(capabilities, "video_length_s"))
            for unit, numbers in (("second", seconds), ("image", set(_allowed(capabilities, "calls")))):
                allowed.setdefault((model, unit), set()).update(numbers)
    return {place: tuple(map(Decimal, sorted(numbers))) for place, numbers in allowed.items()}


def _allowed(capabilities: ModelCapabilities, fact: str) -> Iterator[int]:
    """Yields the whole values that a model's rules allow for a fact."""
    for rule in capabilities.rules:
        condition = rule.need.get(fact)
        if isinstance(condition, OneOf):
            yield from (
                value for value in condition.values if type(value) is int and 0 < value <= _MAX_LENGTH_S
            )
        elif isinstance(condition, Between):
            lowest, highest = condition.minimum or 1, min(condition.maximum or _MAX_LENGTH_S, _MAX_LENGTH_S)
            yield from range(max(1, ceil(lowest)), floor(highest) + 1)
