"""Submissions through the proxy: admitted, sent with the provider's credential, and recorded to their end."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from functools import partial
from http import HTTPStatus
from typing import NamedTuple, TypeAlias
from urllib.parse import parse_qsl

import aiohttp
from yarl import URL

from kling_pricing.display import shown
from kling_pricing.errors import KlingPricingError
from kling_pricing.guard import BudgetGuard
from kling_pricing.hooks.context import spending
from kling_pricing.hooks.error_responses import error_response
from kling_pricing.hooks.file_facts import MEDIA_HEADER
from kling_pricing.hooks.hook import Hook
from kling_pricing.hooks.http_messages import (
    ApprovedSubmission,
    ErrorResponse,
    OutgoingRequest,
    PassedMessage,
    PendingSubmission,
    ProviderResponse,
    Redirect,
)
from kling_pricing.hooks.mcp import calls_task_tool
from kling_pricing.hooks.route import McpEndpoint, UnlistedPath
from kling_pricing.ledger.model import Reservation
from kling_pricing.money import format_decimal
from kling_pricing.server.access import LABELS_HEADER, Caller
from kling_pricing.server.asgi_messages import Receive
from kling_pricing.server.proxy.guarded import RETRY_COUNT, GuardedUpstream, changes_text, rules_of
from kling_pricing.server.proxy.header_rules import as_read, merged, safe_value
from kling_pricing.server.proxy.incoming import IncomingBodies
from kling_pricing.server.proxy.provider_answers import (
    Answer,
    AnswerTooLargeError,
    ReadResponse,
    error_answer,
    hook_answer,
    read_whole,
)
from kling_pricing.server.proxy.targets import Target
from kling_pricing.server.server_state import ServerState
from kling_pricing.tables.http_rules import HttpRules
from kling_pricing.wire.endpoints import Endpoint
from kling_pricing.wire.formats import wire_format

_log = logging.getLogger("kling_pricing.server")

_MIB = 2**20
_SEPARATORS = re.compile(r"[^a-z0-9]")
"""The characters in which spellings of a field's name differ, after its capitals."""

_KEY_HEADER = "idempotency-key"
_SMALL_DIGITS = 6
"""A body whose length has fewer digits is small."""

_NEVER_CONNECTED = (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.InvalidURL)
"""Errors that prove that no connection existed over which the request could be sent."""


class UpstreamRequest(NamedTuple):
    """A request of a caller.

    Attributes:
        method: in capitals.
        target: its destination.
        headers: the headers that go to the provider, with lower-case names.
        received: all headers of the caller, with lower-case names.
    """

    method: str
    target: Target
    headers: Mapping[str, str]
    received: Mapping[str, str]


SubmittingRoute: TypeAlias = Endpoint | McpEndpoint | UnlistedPath
Admitted: TypeAlias = Callable[[BudgetGuard], tuple[Caller, Answer | None]]


class Submitting:
    """Submits jobs.

    Args:
        state: the state of the server.
        bodies: reads the bodies of requests.
    """

    def __init__(self, state: ServerState, bodies: IncomingBodies) -> None:
        self._state = state
        self._bodies = bodies

    async def submit(
        self,
        guarded: GuardedUpstream,
        route: SubmittingRoute,
        request: UpstreamRequest,
        admitted: Admitted,
        receive: Receive,
    ) -> Answer:
        """Submits a job. Once the body has arrived, this goes on even if the caller disconnects.

        The caller is found before its body is read, unless the body is small. Then one thread does both steps.

        Args:
            guarded: the upstream.
            route: the kind of submission.
            request: the request.
            admitted: returns the caller, and a refusal if its project may not send the request.
            receive: receives the body.

        Raises:
            KlingPricingError: the request cannot be read, or its labels are not allowed; nothing was sent.
        """
        allowed = partial(_allowed, guarded, route, request, admitted)
        stated = request.received.get("content-length", "")
        if not (stated.isdecimal() and len(stated) < _SMALL_DIGITS):
            found = await self._state.run(allowed)
            if isinstance(found, Answer):
                return found
        with self._bodies.counted() as parts:
            body = await self._bodies.read(receive, stated or None, parts)
            outgoing = OutgoingRequest(request.method, request.target.url, request.received, body)
            return await self._state.promise(self._submitted(guarded, route, request, outgoing, allowed, 0))

    async def _submitted(
        self,
        guarded: GuardedUpstream,
        route: SubmittingRoute,
        request: UpstreamRequest,
        outgoing: OutgoingRequest,
        allowed: Callable[[BudgetGuard], Caller | Answer],
        redirects: int,
    ) -> Answer:
        """Admits and sends a submission, to which `redirects` redirects have led."""
        hook = guarded.hook
        rules = rules_of(guarded.guard.book, guarded.upstream.provider, _format_of(route))
        found = await self._state.run(partial(self._decided, guarded, route, outgoing, allowed))
        if isinstance(found, Answer):
            return found
        caller, decision = found
        if isinstance(decision, PassedMessage):
            return await self._passed_message(guarded, route, decision, request, outgoing, caller, rules)
        pending = decision.pending
        told = _told(pending.reservation)
        body = outgoing.body if decision.body is None else decision.body
        headers = merged(_sent_headers(request), decision.headers)
        try:
            headers = merged(headers, guarded.upstream.headers())
        except KlingPricingError:
            await self._state.finish(lambda _: hook.withdraw(decision))
            raise
        try:
            read = await self._sent(guarded, outgoing, headers, body)
        except (aiohttp.ClientError, TimeoutError, AnswerTooLargeError) as error:
            return await self._failed(hook, pending, error, rules, is_keyed=_is_keyed(outgoing))
        except BaseException as error:
            failed = partial(hook.failed, pending, error)
            await self._state.finish(lambda _: failed())
            raise
        recorded = partial(_recorded, self._state, hook, pending, read.plain, redirects)
        instead, left = await self._state.finish(recorded)
        if isinstance(instead, Redirect):
            moved = outgoing._replace(url=instead.url)
            next_route = hook.route(moved.method, moved.url, {})
            if isinstance(next_route, Endpoint | McpEndpoint | UnlistedPath):
                return await self._submitted(guarded, next_route, request, moved, allowed, redirects + 1)
        answer = hook_answer(instead) if isinstance(instead, ErrorResponse) else read.answer
        return answer.with_headers(told | left)

    def _decided(
        self,
        guarded: GuardedUpstream,
        route: SubmittingRoute,
        outgoing: OutgoingRequest,
        allowed: Callable[[BudgetGuard], Caller | Answer],
        guard: BudgetGuard,
    ) -> tuple[Caller, ApprovedSubmission | PassedMessage] | Answer:
        """Takes the step before a submission is sent, in a thread."""
        caller = allowed(guard)
        if isinstance(caller, Answer):
            return caller
        if isinstance(route, UnlistedPath):
            step = guarded.hook.submission(route, outgoing)
        else:
            project, labels = caller.identity(outgoing.headers.get(LABELS_HEADER))
            key = None
            if outgoing.headers.get(RETRY_COUNT, "0") != "0" and not _is_keyed(outgoing):
                try:
                    key = guarded.earlier_key(outgoing, caller, project)
                except KlingPricingError as error:
                    rules = rules_of(guarded.guard.book, guarded.upstream.provider, _format_of(route))
                    return hook_answer(error_response(error, rules))
                headers = {name: value for name, value in outgoing.headers.items() if name != RETRY_COUNT}
                outgoing = outgoing._replace(headers=headers)
            with spending(project=project, key=key, **labels):
                step = guarded.hook.submission(route, outgoing)
        decision = step()
        return hook_answer(decision) if isinstance(decision, ErrorResponse) else (caller, decision)

    async def _sent(
        self, guarded: GuardedUpstream, outgoing: OutgoingRequest, headers: Mapping[str, str], body: bytes
    ) -> ReadResponse:
        """Sends a submission once, and reads the response."""
        settings = guarded.upstream.settings
        async with self._state.session.request(
            outgoing.method,
            URL(outgoing.url, encoded=True),
            headers=headers,
            data=body,
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(
                total=None, sock_connect=settings.connect_timeout_s, sock_read=settings.submit_timeout_s
            ),
        ) as response:
            return await read_whole(response, self._state.settings.limits.answer_mb * _MIB)

    async def _failed(
        self, hook: Hook, pending: PendingSubmission, error: Exception, rules: HttpRules, *, is_keyed: bool
    ) -> Answer:
        """Records that a submission got no response, and answers the caller."""
        connected = not isinstance(error, _NEVER_CONNECTED)
        failed = partial(hook.failed, pending, error, connected=connected)
        await self._state.finish(lambda _: failed())
        _log.warning("reservation %s got no response: %s", pending.reservation_id, type(error).__name__)
        told = _told(pending.reservation)
        if not connected:
            message = "the provider cannot be reached, so nothing was sent and nothing is held; retry later"
            answer = error_answer(HTTPStatus.BAD_GATEWAY, "upstream_unreachable", message, rules, retry=True)
            return answer.with_headers(told)
        status, code, cause = (
            (HTTPStatus.GATEWAY_TIMEOUT, "upstream_timeout", "the provider did not respond in time")
            if isinstance(error, TimeoutError)
            else (HTTPStatus.BAD_GATEWAY, "no_response", "the provider gave no response that can be read")
        )
        remedy = (
            "retry only with the same Idempotency-Key"
            if is_keyed
            else "do not send it again before then, because it could be made and charged twice; give each job "
            "an Idempotency-Key, with which a retry is safe"
        )
        message = (
            f"{cause}, so it may have accepted the job; its money stays held as reservation "
            f"{pending.reservation_id} until the outcome is known; {remedy}"
        )
        return error_answer(status, code, message, rules, retry=is_keyed).with_headers(told)

    async def _passed_message(
        self,
        guarded: GuardedUpstream,
        route: SubmittingRoute,
        decision: PassedMessage,
        request: UpstreamRequest,
        outgoing: OutgoingRequest,
        caller: Caller,
        rules: HttpRules,
    ) -> Answer:
        """Passes an MCP message on that costs nothing."""
        task, project = decision.task, caller.project
        if project is not None:
            if outgoing.body.lstrip()[:1] == b"[":
                message = "send MCP messages one by one; a batch may concern the tasks of other projects"
                return error_answer(HTTPStatus.FORBIDDEN, "forbidden", message, rules, refused_by="AccessError")
            if task is None and isinstance(route, McpEndpoint) and calls_task_tool(outgoing, route.rules):
                message = "the call names no task; send the task's id as the text `task_id`"
                return error_answer(HTTPStatus.FORBIDDEN, "forbidden", message, rules, refused_by="AccessError")
            if task is not None:
                task_id = task.task_id

                def belongs(guard: BudgetGuard) -> bool:
                    return guarded.isolation.belongs(guard, project, task_id)

                if not await self._state.run(belongs):
                    message = f"task {task_id} does not exist"
                    return error_answer(HTTPStatus.NOT_FOUND, "task_not_found", message, rules)
        headers = merged(_sent_headers(request), guarded.upstream.headers())
        try:
            read = await self._sent(guarded, outgoing, headers, outgoing.body)
        except (aiohttp.ClientError, TimeoutError, AnswerTooLargeError):
            message = "the provider gave no response that can be read; retry later"
            return error_answer(HTTPStatus.BAD_GATEWAY, "no_response", message, rules, retry=True)
        if task is not None:
            observed = partial(guarded.hook.on_task_answer, task, read.plain)
            await self._state.finish(lambda _: observed())
        return read.answer


def _allowed(
    guarded: GuardedUpstream,
    route: SubmittingRoute,
    request: UpstreamRequest,
    admitted: Admitted,
    guard: BudgetGuard,
) -> Caller | Answer:
    """Returns the caller of a submission, or the refusal. Runs in a thread.

    Raises:
        KlingPricingError: the request has no valid access key, or states what would lower its price.
    """
    caller, refusal = admitted(guard)
    if refusal is not None:
        return refusal
    if MEDIA_HEADER in request.received and not guarded.upstream.settings.trust_media:
        raise KlingPricingError(
            f"the header {MEDIA_HEADER} is not accepted from callers of {guarded.upstream.name}, because a "
            "wrong length would reserve too little; leave the header out, or ask whoever runs the server "
            "to set `trust_media`"
        )
    if isinstance(route, Endpoint) and request.target.query:
        _refuse_fields_in_query(route, request.target.query)
    return caller


def _refuse_fields_in_query(endpoint: Endpoint, query: str) -> None:
    """Refuses a query that gives a field of the job, because the provider might read it instead of the body."""
    fields = {name for each in endpoint.wire_formats for name in wire_format(each).FIELDS}
    plain = {_SEPARATORS.sub("", name.lower()) for name in fields}
    for name, _ in parse_qsl(query, keep_blank_values=True):
        if _SEPARATORS.sub("", name.lower()) in plain:
            raise KlingPricingError(
                f"the URL gives {shown(name)}, which the provider might read instead of the priced body; leave "
                "the parameter out, and give the field in the body"
            )


def _recorded(
    state: ServerState,
    hook: Hook,
    pending: PendingSubmission,
    response: ProviderResponse,
    redirects: int,
    _: BudgetGuard,
) -> tuple[ErrorResponse | Redirect | None, dict[str, str]]:
    """Records a response. Returns what the hook says, and the header with what is left in the job's budgets.

    What is left is read apart from the guard, whose connection is busy with the commits of others.
    """
    instead = hook.answered(pending, response, redirects=redirects)
    try:
        balances = state.ledger.buckets_of(pending.reservation_id, state.clock())
    except KlingPricingError:
        return instead, {}
    parts = [f"{each.budget}={format_decimal(each.available)} {each.currency}" for each in balances]
    return instead, {"x-kling-pricing-left": safe_value(", ".join(parts))} if parts else {}


def _sent_headers(request: UpstreamRequest) -> Mapping[str, str]:
    headers = as_read(request.headers, request.received.get("content-type", ""))
    return {**headers, "accept-encoding": "identity"}


def _is_keyed(outgoing: OutgoingRequest) -> bool:
    return bool(outgoing.headers.get(_KEY_HEADER))


def _format_of(route: Endpoint | McpEndpoint | UnlistedPath) -> str:
    return route.wire_formats[0] if isinstance(route, Endpoint) else route.wire_format


def _told(reservation: Reservation) -> dict[str, str]:
    """Returns the headers that describe a reservation."""
    headers = {
        "x-kling-pricing-quote": f"{format_decimal(reservation.expected)} {reservation.currency}",
        "x-kling-pricing-reservation": reservation.id,
    }
    if reservation.changes:
        headers["x-kling-pricing-changes"] = safe_value(changes_text(reservation.changes))
    return headers
