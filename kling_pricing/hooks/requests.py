"""A guarded adapter for the library `requests`.

::

    session = requests.Session()
    session.mount("https://", GuardedAdapter(HTTPAdapter(), guard, project="trailer"))
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from io import BytesIO
from typing import Any, Unpack

import requests
from requests.adapters import BaseAdapter, HTTPAdapter
from requests.structures import CaseInsensitiveDict
from urllib3 import HTTPResponse, Retry
from urllib3.exceptions import ConnectTimeoutError, MaxRetryError, NewConnectionError, ProxyError

from kling_pricing.guard import BudgetGuard
from kling_pricing.guard.async_guard import AsyncBudgetGuard
from kling_pricing.hooks.file_facts import MEDIA_HEADER
from kling_pricing.hooks.hook import METHOD_PRESERVING_REDIRECTS, Hook
from kling_pricing.hooks.hook_options import Options
from kling_pricing.hooks.http_messages import (
    ErrorResponse,
    OutgoingRequest,
    PassedMessage,
    ProviderResponse,
    Redirect,
    TaskEndpoint,
    may_describe_task,
)
from kling_pricing.hooks.route import UnpricedPath


class GuardedAdapter(BaseAdapter):
    """Guards the requests of a session like `kling_pricing.hooks.httpx.GuardedTransport`.

    Args:
        inner: the adapter that sends requests, such as `HTTPAdapter()`, whose `max_retries` does not apply to
            submissions. With any other adapter, refusals and failed connections do not release the reservation,
            because the adapter may already have sent the request; see the option `sends_once`.
        guard: the guard whose budgets apply.
        options: see `Options`.
    """

    def __init__(
        self, inner: BaseAdapter, guard: BudgetGuard | AsyncBudgetGuard, **options: Unpack[Options]
    ) -> None:
        super().__init__()
        self._inner = inner
        self._hook = Hook(guard, **options)
        self._sends_once = self._hook.sends_once(default=type(inner) is HTTPAdapter)

    @property
    def unpriced(self) -> Mapping[UnpricedPath, int]:
        """The number of requests that were let through without a price, by provider and listed path."""
        return self._hook.unpriced

    def close(self) -> None:
        """Closes the inner adapter."""
        self._inner.close()

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        """Sends or refuses a request."""
        return self._send(request, 0, *args, **kwargs)

    def _send(
        self, request: requests.PreparedRequest, redirects: int, *args: Any, **kwargs: Any
    ) -> requests.Response:
        """Sends or refuses a request, to which `redirects` redirects have led."""
        route = self._hook.route(request.method or "", request.url or "", _headers(request))
        if route is None:
            return self._passed(request, *args, **kwargs)
        if isinstance(route, TaskEndpoint):
            return self._observed(request, route, *args, **kwargs)
        outgoing = _outgoing(request)
        decision = self._hook.submission(route, outgoing)()
        if isinstance(decision, ErrorResponse):
            return _client_response(request, decision)
        if isinstance(decision, PassedMessage):
            message = _request_to_send(request, outgoing.body, {})
            if decision.task is None:
                return self._passed(message, *args, **kwargs)
            return self._observed(message, decision.task, *args, **kwargs)
        try:
            body = outgoing.body if decision.body is None else decision.body
            approved = _request_to_send(request, body, decision.headers)
            response = _without_retries(self._inner).send(approved, *args, **kwargs)
            answer = _provider_response(response)
        except BaseException as error:
            connected = not _never_connected(error)
            self._hook.failed(decision.pending, error, connected=connected, sent_once=self._sends_once)
            raise
        instead = self._hook.answered(decision.pending, answer, sent_once=self._sends_once, redirects=redirects)
        if isinstance(instead, Redirect):
            again = _redirected_request(request, outgoing.body, instead)
            return self._send(again, redirects + 1, *args, **kwargs)
        return response if instead is None else _client_response(request, instead)

    def _passed(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        """Sends a request that is not a submission, and refuses a redirect that might bypass this hook."""
        response = self._inner.send(request, *args, **kwargs)
        if response.status_code not in METHOD_PRESERVING_REDIRECTS:
            return response
        answer = _provider_response(response)
        refusal = self._hook.passed(request.method or "", request.url or "", answer)
        return response if refusal is None else _client_response(request, refusal)

    def _observed(
        self, request: requests.PreparedRequest, task: TaskEndpoint, *args: Any, **kwargs: Any
    ) -> requests.Response:
        """Sends a request whose response describes a task, and records the response."""
        response = self._passed(request, *args, **kwargs)
        content_type = response.headers.get("content-type", "")
        if may_describe_task(content_type, streams=task.reply is not None):
            self._hook.on_task_answer(task, _provider_response(response))
        return response


def _without_retries(adapter: BaseAdapter) -> BaseAdapter:
    """Returns a copy of an adapter that uses the same connections, but does not retry.

    urllib3 repeats a POST request after any proxy error, although the first request may have been accepted.
    """
    if not isinstance(adapter, HTTPAdapter):
        return adapter
    single = object.__new__(type(adapter))  # `copy` would not keep its connections
    vars(single).update(vars(adapter), max_retries=Retry(0, read=False))
    return single


def _outgoing(request: requests.PreparedRequest) -> OutgoingRequest:
    headers = {name.lower(): value for name, value in _headers(request).items()}
    return OutgoingRequest(request.method or "", request.url or "", headers, _body(request.body))


def _headers(request: requests.PreparedRequest) -> Mapping[str, str]:
    return CaseInsensitiveDict({name: _text(value) for name, value in request.headers.items()})


def _body(body: Any) -> bytes:
    """Returns the whole body, which is read if it is a stream."""
    if body is None:
        return b""
    if isinstance(body, str):
        return body.encode()
    if isinstance(body, bytes | bytearray):
        return bytes(body)
    content = body.read() if hasattr(body, "read") else b"".join(body)
    return content.encode() if isinstance(content, str) else bytes(content)


def _request_to_send(
    request: requests.PreparedRequest, body: bytes, headers: Mapping[str, str]
) -> requests.PreparedRequest:
    """Returns a copy of a request with this body and additional headers."""
    copy = request.copy()
    for name in ("Content-Length", "Transfer-Encoding", MEDIA_HEADER):
        copy.headers.pop(name, None)
    copy.prepare_body(body, None)
    copy.headers.update(headers)
    return copy


def _redirected_request(
    request: requests.PreparedRequest, body: bytes, redirect: Redirect
) -> requests.PreparedRequest:
    """Returns the caller's original request with the URL to which it was redirected."""
    copy = request.copy()
    for name in ("Content-Length", "Transfer-Encoding"):
        copy.headers.pop(name, None)
    copy.prepare_body(body, None)
    copy.url = redirect.url
    return copy


def _provider_response(response: requests.Response) -> ProviderResponse:
    """Returns a response as plain data; the response keeps its body, so the caller can read it again."""
    headers = {name.lower(): value for name, value in response.headers.items()}
    return ProviderResponse(response.status_code, headers, response.content)


def _client_response(request: requests.PreparedRequest, response: ErrorResponse) -> requests.Response:
    raw = HTTPResponse(
        BytesIO(response.body),
        headers=dict(response.headers),
        status=response.status,
        reason=HTTPStatus(response.status).phrase,
        preload_content=False,
    )
    client_response: requests.Response = HTTPAdapter().build_response(request, raw)
    return client_response


def _text(value: str | bytes) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else value


def _never_connected(error: BaseException) -> bool:
    """Returns whether an error proves that no connection existed over which the request could be sent."""
    if isinstance(error, requests.exceptions.ConnectTimeout):
        return True
    cause = error.args[0] if isinstance(error, requests.exceptions.ConnectionError) and error.args else None
    reason = cause.reason if isinstance(cause, MaxRetryError) else None
    if isinstance(
        reason, ProxyError
    ):  # a proxy error alone proves nothing: the proxy may have sent the request
        reason = reason.original_error
    return isinstance(reason, NewConnectionError | ConnectTimeoutError)
