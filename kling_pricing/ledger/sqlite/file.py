"""Opens a ledger's SQLite file and runs one transaction at a time.

The file uses WAL with `synchronous=FULL`, so a commit survives a crash of the machine. `writers_queue` makes
writers take turns, and `forks` makes forks safe.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path
from threading import RLock
from time import monotonic
from typing import TypeVar, TypeVarTuple

from kling_pricing.errors import LedgerUnavailableError
from kling_pricing.ledger.sqlite import forks, schema
from kling_pricing.ledger.sqlite.errors import (
    BUSY_TIMEOUT_S,
    CANNOT_OPEN,
    ERRORS,
    explained,
    incomplete,
    missing,
    unavailable,
)
from kling_pricing.ledger.sqlite.places import Places, places, problem_of, problem_of_path
from kling_pricing.ledger.sqlite.writers_queue import WritersQueue, fcntl
from kling_pricing.ledger.waiting import asked_at

OLDEST_SQLITE = (3, 37)
"""The first SQLite version with STRICT tables."""

_SHORT_WAIT_S = 1
"""After a shorter wait for its turn, a verb may wait for another program as long as if it had not waited."""

_LAST_TRY_MS = 100
"""How long a verb waits for another program if its limit has passed while it waited for its turn."""

_NEWEST = "SELECT ifnull(max(seq), 0) FROM journal"
"""The number of the newest journal entry."""

_Answer = TypeVar("_Answer")
_Arguments = TypeVarTuple("_Arguments")


class SQLiteFile:
    """One file, opened on first use."""

    def __init__(self, path: Path, clock: Callable[[], datetime]) -> None:
        self.path = path
        self._clock = clock
        self._mutex = RLock()
        self._connection: sqlite3.Connection | None = None
        self._apart: set[sqlite3.Connection] = set()
        self._queue = WritersQueue(path)
        self._in_use = False
        self._places = Places((), ())
        self._known = 0
        forks.register(self)

    def __del__(self) -> None:
        with suppress(Exception):  # modules may already be gone when the interpreter exits
            self.close()

    def transaction(
        self, work: Callable[[sqlite3.Connection, datetime, *_Arguments], _Answer], *arguments: *_Arguments
    ) -> _Answer:
        """Runs a function in a write transaction and returns its result. Commits all of its changes, or none.

        This is a single function, so that an exception at any point in it, such as Ctrl-C, rolls back the
        transaction. Every verb runs it, and each additional call would cost time.

        Args:
            work: the function. Its arguments are a connection, the instant at which the transaction began, and
                `arguments`.
            arguments: further arguments for the function.

        Raises:
            LedgerUnavailableError: the file cannot be written, or was migrated to another schema version.
        """
        asked = asked_at()
        with self._mutex:
            if self._in_use:
                raise self._reentered()
            try:
                self._in_use = True
                connection = self._connection or self._opened(asked)
                try:
                    self._queue.take_turn()
                    self._ensure_in_place()
                    if connection.in_transaction:  # an exception struck during the last rollback
                        self._roll_back(connection)
                    if monotonic() - asked < _SHORT_WAIT_S:
                        connection.execute("BEGIN IMMEDIATE")
                    else:
                        self._begin_late(connection, asked)
                    (version,) = connection.execute("PRAGMA user_version").fetchone()
                    if version != schema.VERSION:  # the file was migrated while it was open
                        schema.ensure_current(version, self.path)
                    acknowledged = self._queue.acknowledged()
                    if acknowledged != self._known:  # another process wrote, or the files have changed
                        self._ensure_complete(connection, acknowledged)
                    answer = work(connection, self._clock(), *arguments)
                    self._ensure_not_forked(connection)
                    (newest,) = connection.execute(_NEWEST).fetchone()
                    connection.execute("COMMIT")
                    if newest != acknowledged:
                        self._queue.acknowledge(newest)
                    self._known = newest
                except BaseException:
                    if self._connection is connection:  # otherwise the parent process still uses it
                        self._roll_back(connection)
                    raise
                else:
                    return answer
                finally:
                    if self._connection is connection and connection.in_transaction:  # struck again
                        self._roll_back(connection)
                    if self._queue.lock is not None:
                        fcntl.flock(self._queue.lock, fcntl.LOCK_UN)
            except ERRORS as error:
                raise explained(self.path, error) from error
            finally:
                self._in_use = False

    def _begin_late(self, connection: sqlite3.Connection, asked: float) -> None:
        """Begins a write transaction that has waited for its turn, which counts towards its limit."""
        try:
            _limit_wait(connection, asked)
            connection.execute("BEGIN IMMEDIATE")
        finally:
            _limit_wait(connection, monotonic())

    def is_begun(self) -> bool:
        """Returns whether the file exists and is not empty.

        Raises:
            LedgerUnavailableError: the folder does not exist, or a ledger in the file was emptied or removed.
        """
        if self._connection is not None:
            return True
        self._refuse_emptied()
        with self._errors():  # this user may lack access to the folder
            if not self.path.parent.is_dir():
                raise self._unavailable(CANNOT_OPEN)
            return self.path.is_file() and self.path.stat().st_size > 0

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """Yields a connection in a read transaction, so that all queries see the same snapshot.

        Creates no file.

        Raises:
            LedgerUnavailableError: the file cannot be read.
        """
        asked = asked_at()
        with self._alone(), self._errors():
            if not self.is_begun():
                raise missing(self.path)
            connection = self._opened(asked)
            self._ensure_in_place()
            acknowledged = self._queue.acknowledged()  # before the snapshot, which is then at least as new
            try:
                connection.execute("BEGIN")
                (version,) = connection.execute("PRAGMA user_version").fetchone()
                schema.ensure_current(version, self.path)
                self._ensure_complete(connection, acknowledged)
                yield connection
            finally:
                self._roll_back(connection)

    @contextmanager
    def reading_alone(self) -> Iterator[sqlite3.Connection]:
        """Yields a separate, read-only connection in a read transaction.

        Long queries on it do not block other users of the file. Creates no file.

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
        """Closes the file. The next use opens it again."""
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
        """Lets the threads continue."""
        self._mutex.release()

    def after_fork_in_child(self) -> None:
        """Forgets the parent's threads, and its connection if there still is one."""
        self._mutex = RLock()
        self._in_use = False
        for connection in (self._connection, *self._apart):
            if connection is not None:
                forks.inherited.setdefault(os.path.realpath(self.path), []).append(connection)
        self._forget()  # closes the lock files, so that this process does not hold the locks of a dead parent
        self._apart = set()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """Keeps out other threads, and reentrant calls from a signal handler, a finaliser or the clock.

        Raises:
            LedgerUnavailableError: this thread is already using the file.
        """
        with self._mutex:
            if self._in_use:
                raise self._reentered()
            self._in_use = True
            try:
                yield
            finally:
                self._in_use = False

    def _reentered(self) -> LedgerUnavailableError:
        return self._unavailable(
            "reentrant call during a transaction; do not call the guard from a signal handler, a finaliser or "
            "the guard's own `clock` function"
        )

    def _ensure_not_forked(self, connection: sqlite3.Connection) -> None:
        """Refuses to commit a transaction that the parent process began and will end itself."""
        if self._connection is not connection:
            raise self._forked()

    def _forked(self) -> LedgerUnavailableError:
        return self._unavailable(
            "this process was forked while its parent was using the ledger; start processes without "
            "forking, or open the ledger after the fork"
        )

    def _ensure_in_place(self) -> None:
        """Refuses to use files that are no longer at their paths, because others would count separately."""
        problem = problem_of(self._places)
        if problem is not None:
            raise self._unavailable(problem)

    def _ensure_complete(self, connection: sqlite3.Connection, acknowledged: int) -> None:
        """Refuses a ledger that lacks acknowledged journal entries. Their money would be spent again."""
        (newest,) = connection.execute(_NEWEST).fetchone()
        if newest < acknowledged:
            raise incomplete(self.path, newest, acknowledged)

    def _opened(self, asked: float) -> sqlite3.Connection:
        if self._connection is None:
            self._open(asked)
        assert self._connection is not None  # noqa: S101 (for the type checker)
        return self._connection

    def _open(self, asked: float) -> None:
        if sqlite3.sqlite_version_info < OLDEST_SQLITE:
            needed = ".".join(str(part) for part in OLDEST_SQLITE)
            raise self._unavailable(
                f"this Python has SQLite {sqlite3.sqlite_version}, but {needed} or newer is required; use a "
                "newer Python or operating system"
            )
        if os.path.realpath(self.path) in forks.inherited:
            raise self._forked()
        self._refuse_emptied()
        problem = problem_of_path(self.path)
        if problem is not None:
            raise self._unavailable(problem)
        connection = sqlite3.connect(
            self.path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
        )
        try:
            self._is_current(connection)  # comes first, so that a foreign database stays unchanged
            self._queue.open()
            try:
                self._queue.take_turn()
                _limit_wait(connection, asked)
                self._prepare(connection)
                self._ensure_complete(connection, self._queue.acknowledged())
                opened = places(self.path)
            finally:
                self._queue.end_turn()
                _limit_wait(connection, monotonic())
        except BaseException:
            connection.close()
            self._close()
            raise
        self._places = opened
        self._connection = connection

    def _refuse_emptied(self) -> None:
        """Refuses an empty or missing file in the place of a ledger. A new ledger would count from zero."""
        with suppress(OSError):  # without a lock file there never was a ledger here
            if self._queue.is_marked() and not (self.path.exists() and self.path.stat().st_size):
                raise self._unavailable(
                    "there was a ledger here, but its file is empty or gone; put the file back, or remove "
                    f"{self._queue.lock_name} in the same folder to begin a new ledger"
                )

    def _prepare(self, connection: sqlite3.Connection) -> None:
        """Configures the connection, and creates the tables in an empty file."""
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
        """Returns True for a ledger of the current schema version, and False for an empty file.

        Raises:
            LedgerUnavailableError: the file is a ledger of another schema version, or not a ledger.
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
        with suppress(sqlite3.Error):  # the first error is the one to report
            if connection.in_transaction:
                connection.execute("ROLLBACK")
        if connection.in_transaction:  # an open transaction would hold the lock and swallow the next one
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


def _limit_wait(connection: sqlite3.Connection, asked: float) -> None:
    """Lets a connection wait for another program until the limit has passed since a verb was asked for."""
    rest_ms = int(1000 * (BUSY_TIMEOUT_S - (monotonic() - asked)))
    connection.execute(f"PRAGMA busy_timeout = {max(_LAST_TRY_MS, rest_ms)}")
