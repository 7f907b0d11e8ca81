"""The API below `/api/v1`. Each module has the routes of one subject."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from fastapi import APIRouter, FastAPI

from kling_pricing import __version__
from kling_pricing.server import monitoring_routes
from kling_pricing.server.api import (
    allowance_routes,
    budget_routes,
    oversight_routes,
    pricing_routes,
    reservation_routes,
)
from kling_pricing.server.api.documentation import add_documentation
from kling_pricing.server.problems import PROBLEM_JSON, add_problem_handlers
from kling_pricing.server.request_log import RequestLog
from kling_pricing.server.server_state import ServerState

PREFIX = "/api/v1"

_DESCRIPTION = """The guard of kling-pricing for callers in any language.

Send your access key as `Authorization: Bearer KEY`. A key of one project reaches this project only: what belongs
to other projects is not found.

Amounts are text in plain decimal notation, so that no program rounds them. Instants are ISO 8601 with a time
zone. Every error is a problem document (RFC 9457), whose `code` names its kind.
"""

_PROBLEMS = {
    400: "The request has an invalid value.",
    401: "The access key is missing or not valid.",
    402: "The request does not fit a budget, or spending is frozen. Nothing was reserved.",
    403: "The access key does not allow this.",
    404: "Your access key reaches nothing with this name.",
    409: "The state of the ledger does not allow this. Nothing has changed.",
    413: "The body is too large.",
    422: "The payload or the file is refused.",
    500: "The server has failed.",
    503: "The ledger cannot be used, so nothing may be spent.",
}

_SECURITY = {"accessKey": {"type": "http", "scheme": "bearer", "description": "An access key."}}


def api_application(state: ServerState) -> RequestLog:
    """Returns the application for every path that is neither the proxy's nor the callbacks'.

    Its `state.server` is the server's state.
    """
    application = FastAPI(
        title="kling-pricing",
        version=__version__,
        description=_DESCRIPTION,
        docs_url=None,
        redoc_url=None,
        separate_input_output_schemas=False,
    )
    application.state.server = state
    add_problem_handlers(application)
    router = APIRouter(prefix=PREFIX, responses=_problems(_PROBLEMS))
    for routes in (pricing_routes, reservation_routes, budget_routes, allowance_routes, oversight_routes):
        router.include_router(routes.router)
    router.include_router(oversight_routes.open_router)
    application.include_router(router)
    application.include_router(monitoring_routes.router, responses=_problems([401, 403, 500]))
    add_documentation(application)
    document = application.openapi

    def openapi() -> dict[str, Any]:
        described = document()
        described.setdefault("components", {})["securitySchemes"] = _SECURITY
        described["security"] = [{"accessKey": []}]
        return described

    application.openapi = openapi  # type: ignore[method-assign]
    return RequestLog(application, state.metrics)


def _problems(statuses: Iterable[int]) -> dict[int | str, dict[str, Any]]:
    """Returns the description of the problems that a route may answer with."""
    schema = {"$ref": "#/components/schemas/Problem"}
    return {
        status: {"description": _PROBLEMS[status], "content": {PROBLEM_JSON: {"schema": schema}}}
        for status in statuses
    }
