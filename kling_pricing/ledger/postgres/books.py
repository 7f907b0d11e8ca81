"""Reads and updates the books of a provider."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from datetime import datetime
from itertools import islice
from typing import Any, NamedTuple, TypeVar

from kling_pricing.ledger.books import Books, BooksUpdate, ClosedMonth, Fact, Known, RememberedStatement
from kling_pricing.ledger.postgres.connection import Connection
from kling_pricing.ledger.postgres.server import Server

_FACTS = 2000
"""The number of facts in a call."""

_Row = TypeVar("_Row", bound=NamedTuple)


def read(books: Mapping[str, Any]) -> Books:
    """Returns the books in a result of the function `books`."""
    return Books(
        Known._make(books["known"]),
        tuple(_of(RememberedStatement, row) for row in books["statements"]),
        tuple(_of(ClosedMonth, row) for row in books["closed"]),
    )


def add(server: Server, call: str, update: BooksUpdate) -> None:
    """See `Ledger.add_to_books`. A repeated call takes effect once."""

    def work(connection: Connection) -> None:
        with connection.transaction():
            statements = _json([statement._asdict() for statement in update.statements])
            begun = connection.execute(
                "SELECT kling_pricing.begin_books(%s, %s, %s, %s)",
                [call, update.provider, [*update.known], statements],
            ).fetchone()
            if begun is None or not begun[0]:
                return
            for block in _blocks(update.facts):
                connection.execute(
                    "SELECT kling_pricing.add_facts(%s, %s, %s)",
                    [call, update.provider, _json([fact._asdict() for fact in block])],
                )
            if update.closed is not None:
                closed = _json(update.closed._asdict())
                connection.execute("SELECT kling_pricing.close_month(%s, %s)", [call, closed])

    server.transaction(work)


def _blocks(facts: Iterable[Fact]) -> Iterator[list[Fact]]:
    rest = iter(facts)
    while block := list(islice(rest, _FACTS)):
        yield block


def _json(value: Any) -> str:
    return json.dumps(value, default=datetime.isoformat)


def _of(kind: type[_Row], row: Mapping[str, Any]) -> _Row:
    """Returns a row as an object; instants become instants in UTC."""
    values = [
        datetime.fromisoformat(row[name]) if name in _INSTANTS and row[name] else row[name]
        for name in kind._fields
    ]
    return kind(*values)


_INSTANTS = {"since", "until", "remembered_at", "closed_at"}
