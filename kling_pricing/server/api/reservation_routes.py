"""Reservations: create, dispatch, bind, observe, settle, release, resolve, mark in doubt, get, list."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Header, Path, Query, Response

from kling_pricing.errors import KlingPricingError
from kling_pricing.guard.payload_documents import PayloadDocument
from kling_pricing.ledger.errors import not_dispatched
from kling_pricing.ledger.model import Basis, State
from kling_pricing.server.api.dependencies import (
    API_PREFIX,
    ExactRoute,
    Manager,
    Served,
    StrictRoute,
    Submitter,
    Viewer,
    asked_by_server,
    labels_of,
    may_state_outcome,
    outcome_of,
    project_of,
    require_own_task,
    reservation_of,
)
from kling_pricing.server.api.exact_fields import (
    DEFAULT_LIMIT,
    Cursor,
    Instant,
    Limit,
    ShortText,
)
from kling_pricing.server.api.reservation_views import (
    AdmissionBody,
    AdmissionView,
    BindBody,
    DoubtBody,
    ObserveBody,
    ReleaseBody,
    ReservationPage,
    ReservationView,
    ResolveBody,
    SettleBody,
)
from kling_pricing.server.problem_documents import problems
from kling_pricing.wire.formats import wire_format as wire_format_named
from kling_pricing.wire.task import listed_tasks

router = APIRouter(
    prefix=API_PREFIX,
    route_class=StrictRoute,
    tags=["reservations"],
    responses=problems(401, 403, 404, 409, 422, 503),
)

ReservationId = Annotated[ShortText, Path(description="The id of the reservation.")]
IdempotencyKey = Annotated[
    ShortText | None, Header(description="Your own name for the job; the same as `key` in the body.")
]
_CREATED, _REPLAYED = 201, 200
_CALLERS_BASES: frozenset[Basis] = frozenset({"quote", "response"})
"""The bases of amounts that a caller without the role `manage` may settle at."""


@router.post(
    "/reservations",
    summary="Reserve money for a payload",
    status_code=_CREATED,
    responses=problems(402, 408, 413)
    | {_REPLAYED: {"model": AdmissionView, "description": "The reservation existed already for the key."}},
)
def create_reservation(
    body: AdmissionBody,
    response: Response,
    server: Served,
    caller: Submitter,
    idempotency_key: IdempotencyKey = None,
) -> AdmissionView:
    """Reserves the price of a payload in every budget that matches, or refuses the request.

    With a key, the call can be repeated: the job is reserved once and its payload is handed out once. With
    `dispatch`, the answer contains the payload to submit, which may differ from yours if a budget allows
    capping.
    """
    if None not in {body.key, idempotency_key} and body.key != idempotency_key:
        raise KlingPricingError("the header Idempotency-Key and `key` differ; send one of them")
    admit = server.guard.admit_and_dispatch if body.dispatch else server.guard.admit
    with server.metrics.timed("admit"):
        admitted = admit(
            body.payload,
            project=project_of(caller, body.project),
            key=body.key or idempotency_key,
            labels=labels_of(caller, body.labels),
            account=body.account,
            **body.options(),
        )
    admission, payload = admitted if isinstance(admitted, tuple) else (admitted, None)
    if payload is not None and not may_state_outcome(server, caller, admission.reservation):
        server.guard.release_refused(admission, "not handed out")
        raise asked_by_server(admission.reservation)
    if admission.replayed:
        response.status_code = _REPLAYED
    reservation = server.guard.reservation(admission) if admission.replayed else admission.reservation
    return AdmissionView.of(admission, reservation, payload)


@router.get("/reservations", summary="List reservations")
def list_reservations(
    server: Served,
    caller: Viewer,
    project: Annotated[ShortText | None, Query(description="Only reservations of this project.")] = None,
    key: Annotated[ShortText | None, Query(description="Only reservations with this key.")] = None,
    state: Annotated[State | None, Query(description="Only reservations in this state.")] = None,
    in_doubt: Annotated[bool, Query(description="Only reservations in doubt.")] = False,  # noqa: FBT002 (a query)
    since: Annotated[
        Instant | None, Query(description="Only reservations created at this instant or later.")
    ] = None,
    until: Annotated[
        Instant | None, Query(description="Only reservations created before this instant.")
    ] = None,
    cursor: Cursor = None,
    limit: Limit = DEFAULT_LIMIT,
) -> ReservationPage:
    """Returns the reservations that you may see, the newest first."""
    if cursor is not None:
        reservation_of(server, caller, cursor)
    found = server.guard.history_page(
        project=project if caller.project is None else project_of(caller, project),
        key=key,
        state=state,
        in_doubt=in_doubt,
        since=since,
        until=until,
        after=cursor,
        limit=limit,
    )
    items = [ReservationView.model_validate(reservation) for reservation in found]
    return ReservationPage(items=items, next=found[-1].id if len(found) == limit else None)


@router.get("/reservations/{reservation_id}", summary="Get a reservation")
def get_reservation(reservation_id: ReservationId, server: Served, caller: Viewer) -> ReservationView:
    """Returns a reservation in its current state."""
    return ReservationView.model_validate(reservation_of(server, caller, reservation_id))


@router.get("/tasks/{provider}/{task_id:path}", summary="Get the reservation of a task")
def get_reservation_of_task(
    provider: ShortText, task_id: ShortText, server: Served, caller: Viewer
) -> ReservationView:
    """Returns the reservation that is bound to a provider's task."""
    return ReservationView.model_validate(reservation_of(server, caller, (provider, task_id)))


@router.post(
    "/reservations/{reservation_id}/dispatch",
    summary="Dispatch a reservation",
    responses=problems(402, 408, 413),
)
def dispatch_reservation(
    reservation_id: ReservationId, body: PayloadDocument, server: Served, caller: Submitter
) -> AdmissionView:
    """Hands out the payload to submit, once, to one caller.

    The ledger keeps no payload, so send the payload of the reservation again.
    """
    guard = server.guard
    reservation = outcome_of(server, caller, reservation_id)
    if reservation.state != "reserved":
        raise not_dispatched(reservation)
    labels = {label: value for label, value in reservation.labels.items() if label != "project"}
    options = body.options()
    options["provider"] = body.provider or reservation.provider
    options["wire_format"] = body.wire_format or reservation.wire_format
    account = None if reservation.account == reservation.provider else reservation.account
    admission = guard.admit(
        body.payload,
        project=reservation.project,
        key=reservation.key,
        labels=labels,
        account=account,
        **options,
    )
    if admission.reservation_id != reservation.id:  # it has expired meanwhile, and this is a new attempt
        guard.close_admission(admission)
        raise not_dispatched(guard.reservation(reservation_id))
    payload = guard.dispatch(admission)
    return AdmissionView.of(admission, guard.reservation(reservation_id), payload)


@router.post(
    "/reservations/{reservation_id}/bind", summary="Bind a reservation to a task", responses=problems(408, 413)
)
def bind_reservation(
    reservation_id: ReservationId, body: BindBody, server: Served, caller: Submitter
) -> ReservationView:
    """Binds a reservation to the task in the provider's response. You can repeat the call."""
    reservation = outcome_of(server, caller, reservation_id)
    if reservation.task_id is None:
        require_own_task(server, caller, reservation, body.task_id)
    return ReservationView.model_validate(server.guard.bind(reservation.id, body.task_id))


def observe_reservation(
    reservation_id: ReservationId, body: ObserveBody, server: Served, caller: Submitter
) -> ReservationView:
    """Records a submit or status response, or the body of a callback, and settles a job that has ended."""
    reservation = outcome_of(server, caller, reservation_id)
    read_task, listed = wire_format_named(reservation.wire_format).read_task, listed_tasks(body.body)
    for answer in [body.body] if listed is None else listed:
        require_own_task(server, caller, reservation, read_task(answer).task_id)
    updated = server.guard.observe(body.body, provider=reservation.provider, reservation=reservation)
    return ReservationView.model_validate(updated or server.guard.reservation(reservation_id))


router.add_api_route(
    "/reservations/{reservation_id}/observe",
    observe_reservation,
    methods=["POST"],
    summary="Record a response of the provider",
    responses=problems(408, 413),
    route_class_override=ExactRoute,
)


@router.post(
    "/reservations/{reservation_id}/settle", summary="Settle a reservation", responses=problems(408, 413)
)
def settle_reservation(
    reservation_id: ReservationId, body: SettleBody, server: Served, caller: Submitter
) -> ReservationView:
    """Records the cost of a job as spent, in place of the reserved amount."""
    if body.basis is not None and body.basis not in _CALLERS_BASES:
        caller.require("manage")
    reservation = outcome_of(server, caller, reservation_id)
    acting = server.guard.acting_as(caller.name)
    return ReservationView.model_validate(
        acting.settle(reservation.id, body.amount, basis=body.basis, reason=body.reason)
    )


@router.post(
    "/reservations/{reservation_id}/release", summary="Release a reservation", responses=problems(408, 413)
)
def release_reservation(
    reservation_id: ReservationId, body: ReleaseBody, server: Served, caller: Submitter
) -> ReservationView:
    """Releases the money of a request that was not sent, or that the provider definitely refused."""
    guard = server.guard
    if body.refused:
        reservation = outcome_of(server, caller, reservation_id)
        released = guard.release_refused(reservation.id, body.reason or "refused by the provider")
    else:
        reservation = reservation_of(server, caller, reservation_id)
        released = guard.release(reservation.id, body.reason or "released")
    return ReservationView.model_validate(released)


@router.post(
    "/reservations/{reservation_id}/doubt", summary="Mark a reservation in doubt", responses=problems(408, 413)
)
def doubt_reservation(
    reservation_id: ReservationId, body: DoubtBody, server: Served, caller: Submitter
) -> ReservationView:
    """Records that it is unknown whether the provider accepted the job. The money stays reserved."""
    reservation = reservation_of(server, caller, reservation_id)
    return ReservationView.model_validate(server.guard.mark_in_doubt(reservation.id, body.reason))


@router.post("/reservations/{reservation_id}/resolve", summary="Resolve a doubt", responses=problems(408, 413))
def resolve_reservation(
    reservation_id: ReservationId, body: ResolveBody, server: Served, caller: Manager
) -> ReservationView:
    """Records the outcome of a job that was sent, after a person looked it up at the provider."""
    reservation = reservation_of(server, caller, reservation_id)
    acting = server.guard.acting_as(caller.name)
    return ReservationView.model_validate(
        acting.resolve(reservation.id, body.outcome, amount=body.amount, reason=body.reason)
    )
