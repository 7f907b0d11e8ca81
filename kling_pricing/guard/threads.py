"""A pool of threads for blocking functions, so that they do not block an event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar

from kling_pricing.ledger.waiting import asked_now

_Result = TypeVar("_Result")


class WorkerPool:
    """Runs up to `max_concurrency` functions simultaneously; other functions wait for a thread.

    The threads end when the pool is closed or no longer referenced.
    """

    def __init__(self, max_concurrency: int) -> None:
        self._executor = ThreadPoolExecutor(max_concurrency, thread_name_prefix="kling_pricing")

    async def run(
        self, work: Callable[[], _Result], undo: Callable[[_Result], object] | None = None
    ) -> _Result:
        """Runs a function whose result is not needed after its `await` is cancelled.

        On cancellation, a function that has not started never starts. A function that has started runs to
        completion, and `undo` is then called with its result.
        """
        future, outcome = self._started(work)
        try:
            return await outcome
        except asyncio.CancelledError:
            _retrieve(outcome)
            if not future.cancel() and undo is not None:
                with suppress(RuntimeError):  # the pool is closed, so the reservation expires or is in doubt
                    self._executor.submit(_undo, future, undo)
            raise

    async def finish(self, work: Callable[[], _Result]) -> _Result:
        """Runs a function to completion even if its `await` is cancelled."""
        _, outcome = self._started(work)
        try:
            return await outcome
        except asyncio.CancelledError:
            _retrieve(outcome)
            raise

    def _started(self, work: Callable[[], _Result]) -> tuple[Future[_Result], asyncio.Future[_Result]]:
        """Starts a function; its outcome arrives in the event loop by one call, unlike with `wrap_future`."""
        loop = asyncio.get_running_loop()
        outcome: asyncio.Future[_Result] = loop.create_future()

        def deliver(done: Future[_Result]) -> None:
            with suppress(RuntimeError):  # the loop is closed, so nobody waits
                loop.call_soon_threadsafe(_settle, outcome, done)

        future = self._executor.submit(asked_now(work))
        future.add_done_callback(deliver)
        return future, outcome

    async def close(self) -> None:
        """Waits for all running functions, including cancelled ones."""
        await asyncio.to_thread(self._executor.shutdown)


def shielded(work: Awaitable[_Result]) -> asyncio.Future[_Result]:
    """Returns a future of some work that continues if the future is cancelled.

    asyncio does not report an exception that the work then raises, because no caller is left to retrieve it.
    """
    inner = asyncio.ensure_future(work)
    inner.add_done_callback(_retrieve)
    return asyncio.shield(inner)


def _settle(outcome: asyncio.Future[_Result], done: Future[_Result]) -> None:
    """Passes the outcome of a function on, unless nobody waits for it any more."""
    if outcome.done():
        return
    if done.cancelled():
        outcome.cancel()
    elif (error := done.exception()) is not None:
        outcome.set_exception(error)
    else:
        outcome.set_result(done.result())


def _retrieve(future: asyncio.Future[_Result]) -> None:
    if future.done() and not future.cancelled():
        future.exception()


def _undo(future: Future[_Result], undo: Callable[[_Result], object]) -> None:
    """Undoes the effect of a function whose result no caller received."""
    if future.exception() is None:
        undo(future.result())
