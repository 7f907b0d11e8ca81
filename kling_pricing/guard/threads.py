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
        loop = asyncio.get_running_loop()
        future = self._executor.submit(asked_now(work))
        try:
            return await shielded(asyncio.wrap_future(future, loop=loop))
        except asyncio.CancelledError:
            if not future.cancel() and undo is not None:
                with suppress(RuntimeError):  # the pool is closed, so the reservation expires or is in doubt
                    self._executor.submit(_undo, future, undo)
            raise

    async def finish(self, work: Callable[[], _Result]) -> _Result:
        """Runs a function to completion even if its `await` is cancelled."""
        return await shielded(asyncio.wrap_future(self._executor.submit(asked_now(work))))

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


def _retrieve(future: asyncio.Future[_Result]) -> None:
    if not future.cancelled():
        future.exception()


def _undo(future: Future[_Result], undo: Callable[[_Result], object]) -> None:
    """Undoes the effect of a function whose result no caller received."""
    if future.exception() is None:
        undo(future.result())
