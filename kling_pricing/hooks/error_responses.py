"""Refusals as responses in the API's own error format, for clients that retry or wrap raised errors."""

from __future__ import annotations

import json
import re

from kling_pricing.errors import (
    BudgetExceededError,
    BudgetFrozenError,
    IdempotencyError,
    KlingPricingError,
    LedgerError,
    ReservationStateError,
)
from kling_pricing.hooks.hook_options import Options
from kling_pricing.hooks.http_messages import ErrorResponse
from kling_pricing.tables.http_rules import HttpRules

REFUSED_BY = "x-kling-pricing-refused"
"""A header that only the hook's own responses have; it contains the name of the error."""

_STATUSES: tuple[tuple[type[KlingPricingError], int], ...] = (
    (BudgetExceededError, 402),
    (BudgetFrozenError, 402),
    (ReservationStateError, 409),
    (IdempotencyError, 409),
    (LedgerError, 503),
    (KlingPricingError, 400),
)
"""Error type -> HTTP status; the first type that matches applies."""

_TEMPORARY = 503
"""The only status after which a retry may succeed; for all others the response tells SDKs not to retry."""


def error_code(kind: type[KlingPricingError]) -> str:
    """Returns the code of an error in a response, such as `budget_exceeded`."""
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", kind.__name__.removesuffix("Error")).lower()


def error_response(error: KlingPricingError, rules: HttpRules) -> ErrorResponse:
    """Returns an error as a response in the shape of the API's own errors."""
    status = next(status for error_type, status in _STATUSES if isinstance(error, error_type))
    code = error_code(type(error))
    headers = {"content-type": "application/json", REFUSED_BY: type(error).__name__}
    if status != _TEMPORARY:
        headers["x-should-retry"] = "false"
    body = json.dumps(rules.error_body(status, code, str(error)), ensure_ascii=False)
    return ErrorResponse(status, headers, body.encode())


def refuse(error: KlingPricingError, rules: HttpRules, options: Options) -> ErrorResponse:
    """Refuses a submission: raises the error, or returns it as a response if `refusals` is `respond`."""
    if options.get("refusals", "raise") == "raise":
        raise error
    return error_response(error, rules)
