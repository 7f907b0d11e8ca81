"""Logs and counts every request to the API: its route, its caller, its answer, and the time that it took."""

from __future__ import annotations

import logging
import time
from collections.abc import MutableMapping
from typing import Any
from uuid import uuid4

from kling_pricing.server.asgi_messages import Receive, Scope, Send
from kling_pricing.server.metrics import Metrics
from kling_pricing.server.tracing import span

_log = logging.getLogger("kling_pricing.server.requests")

_OTHER = "other"
"""The route of a request to a path that does not exist, so that the number of routes is bounded."""

_NS_PER_MS = 10**6


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
