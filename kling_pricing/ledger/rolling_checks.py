"""The part of `verify` for rolling windows. Pure."""

from __future__ import annotations

from kling_pricing.ledger.dialects import Check, Query
from kling_pricing.windows import STEPS

LINE_CHECKS = (
    Check(
        "created_at",
        "created_at",
        "window_start",
        source="the step of its bucket starts at",
        when="step_us IS NOT NULL AND {created_us} - {opens_us} >= step_us AND created_at < window_end",
    ),
)
"""They compare a reservation with the step of its bucket."""

BUCKET_CHECKS = (
    Check(
        "the start within its step, in microseconds,",
        "{opens_us} % step_us",
        "0",
        source="every step starts at",
        when="step_us IS NOT NULL",
        since="TRUE",
    ),
    Check(
        "the time for which it counts, in microseconds,",
        "{closes_us} - {opens_us}",
        f"{STEPS + 1} * step_us",
        source="its step gives",
        when="step_us IS NOT NULL",
        since="TRUE",
    ),
)
"""They compare the window of a bucket with its step."""

QUERIES = (
    Query(
        "rolling windows",
        """
        SELECT DISTINCT 'rolling window of ' || budget || ' ' || labels, 'its row', {nothing} FROM bucket
        WHERE step_us IS NOT NULL AND NOT EXISTS (
          SELECT 1 FROM rolling_window AS rolling WHERE rolling.budget = bucket.budget
            AND rolling.definition = bucket.definition AND rolling.labels = bucket.labels
        )
        UNION ALL
        SELECT 'rolling window of ' || budget || ' ' || labels, 'reached', threshold.value, 'an alert for it',
          'the journal needs', 0
        FROM rolling_window AS rolling, {reached} WHERE NOT EXISTS (
          SELECT 1 FROM journal JOIN bucket ON bucket.id = journal.bucket
          WHERE kind = 'alert' AND bucket.budget = rolling.budget AND bucket.definition = rolling.definition
            AND bucket.labels = rolling.labels AND detail || ' ' LIKE threshold.value || ' %'
        )
        """,
        since_last=False,
        weight=1,
    ),
)
"""Queries for the rows of rolling windows."""
