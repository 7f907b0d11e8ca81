"""A ledger's PostgreSQL server: connections, calling a verb once and only once, and what its errors mean.

A verb is one call of one server-side function, in a transaction of its own: one round trip.
Where a connection is lost nobody knows whether that was committed; so the call is repeated, and every verb
takes being repeated with the same arguments. What the server undid itself (a deadlock) is repeated likewise.
No wait is without an end: for a connection, for an answer, for a server that is coming back.
Forks: a child process leaves its parent's connections alone, and opens its own.
"""

from __future__ import annotations

import os
import random
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from threading import RLock
from typing import Any, TypeVar
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit
from weakref import WeakSet, finalize

import psycopg
from psycopg import errors
from psycopg.conninfo import conninfo_to_dict, make_conninfo
from psycopg.types.json import set_json_loads
from psycopg_pool import ConnectionPool, PoolClosed, PoolTimeout, TooManyRequests

from kling_pricing.errors import LedgerError, LedgerUnavailableError
from kling_pricing.ledger.errors import other_version
from kling_pricing.ledger.postgres.codec import loads
from kling_pricing.ledger.postgres.connection import ANSWER_S, Connection
from kling_pricing.ledger.postgres.errors import explained, first_line, is_lost, unavailable

VERSION = 2
"""The schema version that this release works with."""

POOL_SIZE, WAIT_S = 10, 10
"""Unless the URL says otherwise: connections of a process; how long a verb waits for one of them, and for a
server that was lost to come back."""

_READING = 10
"""How many times as long as a verb those may take that read the whole ledger, or go through it."""

_MAX_CONFLICTS = 50
"""How often a verb that the server undid is repeated."""

_AS_IT_IS = r"FORMAT csv, DELIMITER E'\x1d', QUOTE E'\x1e'"
"""How text is copied so that not a character of it is changed: by marks that it does not have."""

_LINES = 250
"""That are read at a time where there are very many."""

_Answer = TypeVar("_Answer")

_SETTINGS: dict[str, Any] = {
    "application_name": "kling-pricing",
    "connect_timeout": WAIT_S,
    "keepalives_idle": 10,
    "keepalives_interval": 3,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}
"""So that a server that is gone without a word is noticed; what the URL says comes first."""

_REFUSALS = {"KP001", "KP002"}
"""Codes of what functions refuse."""

_OTHER_VERSION = "KP003"
"""The code of a call to a ledger that was migrated since."""

_CONFLICTS = (errors.SerializationFailure, errors.DeadlockDetected, errors.UniqueViolation)


class Refusal(LedgerError):  # noqa: N818 (what a verb makes of it ends in Error)
    """A function ended its transaction with a reason, which is put into words where the verb is known.

    Attributes:
        about: the reason, as data.
    """

    def __init__(self, about: dict[str, Any]) -> None:
        super().__init__(f"the ledger refuses: {about}")
        self.about = about


class Server:
    """One database, connected to when it is first needed."""

    def __init__(self, url: str) -> None:
        self._conninfo, self.pool_size, self.wait_s, self.answer_s = _read(url)
        parameters = conninfo_to_dict(self._conninfo)
        place = ", ".join(str(parameters[name]) for name in ("host", "port") if parameters.get(name))
        self.name = f"{parameters.get('dbname') or 'default database'} on {place or 'this machine'}"
        self._user = str(parameters.get("user") or "this user")
        self._mutex = RLock()
        self._pool: ConnectionPool[Connection] | None = None
        self._finalizer: finalize[..., Server] | None = None
        _servers.add(self)

    def call(self, function: str, *arguments: Any) -> Any:
        """The answer of a function of the ledger's schema; what it changed is committed.

        Raises:
            Refusal: it undid what it did, and says why.
            LedgerUnavailableError: the server cannot be used.
        """
        query = _call(function, len(arguments))

        def ask(connection: Connection) -> Any:
            row = connection.execute(query, arguments).fetchone()
            return None if row is None else row[0]

        return self._done(ask, checked=True, answer_s=self.answer_s)

    def rows(self, function: str, *arguments: Any) -> list[Any]:
        """The rows of a function that returns many, each its only column, or a tuple of several.

        Raises:
            LedgerUnavailableError: the server cannot be used.
        """
        query = rows_query(function, len(arguments)).encode()

        def ask(connection: Connection) -> list[Any]:
            found = connection.execute(query, arguments).fetchall()
            return [row[0] if len(row) == 1 else row for row in found]

        return self.transaction(ask)

    def copied(self, function: str, *arguments: Any) -> Iterator[bytes]:
        """The lines of a function that returns many, some at a time: for more than the memory holds.

        Raises:
            LedgerUnavailableError: the server cannot be used; lines that were given out may then not be all.
        """
        query = f"COPY ({rows_query(function, len(arguments))}) TO STDOUT ({_AS_IT_IS})"
        try:
            with self._opened(checked=True).connection(timeout=self.wait_s) as connection:
                connection.answer_s = _READING * self.answer_s
                with connection.cursor().copy(query.encode(), arguments) as copy:
                    lines: list[bytes] = []
                    for line in copy:
                        lines.append(bytes(line))
                        if len(lines) == _LINES:
                            yield b"".join(lines)
                            lines = []
                    yield b"".join(lines)
        except PoolTimeout as error:
            raise self._exhausted() from error
        except psycopg.Error as error:
            raise self._explained(error) from error

    def transaction(self, work: Callable[[Connection], _Answer], *, checked: bool = True) -> _Answer:
        """What some work on a connection returns; it is done again where the server or the network undid it.

        Args:
            work: several statements begin a transaction of their own.
            checked: whether the ledger's schema must be the one that is known here.

        Raises:
            Refusal: a function says why not.
            LedgerError: a value is none that the ledger can keep.
            LedgerUnavailableError: the server cannot be used.
        """
        return self._done(work, checked=checked, answer_s=_READING * self.answer_s)

    def _done(self, work: Callable[[Connection], _Answer], *, checked: bool, answer_s: int) -> _Answer:
        """See `transaction`; `answer_s` is how long an answer may take."""
        lost_at: float | None = None
        tries = conflicts = 0
        while True:
            tries += 1
            try:
                pool = self._opened(checked=checked)
                connection = pool.getconn(self.wait_s)
                try:  # as its connection() does, but for ending a transaction where there is none
                    connection.answer_s = answer_s
                    return work(connection)
                finally:
                    pool.putconn(connection)
            except _CONFLICTS as error:
                conflicts += 1
                if conflicts == _MAX_CONFLICTS:
                    problem = f"others are in the way all the time ({first_line(error)}); look at its load"
                    raise unavailable(self.name, problem) from error
            except (PoolTimeout, TooManyRequests) as error:
                raise self._exhausted() from error
            except PoolClosed:
                continue  # another thread closed the ledger; the next use opens it again
            except psycopg.Error as error:
                now = time.monotonic()
                lost_at = lost_at or now
                if not is_lost(error) or now - lost_at > self.wait_s:
                    raise self._explained(error) from error
                self._drop_idle()
            # a moment for others, or for a server that is coming back: longer each time, and never alike
            time.sleep(random.randrange(1, 2 + min(20 * tries, 400)) / 1000)  # noqa: S311 (no secret)

    def close(self) -> None:
        """Closes the connections; they are opened again when they are needed again."""
        with self._mutex:
            if self._finalizer is not None:
                self._finalizer()
            self._pool = self._finalizer = None

    def after_fork_in_child(self) -> None:
        """Leaves the parent's connections alone."""
        self._mutex = RLock()
        if self._pool is not None:
            _inherited.append(self._pool)
        if self._finalizer is not None:
            self._finalizer.detach()
        self._pool = self._finalizer = None

    def _opened(self, *, checked: bool) -> ConnectionPool[Connection]:
        with self._mutex:
            if self._pool is None:
                self._try(checked=checked)
                pool = ConnectionPool[Connection](
                    self._conninfo,
                    min_size=1,
                    max_size=self.pool_size,
                    kwargs={"autocommit": True},
                    connection_class=Connection,
                    configure=partial(_configured, self.answer_s),
                    reconnect_timeout=self.wait_s,
                    open=True,
                )
                try:  # else the first caller makes it grow, and all connections take turns from then on
                    pool.wait(self.wait_s)
                except PoolTimeout as error:
                    raise unavailable(
                        self.name, f"connecting took more than {self.wait_s} s; look at its load"
                    ) from error
                except BaseException:
                    pool.close()
                    raise
                self._pool, self._finalizer = pool, finalize(self, pool.close)
            return self._pool

    def _try(self, *, checked: bool) -> None:
        """Connects once by itself: a pool does not tell why it cannot."""
        with Connection.connect(self._conninfo, autocommit=True) as connection:
            connection.answer_s = self.answer_s
            if not checked:
                return
            version = _version(connection)
        if version != VERSION:
            raise other_version(self.name, version, VERSION)

    def _drop_idle(self) -> None:
        """After a lost connection: the others are probably lost as well, and to ask each takes time."""
        with self._mutex:
            pool = self._pool
        if pool is not None:
            pool.drain()

    def _exhausted(self) -> LedgerError:
        """Why the pool gave no connection: the server does not, or they are all in use."""
        try:
            with Connection.connect(self._conninfo):
                pass
        except psycopg.Error as error:
            return self._explained(error)
        return unavailable(
            self.name,
            f"all {self.pool_size} connections of this process have been in use for {self.wait_s} s; use fewer "
            f"threads, or write ?pool_size={2 * self.pool_size} behind the URL",
        )

    def _explained(self, error: psycopg.Error) -> LedgerError:
        if error.sqlstate in _REFUSALS:
            return Refusal(loads(error.diag.message_detail or "{}"))
        if error.sqlstate == _OTHER_VERSION:
            return other_version(self.name, int(error.diag.message_detail or 0), VERSION)
        if isinstance(error, errors.UndefinedFunction):  # of another version, perhaps
            with suppress(psycopg.Error), Connection.connect(self._conninfo, autocommit=True) as connection:
                version = _version(connection)
                if version != VERSION:
                    return other_version(self.name, version, VERSION)
        return explained(error, self.name, self._user)


def _read(url: str) -> tuple[str, int, int, int]:
    """Of a URL: what libpq understands, the size of the pool, how long to wait for the server and an answer."""
    parts = urlsplit(url)
    said = dict(parse_qsl(parts.query, keep_blank_values=True))
    own = {"pool_size": POOL_SIZE, "wait_s": WAIT_S, "answer_s": ANSWER_S}
    for name, default in own.items():
        value = said.pop(name, str(default))
        if not (value.isascii() and value.isdigit() and int(value)):
            raise LedgerUnavailableError(
                f"{name} of a ledger's URL must be a whole number from 1 on, got {value!r}"
            )
        own[name] = int(value)
    try:
        given = conninfo_to_dict(urlunsplit(parts._replace(query=urlencode(said, quote_via=quote))))
    except psycopg.Error as error:
        raise LedgerUnavailableError(
            f"the URL of the ledger cannot be used ({first_line(error)}); write postgresql://user@host/database"
        ) from None
    return make_conninfo(**(_SETTINGS | given)), own["pool_size"], own["wait_s"], own["answer_s"]


def _configured(answer_s: int, connection: Connection) -> None:
    """A new connection: numbers stay exact, and a commit is on the disk when it is acknowledged.

    What the functions ask is found by a key, whatever the values are, so it is planned once.
    """
    connection.answer_s = answer_s
    set_json_loads(loads, connection)
    connection.execute(
        "SELECT set_config('plan_cache_mode', 'force_generic_plan', false),"
        " CASE current_setting('synchronous_commit')"
        " WHEN 'off' THEN set_config('synchronous_commit', 'on', false) END"
    )


def _version(connection: Connection) -> int:
    """Returns the schema version of a ledger, whichever it is."""
    ((facts,),) = connection.execute("SELECT kling_pricing.facts()").fetchall()
    return int(facts["schema_version"])


def rows_query(function: str, arguments: int) -> str:
    """Returns the query for the rows of a function. It fails if the ledger was migrated since it was opened."""
    return f"SELECT * FROM kling_pricing.{function}({_places(arguments)}) WHERE {_IS_CURRENT}"  # noqa: S608 (our own names)


def _call(function: str, arguments: int) -> bytes:
    return f"SELECT kling_pricing.{function}({_places(arguments)}) WHERE {_IS_CURRENT}".encode()


def _places(arguments: int) -> str:
    return ", ".join(["%s"] * arguments)


_IS_CURRENT = f"kling_pricing.require_version({VERSION})"

_servers: WeakSet[Server] = WeakSet()
_inherited: list[ConnectionPool[Connection]] = []
"""What a fork took along; nothing is done with them, not even closing."""


def _after_fork_in_child() -> None:
    for server in list(_servers):
        server.after_fork_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
