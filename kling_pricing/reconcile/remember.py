"""Remembers the given statements: adds the new facts of a reconciliation to the books of the ledgers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from kling_pricing.errors import StatementError
from kling_pricing.ledger import Ledger
from kling_pricing.ledger.actions import Author
from kling_pricing.ledger.books import BookFact, Books, BooksUpdate, ClosedMonth, RememberedStatement
from kling_pricing.reconcile.memory import Conflict
from kling_pricing.reconcile.workspace import Workspace

_FIELDS = ", ".join(f'"{name}"' for name in BookFact._fields)
_INSTANTS = [
    place for place, name in enumerate(BookFact._fields) if name in {"at", "billed_at", "submitted_at"}
]


class Remembered(NamedTuple):
    """The result of remembering.

    Attributes:
        statements: the number of statement files that are in the books now, and were not before.
        rows: the number of their rows that were added.
        uses: the number of tasks whose expected cost was added or changed.
    """

    statements: int
    rows: int
    uses: int


class NewFacts:
    """The new facts of a ledger, which can be read several times."""

    def __init__(self, workspace: Workspace, ledger: int) -> None:
        self._workspace = workspace
        self._ledger = ledger

    def __iter__(self) -> Iterator[BookFact]:
        for row in self._workspace.rows(
            f"SELECT {_FIELDS} FROM fact WHERE is_new AND ledger = ? ORDER BY seq", [self._ledger]
        ):
            values: list[Any] = [*row]
            for place in _INSTANTS:
                values[place] = values[place] and values[place].replace(tzinfo=UTC)
            yield BookFact._make(values)


def refuse_conflicts(conflicts: Sequence[Conflict]) -> None:
    """Refuses to book statements that contradict remembered ones.

    Raises:
        StatementError: a remembered statement charges other amounts for the same tasks.
    """
    if conflicts:
        raise StatementError(
            "; ".join(map(conflict_text, conflicts)) + ". Nothing was booked. If the file corrects the earlier "
            f"one, pass `--replaces {conflicts[0].digest[:12]}`; if not, correct the file"
        )


def conflict_text(conflict: Conflict) -> str:
    """Returns what a remembered file contradicts, as a clause."""
    tasks = "task" if conflict.tasks == 1 else "tasks"
    return (
        f"the books contain {conflict.name} ({conflict.digest[:12]}), which charges other amounts for "
        f"{conflict.tasks} {tasks}, such as {conflict.task_id}"
    )


def remember(
    workspace: Workspace,
    ledgers: Mapping[int, Ledger],
    books: Sequence[Books],
    author: Author,
    close: ClosedMonth | None = None,
) -> Remembered:
    """Adds the new facts and statements to the books of each ledger. Each ledger is one transaction.

    A repeated call adds nothing.

    Args:
        workspace: the database with the new facts.
        ledgers: the ledgers to update, by their number.
        books: the books of every ledger, as they were when they were loaded.
        author: who remembers, and why.
        close: a month to close after that; None: none.

    Raises:
        LedgerError: somebody else changed the books in the meantime. Ledgers that were updated before stay so.
    """
    added = Remembered(
        workspace.one("SELECT count(DISTINCT digest) FROM past_statement WHERE is_new"),
        workspace.one("SELECT count(*) FROM fact WHERE is_new AND kind = 'row'"),
        workspace.one("SELECT count(*) FROM fact WHERE is_new AND kind = 'use'"),
    )
    for place, ledger in ledgers.items():
        statements = tuple(_new_statements(workspace, place, books[place].name, author))
        facts = workspace.one("SELECT count(*) FROM fact WHERE is_new AND ledger = ?", [place])
        if statements or facts or close is not None:
            ledger.add_to_books(
                BooksUpdate(
                    books[place].name, books[place].known, statements, NewFacts(workspace, place), close
                )
            )
        workspace.run("UPDATE fact SET is_new = FALSE WHERE ledger = ?", [place])
        workspace.run("UPDATE past_statement SET is_new = FALSE WHERE ledger = ?", [place])
    return added


def _new_statements(
    workspace: Workspace, ledger: int, books: str, author: Author
) -> Iterator[RememberedStatement]:
    for number, name, digest, since, until, is_answers, remembered_at, replaces, replaced_in in workspace.all(
        "SELECT number, name, digest, since, until, is_answers, remembered_at, replaces, replaced_in"
        " FROM past_statement WHERE is_new AND ledger = ? ORDER BY number",
        [ledger],
    ):
        yield RememberedStatement(
            *(number, books, name, digest, _utc(since), _utc(until), is_answers, _utc(remembered_at)),
            *(author.actor, author.reason or "", replaces, replaced_in),
        )


def _utc(at: datetime) -> datetime:
    return at.replace(tzinfo=UTC)
