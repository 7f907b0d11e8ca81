"""The categories of a reconciliation in words: what each means, and how far it is settled."""

from __future__ import annotations

from typing import NamedTuple

from kling_pricing.reconcile.model import Total
from kling_pricing.reports.charts import Tone


class Meaning(NamedTuple):
    """One category.

    Attributes:
        title: its name, for people.
        about: what its lines are.
        standing: how far they are settled.
    """

    title: str
    about: str
    standing: str


MATCHED, EXPLAINED, WAITING, OPEN = "Matched", "Explained", "Timing", "Open"
STANDINGS: dict[str, Tone] = {MATCHED: "good", EXPLAINED: "calm", WAITING: "wait", OPEN: "bad"}
"""How far a line is settled, and the tone that says so."""

CATEGORIES: dict[str, Meaning] = {
    "matched": Meaning("Matched", "Billed as expected.", MATCHED),
    "explained": Meaning("Explained", "One cause explains the variance to the last digit.", EXPLAINED),
    "within_tolerance": Meaning("Within tolerance", "The variance is no more than was allowed.", EXPLAINED),
    "timing": Meaning("Timing", "Billed or expected on the other side of the cut-off.", WAITING),
    "not_billed_yet": Meaning("Not billed yet", "Expected, and within the grace for late billing.", WAITING),
    "not_billed": Meaning("Not billed", "Expected, overdue, and not on the statement.", OPEN),
    "in_doubt_candidate": Meaning(
        "In doubt", "A hold without a task, and a billed task nobody knows, fit each other.", OPEN
    ),
    "not_in_ledger": Meaning("Not in our ledger", "Billed, and nobody here knows the task.", OPEN),
    "billed_twice": Meaning("Billed twice", "The statement charges one task more than once.", OPEN),
    "reserved_twice": Meaning("Reserved twice", "More than one reservation has the task.", OPEN),
    "currency_mismatch": Meaning("Other currency", "Expected in one currency, billed in another.", OPEN),
    "unexplained": Meaning("Unexplained", "Billed otherwise than expected, and nobody can say why.", OPEN),
    "invalid_row": Meaning("Unreadable row", "A row of the statement that cannot be read.", OPEN),
}
"""In the order of a reader's interest: from what is settled to what is not."""


def standing_of(total: Total) -> str:
    """How far the lines of a category are settled."""
    return CATEGORIES[total.name].standing
