"""Alerts arrive: signed webhooks and services, whatever the receiver and the deliverer do meanwhile."""

import json
import os
import signal
import threading
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook

from kling_pricing import Budget, BudgetError, BudgetGuard, Budgets, KlingPricingError, LedgerError, PriceBook, load_budgets
from kling_pricing.alerts import AlertDelivery
from kling_pricing.guard import apply_budgets, freeze_all, thaw_all
from kling_pricing.ledger import connect
from tests.alert_workers import LEASE, SECRET, TIMEOUT, Inbox, delivering, first_arrivals
from tests.commands import run
from tests.conftest import Clock
from tests.guards import CLIP
from tests.receivers import Received, receiving

BUDGETS = [
    Budget(
        name=name,
        match={"project": name},
        cap=Decimal(20),
        currency="USD",
        alerts=[Decimal(part) / 20 for part in range(1, 21)],
    )
    for name in ("teaser", "trailer")
]


@pytest.fixture(autouse=True)
def receivers_of_the_test(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test begins without receivers."""
    for name in ("HOOK", "OTHER"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.setenv(f"{name}_SECRET", SECRET)


@pytest.fixture
def delivery(ledger: str, clock: Clock) -> Iterator[AlertDelivery]:
    """Yields a delivery that gives up on a receiver quickly."""
    with AlertDelivery(ledger, clock=clock, timeout=timedelta(milliseconds=300)) as opened:
        yield opened


def fill(ledger: str, book: PriceBook, clients: int, clock: Clock | None = None) -> None:
    """Admits this many clips in each of the two budgets."""
    with BudgetGuard(ledger, book=book, clock=clock) as guard:
        for _ in range(clients):
            for budget in BUDGETS:
                guard.admit(CLIP, project=budget.name)


def notify(ledger: str, *names: str, budgets: list[Budget] = BUDGETS) -> None:
    """Applies the budgets with receivers at the top level of the file."""
    apply_budgets(ledger, Budgets(budgets, notify=names))


def ids(delivery: AlertDelivery, budget: str | None = None) -> list[str]:
    """Returns the ids of the alerts in the outbox, in order."""
    return [alert.id for alert in delivery.alerts(budget=budget)]


def test_a_receiver_that_fails_hangs_and_restarts_gets_every_alert_in_order(
    ledger: str, book: PriceBook, clock: Clock, delivery: AlertDelivery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every alert arrives at least once, verified, and in order per budget; nothing is sent after all arrived."""
    hanging = threading.Event()

    def behave(number: int) -> int | None:
        if number % 7 == 3:
            return 500
        if number % 7 == 5:
            return None
        if number == 8:
            hanging.wait(5)
        return 200

    inbox = Inbox(behave)
    with inbox:
        monkeypatch.setenv("HOOK", inbox.url)
        notify(ledger, "env:HOOK")
        fill(ledger, book, 10, clock)
        for round_ in range(40):
            result = delivery.deliver()
            if not result.waiting:
                break
            assert result.receivers[0].receiver.problem is not None
            if round_ % 3 == 1:
                inbox.stop()
                clock.pass_by(hours=1)
                assert delivery.deliver().receivers[0].receiver.problem == "the connection failed"
                inbox.start()
            clock.pass_by(hours=1)
        hanging.set()
        assert result.waiting == 0
        assert len(ids(delivery)) == 14
        for budget in BUDGETS:
            assert first_arrivals(inbox.accepted, budget.name) == ids(delivery, budget.name)
        assert all(entry["webhook-id"] == entry["data"]["id"] for entry in inbox.accepted)
        before = inbox.requests
        assert delivery.deliver().delivered == 0
        assert inbox.requests == before


def test_killed_deliverers_lose_no_alert(
    ledger: str, book: PriceBook, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Deliverers are killed before and after the receiver accepts; the next ones deliver the rest in order."""
    running: list[int] = []

    def behave(number: int) -> int | None:
        if number in {2, 5}:
            os.kill(running[-1], signal.SIGKILL)  # the alert was accepted, and the deliverer never knows
        if number in {4, 7}:
            os.kill(running[-1], signal.SIGKILL)
            return None
        return 200

    with Inbox(behave) as inbox:
        url = tmp_path / "url"
        url.write_text(inbox.url)
        (tmp_path / "url.secret").write_text(SECRET)
        notify(ledger, f"file:{url}")
        fill(ledger, book, 10)
        with AlertDelivery(ledger) as reading:
            for _ in range(5):
                with delivering(ledger, {}) as process:
                    running.append(process.pid)
                    if len(running) < 5:
                        process.wait(30)
                        assert process.returncode == -signal.SIGKILL
                        continue
                    for _ in range(600):
                        if not reading.receivers()[0].waiting:
                            break
                        threading.Event().wait(0.05)
                    process.terminate()
                    process.wait(30)
                    assert process.returncode == 0
            for budget in BUDGETS:
                assert first_arrivals(inbox.accepted, budget.name) == ids(reading, budget.name)
            assert len(inbox.accepted) >= len(ids(reading)) + 2


def test_a_receiver_that_is_down_delays_only_itself(
    ledger: str, book: PriceBook, clock: Clock, delivery: AlertDelivery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other receiver has everything after one round, and each failure doubles the wait, up to an hour."""
    with Inbox(lambda _: 200) as good, Inbox(lambda _: 503) as bad:
        monkeypatch.setenv("HOOK", good.url)
        monkeypatch.setenv("OTHER", bad.url)
        notify(ledger, "env:HOOK", "env:OTHER")
        fill(ledger, book, 3, clock)
        waits = []
        for _ in range(11):
            up, down = delivery.deliver().receivers
            assert (up.waiting, down.waiting) == (0, 4)
            assert down.receiver.next_at is not None
            waits.append(down.receiver.next_at - clock.now)
            before = bad.requests
            delivery.deliver()
            assert bad.requests == before  # it is not due yet
            clock.now = down.receiver.next_at
        assert waits[:4] == [timedelta(seconds=seconds) for seconds in (10, 20, 40, 80)]
        assert waits[-1] == timedelta(hours=1)
        assert len(first_arrivals(good.accepted)) == 4


def test_a_receiver_that_answers_410_is_stopped_until_it_is_resumed(
    ledger: str, book: PriceBook, clock: Clock, delivery: AlertDelivery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is named, gets nothing more, and gets everything that it missed once it is resumed."""
    answers = iter([200, 410, *[200] * 20])
    with Inbox(lambda _: next(answers)) as inbox:
        monkeypatch.setenv("HOOK", inbox.url)
        notify(ledger, "env:HOOK")
        fill(ledger, book, 3, clock)
        (stopped,) = delivery.deliver().receivers
        assert (stopped.receiver.stopped_at, stopped.waiting) == (clock.now, 3)
        assert "410" in str(stopped.receiver.problem)
        clock.pass_by(days=1)
        assert delivery.deliver().delivered == 0
        shown = run("alerts", "list", ledger=ledger).stdout
        assert "env:HOOK: 3 alerts waiting; stopped at " in shown
        assert "run `kling-pricing alerts resume env:HOOK`" in shown
        assert run("alerts", "resume", "env:HOOK", ledger=ledger).returncode == 0
        assert delivery.deliver().waiting == 0
        assert first_arrivals(inbox.accepted) == ids(delivery)
        with pytest.raises(KlingPricingError, match="no receiver env:OTHER"):
            delivery.resume("env:OTHER")


def test_a_webhook_has_the_parts_of_the_scheme_and_no_secret(
    ledger: str, book: PriceBook, clock: Clock, delivery: AlertDelivery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The body states the alert, its type and its instant; a client of the scheme verifies it."""
    received: list[Received] = []

    def handle(request: Received) -> int:
        received.append(request)
        return 204

    with receiving(handle) as url:
        monkeypatch.setenv("HOOK", f"{url}?token=hush")
        notify(ledger, "env:HOOK")
        fill(ledger, book, 2, clock)
        assert delivery.deliver().waiting == 0
    first = received[0]
    document = Webhook(SECRET).verify(first.body, dict(first.headers))
    (alert, _) = delivery.alerts()
    assert first.headers["content-type"] == "application/json"
    assert (document["type"], document["timestamp"]) == ("budget.threshold", alert.at.isoformat())
    assert document["data"] == {
        "id": alert.id,
        "at": alert.at.isoformat(),
        "kind": "threshold",
        "text": "Budget teaser has used 1.428 of 20 USD, which reaches its threshold of 5 %.",
        "budget": "teaser",
        "labels": {},
        "threshold": "0.05",
        "cap": "20",
        "used": "1.428",
        "currency": "USD",
        "window_start": None,
        "window_end": None,
        "reservation_id": alert.reservation_id,
        "facts": {},
    }
    assert b"hush" not in first.body
    assert b"paper boat" not in first.body


@pytest.mark.parametrize("status", [302, 307, 400, 404, 500])
def test_only_success_is_a_delivery(
    ledger: str,
    book: PriceBook,
    clock: Clock,
    delivery: AlertDelivery,
    monkeypatch: pytest.MonkeyPatch,
    status: int,
) -> None:
    """Every other status is a failure that names the status, and no redirect is followed."""
    with Inbox(lambda _: status) as inbox:
        monkeypatch.setenv("HOOK", inbox.url)
        notify(ledger, "env:HOOK")
        fill(ledger, book, 2, clock)
        (failed,) = delivery.deliver().receivers
        assert f"HTTP {status}" in str(failed.receiver.problem)
        assert (failed.waiting, inbox.requests) == (2, 1)


def test_a_receiver_that_answers_byte_by_byte_does_not_hold_up_the_round(
    ledger: str, book: PriceBook, clock: Clock, delivery: AlertDelivery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole attempt has a time limit too."""
    done = threading.Event()

    def behave(_: int) -> int:
        return 200

    class Trickle(Inbox):
        pass

    from http.server import BaseHTTPRequestHandler  # noqa: PLC0415

    from tests.receivers import serving  # noqa: PLC0415

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.wfile.write(b"HTTP/1.1 200 OK\r\n")
            while not done.wait(0.05):
                self.wfile.write(b"x: y\r\n")

        def log_message(self, *_: Any) -> None:
            pass

    with serving(Handler) as url:
        monkeypatch.setenv("HOOK", url)
        notify(ledger, "env:HOOK")
        fill(ledger, book, 2, clock)
        (failed,) = delivery.deliver().receivers
        done.set()
    assert failed.receiver.problem == "no complete response within 0.9 s"
