"""Reads the accounts and the projects, and reads and updates the books of accounts."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from itertools import islice
from typing import Any
from uuid import uuid4

from kling_pricing.ledger.actions import Author
from kling_pricing.ledger.books import BookFact, Books, BooksUpdate, ClosedMonth, Known, RememberedStatement
from kling_pricing.ledger.postgres.connection import Connection
from kling_pricing.ledger.postgres.refused_calls import error_for
from kling_pricing.ledger.postgres.server import Refusal, Server
from kling_pricing.ledger.provider_accounts import ProviderAccount

_FACTS = 2000
"""The number of facts in a call."""


class PostgresBooks:
    """The part of `PostgresLedger` for accounts, projects and books; see `Ledger` for its verbs."""

    _server: Server
    _call: Callable[..., Any]

    def accounts(self) -> list[ProviderAccount]:
        """See `Ledger.accounts`."""
        named = {ProviderAccount(*row) for row in self._server.rows("accounts")}
        return sorted(named | {*map(ProviderAccount.of_books, self._server.rows("book_names"))})

    def projects(self) -> list[str]:
        """See `Ledger.projects`."""
        return self._server.rows("projects")

    def books(self, name: str) -> Books:
        """See `Ledger.books`."""
        return _read(self._call("books", name))

    def facts(self, name: str) -> Iterator[bytes]:
        """See `Ledger.facts`."""
        return self._server.copied("facts_of", name)

    def add_to_books(self, update: BooksUpdate) -> None:
        """See `Ledger.add_to_books`."""
        try:
            _add(self._server, uuid4().hex, update)
        except Refusal as refusal:
            raise error_for(refusal.about) from None

    def note_settlement(self, name: str, value: Mapping[str, Any], author: Author) -> None:
        """See `Ledger.note_settlement`."""
        self._call("note_settlement", name, _json(value), author.actor, author.reason)


def _read(books: Mapping[str, Any]) -> Books:
    """Returns the books in a result of the function `books`."""
    return Books(
        books["name"],
        Known._make(books["known"]),
        tuple(RememberedStatement._make(_fields(RememberedStatement, row)) for row in books["statements"]),
        tuple(ClosedMonth._make(_fields(ClosedMonth, row)) for row in books["closed"]),
    )


def _add(server: Server, call: str, update: BooksUpdate) -> None:
    """See `Ledger.add_to_books`. A repeated call takes effect once."""

    def work(connection: Connection) -> None:
        with connection.transaction():
            statements = _json([statement._asdict() for statement in update.statements])
            begun = connection.execute(
                "SELECT kling_pricing.begin_books(%s, %s, %s, %s)",
                [call, update.name, _json(update.known), statements],
            ).fetchone()
            if begun is None or not begun[0]:
                return
            for block in _blocks(update.facts):
                connection.execute(
                    "SELECT kling_pricing.add_facts(%s, %s, %s)",
                    [call, update.name, _json([fact._asdict() for fact in block])],
                )
            if update.closed is not None:
                closed = _json(update.closed._asdict())
                connection.execute("SELECT kling_pricing.close_month(%s, %s)", [call, closed])
            connection.execute("SELECT kling_pricing.seal_books(%s)", [update.name])

    server.transaction(work)


def _blocks(facts: Iterable[BookFact]) -> Iterator[list[BookFact]]:
    rest = iter(facts)
    while block := list(islice(rest, _FACTS)):
        yield block


def _json(value: Any) -> str:
    return json.dumps(value, default=datetime.isoformat)


def _fields(kind: type[RememberedStatement | ClosedMonth], row: Mapping[str, Any]) -> Iterator[Any]:
    """Yields the values of a row in the order of an object's fields; instants become instants in UTC."""
    for name in kind._fields:
        yield datetime.fromisoformat(row[name]) if name in _INSTANTS else row[name]


_INSTANTS = {"since", "until", "remembered_at", "closed_at"}
