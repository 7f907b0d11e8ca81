"""A ledger keeps the windows of its budgets, whatever time zone data the machines have that use it."""

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from importlib.resources import files
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from kling_pricing import (
    Budget,
    BudgetGuard,
    LedgerUnavailableError,
    PriceBook,
    ReservationStateError,
)
from kling_pricing.budgets import Budgets, BudgetsFile
from kling_pricing.guard import apply_budgets
from kling_pricing.ledger import connect
from kling_pricing.ledger.administration import info
from kling_pricing.ledger.calendars import ScheduledWindow
from kling_pricing.windows import Period
from tests.commands import run
from tests.conftest import Clock, OpenGuard
from tests.guard_workers import piped
from tests.guards import CLIP, COST, answer, sent

NOON = datetime(2026, 11, 21, 12, tzinfo=UTC)


def utc(text: str) -> datetime:
    """Returns an instant in UTC."""
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.fixture(scope="module")
def zones(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Returns two time zone databases that differ in Vancouver: with daylight saving time, and always at -7."""
    folders = {}
    for name, rules in (("old", "America/Los_Angeles"), ("new", "America/Phoenix")):
        folder = tmp_path_factory.mktemp(name)
        (folder / "America").mkdir()
        data = files("tzdata").joinpath("zoneinfo", *rules.split("/")).read_bytes()
        (folder / "America" / "Vancouver").write_bytes(data)
        (folder / "+VERSION").write_text(f"{name}\n")
        folders[name] = str(folder)
    return folders


WORK = """
import json, sys
from datetime import datetime
from decimal import Decimal
from kling_pricing import Budget, BudgetExceededError, BudgetGuard
from kling_pricing.ledger import connect
CLIP = {"model": "kling-v3", "prompt": "a boat", "duration": 5, "resolution": "1080p", "audio": True}

def work(url, verb, window, at):
    now = datetime.fromisoformat(at)
    budget = Budget(
        name="all", cap=Decimal("3.57"), currency="USD", window=window, timezone="America/Vancouver"
    )
    with BudgetGuard(url, [budget] if verb == "install" else None, clock=lambda: now) as guard:
        if verb == "apply":
            store = connect(url, clock=lambda: now)
            for change in store.calendar_changes(guard._state.in_force.budgets):
                yield " ".join(["moves", *map(str, change.moved[0])])
            store.close()
            guard.apply([budget])
        elif verb == "admit":
            try:
                while True:
                    guard.admit(CLIP, project="p")
                    yield "admitted"
            except BudgetExceededError:
                pass
        for bucket in guard.status():
            yield f"{bucket.window_start.isoformat()} {bucket.window_end.isoformat()} {bucket.held}"
        guard.verify()

for line in sys.stdin:
    print(json.dumps(list(work(*json.loads(line)))), flush=True)
"""

Machines = dict[str, "subprocess.Popen[str]"]


@pytest.fixture(scope="module")
def machines(zones: dict[str, str]) -> Iterator[Machines]:
    """Yields a process for each time zone database, which carries out commands."""
    processes = {
        name: subprocess.Popen(
            [sys.executable, "-c", WORK],
            env={**os.environ, "PYTHONTZPATH": folder},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name, folder in zones.items()
    }
    yield processes
    for process in processes.values():
        process.communicate()


BEFORE, AFTER = "2026-11-15T12:00:00+00:00", "2026-12-15T12:00:00+00:00"


At = Callable[[str, str, str, str], list[str]]


@pytest.fixture
def at(ledger: str, clock: Clock, machines: Machines) -> At:
    """Returns a function that runs a guard on a machine with a verb, a window and an instant."""

    def run_at(machine: str, verb: str, window: str, instant: str) -> list[str]:
        clock.now = datetime.fromisoformat(instant)
        process = machines[machine]
        piped(process.stdin).write(json.dumps([ledger, verb, window, instant]) + "\n")
        piped(process.stdin).flush()
        lines: list[str] = json.loads(piped(process.stdout).readline())
        return lines

    return run_at


@pytest.mark.parametrize("window", ["day", "month"])
def test_machines_with_different_zone_data_share_one_cap(at: At, window: str) -> None:
    """A second machine with newer time zone data opens no second bucket: 5 of 5 fit, not 10."""
    at("old", "install", window, BEFORE)
    first = at("old", "admit", window, BEFORE)
    second = at("new", "admit", window, BEFORE)
    assert (first.count("admitted"), second.count("admitted")) == (5, 0)
    assert first[-1] == second[-1]


def test_new_zone_rules_take_effect_with_apply_and_open_no_sliver(at: At) -> None:
    """The bounds after the open window move, the open window keeps its start and its spend."""
    (before,) = at("old", "install", "month", BEFORE)
    assert before == "2026-11-01T07:00:00+00:00 2026-12-01T08:00:00+00:00 0"
    assert at("old", "admit", "month", BEFORE).count("admitted") == 5
    moved, after = at("new", "apply", "month", BEFORE)
    assert moved == "moves 2026-12-01 08:00:00+00:00 2026-12-01 07:00:00+00:00"
    assert after == "2026-11-01T07:00:00+00:00 2026-12-01T07:00:00+00:00 3.57"
    assert at("old", "admit", "month", BEFORE).count("admitted") == 0
    assert at("old", "admit", "month", AFTER)[-1] == (
        "2026-12-01T07:00:00+00:00 2027-01-01T07:00:00+00:00 3.57"
    )


def test_a_bound_that_has_passed_by_the_new_rules_stays(at: At) -> None:
    """In the hour by which the rules differ, the open day keeps its end and the next day begins there."""
    within = "2026-11-16T07:30:00+00:00"
    at("old", "install", "day", within)
    assert at("old", "admit", "day", within)[-1].startswith(
        "2026-11-15T08:00:00+00:00 2026-11-16T08:00:00+00:00"
    )
    assert at("new", "apply", "day", within)[-1] == ("2026-11-15T08:00:00+00:00 2026-11-16T08:00:00+00:00 3.57")
    assert at("new", "admit", "day", "2026-11-16T08:00:00+00:00")[-1] == (
        "2026-11-16T08:00:00+00:00 2026-11-17T07:00:00+00:00 3.57"
    )


def test_apply_shows_the_bounds_that_move(tmp_path: Path, zones: dict[str, str]) -> None:
    """`budget apply` names the schedule, the number of bounds, the first one and the version of the data."""
    file = tmp_path / "budgets.yaml"
    file.write_text(
        "budgets:\n  - {name: all, cap: 5, currency: USD, window: day, timezone: America/Vancouver}\n"
    )
    url = f"sqlite:///{tmp_path}/spend.db"
    outputs = [
        subprocess.run(
            [sys.executable, "-m", "kling_pricing", "budget", "apply", str(file), "--ledger", url],
            env={**os.environ, "PYTHONTZPATH": zones[name]},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for name in ("old", "old", "new", "new")
    ]
    assert ["window boundaries; the first moves from" in output for output in outputs] == [
        False, False, True, False,
    ]  # fmt: skip
    assert "day in America/Vancouver: time zone data new " in outputs[2]


@pytest.mark.parametrize(
    ("place", "at", "start", "end"),
    [
        ("America/Havana", "2026-11-01T05:30", "2026-11-01T04:00", "2026-11-02T05:00"),  # the second midnight
        ("America/Havana", "2026-11-02T05:00", "2026-11-02T05:00", "2026-11-03T05:00"),
        ("Atlantic/Azores", "2026-10-25T00:30", "2026-10-25T00:00", "2026-10-26T01:00"),
        ("CET", "2026-07-01T22:30", "2026-07-01T22:00", "2026-07-02T22:00"),
        ("EET", "2026-07-01T21:30", "2026-07-01T21:00", "2026-07-02T21:00"),
    ],
)
def test_both_stores_count_in_the_same_windows(
    open_guard: OpenGuard, clock: Clock, place: str, at: str, start: str, end: str
) -> None:
    """Repeated midnights and zones with old names have the same windows in a file and on a server."""
    clock.now = utc(at)
    guard = open_guard(window="day", timezone=place)
    guard.admit(CLIP, project="trailer")
    (bucket,) = guard.status()
    assert (bucket.window_start, bucket.window_end, bucket.held) == (utc(start), utc(end), COST)
    clock.now = bucket.window_end
    assert guard.status()[0].held == 0


# the calendar


@contextmanager
def stored(ledger: str, clock: Clock) -> Iterator[Any]:
    """Yields the store of a ledger."""
    with closing(connect(ledger, clock=clock)) as store:
        yield store


def every_kind() -> BudgetsFile:
    """Returns a budget with every kind of window."""
    windows: tuple[Any, ...] = ("lifetime", "day", "week", "month", "quarter", "year")
    fixed = {"start": "2026-11-01", "end": "2027-02-01"}
    return Budgets(
        [
            Budget(name=f"b{place}", cap=Decimal(5), currency="USD", window=window, timezone="Asia/Beirut")
            for place, window in enumerate((*windows, fixed))
        ]
    )


def test_a_calendar_is_contiguous_and_reaches_ten_years_ahead(ledger: str, clock: Clock) -> None:
    """The windows of each schedule follow each other, from three years back to ten years ahead."""
    clock.now = NOON
    BudgetGuard(ledger, every_kind(), clock=clock).close()
    schedules: dict[str, list[Period]] = {}
    with stored(ledger, clock) as store:
        for year in range(2024, 2037):
            for window in store.windows(utc(f"{year}-06-01T12:00")):
                schedules.setdefault(window.schedule, []).append(window.period)
        ends = {window.schedule: window.period.end for window in store.calendar_ends()}
    assert len(schedules) == 6
    assert all(len(periods) == 13 for periods in schedules.values())
    recurring = {name: end for name, end in ends.items() if " in " in name and " to " not in name}
    assert sorted(recurring) == [
        *("day in Asia/Beirut", "month in Asia/Beirut", "quarter in Asia/Beirut"),
        *("week from monday in Asia/Beirut", "year in Asia/Beirut"),
    ]
    assert all(end >= NOON + timedelta(days=3653) for end in recurring.values())


def test_a_whole_calendar_has_no_gap(ledger: str, clock: Clock) -> None:
    """The calendar that a revision adds has no gap and no overlap, for every kind of window."""
    clock.now = NOON
    BudgetGuard(ledger, [Budget(name="first", cap=Decimal(1), currency="USD")], clock=clock).close()
    with stored(ledger, clock) as store:
        changes = store.calendar_changes(every_kind())
    assert len(changes) == 6
    for change in changes:
        windows = change.past + change.after
        assert all(before.end == after.start for before, after in pairwise(windows))
        assert all(window.start < window.end for window in windows)


def test_nothing_is_admitted_after_the_calendar(open_guard: OpenGuard, clock: Clock, ledger: str) -> None:
    """After the calendar's end requests are refused; applying the same budgets extends it."""
    guard = open_guard(window="month")
    guard.admit(CLIP, project="trailer")
    clock.pass_by(days=12 * 366)
    with pytest.raises(LedgerUnavailableError, match=r"calendar ended at .*`kling-pricing budget apply FILE`"):
        guard.admit(CLIP, project="trailer")
    entries = len(guard.journal())
    with stored(ledger, clock) as store:
        guard.apply([Budget.model_validate(entry) for entry in _budgets_of(store)])
    assert [entry.kind for entry in guard.journal()[entries:]] == ["calendar"]
    guard.admit(CLIP, project="trailer")
    assert guard.status()[0].held == COST


def _budgets_of(store: Any) -> list[Any]:
    from kling_pricing.budgets import budgets_from_document  # noqa: PLC0415 (of this test only)

    return [entry.model_dump() for entry in budgets_from_document(store.installed().document).budgets]


def test_a_calendar_that_ends_soon_warns(
    tmp_path: Path, book: PriceBook, caplog: pytest.LogCaptureFixture
) -> None:
    """A guard that opens a ledger and `ledger info` warn 90 days before the calendar ends, with the command."""
    url = f"sqlite:///{tmp_path}/spend.db"
    monthly = Budget(name="all", cap=Decimal(5), currency="USD", window="month")
    long_ago = datetime.now(UTC) - timedelta(days=11 * 366)
    BudgetGuard(url, [monthly], book=book, clock=Clock(long_ago)).close()
    assert caplog.messages == []
    BudgetGuard(url, book=book).close()
    remedy = "to extend the calendar, run `kling-pricing budget apply FILE` with the current budgets"
    assert [remedy in message for message in caplog.messages] == [True]
    assert [remedy in warning for warning in info(url).warnings] == [True]
    assert remedy in " ".join(run("ledger", "info", url).stderr.split())
    apply_budgets(url, [monthly])
    assert info(url).warnings == ()


def test_spend_before_the_calendar_counts_in_no_window_that_is_over(
    open_guard: OpenGuard, clock: Clock
) -> None:
    """Spend from long ago counts in a lifetime budget, and in no window that ended before the calendar."""
    guard = open_guard(
        Budget(name="all", cap=Decimal(5), currency="USD"),
        Budget(name="daily", cap=Decimal(5), currency="USD", window="day"),
    )
    guard.record("qingbo", "old", "1", labels={"project": "trailer"}, at=clock.now - timedelta(days=2000))
    guard.record("qingbo", "older", "1", labels={"project": "trailer"}, at=clock.now - timedelta(days=900))
    assert {bucket.budget: bucket.spent for bucket in guard.status()} == {
        "all": Decimal(2),
        "daily": Decimal(0),
    }
    (day,) = [bucket for bucket in guard.status(clock.now - timedelta(days=900)) if bucket.budget == "daily"]
    assert day.spent == Decimal(1)


def test_the_same_calendar_is_not_written_again(open_guard: OpenGuard, ledger: str, clock: Clock) -> None:
    """Applying the same budgets with the same time zone data changes nothing, not even the journal."""
    guard = open_guard(window="day")
    with stored(ledger, clock) as store:
        budgets = [Budget.model_validate(entry) for entry in _budgets_of(store)]
        assert store.calendar_changes(Budgets(budgets)) == ()
        (window,) = store.windows(clock.now)
    assert window == ScheduledWindow("day in UTC", Period(*guard.status()[0][7:9]), "none")
    guard.apply(budgets)
    assert [entry.kind for entry in guard.journal()] == ["revision"]


# an observation that was refused


def test_a_refused_answer_does_not_swallow_the_right_one(open_guard: OpenGuard) -> None:
    """An answer about task B for reservation A is refused; the same answer for B then settles B, once."""
    guard = open_guard()
    first = guard.bind(sent(guard, key="a").id, "task-a")
    second = guard.bind(sent(guard, key="b").id, "task-b")
    body = answer("completed", "task-b", cost=350000)
    with pytest.raises(ReservationStateError, match="bound to task task-b"):
        guard.observe(body, provider="qingbo", reservation=first)
    assert guard.reservation(second.id).state == "bound"
    settled = guard.observe(body, provider="qingbo")
    assert settled is not None
    assert (settled.id, settled.state, settled.billed) == (second.id, "settled", Decimal("0.7"))
    entries = len(guard.journal())
    guard.observe(body, provider="qingbo")
    assert len(guard.journal()) == entries
