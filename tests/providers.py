"""Providers to send jobs to: each is one provider of a sandbox, at the root of the sandbox's address.

Starting and stopping a sandbox takes longer than most tests, so the tests of a module share their sandboxes.
"""

from __future__ import annotations

import socket
from base64 import b64decode
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from decimal import Decimal
from typing import Any, NamedTuple

import httpx

from kling_pricing import PriceBook
from kling_pricing.sandbox import Sandbox
from tests.conftest import bundled_book
from tests.receivers import Received

SCENARIO: dict[str, Any] = {"speed": 0, "start": "2026-11-21T00:00:00Z"}
"""The clock stands still, so a job is queued until the test ends it."""

_idle: list[Sandbox] = []


class Provider(NamedTuple):
    """One provider of a sandbox, at the root of the sandbox's address."""

    sandbox: Sandbox
    name: str

    @property
    def host(self) -> str:
        """The host and port."""
        return self.sandbox.host

    @property
    def url(self) -> str:
        """The base URL."""
        return self.sandbox.url()

    @property
    def received(self) -> list[Received]:
        """Every request."""
        return [
            Received(
                request["method"],
                request["path"],
                httpx.Headers(request["headers"]),
                b64decode(request["body_base64"]),
            )
            for request in self.sandbox.received
        ]

    @property
    def submissions(self) -> list[Received]:
        """The requests that asked for a task, whether it was accepted or not."""
        return [
            request
            for request in self.received
            if request.method == "POST" and not request.path.endswith("/cancel")
        ]

    @property
    def tasks(self) -> list[str]:
        """The ids of all tasks, the oldest first."""
        return self.wait_for_tasks(0)

    def wait_for_tasks(self, at_least: int = 1) -> list[str]:
        """Returns the ids of all tasks as soon as there are at least `at_least` of them."""
        return [task["id"] for task in reversed(self.sandbox.tasks(self.name, at_least=at_least))]

    @property
    def bill(self) -> Mapping[str, Decimal]:
        """Currency -> the sum of all charges."""
        return self.sandbox.bill(self.name)

    def fail_next(
        self,
        *faults: str | Sequence[str],
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> None:
        """Assigns one fault, or one list of faults, to each of the next submissions."""
        self.sandbox.fail_next(self.name, *faults, headers=headers, body=body)

    def finish(self, task_id: str, state: str = "succeeded", *, charge: int | None = None) -> None:
        """Ends a task, and charges its price or an amount in the API's own unit."""
        self.sandbox.finish(self.name, task_id, state, charge=charge)

    def call_back(self, task_id: str, url: str, *, state: str | None = None, times: int = 1) -> list[int]:
        """Posts a callback about a task, and returns the statuses of the responses."""
        return self.sandbox.call_back(self.name, task_id, url, state=state, times=times)


@contextmanager
def shared_sandbox(scenario: Mapping[str, Any], book: PriceBook | None = None) -> Iterator[Sandbox]:
    """Runs a sandbox for the length of a block: one that an earlier test has left, or a new one.

    Args:
        scenario: its scenario.
        book: the price book; None: the bundled one. With another one, the sandbox is not shared.
    """
    if book is not None and book is not bundled_book():
        with Sandbox(scenario, book=book) as sandbox:
            yield sandbox
        return
    if _idle:
        sandbox = _idle.pop()
        sandbox.reset(scenario)
    else:
        sandbox = Sandbox(scenario, book=bundled_book())
        sandbox.start()
    try:
        yield sandbox
    finally:
        _idle.append(sandbox)


@contextmanager
def running(name: str, book: PriceBook | None = None, **account: Any) -> Iterator[Provider]:
    """Runs a provider for the length of a block.

    Args:
        name: the provider.
        book: the price book; None: the bundled one.
        account: the keys of the account in the scenario.
    """
    scenario = SCENARIO | {"at_root": name, "providers": {name: account}}
    with shared_sandbox(scenario, book) as sandbox:
        yield Provider(sandbox, name)


def stop_all() -> None:
    """Stops the sandboxes that no test uses."""
    while _idle:
        _idle.pop().close()


@contextmanager
def closed_port() -> Iterator[str]:
    """Yields a host and a port that refuse connections."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        yield f"127.0.0.1:{bound.getsockname()[1]}"
