"""The verbs of `BudgetGuard` that are intended for administrators. `BudgetGuard` inherits them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from copy import copy
from datetime import datetime
from decimal import Decimal
from typing import Self, Unpack

from kling_pricing.budgets import BudgetsFile, BudgetsLike
from kling_pricing.guard import allowing, budget_changes
from kling_pricing.guard.admission import QuoteOptions
from kling_pricing.guard.budget_plans import BudgetPlan, CapChange, make_plan
from kling_pricing.guard.issuing_keys import IssuedKey, issue_key_in, new_key
from kling_pricing.guard.state import GuardState
from kling_pricing.ledger.access_keys import AccessKey, Role, digest_of
from kling_pricing.ledger.actions import AdministrativeAction, CapOverlay, actor_name, author
from kling_pricing.ledger.freezing import Freeze
from kling_pricing.ledger.granting import Allowance, AllowanceRequest
from kling_pricing.ledger.journal import WaivedRefusals
from kling_pricing.strict_json import RequestLike
from kling_pricing.windows import FOREVER, in_utc


class GuardAdministration:
    """The administrative verbs of a guard. The ledger keeps who used them, when, and why; see `log`."""

    _state: GuardState

    @property
    def actor(self) -> str:
        """The name under which the ledger keeps the administrative actions of this guard."""
        return self._state.actor

    def acting_as(self, actor: str) -> Self:
        """Returns a guard on the same open ledger whose administrative actions have another actor.

        Closing either guard closes the ledger of both; the next use opens it again.

        Raises:
            KlingPricingError: the name is empty, too long, or not printable.
        """
        other = copy(self)
        other._state = copy(self._state)  # noqa: SLF001 (it is this class)
        other._state.actor = actor_name(actor)  # noqa: SLF001
        return other

    def issue_key(
        self,
        *,
        project: str | None,
        role: Role = "submit",
        labels: Mapping[str, str] | None = None,
        name: str | None = None,
        expires_at: datetime | None = None,
        reason: str | None = None,
    ) -> IssuedKey:
        """Issues an access key, as `kling_pricing.guard.issue_key` does."""
        key = new_key(project, role, labels, name, expires_at)
        return issue_key_in(self._state.ledger, key, self._state.clock(), author(self.actor, reason))

    def revoke_key(self, name: str, *, reason: str | None = None) -> AccessKey:
        """Revokes an access key for ever; servers refuse it from their next request on.

        Raises:
            LedgerError: no key has this name.
        """
        return self._state.ledger.revoke_key(name, author(self.actor, reason))

    def access_keys(self) -> list[AccessKey]:
        """Returns every access key, oldest first, also those that are not valid any more."""
        return self._state.ledger.access_keys()

    def access_key(self, text: str) -> AccessKey | None:
        """Returns the access key with this text, even if it is not valid any more; None: there is none."""
        return self._state.ledger.access_key(digest_of(text))

    def mark_key_used(self, name: str) -> None:
        """Keeps that an access key is in use now."""
        self._state.ledger.mark_key_used(name)

    def open_budget(
        self,
        budget: str,
        spent: Decimal | int | str,
        *,
        labels: Mapping[str, str] | None = None,
        reason: str | None = None,
    ) -> None:
        """Records the amount that was spent in a budget's current window before the guard was in use.

        Each window accepts only one opening balance.

        Args:
            budget: the budget's name.
            spent: the amount, in the budget's currency.
            labels: the labels of the bucket, if the budget has a bucket for each value of a label.
            reason: the reason, for `log`.

        Raises:
            BudgetError: the budget does not exist, or has no bucket with these labels.
            IdempotencyError: this window already has an opening balance.
        """
        budget_changes.open_budget(self._state, budget, spent, labels, reason)

    def budgets(self) -> BudgetsFile:
        """Returns the current budgets. `budgets_yaml` writes them as a budgets file."""
        return self._state.newest_budgets().budgets

    def plan(self, budgets: BudgetsLike) -> BudgetPlan:
        """Returns the effect that `apply` would have, and changes nothing.

        Args:
            budgets: the path of a budgets file, or `Budget` objects.

        Raises:
            BudgetError: the budgets are invalid.
        """
        return make_plan(self._state.ledger, budgets, self._state.clock())

    def apply(
        self,
        budgets: BudgetsLike | BudgetPlan,
        *,
        remove: Iterable[str] = (),
        allow_weaker: bool = False,
        reason: str | None = None,
    ) -> BudgetsFile:
        """Replaces the ledger's budgets.

        A change that weakens protection must be named, so that nobody makes it by mistake. Each budget that the
        new ones lack must be in `remove`. `allow_weaker` allows any other change after which more may be spent
        or fewer requests are checked; `BudgetPlan.weaker` lists these changes.

        Balances do not change. Caps, request limits, alerts and capping minimums can always be changed. To
        change a budget's match, window, time zone or currency, give the budget another name or set
        `carry_over: true`. With `carry_over`, the new buckets count the amounts that are already in the ledger.

        A budget that is added again after its removal carries over, unless it has `carry_over: false`.

        Args:
            budgets: the path of a budgets file, `Budget` objects, or a plan from `plan`. A plan is applied only
                if the current budgets have not changed since.
            remove: the names of the budgets that the new ones do not contain.
            allow_weaker: whether protection may become weaker.
            reason: the reason, for `log`.

        Raises:
            BudgetWeakenedError: a budget is removed that `remove` does not name, or protection becomes weaker
                without `allow_weaker`; nothing has changed.
            BudgetError: the budgets cannot replace the installed ones; nothing has changed.
        """
        return budget_changes.apply(self._state, budgets, remove, allow_weaker, reason)

    def set_cap(
        self,
        budget: str,
        cap: Decimal | int | str,
        *,
        until: datetime | None = None,
        reason: str | None = None,
    ) -> None:
        """Changes the cap of one budget immediately, for every process.

        With `until`, the new cap applies until that instant, and then the budget's own cap applies again.
        Without it, the budgets get a new revision with the new cap, and a cap that was set until an instant
        ends.

        Args:
            budget: the budget's name.
            cap: the new cap, in the budget's currency.
            until: an instant in the future, with a time zone.
            reason: the reason, for `log`.

        Raises:
            BudgetError: the ledger has no such budget.
        """
        budget_changes.set_cap(self._state, budget, cap, until, reason)

    def cap_change(self, budget: str, cap: Decimal | int | str, *, until: datetime | None = None) -> CapChange:
        """Returns the effect that `set_cap` would have, and changes nothing.

        Raises:
            BudgetError: the ledger has no such budget.
        """
        return budget_changes.cap_change_of(self._state, budget, cap, until)

    def cap_overlays(self) -> list[CapOverlay]:
        """Returns the caps that `set_cap` set until an instant that is not over, by budget."""
        now = self._state.clock()
        return [overlay for overlay in self._state.ledger.cap_overlays() if overlay.until > now]

    def ask(
        self,
        payload: RequestLike,
        *,
        project: str,
        key: str | None = None,
        labels: Mapping[str, str] | None = None,
        reason: str,
        **options: Unpack[QuoteOptions],
    ) -> AllowanceRequest:
        """Files a request for an allowance that would let a refused request pass.

        The amount is the price of the request, and the budgets are those that have too little left now. An
        allowance covers only the shortfall, so any amount that is not needed stays available.

        Args:
            payload: the refused request.
            project: the project that the request belongs to.
            key: the key of the job; the allowance is then for this key only, and also lifts `max_request`.
            labels: the labels of the request.
            reason: the reason.
            options: as for `quote`.

        Raises:
            BudgetFrozenError: spending is frozen, and an allowance cannot lift a freeze.
            LedgerError: the request does not need an allowance, or an allowance cannot help.
            KlingPricingError: the request is invalid or has no known price, as for `quote`.
        """
        return allowing.ask(self._state, payload, project, key, labels, reason, options)

    def allowances(self) -> list[Allowance]:
        """Returns every allowance, oldest first."""
        return self._state.ledger.allowances()

    def allowance_requests(self) -> list[AllowanceRequest]:
        """Returns every filed request for an allowance, oldest first."""
        return self._state.ledger.allowance_requests()

    def freezes(self) -> list[Freeze]:
        """Returns the current freezes: first that of all spending, then the oldest."""
        return self._state.ledger.freezes()

    def waived(self, *, since: datetime | None = None, until: datetime | None = None) -> list[WaivedRefusals]:
        """Returns the refusals that budgets in observe mode waived, by bucket and project.

        Args:
            since: only refusals at or after this instant, with a time zone.
            until: only refusals before this instant.
        """
        start = FOREVER.start if since is None else in_utc(since)
        end = FOREVER.end if until is None else in_utc(until)
        return self._state.ledger.waived(start, end)

    def log(self) -> list[AdministrativeAction]:
        """Returns every administrative action, oldest first: who did what, when, and why."""
        return self._state.ledger.actions()
