"""The guard for asynchronous code."""

import asyncio
import gc
import inspect
import sqlite3
import threading
import time
from collections.abc import Callable, Coroutine, Iterator
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from kling_pricing import (
    AsyncBudgetGuard,
    Budget,
    BudgetExceededError,
    BudgetGuard,
    LedgerUnavailableError,
    PriceBook,
    ReservationStateError,
)
from tests.conftest import Clock, video
from tests.guards import VerifiedGuard

CLIP = video(duration=5, resolution="1080p", audio=True)
COST = Decimal("0.714")
BUDGET = Budget(name="trailer", match={"project": "trailer"}, cap=3 * COST, currency="USD")
ROOMY = Budget(name="trailer", match={"project": "trailer"}, cap=100 * COST, currency="USD")


@pytest.fixture(autouse=True)
def verified(request: pytest.FixtureRequest) -> Iterator[None]:
    """Verifies the ledger after each test; an asynchronous guard runs the functions of the plain guard."""
    ledger = request.getfixturevalue("ledger") if "ledger" in request.fixturenames else None
    yield
    if ledger is not None:
        BudgetGuard(ledger).verify()


def done(work: Coroutine[Any, Any, None]) -> None:
    """Runs a test's coroutine."""
    asyncio.run(work)


def test_the_threads_of_a_guard_have_a_name(ledger: str, book: PriceBook, clock: Clock) -> None:
    """A debugger or a log shows which threads belong to the guard."""
    names: set[str] = set()

    def watched() -> datetime:
        names.add(threading.current_thread().name)
        return clock.now

    async def work() -> None:
        async with await AsyncBudgetGuard.open(ledger, [BUDGET], book=book, clock=watched) as guard:
            names.clear()
            await guard.admit(CLIP, project="trailer")

    done(work())
    assert names
    assert {name.rpartition("_")[0] for name in names} == {"kling_pricing"}


def test_a_job_is_guarded_from_admission_to_settlement(ledger: str, book: PriceBook, clock: Clock) -> None:
    """Each awaited verb returns the result of the guard's own verb."""

    async def job() -> None:
        async with await AsyncBudgetGuard.open(ledger, [BUDGET], book=book, clock=clock) as guard:
            admission = await guard.admit(CLIP, project="trailer", key="k")
            assert await guard.dispatch(admission) == CLIP
            await guard.bind(admission, "task-1")
            body = {"task_id": "task-1", "status": "completed", "cost": 350000}
            settled = await guard.observe(body, provider="qingbo")
            assert settled is not None
            assert (settled.state, settled.billed) == ("settled", Decimal("0.7"))
            with pytest.raises(ReservationStateError):
                await guard.admit(CLIP, project="trailer", key="k")
            assert [row.spent for row in await guard.status()] == [Decimal("0.7")]
            await guard.verify()

    done(job())


def test_a_burst_of_tasks_does_not_pass_the_cap(ledger: str, book: PriceBook, clock: Clock) -> None:
    """Of twenty concurrent requests, as many are admitted as fit."""

    async def burst() -> None:
        async with await AsyncBudgetGuard.open(ledger, [BUDGET], book=book, clock=clock) as guard:
            answers = await asyncio.gather(
                *(guard.admit(CLIP, project="trailer") for _ in range(20)), return_exceptions=True
            )
            refused = [answer for answer in answers if isinstance(answer, BudgetExceededError)]
            assert len(refused) == 17
            assert [row.held for row in await guard.status()] == [3 * COST]

    done(burst())


def test_a_cancelled_block_ends_like_one_that_failed(ledger: str, book: PriceBook, clock: Clock) -> None:
    """A cancelled block leaves a dispatched reservation in doubt and releases an undispatched one."""

    async def cancelled(guard: AsyncBudgetGuard, *, send: bool) -> None:
        entered = asyncio.Event()

        async def work() -> None:
            async with guard.admission(CLIP, project="trailer") as admission:
                if send:
                    await guard.dispatch(admission)
                entered.set()
                await asyncio.Event().wait()

        task = asyncio.create_task(work())
        await entered.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    async def both() -> None:
        async with await AsyncBudgetGuard.open(ledger, [BUDGET], book=book, clock=clock) as guard:
            await cancelled(guard, send=True)
            await cancelled(guard, send=False)
            found = await guard.history()
            assert [(each.state, each.in_doubt, each.reason) for each in found] == [
                ("dispatching", True, "CancelledError"),
                ("released", False, "CancelledError"),
            ]
            async with guard.admission(CLIP, project="trailer"):
                pass
            assert (await guard.history())[-1].reason == "not dispatched"

    done(both())


async def cancelled_when(done: Callable[[], bool], task: asyncio.Task[Any]) -> None:
    """Cancels a task as soon as its verb has taken effect, before it takes the result.

    The event loop is blocked meanwhile, so that the task cannot take the result.
    """
    await asyncio.sleep(0)  # it begins
    while not done():
        pass
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_the_reservation_of_a_cancelled_admit_is_released(ledger: str, book: PriceBook, clock: Clock) -> None:
    """The reservation of a cancelled `admit` is released."""
    with VerifiedGuard(ledger, [BUDGET], book=book, clock=clock) as other:

        async def work() -> None:
            async with await AsyncBudgetGuard.open(ledger, book=book, clock=clock) as guard:
                admitting = asyncio.create_task(guard.admit(CLIP, project="trailer", key="k"))
                await cancelled_when(lambda: bool(other.history()), admitting)

        done(work())
        assert [(each.state, each.reason) for each in other.history()] == [("released", "CancelledError")]
        assert [row.held for row in other.status()] == [0]


def test_a_cancelled_retry_does_not_release_the_first_reservation(
    ledger: str, book: PriceBook, clock: Clock
) -> None:
    """A cancelled retry with the same key leaves the reservation to the caller that made it."""
    with VerifiedGuard(ledger, [BUDGET], book=book, clock=clock) as other:
        first = other.admit(CLIP, project="trailer", key="k")
        begun = threading.Event()

        def watched() -> datetime:
            begun.set()
            return clock.now

        async def work() -> None:
            async with await AsyncBudgetGuard.open(ledger, book=book, clock=watched) as guard:
                begun.clear()
                retry = asyncio.create_task(guard.admit(CLIP, project="trailer", key="k"))
                await cancelled_when(begun.is_set, retry)

        done(work())
        assert other.dispatch(first) == CLIP


def test_the_reservation_of_a_cancelled_dispatch_is_released(
    ledger: str, book: PriceBook, clock: Clock
) -> None:
    """The reservation of a cancelled `dispatch` is released, because its payload is certainly unsent."""
    with VerifiedGuard(ledger, [BUDGET], book=book, clock=clock) as other:

        def is_dispatched() -> bool:
            return other.history()[-1].dispatched_at is not None

        async def work() -> None:
            async with await AsyncBudgetGuard.open(ledger, book=book, clock=clock) as guard:
                admission = await guard.admit(CLIP, project="trailer")
                await cancelled_when(is_dispatched, asyncio.create_task(guard.dispatch(admission)))
                assert await guard.pre_submit(CLIP, project="trailer") == CLIP

        done(work())
        assert [(each.state, each.in_doubt, each.reason) for each in other.history()] == [
            ("released", False, "CancelledError"),
            ("dispatching", False, None),
        ]
        other.verify()


@pytest.mark.parametrize("verb", ["admit_and_dispatch", "pre_submit"])
def test_the_reservation_of_a_cancelled_submission_is_released(
    ledger: str, book: PriceBook, clock: Clock, verb: str
) -> None:
    """A verb that admits and dispatches at once gave its payload to nobody if it was cancelled."""
    with VerifiedGuard(ledger, [BUDGET], book=book, clock=clock) as other:

        async def work() -> None:
            async with await AsyncBudgetGuard.open(ledger, book=book, clock=clock) as guard:
                submitting = asyncio.create_task(getattr(guard, verb)(CLIP, project="trailer", key="k"))
                await cancelled_when(lambda: bool(other.history()), submitting)

        done(work())
        assert [(each.state, each.reason) for each in other.history()] == [("released", "CancelledError")]
        assert [row.held for row in other.status()] == [0]


@pytest.mark.parametrize("verb", ["admit", "pre_submit", "admission"])
def test_a_cancelled_verb_that_fails_later_logs_nothing(
    verb: str, ledger: str, book: PriceBook, clock: Clock
) -> None:
    """No caller is left for its error, so asyncio must not report that none retrieved it."""
    begun, gate, reports = threading.Event(), threading.Event(), []
    gate.set()

    def gated() -> datetime:
        begun.set()
        gate.wait()
        return clock.now

    async def admission(guard: AsyncBudgetGuard) -> None:
        async with guard.admission(CLIP, project="trailer"):
            pass

    async def work() -> None:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: reports.append(context["message"]))
        small = Budget(name="trailer", cap="0.01", currency="USD")
        async with await AsyncBudgetGuard.open(ledger, [small], book=book, clock=gated) as guard:
            calls: dict[str, Callable[[], Coroutine[Any, Any, Any]]] = {
                "admit": lambda: guard.admit(CLIP, project="trailer"),
                "pre_submit": lambda: guard.pre_submit(CLIP, project="trailer"),
                "admission": lambda: admission(guard),
            }
            gate.clear()
            begun.clear()
            task = asyncio.create_task(calls[verb]())
            assert await asyncio.to_thread(begun.wait, 60)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            gate.set()
        del task
        gc.collect()

    done(work())
    gc.collect()
    assert reports == []


def test_a_verb_cancelled_before_its_turn_does_not_begin(ledger: str, book: PriceBook, clock: Clock) -> None:
    """A verb that is cancelled while it waits for a thread leaves the ledger unchanged."""
    gate = threading.Event()
    gate.set()

    def gated() -> datetime:
        gate.wait()
        return clock.now

    async def work() -> None:
        async with await AsyncBudgetGuard.open(ledger, [ROOMY], book=book, clock=gated) as guard:
            gate.clear()
            running = [
                asyncio.create_task(guard.admit(CLIP, project="trailer")) for _ in range(guard.max_concurrency)
            ]
            late = asyncio.create_task(guard.admit(CLIP, project="trailer"))
            await asyncio.sleep(0)
            late.cancel()
            with pytest.raises(asyncio.CancelledError):
                await late
            gate.set()
            admitted = await asyncio.gather(*running)
            assert len(await guard.history()) == len(admitted) == guard.max_concurrency

    done(work())


def test_waits_for_a_thread_count_towards_the_limit(
    tmp_path: Path, book: PriceBook, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Verbs that wait for a thread while another program has locked the ledger give up with the first ones."""
    monkeypatch.setattr("kling_pricing.ledger.sqlite.opening.BUSY_TIMEOUT_S", 1)
    path = tmp_path / "spend.db"

    async def work() -> None:
        async with await AsyncBudgetGuard.open(f"sqlite:///{path}", [ROOMY], book=book) as guard:
            other = sqlite3.connect(path, timeout=0, isolation_level=None)
            other.execute("BEGIN IMMEDIATE")
            began = time.monotonic()
            admitted = [guard.admit(CLIP, project="trailer") for _ in range(5 * guard.max_concurrency)]
            outcomes = await asyncio.gather(*admitted, return_exceptions=True)
            waited_s = time.monotonic() - began
            other.close()
            assert {type(outcome) for outcome in outcomes} == {LedgerUnavailableError}
            assert waited_s < 4, waited_s  # five times the limit, if the waits added up
            await guard.verify()

    done(work())


def test_it_has_every_verb_of_the_guard() -> None:
    """The asynchronous guard has every verb of the guard, with the same docstring."""
    verbs = {
        name for name, _ in inspect.getmembers(BudgetGuard, inspect.isfunction) if not name.startswith("_")
    }
    for name in verbs - {"close", "admission", "acting_as"}:
        assert inspect.iscoroutinefunction(getattr(AsyncBudgetGuard, name)), name
        assert getattr(AsyncBudgetGuard, name).__doc__ == getattr(BudgetGuard, name).__doc__
