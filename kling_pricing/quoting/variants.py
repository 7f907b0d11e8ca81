"""The same payload with other settings: how a request is varied, and which variants make it cheaper.

A variant stays in the caller's wire format, and differs from the payload in nothing but what says its settings.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import datetime
from itertools import product
from typing import Any, NamedTuple

from kling_pricing.errors import CapabilityError, PriceNotFoundError, WireFormatError
from kling_pricing.quoting.engine import quote
from kling_pricing.quoting.intake import read_request
from kling_pricing.quoting.quote import Quote
from kling_pricing.quoting.settings import RESOLUTIONS, Limits
from kling_pricing.tables.capabilities import CapabilityMatrix
from kling_pricing.tables.examination import violations
from kling_pricing.tables.price_table import PriceBook
from kling_pricing.wire.formats import wire_format as wire_format_named
from kling_pricing.wire.media import MediaLike
from kling_pricing.wire.request import VideoRequest


class ReadOptions(NamedTuple):
    """How payloads are read: the book, and what the caller said beside the payload."""

    book: PriceBook
    wire_format: str
    media: MediaLike | None
    allow_unknown: bool
    url: str | None = None


class Variant(NamedTuple):
    """A payload with changes.

    Attributes:
        payload: what would be sent.
        request: how it is read.
        changes: setting -> its new value, as `WireFormat.amend` took them.
    """

    payload: Mapping[str, Any]
    request: VideoRequest
    changes: Mapping[str, Any]


class CheaperVariant(NamedTuple):
    """A variant that is valid and costs less.

    Attributes:
        changes: setting -> its new value, the model as the wire names it; what `WireFormat.amend` takes.
        payload: what would be sent.
        quote: what it costs.
    """

    changes: Mapping[str, Any]
    payload: Mapping[str, Any]
    quote: Quote


def vary(payload: Mapping[str, Any], changes: Mapping[str, Any], reading: ReadOptions) -> Variant | None:
    """The payload with changes; None when the wire cannot say them, or they make no request."""
    try:
        amended = wire_format_named(reading.wire_format).amend(payload, changes)
        read, _ = read_request(
            amended,
            reading.book,
            reading.wire_format,
            None,
            reading.media,
            allow_unknown=reading.allow_unknown,
            url=reading.url,
        )
    except (WireFormatError, CapabilityError):
        return None
    return Variant(amended, read, changes)


def with_settings(
    payload: Mapping[str, Any], before: Variant, wanted: Mapping[str, Any], reading: ReadOptions
) -> Variant | None:
    """A payload with no more changed than gives the facts wanted; None: that cannot be said.

    Args:
        payload: as the caller made it.
        before: the payload with the changes that are to be made anyhow (another model).
        wanted: fact -> the value that it must have.
        reading: how payloads are read.
    """
    facts: Mapping[str, Any] = before.request.facts
    needed = {fact: value for fact, value in wanted.items() if facts[fact] != value}
    if not needed:
        return before
    if None in needed.values():  # no wire can unsay what a model's name says
        return None
    found = vary(payload, {**before.changes, **needed}, reading)
    if found is None:
        return None
    made: Mapping[str, Any] = found.request.facts
    return found if all(made[fact] == value for fact, value in wanted.items()) else None


def cheaper_variants(
    payload: Mapping[str, Any], original: Quote, limits: Limits, reading: ReadOptions, at: datetime
) -> list[CheaperVariant]:
    """Every valid request that costs less than the original and differs from it within limits, the best first.

    The best is the one that loses least of the setting to be given up last; among equals, least of the one
    before it, and so on.
    A request of several shots keeps its length: which shot to cut is not ours to say.
    A variant whose price is not known is none.

    Args:
        payload: the request as the caller made it.
        original: its quote.
        limits: what may be changed, and how far.
        reading: how payloads are read; the wire format is the original's.
        at: the instant to price at.
    """
    matrix = reading.book.matrices[reading.wire_format]
    found: dict[tuple[int, ...], CheaperVariant] = {}
    for loss, variant in _variants(payload, original.request, limits, matrix, reading):
        quoted = _quoted(variant, original, matrix, reading, at)
        if quoted is not None and quoted.maximum < original.maximum:
            found.setdefault(loss, CheaperVariant(variant.changes, variant.payload, quoted))
    return [found[loss] for loss in sorted(found)]


def _variants(
    payload: Mapping[str, Any],
    request: VideoRequest,
    limits: Limits,
    matrix: CapabilityMatrix,
    reading: ReadOptions,
) -> Iterator[tuple[tuple[int, ...], Variant]]:
    """Each variant with what it loses: steps down in each setting, the one to be given up last in front."""
    for model_loss, name in _model_names(request, limits, matrix):
        before = vary(payload, {} if name == request.model else {"model": name}, reading)
        if before is None or before.request.facts["action"] != request.facts["action"]:
            continue
        steps: dict[str, list[Any]] = {
            "duration_s": _shorter(request, limits),
            "resolution": _lower(request, limits),
            "audio": [True, False] if _may_drop_audio(request, limits) else [request.facts["audio"]],
        }
        for chosen in product(*(enumerate(values) for values in steps.values())):
            wanted = {setting: value for setting, (_, value) in zip(steps, chosen, strict=True)}
            losses = {setting: loss for setting, (loss, _) in zip(steps, chosen, strict=True)}
            losses["model"] = model_loss
            variant = with_settings(payload, before, wanted, reading)
            if variant is not None:
                yield tuple(losses[setting] for setting in reversed(limits.sacrifice)), variant


def _model_names(request: VideoRequest, limits: Limits, matrix: CapabilityMatrix) -> Iterator[tuple[int, str]]:
    """What each model loses and how the wire may name it: the request's own model, then those to use instead.

    A wire may say the resolution or the soundtrack with the name: then each is a name to try.
    """
    own = request.facts["model"]
    yield 0, request.model
    instead = limits.models if "model" in limits.sacrifice else ()
    known = [model for model in instead if model in matrix.models and model != own]
    for loss, model in enumerate((own, *known)):
        for place, name in enumerate(matrix.models[model].names):
            _, implied = matrix.names[name]
            if name != request.model and (implied or (loss and not place)):
                yield loss, name


def _shorter(request: VideoRequest, limits: Limits) -> list[int | None]:
    """The length and every shorter one, as far as it may be shortened."""
    facts = request.facts
    length = facts["duration_s"]
    if not length or "duration_s" not in limits.sacrifice or facts["shots"] or facts["multi_shot"]:
        return [length]
    return [length, *range(length - 1, min(limits.min_duration_s, length) - 1, -1)]


def _lower(request: VideoRequest, limits: Limits) -> list[str | None]:
    """The resolution and every lower one, as far as it may be lowered."""
    resolution = request.facts["resolution"]
    if "resolution" not in limits.sacrifice or resolution not in RESOLUTIONS:
        return [resolution]
    lowest = RESOLUTIONS.index(limits.min_resolution)
    lower = [each for each in RESOLUTIONS[lowest:] if RESOLUTIONS.index(each) < RESOLUTIONS.index(resolution)]
    return [resolution, *reversed(lower)]


def _may_drop_audio(request: VideoRequest, limits: Limits) -> bool:
    return "audio" in limits.sacrifice and request.facts["audio"] is True


def _quoted(
    variant: Variant, original: Quote, matrix: CapabilityMatrix, reading: ReadOptions, at: datetime
) -> Quote | None:
    if violations(matrix, variant.request, at):
        return None
    try:
        return quote(
            variant.payload,
            provider=original.provider,
            wire_format=reading.wire_format,
            at=at,
            book=reading.book,
            media=reading.media,
            allow_unknown=reading.allow_unknown,
            url=reading.url,
        )
    except PriceNotFoundError:
        return None
