"""What a caller cannot hold open or fill: slow readers, slow and huge bodies, and very many connections."""

from __future__ import annotations

import json
import resource
import select
import socket
import threading
import time
from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx
import pytest

from kling_pricing import Budget, BudgetGuard
from tests.conftest import bundled_book
from tests.receivers import QuietHandler
from tests.receivers import serving as http_server
from tests.server_runs import RunningServer, serving

PATIENCE_S = 20
HELD = 200
BODIES = ("/p/studio/v1/tasks", "/p/studio/v1/assets", "/callbacks/studio", "/api/v1/quote")
"""Paths that read a body: a submission, an upload, a callback, and the API."""


class _Endless(QuietHandler):
    """Sends a video that never ends, until its connection breaks."""

    is_broken = threading.Event()

    def do_GET(self) -> None:  # noqa: N802 (the library looks for this name)
        self.send_response(200)
        self.send_header("Content-Type", "video/mp4")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        try:
            while True:
                self.wfile.write(b"10000\r\n" + bytes(65536) + b"\r\n")
        except OSError:
            self.is_broken.set()
            self.close_connection = True

    def do_POST(self) -> None:  # noqa: N802 (the library looks for this name)
        self.read_body()


@pytest.fixture(scope="module")
def impatient(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """A server without patience, in front of a video that never ends."""
    folder = tmp_path_factory.mktemp("impatient")
    ledger = f"sqlite:///{folder}/spend.db"
    guard = BudgetGuard(ledger, [Budget(name="all", cap=50, currency="USD")], book=bundled_book())
    limits = {"body_timeout_s": 1, "connections": HELD}
    with http_server(_Endless) as url:
        upstreams = {"studio": {"provider": "qingbo", "url": url}}
        with serving(ledger, folder, upstreams, guard, limits=limits) as server:
            yield server
    guard.close()


def address(server: RunningServer) -> tuple[str, int]:
    """Returns the host and the port of a server."""
    parts = urlsplit(server.url)
    assert parts.hostname is not None
    assert parts.port is not None
    return parts.hostname, parts.port


def head(server: RunningServer, method: str, path: str, **headers: str) -> bytes:
    """Returns the headers of a request, with a key for all projects unless others are given."""
    given = {"Authorization": server.key(None)["Authorization"]} | headers
    lines = [f"{method} {path} HTTP/1.1", "Host: x", *(f"{name}: {value}" for name, value in given.items())]
    return "\r\n".join([*lines, "", ""]).replace("Content_", "Content-").encode()


def test_a_caller_that_does_not_read_is_cut_off(impatient: RunningServer) -> None:
    """A download whose caller reads nothing ends, at the provider too, after the time for one part."""
    _Endless.is_broken.clear()
    with socket.socket() as connection:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.connect(address(impatient))
        connection.sendall(head(impatient, "GET", "/p/studio/v1/files/video"))
        assert _Endless.is_broken.wait(PATIENCE_S)
    assert httpx.get(f"{impatient.url}/healthz").status_code == 200


@pytest.mark.parametrize(
    "path", ["/p/studio/v1/tasks", "/p/studio/v1/assets", "/callbacks/studio", "/api/v1/quote"]
)
def test_a_body_that_drips_is_refused(path: str, impatient: RunningServer) -> None:
    """A byte now and then keeps no request open: the answer is 408 soon after the time for one part."""
    with socket.create_connection(address(impatient), timeout=PATIENCE_S) as connection:
        connection.sendall(
            head(impatient, "POST", path, Content_Type="application/json", Content_Length="1000")
        )
        begun = time.monotonic()
        while not select.select([connection], [], [], 0.2)[0]:
            connection.sendall(b" ")
            assert time.monotonic() - begun < PATIENCE_S
        assert connection.recv(4096).startswith(b"HTTP/1.1 408 ")


@pytest.mark.parametrize(
    "path", ["/p/studio/v1/tasks", "/p/studio/v1/assets", "/callbacks/studio", "/api/v1/quote"]
)
def test_a_gigabyte_is_refused_before_it_is_sent(path: str, impatient: RunningServer) -> None:
    """A body that is stated to be too large gets a 413 at once, and one without a key a 401."""
    unkeyed = 413 if path.startswith("/callbacks") else 401
    for key, status in ((None, 413), ("Bearer kp_unknown", unkeyed)):
        headers = {"Content_Type": "application/json", "Content_Length": str(1 << 30)}
        with socket.create_connection(address(impatient), timeout=PATIENCE_S) as connection:
            connection.sendall(
                head(impatient, "POST", path, **headers | ({} if key is None else {"Authorization": key}))
            )
            assert connection.recv(4096).startswith(b"HTTP/1.1 %d " % status)


def test_a_gigabyte_in_chunks_is_refused_in_time(impatient: RunningServer) -> None:
    """A body without a stated length is refused once it is too large; the server does not keep it."""
    part = json.dumps({"x": "y" * 65_536}).encode()
    chunk = b"%x\r\n%s\r\n" % (len(part), part)
    sent = 0
    with socket.create_connection(address(impatient), timeout=PATIENCE_S) as connection:
        connection.sendall(head(impatient, "POST", "/callbacks/studio", **{"Transfer-Encoding": "chunked"}))
        try:
            while sent < 1 << 30 and not select.select([connection], [], [], 0)[0]:
                connection.sendall(chunk)
                sent += len(chunk)
            assert connection.recv(4096).startswith(b"HTTP/1.1 413 ")
        except (BrokenPipeError, ConnectionResetError):  # it has answered and closed the connection
            assert sent < 1 << 28
    assert sent < 1 << 28


def test_very_many_connections_are_bounded(impatient: RunningServer, pytestconfig: pytest.Config) -> None:
    """Of many idle connections, those within the limit stay open, the others are closed, and requests go on.

    With `--long`, 10,000 connections are tried.
    """
    tried = 10_000 if pytestconfig.getoption("--long") else HELD + 100
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, max(soft, 3 * tried)), hard))
    held: list[socket.socket] = []
    try:
        held = [socket.create_connection(address(impatient), timeout=PATIENCE_S) for _ in range(tried)]
        closed: set[socket.socket] = set()
        poll = select.poll()
        numbers = {connection.fileno(): connection for connection in held}
        for number in numbers:
            poll.register(number, select.POLLIN)
        until = time.monotonic() + PATIENCE_S
        while len(closed) < tried - HELD and time.monotonic() < until:
            for number, _ in poll.poll(200):
                poll.unregister(number)
                closed.add(numbers[number])
        assert len(closed) == tried - HELD
        (first, *_) = [connection for connection in held if connection not in closed]
        first.sendall(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
        assert first.recv(4096).startswith(b"HTTP/1.1 200 ")
    finally:
        for connection in held:
            connection.close()
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    with httpx.Client() as client:
        assert client.get(f"{impatient.url}/healthz").status_code == 200
