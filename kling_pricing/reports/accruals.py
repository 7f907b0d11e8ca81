"""Journal lines for the month's close: the expense of the period, and the liability until it is invoiced.

Usage is an expense at its expected amount, whether or not it is billed; its other side is accrued liabilities.
The difference from the billed amount goes to a separate account.
Accrued liabilities then contain exactly the amount of the provider's invoice, and usage that is not billed yet.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from datetime import timedelta
from decimal import Decimal
from typing import Literal, NamedTuple, TypeAlias

from kling_pricing.money import add, multiply, subtract
from kling_pricing.reconcile.model import Line, Reconciled
from kling_pricing.reports.document import Column, Row, Section
from kling_pricing.reports.formatting import counted, safe_or_none

EXPENSE = "Video generation"
VARIANCE = "Billing variance"
LIABILITY = "Accrued liabilities"

_ROUNDING = Decimal("0.01")
"""The part of an amount by which a charge may differ from the request that it fits: statements round."""

Purpose: TypeAlias = Literal["used and billed", "used and not billed", "billed differently"]
"""The reason for an entry."""

_PURPOSES: dict[Purpose, tuple[str, str]] = {
    "used and billed": (EXPENSE, "at the expected amount; on the statement"),
    "used and not billed": (EXPENSE, "at the expected amount; not on the statement yet"),
    "billed differently": (VARIANCE, "billed minus expected"),
}


class _Sum(NamedTuple):
    amount: Decimal
    tasks: int


def section(reconciled: Reconciled) -> Section:
    """Returns the journal lines of a period, per project and currency; debits equal credits exactly."""
    sums: dict[tuple[str, str, Purpose], _Sum] = {}
    counted_as_charges = _requests_of_unknown_charges(reconciled)
    for line in reconciled.lines():
        if line.billed is None and line.reservation_id in counted_as_charges:
            continue
        for purpose, amount in _parts(line, reconciled):
            key = (line.currency, line.project or "", purpose)
            before = sums.get(key, _Sum(Decimal(0), 0))
            sums[key] = _Sum(add(before.amount, amount), before.tasks + 1)
    day = f"{reconciled.until - timedelta(microseconds=1):%Y-%m-%d}"
    rows = tuple(_rows(sums, day))
    return Section(
        "accruals",
        "Accruals",
        f"The expense for the period, credited to {LIABILITY.lower()}. Book the invoice against the accrued "
        "liabilities. The remaining liabilities are usage that is not billed yet.",
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
    """Yields what a line adds to the entries: its usage in the period, and the difference that was billed."""
    billed = line.billed is not None
    difference = line.variance
    if _of_another_period(line, reconciled):
        difference = subtract(line.billed or Decimal(0), line.due or Decimal(0))
    elif line.expected:
        yield ("used and billed" if billed else "used and not billed"), line.expected
    if billed and difference:
        yield "billed differently", difference


def _of_another_period(line: Line, reconciled: Reconciled) -> bool:
    """Returns whether the usage of a line, and so its expense, is in another period than its charge."""
    at = line.submitted_at
    return line.category == "timing" and at is not None and not reconciled.since <= at < reconciled.until


def _requests_of_unknown_charges(reconciled: Reconciled) -> set[str | None]:
    """Returns the reservations of requests that the charges of unknown tasks already count, one per charge.

    A charge that fits several requests belongs to one of them. Any of them will do, because they have the same
    amount as far as the statement can express it.
    """
    in_doubt = sorted(
        reconciled.lines("in_doubt_candidate"), key=lambda line: (line.currency, line.billed or line.expected)
    )
    reservations: set[str | None] = set()
    charges = deque((line.currency, line.billed) for line in in_doubt if line.billed is not None)
    for request in in_doubt:
        expected = request.expected
        if request.billed is not None or expected is None:
            continue
        least, most = (multiply(expected, factor) for factor in (1 - _ROUNDING, 1 + _ROUNDING))
        while charges and charges[0] < (request.currency, least):
            charges.popleft()
        if charges and charges[0] <= (request.currency, most):
            charges.popleft()
            reservations.add(request.reservation_id)
    return reservations


def _rows(sums: Mapping[tuple[str, str, Purpose], _Sum], day: str) -> Iterator[Row]:
    order = list(_PURPOSES)
    number = 0
    for currency, project, purpose in sorted(sums, key=lambda key: (*key[:2], order.index(key[2]))):
        amount, tasks = sums[currency, project, purpose]
        if not amount:
            continue
        number += 1
        account, reason = _PURPOSES[purpose]
        debited, credited = (account, LIABILITY) if amount > 0 else (LIABILITY, account)
        memo = f"{counted(tasks, 'task')}: {reason}"
        named = safe_or_none(project or None)
        yield number, day, debited, named, currency, abs(amount), None, purpose, memo
        yield number, day, credited, named, currency, None, abs(amount), purpose, memo


def _totals(rows: tuple[Row, ...]) -> Iterator[Row]:
    sides: dict[str, list[Decimal]] = {}
    for _, _, _, _, currency, debit, credit, _, _ in rows:
        both = sides.setdefault(str(currency), [Decimal(0), Decimal(0)])
        for side, amount in enumerate((debit, credit)):
            if isinstance(amount, Decimal):
                both[side] = add(both[side], amount)
    for currency, (debit, credit) in sorted(sides.items()):
        yield None, None, "Total", None, currency, debit, credit, None, None
