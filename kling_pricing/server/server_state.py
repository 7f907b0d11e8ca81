"""What the parts of the server share: settings, ledger, guard, threads, callers and upstreams."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from datetime import timedelta
from functools import partial
from threading import Lock
from typing import Any, TypeVar

import aiohttp

from kling_pricing.errors import BudgetError, KlingPricingError
from kling_pricing.guard import BudgetGuard
from kling_pricing.guard.threads import WorkerPool
from kling_pricing.ledger import Ledger, connect
from kling_pricing.quoting.intake import default_book
from kling_pricing.server.access import Access, Caller
from kling_pricing.server.leases import BackgroundStatus
from kling_pricing.server.metrics import LedgerGauges, Metrics
from kling_pricing.server.readiness import LedgerReadiness
from kling_pricing.server.reconciliations.run_queue import RunQueue
from kling_pricing.server.server_settings import ServerSettings
from kling_pricing.server.upstreams import Upstream, upstreams
from kling_pricing.tables.price_book import PriceBook
from kling_pricing.windows import utc_clock

_log = logging.getLogger("kling_pricing.server")

_Result = TypeVar("_Result")


class ServerState:
    """The state of one server process.

    Args:
        settings: the settings.
        book: the price tables; None: the default ones.
        guard: an open guard, which stays open; None: the server opens one on the ledger of the settings.

    Attributes:
        settings: the settings.
        book: the price tables.
        clock: returns the current instant; it is the clock of a given guard, or else the system clock.
        ledger: the ledger, for access keys.
        access: recognises callers.
        metrics: counts and times of this process.
        gauges: metrics that are read from the ledger.
        readiness: whether the ledger can be used.
        background: the state of the background work.
        runs: the reconciliations of uploaded statements.
        upstreams: the accounts by name.
        session: the client for all upstreams; it exists between `start` and `stop`.
        clock: returns the current instant, in UTC.
        stopping: set when the server stops, so that open streams end.

    Raises:
        SettingsError: an upstream names an unknown provider or a missing secret.
        LedgerUnavailableError: the URL of the ledger is not valid.
    """

    session: aiohttp.ClientSession

    def __init__(
        self, settings: ServerSettings, *, book: PriceBook | None = None, guard: BudgetGuard | None = None
    ) -> None:
        self.settings = settings
        self.book = book or (default_book() if guard is None else guard.book)
        self.upstreams: Mapping[str, Upstream] = upstreams(settings, self.book)
        self.clock = utc_clock(None) if guard is None else guard.clock
        self.ledger: Ledger = connect(settings.ledger, clock=self.clock)
        self.access = Access(self.ledger, self.clock)
        self.metrics = Metrics()
        self.gauges = LedgerGauges(lambda: self.guard, self.ledger)
        self.readiness = LedgerReadiness(lambda: self.guard)
        self.background = BackgroundStatus(timedelta(seconds=settings.lease_s))
        self.runs = RunQueue(settings, self.clock)
        self.stopping = asyncio.Event()
        self._given = guard
        self._guard = guard
        self._opening = Lock()
        self._threads = WorkerPool(self.ledger.max_concurrency)
        self._promises: set[asyncio.Future[Any]] = set()
        self._kept: set[asyncio.Future[Any]] = set()

    @property
    def guard(self) -> BudgetGuard:
        """The guard. The first use opens it, which may take as long as a query of the ledger.

        Raises:
            BudgetError: the ledger has no budgets yet.
            LedgerUnavailableError: the ledger cannot be used.
        """
        with self._opening:
            if self._guard is None:
                self._guard = BudgetGuard(self.settings.ledger, book=self.book)
            return self._guard

    async def run(
        self, work: Callable[[BudgetGuard], _Result], undo: Callable[[_Result], object] | None = None
    ) -> _Result:
        """Runs a function with the guard in a thread; `work` of a cancelled call may go on.

        Args:
            work: the function.
            undo: called with its result if the call was cancelled, so that nobody gets the result.

        Raises:
            BudgetError: the ledger has no budgets yet.
            LedgerUnavailableError: the ledger cannot be used.
        """
        return await self._threads.run(lambda: work(self.guard), undo)

    async def finish(self, work: Callable[[BudgetGuard], _Result]) -> _Result:
        """Runs a function with the guard in a thread, to completion even if the call is cancelled."""
        return await self._threads.finish(lambda: work(self.guard))

    async def read_ledger(self, work: Callable[[Ledger], _Result]) -> _Result:
        """Runs a function with the ledger in a thread. Needs no budgets."""
        return await self._threads.run(lambda: work(self.ledger))

    async def caller(self, headers: Mapping[str, str]) -> Caller:
        """Returns the caller of a request with these headers, whose names are in lower case.

        Raises:
            AccessError: the request has no valid access key.
            LedgerUnavailableError: the ledger cannot be read.
        """
        return await self._threads.run(partial(self.access.caller, headers))

    async def promise(self, work: Awaitable[_Result]) -> _Result:
        """Awaits work that goes on if the caller is cancelled or disconnects; `stop` waits for it."""
        task = asyncio.ensure_future(work)
        self._promises.add(task)
        task.add_done_callback(self._promises.discard)
        return await asyncio.shield(task)

    def keep(self, work: asyncio.Future[Any]) -> None:
        """Keeps work that nobody awaits until it ends; `stop` cancels it."""
        self._kept.add(work)
        work.add_done_callback(self._kept.discard)

    async def start(self) -> None:
        """Opens the client for upstreams, and the guard if the ledger has budgets.

        Raises:
            LedgerUnavailableError: the ledger cannot be used.
        """
        # each submission in progress needs a connection; servers often close those that are idle for 5 s
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=3)
        self.session = aiohttp.ClientSession(
            connector=connector,
            auto_decompress=False,
            cookie_jar=aiohttp.DummyCookieJar(),
            skip_auto_headers=("Accept", "Accept-Encoding", "Content-Type", "User-Agent"),
        )
        try:
            await self.run(lambda guard: guard.budgets())
        except BudgetError as error:
            _log.warning("every submission is refused for now: %s", error)
        except KlingPricingError:
            await self.session.close()
            raise

    async def stop(self) -> None:
        """Waits for promised work as long as the settings allow, and closes everything."""
        for work in self._kept:
            work.cancel()
        if self._promises:
            _log.info("waiting for %d responses to submissions that were sent", len(self._promises))
            await asyncio.wait(self._promises, timeout=self.settings.stop_timeout_s)
        await asyncio.to_thread(self.runs.close)
        await self.session.close()
        await self._threads.close()
        with suppress(KlingPricingError):
            if self._guard is not None and self._given is None:
                await asyncio.to_thread(self._guard.close)
        await asyncio.to_thread(self.ledger.close)
