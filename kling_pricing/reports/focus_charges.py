"""The charges of a reconciliation for FOCUS."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, time

from kling_pricing.reconcile.model import Line, Reconciled
from kling_pricing.reports.formats.focus import FocusCharge


def _invoice_id(reconciled: Reconciled, currency: str) -> str | None:
    """Returns the number of the invoice if it is in a currency."""
    invoice = reconciled.invoice
    return invoice.id if invoice is not None and invoice.currency == currency else None


def _charged_at(line: Line) -> datetime | None:
    """Returns when a line was submitted, else charged; a sum has its day, whatever the zone of the day is."""
    if line.day is not None:
        return datetime.combine(line.day, time(), UTC)
    return line.submitted_at or line.billed_at


def _is_correction(line: Line, since: datetime, charged_before: frozenset[str]) -> bool:
    """Returns whether a charge corrects one of an earlier period, which was invoiced then.

    Its task was charged before the period; or it is a refund of a task that was sent before the period.
    """
    if not line.billed:
        return False
    is_refund = line.billed < 0 and line.submitted_at is not None and line.submitted_at < since
    return is_refund or line.task_id in charged_before


def charges(reconciled: Reconciled) -> Iterator[FocusCharge]:
    """Yields the charges of the statement, line by line."""
    charged_before = reconciled.charged_before()
    for line in reconciled.lines():
        if line.billed is not None:
            yield FocusCharge(
                provider=line.provider,
                account=reconciled.account,
                task_id=line.task_id,
                billed=line.billed,
                expected=line.expected,
                quoted=line.quoted,
                list_total=line.list_total,
                currency=line.currency,
                at=_charged_at(line) or reconciled.since,
                model=line.model,
                resolution=line.resolution,
                tier=line.tier,
                quantity=line.quantity,
                unit=line.unit,
                table=line.table,
                labels=line.labels,
                project=line.project,
                reservation_id=line.reservation_id,
                standing=line.category,
                cause=line.cause or None,
                invoice_id=_invoice_id(reconciled, line.currency),
                is_correction=_is_correction(line, reconciled.since, charged_before),
            )
