"""The names of receivers of alerts in a budgets file. A name says where the receiver's URL is."""

from __future__ import annotations

import re
from typing import Annotated, Any, TypeAlias

from pydantic import BeforeValidator

from kling_pricing.display import shown

_RECEIVER = re.compile(r"env:[A-Za-z_][A-Za-z0-9_]{0,99}|file:(?!.*://)[^\x00-\x1f\x7f-\x9f]{1,195}")


def is_receiver_name(name: str) -> bool:
    """Returns whether a text is the name of a receiver: `env:NAME` or `file:PATH`."""
    return _RECEIVER.fullmatch(name) is not None


def _receivers(value: Any) -> tuple[str, ...]:
    """Checks names of receivers, and sorts them, because their order has no meaning.

    An error does not repeat a name that may be a URL, because URLs may contain passwords.
    """
    if not isinstance(value, list | tuple):
        raise ValueError("must be a list, such as [env:ALERTS_URL]")  # noqa: TRY004 (pydantic catches it)
    for name in value:
        if isinstance(name, str) and is_receiver_name(name):
            continue
        if isinstance(name, str) and ":/" in name:
            raise ValueError(
                "a receiver's URL may contain a password, and the ledger would keep it; store the URL in an "
                "environment variable or a file, and write env:NAME or file:PATH"
            )
        raise ValueError(
            "each receiver must be env:NAME or file:PATH, the environment variable or the file that contains "
            "its URL, such as env:ALERTS_URL"
        )
    if twice := next((name for name in value if value.count(name) > 1), None):
        raise ValueError(f"{shown(twice)} is listed twice; keep one of them")
    return tuple(sorted(value))


ReceiverNames: TypeAlias = Annotated[tuple[str, ...], BeforeValidator(_receivers)]
"""A list of names of receivers."""
