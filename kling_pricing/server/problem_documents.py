"""Errors as problem documents (RFC 9457), the only shape of an error in the API."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field
from starlette.exceptions import HTTPException

from kling_pricing.display import without_secrets
from kling_pricing.errors import (
    AccessError,
    BudgetError,
    BudgetExceededError,
    BudgetFrozenError,
    BudgetWeakenedError,
    CapabilityError,
    IdempotencyError,
    KlingPricingError,
    LedgerError,
    LedgerUnavailableError,
    PriceNotFoundError,
    ReceiverError,
    ReservationNotFoundError,
    ReservationStateError,
    StatementError,
    TableError,
    WireFormatError,
)
from kling_pricing.hooks.error_responses import error_code
from kling_pricing.money import format_decimal
from kling_pricing.strict_yaml import explained, key_path

_log = logging.getLogger("kling_pricing.server")

PROBLEM_JSON = "application/problem+json"
"""The media type of a problem document."""

RETRY_AFTER_S = 5
"""The number of seconds after which a caller may try again if the ledger cannot be used."""


class ProblemType(NamedTuple):
    """One kind of problem.

    Attributes:
        status: the HTTP status of the answer.
        title: the problem in a few words, which are the same each time.
    """

    status: int
    title: str


_OF_ERRORS: Mapping[type[KlingPricingError], ProblemType] = {
    KlingPricingError: ProblemType(400, "The request has an invalid value"),
    WireFormatError: ProblemType(422, "The payload cannot be read"),
    CapabilityError: ProblemType(422, "The provider's API would refuse the payload"),
    PriceNotFoundError: ProblemType(422, "No price is published for the payload"),
    TableError: ProblemType(500, "A price table cannot be used"),
    BudgetExceededError: ProblemType(402, "The request does not fit a budget"),
    BudgetFrozenError: ProblemType(402, "Spending is frozen"),
    BudgetError: ProblemType(422, "The budgets cannot be used"),
    BudgetWeakenedError: ProblemType(409, "The change weakens protection, and nobody agreed to that"),
    LedgerError: ProblemType(409, "The ledger cannot carry out the operation"),
    ReservationNotFoundError: ProblemType(404, "The reservation is not in the ledger"),
    ReservationStateError: ProblemType(409, "The state of the reservation does not allow the operation"),
    IdempotencyError: ProblemType(409, "The key or the task belongs to a different request"),
    LedgerUnavailableError: ProblemType(503, "The ledger cannot be used, so nothing may be spent"),
    ReceiverError: ProblemType(422, "A receiver of alerts is not set up or does not accept an alert"),
    StatementError: ProblemType(422, "The statement cannot be read"),
}
"""Error class -> the kind of problem. A class that is not listed has the kind of its nearest listed base."""

_OF_STATUSES: Mapping[int, tuple[str, str]] = {
    400: ("invalid_request", "The request cannot be read"),
    401: ("unauthorized", "The request has no valid access key"),
    403: ("forbidden", "The access key does not allow the request"),
    404: ("not_found", "There is nothing at this path"),
    405: ("method_not_allowed", "The path does not accept this method"),
    408: ("timeout", "The body arrives too slowly"),
    413: ("too_large", "The body is too large"),
    500: ("internal_error", "The server has failed"),
    503: ("overloaded", "The server has too much to do"),
}
"""HTTP status -> the code and the title of a problem that is not an error of the library."""


class ViolationView(BaseModel):
    """One reason why the provider's API would refuse a payload."""

    code: str = Field(description="The stable name of the rule.", examples=["duration_s_limit"])
    field: str = Field(description="The field of the payload at fault.", examples=["duration"])
    value: Any = Field(None, description="The value of the field; null if the field is missing.")
    allowed: Any = Field(None, description="The allowed values; null if no value is allowed.")
    message: str = Field(description="The reason in a sentence, with the remedy.")
    source: str = Field(description="The publication that contains the rule.")


class Mistake(BaseModel):
    """One mistake in a request or in a budgets file."""

    place: str = Field(description="The place of the mistake.", examples=["body.payload", "budgets[0].cap"])
    line: int | None = Field(None, description="The line in the file, from 1; null if there is no file.")
    problem: str = Field(description="The mistake in a sentence, with the remedy.")


class ProblemDocument(BaseModel):
    """An error. Members that do not apply are left out."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {
                    "type": "urn:kling-pricing:problem:budget_exceeded",
                    "title": "The request does not fit a budget",
                    "status": 402,
                    "code": "budget_exceeded",
                    "detail": "budget trailer has 0.286 USD left, but the request needs 0.714 USD",
                    "budget": "trailer",
                    "requested": "0.714",
                    "available": "0.286",
                    "currency": "USD",
                }
            ]
        }
    )

    type: str = Field(description="The kind of problem, as a URI. It never changes.")
    title: str = Field(description="The kind of problem in a few words.")
    status: int = Field(description="The HTTP status of the answer.")
    code: str = Field(description="The kind of problem as a word, for programs.", examples=["budget_exceeded"])
    detail: str = Field(description="The cause in a sentence, with the remedy.")
    mistakes: list[Mistake] | None = Field(None, description="Every mistake in the request or the file.")
    violations: list[ViolationView] | None = Field(None, description="Every reason why the API would refuse.")
    suggestions: list[dict[str, Any]] | None = Field(
        None, description="The nearest valid payloads: field -> new value, or null to leave the field out."
    )
    priced_instead: list[str] | None = Field(None, description="Alternatives that have a price.")
    budget: str | None = Field(None, description="The budget that refuses the request.")
    requested: str | None = Field(None, description="The amount that the request needs, in `currency`.")
    available: str | None = Field(None, description="The amount that the budget allows, in `currency`.")
    currency: str | None = Field(None, description="The currency of the amounts.")
    window_end: str | None = Field(None, description="The instant at which the budget's window ends, UTC.")
    cheapest: str | None = Field(None, description="The price of the cheapest valid variant.")
    reservation_id: str | None = Field(None, description="The reservation whose state is in the way.")
    state: str | None = Field(None, description="The state of that reservation.")
    task_id: str | None = Field(None, description="The provider's task of that reservation, if it is known.")
    actor: str | None = Field(None, description="The person or program that froze spending.")
    reason: str | None = Field(None, description="The reason for the freeze.")
    frozen_at: str | None = Field(None, description="The instant of the freeze, UTC.")
    removed: list[str] | None = Field(None, description="The budgets that would be removed.")
    weaker: list[str] | None = Field(None, description="The changes that would weaken protection.")


_ATTRIBUTES = (
    *("priced_instead", "budget", "requested", "available", "currency", "window_end", "cheapest"),
    *("reservation_id", "state", "task_id", "actor", "reason", "frozen_at", "removed", "weaker"),
)
"""The attributes of errors that become members of a problem."""


def problem_of(error: KlingPricingError) -> ProblemDocument:
    """Returns an error of the library as a problem."""
    if isinstance(error, AccessError):
        return plain_problem(error.status, str(error))
    listed = next(kind for kind in type(error).__mro__ if kind in _OF_ERRORS)
    status, title = _OF_ERRORS[listed]
    code = _code_of(listed)
    members = {name: _ready(getattr(error, name, None)) for name in _ATTRIBUTES}
    violations = [ViolationView(**found._asdict()) for found in getattr(error, "violations", ())]
    suggestions = [dict(suggestion) for suggestion in getattr(error, "suggestions", ())]
    mistakes = [
        Mistake(place=found.key_path or found.file, line=found.line, problem=str(found))
        for found in (error.problems if isinstance(error, BudgetError) else ())
        if found.key_path or found.line
    ]
    return ProblemDocument(
        type=problem_uri(code),
        title=title,
        status=status,
        code=code,
        detail=str(error),
        mistakes=mistakes or None,
        violations=violations or None,
        suggestions=suggestions or None,
        **{name: value for name, value in members.items() if value not in (None, [])},
    )


def plain_problem(status: int, detail: str, mistakes: Sequence[Mistake] = ()) -> ProblemDocument:
    """Returns a problem that is not an error of the library.

    Args:
        status: the HTTP status.
        detail: the cause in a sentence, with the remedy.
        mistakes: the mistakes in the request.
    """
    code, title = _OF_STATUSES.get(status, ("refused", "The request is refused"))
    return ProblemDocument(
        type=problem_uri(code),
        title=title,
        status=status,
        code=code,
        detail=detail,
        mistakes=[*mistakes] or None,
    )


def problem_types() -> dict[str, ProblemType]:
    """Returns every code of a problem with its kind, sorted by code."""
    kinds = {_code_of(error): kind for error, kind in _OF_ERRORS.items()}
    kinds |= {code: ProblemType(status, title) for status, (code, title) in _OF_STATUSES.items()}
    return dict(sorted(kinds.items()))


_DESCRIPTIONS = {
    400: "The request has an invalid value.",
    401: "The access key is missing or not valid.",
    402: "The request does not fit a budget, or spending is frozen. Nothing was reserved.",
    403: "The access key does not allow this.",
    404: "Your access key gives access to nothing with this name.",
    408: "The body arrives too slowly.",
    409: "The state of the ledger does not allow this. Nothing has changed.",
    413: "The body is too large.",
    422: "The payload, the response or the file is refused.",
    500: "The server has failed.",
    503: "The ledger cannot be used, so nothing may be spent.",
}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Returns the description of problems with these statuses, as a route documents them."""
    schema = {"$ref": "#/components/schemas/ProblemDocument"}
    return {
        status: {"description": _DESCRIPTIONS[status], "content": {PROBLEM_JSON: {"schema": schema}}}
        for status in statuses
    }


def problem_response(problem: ProblemDocument) -> Response:
    """Returns a problem as an answer."""
    headers = {}
    if problem.status == 401:  # noqa: PLR2004 (RFC 9110 requires the header)
        headers["www-authenticate"] = "Bearer"
    if problem.status == 503:  # noqa: PLR2004 (the only status after which a repetition may succeed)
        headers["retry-after"] = str(RETRY_AFTER_S)
    content = problem.model_dump_json(exclude_none=True)
    return Response(content, problem.status, headers, media_type=PROBLEM_JSON)


def add_problem_handlers(app: FastAPI) -> None:
    """Makes an application answer every error with a problem document."""
    app.add_exception_handler(KlingPricingError, _refused)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(HTTPException, _http_error)
    app.add_exception_handler(Exception, _failed)


def _refused(_request: Request, error: Any) -> Response:
    problem = problem_of(error)
    if problem.status >= 500:  # noqa: PLR2004 (a failure on this side)
        _log.warning("%s: %s", problem.code, without_secrets(problem.detail, "sentence"))
    return problem_response(problem)


def _invalid(_request: Request, error: Any) -> Response:
    mistakes = []
    for details in error.errors():
        place, problem = explained(details)
        mistakes.append(Mistake(place=key_path(place), problem=problem))
    detail = "; ".join(f"{mistake.place}: {mistake.problem}" for mistake in mistakes)
    return problem_response(plain_problem(400, detail, mistakes))


def _http_error(_request: Request, error: Any) -> Response:
    detail = _HTTP_DETAILS.get(error.detail, error.detail)
    response = problem_response(plain_problem(error.status_code, detail))
    for name, value in (error.headers or {}).items():
        response.headers[name] = value
    return response


_HTTP_DETAILS: Mapping[str, str] = {
    "Not Found": "there is nothing at this path; see /docs for the paths of the API",
    "Method Not Allowed": "the path does not accept this method; see the header Allow",
}
"""The detail that the framework gives -> the detail of the problem."""


def _failed(_request: Request, _error: Exception) -> Response:
    return problem_response(
        plain_problem(500, "the server has failed; try again, and look at the log of the server for the cause")
    )


def problem_uri(code: str) -> str:
    """Returns the URI of a kind of problem. It never changes."""
    return f"urn:kling-pricing:problem:{code}"


def _code_of(kind: type[KlingPricingError]) -> str:
    """Returns the code of a class of errors; the base class stands for invalid values."""
    return "invalid_value" if kind is KlingPricingError else error_code(kind)


def _ready(value: Any) -> Any:
    if isinstance(value, Decimal):
        return format_decimal(value)
    if isinstance(value, datetime):
        return value.isoformat()
    return [*value] if isinstance(value, tuple) else value
