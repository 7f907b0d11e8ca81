"""Limits the waits for locks of changes that keep every guard waiting meanwhile: new budgets and migrations."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from psycopg import errors

from kling_pricing.errors import LedgerUnavailableError
from kling_pricing.ledger.postgres.connection import Connection

LOCK_WAIT_S = 5
"""How long such a change waits for each lock. Every verb of every guard waits behind it."""


def limit_locks(connection: Connection) -> None:
    """Limits the waits for locks until the transaction ends."""
    connection.execute(f"SET LOCAL lock_timeout = '{LOCK_WAIT_S}s'".encode())


@contextmanager
def locks_explained(name: str) -> Iterator[None]:
    """Explains the error of a change to a ledger that waited too long for a lock.

    Raises:
        LedgerUnavailableError: another session holds the lock. Nothing was changed.
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
