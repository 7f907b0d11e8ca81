"""Creates and upgrades a ledger's schema, and describes its server, for the ledger's administrator."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from importlib.resources import files
from typing import Any

import psycopg
from psycopg import sql

from kling_pricing.errors import LedgerError
from kling_pricing.ledger.actions import Author, system_user, value_text
from kling_pricing.ledger.administration import Info
from kling_pricing.ledger.errors import other_version
from kling_pricing.ledger.postgres import revisions, verifying
from kling_pricing.ledger.postgres.connection import Connection
from kling_pricing.ledger.postgres.locks import limit_locks, locks_explained
from kling_pricing.ledger.postgres.server import VERSION, Server
from kling_pricing.ledger.terms import SEALED_OBSERVATION_COLUMNS

_STEPS = {number: "tables.sql" if number == 1 else f"version_{number}.sql" for number in range(1, VERSION + 1)}
"""The scripts that create each version from the previous one. Version 1 starts from an empty schema."""

_FIRST_WITH_CALENDAR = 3
"""The first schema version whose ledgers keep the windows of their budgets."""

_FUNCTIONS = (
    *("shared.sql", "rolling.sql", "administration.sql", "cap_overlays.sql", "allowances.sql", "decide.sql"),
    *("reserve.sql", "dispatch.sql", "bind.sql", "doubt.sql", "release.sql", "settle.sql", "observe.sql"),
    *(
        "settle_all.sql",
        "record.sql",
        "open_bucket.sql",
        "unpriced.sql",
        "reading.sql",
        "revisions.sql",
        "frozen.sql",
    ),
    *("observing.sql", "verified.sql", "outbox.sql", "books.sql", "corrections.sql", "access_keys.sql"),
    *("sessions.sql", "pages.sql", "grants.sql"),
)
"""The scripts to run after every migration. Functions come before the functions whose declarations use them."""

_REQUIRE_VERSION = f"""
-- Every query of a guard calls this function, so that a guard that was open during a migration notices it.
CREATE OR REPLACE FUNCTION require_version(p_version integer) RETURNS boolean
LANGUAGE plpgsql STABLE AS $$
BEGIN
  IF p_version <> {VERSION} THEN
    RAISE EXCEPTION USING ERRCODE = 'KP003', MESSAGE = 'the ledger has schema version {VERSION}',
      DETAIL = '{VERSION}';
  END IF;
  RETURN true;
END $$;
"""

_TURN = 1263555145
"""The key of the lock that lets only one administrator at a time change the schema."""


def scripts(before: int) -> Iterator[str]:
    """Yields the scripts that bring a schema from a version to the current one."""
    folder = files(__package__).joinpath("sql")
    for step in range(before + 1, VERSION + 1):
        yield folder.joinpath(_STEPS[step]).read_text(encoding="utf-8")
    yield _REQUIRE_VERSION
    for name in _FUNCTIONS:
        yield folder.joinpath(name).read_text(encoding="utf-8")
        if name == "shared.sql":
            yield _verification()


def _verification() -> str:
    """Returns the script of the function that runs one step of `verify`."""
    branches = [
        f"IF p_step = '{name}' AND (p_since > 0) = {since_last} THEN RETURN QUERY {_as_json(query)};"
        for since_last in (False, True)
        for name, query in verifying.queries(since_last=since_last).items()
    ]
    # enable_nestloop is off because the planner misjudges the sizes of the first subqueries
    return (
        "CREATE OR REPLACE FUNCTION verification(p_step text, p_since bigint, p_observed bigint)"
        " RETURNS SETOF jsonb LANGUAGE plpgsql STABLE SECURITY DEFINER"
        " SET search_path = kling_pricing, pg_temp SET timezone = 'UTC'"
        " SET work_mem = '64MB' SET enable_nestloop = off"
        f" AS $$ BEGIN {' ELS'.join(branches)} END IF; END $$;"
    )


def _as_json(query: str) -> str:
    return f"SELECT to_jsonb(result) FROM ({query}) AS result"  # noqa: S608 (constants only)


def prepare(url: str, *, create: bool, grant: str | None = None, author: Author | None = None) -> str:
    """See `administration.prepare`."""
    server, by = Server(url), author or Author(system_user(), None)

    def work(connection: Connection) -> str:
        with connection.transaction():
            connection.execute("SELECT pg_advisory_xact_lock(%s)", [_TURN])
            limit_locks(connection)
            before = _version(connection, server.name)
            if before > VERSION:
                raise other_version(server.name, before, VERSION)
            if not before and not create:
                raise LedgerError(
                    f"ledger {server.name}: the ledger does not exist yet; create it with `kling-pricing "
                    "ledger init URL`"
                )
            _upgrade(connection, before, by)
            if grant is not None and grant not in _guard_roles(connection):
                _grant(connection, grant)
                _administer(connection, by, "grant", "guards", None, {"role": grant})
        granted = "" if grant is None else f"; role {grant} may now use guards"
        return f"ledger {server.name}: {_change(before)}{granted}"

    try:
        with locks_explained(server.name):
            return server.transaction(work, checked=False)
    finally:
        server.close()


def _change(before: int) -> str:
    """Describes the change from a schema version, or from no schema (0), to the current version."""
    if before == VERSION:
        return f"up to date, schema {VERSION}"
    if not before:
        return f"created, schema {VERSION}"
    return f"upgraded from schema {before} to schema {VERSION}"


def info(url: str) -> Info:
    """See `administration.info`."""
    server = Server(url)

    def work(connection: Connection) -> tuple[Any, ...]:
        return connection.execute(
            "SELECT kling_pricing.facts(), current_setting('server_version'),"
            " (SELECT reset_val FROM pg_settings WHERE name = 'synchronous_commit'),"
            " current_setting('synchronous_standby_names'), (SELECT count(*) FROM pg_stat_replication)"
        ).fetchall()[0]

    try:
        facts, version, commit, names, standbys = server.transaction(work, checked=False)
    finally:
        server.close()
    shown = {
        "ledger": server.name,
        "server": f"PostgreSQL {version}",
        "schema": str(facts["schema_version"]),
        "budgets": f"revision {facts['revisions']}, digest {facts['digest'][:16]}"
        if facts["digest"]
        else "none yet",
        "synchronous_commit": commit,
        "synchronous_standby_names": names or "none",
        "standbys": str(standbys),
    }
    warnings = tuple(_warnings(server.name, facts["schema_version"], commit, names, standbys))
    return Info(shown, warnings, datetime.fromisoformat(facts["now"]))


def _warnings(ledger: str, version: int, commit: str, names: str, standbys: int) -> Iterator[str]:
    if version != VERSION:
        yield str(other_version(ledger, version, VERSION))
    if commit == "off":
        yield (
            "synchronous_commit is off: guards turn it on for their own sessions, but other programs may lose "
            "commits in a crash; set synchronous_commit = on"
        )
    if standbys and (not names or commit in {"off", "local"}):
        yield (
            "replication is asynchronous: a failover may lose acknowledged reservations, and their money can "
            "then be spent twice; set synchronous_standby_names, and set synchronous_commit = on"
        )


def _version(connection: Connection, name: str) -> int:
    """Returns the version of the ledger's schema, or 0 if there is no schema.

    Raises:
        LedgerError: a schema with the ledger's name exists, but it is not a ledger.
    """
    row = connection.execute(
        "SELECT to_regnamespace('kling_pricing') IS NOT NULL,"
        " to_regclass('kling_pricing.schema_version') IS NOT NULL"
    ).fetchone()
    schema, versioned = row or (False, False)
    if not versioned and schema:
        raise LedgerError(
            f"ledger {name}: the database has a schema kling_pricing that is not a ledger; drop or rename the "
            "schema, or use another database"
        )
    version_row = (
        connection.execute("SELECT version FROM kling_pricing.schema_version").fetchone() if versioned else None
    )
    return version_row[0] if version_row else 0


def _upgrade(connection: Connection, before: int, author: Author) -> None:
    if not before:
        connection.execute("CREATE SCHEMA kling_pricing")
    roles = _guard_roles(connection) if before else []
    connection.execute("SET LOCAL search_path = kling_pricing, pg_temp")
    for script in scripts(before):
        connection.execute(script.encode())
    connection.execute("DELETE FROM schema_version")
    connection.execute("INSERT INTO schema_version VALUES (%s)", [VERSION])
    if 0 < before < _FIRST_WITH_CALENDAR:
        connection.execute("SET LOCAL timezone = 'UTC'")
        connection.execute("UPDATE reservation SET seal = sealed(reservation.*)")
        columns = ", ".join(SEALED_OBSERVATION_COLUMNS)
        connection.execute(f"UPDATE observation SET seal = observation_sealed({columns})".encode())  # noqa: S608
        revisions.make_calendar(connection)
    for role in roles:
        _grant(connection, role)
    if 0 < before < VERSION:
        _administer(connection, author, "migrate", "schema", {"schema": before}, {"schema": VERSION})


def _administer(connection: Connection, author: Author, action: str, subject: str, old: Any, new: Any) -> None:
    """Writes an administrative action in the current transaction."""
    connection.execute("SET LOCAL search_path = kling_pricing, pg_temp")
    connection.execute(
        "SELECT administer(current_instant(), %s, %s, %s, %s, %s, %s)",
        [author.actor, action, subject, value_text(old), value_text(new), author.reason],
    )


def _guard_roles(connection: Connection) -> list[str]:
    """Returns the roles that may use guards. A migration grants them the new functions as well."""
    rows = connection.execute(
        "SELECT DISTINCT rolname FROM pg_proc CROSS JOIN LATERAL aclexplode(proacl) AS entry"
        " JOIN pg_roles ON pg_roles.oid = entry.grantee"
        " WHERE pg_proc.oid = 'kling_pricing.dispatch(text, text, interval)'::regprocedure"
        " AND entry.grantee <> proowner ORDER BY rolname"
    )
    return [role for (role,) in rows]


def _grant(connection: Connection, role: str) -> None:
    try:
        connection.execute("SELECT kling_pricing.grant_guard(%s)", [role])
    except psycopg.errors.UndefinedObject as error:
        statement = sql.SQL("CREATE ROLE {} LOGIN").format(sql.Identifier(role)).as_string(None)
        raise LedgerError(f"role {role} does not exist; create it first: {statement} PASSWORD '...'") from error
