"""The work that the server does without a request: one process at a time does it, by a lease in the ledger."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from datetime import timedelta
from threading import Event

from kling_pricing.alerts import AlertDelivery
from kling_pricing.errors import KlingPricingError, LedgerError
from kling_pricing.server.leases import WorkLease
from kling_pricing.server.server_state import ServerState
from kling_pricing.server.task_questions import TaskQuestions

_log = logging.getLogger("kling_pricing.server")

_ROUND_S = 2
"""The time between two rounds of questions."""

_NEXT_TRY_S = 5
"""The time after which a process asks again for a lease, or for a ledger that cannot be used."""

_SWEEP_S = 60
"""The time between two looks for files that are to be removed."""


async def ask_about_tasks(state: ServerState) -> None:
    """Asks upstreams about unsettled tasks, and releases expired reservations, while it has the lease."""
    lasts = timedelta(seconds=state.settings.lease_s)
    lease = WorkLease(state.ledger, state.background, lasts)
    questions = TaskQuestions(state, lease.is_held)
    try:
        while True:
            is_held = False
            try:
                is_held = await asyncio.to_thread(lease.is_held)
                if is_held:
                    await state.run(lambda guard: guard.release_expired())
                    await questions.round()
            except KlingPricingError as error:
                _log.warning("the background work waits: %s", error)
                is_held = False
            await asyncio.sleep(min(_ROUND_S if is_held else _NEXT_TRY_S, lasts.total_seconds() / 2))
    finally:
        await asyncio.to_thread(lease.end)


async def deliver_alerts(state: ServerState) -> None:
    """Delivers the alerts of the ledger. The deliverers of a ledger have a lease of their own."""
    while not await _has_budgets(state):  # noqa: ASYNC110 (the ledger is another process's)
        await asyncio.sleep(_NEXT_TRY_S)
    stop = Event()
    lasts = timedelta(seconds=state.settings.lease_s)
    delivery = AlertDelivery(state.settings.ledger, lease=lasts, timeout=lasts / 6, clock=state.clock)
    watching = asyncio.ensure_future(asyncio.to_thread(delivery.watch, stop))
    try:
        await asyncio.shield(watching)
    finally:
        stop.set()
        await watching
        await asyncio.to_thread(delivery.close)


async def _has_budgets(state: ServerState) -> bool:
    try:
        return await state.read_ledger(lambda ledger: ledger.installed()) is not None
    except LedgerError:
        return False


async def remove_old_runs(state: ServerState) -> None:
    """Removes uploaded statements and reports after their time, and those of processes that were killed."""
    while True:
        await asyncio.to_thread(state.runs.sweep)
        await asyncio.sleep(_SWEEP_S)


BACKGROUND_WORK: Sequence[Callable[[ServerState], Awaitable[None]]] = (
    ask_about_tasks,
    deliver_alerts,
    remove_old_runs,
)
"""The functions that run as long as a process of the server runs; they are cancelled when it stops."""
