"""A ledger in PostgreSQL while networks, clients and servers fail: nothing is lost or spent twice."""

import multiprocessing
import os
import random
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
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

# the network


@pytest.fixture
def proxy(postgres_ledger: str) -> Iterator[Proxy]:
    """A network before the server of a ledger."""
    with proxied(urlsplit(postgres_ledger).port or 5432) as proxy:
        yield proxy


@pytest.fixture
def told() -> list[Alert]:
    """The alerts that a guard told of."""
    return []


@pytest.fixture
def far_url(postgres_ledger: str, proxy: Proxy) -> str:
    """The URL of a ledger on the far side of the network."""
    parts = urlsplit(postgres_ledger)
    return parts._replace(netloc=f"{parts.username}@127.0.0.1:{proxy.port}").geturl()


@pytest.fixture
def guard(far_url: str, book: PriceBook, told: list[Alert]) -> Iterator[BudgetGuard]:
    """A guard on the far side of the network."""
    guard = BudgetGuard(far_url, [TRAILER], book=book, on_alert=told.append)
    yield guard
    guard.close()


def story(guard: BudgetGuard) -> list[str]:
    """The kinds of entries in the journal, without those of alerts."""
    return [entry.kind for entry in guard.journal()[1:] if entry.kind != "alert"]


def test_a_reservation_whose_answer_was_lost_is_the_one_that_is_returned(
    guard: BudgetGuard, proxy: Proxy, told: list[Alert]
) -> None:
    """The call is repeated with the same id, and finds what it did; its alert is told all the same, once."""
    proxy.lose_answer_to(b"kling_pricing.reserve")
    admission = guard.admit(CLIP, project="trailer", key="k")
    assert (admission.replayed, admission.reservation.attempt) == (False, 1)
    assert [each.id for each in guard.history()] == [admission.reservation_id]
    assert [(alert.kind, alert.threshold, alert.used) for alert in told] == [
        ("threshold", Decimal("0.5"), COST)
    ]
    assert (proxy.cuts, guard.status()[0].held) == (1, COST)


def test_a_dispatch_whose_answer_was_lost_still_wins(guard: BudgetGuard, proxy: Proxy) -> None:
    """The payload is given out to the caller that won, and to no other."""
    admission = guard.admit(CLIP, project="trailer")
    proxy.lose_answer_to(b"kling_pricing.dispatch")
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
def test_a_verb_whose_answer_was_lost_is_done_once(guard: BudgetGuard, proxy: Proxy, verb: str) -> None:
    """Each can be repeated: the journal has it once."""
    admission = guard.admit(CLIP, project="trailer")
    guard.dispatch(admission)
    proxy.lose_answer_to(f"kling_pricing.{verb}".encode())
    VERBS[verb](guard, admission.reservation_id)
    assert proxy.cuts == 1
    assert story(guard) == ["reserve", "dispatch", *STORIES.get(verb, [verb])]
    guard.verify()


def test_a_revision_whose_answer_was_lost_is_installed_once(guard: BudgetGuard, proxy: Proxy) -> None:
    """The connection is cut after the server has done what COMMIT asks for."""
    raised = Budget(name="trailer", match={"project": "trailer"}, cap=Decimal(2), currency="USD")
    proxy.lose_answer_to(b"COMMIT")
    guard.apply([raised])
    assert (proxy.cuts, story(guard), guard.status()[0].cap) == (1, ["revision"], Decimal(2))


OVERRUN = {"task_id": "t-1", "status": "completed", "cost": 450000}
"""An answer that charges 0.9 USD, more than was reserved."""
BILLED: dict[str, Callable[[BudgetGuard, str], Any]] = {
    "bind": lambda guard, sent: guard.bind(sent, "t-1"),
    "settle": lambda guard, sent: guard.settle(sent, "0.9"),
    "observe": lambda guard, sent: guard.observe(OVERRUN, provider="qingbo", reservation=sent),
}


@pytest.mark.parametrize("verb", BILLED)
def test_an_overrun_whose_answer_was_lost_is_told(
    guard: BudgetGuard, proxy: Proxy, told: list[Alert], verb: str
) -> None:
    """The repeated call changes nothing, and is told once more what it set off."""
    admission = guard.admit(CLIP, project="trailer")
    guard.dispatch(admission)
    if verb == "bind":
        guard.observe(OVERRUN, provider="qingbo")
    told.clear()
    proxy.lose_answer_to(f"kling_pricing.{verb}".encode())
    BILLED[verb](guard, admission.reservation_id)
    assert (proxy.cuts, [(alert.kind, alert.used) for alert in told]) == (1, [("overrun", Decimal("0.9"))])
    BILLED["settle"](guard, admission.reservation_id)
    assert len(told) == 1


COUNTED: dict[str, tuple[bytes, Callable[[BudgetGuard], Any]]] = {
    "record": (
        b"kling_pricing.record_spend",
        lambda guard: guard.record("qingbo", "t-2", "0.6", labels={"project": "trailer"}),
    ),
    "open": (b"kling_pricing.open_bucket", lambda guard: guard.open_budget("trailer", "0.6")),
    "apply": (b"COMMIT", lambda guard: guard.apply([TRAILER.model_copy(update={"cap": Decimal("0.8")})])),
}


@pytest.mark.parametrize("verb", COUNTED)
def test_a_threshold_whose_answer_was_lost_is_told(
    guard: BudgetGuard, proxy: Proxy, told: list[Alert], verb: str
) -> None:
    """Also where no reservation made it: by spend from elsewhere, or by a cap that was lowered."""
    if verb == "apply":
        guard.record("qingbo", "t-1", "0.45", labels={"project": "trailer"})
    marker, act = COUNTED[verb]
    proxy.lose_answer_to(marker)
    act(guard)
    assert (proxy.cuts, [(alert.kind, alert.threshold) for alert in told]) == (
        1,
        [("threshold", Decimal("0.5"))],
    )


def test_threads_that_all_lose_their_connections_find_new_ones(
    guard: BudgetGuard, postgres_ledger: str, proxy: Proxy
) -> None:
    """The server ends every session of the pool; the next verbs, in many threads, know nothing of it."""
    guard.apply([Budget(name="trailer", match={"project": "trailer"}, cap=8 * COST, currency="USD")])
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
def test_a_server_that_is_gone_without_a_word_is_not_waited_for(
    far_url: str, book: PriceBook, proxy: Proxy, verb: str
) -> None:
    """The connection stays open and nothing ever comes: after a second the call is repeated elsewhere."""
    guard = BudgetGuard(f"{far_url}&answer_s=1", [TRAILER], book=book)
    proxy.lose_answer_to(f"kling_pricing.{verb}".encode(), silently=True)
    admission = guard.admit(CLIP, project="trailer", key="k")
    assert guard.dispatch(admission) == CLIP
    guard.settle(admission)
    assert (proxy.cuts, story(guard)) == (1, ["reserve", "dispatch", "settle"])
    guard.close()


CAN_CALL_OFF = psycopg.capabilities.has_cancel_safe()
WAITING_FOR_A_LOCK = """
    SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'
"""


def test_a_server_that_never_answers_is_given_up(
    far_url: str, postgres_ledger: str, book: PriceBook, proxy: Proxy
) -> None:
    """It is asked once more, and then the guard refuses to spend; what it asked is called off, if libpq can."""
    guard = BudgetGuard(f"{far_url}&answer_s=1&wait_s=1", [TRAILER], book=book)
    with psycopg.connect(postgres_ledger) as other:
        other.execute("LOCK TABLE kling_pricing.budget_revision IN EXCLUSIVE MODE")
        with pytest.raises(LedgerError, match=r"no answer for 1 s.*\?answer_s=SECONDS.*nothing may be spent"):
            guard.admit(CLIP, project="trailer")
        if CAN_CALL_OFF:
            until = time.monotonic() + 60
            with psycopg.connect(postgres_ledger, autocommit=True) as looking:
                while looking.execute(WAITING_FOR_A_LOCK).fetchall():  # it is done in the server's own time
                    assert time.monotonic() < until, "the server goes on"
    assert proxy.cuts == 0
    if CAN_CALL_OFF:
        assert (story(guard), guard.history()) == ([], [])
    guard.close()


# clients and servers that are killed

USERS = 64
HOT = Budget(name="hot", match={"project": "hot"}, cap=2 * COST, currency="USD")
SPREAD = Budget(name="spread", match={"project": "spread", "user": "*"}, cap=Decimal(3), currency="USD")


def _spend(url: str, path: Path, seed: int) -> None:
    """Admits, dispatches, settles and gives back, until it is killed; writes down what was acknowledged.

    The hot budget has room for two jobs at a time, so the clients race for it all the time.
    """
    dice = random.Random(seed)  # noqa: S311 (no secret)
    book = load_price_book()
    guard = BudgetGuard(f"{url}&wait_s=60", book=book)
    acknowledged = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    while True:
        project = dice.choice(["hot", "hot", "spread"])
        key = f"{project}-{dice.randrange(10_000)}"  # another client may use the same
        user = f"u{int(key.partition('-')[2]) % USERS}"
        try:
            admission = guard.admit(CLIP, project=project, key=key, labels={"user": user})
            os.write(acknowledged, f"admitted {admission.reservation_id}\n".encode())
            guard.dispatch(admission)
            os.write(acknowledged, f"dispatched {admission.reservation_id}\n".encode())
            if dice.random() < 0.1:
                guard.bind(admission, admission.reservation_id)
                guard.settle(admission, "0" if project == "hot" else "0.1")  # so that the hot one stays hot
                os.write(acknowledged, f"settled {admission.reservation_id}\n".encode())
            else:
                guard.release_refused(admission)
        except BudgetExceededError:
            continue
        except LedgerError as error:
            if "cannot be" not in str(error):  # another client was first with this key
                raise


class Clients:
    """Processes that spend; one that is killed is followed by another.

    Attributes:
        path: where they write what was acknowledged.
    """

    def __init__(self, url: str, path: Path, count: int) -> None:
        self._url, self.path = url, path
        self._context = multiprocessing.get_context("forkserver")  # quick, and nothing of the tests comes along
        self._context.set_forkserver_preload([__name__])
        self._seed = 0
        self.running = [self._started() for _ in range(count)]

    def _started(self) -> Any:
        self._seed += 1
        process = self._context.Process(target=_spend, args=(self._url, self.path, self._seed), daemon=True)
        process.start()
        return process

    def acknowledged(self) -> int:
        """How much was acknowledged until now."""
        return self.path.read_bytes().count(b"\n") if self.path.exists() else 0

    def make_progress(self, by: int = 20) -> None:
        """Waits until more has been acknowledged."""
        wanted, until = self.acknowledged() + by, time.monotonic() + 60
        while self.acknowledged() < wanted:
            assert time.monotonic() < until, "the clients do not get on"
            self.running[0].join(0.02)
            assert all(each.is_alive() for each in self.running), "a client ended by itself"

    def kill_one(self, dice: random.Random) -> None:
        """Kills one with SIGKILL, in the middle of whatever it does."""
        place = dice.randrange(len(self.running))
        self.running[place].kill()
        self.running[place].join()
        self.running[place] = self._started()

    def end(self) -> None:
        """Kills all of them."""
        for process in self.running:
            process.kill()
            process.join()


@contextmanager
def clients(url: str, path: Path, count: int = 4) -> Iterator[Clients]:
    """Clients that spend from a ledger."""
    spending = Clients(url, path, count)
    try:
        yield spending
    finally:
        spending.end()


def assert_nothing_was_lost_or_spent_twice(url: str, path: Path) -> None:
    """No cap was exceeded by one nano, ever; journal = balances; what was acknowledged is there, and once."""
    guard = BudgetGuard(url)
    guard.verify()
    used: dict[tuple[str, str], Decimal] = defaultdict(Decimal)
    caps = {budget.name: budget.cap for budget in (HOT, SPREAD)}
    for entry in guard.journal():
        if entry.budget is not None:
            bucket = (entry.budget, str(entry.labels))
            used[bucket] += entry.held + entry.spent  # a bucket's entries are written while it is locked
            assert 0 <= used[bucket] <= caps[entry.budget], entry
    kept = {each.id: each for each in guard.history()}
    said = [line.split(" ") for line in path.read_text().splitlines()]
    assert {reservation for _, reservation in said} <= set(kept)
    assert all(kept[reservation].dispatched_at for what, reservation in said if what != "admitted")
    assert all(kept[reservation].state == "settled" for what, reservation in said if what == "settled")
    once = Counter(reservation for what, reservation in said if what == "dispatched")
    assert [reservation for reservation, times in once.items() if times > 1] == []
    dispatches = Counter(entry.reservation_id for entry in guard.journal() if entry.kind == "dispatch")
    assert max(dispatches.values()) == 1
    assert sum(1 for each in kept.values() if each.state == "settled") > 0
    guard.close()


@pytest.fixture
def seconds(request: pytest.FixtureRequest) -> int:
    """How long to torture."""
    return int(request.config.getoption("--torture", default=5))


def test_caps_hold_while_clients_and_the_server_are_killed(
    folder_of_servers: Path, tmp_path: Path, seconds: int
) -> None:
    """SIGKILL for clients at random; SIGQUIT, and a start with recovery, for the server, twice."""
    dice = random.Random(seconds)  # noqa: S311 (no secret)
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
                if part != 2:  # at the end it is looked at as it is
                    server.stop("immediate")
                    server.start()
                spending.make_progress()
        assert_nothing_was_lost_or_spent_twice(server.url, path)


def is_synchronous(url: str) -> bool:
    """Whether commits wait for a standby."""
    with psycopg.connect(url) as connection:
        found = connection.execute(
            "SELECT count(*) FROM pg_stat_replication WHERE sync_state = 'sync'"
        ).fetchone()
        return bool(found and found[0])


def test_a_failover_to_a_synchronous_standby_loses_nothing(folder_of_servers: Path, tmp_path: Path) -> None:
    """The primary is killed under load, the standby promoted, and the clients find it by themselves."""
    path = tmp_path / "acknowledged"
    (folder_of_servers / "standby").mkdir()
    with running(folder_of_servers / "primary") as primary:
        prepare(primary.url, create=True)
        apply_budgets(primary.url, [HOT, SPREAD])
        standby: PostgresServer = primary.standby(folder_of_servers / "standby", "second")
        standby.start()
        try:
            assert any("replication is asynchronous" in warning for warning in info(primary.url).warnings)
            execute(
                primary.url, "ALTER SYSTEM SET synchronous_standby_names = 'second'", "SELECT pg_reload_conf()"
            )
            until = time.monotonic() + 60
            while not is_synchronous(primary.url):
                assert time.monotonic() < until, "the standby does not follow"
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
