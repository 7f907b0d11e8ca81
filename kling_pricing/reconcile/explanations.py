"""Why a task was charged otherwise than expected: of all ways to come to the charge, the one that explains it.

That is the one that agrees with what the statement itself says of the task, and then differs least from the
quote.
Every one of them fits to the last digit; what is only close is no explanation.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Literal, NamedTuple, TypeAlias

from kling_pricing.money import format_decimal, multiply, subtract
from kling_pricing.reconcile.repricing import Counted, Fit, Repricer
from kling_pricing.reconcile.row_facts import Saying
from kling_pricing.tables.price_table import PriceBook, PriceTable
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
"""What explains a variance; `rounding` is as the price table has it, or leaves open; `repriced`: the table has
other prices than when it was quoted; `written_off`: an operator said that nothing is due; `several`: more than
one of the others at once."""

_MAX_DIFFERENCES, _MAX_CONFIRMED = 2, 4
"""So many differences from the quote may explain a charge; more, where the statement says them itself."""

_MAX_OTHERS = 2
"""So many other ways to come to a charge are named that explain it as well."""

_PLAUSIBLE: Sequence[Kind] = ("table", "discount", "rate", "quantity", "times")
"""What to think of first, when the statement does not say."""


class Variance(NamedTuple):
    """A task that was charged otherwise than expected.

    Attributes:
        cell: as quoted.
        quantity: units quoted.
        unit: of the quantity.
        table: id of the price table.
        expected: what was quoted, in its currency.
        refunded: whether nothing is due, though something was quoted.
        written_off: whether that is because an operator said so.
        counted: how the statement counts.
        charged: what it charges, in its own unit.
        duration_s: the length that it states; None: none.
        saying: what else it says.
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
    saying: Saying


class Explanation(NamedTuple):
    """What explains a variance to the last digit.

    Attributes:
        cause: in words.
        kind: of which kind that is.
        others: what would explain it as well, in words; empty: nothing.
    """

    cause: str
    kind: Kind
    others: str = ""


class _Way(NamedTuple):
    """A way to come to a charge, and how it differs from the quote."""

    fit: Fit
    differences: tuple[Kind, ...]
    contradicted: int
    confirmed: int


class Explainer:
    """Explains variances of one provider."""

    def __init__(self, book: PriceBook, provider: str) -> None:
        self._repricer = Repricer(book, provider)
        self._order = {table.id: place for place, table in enumerate(self._repricer.tables)}

    def explain(self, variance: Variance) -> Explanation | None:
        """What explains a variance; None: nothing that is known."""
        if not variance.charged:
            return Explanation("the task is on the statement and was not charged", "not_charged")
        if variance.charged < 0:
            return None
        if variance.written_off:
            return Explanation("charged, though nothing is due for this task", "written_off")
        models = dict.fromkeys(filter(None, (variance.cell.model, variance.saying.model)))
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
        best, *others = sorted(ways, key=self._rank)
        alike = [each for each in others if self._rank(each)[:2] == self._rank(best)[:2]]
        kind = _kind(variance, best)
        if kind == "repriced":
            cause = f"table {variance.table} prices this differently today than when it was quoted"
            return Explanation(cause, kind)
        tables = self._repricer.tables
        return Explanation(_sentence(variance, best, tables), kind, _others(variance, alike, tables))

    def _way(self, variance: Variance, fit: Fit) -> _Way | None:
        """How a way differs from the quote; None: in too much."""
        differences: list[Kind] = []
        confirmed = contradicted = 0
        if fit.table.id != variance.table:
            differences.append(
                "discount" if _is_list_of(fit.table, variance, self._repricer.tables) else "table"
            )
        said = (
            variance.saying.model,
            variance.saying.resolution,
            variance.saying.tier(fit.table, fit.cell.model),
        )
        for quoted, charged, told in zip(variance.cell, fit.cell, said, strict=True):
            differs = quoted != charged
            differences += ["rate"] * differs
            confirmed += differs and told == charged
            contradicted += told not in {None, charged}
        if fit.units.number != variance.quantity:
            differences.append("quantity")
            confirmed += fit.units.length != "other"
        stated = variance.duration_s
        if stated is not None and variance.unit == "second":
            contradicted += fit.units.length == "other" or (
                fit.units.length == "quoted" and abs(stated - variance.quantity) >= 1
            )
        if fit.times > 1:
            differences += ["times"] * _MAX_DIFFERENCES  # nothing beside it
        if fit.discounted_twice:
            differences.append("discount")
        if len(differences) > _MAX_CONFIRMED or len(differences) - confirmed > _MAX_DIFFERENCES:
            return None
        return _Way(fit, tuple(differences), contradicted, confirmed)

    def _rank(self, way: _Way) -> tuple[int, int, int, int, Cell, Decimal, int]:
        fit = way.fit
        plausible = max((_PLAUSIBLE.index(each) for each in way.differences), default=0)
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
    """Whether a table has the published prices of the contract by which was quoted."""
    quoted = next((each for each in tables if each.id == variance.table), None)
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
    """Whether a charge that differs in nothing from the quote is the quote, and not today's price in its place.

    A table may have been edited since, under the same id.
    """
    grain = variance.counted.worth.scaleb(-variance.counted.decimals)
    gap = subtract(multiply(variance.charged, variance.counted.worth), variance.expected)
    return (
        abs(gap) < grain or fit.table.charge(fit.table.rates[fit.cell], fit.units.number) == variance.expected
    )


def _sentence(variance: Variance, way: _Way, tables: Sequence[PriceTable]) -> str:
    """The explanation in words."""
    parts = ["failed task charged"] if variance.refunded else []
    what = _differences(variance, way, tables)
    parts += [what] if what else []
    if way.fit.rounding != "exact":
        parts.append(f"{variance.counted.unit} rounded {way.fit.rounding}")
    text = ", ".join(parts) or f"the quote is rounded to the {variance.counted.unit} that was charged"
    if way.contradicted:
        text += f", though the statement says {_said(variance)}"
    elif way.differences and way.confirmed == len(way.differences):
        text += ", as the statement says"
    return text


def _others(variance: Variance, alike: Sequence[_Way], tables: Sequence[PriceTable]) -> str:
    """What would explain it as well."""
    named = [_differences(variance, each, tables) for each in alike[:_MAX_OTHERS]]
    more = len(alike) - len(named)
    return "; or ".join(filter(None, [*named, f"{more} more" if more else ""]))


def _differences(variance: Variance, way: _Way, tables: Sequence[PriceTable]) -> str:
    """What differs from the quote, such as `billed 10 s for a 5 s request`."""
    fit = way.fit
    length = ""
    if "quantity" in way.differences:
        length = f"billed {_amount(fit.units.number, variance.unit)} for {_request(variance)}"
        if fit.units.length in {"truncate", "nearest", "ceil"} and variance.duration_s is not None:
            how = {"truncate": "rounded down", "nearest": "rounded to the nearest", "ceil": "rounded up"}
            length += f" (the stated {format_decimal(variance.duration_s)} s {how[fit.units.length]})"
    rate = ""
    if fit.table.id != variance.table or fit.cell != variance.cell:
        rate = f"at the {_rate(variance, fit)}"
        if fit.table.id != variance.table:
            unlike = _is_list_of(fit.table, variance, tables)
            rate += f" of table {fit.table.id}" + (", without the contract's discount" if unlike else "")
    if fit.discounted_twice:
        rate = f"{rate or 'billed'} with the contract's discount taken off twice".strip()
    if fit.times > 1:
        return f"billed {'twice' if fit.times == 2 else f'{fit.times} times'} over"  # noqa: PLR2004
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


def _said(variance: Variance) -> str:
    saying = variance.saying
    facts = [
        f"{name} {str(value).lower()}"
        for name, value in saying.facts.items()
        if name not in {"model", "resolution"}
    ]
    model = None if saying.model == variance.cell.model else saying.model
    parts = [
        model,
        saying.resolution,
        *facts,
        variance.duration_s and f"{format_decimal(variance.duration_s)} s",
    ]
    return ", ".join(str(part) for part in parts if part)
