"""Empties a ledger in PostgreSQL between two tests, which takes a fraction of the time that a new ledger takes.

A ledger is emptied only if its schema is as it was when it was created: the same columns, functions, triggers,
constraints and privileges. Otherwise, and for the first test, it is created anew.
"""

from typing import Any

import psycopg
import psycopg.types.json
from psycopg import sql

from kling_pricing.ledger.postgres.schema import prepare

_IN_SCHEMA = "relnamespace = 'kling_pricing'::regnamespace"
_RELATIONS = f"SELECT oid FROM pg_class WHERE {_IN_SCHEMA}"
_SCHEMA = f"""
SELECT md5(string_agg(line, E'\\n' ORDER BY line)) FROM (
  SELECT namespace::text FROM pg_namespace AS namespace WHERE nspname = 'kling_pricing'
  UNION ALL SELECT (oid, relname, relkind, relacl, relowner, reloptions, relrowsecurity)::text
    FROM pg_class WHERE {_IN_SCHEMA}
  UNION ALL SELECT pg_attribute::text FROM pg_attribute WHERE attrelid IN ({_RELATIONS})
  UNION ALL SELECT pg_attrdef::text FROM pg_attrdef WHERE adrelid IN ({_RELATIONS})
  UNION ALL SELECT pg_index::text FROM pg_index WHERE indrelid IN ({_RELATIONS})
  UNION ALL SELECT pg_trigger::text FROM pg_trigger WHERE tgrelid IN ({_RELATIONS})
  UNION ALL SELECT pg_rewrite::text FROM pg_rewrite WHERE ev_class IN ({_RELATIONS})
  UNION ALL SELECT pg_constraint::text FROM pg_constraint WHERE connamespace = 'kling_pricing'::regnamespace
  UNION ALL SELECT pg_proc::text FROM pg_proc WHERE pronamespace = 'kling_pricing'::regnamespace
) AS part (line)
"""
_TABLES = f"SELECT relname FROM pg_class WHERE {_IN_SCHEMA} AND relkind = 'r' ORDER BY relname"
_SEQUENCES = f"SELECT relname FROM pg_class WHERE {_IN_SCHEMA} AND relkind = 'S' ORDER BY relname"


class EmptyLedger:
    """A ledger in a database, which can be emptied again and again.

    Args:
        url: the URL of the database, as its owner.
    """

    def __init__(self, url: str) -> None:
        self._url = url
        self._schema: str | None = None
        self._emptying = ""

    def make(self) -> None:
        """Makes the ledger what `prepare` makes of a database without one."""
        with psycopg.connect(self._url, autocommit=True) as connection:
            if self._schema is not None and self._schema == _schema(connection):
                connection.execute(self._emptying.encode())
                return
            connection.execute("DROP SCHEMA IF EXISTS kling_pricing CASCADE")
        prepare(self._url, create=True)
        with psycopg.connect(self._url, autocommit=True) as connection:
            self._schema = _schema(connection)
            self._emptying = _emptying(connection)


def _schema(connection: psycopg.Connection[Any]) -> str | None:
    """Returns the digest of the schema; None: there is no schema."""
    exists = connection.execute("SELECT to_regnamespace('kling_pricing') IS NOT NULL").fetchone()
    if exists != (True,):
        return None
    (digest,) = connection.execute(_SCHEMA.encode()).fetchone() or (None,)
    return digest


def _emptying(connection: psycopg.Connection[Any]) -> str:
    """Returns the statements that give a used ledger the rows and sequences that it has now.

    Tables that are append-only have triggers, which do not fire in a session that replicates.
    """
    statements: list[sql.Composable] = [sql.SQL("SET session_replication_role = replica")]
    for (name,) in connection.execute(_TABLES.encode()).fetchall():
        table = sql.Identifier("kling_pricing", name)
        statements.append(sql.SQL("DELETE FROM {}").format(table))
        rows = connection.execute(sql.SQL("SELECT to_jsonb(kept) FROM {} AS kept").format(table)).fetchall()
        for (row,) in rows:
            values = sql.Literal(psycopg.types.json.Jsonb(row))
            statements.append(
                sql.SQL(
                    "INSERT INTO {0} OVERRIDING SYSTEM VALUE"
                    " SELECT * FROM jsonb_populate_record(NULL::{0}, {1})"
                ).format(table, values)
            )
    for (name,) in connection.execute(_SEQUENCES.encode()).fetchall():
        sequence = sql.Identifier("kling_pricing", name)
        state = connection.execute(sql.SQL("SELECT last_value, is_called FROM {}").format(sequence)).fetchone()
        place = [sql.Literal(sequence.as_string(connection)), *map(sql.Literal, state or ())]
        statements.append(sql.SQL("SELECT setval({}, {}, {})").format(*place))
    return sql.SQL("; ").join(statements).as_string(connection)
