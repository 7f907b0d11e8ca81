"""The consistency checks of the outbox; see `checks`. Pure."""

from __future__ import annotations

from kling_pricing.ledger.dialects import Check, Missing, Query, Scope

_EVENTS = """
(
  SELECT * FROM journal
  WHERE kind IN ('alert', 'freeze', 'thaw', 'freeze_budget', 'thaw_budget') AND seq > {since}
) AS events
LEFT JOIN alert ON alert.entry = events.seq
LEFT JOIN bucket ON bucket.id = events.bucket
"""

ALERT_CHECKS = (
    Check("at", "alert.at", "events.at"),
    Check(
        "kind",
        "alert.kind",
        "CASE WHEN events.kind <> 'alert' THEN replace(events.kind, '_budget', '')"
        " WHEN detail LIKE 'charge of %' THEN 'charge'"
        " WHEN detail LIKE '% billed for %' THEN 'overrun' ELSE 'threshold' END",
    ),
    Check(
        "threshold",
        "coalesce(alert.threshold, 'none')",
        "CASE WHEN alert.kind <> 'threshold' THEN 'none'"
        " WHEN detail LIKE alert.threshold || ' of %' THEN alert.threshold ELSE detail END",
    ),
    Check("reservation", "alert.reservation", "events.reservation"),
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
"""Each compares an alert with its journal entry and its bucket."""

SCOPE = Scope(
    "alerts",
    "'the alert of journal entry ' || events.seq",
    _EVENTS,
    "alert.id IS NOT NULL",
    "TRUE",
    (Missing("'its row in the outbox'", "alert.id IS NULL"),),
    ALERT_CHECKS,
    1,
)
QUERY = Query(
    "outbox",
    """
    SELECT 'alert ' || alert.id, 'its journal entry', {nothing} FROM alert
    WHERE entry IS NOT NULL AND NOT EXISTS (SELECT 1 FROM journal WHERE journal.seq = alert.entry)
    """,
    since_last=False,
    weight=1,
)
