"""The causes of exceptions, as the command `kling-pricing reconcile` shows them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from decimal import Decimal
from typing import Any

from kling_pricing.cli.output import signed
from kling_pricing.money import format_decimal
from kling_pricing.reconcile.causes import Cause

_MAX_CAUSES = 20
"""Maximum number of causes to list; `--json` and the reports contain all of them."""

_AMOUNTS = ("expected", "billed", "variance")


def causes_as_dicts(causes: Sequence[Cause]) -> list[dict[str, Any]]:
    """Returns causes as JSON-ready data; amounts are text."""
    return [
        cause._asdict() | {name: format_decimal(getattr(cause, name)) for name in _AMOUNTS} for cause in causes
    ]


def causes_table(causes: Sequence[dict[str, Any]]) -> Iterator[str]:
    """Yields the lines of a table of causes: how many lines each has, what they come to, and its words."""
    if not causes:
        return
    shown = causes[:_MAX_CAUSES]
    counts = [str(cause["lines"]) for cause in shown]
    sums = [f"{signed(Decimal(cause['variance']))} {cause['currency']}" for cause in shown]
    wide, wider = max(map(len, [*counts, "lines"])), max(map(len, [*sums, "variance"]))
    yield "exceptions by cause:"
    yield f"  {'lines':>{wide}}  {'variance':>{wider}}  cause"
    for cause, count, total in zip(shown, counts, sums, strict=True):
        yield f"  {count:>{wide}}  {total:>{wider}}  {cause['category'].replace('_', ' ')}: {cause['cause']}"
    if len(causes) > len(shown):
        yield f"  and {len(causes) - len(shown)} more causes"
