"""Single changes: a cap that stays, and a cap that ends by itself. On both stores."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from threading import Event

import pytest

from kling_pricing import Alert, Budget, BudgetError, BudgetExceededError, BudgetGuard, KlingPricingError
from kling_pricing.ledger import connect
from kling_pricing.tables.price_book import PriceBook
from tests.conftest import Clock, video

COST = Decimal("0.357")


def daily(cap: str, **settings: object) -> Budget:
    """Returns a daily budget for the project `a`."""
    return Budget(name="a", match={"project": "a"}, cap=cap, currency="USD", window="day", **settings)


@pytest.fixture
def guard(ledger: str, book: PriceBook, clock: Clock) -> BudgetGuard:
    """Returns a guard whose budget allows one request a day."""
    return BudgetGuard(ledger, [daily("0.5")], book=book, clock=clock, actor="li")


def test_a_cap_ends_by_itself(guard: BudgetGuard, ledger: str, book: PriceBook, clock: Clock) -> None:
    """Until its end, every process admits requests up to the new cap, and after it up to the budget's own."""
    guard.dispatch(guard.admit(video(), project="a"))
    other = BudgetGuard(ledger, book=book, clock=clock)
    with pytest.raises(BudgetExceededError):
        other.admit(video(), project="a")
    revision = guard.budgets().digest
    until = clock.now + timedelta(hours=2)
    guard.set_cap("a", "0.8", until=until, reason="rush")
    (bucket,) = other.status()
    assert (bucket.cap, bucket.available) == (Decimal("0.8"), Decimal("0.8") - COST)
    other.dispatch(other.admit(video(), project="a"))
    with pytest.raises(BudgetExceededError) as refused:
        other.admit(video(), project="a")
    assert refused.value.available == Decimal("0.8") - 2 * COST
    assert guard.budgets().digest == revision
    (overlay,) = guard.cap_overlays()
    assert overlay == ("a", Decimal("0.8"), overlay.set_at, until, "li", "rush")
    clock.pass_by(hours=2)
    (bucket,) = other.status()
    assert (bucket.cap, bucket.available, guard.cap_overlays()) == (
        Decimal("0.5"),
        Decimal("0.5") - 2 * COST,
        [],
    )
    guard.verify()


def test_a_lower_cap_until_an_instant_refuses_at_once(guard: BudgetGuard, clock: Clock) -> None:
    """A lower cap also counts for a window that has counted nothing yet."""
    change = guard.cap_change("a", "0.1", until=clock.now + timedelta(days=3))
    assert (change.old, change.weaker, change.notes) == ((Decimal("0.5"), None), False, ())
    guard.set_cap("a", "0.1", until=clock.now + timedelta(days=3))
    assert [row.cap for row in guard.status()] == [Decimal("0.1")]
    with pytest.raises(BudgetExceededError):
        guard.admit(video(), project="a")
    clock.pass_by(days=1)
    with pytest.raises(BudgetExceededError):
        guard.admit(video(), project="a")
    clock.pass_by(days=2)
    guard.admit(video(), project="a")
    guard.verify()


def test_a_cap_that_stays_is_a_revision(guard: BudgetGuard, ledger: str, book: PriceBook, clock: Clock) -> None:
    """It ends an earlier cap until an instant; a file that is older than it says what it would undo."""
    guard.set_cap("a", "9", until=clock.now + timedelta(hours=2))
    guard.set_cap("a", "0.8", reason="the second trailer")
    assert (guard.budgets().budgets[0].cap, guard.cap_overlays()) == (Decimal("0.8"), [])
    entries = len(guard.journal()), len(guard.log())
    guard.set_cap("a", "0.80")
    assert (len(guard.journal()), len(guard.log())) == entries
    undone = r"undo `budget set a --cap 0\.8`, which li ran at .* \(the second trailer\)"
    with pytest.raises(BudgetError, match=rf"cap 0\.8 -> 0\.5 USD.*{undone}"):
        BudgetGuard(ledger, [daily("0.5")], book=book, clock=clock)
    (note,) = guard.plan([daily("0.5")]).notes
    assert note.startswith("this undoes `budget set a --cap 0.8`, which li ran at ")
    guard.apply([daily("0.5")])
    guard.apply([daily("0.8")], allow_weaker=True)
    assert guard.plan([daily("0.5")]).notes == ()
    assert [(act.action, act.subject, act.old, act.new) for act in guard.log()[1:3]] == [
        ("set", "a", {"cap": "0.5"}, {"cap": "9", "until": (clock.now + timedelta(hours=2)).isoformat()}),
        ("set", "a", {"cap": "9", "until": (clock.now + timedelta(hours=2)).isoformat()}, {"cap": "0.8"}),
    ]
    guard.verify()


def test_a_cap_below_the_spending_says_what_that_means(guard: BudgetGuard) -> None:
    """Nothing is taken back; the note says until when nothing more is admitted."""
    guard.record("qingbo", "t-1", "0.3", labels={"project": "a"})
    change = guard.cap_change("a", "0.2")
    (note,) = change.notes
    assert "a has already used 0.3 USD (spent 0.3, held 0), more than the new cap of 0.2" in note
    assert "no request is admitted until its window ends at" in note
    guard.set_cap("a", "0.2")
    assert [(row.spent, row.available) for row in guard.status()] == [(Decimal("0.3"), Decimal("-0.1"))]


def test_a_plan_names_a_cap_that_outlives_it(guard: BudgetGuard, clock: Clock) -> None:
    """A cap until an instant stays in force over a revision, and ends if its budget is removed."""
    guard.set_cap("a", "9", until=clock.now + timedelta(hours=2), reason="rush")
    (note,) = guard.plan([daily("0.4")]).notes
    assert note.endswith("the cap of a stays at 9 USD, which li set")
    guard.apply([daily("0.4")])
    assert [row.cap for row in guard.status()] == [9]
    other = Budget(name="b", cap=1, currency="USD")
    guard.apply([other], remove=["a"])
    guard.apply([other, daily("0.4")])
    assert [row.cap for row in guard.status()] == [1, Decimal("0.4")]
    guard.verify()


def test_the_thresholds_are_fractions_of_the_cap_in_force(ledger: str, book: PriceBook, clock: Clock) -> None:
    """A lower cap alerts at once, and a higher one has higher thresholds."""
    alerts: list[Alert] = []
    budget = daily("10", alerts=["0.5"])
    guard = BudgetGuard(ledger, [budget], book=book, clock=clock, on_alert=alerts.append)
    guard.record("qingbo", "t-1", "1", labels={"project": "a"})
    guard.set_cap("a", "2", until=clock.now + timedelta(hours=1))
    assert [(alert.threshold, alert.cap, alert.used) for alert in alerts] == [
        (Decimal("0.5"), Decimal(2), Decimal(1))
    ]
    guard.set_cap("a", "20", until=clock.now + timedelta(hours=1))
    guard.record("qingbo", "t-2", "5", labels={"project": "a"})
    assert len(alerts) == 1
    guard.record("qingbo", "t-3", "4", labels={"project": "a"})
    assert [(alert.cap, alert.used) for alert in alerts[1:]] == [(Decimal(20), Decimal(10))]


@pytest.mark.parametrize("hours", [None, 2])
def test_a_lower_cap_holds_in_a_race(ledger: str, book: PriceBook, clock: Clock, hours: int | None) -> None:
    """Threads that keep asking are admitted nothing more once the verb has returned."""
    guards = [BudgetGuard(ledger, [daily("100")], book=book, clock=clock) for _ in range(2)]
    is_set = Event()

    def ask(guard: BudgetGuard) -> int:
        """Asks until the cap is set, and a few times more; returns the number of the later admissions."""
        late = admitted = 0
        while late < 10:
            is_late = is_set.is_set()
            late += is_late
            with suppress(BudgetExceededError):
                guard.admit(video(), project="a")
                admitted += is_late
        return admitted

    with ThreadPoolExecutor(4) as threads:
        asked = [threads.submit(ask, guards[place % 2]) for place in range(4)]
        while guards[0].status()[0].held < 5 * COST:
            pass
        try:
            guards[0].set_cap("a", COST, until=None if hours is None else clock.now + timedelta(hours=hours))
            held = guards[0].status()[0].held
        finally:
            is_set.set()
        later = [result.result() for result in asked]
    assert (later, guards[1].status()[0].held) == ([0] * 4, held)
    guards[0].verify()


def test_a_cap_needs_a_budget_and_a_future_end(guard: BudgetGuard, clock: Clock) -> None:
    """Mistakes are errors that change nothing."""
    entries = len(guard.log())
    with pytest.raises(BudgetError, match="unknown budget trailr; the ledger's budgets are a"):
        guard.set_cap("trailr", 1)
    with pytest.raises(KlingPricingError, match="until must be in the future"):
        guard.set_cap("a", 1, until=clock.now)
    for wrong in ("-1", "many", Decimal("0.0000000001"), 1.5):
        with pytest.raises(KlingPricingError):
            guard.set_cap("a", wrong, until=datetime(2030, 1, 1, tzinfo=UTC))  # type: ignore[arg-type]
    with pytest.raises(KlingPricingError, match="time zone"):
        guard.set_cap("a", 1, until=datetime(2030, 1, 1))  # noqa: DTZ001 (the mistake)
    assert len(guard.log()) == entries


@pytest.mark.parametrize(
    ("cap", "hours", "weaker"), [("9", 2, False), ("7", 3, True), ("6", None, True), ("4", 1, True)]
)
def test_a_cap_that_is_higher_later_is_weaker(
    guard: BudgetGuard, clock: Clock, cap: str, hours: int | None, *, weaker: bool
) -> None:
    """A new cap is weaker if it lets more be spent at any instant, even if it is lower now."""
    guard.set_cap("a", "9" if cap != "4" else "0.1", until=clock.now + timedelta(hours=2))
    until = None if hours is None else clock.now + timedelta(hours=hours)
    change = guard.cap_change("a", cap if cap != "4" else "0.1", until=until)
    assert (change.weaker, len(change.notes)) == (weaker, int(weaker))


def test_a_cap_until_an_instant_ends_with_its_currency(ledger: str, book: PriceBook, clock: Clock) -> None:
    """A cap in another currency would be another amount, so it ends, and the plan says so."""
    guard = BudgetGuard(ledger, [daily("3")], book=book, clock=clock)
    guard.set_cap("a", "100", until=clock.now + timedelta(hours=2))
    other = Budget(name="a", match={"project": "a"}, cap="5", currency="CNY", window="day", carry_over=True)
    plan = guard.plan([other])
    assert any("ends now, because it is in another currency" in note for note in plan.notes)
    guard.apply(plan, allow_weaker=True)
    assert (guard.cap_overlays(), [row.cap for row in guard.status()]) == ([], [Decimal(5)])
    guard.verify()


def test_a_kept_alert_has_the_cap_in_force(guard: BudgetGuard, ledger: str, clock: Clock) -> None:
    """The outbox has the cap until an instant, as the alert of the process that caused it has."""
    guard.apply([daily("0.5", alerts=["0.5"])])
    guard.set_cap("a", "2", until=clock.now + timedelta(hours=1))
    guard.record("qingbo", "t-1", "1", labels={"project": "a"})
    (alert,) = connect(ledger, clock=clock).alerts()
    assert (alert.threshold, alert.cap, alert.used) == (Decimal("0.5"), Decimal(2), Decimal(1))
