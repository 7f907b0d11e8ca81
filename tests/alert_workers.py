"""A process that delivers the alerts of a ledger until it is killed, and a receiver that misbehaves.

Run as a script: `python alert_workers.py LEDGER`. The URLs of the receivers come from the environment.
"""

import base64
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from http.server import ThreadingHTTPServer
from typing import Any, Self

from standardwebhooks import Webhook

from kling_pricing.alerts import AlertDelivery

SECRET = f"whsec_{base64.b64encode(b'a secret of the tests, 32 bytes.').decode()}"
TIMEOUT = timedelta(milliseconds=160)
LEASE = timedelta(milliseconds=1000)


@contextmanager
def delivering(ledger: str) -> Iterator[subprocess.Popen[bytes]]:
    """Runs a process of this script, and kills it at the end."""
    with subprocess.Popen([sys.executable, __file__, ledger]) as process:
        try:
            yield process
        finally:
            process.kill()


class Inbox:
    """A receiver of webhooks that does to each request what a test says.

    Attributes:
        port: the port on which it listens.
        accepted: the verified documents that it accepted, in order; repetitions included.
        requests: the number of requests that arrived.
    """

    def __init__(self, behave: Callable[[int], int | None]) -> None:
        """Prepares the receiver.

        Args:
            behave: maps the number of a request, from 1, to the status of the response; None: the connection
                ends without a response.
        """
        from tests.receivers import QuietHandler  # noqa: PLC0415 (a script has no package)

        inbox = self
        self.accepted: list[dict[str, Any]] = []
        self.requests = 0
        self._lock = threading.Lock()
        self._server: ThreadingHTTPServer | None = None
        self.port = 0

        class Handler(QuietHandler):
            def do_POST(self) -> None:  # noqa: N802 (the library calls it)
                body = self.read_body()
                document = Webhook(SECRET).verify(body, dict(self.headers.items()))
                with inbox._lock:
                    inbox.requests += 1
                    number = inbox.requests
                status = behave(number)
                if status is None:
                    self.close_connection = True
                    return
                if status == 200:
                    with inbox._lock:
                        inbox.accepted.append({"webhook-id": self.headers["webhook-id"], **document})
                self.send_response(status)
                self.send_header("Content-Length", "0")
                if status == 302:
                    self.send_header("Location", f"http://127.0.0.1:{inbox.port}/elsewhere")
                self.end_headers()

        self._handler = Handler

    @property
    def url(self) -> str:
        """The URL of the receiver."""
        return f"http://127.0.0.1:{self.port}/alerts"

    def start(self) -> None:
        """Starts to listen, on the same port as before."""
        self._server = ThreadingHTTPServer(("127.0.0.1", self.port), self._handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        self._server.handle_error = lambda *_: None  # type: ignore[method-assign]
        self.port = self._server.server_port
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self) -> None:
        """Stops to listen."""
        if self._server is not None:
            self._server.shutdown()
            self._server.server_close()
            self._server = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def first_arrivals(accepted: list[dict[str, Any]], budget: str | None = None) -> list[str]:
    """Returns the ids of the accepted alerts of a budget, without repetitions, in the order of arrival."""
    ids = [entry["data"]["id"] for entry in accepted if budget is None or entry["data"]["budget"] == budget]
    return list(dict.fromkeys(ids))


if __name__ == "__main__":
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    with AlertDelivery(sys.argv[1], timeout=TIMEOUT, lease=LEASE) as delivery:
        delivery.watch(stop, every=timedelta(milliseconds=50))
