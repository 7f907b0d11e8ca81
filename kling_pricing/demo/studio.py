"""A made-up studio: a sandbox, a ledger, a guarded client and a server, which all go by the demo's clock."""

from __future__ import annotations

import http.client
import logging
import threading
from collections.abc import Callable, Iterable
from contextlib import AsyncExitStack, closing, suppress
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple, Self
from urllib.parse import urlsplit

import aiohttp

from kling_pricing.budgets.loading import budgets_from_text
from kling_pricing.demo.stories import DemoJob, DemoScript, Route, demo_book, demo_file
from kling_pricing.errors import BudgetExceededError
from kling_pricing.guard import BudgetGuard
from kling_pricing.hooks.aiohttp import GuardMiddleware
from kling_pricing.hooks.context import spending
from kling_pricing.hooks.recovery import PollResult, poll, unsettled
from kling_pricing.ledger.model import Reservation
from kling_pricing.listening import listen
from kling_pricing.money import sum_of
from kling_pricing.sandbox import Sandbox
from kling_pricing.server.access import LABELS_HEADER
from kling_pricing.server.processes import ServedApplication
from kling_pricing.server.server_settings import load_settings
from kling_pricing.server.server_state import ServerState

ON_THIS_MACHINE = "127.0.0.1"

LEDGER_FILE = "spend.db"

ACTOR = "demo"
"""The name under which the ledger keeps the demo's administrative actions."""

_REFUSED = 402
_QUEUE_S, _RUN_S = 5, 90
_STOP_S = 5
_ASK_AFTER_S = 3600
"""The server asks about its jobs by itself. In the demo, this must wait until jobs in doubt were counted."""

_SECOND = timedelta(seconds=1)


def scenario_of(start: datetime, seed: int) -> dict[str, Any]:
    """Returns the scenario of the demo's sandbox, whose clock moves only when it is told to."""
    return {"speed": 0, "start": start.isoformat(), "seed": seed, "queue_s": _QUEUE_S, "run_s": _RUN_S}


def ledger_in(folder: Path) -> str:
    """Returns the URL of the ledger in a folder of the demo."""
    return f"sqlite:///{folder / LEDGER_FILE}"


class DemoClock:
    """The clock of the demo, which moves only when it is told to.

    Args:
        start: the instant that it shows first.
    """

    def __init__(self, start: datetime) -> None:
        self.now = start

    def __call__(self) -> datetime:
        """Returns the instant that it shows."""
        return self.now


class SentJob(NamedTuple):
    """The outcome of a submission.

    Attributes:
        status: the HTTP status of the response; 0: there was none.
        reservation: the job's newest reservation; None: the guard refused the job.
    """

    status: int
    reservation: Reservation | None


class DemoStudio:
    """The parts of the demo, as a context manager that starts and stops all of them but the sandbox.

    Args:
        script: the script of the demo.
        sandbox: a running sandbox of `scenario_of`.
        ledger: the URL of the ledger.
        budgets: the name of the budgets file.
        start: the instant at which the clock starts.

    Attributes:
        clock: the clock of the ledger.
        guard: the guard.
        sandbox: the providers.
        ledger: the URL of the ledger.
        jobs: project and key -> the job, of all jobs that were sent.
    """

    def __init__(
        self, script: DemoScript, sandbox: Sandbox, ledger: str, budgets: str, *, start: datetime
    ) -> None:
        self.script = script
        self.sandbox = sandbox
        self.clock = DemoClock(start)
        self.ledger = ledger
        self.jobs: dict[tuple[str, str], DemoJob] = {}
        self._budgets = budgets_from_text(demo_file(budgets), name=budgets)
        self._closing = AsyncExitStack()
        self.server_url = ""

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as starting:
            for name in ("kling_pricing", "uvicorn"):  # their warnings would interrupt the story
                handler = logging.NullHandler()
                logging.getLogger(name).addHandler(handler)
                starting.callback(logging.getLogger(name).removeHandler, handler)
            self.guard = starting.enter_context(
                BudgetGuard(self.ledger, self._budgets, book=demo_book(), clock=self.clock, actor=ACTOR)
            )
            self._start_server(starting)
            scripts = self.script.scripts.provider
            hook = GuardMiddleware(self.guard, hosts={self.sandbox.host: scripts}, keeps_keys=True)
            self._guarded = await starting.enter_async_context(_session(hook))
            self._plain = await starting.enter_async_context(_session())
            self._closing = starting.pop_all()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._closing.aclose()

    def _start_server(self, starting: AsyncExitStack) -> None:
        callers = self.script.callers.provider
        upstream = {"url": self.sandbox.url(callers), "send_reservation_id": True}
        settings = load_settings(
            environment={},
            overrides={
                "ledger": self.ledger,
                "port": 0,
                "upstreams": {callers: upstream},
                "stop_timeout_s": _STOP_S,
                "ask_after_s": _ASK_AFTER_S,
            },
        )
        listening = starting.enter_context(listen(ON_THIS_MACHINE, 0))
        served = ServedApplication(ServerState(settings, guard=self.guard), listening)
        thread = threading.Thread(target=served.run, name="kling-pricing-demo-server", daemon=True)
        thread.start()
        starting.callback(thread.join)
        starting.callback(served.stop)
        served.started.wait()
        self.server_url = f"http://{ON_THIS_MACHINE}:{listening.getsockname()[1]}/p/{callers}"
        projects = [entry.name for entry in self.script.projects if entry.sends == "callers"]
        self._access = {
            project: self.guard.issue_key(project=project, name=project, reason="the demo").text
            for project in projects
        }

    def url(self, route: Route) -> str:
        """Returns the URL to which the jobs of a route are sent."""
        entry = self.script.route(route)
        return (self.sandbox.url(entry.provider) if route == "scripts" else self.server_url) + entry.path

    def move_to(self, at: datetime) -> None:
        """Moves all clocks to an instant that is not in the past."""
        self.clock.now = max(at, self.clock.now)
        self.sandbox.call("POST", "/_clock", {"now": self.clock.now.isoformat()})

    def pass_by(self, duration: timedelta) -> None:
        """Moves all clocks forward."""
        self.move_to(self.clock.now + duration)

    async def send(self, job: DemoJob) -> int:
        """Sends a job, and returns the HTTP status of the response; 402: refused, 0: there was no response."""
        self.jobs[job.project, job.key] = job
        headers = {"Idempotency-Key": job.key}
        if job.route == "callers":
            headers["Authorization"] = f"Bearer {self._access[job.project]}"
            headers[LABELS_HEADER] = f"user={job.user}"
        session = self._guarded if job.route == "scripts" else self._plain
        with spending(project=job.project, user=job.user), suppress(aiohttp.ClientConnectionError):
            try:
                async with session.post(self.url(job.route), json=job.payload, headers=headers) as response:
                    await response.read()
                    return response.status
            except BudgetExceededError:
                return _REFUSED
        return 0

    async def submit(self, job: DemoJob) -> SentJob:
        """Moves the clocks to the instant of a job, and sends it."""
        self.move_to(job.at)
        status = await self.send(job)
        attempts = self.guard.history(project=job.project, key=job.key)
        return SentJob(status, attempts[-1] if attempts else None)

    async def play(self, jobs: Iterable[DemoJob], on_job: Callable[[], None]) -> None:
        """Sends jobs in their order, and asks the providers about all unsettled jobs at the end of each day."""
        for job in jobs:
            if job.at.date() != self.clock.now.date():
                self.ask()
            self.move_to(job.at)
            await self.send(job)
            on_job()

    def ask(self) -> list[PollResult]:
        """Lets every task end that has been sent, and asks the providers about all unsettled jobs."""
        self.pass_by((_QUEUE_S + _RUN_S + 1) * _SECOND)
        results: list[PollResult] = []
        with closing(http.client.HTTPConnection(self.sandbox.host)) as connection:

            def fetch(url: str) -> tuple[int, bytes]:
                connection.request("GET", urlsplit(url)._replace(scheme="", netloc="").geturl())
                response = connection.getresponse()
                return response.status, response.read()

            for route in (self.script.scripts, self.script.callers):
                reservations = unsettled(self.guard, provider=route.provider)
                url = self.sandbox.url(route.provider)
                results += poll(self.guard, fetch, base_url=url, reservations=reservations)
        return results

    def tasks(self, route: Route) -> int:
        """Returns the number of tasks at the provider of a route."""
        return len(self.sandbox.tasks(self.script.route(route).provider))

    def spent(self, route: Route) -> Decimal:
        """Returns the sum of the settled amounts in the ledger at the provider of a route."""
        provider = self.script.route(route).provider
        return sum_of(
            reservation.billed
            for reservation in self.guard.history()
            if reservation.provider == provider and reservation.billed is not None
        )

    def billed(self, route: Route, currency: str) -> Decimal:
        """Returns the bill of the sandbox for the provider of a route."""
        return self.sandbox.bill(self.script.route(route).provider).get(currency, Decimal(0))

    def reservation(self, job: DemoJob) -> Reservation:
        """Returns the newest reservation of a job."""
        return self.guard.history(project=job.project, key=job.key)[-1]


def _session(*hooks: GuardMiddleware) -> aiohttp.ClientSession:
    """Returns a client that opens a connection for each request; a reused one may just be closing."""
    return aiohttp.ClientSession(middlewares=hooks, connector=aiohttp.TCPConnector(force_close=True))


def as_order(studio: DemoStudio, job: DemoJob) -> dict[str, Any]:
    """Returns the task of the process that `lone_script` runs, as JSON-ready data."""
    return {
        "ledger": studio.ledger,
        "at": studio.clock.now.isoformat(),
        "project": job.project,
        "labels": {"user": job.user},
        "host": studio.sandbox.host,
        "provider": studio.script.route(job.route).provider,
        "url": studio.url(job.route),
        "payload": dict(job.payload),
        "key": job.key,
    }
