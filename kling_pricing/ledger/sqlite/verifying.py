"""Runs the checks of `verify` on one snapshot of a file, with two connections, while guards go on."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed, wait
from contextlib import ExitStack
from datetime import datetime
from functools import partial
from queue import SimpleQueue
from typing import NamedTuple

from kling_pricing.ledger import dialects, steps
from kling_pricing.ledger.sqlite import book_seals, seals
from kling_pricing.ledger.sqlite.codec import instant, written
from kling_pricing.ledger.sqlite.file import SQLiteFile
from kling_pricing.ledger.verification import (
    Checkpoint,
    OnProgress,
    Problems,
    Verified,
    document_problems,
    row_problems,
)

_SMALL = 20_000
"""The number of journal entries up to which threads would take longer than they save: each step is short."""

_CACHE_KB = 64_000
"""The memory that each connection uses for pages and for sorting."""

_MAX_TRIES = 100
"""The maximum number of attempts to begin two transactions between two commits of other processes."""

_INTERRUPTION_MS = 50
"""The time between two interruptions of queries that go on after Ctrl-C."""

_LARGE = {"reservation": 20, "journal": 3, "reservation_line": 2, "observation": 2}
"""The tables that grow with every job, with the part of the time that `PRAGMA integrity_check` takes."""

_CHECKPOINT = """
SELECT (SELECT ifnull(max(seq), 0) FROM journal), (SELECT ifnull(max(id), 0) FROM observation),
  (SELECT json_group_object(id, json_array(held, spent)) FROM bucket)
"""
_LAST = "SELECT newest_entry, newest_observation, fully_verified_at FROM verified"
_KEEP = """
INSERT INTO verified (id, newest_entry, newest_observation, balances, fully_verified_at)
VALUES (1, ?1, ?2, ?3, coalesce(?4, ''))
ON CONFLICT (id) DO UPDATE SET newest_entry = ?1, newest_observation = ?2, balances = ?3,
  fully_verified_at = coalesce(?4, fully_verified_at)
WHERE newest_entry <= ?1
"""


class _Step(NamedTuple):
    """A part of a verification: its name, its part of the time, and a function that yields problems."""

    name: str
    weight: int
    find: Callable[[sqlite3.Connection], Iterable[str]]


def verify(file: SQLiteFile, *, since_last: bool, on_progress: OnProgress) -> Verified:
    """Finds the problems of a ledger.

    Args:
        file: the ledger's file.
        since_last: whether to read only the entries after the last verification, if there was one.
        on_progress: called from this thread whenever a step is done.
    """
    with ExitStack() as stack:
        connections = _on_one_snapshot(file, stack)
        for connection in connections:
            connection.execute(f"PRAGMA cache_size = -{_CACHE_KB}")
            connection.row_factory = sqlite3.Row
        checkpoint = Checkpoint(*connections[0].execute(_CHECKPOINT).fetchone())
        last = connections[0].execute(_LAST).fetchone() if since_last else None
        since, observed, fully_verified_at = (0, 0, None) if last is None else last
        parameters = {"since": since, "observed": observed}
        work = _steps(connections, parameters, since_last=last is not None)
        is_small = checkpoint.newest_entry <= _SMALL
        problems = (_run_here if is_small else _run)(connections, work, on_progress)
    at = None if fully_verified_at is None else instant(fully_verified_at)
    return Verified(since + 1, checkpoint, at, problems)


def keep(db: sqlite3.Connection, now: datetime, verified: Verified) -> None:
    """Keeps the state that was verified, unless a later state was verified meanwhile."""
    is_full = verified.fully_verified_at is None
    db.execute(_KEEP, (*verified.checkpoint, written(now) if is_full else None))


def _on_one_snapshot(file: SQLiteFile, stack: ExitStack) -> list[sqlite3.Connection]:
    """Opens connections that see the same snapshot: two, or only one for a small or very busy file."""
    first = stack.enter_context(file.reading_alone())
    if _newest(first) <= _SMALL:
        return [first]
    second = stack.enter_context(file.reading_alone())
    for _ in range(_MAX_TRIES):
        for connection in (first, second):
            connection.execute("ROLLBACK")
        (before,) = second.execute("PRAGMA data_version").fetchone()
        for connection in (first, second):
            connection.execute("BEGIN")
            _newest(connection)  # a transaction gets its snapshot when it first reads
        (after,) = second.execute("PRAGMA data_version").fetchone()
        if before == after:  # nobody has committed between the two
            return [first, second]
    return [first]


def _newest(db: sqlite3.Connection) -> int:
    (newest,) = db.execute("SELECT ifnull(max(seq), 0) FROM journal").fetchone()
    return int(newest)


def _steps(
    connections: Sequence[sqlite3.Connection], parameters: Mapping[str, int], *, since_last: bool
) -> list[_Step]:
    names = connections[0].execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")
    tables = [name for (name,) in names]
    halved = len(connections) > 1 and not since_last
    facts = steps.facts(dialects.SQLITE, since_last=since_last)
    return [
        *(
            _Step(query.name, query.weight, partial(_differences, query=query.text, parameters=parameters))
            for query in steps.steps(dialects.SQLITE, since_last=since_last, halved=halved)
        ),
        _Step("documents", 2, partial(_documents, queries=facts, parameters=parameters)),
        *(
            _Step(f"seals of {table}s", 10, partial(_seals, table=table, parameters=parameters))
            for table in seals.SEALED
        ),
        _Step("calendar", 0, lambda db: row_problems(seals.calendar_differences(db))),
        *(
            [_Step("seals of the books", 10, lambda db: row_problems(book_seals.differences(db)))]
            if not since_last
            else []
        ),
        *(
            _Step(f"indexes of {table}", _LARGE.get(table, 0), partial(_damage, table=table))
            for table in tables
            if not (since_last and table in _LARGE)
        ),
    ]


def _differences(db: sqlite3.Connection, query: str, parameters: Mapping[str, int]) -> Iterator[str]:
    return row_problems(db.execute(query, parameters))


def _documents(
    db: sqlite3.Connection, queries: Mapping[str, str], parameters: Mapping[str, int]
) -> Iterator[str]:
    return document_problems({name: db.execute(query, parameters) for name, query in queries.items()})


def _seals(db: sqlite3.Connection, table: str, parameters: Mapping[str, int]) -> Iterator[str]:
    return row_problems(seals.differences(db, table, parameters))


def _damage(db: sqlite3.Connection, table: str) -> Iterator[str]:
    """Compares a table with its indexes."""
    return (line for (line,) in db.execute(f"PRAGMA integrity_check({table})") if line != "ok")


def _run_here(
    connections: Sequence[sqlite3.Connection], work: Sequence[_Step], on_progress: OnProgress
) -> list[Problems]:
    """Runs the steps of a small file in this thread, in which Ctrl-C ends them after the current one."""
    total, done = sum(step.weight for step in work), 0
    on_progress("verifying", done, total)
    problems = []
    for step in work:
        problems.append(Problems.of(step.find(connections[0])))
        done += step.weight
        on_progress("verifying", done, total)
    return problems


def _run(
    connections: Sequence[sqlite3.Connection], work: Sequence[_Step], on_progress: OnProgress
) -> list[Problems]:
    """Runs steps in one thread per connection, so that Ctrl-C can interrupt them; the longest come first."""
    free: SimpleQueue[sqlite3.Connection] = SimpleQueue()
    for connection in connections:
        free.put(connection)

    def run(step: _Step) -> Problems:
        connection = free.get()
        try:
            return Problems.of(step.find(connection))
        finally:
            free.put(connection)

    total = sum(step.weight for step in work)
    with ThreadPoolExecutor(len(connections)) as pool:
        futures: dict[Future[Problems], _Step] = {}
        try:
            for step in sorted(work, key=lambda step: -step.weight):
                futures[pool.submit(run, step)] = step
            done = 0
            on_progress("verifying", done, total)
            for future in as_completed(futures):
                future.result()
                done += futures[future].weight
                on_progress("verifying", done, total)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            running = [future for future in futures if not future.cancelled()]
            while wait(running, timeout=_INTERRUPTION_MS / 1000).not_done:
                for connection in connections:
                    connection.interrupt()
            raise
    found = {step.name: future.result() for future, step in futures.items()}
    return [found[step.name] for step in work]
