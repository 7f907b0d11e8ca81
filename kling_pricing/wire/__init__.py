"""Wire formats: the JSON shape an API speaks, one file each.

A wire format reads what a payload says.
It knows no model names, no defaults, no limits and no prices: those are data in `pricing_tables/`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import import_module
from typing import Any, Protocol, cast

from kling_pricing.errors import WireFormatError
from kling_pricing.request import Said

NAMES = ("tasks",)
"""Every wire format, by the name of its file here."""


class WireFormat(Protocol):
    """What each file in this folder offers."""

    FIELD_NAMES: Mapping[str, str]
    """Input -> the wire field that says it."""

    def parse(self, payload: Mapping[str, Any], *, allow_unknown: bool = False) -> Said:
        """Reads what a payload says, and leaves the payload as it is.

        Raises:
            WireFormatError: a field is unknown (unless `allow_unknown`) or has a value of another type; it
                carries one violation for every such field.
        """


@cache
def wire_format(name: str) -> WireFormat:
    """The wire format of that name; its file is imported when it is first needed.

    Raises:
        WireFormatError: there is none.
    """
    if name not in NAMES:
        raise WireFormatError(f"unknown wire format {name!r}; known: {', '.join(NAMES)}", wire_format=name)
    return cast("WireFormat", import_module(f"kling_pricing.wire.{name}"))
