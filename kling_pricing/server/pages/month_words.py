"""What the page *Month* says about a reconciliation, and the actions that are possible with it."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import NamedTuple

from kling_pricing.quoting.quote import counted as counted_exactly
from kling_pricing.reconcile.months import BooksPeriod
from kling_pricing.server.api.reconciliation_views import ResultView
from kling_pricing.server.reconciliations.run_requests import Action


class MonthVerdict(NamedTuple):
    """The result in a sentence.

    Attributes:
        tone: `good`, `wait` or `bad`.
        title: the sentence.
        details: the reasons.
    """

    tone: str
    title: str
    details: list[str]


class PossibleAction(NamedTuple):
    """An action that a person may take.

    Attributes:
        name: its name.
        title: the text of its link.
        effect: what it would do, in sentences.
        is_final: whether it cannot be undone.
    """

    name: Action
    title: str
    effect: list[str]
    is_final: bool


ACTION_WORDS: Mapping[str, str] = {
    "reconcile": "Reconcile",
    "remember": "Remember the statement",
    "dispute": "Dispute charges",
    "settle": "Settle the jobs",
    "close": "Close the month",
}
"""Action -> its name for people."""


def counted(count: int, noun: str) -> str:
    """Returns a count with its noun: `1 line`, `2 lines`."""
    return counted_exactly(Decimal(count), noun)


def verdict_of(result: ResultView | None) -> MonthVerdict | None:
    """Returns the verdict about a result; None: there is no result."""
    if result is None:
        return None
    details = [f"{text[:1].upper()}{text[1:]}." for text in (*result.gaps, *result.confirmed)]
    if not result.is_over:
        details.append("The month is not over, so charges may still be missing.")
    if result.gaps:
        return MonthVerdict("bad", "The month is not reconciled", details)
    if result.exceptions:
        needs = "needs" if result.exceptions == 1 else "need"
        return MonthVerdict("wait", f"{counted(result.exceptions, 'line')} {needs} action", details)
    if not result.totals:
        return MonthVerdict("wait", "Nothing was sent or charged in this month", details)
    return MonthVerdict("good", "The totals tie out, and no action is needed", details)


def actions_for(result: ResultView, *, is_remembered: bool) -> list[PossibleAction]:
    """Returns the actions that are possible with a result.

    Args:
        result: the result.
        is_remembered: whether the books contain its statements.
    """
    found: list[PossibleAction] = []
    if not result.is_bookable:
        return found
    books = [] if is_remembered else [_remembering(result)]
    if not is_remembered:
        found.append(PossibleAction("remember", ACTION_WORDS["remember"], books, is_final=False))
    if result.exceptions:
        text = (
            "Opens a dispute for every charge that is too high, and for every repeated charge. Charges for "
            "tasks that are not in the ledger are not disputed. A disputed job is not settled."
        )
        found.append(PossibleAction("dispute", ACTION_WORDS["dispute"], [*books, text], is_final=False))
    if result.to_settle and not result.gaps:
        text = f"Writes the charges of {counted(result.to_settle, 'job')} into the ledger."
        found.append(PossibleAction("settle", ACTION_WORDS["settle"], [*books, text], is_final=False))
    if is_remembered and result.is_over and BooksPeriod(result.since, result.until).is_months:
        owner = f"{result.provider}, account {result.account}"
        text = (
            f"The books of {owner}, are closed up to and including this month. The journal of a closed "
            "month never changes. Later charges and corrections count in the first open month."
        )
        amounts = (
            f"Pay {each.pay} {each.currency}, in dispute {each.disputed}, accrue {each.accrue}."
            for each in result.payable
        )
        closing = [text, *amounts]
        if result.gaps:
            closing.append("The month is not reconciled, so these amounts are preliminary.")
        found.append(PossibleAction("close", ACTION_WORDS["close"], closing, is_final=True))
    return found


def _remembering(result: ResultView) -> str:
    """Says what the books would contain."""
    names = ", ".join(result.statements)
    text = f"Adds {counted(result.rows.charges, 'row')} of {names} to the books."
    if result.replacement is None:
        return text
    changed = result.replacement
    sums = "; ".join(
        f"{before} becomes {after} {currency}" for currency, (before, after) in changed.sums.items()
    )
    return (
        f"{text} It replaces {changed.name}: {counted(changed.withdrawn, 'row')} withdrawn, "
        f"{counted(changed.added, 'row')} added, {sums}."
    )
