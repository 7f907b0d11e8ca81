"""Settles many reservations from a CSV file: first the plan, then the changes."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple

from kling_pricing.cli.ledger_options import reference
from kling_pricing.cli.output import counted, signed
from kling_pricing.display import shown
from kling_pricing.errors import KlingPricingError
from kling_pricing.guard import BudgetGuard
from kling_pricing.ledger.model import Basis, Ref, Reservation
from kling_pricing.money import add, format_decimal, ledger_amount

_NEEDED, _OPTIONAL = ("ref", "amount"), ("reason",)
_COLUMNS = "write the columns ref and amount, and optionally reason"
_SENT = {"dispatching", "bound", "settled", "released"}


class Correction(NamedTuple):
    """A row of the file.

    Attributes:
        place: its place, as `file:line`.
        ref: the reservation.
        amount: the amount to settle it at.
        reason: the reason in the row; None: there is none.
    """

    place: str
    ref: Ref
    amount: Decimal
    reason: str | None


class PlannedCorrection(NamedTuple):
    """A correction, and the reservation as it is before it."""

    correction: Correction
    before: Reservation

    def changes(self, basis: Basis) -> bool:
        """Returns whether the correction changes anything."""
        return (self.before.billed, self.before.basis) != (self.correction.amount, basis)

    def __str__(self) -> str:
        before, amount = self.before, format_decimal(self.correction.amount)
        was = "not settled" if before.billed is None else f"{format_decimal(before.billed)} ({before.basis})"
        task = f" (task {before.task_id})" if before.task_id else ""
        return f"{before.id}{task}: {was} becomes {amount} {before.currency}"


def read_corrections(file: str) -> list[Correction]:
    """Reads the corrections in a CSV file with the columns `ref`, `amount` and, if wanted, `reason`.

    Raises:
        KlingPricingError: the file cannot be read; the message lists every row that is wrong.
    """
    name = Path(file).name
    corrections, problems = [], []
    try:
        with Path(file).open(encoding="utf-8-sig", newline="") as lines:
            reader = csv.DictReader(lines, strict=True)
            columns = reader.fieldnames or []
            if missing := [column for column in _NEEDED if column not in columns]:
                raise KlingPricingError(f"{name}:1: the column {missing[0]} is missing; {_COLUMNS}")
            if unknown := [column for column in columns if column not in (*_NEEDED, *_OPTIONAL)]:
                raise KlingPricingError(f"{name}:1: unknown column {shown(unknown[0])}; {_COLUMNS}")
            for row in reader:
                place = f"{name}:{reader.line_num}"
                try:
                    corrections.append(_correction(place, row))
                except KlingPricingError as error:
                    problems.append(f"{place}: {error}")
    except OSError as error:
        raise KlingPricingError(f"{name}: cannot be read: {error.strerror}") from None
    except (csv.Error, UnicodeDecodeError) as error:
        raise KlingPricingError(f"{name}: is not a CSV file in UTF-8: {error}") from None
    if problems:
        raise KlingPricingError(f"{'; '.join(problems)}. Nothing was changed")
    if not corrections:
        raise KlingPricingError(f"{name}: has no rows; write one row per reservation below the header")
    return corrections


def _correction(place: str, row: dict[str, str | None]) -> Correction:
    if None in row or None in row.values():
        raise KlingPricingError("the row does not have as many values as the header")
    texts = {name: (value or "").strip() for name, value in row.items()}
    if not texts["ref"]:
        raise KlingPricingError("ref is empty; write the reservation's id, or PROVIDER:TASK_ID")
    return Correction(
        place, reference(texts["ref"]), ledger_amount(texts["amount"]), texts.get("reason") or None
    )


def planned(guard: BudgetGuard, corrections: list[Correction]) -> list[PlannedCorrection]:
    """Returns the corrections with the reservations that they concern.

    Raises:
        KlingPricingError: a reservation does not exist, was never sent, or is in two rows. The message lists
            all such rows.
    """
    plan, problems = [], []
    places: dict[str, str] = {}
    for correction in corrections:
        try:
            before = guard.reservation(correction.ref)
        except KlingPricingError as error:
            problems.append(f"{correction.place}: {error}")
            continue
        if before.id in places:
            problems.append(
                f"{correction.place}: reservation {before.id} is also in {places[before.id]}; keep one of the "
                "rows"
            )
        elif before.state not in _SENT or before.dispatched_at is None:
            problems.append(f"{correction.place}: reservation {before.id} was never sent; remove the row")
        places.setdefault(before.id, correction.place)
        plan.append(PlannedCorrection(correction, before))
    if problems:
        raise KlingPricingError(f"{'; '.join(problems)}. Nothing was changed")
    return plan


def plan_text(plan: list[PlannedCorrection], basis: Basis) -> Iterator[str]:
    """Yields the lines of the plan: each change, and the sums per currency."""
    changes = [each for each in plan if each.changes(basis)]
    sums: dict[str, Decimal] = {}
    for each in changes:
        yield f"~ {each}"
        difference = add(each.correction.amount, -(each.before.billed or Decimal(0)))
        sums[each.before.currency] = add(sums.get(each.before.currency, Decimal(0)), difference)
    unchanged = len(plan) - len(changes)
    totals = "".join(f"; {signed(amount)} {currency}" for currency, amount in sorted(sums.items()))
    yield f"{counted(len(changes), 'reservation')} to change, {unchanged} unchanged{totals}"
