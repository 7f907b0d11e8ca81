"""Shared by the routes of the API: the server, the caller and its rights, and bodies that are read strictly."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping
from json import JSONDecoder
from typing import Annotated, Any, TypeAlias

from fastapi import APIRouter, Depends, HTTPException, Request, Response
from fastapi.routing import APIRoute

from kling_pricing.budgets import EACH
from kling_pricing.display import shown
from kling_pricing.errors import (
    AccessError,
    KlingPricingError,
    ReservationNotFoundError,
    WireFormatError,
)
from kling_pricing.ledger.access_keys import ACCESS_KEY_LABEL, Role
from kling_pricing.ledger.errors import unknown
from kling_pricing.ledger.model import Ref, Reservation
from kling_pricing.server.access import FORBIDDEN, Caller
from kling_pricing.server.asgi_messages import headers_of
from kling_pricing.server.problem_documents import problems
from kling_pricing.server.proxy.incoming import BodyError, CallerGoneError, IncomingBodies
from kling_pricing.server.server_state import ServerState
from kling_pricing.strict_json import EXACT_JSON, json_value

API_PREFIX = "/api/v1"
"""The beginning of the paths of all routes."""

_MAX_BODY_MB = 64
"""The largest body of a request to the API, in MiB. A payload may contain images as text."""

_BLOCKING_BYTES = 2**18
"""The size of a body that takes so long to parse that other requests would wait."""


def state_of(request: Request) -> ServerState:
    """Returns the state of the server that answers a request."""
    state: ServerState = request.app.state.server
    return state


def _caller(request: Request) -> Caller:
    caller: Caller = request.state.caller
    return caller


def _allowed(role: Role, *, all_projects: bool = False) -> Callable[[Caller], Caller]:
    """Returns a dependency that lets a caller pass only if it has a role."""

    def check(caller: Annotated[Caller, Depends(_caller)]) -> Caller:
        caller.require(role, all_projects=all_projects)
        return caller

    return check


Served: TypeAlias = Annotated[ServerState, Depends(state_of)]
"""The state of the server."""
Viewer: TypeAlias = Annotated[Caller, Depends(_allowed("view"))]
"""A caller that may read the objects of its project."""
Submitter: TypeAlias = Annotated[Caller, Depends(_allowed("submit"))]
"""A caller that may also spend."""
Manager: TypeAlias = Annotated[Caller, Depends(_allowed("manage"))]
"""A caller that may also decide about the outcomes of its project's jobs."""
Auditor: TypeAlias = Annotated[Caller, Depends(_allowed("view", all_projects=True))]
"""A caller that may read everything."""
Administrator: TypeAlias = Annotated[Caller, Depends(_allowed("manage", all_projects=True))]
"""A caller that may administer the budgets and the access keys."""


def project_of(caller: Caller, project: str | None) -> str:
    """Returns the project of a request.

    Args:
        caller: the caller.
        project: the project that the request names; None: it names none.

    Raises:
        AccessError: the caller does not reach the project (403).
        KlingPricingError: the caller reaches all projects, and the request names none.
    """
    if caller.project is None:
        if project is None:
            raise KlingPricingError(
                f"the access key {caller.name} is for all projects, so the request must name its project; add "
                "`project`"
            )
        return project
    if project not in {None, caller.project}:
        raise AccessError(
            f"the access key {caller.name} reaches the project {caller.project} only; leave `project` out",
            status=FORBIDDEN,
        )
    return caller.project


def labels_of(caller: Caller, labels: Mapping[str, str]) -> dict[str, str]:
    """Returns the labels of a request: those that it gives, and those that the access key fixes.

    Raises:
        AccessError: the request gives another value for a label that the access key fixes (403).
    """
    for label, value in labels.items():
        if label == ACCESS_KEY_LABEL or caller.labels.get(label, value) != value:
            raise AccessError(
                f"labels: the access key {caller.name} fixes the label {label}; leave the label out",
                status=FORBIDDEN,
            )
    return {**labels, **caller.labels, ACCESS_KEY_LABEL: caller.name}


def reservation_of(server: ServerState, caller: Caller, ref: Ref) -> Reservation:
    """Returns a reservation that the caller may see.

    Raises:
        ReservationNotFoundError: there is none, or it belongs to a project that the caller does not reach.
    """
    try:
        reservation = server.guard.reservation(ref)
    except ReservationNotFoundError:
        raise unknown(ref) from None
    if not caller.reaches(reservation.project):
        raise unknown(ref)
    return reservation


def outcome_of(server: ServerState, caller: Caller, reservation_id: str) -> Reservation:
    """Returns a reservation whose outcome the caller may state.

    The server asks the provider itself if it holds the provider's credential. A caller that could then state an
    outcome could free money that the job costs.

    Raises:
        AccessError: the server has an upstream of the provider, and the caller may not manage (403).
        ReservationNotFoundError: the caller may not see such a reservation.
    """
    reservation = reservation_of(server, caller, reservation_id)
    if not may_state_outcome(server, caller, reservation):
        raise asked_by_server(reservation)
    return reservation


def may_state_outcome(server: ServerState, caller: Caller, reservation: Reservation) -> bool:
    """Returns whether a caller may state the outcome of a reservation that it may see."""
    upstream = server.upstreams.get(reservation.account)
    is_asked = upstream is not None and upstream.provider == reservation.provider
    return not is_asked or caller.may("manage")


def asked_by_server(reservation: Reservation) -> AccessError:
    """Returns the error for a job that callers must send by way of the server."""
    return AccessError(
        f"the server sends the jobs of account {reservation.account} and asks about them itself; send the job "
        f"through the server, below /p/{reservation.account}/, or use an access key with the role manage",
        status=FORBIDDEN,
    )


def require_own_task(
    server: ServerState, caller: Caller, reservation: Reservation, task_id: str | None
) -> None:
    """Does nothing if a task may be the task of a reservation.

    Raises:
        WireFormatError: the reservation has another task, or the task belongs to a reservation that the caller
            may not see.
    """
    if task_id is None or task_id == reservation.task_id:
        return
    try:
        other = server.guard.reservation((reservation.provider, task_id))
    except ReservationNotFoundError:
        other = None
    if reservation.task_id is not None or (other is not None and not caller.reaches(other.project)):
        raise WireFormatError(
            f"task {shown(task_id)} is not the task of reservation {reservation.id}; send the task, or a "
            "response about the task, that the provider created for this reservation"
        )


def budgets_of(server: ServerState, caller: Caller) -> list[str]:
    """Returns the names of the budgets that a caller may see.

    The balance of such a budget shows nothing of a project that the caller does not reach.

    Raises:
        BudgetError: the ledger has no budgets yet.
    """
    only = (caller.project, [caller.project], EACH)
    return [
        entry.name
        for entry in server.guard.budgets().budgets
        if caller.project is None or entry.match.get("project") in only
    ]


class StrictRequest(Request):
    """A request whose body is bounded, and whose JSON is read strictly: UTF-8, and no key twice.

    Attributes:
        decoder: the decoder of the JSON; None: the usual one.
        parts: the parts of the body, which count as in memory until the request is answered.
    """

    parts: list[bytes]
    decoder: JSONDecoder | None = None

    async def body(self) -> bytes:
        """Returns the body.

        Raises:
            HTTPException: the body is too large (413) or too slow (408), or the server is full (503).
        """
        if not hasattr(self, "_body"):
            bodies: IncomingBodies = self.app.state.bodies
            stated = self.headers.get("content-length")
            try:
                self._body = await bodies.read(self.receive, stated, self.parts, _MAX_BODY_MB)
            except BodyError as error:
                raise HTTPException(error.status, str(error), {"connection": "close"}) from None
            except CallerGoneError as error:
                raise HTTPException(400, str(error)) from None
        return self._body

    async def json(self) -> Any:
        """Returns the body, parsed as JSON.

        Raises:
            HTTPException: the body is not JSON in this sense (400).
        """
        try:
            body = await self.body()
            if len(body) < _BLOCKING_BYTES:
                return json_value(body, decoder=self.decoder)
            return await asyncio.to_thread(json_value, body, decoder=self.decoder)
        except KlingPricingError as error:
            raise HTTPException(400, f"the body cannot be read: {error}") from None


class ExactRequest(StrictRequest):
    """A request that contains charges: numbers with a decimal point are read as exact decimals."""

    decoder = EXACT_JSON


class StrictRoute(APIRoute):
    """A route that recognises its caller before it reads the body, and whose handlers get a `StrictRequest`."""

    request_class: type[StrictRequest] = StrictRequest

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Returns the function that answers a request."""
        answer = super().get_route_handler()

        async def answer_strictly(request: Request) -> Response:
            request.state.caller = await state_of(request).caller(headers_of(request.scope))
            bodies: IncomingBodies = request.app.state.bodies
            with bodies.counted() as parts:
                strict = self.request_class(request.scope, request.receive)
                strict.parts = parts
                return await answer(strict)

        return answer_strictly


class ExactRoute(StrictRoute):
    """A route whose handlers get an `ExactRequest`."""

    request_class = ExactRequest


def route_name(route: APIRoute) -> str:
    """Returns the name of a route, which is its operation id in the API's document."""
    return route.name


def keyed_routes(tag: str, *statuses: int) -> APIRouter:
    """Returns a router for the routes of one subject, which need an access key.

    Args:
        tag: the subject.
        statuses: the statuses of the problems that every route may answer with, except 400 and 500.
    """
    return APIRouter(
        prefix=API_PREFIX,
        route_class=StrictRoute,
        tags=[tag],
        responses=problems(400, 500, *statuses),
        generate_unique_id_function=route_name,
    )
