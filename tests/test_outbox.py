"""The outbox of a ledger: which alerts it has and for whom, refusals, forecasts and leases, on both stores."""

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import date, timedelta
from decimal import Decimal
from typing import Any

import pytest

from kling_pricing import (
    Budget,
    BudgetExceededError,
    BudgetFrozenError,
    Budgets,
    LedgerUnavailableError,
)
from kling_pricing.guard import apply_budgets, freeze_all, thaw_all
from kling_pricing.ledger import Ledger, connect
from kling_pricing.ledger.alerting import RefusedRequests, StoredAlert
from tests.conftest import AT, Clock, OpenGuard
from tests.guards import CLIP, COST, bound, sent

TRAILER: dict[str, Any] = {"name": "trailer", "match": {"project": "trailer"}, "currency": "USD"}


@pytest.fixture
def store(ledger: str, clock: Clock) -> Ledger:
    """Returns the ledger's store."""
    return connect(ledger, clock=clock)


def facts(alerts: Sequence[StoredAlert]) -> list[tuple[str, str | None, dict[str, str]]]:
    """Returns the kind, the budget and the facts of alerts."""
    return [(alert.kind, alert.budget, dict(alert.facts)) for alert in alerts]


def test_a_threshold_is_in_the_outbox_with_the_balance_that_reached_it(
    open_guard: OpenGuard, store: Ledger
) -> None:
    """The reservation that reaches a threshold writes the alert, and further reservations write none."""
    guard = open_guard(cap=Decimal(2), alerts=[Decimal("0.3")])
    reservation = guard.admit(CLIP, project="trailer").reservation
    guard.admit(CLIP, project="trailer")
    (alert,) = store.alerts()
    assert (alert.kind, alert.budget, alert.threshold, alert.cap, alert.used, alert.currency) == (
        "threshold", "trailer", Decimal("0.3"), Decimal(2), COST, "USD",
    )  # fmt: skip
    assert (alert.reservation_id, alert.at, alert.facts) == (reservation.id, reservation.created_at, {})


def test_an_overrun_and_a_doubtful_charge_state_what_happened(open_guard: OpenGuard, store: Ledger) -> None:
    """A bill above the reserved amount is an alert, and so is a charge without a value."""
    guard = open_guard()
    guard.settle(sent(guard).id, Decimal(2))
    bound(guard)
    guard.observe({"task_id": "task-1", "status": "completed", "cost": "0.5"}, provider="qingbo")
    overrun, charge = store.alerts()
    assert (overrun.kind, overrun.used, overrun.facts) == ("overrun", Decimal(2), {"billed": "2"})
    assert (charge.kind, charge.budget) == ("charge", "trailer")
    assert "not a whole number of units" in charge.facts["detail"]


def test_a_freeze_is_in_the_outbox_and_so_is_its_end(ledger: str, open_guard: OpenGuard, store: Ledger) -> None:
    """Both state who did it and why, and concern no single budget."""
    open_guard()
    freeze_all(ledger, actor="li", reason="the bill looks wrong")
    freeze_all(ledger, actor="wang", reason="again")
    thaw_all(ledger, actor="li", reason="corrected")
    assert facts(store.alerts()) == [
        ("freeze", None, {"detail": "li: the bill looks wrong"}),
        ("thaw", None, {"detail": "li: corrected"}),
    ]


def test_an_alert_exists_only_if_its_cause_was_committed(open_guard: OpenGuard, store: Ledger) -> None:
    """A request that is refused in another bucket leaves no alert for the bucket that it would have filled."""
    guard = open_guard(
        Budget(**TRAILER, cap=Decimal(1), alerts=[Decimal("0.5")]),
        Budget(name="all", cap=Decimal("0.5"), currency="USD"),
    )
    with pytest.raises(BudgetExceededError):
        guard.admit(CLIP, project="trailer")
    assert store.alerts() == []


def test_alerts_are_read_in_parts(open_guard: OpenGuard, store: Ledger) -> None:
    """`after` and `limit` select consecutive alerts, in order."""
    guard = open_guard(cap=Decimal(1), alerts=[Decimal("0.1"), Decimal("0.2"), Decimal("0.3")])
    guard.admit(CLIP, project="trailer")
    first, second, third = store.alerts()
    assert store.alerts(after=first.seq, limit=1) == [second]
    assert store.alerts(after=second.seq) == [third]
    assert len({first.id, second.id, third.id}) == 3


def test_receivers_follow_the_budgets_in_force(ledger: str, open_guard: OpenGuard, store: Ledger) -> None:
    """A receiver begins with the revision that names it first, and ends with the one that does not."""
    guard = open_guard(cap=Decimal(1), alerts=[Decimal("0.5")])
    assert store.receivers() == []
    guard.admit(CLIP, project="trailer")
    budget = Budget(**TRAILER, cap=Decimal(1), alerts=[Decimal("0.5"), Decimal("0.6")], notify=["file:/b"])
    apply_budgets(ledger, Budgets([budget], notify=["env:A"]))
    old, new = store.alerts()
    assert [(receiver.name, receiver.delivered) for receiver in store.receivers()] == [
        ("env:A", old.seq),
        ("file:/b", old.seq),
    ]
    store.mark_delivered("env:A", new.seq)
    store.mark_delivered("env:A", old.seq)
    fewer = Budgets([budget.model_copy(update={"notify": ()})], notify=["env:A"])
    apply_budgets(ledger, fewer, allow_weaker=True)
    assert [(receiver.name, receiver.delivered) for receiver in store.receivers()] == [("env:A", new.seq)]


def test_failures_are_kept_until_the_next_delivery(ledger: str, store: Ledger, clock: Clock) -> None:
    """A failure sets the next attempt; without one, the receiver is stopped until it is resumed."""
    apply_budgets(ledger, Budgets([Budget(**TRAILER, cap=Decimal(1))], notify=["env:A"]))
    store.mark_failed("env:A", "HTTP 500", timedelta(seconds=10))
    store.mark_failed("env:A", "HTTP 500", timedelta(seconds=20))
    (receiver,) = store.receivers()
    assert receiver[1:] == (0, 2, clock.now, "HTTP 500", clock.now + timedelta(seconds=20), None)
    store.mark_failed("env:A", "gone", None)
    (receiver,) = store.receivers()
    assert receiver[1:] == (0, 3, clock.now, "gone", None, clock.now)
    assert store.resume_receiver("env:A")
    assert not store.resume_receiver("env:B")
    (receiver,) = store.receivers()
    assert (receiver.failures, receiver.next_at, receiver.stopped_at) == (0, None, None)
    store.mark_delivered("env:A", 0)
    (receiver,) = store.receivers()
    assert receiver[1:] == (0, 0, None, None, None, None)


# refusals


def test_refusals_are_counted_by_bucket_reason_and_day(
    open_guard: OpenGuard, ledger: str, clock: Clock
) -> None:
    """Each refusal counts in every bucket that refused it, and an admitted request counts nowhere."""
    guard = open_guard(
        Budget(name="user", match={"user": "*"}, cap=Decimal(1), currency="USD"),
        Budget(
            name="single", match={"project": "a"}, cap=Decimal(9), currency="USD", max_request=Decimal("0.5")
        ),
    )
    guard.admit(CLIP, project="b", labels={"user": "li"})
    for labels in ({"user": "li"}, {"user": "li"}):
        with pytest.raises(BudgetExceededError):
            guard.admit(CLIP, project="b", labels=labels)
    with pytest.raises(BudgetExceededError):
        guard.admit(CLIP, project="a", labels={"user": "li"})
    with pytest.raises(BudgetExceededError):
        guard.admit(CLIP, project="b")
    clock.pass_by(days=1)
    freeze_all(ledger, actor="li", reason="stop")
    with pytest.raises(BudgetFrozenError):
        guard.admit(CLIP, project="b", labels={"user": "wang"})
    today, tomorrow = AT.date(), AT.date() + timedelta(days=1)
    assert guard.refusals() == [
        RefusedRequests("", {}, "frozen", tomorrow, 1),
        RefusedRequests("", {}, "unmatched", today, 1),
        RefusedRequests("single", {}, "max_request", today, 1),
        RefusedRequests("user", {"user": "li"}, "cap", today, 3),
    ]
    assert guard.refusals(since=tomorrow) == [RefusedRequests("", {}, "frozen", tomorrow, 1)]
    assert [row.requests for row in guard.refusals(until=tomorrow)] == [1, 1, 3]


def test_a_request_that_capping_made_fit_is_no_refusal(open_guard: OpenGuard) -> None:
    """The request was admitted with changes, so nothing was refused."""
    guard = open_guard(cap=Decimal("0.5"), on_exceed="cap")
    assert guard.admit(CLIP, project="trailer").capped
    assert guard.refusals() == []


def test_a_counter_that_fails_changes_no_refusal(
    open_guard: OpenGuard, store: Ledger, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A ledger that cannot be written for the count still refuses the request, and the count is not lost."""
    guard = open_guard(cap=Decimal("0.1"))

    def fail(*_: Any) -> None:
        raise LedgerUnavailableError("the disk is full")

    with monkeypatch.context() as patch:
        patch.setattr(type(store), "count_refusals", fail)
        with pytest.raises(BudgetExceededError):
            guard.admit(CLIP, project="trailer")
        assert guard.refusals() == []
    assert "could not count refused requests" in caplog.text
    assert guard.refusals() == [RefusedRequests("trailer", {}, "cap", AT.date(), 1)]


# alerts from the deliverer


def test_refusals_raise_one_alert_per_bucket_reason_and_day(
    open_guard: OpenGuard, store: Ledger, clock: Clock
) -> None:
    """The alert states the number at its instant; more refusals of the day raise none."""
    guard = open_guard(cap=Decimal("0.1"))
    for _ in range(2):
        with pytest.raises(BudgetExceededError):
            guard.admit(CLIP, project="trailer")
    guard.refusals()
    assert store.raise_alerts([], doubtful_for=timedelta(hours=1)) == 1
    with pytest.raises(BudgetExceededError):
        guard.admit(CLIP, project="trailer")
    guard.refusals()
    assert store.raise_alerts([], doubtful_for=timedelta(hours=1)) == 0
    clock.pass_by(days=1)
    with pytest.raises(BudgetExceededError):
        guard.admit(CLIP, project="trailer")
    guard.refusals()
    assert store.raise_alerts([], doubtful_for=timedelta(hours=1)) == 1
    days = [date.fromisoformat(alert.facts["day"]) for alert in store.alerts()]
    assert days == [AT.date(), clock.now.date()]
    assert facts(store.alerts())[0] == (
        "refusals", "trailer", {"reason": "cap", "day": AT.date().isoformat(), "requests": "2"},
    )  # fmt: skip


def test_a_job_that_is_in_doubt_too_long_raises_one_alert(
    open_guard: OpenGuard, store: Ledger, clock: Clock
) -> None:
    """The alert names the job's project and reservation, once."""
    guard = open_guard()
    reservation = sent(guard, labels={"user": "li"})
    guard.mark_in_doubt(reservation.id, "timeout")
    clock.pass_by(minutes=59)
    assert store.raise_alerts([], doubtful_for=timedelta(hours=1)) == 0
    clock.pass_by(minutes=1)
    assert store.raise_alerts([], doubtful_for=timedelta(hours=1)) == 1
    assert store.raise_alerts([], doubtful_for=timedelta(hours=1)) == 0
    (alert,) = store.alerts()
    assert (alert.kind, alert.budget, alert.reservation_id, alert.facts["detail"]) == (
        "in_doubt", None, reservation.id, "timeout",
    )  # fmt: skip
    assert alert.labels == {"project": "trailer", "user": "li"}


def test_a_forecast_is_exact(open_guard: OpenGuard, clock: Clock) -> None:
    """Half of the cap in a third of the window is exhausted when two thirds of the window are over."""
    clock.now = AT.replace(month=9, day=1, hour=0, minute=0)
    guard = open_guard(cap=Decimal("1.428"), window="month")
    guard.admit(CLIP, project="trailer")
    clock.pass_by(days=10)  # the reservation has expired, so the money comes from a job that was sent
    (idle,) = guard.forecasts()
    assert (idle.pace_per_day, idle.exhausted_at) == (Decimal(0), None)
    sent(guard)
    (forecast,) = guard.forecasts()
    assert forecast.measured_from == clock.now - timedelta(days=10)
    assert forecast.pace_per_day == Decimal("0.0714")
    assert forecast.exhausted_at == clock.now + timedelta(days=10)
    clock.pass_by(days=5)  # at this pace, it lasts exactly until the window ends
    (forecast,) = guard.forecasts()
    assert (forecast.pace_per_day, forecast.exhausted_at) == (Decimal("0.0476"), None)


def test_there_is_no_forecast_at_the_start_of_a_window(open_guard: OpenGuard, clock: Clock) -> None:
    """A tenth of the window, or a day, must be over before there is a pace."""
    clock.now = AT.replace(day=1, hour=0, minute=0)
    guard = open_guard(
        Budget(name="month", cap=Decimal(1), currency="USD", window="month"),
        Budget(name="day", cap=Decimal(1), currency="USD", window="day"),
        Budget(name="ever", cap=Decimal(1), currency="USD"),
    )
    sent(guard)
    clock.pass_by(hours=2, minutes=23)
    assert [forecast.pace_per_day for forecast in guard.forecasts()] == [None, None, None]
    clock.pass_by(minutes=1)
    assert [forecast.pace_per_day for forecast in guard.forecasts()] == [None, Decimal("7.14"), None]
    clock.pass_by(hours=21, minutes=36)
    assert [forecast.pace_per_day for forecast in guard.forecasts()] == [COST, None, COST]


def test_an_opening_balance_does_not_count_towards_the_pace(open_guard: OpenGuard, clock: Clock) -> None:
    """The pace is measured since the ledger began, without what was spent before."""
    clock.now = AT.replace(month=9, day=11, hour=0, minute=0)
    guard = open_guard(cap=Decimal(10), window="month")
    guard.open_budget("trailer", Decimal(4))
    sent(guard)
    clock.pass_by(days=2)
    (forecast,) = guard.forecasts()
    assert (forecast.measured_from, forecast.pace_per_day) == (clock.now - timedelta(days=2), COST / 2)
    left, measured = Decimal(10) - 4 - COST, timedelta(days=2)
    rest_us = -(-int(left * 1000) * (measured // timedelta(microseconds=1)) // int(COST * 1000))
    assert forecast.exhausted_at == clock.now + timedelta(microseconds=rest_us)


@pytest.mark.parametrize(("cap", "days"), [("0.714", None), ("0.7", None), ("0.715", "0.0014")])
def test_a_budget_of_which_nothing_is_left_is_not_exhausted_again(
    open_guard: OpenGuard, clock: Clock, cap: str, days: str | None
) -> None:
    """A forecast says when the rest will be gone; without a rest, it gives the pace only."""
    clock.now = AT.replace(month=9, day=1, hour=0, minute=0)
    guard = open_guard(cap=Decimal(cap), window="month")
    guard.record("qingbo", "t-9", COST, labels={"project": "trailer"})
    clock.pass_by(days=1)
    (forecast,) = guard.forecasts()
    assert (forecast.pace_per_day, forecast.bucket.available) == (COST, Decimal(cap) - COST)
    rest_us = -(-86_400_000_000 // 714)  # 0.001 USD at 0.714 USD per day
    expected = None if days is None else clock.now + timedelta(microseconds=rest_us)
    assert forecast.exhausted_at == expected


def test_each_forecast_leaves_out_its_own_opening_balance_only(open_guard: OpenGuard, clock: Clock) -> None:
    """An opening balance is left out for its budget and its labels; a rolling window has no pace."""
    clock.now = AT.replace(month=9, day=29, hour=0, minute=0)
    guard = open_guard(
        Budget(name="all", cap=Decimal(10), currency="USD", window="month"),
        Budget(name="user", match={"user": "*"}, cap=Decimal(9), currency="USD", window="month"),
        Budget(name="rolling", cap=Decimal(8), currency="USD", window={"rolling": "24h"}),
    )
    guard.open_budget("all", Decimal(4))
    guard.open_budget("user", Decimal(3), labels={"user": "li"})
    for task, user in (("t-1", "li"), ("t-2", "wang")):
        guard.record("qingbo", task, 1, labels={"project": "trailer", "user": user})
    begun_at = clock.now
    clock.pass_by(days=1)
    found = {(each.bucket.budget, *each.bucket.labels.values()): each for each in guard.forecasts()}
    assert {place: each.pace_per_day for place, each in found.items()} == {
        ("all",): 2, ("user", "li"): 1, ("user", "wang"): 1, ("rolling",): None,
    }  # fmt: skip
    assert {each.measured_from for each in found.values()} == {begun_at}
    clock.pass_by(days=1)
    guard.record("qingbo", "t-3", 1, labels={"project": "trailer", "user": "li"})
    clock.pass_by(days=1)
    october = {each.bucket.budget: each for each in guard.forecasts() if each.bucket.spent}
    assert (october["all"].measured_from, october["all"].pace_per_day) == (
        clock.now - timedelta(days=1),
        Decimal(1),
    )


# leases


def test_a_lease_has_one_holder_until_it_ends(store: Ledger, ledger: str, clock: Clock) -> None:
    """Its holder renews it; another process takes it over once it has ended."""
    apply_budgets(ledger, [Budget(**TRAILER, cap=Decimal(1))])
    minute = timedelta(minutes=1)
    assert store.take_lease("alerts", "a", minute) == ("a", clock.now + minute, True)
    assert store.take_lease("alerts", "b", minute) == ("a", clock.now + minute, False)
    assert store.take_lease("other", "b", minute).is_held
    clock.pass_by(seconds=59)
    assert store.take_lease("alerts", "a", minute) == ("a", clock.now + minute, True)
    clock.pass_by(seconds=59)
    assert not store.take_lease("alerts", "b", minute).is_held
    clock.pass_by(seconds=1)
    assert store.take_lease("alerts", "b", minute) == ("b", clock.now + minute, True)
    store.end_lease("alerts", "a")
    assert not store.take_lease("alerts", "a", minute).is_held
    store.end_lease("alerts", "b")
    assert store.take_lease("alerts", "a", minute).is_held


def test_only_one_of_many_takes_a_lease(store: Ledger, ledger: str) -> None:
    """Threads that ask at the same moment agree on one holder."""
    apply_budgets(ledger, [Budget(**TRAILER, cap=Decimal(1))])
    with ThreadPoolExecutor(8) as pool:
        leases = list(
            pool.map(lambda number: store.take_lease("x", f"h{number}", timedelta(hours=1)), range(24))
        )
    assert len({lease.holder for lease in leases}) == 1
    assert [lease.is_held for lease in leases].count(True) == 1
