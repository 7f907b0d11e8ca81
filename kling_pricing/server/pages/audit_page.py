"""The audit log: who did what, when and why, with the values before and after."""

from __future__ import annotations

from urllib.parse import urlencode

from kling_pricing.ledger.actions import AdministrativeAction
from kling_pricing.server.pages.form_fields import Form
from kling_pricing.server.pages.visits import Content, Page, PageRoute, Visit

_ON_A_PAGE = 100
_FILTERS = ("actor", "action", "subject")


def show(visit: Visit) -> Content:
    """Shows the administrative actions that match the filters, the newest first."""
    actions = visit.server.ledger.actions()
    query = visit.query
    before = int(query["before"]) if query["before"].isdecimal() else None
    found = [action for action in reversed(actions) if _matches(action, query)]
    page = [action for action in found if before is None or action.seq < before]
    chosen = {name: query[name] for name in _FILTERS if query[name]}
    following = None
    if len(page) > _ON_A_PAGE:
        following = f"/audit?{urlencode({**chosen, 'before': page[_ON_A_PAGE - 1].seq})}"
    return Content(
        "audit",
        {
            "found": page[:_ON_A_PAGE],
            "count": len(found),
            "following": following,
            "actors": sorted({action.actor for action in actions}),
            "kinds": sorted({action.action for action in actions}),
            "query": query,
            "is_filtered": bool(chosen),
        },
    )


def _matches(action: AdministrativeAction, query: Form) -> bool:
    values = {"actor": action.actor, "action": action.action, "subject": action.subject}
    return all(not query[name] or query[name] == value for name, value in values.items())


PAGE = Page(
    "Audit",
    "/audit",
    (PageRoute("GET", "/audit", show, "manage", all_projects=True),),
    "manage",
    all_projects=True,
)
