"""How reports write values for people, and which text they leave out."""

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
MONEY_DECIMALS = 2
"""The fewest decimals of an amount of money written for people."""

MAX_BARS = 12
"""The most projects or models that get their own bar in a chart; one more bar sums the rest."""

_encode = json.JSONEncoder(ensure_ascii=False).encode


def safe(text: str) -> str:
    """Returns a name without URLs and without text that is certainly an API key: many people read reports."""
    return without_secrets(text, "name")


def safe_or_none(text: str | None) -> str | None:
    """Returns a name as `safe` does; None stays None."""
    return None if text is None else safe(text)


def safe_text(text: str) -> str | None:
    """Returns free text without URLs and without anything that looks like an API key; None for empty text."""
    return without_secrets(text, "sentence") or None


def number_text(number: Decimal | int, decimals: int = 0) -> str:
    """Writes the exact number with thousands separators and at least `decimals` decimals: `1,234.50`."""
    exact = Decimal(format_decimal(Decimal(number)))
    return f"{exact:,.{max(decimals, decimals_of(exact))}f}"


def amount_text(amount: Decimal) -> str:
    """Writes an exact amount of money with thousands separators and at least two decimals: `1,234.50`."""
    return number_text(amount, MONEY_DECIMALS)


def decimals_of(number: Decimal) -> int:
    """Counts the decimals of a number, without trailing zeros."""
    _, _, fraction = format_decimal(number).partition(".")
    return len(fraction)


def percent(part: Decimal | int, whole: Decimal | int) -> Decimal | None:
    """Returns a part of a whole in percent, rounded to two decimals, for display only; None if the whole is 0.

    Rounding never makes it 0 or 100: only nothing is 0%, and only all of it is 100%.
    """
    if not whole:
        return None
    smallest = Decimal("0.01")
    with localcontext(prec=60):
        share = (Decimal(part) * 100 / Decimal(whole)).quantize(smallest, ROUND_HALF_UP)
    if 0 < part < whole:
        return min(max(share, smallest), 100 - smallest)
    return share


def count_share_text(part: Decimal, whole: Decimal) -> str:
    """Writes a count and its share of all: `70.75% (670)`."""
    return f"{percent(part, whole)}% ({number_text(part)})"


def amount_share_text(part: Decimal, whole: Decimal, currency: str) -> str:
    """Writes an amount and its share of the total: `64.26% (457.48 USD)`."""
    return f"{percent(part, whole)}% ({amount_text(part)} {currency})"


def counted(count: int, noun: str) -> str:
    """Writes a count with its noun: `1 line`, `2 lines`."""
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def labels_text(labels: Mapping[str, str]) -> str:
    """Writes labels as JSON, sorted by name; an empty string if there are none."""
    return _encode(dict(sorted(labels.items()))) if labels else ""


def period_text(since: datetime, until: datetime, zone: tzinfo = UTC) -> str:
    """Names a period: `November 2026` for a whole month of the zone, otherwise its first and last days.

    A period that does not start and end at midnight has its exact start and end instead.
    """
    start, end = since.astimezone(zone), until.astimezone(zone)
    first, following = start.date(), end.date()
    if any(at.time() != datetime.min.time() for at in (start, end)):
        return f"{start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M}"
    if first.day == following.day == 1 and (first + timedelta(days=31)).replace(day=1) == following:
        return f"{_MONTHS[first.month - 1]} {first.year}"
    last = following - timedelta(days=1)
    return f"{first}" if first == last else f"{first} to {last}"


def bounds_text(since: datetime, until: datetime, zone: tzinfo = UTC) -> str:
    """Writes the exact bounds of a period: `2026-11-01 00:00 to 2026-12-01 00:00 (exclusive), UTC`."""
    start, end = since.astimezone(zone), until.astimezone(zone)
    return f"{start:%Y-%m-%d %H:%M} to {end:%Y-%m-%d %H:%M} (exclusive), {zone}"


def every_day(days: Iterable[str]) -> list[str]:
    """Returns all days from the first to the last given one, so that a time axis has no gaps."""
    known = sorted(map(date.fromisoformat, days))
    if not known:
        return []
    return [f"{known[0] + timedelta(days=offset)}" for offset in range((known[-1] - known[0]).days + 1)]


def instant_text(at: datetime) -> str:
    """Writes an instant for programs: ISO 8601, UTC."""
    utc = at if at.tzinfo is UTC else at.astimezone(UTC)
    return f"{utc.isoformat().removesuffix('+00:00')}Z"
