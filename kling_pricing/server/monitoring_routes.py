"""`/metrics` and `/readyz`: the server as monitoring sees it."""

from __future__ import annotations

import re
from datetime import datetime

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, Field

from kling_pricing.display import without_secrets
from kling_pricing.errors import BudgetError, KlingPricingError
from kling_pricing.server.access import KEY_HEADERS
from kling_pricing.server.metrics import CONTENT_TYPE
from kling_pricing.server.problem_documents import problems
from kling_pricing.server.server_settings import is_loopback
from kling_pricing.server.server_state import ServerState

router = APIRouter(
    tags=["monitoring"], responses=problems(500), generate_unique_id_function=lambda route: route.name
)

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
    """Returns whether the ledger can be used, and where the background work is done.

    The ledger is asked at most once a second. Only a key with the role `view` for all projects gets the
    details: the error of the ledger, and the host and the id of the process that does the background work.
    """
    state: ServerState = request.app.state.server
    problem = state.readiness.problem()
    holder, is_current = state.background.holder, state.background.is_current
    place = "here" if holder and holder.is_this else "elsewhere"
    is_open = problem is None and is_current
    shows_details = _may_view(request, state)
    readiness = Readiness(
        ready=is_open,
        ledger="ok" if problem is None else _described(problem, shows_details=shows_details),
        background=place if holder and is_current else "unknown",
        background_holder=holder.holder if holder and shows_details else None,
        background_until=holder and holder.ends_at,
    )
    return JSONResponse(readiness.model_dump(mode="json"), 200 if is_open else _NOT_READY)


def _described(problem: KlingPricingError, *, shows_details: bool) -> str:
    """Returns an error of the ledger, with its place or without."""
    if shows_details:
        return without_secrets(str(problem), "sentence")
    return "it has no budgets yet" if isinstance(problem, BudgetError) else "it cannot be used"


def _may_view(request: Request, state: ServerState) -> bool:
    """Returns whether a request has a key that sees all projects."""
    if not any(name in request.headers for name in KEY_HEADERS):
        return False
    try:
        state.access.caller(request.headers).require("view", all_projects=True)
    except KlingPricingError:
        return False
    return True


@router.get(
    "/metrics",
    summary="Metrics for Prometheus",
    response_class=Response,
    responses=problems(401, 403, 503) | {200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
def metrics(request: Request) -> Response:
    """Returns the metrics in the text format of Prometheus.

    From this machine, you need no access key, unless a proxy stands in front of the server, or the URL has
    another name for this machine, which a web page may have given it. Otherwise, you need a key for all
    projects.
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
