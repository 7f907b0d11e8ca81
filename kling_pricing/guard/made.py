"""Comparison of a response with its quote: the price of what was made, and the list price. Pure."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from kling_pricing.ledger.journal import Observation
from kling_pricing.ledger.model import Reservation
from kling_pricing.ledger.outcomes import NOTHING, Comparison, needs_comparison
from kling_pricing.money import add, divide, format_decimal, multiply
from kling_pricing.tables.price_book import PriceBook
from kling_pricing.tables.price_table import PriceTable
from kling_pricing.tables.rates import ANY, Rate
from kling_pricing.wire.charges import CASH, UNIT, VIDEO, Charge
from kling_pricing.wire.facts import EMPTY_FACTS

_DURATION, _RESOLUTION, _REFERENCE, _ACTION = "duration_s", "resolution", "reference", "action"
_TIER_FACTS = (_ACTION, _REFERENCE, "audio")


def compare(reservation: Reservation, seen: Observation, book: PriceBook) -> Comparison:
    """Compares what a response says about a finished task with what was quoted.

    If the response names a charge, only its list price is compared. Otherwise the facts that the capability
    file lists as billed decide within a quoted range, and raise an exact quote; they never lower it.
    """
    if not needs_comparison(seen):
        return NOTHING
    table = _table_of(reservation, book)
    if table is None:
        return NOTHING
    if seen.charge is not None:
        return Comparison(remark=_list_price_remark(reservation, seen.charge, table))
    matrix = book.matrices.get(reservation.wire_format)
    capabilities = None if matrix is None else matrix.models.get(reservation.model)
    if matrix is None or capabilities is None:
        return NOTHING
    facts = _stated(seen, matrix.http.billed_facts)
    if not facts:
        return NOTHING
    # A response names only other actions than the general one.
    known = {**EMPTY_FACTS, _ACTION: capabilities.general_action, **facts, "model": reservation.model}
    known["videos"] = int(facts.get(_REFERENCE, False))
    return _compare_made(reservation, facts, known, table)


def _stated(seen: Observation, billed: tuple[str, ...]) -> dict[str, Any]:
    """Returns the billed facts that a response states.

    A length counts if it is a whole number of seconds; any other length is that of the file.
    """
    stated = dict(seen.facts)
    if seen.duration_s is not None and seen.duration_s > 0 and not seen.duration_s % 1:
        stated[_DURATION] = int(seen.duration_s)
    return {fact: stated[fact] for fact in billed if stated.get(fact) is not None}


def _table_of(reservation: Reservation, book: PriceBook) -> PriceTable | None:
    """Returns the table of the reservation's quote; None if the book no longer has it."""
    tables = (*book.tables.get(reservation.provider, ()), *book.contracts.get(reservation.provider, ()))
    return next((table for table in tables if table.id == reservation.table), None)


def _compare_made(
    reservation: Reservation, facts: dict[str, Any], known: dict[str, Any], table: PriceTable
) -> Comparison:
    resolution, tier, quantity = _made(reservation, facts, known, table)
    asked = _shown(reservation, reservation.resolution, reservation.tier, reservation.quantity)
    made = _shown(reservation, resolution, tier, quantity)
    if made == asked:
        return NOTHING
    quoted = f"{format_decimal(reservation.expected)} {reservation.currency}"
    rate = _rate(table, reservation.model, resolution, tier)
    if rate is None:
        return Comparison(
            remark=f"the response describes {made}, which has no price; the quote was {quoted} for {asked}"
        )
    price, minimum = table.charge(rate, quantity), reservation.terms.minimum
    if price > reservation.expected:
        priced = f"{format_decimal(price)} {reservation.currency}"
        return Comparison(
            price, f"the response describes {made}, which costs {priced}; the quote was {quoted} for {asked}"
        )
    return Comparison(None if minimum is None else max(price, minimum))


def _made(
    reservation: Reservation, facts: dict[str, Any], known: dict[str, Any], table: PriceTable
) -> tuple[str, str, Decimal]:
    """Returns the resolution, tier and quantity that were made; a fact that is not stated is as quoted."""
    resolution = reservation.resolution
    if reservation.resolution != ANY and _RESOLUTION in facts:
        resolution = facts[_RESOLUTION]
    tier, tiers = reservation.tier, table.choose_tier(known)
    if tiers and tier not in tiers and not facts.keys().isdisjoint(_TIER_FACTS):
        tier = _dearest(table, reservation.model, resolution, tiers)
    quantity = reservation.quantity
    if _DURATION in facts and tier in tiers:
        counts = (count for count in table.choose_quantity(known) if count.unit == reservation.unit)
        count = next((count for count in counts if count.fact == _DURATION), None)
        quantity = quantity if count is None else count.of(known)
    return resolution, tier, quantity


def _dearest(table: PriceTable, model: str, resolution: str, tiers: tuple[str, ...]) -> str:
    rates = {tier: _rate(table, model, resolution, tier) for tier in tiers}
    priced = {tier: rate.unit_price for tier, rate in rates.items() if rate is not None}
    return max(priced, key=lambda tier: priced[tier]) if priced else tiers[0]


def _rate(table: PriceTable, model: str, resolution: str, tier: str) -> Rate | None:
    return table.rate_at.get((model, resolution, tier)) or table.rate_at.get((model, ANY, tier))


def _shown(reservation: Reservation, resolution: str, tier: str, quantity: Decimal) -> str:
    plural = "" if quantity == 1 or reservation.unit[0].isdigit() else "s"
    units = f"{format_decimal(quantity)} {reservation.unit}{plural}"
    return f"{reservation.model} {resolution} {tier} ({units})"


def _list_price_remark(reservation: Reservation, charge: Charge, table: PriceTable) -> str | None:
    """Returns a sentence if the list price of a charge is not that of the job; it changes no amount."""
    terms, listed = reservation.terms, charge.list_price
    if listed is None or charge.problem is not None or terms.minimum is not None:
        return None
    if listed.unit not in {terms.currency, CASH}:
        return None
    total = listed.amount
    for part in charge.parts:
        if part.unit not in {terms.currency, CASH} and part.amount:
            value = _list_value(part.unit, table)
            if value is None:
                return None
            total = add(total, multiply(part.amount, value))
    price = terms.expected if terms.list_total is None else terms.list_total
    if total == price:
        return None
    return (
        f"the list price in the response is {format_decimal(total)} {terms.currency}, but the list price in "
        f"the quote is {format_decimal(price)} {terms.currency}; the account may be in another currency, or "
        "the price may have changed"
    )


def _list_value(unit: str, table: PriceTable) -> Decimal | None:
    """Returns the published value of a unit; None if it is not known."""
    rates = table.rates if table.contract is None else table.contract.list_rates
    rate = next((rate for rate in rates.values() if rate.own_units and rate.own_unit == table.own_unit), None)
    if rate is not None and rate.own_units and unit in {table.own_unit, UNIT, VIDEO}:
        return divide(rate.unit_price, rate.own_units)
    return table.units.get(unit)
