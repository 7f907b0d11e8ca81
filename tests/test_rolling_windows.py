"""Rolling windows, on both stores: no period of the length ever has more reserved in it than the cap."""

import json
import sqlite3
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import count
from pathlib import Path
from threading import Barrier
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kling_pricing import (
    Alert,
    Budget,
    BudgetError,
    BudgetExceededError,
    BudgetGuard,
    Budgets,
    LedgerError,
    PriceBook,
    Reservation,
)
from kling_pricing.budgets import load_budgets
from kling_pricing.reports import read_spend, write_spend
from kling_pricing.windows import counting_period, rolling_period
from tests import commands
from tests.conftest import AT, Clock, OpenGuard, bundled_book, examples, video
from tests.guards import CLIP, COST, ZERO, VerifiedGuard, left

HOUR, DAY = timedelta(hours=1), timedelta(days=1)
ROLLING: dict[str, Any] = {"window": {"rolling": "24h"}}
SHORT = video(duration=3, resolution="720p")
"""A cheap clip: 3 s x 0.0714 USD."""
SHORT_COST = Decimal("0.2142")


# the file


@pytest.mark.parametrize(
    ("length", "stored"),
    [
        ("24h", "24h"),
        ("1d", "24h"),
        ("1440m", "24h"),
        ("7d", "7d"),
        ("168h", "7d"),
        ("90m", "90m"),
        ("1m", "1m"),
    ],
)
def test_equal_lengths_are_the_same_window(length: str, stored: str) -> None:
    """However a length is written, the budget has one definition, so that another spelling changes nothing."""
    budgets = [
        Budgets([Budget(name="trailer", cap=1, currency="USD", window={"rolling": text})])
        for text in (length, stored)
    ]
    assert budgets[0].digest == budgets[1].digest
    assert budgets[0].budgets[0].definition == budgets[1].budgets[0].definition


def test_definitions_of_other_windows_stay() -> None:
    """Budgets with other windows have the definition of earlier releases, so they keep their buckets."""
    budget = Budget(name="x", cap=1, currency="USD", window="day")
    assert budget.definition == "4e933060d81f4b26"


@pytest.mark.parametrize(
    ("window", "problem"),
    [
        ("{rolling: 24}", "rolling: must be a whole number of minutes, hours or days from 1m to 366d"),
        ("{rolling: 30s}", "rolling: must be a whole number of minutes, hours or days"),
        ("{rolling: 0h}", "rolling: must be a whole number of minutes, hours or days"),
        ("{rolling: 367d}", "from 1m to 366d, such as 90m, 24h or 30d, got '367d'"),
        ("{roling: 24h}", "roling: unknown key; did you mean 'rolling'?"),
        ("{rolling: 24h, start: 2026-01-01}", "start: unknown key"),
        ("rolling", "or {rolling: 24h}, got 'rolling'"),
    ],
)
def test_a_mistake_in_a_rolling_window(tmp_path: Path, window: str, problem: str) -> None:
    """The error names the line, the key and the lengths that are possible."""
    file = tmp_path / "budgets.yaml"
    file.write_text(f"budgets:\n  - name: a\n    cap: 1\n    currency: USD\n    window: {window}\n")
    with pytest.raises(BudgetError) as refused:
        load_budgets(file)
    assert (refused.value.line, refused.value.key_path) == (5, "budgets[0].window")
    assert problem in str(refused.value)


@pytest.mark.parametrize("extra", [{"timezone": "Asia/Shanghai"}, {"week_starts": "sunday"}])
def test_calendar_settings_do_not_apply_to_rolling_windows(extra: dict[str, str]) -> None:
    """A time zone or a first weekday would have no effect, so it is refused."""
    with pytest.raises(BudgetError, match="remove it"):
        Budget(name="a", cap=1, currency="USD", window={"rolling": "24h"}, **extra)


def test_the_steps_of_a_window() -> None:
    """Money counts from the start of its step until 25 steps later, also before 1970."""
    for at in (AT, AT + timedelta(minutes=59, seconds=59, microseconds=999_999)):
        assert counting_period(at, HOUR) == (AT, AT + 25 * HOUR)
        assert rolling_period(at, HOUR) == (AT - DAY, AT + HOUR)
    early = datetime(1969, 12, 31, 23, 30, tzinfo=UTC)
    assert counting_period(early, HOUR).start == datetime(1969, 12, 31, 23, tzinfo=UTC)


# reserving


def test_money_comes_back_when_its_step_leaves(open_guard: OpenGuard, clock: Clock) -> None:
    """What was reserved counts for the whole length and at most one step longer; the error says until when."""
    guard = open_guard(cap=2 * COST, **ROLLING)
    for minutes in (61, 61):  # one job in the first step, one in the second
        guard.dispatch(guard.admit(CLIP, project="trailer"))
        clock.pass_by(minutes=minutes)
    with pytest.raises(BudgetExceededError) as refused:
        guard.admit(CLIP, project="trailer")
    error = refused.value
    assert (error.available, error.window_end) == (ZERO, AT + 25 * HOUR)
    assert "in its window of 24h; by 2026-11-22T01:00:00+00:00, enough of the money that is counted now" in str(
        error
    )
    clock.now = AT + 25 * HOUR - timedelta(microseconds=1)
    with pytest.raises(BudgetExceededError):
        guard.admit(CLIP, project="trailer")
    clock.now = AT + 25 * HOUR
    guard.admit(CLIP, project="trailer")
    with pytest.raises(BudgetExceededError):
        guard.admit(CLIP, project="trailer")


def test_a_cap_below_the_cost_never_fits(open_guard: OpenGuard) -> None:
    """If the cap itself is too low, the error names no instant, because none helps."""
    guard = open_guard(cap="0.5", **ROLLING)
    with pytest.raises(BudgetExceededError, match="its cap is lower than the cost") as refused:
        guard.admit(CLIP, project="trailer")
    assert refused.value.window_end is None


def test_requests_are_capped_to_what_is_left_in_the_window(open_guard: OpenGuard) -> None:
    """Capping sees the room in the whole window, not in the current step."""
    guard = open_guard(cap=COST + Decimal("0.5"), on_exceed="cap", **ROLLING)
    guard.admit(CLIP, project="trailer")
    capped = guard.admit(CLIP, project="trailer")
    assert (capped.changes, capped.reservation.reserved) == ({"duration_s": 3}, Decimal("0.4284"))


def test_settling_and_releasing_change_the_step_of_the_reservation(open_guard: OpenGuard, clock: Clock) -> None:
    """A late settlement moves no money into a later step; what has left the window stays out of it."""
    guard = open_guard(cap=2 * COST, **ROLLING)
    early, unsent = guard.admit(CLIP, project="trailer"), guard.admit(CLIP, project="trailer")
    guard.dispatch(early)
    guard.release(unsent)
    assert left(guard) == (COST, ZERO, COST)
    clock.pass_by(hours=3)
    guard.settle(early, "0.5")
    assert left(guard) == (ZERO, Decimal("0.5"), 2 * COST - Decimal("0.5"))
    clock.now = AT + 25 * HOUR
    assert left(guard) == (ZERO, ZERO, 2 * COST)
    guard.settle(early, "0.6", basis="statement")
    assert left(guard) == (ZERO, ZERO, 2 * COST)


def test_a_job_longer_than_the_window_leaves_it_while_held(open_guard: OpenGuard, clock: Clock) -> None:
    """The window limits what is reserved in a time, so a job that runs longer no longer counts."""
    guard = open_guard(cap=COST, window={"rolling": "1h"})
    guard.dispatch(guard.admit(CLIP, project="trailer"))
    clock.pass_by(minutes=63)
    assert left(guard) == (ZERO, ZERO, COST)
    guard.admit(CLIP, project="trailer")


def test_each_label_has_a_rolling_window_of_its_own(open_guard: OpenGuard) -> None:
    """With `*`, one user's spend takes nothing from another's window."""
    guard = open_guard(cap=COST, match={"user": "*"}, **ROLLING)
    for user in ("li", "wu"):
        guard.admit(CLIP, project="trailer", labels={"user": user})
        with pytest.raises(BudgetExceededError):
            guard.admit(CLIP, project="trailer", labels={"user": user})
    assert [bucket.labels for bucket in guard.status()] == [{"user": "li"}, {"user": "wu"}]


def test_a_refusal_leaves_no_row_behind(open_guard: OpenGuard, ledger: str) -> None:
    """Refused requests with ever new labels do not fill the ledger."""
    guard = open_guard(cap="0.1", match={"user": "*"}, **ROLLING)
    with pytest.raises(BudgetExceededError):
        guard.admit(CLIP, project="trailer", labels={"user": "li"})
    assert guard.status() == []
    if ledger.startswith("postgresql"):
        with psycopg.connect(ledger) as connection:
            rows = connection.execute("SELECT count(*) FROM kling_pricing.rolling_window").fetchone()
        assert rows == (0,)


def test_spend_from_elsewhere_counts_at_its_time(open_guard: OpenGuard, clock: Clock) -> None:
    """A recorded job counts from its own instant; one from before the window does not count."""
    guard = open_guard(cap=1, **ROLLING)
    guard.record("qingbo", "task-1", "0.3", labels={"project": "trailer"}, at=AT - 23 * HOUR)
    guard.record("qingbo", "task-2", "5", labels={"project": "trailer"}, at=AT - 26 * HOUR)
    assert left(guard) == (ZERO, Decimal("0.3"), Decimal("0.7"))
    clock.pass_by(hours=2)
    assert left(guard) == (ZERO, ZERO, Decimal(1))


def test_an_opening_balance_is_refused(open_guard: OpenGuard) -> None:
    """A rolling window needs to know when money was spent; the error names the command that says so."""
    guard = open_guard(cap=1, **ROLLING)
    with pytest.raises(BudgetError, match=r"record each job with `kling-pricing record --at TIME`"):
        guard.open_budget("trailer", 1)


# alerts


def test_alerts_fire_once_per_crossing(ledger: str, book: PriceBook, clock: Clock) -> None:
    """A threshold fires when it is crossed, and again only after the window was below it."""
    alerts: list[Alert] = []
    budget = Budget(name="trailer", cap=3 * COST, currency="USD", alerts=["0.3", "0.6"], **ROLLING)
    with VerifiedGuard(ledger, [budget], book=book, clock=clock, on_alert=alerts.append) as guard:

        def thresholds() -> list[tuple[Decimal | None, Decimal]]:
            return [(alert.threshold, alert.used) for alert in alerts]

        first = guard.admit(CLIP, project="trailer")
        assert thresholds() == [(Decimal("0.3"), COST)]
        second = guard.admit(CLIP, project="trailer")
        assert thresholds()[1:] == [(Decimal("0.6"), 2 * COST)]
        guard.release(second)
        guard.release(guard.admit(CLIP, project="trailer"))
        assert thresholds()[2:] == [(Decimal("0.6"), 2 * COST)]  # the same step, crossed again
        guard.dispatch(first)
        guard.settle(first, COST)
        clock.pass_by(hours=2)
        guard.dispatch(guard.admit(CLIP, project="trailer"))
        guard.dispatch(guard.admit(SHORT, project="trailer"))
        assert thresholds()[3:] == [(Decimal("0.6"), 2 * COST)]  # 0.3 was never below meanwhile
        clock.now = AT + 30 * HOUR
        guard.admit(CLIP, project="trailer")
        assert thresholds()[4:] == [(Decimal("0.3"), COST)]


def test_a_lower_cap_has_thresholds_of_its_own(ledger: str, book: PriceBook, clock: Clock) -> None:
    """After a change of the cap, a threshold that the window already reaches fires at once, and only once."""
    alerts: list[Alert] = []
    budgets = [
        Budget(name="trailer", cap=cap, currency="USD", alerts=["0.5"], max_request=limit, **ROLLING)
        for cap, limit in ((5 * COST, 5), (2 * COST, 5), (2 * COST, 4))
    ]
    with VerifiedGuard(ledger, budgets[:1], book=book, clock=clock, on_alert=alerts.append) as guard:
        guard.dispatch(guard.admit(CLIP, project="trailer"))
        clock.pass_by(hours=2)
        guard.dispatch(guard.admit(CLIP, project="trailer"))
        assert not alerts
        for budget in budgets[1:]:
            guard.apply([budget])
        assert [(alert.threshold, alert.used, alert.cap) for alert in alerts] == [
            (Decimal("0.5"), 2 * COST, 2 * COST)
        ]
        with pytest.raises(BudgetExceededError):
            guard.admit(SHORT, project="trailer")


# revisions


def test_a_new_rolling_budget_carries_over_what_counts(open_guard: OpenGuard, clock: Clock) -> None:
    """With `carry_over`, a rolling budget counts the jobs of its window, each from its own instant."""
    guard = open_guard(cap=100)
    for _ in range(3):
        guard.dispatch(guard.admit(CLIP, project="trailer"))
        clock.pass_by(hours=14)
    rolling = Budget(
        name="trailer", match={"project": "trailer"}, cap=100, currency="USD", carry_over=True, **ROLLING
    )
    guard.apply([rolling], allow_weaker=True)
    assert left(guard) == (COST, ZERO, 100 - COST)  # 14 h ago; the others are 28 h and 42 h old
    clock.pass_by(hours=12)
    assert left(guard) == (ZERO, ZERO, Decimal(100))


def test_a_rolling_window_becomes_a_calendar_window(open_guard: OpenGuard, clock: Clock) -> None:
    """A budget may change from a rolling to a calendar window like any other change of its window."""
    guard = open_guard(cap=100, **ROLLING)
    guard.dispatch(guard.admit(CLIP, project="trailer"))
    clock.pass_by(hours=1)
    monthly = {
        "name": "trailer",
        "match": {"project": "trailer"},
        "cap": 100,
        "currency": "USD",
        "window": "month",
    }
    with pytest.raises(BudgetError, match="carry_over: true"):
        guard.apply([Budget(**monthly)], allow_weaker=True)
    guard.apply([Budget(**monthly, carry_over=True)], allow_weaker=True)
    assert left(guard) == (COST, ZERO, 100 - COST)


# the promise

LENGTH, STEP, TICK = timedelta(minutes=24), timedelta(minutes=1), timedelta(microseconds=1)
COSTS = {SHORT_COST: SHORT, COST: CLIP, Decimal("1.428"): video(duration=10, resolution="1080p", audio=True)}
CAP = Decimal("2.2")

_events = st.tuples(
    st.one_of(
        st.integers(0, 90).map(lambda seconds: timedelta(seconds=seconds)),
        st.integers(-40, 40).map(lambda minutes: timedelta(minutes=minutes)),
        st.sampled_from(
            [LENGTH - STEP / 3, LENGTH - STEP / 3, STEP - TICK, LENGTH, -LENGTH, 25 * STEP, 0 * STEP]
        ),
    ),
    st.sampled_from(["admit", "admit", "admit", "admit", "release", "settle lower", "settle"]),
    st.sampled_from(list(COSTS)),
    st.integers(0, 9),
)
"""The time that passes, which may be negative, an event, a cost, and the job that it concerns."""


def counted(job: Reservation) -> Decimal:
    """Returns the amount of a job that still counts."""
    if job.state == "released":
        return ZERO
    return job.reserved if job.billed is None else job.billed


def most_in_any_window(jobs: list[Reservation]) -> Decimal:
    """Returns the highest sum of the amounts reserved in a period of the window's length, by brute force."""
    starts = [job.created_at for job in jobs]
    starts += [start - LENGTH + TICK for start in starts]
    return max(
        (
            sum((counted(job) for job in jobs if start <= job.created_at < start + LENGTH), ZERO)
            for start in starts
        ),
        default=ZERO,
    )


PER_RUN = Budget(
    name="run", match={"run": "*"}, cap=CAP, currency="USD", window={"rolling": "24m"}, alerts=["0.5"]
)
runs = count(1)


@settings(
    max_examples=examples(12, long=500),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(events=st.lists(_events, min_size=4, max_size=25), offset=st.integers(0, 59_999_999))
def test_no_true_window_ever_holds_more_than_the_cap(
    ledger: str, clock: Clock, events: list[Any], offset: int
) -> None:
    """Whatever the clock does, no period of the length has more reserved in it than the cap.

    And nothing that fits is refused: a request is admitted exactly if it fits beside all that was reserved in
    the last 24 steps, the current one and later ones. An alert fires once per crossing of half the cap.
    """
    run, jobs, alerts = str(next(runs)), list[str](), list[Alert]()
    expected, is_reached = 0, False
    clock.now = AT + timedelta(microseconds=offset)
    book = bundled_book()
    with BudgetGuard(ledger, [PER_RUN], book=book, clock=clock, on_alert=alerts.append) as guard:
        for passed, event, cost, which in events:
            clock.now += passed
            known = [guard.reservation(name) for name in jobs]
            if event == "admit":
                first = counting_period(clock.now, STEP).start - LENGTH
                used = sum((counted(job) for job in known if job.created_at >= first), ZERO)
                try:
                    admission = guard.admit(COSTS[cost], project="trailer", labels={"run": run})
                    guard.dispatch(admission)
                    jobs.append(admission.reservation_id)
                    assert used + cost <= CAP
                    is_reached = is_reached and used >= CAP / 2
                    if used + cost >= CAP / 2 and not is_reached:
                        expected, is_reached = expected + 1, True
                except BudgetExceededError:
                    assert used + cost > CAP
            elif known:
                job = known[which % len(known)]
                if event == "release" and job.state == "dispatching":
                    guard.release_refused(job.id)
                elif event.startswith("settle") and job.state == "dispatching":
                    guard.settle(job.id, job.expected / 2 if event.endswith("lower") else None)
            assert most_in_any_window([guard.reservation(name) for name in jobs]) <= CAP
            assert len(alerts) == expected
        guard.verify()


@pytest.mark.parametrize("minutes", [1, 25])
def test_simultaneous_requests_never_pass_the_cap(ledger: str, book: PriceBook, minutes: int) -> None:
    """Eight threads that race for the last of a rolling window reserve exactly as many jobs as fit.

    With `minutes=1`, the steps last 2.5 seconds, so that some threads may book into different steps.
    """
    budget = Budget(name="all", cap=5 * SHORT_COST, currency="USD", window={"rolling": f"{minutes}m"})
    with BudgetGuard(ledger, [budget], book=book) as guard:
        start = Barrier(8)

        def race(_: int) -> int:
            start.wait()
            admitted = 0
            for _ in range(3):
                try:
                    guard.admit(SHORT, project="trailer")
                    admitted += 1
                except BudgetExceededError:
                    pass
            return admitted

        with ThreadPoolExecutor(8) as pool:
            assert sum(pool.map(race, range(8))) == 5
        guard.verify()


# reading


def test_status_shows_the_whole_window(open_guard: OpenGuard, clock: Clock) -> None:
    """The status adds up the steps that count, says how long the window is, and can look back."""
    guard = open_guard(cap=5, window={"rolling": "24h"})
    assert [(row.held, row.available, row.rolling) for row in guard.status()] == [(ZERO, Decimal(5), "24h")]
    for _ in range(3):
        guard.dispatch(guard.admit(CLIP, project="trailer"))
        clock.pass_by(hours=10)
    (now,) = guard.status()
    assert (now.held, now.window_start, now.window_end) == (2 * COST, AT + 6 * HOUR, AT + 31 * HOUR)
    (before,) = guard.status(AT + 11 * HOUR)
    assert before.held == 2 * COST
    clock.now = AT + 5 * HOUR  # the clock steps back: the later steps count, as they do for an admission
    assert guard.status()[0].held == 3 * COST


def test_the_command_shows_the_length_of_the_window(ledger: str, tmp_path: Path) -> None:
    """`budget status` shows `rolling 24h` where other budgets show the end of their window."""
    file = tmp_path / "budgets.yaml"
    file.write_text("budgets:\n  - {name: burst, cap: 20, currency: USD, window: {rolling: 10m}}\n")
    assert commands.run("budget", "apply", file, ledger=ledger).returncode == 0
    assert "rolling 10m" in commands.run("budget", "status", ledger=ledger).stdout
    document = json.loads(commands.run("budget", "status", "--json", ledger=ledger).stdout)
    assert document["budgets"][0]["rolling"] == "10m"
    opened = commands.run("budget", "open", "burst", "--spent", "1", ledger=ledger)
    assert (opened.returncode, "it has no opening balance" in opened.stderr) == (2, True)


def test_a_report_shows_money_leaving_the_window(
    ledger: str, book: PriceBook, clock: Clock, tmp_path: Path
) -> None:
    """The burn-down of a rolling window rises when money leaves it, and its steps are one budget."""
    clock.now = datetime(2026, 3, 2, 9, 30, tzinfo=UTC)
    budget = Budget(name="all", cap=5, currency="USD", **ROLLING)
    with BudgetGuard(ledger, [budget], book=book, clock=clock) as guard:
        for _ in range(2):
            admission = guard.admit(CLIP, project="trailer")
            guard.dispatch(admission)
            clock.pass_by(hours=10)
        guard.settle(admission, "0.7")
        clock.pass_by(days=5)
        guard.settle(admission, "0.8", basis="statement")  # this step has left the window
    since, until = datetime(2026, 3, 1, tzinfo=UTC), datetime(2026, 4, 1, tzinfo=UTC)
    spent = read_spend(ledger, since, until)
    (history,) = spent.buckets
    assert [(entry.at.day, entry.at.hour, entry.held, entry.spent) for entry in history.entries] == [
        (2, 9, COST, ZERO),
        (2, 19, COST, ZERO),
        (3, 5, -COST, Decimal("0.7")),
        (3, 10, -COST, ZERO),
        (3, 20, ZERO, Decimal("-0.7")),
    ]
    write_spend(spent, tmp_path / "report")
    rows = [json.loads(line) for line in (tmp_path / "report" / "burn_down.jsonl").read_text().splitlines()]
    assert [(row["window"], row["day"], row["left"]) for row in rows] == [
        ("rolling 24h", "2026-03-02", "3.572"),
        ("rolling 24h", "2026-03-03", "5"),
    ]
    (balance,) = [json.loads(line) for line in (tmp_path / "report" / "budgets.jsonl").read_text().splitlines()]
    assert (balance["window"], balance["spent"], balance["held"], balance["left"]) == (
        "rolling 24h",
        "0",
        "0",
        "5",
    )


# verification


AN_HOUR_EARLIER = """
UPDATE bucket SET window_start = '2026-11-20T23:00:00.000000+00:00',
  window_end = '2026-11-22T00:00:00.000000+00:00'
"""


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        ("UPDATE bucket SET step_us = step_us * 2", "step_us is 7200000000, but its budget gives 3600000000"),
        ("UPDATE bucket SET step_us = NULL", "step_us is empty, but its budget gives 3600000000"),
        (
            "UPDATE bucket SET window_end = '2026-11-23T00:00:00.000000+00:00'",
            "the time for which it counts, in microseconds, is 172800000000, but its step gives 90000000000",
        ),
        (
            "UPDATE bucket SET window_start = '2026-11-20T23:59:00.000000+00:00'",
            "the start within its step, in microseconds, is 3540000000, but every step starts at 0",
        ),
        (
            AN_HOUR_EARLIER,
            "created_at is .*, but the step of its bucket starts at",
        ),
    ],
)
def test_verify_finds_an_edit_of_a_step(
    ledger: str, book: PriceBook, clock: Clock, edit: str, message: str
) -> None:
    """A step that was moved or stretched would let money leave the window early or late."""
    with BudgetGuard(
        ledger, [Budget(name="trailer", cap=5, currency="USD", **ROLLING)], book=book, clock=clock
    ) as guard:
        guard.admit(CLIP, project="trailer")
        guard.verify()
        edited(ledger, edit)
        with pytest.raises(LedgerError, match=message):
            guard.verify()


def test_verify_finds_an_edit_of_the_alerts_that_fired(ledger: str, book: PriceBook, clock: Clock) -> None:
    """A threshold that is marked as reached without an alert would never alert anybody."""
    budget = Budget(name="trailer", cap=5, currency="USD", alerts=["0.1", "0.9"], **ROLLING)
    with BudgetGuard(ledger, [budget], book=book, clock=clock) as guard:
        guard.admit(CLIP, project="trailer")
        guard.verify()
        edited(ledger, """UPDATE rolling_window SET reached = '["0.9 of 5"]'""", "{0.9 of 5}")
        with pytest.raises(LedgerError, match=r"reached is 0\.9 of 5, but the journal needs an alert for it"):
            guard.verify()


def test_verify_finds_a_lost_row_of_a_rolling_window(ledger: str, book: PriceBook) -> None:
    """Simultaneous requests in PostgreSQL lock the row of a rolling window, so it must not be missing."""
    budget = Budget(name="trailer", cap=5, currency="USD", **ROLLING)
    with BudgetGuard(ledger, [budget], book=book) as guard:
        guard.admit(CLIP, project="trailer")
        edited(ledger, "DELETE FROM rolling_window")
        with pytest.raises(LedgerError, match=r"rolling window of trailer {}: its row is missing"):
            guard.verify()


def edited(ledger: str, statement: str, array: str | None = None) -> None:
    """Edits a table behind the guard's back; `array` is a list in PostgreSQL's own form."""
    if ledger.startswith("sqlite"):
        with sqlite3.connect(ledger.removeprefix("sqlite:///")) as file:
            file.execute(statement)
        file.close()
        return
    if array is not None:
        statement = f"{statement.partition('=')[0]}= '{array}'"
    with psycopg.connect(ledger, autocommit=True) as server:
        server.execute("SET search_path = kling_pricing")
        server.execute(statement.encode())


@pytest.mark.parametrize(("later", "spent"), [(timedelta(0), 6), (timedelta(microseconds=-1), 9)])
def test_money_that_has_just_left_the_window_fires_no_threshold_again(
    open_guard: OpenGuard, clock: Clock, later: timedelta, spent: int
) -> None:
    """A job that is settled at the instant at which its step leaves changes nothing in the window."""
    alerts: list[Alert] = []
    guard = open_guard(
        cap=10, window={"rolling": "24h"}, alerts=(Decimal("0.5"),), settings={"on_alert": alerts.append}
    )
    job = guard.admit(CLIP, project="trailer")
    guard.dispatch(job)
    guard.bind(job, "t1")
    clock.pass_by(hours=2)
    guard.record("qingbo", "t2", 6, labels={"project": "trailer"})
    assert [alert.threshold for alert in alerts] == [Decimal("0.5")]
    clock.now = AT + timedelta(hours=25) + later
    guard.settle(job, 3)
    assert [alert.threshold for alert in alerts if alert.kind == "threshold"] == [Decimal("0.5")]
    (bucket,) = guard.status()
    assert bucket.spent == spent
