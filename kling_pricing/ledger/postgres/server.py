"""Connects to a ledger's PostgreSQL server and calls its functions. Each verb takes effect exactly once.

A verb is one call of one server-side function, in its own transaction and one round trip.
If the connection is lost, it is unknown whether the transaction was committed. So the call is repeated, and
every verb may safely be repeated with the same arguments. A transaction that the server rolled back, for
example because of a deadlock, is repeated too.
Every wait has a time limit: for a connection, for a response, and for a server to come back.
After a fork, the child process leaves its parent's connections alone and opens its own.
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
from weakref import WeakSet, finalize

import psycopg
from psycopg import errors
from psycopg.conninfo import make_conninfo
from psycopg.types.json import set_json_loads
from psycopg_pool import ConnectionPool, PoolClosed, PoolTimeout, TooManyRequests

from kling_pricing.errors import LedgerError
from kling_pricing.ledger.errors import other_version
from kling_pricing.ledger.postgres.codec import loads
from kling_pricing.ledger.postgres.connection import ANSWER_S, Connection
from kling_pricing.ledger.postgres.errors import explained, first_line, is_lost, older_functions, unavailable
from kling_pricing.ledger.postgres.url import read_url

VERSION = 6
"""The schema version that this release works with."""

POOL_SIZE = 10
"""The default number of connections per process."""

WAIT_S = 10
"""The default time that a verb waits for a connection, or for a lost server to come back."""

_LONG_CALL_FACTOR = 10
"""The time limit of calls that read the whole ledger, as a multiple of the time limit of a verb."""

_MAX_CONFLICTS = 50
"""The maximum number of attempts at a transaction that the server keeps rolling back."""

_UNCHANGED = r"FORMAT csv, DELIMITER E'\x1d', QUOTE E'\x1e'"
"""The COPY options that leave every character of a text unchanged: no text in a ledger has these two."""

_LINES = 250
"""The number of lines in a block."""

_Answer = TypeVar("_Answer")

_SETTINGS: dict[str, Any] = {
    "application_name": "kling-pricing",
    "connect_timeout": WAIT_S,
    "keepalives_idle": 10,
    "keepalives_interval": 3,
    "keepalives_count": 3,
    "tcp_user_timeout": 20_000,
}
"""Connection options that detect a server that vanished. Options in the URL override them."""

_REFUSALS = {"KP001", "KP002"}
"""The error codes of refusals by functions."""

_OTHER_VERSION = "KP003"
"""The error code of a call to a ledger that was migrated after it was opened."""

_CONFLICTS = (errors.SerializationFailure, errors.DeadlockDetected, errors.UniqueViolation)


class Refusal(LedgerError):  # noqa: N818 (verbs turn it into an error whose name ends in Error)
    """A function refused and rolled back its transaction. The verb turns the refusal into the ledger's error.

    Attributes:
        about: the reason for the refusal, as data.
    """

    def __init__(self, about: dict[str, Any]) -> None:
        super().__init__(f"the ledger refused: {about}")
        self.about = about


class Server:
    """One database. The first use connects to it."""

    def __init__(self, url: str) -> None:
        defaults = {"pool_size": POOL_SIZE, "wait_s": WAIT_S, "answer_s": ANSWER_S}
        parameters, limits = read_url(url, defaults)
        self.pool_size, self.wait_s, self.answer_s = (limits[name] for name in defaults)
        self._conninfo = make_conninfo(**(_SETTINGS | parameters))
        place = ", ".join(str(parameters[name]) for name in ("host", "port") if parameters.get(name))
        self.name = f"{parameters.get('dbname') or 'default database'} on {place or 'this machine'}"
        self._user = str(parameters.get("user") or "this user")
        self._mutex = RLock()
        self._pool: ConnectionPool[Connection] | None = None
        self._finalizer: finalize[..., Server] | None = None
        _servers.add(self)

    def call(self, function: str, *arguments: Any) -> Any:
        """Calls a function of the ledger's schema, commits its changes and returns its result.

        Raises:
            Refusal: the function refused, and its changes were rolled back.
            LedgerUnavailableError: the server cannot be used.
        """
        query = _call(function, len(arguments))

        def execute(connection: Connection) -> Any:
            row = connection.execute(query, arguments).fetchone()
            return None if row is None else row[0]

        return self._run(execute, checked=True, answer_s=self.answer_s)

    def rows(self, function: str, *arguments: Any) -> list[Any]:
        """Returns the rows of a function that returns many. A row with one column becomes its value.

        Raises:
            LedgerUnavailableError: the server cannot be used.
        """
        query = rows_query(function, len(arguments)).encode()

        def execute(connection: Connection) -> list[Any]:
            rows = connection.execute(query, arguments).fetchall()
            return [row[0] if len(row) == 1 else row for row in rows]

        return self.transaction(execute)

    def copied(self, function: str, *arguments: Any) -> Iterator[bytes]:
        """Yields the lines of a function in blocks, for results that do not fit into memory.

        Raises:
            LedgerUnavailableError: the server cannot be used. The lines yielded so far may be incomplete.
        """
        query = f"COPY ({rows_query(function, len(arguments))}) TO STDOUT ({_UNCHANGED})"
        try:
            with self._opened(checked=True).connection(timeout=self.wait_s) as connection:
                connection.answer_s = _LONG_CALL_FACTOR * self.answer_s
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
        """Runs a function on a connection, again after a lost connection or a conflict, and returns its result.

        Args:
            work: the function. If it runs several statements, it must begin a transaction itself.
            checked: whether the ledger must have the schema version of this release.

        Raises:
            Refusal: a function of the schema refused.
            LedgerError: the ledger cannot store a value.
            LedgerUnavailableError: the server cannot be used.
        """
        return self._run(work, checked=checked, answer_s=_LONG_CALL_FACTOR * self.answer_s)

    def _run(self, work: Callable[[Connection], _Answer], *, checked: bool, answer_s: int) -> _Answer:
        """See `transaction`. `answer_s` is the time limit for a response."""
        lost_at: float | None = None
        tries = conflicts = 0
        while True:
            tries += 1
            try:
                pool = self._opened(checked=checked)
                connection = pool.getconn(self.wait_s)
                try:  # like ConnectionPool.connection(), but without its needless COMMIT
                    connection.answer_s = answer_s
                    return work(connection)
                finally:
                    pool.putconn(connection)
            except _CONFLICTS as error:
                conflicts += 1
                if conflicts == _MAX_CONFLICTS:
                    problem = f"other transactions keep conflicting ({first_line(error)}); reduce the load"
                    raise unavailable(self.name, problem) from error
            except (PoolTimeout, TooManyRequests) as error:
                raise self._exhausted() from error
            except PoolClosed:
                continue  # another thread closed the ledger; the next attempt opens it again
            except psycopg.Error as error:
                now = time.monotonic()
                lost_at = lost_at or now
                if not is_lost(error) or now - lost_at > self.wait_s:
                    raise self._explained(error) from error
                self._drop_idle()
            # gives other transactions or a restarting server time: longer after each attempt, and random
            time.sleep(random.randrange(1, 2 + min(20 * tries, 400)) / 1000)  # noqa: S311 (not a secret)

    def close(self) -> None:
        """Closes the connections. The next use opens new ones."""
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
                try:  # otherwise the first caller makes the pool grow, and then all connections take turns
                    pool.wait(self.wait_s)
                except PoolTimeout as error:
                    raise unavailable(
                        self.name, f"connecting took more than {self.wait_s} s; check the load on the server"
                    ) from error
                except BaseException:
                    pool.close()
                    raise
                self._pool, self._finalizer = pool, finalize(self, pool.close)
            return self._pool

    def _try(self, *, checked: bool) -> None:
        """Connects once without the pool, because a pool does not report why it cannot connect."""
        with Connection.connect(self._conninfo, autocommit=True) as connection:
            connection.answer_s = self.answer_s
            if not checked:
                return
            version = _version(connection)
        if version != VERSION:
            raise other_version(self.name, version, VERSION)

    def _drop_idle(self) -> None:
        """Drops the idle connections after a lost connection.

        They are probably lost too, and checking each one would take time.
        """
        with self._mutex:
            pool = self._pool
        if pool is not None:
            pool.drain()

    def _exhausted(self) -> LedgerError:
        """Returns the error for a pool without a free connection: the server refuses, or all are in use."""
        try:
            with Connection.connect(self._conninfo):
                pass
        except psycopg.Error as error:
            return self._explained(error)
        return unavailable(
            self.name,
            f"all {self.pool_size} connections of this process have been in use for {self.wait_s} s; use fewer "
            f"threads, or add ?pool_size={2 * self.pool_size} to the URL",
        )

    def _explained(self, error: psycopg.Error) -> LedgerError:
        if error.sqlstate in _REFUSALS:
            return Refusal(loads(error.diag.message_detail or "{}"))
        if error.sqlstate == _OTHER_VERSION:
            return other_version(self.name, int(error.diag.message_detail or 0), VERSION)
        if isinstance(error, errors.UndefinedFunction):  # the ledger may have another schema version
            with suppress(psycopg.Error), Connection.connect(self._conninfo, autocommit=True) as connection:
                version = _version(connection)
                if version != VERSION:
                    return other_version(self.name, version, VERSION)
                return older_functions(self.name, first_line(error))
        return explained(error, self.name, self._user)


def _configured(answer_s: int, connection: Connection) -> None:
    """Configures a new connection: numbers stay exact, and an acknowledged commit is on the server's disk.

    The queries in the functions use an index for any values, so their plans are generic.
    """
    connection.answer_s = answer_s
    set_json_loads(loads, connection)
    connection.execute(
        "SELECT set_config('plan_cache_mode', 'force_generic_plan', false),"
        " CASE current_setting('synchronous_commit')"
        " WHEN 'off' THEN set_config('synchronous_commit', 'on', false) END"
    )


def _version(connection: Connection) -> int:
    """Returns the schema version of a ledger of any version."""
    ((facts,),) = connection.execute("SELECT kling_pricing.facts()").fetchall()
    return int(facts["schema_version"])


def rows_query(function: str, arguments: int) -> str:
    """Returns the query for the rows of a function. It fails if the ledger was migrated since it was opened."""
    return f"SELECT * FROM kling_pricing.{function}({_places(arguments)}) WHERE {_IS_CURRENT}"  # noqa: S608 (constants only)


def _call(function: str, arguments: int) -> bytes:
    return f"SELECT kling_pricing.{function}({_places(arguments)}) WHERE {_IS_CURRENT}".encode()


def _places(arguments: int) -> str:
    return ", ".join(["%s"] * arguments)


_IS_CURRENT = f"kling_pricing.require_version({VERSION})"

_servers: WeakSet[Server] = WeakSet()
_inherited: list[ConnectionPool[Connection]] = []
"""The connection pools of parent processes. They are never used or closed."""


def _after_fork_in_child() -> None:
    for server in list(_servers):
        server.after_fork_in_child()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
