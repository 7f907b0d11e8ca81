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
from urllib3.exceptions import ConnectTimeoutError, MaxRetryError, NewConnectionError, ProxyError

from kling_pricing.guard import BudgetGuard
from kling_pricing.guard.async_guard import AsyncBudgetGuard
from kling_pricing.hooks.hook import Hook, Options
from kling_pricing.hooks.http_messages import Answer, Outgoing, Response, Send, may_tell_of_a_task
from kling_pricing.hooks.routes import TaskEndpoint


class GuardedAdapter(BaseAdapter):
    """Guards what a session sends through another adapter; see `kling_pricing.hooks.httpx.GuardedTransport`.

    Args:
        inner: the adapter that sends, such as `HTTPAdapter()`. Its `max_retries` do not hold for submissions.
            Of an adapter of another make no refusal and no failed connection is believed, for it may have sent
            before: see `sends_once`.
        guard: whose budgets hold.
        options: see `Options`.
    """

    def __init__(
        self, inner: BaseAdapter, guard: BudgetGuard | AsyncBudgetGuard, **options: Unpack[Options]
    ) -> None:
        super().__init__()
        self._inner = inner
        self._hook = Hook(guard, **options)
        self._sends_once = self._hook.sends_once(known=type(inner) is HTTPAdapter)

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
                self._hook.on_task_answer(route, _told(response))
            return response
        outgoing = _outgoing(request)
        decision = self._hook.submission(route, outgoing)()
        if isinstance(decision, Answer):
            return _answered(request, decision)
        try:
            response = _once(self._inner).send(_rewritten(request, outgoing, decision), *args, **kwargs)
            told = _told(response)
        except BaseException as error:
            connected = not _never_connected(error)
            self._hook.failed(decision.ticket, error, connected=connected, sent_once=self._sends_once)
            raise
        refused = self._hook.answered(decision.ticket, told, sent_once=self._sends_once)
        return response if refused is None else _answered(request, refused)


def _once(adapter: BaseAdapter) -> BaseAdapter:
    """The same adapter, with the same connections, but that it repeats nothing.

    urllib3 repeats a POST after any error of a proxy, though another may have been accepted.
    """
    if not isinstance(adapter, HTTPAdapter):
        return adapter
    once = object.__new__(type(adapter))  # copying it by `copy` would leave its connections behind
    vars(once).update(vars(adapter), max_retries=Retry(0, read=False))
    return once


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
    if isinstance(error, requests.exceptions.ConnectTimeout):
        return True
    cause = error.args[0] if isinstance(error, requests.exceptions.ConnectionError) and error.args else None
    reason = cause.reason if isinstance(cause, MaxRetryError) else None
    if isinstance(reason, ProxyError):  # of any kind: the proxy may have given the request on before it failed
        reason = reason.original_error
    return isinstance(reason, NewConnectionError | ConnectTimeoutError)
