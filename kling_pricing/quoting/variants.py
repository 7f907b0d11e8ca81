"""Varies the settings of a payload, and finds the variants that are cheaper.

A variant stays in the caller's wire format and differs from the payload only in the fields of its settings.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any, NamedTuple

from kling_pricing.errors import CapabilityError, PriceNotFoundError, WireFormatError
from kling_pricing.quoting.engine import quote_valid
from kling_pricing.quoting.intake import Intake
from kling_pricing.quoting.quote import Quote
from kling_pricing.quoting.settings import RESOLUTIONS, Limits
from kling_pricing.tables.capabilities import CapabilityMatrix, ModelCapabilities
from kling_pricing.tables.examination import violations
from kling_pricing.wire.formats import wire_format as wire_format_named
from kling_pricing.wire.request import VideoRequest


class Variant(NamedTuple):
    """A changed payload and its request.

    Attributes:
        payload: the payload with the changes.
        request: the request in the changed payload.
        changes: setting -> new value, as passed to `WireFormat.amend`.
    """

    payload: Mapping[str, Any]
    request: VideoRequest
    changes: Mapping[str, Any]


class CheaperVariant(NamedTuple):
    """A valid variant that costs less than the original.

    Attributes:
        changes: setting -> new value, with the model's name on the wire; input for `WireFormat.amend`.
        payload: the payload with the changes.
        quote: its price.
    """

    changes: Mapping[str, Any]
    payload: Mapping[str, Any]
    quote: Quote


class Variations:
    """The payloads that differ from one payload only in their settings.

    Args:
        payload: the caller's payload.
        request: the request in that payload.
        intake: the intake that read the payload.
    """

    def __init__(self, payload: Mapping[str, Any], request: VideoRequest, intake: Intake) -> None:
        self.original = Variant(payload, request, {})
        self._wire = wire_format_named(request.wire_format)
        self._intake = intake.with_options(wire_format=request.wire_format)

    def vary(self, changes: Mapping[str, Any]) -> Variant | None:
        """Amends the payload and reads the result.

        Args:
            changes: setting -> new value.

        Returns:
            The variant; None if the wire format cannot express the changes or the result cannot be read.
        """
        try:
            amended = self._wire.amend(self.original.payload, changes)
            request, _ = self._intake.read(amended)
        except (WireFormatError, CapabilityError):
            return None
        return Variant(amended, request, changes)

    def with_model(self, name: str) -> Variant | None:
        """Returns the variant for a model, given its name on the wire; None if the variant cannot be read."""
        if name == self.original.request.model:
            return self.original
        return self.vary({"model": name})

    def with_settings(self, base: Variant, wanted: Mapping[str, Any]) -> Variant | None:
        """Returns the variant that has the wanted facts, with only the necessary changes.

        Args:
            base: the variant to start from, which may already have another model.
            wanted: fact -> required value.

        Returns:
            The variant; `base` itself if it has these facts; None if the wire format cannot express them.
        """
        facts: Mapping[str, Any] = base.request.facts
        needed = {fact: value for fact, value in wanted.items() if facts[fact] != value}
        if not needed:
            return base
        if None in needed.values():  # no wire format can remove a setting that the model's name implies
            return None
        variant = self.vary({**base.changes, **needed})
        if variant is None:
            return None
        new_facts: Mapping[str, Any] = variant.request.facts
        return variant if all(new_facts[fact] == value for fact, value in wanted.items()) else None


def cheaper_variants(
    payload: Mapping[str, Any], original: Quote, limits: Limits, intake: Intake
) -> list[CheaperVariant]:
    """Returns every valid variant within the limits that costs less than the original, best first.

    The best variant changes the last setting in `limits.sacrifice` least. The setting before it decides ties,
    and so on.
    A multi-shot request keeps its length, because only its author can decide which shot to cut.
    Variants without a known price are omitted.
    Each variant is read once; the original is not read again.

    Args:
        payload: the caller's payload.
        original: the quote for the payload.
        limits: the limits on changing the settings.
        intake: the intake that read the payload.
    """
    intake = intake.with_options(provider=original.provider)
    matrix = intake.book.matrices[original.wire_format]
    variations = Variations(payload, original.request, intake)
    cheaper: dict[tuple[int, ...], CheaperVariant] = {}
    for loss, base, wanted in _candidates(variations, limits, matrix):
        if loss in cheaper:
            continue
        variant = variations.with_settings(base, wanted)
        quote = None if variant is None else _quote(variant, matrix, intake)
        if variant is not None and quote is not None and quote.maximum < original.maximum:
            cheaper[loss] = CheaperVariant(variant.changes, variant.payload, quote)
    return [cheaper[loss] for loss in sorted(cheaper)]


def _candidates(
    variations: Variations, limits: Limits, matrix: CapabilityMatrix
) -> Iterator[tuple[tuple[int, ...], Variant, Mapping[str, Any]]]:
    """Yields the loss of each combination of settings, the variant with its model, and the wanted facts.

    The loss counts the steps down in each setting, starting with the setting that is given up last.
    """
    request = variations.original.request
    for model_loss, name in _model_names(request, limits, matrix):
        base = variations.with_model(name)
        if base is None or base.request.facts["action"] != request.facts["action"]:
            continue
        capabilities = matrix.models[base.request.facts["model"]]
        steps: dict[str, list[tuple[int, Any]]] = {
            "duration_s": _allowed("duration_s", _shorter(request, limits), capabilities),
            "resolution": _allowed("resolution", _lower(request, limits), capabilities),
            "audio": _allowed("audio", _quieter(request, limits), capabilities),
        }
        for combination in product(*steps.values()):
            wanted = {setting: value for setting, (_, value) in zip(steps, combination, strict=True)}
            losses = {setting: loss for setting, (loss, _) in zip(steps, combination, strict=True)}
            losses["model"] = model_loss
            yield tuple(losses[setting] for setting in reversed(limits.sacrifice)), base, wanted


def _allowed(setting: str, values: list[Any], capabilities: ModelCapabilities) -> list[tuple[int, Any]]:
    """Pairs each value with its loss; omits values that the model never accepts."""
    limit = capabilities.limit(setting)
    return [
        (loss, value) for loss, value in enumerate(values) if limit is None or limit.holds(value) is not False
    ]


def _model_names(request: VideoRequest, limits: Limits, matrix: CapabilityMatrix) -> Iterator[tuple[int, str]]:
    """Yields the loss and the wire name of each model: the request's model, then its replacements.

    If a name implies the resolution or the soundtrack, each such name of the model is tried.
    """
    model_now = request.facts["model"]
    yield 0, request.model
    replacements = limits.models if "model" in limits.sacrifice else ()
    known = [model for model in replacements if model in matrix.models and model != model_now]
    for loss, model in enumerate((model_now, *known)):
        for place, name in enumerate(matrix.models[model].names):
            _, implied = matrix.names[name]
            if name != request.model and (implied or (loss and not place)):
                yield loss, name


def _shorter(request: VideoRequest, limits: Limits) -> list[int | None]:
    """Returns the current length and every shorter length that the limits allow."""
    facts = request.facts
    length = facts["duration_s"]
    if not length or "duration_s" not in limits.sacrifice or facts["shots"] or facts["multi_shot"]:
        return [length]
    return [length, *range(length - 1, min(limits.min_duration_s, length) - 1, -1)]


def _lower(request: VideoRequest, limits: Limits) -> list[str | None]:
    """Returns the current resolution and every lower resolution that the limits allow."""
    resolution = request.facts["resolution"]
    if "resolution" not in limits.sacrifice or resolution not in RESOLUTIONS:
        return [resolution]
    lowest = RESOLUTIONS.index(limits.min_resolution)
    return [resolution, *reversed(RESOLUTIONS[lowest : RESOLUTIONS.index(resolution)])]


def _quieter(request: VideoRequest, limits: Limits) -> list[bool | None]:
    """Returns the current audio setting and, if the soundtrack may be dropped, False."""
    audio = request.facts["audio"]
    return [True, False] if audio is True and "audio" in limits.sacrifice else [audio]


def _quote(variant: Variant, matrix: CapabilityMatrix, intake: Intake) -> Quote | None:
    """Returns the quote for a variant; None if the variant is invalid or has no known price."""
    if violations(matrix, variant.request, intake.at):
        return None
    try:
        return quote_valid(variant.payload, variant.request, intake)
    except PriceNotFoundError:
        return None
