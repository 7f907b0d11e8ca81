"""Formats values from callers for messages and findings."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from decimal import Decimal
from difflib import get_close_matches
from math import isfinite
from typing import Any, Literal

MAX_SHOWN_CHARS = 80
_MAX_SHOWN_NUMBER = 10**20

_FORMULA = re.compile(r"(\A(?=[\t\r\n])|(?:\A|[;\t\r\n])(?=[^\S\t\r\n]*[=+\-@\uff1d\uff0b\uff0d\uff20']))")
"""Each place where a spreadsheet could see the start of a formula, in normal or full width, or an apostrophe.

Such a place is the start of a text, or follows a character that ends a cell in some spreadsheets."""


def reportable(value: Any) -> Any:
    """Returns a value for a finding: shortens long text, and describes huge numbers and objects in words."""
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


_UNPRINTABLE = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)
"""Control characters, line breaks other than a line feed, marks of the writing direction, and surrogates.

A terminal obeys them instead of showing them. A line feed and a tab are not among them.
"""


def printable(text: str) -> str:
    """Returns a text for a terminal: control characters are shown as escapes, as in JSON.

    The text of a JSON document still means the same.
    """
    if text.isprintable():  # the usual case
        return text
    return _UNPRINTABLE.sub(lambda match: f"\\u{ord(match[0]):04x}", text)


def not_installed(feature: str, module: str, extra: str) -> str:
    """Returns the message that a feature needs an optional package, with the command that installs it."""
    return f"{feature} needs {module}, which is not installed; run `pip install 'kling-pricing[{extra}]'`"


_NOT_SHOWN = "[...]"
_ADDRESS = re.compile(r"\S*(?:://|www\.)\S*")
_NAMED = re.compile(
    r"(?i)("
    r"\b(?:[a-z]+[-_ ])*(?:api[-_ ]?key|secret|passw(?:or)?d|pwd|authorization|credentials?)[\"']?\s*[=:]\s*"
    r"|\b(?:[a-z]+[-_])*(?:key|token|signature|sig)(?:[\"']\s*:\s*|[\"']?\s*=\s*|:(?=\S))"
    r")(?:\"[^\"]*\"?|'[^']*'?|(?:(?:bearer|basic)\s+)?[^\s&;,)}\]]+)"
)
"""A value that a name before it marks as a secret, however short it is: `key=...`, `"token": "..."`."""
_KEYS = {
    "name": re.compile(r"\b[sap]k[-_](?=[A-Za-z_-]*[0-9])[A-Za-z0-9_-]{16,}"),
    "sentence": re.compile(r"(?i:bearer\s+\S+)|\b(?:sk|pk|ak|key)[-_][A-Za-z0-9_-]{12,}"),
    "foreign": re.compile(r"(?i:bearer\s+\S+)|\b[A-Za-z0-9_.-]{24,}\b|\b(?:sk|pk|ak|key)[-_][A-Za-z0-9_-]{6,}"),
}


def without_secrets(text: str, kind: Literal["name", "sentence", "foreign"]) -> str:
    """Replaces every web address and everything that looks like an API key in a text with `[...]`.

    In a `name`, only certain keys are replaced, because a project or a task may have a long name.
    In a `sentence`, everything that looks like a key is replaced. In a `foreign` text, such as an error message
    from another program, every long run of letters and digits is replaced too, and so is every value that is
    called a key, a token, a password or the like.
    """
    if "://" in text or "www." in text:
        text = _ADDRESS.sub(_NOT_SHOWN, text)
    if kind == "foreign":
        text = _NAMED.sub(rf"\1{_NOT_SHOWN}", text)
    return _KEYS[kind].sub(_NOT_SHOWN, text)


def json_kind(value: Any) -> str:
    """Describes the JSON type of a value."""
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


def joined_with_or(words: Iterable[str]) -> str:
    """Returns the words as a choice in a sentence: `720p, 1080p or 4k`."""
    *first, last = words
    return f"{', '.join(first)} or {last}" if first else last


def joined_with_and(words: Iterable[str]) -> str:
    """Returns the words as a list in a sentence: `size, type and length`."""
    *first, last = words
    return f"{', '.join(first)} and {last}" if first else last


def with_article(noun: str) -> str:
    """Returns a noun with its indefinite article: `an image2video`, `a reference`."""
    return f"{'an' if noun[:1] in 'aeiou' else 'a'} {noun}"


def nearest(word: str, known: Iterable[str], *, cutoff_percent: int = 60) -> str | None:
    """Returns the known word that is closest to a misspelled one, ignoring case; None if none is close.

    Of known words that differ only in case, the function returns the first. Words are close if `difflib` gives
    them a ratio of at least `cutoff_percent` percent.
    """
    spelling: dict[str, str] = {}
    for name in known:
        spelling.setdefault(name.lower(), name)
    close = get_close_matches(word[:MAX_SHOWN_CHARS].lower(), spelling, n=1, cutoff=cutoff_percent / 100)
    return spelling[close[0]] if close else None


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Returns the remedy for an unknown word: the nearest known word, or all known words if none is close."""
    names = list(known)
    close = nearest(word, names)
    return f"use one of: {', '.join(names)}" if close is None else f"did you mean {close!r}?"


def html_table(caption: str, rows: Iterable[tuple[str, str]], *, note: str = "") -> str:
    """Returns a table of names and values for a notebook; everything in it is escaped.

    Args:
        caption: the caption.
        rows: the name and the value of each row.
        note: a paragraph below the table; empty: none.
    """
    from html import escape  # noqa: PLC0415 (needed only in notebooks)

    cells = "".join(
        f"<tr><th align='left'>{escape(name)}</th><td align='right'>{escape(value)}</td></tr>"
        for name, value in rows
    )
    after = f"<p>{escape(note)}</p>" if note else ""
    return f"<table><caption>{escape(caption)}</caption><tbody>{cells}</tbody></table>{after}"


def json_text(fields: Mapping[str, Any]) -> str:
    """Returns JSON-ready data as JSON text."""
    import json  # noqa: PLC0415 (a quote does not need it)

    return json.dumps(fields, ensure_ascii=False, separators=(",", ":"))


def escape_formulas(text: str) -> str:
    """Returns the text with an apostrophe at each place where a spreadsheet could see a formula."""
    if text[:1].isalnum() and text.isprintable() and ";" not in text:  # the usual case has no such place
        return text
    return _FORMULA.sub(r"\1'", text)
