"""The consistency checks of the outbox; see `checks`. Pure."""

from __future__ import annotations

from kling_pricing.ledger.dialects import Check

TABLES = "alert JOIN journal ON journal.seq = alert.entry LEFT JOIN bucket ON bucket.id = journal.bucket"
"""The tables of `ALERT_CHECKS`: the alerts that a journal entry has caused."""

ALERT_CHECKS = (
    Check("at", "alert.at", "journal.at"),
    Check(
        "kind",
        "alert.kind",
        "CASE WHEN journal.kind <> 'alert' THEN replace(journal.kind, '_budget', '')"
        " WHEN detail LIKE 'charge of %' THEN 'charge'"
        " WHEN detail LIKE '% billed for %' THEN 'overrun' ELSE 'threshold' END",
    ),
    Check(
        "threshold",
        "coalesce(alert.threshold, 'none')",
        "CASE WHEN alert.kind <> 'threshold' THEN 'none'"
        " WHEN detail LIKE alert.threshold || ' of %' THEN alert.threshold ELSE detail END",
    ),
    Check("reservation", "alert.reservation", "journal.reservation"),
    *(
        Check(name, f"alert.{name}", f"bucket.{name}", source="its bucket has", when="bucket.id IS NOT NULL")
        for name in ("budget", "labels", "currency")
    ),
    Check(
        "window_start",
        "alert.window_start",
        "CASE WHEN bucket.step_us IS NULL THEN bucket.window_start END",
        source="its bucket has",
        when="bucket.id IS NOT NULL",
    ),
)
"""The columns of an alert that the journal and the bucket give."""

MISSING = (
    """
    SELECT 'journal entry ' || journal.seq, 'its alert in the outbox' FROM journal
    LEFT JOIN alert ON alert.entry = journal.seq
    WHERE journal.kind IN ('alert', 'freeze', 'thaw', 'freeze_budget', 'thaw_budget') AND alert.seq IS NULL
    """,
    """
    SELECT 'alert ' || alert.id, 'its journal entry' FROM alert LEFT JOIN journal ON journal.seq = alert.entry
    WHERE alert.entry IS NOT NULL AND journal.seq IS NULL
    """,
)
"""Queries for missing rows, as `checks` needs them."""
