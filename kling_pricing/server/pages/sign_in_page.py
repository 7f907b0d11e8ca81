"""The page to sign in, and signing out."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from urllib.parse import urlsplit

from fastapi import HTTPException
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import Response

from kling_pricing.errors import AccessError, KlingPricingError
from kling_pricing.server.access import FORBIDDEN
from kling_pricing.server.pages.answering import TOKEN_FIELD, problem_from, query_of, safe_next, see_other
from kling_pricing.server.pages.attempt_limits import AttemptLimits
from kling_pricing.server.pages.form_fields import Form, form_of
from kling_pricing.server.pages.notices import NOTICES
from kling_pricing.server.pages.rendering import rendered
from kling_pricing.server.pages.sign_ins import SignIns
from kling_pricing.server.pages.visits import SeeOther
from kling_pricing.server.problem_documents import ProblemDocument
from kling_pricing.server.proxy.incoming import BodyError, CallerGoneError, IncomingBodies

SIGN_IN, SIGN_OUT = "/sign-in", "/sign-out"
_MAX_FORM_MB = 1


class SigningIn:
    """Answers the requests of people who sign in or out.

    Args:
        sign_ins: begins and ends sessions.
        bodies: reads forms.
        is_page: returns whether a path is the path of a page.
    """

    def __init__(self, sign_ins: SignIns, bodies: IncomingBodies, is_page: Callable[[str], bool]) -> None:
        self._sign_ins = sign_ins
        self._bodies = bodies
        self._is_page = is_page
        self._limits = AttemptLimits()

    async def show(self, request: Request) -> Response:
        """Shows the form; whoever is signed in goes to the page that they wanted."""
        try:
            query = query_of(request)
        except KlingPricingError as error:
            return self._form("/", problem_from(error))
        to = safe_next(query["next"], self._is_page)
        try:
            if await run_in_threadpool(partial(self._sign_ins.person, request, is_use=False)) is not None:
                return see_other(SeeOther(to))
        except KlingPricingError as error:
            return self._form(to, problem_from(error))
        return self._form(to, None, NOTICES.get(query["done"]))

    async def sign_in(self, request: Request) -> Response:
        """Exchanges an access key for a session."""
        form = Form()
        try:
            form = await self._read(request)
            address = self._sign_ins.address(request)
            self._limits.begin(address)
            cookie = await run_in_threadpool(self._sign_ins.begin, form["access_key"])
        except (KlingPricingError, HTTPException) as error:
            return self._form(safe_next(form["next"], self._is_page), problem_from(error))
        self._limits.succeeded(address)
        return see_other(SeeOther(safe_next(form["next"], self._is_page)), cookie)

    async def sign_out(self, request: Request) -> Response:
        """Ends the session."""
        try:
            form = await self._read(request)
            person = await run_in_threadpool(self._sign_ins.person, request)
            if person is not None:
                person.require_token(form[TOKEN_FIELD])
            cookie = await run_in_threadpool(self._sign_ins.end, request)
        except (KlingPricingError, HTTPException) as error:
            problem = problem_from(error)
            return rendered("refusal_unsigned", {"problem": problem}, problem.status)
        return see_other(SeeOther(SIGN_IN, "signed-out"), cookie)

    async def _read(self, request: Request) -> Form:
        """Returns the fields of a form that comes from one of our own pages.

        Raises:
            AccessError: it comes from elsewhere (403).
            HTTPException: it cannot be read.
        """
        _require_same_site(request)
        with self._bodies.counted() as parts:
            try:
                stated = request.headers.get("content-length")
                return form_of(await self._bodies.read(request.receive, stated, parts, _MAX_FORM_MB))
            except BodyError as error:
                raise HTTPException(error.status, str(error)) from None
            except CallerGoneError as error:
                raise HTTPException(HTTPStatus.BAD_REQUEST, str(error)) from None

    def _form(self, to: str, problem: ProblemDocument | None, done: str | None = None) -> Response:
        status = HTTPStatus.OK if problem is None else problem.status
        facts = {"next": to, "problem": problem, "done": done}
        return rendered("sign_in", facts, status)


def _require_same_site(request: Request) -> None:
    """Does nothing if a form comes from one of our own pages, as far as the browser says.

    Raises:
        AccessError: another site sent it (403).
    """
    site = request.headers.get("sec-fetch-site")
    origin = request.headers.get("origin")
    host = request.headers.get("host", "").partition(":")[0]
    is_foreign = site not in {None, "same-origin", "none"}
    if site is None and origin is not None:
        try:
            is_foreign = urlsplit(origin).hostname != host.strip("[]").lower()
        except ValueError:  # no browser sends such an origin
            is_foreign = True
    if is_foreign:
        raise AccessError(
            "another site sent this form, so it was refused; open the page itself", status=FORBIDDEN
        )
