"""Reads JSON strictly: UTF-8 only, no duplicate keys, no NaN or Infinity."""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any, TypeAlias

from kling_pricing.display import json_kind
from kling_pricing.errors import WireFormatError

RequestLike: TypeAlias = Mapping[str, Any] | str | bytes | bytearray
"""A payload: a mapping, or JSON as text or bytes."""


def read_payload(request: RequestLike) -> Mapping[str, Any]:
    """Returns the payload as a mapping.

    Raises:
        WireFormatError: the payload is not a JSON object, or has a duplicate key, whose values may conflict.
    """
    if type(request) is dict:  # the usual case, and much faster than `isinstance`
        return request
    return as_object(json_value(request) if isinstance(request, str | bytes | bytearray) else request)


def snapshot(payload: RequestLike) -> dict[str, Any]:
    """Returns a copy of a payload, so that the caller cannot change the request after it is priced.

    Raises:
        WireFormatError: the payload is not a JSON object, or is nested too deeply.
    """
    try:
        copied: dict[str, Any] = _copied(read_payload(payload))
    except RecursionError:
        raise WireFormatError("the payload is nested too deeply; flatten it") from None
    return copied


_SCALARS = frozenset({str, int, bool, float, Decimal, type(None)})


def _copied(value: Any) -> Any:
    if type(value) in _SCALARS:  # nearly all values, and much faster than `isinstance`
        return value
    if isinstance(value, Mapping):
        return {name: _copied(item) for name, item in value.items()}
    return [_copied(item) for item in value] if isinstance(value, list | tuple) else value


def as_object(value: Any) -> Mapping[str, Any]:
    """Checks that a parsed value is a JSON object, and returns it.

    Raises:
        WireFormatError: the value is not an object.
    """
    if type(value) is not dict and not isinstance(value, Mapping):
        raise WireFormatError(f"a request must be a JSON object, got {json_kind(value)}")
    return value


def json_value(text: str | bytes | bytearray, *, decoder: json.JSONDecoder | None = None) -> Any:
    """Parses JSON strictly: UTF-8 only, no duplicate keys, no NaN or Infinity.

    Raises:
        WireFormatError: the text is not valid JSON in this sense.
    """
    decoder = decoder or _JSON
    try:
        if not isinstance(text, str):
            text = text.decode().removeprefix("\ufeff")
        if text[:1] == "{":  # the usual case; `decode` would first search for white space
            value, end = decoder.raw_decode(text)
            if end == len(text) or not text[end:].strip(" \t\n\r"):
                return value
        return decoder.decode(text)
    except RecursionError:
        raise WireFormatError("the JSON is nested too deeply; flatten it") from None
    except UnicodeDecodeError as error:
        raise WireFormatError(
            f"not JSON: byte {error.start} is not UTF-8 text; save the text as UTF-8"
        ) from None
    except json.JSONDecodeError as error:
        raise WireFormatError(f"not JSON: {error}") from None
    except ValueError:
        raise WireFormatError("cannot read the JSON: a number has too many digits; shorten it") from None


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    entries = dict(pairs)
    if len(entries) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise WireFormatError(f"key {twice!r} appears twice; keep one of them", field=twice)
    return entries


def _refuse_constant(name: str) -> Any:
    raise WireFormatError(f"{name} is not JSON; write a number or null")


_JSON = json.JSONDecoder(object_pairs_hook=_unique_keys, parse_constant=_refuse_constant)


EXACT_JSON = json.JSONDecoder(
    object_pairs_hook=_unique_keys, parse_constant=_refuse_constant, parse_float=Decimal
)
"""Reads numbers with a decimal point as `Decimal`s."""
