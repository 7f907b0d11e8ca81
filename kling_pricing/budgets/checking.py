"""Finds mistakes in whole budgets files: budgets that contradict each other, and budgets with a hole. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any

from kling_pricing.budgets.budgets_file import BudgetsFile, repeated_names, repeated_rates
from kling_pricing.budgets.entries import ANY, EACH, BudgetEntry
from kling_pricing.display import did_you_mean, nearest
from kling_pricing.strict_yaml import Path


def contradictions(tree: Any) -> Iterator[tuple[Path, str]]:
    """Yields the path and the explanation of every part of a file that contradicts another part.

    Reads a file that may have other mistakes, so that one check names all of them.

    Args:
        tree: the content of the file as maps, lists and texts.
    """
    if not isinstance(tree, Mapping):
        return
    budgets = _maps(tree.get("budgets"))
    if problem := repeated_names([budget.get("name") for _, budget in budgets]):
        yield ("budgets",), problem
    rates = [(rate.get("quote"), rate.get("budget")) for _, rate in _maps(tree.get("accounting_rates"))]
    if problem := repeated_rates(rates):
        yield ("accounting_rates",), problem
    projects = tree.get("projects")
    if not isinstance(projects, list | tuple) or not projects:
        return
    names = [name for name in projects if isinstance(name, str)]
    for place, budget in budgets:
        match = budget.get("match")
        pattern = match.get("project") if isinstance(match, Mapping) else None
        for value in pattern if isinstance(pattern, list | tuple) else [pattern]:
            if isinstance(value, str) and value not in {ANY, EACH, *names}:
                remedy = did_you_mean(value, names)
                problem = f"project {value} may not spend, because `projects` does not list it; {remedy}"
                yield ("budgets", place, "match", "project"), problem


def _maps(value: Any) -> list[tuple[int, Mapping[str, Any]]]:
    """Returns the maps in a list with their places; empty for another value."""
    entries = value if isinstance(value, list | tuple) else ()
    return [(place, entry) for place, entry in enumerate(entries) if isinstance(entry, Mapping)]


def warnings_about(budgets: BudgetsFile, now: datetime) -> list[str]:
    """Returns the warnings about budgets that are valid and probably not meant so.

    Args:
        budgets: the budgets.
        now: the current instant, UTC.
    """
    ended = [
        f"budget {budget.name} no longer matches any request, because its window ended at "
        f"{end:%Y-%m-%d %H:%M} UTC"
        for budget in budgets.budgets
        if budget.only_period is not None and (end := budget.only_period.end) <= now
    ]
    misspelled = [
        f"budget {budget.name} matches only requests with the label {label}; did you mean 'project'?"
        for budget in budgets.budgets
        for label in budget.match
        if label != "project" and nearest(label, ["project"], cutoff_percent=80)
    ]
    return [*holes(budgets), *misspelled, *ended]


def holes(budgets: BudgetsFile) -> list[str]:
    """Returns a warning for every budget that counts each value of a label, and that requests without it pass.

    Requests without the label are no hole if `require_labels` refuses them, or if nothing else lets them spend.
    """
    return [
        f"budget {budget.name} matches only requests with the label {label}, and requests without that label "
        f"can bypass it{_way(other)}; add {label} to require_labels"
        for budget in budgets.budgets
        for label, pattern in budget.match.items()
        if pattern in (ANY, EACH) and label != "project" and label not in (budgets.require_labels or ())
        for other in _passing(budgets, budget, label)
    ]


def _way(other: BudgetEntry | None) -> str:
    return " (unmatched: allow)" if other is None else f", within budget {other.name}"


def _passing(budgets: BudgetsFile, budget: BudgetEntry, label: str) -> list[BudgetEntry | None]:
    """Returns one way to bypass a budget without a label: another budget, or None if it is unmatched."""
    for other in budgets.budgets:
        if other is not budget and label not in other.match and _overlap(budget, other, label):
            return [other]
    return [None] if budgets.unmatched == "allow" else []


def _overlap(budget: BudgetEntry, other: BudgetEntry, without: str) -> bool:
    """Returns whether a request can match two budgets, apart from one label of the first."""
    for label, pattern in budget.match.items():
        values, others = _values(pattern), _values(other.match.get(label, ANY))
        if label != without and values is not None and others is not None and not values & others:
            return False
    return True


def _values(pattern: str | list[str]) -> set[str] | None:
    """Returns the values that a pattern matches; None: every value."""
    if isinstance(pattern, list):
        return {*pattern}
    return None if pattern in (ANY, EACH) else {pattern}
