"""Exports the reservations that were sent, as blocks of text, without an object for each reservation."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from datetime import datetime

from kling_pricing.ledger.sent_lines import SENT, SENT_SEPARATOR
from kling_pricing.ledger.sqlite.codec import written
from kling_pricing.ledger.terms import TERMS, TERMS_SEPARATOR

_LINES = 250
"""The number of lines in a block."""

_VALUES = {
    **{name: name for name in (*SENT[:-1], *TERMS)},
    "account": "ifnull(account, provider)",
    "task_id": "reservation.task_id",
    "state": "reservation.state",
    "dispatched_at": "substr(dispatched_at, 1, 26)",
    "closed_at": "substr(closed_at, 1, 26)",
    "ended": "ended.state",
}
# printf writes null as an empty text.
_LINE = SENT_SEPARATOR.join([*("%s" for _ in SENT[:-1]), TERMS_SEPARATOR.join("%s" for _ in TERMS)]) + "\n"

# The plus keeps SQLite from using an index: through it, most of the table would be read in random order.
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
"""  # noqa: S608 (constants only)


def blocks(db: sqlite3.Connection, provider: str, before: datetime) -> Iterator[bytes]:
    """See `Ledger.sent`."""
    db.text_factory = bytes
    rows = db.execute(_SELECT, (provider, written(before)))
    while block := rows.fetchmany(_LINES):
        yield b"".join([line for (line,) in block])
