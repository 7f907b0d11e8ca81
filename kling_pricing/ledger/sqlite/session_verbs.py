"""The verbs of a ledger in SQLite for sessions."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from datetime import datetime, timedelta

from kling_pricing.ledger.sessions import MAX_SESSIONS, Session
from kling_pricing.ledger.sqlite import access_key_verbs
from kling_pricing.ledger.sqlite.codec import instant, written
from kling_pricing.ledger.sqlite.file import SQLiteFile

_LONGEST = timedelta(days=365)


class SQLiteSessions:
    """The part of `SQLiteLedger` for sessions; see `Sessions` for its verbs."""

    _file: SQLiteFile
    _clock: Callable[[], datetime]

    def begin_session(self, key_digest: str, digest: str, lasts: timedelta) -> Session | None:
        """See `Sessions.begin_session`."""
        return self._file.transaction(_begin, key_digest, digest, lasts)

    def session(self, digest: str, idle: timedelta) -> Session | None:
        """See `Sessions.session`."""
        with self._file.reading() as db:
            return _in_force(db, self._clock(), digest, idle)

    def keep_session(self, digest: str) -> None:
        """See `Sessions.keep_session`."""
        self._file.transaction(_keep, digest)

    def end_session(self, digest: str) -> None:
        """See `Sessions.end_session`."""
        self._file.transaction(_end, digest)


def _begin(
    db: sqlite3.Connection, now: datetime, key_digest: str, digest: str, lasts: timedelta
) -> Session | None:
    key = access_key_verbs.find(db, key_digest)
    if key is None or not key.is_valid(now):
        return None
    db.execute("DELETE FROM session WHERE ends_at <= ?", (written(now),))
    db.execute(
        "DELETE FROM session WHERE digest IN (SELECT digest FROM session WHERE access_key = ?"
        " ORDER BY created_at DESC, digest LIMIT -1 OFFSET ?)",
        (key.name, MAX_SESSIONS - 1),
    )
    ends_at = now + min(lasts, _LONGEST)
    db.execute(
        "INSERT INTO session (digest, access_key, created_at, used_at, ends_at) VALUES (?, ?, ?3, ?3, ?)",
        (digest, key.name, written(now), written(ends_at)),
    )
    return Session(key, now, now, ends_at)


def _in_force(db: sqlite3.Connection, now: datetime, digest: str, idle: timedelta) -> Session | None:
    row = db.execute(
        "SELECT access_key, created_at, used_at, ends_at FROM session WHERE digest = ? AND ends_at > ?"
        " AND used_at > ?",
        (digest, written(now), written(now - idle)),
    ).fetchone()
    if row is None:
        return None
    name, created_at, used_at, ends_at = row
    key = access_key_verbs.get(db, name)
    return Session(key, instant(created_at), instant(used_at), instant(ends_at)) if key.is_valid(now) else None


def _keep(db: sqlite3.Connection, now: datetime, digest: str) -> None:
    db.execute(
        "UPDATE session SET used_at = max(used_at, ?2) WHERE digest = ?1 AND ends_at > ?2",
        (digest, written(now)),
    )


def _end(db: sqlite3.Connection, _now: datetime, digest: str) -> None:
    db.execute("DELETE FROM session WHERE digest = ?", (digest,))
