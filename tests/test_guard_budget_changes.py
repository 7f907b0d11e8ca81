"""Changes of budgets, spend from elsewhere, alerts and windows on every kind of store."""

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from kling_pricing import (
    Alert,
    Budget,
    BudgetError,
    BudgetExceededError,
    Budgets,
    IdempotencyError,
    KlingPricingError,
    LedgerError,
    PriceBook,
)
from tests.conftest import Clock, OpenGuard
from tests.guards import CLIP, COST, VerifiedGuard, answer, bound, left

# spend from elsewhere


def test_recorded_spend_counts_even_above_the_cap(open_guard: OpenGuard) -> None:
    """Recorded spend is booked once, even above the cap; the same task with another amount is an error."""
    guard = open_guard(cap=Decimal(1))
    booked = guard.record("qingbo", "t-9", "1.25", labels={"project": "trailer"})
    assert (booked.state, booked.billed, booked.task_id) == ("settled", Decimal("1.25"), "t-9")
    assert guard.record("qingbo", "t-9", "1.25", labels={"project": "trailer"}) == booked
    with pytest.raises(IdempotencyError, match="task t-9 of qingbo is already in the ledger"):
        guard.record("qingbo", "t-9", "1.3", labels={"project": "trailer"})
    assert left(guard) == (0, Decimal("1.25"), Decimal("-0.25"))
    guard.verify()


def test_recorded_spend_counts_in_the_window_it_was_spent_in(open_guard: OpenGuard) -> None:
    """Spend of last month counts in last month's window."""
    guard = open_guard(window="month")
    guard.record(
        "qingbo", "t-9", "2", labels={"project": "trailer"}, at=datetime(2026, 10, 31, 23, 59, tzinfo=UTC)
    )
    assert left(guard)[1] == 0
    (october,) = guard.status(datetime(2026, 10, 5, tzinfo=UTC))
    assert (october.spent, october.window_end) == (Decimal(2), datetime(2026, 11, 1, tzinfo=UTC))


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ({}, "project must be text of 1 to 200 printable characters, got ''"),
        ({"user": "li"}, "project must be text of 1 to 200 printable characters, got ''"),
        (
            {"project": "trailer", "user": ""},
            "label user must be text of 1 to 200 printable characters, got ''",
        ),
        ("trailer", "labels must be a mapping that contains the project, got trailer"),
        (None, "labels must be a mapping that contains the project, got null"),
    ],
)
def test_recorded_spend_names_its_project(open_guard: OpenGuard, labels: Any, message: str) -> None:
    """Spend without a project is refused, and nothing is counted."""
    guard = open_guard()
    with pytest.raises(KlingPricingError) as caught:
        guard.record("qingbo", "t-9", "1", labels=labels)
    assert str(caught.value) == message
    assert left(guard) == (0, 0, 10)


def test_recorded_spend_has_the_account_and_currency_given(ledger: str, book: PriceBook, clock: Clock) -> None:
    """By default, they are the provider and the currency of its table, at the clock's time."""
    usd = Budget(name="usd", cap=Decimal(10), currency="USD")
    rates = [{"quote": "CNY", "budget": "USD", "rate": "0.25"}]
    labels = {"project": "trailer", "user": "li"}
    with VerifiedGuard(ledger, Budgets([usd], accounting_rates=rates), book=book, clock=clock) as guard:
        plain = guard.record("qingbo", "t-1", "1", labels=labels)
        given = guard.record(
            "qingbo", "t-2", "2", labels=labels, currency="CNY", account="second", reason="by hand"
        )
        assert (plain.account, plain.billed, {**plain.labels}) == ("qingbo", Decimal(1), labels)
        assert (given.account, given.billed, {**given.labels}) == ("second", Decimal(2), labels)
        assert left(guard) == (0, Decimal("1.5"), Decimal("8.5"))
        assert [(action.action, action.reason) for action in guard.log()][1:] == [("record", "by hand")]


def test_a_bill_for_recorded_spend_is_not_counted_twice(open_guard: OpenGuard) -> None:
    """An answer about the task of recorded spend leaves the recorded amount unchanged."""
    guard = open_guard()
    guard.record("qingbo", "task-1", "0.714", labels={"project": "trailer"})
    guard.observe(answer("completed", cost=1), provider="qingbo")
    assert left(guard)[1] == COST


def test_a_window_can_have_an_opening_balance(open_guard: OpenGuard) -> None:
    """An opening balance is booked once per window and only for an existing budget."""
    guard = open_guard(window="month")
    guard.open_budget("trailer", "7.5")
    assert left(guard) == (0, Decimal("7.5"), Decimal("2.5"))
    with pytest.raises(IdempotencyError, match="already has an opening balance"):
        guard.open_budget("trailer", "1")
    with pytest.raises(BudgetError, match="unknown budget nothing; the ledger's budgets are trailer"):
        guard.open_budget("nothing", "1")
    with pytest.raises(BudgetError, match="budget trailer has a single bucket; omit the labels"):
        guard.open_budget("trailer", "1", labels={"user": "li"})
    guard.verify()


def test_recorded_spend_does_not_take_a_callers_key(open_guard: OpenGuard) -> None:
    """Recorded spend and a job with a key of the same name are both kept."""
    guard = open_guard()
    own = guard.admit(CLIP, project="trailer", key="qingbo:t-9")
    guard.record("qingbo", "t-9", "1", labels={"project": "trailer"})
    assert [each.id for each in guard.history(key="qingbo:t-9")] == [own.reservation_id]
    assert left(guard) == (COST, 1, Decimal("8.286"))


def test_an_amount_that_cannot_be_counted_is_refused(open_guard: OpenGuard) -> None:
    """An amount above four thousand million is refused."""
    guard = open_guard()
    with pytest.raises(KlingPricingError, match="is too large; the maximum is 4000000000"):
        guard.record("qingbo", "t-9", "4000000001", labels={"project": "trailer"})
    for task_id in ("a", "b"):
        guard.record("qingbo", task_id, "4000000000", labels={"project": "trailer"})
    with pytest.raises(LedgerError, match="nothing was changed"):
        guard.record("qingbo", "c", "4000000000", labels={"project": "trailer"})
    assert left(guard)[1] == Decimal(8000000000)
    guard.verify()


# alerts


def test_each_threshold_alerts_once_a_window(open_guard: OpenGuard, clock: Clock) -> None:
    """Each threshold alerts once when it is reached, and again in a new window."""
    seen: list[Alert] = []
    alerts = [Decimal("0.5"), Decimal("0.714"), Decimal(1)]
    guard = open_guard(cap=Decimal(1), alerts=alerts, window="day", settings={"on_alert": seen.append})
    admission = guard.admit(CLIP, project="trailer")
    assert [(alert.kind, alert.threshold, alert.used, alert.cap) for alert in seen] == [
        ("threshold", Decimal("0.5"), COST, Decimal(1)),
        ("threshold", Decimal("0.714"), COST, Decimal(1)),
    ]
    guard.release(admission)
    guard.admit(CLIP, project="trailer")
    assert len(seen) == 2
    clock.pass_by(days=1)
    guard.admit(CLIP, project="trailer")
    assert len(seen) == 4
    assert [entry.detail for entry in guard.journal() if entry.kind == "alert"] == [
        "0.5 of 1",
        "0.714 of 1",
    ] * 2


def test_a_failing_alert_does_not_hide_the_admission(
    open_guard: OpenGuard, caplog: pytest.LogCaptureFixture
) -> None:
    """An exception in `on_alert` is logged, and the caller still gets the admission."""

    def fail(_alert: Alert) -> None:
        raise ZeroDivisionError

    guard = open_guard(cap=Decimal(1), alerts=[Decimal("0.5")], settings={"on_alert": fail})
    assert guard.admit(CLIP, project="trailer").quote.total == COST
    assert "on_alert failed for budget trailer" in caplog.text


# windows and revisions


def test_a_reservation_settles_in_the_window_it_was_reserved_in(open_guard: OpenGuard, clock: Clock) -> None:
    """A reservation settles in its own window, here a day in Shanghai that ends at 16:00 UTC."""
    guard = open_guard(window="day", timezone="Asia/Shanghai")
    clock.now = datetime(2026, 11, 21, 15, 59, 59, tzinfo=UTC)
    found = bound(guard)
    clock.pass_by(seconds=1)
    guard.settle(found.id)
    assert left(guard) == (0, 0, 10)
    (before,) = guard.status(datetime(2026, 11, 21, 15, 59, 59, tzinfo=UTC))
    assert (before.spent, before.window_start, before.window_end) == (
        COST,
        datetime(2026, 11, 20, 16, tzinfo=UTC),
        datetime(2026, 11, 21, 16, tzinfo=UTC),
    )


def test_a_lowered_cap_blocks_and_takes_nothing_back(open_guard: OpenGuard) -> None:
    """A lowered cap keeps the amounts held and admits nothing more."""
    guard = open_guard()
    found = bound(guard)
    guard.apply([Budget(name="trailer", match={"project": "trailer"}, cap=Decimal("0.1"), currency="USD")])
    assert left(guard) == (COST, 0, Decimal("-0.614"))
    with pytest.raises(BudgetExceededError):
        guard.admit(CLIP, project="trailer")
    assert guard.settle(found.id).billed == COST


def test_a_running_guard_takes_up_a_new_revision(open_guard: OpenGuard, ledger: str) -> None:
    """A running guard applies a new revision from its next admission on."""
    guard, admin = open_guard(cap=Decimal("0.1")), VerifiedGuard(ledger)
    with pytest.raises(BudgetExceededError):
        guard.admit(CLIP, project="trailer")
    raised = Budget(name="trailer", match={"project": "trailer"}, cap=Decimal(1), currency="USD")
    admin.apply([raised], allow_weaker=True)
    assert guard.admit(CLIP, project="trailer").quote.total == COST
    with pytest.raises(BudgetError, match="the ledger's budgets differ from the given budgets"):
        open_guard(cap=Decimal("0.1"))


def test_a_guard_without_budgets_needs_a_ledger_that_has_some(ledger: str) -> None:
    """Opening a ledger without budgets is an error that gives the remedy."""
    with pytest.raises(BudgetError, match="no budgets yet"):
        VerifiedGuard(ledger)
