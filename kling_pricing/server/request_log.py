"""Logs and counts every request: its route or upstream, its answer, and the time that it took."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Mapping, MutableMapping
from typing import Any
from uuid import uuid4

from kling_pricing.hooks.error_responses import REFUSED_BY
from kling_pricing.server.asgi_messages import Receive, Scope, Send
from kling_pricing.server.metrics import Metrics, Outcome, Trouble
from kling_pricing.server.tracing import span

_log = logging.getLogger("kling_pricing.server.requests")

_OTHER = "other"
"""The route of a request to a path that does not exist, so that the number of routes is bounded."""

_NS_PER_MS = 10**6
_UNAUTHORIZED = {401, 403}
_TOO_MANY = 429
_SERVER_ERROR, _BAD_GATEWAY, _TIMEOUT = 500, 502, 504


class ProxyLog:
    """Passes requests on to the proxy, and logs and counts each of them by its outcome.

    Args:
        proxy: the proxy.
        metrics: counts the requests.
        upstreams: the names of the upstreams.
    """

    def __init__(self, proxy: Any, metrics: Metrics, upstreams: Collection[str]) -> None:
        self._proxy = proxy
        self._metrics = metrics
        self._upstreams = upstreams

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        status, begun_ns = _SERVER_ERROR, time.perf_counter_ns()
        headers: dict[str, str] = {}

        async def seen(message: MutableMapping[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers.update(
                    (name.decode("latin-1").lower(), value.decode("latin-1"))
                    for name, value in message.get("headers", ())
                )
            await send(message)

        scope.setdefault("state", {})
        name = scope["path"].split("/")[2]
        upstream = name if name in self._upstreams else _OTHER
        with span("kling_pricing.proxy", method=scope["method"], upstream=upstream) as attributes:
            try:
                await self._proxy(scope, receive, seen)
            finally:
                outcome = _outcome(status, headers)
                self._metrics.count_request(upstream, outcome)
                if outcome not in {"refused", "unauthorized"} and (trouble := _trouble(status)) is not None:
                    self._metrics.count_upstream_error(upstream, trouble)
                facts = {
                    "method": scope["method"],
                    "upstream": upstream,
                    "outcome": outcome,
                    "status": status,
                    "took_ms": (time.perf_counter_ns() - begun_ns) // _NS_PER_MS,
                    "access_key": getattr(scope["state"].get("caller"), "name", None),
                    "reservation": headers.get("x-kling-pricing-reservation"),
                    "refused_by": headers.get(REFUSED_BY),
                }
                attributes.update(facts)
                _log.info("%s %s: %s, %d", scope["method"], upstream, outcome, status, extra={"facts": facts})


def _outcome(status: int, headers: Mapping[str, str]) -> Outcome:
    """Returns the outcome of a request, from the answer of the proxy."""
    if headers.get(REFUSED_BY) == "AccessError":
        return "unauthorized"
    if REFUSED_BY in headers:
        return "refused"
    if "x-kling-pricing-reservation" not in headers:
        return "failed" if status >= _SERVER_ERROR else "passed"
    if status >= _SERVER_ERROR:
        return "failed"
    return "capped" if "x-kling-pricing-changes" in headers else "admitted"


def _trouble(status: int) -> Trouble | None:
    """Returns the kind of an upstream's error; None: there was none."""
    if status == _BAD_GATEWAY:
        return "no_connection"
    if status == _TIMEOUT:
        return "timeout"
    if status == _TOO_MANY:
        return "status_429"
    if status in _UNAUTHORIZED:
        return "status_401"
    return "status_5xx" if status >= _SERVER_ERROR else None


class RequestLog:
    """Passes requests on to an application, and logs and counts each of them.

    The log has the route and not the path, and no header and no body, so that it has no secret.

    Args:
        application: the application.
        metrics: counts the answers.
    """

    def __init__(self, application: Any, metrics: Metrics) -> None:
        self.application = application
        self._metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        status, begun_ns, request_id = 500, time.perf_counter_ns(), uuid4().hex[:16]

        async def seen(message: MutableMapping[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), (b"x-request-id", request_id.encode())]
            await send(message)

        scope.setdefault("state", {})
        with span("kling_pricing.api", method=scope["method"], request_id=request_id) as attributes:
            try:
                await self.application(scope, receive, seen)
            finally:
                route = getattr(scope.get("route"), "path", _OTHER)
                took_ms = (time.perf_counter_ns() - begun_ns) // _NS_PER_MS
                attributes.update(route=route, status=status)
                self._metrics.count_answer(scope["method"] if route != _OTHER else _OTHER, route, status)
                facts = {
                    "request_id": request_id,
                    "method": scope["method"],
                    "route": route,
                    "status": status,
                    "took_ms": took_ms,
                    "access_key": getattr(scope["state"].get("caller"), "name", None),
                    "reservation": scope.get("path_params", {}).get("reservation_id"),
                }
                _log.info("%s %s %d", scope["method"], route, status, extra={"facts": facts})
