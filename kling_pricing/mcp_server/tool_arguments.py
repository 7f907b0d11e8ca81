"""The arguments of the tools. They are read strictly: an unknown name or a value of another type is refused."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BeforeValidator, Field, StringConstraints, ValidationError, WithJsonSchema

from kling_pricing.budgets import MAX_LABEL_CHARS
from kling_pricing.display import shown
from kling_pricing.errors import KlingPricingError
from kling_pricing.guard import QuoteOptions
from kling_pricing.strict_yaml import FileModel, explained, key_path
from kling_pricing.windows import in_utc
from kling_pricing.wire.media import MediaLike


def _instant(value: Any) -> datetime:
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
    BeforeValidator(_instant),
    WithJsonSchema({"type": "string", "format": "date-time", "examples": ["2026-12-01T00:00:00Z"]}),
]
"""An instant with a time zone."""


class FileFacts(FileModel):
    """Facts about a file that the payload names by its URL."""

    size_bytes: int | None = Field(None, ge=0)
    type: ShortName | None = Field(None, description="The file type, such as `image/png` or `mp4`.")
    length_s: ShortName | None = Field(None, description="The length of a video in seconds, as text: `5.04`.")


class PayloadArguments(FileModel):
    """A payload for a provider, and the options for reading it."""

    payload: dict[str, Any] = Field(
        description="The JSON body that would go to the provider's API, field by field as the API names them."
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


class PriceArguments(PayloadArguments):
    """A payload whose price is wanted."""

    at: PricingInstant | None = Field(None, description="The instant whose prices apply. Default: now.")


class ComparisonArguments(PriceArguments):
    """A payload whose alternatives are wanted."""

    limit: int = Field(10, ge=1, le=500, description="The largest number of alternatives, the cheapest first.")


class DecisionArguments(PayloadArguments):
    """A payload, and the labels by which budgets match it."""

    project: ShortName | None = Field(
        None, description="The project. Leave it out unless your access key is for all projects."
    )
    labels: dict[ShortName, ShortName] = Field({}, description="Further labels that budgets may match.")
    key: ShortName | None = Field(None, description="Your own name for the job, such as `shot-042`.")


class SubmissionArguments(DecisionArguments):
    """A payload to reserve money for."""

    key: ShortName = Field(
        description="Your own name for the job, such as `shot-042`. Use a new key for each job, and the same "
        "key if you repeat a call: no job is paid for twice under one key."
    )
    account: ShortName | None = Field(
        None, description="The account from which you submit the job. Default: the provider's name."
    )


class BudgetArguments(FileModel):
    """Which budgets to show."""

    budget: ShortName | None = Field(None, description="Only the budget with this name. Default: all.")


class BindArguments(FileModel):
    """A reservation, and the provider's task for it."""

    reservation_id: ShortName = Field(description="The `reservation_id` that `pre_submit` returned.")
    task_id: ShortName = Field(description="The id of the task in the provider's response.")


class ReleaseArguments(FileModel):
    """A reservation whose money is not needed, and the reason."""

    reservation_id: ShortName = Field(description="The `reservation_id` that `pre_submit` returned.")
    outcome: Literal["refused_by_provider", "never_submitted"] = Field(
        description="Why the job costs nothing: the provider definitely refused the payload (most 4xx "
        "responses), or you never sent it."
    )
    reason: ShortName = Field(description="The reason, which the ledger keeps.")


def read_arguments(model: type[FileModel], arguments: dict[str, Any] | None) -> Any:
    """Returns the arguments of a call.

    Raises:
        KlingPricingError: they are not valid; the message names every mistake.
    """
    try:
        return model.model_validate(arguments or {})
    except ValidationError as error:
        mistakes = [explained(details) for details in error.errors(include_url=False)]
    raise KlingPricingError(
        "invalid arguments: " + "; ".join(f"{key_path(path)}: {problem}" for path, problem in mistakes)
    )
