"""Patterns over many lines, which no single line shows: constant ratios, and roundings that add up."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from fractions import Fraction
from typing import NamedTuple

from kling_pricing.money import MAX_DECIMALS, NANOS, format_decimal, from_nanos
from kling_pricing.reconcile.units import WORTH_DIGITS
from kling_pricing.reconcile.workspace import Workspace

MIN_LINES = 5
"""The least number of lines with the same ratio that have a cause in common."""

_RATIO_DIGITS = 4
_BEYOND_CHANCE = 10
"""How many times more lines than chance would give must have the same ratio."""

_NEGLIGIBLE = NANOS // 100
"""Roundings that add up to no more than a hundredth of the currency are never an exception."""

_BY_CHANCE = "'rate', 'quantity', 'times', 'several'"
"""The kinds of explanations that a charge with another cause may have by chance."""


class _Charge(NamedTuple):
    """A charge that several lines have in common.

    Attributes:
        id: its row in `different_variance`.
        lines: the number of those lines.
        is_explained: whether a known price explains it.
        expected: the expected amount, in steps of the last digit of the statement's unit.
        charged: the charge, in such steps.
    """

    id: int
    lines: int
    is_explained: bool
    expected: Fraction
    charged: int

    def ratios(self) -> set[Decimal]:
        """Returns the ratios with few digits that give the charge, as far as the statement can write it."""
        numerator, denominator = self.expected.as_integer_ratio()
        ratios = set()
        for digits in range(_RATIO_DIGITS + 1):
            nearest = (2 * self.charged * denominator * 10**digits + numerator) // (2 * numerator)
            ratio = Decimal(nearest).scaleb(-digits).normalize()
            if nearest and ratio != 1 and self.fits(ratio):
                ratios.add(ratio)
        return ratios

    def fits(self, ratio: Decimal) -> bool:
        """Returns whether the charge is a multiple of the expected amount, rounded up or down."""
        numerator, denominator = self.expected.as_integer_ratio()
        times, per = ratio.as_integer_ratio()
        return abs(numerator * times - self.charged * denominator * per) < denominator * per


def name_ratios(workspace: Workspace) -> None:
    """Names a ratio of charge and expected amount that many unexplained lines have in common.

    The lines stay unexplained. If they are most of the lines with a variance, lines with this ratio that a
    known price explains join them, unless the statement confirms that price: where all charges are 1.1 times
    too high, some of them are a known price by chance.
    """
    charges = list(_charges(workspace))
    for number, (ratio, alike) in enumerate(_common_ratios(charges), start=1):
        lines = sum(charge.lines for charge in alike)
        times = f"{format_decimal(ratio)} times the expected amount"
        cause = f"on {lines} lines, the charge is {times}"
        workspace.insert("explanation", [(-number, cause, f"charged {times}", None, "", False)])
        workspace.run("CREATE OR REPLACE TABLE alike (id BIGINT)")
        workspace.insert("alike", [(charge.id,) for charge in alike])
        workspace.run(
            """
            UPDATE line SET explanation = ?,
              category = CASE WHEN category = 'explained' THEN 'unexplained' ELSE category END
            FROM variance_of SEMI JOIN alike USING (id) WHERE line.rowid = variance_of.line
            """,
            [-number],
        )


def _charges(workspace: Workspace) -> Iterator[_Charge]:
    """Yields the charges that are not explained, or by no more than a known price."""
    for number, lines, is_explained, expected, native, worth, decimals in workspace.rows(
        f"""
        SELECT variance.id, count(*), any_value(explanation.kind) IS NOT NULL, any_value(variance.expected),
          any_value(variance.native), any_value(variance.worth), any_value(variance.decimals)
        FROM variance_of JOIN different_variance AS variance USING (id)
        LEFT JOIN explanation ON explanation.id = variance.id
        WHERE NOT failed AND NOT written_off AND refunded = 0 AND native > 0 AND expected > 0
          AND (explanation.kind IS NULL OR (explanation.kind IN ({_BY_CHANCE}) AND NOT is_confirmed))
        GROUP BY variance.id ORDER BY variance.id
        """
    ):
        step = Fraction(worth, 10**WORTH_DIGITS) / 10**decimals * NANOS
        charged = Fraction(native) / 10 ** (MAX_DECIMALS - decimals)
        yield _Charge(number, lines, is_explained, Fraction(expected) / step, int(charged))


def _common_ratios(charges: list[_Charge]) -> Iterator[tuple[Decimal, list[_Charge]]]:
    """Yields each ratio that many unexplained charges have in common, with them; the most lines first."""
    unexplained = [charge for charge in charges if not charge.is_explained]
    by_chance = sum(charge.lines * min(Fraction(1), 2 / charge.expected) for charge in unexplained)
    enough = max(Fraction(MIN_LINES), _BEYOND_CHANCE * by_chance)
    if sum(charge.lines for charge in unexplained) < enough:
        return
    lines_by_ratio: dict[Decimal, int] = {}
    for charge in unexplained:
        for ratio in charge.ratios():
            lines_by_ratio[ratio] = lines_by_ratio.get(ratio, 0) + charge.lines
    named: set[int] = set()
    for ratio in sorted(lines_by_ratio, key=lambda ratio: (-lines_by_ratio[ratio], len(str(ratio)), ratio)):
        if lines_by_ratio[ratio] < enough:
            return
        alike = [charge for charge in unexplained if charge.id not in named and charge.fits(ratio)]
        lines = sum(charge.lines for charge in alike)
        if lines < enough:
            continue
        if 2 * lines > sum(charge.lines for charge in charges):
            alike += [
                charge
                for charge in charges
                if charge.is_explained and charge.id not in named and charge.fits(ratio)
            ]
        named |= {charge.id for charge in alike}
        yield ratio, alike


def limit_roundings(workspace: Workspace) -> None:
    """Makes exceptions of roundings that add up, where the price table does not say how amounts are rounded.

    Roundings up and down cancel out: by chance, those of n lines add up to no more than the square root of n
    times the last digit of the statement's unit.
    """
    sums = workspace.all(
        """
        SELECT line.currency, count(*), sum(gap), max(grain)
        FROM line JOIN explanation ON explanation.id = line.explanation
        LEFT JOIN worth ON worth.id = line.worth
        WHERE explanation.kind = 'unstated_rounding' GROUP BY line.currency ORDER BY line.currency
        """
    )
    for currency, lines, total, grain in sums:
        if total**2 <= max(_NEGLIGIBLE**2, (grain or 1) ** 2 * lines):
            continue
        sign = "+" if total > 0 else ""
        amount = f"{sign}{format_decimal(from_nanos(int(total)))} {currency}"
        workspace.run(
            """
            UPDATE explanation SET kind = 'biased_rounding', cause = cause || $note, shared = shared || $note
            WHERE kind = 'unstated_rounding'
              AND id IN (SELECT explanation FROM line WHERE currency = $currency AND explanation IS NOT NULL)
            """,
            {"note": f"; the roundings of {lines} lines add up to {amount}", "currency": currency},
        )
