"""Queries: reads the balances of the budgets from the ledger, without changing the ledger."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

from kling_pricing.budgets import EACH, BudgetsFile
from kling_pricing.guard.state import GuardState
from kling_pricing.ledger import Ledger
from kling_pricing.ledger.journal import Bucket
from kling_pricing.windows import STEPS, in_utc, length_text


def status(state: GuardState, at: datetime | None) -> list[Bucket]:
    """Returns the balance of each budget; see `BudgetGuard.status`."""
    now = state.clock() if at is None else in_utc(at)
    return balances(state.ledger, state.newest_budgets().budgets, now)


def balances(ledger: Ledger, budgets: BudgetsFile, at: datetime) -> list[Bucket]:
    """Returns the balance of each budget in the window that contains an instant."""
    used = ledger.buckets(at)
    windows = {window.schedule: window.period for window in ledger.windows(at)}
    caps = {overlay.budget: overlay.cap for overlay in ledger.cap_overlays() if overlay.until > at}
    rows: list[Bucket] = []
    for budget in budgets.budgets:
        buckets = [
            bucket
            for definition, bucket in used
            if (bucket.budget, definition) == (budget.name, budget.definition)
        ]
        period = budget.period(at) if budget.step else windows.get(budget.schedule)
        if not buckets and period is not None and EACH not in budget.match.values():
            zero, rolling = Decimal(0), length_text(STEPS * budget.step) if budget.step else None
            cap = caps.get(budget.name, budget.cap)
            buckets = [Bucket(budget.name, {}, cap, zero, zero, cap, budget.currency, *period, rolling)]
        rows += buckets
    return rows
