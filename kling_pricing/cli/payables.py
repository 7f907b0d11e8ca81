"""How commands show the amounts to pay, in dispute and to accrue."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from kling_pricing.money import format_decimal

if TYPE_CHECKING:
    from kling_pricing.reconcile import Payable

_AMOUNTS = ("invoiced", "pay", "disputed", "disputed_before", "accrue")


def payables_as_dicts(payables: Iterable[Payable]) -> list[dict[str, str]]:
    """Returns the amounts as JSON-ready data; amounts are text."""
    return [
        {"currency": payable.currency} | {name: format_decimal(getattr(payable, name)) for name in _AMOUNTS}
        for payable in payables
    ]


def payable_text(payable: dict[str, Any]) -> str:
    """Returns the amounts of a currency, as `payables_as_dicts` returns them, as a clause."""
    before = payable["disputed_before"]
    earlier = "" if before == "0" else f" ({before} at the start of the period)"
    return (
        f"pay {payable['pay']} {payable['currency']}, in dispute {payable['disputed']}{earlier}, "
        f"accrue {payable['accrue']}"
    )
