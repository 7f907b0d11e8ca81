"""Digests of rows that never change, with which `verify` finds an edit of any of their columns.

Python computes them, and SQLite calls no function for it, because SQLite hides a Ctrl-C in such a function.
"""

from __future__ import annotations

import hashlib
import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from kling_pricing.ledger.terms import SEALED_COLUMNS, SEALED_IF_GIVEN, SEALED_OBSERVATION_COLUMNS

_text = json.JSONEncoder(separators=(",", ":")).encode

_COLUMNS = ", ".join(SEALED_COLUMNS)
_RESERVATION = (
    f"iif({SEALED_IF_GIVEN} IS NULL, json_array({_COLUMNS}), json_array({_COLUMNS}, {SEALED_IF_GIVEN}))"
)

SEALED = {
    "reservation": (
        _RESERVATION,
        "'reservation ' || id",
        "id IN (SELECT reservation FROM journal WHERE seq > :since)",
    ),
    "observation": (
        f"json_array({', '.join(SEALED_OBSERVATION_COLUMNS)})",
        "'observation ' || id || ' of task ' || task_id",
        "id > :observed",
    ),
}
"""The tables with a column `seal`: the sealed values, the subject of a message, and the newer rows, as SQL."""


def seal(*values: str | int | None) -> str:
    """Returns the digest of values."""
    return _digest(_text(values))


def reservation_seal(values: Sequence[str | int | None], account: str | None) -> str:
    """Returns the digest of the values of `SEALED_COLUMNS`, and of the account if it is not None."""
    return seal(*values) if account is None else seal(*values, account)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:32]


def calendar_digest(db: sqlite3.Connection) -> str:
    """Returns the digest of the calendar, which the table `calendar_digest` keeps."""
    rows = db.execute(
        "SELECT schedule || window_start || window_end || zone_data FROM calendar"
        " ORDER BY schedule, window_start"
    )
    return _digest("".join(row for (row,) in rows))


def seal_all(db: sqlite3.Connection) -> None:
    """Seals the rows of a ledger that was written before rows had seals."""
    for table, (values, _, _) in SEALED.items():
        rows = db.execute(f"SELECT rowid, {values} FROM {table}").fetchall()  # noqa: S608
        db.executemany(
            f"UPDATE {table} SET seal = ? WHERE rowid = ?",  # noqa: S608 (constants only)
            [(seal(*json.loads(sealed)), rowid) for rowid, sealed in rows],
        )


def differences(db: sqlite3.Connection, table: str, parameters: Mapping[str, int]) -> Iterator[dict[str, Any]]:
    """Yields the differences between the seals and the rows of a table, with the columns of `steps.COLUMNS`.

    Args:
        db: the connection.
        table: a table in `SEALED`.
        parameters: the newest journal entry and the newest observation that are not read, or 0.
    """
    sealed, subject, newer = SEALED[table]
    where = f" WHERE {newer}" if any(parameters.values()) else ""
    query = f"SELECT {subject}, seal, {sealed} FROM {table}{where}"  # noqa: S608
    for name, kept, values in db.execute(query, parameters):
        if kept != _digest(values):  # SQLite writes texts that are not plain ASCII differently
            derived = seal(*json.loads(values))
            if kept != derived:
                yield difference(name, "seal", kept, derived, "the columns that never change give")


def calendar_differences(db: sqlite3.Connection) -> Iterator[dict[str, Any]]:
    """Yields the difference between the calendar and its digest, with the columns of `steps.COLUMNS`."""
    recorded, is_empty = db.execute(
        "SELECT (SELECT digest FROM calendar_digest), NOT EXISTS (SELECT 1 FROM calendar)"
    ).fetchone()
    computed = calendar_digest(db)
    if computed != recorded and (recorded is not None or not is_empty):
        yield difference("the calendar", "digest", recorded, computed, "its rows give")


def difference(subject: str, what: str, kept: str | None, derived: str | None, source: str) -> dict[str, Any]:
    """Returns a problem, with the columns of `steps.COLUMNS`."""
    return {
        "subject": subject,
        "what": what,
        "kept": kept or "",
        "derived": derived,
        "source": source,
        "is_amount": 0,
    }
