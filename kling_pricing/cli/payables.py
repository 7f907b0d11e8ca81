"""How commands show the amounts to pay, in dispute and to accrue."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from kling_pricing.display import joined_with_and
from kling_pricing.money import format_decimal

if TYPE_CHECKING:
    from kling_pricing.reconcile import Payable
    from kling_pricing.reconcile.model import AccruedMonth

_AMOUNTS = ("invoiced", "pay", "disputed", "disputed_before", "accrue")


def payables_as_dicts(payables: Iterable[Payable], accrued: Sequence[AccruedMonth]) -> list[dict[str, Any]]:
    """Returns the amounts as JSON-ready data; amounts are text.

    Args:
        payables: the amounts by currency.
        accrued: the parts of the amounts to accrue.
    """
    return [
        {"currency": payable.currency}
        | {name: format_decimal(getattr(payable, name)) for name in _AMOUNTS}
        | {
            "accrued_months": [
                {"month": part.month, "amount": format_decimal(part.amount), "tasks": part.tasks}
                for part in accrued
                if part.currency == payable.currency
            ]
        }
        for payable in payables
    ]


def payable_text(payable: dict[str, Any]) -> str:
    """Returns the amounts of a currency, as `payables_as_dicts` returns them, as a clause."""
    before = payable["disputed_before"]
    earlier = "" if before == "0" else f" ({before} at the start of the period)"
    parts = [f"{part['amount']} of {part['month']}" for part in payable["accrued_months"]]
    months = f" ({joined_with_and(parts)})" if parts else ""
    return (
        f"pay {payable['pay']} {payable['currency']}, in dispute {payable['disputed']}{earlier}, "
        f"accrue {payable['accrue']}{months}"
    )
