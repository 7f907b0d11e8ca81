"""Instants, clocks, time zones, and the windows of budgets: calendar windows and rolling windows.

A day begins at the first instant at which the local clock shows its date or a later one.
If a clock change skips midnight, the day begins after the gap.
If it repeats midnight, the day begins at the first of the two.
Windows therefore follow each other without gap or overlap.
A day usually has 23, 24 or 25 hours. A date that a place skipped by moving across the date line has no hours.
Both ends of a window are computed in UTC; local times are never subtracted.

A rolling window moves in steps of 1/24 of its length, which begin at whole multiples since 1970.
What is booked counts from the start of its step until 25 steps later. With 24 steps, what was booked at the end
of a step would leave up to one step too early.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta, tzinfo
from functools import cache, lru_cache
from typing import Literal, NamedTuple, TypeAlias

from kling_pricing.display import nearest, shown
from kling_pricing.errors import KlingPricingError

WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
Calendar: TypeAlias = Literal["day", "week", "month", "quarter", "year"]

_MONTHS_PER_QUARTER = 3
_SECOND = timedelta(seconds=1)


class Period(NamedTuple):
    """A half-open period `[start, end)`; both instants are in UTC."""

    start: datetime
    end: datetime


FOREVER = Period(datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC))
"""The period of a window that never ends."""


STEPS = 24
"""The number of steps in a rolling window."""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LENGTH_UNITS = ((timedelta(days=1), "d", 2), (timedelta(hours=1), "h", 1), (timedelta(minutes=1), "m", 1))
"""The units of a length, the longest first, each with its letter and the least number for which it is used."""


def step_of(length: timedelta) -> timedelta:
    """Returns the step of a rolling window whose length is a whole number of minutes."""
    return length / STEPS


def length_text(length: timedelta) -> str:
    """Returns the length of a rolling window as text: `90m`, `24h`, `7d`."""
    unit, letter = next(
        (unit, letter) for unit, letter, least in _LENGTH_UNITS if not length % unit and length // unit >= least
    )
    return f"{length // unit}{letter}"


def counting_period(at: datetime, step: timedelta) -> Period:
    """Returns the period in which a rolling window counts what is booked at an instant."""
    start = _EPOCH + (at - _EPOCH) // step * step
    return Period(start, start + (STEPS + 1) * step)


def rolling_period(at: datetime, step: timedelta) -> Period:
    """Returns a rolling window at an instant: 24 whole steps, and the step that contains the instant."""
    start = counting_period(at, step).start
    return Period(start - STEPS * step, start + step)


def calendar_period(calendar: Calendar, at: datetime, zone: tzinfo, week_starts: str = "monday") -> Period:
    """Returns the local day, week, month, quarter or year that contains an instant."""
    first = _first_date(calendar, at.astimezone(zone).date(), week_starts)
    while True:
        following = _next_first_date(calendar, first)
        period = Period(start_of(first, zone), start_of(following, zone))
        if at < period.end:
            return period
        first = following  # the clock went back over midnight, and the next day had already begun


def bounds_after(
    calendar: Calendar, at: datetime, zone: tzinfo, week_starts: str = "monday"
) -> Iterator[datetime]:
    """Yields the instants after `at` at which a local day, week, month, quarter or year begins, in order."""
    first = _first_date(calendar, at.astimezone(zone).date(), week_starts)
    before = at
    while True:
        bound = start_of(first, zone)
        if bound > before:  # a date that the place skipped has no hours
            yield bound
            before = bound
        first = _next_first_date(calendar, first)


@lru_cache(maxsize=1 << 14)  # the days of a calendar, which reaches years ahead
def start_of(day: date, zone: tzinfo) -> datetime:
    """Returns the first instant, in UTC, at which the local clock shows this date or a later one."""
    midnight = datetime(day.year, day.month, day.day, tzinfo=zone)
    start = midnight.astimezone(UTC)
    if start.astimezone(zone).replace(tzinfo=None) == midnight.replace(tzinfo=None):
        return start
    # The clock skips this midnight: find the second at which it jumps.
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
    """Returns the instant whose prices apply: `at`, or the current time if `at` is None.

    Raises:
        KlingPricingError: `at` is not a datetime with a time zone.
    """
    if at is None:
        return datetime.now(UTC)
    if not isinstance(at, datetime):
        raise KlingPricingError(f"at must be a datetime with a time zone, got {type(at).__name__}")
    if at.tzinfo is not UTC and at.utcoffset() is None:
        raise KlingPricingError(f"at: {at.isoformat()} has no time zone; pass an aware datetime")
    return at


_FIRST_YEAR, _LAST_YEAR = 2001, 2199


def in_utc(at: datetime) -> datetime:
    """Converts an instant to UTC.

    Raises:
        KlingPricingError: the instant has no time zone, or its year is not between 2001 and 2199.
    """
    aware = instant(at)
    if not _FIRST_YEAR <= aware.year <= _LAST_YEAR:
        raise KlingPricingError(
            f"{aware.isoformat()} is out of range; give an instant in the years {_FIRST_YEAR} to {_LAST_YEAR}"
        )
    return aware.astimezone(UTC)


def utc_clock(clock: Callable[[], datetime] | None) -> Callable[[], datetime]:
    """Returns a clock in UTC that reads the given clock, or the system clock if the given one is None."""
    if clock is None:
        return lambda: datetime.now(UTC)
    return lambda: in_utc(clock())


@cache
def zone(name: str) -> tzinfo:
    """Returns the time zone with an IANA name; `UTC` works without a time zone database.

    Raises:
        KlingPricingError: the name is not a time zone, or this machine has no time zone database.
    """
    if name == "UTC":
        return UTC
    from zoneinfo import ZoneInfo, available_timezones  # noqa: PLC0415 (most uses need UTC only)

    try:
        return ZoneInfo(name)
    except (OSError, ValueError, KeyError):
        pass
    names = available_timezones()
    if not names:
        raise KlingPricingError(
            f"cannot look up the time zone {shown(name)}: this machine has no time zone database; "
            "run `pip install tzdata`"
        )
    close = nearest(name, sorted(names))
    remedy = f"did you mean {close}?" if close else "write an IANA name such as Asia/Shanghai"
    raise KlingPricingError(f"unknown time zone {shown(name)}; {remedy}")
