"""The queries for the facts that `verification` compares with documents, which SQL cannot read. Pure."""

from __future__ import annotations

from kling_pricing.ledger import access_keys, intervention_checks

FACTS = {
    "revision": "SELECT revision, digest, document, installed_at FROM budget_revision ORDER BY revision",
    "bucket": """
        SELECT budget, definition, currency, cap, alerts, max(window_end) AS window_end FROM bucket
        GROUP BY budget, definition, currency, cap, alerts ORDER BY budget, definition, cap
    """,
    "label_names": "SELECT DISTINCT budget, definition, {label_names} AS names FROM bucket",
    "step": "SELECT DISTINCT budget, definition, step_us FROM bucket",
    "overlay": """
        SELECT budget, cap, {overlay_set_at} AS set_at, {overlay_until} AS until, actor, reason
        FROM cap_overlay
    """,
    "access_key": access_keys.FACT,
    **intervention_checks.FACTS,
    "window": """
        SELECT used.*, calendar.schedule FROM (
          SELECT DISTINCT budget, definition, window_start, window_end FROM bucket
          WHERE window_end > (SELECT begun_at FROM calendar_digest) AND step_us IS NULL
        ) AS used LEFT JOIN calendar USING (window_start, window_end)
    """,
    "rounding": """
        SELECT min(id) AS reservation, expected, reserved, unit_value FROM reservation
        WHERE reserved > expected AND id {begun} GROUP BY expected, reserved, unit_value
    """,
    "action": """
        SELECT seq, {journal_at} AS at, actor, role, action, subject, old, new, reason, seal FROM administration
        ORDER BY seq
    """,
    "converted": """
        SELECT min(line.reservation) AS reservation, reservation.currency AS quote, bucket.currency AS budget,
          CAST(rate AS TEXT) AS rate, reserved, billed, line.held AS held, line.spent AS spent
        FROM reservation_line AS line JOIN reservation ON reservation.id = line.reservation
        JOIN bucket ON bucket.id = line.bucket
        WHERE rate IS NOT NULL AND line.reservation {begun}
        GROUP BY reservation.currency, bucket.currency, rate, reserved, billed, line.held, line.spent
    """,
}
"""The queries for the facts that `verification` checks. They group equal rows."""
