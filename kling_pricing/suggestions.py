"""The nearest valid requests to one that the API would refuse."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import combinations, product
from typing import Any

from kling_pricing.capabilities import ModelCapabilities, violations
from kling_pricing.errors import CapabilityError, WireFormatError
from kling_pricing.intake import RequestLike, read_payload, read_request
from kling_pricing.media import MediaLike
from kling_pricing.price_table import PriceBook
from kling_pricing.request import FACT_TYPES, VideoRequest
from kling_pricing.rules import OneOf
from kling_pricing.wire import wire_format

MAX_SUGGESTIONS = 3

_FREE_TO_CHANGE = ("duration_s", "resolution", "audio", "aspect_ratio", "action")
"""What a caller can change without another picture, video or idea."""

_AMENDED = frozenset({"duration_s", "resolution", "audio"})
"""Those of them that each wire format writes in its own words."""


def nearest_valid(
    payload: RequestLike,
    request: VideoRequest,
    book: PriceBook,
    *,
    media: MediaLike | None = None,
    allow_unknown: bool = False,
) -> list[dict[str, Any]]:
    """Finds the smallest changes that make a refused request valid.

    Fields the model does not take are left out; then one of duration, resolution, audio, aspect ratio and
    action is changed, then two of them, the nearest values first.
    Each suggestion has been read and checked like any other payload.

    Returns:
        At most `MAX_SUGGESTIONS`, each as wire field -> new value (None: leave the field out), those with
        the fewest changes alone.
    """
    body = read_payload(payload)
    matrix = book.matrices[request.wire_format]
    capabilities = matrix.models[request.facts["model"]]
    left_out = {field: None for name, field in request.said.items() if name not in capabilities.fields}
    found: list[dict[str, Any]] = []
    for change in _changes(capabilities, request, body):
        if found and (len(found) == MAX_SUGGESTIONS or len(change) > len(found[0]) - len(left_out)):
            break
        changed = left_out | change
        if changed and _is_valid(
            {**body, **changed}, request.wire_format, book, media, allow_unknown=allow_unknown
        ):
            found.append(changed)
    return found


def _is_valid(
    body: Mapping[str, Any],
    wire_format: str,
    book: PriceBook,
    media: MediaLike | None,
    *,
    allow_unknown: bool,
) -> bool:
    try:
        request, matrix = read_request(body, book, wire_format, None, media, allow_unknown=allow_unknown)
    except (CapabilityError, WireFormatError):
        return False
    return not violations(matrix, request)


def _changes(
    capabilities: ModelCapabilities, request: VideoRequest, body: Mapping[str, Any]
) -> Iterator[dict[str, Any]]:
    """No change, then every change of one setting, then of two; the nearest values first."""
    options = {
        fact: values
        for fact in _FREE_TO_CHANGE
        if fact in capabilities.fields and (values := _neighbours(fact, capabilities, request))
    }
    for count in (0, 1, 2):
        for facts in combinations(options, count):
            for chosen in product(*(options[fact] for fact in facts)):
                try:
                    yield _in_wire_words(dict(zip(facts, chosen, strict=True)), request, body)
                except WireFormatError:  # this wire has no word for the value
                    continue


def _in_wire_words(
    changes: Mapping[str, Any], request: VideoRequest, body: Mapping[str, Any]
) -> dict[str, Any]:
    """The fields that say the changes, with their new values."""
    settings = {fact: value for fact, value in changes.items() if fact in _AMENDED}
    amended = wire_format(request.wire_format).amend(body, settings) if settings else {}
    rest = {request.field(fact): value for fact, value in changes.items() if fact not in _AMENDED}
    return {
        field: value for field, value in amended.items() if field not in body or body[field] != value
    } | rest


def _neighbours(fact: str, capabilities: ModelCapabilities, request: VideoRequest) -> list[Any]:
    facts: Mapping[str, Any] = request.facts
    current = facts[fact]
    if FACT_TYPES[fact] is bool:
        return [not current]
    limit = capabilities.limit(fact, facts)
    if limit is None:
        return []
    values: list[Any] = [value for value in limit.edges() if limit.holds(value) and value != current]
    if isinstance(current, int):
        values.sort(key=lambda value: (abs(value - current), value))
    elif isinstance(limit, OneOf) and current in limit.values:
        place = limit.values.index(current)
        values.sort(key=lambda value: abs(limit.values.index(value) - place))
    return values
