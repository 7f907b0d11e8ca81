"""The disputes: tasks that the provider must correct, with the billed amount, the right amount, and the reason.

The file goes to the provider, so it has nothing of ours: no project, key, label, reservation or remedy.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

from kling_pricing.money import subtract
from kling_pricing.reconcile.categories import Category
from kling_pricing.reconcile.model import Line, Reconciled
from kling_pricing.reports.document import Column, Row, Section
from kling_pricing.reports.formats import csv
from kling_pricing.reports.formatting import safe, safe_or_none, safe_text

_REASONS: dict[Category, str] = {
    "billed_twice": "This task was charged more than once.",
    "not_in_ledger": "We did not submit this task.",
    "explained": "The charge differs from the price: {cause}.",
    "unexplained": "The charge differs from the price, and no published price accounts for this amount.",
    "timing": "The charge differs from the price; this task was submitted in another period.",
    "invalid_row": "This charge cannot be checked: {cause}.",
    "currency_mismatch": "Charged in a currency other than the agreed one.",
}
"""Category that can be disputed -> the reason, in words for the provider."""


def write(reconciled: Reconciled, folder: Path) -> None:
    """Writes `disputes.csv`."""
    csv.write_section(section(reconciled), folder / "disputes.csv")


def section(reconciled: Reconciled) -> Section:
    """Returns the table of the lines that charge too much, or cannot be read."""
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
        ),
        lambda: _rows(reconciled),
    )


def _rows(reconciled: Reconciled) -> Iterator[Row]:
    for line in reconciled.lines(*_REASONS):
        should_be = _should_be(line)
        difference = None if should_be is None or line.billed is None else subtract(line.billed, should_be)
        if line.remedy and (difference is None or difference > 0):
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
                safe_text(_REASONS[line.category].format(cause=line.cause.rstrip("."))),
            )


def _should_be(line: Line) -> Decimal | None:
    """Returns the right charge of a line; None if it is not known in this currency."""
    if line.category in {"invalid_row", "currency_mismatch"}:
        return None
    if line.due is not None and (line.category == "timing" or (line.billed or 0) > line.due):
        return line.due
    return Decimal(0) if line.expected is None else line.expected
