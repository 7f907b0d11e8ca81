"""A guarding middleware for aiohttp's client (3.12.4 or newer).

::

    session = aiohttp.ClientSession(middlewares=[GuardMiddleware(guard, project="trailer")])
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from functools import partial
from http import HTTPStatus
from io import BytesIO
from typing import Any, Unpack, cast

import aiohttp
from aiohttp.base_protocol import BaseProtocol
from aiohttp.helpers import TimerNoop
from aiohttp.http import HttpVersion11, RawResponseMessage
from multidict import CIMultiDict, CIMultiDictProxy

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
    TaskEndpoint,
    may_describe_task,
)
from kling_pricing.hooks.route import UnpricedPath

_LARGE_BYTES = 1 << 20
"""Larger bodies are passed to aiohttp as files, so that sending them does not block the event loop."""

_NEVER_CONNECTED = (
    aiohttp.ClientConnectorError,
    aiohttp.ConnectionTimeoutError,
    aiohttp.InvalidURL,
)
"""Errors that prove that no connection existed over which the request could be sent."""


class GuardMiddleware:
    """Guards the requests of a session like `kling_pricing.hooks.httpx.AsyncGuardedTransport`.

    A request with its own `middlewares=()` bypasses the guard.

    Args:
        guard: the guard whose budgets apply.
        options: see `Options`. If other middlewares follow this one, refusals and failed connections do not
            release the reservation, because the other middlewares may already have sent the request; see the
            option `sends_once`.
    """

    def __init__(self, guard: BudgetGuard | AsyncBudgetGuard, **options: Unpack[Options]) -> None:
        self._hook = Hook(guard, **options)
        self._threads = WorkerPool(self._hook.max_concurrency)

    @property
    def unpriced(self) -> Mapping[UnpricedPath, int]:
        """The number of requests that were let through without a price, by provider and listed path."""
        return self._hook.unpriced

    def _sends_once(self, handler: aiohttp.ClientHandlerType) -> bool:
        """Returns whether requests are sent once: if the handler is aiohttp's own, not another middleware."""
        return self._hook.sends_once(default=handler.__module__ == aiohttp.client.__name__)

    async def __call__(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        """Sends or refuses a request."""
        route = self._hook.route(request.method, str(request.url), request.headers)
        if route is None:
            return await handler(request)
        if isinstance(route, TaskEndpoint):
            return await self._observed(request, handler, route)
        outgoing = await _outgoing(request)
        decision = await self._threads.run(self._hook.submission(route, outgoing), self._hook.withdraw)
        if isinstance(decision, ErrorResponse):
            return await _client_response(request, decision)
        if isinstance(decision, PassedMessage):
            if decision.task is None:
                return await handler(request)
            return await self._observed(request, handler, decision.task)
        sent_once = self._sends_once(handler)
        try:
            await _apply(request, decision)
            response = await handler(request)
            answer = await _provider_response(response)
        except BaseException as error:
            connected = not isinstance(error, _NEVER_CONNECTED)
            failed = partial(self._hook.failed, connected=connected, sent_once=sent_once)
            await self._threads.finish(partial(failed, decision.pending, error))
            raise
        answered = partial(self._hook.answered, decision.pending, answer)
        # a session passes each redirected request through its middlewares again
        refusal = await self._threads.finish(partial(answered, sent_once=sent_once, redirects=None))
        if isinstance(refusal, ErrorResponse):
            return await _client_response(request, refusal)
        if decision.body is not None and response.status in METHOD_PRESERVING_REDIRECTS:
            await request.update_body(
                _payload(request, outgoing.body)
            )  # aiohttp sends this body to the new URL
        _restore_stream(request, response, answer.body)
        return response

    async def _observed(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType, task: TaskEndpoint
    ) -> aiohttp.ClientResponse:
        """Sends a request whose response describes a task, and records the response."""
        response = await handler(request)
        content_type = response.headers.get("content-type", "")
        if may_describe_task(content_type, streams=task.reply is not None):
            answer = await _provider_response(response)
            await self._threads.finish(partial(self._hook.on_task_answer, task, answer))
            _restore_stream(request, response, answer.body)
        return response


async def _outgoing(request: aiohttp.ClientRequest) -> OutgoingRequest:
    body = request.body
    headers = {name.lower(): value for name, value in request.headers.items()}
    content = body if isinstance(body, bytes) else await body.as_bytes()
    return OutgoingRequest(request.method, str(request.url), headers, bytes(content))


async def _apply(request: aiohttp.ClientRequest, decision: ApprovedSubmission) -> None:
    """Changes a request into the approved one."""
    request.headers.pop(MEDIA_HEADER, None)
    request.headers.update(decision.headers)
    if decision.body is not None:
        request.chunked = request.compress = None  # the body is sent whole and uncompressed
        for name in ("Transfer-Encoding", "Content-Encoding"):
            request.headers.pop(name, None)
        await request.update_body(_payload(request, decision.body))


def _payload(request: aiohttp.ClientRequest, body: bytes) -> aiohttp.Payload:
    """Returns a body as a payload with the request's Content-Type."""
    content_type = request.headers.get("Content-Type", "application/octet-stream")
    if len(body) > _LARGE_BYTES:
        return aiohttp.BytesIOPayload(BytesIO(body), content_type=content_type)
    return aiohttp.BytesPayload(body, content_type=content_type)


async def _provider_response(response: aiohttp.ClientResponse) -> ProviderResponse:
    """Returns a response as plain data; the response keeps its body, so the caller can read it again."""
    headers = {name.lower(): value for name, value in response.headers.items()}
    return ProviderResponse(response.status, headers, await response.read())


def _restore_stream(request: aiohttp.ClientRequest, response: aiohttp.ClientResponse, body: bytes) -> None:
    """Restores the stream of a response whose body was read."""
    response.content = _stream(request, body)


def _stream(request: aiohttp.ClientRequest, body: bytes) -> aiohttp.StreamReader:
    stream = aiohttp.StreamReader(BaseProtocol(request.loop), limit=len(body) + 1, loop=request.loop)
    stream.feed_data(body)
    stream.feed_eof()
    return stream


async def _client_response(request: aiohttp.ClientRequest, response: ErrorResponse) -> aiohttp.ClientResponse:
    """Returns an aiohttp response, which aiohttp can only read from a connection (`_CannedConnection`)."""
    connection = _CannedConnection(request, response)
    arguments: dict[str, Any] = {
        "writer": None,
        "continue100": None,
        "timer": TimerNoop(),
        "request_info": request.request_info,
        "traces": [],
        "loop": request.loop,
        "session": request.session,
        "stream_writer": connection,  # newer versions read the number of sent bytes from it
    }
    parameters = inspect.signature(request.response_class).parameters
    client_response = request.response_class(
        request.method, request.url, **{name: arguments[name] for name in arguments if name in parameters}
    )
    return await client_response.start(cast("Any", connection))


class _CannedConnection:
    """A connection and its protocol, without a socket, that delivers one given response."""

    output_size = 0
    upgraded = False

    def __init__(self, request: aiohttp.ClientRequest, response: ErrorResponse) -> None:
        headers = CIMultiDictProxy(CIMultiDict(response.headers))
        raw = tuple((name.encode(), value.encode()) for name, value in headers.items())
        reason = HTTPStatus(response.status).phrase
        self.protocol = self
        self._message = RawResponseMessage(
            HttpVersion11,
            response.status,
            reason,
            headers,
            raw,
            should_close=False,
            compression=None,
            upgrade=False,
            chunked=False,
        )
        self._stream = _stream(request, response.body)

    async def read(self) -> tuple[RawResponseMessage, aiohttp.StreamReader]:
        return self._message, self._stream

    def release(self) -> None:
        """Does nothing: there is no connection to return to a pool."""

    def close(self) -> None:
        """Does nothing: there is no connection."""
