"""The sandbox as an ASGI application."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any, TypeAlias
from urllib.parse import parse_qsl

from kling_pricing.sandbox.call_outcomes import Outcome, Poll
from kling_pricing.sandbox.exchange import JSON, Call, Reply
from kling_pricing.sandbox.har import HarFile
from kling_pricing.sandbox.jobs import Job
from kling_pricing.sandbox.provider import RehearsedProvider
from kling_pricing.sandbox.rehearsal import Rehearsal

Scope: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send: TypeAlias = Callable[[MutableMapping[str, Any]], Awaitable[None]]

_TICK_S = 1 / 20
_MAX_BODY_BYTES = 64 * 2**20
_TOO_LARGE = 413
_MAX_WAIT_S = 60
_NS_PER_MS = 10**6


class Application:
    """Answers HTTP requests.

    Args:
        rehearsal: the providers.
        drop: closes the connection of a client (host, port) without a response.
        har: the archive in which to save all requests; None: they are not saved.
    """

    def __init__(
        self, rehearsal: Rehearsal, drop: Callable[[tuple[str, int]], None], har: HarFile | None = None
    ) -> None:
        self._rehearsal = rehearsal
        self._drop = drop
        self._har = har
        self._ticking: asyncio.Task[None] | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request, or handles the start and the end of the server."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        if scope["type"] != "http":
            return
        body = await _body(receive)
        if body is None:
            return
        started, started_ns = datetime.now(UTC), time.monotonic_ns()
        headers = _headers(scope["headers"])
        provider, path = self._rehearsal.provider_of(scope["path"], headers.get("host", ""))
        query = dict(parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True))
        path = path.rstrip("/")
        call = Call(scope["method"], path, query, headers, body, provider.base if provider else "")
        if len(body) > _MAX_BODY_BYTES:
            outcome = Outcome(
                Reply(_TOO_LARGE, {"error": "the body is larger than 64 MiB; send a smaller one"})
            )
        else:
            outcome = self._rehearsal.handle(provider, call)
        if outcome.job is not None and provider is not None:
            outcome = await self._waited(provider, call, outcome, outcome.job)
        if outcome.poll is not None and provider is not None:
            outcome = await self._polled(provider, outcome, outcome.poll)
        sent = await self._answer(scope, receive, send, outcome)
        if self._har is not None:
            took_ms = (time.monotonic_ns() - started_ns) // _NS_PER_MS
            target = scope["path"] + (f"?{scope['query_string'].decode('latin-1')}" if query else "")
            url = f"http://{headers.get('host', '')}{target}"
            self._har.add(started, took_ms, (call.method, url, headers, body), sent)

    async def _answer(
        self, scope: Scope, receive: Receive, send: Send, outcome: Outcome
    ) -> tuple[int, dict[str, str], bytes]:
        """Sends the response, if any, and returns it; the status is 0 if the client got no response."""
        is_gone = outcome.answer == "lost" or (outcome.answer == "held" and await self._held(receive))
        if is_gone:
            if outcome.answer == "lost":
                self._drop(tuple(scope["client"]))
                await receive()  # the server must notice that the connection is gone
            return 0, {}, b""
        reply = outcome.reply
        headers = {"content-type": JSON, **reply.headers}
        content = reply.content
        headers["content-length"] = str(len(content))
        encoded = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
        await send({"type": "http.response.start", "status": reply.status, "headers": encoded})
        await send({"type": "http.response.body", "body": content})
        return reply.status, headers, content

    async def _held(self, receive: Receive) -> bool:
        """Waits until the client disconnects or responses are released; returns whether it disconnected."""
        resumed = self._rehearsal.resumed
        gone = asyncio.ensure_future(receive())
        while not gone.done() and self._rehearsal.resumed == resumed:
            await asyncio.wait({gone}, timeout=_TICK_S)
        has_left = gone.done()
        gone.cancel()
        with suppress(asyncio.CancelledError):
            await gone
        return has_left

    async def _waited(self, provider: RehearsedProvider, call: Call, outcome: Outcome, job: Job) -> Outcome:
        """Waits for the end of a task if the request asks for it (`Prefer: wait=10`) and the API allows it."""
        name, _, seconds = call.headers.get("prefer", "").partition("=")
        face = provider.face(job)
        if name.strip() != "wait" or not face.WAITS or outcome.answer != "sent" or outcome.reply.status >= 300:  # noqa: PLR2004
            return outcome
        limit_s = min(int(seconds), _MAX_WAIT_S) if seconds.strip().isdecimal() else _MAX_WAIT_S
        until_ns, resumed = time.monotonic_ns() + limit_s * 10**9, self._rehearsal.resumed
        current: Job | None = job
        while current is not None and not current.is_final and time.monotonic_ns() < until_ns:
            if self._rehearsal.resumed != resumed:
                break
            await asyncio.sleep(_TICK_S)
            self._rehearsal.advance()
            current = provider.find(job.id)
        return outcome._replace(reply=Reply(outcome.reply.status, face.created(current or job, provider)))

    async def _polled(self, provider: RehearsedProvider, outcome: Outcome, poll: Poll) -> Outcome:
        """Waits for the end of a task if an MCP message asks for it (`wait_seconds`)."""
        until_ns, resumed = time.monotonic_ns() + poll.limit_s * 10**9, self._rehearsal.resumed
        while time.monotonic_ns() < until_ns and self._rehearsal.resumed == resumed:
            await asyncio.sleep(_TICK_S)
            self._rehearsal.advance()
            outcome = provider.handle(poll.call)
            if b'"should_poll":true' not in outcome.reply.content:
                break
        return outcome

    async def _live(self, receive: Receive, send: Send) -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                self._ticking = asyncio.ensure_future(self._tick())
                await send({"type": "lifespan.startup.complete"})
            elif message["type"] == "lifespan.shutdown":
                if self._ticking is not None:
                    self._ticking.cancel()
                await send({"type": "lifespan.shutdown.complete"})
                return

    async def _tick(self) -> None:
        """Advances the tasks and sends their callbacks even while no requests arrive."""
        while True:
            await asyncio.sleep(_TICK_S)
            self._rehearsal.advance()


def _headers(pairs: Iterable[tuple[bytes, bytes]]) -> dict[str, str]:
    """Returns name in lower case -> value; the values of a repeated header are joined with commas."""
    headers: dict[str, str] = {}
    for raw_name, raw_value in pairs:
        name, value = raw_name.decode("latin-1").lower(), raw_value.decode("latin-1")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    return headers


async def _body(receive: Receive) -> bytes | None:
    """Returns the body of a request, cut off after it exceeds the limit; None: the client has disconnected."""
    parts: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return None
        if size <= _MAX_BODY_BYTES:
            parts.append(message.get("body", b""))
        size += len(message.get("body", b""))
        if not message.get("more_body", False):
            return b"".join(parts)
