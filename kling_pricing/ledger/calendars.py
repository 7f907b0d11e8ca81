"""Computes the windows of budgets years ahead, for the calendar that a ledger keeps.

A ledger looks up windows in its calendar and never computes them during a verb. Two machines with different
time zone data therefore use the same windows, and an update of the data on one machine opens no second bucket.
Rolling windows depend on no time zone data, so the calendar does not contain them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta, tzinfo
from functools import lru_cache
from importlib import metadata, resources
from itertools import pairwise, takewhile
from pathlib import Path
from typing import NamedTuple

from kling_pricing.budgets import BudgetEntry, BudgetsFile
from kling_pricing.windows import FOREVER, Calendar, Period, bounds_after

YEAR = timedelta(days=366)

AHEAD = 11 * YEAR
"""How far a new calendar reaches into the future."""

NEEDED = 10 * YEAR
"""How far a calendar must reach when budgets are applied. A shorter one is extended."""

BEHIND = 3 * YEAR
"""How far a new calendar reaches into the past, for spend that is recorded late."""

ENDS_SOON = timedelta(days=90)
"""A calendar that ends within this time causes a warning."""

_UNKNOWN = "unknown"
"""The version of time zone data that does not state its version."""

_SHORTEST = {
    "day": timedelta(hours=12),
    "week": timedelta(days=4),
    "month": timedelta(days=15),
    "quarter": timedelta(days=45),
    "year": timedelta(days=180),
}
"""A window is at least this long. So a bound that moves opens no sliver with a cap of its own."""


class ScheduledWindow(NamedTuple):
    """One window in the calendar of a ledger.

    Attributes:
        schedule: the schedule of the windows, see `BudgetEntry.schedule`.
        period: the window.
        zone_data: the version of the time zone data from which the window was computed.
    """

    schedule: str
    period: Period
    zone_data: str


class CalendarChange(NamedTuple):
    """The new calendar of one schedule.

    Attributes:
        schedule: the schedule.
        zone_data: the version of the time zone data.
        before: the windows in the ledger that are not over, in order.
        after: the windows that replace them, in order.
        past: the windows before them; empty unless the schedule is new.
        is_new: whether the calendar in the ledger lacks the schedule.
    """

    schedule: str
    zone_data: str
    before: tuple[Period, ...]
    after: tuple[Period, ...]
    past: tuple[Period, ...]
    is_new: bool

    @property
    def moved(self) -> tuple[tuple[datetime, datetime], ...]:
        """The bounds that differ, each with its old and its new instant."""
        pairs = zip(_bounds(self.before), _bounds(self.after), strict=False)
        return tuple((old, new) for old, new in pairs if old != new)


def _bounds(windows: Sequence[Period]) -> list[datetime]:
    return [window.start for window in windows[:1]] + [window.end for window in windows]


class Uncalendared(NamedTuple):
    """The windows of a ledger that was written before ledgers had a calendar.

    Attributes:
        open: the window of the buckets that are open, by schedule.
        oldest: the start of the first window.
    """

    open: Mapping[str, Period]
    oldest: datetime


def is_current(budgets: BudgetsFile, ends: Iterable[ScheduledWindow], now: datetime) -> bool:
    """Returns whether a calendar needs no change for budgets, which is quick to find out.

    Every schedule then reaches far enough, and its windows come from the time zone data of this machine.

    Args:
        budgets: the budgets that will be in force.
        ends: the last window of each schedule in the ledger.
        now: the instant on the ledger's clock.
    """
    last = {window.schedule: window for window in ends}
    for schedule, budget in {budget.schedule: budget for budget in budgets.budgets if not budget.step}.items():
        end = last.get(schedule)
        if end is None or end.zone_data == _UNKNOWN or end.zone_data != zone_data_version(budget):
            return False
        if not (end.period.end >= now + NEEDED if budget.recurs else _is_only(budget, end.period, now)):
            return False
    return True


def _is_only(budget: BudgetEntry, kept: Period, now: datetime) -> bool:
    """Returns whether a window is that of a budget that does not recur; once begun, it keeps its start."""
    only = budget.only_period or FOREVER
    return kept == only or (kept.end == only.end and kept.start <= now)


def calendar_changes(
    budgets: BudgetsFile,
    kept: Mapping[str, Sequence[Period]],
    now: datetime,
    earlier: Uncalendared | None = None,
) -> tuple[CalendarChange, ...]:
    """Returns the changes that a calendar needs for budgets, one for each schedule that changes.

    Args:
        budgets: the budgets that will be in force.
        kept: the windows in the ledger by schedule, in order.
        now: the instant on the ledger's clock.
        earlier: the windows of the buckets of a ledger that has no calendar yet.
    """
    since = now - BEHIND
    if earlier is not None:
        since = min(since, earlier.oldest)
        kept = {
            budget.schedule: _with_past(budget, earlier.open[budget.schedule], since)
            for budget in budgets.budgets
            if budget.schedule in earlier.open
        }
    changes = []
    for schedule, budget in {budget.schedule: budget for budget in budgets.budgets if not budget.step}.items():
        windows = kept.get(schedule, ())
        before = tuple(window for window in windows if window.end > now)
        computed = _windows(budget, windows, since, now)
        after = tuple(window for window in computed if window.end > now)
        is_new = earlier is not None or not windows
        past = tuple(window for window in computed if window.end <= now) if is_new else ()
        change = CalendarChange(schedule, zone_data_version(budget), before, after, past, is_new)
        reaches = bool(before) and (not budget.recurs or before[-1].end >= now + NEEDED)
        is_over = bool(windows) and not budget.recurs and not after
        if is_new or (not is_over and (change.moved or not reaches)):
            changes.append(change)
    return tuple(changes)


def _with_past(budget: BudgetEntry, current: Period, since: datetime) -> list[Period]:
    """Returns the windows of a budget up to an open window, without gap or overlap."""
    if not budget.recurs or current.start <= since:
        return [current]
    bounds = [budget.first_start(since)]
    for bound in bounds_after(budget.unit, bounds[0], budget.zone, budget.week_starts):
        if bound > current.start - _SHORTEST[budget.unit]:
            break
        bounds.append(bound)
    return [Period(*bounds_of_one) for bounds_of_one in pairwise([*bounds, current.start])] + [current]


def _windows(budget: BudgetEntry, kept: Sequence[Period], since: datetime, now: datetime) -> list[Period]:
    """Returns the windows of a budget, from the past to years ahead, without gap or overlap.

    A window that has begun keeps its start. If its new end has passed already, it keeps its old end.
    """
    begun = [window for window in kept if window.start <= now]
    if not budget.recurs:
        only = budget.only_period or FOREVER
        if not begun:
            return [only]
        return [Period(begun[0].start, only.end if only.end > now else begun[0].end)]
    current = begun.pop() if begun and begun[-1].end > now else None
    windows = begun
    if current is not None:
        start = current.start
    elif windows:
        start = windows[-1].end
    else:
        start = budget.first_start(since)
    unit = budget.unit
    for bound in _bounds_until(unit, start, budget.zone, budget.week_starts, (now + AHEAD + YEAR).year):
        if bound - start < _SHORTEST[unit]:
            continue
        end = bound
        if current is not None and start == current.start and end <= now:
            end = current.end
        windows.append(Period(start, end))
        if end >= now + AHEAD:
            return windows
        start = end
    raise AssertionError  # the calendar has no end


@lru_cache(maxsize=4)  # a plan, its application and the budgets of a file need the same bounds
def _bounds_until(
    unit: Calendar, start: datetime, zone: tzinfo, week_starts: str, year: int
) -> tuple[datetime, ...]:
    """Returns the bounds of windows after an instant and before the end of a year."""
    return tuple(takewhile(lambda bound: bound.year <= year, bounds_after(unit, start, zone, week_starts)))


def zone_data_version(budget: BudgetEntry) -> str:
    """Returns the version of the time zone data for a budget's zone, with a digest of the zone's rules."""
    name = budget.timezone
    if name == "UTC" or budget.schedule == "lifetime":
        return "none"
    from zoneinfo import TZPATH  # noqa: PLC0415 (most budgets need UTC only, and a test changes the path)

    for folder in map(Path, TZPATH):
        file = folder / name
        if file.is_file():
            return _described(_version_in(folder), file.read_bytes())
    package, _, file_name = name.rpartition("/")
    module = ".".join(["tzdata", "zoneinfo", *filter(None, package.split("/"))])
    try:
        rules = resources.files(module).joinpath(file_name).read_bytes()
        return _described(metadata.version("tzdata"), rules)
    except (ImportError, OSError):
        return _UNKNOWN


def _described(version: str, rules: bytes) -> str:
    return f"{version} {hashlib.sha256(rules).hexdigest()[:8]}"


def _version_in(folder: Path) -> str:
    """Returns the version of the time zone data in a folder, as its files state it."""
    try:
        first = (folder / "tzdata.zi").read_text(encoding="utf-8", errors="replace").partition("\n")[0]
        return first.removeprefix("# version ").strip() or _UNKNOWN
    except OSError:
        pass
    try:
        return (folder / "+VERSION").read_text(encoding="utf-8", errors="replace").strip() or _UNKNOWN
    except OSError:
        return _UNKNOWN


def ends_soon(windows: Iterable[ScheduledWindow], budgets: BudgetsFile, now: datetime) -> list[str]:
    """Returns a warning for each schedule of budgets whose calendar ends soon.

    Args:
        windows: the last window of each schedule in the ledger.
        budgets: the current budgets.
        now: the instant on the ledger's clock.
    """
    recurring = {budget.schedule for budget in budgets.budgets if budget.recurs}
    return [
        f"the calendar for {window.schedule} ends at {window.period.end.isoformat()}, and nothing is admitted "
        "after that; to extend the calendar, run `kling-pricing budget apply FILE` with the current budgets"
        for window in windows
        if window.schedule in recurring and window.period.end <= now + ENDS_SOON
    ]
