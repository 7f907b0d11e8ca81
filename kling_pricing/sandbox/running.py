"""Runs a sandbox: in a thread, in a process, or in the foreground."""

from __future__ import annotations

import asyncio
import http.client
import json
import multiprocessing
import signal
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

from kling_pricing.display import not_installed
from kling_pricing.errors import KlingPricingError
from kling_pricing.sandbox.asgi import Application
from kling_pricing.sandbox.har import HarFile
from kling_pricing.sandbox.rehearsal import Rehearsal, check_providers
from kling_pricing.sandbox.scenario import Scenario, read_scenario
from kling_pricing.tables.loading.book import default_price_book
from kling_pricing.tables.price_book import PriceBook

try:
    import uvicorn
    from uvicorn.protocols.http.h11_impl import H11Protocol
except ModuleNotFoundError as missing:
    raise ModuleNotFoundError(not_installed("the sandbox", "uvicorn", "server"), name=missing.name) from missing

_PATIENCE_S = 60
_BACKLOG = 2048
_GRACE_S = 1
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
        process = context.Process(target=_run_in_process, args=arguments, daemon=True)
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

    def tasks(self, provider: str) -> list[dict[str, Any]]:
        """Returns the newest tasks of a provider, each with its id, its state and the parts of its charge."""
        tasks: list[dict[str, Any]] = self.call("GET", f"/{provider}/_tasks")
        return tasks

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
        until = time.monotonic() + _PATIENCE_S
        while True:
            sent: list[dict[str, Any]] = self.call("GET", "/_callbacks")
            if len(sent) >= at_least:
                return sent
            if time.monotonic() > until:
                raise KlingPricingError(
                    f"only {len(sent)} of {at_least} expected callbacks were sent within a minute; advance the "
                    "clock"
                )
            time.sleep(_PAUSE_S)

    @property
    def received(self) -> list[dict[str, Any]]:
        """The newest requests to providers, each with its provider, method, path, headers and body."""
        received: list[dict[str, Any]] = self.call("GET", "/_received")
        return received


class ServedRehearsal:
    """The simulated providers and their HTTP server.

    Args:
        book: the price book.
        scenario: the scenario.
        listening: the socket on which the server listens.
        record: the path of the HTTP archive; None: requests are not saved.

    Attributes:
        started: set when the server accepts requests, or has failed to start.
    """

    def __init__(
        self, book: PriceBook, scenario: Scenario, listening: socket.socket, record: str | Path | None
    ) -> None:
        host, port = listening.getsockname()[:2]
        self.started = threading.Event()
        self.rehearsal = Rehearsal(book, scenario, f"http://{host}:{port}")
        self._har = HarFile(record) if record is not None else None
        self._listening = listening
        self._transports: dict[tuple[str, int], asyncio.Transport] = {}
        config = uvicorn.Config(
            Application(self.rehearsal, self._drop, self._har),
            http=_tracking_protocol(self._transports),
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            backlog=_BACKLOG,
            timeout_graceful_shutdown=_GRACE_S,
        )
        self._server = _SignalledServer(config, self.started)

    def run(self) -> dict[str, str]:
        """Serves until `stop` is called or, in the main thread, a signal arrives; then returns the bills."""
        try:
            self._server.run(sockets=[self._listening])
            return self.rehearsal.bills()
        finally:
            self.started.set()
            self.rehearsal.close()
            if self._har is not None:
                self._har.close()

    def stop(self) -> None:
        """Makes `run` return."""
        self.rehearsal.resumed += 1
        self._server.should_exit = True

    def _drop(self, client: tuple[str, int]) -> None:
        if (transport := self._transports.get(client)) is not None:
            transport.abort()


class _SignalledServer(uvicorn.Server):
    """A server that stops without an error on Ctrl-C and SIGTERM."""

    def __init__(self, config: uvicorn.Config, started: threading.Event) -> None:
        super().__init__(config)
        self._started = started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._started.set()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        handled = (signal.SIGINT, signal.SIGTERM)
        before = [signal.signal(each, self._stop) for each in handled]
        try:
            yield
        finally:
            for each, handler in zip(handled, before, strict=True):
                signal.signal(each, handler)

    def _stop(self, *_: Any) -> None:
        self.should_exit = True


def _tracking_protocol(transports: dict[tuple[str, int], asyncio.Transport]) -> type[H11Protocol]:
    """Returns a protocol that records the transport of each client, so that its connection can be closed."""

    class Tracking(H11Protocol):
        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            if self.client is not None:
                transports[self.client] = transport

        def connection_lost(self, exc: Exception | None) -> None:
            if self.client is not None:
                transports.pop(self.client, None)
            super().connection_lost(exc)

    return Tracking


def listen(host: str, port: int) -> socket.socket:
    """Returns a listening socket.

    Raises:
        KlingPricingError: the address cannot be used.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # asyncio sets TCP_NODELAY only on sockets with an explicit protocol
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind((host, port))
        listening.listen(_BACKLOG)
    except (OSError, OverflowError) as error:
        listening.close()
        reason = (getattr(error, "strerror", None) or str(error)).lower()
        raise KlingPricingError(
            f"cannot listen on {host}:{port}: {reason}; choose another host or port (port 0 chooses a free "
            "port)"
        ) from None
    return listening


def _run_in_process(scenario: str, listening: socket.socket, record: str | Path | None, started: Any) -> None:
    served = ServedRehearsal(default_price_book(), Scenario.model_validate_json(scenario), listening, record)
    threading.Thread(target=lambda: (served.started.wait(), started.set()), daemon=True).start()
    served.run()
