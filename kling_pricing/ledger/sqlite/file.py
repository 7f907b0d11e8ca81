"""A ledger's SQLite file: opening it, one transaction at a time, and what its errors mean.

Durability: WAL with `synchronous=FULL`, so that what was committed survives a crash of the machine.
Fairness: writers queue for an `flock` on a file beside the database; SQLite's own busy handler lets some of
them starve for seconds.
Forks: a connection never crosses one; a child process opens its own.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import RLock
from weakref import WeakSet

from kling_pricing.errors import LedgerUnavailableError
from kling_pricing.ledger.sqlite.schema import APPLICATION_ID, DDL, VERSION

try:
    import fcntl
except ImportError:  # Windows: SQLite's own lock is as safe, only less fair
    fcntl = None  # type: ignore[assignment]

BUSY_TIMEOUT_S = 60
"""How long to wait for a program that writes to the file without this library."""

_REMEDIES = {
    sqlite3.SQLITE_FULL: "the disk is full; free some space and try again",
    sqlite3.SQLITE_READONLY: "it is read-only; let this user write the file and its folder",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened; the folder must exist and this user may write in it",
    sqlite3.SQLITE_PERM: "this user may not open it",
    sqlite3.SQLITE_BUSY: f"another program has kept it locked for {BUSY_TIMEOUT_S} s; close that program",
    sqlite3.SQLITE_LOCKED: "another program keeps it locked; close that program",
    sqlite3.SQLITE_CORRUPT: "it is damaged; restore it from a backup, or recover it with sqlite3's .recover",
    sqlite3.SQLITE_NOTADB: "it is not an SQLite database, or damaged; restore a backup, or name another",
    sqlite3.SQLITE_IOERR: "the disk reports an error; look at the disk, and check the ledger with verify",
}


class SQLiteFile:
    """One file, opened when it is first needed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._mutex = RLock()
        self._connection: sqlite3.Connection | None = None
        self._lock_file: int | None = None
        _files.add(self)

    @contextmanager
    def writing(self) -> Iterator[sqlite3.Connection]:
        """One transaction that writes: all of it is kept, durably, when the block ends, or nothing.

        Raises:
            LedgerUnavailableError: the file cannot be written.
        """
        with self._mutex, self._errors(), self._turn() as connection:
            connection.execute("BEGIN IMMEDIATE")
            with self._rolled_back_on_error(connection):
                yield connection
                connection.execute("COMMIT")

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """One transaction that reads, of which all parts see the same state.

        Raises:
            LedgerUnavailableError: the file cannot be read.
        """
        with self._mutex, self._errors():
            connection = self._opened()
            connection.execute("BEGIN")
            with self._rolled_back_on_error(connection):
                yield connection
                connection.execute("ROLLBACK")

    def close(self) -> None:
        """Closes the file; it is opened again when it is needed again."""
        with self._mutex:
            if self._connection is not None:
                self._connection.close()
            if self._lock_file is not None:
                os.close(self._lock_file)
            self._connection = self._lock_file = None

    def forget_parent(self) -> None:
        """Leaves what belongs to the parent process, after a fork, in the child."""
        _inherited.append(self._connection)
        if self._lock_file is not None:
            os.close(self._lock_file)  # else this process would keep the parent's lock when the parent dies
        self._mutex = RLock()
        self._connection = self._lock_file = None

    @contextmanager
    def _turn(self) -> Iterator[sqlite3.Connection]:
        """Waits for this process's turn to write."""
        connection = self._opened()
        if self._lock_file is None:
            yield connection
            return
        fcntl.flock(self._lock_file, fcntl.LOCK_EX)
        try:
            yield connection
        finally:
            fcntl.flock(self._lock_file, fcntl.LOCK_UN)

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            self._open()
        assert self._connection is not None  # noqa: S101 (for the type checker)
        return self._connection

    def _open(self) -> None:
        if fcntl is not None:
            try:
                self._lock_file = os.open(f"{self.path}.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
            except OSError as error:
                raise self._unavailable(f"its folder cannot be written: {error.strerror}") from None
        connection = sqlite3.connect(
            self.path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
        )
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            connection.execute("PRAGMA foreign_keys = ON")
            self._connection = connection
            self._ensure_schema(connection)
        except BaseException:
            connection.close()
            self._connection = None
            raise

    def _ensure_schema(self, connection: sqlite3.Connection) -> None:
        """Creates the tables in an empty file, and refuses any file that is not a ledger of this version."""
        if self._is_ours(connection):
            return
        with self._turn(), self._rolled_back_on_error(connection):
            connection.execute("BEGIN IMMEDIATE")
            if not self._is_ours(connection):
                for statement in DDL:
                    connection.execute(statement)
                connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                connection.execute(f"PRAGMA user_version = {VERSION}")
            connection.execute("COMMIT")

    def _is_ours(self, connection: sqlite3.Connection) -> bool:
        """Whether the file is a ledger of this version; False: it is empty.

        Raises:
            LedgerUnavailableError: it is something else.
        """
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if application == APPLICATION_ID and version == VERSION:
            return True
        if application == APPLICATION_ID:
            newer = "newer" if version > VERSION else "unknown"
            raise LedgerUnavailableError(
                f"ledger {self.path}: its schema {version} is {newer} to this version of kling_pricing, which "
                f"knows {VERSION}; use the version that wrote it"
            )
        if connection.execute("SELECT count(*) FROM sqlite_master").fetchone() != (0,):
            raise LedgerUnavailableError(
                f"ledger {self.path}: it is a database of something else; name a file that does not exist yet"
            )
        return False

    @contextmanager
    def _rolled_back_on_error(self, connection: sqlite3.Connection) -> Iterator[None]:
        try:
            yield
        except BaseException:
            with suppress(sqlite3.Error):  # what went wrong first is the thing to report
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
            raise

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except sqlite3.Error as error:
            code = getattr(error, "sqlite_errorcode", 0) & 0xFF
            raise self._unavailable(_REMEDIES.get(code, str(error))) from error

    def _unavailable(self, problem: str) -> LedgerUnavailableError:
        return LedgerUnavailableError(f"ledger {self.path}: {problem}; nothing was changed")


_files: WeakSet[SQLiteFile] = WeakSet()
_inherited: list[sqlite3.Connection | None] = []
"""Connections of the parent process: closing one here would drop the locks that the parent holds."""


def _after_fork() -> None:
    for file in _files:
        file.forget_parent()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
