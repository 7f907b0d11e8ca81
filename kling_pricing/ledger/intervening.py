"""The verbs of a ledger with which people change a cap, stop spending, or let a project spend above a cap."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Protocol

from kling_pricing.ledger.actions import Author, CapOverlay
from kling_pricing.ledger.freezing import Freeze
from kling_pricing.ledger.granting import Allowance, AllowanceRequest, Grant
from kling_pricing.ledger.journal import WaivedRefusals
from kling_pricing.ledger.model import Alert


class Interventions(Protocol):
    """Single caps, freezes, allowances, and refusals that budgets in observe mode waive. A part of `Ledger`.

    A PostgreSQL role that may only use guards can read all of these, and file a request for an allowance. It
    can neither set caps, freeze, thaw, grant, decline nor revoke.
    """

    def set_cap(self, budget: str, cap: Decimal, until: datetime | None, author: Author) -> tuple[Alert, ...]:
        """Changes the cap of one budget.

        Args:
            budget: the budget's name.
            cap: the new cap in the budget's currency.
            until: the instant at which the budget's own cap is in force again; None: the new cap is a revision,
                which also ends a cap that was set until an instant.
            author: who changes the cap, and why.

        Returns:
            Alerts for the new thresholds that existing balances already reach.

        Raises:
            BudgetError: the ledger has no such budget.
        """

    def cap_overlays(self) -> list[CapOverlay]:
        """Returns the newest cap that was set until an instant for each budget, even if it has ended."""

    def freeze(self, author: Author, budgets: Sequence[str] | None = None) -> tuple[Freeze, ...]:
        """Freezes budgets, or all spending. When this returns, nothing more is admitted or dispatched.

        A job that was sent goes on. A freeze that is in force already stays as it is.

        Args:
            author: the person or program that freezes them, and the reason.
            budgets: the names of the budgets; None: all spending.

        Returns:
            The current freezes of these budgets.

        Raises:
            BudgetError: a budget is unknown; nothing has changed.
        """

    def thaw(self, author: Author, budgets: Sequence[str] | None = None) -> tuple[Freeze, ...]:
        """Ends the freezes of budgets, or the freeze of all spending. Other freezes stay in force.

        Args:
            author: the person or program that thaws them, and the reason.
            budgets: the names of the budgets; None: all spending.

        Returns:
            The freezes that it ended; empty: none was in force.

        Raises:
            BudgetError: a budget is unknown; nothing has changed.
        """

    def freezes(self) -> list[Freeze]:
        """Returns the current freezes: first that of all spending, then the oldest."""

    def allow(self, grant: Grant, author: Author) -> Allowance:
        """Grants an allowance.

        Raises:
            LedgerError: it would end before it begins, or the request that it grants is unknown, was granted
                already or was declined.
        """

    def revoke(self, allowance_id: str, author: Author) -> Allowance:
        """Revokes an allowance. Requests that it covers already stay covered. A repeated call has no effect.

        Raises:
            LedgerError: the allowance is unknown.
        """

    def ask(self, wanted: AllowanceRequest, author: Author) -> AllowanceRequest:
        """Files a request for an allowance, and returns it with its id."""

    def decline(self, request: str, author: Author) -> AllowanceRequest:
        """Declines a filed request, and returns it. A repeated call has no effect.

        Raises:
            LedgerError: the request is unknown, or was granted already.
        """

    def allowances(self) -> list[Allowance]:
        """Returns every allowance, the oldest first."""

    def allowance_requests(self) -> list[AllowanceRequest]:
        """Returns every filed request for an allowance, the oldest first."""

    def waived(self, since: datetime, until: datetime) -> list[WaivedRefusals]:
        """Returns the refusals that budgets in observe mode waived at or after `since` and before `until`."""
