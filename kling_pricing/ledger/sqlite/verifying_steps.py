"""The steps of `verify` on one snapshot of a file, for one connection. Each step finds problems of one kind."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import NamedTuple

from kling_pricing.ledger import dialects, steps
from kling_pricing.ledger.sqlite import book_seals, seals
from kling_pricing.ledger.verification import Checkpoint, Problems, document_problems, row_problems

_CACHE_KB = 64_000
"""The memory that a connection uses for pages and for sorting."""

_LARGE = {"reservation": 20, "journal": 3, "reservation_line": 2, "observation": 2}
"""The tables that grow with every job, with the part of the time that `PRAGMA integrity_check` takes."""

_CHECKPOINT = """
SELECT (SELECT ifnull(max(seq), 0) FROM journal), (SELECT ifnull(max(id), 0) FROM observation),
  (SELECT json_group_object(id, json_array(held, spent)) FROM bucket)
"""
_LAST = "SELECT newest_entry, newest_observation, fully_verified_at FROM verified"


class VerifyingStep(NamedTuple):
    """A part of a verification: its name, its part of the time, and a function that yields problems."""

    name: str
    weight: int
    find: Callable[[sqlite3.Connection], Iterable[str]]

    def run(self, db: sqlite3.Connection) -> Problems:
        """Returns the problems that a connection shows."""
        return Problems.of(self.find(db))


class SnapshotSteps(NamedTuple):
    """The steps that verify a snapshot.

    Attributes:
        checkpoint: the state of the ledger.
        first_entry: the number of the first journal entry that the steps read.
        fully_verified_at: the instant of the last verification of everything, as the ledger writes it; None if
            the steps read everything.
        steps: the steps.
    """

    checkpoint: Checkpoint
    first_entry: int
    fully_verified_at: str | None
    steps: tuple[VerifyingStep, ...]

    @property
    def entries(self) -> int:
        """The number of journal entries that the steps read."""
        return self.checkpoint.newest_entry + 1 - self.first_entry


def read_steps(db: sqlite3.Connection, *, since_last: bool, halved: bool = False) -> SnapshotSteps:
    """Returns the steps for the snapshot of a connection in a transaction.

    Args:
        db: the connection.
        since_last: whether to read only the entries after the last verification, if there was one.
        halved: whether several connections share the steps, so that each of the longest is divided into two.
    """
    db.execute(f"PRAGMA cache_size = -{_CACHE_KB}")
    db.row_factory = sqlite3.Row
    last = db.execute(_LAST).fetchone() if since_last else None
    since, observed, fully_verified_at = (0, 0, None) if last is None else last
    is_partial = last is not None
    return SnapshotSteps(
        Checkpoint(*db.execute(_CHECKPOINT).fetchone()),
        since + 1,
        fully_verified_at,
        tuple(
            _steps(
                db,
                {"since": since, "observed": observed},
                since_last=is_partial,
                halved=halved and not is_partial,
            )
        ),
    )


def _steps(
    db: sqlite3.Connection, parameters: Mapping[str, int], *, since_last: bool, halved: bool
) -> Iterator[VerifyingStep]:
    for query in steps.steps(dialects.SQLITE, since_last=since_last, halved=halved):
        yield VerifyingStep(
            query.name, query.weight, partial(_differences, query=query.text, parameters=parameters)
        )
    facts = steps.facts(dialects.SQLITE, since_last=since_last)
    yield VerifyingStep("documents", 2, partial(_documents, queries=facts, parameters=parameters))
    for table in seals.SEALED:
        yield VerifyingStep(f"seals of {table}s", 10, partial(_seals, table=table, parameters=parameters))
    yield VerifyingStep("calendar", 0, lambda db: row_problems(seals.calendar_differences(db)))
    if not since_last:
        yield VerifyingStep("seals of the books", 10, lambda db: row_problems(book_seals.differences(db)))
    names = db.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")
    for (table,) in names.fetchall():
        if not (since_last and table in _LARGE):
            yield VerifyingStep(f"indexes of {table}", _LARGE.get(table, 0), partial(_damage, table=table))


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
