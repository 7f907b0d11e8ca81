"""Which cells of a price table its APIs can reach: every one must be priced, or refused with a reason."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import product
from typing import Any

from kling_pricing.display import closest
from kling_pricing.strict_yaml import YamlDocument
from kling_pricing.tables.capabilities import CapabilityMatrix, ModelCapabilities
from kling_pricing.tables.price_table import PriceTable
from kling_pricing.tables.rates import ANY, Cell
from kling_pricing.tables.rules import Choice, Conditions, OneOf, compile_choice
from kling_pricing.wire.facts import FACT_TYPES, INPUT_OF, UNSAID


def check_coverage(table: PriceTable, document: YamlDocument, matrices: Mapping[str, CapabilityMatrix]) -> None:
    """Holds a table against its wire formats: every allowed cell has one answer, and no other cell has any.

    Raises:
        TableError: a cell is not so.
    """
    formats = [("wire_formats", place, name) for place, name in enumerate(table.wire_formats)]
    formats += [("also_prices", place, name) for place, name in enumerate(table.also_prices)]
    reachable: dict[Cell, str] = {}
    for key, place, spoken in formats:
        if spoken not in matrices:
            known = ", ".join(sorted(matrices))
            raise document.error((key, place), f"no capabilities/{spoken}.yaml; there are: {known}")
        for cell in reachable_cells(matrices[spoken], table.tiers):
            reachable.setdefault(cell, spoken)
    names = ", ".join((*table.wire_formats, *table.also_prices))
    for place, past in enumerate(table.unreached):
        covered = [cell for cell in table.rates if past.covers(cell)]
        if not covered:
            raise document.error(("unreached", place), f"{past} has no rate; remove the entry")
        if now := [cell for cell in covered if cell in reachable]:
            raise document.error(
                ("unreached", place),
                f"{reachable[now[0]]} allows {now[0]}; name only what requests cannot reach",
            )
    for cell in table.rates:
        if cell not in reachable and not any(past.covers(cell) for past in table.unreached):
            raise document.error(
                ("rates", *cell),
                f"no request can reach this rate: {names} allows no {cell}"
                f"{_misspelt(cell, reachable)}; remove the rate, or correct the tiers or the capabilities",
            )
    for place, unpriced in enumerate(table.unpriced):
        if both := [cell for cell in table.rates if unpriced.covers(cell)]:
            raise document.error(("unpriced", place), f"{both[0]} has a rate; remove one of the two")
        if not any(unpriced.covers(cell) for cell in reachable):
            raise document.error(("unpriced", place), f"no request can reach {unpriced}; remove the entry")
    for cell, spoken in reachable.items():
        if spoken in table.wire_formats and cell not in table.rates and table.why_unpriced(cell) is None:
            raise document.error(
                ("rates", *cell),
                f"{spoken} allows {cell}, which is neither priced nor listed under unpriced; "
                "add its published rate, or an unpriced entry that says why there is none",
            )


def _misspelt(cell: Cell, reachable: Iterable[Cell]) -> str:
    """A hint, where one part of an unreachable cell is no model, resolution or tier at all."""
    for part, known in zip(cell, zip(*reachable, strict=True), strict=False):
        if part not in known:
            suggested = closest(part, sorted(set(known)))
            return f" ({part!r} is unknown{f', did you mean {suggested!r}?' if suggested else ''})"
    return ""


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
