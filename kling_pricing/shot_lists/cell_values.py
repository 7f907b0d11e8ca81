"""Reads the text of a cell as the JSON value that a field of a wire format takes.

`written_values` reads the spellings of people and spreadsheets. A value that the field cannot take stays what
it is, so that the examination of the request names the problem.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, TypeAlias

from kling_pricing.errors import KlingPricingError, WireFormatError
from kling_pricing.shot_lists.written_values import aspect_ratio, number_text, resolution, switch, word
from kling_pricing.strict_json import json_value
from kling_pricing.wire.fields import AllowedWords, Field, Violations, is_kind

CellReader: TypeAlias = Callable[[str], Any]
"""Returns the JSON value in the text of a cell that is not empty."""

_WHOLE = re.compile(r"[+-]?[0-9]{1,18}(?:\.0*)?")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]{0,17})(?:\.[0-9]{1,17})?")
_LINK = re.compile(r"https?://", re.IGNORECASE)
_SPELLED: Mapping[str, CellReader] = {"resolution": resolution, "aspect_ratio": aspect_ratio}
"""Input -> the function that reads it."""

_VERBATIM = ("prompt", "negative_prompt", "text")
"""The inputs whose text is kept with the spaces around it, because the API counts them."""


def cell_reader(field: Field | None, *, decimal_comma: bool = False) -> CellReader:
    """Returns the function that reads the cells of a field.

    Args:
        field: the field; None: the wire format does not have it, which the examination reports.
        decimal_comma: whether numbers may be written with a decimal comma.
    """
    if field is None:
        return str.strip
    name, kind, check = field.name, field.kind, field.check
    if kind is str:
        if isinstance(check, AllowedWords):
            return partial(_word, name, check)
        return str if name in _VERBATIM else _SPELLED.get(name, str.strip)
    if kind is bool:
        return _flag
    if kind is list:
        return _list
    if kind is dict:
        return _object
    number = partial(number_text, seconds=_is_seconds(name), decimal_comma=decimal_comma)
    if kind is int:
        return lambda text: _number(number(text))

    def read(text: str) -> Any:
        values = [*_readings(number(text))]
        for value in values:
            found = Violations()
            if check is not None:
                check(value, "", found)
            if not found:
                return value
        return values[0]

    return read


def _is_seconds(name: str) -> bool:
    """Returns whether an input is a number of seconds."""
    return "duration" in name or name.endswith("_length")


def _word(name: str, words: AllowedWords, text: str) -> str:
    found = word(text, words)
    spelled = _SPELLED.get(name, str.strip)(text)
    return spelled if found not in words and spelled in words else found


def _number(text: str) -> Any:
    if _WHOLE.fullmatch(text):
        return int(text.partition(".")[0])
    return json_value(text) if _NUMBER.fullmatch(text) else text


def _flag(text: str) -> Any:
    value = switch(text)
    return text.strip() if value is None else value


def _list(text: str) -> Any:
    text = text.strip()
    if text[:1] == "[":
        value = _json(text)
        return value if is_kind(value, list) else text
    parts = [part for part in map(str.strip, re.split(r"[;\n]", text)) if part]
    if len(parts) == 1 and "," in text:
        links = [part.strip() for part in text.split(",")]
        if all(map(_LINK.match, links)):
            return links
        if ", " in text:
            raise KlingPricingError(
                "write semicolons between the entries of a list, such as a.png; b.png, or write a JSON list"
            )
    return parts


def _object(text: str) -> Any:
    text = text.strip()
    return _json(text) if text[:1] == "{" else text


def _json(text: str) -> Any:
    try:
        return json_value(text)
    except WireFormatError as error:
        raise KlingPricingError(f"{error}; write a JSON list or object") from None


def _readings(text: str) -> Iterator[Any]:
    """Yields the values that a text may stand for, the likeliest first."""
    if text[:1] in {"{", "["}:
        yield _json(text)
    if _WHOLE.fullmatch(text):
        whole = text.partition(".")[0].removeprefix("+")
        yield int(whole)
        yield whole
    elif _NUMBER.fullmatch(text):
        yield json_value(text)
    value = switch(text)
    if value is not None and text.lower() in {"true", "false"}:
        yield value
    yield text
    if value is not None:
        yield value
