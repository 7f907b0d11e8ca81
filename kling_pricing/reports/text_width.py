"""The width of text, its lines, and the labels of the days on an axis. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import date, datetime, timedelta, tzinfo
from unicodedata import east_asian_width

from kling_pricing.windows import start_of

_DAY = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")


def width_of(text: str) -> int:
    """Returns the width of a text in characters of Latin width; an East Asian character is two wide."""
    if text.isascii():
        return len(text)
    return sum(2 if east_asian_width(character) in "WF" else 1 for character in text)


def lines_of(text: str, width: int) -> list[str]:
    """Divides a text into lines of at most this width, at spaces if possible; no character is lost."""
    lines, line = [], ""
    for word in re.findall(r"\S+\s*|\s+", text):
        rest = word
        if line and width_of(line + rest.rstrip()) > width:
            lines.append(line.rstrip())
            line = ""
        while width_of(line + rest.rstrip()) > width:
            head = _head(rest, width)
            lines.append(head)
            rest = rest[len(head) :]
        line += rest
    return [*lines, line.rstrip()] if line.strip() or not lines else lines


def _head(text: str, width: int) -> str:
    """Returns the longest start of a text that has at most this width, and at least one character."""
    end = 1
    while end < len(text) and width_of(text[: end + 1]) <= width:
        end += 1
    return text[:end]


def day_labels(days: Sequence[str]) -> list[str]:
    """Shortens days of one month to their numbers, and days of one year to month and day.

    Labels that are not days stay as they are.
    """
    for shared, start in ((len("2026-11-"), 8), (len("2026-"), 5)):
        if len({day[:shared] for day in days}) == 1 and all(_DAY.fullmatch(day) for day in days):
            return [day[start:].removeprefix("0") for day in days]
    return list(days)


def axis_days(start: datetime, end: datetime, zone: tzinfo, count: int) -> Iterator[tuple[datetime, str]]:
    """Yields up to `count` days of a time zone in a period, evenly spaced: the start of each, and its label."""
    first = start.astimezone(zone).date()
    last = (end - timedelta(microseconds=1)).astimezone(zone).date()
    interval = max(-(-((last - first).days + 1) // count), 1)
    for offset in range(0, (last - first).days + 1, interval):
        day: date = first + timedelta(days=offset)
        at = start_of(day, zone)
        if start <= at < end:
            yield at, f"{day:%m-%d}"
