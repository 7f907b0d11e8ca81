"""The guard: no project spends past its cap.

A job's money is set aside before it is submitted, in one transaction with the question whether there is any
left, so that no burst of requests can read the same "still below the cap" and all pass.
Then the payload is given out once, to one caller; and what the provider says of the task settles the rest.

::

    admit -> dispatch -> (submit it) -> bind -> settle, or release
"""

from __future__ import annotations

from kling_pricing.guard.administration import Administration, apply_budgets
from kling_pricing.guard.admissions import Admission, QuoteOptions, Reference
from kling_pricing.guard.before_sending import BeforeSending

__all__ = ["Admission", "BudgetGuard", "QuoteOptions", "Reference", "apply_budgets"]


class BudgetGuard(BeforeSending, Administration):
    """Holds requests against budgets, and keeps count of what they cost.

    Safe to share between threads; processes that name the same ledger share its caps.

    Args:
        ledger: where the count is kept: `sqlite:///spend.db` is a file of the working folder.
        budgets: a file of budgets, or `Budget`s; by default those that the ledger has. The first guard of a
            ledger installs them; later ones must bring the same, or none. A later revision, which
            `apply` installs, is taken up by running guards with their next admission.
        book: the price tables to use; by default the bundled ones and those of `KLING_PRICING_TABLES`.
        on_alert: called once for each threshold of each bucket that is reached, whichever process reaches
            it, and for each bill above what was reserved. It is called after the money has moved, in the
            process that moved it; if that process dies in between, the journal still has the alert. What it
            raises is logged, and changes nothing.
        expires_after: how long a reservation waits for its dispatch before its money is given back.
        doubtful_after: how long after its dispatch a reservation without a task is in doubt.
        clock: tells the instant, with a time zone.

    Raises:
        BudgetError: the budgets cannot be used, or differ from those installed.
        LedgerError: the ledger cannot be used.
    """
