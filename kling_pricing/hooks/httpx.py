"""Guarded transports for httpx and httpx2; they work with the classes of either library.

::

    client = httpx.Client(transport=GuardedTransport(httpx.HTTPTransport(), guard, project="trailer"))
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, Unpack

from kling_pricing.guard import BudgetGuard
from kling_pricing.guard.async_guard import AsyncBudgetGuard
from kling_pricing.guard.threads import WorkerPool
from kling_pricing.hooks.file_facts import MEDIA_HEADER
from kling_pricing.hooks.hook import METHOD_PRESERVING_REDIRECTS, Hook
from kling_pricing.hooks.hook_options import Options
from kling_pricing.hooks.http_messages import (
    ApprovedSubmission,
    ErrorResponse,
    OutgoingRequest,
    PassedMessage,
    ProviderResponse,
    Redirect,
    TaskEndpoint,
    may_describe_task,
)
from kling_pricing.hooks.route import UnpricedPath

if TYPE_CHECKING:
    import httpx
    import httpx2

    class _Transport(httpx.BaseTransport, httpx2.BaseTransport):  # type: ignore[misc]
        """The type of transport that the clients of both libraries accept."""

    class _AsyncTransport(httpx.AsyncBaseTransport, httpx2.AsyncBaseTransport):  # type: ignore[misc]
        """The type of transport that the async clients of both libraries accept."""

else:
    _Transport = _AsyncTransport = object  # a library may be missing, and no client checks the type


class GuardedTransport(_Transport):
    """Guards the requests that a client sends through another transport.

    A submission is checked, priced, made cheaper if a budget requires it, reserved, sent, and bound to its
    task. When the client requests the task's status, the response settles the reservation. Any other request
    is refused if it might create a job, and is otherwise let through unchanged.

    Args:
        inner: the transport that sends requests, such as `httpx.HTTPTransport()`. With your own transport or
            one of another library, refusals and failed connections do not release the reservation, because
            the transport may already have sent the request; see the option `sends_once`.
        guard: the guard whose budgets apply.
        options: see `Options`.

    Raises (when a client sends a request):
        BudgetExceededError, CapabilityError, ...: any error of `BudgetGuard.admit`, unless
            `refusals="respond"`. Nothing was sent.
        ReservationStateError: the job was sent earlier and may be running. It was not sent again.
    """

    def __init__(self, inner: Any, guard: BudgetGuard | AsyncBudgetGuard, **options: Unpack[Options]) -> None:
        self._inner = inner
        self._hook = Hook(guard, **options)
        self._sends_once = self._hook.sends_once(default=_is_library_transport(inner))

    @property
    def unpriced(self) -> Mapping[UnpricedPath, int]:
        """The number of requests that were let through without a price, by provider and listed path."""
        return self._hook.unpriced

    def __enter__(self) -> Self:
        self._inner.__enter__()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        self._inner.__exit__(exc_type, exc_value, traceback)

    def close(self) -> None:
        """Closes the inner transport."""
        self._inner.close()

    def handle_request(self, request: Any) -> Any:
        """Sends or refuses a request."""
        return self._handle(request, 0)

    def _handle(self, request: Any, redirects: int) -> Any:
        """Sends or refuses a request, to which `redirects` redirects have led."""
        route = self._hook.route(request.method, str(request.url), request.headers, _target(request))
        if route is None:
            return self._passed(request)
        library = _library(request)
        if isinstance(route, TaskEndpoint):
            return self._observed(request, route)
        decision = self._hook.submission(route, _outgoing(request, request.read()))()
        if isinstance(decision, ErrorResponse):
            return _client_response(library, decision)
        if isinstance(decision, PassedMessage):
            if decision.task is None:
                return self._passed(request)
            return self._observed(request, decision.task)
        try:
            response = self._inner.handle_request(_approved_request(library, request, decision))
            raw = _read(response)
        except BaseException as error:
            connected = not _never_connected(library, error)
            self._hook.failed(decision.pending, error, connected=connected, sent_once=self._sends_once)
            raise
        answer = _provider_response(library, response, raw)
        instead = self._hook.answered(decision.pending, answer, sent_once=self._sends_once, redirects=redirects)
        if isinstance(instead, Redirect):
            return self._handle(_redirected_request(library, request, instead), redirects + 1)
        return _with_body(library, response, raw) if instead is None else _client_response(library, instead)

    def _passed(self, request: Any) -> Any:
        """Sends a request that is not a submission, and refuses a redirect that might bypass this hook."""
        response = self._inner.handle_request(request)
        if response.status_code not in METHOD_PRESERVING_REDIRECTS:
            return response
        raw = _read(response)
        library = _library(request)
        answer = _provider_response(library, response, raw)
        refusal = self._hook.passed(request.method, str(request.url), answer)
        return _with_body(library, response, raw) if refusal is None else _client_response(library, refusal)

    def _observed(self, request: Any, task: TaskEndpoint) -> Any:
        """Sends a request whose response describes a task, and records the response."""
        library = _library(request)
        response = self._passed(request)
        if not may_describe_task(response.headers.get("content-type", ""), streams=task.reply is not None):
            return response
        raw = _read(response)
        self._hook.on_task_answer(task, _provider_response(library, response, raw))
        return _with_body(library, response, raw)


class AsyncGuardedTransport(_AsyncTransport):
    """A `GuardedTransport` for async clients that use asyncio; the guard runs in threads.

    If a call is cancelled before its request is sent, the reservation is released. If the call is cancelled
    later, the reservation is in doubt.
    """

    def __init__(self, inner: Any, guard: BudgetGuard | AsyncBudgetGuard, **options: Unpack[Options]) -> None:
        self._inner = inner
        self._hook = Hook(guard, **options)
        self._sends_once = self._hook.sends_once(default=_is_library_transport(inner))
        self._threads = WorkerPool(self._hook.max_concurrency)

    @property
    def unpriced(self) -> Mapping[UnpricedPath, int]:
        """The number of requests that were let through without a price, by provider and listed path."""
        return self._hook.unpriced

    async def __aenter__(self) -> Self:
        await self._inner.__aenter__()
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc_value: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        await self._inner.__aexit__(exc_type, exc_value, traceback)

    async def aclose(self) -> None:
        """Closes the inner transport."""
        await self._inner.aclose()

    async def handle_async_request(self, request: Any) -> Any:
        """Sends or refuses a request."""
        return await self._handle(request, 0)

    async def _handle(self, request: Any, redirects: int) -> Any:
        """Sends or refuses a request, to which `redirects` redirects have led."""
        route = self._hook.route(request.method, str(request.url), request.headers, _target(request))
        if route is None:
            return await self._passed(request)
        library = _library(request)
        if isinstance(route, TaskEndpoint):
            return await self._observed(request, route)
        outgoing = _outgoing(request, await request.aread())
        decision = await self._threads.run(self._hook.submission(route, outgoing), self._hook.withdraw)
        if isinstance(decision, ErrorResponse):
            return _client_response(library, decision)
        if isinstance(decision, PassedMessage):
            if decision.task is None:
                return await self._passed(request)
            return await self._observed(request, decision.task)
        try:
            response = await self._inner.handle_async_request(_approved_request(library, request, decision))
            raw = await _aread(response)
        except BaseException as error:
            connected = not _never_connected(library, error)
            failed = partial(self._hook.failed, connected=connected, sent_once=self._sends_once)
            await self._threads.finish(partial(failed, decision.pending, error))
            raise
        answer = _provider_response(library, response, raw)
        answered = partial(self._hook.answered, sent_once=self._sends_once, redirects=redirects)
        instead = await self._threads.finish(partial(answered, decision.pending, answer))
        if isinstance(instead, Redirect):
            return await self._handle(_redirected_request(library, request, instead), redirects + 1)
        return _with_body(library, response, raw) if instead is None else _client_response(library, instead)

    async def _passed(self, request: Any) -> Any:
        """Sends a request that is not a submission, and refuses a redirect that might bypass this hook."""
        response = await self._inner.handle_async_request(request)
        if response.status_code not in METHOD_PRESERVING_REDIRECTS:
            return response
        raw = await _aread(response)
        library = _library(request)
        answer = _provider_response(library, response, raw)
        refusal = self._hook.passed(request.method, str(request.url), answer)
        return _with_body(library, response, raw) if refusal is None else _client_response(library, refusal)

    async def _observed(self, request: Any, task: TaskEndpoint) -> Any:
        """Sends a request whose response describes a task, and records the response."""
        library = _library(request)
        response = await self._passed(request)
        if not may_describe_task(response.headers.get("content-type", ""), streams=task.reply is not None):
            return response
        raw = await _aread(response)
        answer = _provider_response(library, response, raw)
        await self._threads.finish(partial(self._hook.on_task_answer, task, answer))
        return _with_body(library, response, raw)


def _library(request: Any) -> Any:
    """Returns the library whose client created a request; the response must be of the same library."""
    modules = (base.__module__.partition(".")[0] for base in type(request).__mro__)
    return sys.modules[next(name for name in modules if name.startswith("httpx"))]


def _target(request: Any) -> str | None:
    """Returns the request target that the caller set in place of the URL's path; None: there is none."""
    target = request.extensions.get("target")
    return target.decode("latin-1") if isinstance(target, bytes) else target


def _is_library_transport(transport: Any) -> bool:
    """Returns whether a transport's class is httpx's or httpx2's own, which sends each request once."""
    return type(transport).__module__.partition(".")[0] in {"httpx", "httpx2"}


def _outgoing(request: Any, body: bytes) -> OutgoingRequest:
    return OutgoingRequest(request.method, str(request.url), dict(request.headers.items()), body)


def _approved_request(library: Any, request: Any, decision: ApprovedSubmission) -> Any:
    """Returns the request to send, with the approved body and headers."""
    headers = library.Headers(request.headers)
    for name in ("content-length", "transfer-encoding", MEDIA_HEADER):
        headers.pop(name, None)
    headers.update(decision.headers)
    body = request.content if decision.body is None else decision.body
    return library.Request(
        request.method, request.url, headers=headers, content=body, extensions=request.extensions
    )


def _redirected_request(library: Any, request: Any, redirect: Redirect) -> Any:
    """Returns the caller's original request with the URL to which it was redirected."""
    headers = library.Headers(request.headers)
    for name in ("content-length", "transfer-encoding"):
        headers.pop(name, None)
    return library.Request(
        request.method, redirect.url, headers=headers, content=request.content, extensions=request.extensions
    )


def _read(response: Any) -> bytes:
    """Reads the body of a response without decompressing it."""
    try:
        return b"".join(response.stream)
    finally:
        response.close()


async def _aread(response: Any) -> bytes:
    try:
        return b"".join([part async for part in response.stream])
    finally:
        await response.aclose()


def _provider_response(library: Any, response: Any, raw: bytes) -> ProviderResponse:
    """Returns a response as plain data; a body that cannot be decompressed counts as empty."""
    try:
        body = library.Response(response.status_code, headers=response.headers, content=raw).content
    except library.DecodingError:
        body = b""
    return ProviderResponse(response.status_code, dict(response.headers.items()), body)


def _with_body(library: Any, response: Any, raw: bytes) -> Any:
    """Returns a copy of a response with a body that can be read again."""
    return library.Response(
        response.status_code,
        headers=response.headers,
        stream=library.ByteStream(raw),
        extensions=response.extensions,
    )


def _client_response(library: Any, response: ErrorResponse) -> Any:
    return library.Response(response.status, headers=dict(response.headers), content=response.body)


def _never_connected(library: Any, error: BaseException) -> bool:
    """Returns whether an error proves that no connection existed over which the request could be sent."""
    return isinstance(
        error,
        (
            library.ConnectError,
            library.ConnectTimeout,
            library.PoolTimeout,
            library.ProxyError,
            library.UnsupportedProtocol,
        ),
    )
