"""What a ledger's administrator does: make it, upgrade it, let others use it, see how safe it is."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import NamedTuple

from kling_pricing.errors import LedgerError, LedgerUnavailableError
from kling_pricing.ledger import connect, is_on_a_server, store
from kling_pricing.ledger.model import Revision


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
    _installed(url)
    return "ready: a ledger in a file is made, and upgraded, when it is first used"


def info(url: str) -> Info:
    """What there is to know of a ledger.

    Raises:
        LedgerUnavailableError: it cannot be used.
    """
    if is_on_a_server(url):
        found: Info = store("postgres", "schema").info(url)
        return found
    revision = _installed(url)
    if revision is None:
        raise LedgerUnavailableError(
            f"ledger {url}: none was begun there; check its name, or begin it with "
            "`kling-pricing budget apply FILE`"
        )
    schema = store("sqlite", "schema")
    return Info(
        {
            "ledger": url,
            "server": "none: SQLite, a file for the processes of one machine",
            "schema": str(schema.VERSION),
            "budgets": f"digest {revision.digest[:16]}",
        },
        (),
    )


def _installed(url: str) -> Revision | None:
    ledger = connect(url, clock=lambda: datetime.now(UTC))
    try:
        return ledger.installed()
    finally:
        ledger.close()
