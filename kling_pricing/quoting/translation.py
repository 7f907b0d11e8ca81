"""Writes a job in the words of another API, so that a provider with an API of its own can price it.

A translation has the same model, settings, files and prompt. Whatever the other API has no word for makes the
translation impossible, and so does every difference that shows when the translation is read again.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from kling_pricing.display import joined_with_and
from kling_pricing.errors import KlingPricingError
from kling_pricing.quoting.composing import RequestDescription, compose
from kling_pricing.quoting.intake import Intake
from kling_pricing.tables.examination import violations
from kling_pricing.wire.formats import wire_format
from kling_pricing.wire.meanings import leaf_fields, with_value
from kling_pricing.wire.request import VideoRequest

_STEP = re.compile(r"[^.\[\]]+")

_DESCRIBED = frozenset(
    (
        *("model", "prompt", "action", "duration_s", "resolution", "audio", "orientation"),
        *("images", "first_frame", "last_frame", "videos", "motion_image", "motion_video"),
    )
)
"""The inputs that a description gives."""

_COPIED = ("aspect_ratio", "negative_prompt", "cfg_scale")
"""The inputs whose values mean the same in every API that has them."""

_IRRELEVANT = frozenset(
    ("callback_url", "callback_events", "external_task_id", "watermark", "keep_original_sound")
)
"""The inputs that change neither the video's content nor its price."""

_EDIT = "edit"
_MOTION = "motion_control"

_COMPARED = ("model", "duration_s", "resolution", "last_frame", "orientation")
"""The facts that a translation must keep."""


class Translation(NamedTuple):
    """A job in the words of another API.

    Attributes:
        payload: the payload.
        request: the request that it is read as.
        intake: the intake that reads it.
    """

    payload: Mapping[str, Any]
    request: VideoRequest
    intake: Intake


def translated(
    payload: Mapping[str, Any], request: VideoRequest, provider: str, intake: Intake
) -> Translation | str:
    """Writes a job for the API of a provider.

    Args:
        payload: the payload of the job.
        request: the request that it was read as.
        provider: the provider.
        intake: the options; its wire format and URL do not matter.

    Returns:
        The translation, which the provider's API accepts, or the reason why there is none.
    """
    unsaid = [
        name
        for name in sorted(request.stated_fields)
        if name not in _DESCRIBED | _IRRELEVANT and name not in _COPIED
    ]
    if unsaid:
        names = joined_with_and([request.field(name) for name in unsaid])
        return f"{names} cannot be expressed in the API of {provider}"
    there = intake.with_options(provider=provider, wire_format=None, url=None)
    reason = ""
    for description in _descriptions(request):
        try:
            found = _translation(payload, request, description, there)
        except KlingPricingError as error:
            found = str(error)
        if isinstance(found, Translation):
            return found
        reason = reason or found
    return reason


def _descriptions(request: VideoRequest) -> Sequence[RequestDescription]:
    """Returns the descriptions of a request: with all settings, and without audio if there is none."""
    facts: Mapping[str, Any] = request.facts
    values = {name: facts[name] for name in ("duration_s", "resolution", "audio")}
    settings = {name: value for name, value in values.items() if value is not None}
    files: dict[str, list[str]] = {"images": [], "first_frame": [], "last_frame": [], "videos": []}
    for medium, _ in request.media:
        kind = "videos" if medium.kind == "video" else "images"
        for frame in ("first_frame", "last_frame"):
            if kind == "images" and request.stated_fields.get(frame) == medium.field.removesuffix(".url"):
                kind = frame
        files[kind].append(medium.url)
    action = facts["action"] if facts["orientation"] else None
    usual = RequestDescription(facts["model"], settings, action, facts["orientation"] or None, files)
    silent = {name: value for name, value in settings.items() if name != "audio"}
    without = [RequestDescription(usual.model, silent, action, usual.orientation, files)]
    return [usual, *([] if settings.get("audio") else without)]


def _translation(
    payload: Mapping[str, Any], request: VideoRequest, description: RequestDescription, intake: Intake
) -> Translation | str:
    name, composed, url = compose(description, intake)
    fields = {field.name: path for path, field in leaf_fields(wire_format(name).FIELDS)}
    for copied in _COPIED:
        if copied in request.stated_fields:
            facts: Mapping[str, Any] = request.facts
            value = facts.get(copied) or _at(payload, request.stated_fields[copied])
            if copied not in fields:
                return f"{request.field(copied)} cannot be expressed in wire format {name}"
            composed = with_value(composed, fields[copied], value)
    if "prompt" in request.stated_fields:
        composed = _with_prompt(composed, _at(payload, request.stated_fields["prompt"]))
    reader = intake.with_options(wire_format=name, url=url)
    read, matrix = reader.read(composed)
    if different := _difference(request, read):
        return f"in wire format {name}, this request would have another {different}"
    broken = violations(matrix, read, intake.at)
    if broken:
        return "; ".join(violation.message for violation in broken)
    return Translation(composed, read, reader)


def _with_prompt(payload: Mapping[str, Any], prompt: Any) -> dict[str, Any]:
    """Returns the payload with the prompt, wherever this wire format has it."""
    if "contents" in payload:
        contents = [
            {**entry, "text": prompt} if entry["type"] == "prompt" else entry for entry in payload["contents"]
        ]
        return {**payload, "contents": contents}
    return {**payload, "prompt": prompt}


def _difference(request: VideoRequest, read: VideoRequest) -> str:
    """Returns the name of a fact in which a translation differs from the request; empty: it means the same."""
    ours: Mapping[str, Any] = request.facts
    theirs: Mapping[str, Any] = read.facts
    for name in _COMPARED:
        if (ours[name] or None) != (theirs[name] or None):
            return name
    if bool(ours["audio"]) != bool(theirs["audio"]):
        return "audio"
    if _use(ours) != _use(theirs):
        return "use of the video"
    if _files(request) != _files(read):
        return "file"
    return ""


def _use(facts: Mapping[str, Any]) -> str:
    """Returns the kind of job that decides which length is billed: an edit, motion control, or a new video."""
    if facts["action"] == _EDIT or "base" in facts["video_use"]:
        return _EDIT
    return _MOTION if facts["action"] == _MOTION else ""


def _files(request: VideoRequest) -> Counter[tuple[str, str]]:
    return Counter((medium.kind, medium.url) for medium, _ in request.media)


def _at(payload: Mapping[str, Any], path: str) -> Any:
    """Returns the value at a path such as `contents[0].text`."""
    if path in payload:
        return payload[path]
    value: Any = payload
    for step in _STEP.findall(path):
        value = value[int(step)] if isinstance(value, list | tuple) else value[step]
    return value
