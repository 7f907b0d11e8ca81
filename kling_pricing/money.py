"""Exact amounts of money: decimals that are never rounded implicitly.

All arithmetic on money uses this module's decimal contexts.
It does not depend on the caller's `decimal.getcontext()`, and it raises an error instead of rounding.
Floats are refused everywhere, because a float is already rounded when it arrives.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from decimal import (
    ROUND_CEILING,
    ROUND_DOWN,
    ROUND_HALF_UP,
    Context,
    Decimal,
    Inexact,
    InvalidOperation,
    Overflow,
)
from functools import lru_cache

from kling_pricing.errors import KlingPricingError

MAX_DECIMALS = 9
"""The maximum number of decimal places in a published price; the ledger counts in billionths."""

MAX_WHOLE_DIGITS = 12
"""The maximum number of digits before the decimal point in a published price."""

_EXACT = Context(prec=60, traps=[Inexact, InvalidOperation, Overflow])
_WIDE = Context(prec=60, traps=[InvalidOperation, Overflow])
_CURRENCY = r"[$\u20ac\u00a3\u00a5]|[A-Za-z]{3}"
_MEANT = re.compile(
    rf"\s*({_CURRENCY})?\s*(0|[1-9][0-9]*)(?:[.,]([0-9]{{1,2}}|[0-9]{{4,{MAX_DECIMALS}}}))?\s*({_CURRENCY})?\s*"
)
"""An amount as people write it. With three digits after a comma or point, it may be one of thousands."""

_PLAIN_NUMBER = re.compile(r"(0|[1-9][0-9]*)(\.[0-9]+)?")


def price_from_text(text: str) -> Decimal:
    """Reads a published price exactly.

    Args:
        text: plain decimal notation, such as `0.0714`, without sign, exponent, underscore or leading zeros.

    Returns:
        The exact number, with the digits as written.

    Raises:
        ValueError: the text is not in this notation, or the number has too many digits.
    """
    match = _PLAIN_NUMBER.fullmatch(text)
    if match is None:
        raise ValueError(_why_not_a_price(text))
    whole, fraction = match.groups()
    if fraction is not None and len(fraction) - 1 > MAX_DECIMALS:
        raise ValueError(
            f"{text} has {len(fraction) - 1} decimal places, but the maximum is {MAX_DECIMALS}; "
            "write the price as published"
        )
    if len(whole) > MAX_WHOLE_DIGITS:
        raise ValueError(
            f"the amount has {len(whole)} digits before the decimal point, "
            f"but the maximum is {MAX_WHOLE_DIGITS}; correct the amount"
        )
    return Decimal(text)


def _why_not_a_price(text: str) -> str:
    if text.strip().lower().lstrip("+-.") in {"nan", "snan", "inf", "infinity"}:
        return f"{text!r} is not a finite number; write an amount such as 0.0714"
    if text.startswith("-"):
        return f"{text!r} is negative; write zero or more"
    if (match := _MEANT.fullmatch(text)) is not None:
        before, whole, fraction, after = match.groups()
        currency = (before or after or "").strip()
        elsewhere = f", and give the currency {currency} in its own field or option" if currency else ""
        number = whole if fraction is None else f"{whole}.{fraction}"
        return f"{text!r} is not a plain decimal number; write {number}{elsewhere}"
    return (
        f"{text!r} is not a plain decimal number; write it with a decimal point and without a unit, "
        "such as 0.0714"
    )


multiply: Callable[[Decimal, Decimal | int], Decimal] = _EXACT.multiply
"""Returns the exact product; raises `decimal.Inexact` instead of rounding."""

add: Callable[[Decimal, Decimal], Decimal] = _EXACT.add
"""Returns the exact sum; raises `decimal.Inexact` instead of rounding."""

subtract: Callable[[Decimal, Decimal], Decimal] = _EXACT.subtract
"""Returns the exact difference; raises `decimal.Inexact` instead of rounding."""

divide: Callable[[Decimal, Decimal | int], Decimal] = _EXACT.divide
"""Returns the exact quotient; raises `decimal.Inexact` instead of rounding."""


def sum_of(amounts: Iterable[Decimal]) -> Decimal:
    """Returns the exact sum; raises `decimal.Inexact` instead of rounding."""
    total = Decimal(0)
    for amount in amounts:
        total = add(total, amount)
    return total


_ROUNDINGS = {"truncate": ROUND_DOWN, "nearest": ROUND_HALF_UP, "ceil": ROUND_CEILING}


def round_to(number: Decimal, step: int, rounding: str) -> Decimal:
    """Rounds a non-negative number to a multiple of `step` by `truncate`, `nearest` (half up) or `ceil`."""
    steps = _WIDE.divide(number, Decimal(step)).quantize(Decimal(1), _ROUNDINGS[rounding], _WIDE)
    return _EXACT.multiply(steps, step)


def round_money(amount: Decimal) -> Decimal:
    """Rounds an amount half up to `MAX_DECIMALS` decimal places; no other function rounds money."""
    return amount.quantize(Decimal(1).scaleb(-MAX_DECIMALS), ROUND_HALF_UP, _WIDE)


def exact_amount(amount: Decimal | int | str) -> Decimal:
    """Reads a caller's amount: a `Decimal`, a whole number, or text in plain decimal notation.

    Raises:
        KlingPricingError: the amount has another type (such as float), is negative, or has too many digits.
    """
    if type(amount) in {int, str, Decimal}:
        try:
            return price_from_text(format_decimal(amount) if isinstance(amount, Decimal) else str(amount))
        except ValueError as error:
            raise KlingPricingError(f"invalid amount: {error}") from None
    kind = type(amount).__name__
    raise KlingPricingError(
        f"invalid amount: pass a Decimal, a whole number, or text such as '0.714', not {kind}"
    )


NANOS = 10**9
"""Billionths (nanos) per unit of a currency; the ledger counts in nanos."""

MAX_NANOS = 4 * 10**18
"""The largest amount in a ledger, in nanos; the sum of two such amounts still fits into a 64-bit integer."""

MAX_AMOUNT = MAX_NANOS // NANOS
"""The largest amount in a ledger, in whole units of a currency."""


def nanos_up(amount: Decimal, step: int = 1) -> int:
    """Converts a non-negative amount to nanos, rounding up to a multiple of `step` nanos.

    Raises:
        KlingPricingError: the result is greater than `MAX_NANOS`.
    """
    return _nanos_up(amount, step)


@lru_cache(maxsize=4096, typed=True)  # prices recur; typed, because a float may equal a Decimal
def _nanos_up(amount: Decimal, step: int) -> int:
    steps = _WIDE.divide(_EXACT.multiply(amount, NANOS), Decimal(step))
    nanos = int(steps.quantize(Decimal(1), ROUND_CEILING, _WIDE)) * step
    if nanos > MAX_NANOS:
        raise KlingPricingError(f"{format_decimal(amount)} is more than a ledger can hold")
    return nanos


@lru_cache(maxsize=1024, typed=True)  # the same prices recur
def from_nanos(nanos: int) -> Decimal:
    """Converts nanos to the exact amount, without trailing zeros."""
    whole, rest = divmod(nanos, NANOS)
    return Decimal(whole) if not rest else Decimal(nanos).scaleb(-MAX_DECIMALS, _EXACT).normalize(_EXACT)


def percent_change(before: Decimal, after: Decimal) -> Decimal:
    """Returns a price change in percent, rounded half up to two decimal places, for display only."""
    percent = _WIDE.divide(_EXACT.multiply(_EXACT.subtract(after, before), 100), before)
    return percent.quantize(Decimal(1).scaleb(-2), ROUND_HALF_UP, _WIDE)


def format_decimal(number: Decimal) -> str:
    """Formats a number in plain decimal notation without trailing zeros: `0.714`, `10`, never `1E+1`."""
    text = str(number)
    if "E" in text:
        text = format(number, "f")
    return text.rstrip("0").rstrip(".") if text[-1] == "0" and "." in text else text


def ledger_amount(amount: Decimal | int | str) -> Decimal:
    """Reads a caller's amount that a ledger can hold.

    Raises:
        KlingPricingError: as for `exact_amount`, or the amount is too large for a ledger.
    """
    exact = exact_amount(amount)
    if exact > MAX_AMOUNT:
        raise KlingPricingError(
            f"invalid amount: {format_decimal(exact)} is too large; the maximum is {MAX_AMOUNT}"
        )
    return exact
