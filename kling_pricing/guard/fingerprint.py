"""The fingerprint of a request: a digest that identifies the request without revealing its content."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from kling_pricing.errors import WireFormatError

_ADDRESSED = ("callback", "webhook")
"""Prefixes of fields that contain callback addresses and do not affect the video."""


def fingerprint(payload: Mapping[str, Any], provider: str, wire_format: str, urls: Iterable[str] = ()) -> str:
    """Returns the SHA-256 digest, in hexadecimal, of a payload for a provider.

    The digest ignores callbacks, and the query strings of file URLs, which contain signatures that expire. A
    job that is submitted again with a new signature therefore has the same digest. The order of fields does not
    matter.

    Raises:
        WireFormatError: the payload contains a value that JSON cannot represent.
    """
    parts = [provider, wire_format, _without_addresses(payload, frozenset(urls))]
    try:
        text = _text(parts)
    except (TypeError, ValueError):
        raise WireFormatError("the payload contains a value that is not JSON; use plain JSON data") from None
    return hashlib.sha256(text.encode()).hexdigest()


def _plain(value: Any) -> str:
    if isinstance(value, Decimal):
        return str(value)
    raise TypeError


_text = json.JSONEncoder(sort_keys=True, allow_nan=False, default=_plain).encode


def _without_addresses(value: Any, urls: frozenset[str]) -> Any:
    if isinstance(value, str):  # most values, so it comes first
        return value.partition("?")[0] if value in urls else value
    if isinstance(value, Mapping):
        return {
            str(name): _without_addresses(item, urls)
            for name, item in value.items()
            if item is not None and not str(name).startswith(_ADDRESSED)
        }
    if isinstance(value, list | tuple):
        return [_without_addresses(item, urls) for item in value]
    return value
