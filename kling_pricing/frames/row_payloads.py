"""A row of a data frame as a payload."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any


def payload_of(row: Mapping[str, Any], constants: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the payload of a row: names with dots are fields inside objects, and missing values are left out.

    A whole number that a frame stores as a float or a decimal, as pandas does in a column with gaps, is whole
    again.

    Args:
        row: field -> value.
        constants: field -> value, in every payload.
    """
    payload: dict[str, Any] = {}
    for name, value in {**constants, **row}.items():
        known = plain(value)
        if known is None:
            continue
        *parents, last = name.split(".")
        place = payload
        for parent in parents:
            place = place.setdefault(parent, {})
        place[last] = known
    return payload


def plain(value: Any) -> Any:
    """Returns a value as JSON has it: numbers, text and lists of Python. None: it is missing."""
    if value is None or isinstance(value, str | bool):
        return value
    if hasattr(value, "tolist"):  # a number or an array of numpy
        value = value.tolist()
    if isinstance(value, float | Decimal):
        if value != value:  # noqa: PLR0124 (true of NaN alone)
            return None
        is_whole = value.is_integer() if isinstance(value, float) else value == value.to_integral_value()
        return int(value) if is_whole else value
    if isinstance(value, Mapping):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    return value
