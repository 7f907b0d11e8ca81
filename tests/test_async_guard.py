"""The guard for code that awaits."""

import asyncio
import inspect
from collections.abc import Coroutine
from decimal import Decimal
from typing import Any

import pytest

from kling_pricing import (
    AsyncBudgetGuard,
    Budget,
    BudgetExceededError,
    BudgetGuard,
    PriceBook,
    ReservationStateError,
)
from tests.conftest import Clock, video

CLIP = video(duration=5, resolution="1080p", audio=True)
COST = Decimal("0.714")
BUDGET = Budget(name="trailer", match={"project": "trailer"}, cap=3 * COST, currency="USD")


def done(work: Coroutine[Any, Any, None]) -> None:
    """Runs a test's coroutine."""
    asyncio.run(work)


def test_a_job_is_guarded_from_admission_to_settlement(ledger: str, book: PriceBook, clock: Clock) -> None:
    """Each verb answers as the guard's own."""

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
    """Of twenty at once, as many get in as fit."""

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
    """What it sent is in doubt, what it did not send is released."""

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


def test_it_has_every_verb_of_the_guard() -> None:
    """None is forgotten, and each is documented by the guard's own words."""
    verbs = {
        name for name, _ in inspect.getmembers(BudgetGuard, inspect.isfunction) if not name.startswith("_")
    }
    for name in verbs - {"close", "admission"}:
        assert inspect.iscoroutinefunction(getattr(AsyncBudgetGuard, name)), name
        assert getattr(AsyncBudgetGuard, name).__doc__ == getattr(BudgetGuard, name).__doc__
