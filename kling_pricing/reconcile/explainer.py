"""Explains one variance: of all ways to calculate the charge, the one that explains it best.

That is the way that agrees with what the statement itself states about the task, and then has the fewest
differences from the quote.
Every way gives the charge to the last digit; a result that is only close is not an explanation.
A way that contradicts the statement is only a hint.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from kling_pricing.money import add, multiply, subtract
from kling_pricing.reconcile.explanation_text import (
    alternatives_text,
    multiple_text,
    not_charged_text,
    refund_text,
    shared_text,
    stated_text,
    way_text,
)
from kling_pricing.reconcile.explanations import (
    FAILED_CHARGED,
    MAX_DIFFERENCES,
    NO_EXPLANATION,
    NOT_CHARGED,
    ROUNDINGS,
    Explanation,
    Kind,
    Variance,
    Way,
    is_list_of,
)
from kling_pricing.reconcile.repricing import Fit, Repricer
from kling_pricing.tables.price_book import PriceBook
from kling_pricing.tables.rates import ANY, Cell

_MAX_CONFIRMED = 4
"""The most differences from the quote that may explain a charge if the statement itself confirms them."""

_PLAUSIBLE: tuple[Kind, ...] = ("table", "discount", "rate", "quantity", "times")
"""The more plausible kinds first, for a charge about which the statement states nothing."""

_WRITTEN_OFF = "the task was charged, although nothing is due for it"
_OVER_REFUNDED = "more was refunded than was charged"
_PARTLY_REFUNDED = "a part of the charge was refunded"
_OTHER_TASK = "the charge fits only a task other than the one on the statement"


class Explainer:
    """Explains the variances of one provider."""

    def __init__(self, book: PriceBook, provider: str) -> None:
        self._repricer = Repricer(book, provider)
        self._tables = {table.id: table for table in self._repricer.tables}
        self._order = {table.id: place for place, table in enumerate(self._repricer.tables)}

    def explain(self, variance: Variance) -> Explanation | None:
        """Returns the explanation of a variance, or a hint; None: there is neither.

        A charge and its refunds are separate facts: the charge is explained, and the refund is named.
        """
        if not variance.charged:
            return Explanation(not_charged_text(variance), NOT_CHARGED, "not_charged")
        if variance.charged < 0:
            return Explanation(f"{NO_EXPLANATION}: {_OVER_REFUNDED}", _OVER_REFUNDED, None)
        refund = refund_text(variance) if variance.refunded else ""
        if variance.written_off:
            return Explanation(_joined(_WRITTEN_OFF, refund), _WRITTEN_OFF, "written_off")
        ways = self._ways(variance)
        if variance.failed:
            cause = _joined(self._failed_text(variance, ways), refund)
            return Explanation(cause, FAILED_CHARGED, "failed_charged")
        if refund and self._is_as_quoted(variance, ways):
            return Explanation(refund, _PARTLY_REFUNDED, "refund")
        if not ways and not variance.table and (multiple := multiple_text(variance)):
            return Explanation(_joined(multiple, refund), multiple, "times")
        if not ways:
            return Explanation(_joined(NO_EXPLANATION, refund), _PARTLY_REFUNDED, None) if refund else None
        if ways[0].contradicted and ways[0].differences:
            cause = (
                f"{NO_EXPLANATION} of a task as the statement describes it; the amount fits a task that was "
                f"{way_text(variance, ways[0], self._tables)}, but the statement says {stated_text(variance)}"
            )
            return Explanation(_joined(cause, refund), _OTHER_TASK, None)
        return self._explained(variance, *ways, refund=refund)

    def _explained(self, variance: Variance, best: Way, *others: Way, refund: str) -> Explanation:
        """Returns the explanation by the best of some ways."""
        kind = self._kind(variance, best)
        if kind == "repriced":
            cause = f"the prices in table {variance.table} have changed since the task was quoted"
            return Explanation(_joined(cause, refund), cause, kind)
        text, shared = way_text(variance, best, self._tables), shared_text(variance, best, self._tables)
        if several := next((way for way in others if _are_same_units(best, way)), None):
            also = f", or {way_text(variance, several, self._tables)}"
            text, shared = text + also, shared + also
        is_confirmed = not best.contradicted and 0 < len(best.differences) == best.confirmed
        if best.contradicted:
            text += f", although the statement says {stated_text(variance)}"
        if is_confirmed:
            text += ", as the statement says"
        equal = [way for way in others if self._rank(way)[:2] == self._rank(best)[:2]]
        return Explanation(
            _joined(text, refund),
            shared,
            kind,
            alternatives_text(variance, equal, self._tables),
            is_confirmed,
        )

    def _failed_text(self, variance: Variance, ways: Sequence[Way]) -> str:
        """Returns the cause of the charge of a failed task; a price other than the quote is part of it."""
        if not ways or ways[0].contradicted or not ways[0].differences:
            return FAILED_CHARGED
        return f"{FAILED_CHARGED}, {way_text(variance, ways[0], self._tables)}"

    def _is_as_quoted(self, variance: Variance, ways: Sequence[Way]) -> bool:
        """Returns whether the charge, before its refunds, is the quoted amount."""
        charge = add(variance.charged, variance.refunded)
        if multiply(charge, variance.counted.worth) == variance.expected:
            return True
        return bool(ways) and not ways[0].differences and self._kind(variance, ways[0]) in ROUNDINGS

    def _ways(self, variance: Variance) -> list[Way]:
        """Returns the ways to calculate a charge, the best first."""
        models = dict.fromkeys(filter(None, (variance.cell.model, variance.stated.model)))
        fits = self._repricer.fits(
            models,
            variance.counted,
            variance.unit,
            variance.quantity,
            variance.duration_s,
            int(add(variance.charged, variance.refunded).scaleb(variance.counted.decimals)),
        )
        ways = [way for fit in fits if (way := self._way(variance, fit)) is not None]
        return sorted(ways, key=self._rank)

    def _way(self, variance: Variance, fit: Fit) -> Way | None:
        """Returns a way and its differences from the quote; None: it has too many."""
        differences: list[Kind] = []
        stated = variance.stated
        confirmed = contradicted = 0
        if fit.table.id != variance.table:
            differences.append("discount" if is_list_of(fit.table, variance, self._tables) else "table")
        is_any = ANY in {fit.cell.resolution, stated.resolution}
        for quoted, charged, fact in (
            (variance.cell.model, fit.cell.model, stated.model),
            (variance.cell.resolution, fit.cell.resolution, None if is_any else stated.resolution),
        ):
            differences += ["rate"] * (quoted != charged)
            confirmed += quoted != charged == fact
            contradicted += fact not in {None, charged}
        is_allowed = stated.allows_tier(fit.cell, fit.table)
        contradicted += not is_allowed
        if fit.cell.tier != variance.cell.tier:
            differences.append("rate")
            quoted_tier = fit.cell._replace(tier=variance.cell.tier)
            confirmed += is_allowed and not stated.allows_tier(quoted_tier, fit.table)
        if fit.units.number != variance.quantity:
            differences.append("quantity")
            confirmed += fit.units.length != "other"
        contradicted += self._contradicts_length(variance, fit)
        if fit.times > 1:
            differences += ["times"] * MAX_DIFFERENCES  # no other difference beside this one
        if fit.discounted_twice:
            differences.append("discount")
        if len(differences) > _MAX_CONFIRMED or len(differences) - confirmed > MAX_DIFFERENCES:
            return None
        return Way(fit, tuple(differences), contradicted, confirmed)

    def _contradicts_length(self, variance: Variance, fit: Fit) -> bool:
        """Returns whether the statement states another length than the one that a way charges for."""
        seconds = self._repricer.seconds_of(variance.unit)
        if variance.duration_s is None or not seconds:
            return False
        charged_s = multiply(fit.units.number, seconds)
        return fit.units.length == "other" or (
            fit.units.length == "quoted" and abs(subtract(variance.duration_s, charged_s)) >= seconds
        )

    def _kind(self, variance: Variance, way: Way) -> Kind:
        kinds = dict.fromkeys(way.differences)
        if kinds:
            return next(iter(kinds)) if len(kinds) == 1 else "several"
        unit = way.fit.table.billing.statement_unit
        rule = "unconfirmed" if unit is None else unit.rounding
        if not _is_of_the_quote(variance, way.fit):
            return "repriced"
        if way.fit.rounding == "exact":
            return "rounding"
        if rule == "unconfirmed":
            return "unstated_rounding"
        follows = way.fit.is_nearest if rule == "half_up" else rule == way.fit.rounding
        return "rounding" if follows else "misrounding"

    def _rank(self, way: Way) -> tuple[int, int, int, int, Cell, Decimal, int]:
        fit = way.fit
        plausible = max((_PLAUSIBLE.index(kind) for kind in way.differences), default=0)
        return (
            way.contradicted,
            len(way.differences),
            plausible,
            -self._order[fit.table.id],
            fit.cell,
            fit.units.number,
            fit.times,
        )


def _is_of_the_quote(variance: Variance, fit: Fit) -> bool:
    """Returns whether a charge without differences is the quote itself, and not today's price.

    A table may have been edited since the quote, under the same id.
    """
    grain = variance.counted.worth.scaleb(-variance.counted.decimals)
    charge = add(variance.charged, variance.refunded)
    gap = subtract(multiply(charge, variance.counted.worth), variance.expected)
    return (
        abs(gap) < grain or fit.table.charge(fit.table.rates[fit.cell], fit.units.number) == variance.expected
    )


def _are_same_units(best: Way, other: Way) -> bool:
    """Returns whether two ways are more units once and the quoted units several times, at the same rate."""
    return (
        set(best.differences) == {"quantity"}
        and other.fit.times > 1
        and (best.fit.table.id, best.fit.cell) == (other.fit.table.id, other.fit.cell)
        and best.contradicted == other.contradicted
    )


def _joined(cause: str, refund: str) -> str:
    return f"{cause}; {refund}" if refund else cause
