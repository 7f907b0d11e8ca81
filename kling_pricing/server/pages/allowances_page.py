"""Allowances: requests for them, granting and declining one, and revoking an allowance."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

from kling_pricing.server.api.allowance_routes import (
    AllowanceRequestView,
    AllowanceView,
    AllowBody,
    ReasonBody,
    decline_allowance_request,
    grant_allowance,
    list_allowance_requests,
    list_allowances,
    revoke_allowance,
)
from kling_pricing.server.api.dependencies import budgets_of
from kling_pricing.server.pages.visits import Answer, Content, Page, PageRoute, SeeOther, Visit

_USUAL = timedelta(days=7)
"""How long an allowance lasts if nobody chooses another end."""


_MAX_ANSWERED = 50


class AnsweredRequest(NamedTuple):
    """A request that was granted or declined.

    Attributes:
        asked: the request.
        actor: who answered it.
        reason: the reason for the answer.
        at: when it was answered, UTC.
    """

    asked: AllowanceRequestView
    actor: str
    reason: str
    at: datetime


def show(visit: Visit) -> Content:
    """Shows the requests, the allowances, and the form to grant one."""
    server, caller = visit.server, visit.caller
    requests = list_allowance_requests(server, caller).requests
    allowances = list_allowances(server, caller).allowances
    now = server.guard.clock()
    wanted = visit.form["request"] or visit.query["request"]
    chosen = next((each for each in requests if each.id == wanted and each.state == "open"), None)
    answered = _answered(requests, allowances)
    states = {each.id: each.state(now) for each in server.guard.allowances()}
    may_administer = visit.may("manage", all_projects=True)
    return Content(
        "allowances",
        {
            "requests": [each for each in requests if each.state == "open"],
            "answered": answered[:_MAX_ANSWERED],
            "answered_count": len(answered),
            "allowances": [*reversed(allowances)],
            "states": states,
            "chosen": chosen,
            "values": _values(visit, chosen)
            | {"until": visit.form["until"] or f"{now + _USUAL:%Y-%m-%dT%H:%M}"},
            "budgets": budgets_of(server, caller) if may_administer else [],
            "ticked": visit.form.all("budgets") or (chosen.budgets if chosen else []),
            "may_administer": may_administer,
        },
    )


def _answered(
    requests: Sequence[AllowanceRequestView], allowances: Sequence[AllowanceView]
) -> list[AnsweredRequest]:
    """Returns the requests that were answered, the newest answer first."""
    granted = {each.request_id: each for each in allowances}
    found = []
    for asked in requests:
        if asked.declined is not None:
            found.append(AnsweredRequest(asked, asked.declined.actor, asked.declined.reason, asked.declined.at))
        elif (allowance := granted.get(asked.id)) is not None:
            found.append(AnsweredRequest(asked, allowance.actor, allowance.reason, allowance.created_at))
    return sorted(found, key=lambda each: each.at, reverse=True)


def _values(visit: Visit, chosen: AllowanceRequestView | None) -> dict[str, str]:
    """Returns the values of the form: what was typed, or else what the request says."""
    asked = {"project": "", "amount": "", "currency": "", "key": ""}
    if chosen is not None:
        asked = {
            "project": chosen.project,
            "amount": f"{chosen.amount}",
            "currency": chosen.currency,
            "key": chosen.key or "",
        }
    return {name: visit.form[name] or value for name, value in asked.items()} | {"reason": visit.form["reason"]}


def grant(visit: Visit) -> Answer:
    """Grants an allowance."""
    form = visit.form
    texts = ("project", "amount", "currency", "key", "request", "reason")
    fields: dict[str, Any] = {name: form[name] for name in texts if form[name]}
    fields |= {"budgets": form.all("budgets"), "until": form.instant("until")}
    grant_allowance(AllowBody.model_validate(fields), visit.server, visit.caller)
    return SeeOther("/allowances", "allowed")


def decline(visit: Visit) -> Answer:
    """Declines a request."""
    body = ReasonBody.model_validate({"reason": visit.form["reason"]})
    decline_allowance_request(visit.path["request_id"], body, visit.server, visit.caller)
    return SeeOther("/allowances", "request-declined")


def revoke(visit: Visit) -> Answer:
    """Revokes an allowance."""
    body = ReasonBody.model_validate({"reason": visit.form["reason"]})
    revoke_allowance(visit.path["allowance_id"], body, visit.server, visit.caller)
    return SeeOther("/allowances", "allowance-revoked")


PAGE = Page(
    "Allowances",
    "/allowances",
    (
        PageRoute("GET", "/allowances", show),
        PageRoute("POST", "/allowances", grant, "manage", all_projects=True, back=show),
        PageRoute(
            *("POST", "/allowances/requests/{request_id}/decline", decline, "manage"),
            all_projects=True,
            back=show,
        ),
        PageRoute("POST", "/allowances/{allowance_id}/revoke", revoke, "manage", all_projects=True, back=show),
    ),
)
