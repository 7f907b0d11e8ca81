"""Plans: the effect that new budgets would have on a ledger, before they are applied."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple, TypeAlias

from kling_pricing.budgets import (
    BudgetDifference,
    BudgetEntry,
    BudgetsFile,
    BudgetsLike,
    budgets_from_document,
    read_budgets,
)
from kling_pricing.budgets.checking import warnings_about
from kling_pricing.budgets.differences import differences, value_shown, weaker_texts
from kling_pricing.errors import BudgetError
from kling_pricing.ledger import Ledger
from kling_pricing.ledger.actions import AdministrativeAction, CapOverlay
from kling_pricing.ledger.carry_over import budget_named, carrying_over
from kling_pricing.ledger.journal import Bucket
from kling_pricing.money import format_decimal
from kling_pricing.windows import FOREVER


class BudgetPlan(NamedTuple):
    """The effect that new budgets would have on a ledger. Making a plan changes nothing.

    Attributes:
        budgets: the new budgets.
        base: digest of the current budgets when the plan was made; None: the ledger has none.
        changes: every difference from the current budgets; empty: there is none.
        balances: the current balances of each current budget that has counted anything, by its name.
        notes: other effects, in sentences, such as a cap that is lower than the amount already spent.
        problems: reasons why `apply` refuses the new budgets, regardless of its arguments, in sentences.
        warnings: ways to bypass the new budgets, in sentences; see `budget check`.
    """

    budgets: BudgetsFile
    base: str | None
    changes: tuple[BudgetDifference, ...]
    balances: Mapping[str, tuple[Bucket, ...]]
    notes: tuple[str, ...]
    problems: tuple[str, ...]
    warnings: tuple[str, ...]

    @property
    def removed(self) -> tuple[str, ...]:
        """The names of the budgets that are removed; `apply` needs each of them in `remove`."""
        return tuple(change.subject for change in self.changes if change.kind == "removed")

    @property
    def weaker(self) -> tuple[str, ...]:
        """The changes that weaken protection, such as `trailer: cap 25 -> 50 USD`; see `allow_weaker`."""
        return tuple(text for change in self.changes for text in weaker_texts(change))

    def as_dict(self) -> dict[str, Any]:
        """Returns the plan as JSON-ready data; amounts are text."""
        return {
            "changes": [
                {
                    "kind": change.kind,
                    "budget": change.budget,
                    "fields": [field._asdict() for field in change.fields],
                    "balances": [_balance(bucket) for bucket in self.balances.get(change.budget or "", ())],
                }
                for change in self.changes
            ],
            "removed": list(self.removed),
            "weaker": list(self.weaker),
            "notes": list(self.notes),
            "problems": list(self.problems),
            "warnings": list(self.warnings),
        }


def _balance(bucket: Bucket) -> dict[str, Any]:
    amounts = {name: format_decimal(getattr(bucket, name)) for name in ("spent", "held", "available")}
    return {"labels": dict(bucket.labels), **amounts, "currency": bucket.currency}


def make_plan(ledger: Ledger, budgets: BudgetsLike, now: datetime) -> BudgetPlan:
    """Returns the plan for new budgets of a ledger; see `BudgetGuard.plan`."""
    new = read_budgets(budgets)
    revision = ledger.installed()
    if revision is None:
        return BudgetPlan(new, None, differences(None, new), {}, (), (), tuple(warnings_about(new, now)))
    old = budgets_from_document(revision.document)
    changes = differences(old, new)
    definitions = {budget.name: budget.definition for budget in old.budgets}
    balances: dict[str, tuple[Bucket, ...]] = {}
    for definition, bucket in ledger.buckets(now):
        if definitions.get(bucket.budget) == definition:
            balances[bucket.budget] = (*balances.get(bucket.budget, ()), bucket)
    actions = ledger.actions() if changes else []
    overlays = {overlay.budget: overlay for overlay in ledger.cap_overlays() if overlay.until > now}
    notes = [
        *(note for change in changes for note in _notes(change, new, balances, overlays)),
        *(f"this undoes {text}" for text in undone(changes, actions)),
        *_returning(changes, new, actions),
    ]
    return BudgetPlan(
        new,
        revision.digest,
        changes,
        balances,
        tuple(notes),
        _problems(old, new, actions),
        tuple(warnings_about(new, now)),
    )


def _problems(old: BudgetsFile, new: BudgetsFile, actions: Sequence[AdministrativeAction]) -> tuple[str, ...]:
    """Returns the reason why a ledger refuses new budgets, if there is one."""
    documents = [value for action in actions if action.action == "apply" for value in (action.old, action.new)]
    earlier = [budgets_from_document(json.dumps(value)) for value in documents if value is not None]
    try:
        carrying_over(new, old, [budget for one in (*earlier, old) for budget in one.budgets])
    except BudgetError as error:
        return (str(error),)
    return ()


class CapChange(NamedTuple):
    """The effect that a new cap of one budget would have.

    Attributes:
        budget: the budget's name.
        currency: its currency.
        old: the cap in force, and the instant at which it ends; None: it stays.
        new: the new cap, and the instant at which it ends.
        weaker: whether more may be spent, now or at any later instant.
        notes: other effects, in sentences, such as a cap that is lower than the amount already spent.
    """

    budget: str
    currency: str
    old: tuple[Decimal, datetime | None]
    new: tuple[Decimal, datetime | None]
    weaker: bool
    notes: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Returns the change as JSON-ready data; amounts are text."""
        sides = {
            name: {"cap": format_decimal(cap), "until": until and until.isoformat()}
            for name, (cap, until) in (("old", self.old), ("new", self.new))
        }
        return {
            "budget": self.budget,
            "currency": self.currency,
            **sides,
            "weaker": self.weaker,
            "notes": list(self.notes),
        }


def cap_change(
    ledger: Ledger, budgets: BudgetsFile, name: str, cap: Decimal, until: datetime | None, now: datetime
) -> CapChange:
    """Returns the effect of a new cap; see `BudgetGuard.cap_change`."""
    budget = budget_named(budgets, name)
    overlays = {overlay.budget: overlay for overlay in ledger.cap_overlays() if overlay.until > now}
    overlay = overlays.get(name)
    old = (budget.cap, None) if overlay is None else (overlay.cap, overlay.until)
    buckets = [
        bucket
        for definition, bucket in ledger.buckets(now)
        if (bucket.budget, definition) == (name, budget.definition)
    ]
    new = (cap, until)
    notes = [*lowered(budget, cap, buckets)]
    final = cap if until is None else budget.cap
    raised = _raised(old, new, (budget.cap, final), now)
    if raised is not None and raised > now:
        before, after = _cap_at(old, budget.cap, raised), _cap_at(new, final, raised)
        notes.append(
            f"from {raised:%Y-%m-%d %H:%M} UTC, the cap is {format_decimal(after)} {budget.currency} instead "
            f"of {format_decimal(before)}"
        )
    return CapChange(name, budget.currency, old, new, raised is not None, tuple(notes))


_CapUntil: TypeAlias = tuple[Decimal, datetime | None]


def _cap_at(cap: _CapUntil, afterwards: Decimal, at: datetime) -> Decimal:
    """Returns the cap at an instant: one that may end, or the cap that follows it."""
    return cap[0] if cap[1] is None or at < cap[1] else afterwards


def _raised(old: _CapUntil, new: _CapUntil, finals: tuple[Decimal, Decimal], now: datetime) -> datetime | None:
    """Returns the first instant from which a new cap lets more be spent than the old one; None: never."""
    instants = sorted({now, *(end for _, end in (old, new) if end is not None)})
    before, after = finals
    return next((at for at in instants if _cap_at(new, after, at) > _cap_at(old, before, at)), None)


def _notes(
    change: BudgetDifference,
    new: BudgetsFile,
    balances: Mapping[str, tuple[Bucket, ...]],
    overlays: Mapping[str, CapOverlay],
) -> Iterator[str]:
    if change.budget is None or change.kind == "added":
        return
    overlay = overlays.get(change.budget)
    changed = {field.field for field in change.fields}
    if overlay is not None and change.kind == "removed":
        yield f"the cap of {change.budget} until {overlay.until:%Y-%m-%d %H:%M} UTC is removed too"
    elif overlay is not None and "currency" in changed:
        yield (
            f"the cap of {change.budget} until {overlay.until:%Y-%m-%d %H:%M} UTC ends now, because it is in "
            "another currency; set it again"
        )
    elif overlay is not None and any(field.field == "cap" for field in change.fields):
        yield (
            f"until {overlay.until:%Y-%m-%d %H:%M} UTC, the cap of {change.budget} stays at "
            f"{format_decimal(overlay.cap)} {change.currency}, which {overlay.actor} set"
        )
    for budget in new.budgets:
        if budget.name == change.budget and any(field.field == "cap" for field in change.fields):
            yield from lowered(budget, budget.cap, balances.get(budget.name, ()))


def lowered(budget: BudgetEntry, cap: Decimal, balances: Sequence[Bucket]) -> Iterator[str]:
    """Yields the meaning of a cap that is lower than the amounts that buckets have already used."""
    for bucket in balances:
        used = bucket.spent + bucket.held
        if used > cap and bucket.currency == budget.currency:
            labels = "".join(f" for {label} {value}" for label, value in bucket.labels.items())
            end = (
                "the cap is raised"
                if bucket.window_end == FOREVER.end
                else f"its window ends at {bucket.window_end:%Y-%m-%d %H:%M} UTC"
            )
            yield (
                f"{budget.name}{labels} has already used {format_decimal(used)} {bucket.currency} (spent "
                f"{format_decimal(bucket.spent)}, held {format_decimal(bucket.held)}), more than the new cap "
                f"of {format_decimal(cap)}: jobs that were sent continue, and no request is admitted until "
                f"{end}, or until enough of the held money is released"
            )


def _returning(
    changes: Sequence[BudgetDifference], new: BudgetsFile, actions: Sequence[AdministrativeAction]
) -> Iterator[str]:
    """Yields a note for every budget that was in force before, and comes back."""
    known = {
        budget["name"]
        for action in actions
        if action.action == "apply" and action.old is not None
        for budget in action.old["budgets"]
    }
    budgets = {budget.name: budget for budget in new.budgets}
    for change in changes:
        if change.kind == "added" and change.budget in known:
            budget = budgets[change.subject]
            carries = budget.carry_over or "carry_over" not in budget.model_fields_set
            counts = "counts" if carries else "does not count, because of carry_over: false,"
            yield (
                f"{change.budget} was removed earlier; it {counts} the money that was spent in its window "
                "while it was removed"
            )


def undone(changes: Sequence[BudgetDifference], actions: Sequence[AdministrativeAction]) -> list[str]:
    """Returns a text for every cap that `budget set` changed for good and that new budgets change back."""
    texts = []
    for change in changes:
        for field in change.fields:
            if change.kind == "changed" and field.field == "cap":
                action = _last_set(actions, change.subject)
                if action is not None and action.new == {"cap": field.old}:
                    reason = "" if action.reason is None else f" ({action.reason})"
                    texts.append(
                        f"`budget set {change.subject} --cap {value_shown(field.old)}`, which {action.actor} "
                        f"ran at {action.at:%Y-%m-%d %H:%M} UTC{reason}"
                    )
    return texts


def _last_set(actions: Sequence[AdministrativeAction], budget: str) -> AdministrativeAction | None:
    """Returns the newest action that changed the cap of a budget for good, if that was `set`."""
    newest = None
    for action in actions:
        if action.action == "set" and action.subject == budget and "until" not in action.new:
            newest = action
        elif action.action == "apply" and _cap_in(action.old, budget) != _cap_in(action.new, budget):
            newest = None
    return newest


def _cap_in(document: Any, budget: str) -> str | None:
    """Returns the cap of a budget in the document of a revision; None if the budget is not in it."""
    return next(
        (entry["cap"] for entry in (document or {"budgets": []})["budgets"] if entry["name"] == budget), None
    )
