"""Explains one variance: of all ways to calculate the charge, the one that explains it best.

That is the way that agrees with what the statement itself states about the task, and then has the fewest
differences from the quote.
Every way gives the charge to the last digit; a result that is only close is not an explanation.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Literal, NamedTuple, TypeAlias

from kling_pricing.money import format_decimal, multiply, subtract
from kling_pricing.reconcile.repricing import Counted, Fit, Repricer
from kling_pricing.reconcile.row_facts import RowFacts
from kling_pricing.tables.price_book import PriceBook
from kling_pricing.tables.price_table import PriceTable
from kling_pricing.tables.rates import Cell

Kind: TypeAlias = Literal[
    "rounding",
    "misrounding",
    "repriced",
    "failed_charged",
    "written_off",
    "not_charged",
    "table",
    "rate",
    "quantity",
    "times",
    "discount",
    "several",
]
"""The kind of an explanation.

`rounding`: as the price table says, or does not exclude; `repriced`: the table has other prices than when the
task was quoted; `written_off`: an operator settled the task at zero; `several`: more than one of the others.
"""

_MAX_DIFFERENCES, _MAX_CONFIRMED = 2, 4
"""The most differences from the quote that may explain a charge; more if the statement itself confirms them."""

_MAX_ALTERNATIVES = 2
"""The most alternatives that are named."""

_PLAUSIBLE: Sequence[Kind] = ("table", "discount", "rate", "quantity", "times")
"""The more plausible kinds first, for a charge about which the statement states nothing."""


class Variance(NamedTuple):
    """A charge that differs from the expected amount.

    Attributes:
        cell: model, resolution and tier of the quote.
        quantity: the quoted units.
        unit: the unit of the quantity.
        table: id of the price table of the quote.
        expected: the quoted amount, in its currency.
        refunded: whether nothing is due, although an amount was quoted.
        written_off: whether nothing is due because an operator settled the task at zero.
        counted: the unit of the statement.
        charged: the charge, in that unit.
        duration_s: the length that the statement states; None: not stated.
        stated: the other facts that the statement states.
    """

    cell: Cell
    quantity: Decimal
    unit: str
    table: str
    expected: Decimal
    refunded: bool
    written_off: bool
    counted: Counted
    charged: Decimal
    duration_s: Decimal | None
    stated: RowFacts


class Explanation(NamedTuple):
    """An explanation of a variance to the last digit.

    Attributes:
        cause: the explanation in words.
        kind: its kind.
        alternatives: other explanations that fit as well, in words; empty: none.
    """

    cause: str
    kind: Kind
    alternatives: str = ""


class _Way(NamedTuple):
    """A way to calculate a charge, and how it differs from the quote."""

    fit: Fit
    differences: tuple[Kind, ...]
    contradicted: int
    confirmed: int


class Explainer:
    """Explains the variances of one provider."""

    def __init__(self, book: PriceBook, provider: str) -> None:
        self._repricer = Repricer(book, provider)
        self._order = {table.id: place for place, table in enumerate(self._repricer.tables)}

    def explain(self, variance: Variance) -> Explanation | None:
        """Returns the explanation of a variance; None: there is no known explanation."""
        if not variance.charged:
            return Explanation("the task is on the statement but was not charged", "not_charged")
        if variance.charged < 0:
            return None
        if variance.written_off:
            return Explanation("the task was charged, although nothing is due for it", "written_off")
        models = dict.fromkeys(filter(None, (variance.cell.model, variance.stated.model)))
        fits = self._repricer.fits(
            models,
            variance.counted,
            variance.unit,
            variance.quantity,
            variance.duration_s,
            int(variance.charged.scaleb(variance.counted.decimals)),
        )
        ways = [way for fit in fits if (way := self._way(variance, fit)) is not None]
        if not ways:
            return None
        best, *rest = sorted(ways, key=self._rank)
        alternatives = [way for way in rest if self._rank(way)[:2] == self._rank(best)[:2]]
        kind = _kind(variance, best)
        if kind == "repriced":
            cause = f"the prices in table {variance.table} have changed since the task was quoted"
            return Explanation(cause, kind)
        tables = self._repricer.tables
        return Explanation(_sentence(variance, best, tables), kind, _named(variance, alternatives, tables))

    def _way(self, variance: Variance, fit: Fit) -> _Way | None:
        """Returns a way and its differences from the quote; None: it has too many."""
        differences: list[Kind] = []
        confirmed = contradicted = 0
        if fit.table.id != variance.table:
            differences.append(
                "discount" if _is_list_of(fit.table, variance, self._repricer.tables) else "table"
            )
        facts = (
            variance.stated.model,
            variance.stated.resolution,
            variance.stated.tier(fit.table, fit.cell.model),
        )
        for quoted, charged, stated in zip(variance.cell, fit.cell, facts, strict=True):
            differs = quoted != charged
            differences += ["rate"] * differs
            confirmed += differs and stated == charged
            contradicted += stated not in {None, charged}
        if fit.units.number != variance.quantity:
            differences.append("quantity")
            confirmed += fit.units.length != "other"
        duration_s = variance.duration_s
        if duration_s is not None and variance.unit == "second":
            contradicted += fit.units.length == "other" or (
                fit.units.length == "quoted" and abs(duration_s - variance.quantity) >= 1
            )
        if fit.times > 1:
            differences += ["times"] * _MAX_DIFFERENCES  # no other difference beside this one
        if fit.discounted_twice:
            differences.append("discount")
        if len(differences) > _MAX_CONFIRMED or len(differences) - confirmed > _MAX_DIFFERENCES:
            return None
        return _Way(fit, tuple(differences), contradicted, confirmed)

    def _rank(self, way: _Way) -> tuple[int, int, int, int, Cell, Decimal, int]:
        fit = way.fit
        plausible = max((_PLAUSIBLE.index(kind) for kind in way.differences), default=0)
        differences = len(way.differences)
        return (
            way.contradicted,
            differences,
            plausible,
            -self._order[fit.table.id],
            fit.cell,
            fit.units.number,
            fit.times,
        )


def _is_list_of(table: PriceTable, variance: Variance, tables: Sequence[PriceTable]) -> bool:
    """Returns whether a table has the published prices that the contract of the quote is based on."""
    quoted = next((other for other in tables if other.id == variance.table), None)
    return (
        quoted is not None
        and quoted.contract is not None
        and table.contract is None
        and dict(table.rates) == dict(quoted.contract.list_rates)
    )


def _kind(variance: Variance, way: _Way) -> Kind:
    kinds = dict.fromkeys(way.differences)
    if variance.refunded:
        return "failed_charged"
    if not kinds:
        unit = way.fit.table.billing.statement_unit
        rule = "unconfirmed" if unit is None else unit.rounding
        if not _is_of_the_quote(variance, way.fit):
            return "repriced"
        follows = way.fit.is_nearest if rule == "half_up" else rule in {way.fit.rounding, "unconfirmed"}
        return "rounding" if follows or way.fit.rounding == "exact" else "misrounding"
    return next(iter(kinds)) if len(kinds) == 1 else "several"


def _is_of_the_quote(variance: Variance, fit: Fit) -> bool:
    """Returns whether a charge without differences is the quote itself, and not today's price.

    A table may have been edited since the quote, under the same id.
    """
    grain = variance.counted.worth.scaleb(-variance.counted.decimals)
    gap = subtract(multiply(variance.charged, variance.counted.worth), variance.expected)
    return (
        abs(gap) < grain or fit.table.charge(fit.table.rates[fit.cell], fit.units.number) == variance.expected
    )


def _sentence(variance: Variance, way: _Way, tables: Sequence[PriceTable]) -> str:
    """Returns an explanation in words."""
    parts = ["a failed task was charged"] if variance.refunded else []
    differences = _differences(variance, way, tables)
    parts += [differences] if differences else []
    if way.fit.rounding != "exact":
        parts.append(f"{variance.counted.unit} rounded {way.fit.rounding}")
    text = ", ".join(parts) or f"the charge is the quoted amount in {variance.counted.unit}, rounded"
    if way.contradicted:
        text += f", although the statement says {_stated_text(variance)}"
    elif way.differences and way.confirmed == len(way.differences):
        text += ", as the statement says"
    return text


def _named(variance: Variance, ways: Sequence[_Way], tables: Sequence[PriceTable]) -> str:
    """Returns the first of some ways in words, and how many more there are."""
    named = [_differences(variance, way, tables) for way in ways[:_MAX_ALTERNATIVES]]
    more = len(ways) - len(named)
    return "; or ".join(filter(None, [*named, f"{more} more" if more else ""]))


def _differences(variance: Variance, way: _Way, tables: Sequence[PriceTable]) -> str:
    """Returns the differences from the quote in words, such as `billed 10 s for a 5 s request`."""
    fit = way.fit
    length = ""
    if "quantity" in way.differences:
        length = f"billed {_amount(fit.units.number, variance.unit)} for {_request(variance)}"
        if fit.units.length in {"truncate", "nearest", "ceil"} and variance.duration_s is not None:
            rounded = {"truncate": "rounded down", "nearest": "rounded to the nearest", "ceil": "rounded up"}
            length += f" (the stated {format_decimal(variance.duration_s)} s {rounded[fit.units.length]})"
    rate = ""
    if fit.table.id != variance.table or fit.cell != variance.cell:
        rate = f"at the {_rate(variance, fit)}"
        if fit.table.id != variance.table:
            is_list = _is_list_of(fit.table, variance, tables)
            rate += f" from table {fit.table.id}" + (", without the contract discount" if is_list else "")
    if fit.discounted_twice:
        rate = f"{rate or 'billed'} with the contract discount deducted twice".strip()
    if fit.times > 1:
        return f"billed at {'twice' if fit.times == 2 else f'{fit.times} times'} the price"  # noqa: PLR2004
    if length and rate:
        return f"{length}, {rate}"
    return length or (rate if rate.startswith("billed") or not rate else f"billed {rate}")


def _rate(variance: Variance, fit: Fit) -> str:
    cell = fit.cell
    model = "" if cell.model == variance.cell.model else f"{cell.model} "
    resolution = "" if cell.resolution == "any" else f"{cell.resolution} "
    return f"{model}{resolution}{cell.tier.replace('_', ' ')} rate"


def _amount(units: Decimal, unit: str) -> str:
    if unit == "second":
        return f"{format_decimal(units)} s"
    if unit[0].isdigit():
        return f"{format_decimal(units)} x {unit}"
    return f"{format_decimal(units)} {unit}{'' if units == 1 else 's'}"


def _request(variance: Variance) -> str:
    if variance.unit == "second":
        return f"a {format_decimal(variance.quantity)} s request"
    return f"a request of {_amount(variance.quantity, variance.unit)}"


def _stated_text(variance: Variance) -> str:
    """Returns the facts that the statement states, in words."""
    stated = variance.stated
    facts = [
        f"{name} {str(value).lower()}"
        for name, value in stated.facts.items()
        if name not in {"model", "resolution"}
    ]
    model = None if stated.model == variance.cell.model else stated.model
    parts = [
        model,
        stated.resolution,
        *facts,
        variance.duration_s and f"{format_decimal(variance.duration_s)} s",
    ]
    return ", ".join(str(part) for part in parts if part)
