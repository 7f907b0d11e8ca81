"""Reconciling a provider's statement with ledgers, from the files to the lines."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any, Self

from kling_pricing.display import shown
from kling_pricing.errors import KlingPricingError
from kling_pricing.ledger import connect
from kling_pricing.ledger.model import Alert
from kling_pricing.money import exact_amount
from kling_pricing.quoting.intake import default_book
from kling_pricing.reconcile.candidates import propose
from kling_pricing.reconcile.explain import contradict, explain, tolerate
from kling_pricing.reconcile.ledgers import pair, read_ledgers
from kling_pricing.reconcile.lines import Lines
from kling_pricing.reconcile.matching import StatementPeriod, match
from kling_pricing.reconcile.model import Category, Dimension, Line, Rows, Tolerance, Total
from kling_pricing.reconcile.row_facts import RowReading, write_sayings
from kling_pricing.reconcile.settle import Settled, settle
from kling_pricing.reconcile.statements import MappingLike, read_statements
from kling_pricing.reconcile.tie_out import tie_out
from kling_pricing.reconcile.units import units_of
from kling_pricing.reconcile.workspace import Workspace
from kling_pricing.tables.price_table import PriceBook
from kling_pricing.windows import in_utc, utc_clock

GRACE = timedelta(days=1)
"""How long after a task was sent it may be charged late."""

WINDOW = timedelta(days=1)
"""How long after a request was sent a task that nobody knows may be its task."""

NO_TOLERANCE = Tolerance()

OnProgress = Callable[[str, int, int | None], None]
"""Told what is being done, how far it is, and how far it will go, if that is known."""


class Reconciliation:
    """What `reconcile` finds; see `records.Reconciled`.

    It holds a database, so close it, or use it in a `with` block.

    Attributes:
        provider: who bills.
        since: start of the period, UTC.
        until: its end, UTC, exclusive.
        statements: file name of each statement -> SHA-256 of its bytes, in hexadecimal.
        exceptions: how many lines have a remedy.
        rows: what became of the rows of the statements.
    """

    def __init__(
        self,
        workspace: Workspace,
        lines: Lines,
        *,
        ledgers: Sequence[str],
        book: PriceBook,
        provider: str,
        since: datetime,
        until: datetime,
        statements: Mapping[str, str],
    ) -> None:
        self._workspace = workspace
        self._lines = lines
        self._ledgers = ledgers
        self._book = book
        self.provider = provider
        self.since = since
        self.until = until
        self.statements = statements
        self.exceptions: int = workspace.one("SELECT count(*) FROM line WHERE open")
        self.rows: Rows = lines.rows()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def close(self) -> None:
        """Gives up the database; the lines can no longer be read."""
        self._workspace.close()

    def lines(self, *categories: Category) -> Iterator[Line]:
        """The lines, of these categories or of all; always in the same order."""
        return self._lines.read(categories)

    def totals(self, dimension: Dimension) -> list[Total]:
        """The lines taken together, by currency and name."""
        return self._lines.totals(dimension)

    def settle(
        self,
        *,
        on_progress: OnProgress | None = None,
        on_alert: Callable[[Alert], None] | None = None,
    ) -> Settled:
        """Writes the statement's truth into the ledgers, where they count something else or nothing yet.

        Tasks that were paired are bound. What has to be cleared up first is left alone: tasks that are charged
        twice, or in another currency, or have several reservations; what an operator corrected; and late
        charges that are not what was quoted. Each task is a transaction of its own; doing it again changes
        nothing. The lines stay as they are. What a ledger refuses is in the answer: somebody has to look at it.

        Args:
            on_progress: told how far it is.
            on_alert: as for a guard: called for each threshold of a budget that is reached.

        Raises:
            LedgerError: a ledger cannot be used; what was settled before that is settled.
        """
        tell: OnProgress = _untold if on_progress is None else on_progress
        return settle(
            self._workspace,
            self._ledgers,
            book=self._book,
            on_done=lambda done, total: tell("settling", done, total),
            on_alert=on_alert,
        )


def reconcile(
    ledgers: str | Sequence[str],
    statements: str | os.PathLike[str] | Sequence[str | os.PathLike[str]],
    *,
    provider: str,
    since: datetime,
    until: datetime,
    mapping: MappingLike = None,
    grace: timedelta = GRACE,
    tolerance: Tolerance = NO_TOLERANCE,
    pairs: Mapping[str, str] | None = None,
    window: timedelta = WINDOW,
    book: PriceBook | None = None,
    memory_limit: str | None = None,
    folder: str | os.PathLike[str] | None = None,
    on_progress: OnProgress | None = None,
) -> Reconciliation:
    """Holds what a provider billed against what was expected, task by task.

    Nothing is changed in the ledgers.

    Args:
        ledgers: URL of a ledger, or of several.
        statements: a file of the provider's statement, or several: CSV, JSON, Parquet or XLSX.
        provider: who bills.
        since: start of the period, with a time zone.
        until: its end, which is no longer in it.
        mapping: what the columns mean: a name, or a YAML file; by default the one that fits.
        grace: how long after a task was sent it may be charged late.
        tolerance: how much may stay unexplained, of a line and of all such lines; by default nothing.
        pairs: reservation without a task -> the task that somebody decided is its own.
        window: how long after a request without a task was sent an unknown task is proposed for it.
        book: the price tables to explain by; by default the bundled ones and those of `KLING_PRICING_TABLES`.
        memory_limit: how much memory the database may take, such as `500MB`; the rest is kept on the disk.
        folder: where on the disk; by default where temporary files are kept.
        on_progress: told what is being done and how far it is, in whichever thread does it.

    Returns:
        The lines and their totals, which tie out: expected + variances = billed, to the last digit.

    Raises:
        StatementError: a statement cannot be read, or not as its mapping says.
        TableError: a mapping is refused.
        PriceNotFoundError: the provider is unknown.
        LedgerUnavailableError: a ledger cannot be read.
        KlingPricingError: an argument cannot be used.
    """
    start, end = in_utc(since), in_utc(until)
    if start >= end:
        raise KlingPricingError(f"the period must begin before it ends, got {start} to {end}")
    times: dict[str, Any] = {"grace": grace, "window": window}
    for name, time in times.items():
        if not isinstance(time, timedelta) or time < timedelta(0):
            raise KlingPricingError(f"{name} must be a timedelta, and not below zero, got {shown(time)}")
    if book is None:
        book = default_book()
    allowed = _checked_tolerance(tolerance)
    tell: OnProgress = _untold if on_progress is None else on_progress
    tables = book.tables_of(provider)
    units = units_of(book, provider, end - timedelta(microseconds=1))
    period = StatementPeriod(start, end, grace)
    urls = [ledgers] if isinstance(ledgers, str) else ledgers
    workspace = Workspace(memory_limit, folder)
    try:
        with _one_thread(workspace) as loader:
            reading_statements = loader.submit(
                read_statements,
                workspace,
                [statements] if isinstance(statements, str | os.PathLike) else statements,
                provider=provider,
                book=book,
                mapping=mapping,
                units=units,
                on_bytes=lambda done, total: tell("reading statements", done, total),
            )
            read_ledgers(
                workspace,
                [connect(url, clock=utc_clock(None)) for url in urls],
                provider=provider,
                since=start,
                until=end,
                before=end + grace,
                loader=loader,
                first=reading_statements,
                on_reservations=lambda done: tell("reading ledgers", done, None),
            )
            read = reading_statements.result()
        workspace.run("SET preserve_insertion_order = false")
        if pairs:
            pair(workspace, pairs)
        tell("matching", 0, 3)
        match(workspace, read, units.values(), period, usual=tables[-1].currency)
        reading = RowReading(book, read)
        write_sayings(workspace, reading, tables[-1])
        propose(workspace, period, window)
        tell("explaining", 1, 3)
        explain(workspace, book, provider, reading)
        tolerate(workspace, allowed)
        contradict(workspace, reading, book, provider)
        tell("tying out", 2, 3)
        tie_out(workspace, period)
        found = Reconciliation(
            workspace,
            Lines(workspace, read, provider, start, end, grace),
            ledgers=urls,
            book=book,
            provider=provider,
            since=start,
            until=end,
            statements={statement.name: statement.digest for statement in read},
        )
        tell("done", 3, 3)
    except BaseException:
        workspace.close()
        raise
    return found


def _checked_tolerance(tolerance: Tolerance) -> Tolerance:
    """A tolerance that can be used: exact, and of both a line and the batch, or of neither."""
    if not isinstance(tolerance, Tolerance):
        raise KlingPricingError(f"tolerance must be a Tolerance, got {shown(tolerance)}")
    try:
        found = Tolerance(*map(exact_amount, tolerance))
    except KlingPricingError as error:
        raise KlingPricingError(f"tolerance: {error}") from None
    if (found.line == 0) != (found.batch == 0):
        raise KlingPricingError(
            "tolerance: give line and batch together; one bounds a line, one all such lines together"
        )
    return found


@contextmanager
def _one_thread(workspace: Workspace) -> Iterator[ThreadPoolExecutor]:
    """A thread beside this one; when something fails in either, what the database works on is ended."""
    with ThreadPoolExecutor(1, thread_name_prefix="kling-pricing-load") as loader:
        try:
            yield loader
        except BaseException:
            loader.shutdown(wait=False, cancel_futures=True)
            workspace.interrupt()
            raise


def _untold(_what: str, _done: int, _total: int | None) -> None:
    """Nobody wants to know how far it is."""
