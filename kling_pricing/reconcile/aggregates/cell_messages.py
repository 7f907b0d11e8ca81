"""The messages of a cell: its cause and its remedy.

No remedy has a command: sums do not show which task an amount belongs to, so nothing is booked, freed or
disputed from them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from kling_pricing.money import format_decimal
from kling_pricing.reconcile.aggregates.cell_explanations import CELL_UNEXPLAINED
from kling_pricing.reconcile.categories import Category
from kling_pricing.reconcile.messages import row_problem
from kling_pricing.reconcile.model import Line

_FIND_TASKS = "Ask the provider for the tasks behind this sum, and reconcile them"
_CHECK_MAPPING = (
    "Check the names in the mapping, and the time zone of its days. If both are right, ask the provider for "
    "the tasks behind this sum, and reconcile them."
)


class CellMessages(NamedTuple):
    """The messages of a line.

    Attributes:
        cause: why the line is in its category.
        remedy: the action that it needs; empty if it is not an exception.
        shared: the cause without the details of the cell.
    """

    cause: str
    remedy: str
    shared: str


def cell_messages(
    line: Line,
    sent_tasks: int,
    explanation: str | None,
    problem: Mapping[str, str] | None,
    unreadable: int,
    *,
    is_exception: bool,
) -> CellMessages:
    """Returns the messages of a line of sums.

    Args:
        line: the line without messages.
        sent_tasks: the number of tasks of the cell, with those that cost nothing.
        explanation: the explanation of the variance, or a hint.
        problem: the problem of a row that cannot be read.
        unreadable: the number of rows that cannot be read.
        is_exception: whether the line needs action.
    """
    if line.category == "invalid_row":
        cause, remedy = row_problem(problem or {"column": "", "kind": "row", "text": ""})
        shared, remedy = cause.partition(":")[0], remedy.replace("charge is", "amount is")
        return CellMessages(cause, remedy, shared)
    cause, remedy = _MESSAGES[line.category](line, explanation)
    count = _count_difference(line, sent_tasks)
    details = "; ".join(filter(None, (cause, count)))
    if unreadable and line.category in {"not_billed", "unexplained"}:
        rows, one, them = "1 row", "it", "it"
        if unreadable > 1:
            rows, one, them = f"{unreadable} rows", "one of them", "them"
        remedy = (
            f"{rows} of the statement cannot be read, and {one} may belong to this sum; correct {them}, and "
            "reconcile again."
        )
    shared = cause if line.variance or not count else "the numbers of tasks differ"
    return CellMessages(details, remedy if is_exception else "", shared)


def _count_difference(line: Line, sent_tasks: int) -> str:
    """Returns how the numbers of tasks differ; empty if they agree or the statement has none."""
    if line.billed_tasks is None or line.expected_tasks is None:
        return ""
    if line.billed_tasks in {line.expected_tasks, sent_tasks}:
        return ""
    amounts = "" if line.variance else "the amounts agree, but "
    ours = str(line.expected_tasks)
    if sent_tasks != line.expected_tasks:
        ours = f"{line.expected_tasks} (or {sent_tasks} with those that cost nothing)"
    tasks = f"{line.billed_tasks} task{'' if line.billed_tasks == 1 else 's'}"
    return f"{amounts}the statement counts {tasks} and the ledger {ours}"


def _compared(line: Line) -> str:
    side = "more" if line.variance > 0 else "less"
    return f"The sum is {format_decimal(abs(line.variance))} {line.currency} {side} than expected"


def _unexplained(line: Line, explanation: str | None) -> tuple[str, str]:
    if not line.variance:
        return "", f"{_FIND_TASKS}: two errors may cancel out."
    return explanation or CELL_UNEXPLAINED, f"{_compared(line)}. {_FIND_TASKS}."


def _explained(line: Line, explanation: str | None) -> tuple[str, str]:
    dispute = f", and dispute the extra {format_decimal(line.variance)} {line.currency}"
    return explanation or "", f"{_compared(line)}. {_FIND_TASKS}{dispute if line.variance > 0 else ''}."


def _not_billed(_line: Line, _explanation: str | None) -> tuple[str, str]:
    return (
        "the statement has no row for these tasks",
        "Ask the provider whether the tasks will be charged, and whether the statement is complete.",
    )


def _not_in_ledger(_line: Line, _explanation: str | None) -> tuple[str, str]:
    return (
        "the ledger has no such tasks",
        _CHECK_MAPPING,
    )


def _currency_mismatch(line: Line, _explanation: str | None) -> tuple[str, str]:
    was = "expected" if line.billed is None else "charged"
    other = "charged" if line.billed is None else "expected"
    return (
        f"the tasks were {was} in {line.currency}, but {other} in another currency",
        "Ask the provider in which currency it bills, and correct the mapping or the price tables.",
    )


def _noted(_line: Line, explanation: str | None) -> tuple[str, str]:
    return explanation or "", ""


def _within_tolerance(_line: Line, _explanation: str | None) -> tuple[str, str]:
    return f"{CELL_UNEXPLAINED}; the variance is within the tolerance", ""


def _not_billed_yet(_line: Line, _explanation: str | None) -> tuple[str, str]:
    return "the statement has no row for these tasks; the grace period for late billing has not ended", ""


_MESSAGES: Mapping[Category, Callable[[Line, str | None], tuple[str, str]]] = {
    "currency_mismatch": _currency_mismatch,
    "not_billed_yet": _not_billed_yet,
    "not_billed": _not_billed,
    "not_in_ledger": _not_in_ledger,
    "timing": _noted,
    "explained": _explained,
    "within_tolerance": _within_tolerance,
    "unexplained": _unexplained,
    "matched": _noted,
}
