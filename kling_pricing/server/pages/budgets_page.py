"""Budgets: the balances, one budget with its changes, the budgets file, freezes."""

from __future__ import annotations

from typing import Any
from urllib.parse import quote

from kling_pricing.budgets import BudgetEntry, BudgetsFile, budgets_yaml
from kling_pricing.errors import KlingPricingError
from kling_pricing.server.api.budget_routes import (
    ApplyBody,
    BudgetsBody,
    CapBody,
    FreezeBody,
    apply_new_budgets,
    freeze,
    list_freezes,
    plan_new_budgets,
    set_cap,
    show_budget,
    show_budgets,
    show_budgets_file,
    thaw,
)
from kling_pricing.server.pages.budget_cards import cards_of
from kling_pricing.server.pages.visits import Answer, Content, Page, PageRoute, SeeOther, Visit

_MAX_BALANCES = 500


def show(visit: Visit) -> Content:
    """Shows the balances of all budgets, and the freezes."""
    server, caller = visit.server, visit.caller
    shown = show_budgets(server, caller)
    return Content(
        "budgets",
        {
            "at": shown.at,
            "cards": cards_of(server, caller, shown, charts=0)[:_MAX_BALANCES],
            "count": len(shown.budgets),
            "freezes": list_freezes(server, caller).freezes,
            "may_administer": visit.may("manage", all_projects=True),
            "may_see_file": visit.may("view", all_projects=True),
        },
    )


def show_one(visit: Visit) -> Content:
    """Shows one budget, and what may be done with it."""
    server, caller, name = visit.server, visit.caller, visit.path["budget"]
    shown = show_budget(name, server, caller)
    budgets = server.guard.budgets()
    entry = next(entry for entry in budgets.budgets if entry.name == name)
    overlay = next((each for each in server.guard.cap_overlays() if each.budget == name), None)
    freezes = list_freezes(server, caller).freezes
    return Content(
        "budget",
        {
            "name": name,
            "at": shown.at,
            "entry": entry,
            "yaml": _yaml(budgets, entry) if visit.may("view", all_projects=True) else None,
            "overlay": overlay,
            "cards": cards_of(server, caller, shown),
            "freeze": next((each for each in freezes if each.budget == name), None),
            "may_administer": visit.may("manage", all_projects=True),
        },
    )


def _yaml(budgets: BudgetsFile, entry: BudgetEntry) -> str:
    """Returns one budget as a budgets file has it."""
    return budgets_yaml(budgets.model_copy(update={"budgets": (entry,)}))


def _path(budget: str) -> str:
    return f"/budgets/{quote(budget, safe='')}"


def change_cap(visit: Visit) -> Answer:
    """Sets the cap of one budget."""
    form, name = visit.form, visit.path["budget"]
    fields: dict[str, Any] = {"cap": form["cap"], "reason": form["reason"], "until": form.instant("until")}
    body = CapBody.model_validate(fields | {"allow_weaker": form.is_ticked("allow_weaker")})
    set_cap(name, body, visit.server, visit.caller)
    return SeeOther(_path(name), "cap-set")


def freeze_one(visit: Visit) -> Answer:
    """Freezes one budget."""
    _change_freeze(visit, freeze, [visit.path["budget"]])
    return SeeOther(_path(visit.path["budget"]), "frozen")


def thaw_one(visit: Visit) -> Answer:
    """Ends the freeze of one budget."""
    _change_freeze(visit, thaw, [visit.path["budget"]])
    return SeeOther(_path(visit.path["budget"]), "thawed")


def freeze_everything(visit: Visit) -> Answer:
    """Freezes all spending."""
    _change_freeze(visit, freeze, None)
    return SeeOther("/budgets", "frozen")


def thaw_everything(visit: Visit) -> Answer:
    """Ends the freeze of all spending."""
    _change_freeze(visit, thaw, None)
    return SeeOther("/budgets", "thawed")


def _change_freeze(visit: Visit, change: Any, budgets: list[str] | None) -> None:
    body = FreezeBody.model_validate({"budgets": budgets, "reason": visit.form["reason"]})
    change(body, visit.server, visit.caller)


def show_file(visit: Visit) -> Content:
    """Shows the budgets file, to be changed by those who may."""
    text = visit.form.text("file") or _current(visit)
    return Content("budgets_file", {"text": text, "plan": None, **_rights(visit)})


def _current(visit: Visit) -> str:
    """Returns the budgets in force as a file; the beginning of one if there are none yet."""
    if visit.server.ledger.installed() is None:
        return "budgets:\n"
    return show_budgets_file(visit.server, visit.caller)


def _rights(visit: Visit) -> dict[str, bool]:
    return {"may_administer": visit.may("manage", all_projects=True)}


def plan_file(visit: Visit) -> Content:
    """Shows the effect that a changed file would have. Nothing is changed, so there is no redirection."""
    text = visit.form.text("file")
    plan = plan_new_budgets(BudgetsBody(file=text), visit.server, visit.caller)
    return Content("budgets_file", {"text": text, "plan": plan, **_rights(visit)})


def apply_file(visit: Visit) -> Answer:
    """Applies a changed file, if the budgets have not changed since its plan."""
    form = visit.form
    fields: dict[str, Any] = {"file": form.text("file"), "reason": form["reason"], "remove": form.all("remove")}
    if form["base"]:
        fields["base"] = form["base"]
    body = ApplyBody.model_validate(fields | {"allow_weaker": form.is_ticked("allow_weaker")})
    apply_new_budgets(body, visit.server, visit.caller)
    return SeeOther("/budgets", "budgets-applied")


def plan_again(visit: Visit) -> Content:
    """Shows the plan again after a refusal; a file that cannot be planned is shown as it was typed."""
    try:
        return plan_file(visit)
    except KlingPricingError:
        return show_file(visit)


PAGE = Page(
    "Budgets",
    "/budgets",
    (
        PageRoute("GET", "/budgets", show),
        PageRoute("GET", "/budgets/{budget}", show_one),
        PageRoute("POST", "/budgets/{budget}/cap", change_cap, "manage", all_projects=True, back=show_one),
        PageRoute("POST", "/budgets/{budget}/freeze", freeze_one, "manage", all_projects=True, back=show_one),
        PageRoute("POST", "/budgets/{budget}/thaw", thaw_one, "manage", all_projects=True, back=show_one),
        PageRoute("POST", "/freezes", freeze_everything, "manage", all_projects=True, back=show),
        PageRoute("POST", "/thaws", thaw_everything, "manage", all_projects=True, back=show),
        PageRoute("GET", "/budgets-file", show_file, all_projects=True),
        PageRoute("POST", "/budgets-file", plan_file, "manage", all_projects=True, back=show_file),
        PageRoute("POST", "/budgets-file/apply", apply_file, "manage", all_projects=True, back=plan_again),
    ),
)
