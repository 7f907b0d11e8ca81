"""Answers a visit: finds the person, checks rights and the form's token, and renders the handler's answer."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from http import HTTPStatus
from typing import Any
from urllib.parse import quote, urlsplit

from fastapi import HTTPException
from pydantic import ValidationError
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from kling_pricing.errors import AccessError, BudgetWeakenedError, KlingPricingError
from kling_pricing.server.access import FORBIDDEN
from kling_pricing.server.asgi_messages import Receive, Scope, Send
from kling_pricing.server.pages.form_fields import Form, form_of
from kling_pricing.server.pages.notices import NOTICES
from kling_pricing.server.pages.rendering import HEADERS, rendered
from kling_pricing.server.pages.sign_ins import SignedIn, SignIns
from kling_pricing.server.pages.visits import Answer, Page, PageRoute, SeeOther, Visit
from kling_pricing.server.problem_documents import Mistake, ProblemDocument, plain_problem, problem_of
from kling_pricing.server.proxy.incoming import BodyError, CallerGoneError, IncomingBodies
from kling_pricing.server.server_state import ServerState
from kling_pricing.strict_yaml import explained, key_path

TOKEN_FIELD = "form_token"  # noqa: S105 (the name of a field)
"""The field of a form that has the person's token."""

LIVE_HEADER = "x-kling-pricing-live"
"""The header of requests by which an open page updates itself. They do not count as a use of the session."""

_MAX_FORM_MB = 2
_MAX_QUERY_CHARS = 4000


class Answering:
    """Answers the requests for one path and method of a page.

    Args:
        state: the state of the server.
        sign_ins: recognises people.
        bodies: reads forms.
        pages: every page, for the navigation.
        page: the page.
        route: the path and method.
    """

    def __init__(
        self,
        state: ServerState,
        sign_ins: SignIns,
        bodies: IncomingBodies,
        pages: tuple[Page, ...],
        page: Page,
        route: PageRoute,
    ) -> None:
        self._state = state
        self._sign_ins = sign_ins
        self._bodies = bodies
        self._pages = pages
        self._page = page
        self._route = route

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers one request."""
        scope["route"] = self._route
        request = Request(scope, receive)
        response = await self._answer(request)
        await response(scope, receive, send)

    async def _answer(self, request: Request) -> Response:
        if came_from_elsewhere(request) and request.method == "GET":
            # the browser sends the session's cookie only with a request that one of our own pages makes
            return rendered("arrival", {"to": local_path(request)})
        person: SignedIn | None = None
        try:
            is_use = LIVE_HEADER not in request.headers
            person = await run_in_threadpool(self._sign_ins.person, request, is_use=is_use)
            if person is None:
                return self._signing_in(request)
            request.state.caller = person.caller
            person.caller.require(self._route.role, all_projects=self._route.all_projects)
            query = query_of(request)
            form = await self._form(request, person)
            visit = Visit(self._state, person, request, request.path_params, query, form)
        except (KlingPricingError, HTTPException) as error:
            return await run_in_threadpool(self._refusal, person, problem_from(error))
        except CallerGoneError:
            return Response(status_code=HTTPStatus.BAD_REQUEST)
        return await self._handled(visit)

    def _signing_in(self, request: Request) -> Response:
        if request.method == "GET":
            return see_other(SeeOther(f"/sign-in?next={quote(local_path(request), safe='')}"))
        return see_other(SeeOther(f"/sign-in?next={quote(self._page.path or '/', safe='')}", "session-ended"))

    async def _form(self, request: Request, person: SignedIn) -> Form:
        if request.method != "POST" or not self._route.reads_form:
            return Form()
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() != (
            "application/x-www-form-urlencoded"
        ):
            raise AccessError("this is not a form of these pages; open the page again", status=FORBIDDEN)
        with self._bodies.counted() as parts:
            stated = request.headers.get("content-length")
            try:
                body = await self._bodies.read(request.receive, stated, parts, _MAX_FORM_MB)
            except BodyError as error:
                raise HTTPException(error.status, str(error)) from None
            form = form_of(body)
        person.require_token(form[TOKEN_FIELD])
        return form

    async def _handled(self, visit: Visit) -> Response:
        """Calls the handler. If it refuses a form, the page is shown again with the reason."""
        handler = self._route.handler
        try:
            answer = await run_in_threadpool(handler, visit)
            if isinstance(answer, Awaitable):
                answer = await answer
            return await run_in_threadpool(self._shown, visit, answer)
        except (KlingPricingError, HTTPException, ValidationError) as error:
            problem = problem_from(error)
        return await run_in_threadpool(self._shown_again, visit, problem)

    def _shown_again(self, visit: Visit, problem: ProblemDocument) -> Response:
        if self._route.back is None:
            return self._refusal(visit.person, problem)
        again = Visit(visit.server, visit.person, visit.request, visit.path, visit.query, visit.form, problem)
        try:
            answer = self._route.back(again)
        except (KlingPricingError, HTTPException, ValidationError) as error:
            return self._refusal(visit.person, problem_from(error))
        return self._shown(again, answer, problem.status)

    def _shown(self, visit: Visit, answer: Answer, status: int | None = None) -> Response:
        if isinstance(answer, Response):
            return answer
        if isinstance(answer, SeeOther):
            return see_other(answer, visit.person.set_cookie)
        facts = self._frame(visit.person) | {
            "visit": visit,
            "form": visit.form,
            "typed": visit.typed,
            "problem": visit.problem,
            "done": NOTICES.get(visit.query["done"]),
            "token_field": TOKEN_FIELD,
            "form_token": visit.person.form_token,
            **answer.facts,
        }
        response = rendered(answer.template, facts, status or answer.status)
        for cookie in (visit.person.set_cookie, *answer.cookies):
            if cookie is not None:
                response.headers.append("set-cookie", cookie)
        return response

    def _refusal(self, person: SignedIn | None, problem: ProblemDocument) -> Response:
        if person is None:
            return rendered("refusal_unsigned", {"problem": problem}, problem.status)
        facts = self._frame(person) | {
            "problem": problem,
            "has_budgets": problem.code != "budget" or self._state.ledger.installed() is not None,
            "may_write_budgets": person.caller.may("manage") and person.caller.project is None,
            "done": None,
            "token_field": TOKEN_FIELD,
            "form_token": person.form_token,
        }
        return rendered("refusal", facts, problem.status)

    def _frame(self, person: SignedIn) -> dict[str, Any]:
        """Returns the variables of the frame around every page."""
        caller = person.caller
        is_limited = caller.project is not None
        return {
            "page": self._page,
            "reader": caller,
            "person": person,
            "navigation": [
                page
                for page in self._pages
                if page.path is not None and caller.may(page.role) and not (page.all_projects and is_limited)
            ],
            "by_proxy": person.ends_at is None,
        }


def see_other(to: SeeOther, *cookies: str | None) -> Response:
    """Returns the redirection after a form, and with it the headers of a page."""
    response = RedirectResponse(to.location, HTTPStatus.SEE_OTHER, dict(HEADERS))
    for cookie in (*cookies, *to.cookies):
        if cookie is not None:
            response.headers.append("set-cookie", cookie)
    return response


def problem_from(error: Exception) -> ProblemDocument:
    """Returns the problem of an error that a handler raises, as the API would answer it."""
    if isinstance(error, HTTPException):
        return plain_problem(error.status_code, str(error.detail))
    if isinstance(error, ValidationError):
        mistakes = []
        for details in error.errors():
            place, text = explained(details)
            mistakes.append(Mistake(place=key_path(place), problem=text))
        detail = "; ".join(f"{mistake.place}: {mistake.problem}" for mistake in mistakes)
        return plain_problem(HTTPStatus.BAD_REQUEST, detail, mistakes)
    if isinstance(error, BudgetWeakenedError):
        changes = "; ".join((*error.weaker, *(f"{name}: removed" for name in error.removed)))
        detail = f"this weakens protection: {changes}; tick the boxes for these changes if you want them"
        return problem_of(error).model_copy(update={"detail": detail})
    if isinstance(error, KlingPricingError):
        return problem_of(error)
    raise error


def came_from_elsewhere(request: Request) -> bool:
    """Returns whether another site made a browser open this page, so that the session's cookie is missing."""
    return request.headers.get("sec-fetch-site") == "cross-site" and (
        request.headers.get("sec-fetch-mode") == "navigate"
    )


def local_path(request: Request) -> str:
    """Returns the path and the query of a request."""
    query = request.url.query
    return f"{request.url.path}?{query}" if query else request.url.path


def safe_next(given: str, is_page: Callable[[str], bool]) -> str:
    """Returns the page to go to after signing in: a path on this server, and never another place."""
    try:
        parts = urlsplit(given)
    except ValueError:  # such as `//[`
        return "/"
    is_local = not (parts.scheme or parts.netloc) and given.startswith("/") and not given.startswith("//")
    if is_local and given.isprintable() and "\\" not in given and is_page(parts.path):
        return given
    return "/"


def query_of(request: Request) -> Form:
    """Returns the fields of a URL.

    Raises:
        KlingPricingError: the URL is too long, or its fields cannot be read.
    """
    text = request.url.query
    if len(text) > _MAX_QUERY_CHARS:
        raise KlingPricingError("the URL is too long; open the page again")
    return form_of(text.encode("ascii", "replace"))
