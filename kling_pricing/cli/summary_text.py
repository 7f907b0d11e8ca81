"""Shows the sums of many requests as text that is at most 80 columns wide where names permit it."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import wrap

from kling_pricing.cli.wording import with_options
from kling_pricing.display import joined_with_and
from kling_pricing.quoting.quote import shown_range
from kling_pricing.shot_lists.summaries import ListSummary

WIDTH = 80


def groups_text(summary: ListSummary) -> list[str]:
    """Returns the number of requests and the sum of each group, one line per group and currency."""
    if not summary.groups:
        return []
    names = summary.group_names
    rows = [
        [*(value or "-" for value in values), str(group.count), f"{shown_range(*amount)} {currency}"]
        for values, group in summary.groups
        for currency, amount in sorted(group.sums.items())
    ]
    header = [*(name.replace("_", " ").capitalize() for name in names), "Requests", "Total"]
    return [f"by {joined_with_and(names)}:", *aligned([header, *rows], left=0, right=2)]


def refusals_text(summary: ListSummary) -> list[str]:
    """Returns the number of refused requests for each reason, with the first of them."""
    lines = []
    for reason in summary.reasons:
        first = with_options(f"{reason.message} (first in {reason.place})")
        lines.append(f"  {reason.request_count} x {reason.code}")
        lines += wrap(first, WIDTH, initial_indent="    ", subsequent_indent="    ", break_long_words=False)
    return ["refused, by reason:", *lines] if lines else []


def aligned(rows: Sequence[Sequence[str]], *, left: int, right: int = 0) -> list[str]:
    """Returns rows as lines with aligned columns; the first `left` and the last `right` ones are numbers."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    numbers = {*range(left), *range(len(widths) - right, len(widths))}
    return [
        "  "
        + "  ".join(
            f"{cell:>{width}}" if place in numbers else f"{cell:<{width}}"
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]
