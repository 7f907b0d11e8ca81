"""The disputes: tasks that the provider must correct, with the billed amount, the right amount, and the reason.

Tasks with the same cause have the same number, and state how many they are and what they come to.
The file goes to the provider, so it has nothing of ours: no project, key, label, reservation or remedy.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

from kling_pricing.money import add, subtract
from kling_pricing.reconcile.categories import Category
from kling_pricing.reconcile.model import Line, Reconciled, exceptions_of
from kling_pricing.reports.document import Column, Row, Section
from kling_pricing.reports.formats import csv
from kling_pricing.reports.formatting import safe, safe_or_none, safe_text

_REASONS: dict[Category, str] = {
    "billed_twice": "This task was charged more than once.",
    "not_in_ledger": "We did not submit this task.",
    "explained": "The charge differs from the price: {cause}.",
    "unexplained": "The charge differs from the price: {cause}.",
    "timing": "The charge differs from the price; this task was submitted in another period.",
    "invalid_row": "This charge cannot be checked: {cause}.",
    "currency_mismatch": "Charged in a currency other than the agreed one.",
}
"""Category that can be disputed -> the reason, in words for the provider."""


def write(reconciled: Reconciled, folder: Path, *, bom: bool = True) -> None:
    """Writes `disputes.csv`."""
    csv.write_section(section(reconciled), folder / "disputes.csv", bom=bom)


def section(reconciled: Reconciled) -> Section:
    """Returns the table of the lines that charge too much, or may charge although they cannot be read."""
    return Section(
        "disputes",
        "Disputes",
        "Charges that we ask you to correct.",
        (
            Column("task_id", "Task"),
            Column("rows", "Rows of the statement"),
            Column("billed_at", "Billed (UTC)", "instant"),
            Column("model", "Model"),
            Column("resolution", "Resolution"),
            Column("currency", "Currency"),
            Column("billed", "Billed", "amount"),
            Column("should_be", "Should be", "amount"),
            Column("difference", "Difference", "amount"),
            Column("reason", "Reason", "prose"),
            Column("cause_number", "Cause no.", "count"),
            Column("cause", "Cause", "prose"),
            Column("cause_tasks", "Tasks with this cause", "count"),
            Column("cause_difference", "Difference of all these tasks", "amount"),
        ),
        lambda: _rows(reconciled),
    )


_SUM_REASONS: dict[Category, str] = {
    "not_in_ledger": "None of our tasks belong to this sum.",
    "explained": "The sum differs from the prices of our tasks: {cause}.",
    "unexplained": "The sum differs from the prices of our tasks.",
    "invalid_row": "This sum cannot be checked: {cause}.",
    "currency_mismatch": "Charged in a currency other than the agreed one.",
}
"""The same of sums."""


def _reason(line: Line, cause: str) -> str:
    """Returns why a line is disputed, in words for the provider."""
    reasons = _REASONS if line.cell is None else _SUM_REASONS
    return reasons[line.category].format(cause=cause)


class _Cause(NamedTuple):
    """A cause: its number, its disputes, and the sum of their differences; None: no difference is known."""

    number: int
    tasks: int
    difference: Decimal | None


def _rows(reconciled: Reconciled) -> Iterator[Row]:
    causes = _causes(reconciled)
    for line in exceptions_of(reconciled):
        should_be, difference = _should_be(line), _difference(line)
        if _is_disputed(line):
            cause = causes[_cause_key(line)]
            yield (
                safe_or_none(line.task_id),
                safe(", ".join(line.rows)) or None,
                line.billed_at,
                safe_or_none(line.model),
                line.resolution,
                line.currency,
                line.billed,
                should_be,
                difference,
                safe_text(_reason(line, line.cause.rstrip("."))),
                cause.number,
                safe_text(_cause_key(line)[0]),
                cause.tasks,
                cause.difference,
            )


def _causes(reconciled: Reconciled) -> dict[tuple[str, str], _Cause]:
    """Returns the causes by key, numbered in the order in which the disputes come."""
    causes: dict[tuple[str, str], _Cause] = {}
    for line in filter(_is_disputed, exceptions_of(reconciled)):
        key = _cause_key(line)
        cause, difference = causes.get(key, _Cause(len(causes) + 1, 0, None)), _difference(line)
        if difference is not None:
            cause = cause._replace(difference=add(cause.difference or Decimal(0), difference))
        causes[key] = cause._replace(tasks=cause.tasks + 1)
    return causes


def _cause_key(line: Line) -> tuple[str, str]:
    """Returns the cause of a dispute in words for the provider, and the currency."""
    return _reason(line, line.shared_cause), line.currency


def _is_disputed(line: Line) -> bool:
    """Returns whether an exception charges too much, or may be a charge that cannot be read."""
    difference = _difference(line)
    reasons = _REASONS if line.cell is None else _SUM_REASONS
    return line.category in reasons and line.may_charge and (difference is None or difference > 0)


def _difference(line: Line) -> Decimal | None:
    """Returns the part of the charge that should not be there; None if it is not known."""
    should_be = _should_be(line)
    return None if should_be is None or line.billed is None else subtract(line.billed, should_be)


def _should_be(line: Line) -> Decimal | None:
    """Returns the right charge of a line; None if it is not known in this currency."""
    if line.category in {"invalid_row", "currency_mismatch"}:
        return None
    if line.due is not None and (line.category == "timing" or (line.billed or 0) > line.due):
        return line.due
    return Decimal(0) if line.expected is None else line.expected
