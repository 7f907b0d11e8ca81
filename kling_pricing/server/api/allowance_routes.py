"""Allowances: amounts above the caps of named budgets, for one project, until an instant."""

from __future__ import annotations

from typing import Annotated, Literal

from fastapi import APIRouter, HTTPException, Path
from pydantic import Field

from kling_pricing.guard import allow, decline, revoke
from kling_pricing.guard.payload_documents import DecisionDocument
from kling_pricing.ledger.errors import unknown_allowance, unknown_request
from kling_pricing.ledger.granting import Allowance, AllowanceRequest
from kling_pricing.server.api.dependencies import (
    API_PREFIX,
    Administrator,
    Served,
    StrictRoute,
    Submitter,
    Viewer,
    labels_of,
    project_of,
)
from kling_pricing.server.api.exact_fields import Amount, ApiBody, Instant, Number, ShortText, View
from kling_pricing.server.problem_documents import problems

router = APIRouter(
    prefix=API_PREFIX, route_class=StrictRoute, tags=["allowances"], responses=problems(401, 403, 409, 422, 503)
)


_NOT_FOUND = 404


class AllowanceView(View):
    """An allowance, and its use. Amounts are in `currency`."""

    id: str
    project: str
    amount: Number
    held: Number
    spent: Number
    available: Number
    currency: str
    budgets: list[str]
    key: str | None = Field(
        description="The only key for which the allowance counts; null: any key of the project."
    )
    until: Instant
    actor: str
    reason: str
    request_id: str | None
    created_at: Instant
    revoked_at: Instant | None

    @classmethod
    def of(cls, allowance: Allowance) -> AllowanceView:
        """Returns the view of an allowance."""
        fields = allowance._asdict() | {"available": allowance.available, "budgets": [*allowance.budgets]}
        return cls(**fields)


class AllowanceList(View):
    """Allowances, the oldest first."""

    allowances: list[AllowanceView]


class AllowBody(ApiBody):
    """The content of an allowance. A filed request gives the fields that are left out."""

    project: ShortText | None = None
    amount: Amount | None = None
    currency: ShortText | None = None
    budgets: list[ShortText] = Field([], description="The budgets above whose caps the allowance counts.")
    until: Instant
    key: ShortText | None = None
    request: ShortText | None = Field(None, description="The id of a filed request.")
    reason: ShortText


class ReasonBody(ApiBody):
    """The reason for an action."""

    reason: ShortText


class AskBody(DecisionDocument):
    """A refused request, and the reason why it should pass."""

    reason: ShortText


class DeclineView(View):
    """Who declined a filed request, why and when."""

    actor: str
    reason: str
    at: Instant


class AllowanceRequestView(View):
    """A filed request for an allowance."""

    id: str
    project: str
    amount: Number = Field(description="The price of the job. An allowance covers the part that does not fit.")
    currency: str
    budgets: list[str]
    key: str | None
    actor: str
    reason: str
    created_at: Instant
    state: Literal["open", "granted", "declined"]
    allowance_id: str | None = Field(
        description="The allowance that granted the request; null: the request was not granted."
    )
    declined: DeclineView | None = Field(description="null: nobody has declined the request.")

    @classmethod
    def of(cls, asked: AllowanceRequest) -> AllowanceRequestView:
        """Returns the view of a filed request."""
        by = None if asked.declined is None else DeclineView(**asked.declined._asdict())
        return cls(**asked._asdict() | {"budgets": [*asked.budgets], "state": asked.state, "declined": by})


class AllowanceRequestList(View):
    """Filed requests for allowances, the oldest first."""

    requests: list[AllowanceRequestView]


@router.get("/allowances", summary="List allowances")
def list_allowances(server: Served, caller: Viewer) -> AllowanceList:
    """Returns the allowances of your project; with a key for all projects, every allowance."""
    found = [each for each in server.guard.allowances() if caller.reaches(each.project)]
    return AllowanceList(allowances=[AllowanceView.of(allowance) for allowance in found])


@router.post("/allowances", summary="Grant an allowance", status_code=201, responses=problems(408, 413))
def grant_allowance(body: AllowBody, server: Served, caller: Administrator) -> AllowanceView:
    """Lets a project spend an amount above the caps of named budgets until a given time."""
    granted = allow(
        server.settings.ledger,
        body.project,
        amount=body.amount,
        currency=body.currency,
        budgets=body.budgets,
        until=body.until,
        key=body.key,
        request=body.request,
        actor=caller.name,
        reason=body.reason,
    )
    return AllowanceView.of(granted)


@router.post(
    "/allowances/{allowance_id}/revoke", summary="Revoke an allowance", responses=problems(404, 408, 413)
)
def revoke_allowance(
    allowance_id: Annotated[ShortText, Path()], body: ReasonBody, server: Served, caller: Administrator
) -> AllowanceView:
    """Revokes an allowance immediately. Requests that it already covers stay covered."""
    ids = [each.id for each in server.ledger.allowances()]
    if allowance_id not in ids:
        raise HTTPException(_NOT_FOUND, str(unknown_allowance(allowance_id, ids)))
    return AllowanceView.of(revoke(server.settings.ledger, allowance_id, actor=caller.name, reason=body.reason))


@router.get("/allowance-requests", summary="List filed requests")
def list_allowance_requests(server: Served, caller: Viewer) -> AllowanceRequestList:
    """Returns the filed requests of your project; with a key for all projects, every filed request."""
    found = [each for each in server.guard.allowance_requests() if caller.reaches(each.project)]
    return AllowanceRequestList(requests=[AllowanceRequestView.of(asked) for asked in found])


@router.post(
    "/allowance-requests/{request_id}/decline",
    summary="Decline a filed request",
    responses=problems(404, 408, 413),
)
def decline_allowance_request(
    request_id: Annotated[ShortText, Path()], body: ReasonBody, server: Served, caller: Administrator
) -> AllowanceRequestView:
    """Declines a filed request. The person who filed it sees who declined it, and why."""
    if request_id not in {each.id for each in server.ledger.allowance_requests()}:
        raise HTTPException(_NOT_FOUND, str(unknown_request(request_id)))
    declined = decline(server.settings.ledger, request_id, actor=caller.name, reason=body.reason)
    return AllowanceRequestView.of(declined)


@router.post(
    "/allowance-requests",
    summary="File a request for an allowance",
    status_code=201,
    responses=problems(402, 408, 413),
)
def file_allowance_request(body: AskBody, server: Served, caller: Submitter) -> AllowanceRequestView:
    """Files a request for an allowance that would let a refused payload pass."""
    asked = server.guard.acting_as(caller.name).ask(
        body.payload,
        project=project_of(caller, body.project),
        key=body.key,
        labels=labels_of(caller, body.labels),
        reason=body.reason,
        **body.options(),
    )
    return AllowanceRequestView.of(asked)
