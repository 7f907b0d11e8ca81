"""Reads the text of a cell as the JSON value that a field of a wire format takes.

A value that the field cannot take stays what it is, so that the examination of the request names the problem.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

from kling_pricing.errors import KlingPricingError, WireFormatError
from kling_pricing.strict_json import json_value
from kling_pricing.wire.fields import Field, Violations, is_kind

CellReader: TypeAlias = Callable[[str], Any]
"""Returns the JSON value in the text of a cell that is not empty."""

_WHOLE = re.compile(r"[+-]?[0-9]{1,18}(?:\.0*)?")
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]{0,17})(?:\.[0-9]{1,17})?")
_DECIMAL_COMMA = re.compile(r"-?[0-9]{1,18},[0-9]{1,17}")
_WORDS = {"true": True, "yes": True, "false": False, "no": False}
_VERBATIM = ("prompt", "negative_prompt", "text")
"""The inputs whose text is kept with the spaces around it, because the API counts them."""


def cell_reader(field: Field | None, *, decimal_comma: bool = False) -> CellReader:
    """Returns the function that reads the cells of a field.

    Args:
        field: the field; None: the wire format does not have it, which the examination reports.
        decimal_comma: whether numbers may be written with a decimal comma.
    """
    if field is None or (field.kind is str and field.name not in _VERBATIM):
        return str.strip
    if field.kind is str:
        return str
    if field.kind is bool:
        return _flag
    if field.kind is list:
        return _list
    if field.kind is dict:
        return _object
    if field.kind is int:
        return lambda text: _number(_with_point(text, decimal_comma=decimal_comma))
    check = field.check

    def read(text: str) -> Any:
        values = [*_readings(_with_point(text.strip(), decimal_comma=decimal_comma))]
        for value in values:
            found = Violations()
            if check is not None:
                check(value, "", found)
            if not found:
                return value
        return values[0]

    return read


def _with_point(text: str, *, decimal_comma: bool) -> str:
    return text.replace(",", ".") if decimal_comma and _DECIMAL_COMMA.fullmatch(text.strip()) else text


def _number(text: str) -> Any:
    text = text.strip()
    if _WHOLE.fullmatch(text):
        return int(text.partition(".")[0])
    return json_value(text) if _NUMBER.fullmatch(text) else text


def _flag(text: str) -> Any:
    text = text.strip()
    return _WORDS.get(text.lower(), text)


def _list(text: str) -> Any:
    text = text.strip()
    if text[:1] == "[":
        value = _json(text)
        return value if is_kind(value, list) else text
    return [part for part in map(str.strip, text.split(";")) if part]


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
    if text.lower() in {"true", "false"}:
        yield text.lower() == "true"
    if _WHOLE.fullmatch(text):
        whole = text.partition(".")[0].removeprefix("+")
        yield int(whole)
        yield whole
    elif _NUMBER.fullmatch(text):
        yield json_value(text)
    yield text
