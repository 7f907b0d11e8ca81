"""Charges, written briefly."""

from decimal import Decimal

from kling_pricing.wire.charges import Charge, ChargePart


def part(amount: str, unit: str) -> ChargePart:
    """Returns a part of a charge."""
    return ChargePart(Decimal(amount), unit)


def charge(
    *parts: tuple[str, str], problem: str | None = None, list_price: tuple[str, str] | None = None
) -> Charge:
    """Returns a charge from the amount and the unit of each part."""
    return Charge(
        tuple(part(*text) for text in parts), problem, None if list_price is None else part(*list_price)
    )
