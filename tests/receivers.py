"""A server that receives requests, such as callbacks, and lets the test choose the status of each response."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

import httpx


class Received(NamedTuple):
    """A request that a server received; capitals in the names of its headers make no difference."""

    method: str
    path: str
    headers: httpx.Headers
    body: bytes

    @property
    def json(self) -> Any:
        """The body, parsed as JSON."""
        return json.loads(self.body)


class _Server(ThreadingHTTPServer):
    """A server that ignores clients that disconnect."""

    daemon_threads = True

    def handle_error(self, *_request: Any) -> None:
        """Prints nothing."""


@contextmanager
def serving(handler: type[BaseHTTPRequestHandler]) -> Iterator[str]:
    """Runs a server with this handler and yields its URL."""
    server = _Server(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class QuietHandler(BaseHTTPRequestHandler):
    """A handler that keeps connections open and prints nothing."""

    protocol_version = "HTTP/1.1"

    def read_chunks(self) -> Iterator[bytes]:
        """Yields the chunks of a body as they arrive."""
        while size_bytes := int(self.rfile.readline(), 16):
            yield self.rfile.read(size_bytes)
            self.rfile.readline()
        self.rfile.readline()

    def read_body(self) -> bytes:
        """Returns the body, whether its length is known or not."""
        if self.headers.get("Transfer-Encoding") == "chunked":
            return b"".join(self.read_chunks())
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Prints nothing."""


@contextmanager
def receiving(handle: Callable[[Received], int]) -> Iterator[str]:
    """Runs a server for callbacks and yields its URL; `handle` returns the status of each response."""

    class Handler(QuietHandler):
        def do_POST(self) -> None:
            headers = httpx.Headers(list(self.headers.items()))
            self.send_response(handle(Received("POST", self.path, headers, self.read_body())))
            self.send_header("Content-Length", "0")
            self.end_headers()

    with serving(Handler) as url:
        yield f"{url}/callback"
