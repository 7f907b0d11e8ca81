"""The guard: no project spends past its cap.

The guard reserves the money for a job before its submission, in the same transaction that checks the caps.
Concurrent requests therefore cannot all see the same free balance and all pass.
The guard hands out each payload once, to one caller, and settles each job from the provider's responses.

::

    admit -> dispatch -> (submit it) -> bind -> settle, or release
"""

from kling_pricing.guard.admission import Admission, QuoteOptions
from kling_pricing.guard.budget_changes import (
    apply_budgets,
    calendar_changes,
    freeze_all,
    plan_budgets,
    thaw_all,
)
from kling_pricing.guard.budget_plans import BudgetPlan
from kling_pricing.guard.guard import BudgetGuard
from kling_pricing.guard.references import Reference

__all__ = [
    "Admission",
    "BudgetGuard",
    "BudgetPlan",
    "QuoteOptions",
    "Reference",
    "apply_budgets",
    "calendar_changes",
    "freeze_all",
    "plan_budgets",
    "thaw_all",
]
