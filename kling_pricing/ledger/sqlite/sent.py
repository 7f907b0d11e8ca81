"""Reservations that were sent, read as text: many at a time, and without an object for each."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from datetime import datetime

from kling_pricing.ledger.records import SENT, SENT_SEPARATOR
from kling_pricing.ledger.sqlite.values import written

_LINES = 250
"""Read at a time."""

_NUMBERS = {"expected": "expected || ''"}
_MAY_BE_NULL = ("task_id", "billed", "basis", "statement_unit", "unit_value")
_TEXTS = {
    **{name: name for name in SENT},
    **_NUMBERS,
    **{name: f"ifnull({name} || '', '')" for name in _MAY_BE_NULL},
    "task_id": "ifnull(reservation.task_id, '')",
    "state": "reservation.state",
    "dispatched_at": "substr(dispatched_at, 1, 26)",
    "ended": "ifnull(ended.state, '')",
}

# The plus keeps SQLite from an index by which most of the table would be read out of its order on the disk.
_SELECT = f"""
    WITH ended (task_id, state) AS MATERIALIZED (
      SELECT task_id, max(state) FROM observation AS seen
      WHERE +provider = ?1 AND state IN ('failed', 'cancelled') AND NOT EXISTS (
        SELECT 1 FROM observation AS later
        WHERE later.provider = seen.provider AND later.task_id = seen.task_id AND later.state = 'succeeded'
          AND later.id > seen.id
      )
      GROUP BY task_id
    )
    SELECT {", ".join(_TEXTS[name] for name in SENT)}
    FROM reservation LEFT JOIN ended ON ended.task_id = reservation.task_id
    WHERE +provider = ?1 AND dispatched_at < ?2
      AND NOT (reservation.state = 'released' AND reservation.task_id IS NULL)
"""  # noqa: S608 (only our own words)


def blocks(db: sqlite3.Connection, provider: str, before: datetime) -> Iterator[bytes]:
    """See `Ledger.sent`."""
    rows = db.execute(_SELECT, (provider, written(before)))
    line = SENT_SEPARATOR.join
    while some := rows.fetchmany(_LINES):
        yield ("\n".join(map(line, some)) + "\n").encode()
