"""Runs the checks of `verify` on one snapshot of a file while guards go on: in two processes if it is large."""

from __future__ import annotations

import sqlite3
from datetime import datetime

from kling_pricing.ledger.sqlite.codec import instant, written
from kling_pricing.ledger.sqlite.file import SQLiteFile
from kling_pricing.ledger.sqlite.verifying_processes import VerifiedSnapshot, verify_in_processes
from kling_pricing.ledger.sqlite.verifying_steps import SnapshotSteps, read_steps
from kling_pricing.ledger.verification import OnProgress, Problems, Verified

_SMALL = 100_000
"""The number of journal entries up to which two processes would take longer to start than they save."""

_KEEP = """
INSERT INTO verified (id, newest_entry, newest_observation, balances, fully_verified_at)
VALUES (1, ?1, ?2, ?3, coalesce(?4, ''))
ON CONFLICT (id) DO UPDATE SET newest_entry = ?1, newest_observation = ?2, balances = ?3,
  fully_verified_at = coalesce(?4, fully_verified_at)
WHERE newest_entry <= ?1
"""


def verify(file: SQLiteFile, *, since_last: bool, on_progress: OnProgress) -> Verified:
    """Finds the problems of a ledger.

    Args:
        file: the ledger's file.
        since_last: whether to read only the entries after the last verification, if there was one.
        on_progress: called from this thread whenever a step is done.
    """
    with file.reading_alone() as db:
        found = read_steps(db, since_last=since_last)
        verified = None
        if found.entries > _SMALL:
            db.execute("ROLLBACK")  # in a transaction, this connection would not notice commits
            verified = verify_in_processes(file.path, db, since_last=since_last, on_progress=on_progress)
            if verified is None:
                db.execute("BEGIN")
                found = read_steps(db, since_last=since_last)
        if verified is None:
            verified = _verify_here(db, found, on_progress)
    at = None if verified.fully_verified_at is None else instant(verified.fully_verified_at)
    return Verified(verified.first_entry, verified.checkpoint, at, verified.problems)


def keep(db: sqlite3.Connection, now: datetime, verified: Verified) -> None:
    """Keeps the state that was verified, unless a later state was verified meanwhile."""
    is_full = verified.fully_verified_at is None
    db.execute(_KEEP, (*verified.checkpoint, written(now) if is_full else None))


def _verify_here(db: sqlite3.Connection, found: SnapshotSteps, on_progress: OnProgress) -> VerifiedSnapshot:
    """Runs the steps in this thread, in which Ctrl-C ends them after the current one."""
    total, done = sum(step.weight for step in found.steps), 0
    on_progress("verifying", done, total)
    problems: list[Problems] = []
    for step in found.steps:
        problems.append(step.run(db))
        done += step.weight
        on_progress("verifying", done, total)
    return VerifiedSnapshot(found.checkpoint, found.first_entry, found.fully_verified_at, problems)
