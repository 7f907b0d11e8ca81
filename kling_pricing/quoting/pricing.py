"""The price of a valid request by one table: the bill, or the range of bills if a fact is unknown."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from kling_pricing.display import joined_with_and, shown
from kling_pricing.errors import PriceNotFoundError
from kling_pricing.findings import Note
from kling_pricing.money import add, format_decimal, multiply
from kling_pricing.quoting.quote import LazyNotes, Quote, counted
from kling_pricing.tables.price_table import MAX_BILLS, PriceTable
from kling_pricing.tables.rates import ANY, Bill, Cell, Contract, LineItem, Quantity, Rate
from kling_pricing.wire.request import VideoRequest

_NO_UNITS, MAX_UNITS = Decimal(0), Decimal(10**6)
"""A quantity above `MAX_UNITS` is a mistake, whatever a table's limits say."""


_NO_NOTES = LazyNotes(tuple)


def price(table: PriceTable, request: VideoRequest, notes: LazyNotes = _NO_NOTES) -> Quote:
    """Prices a valid request with one table; the price is exactly unit price x quantity.

    Args:
        table: the table.
        request: the request.
        notes: the notes of the quote, without the one on a range.

    Raises:
        PriceNotFoundError: the table has no rate for the request's model, resolution and tier; the rate for
            another combination is never used.
    """
    if not request.open_facts and len(tiers := table.choose_tier(request.facts)) == 1:
        rate, lines, total, list_total = _bill(table, request, request.facts, tiers[0])
        return Quote(request, table, rate, lines, total, total, list_total, notes)
    return _range(table, request, notes)


def _range(table: PriceTable, request: VideoRequest, notes: LazyNotes) -> Quote:
    """Prices a request for every combination of values that its unknown facts may have."""
    bills = [bill for facts in _completions(request) for bill in _bills(table, request, facts)]
    if not bills:
        verb = "is" if len(request.open_facts) == 1 else "are"
        raise _not_priced(
            table, request, f"{joined_with_and(request.open_facts)} {verb} unknown{_remedy(request.open_facts)}"
        )
    rate, lines, highest, list_total = max(bills, key=lambda bill: bill.total)
    lowest = min(bill.total for bill in bills)
    if lowest != highest:
        notes = LazyNotes(_with_range_note, (notes, table, request))
    return Quote(request, table, rate, lines, lowest, highest, list_total, notes)


def _with_range_note(lazy: LazyNotes, table: PriceTable, request: VideoRequest) -> tuple[Note, ...]:
    unknown = _deciding_fields(table, request)
    verb = "is" if len(unknown) == 1 else "are"
    message = (
        f"the price depends on {joined_with_and(unknown)}, which {verb} unknown; "
        "the line items show the maximum"
    )
    return (*lazy.notes, Note("range", message))


def _remedy(unknown_facts: Iterable[str]) -> str:
    return "; pass the length of the video with `media`" if "video_length_s" in unknown_facts else ""


def _completions(request: VideoRequest) -> tuple[Mapping[str, Any], ...]:
    return request.completions if request.open_facts else (request.facts,)


def _bills(table: PriceTable, request: VideoRequest, facts: Mapping[str, Any]) -> list[Bill]:
    """Returns the bill in each tier that the facts allow; several only if the deciding fact is unknown."""
    return [_bill(table, request, facts, tier) for tier in table.choose_tier(facts)]


def _deciding_fields(table: PriceTable, request: VideoRequest) -> list[str]:
    """Returns the fields that make a quote a range: their values, all else being equal, change the price."""
    amounts = [
        (facts, {bill.total for bill in _bills(table, request, facts)}) for facts in _completions(request)
    ]
    deciding = []
    for fact in request.open_facts:
        totals_by_others: dict[tuple[Any, ...], set[Decimal]] = {}
        for facts, totals in amounts:
            others = tuple([facts[other] for other in request.open_facts if other != fact])
            totals_by_others.setdefault(others, set()).update(totals)
        if any(len(totals) > 1 for totals in totals_by_others.values()):
            deciding.append(fact)
    if not deciding:
        tiers = dict.fromkeys(tier for facts, _ in amounts for tier in table.choose_tier(facts))
        return [_named(request, fact) for fact in request.open_facts] or [f"the tier ({' or '.join(tiers)})"]
    return [_open_field(request, fact) for fact in deciding]


def _open_field(request: VideoRequest, fact: str) -> str:
    values = dict.fromkeys(reading[fact] for reading in request.readings)
    readings = " or ".join(shown(value) for value in values)
    return f"{request.field(fact)} (read as {readings})" if len(values) > 1 else _named(request, fact)


def _named(request: VideoRequest, fact: str) -> str:
    field = request.field(fact)
    return f"the length of the video in {field}" if fact == "video_length_s" else field


def _bill(table: PriceTable, request: VideoRequest, facts: Mapping[str, Any], tier: str) -> Bill:
    """Returns the bill for one tier, from the table's cache if possible.

    Tables have few rates and requests have few seconds, so the same bills recur.
    """
    (quantity,) = table.choose_quantity(facts)
    counted = facts[quantity.fact]
    if type(counted) is not int or quantity.added or quantity.floor:
        # unknown, or a video length to the millisecond, or one of several facts that are counted
        return _new_bill(table, request, facts, tier, quantity)
    # the table has the quantity as long as the cache, and its `id` is faster to look up than the quantity
    place = facts["model"], facts["resolution"], tier, id(quantity), counted
    bill = table.bills.get(place)
    if bill is None:
        bill = _new_bill(table, request, facts, tier, quantity)
        if len(table.bills) < MAX_BILLS:
            table.bills[place] = bill
    return bill


def _new_bill(
    table: PriceTable, request: VideoRequest, facts: Mapping[str, Any], tier: str, quantity: Quantity
) -> Bill:
    rate = table.rate_at.get((facts["model"], facts["resolution"] or ANY, tier))
    if rate is None:
        cell = Cell(facts["model"], facts["resolution"] or ANY, tier)
        raise _not_priced(table, request, table.why_unpriced(cell) or f"it lists no rate for {cell}")
    if unknown := [fact for fact in quantity.facts if facts[fact] is None]:
        raise _not_priced(table, request, f"{_named(request, unknown[0])} is unknown{_remedy(unknown[:1])}")
    units = quantity.of(facts)
    if not _NO_UNITS < units <= MAX_UNITS:
        raise _not_priced(table, request, f"cannot bill {counted(units, quantity.unit)}")
    amount = multiply(rate.unit_price, units)
    line = LineItem(rate.description, units, quantity.unit, rate.unit_price, amount)
    if table.contract is None:
        return Bill(rate, (line,), amount, None)
    return _contract_bill(table.contract, rate, line)


def _contract_bill(contract: Contract, rate: Rate, line: LineItem) -> Bill:
    """Returns the bill with the contract's discount as a separate line."""
    list_total = contract.list_total(rate.cell, line.quantity)
    if not contract.discount_of(rate.cell):
        return Bill(rate, (line,), line.amount, list_total)
    off = contract.taken_off(rate.cell, line.amount).copy_negate()
    percent = format_decimal(contract.percent)
    discount = LineItem(f"contract discount of {percent}%", Decimal(1), "discount", off, off)
    return Bill(rate, (line, discount), add(line.amount, off), list_total)


def _not_priced(table: PriceTable, request: VideoRequest, why: str) -> PriceNotFoundError:
    facts = request.facts
    units = table.choose_quantity(facts)
    unit = units[0].unit if units else "unit"
    same_model = sorted(
        (cell for cell in table.rates if cell.model == facts["model"]),
        key=lambda cell: cell.resolution != facts["resolution"],
    )
    priced = [
        f"{cell} at {format_decimal(table.rates[cell].unit_price)} {table.currency} per {unit}"
        for cell in same_model
    ]
    models = ", ".join(sorted(table.models))
    alternatives = f"available prices: {', '.join(priced)}" if priced else f"priced models: {models}"
    return PriceNotFoundError(
        f"{table.id} has no price for this request{request.assumption}: {why}; {alternatives}",
        provider=table.provider,
        model=facts["model"],
        priced_instead=priced,
    )
