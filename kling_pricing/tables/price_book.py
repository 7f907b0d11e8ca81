"""The price book: every price table and capability matrix that is known."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from itertools import permutations
from types import MappingProxyType
from typing import Any, NamedTuple

from kling_pricing.display import did_you_mean, reportable
from kling_pricing.errors import PriceNotFoundError
from kling_pricing.tables.capabilities import CapabilityMatrix
from kling_pricing.tables.price_table import PriceTable, period
from kling_pricing.tables.providers import UnpricedProvider
from kling_pricing.wire.endpoints import Endpoint, Submission
from kling_pricing.wire.endpoints import endpoint as find_endpoint
from kling_pricing.wire.formats import wire_format


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
    _by_precedence: dict[str, tuple[PriceTable, ...]] = field(init=False, repr=False, compare=False)
    _bounds: dict[str, list[datetime]] = field(init=False, repr=False, compare=False)

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
        by_precedence = {provider: self.tables_of(provider)[::-1] for provider in self.tables}
        bounds = {
            provider: sorted({bound for table in tables for bound in table.bounds})
            for provider, tables in by_precedence.items()
        }
        object.__setattr__(self, "_by_precedence", by_precedence)
        object.__setattr__(self, "_bounds", bounds)
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
        """Returns the explanation of a model name that the matrix does not take; None: no file lists the name.

        The explanations of the other matrices count only for names that no API takes, and not if this matrix
        takes another name of the same explanation.
        """
        folded = written.lower()
        if folded in matrix.known_names or any(
            folded in other.folded_names for other in self.matrices.values()
        ):
            return matrix.known_names.get(folded)
        for other in self.matrices.values():
            why = other.known_names.get(folded)
            alike = {name for name, explanation in other.known_names.items() if explanation == why}
            if why is not None and alike.isdisjoint(matrix.folded_names):
                return why
        return None

    def api_formats(self, provider: str) -> tuple[str, ...]:
        """Returns the wire formats in which a provider is addressed, the main one first.

        A provider without an API of its own is billed through gateways that speak the formats that it prices.
        """
        tables = (*self.tables.get(provider, ()), *self.contracts.get(provider, ()))
        return self.formats.get(provider) or tuple(
            dict.fromkeys(name for table in tables for name in table.also_prices)
        )

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
            f"{name} publishes no prices ({provider.why}); add its prices to your own folder of tables, in a "
            f"full price file (`kling-pricing tables new {name} --wire-format {wire_format} --out FOLDER` "
            f"writes a file to fill in) or in a file that extends another provider's table{elsewhere}",
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
        bounds = self._bounds.get(provider, ())
        place = bisect_right(bounds, at)
        return bounds[place] if place < len(bounds) else None

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

    def table(self, provider: str, at: datetime, model: str | None = None) -> PriceTable:
        """Returns the provider's table for an instant.

        Args:
            provider: the provider.
            at: the instant.
            model: the model of the request, for errors; None: unknown.

        Raises:
            PriceNotFoundError: the provider is unknown, has no published prices, or has no table in force at
                that instant.
        """
        for table in self._by_precedence.get(provider, ()):
            if (table.valid_from is None or table.valid_from <= at) and (
                table.valid_until is None or at < table.valid_until
            ):  # as `Validity.holds`, inlined because every quote pays for it
                return table
        if provider in self.unpriced and provider not in self.tables:
            raise self.without_prices(self.unpriced[provider], model)
        tables = self.tables_of(provider)
        periods = "; ".join(f"{period(table)} ({table.id})" for table in tables)
        raise PriceNotFoundError(
            f"{provider} has no price table for {at.isoformat()}; choose a time in one of these "
            f"periods: {periods}",
            provider=provider,
        )
