"""Journal lines for the month's close: expense as it was used, and the liability until it is invoiced.

What was used is an expense at what was expected, whether or not it is billed; its other side is accrued
liabilities.
What was billed otherwise goes to an account of its own, so that accrued liabilities hold exactly what the
provider's invoice takes off them; what remains then is what was used and not billed.
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
"""By how much of an amount a charge may miss the hold that it fits: statements round."""

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
    twice = _counted_by_charges(reconciled)
    for line in reconciled.lines():
        if line.billed is None and line.reservation_id in twice:
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
    otherwise = line.variance
    if _of_another_period(line, reconciled):
        otherwise = subtract(line.billed or Decimal(0), line.due or Decimal(0))
    elif line.expected:
        yield ("used and billed" if billed else "used and not billed"), line.expected
    if billed and otherwise:
        yield "billed otherwise", otherwise


def _of_another_period(line: Line, reconciled: Reconciled) -> bool:
    """Whether a line was used, and so was an expense, in an earlier or later period than it is billed in."""
    at = line.submitted_at
    return line.category == "timing" and at is not None and not reconciled.since <= at < reconciled.until


def _counted_by_charges(reconciled: Reconciled) -> set[str | None]:
    """Reservations of holds that a charge of an unknown task counts: as many as there are such charges.

    A charge that fits several holds is of one of them, and any will do: they are of the same amount, as the
    statement can write it.
    """
    in_doubt = sorted(
        reconciled.lines("in_doubt_candidate"), key=lambda each: (each.currency, each.billed or each.expected)
    )
    found: set[str | None] = set()
    charges = deque((each.currency, each.billed) for each in in_doubt if each.billed is not None)
    for hold in in_doubt:
        expected = hold.expected
        if hold.billed is not None or expected is None:
            continue
        least, most = (multiply(expected, each) for each in (1 - _ROUNDING, 1 + _ROUNDING))
        while charges and charges[0] < (hold.currency, least):
            charges.popleft()
        if charges and charges[0] <= (hold.currency, most):
            charges.popleft()
            found.add(hold.reservation_id)
    return found


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
