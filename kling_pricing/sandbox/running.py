"""Runs a sandbox in a thread or in a process, and steers it."""

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
from kling_pricing.sandbox.rehearsal import check_providers
from kling_pricing.sandbox.scenario import Scenario, read_scenario
from kling_pricing.sandbox.serving import ServedRehearsal, listen, run_in_process
from kling_pricing.tables.loading.book import default_price_book
from kling_pricing.tables.price_book import PriceBook

_PATIENCE_S = 60
_PAUSE_S = 1 / 100


class Sandbox:
    """A running sandbox, as a context manager.

    ::

        with Sandbox({"seed": 7, "speed": 0}) as sandbox:
            client = Client(base_url=sandbox.url("kling"))
            ...
            sandbox.advance(seconds=30)
            assert sandbox.bill("kling") == {"USD": Decimal("0.84")}

    Args:
        scenario: a scenario, a mapping with the keys of a scenario file, or its path; None: an empty one.
        book: the price book; None: the default one. A process always has the default one.
        host: the address at which it listens.
        port: the port; 0: a free one.
        process: whether it runs in a process of its own, and not in a thread.
        record: the HTTP archive that keeps every call; None: none.

    Raises:
        ScenarioError: the scenario is invalid.
        KlingPricingError: the port is taken, or the archive cannot be written.
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
        """Starts the sandbox and returns when it answers."""
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
                        "the process of the sandbox has ended; see its output for the reason"
                    )
            yield
        finally:
            process.terminate()
            process.join(_PATIENCE_S)

    @property
    def host(self) -> str:
        """The host and the port, as the options `hosts` of hooks take them."""
        host, port = self._address
        return f"{host}:{port}"

    def url(self, provider: str = "") -> str:
        """Returns the base URL of a provider, or of the sandbox."""
        return f"http://{self.host}/{provider}".rstrip("/")

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """Sends one of the calls that steer a sandbox, such as `POST /_clock`, and returns its answer.

        Raises:
            KlingPricingError: the sandbox refuses the call.
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
        """Returns what a provider has taken so far: currency -> amount; empty: nothing."""
        total = self.call("GET", f"/{provider}/_bill")["total"]
        return {currency: Decimal(amount) for currency, amount in total.items()}

    def statement(
        self, provider: str, *, since: datetime | None = None, until: datetime | None = None, **options: str
    ) -> bytes:
        """Returns a statement in the provider's own format.

        Args:
            provider: the provider.
            since: the start of the period; None: the beginning.
            until: the end of the period, which is not part of it; None: the present and later.
            options: `export` (`package` or `balance`) and `as` (see the docs), as in the query of the call.
        """
        times = {"from": since, "until": until}
        query = {name: at.isoformat() for name, at in times.items() if at is not None} | options
        text = "&".join(f"{name}={quote(value)}" for name, value in query.items())
        return self._sent("GET", f"/{provider}/_statement?{text}")

    def tasks(self, provider: str, *, at_least: int = 0) -> list[dict[str, Any]]:
        """Returns the newest tasks of a provider, each with id, state, parts and whether it is charged.

        Args:
            provider: the provider.
            at_least: the number of tasks to wait for.

        Raises:
            KlingPricingError: they are not created within a minute.
        """
        return self._listed(f"/{provider}/_tasks", at_least, "tasks were created; submit more jobs")

    def advance(self, *, seconds: int) -> None:
        """Moves the clock forwards; every change that is then due has happened on return."""
        self.call("POST", "/_clock", {"forward_s": seconds})

    def fail_next(
        self,
        provider: str,
        *faults: str | Sequence[str],
        headers: Mapping[str, str] | None = None,
        body: bytes | None = None,
    ) -> None:
        """Gives the next submissions one fault each.

        Args:
            provider: the provider.
            faults: a word such as `lost-answer`, or a list of several, for each submission.
            headers: further headers of these answers.
            body: the body of these answers; None: the usual one.

        Raises:
            KlingPricingError: a word is not a fault.
        """
        more: dict[str, Any] = {"headers": dict(headers or {})}
        if body is not None:
            more["body_base64"] = b64encode(body).decode()
        entries = [{"words": [fault] if isinstance(fault, str) else [*fault], **more} for fault in faults]
        self.call("POST", f"/{provider}/_faults", {"faults": entries})

    def finish(
        self, provider: str, task_id: str, state: str = "succeeded", *, charge: Decimal | int | None = None
    ) -> None:
        """Ends a task now; `charge` is what is taken, in the API's own unit, if it is not the price."""
        wanted = {"state": state} | ({} if charge is None else {"charge": str(charge)})
        self.call("POST", f"/{provider}/_tasks/{quote(task_id)}", wanted)

    def call_back(
        self, provider: str, task_id: str, url: str, *, state: str | None = None, times: int = 1
    ) -> list[int]:
        """Sends a callback about a task now, and returns the statuses of the responses; 0: there was none.

        Args:
            provider: the provider.
            task_id: the provider's id of the task.
            url: the address of the receiver.
            state: the state that the callback names; None: that of the task.
            times: how often it is sent, each time with the same id.

        Raises:
            KlingPricingError: the task is not known, or no response comes within a minute.
        """
        before = len(self.callbacks())
        wanted = {"url": url, "times": times} | ({} if state is None else {"state": state})
        self.call("POST", f"/{provider}/_callback/{quote(task_id)}", wanted)
        return [sent["status"] for sent in self.callbacks(at_least=before + times)[before:]]

    def reset(self, scenario: Scenario | Mapping[str, Any] | str | Path | None = None) -> None:
        """Forgets every task, call and callback, and begins anew; None: with the same scenario.

        One sandbox can thus serve many tests.

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
        """Lets go of every answer that is held."""
        self.call("POST", "/_resume")

    def callbacks(self, *, at_least: int = 0) -> list[dict[str, Any]]:
        """Returns the newest callbacks that were sent: URL, body and the status of the response.

        Args:
            at_least: the number of callbacks to wait for.

        Raises:
            KlingPricingError: they are not sent within a minute.
        """
        return self._listed("/_callbacks", at_least, "callbacks were sent; advance the clock")

    @property
    def received(self) -> list[dict[str, Any]]:
        """The newest calls that providers received: provider, method, path, headers and body.

        The body is there as text (`body`) and exactly (`body_base64`).
        """
        return self.calls()

    def calls(self, *, at_least: int = 0) -> list[dict[str, Any]]:
        """Returns `received` after waiting for so many calls, which may not be answered yet.

        Raises:
            KlingPricingError: they do not arrive within a minute.
        """
        return self._listed("/_received", at_least, "calls have arrived; send more")

    def _listed(self, path: str, at_least: int, problem: str) -> list[dict[str, Any]]:
        until = time.monotonic() + _PATIENCE_S
        while True:
            listed: list[dict[str, Any]] = self.call("GET", path)
            if len(listed) >= at_least:
                return listed
            if time.monotonic() > until:
                raise KlingPricingError(f"only {len(listed)} of {at_least} {problem}")
            time.sleep(_PAUSE_S)
