"""Limits the waits for locks by new budgets and migrations, during which every guard waits too."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from psycopg import errors

from kling_pricing.errors import LedgerUnavailableError
from kling_pricing.ledger.postgres.connection import Connection

LOCK_WAIT_S = 5
"""The seconds that such a change waits for each lock. All verbs of all guards wait behind the change."""


def limit_locks(connection: Connection) -> None:
    """Limits each wait for a lock in the current transaction."""
    connection.execute(f"SET LOCAL lock_timeout = '{LOCK_WAIT_S}s'".encode())


@contextmanager
def locks_explained(name: str) -> Iterator[None]:
    """Explains the error if a change to a ledger waits too long for a lock.

    Raises:
        LedgerUnavailableError: another session holds the lock; nothing was changed.
    """
    try:
        yield
    except LedgerUnavailableError as error:
        if not isinstance(error.__cause__, errors.LockNotAvailable):
            raise
        raise LedgerUnavailableError(
            f"ledger {name}: another session has held a lock on the ledger for {LOCK_WAIT_S} s, probably "
            "in a transaction that was never ended; nothing was changed, and guards can continue; look "
            "for an old xact_start in the view pg_stat_activity, end that session's transaction, and "
            "repeat the command"
        ) from error
