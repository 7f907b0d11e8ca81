"""The differences between budgets as lines of text, for people."""

from __future__ import annotations

import sys
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import NamedTuple

from rich.console import Console
from rich.text import Text

from kling_pricing.budgets import BudgetDifference
from kling_pricing.budgets.differences import difference_text, value_shown
from kling_pricing.display import printable
from kling_pricing.guard import BudgetPlan
from kling_pricing.ledger.journal import Bucket
from kling_pricing.money import format_decimal

_SIGNS = {"added": "+", "removed": "-", "changed": "~"}
_STYLES = {"added": "green", "removed": "red", "changed": "yellow", "weaker": "bold red"}
_AMOUNTS = {"cap", "max_request"}


class PlanLine(NamedTuple):
    """A line of text, and the style in which a terminal shows it."""

    text: str
    style: str = ""


def print_lines(lines: Sequence[PlanLine], *, err: bool = False) -> None:
    """Prints lines, wrapped at the width of the terminal. In a file or pipe, each line stays one line.

    Args:
        lines: the lines.
        err: whether to print on standard error instead of standard output.
    """
    stream = sys.stderr if err else sys.stdout
    console = Console(file=stream, highlight=False)
    for text, style in lines:
        shown = printable(text)
        indent = " " * (len(text) - len(text.lstrip()) + 4)
        wrapped = textwrap.wrap(
            shown,
            console.width,
            subsequent_indent=indent,
            break_long_words=False,
            break_on_hyphens=False,
        )
        for part in wrapped if stream.isatty() and wrapped else [shown]:
            console.print(Text(part, style), soft_wrap=True)


def plan_lines(plan: BudgetPlan) -> list[PlanLine]:
    """Returns a plan as lines: what changes, with the balances of the budgets that change, and its effects."""
    lines = [line for change in plan.changes for line in change_lines(change, plan.balances)]
    lines += [PlanLine(f"note: {note}") for note in plan.notes]
    lines += [PlanLine(f"refused: {problem}", _STYLES["weaker"]) for problem in plan.problems]
    return lines


def change_lines(
    change: BudgetDifference, balances: Mapping[str, Sequence[Bucket]] | None = None
) -> Iterator[PlanLine]:
    """Yields the lines for one difference."""
    sign, style = _SIGNS[change.kind], _STYLES[change.kind]
    subject = f"{sign} {change.kind}" if change.budget is None else f"{sign} {change.budget} {change.kind}"
    used = _used((balances or {}).get(change.budget or "", ()))
    if change.kind != "changed":
        unit = change.currency or ""
        parts = [
            f"{field.field} {value_shown(field.new if change.kind == 'added' else field.old)}"
            + (f" {unit}" if field.field in _AMOUNTS else "")
            + (" (weaker)" if field.weaker else "")
            for field in change.fields
            if field.field != "currency"
        ]
        yield PlanLine(
            f"{subject}: {', '.join(parts)}{used and f'; {used}'}",
            _STYLES["weaker"] if change.weaker else style,
        )
        return
    for place, field in enumerate(change.fields):
        mark = " (weaker)" if field.weaker else ""
        text = f"{difference_text(field, change.currency)}{mark}"
        text = f"    {text}" if place else f"{subject}: {text}"
        yield PlanLine(text, _STYLES["weaker"] if field.weaker else style)
    if used:
        yield PlanLine(f"    {used}")


def _used(buckets: Sequence[Bucket]) -> str:
    """Returns the amounts that buckets of one budget have spent and hold; empty if nothing was counted."""
    if not buckets:
        return ""
    spent, held = (
        format_decimal(sum((getattr(bucket, name) for bucket in buckets), Decimal(0)))
        for name in ("spent", "held")
    )
    among = f" in {len(buckets)} buckets" if len(buckets) > 1 else ""
    return f"spent {spent}, held {held} {buckets[0].currency}{among}"


def needed_options(plan: BudgetPlan) -> str:
    """Returns the options with which `budget apply` carries out a plan; empty if it needs none."""
    return " ".join(
        [*(f"--remove {name}" for name in plan.removed), *(["--allow-weaker"] if plan.weaker else [])]
    )
