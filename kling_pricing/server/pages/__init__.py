"""The pages of the server, for people: rendered here, complete without script, and live with it.

Each page is one module with one template, registered in `page_list`.
"""

from __future__ import annotations

import logging
from typing import Any

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from kling_pricing.errors import KlingPricingError
from kling_pricing.server.asgi_messages import Receive, Scope, Send
from kling_pricing.server.pages.answering import Answering
from kling_pricing.server.pages.live_updates import LiveUpdates
from kling_pricing.server.pages.page_list import PAGES
from kling_pricing.server.pages.rendering import rendered
from kling_pricing.server.pages.sign_in_page import SIGN_IN, SIGN_OUT, SigningIn
from kling_pricing.server.pages.sign_ins import SignIns
from kling_pricing.server.pages.static_files import static_answer
from kling_pricing.server.problem_documents import plain_problem
from kling_pricing.server.proxy.incoming import IncomingBodies
from kling_pricing.server.request_log import RequestLog
from kling_pricing.server.server_state import ServerState

LIVE = "/live"
"""The path of the live updates."""

_log = logging.getLogger("kling_pricing.server")

_FIRST_PARTS = {route.path.split("/")[1] for page in PAGES for route in page.routes}
_OTHER_PARTS = {path.strip("/") for path in (LIVE, SIGN_IN, SIGN_OUT)} | {"static"}


def is_page(path: str) -> bool:
    """Returns whether the pages answer the requests for a path."""
    return path.split("/")[1] in _FIRST_PARTS


def serves(path: str) -> bool:
    """Returns whether a path belongs to the pages: that of a page, of a file, or of signing in."""
    return path.split("/")[1] in _FIRST_PARTS | _OTHER_PARTS


def pages_application(state: ServerState) -> RequestLog:
    """Returns the application for the pages."""
    sign_ins = SignIns(state)
    bodies = IncomingBodies(state.settings.limits)
    signing_in = SigningIn(sign_ins, bodies, is_page)
    routes = [
        Route("/static/{name}", static_answer),
        Route(SIGN_IN, signing_in.show),
        Route(SIGN_IN, signing_in.sign_in, methods=["POST"]),
        Route(SIGN_OUT, signing_in.sign_out, methods=["POST"]),
        Route(LIVE, _LiveEndpoint(sign_ins, LiveUpdates(state))),
        *(
            Route(route.path, Answering(state, sign_ins, bodies, PAGES, page, route), methods=[route.method])
            for page in PAGES
            for route in page.routes
        ),
    ]
    application = Starlette(
        routes=routes,
        exception_handlers={HTTPException: _http_error, Exception: _failed},
    )
    application.router.redirect_slashes = False
    return RequestLog(application, state.metrics)


class _LiveEndpoint:
    """Answers the requests for live updates."""

    path = LIVE

    def __init__(self, sign_ins: SignIns, updates: LiveUpdates) -> None:
        self._sign_ins = sign_ins
        self._updates = updates

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        scope["route"] = self
        request = Request(scope, receive)

        def still() -> bool:
            try:
                return self._sign_ins.person(request, is_use=False) is not None
            except KlingPricingError:
                return False

        try:
            person = await run_in_threadpool(self._sign_ins.person, request, is_use=False)
        except KlingPricingError:
            person = None
        status = 204 if person is None else None if self._updates.has_room(person) else 503
        if person is None or status is not None:  # a browser does not try again after either of them
            await Response(status_code=status or 204)(scope, receive, send)
            return
        request.state.caller = person.caller
        await self._updates.stream(person, still, receive, send)


def _http_error(_request: Request, error: Any) -> Response:
    detail = {404: "there is no page at this path", 405: "this path does not accept such a request"}
    text = detail.get(error.status_code, str(error.detail))
    problem = plain_problem(error.status_code, f"{text}; go back to the overview")
    response = rendered("refusal_unsigned", {"problem": problem}, error.status_code)
    for name, value in (error.headers or {}).items():
        response.headers[name] = value
    return response


def _failed(_request: Request, _error: Exception) -> Response:
    problem = plain_problem(
        500, "the server has failed; try again, and look at the log of the server for the cause"
    )
    return rendered("refusal_unsigned", {"problem": problem}, 500)
