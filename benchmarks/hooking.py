"""Measures the time that a hook adds to a request over loopback.

Run it with::

    .venv/bin/pip install -q -e '.[dev]' && .venv/bin/python benchmarks/hooking.py

The server is a separate process that answers at once and keeps connections open.
Each client makes three kinds of requests, with and without a guard: to a path that is not guarded, for the
status of a task in the ledger, and to submit a job, which the guard quotes, reserves, dispatches and binds.
The ledger is in memory (`/dev/shm`), so that the disk does not hide the hook; `guarding.py` shows how much time
a disk adds.
All contestants take turns within each round, in a different order each time; the figures are medians.
"""

import asyncio
import gc
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from decimal import Decimal
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import count
from pathlib import Path
from random import Random
from statistics import median
from typing import Any

import aiohttp
import httpx
import httpx2
import requests
from requests.adapters import HTTPAdapter

from kling_pricing import Budget, BudgetGuard
from kling_pricing.hooks.aiohttp import GuardMiddleware
from kling_pricing.hooks.httpx import AsyncGuardedTransport, GuardedTransport
from kling_pricing.hooks.requests import GuardedAdapter

ROUNDS, CALLS = 40, 5
JOB = {"model": "kling-v3", "prompt": "A paper boat in the rain", "duration": 5}
BODY = json.dumps(JOB).encode()
JSON = {"Content-Type": "application/json"}
REQUESTS = {
    "another path": ("POST", "/v1/other"),
    "a status": ("GET", "/v1/tasks/known"),
    "a submission": ("POST", "/v1/tasks"),
}

Send = Callable[[str, str], None]


class Handler(BaseHTTPRequestHandler):
    """Answers every request at once."""

    protocol_version = "HTTP/1.1"
    numbers = count(1)

    def do_POST(self) -> None:
        """Accepts a job."""
        self.rfile.read(int(self.headers["Content-Length"]))
        self._answer({"task_id": f"task-{next(self.numbers)}", "status": "queued"})

    def do_GET(self) -> None:
        """Answers that a task is in progress."""
        self._answer({"task_id": "known", "status": "processing"})

    def _answer(self, answer: Any) -> None:
        body = json.dumps(answer).encode()
        self.wfile.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
            % (len(body), body)
        )

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Logs nothing."""


def serve() -> None:
    """Runs in the server process: prints the port, and answers until it is killed."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    sys.stdout.write(f"{server.server_port}\n")
    sys.stdout.flush()
    server.serve_forever()


class Clients:
    """Creates HTTP clients with and without a guard, and closes them.

    Args:
        root: the start of the server's URLs.
        guard: the guard.
    """

    def __init__(self, root: str, guard: BudgetGuard) -> None:
        self._root = root
        self._guard = guard
        self._options: Any = {"project": "trailer", "hosts": {root.removeprefix("http://"): "qingbo"}}
        self._loop = asyncio.Runner()
        self._closing: list[Callable[[], object]] = []

    def senders(self) -> dict[str, tuple[Send, Send]]:
        """Returns client name -> a function that sends without a guard, and one that sends with it."""
        return {
            "httpx": (self._httpx(httpx, guarded=False), self._httpx(httpx, guarded=True)),
            "httpx, async": (self._awaited(httpx, guarded=False), self._awaited(httpx, guarded=True)),
            "httpx2": (self._httpx(httpx2, guarded=False), self._httpx(httpx2, guarded=True)),
            "httpx2, async": (self._awaited(httpx2, guarded=False), self._awaited(httpx2, guarded=True)),
            "requests": (self._requests(guarded=False), self._requests(guarded=True)),
            "aiohttp": (self._aiohttp(guarded=False), self._aiohttp(guarded=True)),
        }

    def close(self) -> None:
        """Closes all clients."""
        for close in self._closing:
            close()
        self._loop.close()

    def _httpx(self, library: Any, *, guarded: bool) -> Send:
        inner = library.HTTPTransport()
        transport = GuardedTransport(inner, self._guard, **self._options) if guarded else inner
        client = library.Client(transport=transport)
        self._closing.append(client.close)

        def send(method: str, path: str) -> None:
            body = None if method == "GET" else BODY
            client.request(method, self._root + path, content=body, headers=JSON)

        return send

    def _awaited(self, library: Any, *, guarded: bool) -> Send:
        inner = library.AsyncHTTPTransport()
        transport = AsyncGuardedTransport(inner, self._guard, **self._options) if guarded else inner
        client = library.AsyncClient(transport=transport)
        self._closing.append(lambda: self._loop.run(client.aclose()))

        def send(method: str, path: str) -> None:
            body = None if method == "GET" else BODY
            self._loop.run(client.request(method, self._root + path, content=body, headers=JSON))

        return send

    def _requests(self, *, guarded: bool) -> Send:
        session = requests.Session()
        session.trust_env = False
        if guarded:
            session.mount("http://", GuardedAdapter(HTTPAdapter(), self._guard, **self._options))
        self._closing.append(session.close)

        def send(method: str, path: str) -> None:
            body = None if method == "GET" else BODY
            session.request(method, self._root + path, data=body, headers=JSON, timeout=60)

        return send

    def _aiohttp(self, *, guarded: bool) -> Send:
        async def opened() -> aiohttp.ClientSession:
            guards = [GuardMiddleware(self._guard, **self._options)] if guarded else []
            return aiohttp.ClientSession(middlewares=guards)

        session = self._loop.run(opened())
        self._closing.append(lambda: self._loop.run(session.close()))

        async def request(method: str, path: str) -> None:
            body = None if method == "GET" else BODY
            async with session.request(method, self._root + path, data=body, headers=JSON) as answer:
                await answer.read()

        return lambda method, path: self._loop.run(request(method, path))


def medians_us(functions: dict[tuple[str, ...], Callable[[], None]]) -> dict[tuple[str, ...], int]:
    """Returns the median time per call of each function, in microseconds."""
    rounds: dict[tuple[str, ...], list[int]] = {name: [] for name in functions}
    for function in functions.values():
        function()
    order = list(functions.items())
    gc.collect()
    gc.disable()
    for number in range(ROUNDS):
        Random(number).shuffle(order)  # noqa: S311 (only the order has to vary)
        for name, function in order:
            start = time.perf_counter_ns()
            for _ in range(CALLS):
                function()
            rounds[name].append((time.perf_counter_ns() - start) // CALLS // 1000)
    gc.enable()
    return {name: int(median(times_us)) for name, times_us in rounds.items()}


def without_http(guard: BudgetGuard) -> None:
    """Runs the verbs of a submission without any HTTP."""
    admission = guard.admit(JOB, project="trailer", url="https://www.qingbo.dev/v1/tasks")
    guard.dispatch(admission)
    answer = {"task_id": admission.reservation_id, "status": "queued"}
    guard.observe(answer, provider="qingbo", reservation=admission.reservation_id)


def measure(root: str, folder: str) -> None:
    """Measures, and prints a table."""
    budgets = [Budget(name="everyone", cap=Decimal(10**9), currency="USD")]
    guard = BudgetGuard(f"sqlite:///{folder}/spend.db", budgets)
    known = guard.admit(JOB, project="trailer")
    guard.dispatch(known)
    guard.bind(known, "known")
    clients = Clients(root, guard)
    senders = clients.senders()
    functions: dict[tuple[str, ...], Callable[[], None]] = {
        (kind, name, guarding): partial(send, *request)
        for kind, request in REQUESTS.items()
        for name, both in senders.items()
        for guarding, send in zip(("unguarded", "guarded"), both, strict=True)
    }
    functions["verbs",] = partial(without_http, guard)
    times_us = medians_us(functions)
    clients.close()
    print(f"{'median, us':<14} {'client':<14} {'unguarded':>10} {'guarded':>10} {'added':>8} {'ratio':>7}")
    for kind in REQUESTS:
        for name in senders:
            unguarded, guarded = times_us[kind, name, "unguarded"], times_us[kind, name, "guarded"]
            ratio = Decimal(guarded) / unguarded
            print(f"{kind:<14} {name:<14} {unguarded:>10} {guarded:>10} {guarded - unguarded:>8} {ratio:>7.2f}")
    print(f"admit, dispatch and observe without any HTTP: {times_us['verbs',]}")


def main() -> None:
    """Starts the server, measures, and stops the server."""
    if sys.argv[1:] == ["serve"]:
        serve()
        return
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108 (memory, not a fixed file name)
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        server = subprocess.Popen(  # noqa: S603 (this file)
            [sys.executable, __file__, "serve"], stdout=subprocess.PIPE, text=True
        )
        assert server.stdout is not None
        try:
            measure(f"http://127.0.0.1:{server.stdout.readline().strip()}", folder)
        finally:
            server.kill()
            server.wait()


if __name__ == "__main__":
    main()
