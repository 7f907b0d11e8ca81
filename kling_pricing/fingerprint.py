"""What makes two submissions the same request: a digest, from which nothing of the request can be read back."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

_ADDRESSED = ("callback", "webhook")
"""Fields whose names begin so say where to report to, not what to make."""


def fingerprint(payload: Mapping[str, Any], provider: str, wire_format: str) -> str:
    """SHA-256, in hexadecimal, of a payload for a provider.

    Callbacks are left out, and the query strings of URLs, which sign and expire: the same job submitted again
    with a fresh signature is the same job. The order of fields does not matter.
    """
    parts = [provider, wire_format, _without_addresses(payload)]
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def _without_addresses(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {
            str(name): _without_addresses(each)
            for name, each in value.items()
            if each is not None and not str(name).startswith(_ADDRESSED)
        }
    if isinstance(value, list | tuple):
        return [_without_addresses(each) for each in value]
    if isinstance(value, str) and value.startswith(("http://", "https://")):
        return _without_query(value)
    return value


def _without_query(url: str) -> str:
    try:
        parts = urlsplit(url)
    except ValueError:
        return url
    return f"{parts.scheme}://{parts.netloc}{parts.path}"
