"""The queries of a guard on every kind of store."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from kling_pricing import Bucket, Budget, KlingPricingError, ReservationNotFoundError
from kling_pricing.ledger import connect
from kling_pricing.ledger.sqlite.codec import written
from tests.conftest import Clock, OpenGuard
from tests.guards import CLIP, COST, answer, bound, sent


def test_the_status_shows_each_budget(open_guard: OpenGuard) -> None:
    """The status shows a budget without spend too, with exact amounts and windows."""
    guard = open_guard(window="year")
    assert guard.status() == [
        Bucket(
            budget="trailer",
            labels={},
            cap=Decimal(10),
            held=Decimal(0),
            spent=Decimal(0),
            available=Decimal(10),
            currency="USD",
            window_start=datetime(2026, 1, 1, tzinfo=UTC),
            window_end=datetime(2027, 1, 1, tzinfo=UTC),
        )
    ]


def test_history_is_filtered_and_in_order(open_guard: OpenGuard, clock: Clock) -> None:
    """`history` filters by project, key and time and returns the oldest first."""
    guard = open_guard(Budget(name="all", cap=Decimal(100), currency="USD"))
    for number in range(4):
        guard.admit(CLIP, project="ab"[number % 2], key=f"k{number}")
        clock.pass_by(minutes=1)
    start = guard.history()[0].created_at
    assert [each.key for each in guard.history()] == ["k0", "k1", "k2", "k3"]
    assert [each.key for each in guard.history(project="b")] == ["k1", "k3"]
    assert [
        each.key for each in guard.history(since=start.replace(minute=1), until=start.replace(minute=3))
    ] == [
        "k1",
        "k2",
    ]
    with pytest.raises(KlingPricingError, match="no time zone"):
        guard.history(since=datetime(2026, 11, 1))  # noqa: DTZ001 (a naive time is what is refused)


def test_the_journal_tells_the_whole_story(open_guard: OpenGuard) -> None:
    """The journal has an entry for each step, with the amounts it moved."""
    guard = open_guard()
    found = bound(guard)
    guard.observe(answer("completed", cost=350000), provider="qingbo")
    story = [(entry.kind, entry.held, entry.spent, entry.detail) for entry in guard.journal()]
    assert story[1:] == [
        ("reserve", COST, 0, written(found.created_at + timedelta(minutes=15))),
        ("dispatch", 0, 0, written(found.created_at + timedelta(minutes=5))),
        ("bind", 0, 0, "task-1"),
        ("settle", -COST, Decimal("0.7"), "response"),
    ]
    assert {entry.reservation_id for entry in guard.journal()[1:]} == {found.id}


def test_the_history_of_a_bucket_makes_its_balance(open_guard: OpenGuard, ledger: str, clock: Clock) -> None:
    """A bucket's history has the windows that touch a period; the entries of each add up to its balance."""
    first_day = clock.now
    guard = open_guard(
        Budget(name="daily", cap=Decimal(10), currency="USD", window="day"),
        Budget(name="each", match={"user": "*"}, cap=Decimal(10), currency="USD"),
    )
    first = bound(guard)
    clock.pass_by(days=1)
    guard.settle(first, "0.7")
    guard.release(guard.admit(CLIP, project="trailer", labels={"user": "li"}))
    guard.admit(CLIP, project="trailer", labels={"user": "wang"})
    store = connect(ledger, clock=clock)
    histories = store.bucket_histories(first_day, first_day + timedelta(days=2))
    assert [
        (each.bucket.budget, dict(each.bucket.labels), each.bucket.window_start.day) for each in histories
    ] == [
        ("daily", {}, 21),
        ("daily", {}, 22),
        ("each", {"user": "li"}, 1),
        ("each", {"user": "wang"}, 1),
    ]
    assert [[(entry.kind, entry.held, entry.spent) for entry in each.entries] for each in histories] == [
        [("reserve", COST, 0), ("settle", -COST, Decimal("0.7"))],
        [("reserve", COST, 0), ("release", -COST, 0), ("reserve", COST, 0)],
        [("reserve", COST, 0), ("release", -COST, 0)],
        [("reserve", COST, 0)],
    ]
    for each in histories:
        bucket = each.bucket
        assert sum(entry.held for entry in each.entries) == bucket.held
        assert sum(entry.spent for entry in each.entries) == bucket.spent
    assert [
        each.bucket.window_start.day
        for each in store.bucket_histories(first_day + timedelta(days=1), first_day + timedelta(days=2))
    ] == [22, 1, 1]


def test_pages_show_each_reservation_once(open_guard: OpenGuard) -> None:
    """Pages list the newest first, skip nothing, and ignore reservations that are added meanwhile."""
    guard = open_guard(Budget(name="all", cap=Decimal(100), currency="USD"))
    for number in range(5):
        guard.admit(CLIP, project="ab"[number % 2], key=f"k{number}")
    pages, after = [], None
    while page := guard.history_page(after=after, limit=2):
        pages.append([each.key for each in page])
        after = page[-1].id
        guard.admit(CLIP, project="a", key=f"late{len(pages)}")
    assert pages == [["k4", "k3"], ["k2", "k1"], ["k0"]]
    assert [each.key for each in guard.history_page(project="b")] == ["k3", "k1"]
    assert [each.key for each in guard.history_page(project="a", key="k2")] == ["k2"]


def test_pages_are_filtered_by_state_and_doubt(open_guard: OpenGuard, clock: Clock) -> None:
    """A page can be limited to a state, or to the reservations in doubt."""
    guard = open_guard()
    guard.admit(CLIP, project="trailer", key="waiting")
    doubtful = sent(guard, key="doubtful")
    guard.bind(sent(guard, key="running"), "task-1")
    clock.pass_by(minutes=6)
    assert [each.key for each in guard.history_page(state="bound")] == ["running"]
    assert [each.id for each in guard.history_page(in_doubt=True)] == [doubtful.id]


def test_pages_of_a_period_are_as_its_history(open_guard: OpenGuard, clock: Clock) -> None:
    """The pages of a period have its reservations, whatever their size, and with the other filters too."""
    guard = open_guard(Budget(name="all", cap=Decimal(100), currency="USD"))
    for number in range(9):
        guard.admit(CLIP, project="ab"[number % 2], key=f"k{number}")
        if number % 3 == 2:
            clock.pass_by(hours=6)
    history = guard.history()
    since, until = (history[0].created_at + timedelta(hours=hours) for hours in (6, 12))
    for chosen in ({}, {"project": "b"}, {"key": "k4"}):
        expected = guard.history(since=since, until=until, **chosen)[::-1]
        for limit in (1, 2, 100):
            period: dict[str, Any] = {"since": since, "until": until, "limit": limit, **chosen}
            found = guard.history_page(**period)
            while page := guard.history_page(after=found[-1].id, **period):
                found += page
            assert found == expected
    assert [each.key for each in guard.history_page(since=since, limit=4)] == ["k8", "k7", "k6", "k5"]
    assert [each.key for each in guard.history_page(until=since)] == ["k2", "k1", "k0"]
    assert guard.history_page(since=since, after=history[0].id) == []
    newest = history[-1].id
    assert [each.key for each in guard.history_page(until=until, after=newest, limit=2)] == ["k5", "k4"]


@pytest.mark.parametrize("limit", [0, 1001, True, "5"])
def test_a_page_has_a_sensible_size(open_guard: OpenGuard, limit: int) -> None:
    """A limit that is not a whole number from 1 to 1000 is refused."""
    with pytest.raises(KlingPricingError, match="limit must be a whole number from 1 to 1000"):
        open_guard().history_page(limit=limit)


def test_a_page_after_an_unknown_reservation_is_refused(open_guard: OpenGuard) -> None:
    """A cursor that belongs to another ledger is an error and not an empty page."""
    with pytest.raises(ReservationNotFoundError):
        open_guard().history_page(after="f" * 32)


def test_expired_reservations_can_be_released(open_guard: OpenGuard, clock: Clock) -> None:
    """`release_expired` releases each expired reservation once, and no other."""
    guard = open_guard()
    early = guard.admit(CLIP, project="trailer")
    clock.pass_by(minutes=10)
    late = guard.admit(CLIP, project="trailer")
    assert guard.release_expired() == 0
    clock.pass_by(minutes=6)
    assert [guard.release_expired(), guard.release_expired()] == [1, 0]
    assert [guard.reservation(each).state for each in (early, late)] == ["released", "reserved"]
    assert guard.journal()[-1].kind == "expire"


def test_a_guard_can_act_as_somebody_else(open_guard: OpenGuard) -> None:
    """The log names the actor of the guard that was used, and both guards know the same budgets."""
    guard = open_guard(settings={"actor": "li"})
    guard.acting_as("wang").set_cap("trailer", 20, reason="more shots")
    guard.set_cap("trailer", 30, reason="even more shots")
    assert [(action.actor, action.action) for action in guard.log()] == [
        ("li", "apply"),
        ("wang", "set"),
        ("li", "set"),
    ]
    with pytest.raises(KlingPricingError, match="actor"):
        guard.acting_as("")
