"""The books: statements that were remembered, and the facts from which a month's accounts are derived. No I/O.

Every account at a provider has books of its own, because an invoice belongs to an account.
`ProviderAccount.books` is their name.

Facts are only added. Each one belongs to an accounting period, a month, which it gets once, when it is learnt:
the month in which it happened, or the first open month if that one is closed already. A dispute and its
resolution belong to the month of the row that they are about, or to the first open month if that is later. So
the books of a closed month never change, and what is learnt later appears in a later month.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from typing import Literal, NamedTuple, TypeAlias

from kling_pricing.ledger.sent_lines import SENT_SEPARATOR

FactKind: TypeAlias = Literal["use", "row", "dispute", "resolution", "write_off"]
"""What a fact states about a task. `BookFact` has the meanings."""


class BookFact(NamedTuple):
    """A fact about a task. Amounts are whole billionths.

    Attributes:
        kind: `use`: what the task should cost, replacing earlier facts of this kind; `row`: a row of a
            statement; `dispute`: a part of a row that is disputed with the provider; `resolution`: the end of a
            dispute; `write_off`: the task will not be charged any more.
        period: the accounting period, such as `2026-11`.
        at: the instant at which it happened: the task was sent or charged, its cost became known, and so on.
        task: the provider's id for the task; or `reservation:` and an id, as long as the task is unknown.
        project: the project that the task belongs to; empty: unknown.
        currency: the currency of `amount`.
        amount: of a use, what the task should cost; of a row, its charge; of a dispute, the disputed part.
        native: of a row, the charge in the statement's own unit.
        unit: of a row, that unit.
        statement: of a row, the number of its statement.
        row: of a row, its number in the file.
        row_id: of a row, the provider's id for it.
        billed_at: of a row, when the task was charged, according to the row.
        submitted_at: of a row, when the task was submitted, according to the row.
        subject: the number of the fact that this one is about: of a dispute, a row; of a resolution, a dispute.
        actor: of a decision, the person who made it.
        reason: of a decision, the reason for it.
    """

    kind: FactKind
    period: str
    at: datetime
    task: str
    project: str = ""
    currency: str = ""
    amount: int = 0
    native: int | None = None
    unit: str | None = None
    statement: int | None = None
    row: int | None = None
    row_id: str | None = None
    billed_at: datetime | None = None
    submitted_at: datetime | None = None
    subject: int | None = None
    actor: str | None = None
    reason: str | None = None


FACT = ("seq", *BookFact._fields)
"""The fields of a line from `Ledger.facts`, as text: the number of the fact, and its attributes.

A field is empty if the attribute is None. Instants are in UTC without a zone.
"""

FACT_SEPARATOR = SENT_SEPARATOR
"""Separates the fields of such a line."""


class RememberedStatement(NamedTuple):
    """A statement file whose charges are in the books.

    Attributes:
        number: its number in the ledger.
        books: the name of the books of the account for which the provider issued it.
        name: the name of the file.
        digest: SHA-256 of its bytes, in hexadecimal.
        since: start of the period for which it was read, UTC.
        until: end of that period (exclusive), UTC.
        is_answers: whether its rows are responses about tasks, of which one counts, and not charges.
        remembered_at: when it was remembered, UTC.
        actor: the person who did so.
        reason: the reason.
        replaces: the number of the statement that it corrects; None: it corrects none.
        replaced_in: the accounting period in which it takes the place of that statement.
    """

    number: int
    books: str
    name: str
    digest: str
    since: datetime
    until: datetime
    is_answers: bool
    remembered_at: datetime
    actor: str
    reason: str
    replaces: int | None
    replaced_in: str | None


class ClosedMonth(NamedTuple):
    """A month whose books are closed.

    Attributes:
        month: the month, such as `2026-11`.
        books: the name of the books.
        digest: digest of the month's journal.
        closed_at: when it was closed, UTC.
        actor: the person who closed it.
        reason: the reason.
    """

    month: str
    books: str
    digest: str
    closed_at: datetime
    actor: str
    reason: str


class Known(NamedTuple):
    """How much the books of an account contain.

    Attributes:
        facts: the number of the newest fact; 0: there is none.
        statements: the number of the newest statement in the ledger, of any account; 0: there is none.
        closed: the newest closed month; empty: there is none.
    """

    facts: int
    statements: int
    closed: str


class BooksUpdate(NamedTuple):
    """What is added to the books of an account at once, or not at all.

    Attributes:
        name: the name of the books.
        known: how much the books contained when the update was prepared.
        statements: new statements. Their numbers follow on from `known`, and the facts refer to them.
        facts: new facts, which can be read several times.
        closed: a month that is closed; None: none.
    """

    name: str
    known: Known
    statements: tuple[RememberedStatement, ...] = ()
    facts: Iterable[BookFact] = ()
    closed: ClosedMonth | None = None


class Books(NamedTuple):
    """The books of an account in a ledger, without the facts.

    Attributes:
        name: their name.
        known: how much they contain.
        statements: the statements, in the order in which they were remembered.
        closed: the closed months, in order.
    """

    name: str
    known: Known
    statements: tuple[RememberedStatement, ...]
    closed: tuple[ClosedMonth, ...]
