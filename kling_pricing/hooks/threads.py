"""The steps of a submission for clients that await: each in a thread, so that none holds up the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

from kling_pricing.async_guard import THREADS
from kling_pricing.hooks.core import Hook
from kling_pricing.hooks.messages import Answer, Send

_P = ParamSpec("_P")
_Told = TypeVar("_Told")


class Steps:
    """Runs the steps of one hook; its threads end with it."""

    def __init__(self, hook: Hook) -> None:
        self._hook = hook
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="kling_pricing_hook")

    async def before(self, step: Callable[[], Send | Answer]) -> Send | Answer:
        """The step before a submission is sent.

        If it is cancelled it goes on in its thread; what it sets aside is given back then, for nothing is sent.
        """
        running = self._threads.submit(step)
        try:
            return await asyncio.wrap_future(running)
        except asyncio.CancelledError:
            running.add_done_callback(self._withdraw)
            raise

    async def after(self, step: Callable[_P, _Told], *args: _P.args, **kwargs: _P.kwargs) -> _Told:
        """A step after it was sent, which is done to its end even if the caller is cancelled."""
        return await asyncio.shield(asyncio.wrap_future(self._threads.submit(partial(step, *args, **kwargs))))

    def close(self) -> None:
        """Ends the threads when the steps under way are done."""
        self._threads.shutdown(wait=False)

    def _withdraw(self, done: Future[Send | Answer]) -> None:
        if not done.cancelled() and done.exception() is None and isinstance(decision := done.result(), Send):
            self._threads.submit(self._hook.withdraw, decision.ticket)
