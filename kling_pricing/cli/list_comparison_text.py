"""Shows the comparison of two shot lists: as text, as JSON, or as Markdown for a review comment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from kling_pricing.cli.failures import error_dict
from kling_pricing.cli.output import counted, signed
from kling_pricing.cli.wording import with_options
from kling_pricing.display import printable
from kling_pricing.errors import KlingPricingError
from kling_pricing.money import format_decimal, percent_change, subtract
from kling_pricing.shot_lists.list_differences import ListComparison, PricedShot, ShotChange

_MAX_CHARS = 40
_MAX_ROWS = 50
"""Maximum number of changes in Markdown, because the length of a comment is limited."""


def as_text(comparison: ListComparison, before: str, after: str, refused: Sequence[PricedShot]) -> list[str]:
    """Returns the comparison as lines of text."""
    rule = f"by column {comparison.matched_by}" if comparison.matched_by else "by content and order"
    lines = [f"{before} -> {after}, shots matched {rule}"]
    for change in comparison.changes:
        shot = change.after or change.before
        place = "" if shot is None else shot.place
        about = "; ".join(f"{name} {old} -> {new}" for name, old, new in _shown_cells(change))
        lines.append(f"  {change.kind:<8} {place}: {_prices(change)}{f', {about}' if about else ''}")
    lines += [f"  refused  {shot.place}: {with_options(str(shot.outcome))}" for shot in refused]
    lines += [f"total {_from_to(old, new, currency)}" for currency, (old, new) in comparison.totals.items()]
    return [*lines, _counts(comparison)]


def _from_to(old: Decimal, new: Decimal, currency: str) -> str:
    percent = f", {signed(percent_change(old, new))}%" if old and old != new else ""
    difference = f" ({signed(subtract(new, old))}{percent})"
    return f"{format_decimal(old)} -> {format_decimal(new)} {currency}{difference}"


def _counts(comparison: ListComparison) -> str:
    kinds = [f"{comparison.count(kind)} {kind}" for kind in ("changed", "added", "removed")]
    return f"{', '.join(kinds)}, {comparison.unchanged} unchanged"


def _prices(change: ShotChange) -> str:
    """Returns the prices of a shot before and after, with the difference."""
    old, new = _price(change.before), _price(change.after)
    differences = " ".join(
        f"{signed(amount)} {currency}" for currency, amount in sorted(change.differences().items())
    )
    if change.before is None or change.after is None:
        return f"{old or new} ({differences})" if differences else f"{old or new}"
    return f"{old} -> {new} ({differences})" if old != new else f"{new} (no difference)"


def _price(shot: PricedShot | None) -> str:
    if shot is None:
        return ""
    if shot.price is None:
        return "refused"
    currency, amount = shot.price
    return f"{format_decimal(amount)} {currency}"


def _shown_cells(change: ShotChange) -> list[tuple[str, str, str]]:
    return [(cell.column, _shortened(cell.before), _shortened(cell.after)) for cell in change.cells]


def _shortened(text: str) -> str:
    one_line = " ".join(printable(text).split())
    return f"{one_line[:_MAX_CHARS]}..." if len(one_line) > _MAX_CHARS else one_line or "(empty)"


def as_markdown(
    comparison: ListComparison, before: str, after: str, refused: Sequence[PricedShot]
) -> list[str]:
    """Returns the comparison as lines of Markdown; texts of the lists are in code spans, which are inert."""
    totals = [f"**{_from_to(old, new, currency)}**" for currency, (old, new) in comparison.totals.items()] or [
        "no shot has a price"
    ]
    lines = [
        f"### Cost of {_code(after)}: {'; '.join(totals)}",
        "",
        f"Compared with {_code(before)}: {_counts(comparison)}.",
    ]
    changes = sorted(comparison.changes, key=_size, reverse=True)
    if changes:
        lines += ["", "| Shot | | Before | After | Difference | Changes |", "|---|---|--:|--:|--:|---|"]
    for change in changes[:_MAX_ROWS]:
        shot = change.after or change.before
        differences = "; ".join(
            f"{signed(amount)} {currency}" for currency, amount in change.differences().items()
        )
        about = "; ".join(
            f"{_code(name)} {_code(old)} → {_code(new)}" for name, old, new in _shown_cells(change)
        )
        place = "" if shot is None else _code(shot.place)
        cells = [place, change.kind, _price(change.before), _price(change.after), differences, about]
        lines.append(f"| {' | '.join(cells)} |")
    if len(changes) > _MAX_ROWS:
        lines += ["", f"{counted(len(changes) - _MAX_ROWS, 'smaller change')} not shown."]
    if refused:
        lines += ["", f"**{counted(len(refused), 'shot')} refused:**", ""]
        lines += [
            f"- {_code(shot.place)}: {_code(with_options(str(shot.outcome)), 200)}"
            for shot in refused[:_MAX_ROWS]
        ]
    return lines


def _size(change: ShotChange) -> Decimal:
    return max(map(abs, change.differences().values()), default=Decimal(0))


def _code(text: str, max_chars: int = 80) -> str:
    one_line = " ".join(printable(text).split())[:max_chars]
    return f"`{one_line.replace('`', chr(39)).replace('|', chr(92) + '|')}`"


def as_json_data(comparison: ListComparison, before: str, after: str) -> dict[str, Any]:
    """Returns the comparison as JSON-ready data; amounts are text."""
    return {
        "before": before,
        "after": after,
        "matched_by": comparison.matched_by or None,
        "totals": [
            {
                "currency": currency,
                "before": format_decimal(old),
                "after": format_decimal(new),
                "difference": format_decimal(subtract(new, old)),
            }
            for currency, (old, new) in comparison.totals.items()
        ],
        "counts": {
            **{kind: comparison.count(kind) for kind in ("changed", "added", "removed")},
            "unchanged": comparison.unchanged,
        },
        "changes": [
            {
                "kind": change.kind,
                "before": _shot_data(change.before),
                "after": _shot_data(change.after),
                "differences": {
                    currency: format_decimal(amount) for currency, amount in change.differences().items()
                },
                "cells": [cell._asdict() for cell in change.cells],
            }
            for change in comparison.changes
        ],
    }


def _shot_data(shot: PricedShot | None) -> Mapping[str, Any] | None:
    if shot is None:
        return None
    if isinstance(shot.outcome, KlingPricingError):
        return {"place": shot.place, **error_dict(shot.outcome)}
    return {
        "place": shot.place,
        "amount": format_decimal(shot.outcome.maximum),
        "currency": shot.outcome.currency,
    }
