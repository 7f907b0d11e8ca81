"""The verbs of a ledger in SQLite for access keys."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from datetime import datetime

from kling_pricing.ledger.access_keys import (
    AccessKey,
    NewAccessKey,
    fingerprint_of,
    key_value,
    name_taken,
    unknown_key,
)
from kling_pricing.ledger.actions import Author
from kling_pricing.ledger.sqlite import action_rows
from kling_pricing.ledger.sqlite.codec import instant, labels_text, object_of, written
from kling_pricing.ledger.sqlite.file import SQLiteFile

_SELECT = """
SELECT name, project, role, labels, digest, created_at, expires_at, revoked_at, used_at, actor
FROM access_key LEFT JOIN access_key_use USING (name)
"""


class SQLiteAccessKeys:
    """The part of `SQLiteLedger` for access keys; see `AccessKeys` for its verbs."""

    _file: SQLiteFile
    _clock: Callable[[], datetime]

    def issue_key(self, key: NewAccessKey, digest: str, author: Author) -> AccessKey:
        """See `AccessKeys.issue_key`."""
        return self._file.transaction(_issue, key, digest, author)

    def revoke_key(self, name: str, author: Author) -> AccessKey:
        """See `AccessKeys.revoke_key`."""
        return self._file.transaction(_revoke, name, author)

    def access_keys(self) -> list[AccessKey]:
        """See `AccessKeys.access_keys`."""
        with self._file.reading() as db:
            return [_key(*row) for row in db.execute(f"{_SELECT} ORDER BY created_at, name")]

    def access_key(self, digest: str) -> AccessKey | None:
        """See `AccessKeys.access_key`."""
        with self._file.reading() as db:
            return find(db, digest)

    def mark_key_used(self, name: str) -> None:
        """See `AccessKeys.mark_key_used`."""
        self._file.transaction(_mark_used, name)


def _issue(db: sqlite3.Connection, now: datetime, key: NewAccessKey, digest: str, author: Author) -> AccessKey:
    ended = key.expires_at and written(key.expires_at)
    values = (key.name, digest, key.project, key.role, labels_text(key.labels), written(now), ended)
    try:
        db.execute(
            "INSERT INTO access_key (name, digest, project, role, labels, created_at, expires_at, actor)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            (*values, author.actor),
        )
    except sqlite3.IntegrityError:
        raise name_taken(key.name) from None
    action_rows.administer(db, now, author, "issue_key", key.name, None, key_value(key, digest))
    return get(db, key.name)


def _revoke(db: sqlite3.Connection, now: datetime, name: str, author: Author) -> AccessKey:
    changed = db.execute(
        "UPDATE access_key SET revoked_at = ? WHERE name = ? AND revoked_at IS NULL", (written(now), name)
    )
    if changed.rowcount:
        action_rows.administer(db, now, author, "revoke_key", name, {"revoked": False}, {"revoked": True})
    return get(db, name)


def _mark_used(db: sqlite3.Connection, now: datetime, name: str) -> None:
    db.execute(
        "INSERT INTO access_key_use (name, used_at) SELECT name, ?2 FROM access_key WHERE name = ?1"
        " ON CONFLICT (name) DO UPDATE SET used_at = max(used_at, ?2)",
        (name, written(now)),
    )


def find(db: sqlite3.Connection, digest: str) -> AccessKey | None:
    """Returns the access key whose text has this SHA-256; None: there is none."""
    row = db.execute(f"{_SELECT} WHERE digest = ?", (digest,)).fetchone()
    return None if row is None else _key(*row)


def get(db: sqlite3.Connection, name: str) -> AccessKey:
    """Returns the access key with a name.

    Raises:
        LedgerError: no key has this name.
    """
    row = db.execute(f"{_SELECT} WHERE name = ?", (name,)).fetchone()
    if row is None:
        raise unknown_key(name, [known for (known,) in db.execute("SELECT name FROM access_key")])
    return _key(*row)


def _key(
    name: str,
    project: str | None,
    role: str,
    labels: str,
    digest: str,
    created_at: str,
    expires_at: str | None,
    revoked_at: str | None,
    used_at: str | None,
    actor: str,
) -> AccessKey:
    return AccessKey(
        name,
        project,
        role,  # type: ignore[arg-type]  # the table checks it
        object_of(labels),
        fingerprint_of(digest),
        instant(created_at),
        expires_at and instant(expires_at),  # type: ignore[arg-type]  # text is never empty here
        revoked_at and instant(revoked_at),  # type: ignore[arg-type]
        used_at and instant(used_at),  # type: ignore[arg-type]
        actor,
    )
