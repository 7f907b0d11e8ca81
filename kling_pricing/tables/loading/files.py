"""The pydantic models of the files in `pricing_tables/` about prices and providers, and their JSON Schemas.

`PriceFile` is `prices/<provider>/<date>.yaml`, `ContractFile` extends one, and `ProviderFile` is
`providers/<provider>.yaml`; `capability_file` has the models of capability files.
The models describe one file each. `book`, `contracts` and `unpriced` turn them into the frozen `PriceTable` and
`UnpricedProvider`, and check the files against each other.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, TypeAlias

from pydantic import AfterValidator, Field

from kling_pricing.money import NANOS
from kling_pricing.strict_yaml import Code, Currency, FileModel, Instant, Name, Price, Text, UrlPath
from kling_pricing.tables.loading.conditions import (
    FactConditions,
)


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
        None,
        description="Why the model has its own period, as a clause such as 'the model was launched on that "
        "day'.",
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
        description="Path prefixes. Hooks let requests to these paths through without a price, and no budget "
        "counts the cost of these requests.",
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
    unit: UnitEntry | None = Field(None, description="The unit of the rates, if they are not in `currency`.")
    units: dict[Code, Annotated[Price, Field(gt=0)]] = Field(
        {},
        description="The value of one pack unit in the table's currency, by kind of pack (video, "
        "image, audio).",
    )
    pack_of: dict[Name, Code] = Field(
        {},
        description="Maps a model to a kind of pack. The model's rates are in the units of that kind, which "
        "`units` must contain. The rates of all other models are in the unit that `unit` names.",
    )
    account_currency: Currency | dict[Name, Currency] | None = Field(
        None,
        description="The currency of customer accounts, for amounts that a response states without a "
        "currency. If the currency depends on the host, give a map from hosts to currencies. Null means that "
        "the currency is not known.",
    )
    model_periods: dict[Name, PeriodEntry] = Field(
        {}, description="Models whose rates apply during only part of the table's period."
    )
    unpriced: list[UnpricedEntry] = []
    unpriced_rest: Text | None = Field(
        None,
        description="The reason why combinations without a rate have no price. If this key is given, null "
        "rates count as absent.",
    )
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
    unit_value: Price | None = Field(None, description="The customer's price for one of the provider's units.")
    units: dict[Code, Annotated[Price, Field(gt=0)]] = Field(
        {},
        description="The customer's price for one pack unit, by kind of pack, for kinds of pack that have "
        "units of their own, such as image.",
    )
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
        description="Path prefixes. Hooks let requests to these paths through without a price, and no budget "
        "counts the cost of these requests.",
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


def price_file_schema() -> dict[str, Any]:
    """Returns the JSON Schema of `prices/<provider>/<date>.yaml`."""
    return PriceFile.model_json_schema()


def provider_file_schema() -> dict[str, Any]:
    """Returns the JSON Schema of `providers/<provider>.yaml`."""
    return ProviderFile.model_json_schema()
