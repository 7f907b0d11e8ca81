"""The API below `/api/v1`. Each module has the routes of one subject."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

from kling_pricing import __version__
from kling_pricing.server import monitoring_routes
from kling_pricing.server.api import (
    access_key_routes,
    alert_routes,
    allowance_routes,
    audit_routes,
    budget_routes,
    pricing_routes,
    problem_routes,
    reconciliation_routes,
    reservation_routes,
)
from kling_pricing.server.api.dependencies import route_name
from kling_pricing.server.api.documentation import add_documentation
from kling_pricing.server.problem_documents import add_problem_handlers
from kling_pricing.server.proxy.incoming import IncomingBodies
from kling_pricing.server.request_log import RequestLog
from kling_pricing.server.server_state import ServerState

_DESCRIPTION = """The guard of kling-pricing for callers in any language.

Send your access key as `Authorization: Bearer KEY`. A key for one project reaches this project only:
whatever belongs to other projects is not found.

Amounts are text in plain decimal notation, so that no program rounds them. Instants are ISO 8601 with a time
zone. Every error is a problem document (RFC 9457), whose `code` names its kind.
"""

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
        generate_unique_id_function=route_name,
    )
    application.state.server = state
    application.state.bodies = IncomingBodies(state.settings.limits)
    add_problem_handlers(application)
    for routes in (
        *(pricing_routes, reservation_routes, budget_routes, allowance_routes, alert_routes),
        *(access_key_routes, audit_routes, reconciliation_routes, problem_routes, monitoring_routes),
    ):  # `include_router` would build every route a second time, which delays the start
        application.router.routes += routes.router.routes
    add_documentation(application)
    document = application.openapi

    def openapi() -> dict[str, Any]:
        described = document()
        described.setdefault("components", {})["securitySchemes"] = _SECURITY
        for path in described["paths"].values():
            for operation in path.values():
                if "401" in operation["responses"]:
                    operation["security"] = [{"accessKey": []}]
        return described

    application.openapi = openapi  # type: ignore[method-assign]
    return RequestLog(application, state.metrics)
