"""Pages of reservations in SQLite. Each page comes from one snapshot."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from datetime import datetime

from kling_pricing.ledger import errors
from kling_pricing.ledger.journal import BucketHistory, Entry, Observation
from kling_pricing.ledger.model import Reservation, State
from kling_pricing.ledger.sqlite import queries, reservations, transitions
from kling_pricing.ledger.sqlite.codec import written
from kling_pricing.ledger.sqlite.file import SQLiteFile

IN_DOUBT = """
((state = 'dispatching' AND (doubted OR deadline <= ?)) OR (state IN ('bound', 'settled') AND doubted = 1))
"""
"""The condition on a reservation in doubt; its parameter is the present instant."""


_UNSETTLED = (  # each state has an index
    f"{reservations.SELECT} WHERE rowid IN (SELECT rowid FROM reservation WHERE state = 'dispatching'"  # noqa: S608
    " UNION ALL SELECT rowid FROM reservation WHERE state = 'bound') ORDER BY created_at, rowid"
)


class SQLitePages:
    """Implements `Pages` in SQLite."""

    _file: SQLiteFile
    _clock: Callable[[], datetime]

    def reservation_page(
        self,
        *,
        project: str | None = None,
        key: str | None = None,
        state: State | None = None,
        in_doubt: bool = False,
        since: datetime | None = None,
        until: datetime | None = None,
        after: str | None = None,
        limit: int,
    ) -> list[Reservation]:
        """See `Pages.reservation_page`."""
        now = self._clock()
        with self._file.reading() as db:
            conditions = {
                "rowid < ?": None if after is None else _row_of(db, after),
                "project = ?": project,
                "key = ?": key,
                "state = ?": state,
                "created_at >= ?": since and written(since),
                "created_at < ?": until and written(until),
                IN_DOUBT: written(now) if in_doubt else None,
            }
            filters = {condition: value for condition, value in conditions.items() if value is not None}
            where = f" WHERE {' AND '.join(filters)}" if filters else ""
            rows = db.execute(
                f"{reservations.SELECT}{where} ORDER BY rowid DESC LIMIT ?", (*filters.values(), limit)
            ).fetchall()
        return [reservations.from_row(row, now) for row in rows]

    def unsettled(self) -> list[Reservation]:
        """See `Pages.unsettled`."""
        with self._file.reading() as db:
            rows = db.execute(_UNSETTLED).fetchall()
        now = self._clock()
        return [reservations.from_row(row, now) for row in rows]

    def bucket_hours(self, since: datetime, until: datetime) -> list[BucketHistory]:
        """See `Pages.bucket_hours`."""
        with self._file.reading_alone() as db:
            return queries.bucket_histories(db, since, until, by_hour=True)

    def entries_of(self, reservation: str) -> list[Entry]:
        """See `Pages.entries_of`."""
        with self._file.reading() as db:
            return queries.entries_of(db, reservation)

    def observations_of(self, provider: str, task_id: str) -> list[Observation]:
        """See `Pages.observations_of`."""
        with self._file.reading() as db:
            return queries.observations(db, "provider = ? AND task_id = ?", provider, task_id)

    def expire(self) -> int:
        """See `Pages.expire`."""
        with self._file.reading() as db:  # a look costs less than a transaction
            (late,) = db.execute(
                "SELECT count(*) FROM reservation WHERE state = 'reserved' AND deadline <= ?",
                (written(self._clock()),),
            ).fetchone()
        return self._file.transaction(transitions.expire) if late else 0


def _row_of(db: sqlite3.Connection, reservation: str) -> int:
    """Returns the number of a reservation's row. The numbers may change, but their order does not."""
    row = db.execute("SELECT rowid FROM reservation WHERE id = ?", (reservation,)).fetchone()
    if row is None:
        raise errors.unknown(reservation)
    return int(row[0])
