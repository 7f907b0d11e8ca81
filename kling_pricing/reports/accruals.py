"""Journal lines for the month's close: the expense of the period, and the liability until it is invoiced.

Usage is an expense at its expected amount, whether or not it is billed; its other side is accrued liabilities.
The difference from the billed amount goes to a separate account, and so does the part that is disputed.
Accrued liabilities then contain exactly the amount of the provider's invoice, and usage that is not billed yet.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import timedelta
from decimal import Decimal
from typing import Literal, TypeAlias

from kling_pricing.money import add
from kling_pricing.reconcile.model import ACCOUNT_TITLES, Account, AccruedMonth, Reconciled
from kling_pricing.reports.document import Column, Row, Section
from kling_pricing.reports.formatting import counted, safe_or_none

LIABILITY = ACCOUNT_TITLES["liability"]

Purpose: TypeAlias = Literal["used", "billed differently", "disputed"]
"""The reason for an entry."""

_ENTRIES: dict[Account, tuple[Purpose, str]] = {
    "expense": ("used", "at the expected amount"),
    "variance": ("billed differently", "billed minus expected"),
    "disputed": ("disputed", "disputed with the provider"),
}
"""Account -> the purpose of its entries, and a memo."""


def section(reconciled: Reconciled) -> Section:
    """Returns the journal lines of a period, per project and currency; debits equal credits exactly."""
    day = f"{reconciled.until - timedelta(microseconds=1):%Y-%m-%d}"
    rows = tuple(_rows(reconciled, day))
    return Section(
        "accruals",
        "Accruals",
        f"The expense for the period, credited to {LIABILITY.lower()}. Book the invoice against the accrued "
        "liabilities. The remaining liabilities are usage that is not billed yet.",
        (
            Column("entry", "Entry", "count"),
            Column("day", "Day", "day"),
            Column("account", "Account"),
            Column("project", "Project", missing="no project"),
            Column("currency", "Currency"),
            Column("debit", "Debit", "amount"),
            Column("credit", "Credit", "amount"),
            Column("purpose", "Why"),
            Column("memo", "Memo", "prose", on_page=False),
        ),
        lambda: rows,
        tuple(_totals(rows)),
        in_print=False,
    )


def by_month(accrued: Sequence[AccruedMonth]) -> Section:
    """Returns the table of what remains in the liabilities because it is not charged yet, by month of use."""
    totals: dict[str, tuple[int, Decimal]] = {}
    for each in accrued:
        tasks, amount = totals.get(each.currency, (0, Decimal(0)))
        totals[each.currency] = (tasks + each.tasks, add(amount, each.amount))
    return Section(
        "accrued",
        "Amount to accrue, by month",
        "Usage that is not charged at the end of the period, by the month in which its tasks were sent.",
        (
            Column("month", "Month"),
            Column("currency", "Currency"),
            Column("tasks", "Tasks", "count"),
            Column("amount", "Amount", "amount"),
        ),
        lambda: [(each.month, each.currency, each.tasks, each.amount) for each in accrued],
        tuple(("Total", currency, *total) for currency, total in totals.items()),
        in_print=False,
    )


def _rows(reconciled: Reconciled, day: str) -> Iterator[Row]:
    number = 0
    for line in reconciled.journal():
        if line.account not in _ENTRIES:
            continue  # the other side of these entries
        number += 1
        account, (purpose, reason) = ACCOUNT_TITLES[line.account], _ENTRIES[line.account]
        debited, credited = (account, LIABILITY) if line.amount > 0 else (LIABILITY, account)
        memo = f"{counted(line.tasks, 'task')}: {reason}"
        named = safe_or_none(line.project or None)
        amount = abs(line.amount)
        yield number, day, debited, named, line.currency, amount, None, purpose, memo
        yield number, day, credited, named, line.currency, None, amount, purpose, memo


def _totals(rows: tuple[Row, ...]) -> Iterator[Row]:
    sides: dict[str, list[Decimal]] = {}
    for _, _, _, _, currency, debit, credit, _, _ in rows:
        both = sides.setdefault(str(currency), [Decimal(0), Decimal(0)])
        for side, amount in enumerate((debit, credit)):
            if isinstance(amount, Decimal):
                both[side] = add(both[side], amount)
    for currency, (debit, credit) in sorted(sides.items()):
        yield None, None, "Total", None, currency, debit, credit, None, None
