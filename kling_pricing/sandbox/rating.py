"""The sandbox's own evaluation of the tables: whether an API accepts a request, and the request's price."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import ROUND_CEILING, ROUND_DOWN, ROUND_HALF_UP, Decimal
from typing import Any, NamedTuple

from kling_pricing.display import shown
from kling_pricing.errors import PriceNotFoundError
from kling_pricing.money import add, divide, multiply
from kling_pricing.sandbox.exchange import DeclinedError
from kling_pricing.sandbox.reading import NOTHING_GIVEN, Reading, invalid
from kling_pricing.tables.capabilities import CapabilityMatrix, ModelCapabilities
from kling_pricing.tables.price_book import PriceBook
from kling_pricing.tables.price_table import PriceTable
from kling_pricing.tables.rates import ANY, Cell, Quantity, Rate
from kling_pricing.tables.rules import Condition

_ROUNDINGS = {"truncate": ROUND_DOWN, "nearest": ROUND_HALF_UP, "ceil": ROUND_CEILING}
_ONE = Decimal(1)


class Rated(NamedTuple):
    """The price of a job.

    Attributes:
        table: the price table.
        rate: the rate.
        quantity: the number of billed units, such as seconds.
        money: the price in the table's currency, after the discount of a contract.
    """

    table: PriceTable
    rate: Rate
    quantity: Decimal
    money: Decimal


def admits(condition: Condition, value: Any) -> bool | None:
    """Returns whether a condition allows a value; None: the value is unknown."""
    if value is None:
        return None
    allowed = condition.allowed()
    if not isinstance(allowed, dict):
        return value in allowed
    return bool(
        ("min" not in allowed or value >= allowed["min"]) and ("max" not in allowed or value <= allowed["max"])
    )


def meets(conditions: Mapping[str, Condition], facts: Mapping[str, Any]) -> bool | None:
    """Returns whether all conditions are met; None: this depends on an unknown fact."""
    verdicts = [admits(condition, facts.get(fact)) for fact, condition in conditions.items()]
    return False if False in verdicts else None if None in verdicts else True


def judge(
    matrix: CapabilityMatrix,
    reading: Reading,
    at: datetime,
    default_model: str | None,
    actions: tuple[str, ...],
) -> dict[str, Any]:
    """Checks a request, and returns all facts about it, including the API's defaults.

    Args:
        matrix: the API's capabilities.
        reading: the contents of the payload.
        at: the time of the request.
        default_model: the model to use if the payload names none; None: a model is required.
        actions: the actions that the path supports; empty: all.

    Raises:
        DeclinedError: the API refuses the request.
    """
    written = reading.model or default_model
    known = None if written is None else matrix.find(written)
    if known is None:
        invalid("model is required" if written is None else f"model {shown(written)} is not supported")
    canonical, implied = known
    model = matrix.models[canonical]
    facts = {**NOTHING_GIVEN, **model.defaults, **reading.facts, **implied, "model": canonical}
    for name in model.required:
        if name not in reading.inputs:
            invalid(f"{name} is required")
    if refused := sorted(reading.inputs - model.fields):
        invalid(f"model {shown(written)} does not support {refused[0]}")
    if facts.get("action") == model.defaults.get("action"):
        for choice in model.implied_actions:
            if meets(choice.when, facts):
                facts["action"] = choice.result.action
                break
    if facts["shots_length_s"] and facts.get("duration_s") is not None:
        facts["shots_excess_s"] = facts["shots_length_s"] - facts["duration_s"]
    for rule in model.rules:
        if (
            not rule.warning
            and rule.is_in_force(at)
            and meets(rule.when, facts)
            and meets(rule.need, facts) is False
        ):
            invalid(rule.message or f"the request breaks the rule {rule.code}")
    if actions and facts.get("action") not in actions:
        invalid(f"this path does not support the action {facts.get('action')}")
    return facts


def complete(facts: dict[str, Any], model: ModelCapabilities, hidden: Mapping[Any, Any]) -> dict[str, Any]:
    """Returns the facts, completed with assumed values where the API publishes no default."""
    resolutions = next(
        (
            rule.need["resolution"].allowed()
            for rule in model.rules
            if not rule.when and "resolution" in rule.need
        ),
        [None],
    )
    decided = {"resolution": resolutions[0], "audio": False, "duration_s": 5, "calls": 1} | dict(hidden)
    return facts | {name: value for name, value in decided.items() if facts.get(name) is None}


def price(book: PriceBook, provider: str, wire_format: str, facts: Mapping[str, Any], at: datetime) -> Rated:
    """Returns the exact price of a request.

    Raises:
        DeclinedError: the tables have no price for the request.
    """
    try:
        table = book.table(provider, at)
    except PriceNotFoundError as error:
        raise DeclinedError("unpriced", str(error)) from None
    period = table.model_periods.get(facts["model"])
    if wire_format not in table.priced_formats or (period is not None and not period.holds(at)):
        raise DeclinedError("unpriced", f"the price tables have no price for {facts['model']} on {at:%Y-%m-%d}")
    tier = next((choice.result for choice in table.tiers if meets(choice.when, facts)), None)
    quantity = next((choice.result for choice in table.quantity if meets(choice.when, facts)), None)
    rate = None
    if tier is not None:
        for resolution in (facts.get("resolution") or ANY, ANY):
            rate = rate or table.rates.get(Cell(facts["model"], resolution, tier))
    if rate is None or quantity is None:
        raise DeclinedError(
            "unpriced", f"the price tables have no price for this {facts['model']} job on {at:%Y-%m-%d}"
        )
    units = counted(quantity, facts)
    return Rated(table, rate, units, table.charge(rate, units))


def counted(quantity: Quantity, facts: Mapping[str, Any]) -> Decimal:
    """Returns the number of billed units."""
    values = [facts.get(fact) for fact in quantity.facts]
    if None in values:
        invalid(f"{quantity.facts[values.index(None)]} is unknown")
    amount = Decimal(0)
    for fact in (quantity.fact, *quantity.added):
        amount = add(amount, Decimal(facts[fact]))
    if quantity.floor is not None:
        fact, times = quantity.floor
        amount = max(amount, multiply(Decimal(facts[fact]), times))
    if quantity.rounding != "exact":
        steps = (amount / quantity.step).quantize(_ONE, _ROUNDINGS[quantity.rounding])
        amount = max(multiply(steps, quantity.step), Decimal(quantity.minimum))
    return divide(amount, quantity.per)
