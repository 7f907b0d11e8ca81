"""The guard: no project spends past its cap.

The guard reserves the money of a job before the job is submitted, in the same transaction that checks the caps.
So a burst of requests cannot all read the same balance below the cap and all pass.
It gives out each payload once, to one caller, and settles the job by the provider's answers.

::

    admit -> dispatch -> (submit it) -> bind -> settle, or release
"""

from kling_pricing.guard.admission import Admission, QuoteOptions
from kling_pricing.guard.budget_changes import apply_budgets
from kling_pricing.guard.guard import BudgetGuard
from kling_pricing.guard.references import Reference

__all__ = ["Admission", "BudgetGuard", "QuoteOptions", "Reference", "apply_budgets"]
