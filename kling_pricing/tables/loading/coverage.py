"""Checks that every cell that an API can reach is either priced or refused with a reason."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import product
from typing import Any

from kling_pricing.display import nearest
from kling_pricing.errors import TableProblems
from kling_pricing.strict_yaml import YamlDocument
from kling_pricing.tables.capabilities import CapabilityMatrix, ModelCapabilities
from kling_pricing.tables.price_table import PriceTable
from kling_pricing.tables.rates import ANY, Cell
from kling_pricing.tables.rules import Choice, Condition, Conditions, OneOf, compile_choice
from kling_pricing.wire.facts import EMPTY_FACTS, FACT_TYPES, INPUT_OF


def check_coverage(table: PriceTable, document: YamlDocument, matrices: Mapping[str, CapabilityMatrix]) -> None:
    """Checks that a table has a rate, or a reason for none, for every reachable cell and for no other.

    Raises:
        TableError: cells break this rule; the error's `problems` name each of them.
    """
    problems = TableProblems()
    formats = [("wire_formats", place, name) for place, name in enumerate(table.wire_formats)]
    formats += [("also_prices", place, name) for place, name in enumerate(table.also_prices)]
    reachable: dict[Cell, str] = {}
    for key, place, wire_format in formats:
        if wire_format not in matrices:
            known = ", ".join(sorted(matrices))
            problem = f"no capabilities/{wire_format}.yaml; known wire formats: {known}"
            problems.append(document.error((key, place), problem))
            continue
        for cell in reachable_cells(matrices[wire_format], table.tiers):
            reachable.setdefault(cell, wire_format)
    problems.raise_first()
    names = " or ".join((*table.wire_formats, *table.also_prices))
    for place, unreached in enumerate(table.unreached):
        covered = [cell for cell in table.rates if unreached.covers(cell)]
        if not covered:
            problems.append(document.error(("unreached", place), f"{unreached} has no rate; remove the entry"))
        if allowed := [cell for cell in covered if cell in reachable]:
            problems.append(
                document.error(
                    ("unreached", place),
                    f"{reachable[allowed[0]]} allows {allowed[0]}; list only rates that no request can reach",
                )
            )
    for cell in table.rates:
        if cell not in reachable and not any(entry.covers(cell) for entry in table.unreached):
            problems.append(
                document.error(
                    ("rates", *cell),
                    f"no request can reach this rate, because no request in wire format {names} has {cell}"
                    f"{_misspelt(cell, reachable)}; remove the rate, or correct the tiers or the capabilities",
                )
            )
    for place, unpriced in enumerate(table.unpriced):
        if both := [cell for cell in table.rates if unpriced.covers(cell)]:
            problems.append(
                document.error(("unpriced", place), f"{both[0]} also has a rate; remove the rate or this entry")
            )
        if not any(unpriced.covers(cell) for cell in reachable):
            problem = f"no request can reach {unpriced}; remove the entry"
            problems.append(document.error(("unpriced", place), problem))
    for cell, wire_format in reachable.items():
        if wire_format in table.wire_formats and cell not in table.rates and table.why_unpriced(cell) is None:
            problems.append(
                document.error(
                    ("rates", *cell),
                    f"{wire_format} allows {cell}, which is neither priced nor listed under unpriced; "
                    "add its published rate, or an unpriced entry with the reason",
                )
            )
    problems.raise_first()


def _misspelt(cell: Cell, reachable: Iterable[Cell]) -> str:
    """Returns a hint if a part of an unreachable cell is an unknown model, resolution or tier."""
    for part, known in zip(cell, zip(*reachable, strict=True), strict=False):
        if part not in known:
            close = nearest(part, sorted(set(known)))
            return f" ({part!r} is unknown{f', did you mean {close!r}?' if close else ''})"
    return ""


def reachable_cells(matrix: CapabilityMatrix, tiers: tuple[Choice[str], ...]) -> Iterator[Cell]:
    """Yields every model x resolution x tier for which the matrix allows at least one request, each once.

    It tries every action, and every turning point of the facts that tiers test. All other facts stay unknown,
    so that a rule excludes a cell only if it does so for any values of those facts.
    """
    tier_facts = sorted({fact for choice in tiers for fact in choice.when} - {"model", "resolution", "action"})
    choose_tier = compile_choice(tiers)
    for capabilities in matrix.models.values():
        reached: set[tuple[str, str]] = set()
        domains = [_domain(fact, capabilities, tiers) for fact in tier_facts]
        actions = capabilities.limit("action")
        domains.append(list(actions.values) if isinstance(actions, OneOf) else [None])
        rules = capabilities.breakable({*tier_facts, "model", "resolution", "action"})
        facts: dict[str, Any] = {**dict.fromkeys(FACT_TYPES), "model": capabilities.model}
        for resolution in _resolutions(capabilities):
            facts["resolution"] = None if resolution == ANY else resolution
            for values in product(*domains):
                facts.update(zip((*tier_facts, "action"), values, strict=True))
                new = [tier for tier in choose_tier(facts) if (resolution, tier) not in reached]
                if new and not any(rule.is_broken(facts) for rule in rules):
                    reached.update((resolution, tier) for tier in new)
                    yield from (Cell(capabilities.model, resolution, tier) for tier in new)


def reachable_facts(
    capabilities: ModelCapabilities, choices: tuple[Choice[Any], ...], resolution: str
) -> Iterator[Mapping[str, Any]]:
    """Yields every combination of the facts that some choices test which a request for a model may have.

    Args:
        capabilities: what the API accepts for the model.
        choices: the choices.
        resolution: the resolution of the request; `any`: it has none.
    """
    tested = sorted({fact for choice in choices for fact in choice.when} - {"model", "resolution", "action"})
    actions = capabilities.limit("action")
    domains = [
        *(
            [*dict.fromkeys((*_domain(fact, capabilities, choices), _usual(fact, capabilities)))]
            for fact in tested
        ),
        list(actions.values) if isinstance(actions, OneOf) else [None],
    ]
    rules = capabilities.breakable({*tested, "model", "resolution", "action"})
    for values in product(*domains):
        facts = {
            **dict.fromkeys(FACT_TYPES),
            "model": capabilities.model,
            "resolution": None if resolution == ANY else resolution,
            **dict(zip((*tested, "action"), values, strict=True)),
        }
        if not any(rule.is_broken(facts) for rule in rules):
            yield facts


def may_hold(conditions: Conditions, capabilities: ModelCapabilities) -> bool:
    """Returns whether a request for a model can meet some conditions, each of them by itself."""
    return all(
        any(condition.holds(value) is not False for value in _values(fact, condition, capabilities))
        for fact, condition in conditions.items()
    )


def _values(fact: str, condition: Condition, capabilities: ModelCapabilities) -> Iterable[Any]:
    if fact == "model":
        return (capabilities.model,)
    if fact == "resolution":
        return _resolutions(capabilities)
    if fact == "action":
        actions = capabilities.limit("action")
        return actions.values if isinstance(actions, OneOf) else (None,)
    return _domain(fact, capabilities, (Choice("", {fact: condition}),))


def _resolutions(capabilities: ModelCapabilities) -> tuple[str, ...]:
    limit = capabilities.limit("resolution")
    return limit.values if isinstance(limit, OneOf) else (ANY,)


def _domain(fact: str, capabilities: ModelCapabilities, tiers: tuple[Choice[Any], ...]) -> list[Any]:
    """Returns the values of a fact that can matter; only one if the model does not take the input."""
    if INPUT_OF.get(fact, fact) not in capabilities.fields:
        return [_usual(fact, capabilities)]
    if FACT_TYPES[fact] is bool:
        return [False, True]
    conditions: list[Conditions] = [choice.when for choice in tiers]
    for rule in capabilities.rules:
        conditions += [rule.when, rule.need]
    edges = [edge for group in conditions if fact in group for edge in group[fact].edges()]
    return list(dict.fromkeys(edges))


def _usual(fact: str, capabilities: ModelCapabilities) -> Any:
    """Returns the value of a fact in a request that does not state it."""
    return capabilities.defaults.get(fact, EMPTY_FACTS[fact])
