"""Queries: reads the balances of the budgets from the ledger, without changing the ledger."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

from kling_pricing.budgets import EACH
from kling_pricing.guard.state import GuardState
from kling_pricing.ledger.journal import Bucket
from kling_pricing.windows import in_utc


def status(state: GuardState, at: datetime | None) -> list[Bucket]:
    """Returns the balance of each budget; see `BudgetGuard.status`."""
    now = state.clock() if at is None else in_utc(at)
    used = state.ledger.buckets(now)
    windows = {window.schedule: window.period for window in state.ledger.windows(now)}
    caps = {overlay.budget: overlay.cap for overlay in state.ledger.cap_overlays() if overlay.until > now}
    balances: list[Bucket] = []
    for budget in state.newest_budgets().budgets.budgets:
        buckets = [
            bucket
            for definition, bucket in used
            if (bucket.budget, definition) == (budget.name, budget.definition)
        ]
        period = windows.get(budget.schedule)
        if not buckets and period is not None and EACH not in budget.match.values():
            zero = Decimal(0)
            cap = caps.get(budget.name, budget.cap)
            buckets = [Bucket(budget.name, {}, cap, zero, zero, cap, budget.currency, *period)]
        balances += buckets
    return balances
