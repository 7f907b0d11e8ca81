"""Runs transactions on a ledger's SQLite file, one at a time, and shares them among the threads of the process.

`opening` opens the file, `tickets` holds the verbs that share a transaction, `writers_queue` makes processes
take turns, and `forks` makes forks safe.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from datetime import datetime
from pathlib import Path
from threading import RLock, get_ident, main_thread
from time import monotonic
from typing import Any, TypeVar, TypeVarTuple

from kling_pricing.errors import LedgerUnavailableError
from kling_pricing.ledger.sqlite import forks, opening, schema
from kling_pricing.ledger.sqlite.errors import (
    BUSY_TIMEOUT_S,
    ERRORS,
    explained,
    forked,
    is_of_file,
    missing,
    unavailable,
)
from kling_pricing.ledger.sqlite.places import Places
from kling_pricing.ledger.sqlite.tickets import Batch, Ticket, Tickets
from kling_pricing.ledger.sqlite.writers_queue import WritersQueue, fcntl
from kling_pricing.ledger.waiting import asked_at

_SHORT_WAIT_S = 1
"""After a shorter wait for its turn, a verb may wait for another program as long as if it had not waited."""

_Answer = TypeVar("_Answer")
_Arguments = TypeVarTuple("_Arguments")


class SQLiteFile:
    """One file, opened on first use."""

    def __init__(self, path: Path, clock: Callable[[], datetime]) -> None:
        self.path = path
        self._clock = clock
        self._mutex = RLock()
        self._tickets = Tickets()
        self._connection: sqlite3.Connection | None = None
        self._apart: set[sqlite3.Connection] = set()
        self._queue = WritersQueue(path)
        self._places: Places | None = None
        self._known = 0
        forks.register(self)

    def __del__(self) -> None:
        with suppress(Exception):  # modules may already be gone when the interpreter exits
            self.close()

    def transaction(
        self,
        work: Callable[[sqlite3.Connection, datetime, *_Arguments], _Answer],
        *arguments: *_Arguments,
        undo: Callable[[_Answer], object] | None = None,
    ) -> _Answer:
        """Runs a function in a write transaction and returns its result. Commits all of its changes, or none.

        If another thread uses the file, that thread may run the function in its own transaction, at an instant
        of its own. An error of one function does not affect the others. No result is returned before the
        commit.

        Args:
            work: the function. Its arguments are a connection, the instant at which it begins, and `arguments`.
            arguments: further arguments for the function.
            undo: called with a committed result that the caller does not receive, because an exception such as
                Ctrl-C struck while another thread ran the function.

        Raises:
            LedgerUnavailableError: the file cannot be written, or was migrated to another schema version.
        """
        asked = asked_at()
        if self._tickets.leader is not None:
            if self._tickets.leader == get_ident():
                raise self._reentered()
            ticket = Ticket(work, arguments, asked, self.path)
            if self._tickets.wait_for(ticket, undo):
                return ticket.result()
        try:
            return self._lead(work, arguments, asked)
        finally:
            if self._tickets.waiting:
                self._tickets.wake_first()

    def _lead(self, work: Callable[..., _Answer], arguments: tuple[Any, ...], asked: float) -> _Answer:
        """Runs a function in a transaction, and after it the functions of the waiting tickets.

        It ends its transaction itself, so that an exception at any point in it, such as Ctrl-C, rolls
        back the transaction. Every verb runs it, and each additional call would cost time.
        """
        batch: Batch | None = None
        with self._mutex:
            if self._tickets.leader == get_ident():
                raise self._reentered()
            try:
                self._tickets.leader = get_ident()
                connection = self._connection or self._opened(asked)
                newest = None
                try:
                    acknowledged = self._begin(connection, asked)
                    answer = work(connection, self._clock(), *arguments)
                    if self._tickets.waiting and get_ident() != main_thread().ident:  # which Ctrl-C strikes
                        batch = Batch()
                        self._run_waiting(connection, batch)
                    self._ensure_not_forked(connection)
                    (newest,) = connection.execute(opening.NEWEST).fetchone()
                    connection.execute("COMMIT")
                    if newest != acknowledged:
                        self._queue.acknowledge(newest)
                    self._known = newest
                except BaseException as error:
                    if batch is not None:
                        self._end_struck(batch, connection, newest, error)
                    if self._connection is connection:  # otherwise the parent process still uses it
                        self._roll_back(connection)
                    raise
                else:
                    if batch is not None:
                        batch.end()
                    return answer
                finally:
                    self._tickets.is_blocked = False
                    if self._connection is connection and connection.in_transaction:  # struck again
                        self._roll_back(connection)
                    if self._queue.lock is not None:
                        fcntl.flock(self._queue.lock, fcntl.LOCK_UN)
            except ERRORS as error:
                raise explained(self.path, error) from error
            finally:
                self._tickets.leader = None

    def _begin(self, connection: sqlite3.Connection, asked: float) -> int:
        """Begins a transaction; returns the number of the newest acknowledged journal entry."""
        self._queue.take_turn()
        self._ensure_in_place(asked)
        if connection.in_transaction:  # an exception struck during the last rollback
            self._roll_back(connection)
        self._tickets.is_blocked = True
        if monotonic() - asked < _SHORT_WAIT_S:
            connection.execute("BEGIN IMMEDIATE")
        else:
            self._begin_late(connection, asked)
        self._tickets.is_blocked = False
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version != schema.VERSION:  # the file was migrated while it was open
            schema.ensure_current(version, self.path)
        acknowledged = self._queue.acknowledged()
        if acknowledged != self._known:  # another process wrote, or the files have changed
            opening.ensure_complete(connection, self.path, acknowledged)
        return acknowledged

    def _end_struck(
        self, batch: Batch, connection: sqlite3.Connection, newest: int | None, error: BaseException
    ) -> None:
        """Ends the batch of a transaction that an exception struck.

        After the commit, the callers get their answers. If the file failed, they get its error. If something
        else struck the leader, such as a time limit of its thread, the tickets go to the next leader. In a
        child process that was forked meanwhile, nobody waits for them.
        """
        if self._connection is not connection:
            return
        if newest is not None and not connection.in_transaction and not isinstance(error, sqlite3.Error):
            self._queue.acknowledge(newest)
            batch.end()
            return
        self._roll_back(connection)
        if isinstance(error, ERRORS):
            batch.end(error)
        else:
            self._tickets.put_back(batch)

    def _run_waiting(self, connection: sqlite3.Connection, batch: Batch) -> None:
        """Runs the functions of the waiting tickets in the open transaction, each in a savepoint.

        Raises:
            sqlite3.Error: SQLite has undone the whole transaction, or the disk fails.
        """
        while (ticket := self._tickets.claim_next(batch)) is not None:
            try:
                connection.execute("SAVEPOINT verb")
                ticket.run(connection, self._clock)
                connection.execute("RELEASE verb")
            except Exception as error:
                if is_of_file(error):
                    raise
                if not connection.in_transaction:
                    raise sqlite3.OperationalError("SQLite undid the transaction") from error
                connection.execute("ROLLBACK TO verb")
                connection.execute("RELEASE verb")
                ticket.error = error

    def _begin_late(self, connection: sqlite3.Connection, asked: float) -> None:
        """Begins a write transaction that has waited for its turn, which counts towards its limit."""
        try:
            opening.limit_wait(connection, asked)
            connection.execute("BEGIN IMMEDIATE")
        finally:
            opening.limit_wait(connection, monotonic())

    def is_begun(self) -> bool:
        """Returns whether the file exists and is not empty.

        Raises:
            LedgerUnavailableError: the folder does not exist, or a ledger in the file was emptied or removed.
        """
        if self._connection is not None:
            return True
        with self._errors():  # this user may lack access to the folder
            return opening.is_begun(self.path, self._queue)

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
            self._ensure_in_place(asked)
            acknowledged = self._queue.acknowledged()  # before the snapshot, which is then at least as new
            try:
                connection.execute("BEGIN")
                (version,) = connection.execute("PRAGMA user_version").fetchone()
                schema.ensure_current(version, self.path)
                opening.ensure_complete(connection, self.path, acknowledged)
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
                if not opening.is_current(connection, self.path):
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
            with nullcontext() if self._places is None else self._places.closing():
                connection.close()
        self._forget()

    def _forget(self) -> None:
        self._connection = None
        self._queue.close()
        places, self._places = self._places, None
        if places is not None:
            places.close()

    def before_fork(self) -> None:
        """Waits until no thread uses the file, and closes it."""
        self._mutex.acquire()
        if self._connection is not None and not self._connection.in_transaction:
            self._close()

    def after_fork_in_parent(self) -> None:
        """Lets the threads continue."""
        self._mutex.release()
        self._tickets.wake_first()

    def after_fork_in_child(self) -> None:
        """Forgets the parent's threads, and its connection if there still is one."""
        self._mutex = RLock()
        self._tickets.is_inherited = True
        self._tickets = Tickets()
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
        try:
            with self._mutex:
                if self._tickets.leader == get_ident():
                    raise self._reentered()
                try:
                    self._tickets.leader = get_ident()
                    yield
                finally:
                    self._tickets.leader = None
        finally:
            if self._tickets.waiting:
                self._tickets.wake_first()

    def _reentered(self) -> LedgerUnavailableError:
        return self._unavailable(
            "reentrant call during a transaction; do not call the guard from a signal handler, a finaliser or "
            "the guard's own `clock` function"
        )

    def _ensure_not_forked(self, connection: sqlite3.Connection) -> None:
        """Refuses to commit a transaction that the parent process began and will end itself."""
        if self._connection is not connection:
            raise forked(self.path)

    def _ensure_in_place(self, at: float) -> None:
        """Refuses to use files that are no longer at their paths, because others would count separately."""
        problem = self._places.problem(at) if self._places else None
        if problem is not None:
            raise self._unavailable(problem)

    def _opened(self, asked: float) -> sqlite3.Connection:
        if self._connection is None:
            if os.path.realpath(self.path) in forks.inherited:
                raise forked(self.path)
            connection, places = opening.opened(self.path, self._queue, asked)
            self._places = places
            self._connection = connection
        return self._connection

    def _roll_back(self, connection: sqlite3.Connection) -> None:
        if not opening.roll_back(connection):
            self._connection = None

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except ERRORS as error:
            raise explained(self.path, error) from error

    def _unavailable(self, problem: str) -> LedgerUnavailableError:
        return unavailable(self.path, problem)
