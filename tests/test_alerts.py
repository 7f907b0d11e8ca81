"""Alerts arrive: signed webhooks and services, whatever the receiver and the deliverer do meanwhile."""

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
from standardwebhooks import Webhook

from kling_pricing import (
    Budget,
    BudgetError,
    BudgetGuard,
    Budgets,
    KlingPricingError,
    PriceBook,
    ReceiverError,
    load_budgets,
)
from kling_pricing.alerts import AlertDelivery, StoredAlert
from kling_pricing.guard import apply_budgets, freeze_all
from kling_pricing.ledger import connect
from tests.alert_workers import SECRET, Inbox, delivering, first_arrivals
from tests.commands import INTERRUPTIBLE, run
from tests.conftest import Clock
from tests.guards import CLIP
from tests.receivers import Received, receiving, serving

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
    """Every alert arrives at least once, verified, and in order per budget; then nothing more is sent."""
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


def test_killed_deliverers_lose_no_alert(ledger: str, book: PriceBook, tmp_path: Path) -> None:
    """Deliverers are killed before and after the receiver accepts; the next ones deliver the rest in order."""
    running: list[int] = []

    def behave(number: int) -> int | None:
        if number in {2, 4, 6}:
            os.kill(running[-1], signal.SIGKILL)
        return None if number == 4 else 200  # the deliverer never knows which

    with Inbox(behave) as inbox:
        url = tmp_path / "url"
        url.write_text(inbox.url)
        (tmp_path / "url.secret").write_text(SECRET)
        notify(ledger, f"file:{url}")
        fill(ledger, book, 10)
        with AlertDelivery(ledger) as reading:
            for _ in range(3):
                with delivering(ledger) as process:
                    running.append(process.pid)
                    assert process.wait(60) == -signal.SIGKILL
            with delivering(ledger) as process:
                while reading.receivers()[0].waiting:
                    assert process.poll() is None
                process.terminate()
                assert process.wait(60) == 0
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
        with pytest.raises(KlingPricingError, match="name the receiver env:OTHER"):
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
        "text": "Budget teaser has used 1.428 of 20 USD and has reached its threshold of 5%.",
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

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.wfile.write(b"HTTP/1.1 200 OK\r\n")
            while not done.wait(0.05):
                self.wfile.write(b"x: y\r\n")

        def log_message(self, *_: Any) -> None:
            """Prints nothing."""

    with serving(Handler) as url:
        monkeypatch.setenv("HOOK", url)
        notify(ledger, "env:HOOK")
        fill(ledger, book, 2, clock)
        (failed,) = delivery.deliver().receivers
        done.set()
    assert failed.receiver.problem == "no complete response within 0.9 s"


def test_a_service_gets_the_sentence_through_apprise(
    ledger: str, book: PriceBook, clock: Clock, delivery: AlertDelivery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Any URL but that of a webhook is Apprise's; a failure is tried again."""
    received: list[Any] = []

    def handle(request: Received) -> int:
        received.append(request.json)
        return 200 if len(received) > 1 else 500

    with receiving(handle) as url:
        monkeypatch.setenv("HOOK", url.replace("http://", "json://"))
        notify(ledger, "env:HOOK")
        fill(ledger, book, 2, clock)
        (failed,) = delivery.deliver().receivers
        assert (failed.waiting, failed.receiver.problem) == (2, "the service did not accept the message")
        clock.pass_by(minutes=1)
        assert delivery.deliver().waiting == 0
    assert [message["message"] for message in received[1:]] == [
        f"Budget {name} has used 1.428 of 20 USD and has reached its threshold of 5%."
        for name in ("teaser", "trailer")
    ]
    assert received[1]["title"] == "kling-pricing"


@pytest.mark.parametrize(
    ("url", "secret", "problem"),
    [
        (None, SECRET, "the variable HOOK is not set; set it to the receiver's URL"),
        ("https://a:hush@example.invalid/x", None, "set the variable HOOK_SECRET to the secret that signs"),
        ("https://a:hush@example.invalid/x", "whsec_hush", "the variable HOOK_SECRET is not a webhook secret"),
        ("nonsense://hush", SECRET, "contains neither a webhook URL nor an Apprise URL"),
        ("http://[hush", SECRET, "contains neither a webhook URL nor an Apprise URL"),
        ("http://127.0.0.1:1/hush", SECRET, "the connection failed"),
    ],
)
def test_a_receiver_that_cannot_be_used_is_named_without_its_secrets(
    ledger: str,
    delivery: AlertDelivery,
    monkeypatch: pytest.MonkeyPatch,
    url: str | None,
    secret: str | None,
    problem: str,
) -> None:
    """The problem says what to set, and the alert waits."""
    for name, value in (("HOOK", url), ("HOOK_SECRET", secret)):
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)
    notify(ledger, "env:HOOK")
    freeze_all(ledger, actor="li", reason="stop")
    (failed,) = delivery.deliver().receivers
    assert failed.waiting == 1
    assert problem in str(failed.receiver.problem)
    assert "hush" not in str(failed.receiver.problem)


def test_a_missing_file_is_named(ledger: str, delivery: AlertDelivery, tmp_path: Path) -> None:
    """The problem names the file of the URL."""
    notify(ledger, f"file:{tmp_path}/url")
    freeze_all(ledger, actor="li", reason="stop")
    (failed,) = delivery.deliver().receivers
    assert f"the file {tmp_path}/url cannot be read or is empty" in str(failed.receiver.problem)


def test_a_chat_service_may_give_an_https_address(monkeypatch: pytest.MonkeyPatch, ledger: str) -> None:
    """The address of a Slack webhook needs no secret, because Apprise knows it."""
    monkeypatch.setenv("HOOK", "https://hooks.slack.com/services/T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ")
    monkeypatch.delenv("HOOK_SECRET")
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:1")  # nothing leaves this machine
    notify(ledger, "env:HOOK")
    problem = "env:HOOK: the service did not accept the message"
    with AlertDelivery(ledger) as delivery, pytest.raises(ReceiverError, match=problem):
        delivery.test("env:HOOK")


def test_a_budgets_own_receivers_get_its_alerts_only(
    ledger: str, book: PriceBook, clock: Clock, delivery: AlertDelivery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A receiver at the top level gets all; one of a budget gets that budget's, its jobs', and common ones."""
    with Inbox(lambda _: 200) as everything, Inbox(lambda _: 200) as own:
        monkeypatch.setenv("HOOK", everything.url)
        monkeypatch.setenv("OTHER", own.url)
        teaser, trailer = BUDGETS
        notify(ledger, "env:HOOK", budgets=[teaser.model_copy(update={"notify": ("env:OTHER",)}), trailer])
        fill(ledger, book, 2, clock)
        with BudgetGuard(ledger, book=book, clock=clock) as guard:
            for budget in BUDGETS:
                guard.dispatch(guard.admit(CLIP, project=budget.name))
        freeze_all(ledger, actor="li", reason="stop")
        clock.pass_by(hours=1)
        assert delivery.deliver().waiting == 0
        received = [(entry["data"]["kind"], entry["data"]["budget"]) for entry in own.accepted]
        assert received == [
            *[("threshold", "teaser")] * 2, ("freeze", None), ("in_doubt", None),
        ]  # fmt: skip
        assert own.accepted[-1]["data"]["labels"] == {"project": "teaser"}
        assert first_arrivals(everything.accepted) == ids(delivery)


def test_the_deliverer_warns_before_a_budget_is_exhausted(
    ledger: str, book: PriceBook, clock: Clock, delivery: AlertDelivery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The forecast is sent once per bucket and cap, and names the instant and the pace."""
    clock.now = clock.now.replace(day=1, hour=0, minute=0)
    with Inbox(lambda _: 200) as inbox:
        monkeypatch.setenv("HOOK", inbox.url)
        budget = Budget(name="all", cap=Decimal(2), currency="USD", window="month")
        with BudgetGuard(ledger, Budgets([budget], notify=["env:HOOK"]), book=book, clock=clock) as guard:
            guard.dispatch(guard.admit(CLIP, project="trailer"))
            clock.pass_by(days=7)
            for _ in range(2):
                delivery.deliver()
            raised = budget.model_copy(update={"cap": Decimal("2.1")})
            guard.apply(Budgets([raised], notify=["env:HOOK"]), allow_weaker=True)
            delivery.deliver()
            guard.verify()
        first, second = (entry["data"] for entry in inbox.accepted if entry["data"]["kind"] == "forecast")
        assert first["facts"]["pace_per_day"] == "0.102"
        assert first["text"].startswith("Budget all has used 0.714 of 2 USD and will be exhausted at ")
        assert second["cap"] == "2.1"


def test_only_one_process_delivers(ledger: str, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    """While one delivers, another sends nothing and names it; it takes over when the lease has ended."""
    notify(ledger, "env:HOOK")
    freeze_all(ledger, actor="li", reason="stop")
    store = connect(ledger, clock=clock)
    store.take_lease("alerts", "host:7:abc", timedelta(minutes=1))
    with Inbox(lambda _: 200) as inbox, AlertDelivery(ledger, clock=clock) as delivery:
        monkeypatch.setenv("HOOK", inbox.url)
        result = delivery.deliver()
        assert (result.delivered, result.waiting, result.other_holder) == (0, 1, "host:7")
        clock.pass_by(minutes=1)
        assert delivery.deliver().delivered == 1


def test_a_lease_that_is_lost_stops_further_attempts(
    ledger: str, book: PriceBook, clock: Clock, delivery: AlertDelivery, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A deliverer that was suspended beyond its lease sends nothing more before it has the lease again."""
    store = connect(ledger, clock=clock)

    def behave(number: int) -> int:
        if number == 2:
            clock.pass_by(minutes=1)
            store.take_lease("alerts", "host:7:abc", timedelta(minutes=1))
            assert delivery._take_lease() == "host:7"  # noqa: SLF001 (the renewal comes at once, not later)
        return 200

    with Inbox(behave) as inbox:
        monkeypatch.setenv("HOOK", inbox.url)
        notify(ledger, "env:HOOK")
        fill(ledger, book, 5, clock)
        assert delivery.deliver().delivered == 2
        assert inbox.requests == 2
        clock.pass_by(minutes=1)
        assert delivery.deliver().waiting == 0
        assert first_arrivals(inbox.accepted) == ids(delivery)


def test_a_reader_of_the_outbox_misses_no_alert(ledger: str, book: PriceBook) -> None:
    """While many threads write alerts, one that reads on from the newest number sees every alert."""
    budgets = [
        Budget(
            name=f"budget-{number}",
            match={"project": f"project-{number}"},
            cap=Decimal(100),
            currency="USD",
            alerts=[Decimal(part) / 1000 for part in range(1, 100)],
        )
        for number in range(6)
    ]
    apply_budgets(ledger, budgets)
    store = connect(ledger, clock=lambda: datetime.now(UTC))
    seen: list[StoredAlert] = []
    done = threading.Event()

    def read() -> None:
        while True:
            is_last = done.is_set()
            seen.extend(store.alerts(after=seen[-1].seq if seen else 0))
            if is_last:
                return

    def write(number: int) -> None:
        with BudgetGuard(ledger, book=book) as guard:
            for _ in range(8):
                guard.admit(CLIP, project=f"project-{number}")

    with ThreadPoolExecutor(7) as pool:
        reading = pool.submit(read)
        list(pool.map(write, range(6)))
        done.set()
        reading.result()
    assert seen == store.alerts()
    assert len(seen) == 6 * 57
    store.close()


# the budgets file


def test_receivers_do_not_change_the_digest_of_files_without_them() -> None:
    """A file that names no receiver has the digest that it had before receivers existed."""
    budget = Budget(name="all", cap=Decimal(1), currency="USD")
    plain = Budgets([budget])
    assert plain.digest == Budgets([budget], notify=[]).digest
    assert (
        Budgets([budget], notify=["env:B", "env:A"]).digest
        == Budgets([budget], notify=["env:A", "env:B"]).digest
    )
    assert Budgets([budget], notify=["env:A"]).digest != plain.digest
    assert budget.definition == budget.model_copy(update={"notify": ("env:A",)}).definition


@pytest.mark.parametrize(
    "place",
    [
        "notify: {}\nbudgets: [{{name: all, cap: 1, currency: USD}}]\n",
        "budgets: [{{name: all, cap: 1, currency: USD, notify: {}}}]\n",
    ],
)
@pytest.mark.parametrize(
    ("value", "problem"),
    [
        ('["https://hooks.example/hush"]', "store the URL in an environment variable or a file"),
        ('["slack://hush/hush"]', "store the URL in an environment variable or a file"),
        ('["file:https://hooks.example/hush"]', "store the URL in an environment variable or a file"),
        ('["env:hush-hush"]', "must be env:NAME or file:PATH"),
        ("[env:A, env:A]", "env:A is listed twice"),
        ("[7]", "must be env:NAME or file:PATH"),
        ("env:A", "must be a list"),
    ],
)
def test_only_places_of_urls_may_stand_in_a_budgets_file(
    tmp_path: Path, place: str, value: str, problem: str
) -> None:
    """A literal URL is an error that does not repeat it, because the ledger keeps the file."""
    path = tmp_path / "budgets.yaml"
    path.write_text(place.format(value))
    with pytest.raises(BudgetError, match=problem) as refusal:
        load_budgets(path)
    assert "hush" not in str(refusal.value)


# the command line


def test_deliver_says_what_is_left(ledger: str, book: PriceBook, monkeypatch: pytest.MonkeyPatch) -> None:
    """Exit code 1 means that alerts are waiting; each receiver that has a problem is named."""
    answers = iter([200, 500, *[200] * 9])
    with Inbox(lambda _: next(answers)) as inbox:
        monkeypatch.setenv("HOOK", inbox.url)
        notify(ledger, "env:HOOK")
        fill(ledger, book, 2)
        failed = run("alerts", "deliver", ledger=ledger)
        assert (failed.returncode, failed.stdout) == (1, "delivered 1 alert\n")
        assert failed.stderr.startswith(
            "env:HOOK: 1 alert waiting; the last attempt failed: the receiver answered HTTP 500; next attempt "
        )
        listed = json.loads(run("alerts", "list", "--json", ledger=ledger).stdout)
        assert [alert["budget"] for alert in listed["alerts"]] == ["teaser", "trailer"]
        assert [row["waiting"] for row in listed["receivers"]] == [1]
        assert run("alerts", "resume", "env:HOOK", ledger=ledger).returncode == 0
        done = run("alerts", "deliver", "--json", ledger=ledger)
        document = json.loads(done.stdout)
        assert (done.returncode, document["delivered"], document["waiting"]) == (0, 1, 0)
        tested = run("alerts", "test", "env:HOOK", ledger=ledger)
        assert (tested.returncode, tested.stdout) == (0, "env:HOOK: the receiver accepted the message\n")
        assert inbox.accepted[-1]["data"]["kind"] == "test"


def test_list_shows_sentences_by_budget(ledger: str, book: PriceBook) -> None:
    """`--budget` and `--limit` select alerts; without any, the command says so."""
    apply_budgets(ledger, BUDGETS)
    assert run("alerts", "list", ledger=ledger).stdout == "no alerts\n"
    fill(ledger, book, 4)
    lines = run("alerts", "list", "--budget", "trailer", "--limit", "1", ledger=ledger).stdout.splitlines()
    assert [line.partition("UTC  ")[2] for line in lines] == [
        "Budget trailer has used 2.142 of 20 USD and has reached its threshold of 10%."
    ]


def test_commands_need_a_ledger_with_budgets(tmp_path: Path) -> None:
    """A wrong URL ends the command, also with --watch."""
    for words in (
        ("list",),
        ("deliver",),
        ("deliver", "--watch"),
        ("test", "env:HOOK"),
        ("resume", "env:HOOK"),
    ):
        done = run("alerts", *words, ledger=f"sqlite:///{tmp_path}/none.db")
        assert done.returncode in {1, 2}
        assert done.stderr
    assert not (tmp_path / "none.db").exists()


def test_watch_delivers_until_it_is_interrupted(ledger: str, book: PriceBook) -> None:
    """Alerts that come while it watches are delivered; Ctrl-C ends it with exit code 0 and ends the lease."""
    arrived = threading.Event()

    def behave(_: int) -> int:
        arrived.set()
        return 200

    with Inbox(behave) as inbox:
        notify(ledger, "env:HOOK")
        words = ["alerts", "deliver", "--watch", "--every", "1"]
        environment = {**os.environ, "HOOK": inbox.url, "KLING_PRICING_LEDGER": ledger}
        with subprocess.Popen(
            [sys.executable, "-c", INTERRUPTIBLE, *words], env=environment, stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "Delivering alerts. Press Ctrl-C to stop.\n"
            fill(ledger, book, 2)
            assert arrived.wait(60)
            process.send_signal(signal.SIGINT)
            out, _ = process.communicate(timeout=60)
        assert process.returncode == 0
        assert "delivered" in out
        with AlertDelivery(ledger) as delivery:
            assert delivery.deliver().other_holder is None
            assert first_arrivals(inbox.accepted) == ids(delivery)
