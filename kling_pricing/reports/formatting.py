"""How values are written for people, and what may not be written at all."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, timedelta, tzinfo
from decimal import ROUND_HALF_UP, Decimal, localcontext

from kling_pricing.display import without_secrets
from kling_pricing.money import format_decimal

_MONTHS = (
    *("January", "February", "March", "April", "May", "June", "July"),
    *("August", "September", "October", "November", "December"),
)

MAX_BARS = 12
"""Bars of a chart of projects or models; the smaller ones are taken together."""


def safe(text: str) -> str:
    """A name without URLs and what is certainly an API key: reports are read by many."""
    return without_secrets(text, "name")


def safe_prose(text: str) -> str | None:
    """A sentence that somebody wrote, without URLs and what looks like an API key; None: it is empty."""
    return without_secrets(text, "sentence") or None


def safe_or_none(text: str | None) -> str | None:
    """The same for a text that may be missing."""
    return None if text is None else safe(text)


def grouped(number: Decimal | int, decimals: int = 0) -> str:
    """The exact number with its thousands apart, and at least so many decimals: `1,234.50`."""
    exact = Decimal(format_decimal(Decimal(number)))
    return f"{exact:,.{max(decimals, decimals_of(exact))}f}"


def decimals_of(number: Decimal) -> int:
    """How many digits it has behind the point, needless zeros left out."""
    _, _, fraction = format_decimal(number).partition(".")
    return len(fraction)


def percent(part: Decimal | int, whole: Decimal | int) -> Decimal | None:
    """A part of a whole in percent, rounded to two decimals, for reading only; None: there is no whole.

    It is 0 and 100 only where nothing and all is meant.
    """
    if not whole:
        return None
    smallest = Decimal("0.01")
    with localcontext(prec=60):
        share = (Decimal(part) * 100 / Decimal(whole)).quantize(smallest, ROUND_HALF_UP)
    if 0 < part < whole:
        return min(max(share, smallest), 100 - smallest)
    return share


def counted(count: int, what: str) -> str:
    """`1 line`, `2 lines`."""
    return f"{count:,} {what}{'' if count == 1 else 's'}"


def labels_text(labels: Mapping[str, str]) -> str:
    """Labels as JSON, sorted; nothing where there are none."""
    return json.dumps(dict(sorted(labels.items())), ensure_ascii=False) if labels else ""


def period_text(since: datetime, until: datetime, zone: tzinfo = UTC) -> str:
    """A period in words: `November 2026` for a whole month of the zone, else its first and last moments."""
    start, end = since.astimezone(zone), until.astimezone(zone)
    first, following = start.date(), end.date()
    if any(each.time() != datetime.min.time() for each in (start, end)):
        return f"{start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M}"
    if first.day == following.day == 1 and (first + timedelta(days=31)).replace(day=1) == following:
        return f"{_MONTHS[first.month - 1]} {first.year}"
    last = following - timedelta(days=1)
    return f"{first}" if first == last else f"{first} to {last}"


def every_day(days: Iterable[str]) -> list[str]:
    """The days from the first to the last of some, so that a chart of them has no gap in its time."""
    known = sorted(map(date.fromisoformat, days))
    if not known:
        return []
    return [f"{known[0] + timedelta(days=each)}" for each in range((known[-1] - known[0]).days + 1)]


def instant_text(at: datetime) -> str:
    """An instant for programs: ISO 8601, UTC."""
    return f"{at.astimezone(UTC).isoformat().removesuffix('+00:00')}Z"
