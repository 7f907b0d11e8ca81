"""Runs the checks of `verify` on one snapshot of a database, one server-side call per step."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any, NamedTuple

import psycopg

from kling_pricing.errors import LedgerError
from kling_pricing.ledger import dialects, steps
from kling_pricing.ledger.postgres.connection import Connection
from kling_pricing.ledger.postgres.server import Server, rows_query
from kling_pricing.ledger.verification import (
    Checkpoint,
    OnProgress,
    Problems,
    Verified,
    document_problems,
    row_problems,
)

_WAIT_S = 5
"""How long a verification that is remembered waits for running transactions to end."""

_PAUSE_MS = 10
"""The time between two looks at the running transactions."""

_STEP_S = 3600
"""The time limit of a step, which reads whole tables."""

_IN_FORCE = {"in_force": "SELECT * FROM budget"}


class Horizon(NamedTuple):
    """The newest journal entry and the newest observation. No transaction can add earlier ones."""

    newest_entry: int
    newest_observation: int


def queries(*, since_last: bool) -> dict[str, str]:
    """Returns the query of every step and of every fact, by name."""
    found = steps.steps(dialects.POSTGRES, since_last=since_last)
    return {query.name: query.text for query in found} | _facts(since_last=since_last)


def _facts(*, since_last: bool) -> dict[str, str]:
    return {**steps.facts(dialects.POSTGRES, since_last=since_last), **_IN_FORCE}


def horizon(server: Server) -> Horizon | None:
    """Waits until all running transactions have ended, without blocking any, and returns the horizon.

    Returns:
        The horizon, or None if another session's transaction goes on for longer than a few seconds.
    """
    known = server.call("verification_horizon")
    deadline = time.monotonic() + _WAIT_S

    def have_ended(connection: Connection) -> bool:
        query = "SELECT pg_snapshot_xmin(pg_current_snapshot()) >= %s::xid8"
        (row,) = connection.execute(query, [known["running_before"]]).fetchall()
        return bool(row[0])

    while not server.transaction(have_ended):
        if time.monotonic() > deadline:
            return None
        time.sleep(_PAUSE_MS / 1000)
    return Horizon(known["newest_entry"], known["newest_observation"])


def verify(server: Server, known: Horizon | None, *, since_last: bool, on_progress: OnProgress) -> Verified:
    """Finds the problems of a ledger.

    Args:
        server: the ledger's server.
        known: the horizon up to which the ledger will remember the verification; None: it will not.
        since_last: whether to read only the entries after the last verification, if there was one.
        on_progress: called whenever a step is done.
    """

    def work(connection: Connection) -> Verified:
        connection.answer_s = max(connection.answer_s, _STEP_S)
        with connection.transaction():
            connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY")
            entry, observation = known or (None, None)
            begin = rows_query("verification_begin", 2).encode()
            (row,) = connection.execute(begin, [entry, observation]).fetchall()
            state: Mapping[str, Any] = row[0]
            last = state["last"] if since_last else None
            bounds = (0, 0) if last is None else (last["newest_entry"], last["newest_observation"])
            found = list(_found(connection, bounds, on_progress))
        checkpoint = Checkpoint(state["newest_entry"], state["newest_observation"], state["balances"])
        at = None if last is None else datetime.fromisoformat(last["fully_verified_at"])
        return Verified(bounds[0] + 1, checkpoint, at, found)

    return server.transaction(work)


def keep(server: Server, verified: Verified) -> bool:
    """Keeps the state that was verified. Returns whether this role may do so."""
    is_full = verified.fully_verified_at is None
    try:
        server.call("remember_verified", *verified.checkpoint, is_full)
    except LedgerError as error:
        if not isinstance(error.__cause__, psycopg.errors.InsufficientPrivilege):
            raise
        return False
    return True


def _found(connection: Connection, bounds: tuple[int, int], on_progress: OnProgress) -> Iterator[Problems]:
    def rows(name: str) -> Iterator[Any]:
        query = rows_query("verification", 3).encode()
        for (row,) in connection.cursor().stream(query, [name, *bounds]):
            yield row

    since_last = bounds[0] > 0
    work = steps.steps(dialects.POSTGRES, since_last=since_last)
    total = sum(step.weight for step in work) + 1
    done = 0
    for step in work:
        on_progress("verifying", done, total)
        yield Problems.of(row_problems(rows(step.name)))
        done += step.weight
    yield Problems.of(document_problems({name: rows(name) for name in _facts(since_last=since_last)}))
    on_progress("verifying", total, total)
