"""The pydantic models of the columns of a statement that gives sums instead of tasks."""

from __future__ import annotations

from datetime import tzinfo
from typing import Annotated, get_args

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema, model_validator

from kling_pricing.errors import KlingPricingError
from kling_pricing.reconcile.mapping_values import ISO, distinct, time_formats
from kling_pricing.reconcile.model import Grain
from kling_pricing.reconcile.statement_columns import (
    AmountEntry,
    ColumnsEntry,
    ModelColumnEntry,
    RequiredColumnEntry,
    ResolutionEntry,
)
from kling_pricing.strict_yaml import FileModel, Name, Text
from kling_pricing.windows import zone


def _zone_name(name: str) -> str:
    try:
        zone(name)
    except KlingPricingError as error:
        raise ValueError(str(error)) from None
    return name


class DayColumnEntry(RequiredColumnEntry):
    """The column with the day."""

    format: Annotated[
        tuple[str, ...],
        BeforeValidator(time_formats),
        WithJsonSchema(
            {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]}
        ),
    ] = Field(
        (ISO,), description="The format of the days: iso, a pattern such as %d/%m/%Y, or a list of formats."
    )
    timezone: Annotated[Text, AfterValidator(_zone_name)] = Field(
        "UTC", description="The IANA name of the time zone in which the provider's days start and end."
    )

    @property
    def zone(self) -> tzinfo:
        """The time zone of the days."""
        return zone(self.timezone)


class TierColumnEntry(RequiredColumnEntry):
    """The column with the tier. Case does not matter."""

    names: Annotated[dict[Text, Name], AfterValidator(distinct)] = Field(
        {}, description="For each tier on the statement, its name in price tables, if the name differs."
    )


class ProjectColumnEntry(RequiredColumnEntry):
    """The column with the project. Case matters."""

    names: dict[Text, Text] = Field(
        {}, description="For each project on the statement, its name in the ledger, if the name differs."
    )


class AccountColumnEntry(RequiredColumnEntry):
    """The column with the account at the provider. Case matters."""

    names: dict[Text, Text] = Field(
        {}, description="For each account on the statement, its name in the ledger, if the name differs."
    )


class AggregatesEntry(FileModel):
    """The columns of a statement whose rows are sums of tasks.

    `day`, `model`, `resolution`, `tier`, `project` and `account` say which tasks a row adds up; at least one is
    given. A row adds up all tasks that agree with it in these columns.
    """

    amount: AmountEntry
    tasks: RequiredColumnEntry | None = Field(None, description="The column with the number of tasks.")
    day: DayColumnEntry | None = Field(
        None, description="The column with the day on which the tasks were submitted or charged."
    )
    model: ModelColumnEntry | None = None
    resolution: ResolutionEntry | None = None
    tier: TierColumnEntry | None = None
    project: ProjectColumnEntry | None = None
    account: AccountColumnEntry | None = None
    several_rows: bool = Field(
        default=False,
        description="Whether several rows may agree in all these columns, because the statement divides its "
        "sums further. Their amounts are added up. If false, such rows are refused.",
    )

    @model_validator(mode="after")
    def _some_grain(self) -> AggregatesEntry:
        if not self.grain:
            raise ValueError(f"give at least one of {', '.join(get_args(Grain))}")
        for name in ("model", "resolution"):
            entry = getattr(self, name)
            if entry is not None and entry.optional:
                raise ValueError(
                    f"`{name}` cannot be optional, because it says which tasks a row adds up; remove "
                    "`optional`, and write another mapping for statements without the column"
                )
        return self

    @property
    def grain(self) -> tuple[Grain, ...]:
        """The columns that divide the sums, in a fixed order."""
        return tuple(name for name in get_args(Grain) if getattr(self, name) is not None)

    @property
    def keys(self) -> tuple[RequiredColumnEntry, ...]:
        """The entries of these columns."""
        return tuple(getattr(self, name) for name in self.grain)

    @property
    def as_columns(self) -> ColumnsEntry:
        """The amount and the day as columns of tasks, for the parts of a row that are read alike."""
        day = self.day and {"column": self.day.column, "also": self.day.also, "format": list(self.day.format)}
        return ColumnsEntry.model_validate(
            {
                "task_id": {"column": self.keys[0].column},
                "amount": self.amount,
                "billed_at": day,
                "model": self.model,
                "resolution": self.resolution,
            }
        )
