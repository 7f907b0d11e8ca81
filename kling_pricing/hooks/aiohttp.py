"""A guarding middleware for aiohttp's client (3.12 or newer).

::

    session = aiohttp.ClientSession(middlewares=[GuardMiddleware(guard, project="trailer")])
"""

from __future__ import annotations

import inspect
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
from kling_pricing.hooks.hook import SAME_REQUEST_ELSEWHERE, Hook, Options
from kling_pricing.hooks.http_messages import Answer, Outgoing, Response, Send, may_tell_of_a_task
from kling_pricing.hooks.routes import TaskEndpoint

_LARGE_BYTES = 1 << 20
"""Above that aiohttp wants a body as a file, so that sending it does not hold up the event loop."""

_NEVER_CONNECTED = (
    aiohttp.ClientConnectorError,
    aiohttp.ConnectionTimeoutError,
    aiohttp.InvalidURL,
)
"""There was never a connection over which a request could have been sent."""


class GuardMiddleware:
    """Guards what a session sends; see `kling_pricing.hooks.httpx.AsyncGuardedTransport`.

    A request made with `middlewares=()` of its own goes past it.

    Args:
        guard: whose budgets hold.
        options: see `Options`. Unless it is the last of the middlewares, no refusal and no failed connection is
            believed, for those after it may have sent before: see `sends_once`.
    """

    def __init__(self, guard: BudgetGuard | AsyncBudgetGuard, **options: Unpack[Options]) -> None:
        self._hook = Hook(guard, **options)
        self._threads = WorkerPool(self._hook.max_concurrency)

    def _sends_once(self, handler: aiohttp.ClientHandlerType) -> bool:
        """Whether the handler is aiohttp's own, and not another middleware, which might send again."""
        return self._hook.sends_once(known=handler.__module__ == aiohttp.client.__name__)

    async def __call__(
        self, request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        """Sends a request, or refuses it."""
        route = self._hook.route(request.method, str(request.url))
        if route is None:
            return await handler(request)
        if isinstance(route, TaskEndpoint):
            response = await handler(request)
            if may_tell_of_a_task(response.headers.get("content-type", "")):
                await self._threads.finish(partial(self._hook.on_task_answer, route, await _told(response)))
                _put_back(request, response, await response.read())
            return response
        outgoing = await _outgoing(request)
        decision = await self._threads.run(self._hook.submission(route, outgoing), self._hook.withdraw)
        if isinstance(decision, Answer):
            return await _answered(request, decision)
        sent_once = self._sends_once(handler)
        try:
            await _rewrite(request, decision)
            response = await handler(request)
            told = await _told(response)
        except BaseException as error:
            connected = not isinstance(error, _NEVER_CONNECTED)
            failed = partial(self._hook.failed, connected=connected, sent_once=sent_once)
            await self._threads.finish(partial(failed, decision.ticket, error))
            raise
        answered = partial(self._hook.answered, decision.ticket, told, sent_once=sent_once)
        refused = await self._threads.finish(answered)
        if refused is not None:
            return await _answered(request, refused)
        if decision.body is not None and response.status in SAME_REQUEST_ELSEWHERE:
            await request.update_body(_payload(request, outgoing.body))  # aiohttp sends what is there then
        _put_back(request, response, told.body)
        return response


async def _outgoing(request: aiohttp.ClientRequest) -> Outgoing:
    body = request.body
    headers = {name.lower(): value for name, value in request.headers.items()}
    read = body if isinstance(body, bytes) else await body.as_bytes()
    return Outgoing(request.method, str(request.url), headers, bytes(read))


async def _rewrite(request: aiohttp.ClientRequest, decision: Send) -> None:
    """Makes the request the one to be sent; a payload that was read can be written all the same."""
    request.headers.update(decision.headers)
    if decision.body is not None:
        request.chunked = request.compress = None  # it goes out whole, as it is
        for name in ("Transfer-Encoding", "Content-Encoding"):
            request.headers.pop(name, None)
        await request.update_body(_payload(request, decision.body))


def _payload(request: aiohttp.ClientRequest, body: bytes) -> aiohttp.Payload:
    """A body of the request's own kind."""
    kind = request.headers.get("Content-Type", "application/octet-stream")
    if len(body) > _LARGE_BYTES:
        return aiohttp.BytesIOPayload(BytesIO(body), content_type=kind)
    return aiohttp.BytesPayload(body, content_type=kind)


async def _told(response: aiohttp.ClientResponse) -> Response:
    """What an answer says. Its body is kept by the response, which gives it to whoever asks next."""
    headers = {name.lower(): value for name, value in response.headers.items()}
    return Response(response.status, headers, await response.read())


def _put_back(request: aiohttp.ClientRequest, response: aiohttp.ClientResponse, body: bytes) -> None:
    """Gives the stream of an answer that was read its content back."""
    response.content = _stream(request, body)


def _stream(request: aiohttp.ClientRequest, body: bytes) -> aiohttp.StreamReader:
    stream = aiohttp.StreamReader(BaseProtocol(request.loop), limit=len(body) + 1, loop=request.loop)
    stream.feed_data(body)
    stream.feed_eof()
    return stream


async def _answered(request: aiohttp.ClientRequest, answer: Answer) -> aiohttp.ClientResponse:
    """An answer as if it had come over a connection: that is how aiohttp makes responses."""
    connection = _Canned(request, answer)
    made: dict[str, Any] = {
        "writer": None,
        "continue100": None,
        "timer": TimerNoop(),
        "request_info": request.request_info,
        "traces": [],
        "loop": request.loop,
        "session": request.session,
        "stream_writer": connection,  # newer versions ask it how much was sent
    }
    taken = inspect.signature(request.response_class).parameters
    response = request.response_class(
        request.method, request.url, **{name: value for name, value in made.items() if name in taken}
    )
    return await response.start(cast("Any", connection))


class _Canned:
    """A connection, and its protocol, over which one answer comes and nothing was ever sent."""

    output_size = 0
    upgraded = False

    def __init__(self, request: aiohttp.ClientRequest, answer: Answer) -> None:
        headers = CIMultiDictProxy(CIMultiDict(answer.headers))
        raw = tuple((name.encode(), value.encode()) for name, value in headers.items())
        reason = HTTPStatus(answer.status).phrase
        self.protocol = self
        self._message = RawResponseMessage(
            HttpVersion11,
            answer.status,
            reason,
            headers,
            raw,
            should_close=False,
            compression=None,
            upgrade=False,
            chunked=False,
        )
        self._stream = _stream(request, answer.body)

    async def read(self) -> tuple[RawResponseMessage, aiohttp.StreamReader]:
        return self._message, self._stream

    def release(self) -> None:
        """Nothing is to be given back."""

    def close(self) -> None:
        """Nothing is open."""
