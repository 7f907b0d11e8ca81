"""Migrates a ledger's file to the current schema version, and describes the file for its administrator."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from kling_pricing.ledger.actions import Author, system_user
from kling_pricing.ledger.errors import other_version
from kling_pricing.ledger.sqlite import action_rows, revisions, schema, seals
from kling_pricing.ledger.sqlite.errors import BUSY_TIMEOUT_S, ERRORS, explained, missing, unavailable
from kling_pricing.ledger.sqlite.writers_queue import WritersQueue, fcntl

_FIRST_WITH_CALENDAR = 3
"""The first schema version whose ledgers keep the windows of their budgets, and seals."""


class Migrated(NamedTuple):
    """The result of a migration.

    Attributes:
        version: the schema version before the migration.
        copy: a copy of the file before the migration; None: the file had the current version and was not
            changed.
    """

    version: int
    copy: Path | None


def migrate(path: Path, now: datetime, author: Author | None = None) -> Migrated:
    """Copies a ledger's file, then migrates it to the current schema version in one transaction.

    The migration can be repeated. If it is interrupted, the file has either the old version or the new one.

    Args:
        path: the file.
        now: the instant of the migration, for the name of the copy.
        author: who migrates the ledger, and why; by default, the system's user.

    Raises:
        LedgerUnavailableError: there is no ledger, the ledger is newer than this release, or the disk has no
            room for the copy. Nothing was changed.
    """
    with opened(path) as connection:
        version = schema.version_of(connection, path)
        if version == schema.VERSION:
            return Migrated(version, None)
        queue = WritersQueue(path)
        queue.open()
        try:
            queue.take_turn()
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("BEGIN IMMEDIATE")
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            if version > schema.VERSION:
                raise other_version(str(path), version, schema.VERSION)
            copy = None
            if version < schema.VERSION:  # else another process has just migrated it
                copy = _copied(path, version, now)
                for step in range(version + 1, schema.VERSION + 1):
                    for statement in schema.STEPS[step]:
                        connection.execute(statement)
                if version < _FIRST_WITH_CALENDAR:
                    seals.seal_all(connection)
                    revisions.make_calendar(connection, now)
                change = {"schema": version}, {"schema": schema.VERSION}
                by = author or Author(system_user(), None)
                action_rows.administer(connection, now, by, "migrate", "schema", *change)
                connection.execute(f"PRAGMA user_version = {schema.VERSION}")
            connection.execute("COMMIT")
        finally:
            if queue.lock is not None:  # inline, because Ctrl-C may strike at the start of a call
                fcntl.flock(queue.lock, fcntl.LOCK_UN)
            queue.close()
        return Migrated(version, copy)


class Description(NamedTuple):
    """The facts of a ledger's file.

    Attributes:
        version: the schema version.
        digest: the digest of the current budgets; None: the ledger has no budgets yet.
    """

    version: int
    digest: str | None


def describe(path: Path) -> Description:
    """Describes the ledger in a file, for any schema version.

    Raises:
        LedgerUnavailableError: there is no ledger.
    """
    with opened(path) as connection:
        version = schema.version_of(connection, path)
        row = connection.execute("SELECT digest FROM budget_revision ORDER BY revision DESC LIMIT 1").fetchone()
        return Description(version, None if row is None else row[0])


@contextmanager
def opened(path: Path) -> Iterator[sqlite3.Connection]:
    """Connects to a ledger's file. Closes the connection at the end, which rolls back uncommitted changes."""
    try:
        if not (path.is_file() and path.stat().st_size):
            raise missing(path)
        connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None)
        try:
            if not schema.version_of(connection, path):
                raise missing(path)
            yield connection
        finally:
            connection.close()
    except ERRORS as error:
        raise explained(path, error) from error


def _copied(path: Path, version: int, now: datetime) -> Path:
    """Copies a ledger, including its WAL, to a new file in the same folder.

    The copy gets its final name only once it is complete on the disk. The caller must keep other writers out.
    """
    target = path.with_name(f"{path.name}.version-{version}.{now:%Y%m%dT%H%M%S.%fZ}")
    partial = path.with_name(f"{path.name}.copying")
    if target.exists():
        raise unavailable(path, f"the copy would replace {target.name}; move that file elsewhere")
    try:
        partial.unlink(missing_ok=True)  # left by a migration that was killed
        os.close(os.open(partial, os.O_CREAT | os.O_EXCL | os.O_RDWR, path.stat().st_mode & 0o777))
        source = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=BUSY_TIMEOUT_S)
        copy = sqlite3.connect(partial)
        try:
            source.backup(copy)
        finally:
            copy.close()
            source.close()
        partial.rename(target)
        _sync_folder(path.parent)
    except BaseException:
        for name in (partial.name, f"{partial.name}-journal"):
            partial.with_name(name).unlink(missing_ok=True)
        raise
    return target


def _sync_folder(folder: Path) -> None:
    """Flushes the name of a new file to the disk."""
    if os.name != "nt":  # Windows has no file descriptors for folders
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
