"""Closes months, and shows the books of closed ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from datetime import datetime
from shlex import quote
from typing import NamedTuple

from kling_pricing.display import joined_with_and
from kling_pricing.errors import LedgerError
from kling_pricing.ledger import Ledger, connect
from kling_pricing.ledger.actions import author
from kling_pricing.ledger.books import Books, ClosedMonth
from kling_pricing.ledger.provider_accounts import ProviderAccount
from kling_pricing.reconcile.bookkeeping import (
    accrued_months,
    digest,
    first_open_month,
    journal,
    opened_books,
    payable,
)
from kling_pricing.reconcile.learning import learn_uses, note_open_months
from kling_pricing.reconcile.ledgers import read_ledgers
from kling_pricing.reconcile.model import AccruedMonth, JournalLine, Payable
from kling_pricing.reconcile.months import month_period
from kling_pricing.reconcile.open_items import OpenItems, open_items
from kling_pricing.reconcile.remember import remember
from kling_pricing.reconcile.workspace import Workspace
from kling_pricing.windows import in_utc, utc_clock


class MonthBooks(NamedTuple):
    """The books of a month of an account, in one ledger.

    Attributes:
        ledger: the name of the ledger.
        month: the month, such as `2026-11`.
        account: the account at the provider.
        closed: when and by whom the month was closed.
        journal: the journal of the month.
        payable: the amounts of the month to pay, in dispute and to accrue, by currency.
        accrued: the parts of the amounts to accrue, by currency and by the month in which tasks were sent.
        has_statement: whether the books contain a statement for a part of the month.
        is_intact: whether the journal is the one for which the month was closed.
        open: what the month leaves open, if it has just been closed.
    """

    ledger: str
    month: str
    account: ProviderAccount
    closed: ClosedMonth
    journal: tuple[JournalLine, ...]
    payable: tuple[Payable, ...]
    accrued: tuple[AccruedMonth, ...]
    has_statement: bool
    is_intact: bool
    open: tuple[OpenItems, ...] = ()


def close_month(
    ledgers: str | Sequence[str],
    month: str,
    *,
    provider: str,
    account: str | None = None,
    actor: str | None = None,
    reason: str | None = None,
    clock: Callable[[], datetime] | None = None,
) -> list[MonthBooks]:
    """Closes an account's books of a month.

    Facts that become known later appear in later months. Months are closed in order. A month without amounts
    needs no closing: closing a later month closes it as well.

    First adds the expected costs of the month's tasks to the books, if the books lack them.

    Args:
        ledgers: URL of a ledger, or of several.
        month: the month, such as `2026-11`.
        provider: the provider.
        account: the account at the provider; by default, the only one that the ledgers have.
        actor: the person who closes the month; by default, the system's user.
        reason: the reason.
        clock: returns the current instant, with a time zone.

    Raises:
        KlingPricingError: the text is not a month, the account is unknown, or the ledgers have several accounts
            and none was chosen.
        LedgerError: the month is not over or is closed already, an earlier month with amounts is open, or the
            books have neither a job nor a statement until its end. Nothing was closed. Or somebody else changed
            the books in the meantime; ledgers that were done before stay closed.
    """
    period = month_period(month)
    who = author(actor, reason)
    now = utc_clock(clock)()
    if now < period.until:
        raise LedgerError(f"{month} is not over; close it on {period.until:%Y-%m-%d} or later")
    closed = []
    with opened_books(ledgers, provider, account) as (workspace, opened, books):
        owner = ProviderAccount.of_books(books[0].name)
        for ledger, each in zip(opened, books, strict=True):
            if first_open_month(each) > month:
                raise LedgerError(
                    f"ledger {ledger.name}: the books of {each.name} are closed up to and including "
                    f"{each.closed[-1].month}; the first open month is {first_open_month(each)}; later facts "
                    "count there"
                )
        with ThreadPoolExecutor(1) as loader:
            nothing: Future[None] = Future()
            nothing.set_result(None)
            read_ledgers(
                workspace,
                opened,
                provider=owner.provider,
                account=owner,
                since=period.since,
                until=period.until,
                before=period.until,
                loader=loader,
                first=nothing,
                on_reservations=lambda _: None,
            )
        note_open_months(workspace, books)
        learn_uses(workspace, (), now)
        _refuse_nothing(workspace, opened, owner, month)
        _refuse_gaps(workspace, opened, owner, month)
        for place, ledger in enumerate(opened):
            lines = journal(workspace, period, place)
            closing = ClosedMonth(month, owner.books, digest(lines), now, who.actor, who.reason or "")
            remember(workspace, {place: ledger}, books, who, closing)
            month_books = _month_books(workspace, ledger, place, books[place], closing, lines)
            closed.append(month_books._replace(open=open_items(workspace, period, place)))
    return closed


def _refuse_nothing(
    workspace: Workspace, ledgers: Sequence[Ledger], owner: ProviderAccount, month: str
) -> None:
    """Refuses to close books without a job and a statement: the provider or the account is likely a mistake.

    Raises:
        LedgerError: the books are empty.
    """
    if workspace.one("SELECT (SELECT count(*) FROM fact) + (SELECT count(*) FROM past_statement)"):
        return
    others = sorted({each.books for ledger in ledgers for each in ledger.accounts()} - {owner.books})
    known = ""
    if others:
        known = f" ({'the ledgers have' if len(ledgers) > 1 else 'the ledger has'} {joined_with_and(others)})"
    raise LedgerError(
        f"no job was sent and no charge was remembered until the end of {month} in the books of {owner.books}, "
        f"so there is nothing to close; check the provider and the account{known}"
    )


def _refuse_gaps(workspace: Workspace, ledgers: Sequence[Ledger], owner: ProviderAccount, month: str) -> None:
    """Refuses to close a month while an earlier month with amounts is open.

    The journal of a month is the difference from the month before it, so the amounts of a month that is passed
    over would be in no closed journal.

    Raises:
        LedgerError: an earlier month is open; the message names the first ledger with such months, all of these
            months, and the command for the first of them.
    """
    rows: Sequence[tuple[int, str]] = workspace.all(
        """
        WITH dated AS (
          SELECT ledger, period FROM fact
          UNION SELECT ledger, replaced_in FROM past_statement WHERE replaced_in IS NOT NULL
        )
        SELECT ledger, period FROM dated JOIN open_month USING (ledger)
        WHERE period >= month AND period < ? ORDER BY ledger, period
        """,
        [month],
    )
    if not rows:
        return
    place = rows[0][0]
    months = [period for ledger, period in rows if ledger == place]
    at_provider = {each for ledger in ledgers for each in ledger.accounts() if each.provider == owner.provider}
    is_only = owner.account == owner.provider and at_provider <= {owner}
    account = "" if is_only else f" --account {quote(owner.account)}"
    command = f"kling-pricing month close {months[0]} --provider {owner.provider}{account}"
    alone = ", with this ledger alone" if len(ledgers) > 1 else ""
    then = f", then {joined_with_and(months[1:])} in the same way" if months[1:] else ""
    raise LedgerError(
        f"ledger {ledgers[place].name}: the books of {owner.books} have amounts in "
        f"{joined_with_and(months)}, and {'these months are' if months[1:] else 'this month is'} still open; "
        f"nothing was closed. Close the months in order{alone}: first `{command}`{then}. If you have a "
        "statement for such a month, remember it before you close the month"
    )


def changed_months(ledger: str, providers: Iterable[str]) -> list[MonthBooks]:
    """Returns the closed months of a ledger whose journals are not the ones for which they were closed.

    The journal of each closed month is computed again, so the time grows with the books and with the number of
    closed months. Accounts without closed months take no time.

    Args:
        ledger: URL of the ledger.
        providers: the providers whose books to look at, with all of their accounts.

    Raises:
        LedgerUnavailableError: the ledger cannot be read.
        KlingPricingError: DuckDB is not installed, and there are closed months.
    """
    with closing(connect(ledger, clock=utc_clock(None))) as opened:
        owners = {ProviderAccount(provider, provider) for provider in providers} | {*opened.accounts()}
        closers = sorted(owner for owner in owners if opened.books(owner.books).closed)
    changed = []
    for owner in closers:
        with opened_books(ledger, owner.provider, owner.account) as (workspace, (opened,), (books,)):
            for closed in books.closed:
                lines = journal(workspace, month_period(closed.month), 0)
                if digest(lines) != closed.digest:
                    changed.append(_month_books(workspace, opened, 0, books, closed, lines))
    return changed


def closed_months(
    ledgers: str | Sequence[str], *, provider: str, account: str | None = None, as_of: datetime | None = None
) -> list[MonthBooks]:
    """Returns the closed months of an account, each with its journal, computed again from the facts.

    Args:
        ledgers: URL of a ledger, or of several.
        provider: the provider.
        account: the account at the provider; by default, the only one that the ledgers have.
        as_of: only the months that were closed at this instant, with a time zone; by default, now.

    Raises:
        KlingPricingError: the account is unknown, or the ledgers have several accounts and none was chosen.
    """
    known_at = None if as_of is None else in_utc(as_of)
    months = []
    with opened_books(ledgers, provider, account) as (workspace, opened, books):
        for place, each in enumerate(books):
            for closed in each.closed:
                if known_at is not None and closed.closed_at > known_at:
                    continue
                lines = journal(workspace, month_period(closed.month), place)
                months.append(_month_books(workspace, opened[place], place, each, closed, lines))
    return months


def _month_books(
    workspace: Workspace,
    ledger: Ledger,
    place: int,
    books: Books,
    closed: ClosedMonth,
    lines: Sequence[JournalLine],
) -> MonthBooks:
    """Returns the books of a closed month, with the journal that its facts come to."""
    period = month_period(closed.month)
    return MonthBooks(
        ledger=ledger.name,
        month=closed.month,
        account=ProviderAccount.of_books(books.name),
        closed=closed,
        journal=tuple(lines),
        payable=tuple(payable(workspace, period, place)),
        accrued=tuple(accrued_months(workspace, period, place)),
        has_statement=any(
            statement.since < period.until and period.since < statement.until for statement in books.statements
        ),
        is_intact=digest(lines) == closed.digest,
    )
