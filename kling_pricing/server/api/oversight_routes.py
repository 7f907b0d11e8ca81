"""Alerts, statements, access keys, the audit log and the verification of the ledger."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, HTTPException, Path, Query
from pydantic import Field

from kling_pricing.alerts import AlertDelivery
from kling_pricing.errors import KlingPricingError, ReservationNotFoundError
from kling_pricing.guard import issue_key, revoke_key
from kling_pricing.ledger.access_keys import AccessKey, Role, unknown_key
from kling_pricing.ledger.actions import AdministrativeAction
from kling_pricing.ledger.alerting import StoredAlert
from kling_pricing.server.access import Caller
from kling_pricing.server.api.allowance_routes import ReasonBody
from kling_pricing.server.api.dependencies import (
    API_PREFIX,
    Administrator,
    Auditor,
    Served,
    StrictRoute,
    Viewer,
)
from kling_pricing.server.api.exact_fields import (
    DEFAULT_LIMIT,
    ApiBody,
    Instant,
    Limit,
    Number,
    ShortText,
    View,
    bound,
)
from kling_pricing.server.problems import problem_types, problem_uri, problems
from kling_pricing.server.server_state import ServerState

router = APIRouter(prefix=API_PREFIX, route_class=StrictRoute, responses=problems(401, 403, 409, 422, 503))

NumberCursor = Annotated[
    int, Query(ge=0, le=2**62, description="The `next` of the previous page; 0 for the first page.")
]
_NOT_FOUND = 404
_CHUNK = 200
_MAX_CHUNKS = 50
"""The largest number of chunks in which one request looks for the alerts that its caller may see."""


class AlertView(View):
    """An alert in the outbox."""

    seq: int
    id: str
    at: Instant
    kind: str = Field(examples=["threshold"])
    budget: str | None
    labels: dict[str, str]
    threshold: Number | None
    cap: Number | None
    used: Number | None
    currency: str | None
    window_start: Instant | None
    window_end: Instant | None
    reservation_id: str | None
    facts: dict[str, str]

    @classmethod
    def of(cls, alert: StoredAlert) -> AlertView:
        """Returns the view of an alert."""
        return cls(
            **alert._asdict()
            | {
                "labels": dict(alert.labels),
                "facts": dict(alert.facts),
                "window_start": bound(alert.window_start),
                "window_end": bound(alert.window_end),
            }
        )


class AlertPage(View):
    """A page of alerts, the oldest first."""

    items: list[AlertView]
    next: int | None = Field(description="The cursor of the next page; null if there is none yet.")


class ReceiverView(View):
    """A receiver of alerts, and its progress. Its URL is not shown."""

    name: str = Field(examples=["env:ALERTS_URL"])
    waiting: int = Field(description="The number of alerts that it has not got yet.")
    failures: int
    problem: str | None
    next_at: Instant | None
    stopped_at: Instant | None


class ReceiverList(View):
    """The receivers that the budgets in force name."""

    receivers: list[ReceiverView]


class ResumeBody(ApiBody):
    """A receiver that failed or was stopped."""

    receiver: ShortText = Field(examples=["env:ALERTS_URL"])


class StatementView(View):
    """A statement file whose charges are in the books."""

    number: int
    provider: str
    name: str
    digest: str
    since: Instant
    until: Instant
    remembered_at: Instant
    actor: str
    reason: str
    replaces: int | None


class ClosedMonthView(View):
    """A month whose books are closed."""

    month: str
    provider: str
    digest: str
    closed_at: Instant
    actor: str
    reason: str


class BooksView(View):
    """The statements and the closed months in the books of a provider."""

    statements: list[StatementView]
    closed: list[ClosedMonthView]


class VerificationView(View):
    """The result of the verification of a consistent ledger."""

    first_entry: int
    last_entry: int
    fully_verified_at: Instant | None


class AccessKeyView(View):
    """An access key, without its text."""

    name: str
    project: str | None = Field(description="The only project that it reaches; null: all projects.")
    role: Role
    labels: dict[str, str]
    fingerprint: str = Field(description="The first digits of the SHA-256 of its text.")
    created_at: Instant
    expires_at: Instant | None
    revoked_at: Instant | None
    used_at: Instant | None
    actor: str

    @classmethod
    def of(cls, key: AccessKey) -> AccessKeyView:
        """Returns the view of an access key."""
        return cls(**key._asdict() | {"labels": dict(key.labels)})


class AccessKeyList(View):
    """Every access key, the oldest first."""

    keys: list[AccessKeyView]


class IssueKeyBody(ApiBody):
    """A new access key. Give either a project or `all_projects`."""

    project: ShortText | None = Field(None, description="The only project that it reaches.")
    all_projects: bool = Field(default=False, description="Whether it reaches all projects.")
    role: Role = "submit"
    labels: dict[ShortText, ShortText] = Field({}, description="Labels that every request with it has.")
    name: ShortText | None = Field(None, description="Its name, which the audit log shows as the actor.")
    expires_at: Instant | None = None
    reason: ShortText | None = None


class IssuedKeyView(View):
    """A new access key with its text, which is shown this once."""

    key: str = Field(description="The text that callers send. Nobody can show it again.")
    access_key: AccessKeyView


class CallerView(View):
    """The access key of the request."""

    name: str
    role: Role
    project: str | None
    labels: dict[str, str]


class ActionView(View):
    """One administrative action."""

    seq: int
    at: Instant
    actor: str
    role: str | None = Field(description="The PostgreSQL role of the session; null in a SQLite ledger.")
    action: str
    subject: str
    old: Any
    new: Any
    reason: str | None


class ActionPage(View):
    """A page of administrative actions, the oldest first."""

    items: list[ActionView]
    next: int | None = Field(description="The cursor of the next page; null if this is the last page.")


class ProblemTypeView(View):
    """One kind of problem."""

    code: str
    type: str
    status: int
    title: str


class ProblemTypeList(View):
    """Every kind of problem of this API."""

    problems: list[ProblemTypeView]


@router.get("/alerts", summary="List alerts", tags=["alerts"])
def list_alerts(
    server: Served, caller: Viewer, cursor: NumberCursor = 0, limit: Limit = DEFAULT_LIMIT
) -> AlertPage:
    """Returns the alerts that you may see, the oldest first.

    A key of one project sees the alerts about jobs of this project.
    """
    found: list[StoredAlert] = []
    after, is_complete = cursor, False
    for _ in range(_MAX_CHUNKS):
        chunk = server.ledger.alerts(after=after, limit=_CHUNK)
        for alert in chunk:
            if len(found) == limit:
                break
            after = alert.seq
            if _may_see(server, caller, alert):
                found.append(alert)
        is_complete = len(chunk) < _CHUNK and (not chunk or chunk[-1].seq == after)
        if is_complete or len(found) == limit:
            break
    return AlertPage(items=[AlertView.of(alert) for alert in found], next=None if is_complete else after)


def _may_see(server: ServerState, caller: Caller, alert: StoredAlert) -> bool:
    if caller.project is None:
        return True
    if alert.reservation_id is None:
        return alert.labels.get("project") == caller.project
    try:
        return server.ledger.reservation(alert.reservation_id).project == caller.project
    except ReservationNotFoundError:
        return False


@router.get("/receivers", summary="List the receivers of alerts", tags=["alerts"])
def list_receivers(server: Served, _caller: Auditor) -> ReceiverList:
    """Returns the receivers that the budgets in force name, with their progress."""
    with AlertDelivery(server.settings.ledger) as delivery:
        statuses = delivery.receivers()
    return ReceiverList(
        receivers=[
            ReceiverView(
                name=status.receiver.name,
                waiting=status.waiting,
                failures=status.receiver.failures,
                problem=status.receiver.problem,
                next_at=status.receiver.next_at,
                stopped_at=status.receiver.stopped_at,
            )
            for status in statuses
        ]
    )


@router.post("/receivers/resume", summary="Resume a receiver", tags=["alerts"], responses=problems(413))
def resume_receiver(body: ResumeBody, server: Served, caller: Administrator) -> ReceiverList:
    """Lets a receiver that failed or was stopped get its alerts again."""
    with AlertDelivery(server.settings.ledger) as delivery:
        delivery.resume(body.receiver)
    return list_receivers(server, caller)


@router.get("/statements/{provider}", summary="List remembered statements", tags=["statements"])
def list_statements(provider: Annotated[ShortText, Path()], server: Served, _caller: Auditor) -> BooksView:
    """Returns the statements and the closed months in the books of a provider."""
    server.book.tables_of(provider)
    books = server.ledger.books(provider)
    return BooksView(
        statements=[StatementView.model_validate(statement) for statement in books.statements],
        closed=[ClosedMonthView.model_validate(month) for month in books.closed],
    )


@router.post("/verify", summary="Verify the ledger", tags=["audit"])
def verify_ledger(server: Served, _caller: Auditor) -> VerificationView:
    """Recomputes every balance from the journal, and compares it with the stored balance."""
    return VerificationView.model_validate(server.ledger.verify())


@router.get("/audit", summary="Show the audit log", tags=["audit"])
def show_audit(
    server: Served, _caller: Administrator, cursor: NumberCursor = 0, limit: Limit = DEFAULT_LIMIT
) -> ActionPage:
    """Returns the administrative actions, the oldest first: who did what, when, and why."""
    later = [action for action in server.ledger.actions() if action.seq > cursor]
    page: list[AdministrativeAction] = later[:limit]
    return ActionPage(
        items=[ActionView.model_validate(action) for action in page],
        next=page[-1].seq if len(later) > limit else None,
    )


@router.get("/keys", summary="List access keys", tags=["keys"])
def list_keys(server: Served, _caller: Administrator) -> AccessKeyList:
    """Returns every access key, also those that are not valid any more."""
    return AccessKeyList(keys=[AccessKeyView.of(key) for key in server.ledger.access_keys()])


@router.post("/keys", summary="Issue an access key", tags=["keys"], status_code=201, responses=problems(413))
def issue(body: IssueKeyBody, server: Served, caller: Administrator) -> IssuedKeyView:
    """Issues an access key. Its text is in this answer only."""
    if (body.project is None) != body.all_projects:
        raise KlingPricingError("give either `project` or `all_projects: true`")
    issued = issue_key(
        server.settings.ledger,
        project=body.project,
        role=body.role,
        labels=body.labels,
        name=body.name,
        expires_at=body.expires_at,
        actor=caller.name,
        reason=body.reason,
    )
    return IssuedKeyView(key=issued.text, access_key=AccessKeyView.of(issued.key))


@router.post("/keys/{name}/revoke", summary="Revoke an access key", tags=["keys"], responses=problems(404, 413))
def revoke_access_key(
    name: Annotated[ShortText, Path()], body: ReasonBody, server: Served, caller: Administrator
) -> AccessKeyView:
    """Revokes an access key for ever; it is refused from the next request on."""
    names = [key.name for key in server.ledger.access_keys()]
    if name not in names:
        raise HTTPException(_NOT_FOUND, str(unknown_key(name, names)))
    return AccessKeyView.of(revoke_key(server.settings.ledger, name, actor=caller.name, reason=body.reason))


@router.get("/caller", summary="Show your own access key", tags=["keys"])
def show_caller(caller: Viewer) -> CallerView:
    """Returns what the access key of this request may do."""
    return CallerView(**caller._asdict() | {"labels": dict(caller.labels)})


open_router = APIRouter(prefix=API_PREFIX)
"""Routes that need no access key."""


@open_router.get("/problems", summary="List the kinds of problems", tags=["problems"])
def list_problems() -> ProblemTypeList:
    """Returns every kind of problem with its code and its status. Needs no access key."""
    return ProblemTypeList(
        problems=[
            ProblemTypeView(code=code, type=problem_uri(code), status=kind.status, title=kind.title)
            for code, kind in problem_types().items()
        ]
    )
