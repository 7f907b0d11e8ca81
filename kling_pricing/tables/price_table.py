"""Price tables and the book that holds all of them: frozen data, without any I/O."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import permutations
from types import MappingProxyType
from typing import Any, NamedTuple

from kling_pricing.display import did_you_mean, reportable
from kling_pricing.errors import PriceNotFoundError
from kling_pricing.findings import Note
from kling_pricing.money import divide, multiply
from kling_pricing.tables.capabilities import CapabilityMatrix
from kling_pricing.tables.providers import UnpricedProvider
from kling_pricing.tables.rates import (
    Bill,
    Billing,
    Cell,
    Cells,
    Contract,
    Quantity,
    Rate,
    TableSource,
    Validity,
)
from kling_pricing.tables.rules import Choice, compile_choice
from kling_pricing.wire.endpoints import Endpoint, Submission
from kling_pricing.wire.endpoints import endpoint as find_endpoint
from kling_pricing.wire.formats import wire_format

MAX_BILLS = 4096
"""The most bills that a table caches; a table of forty rates has about five hundred for 3 to 15 seconds."""

STALE_AFTER = timedelta(days=90)
"""A table is stale if the newest copy of its sources is older than this."""


@dataclass(frozen=True)
class PriceTable:
    """One provider's rates over one period.

    Attributes:
        provider: the provider's name, which is also its folder in `pricing_tables/prices/`.
        id: folder and file: `<provider>/<date>`.
        digest: the SHA-256 of the file's bytes, in hexadecimal.
        hosts: the hosts of the provider's API.
        wire_formats: the wire formats of the provider's API, the main one first.
        also_prices: other wire formats whose requests can be priced with these rates.
        currency: the ISO 4217 code of every amount.
        valid_from: the first instant at which the table is in force, UTC; None: always has been.
        valid_until: the first instant at which it is no longer in force, UTC; None: until further notice.
        sources: where the rates were published; never empty.
        billing: the provider's billing rules.
        tiers: the tier of a request; first match wins.
        quantity: how the units are counted; first match wins.
        rates: cell -> rate; under a contract, the contract's rates.
        unpriced: cells that the API allows but that have no published price.
        unreached: cells that today's rules cannot reach, kept so that past requests can be priced again.
        notes: the notes of quotes from this table, each with the instant from which it applies.
        own_unit: the provider's unit in which the rates were published; None: the currency.
        units: kind of a pack (video, image, audio) -> the value of its unit, in the table's currency.
        account_currencies: host -> the currency of the accounts there; an empty host stands for all.
        model_periods: the models that are priced for a part of the table's period only.
        period_reasons: model -> why it has a period of its own, as a clause.
        known_from: the instant from which the prices are known, if `valid_from` is None; None: not stated.
        newer_list: the provider with the same company's newer list; None: there is none.
        contract: the customer's contract; None for a published table.
        allow_paths: paths at and below which hooks let requests to the provider pass without a price.
        choose_tier, choose_quantity: return the tiers that some facts may have, and the ways to count units.
        rate_at: `rates` in a form for the engine's look-ups.
        lasting_notes: the notes of every quote.
        dated_notes: the notes of quotes from an instant on.
        checked: the day of the newest copy of a source that was read.
        fresh_until: the instant after which quotes have a note that the table is stale.
        models: the canonical names of the priced models.
        priced_facts: the facts that can change the price of a request.
        priced_formats: the wire formats whose requests the table prices.
        counting_facts: the facts that count the units of some requests.
        bills: the engine's cache of at most `MAX_BILLS` bills, by the cell, the quantity and the counted value.
    """

    provider: str
    id: str
    digest: str
    hosts: tuple[str, ...]
    wire_formats: tuple[str, ...]
    also_prices: tuple[str, ...]
    currency: str
    valid_from: datetime | None
    valid_until: datetime | None
    sources: tuple[TableSource, ...]
    billing: Billing
    tiers: tuple[Choice[str], ...]
    quantity: tuple[Choice[Quantity], ...]
    rates: Mapping[Cell, Rate]
    unpriced: tuple[Cells, ...]
    unreached: tuple[Cells, ...]
    notes: tuple[tuple[datetime | None, Note], ...]
    own_unit: str | None = None
    units: Mapping[str, Decimal] = field(default_factory=dict)
    account_currencies: Mapping[str, str] = field(default_factory=dict)
    model_periods: Mapping[str, Validity] = field(default_factory=dict)
    period_reasons: Mapping[str, str] = field(default_factory=dict)
    known_from: datetime | None = None
    newer_list: str | None = None
    contract: Contract | None = None
    allow_paths: tuple[str, ...] = ()
    choose_tier: Callable[[Mapping[str, Any]], tuple[str, ...]] = field(init=False, repr=False, compare=False)
    choose_quantity: Callable[[Mapping[str, Any]], tuple[Quantity, ...]] = field(
        init=False, repr=False, compare=False
    )
    lasting_notes: tuple[Note, ...] = field(init=False, repr=False, compare=False)
    dated_notes: tuple[tuple[datetime, Note], ...] = field(init=False, repr=False, compare=False)
    rate_at: dict[tuple[str, str, str], Rate] = field(init=False, repr=False, compare=False)
    checked: datetime = field(init=False)
    fresh_until: datetime = field(init=False)
    models: frozenset[str] = field(init=False)
    priced_facts: tuple[str, ...] = field(init=False)
    priced_formats: frozenset[str] = field(init=False, repr=False, compare=False)
    counting_facts: frozenset[str] = field(init=False, repr=False, compare=False)
    bills: dict[tuple[str, str | None, str, Quantity, int], Bill] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        tier_facts = {fact for choice in self.tiers for fact in choice.when}
        quantity_facts = {fact for choice in self.quantity for fact in (*choice.result.facts, *choice.when)}
        object.__setattr__(self, "rate_at", dict(self.rates))
        object.__setattr__(self, "rates", MappingProxyType(self.rate_at))
        object.__setattr__(self, "choose_tier", compile_choice(self.tiers))
        object.__setattr__(self, "choose_quantity", compile_choice(self.quantity))
        lasting = tuple(note for since, note in self.notes if since is None)
        dated = tuple((since, note) for since, note in self.notes if since is not None)
        object.__setattr__(self, "lasting_notes", lasting)
        object.__setattr__(self, "dated_notes", dated)
        object.__setattr__(self, "checked", max(source.checked for source in self.sources))
        object.__setattr__(self, "fresh_until", self.checked + STALE_AFTER)
        object.__setattr__(self, "models", frozenset(cell.model for cell in self.rates))
        object.__setattr__(
            self, "priced_facts", ("resolution", *sorted((tier_facts | quantity_facts) - {"resolution"}))
        )
        object.__setattr__(self, "priced_formats", frozenset((*self.wire_formats, *self.also_prices)))
        counting = frozenset(fact for choice in self.quantity for fact in choice.result.facts)
        object.__setattr__(self, "counting_facts", counting)
        object.__setattr__(self, "bills", {})

    def __reduce__(self) -> tuple[Any, ...]:
        arguments = {field.name: getattr(self, field.name) for field in fields(self) if field.init}
        return _restored_table, (arguments | {"rates": dict(self.rates)},)

    @property
    def bounds(self) -> list[datetime]:
        """The instants at which the table, or its prices of a model, start or end."""
        periods = [Validity(self.valid_from, self.valid_until), *self.model_periods.values()]
        return [bound for period in periods for bound in period if bound is not None]

    def charge(self, rate: Rate, units: Decimal) -> Decimal:
        """Returns the price of a number of units at a rate, in the table's currency, after any discount."""
        amount = multiply(rate.unit_price, units)
        return amount if self.contract is None else self.contract.charge(rate.cell, amount)

    def counted_in(self, rate: Rate) -> tuple[str, Decimal] | None:
        """Returns the unit of the provider's statement and its value; None if the unit is the currency."""
        published = self.billing.statement_unit
        if published is not None:
            return published.name, divide(Decimal(1), published.per_currency_unit)
        if self.own_unit is None or not rate.own_units:
            return None
        value = divide(rate.unit_price, rate.own_units)
        return self.own_unit, value if self.contract is None else self.contract.unit_value(rate.cell, value)

    def account_currency(self, host: str) -> str | None:
        """Returns the currency of the accounts at a host (empty: not known); None if it is not known."""
        return self.account_currencies.get("") or self.account_currencies.get(host)

    def why_unpriced(self, cell: Cell) -> str | None:
        """Returns the reason why a cell has no price; None if the table lists none."""
        return next((entry.why for entry in self.unpriced if entry.covers(cell)), None)


def _restored_table(arguments: dict[str, Any]) -> PriceTable:
    return PriceTable(**arguments)


class OtherDefault(NamedTuple):
    """A default of another wire format, which applies if the payload does not state the fact."""

    wire_format: str
    fact: str
    default: Any


@dataclass(frozen=True)
class PriceBook:
    """All price tables and all capability matrices.

    Attributes:
        tables: provider -> its published tables, oldest first.
        matrices: wire format -> its capability matrix.
        contracts: provider -> the customer's contracts, which take precedence over the published tables.
        unpriced: provider -> its API, for the providers that publish no prices; a user's own tables may price
            them.
        providers: wire format -> the providers with prices whose API uses it.
        formats: provider -> the wire formats of its API, the main one first.
        hosts: host -> the provider whose API is there.
        paths: path of a URL -> the submissions that it accepts.
        marking_models: model name, as written or in lower case -> the only wire format that has this name.
        priced_facts: the facts that can change a price in any table.
        other_defaults: (provider, wire format, model name as written) -> the differing defaults of the
            provider's other wire formats that have the same model name.
    """

    tables: Mapping[str, tuple[PriceTable, ...]]
    matrices: Mapping[str, CapabilityMatrix]
    contracts: Mapping[str, tuple[PriceTable, ...]] = field(default_factory=dict)
    unpriced: Mapping[str, UnpricedProvider] = field(default_factory=dict)
    providers: Mapping[str, tuple[str, ...]] = field(init=False)
    formats: Mapping[str, tuple[str, ...]] = field(init=False)
    hosts: Mapping[str, str] = field(init=False)
    paths: Mapping[str, tuple[Submission, ...]] = field(init=False)
    marking_models: Mapping[str, str] = field(init=False)
    priced_facts: frozenset[str] = field(init=False)
    other_defaults: Mapping[tuple[str, str, str], tuple[OtherDefault, ...]] = field(init=False)

    def __post_init__(self) -> None:
        formats = {
            provider: tuple(dict.fromkeys(name for table in tables for name in table.wire_formats))
            for provider, tables in self.tables.items()
        }
        providers = {
            name: tuple(provider for provider, names in formats.items() if name in names)
            for name in self.matrices
        }
        for provider, known in self.unpriced.items():
            names = (*formats.get(provider, ()), *known.wire_formats)
            formats[provider] = tuple(dict.fromkeys(names))
        formats_of_name: dict[str, list[str]] = {}
        formats_of_folded: dict[str, list[str]] = {}
        for matrix in self.matrices.values():
            if wire_format(matrix.wire_format).FIELD_NAMES.get("model") != "model":
                continue  # another field or the path holds its models, and identifies the format
            for written in matrix.names:
                formats_of_name.setdefault(written, []).append(matrix.wire_format)
            for folded in matrix.folded_names:
                formats_of_folded.setdefault(folded, []).append(matrix.wire_format)
        marking = {
            written: names[0]
            for written, names in (formats_of_folded | formats_of_name).items()
            if len(names) == 1
        }
        for name in ("tables", "matrices", "contracts", "unpriced"):
            object.__setattr__(self, name, MappingProxyType(dict(getattr(self, name))))
        object.__setattr__(self, "formats", formats)
        object.__setattr__(self, "providers", providers)
        priced = (fact for tables in self.tables.values() for table in tables for fact in table.priced_facts)
        object.__setattr__(self, "marking_models", marking)
        object.__setattr__(self, "priced_facts", frozenset(priced))
        object.__setattr__(self, "other_defaults", self._other_defaults())
        tables = (table for provided in self.tables.values() for table in provided)
        listed: list[PriceTable | UnpricedProvider] = [*tables, *self.unpriced.values()]
        hosts = {host: entry.provider for entry in listed for host in entry.hosts}
        paths: dict[str, tuple[Submission, ...]] = {}
        submissions = [entry for matrix in self.matrices.values() for entry in enumerate(matrix.submissions)]
        for _, submission in sorted(submissions, key=lambda entry: entry[0]):  # an API's main path comes first
            paths[submission.path] = (*paths.get(submission.path, ()), submission)
        object.__setattr__(self, "hosts", hosts)
        object.__setattr__(self, "paths", paths)

    def _other_defaults(self) -> dict[tuple[str, str, str], tuple[OtherDefault, ...]]:
        differing: dict[tuple[str, str, str], tuple[OtherDefault, ...]] = {}
        for provider, wire_formats in self.formats.items():
            for one, other in permutations(wire_formats, 2):
                names, other_names = self.matrices[one].names, self.matrices[other].names
                for written in names.keys() & other_names.keys():
                    defaults = self.matrices[one].models[names[written][0]].assumable
                    other_defaults = self.matrices[other].models[other_names[written][0]].assumable
                    key = (provider, one, written)
                    differing[key] = differing.get(key, ()) + tuple(
                        OtherDefault(other, fact, other_defaults[fact])
                        for fact, value in defaults.items()
                        if fact in other_defaults and other_defaults[fact] != value
                    )
        return differing

    def known_name(self, matrix: CapabilityMatrix, written: str) -> str | None:
        """Returns the explanation of a model name that the matrix does not take; None: nobody lists the name.

        The explanations of the other matrices count only for names that no API takes.
        """
        folded = written.lower()
        if folded in matrix.known_names or any(
            folded in other.folded_names for other in self.matrices.values()
        ):
            return matrix.known_names.get(folded)
        explanations = (other.known_names.get(folded) for other in self.matrices.values())
        return next((why for why in explanations if why is not None), None)

    def tables_of(self, provider: str) -> tuple[PriceTable, ...]:
        """Returns all tables of a provider, the published ones first and the customer's contracts last.

        Raises:
            PriceNotFoundError: the provider is unknown.
        """
        tables = self.tables.get(provider)
        if tables is None and provider not in self.unpriced:
            raise self.unknown_provider(provider)
        return (*(tables or ()), *self.contracts.get(provider, ())) if self.contracts else tables or ()

    def knows(self, provider: object) -> bool:
        """Returns whether a provider is known, with prices or without."""
        return provider in self.tables or provider in self.unpriced

    def without_prices(self, provider: UnpricedProvider, model: str | None = None) -> PriceNotFoundError:
        """Returns the error for a provider without published prices.

        Args:
            provider: the provider.
            model: the model of the request; None: unknown.
        """
        name, wire_format = provider.provider, provider.wire_formats[0]
        pricing = [
            other
            for other, tables in self.tables.items()
            if any(model in table.models and wire_format in table.priced_formats for table in tables)
        ]
        elsewhere = f", or choose a provider with prices: {', '.join(pricing)}" if pricing else ""
        return PriceNotFoundError(
            f"{name} publishes no prices ({provider.why}); add its prices as prices/{name}/<date>.yaml to "
            f"your own folder of tables, in full or with `extends` and another provider's table{elsewhere}",
            provider=name,
            model=model,
            priced_instead=pricing,
        )

    def unknown_provider(self, provider: object) -> PriceNotFoundError:
        """Returns the error for a provider that is not known."""
        remedy = did_you_mean(str(provider), sorted({*self.tables, *self.unpriced}))
        return PriceNotFoundError(
            f"unknown provider {reportable(provider)!a}; {remedy}",
            provider=provider if isinstance(provider, str) else None,
        )

    def next_change(self, provider: str, at: datetime) -> datetime | None:
        """Returns the first instant after `at` at which a price of the provider may change; None: unknown."""
        tables = (*self.tables.get(provider, ()), *self.contracts.get(provider, ()))
        return min((bound for table in tables for bound in table.bounds if bound > at), default=None)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), tuple(
            dict(each) for each in (self.tables, self.matrices, self.contracts, self.unpriced)
        )

    def endpoint(self, url: str) -> Endpoint:
        """Returns the provider at a URL's host and the submissions that the URL's path accepts.

        The host is looked up in the price tables, the path in the capability matrices, below any folder.
        Either may be unknown: your own gateway may have any host.

        Raises:
            KlingPricingError: it is not an http or https URL.
        """
        return find_endpoint(url, self.hosts, self.paths, self.formats)

    def table(self, provider: str, at: datetime) -> PriceTable:
        """Returns the provider's table in force at an instant.

        Raises:
            PriceNotFoundError: the provider is unknown, has no published prices, or has no table in force at
                that instant.
        """
        tables = self.tables.get(provider)
        if tables is None or self.contracts:
            if provider in self.unpriced and provider not in self.tables:
                raise self.without_prices(self.unpriced[provider])
            tables = self.tables_of(provider)
        for table in reversed(tables):
            if (table.valid_from is None or table.valid_from <= at) and (
                table.valid_until is None or at < table.valid_until
            ):  # as `Validity.holds`, inlined because every quote pays for it
                return table
        periods = "; ".join(f"{table.id}: {period(table)}" for table in tables)
        raise PriceNotFoundError(
            f"no price table for {provider} is in force at {at.isoformat()}; its tables: {periods}",
            provider=provider,
        )


def period(entry: PriceTable | Validity) -> str:
    """Describes the period of a table, or of a model in a table, for messages and lists."""
    if entry.valid_from is None and entry.valid_until is None:
        return "always"
    since = "" if entry.valid_from is None else f"from {_formatted(entry.valid_from)}"
    until = "" if entry.valid_until is None else f"until {_formatted(entry.valid_until)}"
    return f"{since} {until}".strip()


def _formatted(instant: datetime) -> str:
    is_midnight = not (instant.hour or instant.minute or instant.second)
    return f"{instant:%Y-%m-%d}" if is_midnight else instant.isoformat()
