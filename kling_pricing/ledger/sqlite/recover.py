"""Reports the journal entries that a ledger has lost, and opens the ledger again without them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from kling_pricing.ledger.actions import Author
from kling_pricing.ledger.administration import Loss
from kling_pricing.ledger.sqlite import action_rows, freezes, migration, schema
from kling_pricing.ledger.sqlite.codec import instant
from kling_pricing.ledger.sqlite.writers_queue import WritersQueue


def loss_of(path: Path) -> Loss:
    """Returns the journal entries that a ledger has lost.

    Raises:
        LedgerUnavailableError: there is no ledger of this schema version, or it cannot be read.
    """
    with _alone(path) as (connection, queue):
        return _loss(connection, queue)


def accept_loss(path: Path, author: Author, now: datetime) -> Loss:
    """Opens a ledger again without the journal entries that it has lost, and freezes all spending.

    A ledger that has lost nothing stays as it is.

    Raises:
        LedgerUnavailableError: there is no ledger of this schema version, or it cannot be read.
    """
    with _alone(path) as (connection, queue):
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("BEGIN IMMEDIATE")
        loss = _loss(connection, queue)
        if loss.missing:
            lost = {"newest": loss.acknowledged}, {"newest": loss.newest}
            action_rows.administer(connection, now, author, "recover", "journal", *lost)
            reason = f"{loss.missing} journal entries were lost: {author.reason}"
            freezes.freeze(connection, now, author._replace(reason=reason))
            connection.execute("DELETE FROM verified")  # it may have read the lost entries
        (newest,) = connection.execute("SELECT ifnull(max(seq), 0) FROM journal").fetchone()
        connection.execute("COMMIT")
        if loss.missing:
            queue.lower(newest)
        return loss


@contextmanager
def _alone(path: Path) -> Iterator[tuple[sqlite3.Connection, WritersQueue]]:
    """Opens a ledger's file and keeps other writers out."""
    with migration.opened(path) as connection:
        schema.ensure_current(schema.version_of(connection, path), path)
        queue = WritersQueue(path)
        queue.open()
        try:
            queue.take_turn()
            yield connection, queue
        finally:
            queue.end_turn()
            queue.close()


def _loss(connection: sqlite3.Connection, queue: WritersQueue) -> Loss:
    row = connection.execute("SELECT seq, at FROM journal ORDER BY seq DESC LIMIT 1").fetchone()
    newest, at = (0, None) if row is None else (row[0], instant(row[1]))
    damage = tuple(line for (line,) in connection.execute("PRAGMA integrity_check(5)") if line != "ok")
    return Loss(newest, at, max(queue.acknowledged(), newest), damage)
