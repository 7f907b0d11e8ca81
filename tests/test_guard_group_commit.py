"""Threads of one process that share transactions on a ledger in a file."""

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from kling_pricing import (
    Alert,
    AsyncBudgetGuard,
    Budget,
    BudgetExceededError,
    BudgetGuard,
    PriceBook,
    Reservation,
    ReservationNotFoundError,
)
from tests import group_workers
from tests.guard_workers import COST, VIDEO, finished, piped, started

unix = pytest.mark.skipif(os.name == "nt", reason="this system has no signals and limits of this kind")

ROOMY = Budget(name="all", cap=Decimal(10**6), currency="USD")
ROUNDS = 200
"""How often a scene is tried before the verbs of its threads meet in one transaction."""


@pytest.fixture
def url(tmp_path: Path) -> str:
    """Returns the URL of a ledger that does not exist yet."""
    return f"sqlite:///{tmp_path}/spend.db"


def begun(mode: str, **arguments: Any) -> subprocess.Popen[str]:
    """Starts a process of the workers' script."""
    return subprocess.Popen(
        [sys.executable, str(group_workers.__file__), mode, json.dumps(arguments)],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )


def ended(mode: str, **arguments: Any) -> Any:
    """Runs a process of the workers' script to its end; returns its result."""
    with begun(mode, **arguments) as process:
        out, _ = process.communicate()
    assert process.returncode == 0
    return json.loads(out)


class Meeting:
    """A clock that stops the first verb inside its transaction until the other verbs have been called.

    Attributes:
        readers: the threads that read the clock since the first verb went on.
        strikes: a reading after the first at which the clock raises `SystemExit` in the leader.
    """

    def __init__(self) -> None:
        self.readers: list[int] = []
        self.strikes: int | None = None
        self._leader: int | None = None
        self._stops_at = 0
        self._inside, self._goes_on = threading.Event(), threading.Event()

    def __call__(self) -> datetime:
        """Returns the time."""
        if threading.get_ident() == self._leader:
            self._stops_at -= 1
            if self._stops_at == 0:
                self._inside.set()
                assert self._goes_on.wait(60)
            if self._stops_at == -(self.strikes or 0) < 0:
                raise SystemExit
        self.readers.append(threading.get_ident())
        return datetime.now(UTC)

    def hold(self, reads: int, *verbs: Callable[[], Any]) -> tuple[list[Any], bool]:
        """Calls verbs in a thread each, the first one before the others.

        Args:
            reads: the reading of the clock at which the first verb is in its transaction.
            verbs: the verbs.

        Returns:
            The result of each verb, or its error; and whether the first thread ran all verbs.
        """
        results: list[Any] = [None] * len(verbs)
        called = threading.Barrier(len(verbs))
        self._inside.clear()
        self._goes_on.clear()

        def call(place: int) -> None:
            if place == 0:
                self._leader, self._stops_at = threading.get_ident(), reads
            else:
                called.wait(60)
            try:
                results[place] = verbs[place]()
            except BaseException as error:  # noqa: BLE001 (the test must see every error)
                results[place] = error

        threads = [threading.Thread(target=call, args=(place,)) for place in range(len(verbs))]
        threads[0].start()
        assert self._inside.wait(60)
        for thread in threads[1:]:
            thread.start()
        called.wait(60)
        self.readers.clear()
        self._goes_on.set()
        for thread in threads:
            thread.join(60)
            assert not thread.is_alive()
        has_run_all = self._leader is not None and self.readers.count(self._leader) == len(verbs)
        self._leader = None
        return results, has_run_all


def test_an_error_of_one_verb_does_not_touch_the_others(url: str, book: PriceBook) -> None:
    """Verbs that share a transaction each have their own result, error and instant."""
    meeting = Meeting()
    guard = BudgetGuard(url, [ROOMY], book=book, clock=meeting)
    for _ in range(ROUNDS):
        jobs = [guard.admit(VIDEO, project="p") for _ in range(4)]
        sent = guard.admit(VIDEO, project="p")
        guard.dispatch(sent)
        results, is_shared = meeting.hold(
            1,
            partial(guard.release, jobs[0]),
            partial(guard.release, jobs[1]),
            partial(guard.release, "no such reservation"),
            partial(guard.settle, sent, COST),
            partial(guard.release, jobs[2]),
        )
        kinds = [
            result.state if isinstance(result, Reservation) else type(result).__name__ for result in results
        ]
        assert kinds == ["released", "released", "ReservationNotFoundError", "settled", "released"]
        assert guard.reservation(jobs[3]).state == "reserved"
        if is_shared:
            break
    else:
        pytest.fail("the verbs never shared a transaction")
    instants = {result.closed_at for result in results if isinstance(result, Reservation)}
    assert len(instants) == 4
    guard.verify()


def test_no_cap_is_passed_within_a_transaction(url: str, book: PriceBook) -> None:
    """Of the requests that share a transaction, as many are admitted as fit, and the others are refused."""
    meeting = Meeting()
    guard = BudgetGuard(
        url,
        [Budget(name="each", match={"project": "*"}, cap=3 * COST, currency="USD")],
        book=book,
        clock=meeting,
    )
    for number in range(ROUNDS):
        results, is_shared = meeting.hold(
            2, *[partial(guard.admit, VIDEO, project=f"p{number}") for _ in range(6)]
        )
        refused = [result for result in results if isinstance(result, BudgetExceededError)]
        assert len(refused) == 3
        assert guard.status()[-1].held == 3 * COST
        if is_shared:
            break
    else:
        pytest.fail("the verbs never shared a transaction")
    guard.verify()


def test_alerts_are_called_after_the_commit(url: str, book: PriceBook) -> None:
    """When an alert is called, in its caller's thread, other processes can already read what caused it."""
    meeting = Meeting()
    seen: list[tuple[int, str]] = []
    other = BudgetGuard(
        url, [ROOMY.model_copy(update={"match": {"project": "*"}, "alerts": (Decimal("1E-9"),)})]
    )

    def heard(alert: Alert) -> None:
        assert alert.reservation_id is not None
        seen.append((threading.get_ident(), other.reservation(alert.reservation_id).state))

    guard = BudgetGuard(url, book=book, clock=meeting, on_alert=heard)
    for number in range(ROUNDS):
        seen.clear()
        _, is_shared = meeting.hold(
            2, *[partial(guard.admit, VIDEO, project=f"p{number} {place}") for place in range(4)]
        )
        assert len({thread for thread, _ in seen}) == len(seen) == 4
        assert {state for _, state in seen} == {"reserved"}
        if is_shared:
            break
    else:
        pytest.fail("the verbs never shared a transaction")
    guard.verify()


def test_the_verbs_of_a_leader_that_is_struck_go_to_the_next(url: str, book: PriceBook) -> None:
    """An exception that ends the leader's thread rolls back its transaction; the others get their results."""
    meeting = Meeting()
    guard = BudgetGuard(url, [ROOMY], book=book, clock=meeting)
    for _ in range(ROUNDS):
        meeting.strikes = None
        jobs = [guard.admit(VIDEO, project="p") for _ in range(4)]
        meeting.strikes = 2
        results, _ = meeting.hold(1, *[partial(guard.release, job) for job in jobs])
        states = [guard.reservation(job).state for job in jobs]
        assert [result.state for result in results[1:]] == states[1:] == ["released"] * 3
        if isinstance(results[0], SystemExit):
            assert states[0] == "reserved"
            break
        assert states[0] == "released"  # the others came too late to share its transaction
    else:
        pytest.fail("the leader was never struck")
    guard.verify()


@unix
def test_ctrl_c_strikes_no_other_thread_and_loses_nothing(
    url: str, book: PriceBook, request: pytest.FixtureRequest
) -> None:
    """Ctrl-C in the main thread, again and again, hangs nothing, and every result that was returned holds."""
    guard = BudgetGuard(url, [ROOMY], book=book)
    result = ended("interrupted", ledger=url, seconds=request.config.getoption("--torture"), threads=4)
    assert (result["errors"], result["hung"]) == ([], 0)
    assert result["strikes"] >= 10
    states = {job.id: job.state for job in guard.history()}
    assert set(result["kept"]) <= set(states)
    assert {states[name] for name in result["released"]} == {"released"}
    assert {states[name] for name in result["sent"]} == {"dispatching"}
    # a call of the main thread that was struck returned nothing; at most its own verb took effect
    strays = set(states) - set(result["kept"])
    assert len(strays) <= result["strikes"]
    assert {states[name] for name in strays} <= {"released", "reserved"}
    guard.verify()


@unix
def test_everything_acknowledged_survives_a_kill(
    url: str, book: PriceBook, request: pytest.FixtureRequest
) -> None:
    """A process that is killed while its threads share transactions loses nothing that it acknowledged."""
    guard = BudgetGuard(url, [ROOMY], book=book)
    acknowledged: set[str] = set()
    for kill in range(request.config.getoption("--torture")):
        with begun("until_killed", ledger=url, threads=16) as process:
            lines = [piped(process.stdout).readline() for _ in range(40 + kill)]
            process.send_signal(signal.SIGKILL)
            lines += piped(process.stdout).read().splitlines(keepends=True)
        acknowledged |= {line.strip() for line in lines if line.endswith("\n")}
        jobs = {job.id for job in guard.history()}
        assert acknowledged <= jobs
        assert len(jobs) - len(acknowledged) <= 16 * (kill + 1)
        guard.verify()


MOUNTED = 'mount -t tmpfs -o size=900k tmpfs "$1" && exec "$2" "$3" small_disk "$4"'


@unix
@pytest.mark.parametrize("limit", ["files", "disk"])
def test_a_full_disk_fails_every_verb_of_the_transaction(url: str, tmp_path: Path, limit: str) -> None:
    """When the disk is full, every verb fails that was not acknowledged; with space, the same guard goes on."""
    if limit == "files":
        result = ended("small_files", ledger=url, threads=16, size_bytes=400_000)
    else:
        if subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode:
            pytest.skip("this user may not make mounts")
        arguments = json.dumps({"folder": str(tmp_path), "threads": 16, "size_bytes": 300_000})
        script = str(group_workers.__file__)
        done = subprocess.run(
            ["unshare", "-m", "sh", "-c", MOUNTED, "sh", str(tmp_path), sys.executable, script, arguments],
            capture_output=True,
            text=True,
            check=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
        )
        result = json.loads(done.stdout)
        assert any("the disk is full" in error for error in result["errors"])
    assert len(result["errors"]) == 16
    assert {error.rpartition("; ")[2] for error in result["errors"]} == {"nothing was changed"}
    assert result["before"] > 0
    assert sorted(result["kept"]) == sorted(result["admitted"])


@unix
def test_caps_hold_with_many_threads_in_several_processes(url: str, book: PriceBook) -> None:
    """Sixteen threads in each of three processes admit exactly as much as fits."""
    guard = BudgetGuard(url, [Budget(name="tight", cap=77 * COST, currency="USD")], book=book)
    workers = [started("race") for _ in range(3)]
    line = json.dumps({"do": "fill", "ledger": url, "threads": 16, "orders": [{"project": "p"}]}) + "\n"
    for worker in workers:
        assert json.loads(piped(worker.stdout).readline()) == "ready"
    for worker in workers:
        piped(worker.stdin).write(line)
    admitted = [name for worker in workers for name in json.loads(piped(worker.stdout).readline())["done"]]
    for worker in workers:
        worker.communicate()
    assert len(admitted) == 77
    assert sorted(admitted) == sorted(job.id for job in guard.history())
    guard.verify()


@unix
def test_a_fork_while_verbs_wait_leaves_the_child_an_empty_queue(url: str, book: PriceBook) -> None:
    """Children that are forked while sixteen threads wait for each other admit once, and nothing hangs."""
    guard = BudgetGuard(url, [ROOMY], book=book)
    assert finished("fork_in_use", ledger=url, threads=16) == ["reserved"] * 20
    guard.verify()


@unix
def test_a_fork_inside_a_shared_transaction_leaves_a_child_that_refuses(url: str, book: PriceBook) -> None:
    """A child that is forked while its parent runs the verbs of other threads runs none of them."""
    guard = BudgetGuard(url, [ROOMY], book=book)
    result = ended("forked_inside", ledger=url)
    assert len(result["child"]) == 2
    assert all("forked while its parent was using the ledger" in error for error in result["child"])
    assert result["states"] == ["released"] * 4
    assert [entry.kind for entry in guard.journal()].count("release") == 4
    guard.verify()


def test_many_awaited_verbs_share_transactions(url: str, book: PriceBook) -> None:
    """The asynchronous guard runs as many verbs as help, and no cap is passed."""

    async def burst() -> None:
        async with await AsyncBudgetGuard.open(
            url, [Budget(name="all", cap=50 * COST, currency="USD")], book=book
        ) as guard:
            assert guard.max_concurrency >= 8
            answers = await asyncio.gather(
                *(guard.pre_submit(VIDEO, project="p") for _ in range(80)), return_exceptions=True
            )
            assert [answer for answer in answers if not isinstance(answer, BudgetExceededError)] == [VIDEO] * 50
            assert [row.held for row in await guard.status()] == [50 * COST]
            await guard.verify()

    asyncio.run(burst())


def test_a_verb_that_fails_alone_raises_its_own_error(url: str, book: PriceBook) -> None:
    """A guard that nobody else uses behaves as before."""
    guard = BudgetGuard(url, [ROOMY], book=book)
    with pytest.raises(ReservationNotFoundError):
        guard.settle("no such reservation")
    assert guard.admit(VIDEO, project="p").reservation.state == "reserved"
    guard.verify()
