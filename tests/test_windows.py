"""Windows begin and end by the local calendar, whatever the local clock does.

Every expected instant was derived by hand from the published rules of the time zone.
"""

import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import kling_pricing
from kling_pricing import Budget, BudgetGuard, KlingPricingError
from kling_pricing.windows import FOREVER, WEEKDAYS, Calendar, Period, calendar_period, start_of, zone
from tests.conftest import examples

CALENDARS: tuple[Calendar, ...] = ("day", "week", "month", "quarter", "year")


def utc(text: str) -> datetime:
    """Returns an instant in UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


# zone, local date, its first instant, the first instant of the next date, hours
DAYS = [
    ("UTC", "2026-11-21", "2026-11-21T00:00", "2026-11-22T00:00", 24),
    ("Asia/Shanghai", "2026-11-21", "2026-11-20T16:00", "2026-11-21T16:00", 24),
    ("Asia/Kathmandu", "2026-11-21", "2026-11-20T18:15", "2026-11-21T18:15", 24),
    # New York: from 2:00 EST (UTC-5) to 3:00 EDT (UTC-4) on 8 March; from 2:00 EDT to 1:00 EST on 1 November
    ("America/New_York", "2026-03-07", "2026-03-07T05:00", "2026-03-08T05:00", 24),
    ("America/New_York", "2026-03-08", "2026-03-08T05:00", "2026-03-09T04:00", 23),
    ("America/New_York", "2026-10-31", "2026-10-31T04:00", "2026-11-01T04:00", 24),
    ("America/New_York", "2026-11-01", "2026-11-01T04:00", "2026-11-02T05:00", 25),
    # Lord Howe Island changes by half an hour: from 2:00 (+11) to 1:30 (+10:30) on 5 April
    ("Australia/Lord_Howe", "2026-04-05", "2026-04-04T13:00", "2026-04-05T13:30", 24.5),
    # Cairo skips 0:00 on 24 April and continues at 1:00 (+3)
    ("Africa/Cairo", "2026-04-23", "2026-04-22T22:00", "2026-04-23T22:00", 24),
    ("Africa/Cairo", "2026-04-24", "2026-04-23T22:00", "2026-04-24T21:00", 23),
    # Santiago skips 0:00 on 6 September and continues at 1:00 (-3)
    ("America/Santiago", "2026-09-05", "2026-09-05T04:00", "2026-09-06T04:00", 24),
    ("America/Santiago", "2026-09-06", "2026-09-06T04:00", "2026-09-07T03:00", 23),
    # Beirut skips 0:00 on 29 March (to 1:00, +3), and goes from 0:00 (+3) on 25 October back to 23:00 (+2)
    ("Asia/Beirut", "2026-03-29", "2026-03-28T22:00", "2026-03-29T21:00", 23),
    ("Asia/Beirut", "2026-10-24", "2026-10-23T21:00", "2026-10-24T22:00", 25),
    # Havana skips 0:00 on 8 March (to 1:00, -4), and repeats 0:00 on 1 November (from 1:00, -4, to 0:00, -5)
    ("America/Havana", "2026-03-08", "2026-03-08T05:00", "2026-03-09T04:00", 23),
    ("America/Havana", "2026-10-31", "2026-10-31T04:00", "2026-11-01T04:00", 24),
    ("America/Havana", "2026-11-01", "2026-11-01T04:00", "2026-11-02T05:00", 25),
    # The Azores go from 1:00 (+0) back to 0:00 (-1) on 25 October
    ("Atlantic/Azores", "2026-10-25", "2026-10-25T00:00", "2026-10-26T01:00", 25),
    # St John's goes from 0:01 (-2:30) on 7 November back to 23:01 (-3:30) on the 6th, when the 7th has begun
    ("America/St_Johns", "2010-11-06", "2010-11-06T02:30", "2010-11-07T02:30", 24),
    ("America/St_Johns", "2010-11-07", "2010-11-07T02:30", "2010-11-08T03:30", 25),
    # Apia goes from the end of 29 December (-10) to 31 December (+14), so the 30th has no length
    ("Pacific/Apia", "2011-12-29", "2011-12-29T10:00", "2011-12-30T10:00", 24),
    ("Pacific/Apia", "2011-12-30", "2011-12-30T10:00", "2011-12-30T10:00", 0),
    ("Pacific/Apia", "2011-12-31", "2011-12-30T10:00", "2011-12-31T10:00", 24),
]


@pytest.mark.parametrize(("place", "day", "start", "end", "hours"), DAYS)
def test_a_day_begins_when_its_place_first_shows_its_date(
    place: str, day: str, start: str, end: str, hours: float
) -> None:
    """If the clock skips midnight, the day begins later; if midnight repeats, the day begins with the first."""
    zone, local = ZoneInfo(place), date.fromisoformat(day)
    assert (start_of(local, zone), start_of(local + timedelta(days=1), zone)) == (utc(start), utc(end))
    assert utc(end) - utc(start) == timedelta(hours=hours)


@pytest.mark.parametrize(("place", "day", "start", "end", "hours"), [row for row in DAYS if row[-1]])
def test_every_instant_of_a_day_is_in_it(place: str, day: str, start: str, end: str, hours: float) -> None:
    """The first and last instants and every quarter hour are in it; the instant before and the end are not."""
    assert day
    period, zone = Period(utc(start), utc(end)), ZoneInfo(place)
    tick = timedelta(microseconds=1)
    quarters = [period.start + timedelta(minutes=15 * each) for each in range(int(4 * hours))]
    assert {calendar_period("day", at, zone) for at in [*quarters, period.end - tick]} == {period}
    assert calendar_period("day", period.start - tick, zone).end == period.start
    assert calendar_period("day", period.end, zone).start == period.end


@pytest.mark.parametrize(
    ("place", "at", "start"),
    [
        # St John's shows 23:30 twice on the 6th; the second time, the 7th has already begun
        ("America/St_Johns", "2010-11-07T02:00", "2010-11-06T02:30"),
        ("America/St_Johns", "2010-11-07T02:30:30", "2010-11-07T02:30"),
        ("America/St_Johns", "2010-11-07T03:00", "2010-11-07T02:30"),
        # Havana shows 0:30 twice on the 1st; both instants are in that day
        ("America/Havana", "2026-11-01T04:30", "2026-11-01T04:00"),
        ("America/Havana", "2026-11-01T05:30", "2026-11-01T04:00"),
        # Beirut shows 23:30 twice on the 24th; both instants are in that day
        ("Asia/Beirut", "2026-10-24T20:30", "2026-10-23T21:00"),
        ("Asia/Beirut", "2026-10-24T21:30", "2026-10-23T21:00"),
    ],
)
def test_a_repeated_hour_does_not_end_a_day(place: str, at: str, start: str) -> None:
    """A day that has begun does not end because the clock goes back over midnight."""
    assert calendar_period("day", utc(at), ZoneInfo(place)).start == utc(start)


@pytest.mark.parametrize(
    ("calendar", "place", "at", "start", "end"),
    [
        ("week", "UTC", "2026-11-21T12:00", "2026-11-16T00:00", "2026-11-23T00:00"),
        ("week", "America/New_York", "2026-03-08T12:00", "2026-03-02T05:00", "2026-03-09T04:00"),
        ("month", "UTC", "2026-02-28T23:59", "2026-02-01T00:00", "2026-03-01T00:00"),
        ("month", "UTC", "2028-02-29T00:00", "2028-02-01T00:00", "2028-03-01T00:00"),
        ("month", "UTC", "2026-12-31T23:59", "2026-12-01T00:00", "2027-01-01T00:00"),
        ("month", "Asia/Shanghai", "2026-10-31T16:00", "2026-10-31T16:00", "2026-11-30T16:00"),
        ("month", "Asia/Shanghai", "2026-10-31T15:59", "2026-09-30T16:00", "2026-10-31T16:00"),
        ("month", "America/Havana", "2026-11-01T05:30", "2026-11-01T04:00", "2026-12-01T05:00"),
        ("month", "Pacific/Apia", "2011-12-30T10:00", "2011-12-01T10:00", "2011-12-31T10:00"),
        ("quarter", "UTC", "2026-03-31T23:59", "2026-01-01T00:00", "2026-04-01T00:00"),
        ("quarter", "UTC", "2026-05-31T12:00", "2026-04-01T00:00", "2026-07-01T00:00"),
        ("quarter", "America/New_York", "2026-11-21T12:00", "2026-10-01T04:00", "2027-01-01T05:00"),
        ("year", "UTC", "2028-02-29T12:00", "2028-01-01T00:00", "2029-01-01T00:00"),
        ("year", "Asia/Shanghai", "2026-12-31T16:00", "2026-12-31T16:00", "2027-12-31T16:00"),
    ],
)
def test_weeks_months_quarters_and_years(calendar: Calendar, place: str, at: str, start: str, end: str) -> None:
    """They begin with the first of their days, in leap years too."""
    assert calendar_period(calendar, utc(at), ZoneInfo(place)) == (utc(start), utc(end))


@pytest.mark.parametrize(
    ("starts", "monday", "saturday"),
    [
        ("monday", "2026-11-16", "2026-11-16"),
        ("tuesday", "2026-11-10", "2026-11-17"),
        ("wednesday", "2026-11-11", "2026-11-18"),
        ("thursday", "2026-11-12", "2026-11-19"),
        ("friday", "2026-11-13", "2026-11-20"),
        ("saturday", "2026-11-14", "2026-11-21"),
        ("sunday", "2026-11-15", "2026-11-15"),
    ],
)
def test_a_week_begins_on_any_day(starts: str, monday: str, saturday: str) -> None:
    """The weeks around Monday 16 and Saturday 21 November 2026 begin on the chosen weekday."""
    week = timedelta(days=7)
    for at, start in (("2026-11-16T12:00", monday), ("2026-11-21T12:00", saturday)):
        assert calendar_period("week", utc(at), UTC, starts) == (utc(start), utc(start) + week)


def a_budget(**fields: Any) -> Budget:
    """Returns a budget with these fields."""
    return Budget(name="b", cap=1, currency="USD", **fields)


def test_a_fixed_period_is_in_its_time_zone() -> None:
    """It includes its first instant and excludes its end, and there is no window outside it."""
    window = {"start": "2026-03-08", "end": "2026-03-09"}
    budget = a_budget(window=window, timezone="America/New_York")
    period = utc("2026-03-08T05:00"), utc("2026-03-09T04:00")
    tick = timedelta(microseconds=1)
    assert [budget.period(at) for at in (period[0] - tick, period[0], period[1] - tick, period[1])] == [
        None,
        period,
        period,
        None,
    ]


@pytest.mark.parametrize("at", ["1970-01-01", "2026-11-21T12:00", "2199-12-31"])
def test_a_lifetime_never_ends(at: str) -> None:
    """Its window contains any instant."""
    assert a_budget().period(utc(at)) == FOREVER


@pytest.mark.parametrize(
    ("name", "problem"),
    [
        ("Asia/Shangai", "unknown time zone Asia/Shangai; did you mean Asia/Shanghai?"),
        ("+8", "unknown time zone +8; write an IANA name such as Asia/Shanghai"),
        ("../../etc/passwd", "unknown time zone ../../etc/passwd; write an IANA name such as Asia/Shanghai"),
        ("", "unknown time zone ''; write an IANA name such as Asia/Shanghai"),
    ],
)
def test_an_unknown_time_zone_is_an_error_with_a_remedy(name: str, problem: str) -> None:
    """The error suggests a similar name if there is one, and otherwise the kind of name to write."""
    with pytest.raises(KlingPricingError) as caught:
        zone(name)
    assert str(caught.value) == problem


@pytest.fixture
def without_zones(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs a command on a machine without a time zone database, with a ledger whose budget is in UTC."""
    ledger = f"sqlite:///{tmp_path}/spend.db"
    with BudgetGuard(ledger, [a_budget(window="day")]):
        pass
    hidden = tmp_path / "hidden" / "tzdata.py"
    hidden.parent.mkdir()
    hidden.write_text('raise ImportError("this machine has no tzdata")\n', encoding="utf-8")
    path = os.pathsep.join([str(hidden.parent), str(Path(kling_pricing.__file__).parents[1])])
    environment = {**os.environ, "PYTHONTZPATH": "", "PYTHONPATH": path, "KLING_PRICING_LEDGER": ledger}

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "kling_pricing", *arguments],
            capture_output=True,
            encoding="utf-8",
            check=False,
            env=environment,
        )

    return run


@pytest.mark.parametrize("command", [("report", "--month", "2026-11"), ("report",), ("budget", "status")])
def test_utc_works_without_a_time_zone_database(
    without_zones: Callable[..., subprocess.CompletedProcess[str]], command: tuple[str, ...]
) -> None:
    """Reports and budgets in UTC work in a slim container and on Windows."""
    result = without_zones(*command)
    assert (result.returncode, result.stderr) == (0, "")


def test_another_zone_without_a_time_zone_database_is_an_error(
    without_zones: Callable[..., subprocess.CompletedProcess[str]], tmp_path: Path
) -> None:
    """The error says that the machine has no database, and how to install one."""
    problem = (
        "cannot look up the time zone Asia/Shanghai: this machine has no time zone database; "
        "run `pip install tzdata`"
    )
    result = without_zones("report", "--month", "2026-11", "--timezone", "Asia/Shanghai")
    assert (result.returncode, result.stdout) == (2, "")
    assert problem in " ".join(result.stderr.split())
    budgets = tmp_path / "budgets.yaml"
    budgets.write_text(
        "budgets:\n  - {name: b, cap: 1, currency: USD, timezone: Asia/Shanghai}\n", encoding="utf-8"
    )
    result = without_zones("budget", "apply", str(budgets))
    assert (result.returncode, result.stdout) == (2, "")
    assert f"{budgets}:2: budgets[0].timezone: {problem}" in result.stderr


PLACES = [
    *("UTC", "Asia/Shanghai", "Asia/Kathmandu", "America/New_York", "Europe/London", "Australia/Lord_Howe"),
    *("Africa/Cairo", "America/Santiago", "Asia/Beirut", "America/Havana", "Atlantic/Azores", "Asia/Gaza"),
    *("America/St_Johns", "Pacific/Apia", "Pacific/Kiritimati", "Pacific/Kwajalein", "America/Asuncion"),
    *("Africa/Casablanca", "Antarctica/Troll", "Asia/Tehran", "America/Godthab", "America/Scoresbysund"),
]
INSTANTS = st.datetimes(datetime(1960, 1, 1), datetime(2199, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001
TURNS = st.sampled_from(
    [utc(each) for row in DAYS for each in row[2:4]]
    + [utc("1969-09-30T13:00"), utc("1993-08-21T12:00"), utc("2024-10-06T03:00"), utc("2024-03-31T01:00")]
)
NEAR_TURNS = st.builds(
    lambda turn, off: turn + off, TURNS, st.timedeltas(timedelta(hours=-50), timedelta(hours=50))
)


@given(
    at=INSTANTS | NEAR_TURNS,
    place=st.sampled_from(PLACES),
    calendar=st.sampled_from(CALENDARS),
    starts=st.sampled_from(WEEKDAYS),
)
@settings(max_examples=examples(500))
def test_windows_follow_each_other(at: datetime, place: str, calendar: Calendar, starts: str) -> None:
    """Each window contains its instant, ends in UTC, and meets its neighbours without gap or overlap."""
    zone, tick = ZoneInfo(place), timedelta(microseconds=1)
    period = calendar_period(calendar, at, zone, starts)
    assert period.start <= at < period.end
    assert period.start.tzinfo is period.end.tzinfo is UTC
    before = calendar_period(calendar, period.start - tick, zone, starts)
    after = calendar_period(calendar, period.end, zone, starts)
    assert [each.end == following.start for each, following in pairwise([before, period, after])] == [
        True,
        True,
    ]
    for edge in (period.start, period.end - tick):
        assert calendar_period(calendar, edge, zone, starts) == period


@given(at=INSTANTS | NEAR_TURNS, place=st.sampled_from(PLACES))
@settings(max_examples=examples(100))
def test_a_day_does_not_begin_before_the_clock_shows_its_date(at: datetime, place: str) -> None:
    """At its first instant the clock shows its date or a later one, and just before an earlier one."""
    zone = ZoneInfo(place)
    day = at.astimezone(zone).date()
    start = start_of(day, zone)
    assert start.astimezone(zone).date() >= day > (start - timedelta(microseconds=1)).astimezone(zone).date()
    assert start <= at
