"""Which cells of a price table its APIs can reach: every one must be priced, or refused with a reason."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

from kling_pricing.capabilities import CapabilityMatrix, ModelCapabilities
from kling_pricing.rates import ANY, Cell
from kling_pricing.request import FACT_TYPES, INPUT_OF, UNSAID
from kling_pricing.rules import Choice, Conditions, OneOf, compile_choice


def reachable_cells(matrix: CapabilityMatrix, tiers: tuple[Choice[str], ...]) -> Iterator[Cell]:
    """Every model x resolution x tier for which the matrix allows at least one request, each once.

    Every action is tried, and the facts that tiers speak of at all their turning points; every other fact is
    left unknown, so that a rule excludes a cell only if it does so whatever the rest of the request says.
    """
    tier_facts = sorted({fact for choice in tiers for fact in choice.when} - {"resolution", "action"})
    unknown = dict.fromkeys(FACT_TYPES)
    choose_tier = compile_choice(tiers)
    for capabilities in matrix.models.values():
        reached: set[tuple[str, str]] = set()
        domains = [_domain(fact, capabilities, tiers) for fact in tier_facts]
        actions = capabilities.limit("action")
        domains.append(list(actions.values) if isinstance(actions, OneOf) else [None])
        for resolution in _resolutions(capabilities):
            for values in product(*domains):
                known = dict(zip((*tier_facts, "action"), values, strict=True))
                facts = {
                    **unknown,
                    **known,
                    "model": capabilities.model,
                    "resolution": None if resolution == ANY else resolution,
                }
                new = [tier for tier in choose_tier(facts) if (resolution, tier) not in reached]
                if new and capabilities.allows(facts):
                    reached.update((resolution, tier) for tier in new)
                    yield from (Cell(capabilities.model, resolution, tier) for tier in new)


def _resolutions(capabilities: ModelCapabilities) -> tuple[str, ...]:
    limit = capabilities.limit("resolution")
    return limit.values if isinstance(limit, OneOf) else (ANY,)


def _domain(fact: str, capabilities: ModelCapabilities, tiers: tuple[Choice[str], ...]) -> list[Any]:
    """The values of a fact that can make a difference; one, if the model does not take the input."""
    if INPUT_OF.get(fact, fact) not in capabilities.fields:
        return [capabilities.defaults.get(fact, UNSAID[fact])]
    if FACT_TYPES[fact] is bool:
        return [False, True]
    conditions: list[Conditions] = [choice.when for choice in tiers]
    for rule in capabilities.rules:
        conditions += [rule.when, rule.need]
    edges = [edge for each in conditions if fact in each for edge in each[fact].edges()]
    return list(dict.fromkeys(edges))
