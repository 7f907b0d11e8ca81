"""The arguments of the tools. They are read strictly: an unknown name or a value of another type is refused."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, ValidationError

from kling_pricing.errors import KlingPricingError
from kling_pricing.guard.payload_documents import DecisionDocument, PriceDocument, ShortName
from kling_pricing.strict_yaml import FileModel, explained, key_path


class ComparisonArguments(PriceDocument):
    """A payload whose alternatives are wanted."""

    limit: int = Field(10, ge=1, le=500, description="The largest number of alternatives, the cheapest first.")


class SubmissionArguments(DecisionDocument):
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
