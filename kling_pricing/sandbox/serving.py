"""The HTTP server of a sandbox, which runs until it is stopped."""

from __future__ import annotations

import asyncio
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from kling_pricing.display import not_installed
from kling_pricing.listening import BACKLOG
from kling_pricing.sandbox.asgi import Application
from kling_pricing.sandbox.har import HarFile
from kling_pricing.sandbox.rehearsal import Rehearsal
from kling_pricing.sandbox.scenario import Scenario
from kling_pricing.tables.loading.book import default_price_book
from kling_pricing.tables.price_book import PriceBook

try:
    import uvicorn
    from uvicorn.protocols.http.h11_impl import H11Protocol
except ModuleNotFoundError as missing:
    raise ModuleNotFoundError(not_installed("the sandbox", "uvicorn", "server"), name=missing.name) from missing

_GRACE_S = 1


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
            backlog=BACKLOG,
            timeout_graceful_shutdown=_GRACE_S,
        )
        self._server = _SignalledServer(config, self.started, self.stop)

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

    def __init__(self, config: uvicorn.Config, started: threading.Event, stop: Callable[[], None]) -> None:
        super().__init__(config)
        self._started = started
        self._stop = stop

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._started.set()

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        handled = (signal.SIGINT, signal.SIGTERM)
        before = [signal.signal(each, self._signalled) for each in handled]
        try:
            yield
        finally:
            for each, handler in zip(handled, before, strict=True):
                signal.signal(each, handler)

    def _signalled(self, *_: Any) -> None:
        self._stop()


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


def run_in_process(scenario: str, listening: socket.socket, record: str | Path | None, started: Any) -> None:
    """Serves in a separate process; sets `started` when the server accepts requests."""
    served = ServedRehearsal(default_price_book(), Scenario.model_validate_json(scenario), listening, record)
    threading.Thread(target=lambda: (served.started.wait(), started.set()), daemon=True).start()
    served.run()
