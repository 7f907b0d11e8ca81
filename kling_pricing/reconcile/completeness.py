"""Completeness: whether the statement is whole enough for the reconciliation to mean anything.

A statement can have no exceptions although nothing was checked: much of it cannot be read, it belongs to
another provider, or its rows do not come to the total of the invoice. Each such gap is a reason why the month
is not reconciled.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

from kling_pricing.display import shown
from kling_pricing.errors import KlingPricingError, StatementError
from kling_pricing.ledger import Ledger
from kling_pricing.ledger.provider_accounts import ProviderAccount
from kling_pricing.ledger.sent_lines import SENT, SENT_SEPARATOR
from kling_pricing.money import add, exact_amount, format_decimal, from_nanos, sum_of
from kling_pricing.reconcile.model import Invoice, Rows, Total
from kling_pricing.reconcile.problems import IGNORED, LEFT_OUT
from kling_pricing.reconcile.statements import Statement
from kling_pricing.reconcile.workspace import Workspace

MAX_UNREADABLE_PERCENT = Decimal(1)
"""The largest part of a statement's rows that may be unreadable, in percent, unless the caller decides."""

_CURRENCY = re.compile("[A-Z]{3}")
_CENT = Decimal("0.01")
_MAX_UNKNOWN = 10_000
"""The largest number of unknown tasks to look up at other providers."""
_ENOUGH_TASKS = 3
"""If so many unknown tasks are another provider's, the statement is that provider's."""


class ControlTotal(NamedTuple):
    """A row of a statement that gives the total of other rows.

    Attributes:
        row: its place, as `file:row`.
        unit: the unit or currency of the total.
        stated: the total that the row gives; None: its amount cannot be read.
        counted: the sum of the rows above it that can be read; None: they cannot be added up.
        unread: the number of rows of the file that cannot be read and may be charges.
    """

    row: str
    unit: str
    stated: Decimal | None
    counted: Decimal | None
    unread: int

    @property
    def agrees(self) -> bool:
        """Whether the total is the sum of the rows."""
        return self.stated is not None and self.stated == self.counted

    def __str__(self) -> str:
        if self.stated is None:
            return f"{self.row} is a total whose amount cannot be read (correct the amount, and keep this row)"
        stated = f"{self.row} gives a total of {format_decimal(self.stated)} {self.unit}".strip()
        if self.agrees:
            return f"{stated}, which is the sum of the rows"
        if self.counted is None:
            return (
                f"{stated}, which cannot be compared with the rows (compare it with the invoice, and keep this "
                "row)"
            )
        first = "find out which charges are missing or wrong"
        if self.unread:
            rows = "row that" if self.unread == 1 else f"{self.unread:,} rows that"
            first = f"first correct the {rows} cannot be read"
        return (
            f"{stated}, but the sum of the readable rows is {format_decimal(self.counted)} ({first}, and keep "
            "this row)"
        )


class Completeness(NamedTuple):
    """The result of the checks of completeness.

    Attributes:
        gaps: the reasons why the period is not reconciled, each a clause; empty: it is.
        confirmed: the totals that were compared with the rows and agree, each a clause.
        not_ours: why the statement seems to be another account's or provider's, as a clause; None: it does not.
    """

    gaps: tuple[str, ...]
    confirmed: tuple[str, ...]
    not_ours: str | None


def read_control_totals(workspace: Workspace, statements: Sequence[Statement]) -> list[ControlTotal]:
    """Returns the totals in the files, and leaves out their rows, which are no charges.

    A total is the sum of all rows of its file, or of those since the total before it. The sum is not known if
    the total has another unit than the rows, or if the rows are responses, or correct each other.
    """
    if not workspace.one("SELECT count(*) FROM charge WHERE problem.kind = 'total'"):
        return []
    rows = workspace.all(
        f"""
        WITH counted AS (
          SELECT rowid AS place, file, "row", unit, native, problem IS NULL AND native IS NOT NULL AS is_charge,
            ifnull(problem.kind = 'total', FALSE) AS is_total,
            count(*) FILTER (may_charge AND problem.kind NOT IN ({IGNORED}, 'total'))
              OVER (PARTITION BY file) AS unread
          FROM charge
        ), united AS (
          SELECT *, count(DISTINCT unit) FILTER (is_charge) OVER (PARTITION BY file) AS units,
            any_value(unit) FILTER (is_charge) OVER (PARTITION BY file) AS only_unit,
            ifnull(sum(1) FILTER (is_total) OVER (PARTITION BY file ORDER BY place
              ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0) AS block
          FROM counted
        ), named AS (
          SELECT * REPLACE (CASE WHEN is_total AND units = 1 THEN only_unit ELSE unit END AS unit) FROM united
        )
        SELECT total.place, total.file, total."row", ifnull(total.unit, ''), total.native, total.unread,
          CASE WHEN max(total.units) = 0 OR count(charge.native) > 0 THEN ifnull(sum(charge.native), 0) END,
          ifnull(sum(charge.native) FILTER (charge.block = total.block), 0)
        FROM named AS total LEFT JOIN named AS charge ON charge.file = total.file AND charge.unit = total.unit
          AND charge.is_charge
        WHERE total.is_total
        GROUP BY ALL ORDER BY total.place
        """
    )
    totals = []
    for place, file, row, unit, stated, unread, whole, block in rows:
        statement = statements[file]
        number = place - statement.first + statement.first_row if row is None else row
        if statement.is_answers or statement.is_precharged:
            whole = None  # noqa: PLW2901 (such rows do not add up to a total)
        counted = block if whole is not None and stated == block else whole
        totals.append(ControlTotal(f"{statement.name}:{number}", unit, _exact(stated), _exact(counted), unread))
    problem = "{'column': '', 'kind': ?, 'text': ''}"
    workspace.run(f"UPDATE charge SET problem = {problem} WHERE problem.kind = 'total'", [LEFT_OUT])
    return totals


def _exact(nanos: int | None) -> Decimal | None:
    return None if nanos is None else from_nanos(int(nanos))


def check_completeness(
    workspace: Workspace,
    rows: Rows,
    totals: Sequence[Total],
    *,
    controls: Iterable[ControlTotal],
    invoice: Invoice | None,
    max_unreadable_percent: Decimal,
    not_ours: str | None,
    given: int | None = None,
    unknown: str = "none of the tasks on the statement is in the ledger",
) -> Completeness:
    """Compares the statement with the totals that it, and its invoice, give.

    Args:
        workspace: the database with the lines.
        rows: the rows of the statement, counted.
        totals: the sums of all lines, per currency.
        controls: the totals in the files.
        invoice: the invoice; None: it is not known.
        max_unreadable_percent: the largest part of the rows that may be unreadable.
        not_ours: why the statement seems to be another account's or provider's, as a clause.
        given: the number of given files; only their rows show that the statement was compared, because
            remembered files would show it of any file. None: no file is remembered.
        unknown: why nothing was compared if the ledger knows none of the charges, as a clause.
    """
    gaps: list[str] = []
    confirmed: list[str] = []
    if not_ours is not None:
        gaps.append(not_ours)
    of_given = ""
    if given is not None:
        of_given = (
            " AND place IN (SELECT rowid FROM charge WHERE file < $given"
            " OR task_id IN (SELECT task_id FROM charge WHERE file < $given))"
        )
    if not workspace.one(
        "SELECT count(*) FROM line WHERE place IS NOT NULL"
        f" AND category NOT IN ('invalid_row', 'not_billed', 'not_billed_yet', 'not_in_ledger'){of_given}",
        {"given": given} if of_given else None,
    ):
        gaps.append(_nothing_compared(rows, unknown))
    unreadable = workspace.one("SELECT count(*) FROM line WHERE category = 'invalid_row'")
    read = rows.read - rows.ignored
    if unreadable * 100 > max_unreadable_percent * read:
        gaps.append(
            f"{unreadable:,} of {read:,} rows cannot be read, which is more than "
            f"{format_decimal(max_unreadable_percent)}%"
        )
    for control in controls:
        (confirmed if control.agrees else gaps).append(str(control))
    if invoice is not None:
        agrees, clause = _compared(invoice, totals)
        (confirmed if agrees else gaps).append(clause)
    return Completeness(tuple(gaps), tuple(confirmed), not_ours)


def _nothing_compared(rows: Rows, unknown: str) -> str:
    if not rows.read:
        return "nothing was compared, because the statement has no rows"
    if rows.charges:
        return f"nothing was compared, because {unknown}"
    if rows.invalid and rows.invalid == rows.read - rows.ignored - rows.outside:
        return "nothing was compared, because no row of the period can be read"
    return "nothing was compared, because the statement charges nothing in the period"


def _compared(invoice: Invoice, totals: Sequence[Total]) -> tuple[bool, str]:
    """Returns whether the invoice's total is the sum of the rows, and a clause about it.

    An invoice is rounded to its last digit, which is a hundredth or less.
    """
    billed = sum_of(total.billed for total in totals if total.currency == invoice.currency)
    step = min(_CENT, Decimal(1).scaleb(int(invoice.total.as_tuple().exponent)))
    difference = add(billed, -invoice.total)
    name = "the invoice" if invoice.id is None else f"invoice {invoice.id}"
    asks = f"{name} has a total of {format_decimal(invoice.total)} {invoice.currency}"
    if abs(difference) < step:
        rounded = f", {format_decimal(billed)} {invoice.currency}, rounded" if difference else ""
        return True, f"{asks}, which is the sum of the rows{rounded}"
    others = sorted({total.currency for total in totals if total.billed} - {invoice.currency})
    more = f" (plus amounts in {', '.join(others)})" if others else ""
    side = "more" if difference > 0 else "less"
    return False, (
        f"{asks}, but the sum of the rows is {format_decimal(billed)} {invoice.currency}{more}, "
        f"{format_decimal(abs(difference))} {side}"
    )


def checked_invoice(invoice: Invoice | None) -> Invoice | None:
    """Returns an invoice with an exact total.

    Raises:
        KlingPricingError: the total or the currency cannot be used.
    """
    if invoice is None:
        return None
    if not isinstance(invoice, Invoice):
        raise KlingPricingError(f"invoice must be an Invoice, got {shown(invoice)}")
    if not _CURRENCY.fullmatch(str(invoice.currency)):
        raise KlingPricingError(
            "the currency of the invoice must be a code of three capital letters, such as USD, got "
            f"{shown(invoice.currency)}"
        )
    try:
        return invoice._replace(total=exact_amount(invoice.total))
    except KlingPricingError as error:
        raise KlingPricingError(f"the total of the invoice: {error}") from None


def checked_percent(percent: Decimal | int | str) -> Decimal:
    """Returns a percentage as an exact number.

    Raises:
        KlingPricingError: it is not a number from 0 to 100.
    """
    number = exact_amount(percent)
    if not 0 <= number <= 100:  # noqa: PLR2004
        raise KlingPricingError(f"max_unreadable_percent must be from 0 to 100, got {shown(percent)}")
    return number


def find_other_owner(
    workspace: Workspace,
    ledgers: Sequence[Ledger],
    account: ProviderAccount,
    providers: Iterable[str],
    before: datetime,
) -> str | None:
    """Returns why the statement seems to be another account's or provider's, as a clause; None: it does not.

    It does if most of its tasks are unknown, and the ledgers have some of these as tasks of another account at
    the provider, or of another provider.

    Args:
        workspace: the database with the lines.
        ledgers: the ledgers.
        account: the account that was given.
        providers: all known providers.
        before: reservations that were sent at or after this instant do not count.
    """
    unknown, others = workspace.all(
        "SELECT count(*) FILTER (category = 'not_in_ledger'),"
        " count(*) FILTER (category NOT IN ('not_in_ledger', 'invalid_row', 'not_billed', 'not_billed_yet'))"
        " FROM line WHERE place IS NOT NULL"
    )[0]
    if unknown <= others:
        return None
    tasks = {
        task_id
        for (task_id,) in workspace.all(
            "SELECT DISTINCT charge.task_id FROM line JOIN charge ON charge.rowid = line.place"
            f" WHERE category = 'not_in_ledger' ORDER BY 1 LIMIT {_MAX_UNKNOWN}"
        )
    }
    enough = min(_ENOUGH_TASKS, len(tasks))
    for other, known_tasks, task_id in workspace.all(
        "SELECT account, count(DISTINCT task_id), min(task_id) FROM elsewhere WHERE list_contains(?, task_id)"
        " GROUP BY account ORDER BY 2 DESC, 1",
        [sorted(tasks)],
    ):
        if known_tasks >= enough:
            return (
                f"the statement seems to be of account {other}: the ledger has {task_id} as a task of account "
                f"{other}, not of {account.account}"
            )
    provider = account.provider
    for other in providers:
        known: list[str] = []
        for ledger in ledgers if other != provider else ():
            for task_id in _tasks(ledger, other, before):
                if task_id in tasks:
                    known.append(task_id)
                    if len(known) == enough:
                        return (
                            f"the statement seems to be from {other}: the ledger has {known[0]} as a task of "
                            f"{other}, not of {provider}"
                        )
    return None


def _tasks(ledger: Ledger, provider: str, before: datetime) -> Iterator[str]:
    place = SENT.index("task_id")
    for block in ledger.sent(provider, before):
        for line in block.decode().splitlines():
            yield line.split(SENT_SEPARATOR)[place]


def refuse_other_owner(completeness: Completeness) -> None:
    """Refuses to book a statement that seems to be another account's or provider's.

    Raises:
        StatementError: it seems to be.
    """
    if completeness.not_ours is not None:
        raise StatementError(
            f"{completeness.not_ours}. Nothing was booked; give the right provider and account"
        )
