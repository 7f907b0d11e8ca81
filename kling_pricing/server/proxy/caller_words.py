"""The words of a refusal for callers of the proxy, who have neither Python nor a shell with the ledger."""

from __future__ import annotations

import re

from kling_pricing.server.access import LABELS_HEADER

_WORDS = (
    (re.compile(rb"with `labels`"), f"in the header {LABELS_HEADER}".encode()),
    (
        re.compile(rb"run `kling-pricing budget ask [^`]*`"),
        b"use the page Calculator of this server, or POST /api/v1/allowance-requests",
    ),
)
"""What an error says for Python or for the command -> what a caller of the proxy can do."""


def for_callers(body: bytes) -> bytes:
    """Returns the body of a refusal with remedies that a caller of the proxy can follow."""
    for words, instead in _WORDS:
        body = words.sub(instead, body)
    return body
