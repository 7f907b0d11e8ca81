"""Access keys: list them, issue one, whose text is shown once, and revoke one."""

from __future__ import annotations

from typing import Any

from kling_pricing.ledger.access_keys import ROLES
from kling_pricing.server.api.access_key_routes import IssueKeyBody, issue, list_keys, revoke_access_key
from kling_pricing.server.api.allowance_routes import ReasonBody
from kling_pricing.server.pages.visits import Answer, Content, Page, PageRoute, SeeOther, Visit

_ISSUED = "/keys/issued"
_COOKIE_LASTS_S = 120


def show(visit: Visit) -> Content:
    """Shows every access key, and the form to issue one."""
    server = visit.server
    keys = list_keys(server, visit.caller).keys
    now = server.clock()
    valid = [key for key in keys if key.revoked_at is None and (key.expires_at is None or key.expires_at > now)]
    return Content(
        "keys",
        {
            "valid": valid,
            "ended": [key for key in keys if key not in valid],
            "projects": server.ledger.projects(),
            "roles": ROLES,
        },
    )


def issue_one(visit: Visit) -> Answer:
    """Issues an access key. Its text goes to the next page in a cookie, because it is stored nowhere."""
    form = visit.form
    fields: dict[str, Any] = {name: form[name] for name in ("project", "role", "name", "reason") if form[name]}
    fields |= {
        "all_projects": form.is_ticked("all_projects"),
        "labels": form.labels("labels"),
        "expires_at": form.instant("expires_at"),
    }
    issued = issue(IssueKeyBody.model_validate(fields), visit.server, visit.caller)
    return SeeOther(
        _ISSUED, cookies=(_cookie(visit, f"{issued.access_key.name}:{issued.key}", _COOKIE_LASTS_S),)
    )


def show_issued(visit: Visit) -> Answer:
    """Shows the text of a new access key, and removes it from the browser."""
    value = visit.request.cookies.get(_cookie_name(visit))
    if value is None:
        return SeeOther("/keys")
    name, _, text = value.partition(":")
    return Content("key_issued", {"name": name, "text": text}, cookies=(_cookie(visit, "", 0),))


def revoke_one(visit: Visit) -> Answer:
    """Revokes an access key."""
    body = ReasonBody.model_validate({"reason": visit.form["reason"]})
    revoke_access_key(visit.path["name"], body, visit.server, visit.caller)
    return SeeOther("/keys", "key-revoked")


def _cookie_name(visit: Visit) -> str:
    return f"{'__Secure-' if visit.server.settings.is_encrypted else ''}kling_pricing_issued"


def _cookie(visit: Visit, value: str, lasts_s: int) -> str:
    secure = "; Secure" if visit.server.settings.is_encrypted else ""
    name = _cookie_name(visit)
    return f"{name}={value}; Path={_ISSUED}; Max-Age={lasts_s}; HttpOnly; SameSite=Strict{secure}"


PAGE = Page(
    "Keys",
    "/keys",
    (
        PageRoute("GET", "/keys", show, "manage", all_projects=True),
        PageRoute("POST", "/keys", issue_one, "manage", all_projects=True, back=show),
        PageRoute("GET", _ISSUED, show_issued, "manage", all_projects=True),
        PageRoute("POST", "/keys/{name}/revoke", revoke_one, "manage", all_projects=True, back=show),
    ),
    "manage",
    all_projects=True,
)
