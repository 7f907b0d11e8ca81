"""A refusal as the answer of the API itself: for clients that retry or wrap whatever is raised in them."""

from __future__ import annotations

import json
import re

from kling_pricing.errors import (
    BudgetExceededError,
    IdempotencyError,
    KlingPricingError,
    LedgerError,
    ReservationStateError,
)
from kling_pricing.hooks.http_messages import Answer
from kling_pricing.tables.http_rules import HttpRules

REFUSED_BY = "x-kling-pricing-refused"
"""Header of an answer that is not the provider's: the name of the error in its place."""

_STATUSES: tuple[tuple[type[KlingPricingError], int], ...] = (
    (BudgetExceededError, 402),
    (ReservationStateError, 409),
    (IdempotencyError, 409),
    (LedgerError, 503),
    (KlingPricingError, 400),
)
"""The first that fits."""

_LATER = 503
"""The one that may be another the next time; SDKs are told not to repeat the others."""


def refusal(error: KlingPricingError, rules: HttpRules) -> Answer:
    """The answer that says what an error says, in the shape of the API's own errors."""
    status = next(status for kind, status in _STATUSES if isinstance(error, kind))
    code = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", type(error).__name__.removesuffix("Error")).lower()
    headers = {"content-type": "application/json", REFUSED_BY: type(error).__name__}
    if status != _LATER:
        headers["x-should-retry"] = "false"
    body = json.dumps(rules.error_body(status, code, str(error)), ensure_ascii=False)
    return Answer(status, headers, body.encode())
