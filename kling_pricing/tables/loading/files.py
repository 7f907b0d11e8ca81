"""The pydantic models of the files in `pricing_tables/`, and their JSON Schemas.

`PriceFile` is `prices/<provider>/<date>.yaml`, `CapabilityFile` is `capabilities/<wire format>.yaml`, and
`ProviderFile` is `providers/<provider>.yaml`.
The models describe one file each. `book`, `matrices` and `unpriced` turn them into the frozen `PriceTable`,
`CapabilityMatrix` and `UnpricedProvider`, and check the files against each other.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from kling_pricing.money import NANOS
from kling_pricing.strict_yaml import Code, Currency, FileModel, Instant, Name, Price, Text, UrlPath
from kling_pricing.tables.loading.conditions import (
    FactConditions,
    FactValues,
    MediaConditions,
    TaskPath,
)
from kling_pricing.tables.loading.http_entries import HttpEntry


class SourceEntry(FileModel):
    """A publication of the file's content."""

    ref: Text = Field(description="The page or document.")
    checked: Instant = Field(description="The day on which the file was last compared with it.")
    authority: Literal["official", "secondary"]


def _countable(per_currency_unit: int) -> int:
    if NANOS % per_currency_unit:
        raise ValueError(
            "one unit must be a whole number of billionths of the currency; give a divisor of 1000000000"
        )
    return per_currency_unit


class StatementUnitEntry(FileModel):
    """The unit in which a provider bills, if it is not the currency."""

    name: Name
    per_currency_unit: Annotated[int, Field(gt=0), AfterValidator(_countable)]
    rounding: Literal["up", "down", "half_up", "unconfirmed"]


class BillingEntry(FileModel):
    """The provider's billing rules."""

    failed_tasks: Literal["refunded", "charged", "unconfirmed"]
    statement_unit: StatementUnitEntry | None = None


class TierEntry(FileModel):
    """A tier and the requests that belong to it; the first entry that matches wins."""

    tier: Code
    when: FactConditions = {}


class QuantityEntry(FileModel):
    """The fact that is counted as units; the first entry that matches wins."""

    fact: Literal["duration_s", "video_length_s", "calls"]
    unit: Text = "second"
    per: Annotated[int, Field(gt=0)] = 1
    rounding: Literal["exact", "truncate", "nearest", "ceil"] = "exact"
    step: Annotated[int, Field(gt=0)] = 1
    minimum: Annotated[int, Field(ge=0)] = 0
    when: FactConditions = {}


class UnitEntry(FileModel):
    """The provider's own unit, in which its rates are given."""

    name: Name
    value: Price = Field(description="The price of one unit, in the table's currency.")


class CellsEntry(FileModel):
    """A group of cells and the reason for listing it."""

    model: Name
    resolution: Name | None = Field(None, description="Null: every resolution.")
    tier: Code | None = Field(None, description="Null: every tier.")
    why: Text


class UnpricedEntry(CellsEntry):
    """A combination that the API allows but that has no published price."""


class UnreachedEntry(CellsEntry):
    """Published rates that no request of the listed APIs can reach, such as rates of the past.

    They stay in the table, exempt from the check that a request can reach every rate.
    """


class NoteEntry(FileModel):
    """A note in every quote from this table."""

    code: Code
    message: Text
    since: Instant | None = Field(None, description="The note is in quotes from this instant on.")


class PeriodEntry(FileModel):
    """A model's own period, within the table's period."""

    valid_from: Instant | None = Field(None, description="Null: the table's valid_from.")
    valid_until: Instant | None = Field(None, description="Null: the table's valid_until.")
    why: Text | None = Field(
        None, description="Why the model has a period of its own, as a clause: it was launched on that day."
    )


class PriceFile(FileModel):
    """One provider's rates over one period: `prices/<provider>/<date>.yaml`."""

    provider: Name
    hosts: list[Name] = []
    wire_formats: list[Name] = Field(description="The wire formats of the provider's API, the main one first.")
    also_prices: list[Name] = Field([], description="Other wire formats whose requests these rates can price.")
    allow_paths: list[UrlPath] = Field(
        [], description="Paths at and below which hooks let requests pass without a price."
    )
    currency: Currency
    valid_from: Instant | None
    valid_until: Instant | None = None
    known_from: Instant | None = Field(
        None,
        description="If valid_from is null: since when the prices are known. Earlier quotes get a note.",
    )
    newer_list: Name | None = Field(
        None, description="The provider with the same company's newer list. Quotes note what it charges."
    )
    sources: Annotated[list[SourceEntry], Field(min_length=1)]
    billing: BillingEntry
    tiers: Annotated[list[TierEntry], Field(min_length=1)]
    quantity: Annotated[list[QuantityEntry], Field(min_length=1)]
    rates: dict[Name, dict[Name, dict[Code, Price]]] = Field(
        description="Model -> resolution (any: the price does not depend on it) -> tier -> price per unit."
    )
    free: bool = Field(
        default=False, description="Whether prices of 0 are intended; otherwise they are refused."
    )
    unit: UnitEntry | None = Field(None, description="The unit of the rates, if it is not the currency.")
    units: dict[Code, Annotated[Price, Field(gt=0)]] = Field(
        {},
        description="Kind of a pack (video, image, audio) -> the value of its unit, in the table's currency.",
    )
    model_periods: dict[Name, PeriodEntry] = Field(
        {}, description="Models whose rates are in force for only a part of the table's period."
    )
    unpriced: list[UnpricedEntry] = []
    unreached: list[UnreachedEntry] = []
    notes: list[NoteEntry] = []


class ContractFile(FileModel):
    """A contract that changes the prices of a published table: `prices/<provider>/<name>.yaml`."""

    extends: Text = Field(description="The published table: its folder and file, such as acme/2026-11-01.")
    valid_from: Instant | None = Field(None, description="Null: the published table's valid_from.")
    valid_until: Instant | None = None
    sources: Annotated[list[SourceEntry], Field(min_length=1)]
    discount: Price | None = Field(
        None, description="The fraction taken off the list total; 0.1 is ten percent."
    )
    unit_value: Price | None = Field(None, description="The customer's price of one of the provider's units.")
    rates: dict[Name, dict[Name, dict[Code, Price]]] = Field(
        {}, description="Prices that replace the published ones, in the same currency or unit."
    )
    free: bool = Field(
        default=False, description="Whether prices of 0 are intended; otherwise they are refused."
    )
    allow_paths: list[UrlPath] = Field(
        [], description="Paths at and below which hooks let requests pass without a price."
    )
    notes: list[NoteEntry] = []


class ProviderFile(FileModel):
    """A provider that publishes its API, but no prices: `providers/<provider>.yaml`."""

    provider: Name
    hosts: list[Name] = Field([], description="The hosts of its API; empty if none is published.")
    wire_formats: Annotated[
        list[Name], Field(min_length=1, description="The wire formats of its API, the main one first.")
    ]
    why: Text = Field(description="Why it has no prices, as a sentence without a full stop.")
    sources: Annotated[list[SourceEntry], Field(min_length=1)]


class RuleEntry(FileModel):
    """If all conditions in `when` hold, all in `need` must hold, or the API refuses the request."""

    code: Code
    when: FactConditions = {}
    need: Annotated[FactConditions, Field(min_length=1)]
    message: Text | None = Field(
        None, description="The sentence for people; if absent, it is made from the rule."
    )
    source: Text
    since: Instant | None = Field(None, description="The rule holds from this instant on; null: always did.")
    until: Instant | None = Field(
        None, description="The rule holds before this instant; null: until further notice."
    )


class WarningEntry(FileModel):
    """A rule that the API does not enforce; a request that breaks it gets a note."""

    code: Code
    when: FactConditions = {}
    need: Annotated[FactConditions, Field(min_length=1)]
    message: Text
    source: Text
    since: Instant | None = Field(None, description="The note is given from this instant on; null: always was.")
    until: Instant | None = Field(None, description="The note is given before this instant; null: for now.")


class ImpliedActionEntry(FileModel):
    """The action that inputs imply if the payload has the default action; the first entry that matches wins."""

    action: Code
    when: FactConditions
    source: Text


class EndpointEntry(FileModel):
    """A path that accepts this API's payloads."""

    path: UrlPath = Field(description="The documented path; a gateway may put a folder in front of it.")
    actions: Annotated[list[Code], Field(min_length=1)] | None = Field(
        None, description="The actions that the path accepts; null: any, as the payload says."
    )
    model: Text | None = Field(
        None, description="The model if the payload names none: the path names it, or has a default."
    )
    status: TaskPath | None = Field(None, description="The path of a task's status.")
    other_status: list[TaskPath] = Field([], description="Further paths of a task's status.")
    cancel: TaskPath | None = Field(None, description="The path to which a POST cancels a task.")
    source: Text


class MediaEntry(FileModel):
    """Limits for the files in a request, which are checked if the caller passes facts about the files."""

    kind: Literal["image", "video"]
    limits: MediaConditions
    source: Text


class ModelEntry(FileModel):
    """The requests that the API accepts for one model."""

    names: list[Text] | dict[Text, FactValues] = Field(
        min_length=1,
        description="The model's names in this wire format; a name may imply facts: "
        "{some-name-720p: {resolution: 720p}}.",
    )
    actions: Annotated[list[Code], Field(min_length=1)]
    fields: Annotated[
        list[Code], Field(min_length=1, description="The inputs that it takes; any other is refused.")
    ]
    limits: FactConditions
    required: list[Code] | None = Field(
        None, description="Inputs that a payload must have; null: those of the file."
    )
    defaults: FactValues = Field({}, description="Defaults that differ from those of the file.")
    rules: list[RuleEntry] = []
    warnings: list[WarningEntry] = []
    media: list[MediaEntry] = []
    source: Text


class CapabilityFile(FileModel):
    """The requests that one API accepts: `capabilities/<wire format>.yaml`."""

    wire_format: Name
    sources: Annotated[list[SourceEntry], Field(min_length=1)]
    endpoints: list[EndpointEntry] = Field([], description="The paths to which payloads are posted.")
    http: HttpEntry = HttpEntry()
    required: list[Code]
    defaults: FactValues = Field(description="Fact -> the API's default if the payload does not state it.")
    implied_actions: list[ImpliedActionEntry] = []
    rules: list[RuleEntry] = []
    warnings: list[WarningEntry] = []
    media: list[MediaEntry] = []
    models: Annotated[dict[Name, ModelEntry], Field(min_length=1)]


def price_file_schema() -> dict[str, Any]:
    """Returns the JSON Schema of `prices/<provider>/<date>.yaml`."""
    return PriceFile.model_json_schema()


def provider_file_schema() -> dict[str, Any]:
    """Returns the JSON Schema of `providers/<provider>.yaml`."""
    return ProviderFile.model_json_schema()


def capability_file_schema() -> dict[str, Any]:
    """Returns the JSON Schema of `capabilities/<wire format>.yaml`."""
    return CapabilityFile.model_json_schema()
