"""What the provider is to put right: their tasks, what they billed, what they should have, and why.

It goes to the provider, so it holds nothing of ours: no project, key, label, reservation or remedy.
"""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

from kling_pricing.money import subtract
from kling_pricing.reconcile.model import Category, Line, Reconciled
from kling_pricing.reports.document import Column, Row, Section
from kling_pricing.reports.formats import csv
from kling_pricing.reports.formatting import safe, safe_or_none, safe_text

_REASONS: dict[Category, str] = {
    "billed_twice": "This task is charged more than once.",
    "not_in_ledger": "We did not submit this task.",
    "explained": "Charged otherwise than priced: {cause}.",
    "unexplained": "Charged otherwise than priced, and no published price gives this amount.",
    "timing": "Charged otherwise than priced; this task was submitted in another period.",
    "invalid_row": "This row cannot be read: {cause}.",
    "currency_mismatch": "Charged in another currency than the one that was agreed.",
}
"""What can be disputed, and the words for it."""


def write(reconciled: Reconciled, folder: Path) -> None:
    """Writes `disputes.csv`."""
    csv.write_section(section(reconciled), folder / "disputes.csv")


def section(reconciled: Reconciled) -> Section:
    """Every line that charges more than it should, or cannot be read."""
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
    """What should have been charged; None: nobody can say in this currency."""
    if line.category in {"invalid_row", "currency_mismatch"}:
        return None
    if line.due is not None and (line.category == "timing" or (line.billed or 0) > line.due):
        return line.due
    return Decimal(0) if line.expected is None else line.expected
