"""The sentences that tell a person what a form has done. A URL has the name of a sentence, never its text."""

from __future__ import annotations

from collections.abc import Mapping

NOTICES: Mapping[str, str] = {
    "signed-out": "You have signed out.",
    "session-ended": "Your session has ended, so nothing was changed. Sign in, and send the form again.",
    "resolved": "The outcome is recorded.",
    "corrected": "The corrected amount is recorded.",
    "asked": "The provider was asked, and the answer is recorded.",
    "asked-unanswered": "The provider was asked, but there was no usable answer. Nothing was changed.",
    "asked-unaskable": "The server cannot find this job at the provider, because its task is not known. The "
    "job may exist, so look it up before you state its outcome. Nothing was changed.",
    "asked-unfound": "The provider did not find this job, but it may exist. Look it up before you state its "
    "outcome. Nothing was changed.",
    "budgets-applied": "The new budgets are in force.",
    "cap-set": "The new cap is in force.",
    "frozen": "Spending is frozen.",
    "thawed": "Spending is allowed again.",
    "allowed": "The allowance is granted.",
    "allowance-revoked": "The allowance is revoked.",
    "request-declined": "The request is declined. The person who asked sees your reason.",
    "requested": "The request for an allowance is filed.",
    "key-revoked": "The access key is revoked. It is refused from its next request on.",
    "month-begun": "The work has begun. This page shows when it is done.",
    "receiver-resumed": "The receiver gets its alerts again.",
}
"""Name -> the sentence."""
