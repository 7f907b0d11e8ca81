"""Runs the server: listens, starts its processes, and stops them without losing a submission."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
import socket
import ssl
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.process import BaseProcess
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from kling_pricing.display import not_installed
from kling_pricing.errors import BudgetError, SettingsError
from kling_pricing.listening import BACKLOG
from kling_pricing.server.server_settings import ServerSettings

try:
    import uvicorn

    from kling_pricing.server.application import ServerApplication
    from kling_pricing.server.connections import bounded_protocol
    from kling_pricing.server.metrics import SHARED_FOLDER_VARIABLE
    from kling_pricing.server.server_state import ServerState
    from kling_pricing.server.structured_logs import log_as_json
except ModuleNotFoundError as missing:
    raise ModuleNotFoundError(
        not_installed("the server", f"{missing.name}", "server"), name=missing.name
    ) from missing

if TYPE_CHECKING:
    from multiprocessing.context import ForkServerContext, SpawnContext

_RESTART_PAUSE_S = 1
_HANDLED = (signal.SIGINT, signal.SIGTERM)


class ServedApplication:
    """One process of the server.

    Args:
        state: its state.
        listening: the socket on which it listens.

    Attributes:
        started: set when the server accepts requests, or has failed to start.
    """

    def __init__(self, state: ServerState, listening: socket.socket) -> None:
        self.state = state
        self.started = threading.Event()
        self._listening = listening
        settings = state.settings
        config = uvicorn.Config(
            ServerApplication(state),
            http=bounded_protocol(settings.limits),
            ws="none",
            lifespan="on",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            backlog=BACKLOG,
            ssl_certfile=settings.tls_cert,
            ssl_keyfile=settings.tls_key,
            timeout_graceful_shutdown=settings.stop_timeout_s,
        )
        self._server = _StoppableServer(config, self.started, state.stopping)

    def run(self) -> bool:
        """Serves until `stop` is called or, in the main thread, a signal arrives.

        Returns:
            Whether the server had started.
        """
        try:
            self._server.run(sockets=[self._listening])
        finally:
            self.started.set()
        return self._server.started

    def stop(self) -> None:
        """Makes `run` return once the responses to the submissions that were sent have arrived."""
        self._server.should_exit = True


class _StoppableServer(uvicorn.Server):
    """A server that stops without an error on Ctrl-C and SIGTERM; a second signal does not hurry it."""

    def __init__(self, config: uvicorn.Config, started: threading.Event, stopping: asyncio.Event) -> None:
        super().__init__(config)
        self._has_started = started
        self._stopping = stopping

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._has_started.set()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        self._stopping.set()  # ends the streams of live updates, for which it would wait
        await super().shutdown(sockets)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = [signal.signal(each, self._signalled) for each in _HANDLED]
        try:
            yield
        finally:
            for each, handler in zip(_HANDLED, before, strict=True):
                signal.signal(each, handler)

    def _signalled(self, *_: Any) -> None:
        self.should_exit = True


def serve(state: ServerState, listening: socket.socket) -> bool:
    """Serves until Ctrl-C or SIGTERM, with as many processes as the settings say.

    A process that dies is replaced.

    Args:
        state: the state of the server. With several processes, each opens the ledger for itself.
        listening: the socket on which to listen.

    Returns:
        Whether the server had started.
    """
    if state.settings.workers == 1:
        return ServedApplication(state, listening).run()
    return _Workers(state.settings, listening).run()


def check(state: ServerState) -> str | None:
    """Checks that a server can start, and returns the reason why it will refuse every submission, if any.

    Raises:
        SettingsError: the TLS certificate or its key cannot be used.
        LedgerUnavailableError: the ledger cannot be used.
    """
    settings = state.settings
    if settings.tls_cert is not None:
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(settings.tls_cert, settings.tls_key)
        except (OSError, ssl.SSLError) as error:
            raise SettingsError(
                f"the TLS certificate and its key cannot be used: {error.strerror or error}; give files in PEM "
                "format that belong together",
                key_path="tls_cert",
            ) from None
    try:
        state.guard.budgets()
    except BudgetError as error:
        return str(error)
    return None


def opening_text(state: ServerState, port: int) -> str:
    """Returns the lines that describe a server that is about to start."""
    settings = state.settings
    scheme = "https" if settings.tls_cert else "http"
    host = f"[{settings.host}]" if ":" in settings.host else settings.host
    root = f"{scheme}://{host}:{port}"
    lines = [
        f"The ledger is {state.ledger.name}.",
        f"The API is at {root}/api/v1.",
        f"The pages for the browser are at {root}/; sign in with an access key.",
    ]
    if state.upstreams:
        width = max(map(len, state.upstreams))
        lines.append("Callers use one of these base URLs, with an access key from `kling-pricing key issue`:")
        lines += [f"  {name:<{width}}  {root}/p/{name}" for name in state.upstreams]
    else:
        lines.append("The settings name no upstreams, so no requests are passed on to providers.")
    return "\n".join([*lines, "Press Ctrl-C to stop the server."])


def _context() -> SpawnContext | ForkServerContext:
    """Returns how to start a process: on Linux, as a copy of one that has loaded all modules, so it is fast."""
    if sys.platform != "linux":
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    return context


class _Workers:
    """Processes that share one listening socket."""

    def __init__(self, settings: ServerSettings, listening: socket.socket) -> None:
        self._context = _context()
        self._settings = settings
        self._listening = listening
        self._stopping = threading.Event()

    def run(self) -> bool:
        """Runs the processes until a signal arrives; then waits for them."""
        before = [signal.signal(each, lambda *_: self._stopping.set()) for each in _HANDLED]
        shared = TemporaryDirectory(prefix="kling-pricing-metrics-")
        os.environ[SHARED_FOLDER_VARIABLE] = shared.name
        processes = [self._started() for _ in range(self._settings.workers)]
        try:
            while not self._stopping.wait(_RESTART_PAUSE_S):
                processes = [process if process.is_alive() else self._started() for process in processes]
        finally:
            for process in processes:
                process.terminate()
            for process in processes:
                process.join()
            for each, handler in zip(_HANDLED, before, strict=True):
                signal.signal(each, handler)
            shared.cleanup()
        return True

    def _started(self) -> BaseProcess:
        process = self._context.Process(
            target=_serve_in_process, args=(self._settings.model_dump_json(), self._listening), daemon=True
        )
        process.start()
        return process


def _serve_in_process(settings: str, listening: socket.socket) -> None:
    """Serves in a separate process, and stops if the process that started it is killed.

    Otherwise, a killed server would leave processes that still answer, with old settings, and keep its port.
    """
    state = ServerState(ServerSettings.model_validate_json(settings))
    log_as_json(state.settings.log_level)
    application = ServedApplication(state, listening)
    threading.Thread(target=_stop_with_parent, args=(application,), daemon=True).start()
    application.run()


def _stop_with_parent(application: ServedApplication) -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        application.stop()
