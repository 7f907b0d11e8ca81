"""The two kinds of files in `pricing_tables/`, as pydantic models, and their JSON Schemas.

`PriceFile` is `prices/<provider>/<date>.yaml`, `CapabilityFile` is `capabilities/<wire format>.yaml`.
The models know the shape of one file; `tables.py` turns them into the frozen `PriceTable` and
`CapabilityMatrix` that the library works with, and holds the files against each other.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from kling_pricing.money import NANOS
from kling_pricing.strict_yaml import Code, Currency, FileModel, Instant, Name, Price, Text, UrlPath
from kling_pricing.tables.http_rules import CODE, MESSAGE
from kling_pricing.tables.loading.conditions import (
    ErrorShape,
    FactConditions,
    FactValues,
    MediaConditions,
    StatusCondition,
    TaskPath,
)


class SourceEntry(FileModel):
    """Where the file's content was published."""

    ref: Text = Field(description="Seed, page or document.")
    checked: Instant = Field(description="The day somebody last compared the file with it.")
    authority: Literal["official", "secondary"]


def _countable(per_currency_unit: int) -> int:
    if NANOS % per_currency_unit:
        raise ValueError("one unit must be worth whole billionths of the currency, so that it can be counted")
    return per_currency_unit


class StatementUnitEntry(FileModel):
    """The unit a provider bills in, where it is not the currency."""

    name: Name
    per_currency_unit: Annotated[int, Field(gt=0), AfterValidator(_countable)]
    rounding: Literal["up", "down", "half_up", "unconfirmed"]


class BillingEntry(FileModel):
    """How the provider bills."""

    failed_tasks: Literal["refunded", "charged", "unconfirmed"]
    statement_unit: StatementUnitEntry | None = None


class TierEntry(FileModel):
    """A billing lane and the requests in it; the first entry that matches wins."""

    tier: Code
    when: FactConditions = {}


class QuantityEntry(FileModel):
    """The fact that counts the units; the first entry that matches wins."""

    fact: Literal["duration_s", "video_length_s", "calls"]
    unit: Text = "second"
    per: Annotated[int, Field(gt=0)] = 1
    rounding: Literal["exact", "truncate", "nearest", "ceil"] = "exact"
    step: Annotated[int, Field(gt=0)] = 1
    minimum: Annotated[int, Field(ge=0)] = 0
    when: FactConditions = {}


class UnitEntry(FileModel):
    """A unit of the provider's own, in which its rates are given."""

    name: Name
    value: Price = Field(description="What one unit costs, in the table's currency.")


class UnpricedEntry(FileModel):
    """A combination that the API allows and nobody published a price for."""

    model: Name
    resolution: Name | None = Field(None, description="None: every resolution.")
    tier: Code | None = Field(None, description="None: every tier.")
    why: Text


class UnreachedEntry(FileModel):
    """Published rates that stay in the table although no request of the named APIs can ask for them.

    Rates of the past, for one. They are exempt from the check that some request can reach each rate.
    """

    model: Name
    resolution: Name | None = Field(None, description="None: every resolution.")
    tier: Code | None = Field(None, description="None: every tier.")
    why: Text


class NoteEntry(FileModel):
    """A note that every quote from this table carries."""

    code: Code
    message: Text
    since: Instant | None = Field(None, description="Only quotes from this instant on carry it.")


class PeriodEntry(FileModel):
    """A model's own period within its table's."""

    valid_from: Instant | None = Field(None, description="None: as early as the table.")
    valid_until: Instant | None = Field(None, description="None: as long as the table.")


class PriceFile(FileModel):
    """One provider's rates over one period: `prices/<provider>/<date>.yaml`."""

    provider: Name
    hosts: list[Name] = []
    wire_formats: list[Name] = Field(description="The APIs the provider speaks, its main one first.")
    also_prices: list[Name] = Field([], description="Other APIs whose requests its rates can be asked for.")
    currency: Currency
    valid_from: Instant | None
    valid_until: Instant | None = None
    sources: Annotated[list[SourceEntry], Field(min_length=1)]
    billing: BillingEntry
    tiers: Annotated[list[TierEntry], Field(min_length=1)]
    quantity: Annotated[list[QuantityEntry], Field(min_length=1)]
    rates: dict[Name, dict[Name, dict[Code, Price]]] = Field(
        description="model -> resolution (any: it has none) -> tier -> price per unit of the quantity"
    )
    unit: UnitEntry | None = Field(None, description="Given when the rates are not in the currency itself.")
    model_periods: dict[Name, PeriodEntry] = Field(
        {}, description="Models whose rates are in force for a part of the table's period only."
    )
    unpriced: list[UnpricedEntry] = []
    unreached: list[UnreachedEntry] = []
    notes: list[NoteEntry] = []


class ContractFile(FileModel):
    """A customer's own prices over a published table: also `prices/<provider>/<name>.yaml`."""

    extends: Text = Field(description="The published table: its folder and file, as acme/2026-11-01.")
    valid_from: Instant | None = Field(None, description="None: as long as the published table.")
    valid_until: Instant | None = None
    sources: Annotated[list[SourceEntry], Field(min_length=1)]
    discount: Price | None = Field(None, description="Taken off the list total; 0.1 is ten percent.")
    unit_value: Price | None = Field(None, description="What one of the provider's units costs this customer.")
    rates: dict[Name, dict[Name, dict[Code, Price]]] = Field(
        {}, description="Prices that replace the published ones, in the same currency or unit."
    )
    notes: list[NoteEntry] = []


class RuleEntry(FileModel):
    """When all of `when` hold, all of `need` must; otherwise the API refuses the request."""

    code: Code
    when: FactConditions = {}
    need: Annotated[FactConditions, Field(min_length=1)]
    message: Text | None = Field(None, description="The sentence for a person; made from the rule when absent.")
    source: Text


class WarningEntry(FileModel):
    """Like a rule, but breaking it is only a note."""

    code: Code
    when: FactConditions = {}
    need: Annotated[FactConditions, Field(min_length=1)]
    message: Text
    source: Text


class ImpliedActionEntry(FileModel):
    """What the inputs make of the default action; the first entry that matches wins."""

    action: Code
    when: FactConditions
    source: Text


class EndpointEntry(FileModel):
    """A path that takes this API's payloads."""

    path: UrlPath = Field(description="As the API documents it; a gateway may put a folder before it.")
    actions: Annotated[list[Code], Field(min_length=1)] | None = Field(
        None, description="What it makes, where the path says so; None: the payload does."
    )
    status: TaskPath | None = Field(None, description="Where a task is asked for.")
    cancel: TaskPath | None = Field(None, description="Where it is cancelled, by a POST.")
    source: Text


class IdempotencyEntry(FileModel):
    """A header with a key, under which the API makes one task however often the request comes."""

    header: Annotated[str, Field(pattern="^[A-Za-z0-9-]+$")]
    hours: Annotated[int, Field(gt=0)] = Field(description="For how long the API knows a key.")
    source: Text


class OwnIdEntry(FileModel):
    """A field for the caller's own name for a task, by which the API can be asked for it."""

    field: Code
    source: Text


class RefusedEntry(FileModel):
    """Answers to a submission after which it is certain that nothing was accepted."""

    status: StatusCondition
    unless: list[int] = []
    code: Text | None = Field(None, description="That the error must name; None: any.")
    source: Text


class BilledBelowEntry(FileModel):
    """A path at and below which jobs are made and billed: a POST there that no endpoint lists is refused."""

    path: UrlPath
    source: Text


class HttpEntry(FileModel):
    """What the API does over HTTP beside reading payloads; what is not said is taken to be unknown."""

    forms: bool = Field(default=False, description="Whether it takes multipart/form-data beside JSON.")
    idempotency: IdempotencyEntry | None = None
    own_id: OwnIdEntry | None = None
    billed_below: list[BilledBelowEntry] = Field([], description="Beside the endpoints and what is below them.")
    refused: list[RefusedEntry] = Field([], description="After any other answer but a success nobody knows.")
    error: ErrorShape = Field(
        {"error": {"message": MESSAGE, "code": CODE}}, description="The body of its errors."
    )


class MediaEntry(FileModel):
    """Limits of the files a request names, checked when the caller knows their facts."""

    kind: Literal["image", "video"]
    limits: MediaConditions
    source: Text


class ModelEntry(FileModel):
    """What the API accepts for one model."""

    names: list[Text] | dict[Text, FactValues] = Field(
        min_length=1,
        description="As written on this wire; a name may imply facts: {some-name-720p: {resolution: 720p}}.",
    )
    actions: Annotated[list[Code], Field(min_length=1)]
    fields: Annotated[list[Code], Field(min_length=1, description="Inputs it takes; anything else is refused.")]
    limits: FactConditions
    required: list[Code] | None = Field(None, description="Inputs that must be said; None: the file's.")
    defaults: FactValues = Field({}, description="The file's defaults, where this model's differ.")
    rules: list[RuleEntry] = []
    warnings: list[WarningEntry] = []
    media: list[MediaEntry] = []
    source: Text


class CapabilityFile(FileModel):
    """What one API accepts: `capabilities/<wire format>.yaml`."""

    wire_format: Name
    sources: Annotated[list[SourceEntry], Field(min_length=1)]
    endpoints: list[EndpointEntry] = Field([], description="Where the payloads are posted to.")
    http: HttpEntry = HttpEntry()
    required: list[Code]
    defaults: FactValues = Field(description="fact -> what the API takes when the payload does not say")
    implied_actions: list[ImpliedActionEntry] = []
    rules: list[RuleEntry] = []
    warnings: list[WarningEntry] = []
    media: list[MediaEntry] = []
    models: Annotated[dict[Name, ModelEntry], Field(min_length=1)]


def price_file_schema() -> dict[str, Any]:
    """The JSON Schema of `prices/<provider>/<date>.yaml`."""
    return PriceFile.model_json_schema()


def capability_file_schema() -> dict[str, Any]:
    """The JSON Schema of `capabilities/<wire format>.yaml`."""
    return CapabilityFile.model_json_schema()
