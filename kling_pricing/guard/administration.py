"""What people do about budgets: change them, begin one in mid-window, book spend that went another way."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal

from kling_pricing.budgets import EACH, BudgetsFile, BudgetsLike, read_budgets
from kling_pricing.display import shown
from kling_pricing.errors import BudgetError, KlingPricingError, LedgerUnavailableError
from kling_pricing.guard.core import MAX_ROUNDS, Core, InForce
from kling_pricing.guard.reservation_requests import booking
from kling_pricing.ledger import connect
from kling_pricing.ledger.claims import claim, claims
from kling_pricing.ledger.model import Outdated, Reservation
from kling_pricing.ledger.redaction import checked_labels, currency_code, short_text
from kling_pricing.money import ledger_amount, nanos_up
from kling_pricing.windows import in_utc, utc_clock


class Administration(Core):
    """The verbs for budgets, and for spend that did not come through the guard; see `BudgetGuard`."""

    def record(
        self,
        provider: str,
        task_id: str,
        amount: Decimal | int | str,
        *,
        labels: Mapping[str, str],
        at: datetime | None = None,
        currency: str | None = None,
    ) -> Reservation:
        """Books spend that was made elsewhere, whatever the caps say. Repeating it changes nothing.

        Args:
            provider: who billed.
            task_id: its name for the task.
            amount: what was charged.
            labels: what budgets may match, the project among them.
            at: when it was spent, with a time zone; by default now.
            currency: of the amount; by default the provider's.

        Raises:
            IdempotencyError: the task is in the ledger with something else.
        """
        when = self._clock() if at is None else in_utc(at)
        if not isinstance(labels, Mapping):
            raise KlingPricingError(f"labels must be a mapping with the project, got {shown(labels)}")
        named = checked_labels(labels.get("project", ""), labels)
        charged = ledger_amount(amount)
        provider, task_id = short_text("provider", provider), short_text("task_id", task_id)
        counted_in = currency_code(currency or self._book.table(provider, when).currency)
        for _ in range(MAX_ROUNDS):
            in_force, claimed = self._by_budgets(lambda by: claims(by.budgets, named, counted_in, when))
            booked, spent = booking(
                provider, task_id, charged, counted_in, labels=named, claimed=claimed, revision=in_force.digest
            )
            answer = self._ledger.record(booked, spent, task_id, when)
            if not isinstance(answer, Outdated):
                return self._told(answer)
            self._in_force = InForce.of(answer.revision)
        raise LedgerUnavailableError("the ledger's budgets change faster than spend can be booked; try again")

    def open_budget(
        self, budget: str, spent: Decimal | int | str, *, labels: Mapping[str, str] | None = None
    ) -> None:
        """Counts what a budget's current window had spent before the ledger knew of it, once a window.

        Args:
            budget: its name.
            spent: in its currency.
            labels: of the bucket, where each value of a label has one of its own.

        Raises:
            BudgetError: there is no such budget, or it does not match the labels.
            IdempotencyError: this window has its opening balance already.
        """
        budgets = self._newest().budgets
        found = next((each for each in budgets.budgets if each.name == budget), None)
        if found is None:
            known = ", ".join(each.name for each in budgets.budgets)
            raise BudgetError(f"there is no budget {budget}; there are: {known}")
        own = [label for label, wanted in found.match.items() if wanted == EACH]
        if sorted(own) != sorted(labels or {}):
            needed = ", ".join(own) or "none"
            raise BudgetError(f"the buckets of budget {budget} are told apart by labels: {needed}; give those")
        now = self._clock()
        if found.period(now) is None:
            raise BudgetError(f"budget {budget} has no window that is open now")
        bucket = {label: short_text(f"label {label}", value) for label, value in (labels or {}).items()}
        opened = claim(found, bucket, None, now)
        self._tell(self._ledger.open_bucket(opened, nanos_up(ledger_amount(spent))))

    def apply(self, budgets: BudgetsLike) -> BudgetsFile:
        """Installs budgets in place of those of the ledger: what an administrator does.

        Balances stay. Caps, limits, alerts and floors may change freely; a budget whose match, window, zone or
        currency changes needs another name, or `carry_over: true`: then its buckets count what the ledger
        holds already.

        Raises:
            BudgetError: the budgets cannot be used in place of those installed; nothing has changed.
        """
        self._tell(self._ledger.apply(read_budgets(budgets)))
        return self._newest().budgets


def apply_budgets(ledger: str, budgets: BudgetsLike) -> BudgetsFile:
    """Installs budgets in a ledger, empty or not, as `BudgetGuard.apply` does; returns them.

    Raises:
        BudgetError: the budgets cannot be used, or not in place of those installed; nothing has changed.
        LedgerError: the ledger cannot be used.
    """
    read = read_budgets(budgets)
    store = connect(ledger, clock=utc_clock(None))
    store.apply(read)
    store.close()
    return read
