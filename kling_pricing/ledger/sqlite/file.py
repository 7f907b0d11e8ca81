"""A ledger's SQLite file: opening it, one transaction at a time, and what its errors mean.

Durability: WAL with `synchronous=FULL`, so that what was committed survives a crash of the machine.
Fairness: writers wait for an `flock` on a file beside the database; SQLite's own busy handler lets some of them
starve for seconds. A lock that is given up goes to whoever asks first, and that is mostly who just had it, for
who sleeps has to wake up. So it is waited for by one at a time, which holds a second lock, and the others wait
for that one.
Forks: SQLite keeps what it knows of a file's locks in the memory of the process, and a child process inherits
that memory without the locks: another process then deletes the WAL beneath it, and what the child commits is
lost. So files are closed before a fork, and parent and child each open their own.
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
from weakref import WeakSet

from kling_pricing.errors import LedgerError, LedgerUnavailableError
from kling_pricing.ledger.sqlite.schema import APPLICATION_ID, DDL, VERSION

try:
    import fcntl
except ImportError:  # Windows: SQLite's own lock is as safe, only less fair
    fcntl = None  # type: ignore[assignment]

BUSY_TIMEOUT_S = 60
"""How long to wait for a program that writes to the file without this library."""

OLDEST_SQLITE = (3, 37)
"""The first with STRICT tables."""

_REMEDIES = {
    sqlite3.SQLITE_FULL: "the disk is full; free some space and try again",
    sqlite3.SQLITE_READONLY: "it is read-only; let this user write the file and its folder",
    sqlite3.SQLITE_CANTOPEN: "it cannot be opened; the folder must exist and this user may write in it",
    sqlite3.SQLITE_PERM: "this user may not open it",
    sqlite3.SQLITE_BUSY: f"another program has kept it locked for {BUSY_TIMEOUT_S} s; close that program",
    sqlite3.SQLITE_LOCKED: "another program keeps it locked; close that program",
    sqlite3.SQLITE_CORRUPT: "it is damaged; restore it from a backup, or recover it with sqlite3's .recover",
    sqlite3.SQLITE_NOTADB: "it is not an SQLite database, or damaged; restore a backup, or name another",
    sqlite3.SQLITE_IOERR: "the disk, or a limit on the size of files, does not let it be read or written; make "
    "room, look at the disk, and check the ledger with verify",
}

_MARK = b"A ledger was made in the file of this name. Remove this one too to begin a new ledger.\n"
"""What the lock file says from then on."""

_ERRORS = (sqlite3.Error, OverflowError, UnicodeError, OSError)
"""What may go wrong with a file, or with a value for it."""


_Answer = TypeVar("_Answer")
_Told = TypeVarTuple("_Told")


class SQLiteFile:
    """One file, opened when it is first needed."""

    def __init__(self, path: Path, clock: Callable[[], datetime]) -> None:
        self.path = path
        self._clock = clock
        self._name = os.fspath(path)
        self._mutex = RLock()
        self._connection: sqlite3.Connection | None = None
        self._apart: set[sqlite3.Connection] = set()
        self._lock_file: int | None = None
        self._queue_file: int | None = None
        self._in_use = False
        self._place: tuple[int, int] | None = None
        with _forking:
            _files.add(self)

    def __del__(self) -> None:
        with suppress(Exception):  # at the end of the interpreter there may be nothing left to close with
            self.close()

    def transaction(
        self, work: Callable[[sqlite3.Connection, datetime, *_Told], _Answer], *told: *_Told
    ) -> _Answer:
        """What some work answers, in a transaction that writes: all it does is kept, durably, or nothing.

        All in one piece, so that an exception which strikes in the midst of it, such as Ctrl-C, undoes whatever
        was done; and since it is run for every verb, and each part of its own takes time.

        Args:
            work: gets a connection, the instant at which the transaction began, and what it is told.
            told: to the work.

        Raises:
            LedgerUnavailableError: the file cannot be written.
        """
        with self._mutex:
            if self._in_use:
                raise self._used_within()
            try:
                self._in_use = True
                connection = self._connection or self._opened()
                try:
                    self._take_turn()
                    self._ensure_in_place()
                    if connection.in_transaction:  # left by such an exception
                        self._roll_back(connection)
                    connection.execute("BEGIN IMMEDIATE")
                    answer = work(connection, self._clock(), *told)
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
                    if self._lock_file is not None:
                        fcntl.flock(self._lock_file, fcntl.LOCK_UN)
            except _ERRORS as error:
                raise self._explained(error) from error
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
                raise self._unavailable(_REMEDIES[sqlite3.SQLITE_CANTOPEN])
            return self.path.is_file() and self.path.stat().st_size > 0

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """One transaction that reads, of which all parts see the same state.

        It leaves no file where there is none.

        Raises:
            LedgerUnavailableError: the file cannot be read.
        """
        with self._alone(), self._errors():
            if not self.is_begun():
                raise self._missing()
            connection = self._opened()
            self._ensure_in_place()
            try:
                connection.execute("BEGIN")
                yield connection
            finally:
                self._roll_back(connection)

    @contextmanager
    def reading_alone(self) -> Iterator[sqlite3.Connection]:
        """As `reading`, by a connection of its own that cannot write: for long readings, while others go on.

        It leaves no file where there is none.

        Raises:
            LedgerUnavailableError: the file cannot be read.
        """
        with self._errors():
            if not self.is_begun():
                raise self._missing()
            connection = sqlite3.connect(
                f"{self.path.as_uri()}?mode=ro",
                uri=True,
                timeout=BUSY_TIMEOUT_S,
                isolation_level=None,
                check_same_thread=False,
            )
            self._apart.add(connection)
            try:
                if not self._is_ours(connection):
                    raise self._missing()
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
        """First, and then closes: what is closed twice may be somebody else's file by then."""
        files = self._lock_file, self._queue_file
        self._connection = self._lock_file = self._queue_file = None
        for file in files:
            if file is not None:
                os.close(file)

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
                _inherited.setdefault(os.path.realpath(self.path), []).append(connection)
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

    def _take_turn(self) -> None:
        """Waits for this process's turn to write."""
        lock, queue = self._lock_file, self._queue_file
        if lock is not None and queue is not None:
            try:
                fcntl.flock(queue, fcntl.LOCK_EX)
                fcntl.flock(lock, fcntl.LOCK_EX)
            finally:
                fcntl.flock(queue, fcntl.LOCK_UN)

    def _end_turn(self) -> None:
        if self._lock_file is not None:
            fcntl.flock(self._lock_file, fcntl.LOCK_UN)

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
        if os.path.realpath(self.path) in _inherited:
            raise self._forked()
        self._refuse_an_emptied_one()
        connection = sqlite3.connect(
            self.path, timeout=BUSY_TIMEOUT_S, isolation_level=None, check_same_thread=False
        )
        try:
            self._is_ours(connection)  # before anything else: what is not ours is left as it is
            self._lock_file = self._opened_beside(self._lock_path)
            self._queue_file = self._opened_beside(self.path.with_name(f"{self.path.name}.queue"))
            try:
                self._take_turn()
                self._prepare(connection)
            finally:
                self._end_turn()
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
            if self._lock_path.stat().st_size and not (self.path.exists() and self.path.stat().st_size):
                raise self._unavailable(
                    f"there was a ledger here, and its file is empty or gone; put it back, or remove "
                    f"{self._lock_path.name} beside it to begin a new one"
                )

    def _missing(self) -> LedgerUnavailableError:
        problem = "it is empty" if self.path.is_file() else "there is no such file"
        return self._unavailable(
            f"{problem}; check its name, or begin it with `kling-pricing budget apply FILE`"
        )

    def _mark(self) -> None:
        """Writes down beside the file that a ledger was made in it."""
        if self._lock_file is not None and not os.fstat(self._lock_file).st_size:
            os.write(self._lock_file, _MARK)

    @property
    def _lock_path(self) -> Path:
        return self.path.with_name(f"{self.path.name}.lock")

    def _opened_beside(self, path: Path) -> int | None:
        if fcntl is None:
            return None
        try:
            return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise self._unavailable(
                f"{path.name} beside it cannot be opened ({error.strerror}); let this user write "
                "the file and its folder"
            ) from None

    def _prepare(self, connection: sqlite3.Connection) -> None:
        """Sets how the file is written, and creates the tables in an empty one."""
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        if self._is_ours(connection):
            self._mark()
            return
        try:
            connection.execute("BEGIN IMMEDIATE")
            for statement in DDL:
                connection.execute(statement)
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.execute(f"PRAGMA user_version = {VERSION}")
            connection.execute("COMMIT")
            self._mark()
        except BaseException:
            self._roll_back(connection)
            raise

    def _is_ours(self, connection: sqlite3.Connection) -> bool:
        """Whether the file is a ledger of this version; False: it is empty.

        Raises:
            LedgerUnavailableError: it is something else.
        """
        try:
            connection.execute("BEGIN")  # so that all three are of one moment, while others create the tables
            (application,) = connection.execute("PRAGMA application_id").fetchone()
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
        finally:
            self._roll_back(connection)
        if application == APPLICATION_ID and version == VERSION:
            return True
        if application == APPLICATION_ID:
            newer = "newer" if version > VERSION else "unknown"
            raise LedgerUnavailableError(
                f"ledger {self.path}: its schema {version} is {newer} to this version of kling_pricing, which "
                f"knows {VERSION}; use the version that wrote it"
            )
        if tables or version or application:
            raise LedgerUnavailableError(
                f"ledger {self.path}: it is a database of something else; name a file that does not exist yet"
            )
        return False

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
        except _ERRORS as error:
            raise self._explained(error) from error

    def _explained(self, error: Exception) -> LedgerError:
        """The error to raise for one of SQLite's, of the disk's, or for a value that cannot be written."""
        if isinstance(error, sqlite3.IntegrityError | sqlite3.ProgrammingError | OverflowError | UnicodeError):
            return LedgerError(
                f"ledger {self.path}: an amount or a reference is not one that a ledger can keep ({error}); "
                "nothing was changed"
            )
        if isinstance(error, OSError):
            return self._unavailable(f"{error.strerror or error}; keep it on a disk of this machine")
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        return self._unavailable(_REMEDIES.get(code, str(error)))

    def _unavailable(self, problem: str) -> LedgerUnavailableError:
        return LedgerUnavailableError(f"ledger {self.path}: {problem}; nothing was changed")


_files: WeakSet[SQLiteFile] = WeakSet()
_paused: list[SQLiteFile] = []
"""Those that wait for a fork to be over."""
_forking = RLock()
"""Held while a thread forks."""
_inherited: dict[str, list[sqlite3.Connection]] = {}
"""What a fork took along all the same, by path: one inside a transaction, or one that Python did not see.
Nothing is done with them, not even closing; and their files are not opened here again."""


def _before_fork() -> None:
    _forking.acquire()
    for file in list(_files):
        _paused.append(file)
        file.before_fork()


def _after_fork_in_parent() -> None:
    for file in _paused:
        file.after_fork_in_parent()
    _paused.clear()
    _forking.release()


def _after_fork_in_child() -> None:
    global _forking  # noqa: PLW0603 (the parent's may be held by a thread that is not here)
    for file in list(_files):
        file.after_fork_in_child()
    _paused.clear()
    _forking = RLock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child
    )
