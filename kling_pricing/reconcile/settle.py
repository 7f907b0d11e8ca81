"""Settles tasks: writes the statement's charges into the ledgers that count another amount.

Each batch of tasks is one transaction, so an interruption leaves no batch half settled, and a second run
settles only the rest.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import datetime
from decimal import Decimal
from itertools import islice
from typing import Literal, NamedTuple, TypeAlias, get_args

from kling_pricing.errors import KlingPricingError, ReservationStateError
from kling_pricing.guard import BudgetGuard
from kling_pricing.ledger import Ledger
from kling_pricing.ledger.actions import Author
from kling_pricing.ledger.model import Alert
from kling_pricing.money import add, format_decimal, from_nanos
from kling_pricing.reconcile.bookkeeping import DISPUTABLE_ROWS
from kling_pricing.reconcile.categories import Category
from kling_pricing.reconcile.workspace import Workspace
from kling_pricing.tables.price_book import PriceBook


class SettledTask(NamedTuple):
    """A task and the amount at which it is settled.

    Attributes:
        reservation_id: the ledger's name for its reservation.
        task_id: the provider's name for the task.
        amount: its whole charge.
        currency: the currency.
    """

    reservation_id: str
    task_id: str
    amount: Decimal
    currency: str


class Settled(NamedTuple):
    """The result of settling.

    Attributes:
        settled: the number of reservations that now count the statement's charge on the basis `statement`, and
            did not before.
        bound: the number of reservations that now have a task, and did not before.
        refused: reservation -> why the ledger refused it; each needs action.
    """

    settled: int
    bound: int
    refused: Mapping[str, str]


class SettlementNote(NamedTuple):
    """What a ledger keeps about a settlement, besides the numbers and the sums.

    Attributes:
        books: the name of the books.
        statements: file name of each statement -> SHA-256 of its bytes, in hexadecimal.
        started_at: when the reconciliation started, UTC.
        author: who settles, and why.
    """

    books: str
    statements: Mapping[str, str]
    started_at: datetime
    author: Author


_MAX_NAMED = 10
"""The largest number of settled tasks that are named."""

BATCH = 1000
"""The number of tasks in one transaction, for which a guard on the same ledger waits a tenth of a second."""

_ORDER = "ORDER BY ledger, dispatched_at, reserved.task_id, reserved.id"
_NAMED = "reserved.id, reserved.task_id, line.whole, line.currency"


_TO_BIND = "FROM reserved WHERE paired AND id NOT IN (FROM bound)"
SettleAlso: TypeAlias = Literal["unexplained"]
"""A category whose lines are settled only on request."""

_SETTLED: tuple[Category, ...] = ("timing", "explained", "within_tolerance", "matched")
"""The categories whose lines are settled."""

_TO_SETTLE = """
    FROM line JOIN reserved ON reserved.rowid = line.reservation JOIN terms ON terms.id = reserved.terms
    WHERE category IN ({categories})
      AND reserved.task_id NOT IN (
        SELECT task FROM fact WHERE kind = 'dispute'
          AND (ledger, seq) NOT IN (SELECT (ledger, subject) FROM fact WHERE kind = 'resolution')
          AND (ledger, subject) IN (SELECT (ledger, seq) FROM ({disputable}))
      ) AND line.billed IS NOT NULL AND line.whole >= 0 AND line.currency = terms.currency
      AND (category <> 'timing' OR inside OR line.whole = due)
      AND (category = 'timing' OR line.whole <= greatest(line.billed, due))
      AND ifnull(basis, '') <> 'operator'
      AND (ifnull(basis, '') <> 'statement' OR ifnull(reserved.billed, 0) <> line.whole)
      AND reserved.id NOT IN (FROM settled)
"""
"""The whole charge is booked, inside and outside the period. Of a task that was sent before the period, the
statement may have only the last part of the charge, so it is booked only if it is the quote. A task
that is charged again after the period needs a decision in that period."""


def settle(
    workspace: Workspace,
    ledgers: Sequence[str],
    opened: Sequence[Ledger],
    *,
    noted: SettlementNote,
    also: Collection[SettleAlso],
    book: PriceBook,
    on_done: Callable[[int, int], None],
    on_alert: Callable[[Alert], None] | None,
) -> Settled:
    """Books the statement's charges in the ledgers that do not count them yet.

    It skips tasks that somebody must look at first: tasks that are charged twice or in another currency, or
    have several reservations; tasks that an operator corrected; and late charges that differ from the quote,
    because the statement may have only their last part.

    Args:
        workspace: the database with the lines.
        ledgers: the ledgers, in the order in which they were read.
        opened: the same ledgers, opened.
        noted: what the ledgers keep about the settlement.
        also: further categories to settle.
        book: the price tables of the guards.
        on_done: called with the number of tasks done, and their total.
        on_alert: called for each budget threshold that is reached, as by a guard.
    """
    _note_done(workspace)
    to_settle = _to_settle(also)
    total = workspace.one(f"SELECT (SELECT count(*) {_TO_BIND}) + (SELECT count(*) {to_settle})")
    progress = _Progress()
    for place, url in enumerate(ledgers):
        with (
            BudgetGuard(url, book=book, on_alert=on_alert) as guard,
            _noting(opened[place], noted, progress),
        ):
            for reservation, task_id in workspace.all(f"SELECT id, task_id {_TO_BIND} AND ledger = ?", [place]):
                try:
                    guard.bind(reservation, task_id)
                    progress.bound += 1
                    workspace.insert("bound", [(reservation,)])
                except ReservationStateError as error:
                    progress.refused[reservation] = str(error)
                on_done(progress.count, total)
            rows = workspace.rows(f"SELECT {_NAMED} {to_settle} AND ledger = ? {_ORDER}", [place])
            tasks = (task for task in map(_settled_task, rows) if task.reservation_id not in progress.refused)
            while batch := list(islice(tasks, BATCH)):
                _settle_batch(workspace, guard, batch, progress)
                on_done(progress.count, total)
    return Settled(progress.settled, progress.bound, progress.refused)


@contextmanager
def _noting(ledger: Ledger, noted: SettlementNote, progress: _Progress) -> Iterator[None]:
    """Keeps in a ledger what was settled in it, also if an error stops the settlement."""
    settled, bound, refused = progress.settled, progress.bound, len(progress.refused)
    progress.sums.clear()
    try:
        yield
    finally:
        if (progress.settled, progress.bound) != (settled, bound):
            sums = sorted(progress.sums.items())
            value = {
                "statements": dict(noted.statements),
                "started_at": noted.started_at.isoformat(),
                "settled": progress.settled - settled,
                "bound": progress.bound - bound,
                "refused": len(progress.refused) - refused,
                "sums": {currency: format_decimal(amount) for currency, amount in sums},
            }
            ledger.note_settlement(noted.books, value, noted.author)


def count_to_settle(workspace: Workspace, also: Collection[SettleAlso]) -> int:
    """Returns the number of reservations that `settle` would settle.

    Raises:
        KlingPricingError: a category cannot be settled.
    """
    _note_done(workspace)
    return int(workspace.one(f"SELECT count(*) {_to_settle(also)}"))


def first_to_settle(workspace: Workspace, also: Collection[SettleAlso]) -> list[SettledTask]:
    """Returns the first tasks that `settle` would settle, at most 10.

    Raises:
        KlingPricingError: a category cannot be settled.
    """
    _note_done(workspace)
    rows = workspace.all(f"SELECT {_NAMED} {_to_settle(also)} {_ORDER} LIMIT {_MAX_NAMED}")
    return [_settled_task(row) for row in rows]


def _settled_task(row: tuple[str, str, int, str]) -> SettledTask:
    reservation, task_id, whole, currency = row
    return SettledTask(reservation, task_id, from_nanos(whole), currency)


def _note_done(workspace: Workspace) -> None:
    """Makes the tables of the reservations that an earlier call settled or bound."""
    workspace.run("CREATE TABLE IF NOT EXISTS settled (id VARCHAR)")
    workspace.run("CREATE TABLE IF NOT EXISTS bound (id VARCHAR)")


def _to_settle(also: Collection[SettleAlso]) -> str:
    if unknown := sorted(set(also) - {*get_args(SettleAlso)}):
        raise KlingPricingError(
            f"cannot settle lines that are {unknown[0]}; only `unexplained` lines can be settled as well"
        )
    categories = ", ".join(map(repr, (*_SETTLED, *also)))
    return _TO_SETTLE.format(categories=categories, disputable=DISPUTABLE_ROWS)


def _remedy(reservation: str, whole: Decimal) -> str:
    amount = format_decimal(whole)
    return (
        f"; if {amount} is right, run `kling-pricing settle {reservation} --amount {amount} --basis operator`"
    )


class _Progress:
    """Counts the finished tasks."""

    def __init__(self) -> None:
        self.settled = self.bound = 0
        self.refused: dict[str, str] = {}
        self.sums: dict[str, Decimal] = {}

    @property
    def count(self) -> int:
        """The number of tasks that were tried."""
        return self.settled + self.bound + len(self.refused)


def _settle_batch(
    workspace: Workspace, guard: BudgetGuard, batch: Sequence[SettledTask], progress: _Progress
) -> None:
    """Settles some tasks in one transaction, and records them so that a second call skips them."""
    amounts = {task.reservation_id: task.amount for task in batch}
    refused = guard.settle_all(amounts, basis="statement")
    for reservation, error in refused.items():
        remedy = _remedy(reservation, amounts[reservation]) if isinstance(error, ReservationStateError) else ""
        progress.refused[reservation] = f"{error}{remedy}"
    settled = [task for task in batch if task.reservation_id not in refused]
    progress.settled += len(settled)
    for task in settled:
        progress.sums[task.currency] = add(progress.sums.get(task.currency, Decimal(0)), task.amount)
    workspace.insert("settled", [(task.reservation_id,) for task in settled])
