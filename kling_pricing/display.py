"""Formats values from callers for messages and findings."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from math import isfinite
from typing import Any

MAX_SHOWN_CHARS = 80
_MAX_SHOWN_NUMBER = 10**20


def reportable(value: Any) -> Any:
    """Returns a value for a finding: cuts long text, and replaces huge numbers and objects by their kind."""
    if isinstance(value, str):
        return value if len(value) <= MAX_SHOWN_CHARS else f"{value[:MAX_SHOWN_CHARS]}..."
    if isinstance(value, int) and not -_MAX_SHOWN_NUMBER < value < _MAX_SHOWN_NUMBER:
        return "a very large number"
    if isinstance(value, float) and not isfinite(value):
        return str(value)
    if value is None or isinstance(value, bool | int | float | Decimal):
        return value
    return json_kind(value)


def shown(value: Any) -> str:
    """Formats a value for a sentence: short, printable, and on one line."""
    value = reportable(value)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return value if value.isprintable() and value.isascii() and value else ascii(value)
    return "null" if value is None else str(value)


def json_kind(value: Any) -> str:
    """Names the JSON type of a value."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true or false"
    kinds = {
        str: "text",
        int: "a number",
        float: "a number",
        Mapping: "an object",
        list: "a list",
        tuple: "a list",
    }
    return next((name for kind, name in kinds.items() if isinstance(value, kind)), type(value).__name__)
