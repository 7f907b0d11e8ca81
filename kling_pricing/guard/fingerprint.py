"""The fingerprint of a request: a digest that identifies it and reveals nothing of it."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from kling_pricing.errors import WireFormatError

_ADDRESSED = ("callback", "webhook")
"""Prefixes of the fields that say where to report to, not what to make."""


def fingerprint(payload: Mapping[str, Any], provider: str, wire_format: str, urls: Iterable[str] = ()) -> str:
    """Returns the SHA-256, in hexadecimal, of a payload for a provider.

    Callbacks are left out, and so are the query strings of the files' URLs, which sign and expire. So a job
    that is submitted again with a fresh signature is the same job. The order of fields does not matter.

    Raises:
        WireFormatError: the payload holds a value that JSON does not have.
    """
    parts = [provider, wire_format, _without_addresses(payload, frozenset(urls))]
    try:
        text = json.dumps(parts, sort_keys=True, allow_nan=False, default=_plain)
    except (TypeError, ValueError):
        raise WireFormatError("the payload holds a value that is not JSON; use plain JSON data") from None
    return hashlib.sha256(text.encode()).hexdigest()


def _without_addresses(value: Any, urls: frozenset[str]) -> Any:
    if isinstance(value, Mapping):
        return {
            str(name): _without_addresses(item, urls)
            for name, item in value.items()
            if item is not None and not str(name).startswith(_ADDRESSED)
        }
    if isinstance(value, list | tuple):
        return [_without_addresses(item, urls) for item in value]
    return value.partition("?")[0] if isinstance(value, str) and value in urls else value


def _plain(value: Any) -> str:
    if isinstance(value, Decimal):
        return str(value)
    raise TypeError
