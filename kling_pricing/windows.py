"""When the windows of a budget begin and end, in any time zone.

A day begins at the earliest instant that its date, or a later one, is on the local clock: where summer time
swallows midnight that is later than midnight, where it repeats midnight it is the first of the two.
So windows follow each other without gap or overlap, whatever the clock does; a day has 23, 24 or 25 hours, and
a date that a place left out (by crossing the date line) has none.
Both ends are computed in UTC; no local times are ever subtracted.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta, tzinfo
from functools import lru_cache
from typing import Literal, NamedTuple, TypeAlias

from kling_pricing.errors import KlingPricingError

WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
Calendar: TypeAlias = Literal["day", "week", "month", "quarter", "year"]

_MONTHS_PER_QUARTER = 3
_SECOND = timedelta(seconds=1)


class Period(NamedTuple):
    """A stretch of time: `start` belongs to it, `end` does not; both UTC."""

    start: datetime
    end: datetime


FOREVER = Period(datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC))
"""The window of a budget that never begins anew."""


def calendar_period(calendar: Calendar, at: datetime, zone: tzinfo, week_starts: str = "monday") -> Period:
    """The day, week, month, quarter or year of a place that an instant lies in."""
    first = _first_date(calendar, at.astimezone(zone).date(), week_starts)
    while True:
        following = _next_first_date(calendar, first)
        period = Period(start_of(first, zone), start_of(following, zone))
        if at < period.end:
            return period
        first = following  # the clock went back over midnight: the day had already begun


@lru_cache(maxsize=4096)  # every request asks for the same few days
def start_of(day: date, zone: tzinfo) -> datetime:
    """The earliest instant, in UTC, at which the local clock shows this date or a later one."""
    midnight = datetime(day.year, day.month, day.day, tzinfo=zone)
    start = midnight.astimezone(UTC)
    if start.astimezone(zone).replace(tzinfo=None) == midnight.replace(tzinfo=None):
        return start
    # The clock jumps over this midnight; find the jump between a second before it and one after it.
    before, after = start - timedelta(days=1), start
    while after - before > _SECOND:
        middle = before + ((after - before) // 2 // _SECOND) * _SECOND
        before, after = (before, middle) if middle.astimezone(zone).date() >= day else (middle, after)
    return after


def _first_date(calendar: Calendar, day: date, week_starts: str) -> date:
    if calendar == "day":
        return day
    if calendar == "week":
        return day - timedelta(days=(day.weekday() - WEEKDAYS.index(week_starts)) % 7)
    if calendar == "month":
        return day.replace(day=1)
    if calendar == "quarter":
        return day.replace(month=day.month - (day.month - 1) % _MONTHS_PER_QUARTER, day=1)
    return day.replace(month=1, day=1)


def _next_first_date(calendar: Calendar, first: date) -> date:
    if calendar in {"day", "week"}:
        return first + timedelta(days=1 if calendar == "day" else 7)
    months = {"month": 1, "quarter": _MONTHS_PER_QUARTER, "year": 12}[calendar]
    month = first.month - 1 + months
    return first.replace(year=first.year + month // 12, month=month % 12 + 1)


def instant(at: datetime | None) -> datetime:
    """The instant to price at; now when none is given.

    Raises:
        KlingPricingError: it has no time zone.
    """
    if at is None:
        return datetime.now(UTC)
    if not isinstance(at, datetime):
        raise KlingPricingError(f"at must be a datetime with a time zone, got {type(at).__name__}")
    if at.tzinfo is not UTC and at.utcoffset() is None:
        raise KlingPricingError(f"at: {at.isoformat()} has no time zone; pass an aware datetime")
    return at


_FIRST_YEAR, _LAST_YEAR = 2000, 2200


def in_utc(at: datetime) -> datetime:
    """An instant in UTC.

    Raises:
        KlingPricingError: it has no time zone, or is far from any that money is spent in.
    """
    given = instant(at)
    if not _FIRST_YEAR < given.year < _LAST_YEAR:
        raise KlingPricingError(f"{given.isoformat()} is not in the years {_FIRST_YEAR} to {_LAST_YEAR}")
    return given.astimezone(UTC)


def utc_clock(clock: Callable[[], datetime] | None) -> Callable[[], datetime]:
    """A clock in UTC: the one given, or the system's."""
    if clock is None:
        return lambda: datetime.now(UTC)
    return lambda: in_utc(clock())
