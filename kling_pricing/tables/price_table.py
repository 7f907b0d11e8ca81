"""Price tables: one provider's rates over one period, as frozen data without any I/O."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from datetime import datetime, timedelta
from decimal import Decimal
from functools import cached_property
from operator import itemgetter
from types import MappingProxyType
from typing import Any, NamedTuple

from kling_pricing.findings import Note
from kling_pricing.money import divide, multiply
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

MAX_BILLS = 4096
"""The most bills that a table caches; a table of forty rates has about five hundred for 3 to 15 seconds."""

STALE_AFTER = timedelta(days=90)
"""A table is stale if the newest copy of its sources is older than this."""


class NotesOfPeriod(NamedTuple):
    """The notes that every quote from a table has in a half-open period.

    Attributes:
        since: the start of the period, as the age of the table's newest copy then.
        until: the end of the period, likewise.
        notes: the notes.
    """

    since: timedelta
    until: timedelta
    notes: tuple[Note, ...]


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
        own_unit: the provider's unit in which rates were published unless a rate names another; None: the
            currency.
        units: kind of a pack (video, image, audio) -> the value of its unit, in the table's currency.
        account_currencies: host -> the currency of the accounts there; an empty host stands for all.
        model_periods: the models that are priced for a part of the table's period only.
        period_reasons: model -> why it has a period of its own, as a clause.
        known_from: the instant from which the prices are known, if `valid_from` is None; None: not stated.
        newer_list: the provider with the same company's newer list; None: there is none.
        contract: the customer's contract; None for a published table.
        allow_paths: paths at and below which hooks let requests to the provider pass without a price.
        unpriced_rest: why cells without a rate that `unpriced` does not list have no price; None: not stated.
        rate_at: `rates` in a form for the engine's look-ups.
        lasting_notes: the notes of every quote.
        dated_notes: the notes of quotes from an instant on.
        checked: the day of the newest copy of a source that was read.
        fresh_until: the instant after which quotes have a note that the table is stale.
        models: the canonical names of the priced models.
        priced_facts: the facts that can change the price of a request.
        priced_formats: the wire formats whose requests the table prices.
        counting_facts: the facts that count the units of some requests.
        recent_notes: the engine's cache of the notes that every quote in some period has; at most one entry.
        deciding_facts: returns the facts that decide the price of a request without unknown facts.
        bills: the engine's cache of at most `MAX_BILLS` bills, by the cell, the quantity's `id` and the counted
            value.
        comparing_notes: the engine's cache of at most `MAX_BILLS` notes that state the price of a request which
            another table bills, by the wire format and the deciding facts.
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
    unpriced_rest: str | None = None
    lasting_notes: tuple[Note, ...] = field(init=False, repr=False, compare=False)
    dated_notes: tuple[tuple[datetime, Note], ...] = field(init=False, repr=False, compare=False)
    recent_notes: list[NotesOfPeriod] = field(init=False, repr=False, compare=False)
    rate_at: dict[tuple[str, str, str], Rate] = field(init=False, repr=False, compare=False)
    checked: datetime = field(init=False)
    fresh_until: datetime = field(init=False)
    models: frozenset[str] = field(init=False)
    priced_facts: tuple[str, ...] = field(init=False)
    priced_formats: frozenset[str] = field(init=False, repr=False, compare=False)
    counting_facts: frozenset[str] = field(init=False, repr=False, compare=False)
    deciding_facts: Callable[[Mapping[str, Any]], tuple[Any, ...]] = field(
        init=False, repr=False, compare=False
    )
    bills: dict[tuple[str, str | None, str, int, int], Bill] = field(init=False, repr=False, compare=False)
    comparing_notes: dict[tuple[str, tuple[Any, ...]], Note] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        tier_facts = {fact for choice in self.tiers for fact in choice.when}
        quantity_facts = {fact for choice in self.quantity for fact in (*choice.result.facts, *choice.when)}
        object.__setattr__(self, "rate_at", dict(self.rates))
        object.__setattr__(self, "rates", MappingProxyType(self.rate_at))
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
        object.__setattr__(self, "deciding_facts", itemgetter("model", *self.priced_facts))
        object.__setattr__(self, "recent_notes", [])
        object.__setattr__(self, "bills", {})
        object.__setattr__(self, "comparing_notes", {})

    def __reduce__(self) -> tuple[Any, ...]:
        arguments = {field.name: getattr(self, field.name) for field in fields(self) if field.init}
        return _restored_table, (arguments | {"rates": dict(self.rates)},)

    @cached_property
    def choose_tier(self) -> Callable[[Mapping[str, Any]], tuple[str, ...]]:
        """Returns the tiers that some facts may have; compiled when first used."""
        return compile_choice(self.tiers)

    @cached_property
    def choose_quantity(self) -> Callable[[Mapping[str, Any]], tuple[Quantity, ...]]:
        """Returns the ways to count units that some facts may have; compiled when first used."""
        return compile_choice(self.quantity)

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
        if rate.own_unit is None or not rate.own_units:
            return None
        value = divide(rate.unit_price, rate.own_units)
        return rate.own_unit, value if self.contract is None else self.contract.unit_value(rate.cell, value)

    def account_currency(self, host: str) -> str | None:
        """Returns the currency of the accounts at a host (empty: not known); None if it is not known."""
        return self.account_currencies.get("") or self.account_currencies.get(host)

    def why_unpriced(self, cell: Cell) -> str | None:
        """Returns the reason why a cell has no price; None if the table lists none."""
        return next((entry.why for entry in self.unpriced if entry.covers(cell)), self.unpriced_rest)


def _restored_table(arguments: dict[str, Any]) -> PriceTable:
    return PriceTable(**arguments)


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
