"""A pool of threads for blocking work, so that it does not hold up an event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar

_Result = TypeVar("_Result")


class WorkerPool:
    """Runs up to `max_concurrency` pieces of work at the same time; more wait for their turn.

    The threads end when the pool is closed or no longer referenced.
    """

    def __init__(self, max_concurrency: int) -> None:
        self._executor = ThreadPoolExecutor(max_concurrency, thread_name_prefix="kling_pricing")

    async def run(
        self, work: Callable[[], _Result], undo: Callable[[_Result], object] | None = None
    ) -> _Result:
        """Runs work whose result is not needed once its `await` is cancelled.

        Work that has not begun by then never begins. Work that has begun runs to its end, and `undo` is called
        with its result.
        """
        loop = asyncio.get_running_loop()
        future = self._executor.submit(work)
        try:
            return await asyncio.shield(asyncio.wrap_future(future, loop=loop))
        except asyncio.CancelledError:
            if not future.cancel() and undo is not None:
                with suppress(
                    RuntimeError
                ):  # the pool was closed meanwhile: the reservation expires or is in doubt
                    self._executor.submit(_undo, future, undo)
            raise

    async def finish(self, work: Callable[[], _Result]) -> _Result:
        """Runs work to its end even if its `await` is cancelled."""
        return await asyncio.shield(asyncio.wrap_future(self._executor.submit(work)))

    async def close(self) -> None:
        """Waits for all work under way, cancelled work included."""
        await asyncio.to_thread(self._executor.shutdown)


def _undo(future: Future[_Result], undo: Callable[[_Result], object]) -> None:
    """Undoes work whose result no caller took."""
    if future.exception() is None:
        undo(future.result())
