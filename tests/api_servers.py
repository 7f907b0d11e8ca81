"""Servers that tests start on real sockets, and clients with access keys."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import httpx

from kling_pricing import PriceBook
from kling_pricing.guard import issue_key
from kling_pricing.server.processes import ServedApplication, listen
from kling_pricing.server.server_settings import load_settings
from kling_pricing.server.server_state import ServerState


@contextmanager
def serving_api(ledger: str, book: PriceBook, **settings: Any) -> Iterator[str]:
    """Runs a server on a ledger and yields its URL."""
    given = {"ledger": ledger, "port": 0, "stop_timeout_s": 5, **settings}
    state = ServerState(load_settings(environment={}, overrides=given), book=book)
    with listen("127.0.0.1", 0) as listening:
        served = ServedApplication(state, listening)
        thread = threading.Thread(target=served.run)
        thread.start()
        try:
            assert served.started.wait(30)
            yield url_of(listening)
        finally:
            served.stop()
            thread.join()


def url_of(listening: socket.socket) -> str:
    """Returns the URL of a server on this machine that listens on a socket."""
    return f"http://127.0.0.1:{listening.getsockname()[1]}"


def client(url: str, key: str | None = None, headers: Mapping[str, str] | None = None) -> httpx.Client:
    """Returns a client of a server's API, with an access key."""
    own = {} if key is None else {"authorization": f"Bearer {key}"}
    return httpx.Client(base_url=f"{url}/api/v1", headers={**own, **(headers or {})}, timeout=30)


def keyed(url: str, ledger: str, **key: Any) -> httpx.Client:
    """Returns a client with a new access key; by default, one that may submit in the project `trailer`."""
    issued = issue_key(ledger, **{"project": "trailer", "role": "submit", "actor": "tests", **key})
    return client(url, issued.text)
