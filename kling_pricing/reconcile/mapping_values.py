"""The values that a mapping may have: units, offsets from UTC, formats of times, and distinct names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Annotated, Any, Literal, TypeAlias

from pydantic import BeforeValidator, Field, WithJsonSchema

from kling_pricing.money import MAX_DECIMALS
from kling_pricing.wire.fields import folded

State: TypeAlias = Literal["queued", "processing", "succeeded", "failed", "cancelled"]

_UNIT = re.compile(r"[A-Z]{3}|[a-z][a-z_]{0,19}")
_OFFSET = re.compile(r"[+-](0[0-9]|1[0-4]):[0-5][0-9]")
_PATTERN_NEEDS = ("%Y", "%m", "%d")
ISO, UNIX, MS = "iso", "unix", "ms"


def _unit(value: Any) -> str:
    if isinstance(value, str) and _UNIT.fullmatch(value):
        return value
    raise ValueError(
        "must be a currency code of three capital letters, or the provider's own unit in lower case"
    )


def _offset(value: Any) -> str:
    if isinstance(value, str) and _OFFSET.fullmatch(value):
        return value
    raise ValueError('must be an offset from UTC in hours and minutes, such as "+08:00"')


def _time_format(value: str) -> str:
    if value in {ISO, UNIX, MS}:
        return value
    missing = [part for part in _PATTERN_NEEDS if part not in value]
    if missing or "%z" in value or "%Z" in value:
        raise ValueError(
            "must be iso, unix, ms, or a pattern such as %d/%m/%Y %H:%M with a day, a month and a four-digit "
            "year, and without a zone (use `offset` for the zone)"
        )
    moment = datetime(2026, 11, 21)  # noqa: DTZ001 (only to test the pattern)
    try:
        datetime.strptime(moment.strftime(value), value)  # noqa: DTZ007
    except (ValueError, re.error):
        raise ValueError(f"{value!r} cannot be used to read times; correct the pattern") from None
    return value


def time_formats(value: Any) -> tuple[str, ...]:
    """Returns the formats of times, given as one text or as a list."""
    formats = value if isinstance(value, list) else [value]
    if not formats or not all(isinstance(entry, str) and entry for entry in formats):
        raise ValueError("must be text or a list of text values")
    return tuple(_time_format(entry) for entry in formats)


def distinct(names: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns names that differ in more than their case."""
    seen: dict[str, str] = {}
    for name in names:
        other = seen.setdefault(folded(name), name)
        if other != name:
            raise ValueError(f"{other!r} and {name!r} differ only in case, and case is ignored; keep only one")
    return names


Unit: TypeAlias = Annotated[
    str, BeforeValidator(_unit), WithJsonSchema({"type": "string", "pattern": f"^({_UNIT.pattern})$"})
]
Offset: TypeAlias = Annotated[
    str, BeforeValidator(_offset), WithJsonSchema({"type": "string", "pattern": f"^{_OFFSET.pattern}$"})
]
Decimals: TypeAlias = Annotated[int, Field(ge=0, le=MAX_DECIMALS)]
