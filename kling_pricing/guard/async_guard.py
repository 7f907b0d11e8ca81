"""The guard for code that awaits: the same verbs, each in a thread, so that no verb holds up the event loop.

A verb waits for an answer of its ledger, and a ledger carries out so many verbs at a time: a file one, a server
as many as there are connections. So there are as many threads; more would only wait elsewhere.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from functools import partial, wraps
from typing import Any, Concatenate, ParamSpec, Self, TypeVar, Unpack

from kling_pricing.guard import Admission, BudgetGuard, QuoteOptions
from kling_pricing.guard.threads import WorkerPool
from kling_pricing.strict_json import RequestLike

_P = ParamSpec("_P")
_Answer = TypeVar("_Answer")


def _awaited(
    verb: Callable[Concatenate[BudgetGuard, _P], _Answer], undo: Callable[..., object] | None = None
) -> Callable[Concatenate[AsyncBudgetGuard, _P], Coroutine[Any, Any, _Answer]]:
    """The same verb, to be awaited.

    Args:
        verb: of the guard.
        undo: what to do with an answer that nobody awaits any more: called with the guard, the answer, and what
            the verb was called with.
    """

    @wraps(verb)
    async def run(self: AsyncBudgetGuard, /, *args: _P.args, **kwargs: _P.kwargs) -> _Answer:
        work = partial(verb, self._guard, *args, **kwargs)
        if undo is None:
            return await self._threads.run(work)
        return await self._threads.run(work, lambda answer: undo(self._guard, answer, *args, **kwargs))

    return run


def _give_back(guard: BudgetGuard, admitted: Admission, *_args: Any, **_kwargs: Any) -> None:
    """What was admitted for nobody is released, unless somebody else had it before."""
    guard.close_admission(admitted, asyncio.CancelledError())


def _unsent(guard: BudgetGuard, _payload: Any, admission: Admission) -> None:
    """A payload that was given out to nobody is certainly not sent."""
    guard.release_refused(admission, "CancelledError")


class AsyncBudgetGuard:
    """A `BudgetGuard` whose verbs are awaited; it is made with the same arguments, and has the same guarantees.

    Make it with `await AsyncBudgetGuard.open(...)`, or `async with await AsyncBudgetGuard.open(...) as guard`.

    A verb whose `await` is cancelled before its turn came is not begun; one that has begun goes on to its end.
    What `admit` then set aside for nobody is given back at once, and so is what `dispatch` gave out to nobody,
    which is certainly unsent. Any other verb has had its effect, and can be repeated.
    """

    def __init__(self, guard: BudgetGuard) -> None:
        self._guard = guard
        self._threads = WorkerPool(guard.max_concurrency)

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

    @property
    def max_concurrency(self) -> int:
        """How many verbs run at the same time; more wait for a thread."""
        return self._guard.max_concurrency

    async def close(self) -> None:
        """Waits for the verbs under way, also those that nobody awaits any more, and closes the ledger."""
        await self._threads.close()
        await asyncio.to_thread(self._guard.close)

    admit = _awaited(BudgetGuard.admit, _give_back)
    dispatch = _awaited(BudgetGuard.dispatch, _unsent)
    close_admission = _awaited(BudgetGuard.close_admission)
    bind = _awaited(BudgetGuard.bind)
    settle = _awaited(BudgetGuard.settle)
    release = _awaited(BudgetGuard.release)
    release_refused = _awaited(BudgetGuard.release_refused)
    mark_in_doubt = _awaited(BudgetGuard.mark_in_doubt)
    observe = _awaited(BudgetGuard.observe)
    observe_task = _awaited(BudgetGuard.observe_task)
    resolve = _awaited(BudgetGuard.resolve)
    record = _awaited(BudgetGuard.record)
    open_budget = _awaited(BudgetGuard.open_budget)
    apply = _awaited(BudgetGuard.apply)
    reservation = _awaited(BudgetGuard.reservation)
    in_doubt = _awaited(BudgetGuard.in_doubt)
    unclaimed = _awaited(BudgetGuard.unclaimed)
    history = _awaited(BudgetGuard.history)
    journal = _awaited(BudgetGuard.journal)
    status = _awaited(BudgetGuard.status)
    verify = _awaited(BudgetGuard.verify)

    async def pre_submit(  # noqa: D102 (it has the guard's own words, below)
        self,
        payload: RequestLike,
        *,
        project: str,
        key: str | None = None,
        labels: Mapping[str, str] | None = None,
        **said: Unpack[QuoteOptions],
    ) -> dict[str, Any]:
        admitted = await self.admit(payload, project=project, key=key, labels=labels, **said)
        try:
            return await self.dispatch(admitted)
        except asyncio.CancelledError as error:  # between the two
            await asyncio.shield(self.close_admission(admitted, error))
            raise

    pre_submit.__doc__ = BudgetGuard.pre_submit.__doc__

    @asynccontextmanager
    async def admission(
        self,
        payload: RequestLike,
        *,
        project: str,
        key: str | None = None,
        labels: Mapping[str, str] | None = None,
        **said: Unpack[QuoteOptions],
    ) -> AsyncIterator[Admission]:
        """See `BudgetGuard.admission`. A cancelled block ends like one that an exception leaves."""
        admitted = await self.admit(payload, project=project, key=key, labels=labels, **said)
        try:
            yield admitted
        except BaseException as error:
            await asyncio.shield(self.close_admission(admitted, error))
            raise
        await self.close_admission(admitted)
