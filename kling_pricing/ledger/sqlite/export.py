"""Reservations that were sent, read as text: many at a time, and without an object for each."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from datetime import datetime

from kling_pricing.ledger.model import SENT, SENT_SEPARATOR
from kling_pricing.ledger.sqlite.codec import written
from kling_pricing.ledger.terms import TERMS, TERMS_SEPARATOR

_LINES = 250
"""Read at a time."""

_VALUES = {
    **{name: name for name in (*SENT[:-1], *TERMS)},
    "task_id": "reservation.task_id",
    "state": "reservation.state",
    "dispatched_at": "substr(dispatched_at, 1, 26)",
    "ended": "ended.state",
}
# printf writes nothing where there is nothing.
_LINE = SENT_SEPARATOR.join([*("%s" for _ in SENT[:-1]), TERMS_SEPARATOR.join("%s" for _ in TERMS)]) + "\n"

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
    SELECT printf('{_LINE}', {", ".join(_VALUES.values())})
    FROM reservation LEFT JOIN ended ON ended.task_id = reservation.task_id
    WHERE +provider = ?1 AND dispatched_at < ?2
      AND NOT (reservation.state = 'released' AND reservation.task_id IS NULL)
"""  # noqa: S608 (only our own words)


def blocks(db: sqlite3.Connection, provider: str, before: datetime) -> Iterator[bytes]:
    """See `Ledger.sent`."""
    db.text_factory = bytes
    rows = db.execute(_SELECT, (provider, written(before)))
    while some := rows.fetchmany(_LINES):
        yield b"".join([line for (line,) in some])
