"""Every way to come to a charge: all tables, resolutions, tiers, lengths and rules that are known, re-priced.

The ways to charge for a model are worked out once for each way of counting, and looked up by what they come to.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from fractions import Fraction
from functools import lru_cache
from math import ceil, floor
from typing import Literal, NamedTuple, TypeAlias

from kling_pricing.money import divide, round_to, subtract
from kling_pricing.tables.capabilities import ModelCapabilities
from kling_pricing.tables.price_table import PriceBook, PriceTable
from kling_pricing.tables.rates import Cell, Rate
from kling_pricing.tables.rules import Between, OneOf

Rounding: TypeAlias = Literal["exact", "up", "down"]
Length: TypeAlias = Literal["quoted", "stated", "truncate", "nearest", "ceil", "other"]
"""Where a number of units comes from: the quote, the length that the statement states, that length rounded to
whole seconds or blocks of them, or another that the model can have."""

_LONGEST_S = 60
_STEPS_S = (1, 5)
_ROUNDINGS: tuple[Literal["truncate", "nearest", "ceil"], ...] = ("truncate", "nearest", "ceil")
_TIMES = (2, 3)


class Counted(NamedTuple):
    """How a statement counts.

    Attributes:
        unit: what it counts in: a currency, or the provider's own unit.
        worth: what one is worth, in the currency of the quote.
        decimals: how many digits it has behind the point.
    """

    unit: str
    worth: Decimal
    decimals: int

    def expressed(self, exact: Fraction) -> Iterator[tuple[int, Rounding, bool]]:
        """An amount as the statement can write it, in its last digit; rounded where it cannot be written.

        Yields:
            The amount, how it was rounded, and whether half up would have made the same of it.
        """
        steps = exact * 10**self.decimals
        if steps.denominator == 1:
            yield steps.numerator, "exact", True
        else:
            is_up = floor(steps + Fraction(1, 2)) == ceil(steps)
            yield floor(steps), "down", not is_up
            yield ceil(steps), "up", is_up


class Units(NamedTuple):
    """A number of units, and where it comes from."""

    number: Decimal
    length: Length


class Fit(NamedTuple):
    """One way to come to a charge.

    Attributes:
        table: by which table.
        cell: at which rate.
        units: for how many units.
        times: how many times over.
        discounted_twice: whether a contract's discount was taken off again.
        rounding: how the amount was rounded to the statement's unit.
        is_nearest: whether half up makes the same of it.
    """

    table: PriceTable
    cell: Cell
    units: Units
    times: int
    discounted_twice: bool
    rounding: Rounding = "exact"
    is_nearest: bool = True


class Repricer:
    """Re-prices the tasks of one provider."""

    def __init__(self, book: PriceBook, provider: str) -> None:
        self.tables = book.tables_of(provider)
        self._lengths = _lengths(book)
        self._usual = lru_cache(maxsize=1024)(self._usual_fits)
        self._own = lru_cache(maxsize=16384)(self._own_fits)

    def fits(
        self,
        models: Iterable[str],
        counted: Counted,
        unit: str,
        quoted: Decimal,
        stated: Decimal | None,
        charged: int,
    ) -> list[Fit]:
        """Every way to come to a charge.

        Args:
            models: of which it can be.
            counted: how the statement counts.
            unit: of the quantity that was quoted.
            quoted: that quantity.
            stated: the length that the statement states, in seconds; None: none.
            charged: what it charges, in its last digit.
        """
        found: dict[tuple[str, Cell, Decimal, int, bool], Fit] = {}
        for model in models:
            own = self._own(model, counted, unit, quoted, stated)
            usual = self._usual(model, counted, unit)
            for fit in (*own.get(charged, ()), *usual.get(charged, ())):
                key = (fit.table.id, fit.cell, fit.units.number, fit.times, fit.discounted_twice)
                found.setdefault(key, fit)
        return list(found.values())

    def _usual_fits(self, model: str, counted: Counted, unit: str) -> Mapping[int, Sequence[Fit]]:
        """By the lengths that the model can have."""
        lengths = self._lengths.get(model, ()) if unit == "second" else ()
        return self._index(model, counted, [Units(each, "other") for each in lengths], ())

    def _own_fits(
        self, model: str, counted: Counted, unit: str, quoted: Decimal, stated: Decimal | None
    ) -> Mapping[int, Sequence[Fit]]:
        """By what was quoted and what is stated."""
        seconds = self._seconds_of(unit)
        lengths = [] if stated is None or not seconds else list(_roundings(stated, seconds))
        return self._index(model, counted, [Units(quoted, "quoted"), *lengths], _TIMES)

    def _seconds_of(self, unit: str) -> int:
        """How many seconds a unit has; 0: it is none of time."""
        return next(
            (
                choice.result.per
                for table in self.tables
                for choice in table.quantity
                if choice.result.unit == unit and choice.result.fact.endswith("_s")
            ),
            0,
        )

    def _index(
        self, model: str, counted: Counted, lengths: Sequence[Units], times: Sequence[int]
    ) -> Mapping[int, Sequence[Fit]]:
        """What it comes to -> the ways to come to it."""
        found: dict[int, list[Fit]] = {}
        for table in self.tables:
            for rate in table.rates.values():
                if rate.cell.model == model:
                    for units in lengths:
                        for fit, exact in _ways(table, rate, units, counted, times):
                            for steps, rounding, is_nearest in counted.expressed(exact):
                                way = fit._replace(rounding=rounding, is_nearest=is_nearest)
                                found.setdefault(steps, []).append(way)
        return found


def _ways(
    table: PriceTable, rate: Rate, units: Units, counted: Counted, times: Sequence[int]
) -> Iterator[tuple[Fit, Fraction]]:
    """The charges of a rate for some units, in the statement's unit."""
    once = _in_unit(table, rate, units.number, counted)
    if once is None:
        return
    fit = Fit(table, rate.cell, units, 1, discounted_twice=False)
    yield fit, once
    if units.length == "quoted":
        for many in times:
            yield fit._replace(times=many), once * many
    if table.contract is not None and counted.unit == table.currency and table.contract.discount_of(rate.cell):
        charge = table.charge(rate, units.number)
        twice = subtract(charge, table.contract.taken_off(rate.cell, charge))
        yield fit._replace(discounted_twice=True), Fraction(twice)


def _in_unit(table: PriceTable, rate: Rate, units: Decimal, counted: Counted) -> Fraction | None:
    """What units cost in the statement's own unit; None: the table's prices cannot be told in that."""
    if counted.unit == table.own_unit and rate.own_units is not None:
        return Fraction(rate.own_units) * Fraction(units)
    if counted.unit == table.currency:
        return Fraction(table.charge(rate, units))
    counts_in = table.counted_in(rate)
    if counts_in is None or counts_in[0] != counted.unit:
        return None
    return Fraction(table.charge(rate, units)) / Fraction(counts_in[1])


def _roundings(stated: Decimal, seconds: int) -> Iterator[Units]:
    """The stated length as units of so many seconds, exactly and rounded."""
    if seconds == 1:
        yield Units(stated, "stated")
    for step in _STEPS_S:
        for rounding in _ROUNDINGS:
            rounded = round_to(stated, step, rounding)
            if rounded > 0 and rounded % seconds == 0:
                yield Units(divide(rounded, seconds), rounding)


def _lengths(book: PriceBook) -> dict[str, tuple[Decimal, ...]]:
    """Model -> every length in whole seconds that one of the APIs makes of it."""
    found: dict[str, set[int]] = {}
    for matrix in book.matrices.values():
        for model, capabilities in matrix.models.items():
            asked = set(_allowed(capabilities, "duration_s"))
            found.setdefault(model, set()).update(asked or _allowed(capabilities, "video_length_s"))
    return {model: tuple(Decimal(each) for each in sorted(lengths)) for model, lengths in found.items()}


def _allowed(capabilities: ModelCapabilities, fact: str) -> Iterator[int]:
    for rule in capabilities.rules:
        condition = rule.need.get(fact)
        if isinstance(condition, OneOf):
            yield from (each for each in condition.values if type(each) is int and 0 < each <= _LONGEST_S)
        elif isinstance(condition, Between):
            lowest, highest = condition.minimum or 1, min(condition.maximum or _LONGEST_S, _LONGEST_S)
            yield from range(max(1, ceil(lowest)), floor(highest) + 1)
