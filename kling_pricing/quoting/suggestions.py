"""Suggests the nearest valid requests for a request that the API would refuse."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from itertools import combinations, product
from typing import Any

from kling_pricing.errors import CapabilityError, WireFormatError
from kling_pricing.quoting.intake import Intake
from kling_pricing.tables.capabilities import ModelCapabilities
from kling_pricing.tables.examination import violations
from kling_pricing.tables.rules import OneOf
from kling_pricing.wire.facts import FACT_TYPES
from kling_pricing.wire.formats import wire_format
from kling_pricing.wire.request import VideoRequest

MAX_SUGGESTIONS = 3

_FREE_TO_CHANGE = ("duration_s", "resolution", "audio", "aspect_ratio", "action")
"""The facts that a caller can change without changing the idea or the input files."""

_AMENDED = frozenset({"duration_s", "resolution", "audio"})
"""The facts of `_FREE_TO_CHANGE` that a wire format can amend."""


def nearest_valid(
    payload: Mapping[str, Any],
    request: VideoRequest,
    intake: Intake,
    *,
    is_priced: Callable[[VideoRequest], bool] | None = None,
) -> list[dict[str, Any]]:
    """Returns the smallest changes that make a refused request valid.

    The function omits fields that the model does not accept. It then tries to change one of duration,
    resolution, audio, aspect ratio and action, and after that two of them, nearest values first.
    Each suggestion has been read and checked like any other payload.
    Among equally small changes, the function prefers requests that `is_priced` accepts.

    Returns:
        At most `MAX_SUGGESTIONS` suggestions with the fewest changes, each as wire field -> new value. The
        value None means that the field must be omitted.
    """
    capabilities = intake.book.matrices[request.wire_format].models[request.facts["model"]]
    intake = intake.with_options(wire_format=request.wire_format)
    left_out = {field: None for name, field in request.stated_fields.items() if name not in capabilities.fields}
    priced: list[dict[str, Any]] = []
    unpriced: list[dict[str, Any]] = []
    fewest = 0
    for change in _changes(capabilities, request):
        if (priced or unpriced) and len(change) > fewest:
            break
        if not (change or left_out):
            continue
        amended = _amended({**payload, **left_out}, request, change)
        valid = _valid(amended, intake)
        if valid is None:
            continue
        fewest = len(change)
        new_values = {request.field(fact): value for fact, value in change.items()}
        suggestions = priced if is_priced is None or is_priced(valid) else unpriced
        suggestions.append(left_out | {field: _at(amended, field, new_values[field]) for field in new_values})
        if len(priced) == MAX_SUGGESTIONS:
            break
    return (priced or unpriced)[:MAX_SUGGESTIONS]


def _amended(payload: Mapping[str, Any], request: VideoRequest, change: Mapping[str, Any]) -> Mapping[str, Any]:
    """Returns the payload with the change; empty if the wire format cannot express the change."""
    settings = {fact: value for fact, value in change.items() if fact in _AMENDED}
    others = {request.field(fact): value for fact, value in change.items() if fact not in _AMENDED}
    try:
        return wire_format(request.wire_format).amend({**payload, **others}, settings)
    except WireFormatError:
        return {}


def _at(payload: Mapping[str, Any], field: str, value: Any) -> Any:
    """Returns the content of a field, which may be nested (`metadata.output_config.duration`)."""
    node: Any = payload
    for name in [field] if field in payload else field.split("."):
        node = node.get(name, value) if isinstance(node, Mapping) else value
    return node


def _valid(payload: Mapping[str, Any], intake: Intake) -> VideoRequest | None:
    """Returns the request in a payload; None if the API would not accept it."""
    try:
        request, matrix = intake.read(payload)
    except (CapabilityError, WireFormatError):
        return None
    return None if violations(matrix, request, intake.at) else request


def _changes(capabilities: ModelCapabilities, request: VideoRequest) -> Iterator[dict[str, Any]]:
    """Yields an empty change, then all changes of one fact, then of two facts, nearest values first."""
    values_of = {
        fact: values
        for fact in _FREE_TO_CHANGE
        if fact in capabilities.fields and (values := _neighbours(fact, capabilities, request))
    }
    for count in (0, 1, 2):
        for facts in combinations(values_of, count):
            for chosen in product(*(values_of[fact] for fact in facts)):
                yield dict(zip(facts, chosen, strict=True))


def _neighbours(fact: str, capabilities: ModelCapabilities, request: VideoRequest) -> list[Any]:
    """Returns the other values that the model allows for a fact, nearest first."""
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
