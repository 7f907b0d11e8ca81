"""Opens a ledger's SQLite file: checks what the file is, configures a connection, and creates missing tables.

The file uses WAL with `synchronous=FULL`, so a commit survives a crash of the machine.
"""

from __future__ import annotations

import sqlite3
from contextlib import suppress
from pathlib import Path
from time import monotonic

from kling_pricing.ledger.sqlite import schema
from kling_pricing.ledger.sqlite.errors import BUSY_TIMEOUT_S, CANNOT_OPEN, incomplete, unavailable
from kling_pricing.ledger.sqlite.places import Places, problem_of_path
from kling_pricing.ledger.sqlite.writers_queue import WritersQueue

OLDEST_SQLITE = (3, 37)
"""The first SQLite version with STRICT tables."""

NEWEST = "SELECT ifnull(max(seq), 0) FROM journal"
"""The number of the newest journal entry."""

_LAST_TRY_MS = 100
"""How long a verb waits for another program if its limit has passed while it waited for its turn."""


def opened(path: Path, queue: WritersQueue, asked: float) -> tuple[sqlite3.Connection, Places]:
    """Opens a ledger's file and its lock files, and creates the ledger in a missing or empty file.

    Args:
        path: the file.
        queue: the queue of the file's writers, which is closed again if the file cannot be opened.
        asked: the time, on the monotonic clock, at which the verb was requested that needs the file.

    Raises:
        LedgerUnavailableError: the file is not a ledger of this schema version, is incomplete, or cannot be
            opened safely.
    """
    if sqlite3.sqlite_version_info < OLDEST_SQLITE:
        needed = ".".join(str(part) for part in OLDEST_SQLITE)
        raise unavailable(
            path,
            f"this Python has SQLite {sqlite3.sqlite_version}, but {needed} or newer is required; use a newer "
            "Python or operating system",
        )
    _refuse_emptied(path, queue)
    problem = problem_of_path(path)
    if problem is not None:
        raise unavailable(path, problem)
    connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False)
    try:
        is_current(connection, path)  # comes first, so that a foreign database stays unchanged
        queue.open()
        try:
            queue.take_turn()
            limit_wait(connection, asked)
            _prepare(connection, path, queue)
            ensure_complete(connection, path, queue.acknowledged())
            return connection, Places(path)
        finally:
            queue.end_turn()
            limit_wait(connection, monotonic())
    except BaseException:
        connection.close()
        queue.close()
        raise


def is_begun(path: Path, queue: WritersQueue) -> bool:
    """Returns whether a file exists and is not empty.

    Raises:
        LedgerUnavailableError: the folder does not exist, or a ledger in the file was emptied or removed.
    """
    _refuse_emptied(path, queue)
    if not path.parent.is_dir():
        raise unavailable(path, CANNOT_OPEN)
    return path.is_file() and path.stat().st_size > 0


def _refuse_emptied(path: Path, queue: WritersQueue) -> None:
    """Refuses an empty or missing file in the place of a ledger. A new ledger would count from zero."""
    with suppress(OSError):  # without a lock file there never was a ledger here
        if queue.is_marked() and not (path.exists() and path.stat().st_size):
            raise unavailable(
                path,
                "there was a ledger here, but its file is empty or gone; put the file back, or remove "
                f"{queue.lock_name} in the same folder to begin a new ledger",
            )


def ensure_complete(connection: sqlite3.Connection, path: Path, acknowledged: int) -> None:
    """Refuses a ledger that lacks acknowledged journal entries. Their money would be spent again."""
    (newest,) = connection.execute(NEWEST).fetchone()
    if newest < acknowledged:
        raise incomplete(path, newest, acknowledged)


def is_current(connection: sqlite3.Connection, path: Path) -> bool:
    """Returns True for a ledger of the current schema version, and False for an empty file.

    Raises:
        LedgerUnavailableError: the file is a ledger of another schema version, or not a ledger.
    """
    try:
        version = schema.version_of(connection, path)
    except BaseException:
        roll_back(connection)
        raise
    if version:
        schema.ensure_current(version, path)
    return version > 0


def limit_wait(connection: sqlite3.Connection, asked: float) -> None:
    """Lets a connection wait for another program until the limit has passed since a verb was asked for."""
    rest_ms = int(1000 * (BUSY_TIMEOUT_S - (monotonic() - asked)))
    connection.execute(f"PRAGMA busy_timeout = {max(_LAST_TRY_MS, rest_ms)}")


def is_overdue(asked: float) -> bool:
    """Returns whether the limit has passed since a verb was asked for."""
    return monotonic() - asked > BUSY_TIMEOUT_S


def roll_back(connection: sqlite3.Connection) -> bool:
    """Rolls back the open transaction, if any. Returns False if that failed and the connection was closed."""
    with suppress(sqlite3.Error):  # the first error is the one to report
        if connection.in_transaction:
            connection.execute("ROLLBACK")
    if connection.in_transaction:  # an open transaction would hold the lock and swallow the next one
        connection.close()
        return False
    return True


def _prepare(connection: sqlite3.Connection, path: Path, queue: WritersQueue) -> None:
    """Configures the connection, and creates the tables in an empty file."""
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    if is_current(connection, path):
        queue.mark()
        return
    try:
        connection.execute("BEGIN IMMEDIATE")
        for statement in schema.new_ledger():
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {schema.APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {schema.VERSION}")
        connection.execute("COMMIT")
        queue.mark()
    except BaseException:
        roll_back(connection)
        raise
