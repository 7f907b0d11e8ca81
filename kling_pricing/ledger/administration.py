"""Administrative tasks: creates, migrates and inspects ledgers, and grants access to them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import NamedTuple

from kling_pricing.budgets import budgets_from_document
from kling_pricing.errors import LedgerError
from kling_pricing.ledger import connect, file_of, is_on_a_server, store
from kling_pricing.ledger.actions import author
from kling_pricing.ledger.calendars import ends_soon
from kling_pricing.ledger.errors import other_version


class Info(NamedTuple):
    """Facts about a ledger.

    Attributes:
        facts: facts by name.
        warnings: risks of losing acknowledged data or of being unable to use the ledger, each with its remedy.
        now: the instant on the ledger's clock; None: a ledger in a file uses the clock of each process.
    """

    facts: Mapping[str, str]
    warnings: tuple[str, ...]
    now: datetime | None = None


class Loss(NamedTuple):
    """The journal entries that a ledger in a file has lost.

    Attributes:
        newest: the number of the newest journal entry in the ledger.
        newest_at: the instant of that entry; None: the journal is empty.
        acknowledged: the number of the newest journal entry that was acknowledged.
        damage: damage of the file that SQLite reports.
    """

    newest: int
    newest_at: datetime | None
    acknowledged: int
    damage: tuple[str, ...]

    @property
    def missing(self) -> int:
        """The number of journal entries that are missing."""
        return self.acknowledged - self.newest


def recover(url: str, *, accept_loss: bool = False, actor: str | None = None, reason: str = "") -> Loss:
    """Reports the journal entries that a ledger in a file has lost, and can open it again without them.

    Args:
        url: the ledger's URL.
        accept_loss: whether to open the ledger again. All spending is then frozen until `thaw`.
        actor: the person who accepts the loss; by default, the system's user.
        reason: the reason for accepting it.

    Raises:
        LedgerError: the ledger is on a server.
        LedgerUnavailableError: the ledger cannot be used.
    """
    if is_on_a_server(url):
        raise LedgerError(
            "only a ledger in a file can be recovered with this command; after a failover that lost data, see "
            "`Failures and data loss` in docs/guarding.md"
        )
    recovering = store("sqlite", "recover")
    loss: Loss = (
        recovering.accept_loss(file_of(url), author(actor, reason), datetime.now(UTC))
        if accept_loss
        else recovering.loss_of(file_of(url))
    )
    return loss


def prepare(
    url: str, *, create: bool, grant: str | None = None, actor: str | None = None, reason: str | None = None
) -> str:
    """Creates or migrates a ledger. A repeated or simultaneous call changes nothing more.

    Args:
        url: the ledger's URL. On a server, the role in the URL owns the schema or will own it.
        create: whether to create the ledger if it does not exist.
        grant: a role that may use guards from then on, and do nothing else.
        actor: the person or program that creates or migrates the ledger; by default, the system's user.
        reason: the reason.

    Returns:
        A sentence that describes the result.

    Raises:
        LedgerError: another database or schema is in the ledger's place, there is no ledger to migrate, or the
            role does not exist.
        LedgerUnavailableError: the ledger cannot be used.
    """
    if is_on_a_server(url):
        result: str = store("postgres", "schema").prepare(
            url, create=create, grant=grant, author=author(actor, reason)
        )
        return result
    if grant is not None:
        raise LedgerError(
            "a ledger in a file has no roles; to grant access, let the user write to the file and its folder"
        )
    path = file_of(url)
    file = store("sqlite", "file").SQLiteFile(path, lambda: datetime.now(UTC))
    if create and not file.is_begun():
        return f"ledger {path}: ready; the first use creates the file"
    migration = store("sqlite", "migration")
    version, copy = migration.migrate(path, datetime.now(UTC), author(actor, reason))
    present = migration.schema.VERSION
    if copy is None:
        return f"ledger {path}: up to date, schema {present}"
    return (
        f"ledger {path}: upgraded from schema {version} to schema {present}; {copy.name} in the same folder "
        "is a copy of the old ledger"
    )


def info(url: str) -> Info:
    """Describes a ledger of any schema version.

    Raises:
        LedgerUnavailableError: the ledger cannot be used.
    """
    described = _described(url)
    if described.warnings:
        return described
    return described._replace(warnings=_calendar_warnings(url))


def _calendar_warnings(url: str) -> tuple[str, ...]:
    now = datetime.now(UTC)
    ledger = connect(url, clock=lambda: now)
    try:
        revision = ledger.installed()
        if revision is None:
            return ()
        return tuple(ends_soon(ledger.calendar_ends(), budgets_from_document(revision.document), now))
    finally:
        ledger.close()


def _described(url: str) -> Info:
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
            "server": "none (a SQLite file, for processes on one machine)",
            "schema": str(version),
            "budgets": "none yet" if digest is None else f"digest {digest[:16]}",
        },
        () if version == present else (str(other_version(str(path), version, present, migrate=url)),),
    )
