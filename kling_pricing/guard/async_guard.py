"""The guard for asynchronous code: the same verbs, each in a thread, so that no verb blocks the event loop.

A verb waits for its ledger. A ledger in a file carries out one verb at a time, a server one per connection.
There are as many threads as that; more threads would only wait for the ledger.
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
_Result = TypeVar("_Result")


def _awaited(
    verb: Callable[Concatenate[BudgetGuard, _P], _Result], undo: Callable[..., object] | None = None
) -> Callable[Concatenate[AsyncBudgetGuard, _P], Coroutine[Any, Any, _Result]]:
    """Returns a verb as a coroutine function.

    Args:
        verb: a method of the guard.
        undo: called with the guard, the result and the verb's arguments if the `await` was cancelled before it
            could take the result.
    """

    @wraps(verb)
    async def run(self: AsyncBudgetGuard, /, *args: _P.args, **kwargs: _P.kwargs) -> _Result:
        work = partial(verb, self._guard, *args, **kwargs)
        if undo is None:
            return await self._workers.run(work)
        return await self._workers.run(work, lambda result: undo(self._guard, result, *args, **kwargs))

    return run


def _release_admission(guard: BudgetGuard, admitted: Admission, *_args: Any, **_kwargs: Any) -> None:
    """Releases an admission that no caller received, unless the key had the reservation before."""
    guard.close_admission(admitted, asyncio.CancelledError())


def _release_unsent(guard: BudgetGuard, _payload: Any, admission: Admission) -> None:
    """Releases a request whose payload no caller received, so that it is certainly unsent."""
    guard.release_refused(admission, "CancelledError")


class AsyncBudgetGuard:
    """A `BudgetGuard` whose verbs are awaited; it takes the same arguments and gives the same guarantees.

    Make one with `await AsyncBudgetGuard.open(...)`, or `async with await AsyncBudgetGuard.open(...) as guard`.

    If an `await` is cancelled before its verb begins, the verb never begins; a verb that has begun runs to its
    end. The reservation of a cancelled `admit` is given back at once, and so is that of a cancelled `dispatch`,
    because the request is certainly unsent. Any other verb has taken effect and can be repeated.
    """

    def __init__(self, guard: BudgetGuard) -> None:
        self._guard = guard
        self._workers = WorkerPool(guard.max_concurrency)

    @classmethod
    async def open(cls, *args: Any, **kwargs: Any) -> Self:
        """Opens a guard on a ledger; takes the arguments of `BudgetGuard`.

        Raises:
            BudgetError: the budgets cannot be used, or differ from those installed.
            LedgerError: the ledger cannot be used.
        """
        return cls(await asyncio.to_thread(partial(BudgetGuard, *args, **kwargs)))

    @property
    def guard(self) -> BudgetGuard:
        """The synchronous guard whose verbs it runs."""
        return self._guard

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.close()

    @property
    def max_concurrency(self) -> int:
        """The number of verbs that run at the same time; more wait for a thread."""
        return self._guard.max_concurrency

    async def close(self) -> None:
        """Waits for all verbs under way, cancelled ones included, and closes the ledger."""
        await self._workers.close()
        await asyncio.to_thread(self._guard.close)

    admit = _awaited(BudgetGuard.admit, _release_admission)
    dispatch = _awaited(BudgetGuard.dispatch, _release_unsent)
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

    async def pre_submit(  # noqa: D102 (its docstring is the guard's, below)
        self,
        payload: RequestLike,
        *,
        project: str,
        key: str | None = None,
        labels: Mapping[str, str] | None = None,
        **options: Unpack[QuoteOptions],
    ) -> dict[str, Any]:
        admitted = await self.admit(payload, project=project, key=key, labels=labels, **options)
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
        **options: Unpack[QuoteOptions],
    ) -> AsyncIterator[Admission]:
        """See `BudgetGuard.admission`. A cancelled block ends like a block that an exception leaves."""
        admitted = await self.admit(payload, project=project, key=key, labels=labels, **options)
        try:
            yield admitted
        except BaseException as error:
            await asyncio.shield(self.close_admission(admitted, error))
            raise
        await self.close_admission(admitted)
