"""The decimals in which accounts of a currency are kept, from ISO 4217."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Context, Decimal

_USUAL = 2
_DECIMALS = (
    dict.fromkeys(
        (
            *("BIF", "CLP", "DJF", "GNF", "ISK", "JPY", "KMF", "KRW", "PYG", "RWF", "UGX", "UYI", "VND"),
            *("VUV", "XAF", "XOF", "XPF"),
        ),
        0,
    )
    | dict.fromkeys(("BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"), 3)
    | dict.fromkeys(("CLF", "UYW"), 4)
)
"""Currency -> its decimals, where they are not two."""

_WIDE = Context(prec=60)


def decimals_of_currency(currency: str) -> int:
    """Returns the number of decimals of a currency, such as 2 for USD and 0 for JPY."""
    return _DECIMALS.get(currency, _USUAL)


def cents(amount: Decimal, currency: str) -> Decimal:
    """Rounds an amount half up, away from zero, to the decimals of its currency."""
    return amount.quantize(Decimal(1).scaleb(-decimals_of_currency(currency)), ROUND_HALF_UP, _WIDE)
