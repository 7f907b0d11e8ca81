"""Compares the project of a new access key with the projects in the budgets."""

from __future__ import annotations

from contextlib import closing

from kling_pricing.budgets import budgets_from_document
from kling_pricing.budgets.entries import ANY, EACH
from kling_pricing.display import nearest, shown
from kling_pricing.ledger import connect
from kling_pricing.windows import utc_clock


def unnamed_project(ledger: str, project: str) -> str | None:
    """Returns a warning about a project that the budgets do not name, because its name may be mistyped.

    Budgets that count every project, or each of them, name none. If no project is named, there is nothing to
    compare.

    Args:
        ledger: the ledger's URL.
        project: the project of a key.

    Returns:
        The warning with its remedy; None: the budgets name the project, or there is nothing to compare.

    Raises:
        LedgerError: the ledger cannot be used.
    """
    with closing(connect(ledger, clock=utc_clock(None))) as store:
        revision = store.installed()
    if revision is None:
        return None
    budgets = budgets_from_document(revision.document)
    patterns = [budget.match.get("project", ANY) for budget in budgets.budgets]
    named = [*(budgets.projects or ()), *(name for pattern in patterns for name in _named(pattern))]
    if project in named or not named:
        return None
    if budgets.projects is not None:
        effect = "each of its jobs will be refused"
    elif ANY in patterns or EACH in patterns:
        effect = "only the budgets for all projects count its jobs"
    elif budgets.unmatched == "allow":
        effect = "its jobs are not limited"
    else:
        effect = "each of its jobs will be refused"
    close = nearest(project, sorted({*named}))
    return (
        f"the budgets do not name the project {shown(project)}, so {effect}; "
        + ("" if close is None else f"did you mean {close!r}? ")
        + ("if" if close is None else "If")
        + " the name is right, add it to a budget with `kling-pricing budget apply`, or else revoke the key"
    )


def _named(pattern: str | list[str]) -> list[str]:
    """Returns the projects that a budget names."""
    if isinstance(pattern, list):
        return pattern
    return [] if pattern in {ANY, EACH} else [pattern]
