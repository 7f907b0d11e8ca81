"""The guard for code that awaits: the same verbs, each in a thread, so that no verb holds up the event loop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial, wraps
from typing import Any, Concatenate, ParamSpec, Self, TypeVar, Unpack

from kling_pricing.guard import Admission, BudgetGuard, Said
from kling_pricing.intake import RequestLike

_P = ParamSpec("_P")
_Answer = TypeVar("_Answer")

THREADS = 8
"""How many verbs of one guard run at once; a ledger lets no more in at a time than it has room for."""


def _awaited(
    verb: Callable[Concatenate[BudgetGuard, _P], _Answer],
) -> Callable[Concatenate[AsyncBudgetGuard, _P], Coroutine[Any, Any, _Answer]]:
    """The same verb, to be awaited."""

    @wraps(verb)
    async def run(self: AsyncBudgetGuard, /, *args: _P.args, **kwargs: _P.kwargs) -> _Answer:
        return await self._in_a_thread(partial(verb, self._guard, *args, **kwargs))

    return run


class AsyncBudgetGuard:
    """A `BudgetGuard` whose verbs are awaited; it is made with the same arguments, and has the same guarantees.

    Make it with `await AsyncBudgetGuard.open(...)`, or `async with await AsyncBudgetGuard.open(...) as guard`.
    A verb whose `await` is cancelled goes on in its thread, and may have had its effect: retry it with the same
    key, as after a crash.
    """

    def __init__(self, guard: BudgetGuard) -> None:
        self._guard = guard
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="kling_pricing")

    @classmethod
    async def open(cls, *args: Any, **kwargs: Any) -> Self:
        """Opens a guard on a ledger; takes what `BudgetGuard` takes.

        Raises:
            BudgetError: the budgets cannot be used, or differ from those installed.
            LedgerError: the ledger cannot be used.
        """
        return cls(await asyncio.to_thread(partial(BudgetGuard, *args, **kwargs)))

    @property
    def guard(self) -> BudgetGuard:
        """The guard whose verbs it runs."""
        return self._guard

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Waits for the verbs under way, and closes the ledger."""
        await self._in_a_thread(self._guard.close)
        self._threads.shutdown(wait=False)

    admit = _awaited(BudgetGuard.admit)
    dispatch = _awaited(BudgetGuard.dispatch)
    pre_submit = _awaited(BudgetGuard.pre_submit)
    leave = _awaited(BudgetGuard.leave)
    bind = _awaited(BudgetGuard.bind)
    settle = _awaited(BudgetGuard.settle)
    release = _awaited(BudgetGuard.release)
    refused = _awaited(BudgetGuard.refused)
    mark_in_doubt = _awaited(BudgetGuard.mark_in_doubt)
    observe = _awaited(BudgetGuard.observe)
    resolve = _awaited(BudgetGuard.resolve)
    record = _awaited(BudgetGuard.record)
    open_budget = _awaited(BudgetGuard.open_budget)
    apply = _awaited(BudgetGuard.apply)
    reservation = _awaited(BudgetGuard.reservation)
    in_doubt = _awaited(BudgetGuard.in_doubt)
    unmatched = _awaited(BudgetGuard.unmatched)
    history = _awaited(BudgetGuard.history)
    journal = _awaited(BudgetGuard.journal)
    status = _awaited(BudgetGuard.status)
    verify = _awaited(BudgetGuard.verify)

    @asynccontextmanager
    async def admission(
        self,
        payload: RequestLike,
        *,
        project: str,
        key: str | None = None,
        labels: Mapping[str, str] | None = None,
        **said: Unpack[Said],
    ) -> AsyncIterator[Admission]:
        """See `BudgetGuard.admission`. A cancelled block ends like one that an exception leaves."""
        admitted = await self.admit(payload, project=project, key=key, labels=labels, **said)
        try:
            yield admitted
        except BaseException as error:
            await asyncio.shield(self.leave(admitted, error))
            raise
        await self.leave(admitted)

    async def _in_a_thread(self, work: Callable[[], _Answer]) -> _Answer:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)
