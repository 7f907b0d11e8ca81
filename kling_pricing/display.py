"""How a caller's value is shown in a sentence, and how a finding carries it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from difflib import get_close_matches
from math import isfinite
from typing import Any

MAX_SHOWN_CHARS = 80


_MAX_SHOWN_NUMBER = 10**20


def reportable(value: Any) -> Any:
    """A caller's value as a finding carries it: long text cut, huge numbers and objects only named."""
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
    """A caller's value for a sentence: on one line, printable, and no longer than the sentence bears."""
    value = reportable(value)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return value if value.isprintable() and value.isascii() and value else ascii(value)
    return "null" if value is None else str(value)


def json_kind(value: Any) -> str:
    """What JSON calls the kind of a value."""
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


def closest(word: str, known: Iterable[str]) -> str | None:
    """Returns the known word that is most like a word; None: none is like it."""
    return next(iter(get_close_matches(word, list(known), n=1)), None)


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Suggests the known word that was probably meant; lists all known words if none is like it."""
    known = list(known)
    suggested = closest(word, known)
    return f"known here: {', '.join(known)}" if suggested is None else f"did you mean {suggested!r}?"


def with_article(noun: str) -> str:
    """Returns a noun with its indefinite article: `an image2video`, `a reference`."""
    return f"{'an' if noun[:1] in 'aeiou' else 'a'} {noun}"
