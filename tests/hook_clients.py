"""Every HTTP client that has a hook, behind one interface, so that one scenario can run through all of them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine, Mapping
from typing import Any, NamedTuple, Protocol

import aiohttp
import httpx
import httpx2
import requests
from requests.adapters import HTTPAdapter

from kling_pricing import BudgetGuard
from kling_pricing.hooks.aiohttp import GuardMiddleware
from kling_pricing.hooks.httpx import AsyncGuardedTransport, GuardedTransport
from kling_pricing.hooks.requests import GuardedAdapter

PATIENCE_S = 60
"""How long a client waits by default before it gives up."""


class Failures(NamedTuple):
    """The exceptions that a client raises when the network fails.

    Attributes:
        read_timeout: the response did not arrive in time.
        disconnected: the server closed the connection without a response.
        unreachable: no connection could be made.
    """

    read_timeout: type[Exception]
    disconnected: type[Exception]
    unreachable: type[Exception]


class Reply(NamedTuple):
    """The response that a client returns to its caller."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body, parsed as JSON."""
        return json.loads(self.body)


class Client(Protocol):
    """A client, guarded or not."""

    def send(
        self,
        method: str,
        url: str,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        read_timeout_s: float = PATIENCE_S,
    ) -> Reply:
        """Sends a request; raises the client's own exceptions."""

    def close(self) -> None:
        """Closes the client."""


class HttpxClient:
    """A client of httpx or httpx2.

    Args:
        library: the library.
        client: its client.
    """

    def __init__(self, library: Any, client: Any) -> None:
        self._library = library
        self._client = client

    def send(
        self,
        method: str,
        url: str,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        read_timeout_s: float = PATIENCE_S,
    ) -> Reply:
        """Sends a request."""
        limit = self._library.Timeout(PATIENCE_S, read=read_timeout_s)
        reply = self._client.request(method, url, content=body, headers=headers, timeout=limit)
        return Reply(reply.status_code, dict(reply.headers), reply.content)

    def close(self) -> None:
        """Closes the client."""
        self._client.close()


def _httpx(library: Any, guard: BudgetGuard | None, options: Mapping[str, Any]) -> Client:
    inner = library.HTTPTransport()
    transport = inner if guard is None else GuardedTransport(inner, guard, **options)
    return HttpxClient(library, library.Client(transport=transport))


class _Awaited:
    """An async client with an event loop of its own."""

    def __init__(self) -> None:
        self._loop = asyncio.Runner()

    def send(
        self,
        method: str,
        url: str,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        read_timeout_s: float = PATIENCE_S,
    ) -> Reply:
        return self._loop.run(self.asend(method, url, body, headers, read_timeout_s))

    async def asend(
        self,
        method: str,
        url: str,
        body: bytes | None,
        headers: Mapping[str, str] | None,
        read_timeout_s: float,
    ) -> Reply:
        raise NotImplementedError

    async def aclose(self) -> None:
        raise NotImplementedError

    def close(self) -> None:
        self._loop.run(self.aclose())
        self._loop.close()

    def run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return self._loop.run(work)


class _AsyncHttpx(_Awaited):
    def __init__(self, library: Any, guard: BudgetGuard | None, options: Mapping[str, Any]) -> None:
        super().__init__()
        self._library = library
        inner = library.AsyncHTTPTransport()
        self.client = library.AsyncClient(
            transport=inner if guard is None else AsyncGuardedTransport(inner, guard, **options)
        )

    async def asend(
        self,
        method: str,
        url: str,
        body: bytes | None,
        headers: Mapping[str, str] | None,
        read_timeout_s: float,
    ) -> Reply:
        limit = self._library.Timeout(PATIENCE_S, read=read_timeout_s)
        reply = await self.client.request(method, url, content=body, headers=headers, timeout=limit)
        return Reply(reply.status_code, dict(reply.headers), reply.content)

    async def aclose(self) -> None:
        await self.client.aclose()


class _Requests:
    def __init__(self, guard: BudgetGuard | None, options: Mapping[str, Any]) -> None:
        self.session = requests.Session()
        self.session.trust_env = False
        if guard is not None:
            self.session.mount("http://", GuardedAdapter(HTTPAdapter(), guard, **options))

    def send(
        self,
        method: str,
        url: str,
        *,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        read_timeout_s: float = PATIENCE_S,
    ) -> Reply:
        limits = (PATIENCE_S, read_timeout_s)
        reply = self.session.request(method, url, data=body, headers=headers, timeout=limits)
        return Reply(reply.status_code, dict(reply.headers), reply.content)

    def close(self) -> None:
        self.session.close()


class _Aiohttp(_Awaited):
    def __init__(self, guard: BudgetGuard | None, options: Mapping[str, Any]) -> None:
        super().__init__()
        self.client = self._loop.run(self._opened(guard, options))

    async def _opened(self, guard: BudgetGuard | None, options: Mapping[str, Any]) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(middlewares=[] if guard is None else [GuardMiddleware(guard, **options)])

    async def asend(
        self,
        method: str,
        url: str,
        body: bytes | None,
        headers: Mapping[str, str] | None,
        read_timeout_s: float,
    ) -> Reply:
        limit = aiohttp.ClientTimeout(total=None, sock_connect=PATIENCE_S, sock_read=read_timeout_s)
        async with self.client.request(method, url, data=body, headers=headers, timeout=limit) as reply:
            return Reply(reply.status, dict(reply.headers), await reply.read())

    async def aclose(self) -> None:
        await self.client.close()


CLIENTS: Mapping[str, Callable[..., Client]] = {
    "httpx": lambda guard=None, **options: _httpx(httpx, guard, options),
    "httpx-async": lambda guard=None, **options: _AsyncHttpx(httpx, guard, options),
    "httpx2": lambda guard=None, **options: _httpx(httpx2, guard, options),
    "httpx2-async": lambda guard=None, **options: _AsyncHttpx(httpx2, guard, options),
    "requests": lambda guard=None, **options: _Requests(guard, options),
    "aiohttp": lambda guard=None, **options: _Aiohttp(guard, options),
}
"""Name -> a function that creates a client; it takes a guard, or None for no guard, and the hook's options."""

FAILURES: Mapping[str, Failures] = {
    "httpx": Failures(httpx.ReadTimeout, httpx.RemoteProtocolError, httpx.ConnectError),
    "httpx-async": Failures(httpx.ReadTimeout, httpx.RemoteProtocolError, httpx.ConnectError),
    "httpx2": Failures(httpx2.ReadTimeout, httpx2.RemoteProtocolError, httpx2.ConnectError),
    "httpx2-async": Failures(httpx2.ReadTimeout, httpx2.RemoteProtocolError, httpx2.ConnectError),
    "requests": Failures(requests.ReadTimeout, requests.ConnectionError, requests.ConnectionError),
    "aiohttp": Failures(
        aiohttp.SocketTimeoutError, aiohttp.ServerDisconnectedError, aiohttp.ClientConnectorError
    ),
}
"""Name of a client -> the exceptions that it raises."""
