"""How both stores write and read the charge of an observation. Pure."""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from kling_pricing.money import format_decimal
from kling_pricing.wire.charges import Charge, ChargePart


def written_charge(charge: Charge | None) -> str | None:
    """Returns a charge as a JSON object, the same text for the same charge; None: there is no charge.

    `parts` is a list of amount and unit, as text; `problem` and `list_price` are left out if there is none.
    """
    if charge is None:
        return None
    tree: dict[str, Any] = {"parts": [_written(part) for part in charge.parts]}
    if charge.problem is not None:
        tree["problem"] = charge.problem
    if charge.list_price is not None:
        tree["list_price"] = _written(charge.list_price)
    return json.dumps(tree, sort_keys=True, separators=(",", ":"))


def read_charge(written: str | Mapping[str, Any] | None) -> Charge | None:
    """Returns a written charge, from its text or as the server's driver reads it."""
    if written is None:
        return None
    tree = json.loads(written) if isinstance(written, str) else written
    list_price = tree.get("list_price")
    return Charge(
        tuple(map(_read, tree["parts"])), tree.get("problem"), None if list_price is None else _read(list_price)
    )


def _written(part: ChargePart) -> list[str]:
    return [format_decimal(part.amount), part.unit]


def _read(part: list[str]) -> ChargePart:
    amount, unit = part
    return ChargePart(Decimal(amount), unit)
