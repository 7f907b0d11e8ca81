"""The tasks of a ledger's administrator: making, migrating, granting and inspecting a ledger."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import NamedTuple

from kling_pricing.errors import LedgerError
from kling_pricing.ledger import file_of, is_on_a_server, store
from kling_pricing.ledger.errors import other_version


class Info(NamedTuple):
    """The facts of a ledger.

    Attributes:
        facts: name -> value.
        warnings: each risk of losing acknowledged data, or of not being able to use the ledger, and its remedy.
    """

    facts: Mapping[str, str]
    warnings: tuple[str, ...]


def prepare(url: str, *, create: bool, grant: str | None = None) -> str:
    """Makes or migrates a ledger. Repeating it changes nothing, even if two processes do it at once.

    Args:
        url: the ledger's URL; on a server, its role owns the schema, or will own it.
        create: whether to make the ledger if there is none.
        grant: a role that may use guards from then on, and do nothing else.

    Returns:
        A sentence that says what was done.

    Raises:
        LedgerError: something else is in its place, there is no ledger to migrate, or the role does not exist.
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
    """Describes a ledger, whichever schema version it has.

    Raises:
        LedgerUnavailableError: the ledger cannot be used.
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
