"""Decides which budgets of a new revision carry earlier amounts over to new buckets. Pure."""

from __future__ import annotations

import json
from collections.abc import Sequence
from decimal import Decimal

from kling_pricing.budgets import BudgetEntry, BudgetsFile, Consent, budgets_from_document
from kling_pricing.budgets.differences import ensure_named
from kling_pricing.display import nearest
from kling_pricing.errors import BudgetError
from kling_pricing.ledger.model import Revision
from kling_pricing.money import format_decimal


def ensure_agreed(before: Revision, installed: BudgetsFile, budgets: BudgetsFile, consent: Consent) -> None:
    """Refuses a revision to which the administrator has not agreed.

    Args:
        before: the revision in force.
        installed: its budgets.
        budgets: the new budgets.
        consent: the changes to which the administrator agrees.

    Raises:
        BudgetWeakenedError: a budget is removed or protection becomes weaker without consent.
        BudgetError: the current budgets are not those to which the administrator agreed the changes.
    """
    if consent.base not in {None, before.digest}:
        raise BudgetError(
            "nothing was changed: the current budgets have changed since the plan was made; make the plan again"
        )
    ensure_named(installed, budgets, consent)


def carrying_over(
    budgets: BudgetsFile, installed: BudgetsFile, known: Sequence[BudgetEntry]
) -> list[BudgetEntry]:
    """Returns the budgets whose buckets also count the amounts that are already in the ledger.

    A budget that comes back carries over unless it has `carry_over: false`. A budget that is new, or that is in
    force with another definition, carries over if it has `carry_over: true`.

    Args:
        budgets: the new budgets.
        installed: the current budgets.
        known: every budget that was ever in force, the oldest first.

    Raises:
        BudgetError: a budget has another definition than before, and does not carry over.
    """
    in_force = {budget.name for budget in installed.budgets}
    definitions = {budget.name: budget.definition for budget in known}
    carried = []
    for budget in budgets.budgets:
        definition = definitions.get(budget.name)
        comes_back = definition is not None and budget.name not in in_force
        is_same = definition == budget.definition and not comes_back
        if not is_same and (budget.carry_over or (comes_back and "carry_over" not in budget.model_fields_set)):
            carried.append(budget)
        elif definition not in {None, budget.definition}:
            raise BudgetError(
                f"budget {budget.name} now has a different match, window, time zone or currency; give "
                "the budget another name, or set carry_over: true so that the budget counts earlier spend"
            )
    return carried


def of_another_currency(budgets: BudgetsFile, installed: BudgetsFile) -> list[str]:
    """Returns the names of the budgets whose currency changes, so that their caps until an instant end."""
    before = {budget.name: budget.currency for budget in installed.budgets}
    return [
        budget.name for budget in budgets.budgets if before.get(budget.name, budget.currency) != budget.currency
    ]


def budget_named(budgets: BudgetsFile, name: str) -> BudgetEntry:
    """Returns one of the current budgets.

    Raises:
        BudgetError: there is no such budget.
    """
    for budget in budgets.budgets:
        if budget.name == name:
            return budget
    known = [budget.name for budget in budgets.budgets]
    close = nearest(name, known)
    remedy = f"the ledger's budgets are {', '.join(known)}" if close is None else f"did you mean {close!r}?"
    raise BudgetError(f"unknown budget {name}; {remedy}")


def with_cap(document: str, name: str, cap: Decimal) -> BudgetsFile:
    """Returns the budgets in a document with another cap of one of them."""
    tree = json.loads(document)
    for budget in tree["budgets"]:
        if budget["name"] == name:
            budget["cap"] = format_decimal(cap)
    return budgets_from_document(json.dumps(tree))
