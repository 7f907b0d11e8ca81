"""What a ledger's administrator does: make it, upgrade it, let others use it, see how safe it is."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import NamedTuple

from kling_pricing.errors import LedgerError
from kling_pricing.ledger import file_of, is_on_a_server, store
from kling_pricing.ledger.errors import other_version


class Info(NamedTuple):
    """What an administrator wants to know of a ledger.

    Attributes:
        facts: what -> as it is.
        warnings: what could be lost although it was acknowledged, and how to prevent it.
    """

    facts: Mapping[str, str]
    warnings: tuple[str, ...]


def prepare(url: str, *, create: bool, grant: str | None = None) -> str:
    """Makes or upgrades a ledger; of no effect on one that is up to date, also when two do it at once.

    Args:
        url: of the ledger; a server's role owns the schema, or will.
        create: whether there need not be a ledger yet.
        grant: a role that may use guards from then on, and do nothing else.

    Returns:
        What was done.

    Raises:
        LedgerError: there is something else in its place, or no ledger to upgrade, or no such role.
        LedgerUnavailableError: the ledger cannot be used.
    """
    if is_on_a_server(url):
        done: str = store("postgres", "schema").prepare(url, create=create, grant=grant)
        return done
    if grant is not None:
        raise LedgerError("a file has no roles; whoever may write it and its folder may use it")
    path = file_of(url)
    file = store("sqlite", "file").SQLiteFile(path, lambda: datetime.now(UTC))
    if create and not file.is_begun():
        return f"ledger {path}: ready; the file is made when it is first used"
    migration = store("sqlite", "migration")
    version, copy = migration.migrate(path, datetime.now(UTC))
    present = migration.schema.VERSION
    if copy is None:
        return f"ledger {path}: up to date, schema {present}"
    return (
        f"ledger {path}: upgraded from {version}, schema {present}; {copy.name} beside it is a copy of the "
        "ledger as it was"
    )


def info(url: str) -> Info:
    """What there is to know of a ledger.

    Raises:
        LedgerUnavailableError: it cannot be used.
    """
    if is_on_a_server(url):
        on_server: Info = store("postgres", "schema").info(url)
        return on_server
    path = file_of(url)
    migration = store("sqlite", "migration")
    version, digest = migration.describe(path)
    present = migration.schema.VERSION
    return Info(
        {
            "ledger": url,
            "server": "none: SQLite, a file for the processes of one machine",
            "schema": str(version),
            "budgets": "none yet" if digest is None else f"digest {digest[:16]}",
        },
        () if version == present else (str(other_version(str(path), version, present, migrate=url)),),
    )
