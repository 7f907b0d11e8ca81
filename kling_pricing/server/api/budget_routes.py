"""Budgets: their balances, plans, changes, freezes and allowances."""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import HTTPException, Path
from fastapi.responses import PlainTextResponse
from pydantic import Field

from kling_pricing.budgets import BudgetsFile, budgets_from_text, budgets_yaml
from kling_pricing.errors import BudgetWeakenedError
from kling_pricing.guard import (
    BudgetForecast,
    apply_budgets,
    freeze_all,
    freeze_budgets,
    plan_budgets,
    thaw_budgets,
)
from kling_pricing.guard import thaw_all as thaw_everything
from kling_pricing.ledger.freezing import Freeze, unknown_budget
from kling_pricing.server.api.dependencies import (
    Administrator,
    Auditor,
    Served,
    Viewer,
    budgets_of,
    keyed_routes,
)
from kling_pricing.server.api.exact_fields import Amount, ApiBody, Instant, Number, ShortText, View, bound
from kling_pricing.server.problem_documents import problems

router = keyed_routes("budgets", 401, 403, 409, 422, 503)

BudgetName = Annotated[ShortText, Path(description="The name of the budget.")]

_NOT_FOUND = 404
_FILE = "file"
"""The name of the text of a budgets file in mistakes."""


class BudgetView(View):
    """The balance of one budget in one window, for one set of labels. Amounts are in `currency`."""

    budget: str
    labels: dict[str, str]
    cap: Number
    held: Number = Field(description="The money set aside for unfinished jobs.")
    spent: Number = Field(description="The money spent on settled jobs.")
    available: Number = Field(description="The money that is left; negative after an overrun.")
    currency: str
    window_start: Instant | None
    window_end: Instant | None = Field(description="null: the window never ends.")
    rolling: str | None = Field(description="The length of a rolling window, such as `24h`.")
    pace_per_day: Number | None = Field(
        description="The average of the window, per 24 hours; null: unknown yet."
    )
    exhausted_at: Instant | None = Field(
        description="When nothing will be left at this pace; null: not before the end."
    )

    @classmethod
    def of(cls, forecast: BudgetForecast) -> BudgetView:
        """Returns the view of a balance."""
        fields = forecast.bucket._asdict()
        return cls(
            **fields
            | {
                "labels": dict(forecast.bucket.labels),
                "window_start": bound(forecast.bucket.window_start),
                "window_end": bound(forecast.bucket.window_end),
                "pace_per_day": forecast.pace_per_day,
                "exhausted_at": forecast.exhausted_at,
            }
        )


class BudgetList(View):
    """The balances of the budgets."""

    at: Instant
    budgets: list[BudgetView]


class BudgetsBody(ApiBody):
    """The text of a budgets file."""

    file: str = Field(
        description="The text of a budgets file, in YAML.",
        examples=["budgets:\n  - {name: trailer, match: {project: trailer}, cap: 500, currency: USD}\n"],
        max_length=2**20,
    )

    def budgets(self) -> BudgetsFile:
        """Returns the budgets in the text."""
        return budgets_from_text(self.file.encode(errors="surrogatepass"), name=_FILE)


class PlanView(View):
    """The effect that new budgets would have. Nothing was changed."""

    base: str | None = Field(description="The digest of the budgets in force; null: there are none.")
    changes: list[dict[str, Any]] = Field(description="Every difference, with old and new values.")
    removed: list[str] = Field(description="The budgets that would be removed; `apply` needs them in `remove`.")
    weaker: list[str] = Field(description="The changes that need `allow_weaker`.")
    notes: list[str]
    problems: list[str]
    warnings: list[str]


class ApplyBody(BudgetsBody):
    """New budgets, and the consent to weaker protection."""

    base: str | None = Field(
        None, description="The `base` of your plan: refuses the budgets if others are now in force."
    )
    remove: list[ShortText] = Field([], description="The budgets that the file does not contain.")
    allow_weaker: bool = Field(default=False, description="Whether protection may become weaker.")
    reason: ShortText = Field(description="The reason, which the audit log keeps.")


class CapBody(ApiBody):
    """A new cap of one budget."""

    cap: Amount
    until: Instant | None = Field(None, description="The end of the new cap; null: the cap stays.")
    allow_weaker: bool = Field(default=False, description="Whether more may be spent than before.")
    reason: ShortText


class CapChangeView(View):
    """The effect of a new cap."""

    budget: str
    currency: str
    cap: Number
    until: Instant | None
    old_cap: Number
    old_until: Instant | None
    notes: list[str]


class FreezeBody(ApiBody):
    """The budgets to freeze or thaw, and the reason."""

    budgets: list[ShortText] | None = Field(
        None, description="The names of the budgets; null: all spending.", min_length=1
    )
    reason: ShortText


class FreezeView(View):
    """A freeze."""

    budget: str | None = Field(description="The frozen budget; null: all spending.")
    actor: str
    reason: str
    frozen_at: Instant


class FreezeList(View):
    """Freezes: those in force, or those that the request ended."""

    freezes: list[FreezeView]


@router.get("/budgets", summary="Show the budgets")
def show_budgets(server: Served, caller: Viewer) -> BudgetList:
    """Returns the balance of each budget in its window.

    A key for one project sees only the budgets that count no other project.
    """
    guard = server.guard
    own = budgets_of(server, caller)
    found = [
        BudgetView.of(forecast)
        for forecast in guard.forecasts()
        if forecast.bucket.budget in own
        and caller.reaches(forecast.bucket.labels.get("project", caller.project or ""))
    ]
    return BudgetList(at=guard.clock(), budgets=found)


@router.get("/budgets/{budget}", summary="Show a budget", responses=problems(404))
def show_budget(budget: BudgetName, server: Served, caller: Viewer) -> BudgetList:
    """Returns the balances of one budget: one for each set of labels in use."""
    shown = show_budgets(server, caller)
    _require_known(budget, budgets_of(server, caller))
    return BudgetList(at=shown.at, budgets=[row for row in shown.budgets if row.budget == budget])


@router.get("/budgets-file", summary="Show the budgets file", response_class=PlainTextResponse)
def show_budgets_file(server: Served, _caller: Auditor) -> str:
    """Returns the budgets in force as the text of a budgets file."""
    return budgets_yaml(server.guard.budgets())


@router.post("/budgets/plan", summary="Plan new budgets", responses=problems(408, 413))
def plan_new_budgets(body: BudgetsBody, server: Served, _caller: Administrator) -> PlanView:
    """Returns the effect that new budgets would have, and changes nothing."""
    plan = plan_budgets(server.settings.ledger, body.budgets())
    return PlanView(base=plan.base, **plan.as_dict())


@router.post("/budgets/apply", summary="Apply new budgets", responses=problems(408, 413))
def apply_new_budgets(body: ApplyBody, server: Served, caller: Administrator) -> PlanView:
    """Replaces the budgets in force, and returns the changes. Balances do not change."""
    plan = plan_budgets(server.settings.ledger, body.budgets())
    if body.base is not None:
        plan = plan._replace(base=body.base)
    apply_budgets(
        server.settings.ledger,
        plan,
        remove=body.remove,
        allow_weaker=body.allow_weaker,
        actor=caller.name,
        reason=body.reason,
    )
    return PlanView(base=plan.base, **plan.as_dict())


@router.post("/budgets/{budget}/cap", summary="Set a cap", responses=problems(404, 408, 413))
def set_cap(budget: BudgetName, body: CapBody, server: Served, caller: Administrator) -> CapChangeView:
    """Changes the cap of one budget immediately, for every process."""
    guard = server.guard.acting_as(caller.name)
    _require_known(budget, [entry.name for entry in guard.budgets().budgets])
    change = guard.cap_change(budget, body.cap, until=body.until)
    if change.weaker and not body.allow_weaker:
        raise BudgetWeakenedError(
            f"the new cap allows more spending in budget {budget} than before; if you agree to that, send "
            "`allow_weaker: true`",
            removed=(),
            weaker=(f"{budget}: cap",),
        )
    guard.set_cap(budget, body.cap, until=body.until, reason=body.reason)
    (old_cap, old_until), (cap, until) = change.old, change.new
    return CapChangeView(
        budget=budget,
        currency=change.currency,
        cap=cap,
        until=until,
        old_cap=old_cap,
        old_until=old_until,
        notes=[*change.notes],
    )


@router.get("/freezes", summary="List the freezes")
def list_freezes(server: Served, caller: Viewer) -> FreezeList:
    """Returns the freezes in force: the freeze of all spending first, then the oldest."""
    own = budgets_of(server, caller)
    found = [freeze for freeze in server.guard.freezes() if freeze.budget is None or freeze.budget in own]
    return FreezeList(freezes=[FreezeView.model_validate(freeze) for freeze in found])


@router.post("/freezes", summary="Freeze spending", responses=problems(408, 413))
def freeze(body: FreezeBody, server: Served, caller: Administrator) -> FreezeList:
    """Stops budgets, or all spending, immediately and for every process. Jobs that were sent are settled."""
    ledger = server.settings.ledger
    if body.budgets is None:
        found: tuple[Freeze, ...] = (freeze_all(ledger, actor=caller.name, reason=body.reason),)
    else:
        found = freeze_budgets(ledger, body.budgets, actor=caller.name, reason=body.reason)
    return FreezeList(freezes=[FreezeView.model_validate(each) for each in found])


@router.post("/thaws", summary="Allow spending again", responses=problems(408, 413))
def thaw(body: FreezeBody, server: Served, caller: Administrator) -> FreezeList:
    """Ends the freezes of budgets, or the freeze of all spending, and returns the freezes that it ended."""
    ledger = server.settings.ledger
    if body.budgets is None:
        everything = [each for each in server.guard.freezes() if each.budget is None]
        ended = everything if thaw_everything(ledger, actor=caller.name, reason=body.reason) else []
    else:
        ended = [*thaw_budgets(ledger, body.budgets, actor=caller.name, reason=body.reason)]
    return FreezeList(freezes=[FreezeView.model_validate(each) for each in ended])


def _require_known(budget: str, names: list[str]) -> None:
    """Does nothing if a budget has this name.

    Raises:
        HTTPException: none has it (404).
    """
    if budget not in names:
        raise HTTPException(_NOT_FOUND, str(unknown_budget(budget, names)))
