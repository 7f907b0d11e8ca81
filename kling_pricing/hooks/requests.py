"""A guarded adapter for requests.

::

    session = requests.Session()
    session.mount("https://", GuardedAdapter(HTTPAdapter(), guard, project="trailer"))
"""

from __future__ import annotations

from http import HTTPStatus
from io import BytesIO
from typing import Any, Unpack

import requests
from requests.adapters import BaseAdapter, HTTPAdapter
from urllib3 import HTTPResponse, Retry
from urllib3.exceptions import MaxRetryError, NewConnectionError

from kling_pricing.async_guard import AsyncBudgetGuard
from kling_pricing.guard import BudgetGuard
from kling_pricing.hooks.core import Hook, Options
from kling_pricing.hooks.messages import Answer, Outgoing, Response, Send, may_tell_of_a_task
from kling_pricing.hooks.routes import TaskEndpoint


class GuardedAdapter(BaseAdapter):
    """Guards what a session sends through another adapter; see `kling_pricing.hooks.httpx.GuardedTransport`.

    Args:
        inner: the adapter that sends, such as `HTTPAdapter()`. If it retries POSTs by itself, a refusal of the
            last try does not release the money, for an earlier one may have been accepted.
        guard: whose budgets hold.
        options: see `Options`.
    """

    def __init__(
        self, inner: BaseAdapter, guard: BudgetGuard | AsyncBudgetGuard, **options: Unpack[Options]
    ) -> None:
        super().__init__()
        self._inner = inner
        self._hook = Hook(guard, **options)

    def close(self) -> None:
        """Closes the inner adapter."""
        self._inner.close()

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        """Sends a request, or refuses it."""
        route = self._hook.route(request.method or "", request.url or "")
        if route is None:
            return self._inner.send(request, *args, **kwargs)
        if isinstance(route, TaskEndpoint):
            response = self._inner.send(request, *args, **kwargs)
            if may_tell_of_a_task(response.headers.get("content-type", "")):
                self._hook.told(route, _told(response))
            return response
        outgoing = _outgoing(request)
        decision = self._hook.submission(route, outgoing)()
        if isinstance(decision, Answer):
            return _answered(request, decision)
        sent_once = self._sends_once()
        try:
            response = self._inner.send(_rewritten(request, outgoing, decision), *args, **kwargs)
            told = _told(response)
        except BaseException as error:
            never = sent_once and _never_connected(error)
            self._hook.failed(decision.ticket, error, connected=not never)
            raise
        refused = self._hook.answered(decision.ticket, told, sent_once=sent_once)
        return response if refused is None else _answered(request, refused)

    def _sends_once(self) -> bool:
        """Whether the inner adapter never sends a POST twice; by default it repeats failed connections only."""
        retries = getattr(self._inner, "max_retries", None)
        if not isinstance(retries, Retry) or (not retries.total and retries.total is not None):
            return True
        return bool(retries.allowed_methods) and "POST" not in (retries.allowed_methods or ())


def _outgoing(request: requests.PreparedRequest) -> Outgoing:
    headers = {name.lower(): _text(value) for name, value in request.headers.items()}
    return Outgoing(request.method or "", request.url or "", headers, _body(request.body))


def _body(body: Any) -> bytes:
    """The whole body; what is streamed is read."""
    if body is None:
        return b""
    if isinstance(body, str):
        return body.encode()
    if isinstance(body, bytes | bytearray):
        return bytes(body)
    read = body.read() if hasattr(body, "read") else b"".join(body)
    return read.encode() if isinstance(read, str) else bytes(read)


def _rewritten(
    request: requests.PreparedRequest, outgoing: Outgoing, decision: Send
) -> requests.PreparedRequest:
    """The request that is to be sent: its body's length, not that of the request before, and its headers."""
    changed = request.copy()
    for name in ("Content-Length", "Transfer-Encoding"):
        changed.headers.pop(name, None)
    changed.prepare_body(outgoing.body if decision.body is None else decision.body, None)
    changed.headers.update(decision.headers)
    return changed


def _told(response: requests.Response) -> Response:
    """What an answer says. Its body is kept by the response, which gives it to whoever asks next."""
    headers = {name.lower(): value for name, value in response.headers.items()}
    return Response(response.status_code, headers, response.content)


def _answered(request: requests.PreparedRequest, answer: Answer) -> requests.Response:
    raw = HTTPResponse(
        BytesIO(answer.body),
        headers=dict(answer.headers),
        status=answer.status,
        reason=HTTPStatus(answer.status).phrase,
        preload_content=False,
    )
    made: requests.Response = HTTPAdapter().build_response(request, raw)
    return made


def _text(value: str | bytes) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else value


def _never_connected(error: BaseException) -> bool:
    """Whether there was never a connection over which a request could have been sent."""
    if isinstance(error, requests.exceptions.ConnectTimeout | requests.exceptions.ProxyError):
        return True
    cause = error.args[0] if isinstance(error, requests.exceptions.ConnectionError) and error.args else None
    return isinstance(cause, MaxRetryError) and isinstance(cause.reason, NewConnectionError)
