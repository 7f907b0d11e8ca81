"""Failures of networks, clients and servers lose nothing and spend nothing twice on a ledger in PostgreSQL."""

import multiprocessing
import os
import random
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest

from kling_pricing import (
    Alert,
    Budget,
    BudgetExceededError,
    BudgetGuard,
    LedgerError,
    LedgerUnavailableError,
    PriceBook,
    load_price_book,
)
from kling_pricing.guard import apply_budgets
from kling_pricing.ledger.administration import info, prepare
from tests.conftest import video
from tests.proxies import Proxy, proxied
from tests.servers import PostgresServer, execute, running

CLIP = video(duration=5, resolution="1080p", audio=True)
COST = Decimal("0.714")
TRAILER = Budget(
    name="trailer", match={"project": "trailer"}, cap=Decimal(1), currency="USD", alerts=[Decimal("0.5")]
)

RAISED = Budget(name="trailer", match={"project": "trailer"}, cap=Decimal(2), currency="USD")

# the network


@pytest.fixture
def proxy(postgres_ledger: str) -> Iterator[Proxy]:
    """Returns a proxy in front of the server of a ledger."""
    with proxied(urlsplit(postgres_ledger).port or 5432) as proxy:
        yield proxy


@pytest.fixture
def alerts() -> list[Alert]:
    """Returns the list of the alerts that the guard reports."""
    return []


@pytest.fixture
def far_url(postgres_ledger: str, proxy: Proxy) -> str:
    """Returns the URL of a ledger behind the proxy."""
    parts = urlsplit(postgres_ledger)
    return parts._replace(netloc=f"{parts.username}@127.0.0.1:{proxy.port}").geturl()


@pytest.fixture
def guard(far_url: str, book: PriceBook, alerts: list[Alert]) -> Iterator[BudgetGuard]:
    """Returns a guard that uses the proxy."""
    guard = BudgetGuard(far_url, [TRAILER], book=book, on_alert=alerts.append)
    yield guard
    guard.close()


def story(guard: BudgetGuard) -> list[str]:
    """Returns the kinds of the journal entries after the first one, without alerts."""
    return [entry.kind for entry in guard.journal()[1:] if entry.kind != "alert"]


def test_a_reservation_whose_response_was_lost_is_returned(
    guard: BudgetGuard, proxy: Proxy, alerts: list[Alert]
) -> None:
    """After a lost response, the repeated call returns its first reservation and reports its alert once."""
    proxy.lose_response_to(b"kling_pricing.reserve")
    admission = guard.admit(CLIP, project="trailer", key="k")
    assert (admission.replayed, admission.reservation.attempt) == (False, 1)
    assert [reservation.id for reservation in guard.history()] == [admission.reservation_id]
    assert [(alert.kind, alert.threshold, alert.used) for alert in alerts] == [
        ("threshold", Decimal("0.5"), COST)
    ]
    assert (proxy.cuts, guard.status()[0].held) == (1, COST)


def test_one_transaction_whose_response_was_lost_still_wins(
    guard: BudgetGuard, proxy: Proxy, alerts: list[Alert]
) -> None:
    """After a lost response, the repeated call returns the same reservation, which was dispatched once."""
    proxy.lose_response_to(b"kling_pricing.reserve_and_dispatch")
    admission, body = guard.admit_and_dispatch(CLIP, project="trailer", key="k")
    assert (body, admission.replayed) == (CLIP, False)
    assert guard.history() == [admission.reservation]
    assert (proxy.cuts, story(guard), len(alerts)) == (1, ["reserve", "dispatch"], 1)
    with pytest.raises(LedgerError, match="already sent"):
        guard.admit_and_dispatch(CLIP, project="trailer", key="k")


def test_a_dispatch_whose_response_was_lost_still_wins(guard: BudgetGuard, proxy: Proxy) -> None:
    """Only the caller whose dispatch won receives the payload, even after a lost response."""
    admission = guard.admit(CLIP, project="trailer")
    proxy.lose_response_to(b"kling_pricing.dispatch")
    assert guard.dispatch(admission) == CLIP
    assert (proxy.cuts, story(guard)) == (1, ["reserve", "dispatch"])
    with pytest.raises(LedgerError, match="cannot be dispatched"):
        guard.dispatch(admission)


VERBS: dict[str, Callable[[BudgetGuard, str], Any]] = {
    "bind": lambda guard, sent: guard.bind(sent, "t-1"),
    "settle": lambda guard, sent: guard.settle(sent, "0.7"),
    "release": lambda guard, sent: guard.release_refused(sent),
    "observe": lambda guard, sent: guard.observe(
        {"task_id": "t-1", "status": "completed", "cost": 350000}, provider="qingbo", reservation=sent
    ),
    "record_spend": lambda guard, _: guard.record("qingbo", "t-2", "0.1", labels={"project": "trailer"}),
    "open_bucket": lambda guard, _: guard.open_budget("trailer", "0.1"),
}
STORIES = {"observe": ["bind", "settle"], "record_spend": ["record"], "open_bucket": ["opening"]}


@pytest.mark.parametrize("verb", VERBS)
def test_a_verb_whose_response_was_lost_takes_effect_once(guard: BudgetGuard, proxy: Proxy, verb: str) -> None:
    """After a lost response, the repeated verb is in the journal once."""
    admission = guard.admit(CLIP, project="trailer")
    guard.dispatch(admission)
    proxy.lose_response_to(f"kling_pricing.{verb}".encode())
    VERBS[verb](guard, admission.reservation_id)
    assert proxy.cuts == 1
    assert story(guard) == ["reserve", "dispatch", *STORIES.get(verb, [verb])]
    guard.verify()


def test_a_revision_whose_response_was_lost_is_installed_once(guard: BudgetGuard, proxy: Proxy) -> None:
    """A revision is installed once although the response to its COMMIT was lost."""
    raised = Budget(name="trailer", match={"project": "trailer"}, cap=Decimal(2), currency="USD")
    proxy.lose_response_to(b"COMMIT")
    guard.apply([raised], allow_weaker=True)
    assert (proxy.cuts, story(guard), guard.status()[0].cap) == (1, ["revision"], Decimal(2))


OVERRUN = {"task_id": "t-1", "status": "completed", "cost": 450000}
"""A response that charges 0.9 USD, more than the reserved amount."""
BILLED: dict[str, Callable[[BudgetGuard, str], Any]] = {
    "bind": lambda guard, sent: guard.bind(sent, "t-1"),
    "settle": lambda guard, sent: guard.settle(sent, "0.9"),
    "observe": lambda guard, sent: guard.observe(OVERRUN, provider="qingbo", reservation=sent),
}


@pytest.mark.parametrize("verb", BILLED)
def test_an_overrun_whose_response_was_lost_is_reported(
    guard: BudgetGuard, proxy: Proxy, alerts: list[Alert], verb: str
) -> None:
    """After a lost response, the repeated call reports the overrun that it caused, once."""
    admission = guard.admit(CLIP, project="trailer")
    guard.dispatch(admission)
    if verb == "bind":
        guard.observe(OVERRUN, provider="qingbo")
    alerts.clear()
    proxy.lose_response_to(f"kling_pricing.{verb}".encode())
    BILLED[verb](guard, admission.reservation_id)
    assert (proxy.cuts, [(alert.kind, alert.used) for alert in alerts]) == (1, [("overrun", Decimal("0.9"))])
    BILLED["settle"](guard, admission.reservation_id)
    assert len(alerts) == 1


@pytest.mark.parametrize("until", [None, datetime(2099, 1, 1, tzinfo=UTC)])
def test_a_cap_whose_response_was_lost_is_set_once(
    guard: BudgetGuard, proxy: Proxy, until: datetime | None
) -> None:
    """A cap is set once, and logged once, although the response to its COMMIT was lost."""
    proxy.lose_response_to(b"COMMIT")
    guard.set_cap("trailer", 2, until=until)
    assert (proxy.cuts, [action.action for action in guard.log()]) == (1, ["apply", "set"])
    assert guard.status()[0].cap == Decimal(2)
    guard.verify()


CAPPED = TRAILER.model_copy(update={"cap": Decimal("0.8")})

COUNTED: dict[str, tuple[bytes, Callable[[BudgetGuard], Any]]] = {
    "record": (
        b"kling_pricing.record_spend",
        lambda guard: guard.record("qingbo", "t-2", "0.6", labels={"project": "trailer"}),
    ),
    "open": (b"kling_pricing.open_bucket", lambda guard: guard.open_budget("trailer", "0.6")),
    "apply": (b"COMMIT", lambda guard: guard.apply([CAPPED], allow_weaker=True)),
}


@pytest.mark.parametrize("verb", COUNTED)
def test_a_threshold_whose_response_was_lost_is_reported(
    guard: BudgetGuard, proxy: Proxy, alerts: list[Alert], verb: str
) -> None:
    """After a lost response, thresholds reached by recorded spend or a lowered cap are still reported."""
    if verb == "apply":
        guard.record("qingbo", "t-1", "0.45", labels={"project": "trailer"})
    marker, act = COUNTED[verb]
    proxy.lose_response_to(marker)
    act(guard)
    assert (proxy.cuts, [(alert.kind, alert.threshold) for alert in alerts]) == (
        1,
        [("threshold", Decimal("0.5"))],
    )


def test_threads_that_all_lose_their_connections_find_new_ones(
    guard: BudgetGuard, postgres_ledger: str, proxy: Proxy
) -> None:
    """Verbs in many threads succeed although the server has ended every session of the pool."""
    raised = Budget(name="trailer", match={"project": "trailer"}, cap=8 * COST, currency="USD")
    guard.apply([raised], allow_weaker=True)
    with ThreadPoolExecutor(8) as threads:
        admissions = list(threads.map(lambda _: guard.admit(CLIP, project="trailer"), range(8)))
        execute(
            postgres_ledger,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'kling-pricing'",
        )
        assert list(threads.map(guard.dispatch, admissions)) == [CLIP] * 8
    assert proxy.cuts == 0
    assert Counter(story(guard)) == {"reserve": 8, "dispatch": 8, "revision": 1}


@pytest.mark.parametrize("verb", ["reserve", "dispatch", "settle"])
def test_a_server_that_vanished_is_not_waited_for(
    far_url: str, book: PriceBook, proxy: Proxy, verb: str
) -> None:
    """A call without any response is repeated on another connection after the time limit."""
    guard = BudgetGuard(f"{far_url}&answer_s=1", [TRAILER], book=book)
    proxy.lose_response_to(f"kling_pricing.{verb}".encode(), silently=True)
    admission = guard.admit(CLIP, project="trailer", key="k")
    assert guard.dispatch(admission) == CLIP
    guard.settle(admission)
    assert (proxy.cuts, story(guard)) == (1, ["reserve", "dispatch", "settle"])
    guard.close()


CAN_CANCEL = psycopg.capabilities.has_cancel_safe()
WAITING_FOR_A_LOCK = """
    SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'
"""


def test_a_server_that_never_responds_is_given_up(
    far_url: str, postgres_ledger: str, book: PriceBook, proxy: Proxy
) -> None:
    """A guard whose server never responds refuses to spend, and cancels its call if libpq can do so."""
    guard = BudgetGuard(f"{far_url}&answer_s=1&wait_s=1", [TRAILER], book=book)
    with psycopg.connect(postgres_ledger) as other:
        other.execute("LOCK TABLE kling_pricing.budget_revision IN EXCLUSIVE MODE")
        with pytest.raises(LedgerError, match=r"no response for 1 s.*\?answer_s=SECONDS.*nothing can be spent"):
            guard.admit(CLIP, project="trailer")
        if CAN_CANCEL:
            until = time.monotonic() + 60
            with psycopg.connect(postgres_ledger, autocommit=True) as looking:
                while looking.execute(WAITING_FOR_A_LOCK).fetchall():  # the server cancels with a delay
                    assert time.monotonic() < until, "the server did not cancel the call"
    assert proxy.cuts == 0
    if CAN_CANCEL:
        assert (story(guard), guard.history()) == ([], [])
    guard.close()


# clients and servers that are killed

USERS = 64
HOT = Budget(name="hot", match={"project": "hot"}, cap=2 * COST, currency="USD")
SPREAD = Budget(name="spread", match={"project": "spread", "user": "*"}, cap=Decimal(3), currency="USD")


def _spend(url: str, path: Path, seed: int) -> None:
    """Admits, dispatches, settles and releases until it is killed, and writes down what was acknowledged.

    The hot budget has room for only two jobs, so the clients constantly race for it.
    """
    dice = random.Random(seed)  # noqa: S311 (not a secret)
    book = load_price_book()
    guard = BudgetGuard(f"{url}&wait_s=60", book=book)
    acknowledged = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    while True:
        project = dice.choice(["hot", "hot", "spread"])
        key = f"{project}-{dice.randrange(10_000)}"  # another client may use the same key
        user = f"u{int(key.partition('-')[2]) % USERS}"
        try:
            admission = guard.admit(CLIP, project=project, key=key, labels={"user": user})
            os.write(acknowledged, f"admitted {admission.reservation_id}\n".encode())
            guard.dispatch(admission)
            os.write(acknowledged, f"dispatched {admission.reservation_id}\n".encode())
            if dice.random() < 0.1:
                guard.bind(admission, admission.reservation_id)
                guard.settle(admission, "0" if project == "hot" else "0.1")  # keeps room in the hot budget
                os.write(acknowledged, f"settled {admission.reservation_id}\n".encode())
            else:
                guard.release_refused(admission)
        except BudgetExceededError:
            continue
        except LedgerError as error:
            if "cannot be" not in str(error):  # another client was first with this key
                raise


class Clients:
    """Processes that spend. Each process that is killed is replaced.

    Attributes:
        path: the file to which the processes write what was acknowledged.
    """

    def __init__(self, url: str, path: Path, count: int) -> None:
        self._url, self.path = url, path
        self._context = multiprocessing.get_context("forkserver")  # fast, and inherits nothing from the tests
        self._context.set_forkserver_preload([__name__])
        self._seed = 0
        self.running = [self._started() for _ in range(count)]

    def _started(self) -> Any:
        self._seed += 1
        process = self._context.Process(target=_spend, args=(self._url, self.path, self._seed), daemon=True)
        process.start()
        return process

    def acknowledged(self) -> int:
        """Returns the number of acknowledgements so far."""
        return self.path.read_bytes().count(b"\n") if self.path.exists() else 0

    def make_progress(self, by: int = 20) -> None:
        """Waits until this many more verbs are acknowledged."""
        target, until = self.acknowledged() + by, time.monotonic() + 60
        while self.acknowledged() < target:
            assert time.monotonic() < until, "the clients make no progress"
            self.running[0].join(0.02)
            assert all(process.is_alive() for process in self.running), "a client ended by itself"

    def kill_one(self, dice: random.Random) -> None:
        """Kills a random process with SIGKILL and replaces it."""
        place = dice.randrange(len(self.running))
        self.running[place].kill()
        self.running[place].join()
        self.running[place] = self._started()

    def end(self) -> None:
        """Kills all processes."""
        for process in self.running:
            process.kill()
            process.join()


@contextmanager
def clients(url: str, path: Path, count: int = 4) -> Iterator[Clients]:
    """Runs clients that spend from a ledger."""
    spending = Clients(url, path, count)
    try:
        yield spending
    finally:
        spending.end()


def assert_nothing_was_lost_or_spent_twice(url: str, path: Path) -> None:
    """Asserts that caps held at all times, balances match the journal, and no acknowledged verb was lost."""
    guard = BudgetGuard(url)
    guard.verify()
    used: dict[tuple[str, str], Decimal] = defaultdict(Decimal)
    caps = {budget.name: budget.cap for budget in (HOT, SPREAD)}
    for entry in guard.journal():
        if entry.budget is not None:
            bucket = (entry.budget, str(entry.labels))
            used[bucket] += (
                entry.held + entry.spent
            )  # entries are in order: a bucket is locked while they are written
            assert 0 <= used[bucket] <= caps[entry.budget], entry
    jobs = {job.id: job for job in guard.history()}
    acknowledged = [line.split(" ") for line in path.read_text().splitlines()]
    assert {job for _, job in acknowledged} <= set(jobs)
    assert all(jobs[job].dispatched_at for verb, job in acknowledged if verb != "admitted")
    assert all(jobs[job].state == "settled" for verb, job in acknowledged if verb == "settled")
    winners = Counter(job for verb, job in acknowledged if verb == "dispatched")
    assert [job for job, times in winners.items() if times > 1] == []
    dispatches = Counter(entry.reservation_id for entry in guard.journal() if entry.kind == "dispatch")
    assert max(dispatches.values()) == 1
    assert sum(1 for job in jobs.values() if job.state == "settled") > 0
    guard.close()


@pytest.fixture
def seconds(request: pytest.FixtureRequest) -> int:
    """Returns the duration of the torture."""
    return int(request.config.getoption("--torture"))


def test_caps_hold_while_clients_and_the_server_are_killed(
    folder_of_servers: Path, tmp_path: Path, seconds: int
) -> None:
    """Caps hold while random clients are killed and the server crashes and recovers twice."""
    dice = random.Random(seconds)  # noqa: S311 (not a secret)
    path = tmp_path / "acknowledged"
    with running(folder_of_servers / "tortured") as server:
        prepare(server.url, create=True)
        apply_budgets(server.url, [HOT, SPREAD])
        with clients(server.url, path) as spending:
            for part in range(3):
                until = time.monotonic() + seconds / 3
                while time.monotonic() < until:
                    spending.make_progress()
                    spending.kill_one(dice)
                if part != 2:  # the server keeps running after the last part
                    server.stop("immediate")
                    server.start()
                spending.make_progress()
        assert_nothing_was_lost_or_spent_twice(server.url, path)


def is_synchronous(url: str) -> bool:
    """Returns whether commits wait for a standby."""
    with psycopg.connect(url) as connection:
        row = connection.execute(
            "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'"
        ).fetchone()
        return bool(row and row[0])


def test_a_failover_to_a_synchronous_standby_loses_nothing(folder_of_servers: Path, tmp_path: Path) -> None:
    """Clients continue on a promoted standby after the primary is killed under load, and nothing is lost."""
    path = tmp_path / "acknowledged"
    (folder_of_servers / "standby").mkdir()
    with running(folder_of_servers / "primary") as primary:
        prepare(primary.url, create=True)
        apply_budgets(primary.url, [HOT, SPREAD])
        standby: PostgresServer = primary.standby(folder_of_servers / "standby", "second")
        standby.start()
        try:
            until = time.monotonic() + 60
            while not any("replication is asynchronous" in warning for warning in info(primary.url).warnings):
                assert time.monotonic() < until, "the standby does not connect"
            execute(
                primary.url, "ALTER SYSTEM SET synchronous_standby_names = 'second'", "SELECT pg_reload_conf()"
            )
            until = time.monotonic() + 60
            while not is_synchronous(primary.url):
                assert time.monotonic() < until, "the standby is not synchronous"
            assert info(primary.url).warnings == ()
            either = f"127.0.0.1:{primary.port},127.0.0.1:{standby.port}"
            url = f"postgresql://postgres@{either}/postgres?sslmode=disable&target_session_attrs=read-write"
            with clients(url, path) as spending:
                spending.make_progress(100)
                primary.kill()
                standby.promote()
                spending.make_progress(100)
            assert_nothing_was_lost_or_spent_twice(standby.url, path)
        finally:
            standby.stop("immediate")


@pytest.mark.parametrize("change", ["apply", "migrate"])
def test_a_session_idle_in_a_transaction_does_not_stop_the_guards(
    change: str, postgres_ledger: str, book: PriceBook, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A change of the budgets gives up after the limit for locks; until then, verbs wait behind it."""
    monkeypatch.setattr("kling_pricing.ledger.postgres.locks.LOCK_WAIT_S", 1)
    with BudgetGuard(postgres_ledger, [TRAILER], book=book) as guard, psycopg.connect(postgres_ledger) as idle:
        idle.execute("LOCK TABLE kling_pricing.budget_revision, kling_pricing.schema_version IN ROW SHARE MODE")
        changes: dict[str, Callable[[], object]] = {
            "apply": lambda: apply_budgets(postgres_ledger, [RAISED], allow_weaker=True),
            "migrate": lambda: prepare(postgres_ledger, create=False),
        }
        if change == "migrate":
            idle.execute("LOCK TABLE kling_pricing.schema_version IN ACCESS EXCLUSIVE MODE")
        with ThreadPoolExecutor(1) as thread:
            asked = time.monotonic()
            changing = thread.submit(changes[change])
            if change == "apply":
                guard.release(guard.admit(CLIP, project="trailer"))
            with pytest.raises(
                LedgerUnavailableError, match="another session has held a lock on the ledger for 1 s"
            ):
                changing.result()
            assert time.monotonic() - asked < 6
        idle.rollback()
        apply_budgets(postgres_ledger, [RAISED], allow_weaker=True)
        assert guard.status()[0].cap == 2
