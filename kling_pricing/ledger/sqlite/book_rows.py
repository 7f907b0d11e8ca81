"""The rows of the books, inside a transaction."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from datetime import datetime

from kling_pricing.ledger import errors
from kling_pricing.ledger.books import (
    FACT,
    FACT_SEPARATOR,
    BookFact,
    Books,
    BooksUpdate,
    ClosedMonth,
    Known,
    RememberedStatement,
)
from kling_pricing.ledger.sqlite.codec import instant, written

_LINES = 1000
"""The number of lines in a block."""

_FIELDS = ", ".join(f'"{name}"' for name in BookFact._fields)
_ADD = f"INSERT INTO book_fact (books, {_FIELDS}) VALUES ({', '.join('?' * (1 + len(BookFact._fields)))})"  # noqa: S608
_INSTANTS = {"at", "billed_at", "submitted_at"}
# Instants are stored with their zone, which is always UTC, and printf writes null as an empty text.
_SHOWN = ", ".join(f"substr({name}, 1, 26)" if name in _INSTANTS else f'"{name}"' for name in FACT)
_SELECT = (
    f"SELECT printf('{FACT_SEPARATOR.join('%s' for _ in FACT)}\n', {_SHOWN})"  # noqa: S608
    " FROM book_fact WHERE books = ?"
)
_STATEMENT_COLUMNS = ", ".join(RememberedStatement._fields)
_CLOSED_COLUMNS = ", ".join(ClosedMonth._fields)


def books(db: sqlite3.Connection, name: str) -> Books:
    """See `Ledger.books`."""
    statements = db.execute(
        f"SELECT {_STATEMENT_COLUMNS} FROM book_statement WHERE books = ? ORDER BY number",  # noqa: S608
        (name,),
    )
    closed = db.execute(
        f"SELECT {_CLOSED_COLUMNS} FROM closed_month WHERE books = ? ORDER BY month",  # noqa: S608
        (name,),
    )
    return Books(
        name,
        known(db, name),
        tuple(_statement(row) for row in statements.fetchall()),
        tuple(_closed(row) for row in closed.fetchall()),
    )


def facts(db: sqlite3.Connection, name: str) -> Iterator[bytes]:
    """See `Ledger.facts`."""
    db.text_factory = bytes
    rows = db.execute(f"{_SELECT} ORDER BY seq", (name,))
    while block := rows.fetchmany(_LINES):
        yield b"".join([line for (line,) in block])


def lines(db: sqlite3.Connection, name: str, after: int, until: int) -> Iterator[tuple[str]]:
    """Yields some facts of an account as lines of text, each a row of one column.

    Args:
        db: the connection.
        name: the name of its books.
        after: the number of the fact before the first one.
        until: the number of the last fact.
    """
    return iter(db.execute(f"{_SELECT} AND seq > ? AND seq <= ? ORDER BY seq", (name, after, until)))


def add(db: sqlite3.Connection, _now: datetime, update: BooksUpdate) -> None:
    """See `Ledger.add_to_books`."""
    if known(db, update.name) != update.known:
        raise errors.books_changed(update.name)
    if any(each.replaced_in and each.replaced_in <= update.known.closed for each in update.statements):
        raise errors.books_changed(update.name)
    places = ", ".join("?" * len(RememberedStatement._fields))
    db.executemany(
        f"INSERT INTO book_statement ({_STATEMENT_COLUMNS}) VALUES ({places})",  # noqa: S608
        ([_text(value) for value in statement] for statement in update.statements),
    )
    for fact in update.facts:
        if fact.period <= update.known.closed:
            raise errors.books_changed(update.name)
        db.execute(_ADD, (update.name, *map(_text, fact)))
    if update.closed is not None:
        db.execute(
            f"INSERT INTO closed_month ({_CLOSED_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?)",  # noqa: S608
            [_text(value) for value in update.closed],
        )


def known(db: sqlite3.Connection, name: str) -> Known:
    """Returns how much the books of an account contain."""
    (newest,) = db.execute("SELECT ifnull(max(seq), 0) FROM book_fact WHERE books = ?", (name,)).fetchone()
    (statement,) = db.execute("SELECT ifnull(max(number), 0) FROM book_statement").fetchone()
    (closed,) = db.execute(
        "SELECT ifnull(max(month), '') FROM closed_month WHERE books = ?", (name,)
    ).fetchone()
    return Known(newest, statement, closed)


def _text(value: object) -> object:
    return written(value) if isinstance(value, datetime) else value


def _statement(row: tuple[object, ...]) -> RememberedStatement:
    statement = RememberedStatement._make(row)
    return statement._replace(
        since=instant(statement.since),  # type: ignore[arg-type]
        until=instant(statement.until),  # type: ignore[arg-type]
        is_answers=bool(statement.is_answers),
        remembered_at=instant(statement.remembered_at),  # type: ignore[arg-type]
    )


def _closed(row: tuple[object, ...]) -> ClosedMonth:
    closed = ClosedMonth._make(row)
    return closed._replace(closed_at=instant(closed.closed_at))  # type: ignore[arg-type]
