"""Replaces Python arguments in the library's messages with command-line options."""

from __future__ import annotations

import re
from functools import lru_cache

_OPTIONS = {
    "account": "--account",
    "allow_unknown": "--allow-unknown",
    "allow_weaker": "--allow-weaker",
    "amount": "--amount",
    "as_of": "--as-of",
    "at": "--at",
    "base_url": "--base-url",
    "basis": "--basis",
    "behind_proxy": "--behind-proxy",
    "book": "--tables",
    "budgets": "--budgets",
    "duration": "--duration",
    "key": "--key",
    "labels": "--label",
    "media": "--media",
    "orientation": "--orientation",
    "project": "--project",
    "provider": "--provider",
    "remove": "--remove",
    "resolution": "--resolution",
    "tls_cert": "--tls-cert",
    "tls_key": "--tls-key",
    "url": "--url",
    "wire_format": "--wire-format",
}
"""Argument of the library -> the corresponding command-line option."""

_NAMES = "|".join(_OPTIONS)
_ARGUMENT = re.compile(
    rf"`({_NAMES})(?:=[^`]*)?`|\b({_NAMES})=(?:True|False|None|\.\.\.)|\b(allow_unknown|base_url|wire_format)\b"
)


@lru_cache(maxsize=1024)  # the same notes recur
def with_options(text: str) -> str:
    """Returns a message from the library with command-line options in place of Python arguments."""
    return _ARGUMENT.sub(lambda match: _OPTIONS[match[match.lastindex or 0]], text)
