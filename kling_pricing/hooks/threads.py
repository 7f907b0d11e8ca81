"""The steps of a submission for clients that await: each in a thread, so that none holds up the event loop."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import ParamSpec, TypeVar

from kling_pricing.hooks.core import Hook
from kling_pricing.hooks.messages import Answer, Send

_P = ParamSpec("_P")
_Told = TypeVar("_Told")


class Steps:
    """Runs the steps of one hook, as many at a time as its ledger carries out.

    Its threads end when nothing refers to it any more, and not when its client is closed: a request that is
    under way then still has to be written down.
    """

    def __init__(self, hook: Hook) -> None:
        self._hook = hook
        self._threads = ThreadPoolExecutor(hook.at_once, thread_name_prefix="kling_pricing_hook")

    async def before(self, step: Callable[[], Send | Answer]) -> Send | Answer:
        """The step before a submission is sent.

        If it is cancelled it goes on in its thread; what it sets aside is given back then, for nothing is sent.
        """
        loop, caller = asyncio.get_running_loop(), threading.current_thread()

        def take_back(done: Future[Send | Answer]) -> None:
            if done.cancelled() or done.exception() is not None:
                return
            decision = done.result()
            if isinstance(decision, Answer):
                return
            if threading.current_thread() is caller:  # it was done already, and the event loop is not to wait
                self._threads.submit(self._hook.withdraw, decision.ticket)
            else:
                self._hook.withdraw(decision.ticket)

        running = self._threads.submit(step)
        try:
            return await asyncio.wrap_future(running, loop=loop)
        except asyncio.CancelledError:
            running.add_done_callback(take_back)
            raise

    async def after(self, step: Callable[_P, _Told], *args: _P.args, **kwargs: _P.kwargs) -> _Told:
        """A step after it was sent, which is done to its end even if the caller is cancelled."""
        return await asyncio.shield(asyncio.wrap_future(self._threads.submit(partial(step, *args, **kwargs))))
