"""Journal lines for the month's close: expense as it was used, and the liability until it is invoiced.

What was used is an expense at what was expected, whether or not it is billed; its other side is accrued
liabilities.
What was billed otherwise goes to an account of its own, so that accrued liabilities hold exactly what the
provider's invoice takes off them; what remains then is what was used and not billed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta
from decimal import Decimal
from typing import Literal, NamedTuple, TypeAlias

from kling_pricing.money import add
from kling_pricing.reconcile.records import Line, Reconciled
from kling_pricing.reports.document import Column, Row, Section
from kling_pricing.reports.words import counted, safe_or_none

EXPENSE = "Video generation"
VARIANCE = "Billing variance"
LIABILITY = "Accrued liabilities"

Purpose: TypeAlias = Literal["used and billed", "used and not billed", "billed otherwise"]
"""Why an entry is made."""

_PURPOSES: dict[Purpose, tuple[str, str]] = {
    "used and billed": (EXPENSE, "as expected, and on the statement"),
    "used and not billed": (EXPENSE, "as expected, and not on the statement yet"),
    "billed otherwise": (VARIANCE, "billed minus expected"),
}


class _Sum(NamedTuple):
    amount: Decimal
    tasks: int


def section(reconciled: Reconciled) -> Section:
    """The journal lines of a period, per project and currency; debits are credits, exactly."""
    sums: dict[tuple[str, str, Purpose], _Sum] = {}
    for line in reconciled.lines():
        for purpose, amount in _parts(line, reconciled):
            key = (line.currency, line.project or "", purpose)
            before = sums.get(key, _Sum(Decimal(0), 0))
            sums[key] = _Sum(add(before.amount, amount), before.tasks + 1)
    day = f"{reconciled.until - timedelta(microseconds=1):%Y-%m-%d}"
    rows = tuple(_rows(sums, day))
    return Section(
        "accruals",
        "Accruals",
        f"Expense as it was used, {LIABILITY.lower()} until it is invoiced: book the invoice against "
        "these, and what remains of them is what was used and not billed.",
        (
            Column("entry", "Entry", "count"),
            Column("day", "Day"),
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
    )


def _parts(line: Line, reconciled: Reconciled) -> Iterator[tuple[Purpose, Decimal]]:
    """What a line adds to the entries: what was used in the period, and what was billed otherwise."""
    billed = line.billed is not None
    if line.category == "in_doubt_candidate" and not billed:
        return  # the charge that fits it is counted, and would be counted twice
    if line.expected and not _of_another_period(line, reconciled):
        yield ("used and billed" if billed else "used and not billed"), line.expected
    if billed and line.variance:
        yield "billed otherwise", line.variance


def _of_another_period(line: Line, reconciled: Reconciled) -> bool:
    """Whether a line was used, and so was an expense, in an earlier or later period than it is billed in."""
    at = line.submitted_at
    return line.category == "timing" and at is not None and not reconciled.since <= at < reconciled.until


def _rows(sums: Mapping[tuple[str, str, Purpose], _Sum], day: str) -> Iterator[Row]:
    order = list(_PURPOSES)
    number = 0
    for currency, project, purpose in sorted(sums, key=lambda key: (*key[:2], order.index(key[2]))):
        amount, tasks = sums[currency, project, purpose]
        if not amount:
            continue
        number += 1
        account, why = _PURPOSES[purpose]
        debited, credited = (account, LIABILITY) if amount > 0 else (LIABILITY, account)
        memo = f"{counted(tasks, 'task')}: {why}"
        whose = safe_or_none(project or None)
        yield number, day, debited, whose, currency, abs(amount), None, purpose, memo
        yield number, day, credited, whose, currency, None, abs(amount), purpose, memo


def _totals(rows: tuple[Row, ...]) -> Iterator[Row]:
    sides: dict[str, list[Decimal]] = {}
    for _, _, _, _, currency, debit, credit, _, _ in rows:
        both = sides.setdefault(str(currency), [Decimal(0), Decimal(0)])
        for side, amount in enumerate((debit, credit)):
            if isinstance(amount, Decimal):
                both[side] = add(both[side], amount)
    for currency, (debit, credit) in sorted(sides.items()):
        yield None, None, "Total", None, currency, debit, credit, None, None
