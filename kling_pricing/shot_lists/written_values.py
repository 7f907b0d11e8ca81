"""Reads values as people and spreadsheets write them, where their meaning is certain.

A text that has no certain meaning is returned as it is, and the examination of the request names the problem.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from unicodedata import normalize

_TRUE = "true yes y on 1 x ✓ ✔ ja j wahr oui vrai sí si sì verdadero vero sim verdadeiro 是 真"
_FALSE = "false no n off 0 nein falsch non faux falso não 否 假"
_SWITCHES = dict.fromkeys(_TRUE.split(), True) | dict.fromkeys(_FALSE.split(), False)
"""The words and marks for true and false, in languages in which spreadsheet programs write them."""

_SECONDS = re.compile(
    r"(.*[0-9])\s*(?:s|secs?\.?|seconds?|sek\.?|sekunden?|secondes?|segundos?|\u79d2)", re.IGNORECASE
)
_CERTAIN_COMMA = re.compile(r"[+-]?(?:0,[0-9]{1,17}|[0-9]{1,18},(?:[0-9]{1,2}|[0-9]{4,17}))")
"""A number with a decimal comma; with three digits after the comma, it may be the comma of thousands."""

_ANY_COMMA = re.compile(r"[+-]?[0-9]{1,18},[0-9]{1,17}")
_POINT = re.compile(r"[+-]?[0-9]{1,18}(?:\.[0-9]*)?")
_RATIO = re.compile(r"0?([1-9][0-9]?)\s*[:/x\u00d7]\s*0?([1-9][0-9]?)(?::00)?", re.IGNORECASE)
_RESOLUTION = re.compile(r"([0-9]{3,4})\s*p?|([0-9])\s*k", re.IGNORECASE)
_GAPS = re.compile(r"[\s_-]+")


def _plain(text: str) -> str:
    """Returns a text without spaces around it, and with the usual forms of its characters, such as digits."""
    text = text.strip()
    return text if text.isascii() else normalize("NFKC", text).strip()


def number_text(text: str, *, seconds: bool, decimal_comma: bool) -> str:
    """Returns a number in JSON's notation.

    Args:
        text: the number as it is written.
        seconds: whether it is a number of seconds, which may be written with its unit.
        decimal_comma: whether every comma is a decimal comma.
    """
    number = _plain(text)
    if seconds and (match := _SECONDS.fullmatch(number)):
        number = match[1].strip()
    if (_ANY_COMMA if decimal_comma else _CERTAIN_COMMA).fullmatch(number):
        number = number.replace(",", ".")
    return number if _POINT.fullmatch(number) else text.strip()


def switch(text: str) -> bool | None:
    """Returns whether a text means true or false; None: neither is certain."""
    return _SWITCHES.get(_plain(text).lower())


def word(text: str, words: Sequence[str]) -> str:
    """Returns the one of some words that a text stands for.

    Case, spaces, hyphens and underscores do not matter. If the words are a switch, such as `on` and `off`,
    every text that `switch` reads counts.
    """
    name = name_alike(text, tuple(words))
    if name in words:
        return name
    value = switch(text)
    chosen = [name for name in words if value is not None and switch(name) is value]
    return chosen[0] if len(chosen) == 1 else text.strip()


def name_alike(text: str, names: tuple[str, ...]) -> str:
    """Returns the only name that differs from a text in case, spaces, hyphens and underscores alone."""
    text = text.strip()
    same = () if text in names else _by_folded_name(names).get(_folded(text), ())
    return same[0] if len(same) == 1 else text


def _folded(name: str) -> str:
    return _GAPS.sub("", _plain(name)).lower()


@lru_cache(maxsize=64)
def _by_folded_name(names: tuple[str, ...]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name in dict.fromkeys(names):
        found.setdefault(_folded(name), []).append(name)
    return found


def resolution(text: str) -> str:
    """Returns a resolution in the APIs' notation: `1080 P` and `1080` are `1080p`."""
    match = _RESOLUTION.fullmatch(_plain(text))
    if match is None:
        return text.strip()
    return f"{match[1]}p" if match[1] else f"{match[2]}k"


def aspect_ratio(text: str) -> str:
    """Returns a ratio in the APIs' notation: `16/9`, and the time `16:09:00` of a spreadsheet, are `16:9`."""
    match = _RATIO.fullmatch(_plain(text))
    return f"{match[1]}:{match[2]}" if match else text.strip()
