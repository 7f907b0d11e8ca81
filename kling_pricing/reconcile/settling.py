"""Settling: the statement's truth goes into the ledgers, for tasks that count as something else there.

Each task is one transaction, so being interrupted loses nothing, and doing it again changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from kling_pricing.errors import ReservationStateError
from kling_pricing.guard import BudgetGuard
from kling_pricing.ledger.records import Alert
from kling_pricing.money import from_nanos
from kling_pricing.price_table import PriceBook
from kling_pricing.reconcile.workspace import Workspace


class Settled(NamedTuple):
    """What settling did.

    Attributes:
        settled: how many reservations count what the statement charges now, and did not before.
        bound: how many have a task now, and had none before.
        refused: reservation -> why it was left as it is.
    """

    settled: int
    bound: int
    refused: Mapping[str, str]


_TO_BIND = "FROM reserved WHERE paired"
_TO_SETTLE = """
    FROM line JOIN reserved ON reserved.rowid = line.reservation
    WHERE category IN ('timing', 'explained', 'within_tolerance', 'unexplained', 'matched')
      AND line.billed >= 0 AND line.currency = reserved.currency AND ifnull(basis, '') <> 'operator'
      AND (state IN ('dispatching', 'bound') OR ifnull(reserved.billed, 0) <> line.billed)
"""


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
    several reservations; and what an operator corrected.

    Args:
        workspace: where the lines are.
        ledgers: in the order in which they were read.
        book: the price tables of the guards.
        on_done: told how many are done, and of how many.
        on_alert: as for a guard.
    """
    total = workspace.one(f"SELECT (SELECT count(*) {_TO_BIND}) + (SELECT count(*) {_TO_SETTLE})")
    settled = bound = 0
    refused: dict[str, str] = {}
    for place, url in enumerate(ledgers):
        with BudgetGuard(url, book=book, on_alert=on_alert) as guard:
            for reservation, task_id in workspace.all(f"SELECT id, task_id {_TO_BIND} AND ledger = ?", [place]):
                try:
                    guard.bind(reservation, task_id)
                    bound += 1
                except ReservationStateError as error:
                    refused[reservation] = str(error)
                on_done(settled + bound + len(refused), total)
            for reservation, billed in workspace.rows(
                f"SELECT id, line.billed {_TO_SETTLE} AND ledger = ? ORDER BY dispatched_at, id", [place]
            ):
                if reservation not in refused:
                    try:
                        guard.settle(reservation, from_nanos(billed), basis="statement")
                        settled += 1
                    except ReservationStateError as error:
                        refused[reservation] = str(error)
                on_done(settled + bound + len(refused), total)
    return Settled(settled, bound, refused)
