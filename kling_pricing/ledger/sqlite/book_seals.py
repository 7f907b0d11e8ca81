"""The seals of the books, which depend on every row, so that `verify` finds a row that was changed or removed.

Each update of the books adds a seal. It covers the rows of the update and the seal of the same books before it.
An update also adds an administrative action for each new statement.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Iterator, Mapping
from datetime import datetime
from itertools import chain
from typing import Any, NamedTuple

from kling_pricing.ledger.actions import Author
from kling_pricing.ledger.books import FACT_SEPARATOR, BooksUpdate, ClosedMonth, Known, RememberedStatement
from kling_pricing.ledger.sqlite import action_rows, book_rows
from kling_pricing.ledger.sqlite.seals import difference
from kling_pricing.money import format_decimal, from_nanos

_NOTHING = Known(0, 0, "")
_STATEMENT = ", ".join(RememberedStatement._fields)
_CLOSED = ", ".join(ClosedMonth._fields)
_SEALS = "SELECT number, facts, statements, closed, seal FROM book_seal WHERE books = ? ORDER BY number"
_NAMES = (
    "SELECT books FROM book_seal UNION SELECT books FROM book_fact"
    " UNION SELECT books FROM book_statement UNION SELECT books FROM closed_month ORDER BY books"
)


class Sealed(NamedTuple):
    """How much of the books of an account is sealed, and the seal."""

    known: Known
    seal: str


_UNSEALED = Sealed(_NOTHING, "")


def add(db: sqlite3.Connection, now: datetime, update: BooksUpdate) -> None:
    """Adds an update and its seal; see `Ledger.add_to_books`."""
    book_rows.add(db, now, update)
    name = update.name
    last = [_UNSEALED, *_kept(db, name)][-1]
    present = _present(db, name)
    db.execute(
        "INSERT INTO book_seal (books, facts, statements, closed, seal) VALUES (?, ?, ?, ?, ?)",
        (name, *present, _seal(db, name, last, present)),
    )
    for statement in update.statements:
        _log(db, now, statement)


def note_settlement(
    db: sqlite3.Connection, now: datetime, name: str, value: Mapping[str, Any], author: Author
) -> None:
    """See `Ledger.note_settlement`."""
    action_rows.administer(db, now, author, "settle_statement", name, None, dict(value))


def _log(db: sqlite3.Connection, now: datetime, statement: RememberedStatement) -> None:
    """Writes the administrative action of a new statement."""
    sums = db.execute(
        "SELECT currency, count(*), sum(amount) FROM book_fact WHERE statement = ? GROUP BY 1 ORDER BY 1",
        (statement.number,),
    ).fetchall()
    replaced = db.execute("SELECT name FROM book_statement WHERE number = ?", (statement.replaces,)).fetchone()
    value = {
        "books": statement.books,
        "digest": statement.digest,
        "since": statement.since.isoformat(),
        "until": statement.until.isoformat(),
        "replaces": replaced and replaced[0],
        "rows": sum(rows for _, rows, _ in sums),
        "sums": {currency: format_decimal(from_nanos(amount)) for currency, _, amount in sums},
    }
    author = Author(statement.actor, statement.reason or None)
    action_rows.administer(db, now, author, "remember", statement.name, None, value)


def differences(db: sqlite3.Connection) -> Iterator[dict[str, Any]]:
    """Yields the differences between the seals and the books, with the columns of `steps.COLUMNS`."""
    for (name,) in db.execute(_NAMES).fetchall():
        last = _UNSEALED
        for kept in _kept(db, name):
            derived = _seal(db, name, last, kept.known)
            if kept.seal != derived:
                yield difference(f"the books of {name}", "seal", kept.seal, derived, "their rows give")
            last = kept
        present = _present(db, name)
        if present != last.known:
            yield difference(
                f"the books of {name}",
                "newest rows",
                _text(last.known),
                _text(present),
                "the tables contain",
            )


def _kept(db: sqlite3.Connection, name: str) -> Iterator[Sealed]:
    for _, facts, statements, closed, seal in db.execute(_SEALS, (name,)).fetchall():
        yield Sealed(Known(facts, statements, closed), seal)


def _present(db: sqlite3.Connection, name: str) -> Known:
    """Returns how much of an account's own rows there is."""
    (newest,) = db.execute(
        "SELECT ifnull(max(number), 0) FROM book_statement WHERE books = ?", (name,)
    ).fetchone()
    return book_rows.known(db, name)._replace(statements=newest)


def _seal(db: sqlite3.Connection, name: str, before: Sealed, until: Known) -> str:
    digest = hashlib.sha256(FACT_SEPARATOR.join(map(str, (before.seal, *until))).encode())
    statements = db.execute(
        f"SELECT {_STATEMENT} FROM book_statement"  # noqa: S608 (constants only)
        " WHERE books = ? AND number > ? AND number <= ? ORDER BY number",
        (name, before.known.statements, until.statements),
    )
    months = db.execute(
        f"SELECT {_CLOSED} FROM closed_month"  # noqa: S608 (constants only)
        " WHERE books = ? AND month > ? AND month <= ? ORDER BY month",
        (name, before.known.closed, until.closed),
    )
    for row in chain(statements, months):
        digest.update(
            (FACT_SEPARATOR.join("" if value is None else str(value) for value in row) + "\n").encode()
        )
    for (line,) in book_rows.lines(db, name, before.known.facts, until.facts):
        digest.update(line.encode())
    return digest.hexdigest()[:32]


def _text(known: Known) -> str:
    return f"fact {known.facts}, statement {known.statements}, month {known.closed or 'none'}"
