"""Alerts, and the receivers to which they are delivered."""

from __future__ import annotations

from pydantic import Field

from kling_pricing.alerts import AlertDelivery
from kling_pricing.errors import ReservationNotFoundError
from kling_pricing.ledger.alerting import StoredAlert
from kling_pricing.server.access import Caller
from kling_pricing.server.api.dependencies import (
    Administrator,
    Auditor,
    Served,
    Viewer,
    budgets_of,
    keyed_routes,
)
from kling_pricing.server.api.exact_fields import (
    DEFAULT_LIMIT,
    ApiBody,
    Instant,
    Limit,
    Number,
    NumberCursor,
    ShortText,
    View,
    bound,
)
from kling_pricing.server.problem_documents import problems
from kling_pricing.server.server_state import ServerState

router = keyed_routes("alerts", 401, 403, 409, 422, 503)

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
    waiting: int = Field(description="The number of alerts that the receiver still lacks.")
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


@router.get("/alerts", summary="List alerts")
def list_alerts(
    server: Served, caller: Viewer, cursor: NumberCursor = 0, limit: Limit = DEFAULT_LIMIT
) -> AlertPage:
    """Returns the alerts that you may see, the oldest first.

    A key for one project sees the alerts about jobs of this project, and about budgets that count no other.
    """
    found: list[StoredAlert] = []
    own = budgets_of(server, caller)
    after, is_complete = cursor, False
    for _ in range(_MAX_CHUNKS):
        chunk = server.ledger.alerts(after=after, limit=_CHUNK)
        for alert in chunk:
            if len(found) == limit:
                break
            after = alert.seq
            if _may_see(server, caller, own, alert):
                found.append(alert)
        is_complete = len(chunk) < _CHUNK and (not chunk or chunk[-1].seq == after)
        if is_complete or len(found) == limit:
            break
    return AlertPage(items=[AlertView.of(alert) for alert in found], next=None if is_complete else after)


def newest_alerts(server: ServerState, caller: Caller, limit: int) -> list[StoredAlert]:
    """Returns the newest alerts that a caller may see, the newest first.

    Args:
        server: the server.
        caller: the caller.
        limit: the largest number of alerts.
    """
    found: list[StoredAlert] = []
    own = budgets_of(server, caller)
    before: int | None = None
    for _ in range(_MAX_CHUNKS):
        chunk = server.ledger.newest_alerts(before=before, limit=_CHUNK)
        found += [alert for alert in chunk if _may_see(server, caller, own, alert)]
        if len(chunk) < _CHUNK or len(found) >= limit:
            break
        before = chunk[-1].seq
    return found[:limit]


def _may_see(server: ServerState, caller: Caller, own: list[str], alert: StoredAlert) -> bool:
    """Returns whether an alert is about a job that the caller reaches, or about one of its own budgets."""
    if caller.project is None:
        return True
    if alert.reservation_id is None:
        is_own = alert.budget in own and alert.labels.get("project", caller.project) == caller.project
        return is_own or (alert.budget is None and alert.labels.get("project") == caller.project)
    try:
        return server.ledger.reservation(alert.reservation_id).project == caller.project
    except ReservationNotFoundError:
        return False


@router.get("/receivers", summary="List the receivers of alerts")
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


@router.post("/receivers/resume", summary="Resume a receiver", responses=problems(408, 413))
def resume_receiver(body: ResumeBody, server: Served, caller: Administrator) -> ReceiverList:
    """Lets a receiver that failed or was stopped get its alerts again."""
    with AlertDelivery(server.settings.ledger) as delivery:
        delivery.resume(body.receiver)
    return list_receivers(server, caller)
