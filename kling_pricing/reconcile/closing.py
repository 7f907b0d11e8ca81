"""Closes months, and shows the books of closed ones."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime
from typing import NamedTuple

from kling_pricing.errors import LedgerError
from kling_pricing.ledger.actions import author
from kling_pricing.ledger.books import ClosedMonth
from kling_pricing.reconcile.bookkeeping import (
    digest,
    first_open_month,
    journal,
    opened_books,
)
from kling_pricing.reconcile.learning import learn_uses, note_open_months
from kling_pricing.reconcile.ledgers import read_ledgers
from kling_pricing.reconcile.model import JournalLine
from kling_pricing.reconcile.months import month_period
from kling_pricing.reconcile.remember import remember
from kling_pricing.windows import utc_clock


class MonthBooks(NamedTuple):
    """The books of a month of a provider, in one ledger.

    Attributes:
        ledger: the name of the ledger.
        month: the month, such as `2026-11`.
        closed: when and by whom the month was closed.
        journal: the journal of the month.
        is_intact: whether the journal is the one for which the month was closed.
    """

    ledger: str
    month: str
    closed: ClosedMonth
    journal: tuple[JournalLine, ...]
    is_intact: bool


def close_month(
    ledgers: str | Sequence[str],
    month: str,
    *,
    provider: str,
    actor: str | None = None,
    reason: str | None = None,
    clock: Callable[[], datetime] | None = None,
) -> list[MonthBooks]:
    """Closes the books of a month and of every month before it.

    Facts that become known later appear in later months.

    First adds the expected costs of the month's tasks to the books, if the books lack them.

    Args:
        ledgers: URL of a ledger, or of several.
        month: the month, such as `2026-11`.
        provider: the provider.
        actor: the person who closes the month; by default, the system's user.
        reason: the reason.
        clock: returns the current instant, with a time zone.

    Raises:
        KlingPricingError: the text is not a month.
        LedgerError: the month is not over, is closed already, or somebody else changed the books in the
            meantime. Ledgers that were done before stay closed.
    """
    period = month_period(month)
    who = author(actor, reason)
    now = utc_clock(clock)()
    if now < period.until:
        raise LedgerError(f"{month} is not over; close it on {period.until:%Y-%m-%d} or later")
    closed = []
    with opened_books(ledgers, provider) as (workspace, opened, books):
        for ledger, each in zip(opened, books, strict=True):
            if first_open_month(each) > month:
                raise LedgerError(
                    f"ledger {ledger.name}: the books of {provider} are closed until {each.closed[-1].month}; "
                    f"the first open month is {first_open_month(each)}"
                )
        with ThreadPoolExecutor(1) as loader:
            nothing: Future[None] = Future()
            nothing.set_result(None)
            read_ledgers(
                workspace,
                opened,
                provider=provider,
                since=period.since,
                until=period.until,
                before=period.until,
                loader=loader,
                first=nothing,
                on_reservations=lambda _: None,
            )
        note_open_months(workspace, books)
        learn_uses(workspace, (), now)
        for place, ledger in enumerate(opened):
            lines = journal(workspace, period, place)
            closing = ClosedMonth(month, provider, digest(lines), now, who.actor, who.reason or "")
            remember(workspace, {place: ledger}, books, provider, who, closing)
            closed.append(MonthBooks(ledger.name, month, closing, tuple(lines), is_intact=True))
    return closed


def closed_months(ledgers: str | Sequence[str], *, provider: str) -> list[MonthBooks]:
    """Returns the closed months of a provider, each with its journal, computed again from the facts."""
    months = []
    with opened_books(ledgers, provider) as (workspace, opened, books):
        for place, each in enumerate(books):
            for closed in each.closed:
                lines = tuple(journal(workspace, month_period(closed.month), place))
                is_intact = digest(lines) == closed.digest
                months.append(MonthBooks(opened[place].name, closed.month, closed, lines, is_intact))
    return months
