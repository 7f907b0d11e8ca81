"""The causes of exceptions: many lines need action for few reasons."""

from __future__ import annotations

from decimal import Decimal
from typing import NamedTuple

from kling_pricing.money import add, subtract
from kling_pricing.reconcile.categories import Category
from kling_pricing.reconcile.model import Line, Reconciled, exceptions_of


class Cause(NamedTuple):
    """The exceptions that have a cause in common, in one currency.

    Attributes:
        number: its place in the list of causes, from 1.
        category: the category of the lines.
        cause: the cause in words, without the details of a task.
        currency: the currency of the amounts.
        lines: the number of lines.
        expected: sum of the expected amounts.
        billed: sum of the billed amounts.
        variance: billed minus expected.
        example: the first of the tasks or sums; None: no line names its task.
    """

    number: int
    category: Category
    cause: str
    currency: str
    lines: int
    expected: Decimal
    billed: Decimal
    variance: Decimal
    example: str | None


def exceptions_by_cause(reconciled: Reconciled) -> list[Cause]:
    """Returns the causes of the exceptions: by currency, the largest variance first.

    Every exception counts in exactly one cause, so the causes add up to `exceptions`.
    """
    causes: dict[tuple[Category, str, str], Cause] = {}
    for line in exceptions_of(reconciled):
        place = cause_key(line)
        cause = causes.get(place)
        if cause is None:
            cause = Cause(0, *place, 0, Decimal(0), Decimal(0), Decimal(0), None)
        expected = add(cause.expected, line.expected or Decimal(0))
        billed = add(cause.billed, line.billed or Decimal(0))
        causes[place] = cause._replace(
            lines=cause.lines + 1,
            expected=expected,
            billed=billed,
            variance=subtract(billed, expected),
            example=cause.example or line.task_id or line.cell,
        )
    ordered = sorted(
        causes.values(),
        key=lambda cause: (cause.currency, -abs(cause.variance), -cause.lines, cause.category, cause.cause),
    )
    return [cause._replace(number=number) for number, cause in enumerate(ordered, start=1)]


def cause_key(line: Line) -> tuple[Category, str, str]:
    """Returns what the lines with the same cause have in common: category, cause and currency."""
    return line.category, line.shared_cause, line.currency
