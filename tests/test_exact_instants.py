"""What begins and ends at an instant does so exactly then: caps, allowances, keys, deadlines, prices.

Each test looks a microsecond before the instant, and at it. Amounts and lengths have their limits, too.
"""

import json
import logging
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from kling_pricing import (
    Budget,
    BudgetExceededError,
    BudgetGuard,
    KlingPricingError,
    LedgerError,
    load_price_book,
)
from kling_pricing.guard.daily_counter import DailyCounter
from kling_pricing.ledger import Ledger, connect
from kling_pricing.ledger.access_keys import digest_of
from kling_pricing.ledger.actions import Author
from kling_pricing.ledger.granting import Grant
from kling_pricing.ledger.redaction import checked_labels, short_text
from tests.conftest import AT, PRICES, Clock, OpenGuard, video
from tests.guards import CLIP, COST, sent

TICK = timedelta(microseconds=1)
HOUR = timedelta(hours=1)
BY = Author("li", "a reason")


@pytest.fixture
def store(ledger: str, clock: Clock) -> Ledger:
    """Returns the ledger's store."""
    return connect(ledger, clock=clock)


def before_and_at(clock: Clock, instant: datetime, look: Callable[[], Any]) -> tuple[Any, Any]:
    """Returns what is seen a microsecond before an instant, and at it."""
    clock.now = instant - TICK
    before = look()
    clock.now = instant
    return before, look()


def test_a_cap_until_an_instant_does_not_apply_at_it(open_guard: OpenGuard, clock: Clock) -> None:
    """The list of such caps, the balances and the plans agree, and so does an admission."""
    guard = open_guard(cap=9)
    end = AT + HOUR
    guard.set_cap("trailer", "0.5", until=end, reason="a pause")

    def look() -> Any:
        (bucket,) = guard.status()
        change = guard.cap_change("trailer", 3)
        return len(guard.cap_overlays()), bucket.cap, change.old, guard.decide(CLIP, project="trailer").outcome

    assert before_and_at(clock, end, look) == (
        (1, Decimal("0.5"), (Decimal("0.5"), end), "refused"),
        (0, Decimal(9), (Decimal(9), None), "admitted"),
    )


def test_a_cap_that_rises_later_says_when(open_guard: OpenGuard) -> None:
    """A cap that ends later than the present one is weaker from then on; the note has both amounts."""
    guard = open_guard(cap=9)
    guard.set_cap("trailer", 2, until=AT + HOUR, reason="a pause")
    lower = guard.cap_change("trailer", 1, until=AT + 2 * HOUR)
    sooner = guard.cap_change("trailer", 2, until=AT + HOUR / 2)
    assert (lower.weaker, lower.notes) == (False, ())
    assert (sooner.weaker, sooner.notes) == (
        True,
        ("from 2026-11-21 00:30 UTC, the cap is 9 USD instead of 2",),
    )
    assert json.loads(json.dumps(sooner.as_dict())) == {
        "budget": "trailer",
        "currency": "USD",
        "old": {"cap": "2", "until": "2026-11-21T01:00:00+00:00"},
        "new": {"cap": "2", "until": "2026-11-21T00:30:00+00:00"},
        "weaker": True,
        "notes": ["from 2026-11-21 00:30 UTC, the cap is 9 USD instead of 2"],
    }


def test_an_allowance_covers_nothing_at_its_end(open_guard: OpenGuard, store: Ledger, clock: Clock) -> None:
    """It is over at the instant, and cannot be granted until the present instant."""
    guard = open_guard(cap="0.5")
    end = AT + HOUR
    store.allow(Grant("trailer", Decimal(5), "USD", ("trailer",), None, end), BY)

    def look() -> Any:
        (allowance,) = guard.allowances()
        return allowance.state(clock.now), guard.decide(CLIP, project="trailer").outcome

    assert before_and_at(clock, end, look) == (("open", "admitted"), ("ended", "refused"))
    grant = Grant("trailer", Decimal(5), "USD", ("trailer",), None, clock.now)
    with pytest.raises(LedgerError, match="is not in the future"):
        store.allow(grant, BY)
    store.allow(grant._replace(until=clock.now + TICK), BY)


def test_a_reservation_expires_at_its_deadline(open_guard: OpenGuard, clock: Clock) -> None:
    """Until then its money is held; at the deadline it is released, and the balance agrees before that."""
    guard = open_guard()
    deadline = guard.admit(CLIP, project="trailer").reservation.deadline
    assert deadline == AT + timedelta(minutes=15)
    held = before_and_at(clock, deadline, lambda: guard.status()[0].held)
    assert held == (COST, 0)
    assert before_and_at(clock, deadline, guard.release_expired) == (0, 1)


def test_a_sent_job_is_in_doubt_from_its_deadline(open_guard: OpenGuard, clock: Clock) -> None:
    """The list of jobs in doubt and the reservation agree."""
    guard = open_guard()
    job = sent(guard)
    assert job.deadline == AT + timedelta(minutes=5)

    def look() -> Any:
        return len(guard.in_doubt()), guard.reservation(job.id).in_doubt, len(guard.history_page(in_doubt=True))

    assert before_and_at(clock, job.deadline, look) == ((0, False, 0), (1, True, 1))


def test_a_key_a_session_and_a_lease_end_at_their_instants(
    open_guard: OpenGuard, store: Ledger, clock: Clock
) -> None:
    """Each holds until a microsecond before its end."""
    guard = open_guard()
    end = AT + HOUR
    issued = guard.issue_key(project="trailer", name="ci", expires_at=end)
    assert issued.key.expires_at == end
    digest = "d" * 64
    store.take_lease("delivery", "one", HOUR)
    forever = guard.issue_key(project="trailer", name="forever")
    store.begin_session(digest_of(forever.text), digest, HOUR)

    def look() -> Any:
        key = guard.access_key(issued.text)
        assert key is not None
        return (
            key.is_valid(clock.now),
            store.session(digest, 2 * HOUR) is not None,
            store.take_lease("delivery", "two", TICK).is_held,
        )

    assert before_and_at(clock, end, look) == ((True, True, False), (False, False, True))


@pytest.mark.parametrize("role", ["view", "submit", "manage"])
def test_a_role_includes_the_roles_before_it(open_guard: OpenGuard, role: Any) -> None:
    """`view` may only view, `submit` may view and submit, and `manage` may do all."""
    roles = ["view", "submit", "manage"]
    key = open_guard().issue_key(project=None, role=role).key
    assert [key.may(other) for other in roles] == [roles.index(role) >= place for place in range(3)]  # type: ignore[arg-type]


def test_a_price_change_releases_what_is_not_sent(
    folder: Callable[..., Path], tmp_path: Path, clock: Clock
) -> None:
    """At the instant of the change the reservation is released; before it, it may be dispatched."""
    change = datetime(2026, 12, 1, tzinfo=UTC)
    first = PRICES.replace("valid_from: null", "valid_from: null\nvalid_until: 2026-12-01")
    later = PRICES.replace("valid_from: null", "valid_from: 2026-12-01")
    book = load_price_book(folder({"prices/acme/2026-11-01.yaml": first, "prices/acme/2026-12-01.yaml": later}))
    budget = Budget(name="all", cap=9, currency="EUR")
    with BudgetGuard(f"sqlite:///{tmp_path}/spend.db", [budget], book=book, clock=clock) as guard:
        clock.now = change - timedelta(minutes=1)
        one, two = (guard.admit(video(duration=5), project="any", provider="acme") for _ in range(2))
        clock.now = change - TICK
        assert guard.dispatch(one) == video(duration=5)
        clock.now = change
        with pytest.raises(KlingPricingError) as caught:
            guard.dispatch(two)
        released = guard.reservation(two)
    assert str(caught.value) == (
        f"a new price took effect after reservation {two.reservation_id} was quoted; admit the request again"
    )
    assert vars(caught.value) | {"reservation_id": "", "task_id": None} == {
        "reservation_id": "",
        "state": "released",
        "task_id": None,
    }
    assert (released.state, released.reason) == ("released", "a new price took effect")


def test_the_calendar_of_a_ledger_begins_and_ends_as_promised(open_guard: OpenGuard, store: Ledger) -> None:
    """It reaches eleven years ahead and three years back, without gaps, in the zone of the budget."""
    zone = {"timezone": "Asia/Shanghai", "match": {"project": "trailer"}, "cap": 9, "currency": "USD"}
    windows = ("day", "week", "month", "quarter", "year")
    open_guard(*(Budget(name=window, window=window, **zone) for window in windows))
    year = timedelta(days=366)
    ends = {window.schedule: window.period for window in store.calendar_ends()}
    assert len(ends) == len(windows)
    for period in ends.values():
        assert period.end >= AT + 11 * year > period.start
    for back in (timedelta(0), 3 * year):
        for window in store.windows(AT - back):
            assert window.period.start <= AT - back < window.period.end
            assert window.period.start.astimezone(UTC).hour == 16  # midnight in Shanghai
    assert len(store.windows(AT - 3 * year)) == len(windows)


def test_thresholds_caps_and_limits_include_their_own_amount(open_guard: OpenGuard) -> None:
    """A request that costs exactly what is left, and no more than the maximum, is admitted, and alerts."""
    alerts: list[Any] = []
    guard = open_guard(
        Budget(
            name="trailer",
            match={"project": "trailer"},
            cap=2 * COST,
            max_request=COST,
            currency="USD",
            alerts=["0.5", "1"],
        ),
        settings={"on_alert": lambda alert: alerts.append((alert.kind, alert.threshold, alert.used))},
    )
    guard.admit(CLIP, project="trailer")
    assert alerts == [("threshold", Decimal("0.5"), COST)]
    second = guard.admit(CLIP, project="trailer")
    assert alerts[1:] == [("threshold", Decimal(1), 2 * COST)]
    with pytest.raises(BudgetExceededError) as caught:
        guard.admit(CLIP, project="trailer")
    assert (caught.value.budget, caught.value.requested, caught.value.available) == (
        "trailer",
        COST,
        Decimal(0),
    )
    guard.dispatch(second)
    guard.settle(second, COST)
    assert len(alerts) == 2
    third = guard.reservation(second)
    guard.settle(third, COST + Decimal("0.000000001"), basis="statement")
    assert alerts[2:] == [("overrun", None, 2 * COST + Decimal("0.000000001"))]


def test_history_is_of_half_open_periods(open_guard: OpenGuard, clock: Clock) -> None:
    """A reservation belongs to the period that begins at its instant, not to the one that ends then."""
    guard = open_guard()
    guard.admit(CLIP, project="trailer", key="a")
    clock.pass_by(minutes=1)
    guard.admit(CLIP, project="trailer", key="b")
    at = clock.now

    def keys(**period: Any) -> list[str]:
        return [job.key for job in guard.history(**period)]

    assert [
        keys(since=at),
        keys(until=at),
        keys(since=AT, until=at),
        keys(since=at + TICK),
        keys(until=AT),
    ] == [
        ["b"],
        ["a"],
        ["a"],
        [],
        [],
    ]
    assert keys(since=at, project="other") == []


def test_a_page_has_at_least_one_and_at_most_1000_rows(open_guard: OpenGuard) -> None:
    """Both limits are included; the default is 100."""
    guard = open_guard(cap=1000)
    for _ in range(2):
        guard.admit(CLIP, project="trailer")
    assert [len(guard.history_page(limit=limit)) for limit in (1, 1000)] == [1, 2]
    for limit in (0, 1001, True, "5"):
        with pytest.raises(KlingPricingError) as caught:
            guard.history_page(limit=limit)  # type: ignore[arg-type]
        shown = {0: "0", 1001: "1001", True: "true", "5": "5"}[limit]
        assert str(caught.value) == f"limit must be a whole number from 1 to 1000, got {shown}"


def test_labels_and_texts_may_be_as_long_as_the_limit() -> None:
    """16 labels and texts of 200 characters are kept; the text itself is returned."""
    labels = {f"label{number}": "x" * 200 for number in range(15)}
    assert checked_labels("trailer", labels) == labels | {"project": "trailer"}
    assert short_text("key", "x" * 200) == "x" * 200
    with pytest.raises(KlingPricingError):
        checked_labels("trailer", labels | {"another": "x", "one": "x"})


def test_counts_wait_in_memory_while_the_ledger_fails(caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is lost, the log says why, and the timer does not keep the interpreter alive."""
    written: list[dict[str, int]] = []
    failing = [True]

    def write(counts: Any) -> None:
        if failing:
            raise OSError(failing.pop())
        written.append(dict(counts))

    caplog.set_level(logging.WARNING)
    counter: DailyCounter[str] = DailyCounter("requests", write)
    threads = {*threading.enumerate()}
    for name in ("a", "b", "a"):
        counter.add(name)
    (timer,) = {*threading.enumerate()} - threads
    assert timer.daemon
    counter.write()
    assert caplog.messages == ["could not count requests: True"]
    counter.add("a")
    counter.write()
    counter.write()
    assert written == [{"a": 3, "b": 1}]
    counter.add("c")
    counter.forget()
    counter.write()
    assert written == [{"a": 3, "b": 1}]
    timer.join()


def test_the_ledger_of_a_timer_writes_by_itself() -> None:
    """A second after the first count, a thread writes all counts, and the next count starts another timer."""
    done = threading.Semaphore(0)
    written: list[dict[str, int]] = []

    def write(counts: Any) -> None:
        written.append(dict(counts))
        done.release()

    counter: DailyCounter[str] = DailyCounter("requests", write)
    for _ in range(2):
        counter.add("a")
        assert done.acquire(timeout=30)
    assert written == [{"a": 1}, {"a": 1}]
