"""`/metrics` and `/readyz`: the server as monitoring sees it."""

from __future__ import annotations

import re
from datetime import datetime

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from kling_pricing.display import without_secrets
from kling_pricing.errors import KlingPricingError
from kling_pricing.server.metrics import CONTENT_TYPE
from kling_pricing.server.problem_documents import problems
from kling_pricing.server.server_settings import is_loopback
from kling_pricing.server.server_state import ServerState

router = APIRouter(tags=["monitoring"])

_NOT_READY = 503
_PORT = re.compile(":[0-9]*$")
_FORWARDED = ("forwarded", "x-forwarded-for", "x-real-ip", "via")


class Readiness(BaseModel):
    """Whether the server can do its work."""

    ready: bool
    ledger: str = Field(description="`ok`, or why the ledger cannot be used.")
    background: str = Field(description="`here`, `elsewhere`, or `unknown`: where the background work is done.")
    background_holder: str | None = Field(None, description="The host and the id of the process that does it.")
    background_until: datetime | None = Field(None, description="When another process may take over.")


@router.get(
    "/readyz",
    summary="Whether the server is ready",
    responses={
        _NOT_READY: {"model": Readiness, "description": "The ledger cannot be used, or has no budgets."}
    },
)
def ready(request: Request) -> JSONResponse:
    """Returns whether the ledger can be used, and which process does the background work."""
    state: ServerState = request.app.state.server
    try:
        state.guard.budgets()
        ledger = "ok"
    except KlingPricingError as error:
        ledger = without_secrets(str(error), "sentence")
    holder, is_current = state.background.holder, state.background.is_current
    place = "here" if holder and holder.is_this else "elsewhere"
    readiness = Readiness(
        ready=ledger == "ok" and is_current,
        ledger=ledger,
        background=place if holder and is_current else "unknown",
        background_holder=holder and holder.holder,
        background_until=holder and holder.ends_at,
    )
    return JSONResponse(readiness.model_dump(mode="json"), 200 if readiness.ready else _NOT_READY)


@router.get(
    "/metrics",
    summary="Metrics for Prometheus",
    response_class=Response,
    responses=problems(401, 403, 503) | {200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
def metrics(request: Request) -> Response:
    """Returns the metrics in the text format of Prometheus.

    From this machine, no access key is needed, unless a proxy stands in front of the server or the URL has
    another name for this machine, which a web page may have given it. Otherwise, a key with all projects is
    needed.
    """
    state: ServerState = request.app.state.server
    if not _is_local(request, state):
        state.access.caller(request.headers).require("view", all_projects=True)
    return Response(state.metrics.text(state.gauges), media_type=CONTENT_TYPE)


def _is_local(request: Request, state: ServerState) -> bool:
    """Returns whether a request comes from this machine, and not through a proxy on it."""
    client = request.client
    return (
        client is not None
        and is_loopback(client.host)
        and is_loopback(state.settings.host)
        and is_loopback(_PORT.sub("", request.headers.get("host", "")).strip("[]"))
        and not state.settings.behind_proxy
        and not any(name in request.headers for name in _FORWARDED)
    )
