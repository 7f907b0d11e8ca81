"""The table of the jobs in a spend statement."""

from __future__ import annotations

import json
from collections.abc import Sequence

from kling_pricing.ledger.model import Reservation
from kling_pricing.reports.document import Column, DisplayName, Row, Section
from kling_pricing.reports.formatting import labels_text, safe, safe_or_none, safe_text
from kling_pricing.reports.spend import JOB_STATUSES, amounts_of, status_of, totals_by

STATUS = Column(
    "standing",
    "Status",
    display_names={code: DisplayName(status.title, status.tone) for code, status in JOB_STATUSES.items()},
)
"""The column with the status of jobs."""

_COLUMNS = (
    STATUS,
    Column("project", "Project"),
    Column("key", "Job key"),
    Column("task_id", "Task"),
    Column("provider", "Provider", in_print=False),
    Column("account", "Account", on_page=False),
    Column("model", "Model"),
    Column("resolution", "Resolution"),
    Column("tier", "Tier"),
    Column("quantity", "Quantity", "quantity"),
    Column("unit", "Unit", on_page=False),
    Column("currency", "Currency"),
    Column("expected", "Expected", "amount"),
    Column("spent", "Spent", "amount"),
    Column("held", "Held", "amount"),
    Column("basis", "Basis", on_page=False),
    Column("created_at", "Reserved (UTC)", "instant"),
    Column("dispatched_at", "Sent (UTC)", "instant", on_page=False),
    Column("closed_at", "Closed (UTC)", "instant", on_page=False),
    Column("attempt", "Attempt", "count", on_page=False),
    Column("price_table", "Price table", on_page=False),
    Column("changes", "Changes to fit the budget", on_page=False),
    Column("reason", "Reason", "prose", on_page=False),
    Column("reservation_id", "Reservation", on_page=False),
    Column("labels", "Labels", "labels", on_page=False),
)


def jobs_table(jobs: Sequence[Reservation], currencies: Sequence[str]) -> Section:
    """Returns the table of all jobs, with totals in the order of the currencies."""
    totals = totals_by(jobs, lambda _: ())
    return Section(
        "jobs",
        "All jobs",
        "Every job reserved in the period.",
        _COLUMNS,
        lambda: map(_row, jobs),
        tuple(
            tuple(
                {"standing": "Total", "currency": currency, **totals[currency,]._asdict()}.get(column.name)
                for column in _COLUMNS
            )
            for currency in currencies
        ),
        length=len(jobs),
    )


def _row(job: Reservation) -> Row:
    amounts = amounts_of(job)
    return (
        status_of(job),
        safe(job.project),
        safe(job.key),
        safe_or_none(job.task_id),
        job.provider,
        safe(job.account),
        job.model or None,
        job.resolution or None,
        job.tier or None,
        job.quantity or None,
        job.unit or None,
        job.currency,
        job.expected,
        amounts.spent,
        amounts.held,
        job.basis,
        job.created_at,
        job.dispatched_at,
        job.closed_at,
        job.attempt,
        job.table or None,
        json.dumps(dict(job.changes), ensure_ascii=False) if job.changes else None,
        safe_text(job.reason or ""),
        job.id,
        safe(labels_text(job.labels)) or None,
    )
