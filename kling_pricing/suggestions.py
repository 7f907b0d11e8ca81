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

MAX_SUGGESTIONS = 3

_FREE_TO_CHANGE = ("duration_s", "resolution", "audio", "aspect_ratio", "action")
"""What a caller can change without another picture, video or idea."""


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
    for change in _changes(capabilities, request):
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


def _changes(capabilities: ModelCapabilities, request: VideoRequest) -> Iterator[dict[str, Any]]:
    """No change, then every change of one field, then of two; the nearest values first."""
    options = {
        request.field(fact): values
        for fact in _FREE_TO_CHANGE
        if fact in capabilities.fields and (values := _neighbours(fact, capabilities, request))
    }
    for count in (0, 1, 2):
        for fields in combinations(options, count):
            for chosen in product(*(options[field] for field in fields)):
                yield dict(zip(fields, chosen, strict=True))


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
