"""The nearest valid requests to one that the API would refuse."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import datetime
from itertools import combinations, product
from typing import Any

from kling_pricing.errors import CapabilityError, WireFormatError
from kling_pricing.quoting.intake import read_request
from kling_pricing.strict_json import RequestLike, read_payload
from kling_pricing.tables.capabilities import ModelCapabilities
from kling_pricing.tables.examination import violations
from kling_pricing.tables.price_table import PriceBook
from kling_pricing.tables.rules import OneOf
from kling_pricing.wire.facts import FACT_TYPES
from kling_pricing.wire.formats import wire_format
from kling_pricing.wire.media import MediaLike
from kling_pricing.wire.request import VideoRequest

MAX_SUGGESTIONS = 3

_FREE_TO_CHANGE = ("duration_s", "resolution", "audio", "aspect_ratio", "action")
"""What a caller can change without another picture, video or idea."""


_AMENDED = frozenset({"duration_s", "resolution", "audio"})
"""Of these, what a wire format itself knows how to change."""


def nearest_valid(
    payload: RequestLike,
    request: VideoRequest,
    book: PriceBook,
    *,
    media: MediaLike | None = None,
    allow_unknown: bool = False,
    url: str | None = None,
    at: datetime | None = None,
    is_priced: Callable[[VideoRequest], bool] | None = None,
) -> list[dict[str, Any]]:
    """Finds the smallest changes that make a refused request valid.

    Fields the model does not take are left out; then one of duration, resolution, audio, aspect ratio and
    action is changed, then two of them, the nearest values first.
    Each suggestion has been read and checked like any other payload.
    Of equally small ones, those that `is_priced` says have a price are preferred.

    Returns:
        At most `MAX_SUGGESTIONS`, each as wire field -> new value (None: leave the field out), those with
        the fewest changes alone.
    """
    body = read_payload(payload)
    matrix = book.matrices[request.wire_format]
    capabilities = matrix.models[request.facts["model"]]
    left_out = {field: None for name, field in request.stated_fields.items() if name not in capabilities.fields}
    priced: list[dict[str, Any]] = []
    unpriced: list[dict[str, Any]] = []
    fewest = 0
    for change in _changes(capabilities, request):
        if (priced or unpriced) and len(change) > fewest:
            break
        amended = _amended({**body, **left_out}, request, change)
        if not (change or left_out):
            continue
        read = _valid(amended, request.wire_format, book, media, allow_unknown=allow_unknown, url=url, at=at)
        if read is None:
            continue
        fewest = len(change)
        stated = {request.field(fact): value for fact, value in change.items()}
        found = priced if is_priced is None or is_priced(read) else unpriced
        found.append(left_out | {field: _at(amended, field, stated[field]) for field in stated})
        if len(priced) == MAX_SUGGESTIONS:
            break
    return (priced or unpriced)[:MAX_SUGGESTIONS]


def _amended(body: Mapping[str, Any], request: VideoRequest, change: Mapping[str, Any]) -> Mapping[str, Any]:
    """The payload with the change, each setting said the way its wire says it."""
    settings = {fact: value for fact, value in change.items() if fact in _AMENDED}
    others = {request.field(fact): value for fact, value in change.items() if fact not in _AMENDED}
    try:
        return wire_format(request.wire_format).amend({**body, **others}, settings)
    except WireFormatError:  # then the change is none for this wire
        return {}


def _at(body: Mapping[str, Any], field: str, value: Any) -> Any:
    """What stands in a field, which may be inside another (`metadata.output_config.duration`)."""
    node: Any = body
    for name in [field] if field in body else field.split("."):
        node = node.get(name, value) if isinstance(node, Mapping) else value
    return node


def _valid(
    body: Mapping[str, Any],
    wire_format: str,
    book: PriceBook,
    media: MediaLike | None,
    *,
    allow_unknown: bool,
    url: str | None,
    at: datetime | None,
) -> VideoRequest | None:
    """How the API would read a payload that it would accept; None when it would not."""
    try:
        request, matrix = read_request(
            body, book, wire_format, None, media, allow_unknown=allow_unknown, url=url
        )
    except (CapabilityError, WireFormatError):
        return None
    return None if violations(matrix, request, at) else request


def _changes(capabilities: ModelCapabilities, request: VideoRequest) -> Iterator[dict[str, Any]]:
    """No change, then every change of one fact, then of two; the nearest values first."""
    options = {
        fact: values
        for fact in _FREE_TO_CHANGE
        if fact in capabilities.fields and (values := _neighbours(fact, capabilities, request))
    }
    for count in (0, 1, 2):
        for facts in combinations(options, count):
            for chosen in product(*(options[fact] for fact in facts)):
                yield dict(zip(facts, chosen, strict=True))


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
