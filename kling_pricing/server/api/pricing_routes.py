"""Quotes, checks, comparisons and decisions. None of them changes anything."""

from __future__ import annotations

from fastapi import APIRouter

from kling_pricing.guard.payload_documents import DecisionDocument, PriceDocument
from kling_pricing.quoting.comparison import compare
from kling_pricing.quoting.engine import check, quote
from kling_pricing.server.api.dependencies import (
    API_PREFIX,
    Served,
    StrictRoute,
    Viewer,
    labels_of,
    project_of,
)
from kling_pricing.server.api.pricing_views import (
    CheckView,
    ComparisonView,
    DecisionView,
    OptionView,
    QuoteView,
)
from kling_pricing.server.problem_documents import problems

router = APIRouter(
    prefix=API_PREFIX,
    route_class=StrictRoute,
    tags=["prices"],
    responses=problems(401, 403, 408, 413, 422, 503),
)


@router.post("/quote", summary="Quote a payload")
def quote_payload(body: PriceDocument, server: Served, _caller: Viewer) -> QuoteView:
    """Returns the exact price of a payload before it is submitted, with the reason for every number."""
    with server.metrics.timed("quote"):
        quoted = quote(body.payload, at=body.at, book=server.book, **body.options())
    return QuoteView.of(quoted)


@router.post("/check", summary="Check a payload")
def check_payload(body: PriceDocument, server: Served, _caller: Viewer) -> CheckView:
    """Returns every reason why the provider's API would refuse a payload."""
    return CheckView.of(check(body.payload, at=body.at, book=server.book, **body.options()))


@router.post("/compare", summary="Compare prices")
def compare_prices(body: PriceDocument, server: Served, _caller: Viewer) -> ComparisonView:
    """Returns the price of the same job across resolutions, audio settings, models and providers."""
    options = compare(body.payload, at=body.at, book=server.book, **body.options())
    return ComparisonView(options=[OptionView.of(option) for option in options])


@router.post("/decide", summary="Decide without reserving")
def decide_payload(body: DecisionDocument, server: Served, caller: Viewer) -> DecisionView:
    """Returns whether the payload would be admitted now, with the effect on each budget.

    Nothing is reserved. Until you create a reservation, other requests may take the money.
    """
    decision = server.guard.decide(
        body.payload,
        project=project_of(caller, body.project),
        key=body.key,
        labels=labels_of(caller, body.labels),
        **body.options(),
    )
    return DecisionView.of(decision)
