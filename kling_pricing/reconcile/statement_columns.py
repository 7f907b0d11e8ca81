"""The pydantic models of the columns of a statement, for its mapping."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema, model_validator

from kling_pricing.money import MAX_DECIMALS
from kling_pricing.reconcile.mapping_values import (
    ISO,
    Decimals,
    Offset,
    State,
    Unit,
    distinct,
    time_formats,
)
from kling_pricing.strict_yaml import Currency, FileModel, Name, Price, Text
from kling_pricing.tables.loading.conditions import FactValues
from kling_pricing.wire.fields import folded


class RequiredColumnEntry(FileModel):
    """A column, given by name, or by a path such as `data.task_id` into JSON or into JSON text in a column."""

    column: Text
    also: list[Text] = Field(
        [],
        description="Other names for the column. In each row, the first of these columns that is not empty "
        "is used.",
    )

    @property
    def columns(self) -> tuple[str, ...]:
        """Every name of the column, the main one first."""
        return (self.column, *self.also)


class ColumnEntry(RequiredColumnEntry):
    """A column that a statement may lack."""

    optional: bool = Field(default=False, description="Whether a statement may lack the column.")


class TaskEntry(RequiredColumnEntry):
    """The column with the task id, as the provider's API returned it."""

    optional: bool = Field(
        default=False,
        description="Whether to skip rows without a task id, unless they name a model that the mapping lists.",
    )


class RowUnitEntry(FileModel):
    """A unit in which a statement charges."""

    unit: Unit | None = Field(
        None, description="The unit's name in price tables. Null means the same name as on the statement."
    )
    decimals: Decimals | None = Field(
        None,
        description="Maximum number of decimal places in this unit. Null means the `decimals` of the amount "
        "column.",
    )
    value: Annotated[Price, Field(gt=0)] | None = Field(
        None, description="The value of one unit, if no price table of the provider states the value."
    )
    currency: Currency | None = Field(None, description="The currency of `value`.")

    @model_validator(mode="after")
    def _whole_value(self) -> RowUnitEntry:
        if (self.value is None) != (self.currency is None):
            raise ValueError("give `value` and `currency` together")
        return self


class SignEntry(ColumnEntry):
    """A column that says whether the amount is a charge or a refund. Case does not matter."""

    positive: list[Text] = Field(
        [],
        description="Values that mark charges. Default: every value that is not listed under `negative` or "
        "`zero`.",
    )
    negative: list[Text] = Field(
        [], description="Values that mark refunds. The amounts of these refunds have no minus sign."
    )
    zero: list[Text] = Field(
        [], description="Values that mark amounts that are not owed, such as free test credit."
    )

    @model_validator(mode="after")
    def _one_meaning(self) -> SignEntry:
        if not (self.negative or self.zero or self.positive):
            raise ValueError("give `positive`, `negative` or `zero`")
        distinct(dict.fromkeys([*self.positive, *self.negative, *self.zero]))
        texts = [folded(text) for text in (*self.positive, *self.negative, *self.zero)]
        if twice := next((text for text in texts if texts.count(text) > 1), None):
            raise ValueError(f"{twice!r} is listed twice; keep it under one sign")
        return self


class AmountEntry(RequiredColumnEntry):
    """The column with the charged amount."""

    unit: Unit | None = Field(
        None,
        description="The unit of the amount, which is a currency or the provider's own unit. If `unit_column` "
        "is given, `unit` applies only to statements without that column.",
    )
    unit_column: Text | None = Field(None, description="The column with the unit of each row.")
    units: Annotated[dict[Text, RowUnitEntry], AfterValidator(distinct)] = Field(
        {},
        description="The unit for each value in `unit_column`, or for `unit`. If the map is not empty, any "
        "unit that it does not list is refused.",
    )
    decimals: Decimals = Field(
        description="Maximum number of decimal places. An amount with more decimal places is refused."
    )
    charges: Literal["positive", "negative"] = Field(
        "positive", description="The sign of the amount of a charge. A refund has the opposite sign."
    )
    sign: SignEntry | None = Field(
        None, description="The column that distinguishes charges from refunds, if the amounts have no sign."
    )

    @model_validator(mode="after")
    def _some_unit(self) -> AmountEntry:
        if self.unit is None and self.unit_column is None:
            raise ValueError("give `unit`, `unit_column`, or both")
        if self.sign is not None and self.charges == "negative":
            raise ValueError("give either `charges` or `sign`")
        return self

    def unit_entry(self, unit: str) -> RowUnitEntry | None:
        """Returns the entry of a unit by its name in price tables."""
        named = ((entry.unit or text, entry) for text, entry in self.units.items())
        return next((entry for name, entry in named if name == unit), None)

    def decimals_of(self, unit: str) -> int:
        """Returns the most digits after the point of an amount in a unit."""
        entry = self.unit_entry(unit)
        return self.decimals if entry is None or entry.decimals is None else entry.decimals


class TimeEntry(ColumnEntry):
    """A column with an instant."""

    format: Annotated[
        tuple[str, ...],
        BeforeValidator(time_formats),
        WithJsonSchema(
            {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}, "minItems": 1}]}
        ),
    ] = Field(
        (ISO,),
        description="The format of the times: iso, unix (seconds or milliseconds since 1970), "
        "ms (always milliseconds since 1970), a pattern such as %d/%m/%Y %H:%M, or a list of formats.",
    )
    offset: Offset = Field("+00:00", description="The UTC offset of times that do not state an offset.")

    @property
    def ahead(self) -> timedelta:
        """How far ahead of UTC times without an offset of their own are."""
        sign = -1 if self.offset[0] == "-" else 1
        return sign * timedelta(hours=int(self.offset[1:3]), minutes=int(self.offset[4:]))


class ModelColumnEntry(ColumnEntry):
    """The column with the model."""

    names_of: list[Name] = Field(
        [],
        description="The wire formats whose model names the statement uses. A wire format is named after its "
        "file in capabilities/.",
    )
    names: Annotated[dict[Text, FactValues], AfterValidator(distinct)] = Field(
        {},
        description="The facts for each model name on the statement: {model: ..., resolution: ..., "
        "audio: ...}.",
    )


class ResolutionEntry(ColumnEntry):
    """The column with the resolution. Case does not matter."""

    names: Annotated[dict[Text, Name], AfterValidator(distinct)] = Field(
        {},
        description="For each resolution on the statement, its name in price tables, if the name differs.",
    )


class DurationEntry(ColumnEntry):
    """The column with the length of the video."""

    unit: Literal["s", "ms", "min"] = Field(
        "s", description="The unit of lengths that do not name their own: seconds, milliseconds or minutes."
    )


class StateEntry(ColumnEntry):
    """The column with the state of the task."""

    names: Annotated[dict[Text, State], AfterValidator(distinct), Field(min_length=1)]


class FactEntry(ColumnEntry):
    """A column with facts that the price depends on, such as whether the video has sound."""

    means: Annotated[dict[Text, FactValues], AfterValidator(distinct), Field(min_length=1)]


class PrechargeEntry(FileModel):
    """Rows of a provider that charges a task in advance and corrects the charge in a later row.

    If a task has a refund row, its charge is zero. Otherwise, the latest row with a final amount counts. If
    there is no such row, the amounts of the task's rows are added up.
    """

    final: ColumnEntry = Field(
        description="In a row that corrects an earlier charge, the column with the final amount of the whole "
        "task."
    )
    taken: ColumnEntry = Field(
        description="In a row that corrects an earlier charge, the column with the amount that was charged in "
        "advance."
    )
    refund: ColumnEntry = Field(description="The column with the reason for a full refund.")


class ColumnsEntry(FileModel):
    """The meaning of each column. Columns that are not named here are not read."""

    task_id: TaskEntry
    amount: AmountEntry
    billed_at: TimeEntry | None = Field(
        None, description="The column with the time at which the task was charged."
    )
    submitted_at: TimeEntry | None = Field(
        None, description="The column with the time at which the task was submitted."
    )
    model: ModelColumnEntry | None = None
    resolution: ResolutionEntry | None = None
    duration_s: DurationEntry | None = None
    state: StateEntry | None = None
    facts: list[FactEntry] = []
    row_id: ColumnEntry | None = Field(
        None,
        description="The column with the provider's id for the row. A row that appears in several files "
        "is counted once.",
    )
    precharge: PrechargeEntry | None = Field(
        None,
        description="The columns that identify rows that correct a charge made in advance.",
    )


class AnswersEntry(FileModel):
    """Responses of an API about its tasks, one per row; the wire format defines the fields."""

    wire_format: Name
    decimals: Decimals = Field(
        MAX_DECIMALS, description="Maximum number of decimal places in the stated charge."
    )
    currency: Currency | None = Field(
        None,
        description="The account's currency, for amounts without a currency. Null means the currency given "
        "with --account-currency, or else the account currency in the price table.",
    )
    submitted_at: TimeEntry | None = Field(
        None, description="The column with the time at which the task was submitted."
    )
