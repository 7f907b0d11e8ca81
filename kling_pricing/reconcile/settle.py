"""Settling: the statement's truth goes into the ledgers, for tasks that count as something else there.

Each task is one transaction, so being interrupted loses nothing, and doing it again changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Self

from kling_pricing.errors import ReservationStateError
from kling_pricing.guard import BudgetGuard
from kling_pricing.ledger.model import Alert
from kling_pricing.money import format_decimal, from_nanos
from kling_pricing.reconcile.workspace import Workspace
from kling_pricing.tables.price_table import PriceBook


class Settled(NamedTuple):
    """What settling did.

    Attributes:
        settled: how many reservations count what the statement charges now, on its word, and did not before.
        bound: how many have a task now, and had none before.
        refused: reservation -> why it was left as it is, so that somebody has to do something about it.
    """

    settled: int
    bound: int
    refused: Mapping[str, str]


_TO_BIND = "FROM reserved WHERE paired AND id NOT IN (FROM bound)"
_TO_SETTLE = """
    FROM line JOIN reserved ON reserved.rowid = line.reservation JOIN terms ON terms.id = reserved.terms
    WHERE category IN ('timing', 'explained', 'within_tolerance', 'unexplained', 'matched')
      AND line.billed IS NOT NULL AND line.whole >= 0 AND line.currency = terms.currency
      AND (category <> 'timing' OR inside OR line.whole = due)
      AND ifnull(basis, '') <> 'operator'
      AND (ifnull(basis, '') <> 'statement' OR ifnull(reserved.billed, 0) <> line.whole)
      AND reserved.id NOT IN (FROM settled)
"""
"""The whole charge is booked, also what falls outside the period. Of a task that was sent before the period the
statement may have only the last part, which is booked if it is what was quoted."""


def settle(
    workspace: Workspace,
    ledgers: Sequence[str],
    *,
    book: PriceBook,
    on_done: Callable[[int, int], None],
    on_alert: Callable[[Alert], None] | None,
) -> Settled:
    """Books what the statement charges where a ledger does not count that yet.

    What has to be cleared up first is left alone: tasks that are charged twice, or in another currency, or have
    several reservations; what an operator corrected; and late charges that are not what was quoted, of which
    the statement may have only the last part.

    Args:
        workspace: where the lines are.
        ledgers: in the order in which they were read.
        book: the price tables of the guards.
        on_done: told how many are done, and of how many.
        on_alert: as for a guard.
    """
    workspace.run("CREATE TABLE IF NOT EXISTS settled (id VARCHAR)")
    workspace.run("CREATE TABLE IF NOT EXISTS bound (id VARCHAR)")
    total = workspace.one(f"SELECT (SELECT count(*) {_TO_BIND}) + (SELECT count(*) {_TO_SETTLE})")
    done = _Done(workspace)
    for place, url in enumerate(ledgers):
        with BudgetGuard(url, book=book, on_alert=on_alert) as guard, done:
            for reservation, task_id in workspace.all(f"SELECT id, task_id {_TO_BIND} AND ledger = ?", [place]):
                try:
                    guard.bind(reservation, task_id)
                    done.bound += 1
                    workspace.insert("bound", [(reservation,)])
                except ReservationStateError as error:
                    done.refused[reservation] = str(error)
                on_done(done.count, total)
            for reservation, whole in workspace.rows(
                f"SELECT reserved.id, line.whole {_TO_SETTLE} AND ledger = ?"
                " ORDER BY dispatched_at, reserved.id",
                [place],
            ):
                if reservation not in done.refused:
                    try:
                        guard.settle(reservation, from_nanos(whole), basis="statement")
                        done.note(reservation)
                    except ReservationStateError as error:
                        done.refused[reservation] = f"{error}{_remedy(reservation, whole)}"
                on_done(done.count, total)
    return Settled(done.settled, done.bound, done.refused)


def _remedy(reservation: str, whole: int) -> str:
    amount = format_decimal(from_nanos(whole))
    return f"; if {amount} is right: `kling-pricing settle {reservation} --amount {amount} --basis operator`"


class _Done:
    """What is done so far; what is settled is noted, so that it is not done again."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._noted: list[str] = []
        self.settled = self.bound = 0
        self.refused: dict[str, str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._workspace.insert("settled", [(each,) for each in self._noted])
        self._noted.clear()

    @property
    def count(self) -> int:
        """How many were tried."""
        return self.settled + self.bound + len(self.refused)

    def note(self, reservation: str) -> None:
        """Counts a reservation as settled."""
        self.settled += 1
        self._noted.append(reservation)
