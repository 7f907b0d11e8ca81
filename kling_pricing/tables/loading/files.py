"""The pydantic models of the files in `pricing_tables/`, and their JSON Schemas.

`PriceFile` is `prices/<provider>/<date>.yaml`, `CapabilityFile` is `capabilities/<wire format>.yaml`, and
`ProviderFile` is `providers/<provider>.yaml`.
The models describe one file each. `book`, `matrices` and `unpriced` turn them into the frozen `PriceTable`,
`CapabilityMatrix` and `UnpricedProvider`, and check the files against each other.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

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

    ref: Text = Field(description="The page or document that the data comes from.")
    checked: Instant = Field(
        description="The day on which the page or document was read, or the date of the copy that was read."
    )
    authority: Literal["official", "secondary"]


def _countable(per_currency_unit: int) -> int:
    if NANOS % per_currency_unit:
        raise ValueError(
            "one unit must be a whole number of billionths of the currency; "
            "give a number that divides 1000000000 evenly"
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


_Counted: TypeAlias = Literal["duration_s", "video_length_s", "calls"]


class LeastEntry(FileModel):
    """The smallest quantity that is billed, as a multiple of a fact.

    For example, `{fact: duration_s, times: 2}` is twice the duration.
    """

    fact: _Counted
    times: Annotated[int, Field(gt=0)] = 1


class QuantityEntry(FileModel):
    """The facts that are counted as units; the first entry that matches wins."""

    fact: _Counted | None = Field(None, description="The fact that is counted. Give either `fact` or `sum`.")
    sum: list[_Counted] | None = Field(None, description="Two or more facts whose sum is counted.")
    at_least: LeastEntry | None = Field(
        None, description="The smallest quantity that is billed. Null means that there is no minimum."
    )
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
    resolution: Name | None = Field(None, description="Null means every resolution.")
    tier: Code | None = Field(None, description="Null means every tier.")
    why: Text


class UnpricedEntry(CellsEntry):
    """A combination that the API allows but that has no published price."""


class UnreachedEntry(CellsEntry):
    """Published rates that no request of the listed APIs can reach, such as rates of the past.

    They stay in the table and are exempt from the check that a request can reach every rate.
    """


class NoteEntry(FileModel):
    """A note in every quote from this table."""

    code: Code
    message: Text
    since: Instant | None = Field(None, description="Quotes at or after this instant include the note.")


class PeriodEntry(FileModel):
    """A model's own period, within the table's period."""

    valid_from: Instant | None = Field(None, description="Null means the table's valid_from.")
    valid_until: Instant | None = Field(None, description="Null means the table's valid_until.")
    why: Text | None = Field(
        None, description="Why the model has its own period, as a clause such as 'it was launched on that day'."
    )


class PriceFile(FileModel):
    """One provider's rates over one period: `prices/<provider>/<date>.yaml`."""

    provider: Name
    hosts: list[Name] = []
    wire_formats: list[Name] = Field(
        description="The wire formats of the provider's API. The main wire format comes first."
    )
    also_prices: list[Name] = Field([], description="Other wire formats whose requests these rates can price.")
    allow_paths: list[UrlPath] = Field(
        [],
        description="Path prefixes. Hooks pass on requests to these paths without a price, and no budget "
        "counts their cost.",
    )
    currency: Currency
    valid_from: Instant | None
    valid_until: Instant | None = None
    known_from: Instant | None = Field(
        None,
        description="The first day on which the prices are known, if valid_from is null. Quotes for an "
        "earlier time get a note.",
    )
    newer_list: Name | None = Field(
        None,
        description="The provider name of a newer price list by the same company. A note on each quote gives "
        "the price in that list.",
    )
    sources: Annotated[list[SourceEntry], Field(min_length=1)]
    billing: BillingEntry
    tiers: Annotated[list[TierEntry], Field(min_length=1)]
    quantity: Annotated[list[QuantityEntry], Field(min_length=1)]
    rates: dict[Name, dict[Name, dict[Code, Price]]] = Field(
        description="The price per unit by model, resolution and tier. The resolution `any` covers all "
        "resolutions."
    )
    free: bool = Field(
        default=False, description="Whether prices of 0 are intended. If not, a price of 0 is refused."
    )
    unit: UnitEntry | None = Field(None, description="The unit of the rates, if it is not the currency.")
    units: dict[Code, Annotated[Price, Field(gt=0)]] = Field(
        {},
        description="The value of one pack unit in the table's currency, by kind of pack (video, "
        "image, audio).",
    )
    account_currency: Currency | dict[Name, Currency] | None = Field(
        None,
        description="The currency of customer accounts, for amounts that a response states without a "
        "currency. A map gives the currency of the accounts at each host. Null means that the currency is not "
        "known.",
    )
    model_periods: dict[Name, PeriodEntry] = Field(
        {}, description="Models whose rates are in force for only a part of the table's period."
    )
    unpriced: list[UnpricedEntry] = []
    unreached: list[UnreachedEntry] = []
    notes: list[NoteEntry] = []


class ContractFile(FileModel):
    """A contract that changes the prices of a published table: `prices/<provider>/<name>.yaml`."""

    extends: Text = Field(
        description="The folder and file name of the published table, such as acme/2026-11-01."
    )
    valid_from: Instant | None = Field(None, description="Null means the published table's valid_from.")
    valid_until: Instant | None = None
    sources: Annotated[list[SourceEntry], Field(min_length=1)]
    discount: Price | None = Field(
        None, description="The fraction deducted from the list total. Write ten percent as 0.1."
    )
    unit_value: Price | None = Field(None, description="The customer's price for one unit of the provider.")
    account_currency: Currency | None = Field(
        None,
        description="The currency of the customer's account. Null means the account currency of the "
        "published table.",
    )
    rates: dict[Name, dict[Name, dict[Code, Price]]] = Field(
        {}, description="Prices that replace the published ones, in the same currency or unit."
    )
    free: bool = Field(
        default=False, description="Whether prices of 0 are intended. If not, a price of 0 is refused."
    )
    allow_paths: list[UrlPath] = Field(
        [],
        description="Path prefixes. Hooks pass on requests to these paths without a price, and no budget "
        "counts their cost.",
    )
    notes: list[NoteEntry] = []


class ProviderFile(FileModel):
    """A provider that publishes its API, but no prices: `providers/<provider>.yaml`."""

    provider: Name
    hosts: list[Name] = Field(
        [], description="The hosts of the provider's API. The list is empty if the provider publishes no host."
    )
    wire_formats: Annotated[
        list[Name],
        Field(
            min_length=1,
            description="The wire formats of the provider's API. The main wire format comes first.",
        ),
    ]
    why: Text = Field(description="Why the provider has no prices, as a sentence without a full stop.")
    sources: Annotated[list[SourceEntry], Field(min_length=1)]


class RuleEntry(FileModel):
    """If all conditions in `when` hold, all in `need` must hold, or the API refuses the request."""

    code: Code
    when: FactConditions = {}
    need: Annotated[FactConditions, Field(min_length=1)]
    message: Text | None = Field(
        None, description="The message that users see. If it is absent, the message is generated from the rule."
    )
    source: Text
    since: Instant | None = Field(
        None, description="The rule applies from this instant. Null means that the rule has always applied."
    )
    until: Instant | None = Field(
        None,
        description="The rule applies before this instant. Null means that the rule applies until "
        "further notice.",
    )


class WarningEntry(FileModel):
    """A rule that the API does not enforce; a request that breaks it gets a note."""

    code: Code
    when: FactConditions = {}
    need: Annotated[FactConditions, Field(min_length=1)]
    message: Text
    source: Text
    since: Instant | None = Field(
        None,
        description="The warning applies from this instant. Null means that the warning has always applied.",
    )
    until: Instant | None = Field(
        None,
        description="The warning applies before this instant. Null means that the warning applies until "
        "further notice.",
    )


class ImpliedActionEntry(FileModel):
    """The action that inputs imply if the payload has the default action; the first entry that matches wins."""

    action: Code
    when: FactConditions
    source: Text


class EndpointEntry(FileModel):
    """A path that accepts this API's payloads."""

    path: UrlPath = Field(description="The documented path. A gateway may add a path prefix.")
    actions: Annotated[list[Code], Field(min_length=1)] | None = Field(
        None, description="The actions that the path accepts. Null means that the path accepts every action."
    )
    model: Text | None = Field(
        None,
        description="The model for payloads that do not name one, because the path contains the model or has "
        "a default model.",
    )
    status: TaskPath | None = Field(None, description="The path for reading a task's status.")
    other_status: list[TaskPath] = Field([], description="Other paths for reading a task's status.")
    cancel: TaskPath | None = Field(
        None, description="The path to which a POST request is sent to cancel a task."
    )
    source: Text


class IgnoredFieldEntry(FileModel):
    """A field that one provider accepts but ignores; other providers of the same wire format read it."""

    field: Code
    provider: Name
    source: Text


class KnownNamesEntry(FileModel):
    """Names of models that this API does not offer, and a sentence that explains the names."""

    names: Annotated[list[Text], Field(min_length=1)]
    why: Text = Field(description="An explanation of what the model is and who sells it.")
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
        description="The model's names in this wire format. A name can imply facts, as in "
        "{some-name-720p: {resolution: 720p}}.",
    )
    actions: Annotated[list[Code], Field(min_length=1)]
    fields: Annotated[
        list[Code],
        Field(min_length=1, description="The inputs that the model accepts. Any other input is refused."),
    ]
    limits: FactConditions
    required: list[Code] | None = Field(
        None, description="Inputs that a payload must have. Null means the inputs under `required` in the file."
    )
    defaults: FactValues = Field(
        {}, description="The defaults of this model, where they differ from the file's defaults."
    )
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
    defaults: FactValues = Field(description="The API's default for each fact that the payload does not state.")
    implied_actions: list[ImpliedActionEntry] = []
    rules: list[RuleEntry] = []
    warnings: list[WarningEntry] = []
    media: list[MediaEntry] = []
    ignored_fields: list[IgnoredFieldEntry] = Field(
        [], description="Fields that a provider accepts but ignores."
    )
    known_names: list[KnownNamesEntry] = Field(
        [], description="Names of models that users ask for but that this API does not offer."
    )
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
