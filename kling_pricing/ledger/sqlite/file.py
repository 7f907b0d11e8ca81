"""A ledger's SQLite file: opening it, and one transaction at a time.

Durability: WAL with `synchronous=FULL`, so that a commit survives a crash of the machine.
Fairness: see `writers_queue`. Forks: see `forks`.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from threading import RLock
from typing import TypeVar, TypeVarTuple

from kling_pricing.errors import LedgerUnavailableError
from kling_pricing.ledger.sqlite import forks, schema
from kling_pricing.ledger.sqlite.errors import (
    BUSY_TIMEOUT_S,
    CANNOT_OPEN,
    ERRORS,
    explained,
    missing,
    unavailable,
)
from kling_pricing.ledger.sqlite.writers_queue import WritersQueue, fcntl

OLDEST_SQLITE = (3, 37)
"""The first with STRICT tables."""

_Answer = TypeVar("_Answer")
_Arguments = TypeVarTuple("_Arguments")


class SQLiteFile:
    """One file, opened when it is first needed."""

    def __init__(self, path: Path, clock: Callable[[], datetime]) -> None:
        self.path = path
        self._clock = clock
        self._name = os.fspath(path)
        self._mutex = RLock()
        self._connection: sqlite3.Connection | None = None
        self._apart: set[sqlite3.Connection] = set()
        self._queue = WritersQueue(path)
        self._in_use = False
        self._place: tuple[int, int] | None = None
        forks.register(self)

    def __del__(self) -> None:
        with suppress(Exception):  # at the end of the interpreter there may be nothing left to close with
            self.close()

    def transaction(
        self, work: Callable[[sqlite3.Connection, datetime, *_Arguments], _Answer], *arguments: *_Arguments
    ) -> _Answer:
        """Does some work in a transaction that writes, and returns its answer. All of it is kept, or nothing.

        It is one function, so that an exception that strikes anywhere in it, such as Ctrl-C, undoes the work.
        It also runs for every verb, and each further call would take time.

        Args:
            work: gets a connection, the instant at which the transaction began, and the arguments.
            arguments: of the work.

        Raises:
            LedgerUnavailableError: the file cannot be written, or has another schema version by now.
        """
        with self._mutex:
            if self._in_use:
                raise self._used_within()
            try:
                self._in_use = True
                connection = self._connection or self._opened()
                try:
                    self._queue.take_turn()
                    self._ensure_in_place()
                    if connection.in_transaction:  # left by such an exception
                        self._roll_back(connection)
                    connection.execute("BEGIN IMMEDIATE")
                    (version,) = connection.execute("PRAGMA user_version").fetchone()
                    if version != schema.VERSION:  # it was migrated while it was open
                        schema.ensure_current(version, self.path)
                    answer = work(connection, self._clock(), *arguments)
                    self._ensure_not_forked(connection)
                    connection.execute("COMMIT")
                except BaseException:
                    if self._connection is connection:  # else it is the parent's, which goes on with it
                        self._roll_back(connection)
                    raise
                else:
                    return answer
                finally:
                    if self._connection is connection and connection.in_transaction:  # struck once more
                        self._roll_back(connection)
                    if self._queue.lock is not None:
                        fcntl.flock(self._queue.lock, fcntl.LOCK_UN)
            except ERRORS as error:
                raise explained(self.path, error) from error
            finally:
                self._in_use = False

    def is_begun(self) -> bool:
        """Whether there is a file, and something in it.

        Raises:
            LedgerUnavailableError: there was, or there is not even a folder.
        """
        if self._connection is not None:
            return True
        self._refuse_an_emptied_one()
        with self._errors():  # a folder may be closed to this user
            if not self.path.parent.is_dir():
                raise self._unavailable(CANNOT_OPEN)
            return self.path.is_file() and self.path.stat().st_size > 0

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """One transaction that reads, of which all parts see the same state.

        Makes no file.

        Raises:
            LedgerUnavailableError: the file cannot be read.
        """
        with self._alone(), self._errors():
            if not self.is_begun():
                raise missing(self.path)
            connection = self._opened()
            self._ensure_in_place()
            try:
                connection.execute("BEGIN")
                (version,) = connection.execute("PRAGMA user_version").fetchone()
                schema.ensure_current(version, self.path)
                yield connection
            finally:
                self._roll_back(connection)

    @contextmanager
    def reading_alone(self) -> Iterator[sqlite3.Connection]:
        """As `reading`, by a connection of its own that cannot write: for long readings, while others go on.

        Makes no file.

        Raises:
            LedgerUnavailableError: the file cannot be read.
        """
        with self._errors():
            if not self.is_begun():
                raise missing(self.path)
            connection = sqlite3.connect(
                f"{self.path.as_uri()}?mode=ro",
                uri=True,
                timeout=BUSY_TIMEOUT_S,
                isolation_level=None,
                check_same_thread=False,
            )
            self._apart.add(connection)
            try:
                if not self._is_current(connection):
                    raise missing(self.path)
                connection.execute("BEGIN")
                yield connection
            finally:
                connection.close()
                self._apart.discard(connection)

    def close(self) -> None:
        """Closes the file; it is opened again when it is needed again."""
        with self._alone():
            self._close()

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
        self._forget()

    def _forget(self) -> None:
        self._connection = None
        self._queue.close()

    def before_fork(self) -> None:
        """Waits until no thread uses the file, and closes it."""
        self._mutex.acquire()
        if self._connection is not None and not self._connection.in_transaction:
            self._close()

    def after_fork_in_parent(self) -> None:
        """Lets the threads go on."""
        self._mutex.release()

    def after_fork_in_child(self) -> None:
        """Forgets the parent's threads, and its connection if there still is one."""
        self._mutex = RLock()
        self._in_use = False
        for connection in (self._connection, *self._apart):
            if connection is not None:
                forks.inherited.setdefault(os.path.realpath(self.path), []).append(connection)
        self._forget()  # with the files, else this process would keep the parent's locks when the parent dies
        self._apart = set()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keeps out other threads, and what a signal, a finaliser or the clock would do amid a transaction.

        Raises:
            LedgerUnavailableError: this thread is using the file already.
        """
        with self._mutex:
            if self._in_use:
                raise self._used_within()
            self._in_use = True
            try:
                yield
            finally:
                self._in_use = False

    def _used_within(self) -> LedgerUnavailableError:
        return self._unavailable(
            "it was used from within its own use; do not call the guard from a signal handler, a finaliser "
            "or a clock"
        )

    def _ensure_not_forked(self, connection: sqlite3.Connection) -> None:
        """Refuses to end a transaction that the parent process began, and will end itself."""
        if self._connection is not connection:
            raise self._forked()

    def _forked(self) -> LedgerUnavailableError:
        return self._unavailable(
            "this process was forked while its parent was using it; start processes without a fork, or "
            "open the ledger after it"
        )

    def _ensure_in_place(self) -> None:
        """Refuses a file that is no longer the one at its path: another would be counted from zero."""
        try:
            found: os.stat_result | None = os.stat(self._name)  # noqa: PTH116 (every verb asks)
        except OSError:
            found = None
        if found is None or (found.st_dev, found.st_ino) != self._place:
            raise self._unavailable(
                "its file was moved, removed or replaced while in use; stop everything that uses it, put the "
                "right file there, and start again"
            )

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            self._open()
        assert self._connection is not None  # noqa: S101 (for the type checker)
        return self._connection

    def _open(self) -> None:
        if sqlite3.sqlite_version_info < OLDEST_SQLITE:
            needed = ".".join(str(part) for part in OLDEST_SQLITE)
            raise self._unavailable(
                f"Python here has SQLite {sqlite3.sqlite_version}, and {needed} or newer is needed; use a "
                "newer Python or system"
            )
        if os.path.realpath(self.path) in forks.inherited:
            raise self._forked()
        self._refuse_an_emptied_one()
        connection = sqlite3.connect(
            self.path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
        )
        try:
            self._is_current(connection)  # before anything else: another database is left as it is
            self._queue.open()
            try:
                self._queue.take_turn()
                self._prepare(connection)
            finally:
                self._queue.end_turn()
            opened = self.path.stat()
        except BaseException:
            connection.close()
            self._close()
            raise
        self._place = opened.st_dev, opened.st_ino
        self._connection = connection

    def _refuse_an_emptied_one(self) -> None:
        """Refuses an empty file where there was a ledger: it would be counted from zero."""
        with suppress(OSError):  # there is no lock file, so there never was a ledger here
            if self._queue.is_marked() and not (self.path.exists() and self.path.stat().st_size):
                raise self._unavailable(
                    f"there was a ledger here, and its file is empty or gone; put it back, or remove "
                    f"{self._queue.lock_name} beside it to begin a new one"
                )

    def _prepare(self, connection: sqlite3.Connection) -> None:
        """Sets how the file is written, and creates the tables in an empty one."""
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        if self._is_current(connection):
            self._queue.mark()
            return
        try:
            connection.execute("BEGIN IMMEDIATE")
            for statement in schema.DDL:
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {schema.APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {schema.VERSION}")
            connection.execute("COMMIT")
            self._queue.mark()
        except BaseException:
            self._roll_back(connection)
            raise

    def _is_current(self, connection: sqlite3.Connection) -> bool:
        """Whether the file is a ledger of the present schema version; False: it is empty.

        Raises:
            LedgerUnavailableError: it is a ledger of another version, or something else.
        """
        try:
            version = schema.version_of(connection, self.path)
        except BaseException:
            self._roll_back(connection)
            raise
        if version:
            schema.ensure_current(version, self.path)
        return version > 0

    def _roll_back(self, connection: sqlite3.Connection) -> None:
        with suppress(sqlite3.Error):  # what went wrong first is the thing to report
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        if connection.in_transaction:  # it would keep the lock, and mix up what comes next
            connection.close()
            self._connection = None

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except ERRORS as error:
            raise explained(self.path, error) from error

    def _unavailable(self, problem: str) -> LedgerUnavailableError:
        return unavailable(self.path, problem)
