"""The variances that are explained, the ways to calculate a charge, and the explanations. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Literal, NamedTuple, TypeAlias

from kling_pricing.reconcile.repricing import Counted, Fit
from kling_pricing.reconcile.row_facts import RowFacts
from kling_pricing.tables.price_table import PriceTable
from kling_pricing.tables.rates import Cell

Kind: TypeAlias = Literal[
    "rounding",
    "unstated_rounding",
    "biased_rounding",
    "misrounding",
    "repriced",
    "failed_charged",
    "written_off",
    "not_charged",
    "refund",
    "table",
    "rate",
    "quantity",
    "times",
    "discount",
    "several",
]
"""The kind of an explanation.

`rounding`: as the price table says; `unstated_rounding`: the price table does not say how to round;
`biased_rounding`: such roundings, which add up to more than chance would; `misrounding`: not as the price table
says; `repriced`: the table has other prices than when the task was quoted; `written_off`: an operator settled
the task at zero; `refund`: the charge is as quoted, and a part of it was refunded; `several`: more than one of
the others.
"""

ROUNDINGS: frozenset[Kind] = frozenset(("rounding", "unstated_rounding", "misrounding"))
"""The kinds of a charge that is the quoted amount, rounded."""

NO_EXPLANATION = "no known price table, tier, length or rule accounts for this charge"
FAILED_CHARGED = "a failed task was charged"
NOT_CHARGED = "the task was not charged"

MAX_DIFFERENCES = 2
"""The most differences from the quote that may explain a charge, unless the statement confirms them."""


class Variance(NamedTuple):
    """A charge that differs from the expected amount.

    Attributes:
        cell: model, resolution and tier of the quote.
        quantity: the quoted units.
        unit: the unit of the quantity.
        table: id of the price table of the quote.
        expected: the quoted amount, in its currency.
        failed: whether nothing is due because the task failed, although an amount was quoted.
        written_off: whether nothing is due because an operator settled the task at zero.
        counted: the unit of the statement.
        charged: the charges less the refunds, in that unit.
        refunded: the sum of the refunds, in that unit; zero or more.
        duration_s: the length that the statement states; None: not stated.
        stated: the other facts that the statement states.
    """

    cell: Cell
    quantity: Decimal
    unit: str
    table: str
    expected: Decimal
    failed: bool
    written_off: bool
    counted: Counted
    charged: Decimal
    refunded: Decimal
    duration_s: Decimal | None
    stated: RowFacts


class Explanation(NamedTuple):
    """An explanation of a variance to the last digit, or a hint.

    Attributes:
        cause: the explanation in words.
        shared: the explanation without the details of the task, the same for all tasks with this cause.
        kind: its kind; None: it is only a hint, and the variance stays unexplained.
        alternatives: other explanations that fit as well, in words; empty: none.
        is_confirmed: whether the statement itself states what differs from the quote.
    """

    cause: str
    shared: str
    kind: Kind | None
    alternatives: str = ""
    is_confirmed: bool = False


class Way(NamedTuple):
    """A way to calculate a charge, and how it differs from the quote.

    Attributes:
        fit: the way.
        differences: its differences from the quote.
        contradicted: the number of facts on the statement that contradict it.
        confirmed: the number of differences that the statement confirms.
    """

    fit: Fit
    differences: tuple[Kind, ...]
    contradicted: int
    confirmed: int


def is_list_of(table: PriceTable, variance: Variance, tables: Mapping[str, PriceTable]) -> bool:
    """Returns whether a table has the published prices that the contract of the quote is based on."""
    quoted = tables.get(variance.table)
    return (
        quoted is not None
        and quoted.contract is not None
        and table.contract is None
        and dict(table.rates) == dict(quoted.contract.list_rates)
    )
