"""The guard for asynchronous code: runs each verb in a thread, so that no verb blocks the event loop.

Every verb waits for the ledger. A ledger in a file executes one verb at a time, and a ledger on a server
executes one verb per connection. The pool has the same number of threads, because more threads would only wait.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from contextlib import asynccontextmanager
from copy import copy
from functools import partial, wraps
from typing import Any, Concatenate, ParamSpec, Self, TypeVar, Unpack

from kling_pricing.guard import Admission, BudgetGuard, QuoteOptions
from kling_pricing.guard.threads import WorkerPool, shielded
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
            received the result.
    """

    @wraps(verb)
    async def run(self: AsyncBudgetGuard, /, *args: _P.args, **kwargs: _P.kwargs) -> _Result:
        work = partial(verb, self._guard, *args, **kwargs)
        if undo is None:
            return await self._workers.run(work)
        return await self._workers.run(work, lambda result: undo(self._guard, result, *args, **kwargs))

    return run


def _release_admission(guard: BudgetGuard, admitted: Admission, *_args: Any, **_kwargs: Any) -> None:
    """Releases an admission that no caller received, unless the reservation already existed for its key."""
    guard.close_admission(admitted, asyncio.CancelledError())


def _release_unsent(guard: BudgetGuard, _payload: Any, admission: Admission) -> None:
    """Releases a request that is certainly unsent, because no caller received its payload."""
    guard.release_refused(admission, "CancelledError")


def _release_dispatched(
    guard: BudgetGuard, dispatched: tuple[Admission, Any], *_args: Any, **_kwargs: Any
) -> None:
    guard.release_refused(dispatched[0], "CancelledError")


class AsyncBudgetGuard:
    """A `BudgetGuard` with awaitable verbs, the same arguments and the same guarantees.

    Create one with `await AsyncBudgetGuard.open(...)`, which also works in an `async with` statement.

    If an `await` is cancelled before its verb starts, the verb never starts. A verb that has started runs to
    completion. If `admit` or `dispatch` is cancelled, the reservation is released immediately, because the
    request is certainly unsent. Any other verb takes effect and can be repeated.
    """

    def __init__(self, guard: BudgetGuard) -> None:
        self._guard = guard
        self._workers = WorkerPool(guard.max_concurrency)

    @classmethod
    async def open(cls, *args: Any, **kwargs: Any) -> Self:
        """Opens a guard on a ledger, with the arguments of `BudgetGuard`.

        Raises:
            BudgetError: the budgets cannot be used, or differ from the installed ones.
            LedgerError: the ledger cannot be used.
        """
        return cls(await asyncio.to_thread(partial(BudgetGuard, *args, **kwargs)))

    @property
    def guard(self) -> BudgetGuard:
        """The underlying synchronous guard."""
        return self._guard

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.close()

    @property
    def max_concurrency(self) -> int:
        """The maximum number of verbs that run simultaneously; other verbs wait for a thread."""
        return self._guard.max_concurrency

    def acting_as(self, actor: str) -> AsyncBudgetGuard:
        """See `BudgetGuard.acting_as`. The threads are shared as well."""
        other = copy(self)
        other._guard = self._guard.acting_as(actor)  # noqa: SLF001 (it is this class)
        return other

    async def close(self) -> None:
        """Waits for all running verbs, including cancelled ones, and closes the ledger."""
        await self._workers.close()
        await asyncio.to_thread(self._guard.close)

    admit = _awaited(BudgetGuard.admit, _release_admission)
    decide = _awaited(BudgetGuard.decide)
    dispatch = _awaited(BudgetGuard.dispatch, _release_unsent)
    admit_and_dispatch = _awaited(BudgetGuard.admit_and_dispatch, _release_dispatched)
    close_admission = _awaited(BudgetGuard.close_admission)
    bind = _awaited(BudgetGuard.bind)
    settle = _awaited(BudgetGuard.settle)
    settle_all = _awaited(BudgetGuard.settle_all)
    release = _awaited(BudgetGuard.release)
    release_expired = _awaited(BudgetGuard.release_expired)
    release_refused = _awaited(BudgetGuard.release_refused)
    mark_in_doubt = _awaited(BudgetGuard.mark_in_doubt)
    observe = _awaited(BudgetGuard.observe)
    observe_task = _awaited(BudgetGuard.observe_task)
    resolve = _awaited(BudgetGuard.resolve)
    record = _awaited(BudgetGuard.record)
    open_budget = _awaited(BudgetGuard.open_budget)
    apply = _awaited(BudgetGuard.apply)
    plan = _awaited(BudgetGuard.plan)
    budgets = _awaited(BudgetGuard.budgets)
    set_cap = _awaited(BudgetGuard.set_cap)
    cap_change = _awaited(BudgetGuard.cap_change)
    cap_overlays = _awaited(BudgetGuard.cap_overlays)
    log = _awaited(BudgetGuard.log)
    reservation = _awaited(BudgetGuard.reservation)
    in_doubt = _awaited(BudgetGuard.in_doubt)
    unclaimed = _awaited(BudgetGuard.unclaimed)
    history = _awaited(BudgetGuard.history)
    unsettled = _awaited(BudgetGuard.unsettled)
    history_page = _awaited(BudgetGuard.history_page)
    journal = _awaited(BudgetGuard.journal)
    status = _awaited(BudgetGuard.status)
    balances_of = _awaited(BudgetGuard.balances_of)
    unpriced = _awaited(BudgetGuard.unpriced)
    forecasts = _awaited(BudgetGuard.forecasts)
    refusals = _awaited(BudgetGuard.refusals)
    count_unpriced = _awaited(BudgetGuard.count_unpriced)
    verify = _awaited(BudgetGuard.verify)
    ask = _awaited(BudgetGuard.ask)
    allowances = _awaited(BudgetGuard.allowances)
    allowance_requests = _awaited(BudgetGuard.allowance_requests)
    freezes = _awaited(BudgetGuard.freezes)
    waived = _awaited(BudgetGuard.waived)
    issue_key = _awaited(BudgetGuard.issue_key)
    revoke_key = _awaited(BudgetGuard.revoke_key)
    access_keys = _awaited(BudgetGuard.access_keys)
    access_key = _awaited(BudgetGuard.access_key)
    mark_key_used = _awaited(BudgetGuard.mark_key_used)

    async def pre_submit(  # noqa: D102 (its docstring is assigned below)
        self,
        payload: RequestLike,
        *,
        project: str,
        key: str | None = None,
        labels: Mapping[str, str] | None = None,
        account: str | None = None,
        **options: Unpack[QuoteOptions],
    ) -> dict[str, Any]:
        _, body = await self.admit_and_dispatch(
            payload, project=project, key=key, labels=labels, account=account, **options
        )
        return body

    pre_submit.__doc__ = BudgetGuard.pre_submit.__doc__

    @asynccontextmanager
    async def admission(
        self,
        payload: RequestLike,
        *,
        project: str,
        key: str | None = None,
        labels: Mapping[str, str] | None = None,
        account: str | None = None,
        **options: Unpack[QuoteOptions],
    ) -> AsyncIterator[Admission]:
        """See `BudgetGuard.admission`. A cancelled block ends like a block that raises an exception."""
        admitted = await self.admit(
            payload, project=project, key=key, labels=labels, account=account, **options
        )
        try:
            yield admitted
        except BaseException as error:
            await shielded(self.close_admission(admitted, error))
            raise
        await self.close_admission(admitted)
