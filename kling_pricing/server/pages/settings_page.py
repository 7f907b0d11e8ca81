"""Settings: what is configured, and nothing secret."""

from __future__ import annotations

from kling_pricing import __version__
from kling_pricing.server.api.alert_routes import ResumeBody, list_receivers, resume_receiver
from kling_pricing.server.pages.visits import Answer, Content, Page, PageRoute, SeeOther, Visit

_APART = {"ledger", "upstreams", "limits"}
"""The settings that the page shows in a form of their own."""


def show(visit: Visit) -> Content:
    """Shows the settings of the server, its upstreams, its receivers and its price tables."""
    server = visit.server
    settings = server.settings
    return Content(
        "settings",
        {
            "version": __version__,
            "ledger": server.ledger.name,
            "general": _rows(settings, _APART),
            "limits": _rows(settings.limits, set()),
            "upstreams": [
                (upstream, _rows(upstream.settings, {"url"})) for upstream in server.upstreams.values()
            ],
            "receivers": list_receivers(server, visit.caller).receivers,
            "tables": [(name, [table.id for table in tables]) for name, tables in server.book.tables.items()],
            "holder": server.background.holder,
            "may_administer": visit.may("manage", all_projects=True),
        },
    )


def _rows(settings: object, apart: set[str]) -> list[tuple[str, str, bool]]:
    """Returns the name and the value of each setting, and whether the value is the default."""
    fields = type(settings).model_fields  # type: ignore[attr-defined]
    return [
        (name, _text(getattr(settings, name)), getattr(settings, name) == field.get_default())
        for name, field in fields.items()
        if name not in apart
    ]


def _text(value: object) -> str:
    if value is None or value == []:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def resume(visit: Visit) -> Answer:
    """Lets a receiver that failed or was stopped get its alerts again."""
    resume_receiver(ResumeBody.model_validate({"receiver": visit.form["receiver"]}), visit.server, visit.caller)
    return SeeOther("/settings", "receiver-resumed")


PAGE = Page(
    "Settings",
    "/settings",
    (
        PageRoute("GET", "/settings", show, all_projects=True),
        PageRoute("POST", "/settings/receivers", resume, "manage", all_projects=True, back=show),
    ),
    all_projects=True,
)
