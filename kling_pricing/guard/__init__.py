"""The guard: no project spends past its cap.

The guard reserves the money for a job before its submission, in the same transaction that checks the caps.
Concurrent requests therefore cannot all see the same free balance and all pass.
The guard hands out each payload once, to one caller, and settles each job from the provider's responses.

::

    admit -> dispatch -> (submit it) -> bind -> settle, or release
"""

from kling_pricing.guard.admission import Admission, QuoteOptions
from kling_pricing.guard.allowing import allow, allowance_requests, allowances, decline, revoke
from kling_pricing.guard.budget_changes import apply_budgets, calendar_changes, plan_budgets
from kling_pricing.guard.budget_plans import BudgetPlan
from kling_pricing.guard.decisions import BudgetEffect, Decision
from kling_pricing.guard.forecasts import BudgetForecast
from kling_pricing.guard.guard import BudgetGuard
from kling_pricing.guard.issuing_keys import IssuedKey, access_keys, issue_key, revoke_key
from kling_pricing.guard.references import Reference
from kling_pricing.guard.stopping import freeze_all, freeze_budgets, freezes, thaw_all, thaw_budgets

__all__ = [
    "Admission",
    "BudgetEffect",
    "BudgetForecast",
    "BudgetGuard",
    "BudgetPlan",
    "Decision",
    "IssuedKey",
    "QuoteOptions",
    "Reference",
    "access_keys",
    "allow",
    "allowance_requests",
    "allowances",
    "apply_budgets",
    "calendar_changes",
    "decline",
    "freeze_all",
    "freeze_budgets",
    "freezes",
    "issue_key",
    "plan_budgets",
    "revoke",
    "revoke_key",
    "thaw_all",
    "thaw_budgets",
]
