"""A payload and the options for reading it, as callers of the API and of the tools send them in JSON."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, TypeAlias

from pydantic import BeforeValidator, Field, StringConstraints, WithJsonSchema

from kling_pricing.budgets import MAX_LABEL_CHARS
from kling_pricing.display import shown
from kling_pricing.errors import KlingPricingError
from kling_pricing.guard.admission import QuoteOptions
from kling_pricing.strict_yaml import FileModel
from kling_pricing.windows import in_utc
from kling_pricing.wire.media import MediaLike

_EXAMPLE: Mapping[str, Any] = {
    "model": "NAME-OF-THE-MODEL",
    "prompt": "A paper boat crosses a puddle in the rain",
    "duration": 5,
    "resolution": "1080p",
    "audio": True,
}


def read_instant(value: Any) -> datetime:
    """Returns an instant in UTC.

    Raises:
        ValueError: the value is not text with an instant and a time zone.
    """
    try:
        return in_utc(datetime.fromisoformat(value))
    except (TypeError, ValueError):
        problem = f"must be an ISO 8601 instant such as 2026-12-01T00:00:00Z, got {shown(value)}"
    except KlingPricingError as error:
        problem = str(error)
    raise ValueError(problem)


ShortName: TypeAlias = Annotated[str, StringConstraints(min_length=1, max_length=MAX_LABEL_CHARS)]
"""A name, a reason or a label."""

PricingInstant: TypeAlias = Annotated[
    datetime,
    BeforeValidator(read_instant),
    WithJsonSchema({"type": "string", "format": "date-time", "examples": ["2026-12-01T00:00:00Z"]}),
]
"""An instant with a time zone; in UTC once it is read."""


class FileFacts(FileModel):
    """Facts about a file that the payload names by its URL."""

    size_bytes: int | None = Field(None, ge=0)
    type: ShortName | None = Field(None, description="The file type, such as `image/png` or `mp4`.")
    length_s: ShortName | None = Field(None, description="The length of a video in seconds, as text: `5.04`.")


class PayloadDocument(FileModel):
    """A payload for a provider, and the options for reading it."""

    payload: dict[str, Any] = Field(
        description="The JSON body that would go to the provider's API, field by field as the API names them.",
        examples=[_EXAMPLE],
    )
    provider: ShortName | None = Field(
        None, description="The provider that bills. Default: the one whose API the payload is written for."
    )
    wire_format: ShortName | None = Field(
        None, description="The API that the payload is written for. Default: recognised from its fields."
    )
    url: str | None = Field(
        None, description="The URL that will receive the payload. Nothing is sent to it; it decides the API."
    )
    media: dict[str, FileFacts] | None = Field(
        None, description="URL in the payload -> known facts about the file there. Nothing is downloaded."
    )
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


class PriceDocument(PayloadDocument):
    """A payload whose price is wanted."""

    at: PricingInstant | None = Field(None, description="The instant whose prices apply. Default: now.")


class DecisionDocument(PayloadDocument):
    """A payload, and the labels by which budgets match it."""

    project: ShortName | None = Field(
        None, description="The project. Leave it out unless your access key is for all projects."
    )
    labels: dict[ShortName, ShortName] = Field({}, description="Further labels that budgets may match.")
    key: ShortName | None = Field(None, description="Your own name for the job, such as `shot-042`.")
