"""Writes a price table that lists every combination to price, for the user to fill in."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from datetime import date
from itertools import groupby
from typing import Any, TypeVar

from kling_pricing.tables.capabilities import CapabilityMatrix
from kling_pricing.tables.loading.coverage import may_hold, reachable_cells
from kling_pricing.tables.price_book import PriceBook
from kling_pricing.tables.price_table import PriceTable
from kling_pricing.tables.rates import Cell, Quantity
from kling_pricing.tables.rules import Choice, Conditions, OneOf

T = TypeVar("T")

_PLAIN = re.compile(r"[a-z][a-z_]*")
_CONSTANTS = {"true", "false", "null", "yes", "no", "on", "off"}

_HOSTS = "hosts of the API, without https:// and path, such as api.example.com"

_TIERS = (Choice("audio", {"audio": OneOf((True,))}), Choice("silent", {}))
_QUANTITY = (Choice(Quantity("duration_s"), {}),)


def table_template(
    book: PriceBook, provider: str, wire_format: str, currency: str | None, day: date
) -> tuple[str, int]:
    """Returns the text of a price file with a null for every rate, and the number of rates.

    The tiers and the units are those of a table that prices the same wire format, because most providers bill
    an API in the same way.

    Args:
        book: the published tables.
        provider: the provider.
        wire_format: the wire format of its API.
        currency: the currency of its prices; None: left to fill in.
        day: the day from which the prices hold.
    """
    model = _similar(book, wire_format)
    tiers, quantity = (_TIERS, _QUANTITY) if model is None else (model.tiers, model.quantity)
    matrix = book.matrices[wire_format]
    cells = [*reachable_cells(matrix, tiers)]
    example = cells[0]
    reached = {cell.tier for cell in cells}
    tiers = tuple(_for_models([tier for tier in tiers if tier.result in reached], matrix))
    counting = _for_models(
        [
            choice
            for choice in quantity
            if any(may_hold(choice.when, capabilities) for capabilities in matrix.models.values())
        ],
        matrix,
    )
    hosts = book.unpriced[provider].hosts if provider in book.unpriced else ()
    origin = "Common tiers" if model is None else f"The tiers and units of {model.id}"
    units = " or ".join(dict.fromkeys(choice.result.unit for choice in counting))
    lines = [
        f"# Prices of {provider}. Replace every null, then run `kling-pricing tables check`.",
        "# If the provider has no price for a combination, remove its rate and list it under `unpriced`:",
        "# unpriced:",
        f'#   - {{model: {example.model}, resolution: {example.resolution}, tier: {example.tier}, why: "..."}}',
        "# If you know only some of the prices, leave the other rates null and state the reason in one line:",
        f'# unpriced_rest: "{provider} has not given us this price"',
        f"provider: {provider}",
        f"hosts: [{', '.join(hosts)}]  # {_HOSTS}",
        f"wire_formats: [{wire_format}]",
        f"currency: {currency or 'null'}",
        f"valid_from: {day}  # the first day of these prices",
        "sources:",
        "  # ref: page or document; checked: the day you read it; authority: official, or secondary (a copy)",
        "  - {ref: null, checked: null, authority: official}",
        "",
        "billing: {failed_tasks: unconfirmed}  # or: refunded, charged",
        "",
        f"# {origin}; the first match applies.",
        f"# If {provider} bills by other tiers, change them here and below.",
        "tiers:",
        *(f"  - {_flow(_entry({'tier': tier.result}, tier.when))}" for tier in tiers),
        "quantity:",
        *(f"  - {_flow(_entry(_quantity(choice.result), choice.when))}" for choice in counting),
        "",
        f"rates:  # model -> resolution -> tier -> price per {units}",
        *_rates(cells),
    ]
    return "\n".join(lines) + "\n", len(cells)


def _similar(book: PriceBook, wire_format: str) -> PriceTable | None:
    """Returns a current table that prices the wire format: a table for this API, or else for other APIs too."""
    tables = [tables[-1] for tables in book.tables.values()]
    own = (table for table in tables if wire_format in table.wire_formats)
    others = (table for table in tables if wire_format in table.also_prices)
    return next(own, None) or next(others, None)


def _for_models(choices: Iterable[Choice[T]], matrix: CapabilityMatrix) -> list[Choice[T]]:
    """Returns the part of a first-match list that concerns the models of a wire format.

    The last entry always matches, as price files require: the entries after it concern other models.
    """
    kept: list[Choice[T]] = []
    left = set(matrix.models)
    for choice in choices:
        named = choice.when.get("model")
        models = tuple(model for model in matrix.models if named is None or named.holds(model))
        if left.isdisjoint(models):
            continue
        if choice.when.keys() <= {"model"}:
            left -= set(models)
        when = {
            fact: OneOf(models) if fact == "model" else condition
            for fact, condition in choice.when.items()
            if fact != "model" or len(models) < len(matrix.models)
        }
        kept.append(Choice(choice.result, when))
    last = kept.pop()
    return [*kept, Choice(last.result, {})]


def _rates(cells: Iterable[Cell]) -> list[str]:
    lines = []
    ordered = sorted(cells, key=lambda cell: cell.model)
    for model, of_model in groupby(ordered, key=lambda cell: cell.model):
        lines.append(f"  {model}:")
        resolutions: dict[str, list[str]] = {}
        for cell in of_model:
            resolutions.setdefault(cell.resolution, []).append(cell.tier)
        lines += [
            f"    {resolution}: {{{', '.join(f'{tier}: null' for tier in tiers)}}}"
            for resolution, tiers in resolutions.items()
        ]
    return lines


def _quantity(quantity: Quantity) -> dict[str, Any]:
    """Returns the keys of a quantity that differ from their defaults."""
    defaults = Quantity(quantity.fact)._asdict()
    return {"fact": quantity.fact} | {
        key: value for key, value in quantity._asdict().items() if value != defaults[key]
    }


def _entry(result: dict[str, Any], when: Conditions) -> dict[str, Any]:
    """Returns an entry of a first-match list; a list of one allowed value is written as the value."""
    allowed = {fact: condition.allowed() for fact, condition in when.items()}
    conditions = {
        fact: value[0] if isinstance(value, list) and len(value) == 1 else value
        for fact, value in allowed.items()
    }
    return result | ({"when": conditions} if conditions else {})


def _flow(value: Any) -> str:
    """Writes a value as YAML on one line."""
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {_flow(item)}' for key, item in value.items())}}}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_flow, value))}]"
    if isinstance(value, str):
        return value if _PLAIN.fullmatch(value) and value not in _CONSTANTS else json.dumps(value)
    return json.dumps(value) if isinstance(value, bool) else str(value)
