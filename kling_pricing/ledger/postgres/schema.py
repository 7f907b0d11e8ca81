"""Making and upgrading a ledger's schema, and what there is to know of its server: for its administrator."""

from __future__ import annotations

from importlib.resources import files
from typing import Any, NamedTuple

import psycopg
from psycopg import sql

from kling_pricing.errors import LedgerError, LedgerUnavailableError
from kling_pricing.ledger.postgres.server import VERSION, Server, wrong_version

_STEPS = ("tables.sql",)
"""What makes version 1 of nothing, version 2 of version 1, and so on."""

_FUNCTIONS = (
    *("shared.sql", "reserve.sql", "dispatch.sql", "bind.sql", "doubt.sql", "release.sql", "settle.sql"),
    *("observe.sql", "record.sql", "open_bucket.sql", "reading.sql", "revisions.sql", "grants.sql"),
)
"""What is made anew by each upgrade; functions used in the declaration of others come first."""

_TURN = 1263555145
"""Of the lock that lets one administrator at a time change the schema."""

_Connection = psycopg.Connection[tuple[Any, ...]]


class Info(NamedTuple):
    """What an administrator wants to know of a ledger.

    Attributes:
        name: database and host.
        server: version of PostgreSQL.
        schema_version: of the ledger.
        revisions: how often budgets were installed.
        digest: of those in force; None: there are none yet.
        synchronous_commit: the server's setting.
        synchronous_standby_names: the server's setting; empty: commits wait for no standby.
        standbys: how many are connected.
    """

    name: str
    server: str
    schema_version: int
    revisions: int
    digest: str | None
    synchronous_commit: str
    synchronous_standby_names: str
    standbys: int

    @property
    def warnings(self) -> list[str]:
        """What could be lost although it was acknowledged."""
        found = []
        if self.synchronous_commit == "off":
            found.append(
                "synchronous_commit is off: guards turn it on for themselves, but what others commit may be lost "
                "in a crash"
            )
        if self.standbys and (not self.synchronous_standby_names or self.synchronous_commit in {"off", "local"}):
            found.append(
                "replication is asynchronous: a failover may lose reservations that were acknowledged, and what "
                "they hold can then be spent twice; set synchronous_standby_names, and synchronous_commit = on"
            )
        return found


def prepare(url: str, *, create: bool, grant: str | None = None) -> int:
    """Makes or upgrades the schema of a ledger; of no effect on one that is up to date.

    Args:
        url: of the database; its role owns the schema, or will.
        create: whether there need not be a ledger yet.
        grant: a role that may use guards from then on.

    Returns:
        The version that there was before; 0: none.

    Raises:
        LedgerError: there is a schema of that name that is no ledger, or a newer one, or no such role.
        LedgerUnavailableError: the server cannot be used.
    """
    server = Server(url)

    def work(connection: _Connection) -> int:
        with connection.transaction():
            connection.execute("SELECT pg_advisory_xact_lock(%s)", [_TURN])
            before = _version(connection, server.name)
            if before > VERSION:
                raise LedgerUnavailableError(wrong_version(server.name, before))
            if not before and not create:
                raise LedgerError(
                    f"ledger {server.name}: there is none yet; make it with `kling-pricing ledger init URL`"
                )
            if before < VERSION:
                _upgrade(connection, before)
            if grant is not None:
                _grant(connection, grant)
            return before

    try:
        return server.transaction(work, checked=False)
    finally:
        server.close()


def info(url: str) -> Info:
    """What there is to know of a ledger and its server.

    Raises:
        LedgerUnavailableError: the server cannot be used, or has no ledger.
    """
    server = Server(url)

    def work(connection: _Connection) -> Info:
        row = connection.execute(
            "SELECT kling_pricing.facts(), current_setting('server_version'),"
            " (SELECT setting FROM pg_settings WHERE name = 'synchronous_standby_names'),"
            " (SELECT reset_val FROM pg_settings WHERE name = 'synchronous_commit'),"
            " (SELECT count(*) FROM pg_stat_replication)"
        ).fetchone()
        assert row is not None  # noqa: S101 (for the type checker)
        facts, version, names, commit, standbys = row
        return Info(
            server.name,
            version,
            facts["schema_version"],
            facts["revisions"],
            facts["digest"],
            commit,
            names,
            standbys,
        )

    try:
        return server.transaction(work, checked=False)
    finally:
        server.close()


def _version(connection: _Connection, name: str) -> int:
    """The version of the schema that is there; 0: none.

    Raises:
        LedgerError: there is a schema of that name, and it is no ledger.
    """
    row = connection.execute(
        "SELECT to_regnamespace('kling_pricing') IS NOT NULL, to_regclass('kling_pricing.schema_version') IS NOT NULL"
    ).fetchone()
    schema, versioned = row or (False, False)
    if not versioned and schema:
        raise LedgerError(
            f"ledger {name}: it has a schema kling_pricing that is no ledger; drop or rename that, or use another "
            "database"
        )
    found = connection.execute("SELECT version FROM kling_pricing.schema_version").fetchone() if versioned else None
    return found[0] if found else 0


def _upgrade(connection: _Connection, before: int) -> None:
    if not before:
        connection.execute("CREATE SCHEMA kling_pricing")
    connection.execute("SET LOCAL search_path = kling_pricing, pg_temp")
    for name in (*_STEPS[before:], *_FUNCTIONS):
        text = files(__package__).joinpath("sql", name).read_text(encoding="utf-8")
        connection.execute(text.encode())
    connection.execute("DELETE FROM schema_version")
    connection.execute("INSERT INTO schema_version VALUES (%s)", [VERSION])


def _grant(connection: _Connection, role: str) -> None:
    try:
        connection.execute("SELECT kling_pricing.grant_guard(%s)", [role])
    except psycopg.errors.UndefinedObject as error:
        made = sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(role)).as_string(None)
        raise LedgerError(f"there is no role {role}; make it first: {made} PASSWORD '...'") from error


