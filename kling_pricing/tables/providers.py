"""Providers whose API is known, but not their prices: frozen data, without any I/O."""

from __future__ import annotations

from dataclasses import dataclass

from kling_pricing.tables.rates import TableSource


@dataclass(frozen=True, slots=True)
class UnpricedProvider:
    """A provider that publishes its API, but no prices.

    Attributes:
        provider: the provider's name, which is also the name of its file in `pricing_tables/providers/`.
        hosts: the hosts of the provider's API; empty if none is published.
        wire_formats: the wire formats of the provider's API, the main one first.
        why: the reason why it has no prices, as a sentence without a full stop.
        sources: where the API was published; never empty.
    """

    provider: str
    hosts: tuple[str, ...]
    wire_formats: tuple[str, ...]
    why: str
    sources: tuple[TableSource, ...]
