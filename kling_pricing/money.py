"""Exact amounts: decimals that are never rounded behind anybody's back.

All arithmetic on money goes through this module's own decimal context.
It does not depend on the caller's `decimal.getcontext()`, and it raises instead of rounding.
Floats are refused everywhere: a float is already rounded when it arrives.
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
"""Digits after the point that a published price may have: the ledger counts in billionths."""

MAX_WHOLE_DIGITS = 12
"""Digits before the point that a published price may have."""

_EXACT = Context(prec=60, traps=[Inexact, InvalidOperation, Overflow])
_WIDE = Context(prec=60, traps=[InvalidOperation, Overflow])
_PLAIN_NUMBER = re.compile(r"(0|[1-9][0-9]*)(\.[0-9]+)?")


def price_from_text(text: str) -> Decimal:
    """Reads a published price exactly.

    Args:
        text: plain decimal notation, such as `0.0714`: no sign, exponent, underscore or leading zero.

    Returns:
        The exact number, with the digits that were written.

    Raises:
        ValueError: the text is not such a number, or has more than `MAX_DECIMALS` decimals; the message says
            which.
    """
    match = _PLAIN_NUMBER.fullmatch(text)
    if match is None:
        raise ValueError(_why_not_a_price(text))
    whole, fraction = match.groups()
    if fraction is not None and len(fraction) - 1 > MAX_DECIMALS:
        raise ValueError(
            f"{text} has {len(fraction) - 1} decimals, at most {MAX_DECIMALS} are kept; "
            "write the price as it was published"
        )
    if len(whole) > MAX_WHOLE_DIGITS:
        raise ValueError(f"a price of {len(whole)} digits before the point is not believable; check the number")
    return Decimal(text)


def _why_not_a_price(text: str) -> str:
    if text.strip().lower().lstrip("+-.") in {"nan", "snan", "inf", "infinity"}:
        return f"{text!r} is not a finite number; write an amount such as 0.0714"
    if text.startswith("-"):
        return f"{text!r} is negative; a price is zero or more"
    return f"{text!r} is not a plain decimal number; write it without a unit, such as 0.0714"


multiply: Callable[[Decimal, Decimal | int], Decimal] = _EXACT.multiply
"""The exact product; raises `decimal.Inexact` rather than round."""

add: Callable[[Decimal, Decimal], Decimal] = _EXACT.add
"""The exact sum; raises `decimal.Inexact` rather than round."""

subtract: Callable[[Decimal, Decimal], Decimal] = _EXACT.subtract
"""The exact difference; raises `decimal.Inexact` rather than round."""

divide: Callable[[Decimal, Decimal | int], Decimal] = _EXACT.divide
"""The exact quotient; raises `decimal.Inexact` rather than round."""


def sum_of(amounts: Iterable[Decimal]) -> Decimal:
    """The exact sum; raises `decimal.Inexact` rather than round."""
    total = Decimal(0)
    for amount in amounts:
        total = add(total, amount)
    return total


_ROUNDINGS = {"truncate": ROUND_DOWN, "nearest": ROUND_HALF_UP, "ceil": ROUND_CEILING}


def round_to(number: Decimal, step: int, rounding: str) -> Decimal:
    """A number that is not negative, made a multiple of `step`: `truncate`, `nearest` (half up) or `ceil`."""
    steps = _WIDE.divide(number, Decimal(step)).quantize(Decimal(1), _ROUNDINGS[rounding], _WIDE)
    return _EXACT.multiply(steps, step)


def round_money(amount: Decimal) -> Decimal:
    """An amount with at most `MAX_DECIMALS` decimals, half up: the only rounding of money there is."""
    return amount.quantize(Decimal(1).scaleb(-MAX_DECIMALS), ROUND_HALF_UP, _WIDE)


def exact_amount(amount: Decimal | int | str) -> Decimal:
    """An amount that a caller gives: a `Decimal`, a whole number, or text in plain decimal notation.

    Raises:
        KlingPricingError: it is something else, such as a float, negative, or too long to be counted.
    """
    if type(amount) in {int, str, Decimal}:
        try:
            return price_from_text(format_decimal(amount) if isinstance(amount, Decimal) else str(amount))
        except ValueError as error:
            raise KlingPricingError(f"an amount of money: {error}") from None
    raise KlingPricingError(
        f"an amount of money is a Decimal, a whole number or text such as '0.714', got {type(amount).__name__}"
    )


NANOS = 10**9
"""Nanos in one unit of a currency: the ledger counts in these."""

MAX_NANOS = 4 * 10**18
"""The largest amount a ledger takes; two of them still fit the 64 bits of a database's integer."""


def nanos_up(amount: Decimal, step: int = 1) -> int:
    """An amount that is not negative as integer nanos, rounded up to a multiple of `step` nanos.

    Raises:
        KlingPricingError: it is more than `MAX_NANOS`.
    """
    return _nanos_up(amount, step)


@lru_cache(maxsize=4096, typed=True)  # prices recur; a float is equal to a decimal, and none
def _nanos_up(amount: Decimal, step: int) -> int:
    steps = _WIDE.divide(_EXACT.multiply(amount, NANOS), Decimal(step))
    nanos = int(steps.quantize(Decimal(1), ROUND_CEILING, _WIDE)) * step
    if nanos > MAX_NANOS:
        raise KlingPricingError(f"{format_decimal(amount)} is more than a ledger can hold")
    return nanos


@lru_cache(maxsize=1024, typed=True)  # the same prices come again and again
def from_nanos(nanos: int) -> Decimal:
    """The exact amount of some nanos, without needless zeros behind the point."""
    whole, rest = divmod(nanos, NANOS)
    return Decimal(whole) if not rest else Decimal(nanos).scaleb(-MAX_DECIMALS, _EXACT).normalize(_EXACT)


def percent_change(before: Decimal, after: Decimal) -> Decimal:
    """By how many percent a price changed, with two decimals, half up: for showing, never for billing."""
    percent = _WIDE.divide(_EXACT.multiply(_EXACT.subtract(after, before), 100), before)
    return percent.quantize(Decimal(1).scaleb(-2), ROUND_HALF_UP, _WIDE)


def format_decimal(number: Decimal) -> str:
    """The number in plain decimal notation without needless zeros: `0.714`, `10`, never `1E+1`."""
    text = str(number)
    if "E" in text:
        text = format(number, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def ledger_amount(amount: Decimal | int | str) -> Decimal:
    """An amount that a ledger can hold.

    Raises:
        KlingPricingError: it is none.
    """
    exact = exact_amount(amount)
    if exact > MAX_NANOS // NANOS:
        most = format_decimal(Decimal(MAX_NANOS // NANOS))
        raise KlingPricingError(f"an amount of money: {format_decimal(exact)} is too large; the most is {most}")
    return exact
