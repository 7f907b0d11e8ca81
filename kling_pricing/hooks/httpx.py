"""Guarded transports for httpx and for httpx2, with the classes of either library.

::

    client = httpx.Client(transport=GuardedTransport(httpx.HTTPTransport(), guard, project="trailer"))
"""

from __future__ import annotations

import sys
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, Unpack

from kling_pricing.guard import BudgetGuard
from kling_pricing.guard.async_guard import AsyncBudgetGuard
from kling_pricing.guard.threads import WorkerPool
from kling_pricing.hooks.hook import Hook, Options
from kling_pricing.hooks.http_messages import Answer, Outgoing, Response, Send, may_tell_of_a_task
from kling_pricing.hooks.routes import TaskEndpoint

if TYPE_CHECKING:
    import httpx
    import httpx2

    class _Transport(httpx.BaseTransport, httpx2.BaseTransport):  # type: ignore[misc]
        """What a client of either library takes."""

    class _AsyncTransport(httpx.AsyncBaseTransport, httpx2.AsyncBaseTransport):  # type: ignore[misc]
        """What an async client of either library takes."""

else:
    _Transport = _AsyncTransport = object  # neither library needs to be there, and neither asks for its class


class GuardedTransport(_Transport):
    """Guards what a client sends through another transport.

    A submission that is let through is priced, checked, reserved, perhaps rewritten, sent, bound to its task; a
    task's status that passes by settles it. Everything else passes untouched.

    Args:
        inner: the transport that sends, such as `httpx.HTTPTransport()`. Of one of another make no refusal and
            no failed connection is believed, for it may have sent before: see `sends_once`.
        guard: whose budgets hold.
        options: see `Options`.

    Raises, where a client sends:
        BudgetExceededError, CapabilityError, ...: what `BudgetGuard.admit` raises, unless `refusals="respond"`.
            Nothing was sent.
        ReservationStateError: the job was sent before, and may be running. Nothing was sent.
    """

    def __init__(self, inner: Any, guard: BudgetGuard | AsyncBudgetGuard, **options: Unpack[Options]) -> None:
        self._inner = inner
        self._hook = Hook(guard, **options)
        self._sends_once = self._hook.sends_once(known=_is_the_librarys_own(inner))

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
        """Sends a request, or refuses it."""
        route = self._hook.route(request.method, str(request.url))
        if route is None:
            return self._inner.handle_request(request)
        library = _library(request)
        if isinstance(route, TaskEndpoint):
            response = self._inner.handle_request(request)
            if may_tell_of_a_task(response.headers.get("content-type", "")):
                raw = _read(response)
                self._hook.on_task_answer(route, _told(library, response, raw))
                response = _whole(library, response, raw)
            return response
        decision = self._hook.submission(route, _outgoing(request, request.read()))()
        if isinstance(decision, Answer):
            return _answered(library, decision)
        try:
            response = self._inner.handle_request(_rewritten(library, request, decision))
            raw = _read(response)
        except BaseException as error:
            connected = not _never_connected(library, error)
            self._hook.failed(decision.ticket, error, connected=connected, sent_once=self._sends_once)
            raise
        told = _told(library, response, raw)
        refused = self._hook.answered(decision.ticket, told, sent_once=self._sends_once)
        return _whole(library, response, raw) if refused is None else _answered(library, refused)


class AsyncGuardedTransport(_AsyncTransport):
    """`GuardedTransport` for async clients, under asyncio; the guard works in threads.

    A call that is cancelled before anything was sent gives the money back; later it is in doubt.
    """

    def __init__(self, inner: Any, guard: BudgetGuard | AsyncBudgetGuard, **options: Unpack[Options]) -> None:
        self._inner = inner
        self._hook = Hook(guard, **options)
        self._sends_once = self._hook.sends_once(known=_is_the_librarys_own(inner))
        self._threads = WorkerPool(self._hook.max_concurrency)

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
        """Sends a request, or refuses it."""
        route = self._hook.route(request.method, str(request.url))
        if route is None:
            return await self._inner.handle_async_request(request)
        library = _library(request)
        if isinstance(route, TaskEndpoint):
            response = await self._inner.handle_async_request(request)
            if may_tell_of_a_task(response.headers.get("content-type", "")):
                raw = await _aread(response)
                await self._threads.finish(
                    partial(self._hook.on_task_answer, route, _told(library, response, raw))
                )
                response = _whole(library, response, raw)
            return response
        outgoing = _outgoing(request, await request.aread())
        decision = await self._threads.run(self._hook.submission(route, outgoing), self._hook.withdraw)
        if isinstance(decision, Answer):
            return _answered(library, decision)
        try:
            response = await self._inner.handle_async_request(_rewritten(library, request, decision))
            raw = await _aread(response)
        except BaseException as error:
            connected = not _never_connected(library, error)
            failed = partial(self._hook.failed, connected=connected, sent_once=self._sends_once)
            await self._threads.finish(partial(failed, decision.ticket, error))
            raise
        told = _told(library, response, raw)
        answered = partial(self._hook.answered, decision.ticket, told, sent_once=self._sends_once)
        refused = await self._threads.finish(answered)
        return _whole(library, response, raw) if refused is None else _answered(library, refused)


def _library(request: Any) -> Any:
    """The library whose client made a request, and which must have made the response."""
    kinds = (kind.__module__.partition(".")[0] for kind in type(request).__mro__)
    return sys.modules[next(name for name in kinds if name.startswith("httpx"))]


def _is_the_librarys_own(transport: Any) -> bool:
    """Whether it is one of the libraries' transports, which send a request once, and no class built on one."""
    return type(transport).__module__.partition(".")[0] in {"httpx", "httpx2"}


def _outgoing(request: Any, body: bytes) -> Outgoing:
    return Outgoing(request.method, str(request.url), dict(request.headers.items()), body)


def _rewritten(library: Any, request: Any, decision: Send) -> Any:
    """The request that is to be sent: its body's length, not that of the request before, and its headers."""
    headers = library.Headers(request.headers)
    for name in ("content-length", "transfer-encoding"):
        headers.pop(name, None)
    headers.update(decision.headers)
    body = request.content if decision.body is None else decision.body
    return library.Request(
        request.method, request.url, headers=headers, content=body, extensions=request.extensions
    )


def _read(response: Any) -> bytes:
    """The body as it came over the wire."""
    try:
        return b"".join(response.stream)
    finally:
        response.close()


async def _aread(response: Any) -> bytes:
    try:
        return b"".join([part async for part in response.stream])
    finally:
        await response.aclose()


def _told(library: Any, response: Any, raw: bytes) -> Response:
    """What an answer says; of a body that cannot be decompressed, nothing."""
    try:
        body = library.Response(response.status_code, headers=response.headers, content=raw).content
    except library.DecodingError:
        body = b""
    return Response(response.status_code, dict(response.headers.items()), body)


def _whole(library: Any, response: Any, raw: bytes) -> Any:
    """An answer that was read, as if it had not been."""
    return library.Response(
        response.status_code,
        headers=response.headers,
        stream=library.ByteStream(raw),
        extensions=response.extensions,
    )


def _answered(library: Any, answer: Answer) -> Any:
    return library.Response(answer.status, headers=dict(answer.headers), content=answer.body)


def _never_connected(library: Any, error: BaseException) -> bool:
    """Whether there was never a connection over which a request could have been sent."""
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
