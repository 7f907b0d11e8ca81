"""The verbs of `BudgetGuard` that are intended for administrators. `BudgetGuard` inherits them."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from kling_pricing.budgets import BudgetsFile, BudgetsLike
from kling_pricing.guard import budget_changes
from kling_pricing.guard.state import GuardState
from kling_pricing.ledger.actions import AdministrativeAction


class GuardAdministration:
    """The administrative verbs of a guard. The ledger keeps who used them, when, and why; see `log`."""

    _state: GuardState

    @property
    def actor(self) -> str:
        """The name under which the ledger keeps the administrative actions of this guard."""
        return self._state.actor

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

    def apply(self, budgets: BudgetsLike, *, reason: str | None = None) -> BudgetsFile:
        """Replaces the ledger's budgets.

        Balances do not change. Caps, request limits, alerts and capping minimums can always be changed. To
        change a budget's match, window, time zone or currency, give the budget another name or set
        `carry_over: true`. With `carry_over`, the new buckets count the amounts that are already in the ledger.

        Args:
            budgets: the path of a budgets file, or `Budget` objects.
            reason: the reason, for `log`.

        Raises:
            BudgetError: the budgets cannot replace the installed ones; nothing has changed.
        """
        return budget_changes.apply(self._state, budgets, reason)

    def log(self) -> list[AdministrativeAction]:
        """Returns every administrative action, oldest first: who did what, when, and why."""
        return self._state.ledger.actions()
