"""Writes off what remains owed of tasks that were charged too little, and will not be charged any more."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

from kling_pricing.errors import LedgerError
from kling_pricing.ledger.actions import author
from kling_pricing.ledger.books import BookFact, BooksUpdate
from kling_pricing.money import from_nanos
from kling_pricing.reconcile.bookkeeping import first_open_month, opened_books, owed
from kling_pricing.windows import utc_clock


class WriteOff(NamedTuple):
    """An amount that is no longer owed.

    Attributes:
        ledger: the name of the ledger.
        task_id: the provider's id for the task.
        project: the project; empty: unknown.
        amount: the amount that was owed.
        currency: its currency.
        month: the accounting period in which the write-off counts, such as `2026-11`.
        actor: the person who wrote it off.
        reason: the reason.
    """

    ledger: str
    task_id: str
    project: str
    amount: Decimal
    currency: str
    month: str
    actor: str
    reason: str


def write_off(
    ledgers: str | Sequence[str],
    task_id: str,
    *,
    provider: str,
    account: str | None = None,
    actor: str | None = None,
    reason: str,
    clock: Callable[[], datetime] | None = None,
) -> WriteOff:
    """Writes off the amount that is still owed for a task.

    It then counts as a billing variance, and not as a liability.

    If the provider charges the rest after all, the charge is a billing variance too.

    Args:
        ledgers: URL of a ledger, or of several.
        task_id: the provider's id for the task.
        provider: the provider.
        account: the account at the provider; by default, the only one that the ledgers have.
        actor: the person who writes it off; by default, the system's user.
        reason: the reason.
        clock: returns the current instant, with a time zone.

    Raises:
        LedgerError: the task is not in the books, nothing is owed for it, or somebody else changed the books
            in the meantime.
    """
    who = author(actor, reason)
    now = utc_clock(clock)()
    with opened_books(ledgers, provider, account) as (workspace, opened, books):
        known = owed(workspace, task_id)
        if not known:
            raise LedgerError(
                f"task {task_id} is not in the books of {books[0].name}; add the statement to the books first, "
                "with `kling-pricing reconcile --remember`"
            )
        remaining = [each for each in known if each[3]]
        if not remaining:
            raise LedgerError(f"nothing is owed for task {task_id}: it was charged in full, or written off")
        place, project, currency, amount = remaining[0]
        month = max(f"{now:%Y-%m}", first_open_month(books[place]))
        fact = BookFact("write_off", month, now, task_id, "", currency, actor=who.actor, reason=who.reason)
        opened[place].add_to_books(BooksUpdate(books[place].name, books[place].known, facts=[fact]))
        name = opened[place].name
    return WriteOff(name, task_id, project, from_nanos(amount), currency, month, who.actor, who.reason or "")
