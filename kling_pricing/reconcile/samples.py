"""Shows how a statement is read, before it is reconciled: its first rows, and the rows that cannot be read."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any, NamedTuple

from kling_pricing.errors import KlingPricingError
from kling_pricing.money import from_nanos
from kling_pricing.quoting.intake import default_book
from kling_pricing.reconcile.completeness import read_control_totals
from kling_pricing.reconcile.footers import read_footers
from kling_pricing.reconcile.mangled_ids import restore_ids
from kling_pricing.reconcile.messages import row_problem
from kling_pricing.reconcile.problems import IGNORED
from kling_pricing.reconcile.rounded_ids import refuse_rounded_ids
from kling_pricing.reconcile.statements import MappingLike, Statement, read_statements
from kling_pricing.reconcile.units import check_account_currency, units_of
from kling_pricing.reconcile.workspace import Workspace
from kling_pricing.tables.price_book import PriceBook
from kling_pricing.windows import in_utc, utc_clock

_MAX_PROBLEMS = 10
"""The number of unreadable rows that a sample has."""


class SampleRow(NamedTuple):
    """A row of a statement as it is read.

    Attributes:
        row: its number in the file.
        task_id: the provider's name for the task; None: not stated.
        amount: the charge in `unit`, negative for a refund; None: not stated, or not readable.
        unit: a currency, or a unit of the provider's own.
        billed_at: when the task was charged, else when it was submitted, UTC; None: not stated.
        model: the model as the statement writes it; None: not stated.
        duration_s: the stated length in seconds; None: not stated.
        state: the state of the task; None: not stated.
        problem: why the row cannot be read, in words; None: it can be read.
        remedy: the action that solves the problem; empty if there is none.
        cell: of a sum of tasks: the texts that say which tasks it adds up, such as `2026-11-05, kling-v3`;
            None: the row is about a task.
    """

    row: int
    task_id: str | None
    amount: Decimal | None
    unit: str | None
    billed_at: datetime | None
    model: str | None
    duration_s: Decimal | None
    state: str | None
    problem: str | None
    remedy: str
    cell: str | None = None


class StatementSample(NamedTuple):
    """A statement as it is read.

    Attributes:
        file: the name of the file.
        mapping: the name of the mapping that gives the meaning of its columns.
        about: the description of that mapping.
        read: the number of rows.
        unreadable: the number of rows that cannot be read.
        ignored: the number of rows that are not charges by the mapping.
        sums: unit -> the sum of the readable charges in it.
        first, last: the earliest and the latest time of a charge, UTC; None: no charge has a time.
        rows: the first rows that count, with those that cannot be read among them.
        problems: the first rows that cannot be read.
        totals: what the totals in the file say, compared with the sum of the rows, each a clause.
        totals_agree: whether each of these totals is the sum of the rows.
        notes: what else the file contains, such as footers, each a clause.
    """

    file: str
    mapping: str
    about: str
    read: int
    unreadable: int
    ignored: int
    sums: Mapping[str, Decimal]
    first: datetime | None
    last: datetime | None
    rows: Sequence[SampleRow]
    problems: Sequence[SampleRow]
    totals: Sequence[str] = ()
    totals_agree: bool = True
    notes: Sequence[str] = ()


def sample_statement(
    statement: str | os.PathLike[str],
    *,
    provider: str,
    mapping: MappingLike = None,
    encoding: str | None = None,
    account_currency: str | None = None,
    rows: int = 10,
    book: PriceBook | None = None,
) -> StatementSample:
    """Reads a statement as `reconcile` does, and returns how its first rows are read.

    No ledger is used, so an id that a program has changed counts as unreadable even if `reconcile` restores it.

    Args:
        statement: a file of the provider's statement.
        provider: the provider that bills.
        mapping: the mapping of the columns: a name, or a YAML file; by default, the mapping that matches.
        encoding: the encoding of a text file that does not state its own; None: UTF-8.
        account_currency: the currency of amounts that the statement gives without a currency; by default that
            of the price table.
        rows: the number of rows to return.
        book: the price tables of the units; by default the bundled ones and those of `KLING_PRICING_TABLES`.

    Raises:
        StatementError: the file cannot be read, or does not fit its mapping.
        TableError: the mapping is refused.
        PriceNotFoundError: the provider is unknown.
        KlingPricingError: an argument cannot be used.
    """
    if rows < 1:
        raise KlingPricingError(f"rows must be 1 or more, got {rows}")
    check_account_currency(account_currency)
    book = default_book() if book is None else book
    table = book.tables_of(provider)[-1]
    workspace = Workspace()
    try:
        (read,) = read_statements(
            workspace,
            [statement],
            provider=provider,
            book=book,
            mapping=mapping,
            units=units_of(book, provider, in_utc(utc_clock(None)())),
            currency=account_currency or table.account_currency("") or table.currency,
            encoding=encoding,
            on_bytes=lambda _done, _total: None,
        )
        workspace.run("CREATE TABLE reserved (task_id VARCHAR)")  # there is no ledger
        notes = read_footers(workspace, [read])
        restore_ids(workspace, [read])
        refuse_rounded_ids(workspace, [read])
        controls = read_control_totals(workspace, [read])
        return _sample(workspace, read, rows)._replace(
            totals=[str(control) for control in controls],
            totals_agree=all(control.agrees for control in controls),
            notes=notes,
        )
    finally:
        workspace.close()


_UNREAD = f"problem IS NOT NULL AND problem.kind NOT IN ({IGNORED})"
_COUNTS = f"""
    SELECT count(*), count(*) FILTER ({_UNREAD}), count(*) FILTER (problem.kind IN ({IGNORED})),
      min(coalesce(billed_at, submitted_at)) FILTER (problem IS NULL),
      max(coalesce(billed_at, submitted_at)) FILTER (problem IS NULL)
    FROM charge
"""
_SUMS = """
    SELECT unit, sum(native) FROM charge WHERE problem IS NULL AND native IS NOT NULL
    GROUP BY unit ORDER BY unit
"""
_ROWS = """
    SELECT rowid, "row", nullif(task_id, ''), native, nullif(unit, ''), coalesce(billed_at, submitted_at),
      nullif(stated.model, ''), duration_s, state, problem, stated
    FROM charge WHERE {} ORDER BY rowid LIMIT ?
"""


def _sample(workspace: Workspace, statement: Statement, rows: int) -> StatementSample:
    ((read, unreadable, ignored, first, last),) = workspace.all(_COUNTS)
    kept = f"problem IS NULL OR problem.kind NOT IN ({IGNORED})"
    return StatementSample(
        statement.name,
        statement.mapping.statement,
        statement.mapping.about,
        read,
        unreadable,
        ignored,
        {unit: from_nanos(amount) for unit, amount in workspace.all(_SUMS)},
        None if statement.is_aggregate else _instant(first),
        None if statement.is_aggregate else _instant(last),
        [_row(statement, *values) for values in workspace.all(_ROWS.format(kept), [rows])],
        [_row(statement, *values) for values in workspace.all(_ROWS.format(_UNREAD), [_MAX_PROBLEMS])],
    )


def _row(
    statement: Statement,
    place: int,
    row: int | None,
    task_id: str | None,
    native: int | None,
    unit: str | None,
    at: datetime | None,
    model: str | None,
    duration_s: Decimal | None,
    state: str | None,
    problem: Mapping[str, str] | None,
    stated: Mapping[str, Any],
) -> SampleRow:
    cause, remedy = (None, "") if problem is None else row_problem(problem)
    return SampleRow(
        place - statement.first + statement.first_row if row is None else row,
        task_id if problem is None and not statement.is_aggregate else None,
        None if native is None else from_nanos(native),
        unit if problem is None or native is not None else None,
        None if statement.is_aggregate else _instant(at),
        model if problem is None else None,
        None if duration_s is None else duration_s.normalize(),
        state,
        cause,
        remedy,
        _cell(at, stated) if problem is None and statement.is_aggregate else None,
    )


def _cell(day: datetime | None, stated: Mapping[str, Any]) -> str:
    """Returns the texts that say which tasks a row adds up."""
    *parts, _tasks = stated["facts"]
    texts = ("" if day is None else f"{day:%Y-%m-%d}", stated["model"], stated["resolution"], *parts)
    return ", ".join(filter(None, texts))


def _instant(at: datetime | None) -> datetime | None:
    return None if at is None else at.replace(tzinfo=UTC)
