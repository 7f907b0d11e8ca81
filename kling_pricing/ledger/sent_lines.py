"""The lines of text in which both stores export the reservations that were sent, for `Ledger.sent`."""

from __future__ import annotations

SENT = (
    *("id", "project", "key", "state", "account", "task_id", "billed", "basis", "labels"),
    *("dispatched_at", "closed_at", "ended", "terms"),
)
"""The fields of a line, as text; most are attributes of `Reservation`, or empty if None.

Amounts are in nanos, instants in UTC without a zone, and `ended` is `failed`, `cancelled` or empty. `terms` has
the fields `terms.TERMS`.
"""

SENT_SEPARATOR = "\x1f"
"""Separates the fields of a line. No field contains it, because a ledger stores only printable text."""
