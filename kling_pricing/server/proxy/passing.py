"""The proxy as an ASGI application: recognises the caller, and submits, passes on or refuses its request."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from functools import partial
from http import HTTPStatus
from urllib.parse import urljoin, urlsplit

import aiohttp
from yarl import URL

from kling_pricing.errors import (
    AccessError,
    BudgetError,
    KlingPricingError,
    LedgerUnavailableError,
    SettingsError,
)
from kling_pricing.guard import BudgetGuard
from kling_pricing.hooks.hook import METHOD_PRESERVING_REDIRECTS
from kling_pricing.hooks.http_messages import ErrorResponse, ProviderResponse, TaskEndpoint, may_describe_task
from kling_pricing.hooks.route import McpEndpoint, Route, UnlistedPath, UnpricedPath
from kling_pricing.server.access import Caller
from kling_pricing.server.asgi_messages import Receive, Scope, Send, headers_of, send_response
from kling_pricing.server.proxy.guarded import GuardedUpstream, rules_of
from kling_pricing.server.proxy.header_rules import (
    merged,
    returned_headers,
    returned_status,
    sent_headers,
)
from kling_pricing.server.proxy.incoming import BodyError, CallerGoneError, IncomingBodies
from kling_pricing.server.proxy.project_limits import is_checked, not_found, only_reads, refusal_for_project
from kling_pricing.server.proxy.provider_answers import (
    Answer,
    AnswerTooLargeError,
    error_answer,
    hook_answer,
    read_whole,
)
from kling_pricing.server.proxy.submitting import Submitting, UpstreamRequest
from kling_pricing.server.proxy.targets import Target, TargetError, target_of, upstream_of
from kling_pricing.server.server_state import ServerState
from kling_pricing.server.upstreams import Upstream
from kling_pricing.tables.http_rules import HttpRules
from kling_pricing.wire.endpoints import Endpoint

_log = logging.getLogger("kling_pricing.server")

_METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"}
_MIB = 2**20
_PART_BYTES = 64 * 1024
_LOWEST_ERROR = 400


class Proxy:
    """Answers the requests below `/p/`.

    Args:
        state: the state of the server.
    """

    def __init__(self, state: ServerState) -> None:
        self._state = state
        self._bodies = IncomingBodies(state.settings.limits)
        self._guarded: dict[str, GuardedUpstream] = {}
        self._submitting = Submitting(state, self._bodies)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        try:
            upstream = upstream_of(scope, self._state.upstreams)
        except TargetError as error:
            await _send(send, await self._unknown_upstream(scope, error))
            return
        rules = rules_of(self._state.book, upstream.provider)
        try:
            answer = await self._answer(scope, receive, send, upstream, rules)
        except CallerGoneError:
            return
        except (AccessError, TargetError, BodyError) as error:
            answer = _refusal(error.status, error, rules)
        except (LedgerUnavailableError, BudgetError, SettingsError) as error:
            _log.error("a request to %s cannot be answered: %s", upstream.name, error)
            answer = _refusal(HTTPStatus.SERVICE_UNAVAILABLE, error, rules)
        except KlingPricingError as error:
            answer = _refusal(HTTPStatus.BAD_REQUEST, error, rules)
        if answer is not None:
            await _send(send, answer)

    async def _answer(
        self, scope: Scope, receive: Receive, send: Send, upstream: Upstream, rules: HttpRules
    ) -> Answer | None:
        """Returns the response to a request; None: it was sent in parts."""
        headers = headers_of(scope)
        method: str = scope["method"]
        try:
            target = target_of(scope, upstream)
        except TargetError:
            await self._state.caller(headers)
            raise
        if method not in _METHODS:
            await self._state.caller(headers)
            message = f"the method {method} is not passed on; use one of {', '.join(sorted(_METHODS))}"
            return error_answer(
                HTTPStatus.METHOD_NOT_ALLOWED, "method_not_allowed", message, rules, refused_by="AccessError"
            )
        guarded = self._guarded.get(upstream.name)
        if guarded is None:
            await self._state.caller(headers)
            guarded = await self._state.run(partial(self._opened, upstream))
        request = UpstreamRequest(method, target, dict(sent_headers(scope["headers"])), headers)
        route = guarded.routes.find(method, target.url)
        admitted = partial(self._admitted, scope, guarded, request, route)
        if isinstance(route, Endpoint | McpEndpoint | UnlistedPath):
            return await self._submitting.submit(guarded, route, request, admitted, receive)
        caller, refusal = await self._state.run(admitted)
        if refusal is not None:
            return refusal
        if isinstance(route, UnpricedPath):
            guarded.hook.route(method, target.url, {})  # counts it
        task = route if isinstance(route, TaskEndpoint) else None
        return await self._passed(guarded, request, caller, task, receive, send)

    def _admitted(
        self,
        scope: Scope,
        guarded: GuardedUpstream,
        request: UpstreamRequest,
        route: Route,
        guard: BudgetGuard,
    ) -> tuple[Caller, Answer | None]:
        """Returns the caller of a request, and the refusal if its project may not send it; runs in a thread.

        The state in the scope then has the caller, for the log.

        Raises:
            AccessError: the request has no valid access key, or the key does not allow the request.
            LedgerUnavailableError: the ledger cannot be read.
        """
        caller = self._state.access.caller(request.received)
        scope["state"]["caller"] = caller
        caller.require("view" if only_reads(request.method, route) else "submit")
        if caller.project is None:
            return caller, None
        return caller, refusal_for_project(guard, guarded, request, route, caller, caller.project)

    async def _unknown_upstream(self, scope: Scope, error: TargetError) -> Answer:
        """Returns the response about an unknown upstream, which only callers with an access key get."""
        try:
            await self._state.caller(headers_of(scope))
        except AccessError as refusal:
            return _refusal(refusal.status, refusal, HttpRules())
        except KlingPricingError as failure:
            return _refusal(HTTPStatus.SERVICE_UNAVAILABLE, failure, HttpRules())
        return error_answer(error.status, "unknown_upstream", str(error), HttpRules())

    def _opened(self, upstream: Upstream, guard: BudgetGuard) -> GuardedUpstream:
        return self._guarded.setdefault(upstream.name, GuardedUpstream(upstream, guard))

    async def _passed(
        self,
        guarded: GuardedUpstream,
        request: UpstreamRequest,
        caller: Caller,
        task: TaskEndpoint | None,
        receive: Receive,
        send: Send,
    ) -> Answer | None:
        """Passes a request on that is not a submission."""
        rules = rules_of(guarded.guard.book, guarded.upstream.provider)
        stated = request.received.get("content-length")
        self._bodies.check_upload(stated)
        further = {} if task is None else {"accept-encoding": "identity"}
        if stated is not None:
            further["content-length"] = stated
        upload = _Upload(self._bodies, receive)
        has_body = stated not in {None, "0"} or "transfer-encoding" in request.received
        settings = guarded.upstream.settings
        try:
            async with self._state.session.request(
                request.method,
                URL(request.target.url, encoded=True),
                headers=merged(request.headers, further, guarded.upstream.headers()),
                data=upload.parts() if has_body else None,
                allow_redirects=False,
                timeout=aiohttp.ClientTimeout(
                    total=None, sock_connect=settings.connect_timeout_s, sock_read=settings.read_timeout_s
                ),
            ) as response:
                if response.status in METHOD_PRESERVING_REDIRECTS:
                    headers = {name.lower(): value for name, value in response.headers.items()}
                    moved = ProviderResponse(response.status, headers, b"")
                    refusal = guarded.hook.passed(request.method, request.target.url, moved)
                    if isinstance(refusal, ErrorResponse):
                        return hook_answer(refusal)
                if task is not None:
                    content_type = response.headers.get("content-type", "")
                    must_filter = caller.project is not None and not is_checked(guarded, request.target, task)
                    if must_filter or may_describe_task(content_type, streams=task.reply is not None):
                        project = caller.project if must_filter else None
                        return await self._observed(guarded, project, task, response, rules)
                is_read = upload.is_complete or not has_body
                await self._streamed(request, response, receive, send, is_read=is_read)
                return None
        except TimeoutError:
            upload.reraise()
            message = "the provider did not respond in time; retry later"
            return error_answer(HTTPStatus.GATEWAY_TIMEOUT, "upstream_timeout", message, rules, retry=True)
        except aiohttp.ClientError as error:
            upload.reraise()
            _log.warning("a request to %s failed: %s", guarded.upstream.name, type(error).__name__)
            message = "the provider cannot be reached, or broke the connection; retry later"
            return error_answer(HTTPStatus.BAD_GATEWAY, "upstream_unreachable", message, rules, retry=True)

    async def _observed(
        self,
        guarded: GuardedUpstream,
        project: str | None,
        task: TaskEndpoint,
        response: aiohttp.ClientResponse,
        rules: HttpRules,
    ) -> Answer:
        """Reads a response about tasks, and records it.

        Args:
            guarded: the upstream.
            project: the only project whose tasks the caller gets; None: the response needs no filter.
            task: the task; its id is empty if the response lists tasks.
            response: the response.
            rules: the API's rules.
        """
        try:
            read = await read_whole(response, self._state.settings.limits.answer_mb * _MIB)
        except AnswerTooLargeError:
            message = "the response is too large to be read; ask for fewer tasks at once"
            return error_answer(HTTPStatus.BAD_GATEWAY, "response_too_large", message, rules)
        if not guarded.unfinished.is_known(task, read.plain):
            await self._state.finish(partial(_record, guarded, task, read.plain))
        if project is None or response.status >= _LOWEST_ERROR:
            return read.answer
        body = await self._state.run(partial(_filtered, guarded, project, read.plain.body))
        if body is None and task.task_id:  # a caller's own id may be that of another project's reservation
            return not_found(task.task_id, rules)
        if body is None:
            message = "the list of tasks cannot be read, so it cannot be limited to your project"
            return error_answer(HTTPStatus.BAD_GATEWAY, "unreadable_list", message, rules)
        headers = [(name, value) for name, value in read.answer.headers if name != "content-encoding"]
        return Answer(read.answer.status, headers, body)

    async def _streamed(
        self,
        request: UpstreamRequest,
        response: aiohttp.ClientResponse,
        receive: Receive,
        send: Send,
        *,
        is_read: bool,
    ) -> None:
        """Passes a response on in parts, until it ends or the caller disconnects."""
        headers = [
            (name, _own_location(request.target, value) if name == "location" else value)
            for name, value in returned_headers(response.raw_headers)
        ]
        if (length := response.headers.get("content-length")) is not None:
            headers.append(("content-length", length))
        encoded = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in headers]
        status = returned_status(response.status)
        await send({"type": "http.response.start", "status": status, "headers": encoded})
        gone = asyncio.ensure_future(_disconnected(receive)) if is_read else None
        try:
            async for part in response.content.iter_chunked(_PART_BYTES):
                if gone is not None and gone.done():
                    return
                await send({"type": "http.response.body", "body": part, "more_body": True})
            await send({"type": "http.response.body", "body": b""})
        except (aiohttp.ClientError, TimeoutError) as error:  # the caller's connection is closed, too
            _log.warning("%s broke off a response: %s", request.target.upstream.name, type(error).__name__)
        finally:
            if gone is not None:
                gone.cancel()


class _Upload:
    """The body of a request that is passed on in parts; keeps an error in it, which aiohttp would replace."""

    def __init__(self, bodies: IncomingBodies, receive: Receive) -> None:
        self._bodies = bodies
        self._receive = receive
        self._error: KlingPricingError | None = None
        self.is_complete = False

    async def parts(self) -> AsyncIterator[bytes]:
        """Yields the parts."""
        try:
            async for part in self._bodies.pass_on(self._receive):
                yield part
            self.is_complete = True
        except KlingPricingError as error:
            self._error = error
            raise

    def reraise(self) -> None:
        """Raises the error in the body, if there was one."""
        if self._error is not None:
            raise self._error


def _record(guarded: GuardedUpstream, task: TaskEndpoint, response: ProviderResponse, _: BudgetGuard) -> None:
    guarded.hook.on_task_answer(task, response)
    guarded.unfinished.remember(task, response)


def _filtered(guarded: GuardedUpstream, project: str, body: bytes, guard: BudgetGuard) -> bytes | None:
    return guarded.isolation.filtered(guard, project, body)


def _refusal(status: int, error: KlingPricingError, rules: HttpRules) -> Answer:
    """Returns a refusal of the server, before anything was sent."""
    name = type(error).__name__
    code = _CODES.get(status) or name.removesuffix("Error").lower()
    answer = error_answer(status, code, str(error), rules, refused_by=name)
    return answer.with_headers({"www-authenticate": "Bearer"}) if status == HTTPStatus.UNAUTHORIZED else answer


_CODES: Mapping[int, str] = {401: "unauthorized", 403: "forbidden", 408: "timeout", 413: "too_large"}


def _own_location(target: Target, location: str) -> str:
    """Returns the Location header of a redirect: below the proxy, if it stays at the upstream."""
    try:
        absolute = urljoin(target.url, location)
        there, base = urlsplit(absolute), urlsplit(target.upstream.url)
    except ValueError:
        return location
    rest = absolute.removeprefix(target.upstream.url)
    if (
        (there.scheme, there.netloc) == (base.scheme, base.netloc)
        and rest != absolute
        and rest[:1] in {"/", "?", ""}
    ):
        return f"/p/{target.upstream.name}{rest}"
    return location


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _send(send: Send, answer: Answer) -> None:
    await send_response(send, answer.status, answer.headers, answer.body)
