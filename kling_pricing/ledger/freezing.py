"""Freezes: budgets, or all spending, that somebody has stopped on purpose. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import NamedTuple

from kling_pricing.budgets import BudgetsFile
from kling_pricing.display import did_you_mean, shown
from kling_pricing.errors import BudgetError

ALL = "all"
"""The scope of a freeze that stops every request."""

FROZEN = "spending is frozen"
"""The reason for which a reservation is released at its dispatch."""

_BUDGET = "budget:"


class Freeze(NamedTuple):
    """A freeze that is in force.

    Attributes:
        budget: the name of the frozen budget; None: all spending is frozen, including requests that no budget
            matches and budgets that are added later.
        actor: the person or program that froze it.
        reason: the reason.
        frozen_at: the instant of the freeze, UTC.
    """

    budget: str | None
    actor: str
    reason: str
    frozen_at: datetime


def scope_of(budget: str | None) -> str:
    """Returns the scope of a freeze as a ledger stores it."""
    return ALL if budget is None else f"{_BUDGET}{budget}"


def budget_of(scope: str) -> str | None:
    """Returns the budget in a scope from `scope_of`; None: all spending."""
    return None if scope == ALL else scope.removeprefix(_BUDGET)


def unknown_budget(name: str, known: Sequence[str]) -> BudgetError:
    """Returns the error for a name that no budget in force has."""
    remedy = did_you_mean(name, known) if known else "the ledger has no budgets yet"
    return BudgetError(f"unknown budget {shown(name)}; {remedy}")


def require_known(names: Iterable[str], known: Sequence[str]) -> None:
    """Does nothing if every name is the name of a budget.

    Raises:
        BudgetError: a name is unknown; the message suggests the nearest one.
    """
    for name in names:
        if name not in known:
            raise unknown_budget(name, known)


def require_thawed(freezes: Iterable[Freeze], before: BudgetsFile, after: BudgetsFile) -> None:
    """Does nothing if every frozen budget is still there, and still matches the same requests.

    Otherwise a new revision would end a freeze in silence. `apply` calls this before it changes anything.

    Raises:
        BudgetError: a frozen budget would be removed, renamed, or given another match.
    """
    matches = {budget.name: budget.match for budget in after.budgets}
    earlier = {budget.name: budget.match for budget in before.budgets}
    for freeze in freezes:
        name = freeze.budget
        if name is None or name not in earlier or matches.get(name) == earlier[name]:
            continue
        change = "given another match" if name in matches else "removed or renamed"
        raise BudgetError(
            f"budget {name} is frozen and cannot be {change}: {freeze.actor} froze it at "
            f"{freeze.frozen_at.isoformat(timespec='seconds')} ({freeze.reason}); thaw it first with "
            f"`kling-pricing budget thaw {name} --reason TEXT`"
        )
