"""Charges in the responses of an API: units of a pack, or money."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from kling_pricing.errors import WireFormatError
from kling_pricing.money import add
from kling_pricing.wire.task import read_number, read_text

_CURRENCY = re.compile(r"[A-Za-z]{3}")


def read_charge(data: Mapping[str, Any], wire_format: str) -> tuple[Decimal | None, str]:
    """Returns the charge of a task and its unit: `final_unit_deduction`, or the sum of the parts in `billing`.

    Raises:
        WireFormatError: the charge cannot be read, or has entries that do not add up.
    """
    entries = data.get("billing") or []
    if not isinstance(entries, list | tuple) or not all(isinstance(entry, Mapping) for entry in entries):
        raise WireFormatError("billing must be a list of objects", wire_format=wire_format, field="billing")
    if not entries:
        return read_number(data.get("final_unit_deduction"), "final_unit_deduction", wire_format), "unit"
    units = {
        _unit(read_text(entry.get("currency"), f"billing[{index}].currency", wire_format))
        for index, entry in enumerate(entries)
    }
    if len(units) > 1:
        raise WireFormatError(
            f"billing has entries in {' and '.join(sorted(units))}, which do not add up to one amount; "
            "reconcile this task from the statement",
            wire_format=wire_format,
            field="billing",
        )
    amounts = [
        read_number(entry.get("amount"), f"billing[{index}].amount", wire_format)
        for index, entry in enumerate(entries)
    ]
    return exact_sum(amounts), units.pop()


def _unit(currency: str | None) -> str:
    """Returns the ISO 4217 code of a currency in capitals; without a currency, the charge is in units."""
    if currency is None:
        return "unit"
    return currency.upper() if _CURRENCY.fullmatch(currency) else currency


def exact_sum(amounts: Sequence[Decimal | None]) -> Decimal | None:
    """Returns the exact sum; None if there are no amounts, or any amount is unknown."""
    total: Decimal | None = None
    for amount in amounts:
        if amount is None:
            return None
        total = amount if total is None else add(total, amount)
    return total
