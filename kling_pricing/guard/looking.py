"""What a guard shows: reservations, balances, the journal."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

from kling_pricing.budgets import EACH
from kling_pricing.guard.admissions import Reference, ref_of
from kling_pricing.guard.core import Core
from kling_pricing.ledger.journal import Bucket, Entry, Observation
from kling_pricing.ledger.model import Reservation
from kling_pricing.windows import in_utc


class Looking(Core):
    """The verbs that change nothing; see `BudgetGuard`."""

    def reservation(self, ref: Reference) -> Reservation:
        """One reservation as it stands now."""
        return self._ledger.reservation(ref_of(ref))

    def in_doubt(self) -> list[Reservation]:
        """What was dispatched, and nobody knows whether the provider has it; the oldest first."""
        return self._ledger.reservations(in_doubt=True)

    def unclaimed(self) -> list[Observation]:
        """What was observed of tasks that belong to no reservation."""
        return self._ledger.unclaimed()

    def history(
        self,
        *,
        project: str | None = None,
        key: str | None = None,
        since: datetime | None = None,
        until: datetime | None = None,
    ) -> list[Reservation]:
        """Reservations made from `since` on and before `until`, the oldest first."""
        start, end = (None if each is None else in_utc(each) for each in (since, until))
        return self._ledger.reservations(project=project, key=key, since=start, until=end)

    def journal(self) -> list[Entry]:
        """Everything that ever moved money, or might have, the oldest first."""
        return self._ledger.journal()

    def status(self, at: datetime | None = None) -> list[Bucket]:
        """What each budget has left in its window; of one with `*`, each bucket that has been used.

        A reservation that has expired no longer counts as held.

        Args:
            at: an instant in the window, with a time zone; by default now.
        """
        now = self._clock() if at is None else in_utc(at)
        used = self._ledger.buckets(now)
        rows: list[Bucket] = []
        for budget in self._newest().budgets.budgets:
            buckets = [
                found for name, found in used if (found.budget, name) == (budget.name, budget.definition)
            ]
            period = budget.period(now)
            if not buckets and period is not None and EACH not in budget.match.values():
                none = Decimal(0)
                buckets = [
                    Bucket(budget.name, {}, budget.cap, none, none, budget.cap, budget.currency, *period)
                ]
            rows += buckets
        return rows

    def verify(self) -> None:
        """Derives every balance from the journal once more.

        Raises:
            LedgerError: something differs; it says what.
        """
        self._ledger.verify()
