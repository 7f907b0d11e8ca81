"""Work that blocks, for code that awaits: each piece in a thread, so that none holds up the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import TypeVar

_Made = TypeVar("_Made")


class WorkerPool:
    """So many pieces of work at a time; more wait for their turn.

    The threads end when they are closed, or nothing refers to them any more.
    """

    def __init__(self, max_concurrency: int) -> None:
        self._threads = ThreadPoolExecutor(max_concurrency, thread_name_prefix="kling_pricing")

    async def run(self, work: Callable[[], _Made], undo: Callable[[_Made], object] | None = None) -> _Made:
        """Runs work that nobody needs any more when its `await` is cancelled.

        What has not begun by then is not begun; what has goes on to its end, and `undo` gets what it made.
        """
        loop = asyncio.get_running_loop()
        begun = self._threads.submit(work)
        try:
            return await asyncio.shield(asyncio.wrap_future(begun, loop=loop))
        except asyncio.CancelledError:
            if not begun.cancel() and undo is not None:
                with suppress(RuntimeError):  # closed meanwhile: it expires, or is in doubt
                    self._threads.submit(_undone, begun, undo)
            raise

    async def finish(self, work: Callable[[], _Made]) -> _Made:
        """Runs work that is done to its end even if its `await` is cancelled."""
        return await asyncio.shield(asyncio.wrap_future(self._threads.submit(work)))

    async def close(self) -> None:
        """Waits for the work under way, also for what nobody awaits any more."""
        await asyncio.to_thread(self._threads.shutdown)


def _undone(begun: Future[_Made], undo: Callable[[_Made], object]) -> None:
    """Undoes what somebody was not there any more to take."""
    if begun.exception() is None:
        undo(begun.result())
