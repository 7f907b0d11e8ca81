"""Quotes, checks, comparisons and decisions. None of them changes anything."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import Field

from kling_pricing.guard import QuoteOptions
from kling_pricing.quoting.comparison import compare
from kling_pricing.quoting.engine import check, quote
from kling_pricing.server.api.dependencies import (
    Served,
    Viewer,
    keyed_routes,
    labels_of,
    project_of,
)
from kling_pricing.server.api.exact_fields import ApiBody, Instant, ShortText
from kling_pricing.server.api.pricing_views import (
    CheckView,
    ComparisonView,
    DecisionView,
    OptionView,
    QuoteView,
)
from kling_pricing.wire.media import MediaLike

router = keyed_routes("prices", 401, 403, 408, 413, 422, 503)

_EXAMPLE: Mapping[str, Any] = {
    "model": "NAME-OF-THE-MODEL",
    "prompt": "A paper boat crosses a puddle in the rain",
    "duration": 5,
    "resolution": "1080p",
    "audio": True,
}


class MediaFactsBody(ApiBody):
    """Facts about a file that the payload names by its URL."""

    size_bytes: int | None = Field(None, ge=0)
    type: ShortText | None = Field(None, description="The file type, such as `image/png` or `mp4`.")
    length_s: ShortText | None = Field(None, description="The length of a video in seconds, as text: `5.04`.")


class PayloadBody(ApiBody):
    """A payload for a provider, and the options for reading it."""

    payload: dict[str, Any] = Field(
        description="The JSON body that would go to the provider.", examples=[_EXAMPLE]
    )
    provider: ShortText | None = Field(None, description="The provider that bills.")
    wire_format: ShortText | None = Field(None, description="The API that the payload is written for.")
    url: str | None = Field(None, description="The URL that receives the payload. Nothing is sent to it.")
    media: dict[str, MediaFactsBody] | None = Field(None, description="URL -> facts about the file there.")
    allow_unknown: bool = Field(
        default=False, description="Whether to ignore fields that the API does not document."
    )

    def options(self) -> QuoteOptions:
        """Returns the options of `quote`."""
        media: MediaLike = {
            url: facts.model_dump(exclude_none=True) for url, facts in (self.media or {}).items()
        }
        return QuoteOptions(
            provider=self.provider,
            wire_format=self.wire_format,
            url=self.url,
            media=media or None,
            allow_unknown=self.allow_unknown,
        )


class QuoteBody(PayloadBody):
    """A payload to price."""

    at: Instant | None = Field(None, description="The instant whose prices apply; null: now.")


class DecideBody(PayloadBody):
    """A payload, and the labels by which budgets match it."""

    project: ShortText | None = Field(None, description="The project; only for a key for all projects.")
    key: ShortText | None = Field(None, description="Your own name for the job.")
    labels: dict[ShortText, ShortText] = Field({}, description="Further labels that budgets may match.")


@router.post("/quote", summary="Quote a payload")
def quote_payload(body: QuoteBody, server: Served, _caller: Viewer) -> QuoteView:
    """Returns the exact price of a payload before it is submitted, with the reason for every number."""
    with server.metrics.timed("quote"):
        quoted = quote(body.payload, at=body.at, book=server.book, **body.options())
    return QuoteView.of(quoted)


@router.post("/check", summary="Check a payload")
def check_payload(body: QuoteBody, server: Served, _caller: Viewer) -> CheckView:
    """Returns every reason why the provider's API would refuse a payload."""
    return CheckView.of(check(body.payload, at=body.at, book=server.book, **body.options()))


@router.post("/compare", summary="Compare prices")
def compare_prices(body: QuoteBody, server: Served, _caller: Viewer) -> ComparisonView:
    """Returns the price of the same job across resolutions, audio settings, models and providers."""
    options = compare(body.payload, at=body.at, book=server.book, **body.options())
    return ComparisonView(options=[OptionView.of(option) for option in options])


@router.post("/decide", summary="Decide without reserving")
def decide_payload(body: DecideBody, server: Served, caller: Viewer) -> DecisionView:
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
