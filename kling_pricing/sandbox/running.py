"""Runs a sandbox in a thread or a process, and controls it."""

from __future__ import annotations

import http.client
import json
import multiprocessing
import socket
import threading
import time
from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

from kling_pricing.errors import KlingPricingError
from kling_pricing.listening import listen
from kling_pricing.sandbox.rehearsal import check_providers
from kling_pricing.sandbox.scenario import Scenario, read_scenario
from kling_pricing.sandbox.serving import ServedRehearsal, run_in_process
from kling_pricing.tables.loading.book import default_price_book
from kling_pricing.tables.price_book import PriceBook

_PATIENCE_S = 60
_PAUSE_S = 1 / 100


class Sandbox:
    """A sandbox, as a context manager that starts and stops it.

    ::

        with Sandbox({"seed": 7, "speed": 0}) as sandbox:
            client = Client(base_url=sandbox.url("kling"))
            ...
            sandbox.advance(seconds=30)
            assert sandbox.bill("kling") == {"USD": Decimal("0.84")}

    Args:
        scenario: a scenario, a mapping with the keys of a scenario file, or its path; None: the defaults.
        book: the price book; None: the default one. With `process`, the default one is always used.
        host: the address to listen on.
        port: the port to listen on; 0: any free port.
        process: whether the sandbox runs in a separate process instead of a thread.
        record: the path of an HTTP archive in which to save all requests; None: they are not saved.

    Raises:
        ScenarioError: the scenario is invalid.
        KlingPricingError: the address cannot be used, or the archive cannot be written.
    """

    def __init__(
        self,
        scenario: Scenario | Mapping[str, Any] | str | Path | None = None,
        *,
        book: PriceBook | None = None,
        host: str = "127.0.0.1",
        port: int = 0,
        process: bool = False,
        record: str | Path | None = None,
    ) -> None:
        self._scenario = read_scenario(scenario)
        self._book = book
        self._address = (host, port)
        self._in_process = process
        self._record = record
        self._closing = ExitStack()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def start(self) -> None:
        """Starts the sandbox, and returns when it accepts requests."""
        listening = listen(*self._address)
        self._address = listening.getsockname()[:2]
        with ExitStack() as starting:
            starting.callback(listening.close)
            runs = self._process(listening) if self._in_process else self._thread(listening)
            starting.enter_context(runs)
            self._closing = starting.pop_all()

    def close(self) -> None:
        """Stops the sandbox."""
        self._closing.close()

    @contextmanager
    def _thread(self, listening: socket.socket) -> Iterator[None]:
        served = ServedRehearsal(self._book or default_price_book(), self._scenario, listening, self._record)
        thread = threading.Thread(target=served.run, name="kling-pricing-sandbox", daemon=True)
        thread.start()
        served.started.wait(_PATIENCE_S)
        try:
            yield
        finally:
            served.stop()
            thread.join(_PATIENCE_S)

    @contextmanager
    def _process(self, listening: socket.socket) -> Iterator[None]:
        book = default_price_book()
        check_providers(self._scenario, sorted({*book.tables, *book.unpriced}))
        context = multiprocessing.get_context("spawn")
        started = context.Event()
        arguments = (self._scenario.model_dump_json(exclude_unset=True), listening, self._record, started)
        process = context.Process(target=run_in_process, args=arguments, daemon=True)
        process.start()
        try:
            while not started.wait(_PAUSE_S):
                if not process.is_alive():
                    raise KlingPricingError(
                        "the sandbox's process ended before it was ready; see its output for the reason"
                    )
            yield
        finally:
            process.terminate()
            process.join(_PATIENCE_S)

    @property
    def host(self) -> str:
        """The host and port, in the form that a hook's option `hosts` accepts."""
        host, port = self._address
        return f"{host}:{port}"

    def url(self, provider: str = "") -> str:
        """Returns the base URL of a provider, or of the whole sandbox."""
        return f"http://{self.host}/{provider}".rstrip("/")

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """Sends a request that controls the sandbox, such as `POST /_clock`, and returns the response's JSON.

        Raises:
            KlingPricingError: the sandbox refuses the request.
        """
        return json.loads(self._sent(method, path, body), parse_float=Decimal)

    def _sent(self, method: str, path: str, body: Any = None) -> bytes:
        connection = http.client.HTTPConnection(*self._address, timeout=_PATIENCE_S)
        try:
            content = None if body is None else json.dumps(body).encode()
            connection.request(method, path, content)
            response = connection.getresponse()
            answer = response.read()
        finally:
            connection.close()
        if response.status >= http.client.BAD_REQUEST:
            why = json.loads(answer)["error"]
            raise KlingPricingError(f"the sandbox refused {method} {path}: {why}")
        return answer

    def bill(self, provider: str) -> dict[str, Decimal]:
        """Returns a provider's actual charges so far: currency -> amount; empty if there are none."""
        total = self.call("GET", f"/{provider}/_bill")["total"]
        return {currency: Decimal(amount) for currency, amount in total.items()}

    def statement(
        self, provider: str, *, since: datetime | None = None, until: datetime | None = None, **options: str
    ) -> bytes:
        """Returns a statement in the provider's own format.

        Args:
            provider: the provider.
            since: the start of the period; None: there is no start.
            until: the end of the period, which is not part of it; None: there is no end.
            options: the query parameters `export` (`package` or `balance`) and `as`; see docs/sandbox.md.
        """
        times = {"from": since, "until": until}
        query = {name: at.isoformat() for name, at in times.items() if at is not None} | options
        text = "&".join(f"{name}={quote(value)}" for name, value in query.items())
        return self._sent("GET", f"/{provider}/_statement?{text}")

    def tasks(self, provider: str, *, at_least: int = 0) -> list[dict[str, Any]]:
        """Returns the newest tasks of a provider, each with its id, its state and the parts of its charge.

        Args:
            provider: the provider.
            at_least: the number of tasks to wait for.

        Raises:
            KlingPricingError: fewer tasks are created within a minute.
        """
        return self._listed(f"/{provider}/_tasks", at_least, "tasks were created; submit more jobs")

    def advance(self, *, seconds: int) -> None:
        """Moves the clock forward, and makes every change of state that is due by then."""
        self.call("POST", "/_clock", {"forward_s": seconds})

    def fail_next(
        self,
        provider: str,
        *faults: str | Sequence[str],
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> None:
        """Assigns one fault, or one list of faults, to each of the next submissions.

        Args:
            provider: the provider.
            faults: for each submission, a fault such as `lost-answer`, or a list of faults.
            headers: additional headers of the responses.
            body: the body of the responses; None: the usual body.

        Raises:
            KlingPricingError: a word is not a valid fault; nothing is assigned.
        """
        more: dict[str, Any] = {"headers": dict(headers or {})}
        if body is not None:
            more["body_base64"] = b64encode(body).decode()
        entries = [{"words": [fault] if isinstance(fault, str) else [*fault], **more} for fault in faults]
        self.call("POST", f"/{provider}/_faults", {"faults": entries})

    def finish(
        self, provider: str, task_id: str, state: str = "succeeded", *, charge: Decimal | int | None = None
    ) -> None:
        """Ends a task immediately; `charge` replaces the planned charge, in the API's own unit."""
        wanted = {"state": state} | ({} if charge is None else {"charge": str(charge)})
        self.call("POST", f"/{provider}/_tasks/{quote(task_id)}", wanted)

    def call_back(
        self, provider: str, task_id: str, url: str, *, state: str | None = None, times: int = 1
    ) -> list[int]:
        """Sends a callback about a task, and returns the statuses of the responses; 0: there was no response.

        Args:
            provider: the provider.
            task_id: the provider's id of the task.
            url: the URL of the receiver.
            state: the state in the callback; None: the state of the task.
            times: the number of times that the callback is sent, each time with the same id.

        Raises:
            KlingPricingError: the task is unknown, or the callbacks are not sent within a minute.
        """
        before = len(self.callbacks())
        wanted = {"url": url, "times": times} | ({} if state is None else {"state": state})
        self.call("POST", f"/{provider}/_callback/{quote(task_id)}", wanted)
        return [sent["status"] for sent in self.callbacks(at_least=before + times)[before:]]

    def reset(self, scenario: Scenario | Mapping[str, Any] | str | Path | None = None) -> None:
        """Deletes all tasks, requests and callbacks, and starts again; None: with the same scenario.

        This allows many tests to share one sandbox.

        Raises:
            ScenarioError: the scenario is invalid.
            KlingPricingError: the scenario names an unknown provider.
        """
        new = (
            None
            if scenario is None
            else json.loads(read_scenario(scenario).model_dump_json(exclude_unset=True))
        )
        self.call("POST", "/_reset", new)

    def resume(self) -> None:
        """Releases every response that is held back."""
        self.call("POST", "/_resume")

    def callbacks(self, *, at_least: int = 0) -> list[dict[str, Any]]:
        """Returns the newest callbacks, each with its URL, its body and the HTTP status of the response.

        Args:
            at_least: the number of callbacks to wait for.

        Raises:
            KlingPricingError: fewer callbacks are sent within a minute.
        """
        return self._listed("/_callbacks", at_least, "callbacks were sent; advance the clock")

    @property
    def received(self) -> list[dict[str, Any]]:
        """The newest requests to providers, each with its provider, method, path, headers and body.

        The body is included as text (`body`) and as exact bytes in base64 (`body_base64`).
        """
        return self.calls()

    def calls(self, *, at_least: int = 0) -> list[dict[str, Any]]:
        """Returns `received` as soon as it has `at_least` requests, which may not have been answered yet.

        Raises:
            KlingPricingError: fewer requests arrive within a minute.
        """
        return self._listed("/_received", at_least, "requests arrived; send more requests")

    def _listed(self, path: str, at_least: int, problem: str) -> list[dict[str, Any]]:
        until = time.monotonic() + _PATIENCE_S
        while True:
            listed: list[dict[str, Any]] = self.call("GET", path)
            if len(listed) >= at_least:
                return listed
            if time.monotonic() > until:
                raise KlingPricingError(f"within a minute, only {len(listed)} of {at_least} {problem}")
            time.sleep(_PAUSE_S)
