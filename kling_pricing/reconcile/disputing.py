"""Disputes: charges that are not accepted, and are neither settled nor paid until they are resolved."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

from kling_pricing.errors import KlingPricingError, LedgerError
from kling_pricing.ledger import Ledger
from kling_pricing.ledger.actions import Author, author
from kling_pricing.ledger.books import BookFact, Books, BooksUpdate
from kling_pricing.money import format_decimal, from_nanos, ledger_amount, nanos_up
from kling_pricing.reconcile.bookkeeping import (
    DISPUTABLE_ROWS,
    ROW_IDENTITY,
    ROWS,
    first_open_month,
    opened_books,
)
from kling_pricing.reconcile.chosen_account import accounts_in
from kling_pricing.reconcile.dispute_marks import OPEN_DISPUTES, RESOLVED
from kling_pricing.reconcile.workspace import Workspace
from kling_pricing.windows import utc_clock

_IN_FORCE = """
    fact.kind = 'row' AND NOT EXISTS (
      FROM past_statement WHERE past_statement.ledger = fact.ledger AND replaces = fact.statement
    )
"""

DisputeAlso: TypeAlias = Literal["not_in_ledger"]
"""A category whose charges are disputed only on request."""


class Dispute(NamedTuple):
    """A disputed part of a charge.

    Attributes:
        number: the number of the dispute in its ledger.
        ledger: the name of the ledger.
        task_id: the provider's id for the task.
        row: the row that is disputed, as `file:row`.
        amount: the disputed amount.
        currency: its currency.
        opened_at: when the dispute was opened, UTC.
        actor: the person who opened it.
        reason: the reason.
        resolved_at: when it was resolved, UTC; None: it is open.
        resolution: why it was resolved; None: it is open.
        is_withdrawn: whether a corrected statement no longer has the row, so that nothing is left to dispute.
        withdrawn_at: when that statement was remembered, UTC; None: the row is not withdrawn.
        withdrawn_by: the name of that statement; None: the row is not withdrawn.
    """

    number: int
    ledger: str
    task_id: str
    row: str
    amount: Decimal
    currency: str
    opened_at: datetime
    actor: str
    reason: str
    resolved_at: datetime | None
    resolution: str | None
    is_withdrawn: bool
    withdrawn_at: datetime | None = None
    withdrawn_by: str | None = None

    @property
    def is_open(self) -> bool:
        """Whether the dispute still stops a payment."""
        return self.resolved_at is None and not self.is_withdrawn


def list_disputes(ledgers: str | Sequence[str], *, provider: str, account: str | None = None) -> list[Dispute]:
    """Returns the disputes about an account with its provider, the oldest first.

    Args:
        ledgers: URL of a ledger, or of several.
        provider: the provider.
        account: the account at the provider; by default, the only one that the ledgers have.

    Raises:
        KlingPricingError: the account is unknown, or the ledgers have several accounts and none was chosen.
    """
    with opened_books(ledgers, provider, account) as (workspace, opened, _):
        return _disputes(workspace, opened)


def open_dispute(
    ledgers: str | Sequence[str],
    task_id: str,
    *,
    provider: str,
    account: str | None = None,
    amount: Decimal | int | str | None = None,
    actor: str | None = None,
    reason: str,
    clock: Callable[[], datetime] | None = None,
) -> Dispute:
    """Disputes part of a task's charge. The task is not settled until the dispute is resolved.

    Args:
        ledgers: URL of a ledger, or of several.
        task_id: the provider's id for the task.
        provider: the provider.
        account: the account at the provider; by default, the only one that the ledgers have.
        amount: the disputed amount; by default, the part of the charges that exceeds the expected amount.
        actor: the person who opens the dispute; by default, the system's user.
        reason: the reason.
        clock: returns the current instant, with a time zone.

    Raises:
        LedgerError: no remembered statement charges the task, or no row of it charges the amount.
    """
    who = author(actor, reason)
    now = utc_clock(clock)()
    part = None if amount is None else nanos_up(ledger_amount(amount))
    with opened_books(ledgers, provider, account) as (workspace, opened, books):
        place, fact = _dispute(workspace, books, task_id, part, who, now)
        opened[place].add_to_books(BooksUpdate(books[place].name, books[place].known, facts=[fact]))
    with opened_books(ledgers, provider, account) as (workspace, opened, _):
        return next(each for each in reversed(_disputes(workspace, opened)) if each.task_id == task_id)


def dispute_overcharges(
    workspace: Workspace,
    ledgers: Sequence[Ledger],
    books: Sequence[Books],
    who: Author,
    now: datetime,
    also: Collection[DisputeAlso],
) -> int:
    """Disputes what is charged too much on the lines that are exceptions. Returns the number of new disputes.

    A charge of a task that the ledger does not have is not disputed, because the task may still be recorded.
    A repeated charge is one too many for any task.

    Args:
        workspace: the database with the lines, and with the books as they are now.
        ledgers: the ledgers.
        books: the books of each ledger.
        who: who opens the disputes, and why.
        now: the current instant.
        also: further categories to dispute.

    Raises:
        KlingPricingError: a category cannot be disputed.
    """
    if unknown := sorted(set(also) - {*get_args(DisputeAlso)}):
        raise KlingPricingError(
            f"cannot dispute lines that are {unknown[0]}; only `not_in_ledger` lines can be disputed as well"
        )
    categories = ", ".join(map(repr, ("billed_twice", *also)))
    tasks = workspace.all(
        f"""
        SELECT DISTINCT charge.task_id
        FROM line JOIN charge ON charge.rowid = line.place
        LEFT JOIN reserved ON reserved.rowid = line.reservation
        WHERE is_exception AND line.billed > 0 AND category <> 'invalid_row'
          AND line.whole > ifnull(reserved.due, 0)
          AND (line.reservation IS NOT NULL OR category IN ({categories}))
          AND charge.task_id NOT IN (SELECT task FROM ({OPEN_DISPUTES}))
        ORDER BY charge.task_id
        """
    )
    facts: dict[int, list[BookFact]] = {}
    for (task_id,) in tasks:
        place, fact = _dispute(workspace, books, task_id, None, who, now)
        facts.setdefault(place, []).append(fact)
    for place, added in facts.items():
        ledgers[place].add_to_books(BooksUpdate(books[place].name, books[place].known, facts=added))
    return sum(map(len, facts.values()))


def needless_disputes(workspace: Workspace, ledgers: Sequence[Ledger]) -> list[Dispute]:
    """Returns the open disputes of tasks whose charge is now as expected, or explained and no exception.

    Args:
        workspace: the database with the lines and the books.
        ledgers: the ledgers.
    """
    tasks = {
        task_id
        for (task_id,) in workspace.all(
            """
            SELECT reserved.task_id FROM line JOIN reserved ON reserved.rowid = line.reservation
            WHERE NOT is_exception AND line.whole <= reserved.due
            """
        )
    }
    return [each for each in _disputes(workspace, ledgers) if each.is_open and each.task_id in tasks]


def resolve_dispute(
    ledgers: str | Sequence[str],
    number: int,
    *,
    provider: str | None = None,
    account: str | None = None,
    actor: str | None = None,
    reason: str,
    clock: Callable[[], datetime] | None = None,
) -> Dispute:
    """Ends a dispute: the charge counts again. A refund is a row of a later statement.

    A dispute that was resolved with the same reason stays as it is, so the call can be repeated.

    Args:
        ledgers: URL of a ledger, or of several.
        number: the number of the dispute.
        provider: the provider; by default, the one with which the dispute is.
        account: the account at the provider; by default, the one whose charge is in dispute.
        actor: the person who resolves the dispute; by default, the system's user.
        reason: the outcome, in words.
        clock: returns the current instant, with a time zone.

    Raises:
        LedgerError: there is no such dispute, or it ended otherwise: it was resolved with another reason, or
            a corrected statement no longer has the charge. The message says how and when.
    """
    who = author(actor, reason)
    now = utc_clock(clock)()
    for owner in accounts_in(ledgers):
        if provider in {None, owner.provider} and account in {None, owner.account}:
            with opened_books(ledgers, *owner) as (workspace, opened, _):
                if any(each.number == number for each in _disputes(workspace, opened)):
                    provider, account = owner
                    break
    if provider is None:
        raise LedgerError(
            f"there is no dispute {number} in the ledger; `kling-pricing dispute list` lists the disputes "
            "with a provider"
        )
    with opened_books(ledgers, provider, account) as (workspace, opened, books):
        known = [each for each in _disputes(workspace, opened) if each.number == number]
        if not known:
            raise LedgerError(
                f"there is no dispute {number} with {provider}; `kling-pricing dispute list` lists them"
            )
        if len(known) > 1:
            raise LedgerError(
                f"dispute {number} is in {len(known)} of the ledgers; give only one of these ledgers"
            )
        (dispute,) = known
        if dispute.resolved_at is not None and dispute.resolution == who.reason:
            return dispute
        if not dispute.is_open:
            raise LedgerError(f"{ended_text(dispute)}; nothing was changed. No action is needed")
        place = next(n for n, ledger in enumerate(opened) if ledger.name == dispute.ledger)
        charged_in = workspace.one(
            """
            SELECT row.period FROM fact AS dispute
            JOIN fact AS row ON row.ledger = dispute.ledger AND row.seq = dispute.subject
            WHERE dispute.ledger = ? AND dispute.seq = ?
            """,
            [place, number],
        )
        month = max(charged_in, first_open_month(books[place]))
        fact = BookFact(
            "resolution", month, now, dispute.task_id, subject=number, actor=who.actor, reason=who.reason
        )
        opened[place].add_to_books(BooksUpdate(books[place].name, books[place].known, facts=[fact]))
    return dispute._replace(resolved_at=now, resolution=who.reason)


def ended_text(dispute: Dispute) -> str:
    """Returns how and when a dispute ended, as a clause."""
    if dispute.resolved_at is not None:
        return (
            f"dispute {dispute.number} was already resolved, at {dispute.resolved_at:%Y-%m-%d %H:%M} UTC: "
            f"{dispute.resolution}"
        )
    return (
        f"dispute {dispute.number} already ended, at {dispute.withdrawn_at:%Y-%m-%d %H:%M} UTC, because "
        f"{dispute.withdrawn_by} no longer contains the charge {dispute.row}, which therefore does not count"
    )


def _dispute(
    workspace: Workspace, books: Sequence[Books], task_id: str, part: int | None, who: Author, now: datetime
) -> tuple[int, BookFact]:
    """Returns a new dispute of a task, and the number of its ledger.

    Disputes the newest row that charges enough.
    """
    rows = workspace.all(
        f"""
        SELECT fact.ledger, seq, period, currency, amount - ifnull((
          SELECT sum(amount) FROM fact AS dispute
          WHERE kind = 'dispute' AND ledger = fact.ledger AND subject = fact.seq AND NOT {RESOLVED}
        ), 0) AS undisputed
        FROM fact WHERE {_IN_FORCE} AND task = ? AND amount > 0 ORDER BY "at" DESC, seq DESC
        """,
        [task_id],
    )
    if not rows:
        raise LedgerError(
            f"no statement in the books charges task {task_id}; add the statement to the books first, with "
            "`kling-pricing reconcile --remember`"
        )
    if part is None:
        part = workspace.one(
            f"""
            SELECT (SELECT sum(amount) FROM fact WHERE {_IN_FORCE} AND task = $task AND currency = $currency)
              - ifnull((
                SELECT arg_max(amount, (ledger, seq)) FROM fact
                WHERE kind = 'use' AND task = $task AND currency = $currency
              ), 0)
              - ifnull((
                SELECT sum(amount) FROM ({OPEN_DISPUTES}) WHERE task = $task AND currency = $currency
              ), 0)
            """,
            {"task": task_id, "currency": rows[0][3]},
        )
        if part <= 0:
            _refuse_disputed(workspace, task_id)
            raise LedgerError(f"task {task_id} was not charged more than expected; give the disputed amount")
        part = min(part, max(undisputed for *_, undisputed in rows))
    enough = [row for row in rows if row[4] >= part]
    if part <= 0 or not enough:
        if all(undisputed <= 0 for *_, undisputed in rows):
            _refuse_disputed(workspace, task_id)
        most = format_decimal(from_nanos(max(undisputed for *_, undisputed in rows)))
        raise LedgerError(
            f"at most {most} {rows[0][3]} of a charge for task {task_id} is not in dispute yet; dispute this "
            "amount or less"
        )
    ledger, seq, period, currency, _ = enough[0]
    month = max(period, first_open_month(books[ledger]))
    return ledger, BookFact(
        "dispute", month, now, task_id, "", currency, part, subject=seq, actor=who.actor, reason=who.reason
    )


def _refuse_disputed(workspace: Workspace, task_id: str) -> None:
    """Refuses to dispute a task once more.

    Raises:
        LedgerError: the task is in dispute; the message has the numbers of its disputes.
    """
    disputes = workspace.all(
        f"SELECT seq, amount, currency FROM ({OPEN_DISPUTES}) WHERE task = ? ORDER BY seq", [task_id]
    )
    if disputes:
        numbers = ", ".join(
            f"{number} ({format_decimal(from_nanos(amount))} {currency})"
            for number, amount, currency in disputes
        )
        raise LedgerError(
            f"task {task_id} is already in dispute, number {numbers}; `kling-pricing dispute list` shows the "
            "open disputes"
        )


def _disputes(workspace: Workspace, ledgers: Sequence[Ledger]) -> list[Dispute]:
    rows = workspace.rows(
        f"""
        WITH withdrawal AS (
          SELECT {ROW_IDENTITY}, max(later.remembered_at) AS "last", arg_max(later.name, later.number) AS name
          FROM ({ROWS}) AS row JOIN past_statement AS later
            ON later.ledger = row.ledger AND later.replaces = row.statement
          WHERE task IN (SELECT task FROM fact WHERE kind = 'dispute') GROUP BY {ROW_IDENTITY}
        ), disputed_row AS (
          SELECT row.*, (ledger, seq) NOT IN (SELECT (ledger, seq) FROM ({DISPUTABLE_ROWS})) AS is_withdrawn,
            withdrawal."last", withdrawal.name
          FROM ({ROWS}) AS row LEFT JOIN withdrawal USING ({ROW_IDENTITY})
        )
        SELECT dispute.seq, dispute.ledger, dispute.task, statement.name || ':' || row."row", dispute.amount,
          dispute.currency, dispute."at", dispute.actor, dispute.reason, resolution."at", resolution.reason,
          is_withdrawn, CASE WHEN is_withdrawn THEN row."last" END, CASE WHEN is_withdrawn THEN row.name END
        FROM fact AS dispute
        JOIN disputed_row AS row ON row.ledger = dispute.ledger AND row.seq = dispute.subject
        JOIN past_statement AS statement
          ON statement.ledger = row.ledger AND statement.number = row.statement
        LEFT JOIN fact AS resolution ON resolution.kind = 'resolution'
          AND resolution.ledger = dispute.ledger AND resolution.subject = dispute.seq
        WHERE dispute.kind = 'dispute' ORDER BY dispute."at", dispute.ledger, dispute.seq
        """
    )
    return [_made(row, ledgers) for row in rows]


def _made(row: tuple[Any, ...], ledgers: Sequence[Ledger]) -> Dispute:
    number, ledger, task, place, amount, currency, *rest = row
    opened_at, actor, reason, resolved_at, resolution, is_withdrawn, withdrawn_at, withdrawn_by = rest
    return Dispute(
        *(number, ledgers[ledger].name, task, place, from_nanos(amount), currency),
        *(opened_at.replace(tzinfo=UTC), actor, reason or ""),
        *(resolved_at and resolved_at.replace(tzinfo=UTC), resolution, is_withdrawn),
        *(withdrawn_at and withdrawn_at.replace(tzinfo=UTC), withdrawn_by),
    )
