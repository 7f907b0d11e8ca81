"""What makes two submissions the same request: a digest, from which nothing of the request can be read back."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any

from kling_pricing.errors import WireFormatError

_ADDRESSED = ("callback", "webhook")
"""Fields whose names begin so say where to report to, not what to make."""


def fingerprint(payload: Mapping[str, Any], provider: str, wire_format: str, urls: Iterable[str] = ()) -> str:
    """SHA-256, in hexadecimal, of a payload for a provider.

    Callbacks are left out, and the query strings of the files' URLs, which sign and expire: the same job
    submitted again with a fresh signature is the same job. The order of fields does not matter.

    Raises:
        WireFormatError: the payload holds what JSON does not.
    """
    parts = [provider, wire_format, _without_addresses(payload, frozenset(urls))]
    try:
        text = json.dumps(parts, sort_keys=True, allow_nan=False, default=_plain)
    except (TypeError, ValueError):
        raise WireFormatError("the payload holds something that is not JSON; make it plain data") from None
    return hashlib.sha256(text.encode()).hexdigest()


def _without_addresses(value: Any, urls: frozenset[str]) -> Any:
    if isinstance(value, Mapping):
        return {
            str(name): _without_addresses(each, urls)
            for name, each in value.items()
            if each is not None and not str(name).startswith(_ADDRESSED)
        }
    if isinstance(value, list | tuple):
        return [_without_addresses(each, urls) for each in value]
    return value.partition("?")[0] if isinstance(value, str) and value in urls else value


def _plain(value: Any) -> str:
    if isinstance(value, Decimal):
        return str(value)
    raise TypeError
