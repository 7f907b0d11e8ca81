"""Servers that tests start on real sockets, and clients with access keys."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx

from kling_pricing.guard import issue_key
from tests.server_runs import serving

PATIENCE_S = 20


@contextmanager
def serving_api(ledger: str, upstreams: Mapping[str, Any] | None = None, **settings: Any) -> Iterator[str]:
    """Runs a server on a ledger and yields its URL."""
    with (
        TemporaryDirectory() as folder,
        serving(ledger, Path(folder), upstreams or {}, stop_timeout_s=5, **settings) as server,
    ):
        yield server.url


def client(url: str, key: str | None = None, headers: Mapping[str, str] | None = None) -> httpx.Client:
    """Returns a client of a server's API, with an access key."""
    own = {} if key is None else {"authorization": f"Bearer {key}"}
    return httpx.Client(base_url=f"{url}/api/v1", headers={**own, **(headers or {})}, timeout=30)


def keyed(url: str, ledger: str, **key: Any) -> httpx.Client:
    """Returns a client with a new access key; by default, one that may submit in the project `trailer`."""
    issued = issue_key(ledger, **{"project": "trailer", "role": "submit", "actor": "tests", **key})
    return client(url, issued.text)


def eventually(holds: Callable[[], Any]) -> Any:
    """Waits until something holds, and returns it."""
    until = time.monotonic() + PATIENCE_S
    while not (found := holds()):
        assert time.monotonic() < until, "it did not happen in time"
        time.sleep(0.02)
    return found
