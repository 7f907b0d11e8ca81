"""The core of every hook: lets requests through, guards or refuses submissions, and records responses.

The core depends on no HTTP client: requests and responses are plain data, to and from which a module for each
client translates. A submission takes two steps, one before it is sent and one after; either step may run in any
thread.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable, Mapping
from functools import partial
from threading import Lock
from typing import Unpack
from urllib.parse import urljoin

from kling_pricing.display import shown
from kling_pricing.errors import KlingPricingError
from kling_pricing.guard import BudgetGuard
from kling_pricing.guard.async_guard import AsyncBudgetGuard
from kling_pricing.hooks.contradictions import other_readings
from kling_pricing.hooks.error_responses import refuse
from kling_pricing.hooks.hook_options import Options, check_options
from kling_pricing.hooks.http_messages import (
    ApprovedSubmission,
    ErrorResponse,
    OutgoingRequest,
    PassedMessage,
    PendingSubmission,
    ProviderResponse,
    Redirect,
    TaskEndpoint,
)
from kling_pricing.hooks.identity import KEY_HEADER, identity
from kling_pricing.hooks.mcp import FreeMessage, SubmittingCall, plain_response, read_message
from kling_pricing.hooks.payload_places import CallbackSealing
from kling_pricing.hooks.preparation import Preparation
from kling_pricing.hooks.recording import Recorder
from kling_pricing.hooks.route import McpEndpoint, UnlistedPath, UnpricedPath
from kling_pricing.hooks.routes import Routes, creates
from kling_pricing.tables.http_rules import HttpRules
from kling_pricing.wire.endpoints import Endpoint, origin

_log = logging.getLogger("kling_pricing.hooks")

METHOD_PRESERVING_REDIRECTS = {307, 308}
"""The HTTP statuses of redirects after which a client sends the same request to another URL."""

_MAX_REDIRECTS = 5
"""The maximum number of redirects that a hook follows for one submission."""


class Hook:
    """Guards the requests of one client.

    Args:
        guard: the guard.
        sealing: replaces the URLs for callbacks in submissions; None: they stay as they are.
        options: the options of the client's hook.

    Raises:
        KlingPricingError: an option is unknown or has an invalid value.
    """

    def __init__(
        self,
        guard: BudgetGuard | AsyncBudgetGuard,
        sealing: CallbackSealing | None = None,
        **options: Unpack[Options],
    ) -> None:
        self._guard = guard.guard if isinstance(guard, AsyncBudgetGuard) else guard
        if not isinstance(self._guard, BudgetGuard):
            raise KlingPricingError(f"a hook needs a BudgetGuard or an AsyncBudgetGuard, got {shown(guard)}")
        check_options(options)
        self._options = options
        self._key_header = options.get("key_header", KEY_HEADER)
        self._routes = Routes(
            self._guard.book,
            options.get("hosts", {}),
            options.get("allow_paths", ()),
            options.get("account"),
        )
        self._recorder = Recorder(self._guard)
        self._preparation = Preparation(self._guard, self._recorder, options, self._routes, sealing)
        self._unpriced: Counter[UnpricedPath] = Counter()
        self._counting = Lock()

    @property
    def max_concurrency(self) -> int:
        """The maximum number of steps that the ledger executes at the same time; other steps wait."""
        return self._guard.max_concurrency

    @property
    def unpriced(self) -> Mapping[UnpricedPath, int]:
        """The number of requests that were let through without a price, by provider and listed path."""
        with self._counting:
            return dict(self._unpriced)

    def sends_once(self, *, default: bool) -> bool:
        """Returns whether the inner sender never resends a request: the option `sends_once`, or `default`."""
        return self._options.get("sends_once", default)

    def route(
        self, method: str, url: str, headers: Mapping[str, str], target: str | None = None
    ) -> Endpoint | McpEndpoint | UnlistedPath | TaskEndpoint | None:
        """Classifies a request; None: the request is let through unchanged and unread.

        A request that is let through without a price is counted.

        Args:
            method: the method.
            url: the URL, with scheme and host.
            headers: the headers; their names are not case-sensitive.
            target: the request target, if the caller set one; None: the path and query of the URL.
        """
        route = self._routes.find(method.upper(), url)
        for reading in other_readings(method.upper(), url, headers, target):
            other = self._routes.find(reading.method, reading.url)
            if other is not None and other != route and creates(reading.method):
                path = "/" + url.partition("://")[2].partition("?")[0].partition("/")[2]
                return UnlistedPath(path, "", contradiction=reading.due_to)
        if isinstance(route, UnpricedPath):
            self._count_unpriced(route)
            return None
        return route

    def submission(
        self, endpoint: Endpoint | McpEndpoint | UnlistedPath, request: OutgoingRequest
    ) -> Callable[[], ApprovedSubmission | PassedMessage | ErrorResponse]:
        """Returns the step before a submission is sent, which may run in any thread.

        The project, key and labels are determined immediately, in the caller's own task or thread.
        """
        if isinstance(endpoint, UnlistedPath):
            rules = self._rules(endpoint.wire_format)
            return partial(refuse, endpoint.error(request.method), rules, self._options)
        call: SubmittingCall | None = None
        wire_format = endpoint.wire_format if isinstance(endpoint, McpEndpoint) else endpoint.wire_formats[0]
        rules = self._rules(wire_format)
        try:
            if isinstance(endpoint, McpEndpoint):
                message = read_message(request, endpoint.rules)
                endpoint = endpoint.endpoint
                if isinstance(message, FreeMessage):
                    return partial(PassedMessage, _task(endpoint, message))
                call = message
            submitter = identity(
                request,
                self._options.get("project"),
                self._options.get("labels"),
                self._key_header,
                call and call.key,
            )
        except KlingPricingError as error:
            return partial(refuse, error, rules, self._options)
        return partial(self._preparation.prepare, endpoint, request, submitter, call)

    def answered(
        self,
        pending: PendingSubmission,
        response: ProviderResponse,
        *,
        sent_once: bool = True,
        redirects: int | None = 0,
    ) -> ErrorResponse | Redirect | None:
        """Takes the step after a submission: records the provider's response, and checks its redirect.

        Failures of the ledger are logged instead of raised, because the caller needs the provider's response.

        Args:
            pending: the submission.
            response: the provider's response.
            sent_once: whether the client is known to have sent the request at most once.
            redirects: the number of redirects that led to this submission; None: every request of the client
                passes through this hook, so the client itself may follow redirects to guarded URLs.

        Returns:
            A response that the caller gets instead of the provider's; or the redirect with the URL to which the
            client's hook must resend the caller's request; None: the caller gets the provider's response.

        Raises:
            KlingPricingError: the response redirects the client to a URL that may not be guarded, and
                `refusals` is `raise`.
        """
        rules = self._rules(pending.wire_format)
        plain = response if pending.reply is None else plain_response(response, pending.reply, rules)
        self._recorder.record_response(pending, plain, rules, sent_once=sent_once)
        if response.status not in METHOD_PRESERVING_REDIRECTS or not response.headers.get("location"):
            return None
        target = _target(pending.url, response.headers["location"])
        if target is None and self._routes.find("POST", response.headers["location"]) is None:
            return None  # no client can follow this redirect
        if target is None or not isinstance(self._routes.find("POST", target), Endpoint | McpEndpoint):
            return self._unfollowed(
                "to a host or path that is not guarded",
                "add the target host to the option `hosts`, or submit the job to the target URL yourself",
                rules,
            )
        if redirects is None:
            return None
        if origin(target) != origin(pending.url):
            return self._unfollowed(
                "to another scheme, host or port, where this client might not be guarded",
                "submit the job to the target URL yourself",
                rules,
            )
        if redirects >= _MAX_REDIRECTS:
            return self._unfollowed(
                f"more than {_MAX_REDIRECTS} times", "submit the job to the last target URL yourself", rules
            )
        return Redirect(target)

    def passed(self, method: str, url: str, response: ProviderResponse) -> ErrorResponse | None:
        """Takes the step after a request that is not a submission: checks the redirect in its response.

        After such a redirect, the client might bypass this hook and resend the request to a URL that accepts
        submissions.

        Args:
            method: the method of the request.
            url: the URL of the request.
            response: the status and the headers of the response; its body is not read.

        Returns:
            A response that the caller gets instead of this one; None: the caller gets this one.

        Raises:
            KlingPricingError: the response redirects the client to a URL that accepts submissions or at which
                the hook refuses requests, and `refusals` is `raise`.
        """
        location = response.headers.get("location")
        if response.status not in METHOD_PRESERVING_REDIRECTS or not location:
            return None
        route = self._routes.find(method.upper(), _target(url, location) or location)
        if not isinstance(route, Endpoint | McpEndpoint | UnlistedPath):
            return None
        wire_format = route.wire_formats[0] if isinstance(route, Endpoint) else route.wire_format
        return self._unfollowed(
            "to a URL that may accept jobs",
            "send the request to the target URL yourself",
            self._rules(wire_format),
            "request",
        )

    def _unfollowed(
        self, where: str, remedy: str, rules: HttpRules, request: str = "submission"
    ) -> ErrorResponse:
        error = KlingPricingError(
            f"the provider redirected the {request} {where}, so the redirect was not followed; {remedy}"
        )
        return refuse(error, rules, self._options)

    def failed(
        self,
        pending: PendingSubmission,
        error: BaseException,
        *,
        connected: bool = True,
        sent_once: bool = True,
    ) -> None:
        """Takes the step after a submission got no response: it is in doubt, unless it was certainly not sent.

        Args:
            pending: the submission.
            error: the exception that the client raised.
            connected: whether a connection may have existed over which the request was sent.
            sent_once: whether the client is known to have sent the request at most once.
        """
        self._recorder.record_failure(pending, error, connected=connected, sent_once=sent_once)

    def withdraw(self, decision: ApprovedSubmission | PassedMessage | ErrorResponse) -> None:
        """Releases an approved submission that was certainly not sent."""
        if isinstance(decision, ApprovedSubmission):
            self._recorder.record_unsent(decision.pending)

    def on_task_answer(self, endpoint: TaskEndpoint, response: ProviderResponse) -> None:
        """Records the provider's response about a task, if the task is in the ledger; never raises an error."""
        if endpoint.reply is not None:
            response = plain_response(response, endpoint.reply, HttpRules())
        self._recorder.record_task_answer(endpoint, response)

    def _count_unpriced(self, path: UnpricedPath) -> None:
        with self._counting:
            self._unpriced[path] += 1
            is_first = self._unpriced[path] == 1
        try:
            self._guard.count_unpriced(path.provider, path.path)
        except KlingPricingError as error:  # the ledger cannot store such a path
            _log.debug("could not count an unpriced request: %s", error)
        if is_first:
            _log.warning(
                "requests to %s at %s are let through without a price; no budget counts them",
                path.path,
                path.provider,
            )

    def _rules(self, wire_format: str) -> HttpRules:
        matrix = self._guard.book.matrices.get(wire_format)
        return HttpRules() if matrix is None else matrix.http


def _target(url: str, location: str) -> str | None:
    """Returns the URL to which a response redirects; None: the Location header cannot be read."""
    try:
        return urljoin(url, location)
    except ValueError:
        return None


def _task(endpoint: Endpoint, message: FreeMessage) -> TaskEndpoint | None:
    """Returns the task that the response to a free message describes; None: it describes no task."""
    if message.task_id is None:
        return None
    return TaskEndpoint(endpoint.provider or "", message.task_id, message.reply)
