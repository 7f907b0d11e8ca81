"""What one provider charges: price tables, and the book that holds all of them. Frozen, without any I/O."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import permutations
from types import MappingProxyType
from typing import Any, NamedTuple

from kling_pricing.display import shown
from kling_pricing.errors import PriceNotFoundError
from kling_pricing.findings import Note
from kling_pricing.money import divide, multiply, subtract
from kling_pricing.tables.capabilities import CapabilityMatrix
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
"""So many bills a table keeps: a table of forty rates has some five hundred for lengths of 3 to 15 seconds."""

STALE_AFTER = timedelta(days=90)
"""How long a table that was compared with its source counts as fresh."""


@dataclass(frozen=True)
class PriceTable:
    """One provider's rates over one period.

    Attributes:
        provider: the API that bills, such as the name of its folder in `pricing_tables/prices/`.
        id: provider and file: `<provider>/<date>`.
        digest: SHA-256 of the file's bytes, in hexadecimal.
        hosts: where the provider's API is reached.
        wire_formats: the formats its API speaks, its main one first.
        also_prices: other formats whose requests its rates can be asked for.
        currency: ISO 4217 code of every amount.
        valid_from: first instant it is in force, UTC; None: since the provider's beginning.
        valid_until: first instant it no longer is, UTC; None: until further notice.
        sources: where the rates were published; never empty.
        billing: how the provider bills.
        tiers: which tier a request is billed in; first match wins.
        quantity: how the units are counted; first match wins.
        rates: cell -> rate.
        unpriced: what the API allows but nobody published a price for.
        own_unit: the provider's own unit, in which the rates were published; None: the currency.
        model_periods: the models that it prices for a part of its period only.
        contract: what a customer pays instead, if this is a contract's table; its `rates` are then the
            contract's.
        unreached: rates that the API's rules of today cannot reach, kept for re-pricing the past.
        notes: notes of the quotes from this table, each with the instant from which it applies.
        rate_at: `rates` for the engine's own look-ups.
        lasting_notes: the notes of every quote.
        dated_notes: the notes of quotes from an instant on.
        checked: when the table was last compared with a source.
        fresh_until: until when its quotes go without a note that the table is stale.
        models: canonical names of the models it prices.
        priced_facts: the facts that can change what a request costs.
        priced_formats: the wire formats whose requests it prices.
        counting_facts: the facts that count the units of some requests.
        bills: what was billed already: model, resolution, tier, how the units are counted, and what counts them
            -> the bill, which is always the same; the engine's own, and no more than `MAX_BILLS`.
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
    model_periods: Mapping[str, Validity] = field(default_factory=dict)
    contract: Contract | None = None
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
        quantity_facts = {fact for choice in self.quantity for fact in (choice.result.fact, *choice.when)}
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
        counting = frozenset(choice.result.fact for choice in self.quantity)
        object.__setattr__(self, "counting_facts", counting)
        object.__setattr__(self, "bills", {})

    def __reduce__(self) -> tuple[Any, ...]:
        given = {each.name: getattr(self, each.name) for each in fields(self) if each.init}
        return _rebuilt_table, (given | {"rates": dict(self.rates)},)

    @property
    def bounds(self) -> list[datetime]:
        """The instants at which it, or its prices of a model, come into force or go out of it."""
        periods = [Validity(self.valid_from, self.valid_until), *self.model_periods.values()]
        return [bound for period in periods for bound in period if bound is not None]

    def charge(self, rate: Rate, units: Decimal) -> Decimal:
        """What so many units cost by one of its rates, in its currency, a contract's discount taken off."""
        amount = multiply(rate.unit_price, units)
        return amount if self.contract is None else subtract(amount, self.contract.taken_off(rate.cell, amount))

    def counted_in(self, rate: Rate) -> tuple[str, Decimal] | None:
        """What the provider's statement counts charges of a rate in, and what one of it is worth.

        None: the currency itself.
        """
        published = self.billing.statement_unit
        if published is not None:
            return published.name, divide(Decimal(1), published.per_currency_unit)
        if self.own_unit is None or not rate.own_units:
            return None
        value = divide(rate.unit_price, rate.own_units)
        discount = self.contract.discount_of(rate.cell) if self.contract else Decimal(0)
        return self.own_unit, subtract(value, multiply(value, discount))

    def why_unpriced(self, cell: Cell) -> str | None:
        """Why there is no price for a cell; None when the table does not say."""
        return next((entry.why for entry in self.unpriced if entry.covers(cell)), None)


def _rebuilt_table(given: dict[str, Any]) -> PriceTable:
    return PriceTable(**given)


class OtherDefault(NamedTuple):
    """What another wire format takes when the payload does not say."""

    wire_format: str
    fact: str
    default: Any


@dataclass(frozen=True)
class PriceBook:
    """Everything that is known: all price tables and all capability matrices.

    Attributes:
        tables: provider -> its tables, oldest first.
        matrices: wire format -> what it accepts.
        contracts: provider -> the customer's own tables, which come before the published ones.
        providers: wire format -> the providers whose API speaks it.
        formats: provider -> the wire formats its API speaks, the main one first.
        hosts: host -> the provider whose API is reached there.
        paths: path of a URL -> what is submitted there.
        marking_models: model name as written -> the one wire format that knows it.
        priced_facts: the facts that can change a price in any of the tables.
        other_defaults: (provider, wire format, model name as written) -> the defaults that differ where the
            same name is read as another format of the provider, each with that format.
    """

    tables: Mapping[str, tuple[PriceTable, ...]]
    matrices: Mapping[str, CapabilityMatrix]
    contracts: Mapping[str, tuple[PriceTable, ...]] = field(default_factory=dict)
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
            name: tuple(provider for provider, spoken in formats.items() if name in spoken)
            for name in self.matrices
        }
        known_to: dict[str, list[str]] = {}
        for matrix in self.matrices.values():
            if "model" not in wire_format(matrix.wire_format).FIELDS:
                continue  # its models stand in a field that is a mark by itself
            for written in matrix.names:
                known_to.setdefault(written, []).append(matrix.wire_format)
        marking = {written: names[0] for written, names in known_to.items() if len(names) == 1}
        for name in ("tables", "matrices", "contracts"):
            object.__setattr__(self, name, MappingProxyType(dict(getattr(self, name))))
        object.__setattr__(self, "formats", formats)
        object.__setattr__(self, "providers", providers)
        priced = (fact for tables in self.tables.values() for table in tables for fact in table.priced_facts)
        object.__setattr__(self, "marking_models", marking)
        object.__setattr__(self, "priced_facts", frozenset(priced))
        object.__setattr__(self, "other_defaults", self._other_defaults())
        hosts = {
            host: provider
            for provider, tables in self.tables.items()
            for table in tables
            for host in table.hosts
        }
        paths: dict[str, tuple[Submission, ...]] = {}
        for matrix in self.matrices.values():
            for each in matrix.submissions:
                paths[each.path] = (*paths.get(each.path, ()), each)
        object.__setattr__(self, "hosts", hosts)
        object.__setattr__(self, "paths", paths)

    def _other_defaults(self) -> dict[tuple[str, str, str], tuple[OtherDefault, ...]]:
        found: dict[tuple[str, str, str], tuple[OtherDefault, ...]] = {}
        for provider, spoken in self.formats.items():
            for one, other in permutations(spoken, 2):
                ours, theirs = self.matrices[one], self.matrices[other]
                for written in ours.names.keys() & theirs.names.keys():
                    here = ours.models[ours.names[written][0]].assumable
                    there = theirs.models[theirs.names[written][0]].assumable
                    key = (provider, one, written)
                    found[key] = found.get(key, ()) + tuple(
                        OtherDefault(other, fact, there[fact])
                        for fact, value in here.items()
                        if fact in there and there[fact] != value
                    )
        return found

    def next_change(self, provider: str, at: datetime) -> datetime | None:
        """The first instant after another at which a price of the provider may change; None: none is known."""
        tables = (*self.tables.get(provider, ()), *self.contracts.get(provider, ()))
        return min((bound for table in tables for bound in table.bounds if bound > at), default=None)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (dict(self.tables), dict(self.matrices), dict(self.contracts))

    def endpoint(self, url: str) -> Endpoint:
        """What a URL says of the payloads that are posted to it: who bills, and what can be submitted there.

        The host is looked up among those of the price tables, the path among the endpoints of the capability
        matrices, below any folder. Neither needs to be known: a gateway of one's own may have any host.

        Raises:
            KlingPricingError: it is no http or https URL.
        """
        return find_endpoint(url, self.hosts, self.paths, self.formats)

    def tables_of(self, provider: str) -> tuple[PriceTable, ...]:
        """Returns every table of a provider, the oldest first and the customer's own last.

        Raises:
            PriceNotFoundError: the provider is unknown.
        """
        tables = self.tables.get(provider)
        if tables is None:
            known = ", ".join(sorted(self.tables))
            raise PriceNotFoundError(f"unknown provider {shown(provider)!r}; known: {known}", provider=provider)
        return (*tables, *self.contracts.get(provider, ())) if self.contracts else tables

    def table(self, provider: str, at: datetime) -> PriceTable:
        """The provider's table in force at an instant.

        Raises:
            PriceNotFoundError: no such provider, or no table of it in force then.
        """
        tables = self.tables.get(provider)
        if tables is None or self.contracts:
            tables = self.tables_of(provider)
        for table in reversed(tables):
            if (table.valid_from is None or table.valid_from <= at) and (
                table.valid_until is None or at < table.valid_until
            ):  # as `Validity.holds`, which every quote would pay for
                return table
        periods = "; ".join(f"{table.id}: {period(table)}" for table in tables)
        raise PriceNotFoundError(
            f"no table of {provider} is in force at {at.isoformat()}; there are {periods}", provider=provider
        )


def period(entry: PriceTable | Validity) -> str:
    """The period of a table, or of a model in it, in words, for messages and lists."""
    if entry.valid_from is None and entry.valid_until is None:
        return "always"
    since = "" if entry.valid_from is None else f"from {_written(entry.valid_from)}"
    until = "" if entry.valid_until is None else f"until {_written(entry.valid_until)}"
    return f"{since} {until}".strip()


def _written(instant: datetime) -> str:
    return (
        f"{instant:%Y-%m-%d}" if not (instant.hour or instant.minute or instant.second) else instant.isoformat()
    )
