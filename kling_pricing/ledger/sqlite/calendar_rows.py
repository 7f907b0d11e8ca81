"""Reads and writes the calendar of a ledger: the windows of its budgets, years ahead."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime

from kling_pricing.budgets import BudgetsFile
from kling_pricing.ledger.calendars import (
    CalendarChange,
    ScheduledWindow,
    Uncalendared,
    calendar_changes,
    is_current,
)
from kling_pricing.ledger.sqlite import balances
from kling_pricing.ledger.sqlite.codec import instant, written, written_once
from kling_pricing.ledger.sqlite.seals import calendar_digest
from kling_pricing.windows import FOREVER, Period

_COLUMNS = "schedule, window_start, window_end, zone_data"
_ROWS = f"SELECT {_COLUMNS} FROM calendar ORDER BY schedule, window_start"  # noqa: S608 (constants only)


def all_windows(db: sqlite3.Connection) -> list[ScheduledWindow]:
    """Returns every window in the calendar, by schedule, in order."""
    return _windows(db.execute(_ROWS))


def windows_at(db: sqlite3.Connection, at: datetime) -> list[ScheduledWindow]:
    """Returns the windows that contain an instant."""
    rows = db.execute(
        f"SELECT {_COLUMNS} FROM calendar WHERE window_start <= ?1 AND ?1 < window_end",  # noqa: S608 (constants only)
        (written(at),),
    )
    return _windows(rows)


def window_of(db: sqlite3.Connection, schedule: str, at: datetime) -> Period | None:
    """Returns the window of a schedule that contains an instant, or None."""
    return next((window.period for window in windows_at(db, at) if window.schedule == schedule), None)


def last_windows(db: sqlite3.Connection) -> list[ScheduledWindow]:
    """Returns the last window of each schedule."""
    rows = db.execute(
        "SELECT schedule, window_start, max(window_end), zone_data FROM calendar GROUP BY schedule"
    )
    return _windows(rows)


def changes(db: sqlite3.Connection, budgets: BudgetsFile, now: datetime) -> tuple[CalendarChange, ...]:
    """Returns the changes that the calendar needs for budgets."""
    if is_current(budgets, last_windows(db), now):
        return ()
    kept: dict[str, list[Period]] = {}
    for window in all_windows(db):
        kept.setdefault(window.schedule, []).append(window.period)
    return calendar_changes(budgets, kept, now)


def update(db: sqlite3.Connection, budgets: BudgetsFile, schedules: Mapping[str, str], now: datetime) -> None:
    """Makes the calendar reach years ahead for budgets, by the time zone data of this machine.

    Args:
        db: the connection.
        budgets: the budgets that will be in force.
        schedules: the schedule of every budget that ever was in force, by its definition.
        now: the instant of the change.
    """
    _write(db, changes(db, budgets, now), schedules, now)


def begin(db: sqlite3.Connection, budgets: BudgetsFile, schedules: Mapping[str, str], now: datetime) -> None:
    """Makes the first calendar of a ledger that has buckets already; the arguments are those of `update`."""
    oldest, opened = now, {}
    rows = db.execute(
        "SELECT definition, window_start, window_end FROM bucket WHERE window_start > ?"
        " ORDER BY window_start DESC",
        (written(FOREVER.start),),
    )
    for definition, *bounds in rows:
        window = Period(*map(instant, bounds))
        oldest = min(oldest, window.start)
        if window.start <= now < window.end:
            opened[schedules.get(definition, definition)] = window
    _write(db, calendar_changes(budgets, {}, now, Uncalendared(opened, oldest)), schedules, now)


def _write(
    db: sqlite3.Connection, changed: Sequence[CalendarChange], schedules: Mapping[str, str], now: datetime
) -> None:
    at = written(now)
    for change in changed:
        db.execute("DELETE FROM calendar WHERE schedule = ? AND window_end > ?", (change.schedule, at))
        db.executemany(
            f"INSERT INTO calendar ({_COLUMNS}) VALUES (?, ?, ?, ?)",  # noqa: S608 (constants only)
            [
                (change.schedule, *map(written_once, window), change.zone_data)
                for window in change.past + change.after
            ],
        )
        db.executemany(
            "UPDATE bucket SET window_end = ? WHERE definition = ? AND window_start = ? AND window_end > ?",
            [
                (written(window.end), definition, written(window.start), at)
                for window in change.after[:1]
                for definition, schedule in schedules.items()
                if schedule == change.schedule
            ],
        )
    if changed:
        digest = calendar_digest(db)
        if not db.execute("UPDATE calendar_digest SET digest = ?", (digest,)).rowcount:
            db.execute("INSERT INTO calendar_digest (digest, begun_at) VALUES (?, ?)", (digest, at))
        elif not all(change.is_new for change in changed):
            balances.enter(db, now, "calendar", None, (), digest)


def _windows(rows: Iterable[tuple[str, str, str, str]]) -> list[ScheduledWindow]:
    return [
        ScheduledWindow(schedule, Period(instant(start), instant(end)), zone_data)
        for schedule, start, end, zone_data in rows
    ]
