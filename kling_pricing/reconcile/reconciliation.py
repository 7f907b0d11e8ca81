"""Reconciles a provider's statements with ledgers, from the files to the lines.

Each step reads and makes tables of one `Workspace`, a DuckDB database:

| step | reads | makes |
|---|---|---|
| `chosen_account.account_or_all` | ledgers, the caller's choice | the account that is read; `None`: all |
| `statements.read_statements` | statement files, through `files/`, `mappings` and `charge_sql` | `charge` |
| `ledgers.read_ledgers` | ledgers, at the same time | `reserved`, `terms`, `shared`, `elsewhere` |
| `bookkeeping.load_books` | books of the ledgers | `fact`, `past_statement` |
| `memory.choose_replaced` | `past_statement`, the caller's choice | `to_replace` |
| `footers.read_footers` | `charge`, tasks of `reserved` | the footers; problems of `charge` |
| `mangled_ids.restore_ids` | `charge`, tasks of `reserved` | ids and problems of `charge` |
| `rounded_ids.refuse_rounded_ids` | `charge`, tasks of `reserved` | problems of `charge`, or an error |
| `aggregates.sums` (of sums, the last step) | `charge`, `reserved`, `terms` | `cell`, `line`, the gaps |
| `completeness.read_control_totals` | `charge` | the totals in the files; problems of `charge` |
| `precharges.resolve_precharges` | rows of `charge` that correct charges in advance | amounts of `charge` |
| `memory.recall` | `charge`, `fact`, `past_statement` | remembered rows in `charge` |
| `ledgers.pair` | the caller's pairs, `charge` | tasks of `reserved` |
| `stated_ends.apply_stated_ends` (by `match`) | `charge`, `terms` | `stated_end`; due amounts of `reserved` |
| `matching.match` | `charge`, `reserved`, `terms`, units of the price tables | `worth`, `merged`, `line` |
| `unreadable_rows.add_unreadable` | `charge`, `reserved`, `terms`, `line` | `unread`; category of `line` |
| `row_facts.read_row_facts` | `charge`, mappings | `row_facts` |
| `candidates.propose` | `line`, `charge`, `row_facts`, `reserved`, `terms` | `candidate`; category of `line` |
| `explain.explain` | `line`, `row_facts`, `terms`, prices (`explainer`) | `explanation`; category of `line` |
| `patterns` (by `explain`) | `line`, `explanation` | more rows of `explanation`; category of `line` |
| `explain.tolerate` | unexplained lines, the tolerance | category of `line` |
| `explain.note_contradictions` | matched lines, `row_facts`, `terms` | more rows of `explanation` |
| `categories.mark_exceptions` | `line`, `explanation`, `reserved` | `is_exception` and `is_open` of `line` |
| `dispute_marks.mark_disputed` | `line`, `charge`, `reserved`, `fact` | `in_dispute`; `is_disputed` of `line` |
| `tie_out.tie_out` | `line`, `charge`, `merged`, `reserved`, `worth` | an error if the sums differ |
| `completeness.check_completeness` | `line`, the invoice, the totals in the files | the gaps |
| `learning.learn` | `charge`, `line`, `reserved`, `terms` | new rows of `fact` and `past_statement` |
| `bookkeeping.journal`, `bookkeeping.payable` | `fact`, `past_statement` | the journal of the period |
| `lines.Lines` | `line` and the rows that it refers to | `Line`s with `messages`, totals, row counts |
| `remember.remember` (on request) | new rows of `fact` and `past_statement` | the books of the ledgers |
| `settle.settle` (on request) | `line`, `reserved` | settlements and bindings in the ledgers |
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime, timedelta
from decimal import Decimal
from functools import partial
from typing import Any

from kling_pricing.display import shown
from kling_pricing.errors import KlingPricingError
from kling_pricing.ledger import Ledger, connect
from kling_pricing.ledger.provider_accounts import ProviderAccount
from kling_pricing.money import exact_amount
from kling_pricing.quoting.intake import default_book
from kling_pricing.reconcile.aggregates.sums import compare_sums, is_by_account
from kling_pricing.reconcile.bookkeeping import load_books
from kling_pricing.reconcile.candidates import propose
from kling_pricing.reconcile.categories import mark_exceptions
from kling_pricing.reconcile.chosen_account import account_or_all, books_of_all, choose_account
from kling_pricing.reconcile.completeness import (
    MAX_UNREADABLE_PERCENT,
    check_completeness,
    checked_invoice,
    checked_percent,
    find_other_owner,
    read_control_totals,
)
from kling_pricing.reconcile.dispute_marks import mark_disputed
from kling_pricing.reconcile.explain import explain, note_contradictions, tolerate
from kling_pricing.reconcile.footers import read_footers
from kling_pricing.reconcile.learning import learn
from kling_pricing.reconcile.ledgers import pair, read_ledgers
from kling_pricing.reconcile.lines import Lines
from kling_pricing.reconcile.mangled_ids import restore_ids
from kling_pricing.reconcile.matching import StatementPeriod, match
from kling_pricing.reconcile.memory import choose_replaced, recall
from kling_pricing.reconcile.model import Invoice, Tolerance
from kling_pricing.reconcile.precharges import resolve_precharges
from kling_pricing.reconcile.result import OnProgress, Reconciliation, ignore_progress
from kling_pricing.reconcile.rounded_ids import refuse_rounded_ids
from kling_pricing.reconcile.row_facts import RowFacts, read_row_facts
from kling_pricing.reconcile.statements import MappingLike, Statement, read_statements
from kling_pricing.reconcile.tie_out import tie_out
from kling_pricing.reconcile.units import check_account_currency, units_of
from kling_pricing.reconcile.unreadable_rows import add_unreadable
from kling_pricing.reconcile.workspace import Workspace
from kling_pricing.tables.price_book import PriceBook
from kling_pricing.windows import in_utc, utc_clock

GRACE = timedelta(days=1)
"""How long after its submission a task may still be charged."""

WINDOW = timedelta(days=1)
"""How long after a request was sent an unknown task may belong to it."""

NO_TOLERANCE = Tolerance()


def reconcile(
    ledgers: str | Sequence[str],
    statements: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    provider: str,
    account: str | None = None,
    since: datetime,
    until: datetime,
    mapping: MappingLike = None,
    encoding: str | None = None,
    account_currency: str | None = None,
    grace: timedelta = GRACE,
    tolerance: Tolerance = NO_TOLERANCE,
    pairs: Mapping[str, str] | None = None,
    window: timedelta = WINDOW,
    book: PriceBook | None = None,
    memory_limit: str | None = None,
    folder: str | os.PathLike[str] | None = None,
    replaces: str | None = None,
    invoice: Invoice | None = None,
    max_unreadable_percent: Decimal | int | str = MAX_UNREADABLE_PERCENT,
    clock: Callable[[], datetime] | None = None,
    on_progress: OnProgress | None = None,
) -> Reconciliation:
    """Compares the amounts that a provider billed with the expected amounts, task by task.

    A statement that gives sums instead of tasks, such as one row per day and model, is compared sum by sum; its
    mapping has `aggregates`. Such a result cannot be remembered, disputed or settled.

    The ledgers are not changed. Charges of statements that `Reconciliation.remember` stored earlier count as if
    their files were given too.

    Args:
        ledgers: URL of a ledger, or of several.
        statements: a file of the provider's statement, or several: CSV, JSON, Parquet or XLSX.
        provider: the provider that bills.
        account: the account at the provider for which it issued the statements; by default, the only one that
            the ledgers have. Jobs that were sent from other accounts are not expected on the statements. A
            statement that gives sums by account concerns all accounts.
        since: start of the period, with a time zone.
        until: end of the period (exclusive).
        mapping: the mapping of the columns: a name, or a YAML file; by default, the mapping that matches.
        encoding: the encoding of text files, such as `gb18030`; by default UTF-8, or UTF-16 with a byte order
            mark.
        account_currency: the currency of amounts that a statement gives without a currency; by default, the
            account currency in the price table, or else the currency of its prices.
        grace: how long after its submission a task may still be charged.
        tolerance: the unexplained amounts that are tolerated, per line and in total; by default, none.
        pairs: reservation without a task -> the task that you assign to it.
        window: the maximum time between a request without a task and an unknown charge that may belong to it.
        book: the price tables that explain charges; by default the bundled ones and those of
            `KLING_PRICING_TABLES`.
        memory_limit: the maximum memory of this process, such as `500MB`; other data is stored on disk.
        folder: the folder for data on disk; by default, the system's folder for temporary files.
        replaces: the name or digest of a remembered statement that the given file corrects. The charges of that
            statement no longer count.
        invoice: the invoice for the period, whose total is compared with the rows.
        max_unreadable_percent: the maximum percentage of unreadable rows. Above it, the period is not
            reconciled.
        clock: returns the current instant, with a time zone.
        on_progress: called with the current stage and its progress, from the thread that does the work.

    Returns:
        The lines and their totals, which tie out: expected + variances = billed, to the last digit.

    Raises:
        StatementError: a statement cannot be read, or does not fit its mapping.
        TableError: a mapping is refused.
        PriceNotFoundError: the provider is unknown.
        LedgerUnavailableError: a ledger cannot be read.
        KlingPricingError: an argument cannot be used, the account is unknown, or the ledgers have several
            accounts at the provider and none was chosen.
    """
    start, end = _checked_period(since, until)
    _check_times(grace=grace, window=window)
    book = default_book() if book is None else book
    check_account_currency(account_currency)
    allowed, most_unreadable = _checked_tolerance(tolerance), checked_percent(max_unreadable_percent)
    invoice = checked_invoice(invoice)
    report: OnProgress = on_progress or ignore_progress
    tables = book.tables_of(provider)
    units = units_of(book, provider, end - timedelta(microseconds=1))
    period = StatementPeriod(start, end, grace)
    urls, now = [ledgers] if isinstance(ledgers, str) else ledgers, utc_clock(clock)()
    opened = [connect(url, clock=utc_clock(None)) for url in urls]
    workspace = Workspace(memory_limit, folder)
    try:
        owner = account_or_all(opened, provider, account)
        with _loading_thread(workspace) as loader:
            reading_statements = loader.submit(
                read_statements,
                workspace,
                [statements] if isinstance(statements, str | os.PathLike) else statements,
                provider=provider,
                book=book,
                mapping=mapping,
                units=units,
                currency=account_currency or tables[-1].account_currency("") or tables[-1].currency,
                encoding=encoding,
                on_bytes=lambda done, total: report("reading statements", done, total),
            )
            read_ledgers(
                workspace,
                opened,
                provider=provider,
                account=owner,
                since=start,
                until=end,
                before=end + grace,
                loader=loader,
                first=reading_statements,
                on_reservations=lambda done: report("reading ledgers", done, None),
            )
            read = reading_statements.result()
        owner = _confirmed(owner, opened, provider, read)
        known_books = books_of_all(opened, provider) if owner is None else load_books(workspace, opened, owner)
        described: dict[str, Any] = {
            "ledgers": urls,
            "book": book,
            "account": owner or ProviderAccount(provider, provider),
            "since": start,
            "until": end,
            "statements": {statement.name: statement.digest for statement in read},
            "opened": opened,
            "known_books": known_books,
            "invoice": invoice,
            "notes": read_footers(workspace, read),
            "now": now,
        }
        if owner is None or any(statement.is_aggregate for statement in read):
            compared = compare_sums(
                *(workspace, read, book, units.values(), period),
                provider=provider,
                usual=tables[-1].currency,
                tolerance=allowed,
                invoice=invoice,
                max_unreadable_percent=most_unreadable,
                refused={"pairs (--pair)": pairs, "replaces (--replaces)": replaces},
                account=account,
            )
            return Reconciliation(workspace, *compared, conflicts=(), learn_facts=lambda: None, **described)
        choose_replaced(workspace, replaces, read)
        restore_ids(workspace, read)
        refuse_rounded_ids(workspace, read)
        controls = read_control_totals(workspace, read)
        if any(statement.is_precharged for statement in read):
            resolve_precharges(workspace, start)
        memory = recall(workspace, read, start, end)
        workspace.run("SET preserve_insertion_order = false")
        pair(workspace, pairs or {})
        report("matching", 0, 3)
        match(
            workspace,
            read,
            units.values(),
            period,
            remembered=len(memory.files),
            usual=tables[-1].currency,
        )
        add_unreadable(workspace, tables[-1].currency)
        facts = read_row_facts(workspace, book, read, tables[-1])
        propose(workspace, period, window)
        report("explaining", 1, 3)
        _explain(workspace, book, provider, facts, allowed)
        report("checking totals", 2, 3)
        tie_out(workspace, period)
        lines = Lines(workspace, read, memory.files, owner, start, end, grace)
        completeness = check_completeness(
            workspace,
            rows := lines.rows(),
            lines.totals("all"),
            controls=controls,
            invoice=invoice,
            max_unreadable_percent=most_unreadable,
            not_ours=find_other_owner(workspace, opened, owner, (*book.tables, *book.unpriced), end + grace),
            given=len(read),
        )
        report("done", 3, 3)
        return Reconciliation(
            workspace,
            lines,
            rows,
            completeness,
            conflicts=memory.conflicts,
            shorter_than=memory.shorter_than,
            learn_facts=partial(
                learn, workspace, () if memory.conflicts else read, known_books, start, end, now
            ),
            **described,
        )
    except BaseException:
        workspace.close()
        for ledger in opened:
            ledger.close()
        raise


def _confirmed(
    owner: ProviderAccount | None, ledgers: Sequence[Ledger], provider: str, statements: Sequence[Statement]
) -> ProviderAccount | None:
    """Returns the account that was chosen; None: the statements give sums by account.

    Raises:
        KlingPricingError: no account was chosen, and the statements belong to one account.
    """
    if owner is None and not is_by_account(statements):
        return choose_account(ledgers, provider, None)
    return owner


def _checked_period(since: datetime, until: datetime) -> tuple[datetime, datetime]:
    """Returns the bounds of a period, in UTC.

    Raises:
        KlingPricingError: the period is empty, or a bound has no time zone.
    """
    start, end = in_utc(since), in_utc(until)
    if start >= end:
        raise KlingPricingError(f"the period must start before it ends, got {start} to {end}")
    return start, end


def _check_times(**times: Any) -> None:
    """Refuses times that are not zero or more.

    Raises:
        KlingPricingError: a time cannot be used.
    """
    for name, time in times.items():
        if not isinstance(time, timedelta) or time < timedelta(0):
            raise KlingPricingError(f"{name} must be a timedelta of zero or more, got {shown(time)}")


def _explain(
    workspace: Workspace, book: PriceBook, provider: str, facts: Mapping[int, RowFacts], allowed: Tolerance
) -> None:
    """Explains the lines, and decides which of them are exceptions."""
    explain(workspace, book, provider, facts)
    tolerate(workspace, allowed)
    note_contradictions(workspace, book, provider, facts)
    mark_exceptions(workspace)
    mark_disputed(workspace)


def _checked_tolerance(tolerance: Tolerance) -> Tolerance:
    """Returns an exact tolerance.

    Raises:
        KlingPricingError: an amount is not exact, or only one of line and batch is given.
    """
    if not isinstance(tolerance, Tolerance):
        raise KlingPricingError(f"tolerance must be a Tolerance, got {shown(tolerance)}")
    try:
        exact = Tolerance(*map(exact_amount, tolerance))
    except KlingPricingError as error:
        raise KlingPricingError(f"tolerance: {error}") from None
    if (exact.line == 0) != (exact.batch == 0):
        raise KlingPricingError(
            "tolerance: `line` limits the unexplained amount of each line, and `batch` limits the total of "
            "these amounts; give both"
        )
    return exact


@contextmanager
def _loading_thread(workspace: Workspace) -> Iterator[ThreadPoolExecutor]:
    """A second thread; a failure in either thread interrupts the database."""
    with ThreadPoolExecutor(1, thread_name_prefix="kling-pricing-load") as loader:
        try:
            yield loader
        except BaseException:
            loader.shutdown(wait=False, cancel_futures=True)
            workspace.interrupt()
            raise
