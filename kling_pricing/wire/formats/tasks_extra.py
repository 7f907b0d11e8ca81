"""Wire format `tasks_extra`: `POST /v1/tasks` of QingBo, with the model's own parameters in `extra`.

Source: QingBo's Kling task page of April 2026.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from kling_pricing.display import joined_with_or
from kling_pricing.errors import WireFormatError
from kling_pricing.wire.camera import CAMERA_CONTROL, add_camera_facts
from kling_pricing.wire.facts import add_prompt_facts, add_shot_facts
from kling_pricing.wire.fields import (
    AllowedWords,
    Field,
    Violations,
    decimal,
    is_kind,
    list_of,
    missing,
    not_empty,
    number,
    object_with,
)
from kling_pricing.wire.media import Medium, list_media
from kling_pricing.wire.reader import PayloadReader, ReadResult
from kling_pricing.wire.request import ParsedPayload
from kling_pricing.wire.task import Task, read_quota_task

_RESOLUTIONS = {"std": "720p", "pro": "1080p"}
_MODES = {resolution: mode for mode, resolution in _RESOLUTIONS.items()}

_POINT = object_with({"x": Field("x", object, number), "y": Field("y", object, number)}, required=["x", "y"])
_MASK = object_with(
    {
        "mask_url": Field("mask_url", str, not_empty),
        "trajectories": Field("trajectories", list, list_of(dict, _POINT)),
    },
    required=["mask_url", "trajectories"],
)
_EXTRA: Mapping[str, Field] = {
    "mode": Field("resolution", str, AllowedWords(*_RESOLUTIONS), _RESOLUTIONS.get),
    "enable_audio": Field("audio", bool),
    "cfg_scale": Field("cfg_scale", object, number, decimal),
    "camera_control": Field("camera", dict, CAMERA_CONTROL),
    "static_mask": Field("static_mask", str, not_empty),
    "dynamic_masks": Field("masks", list, list_of(dict, _MASK)),
}
_SHOT = re.compile(r"shot_(0|[1-9][0-9]{0,5})_(prompt|duration)")
_SHOT_PARTS: Mapping[str, Field] = {"prompt": Field("", str, not_empty), "duration": Field("", int)}


def _shot_fields(names: Iterable[Any]) -> list[re.Match[str]]:
    """Returns a match for each name of a shot's field; its groups are the shot's number and the part."""
    return [match for name in map(str, names) if name.startswith("shot_") and (match := _SHOT.fullmatch(name))]


def _extra_fields(names: Iterable[Any]) -> Mapping[str, Field]:
    """Returns the fields of an `extra`, with those of these names that are fields of shots."""
    shots = {match[0]: _SHOT_PARTS[match[2]]._replace(name=match[0]) for match in _shot_fields(names)}
    return {**_EXTRA, **shots}


_SHOT_1 = ("shot_1_prompt", "shot_1_duration")
_USUAL_SHOTS = tuple(f"shot_{shot}_{part}" for shot in range(1, 7) for part in _SHOT_PARTS)
"""An `extra` may have shots with any number; payloads with these are read fastest."""

FIELDS: Mapping[str, Field] = {
    "model": Field("model", str),
    "action": Field("action", str),
    "prompt": Field("prompt", str),
    "aspect_ratio": Field("aspect_ratio", str, stated="aspect_ratio_stated"),
    "duration": Field("duration_s", int),
    "negative_prompt": Field("negative_prompt", str),
    "image_urls": Field("images", list, list_of(str, not_empty)),
    "last_frame": Field("last_frame", str, not_empty),
    "callback_url": Field("callback_url", str, not_empty),
    "extra": Field("extra", dict, inside=_extra_fields(_USUAL_SHOTS)),
}

FIELD_NAMES: Mapping[str, str] = {
    **{field.name: name for name, field in FIELDS.items() if name != "extra"},
    **{field.name: f"extra.{name}" for name, field in _EXTRA.items()},
    "shots": f"extra.{_SHOT_1[0]}",
}


class _ExtraReader(PayloadReader):
    """Reads shots with any number, and reports those without a prompt or a duration."""

    def read_by_field(self, payload: Mapping[str, Any], *, allow_unknown: bool) -> ReadResult:
        extra: Any = payload.get("extra")
        inside = _extra_fields((*_SHOT_1, *extra) if is_kind(extra, dict) else _SHOT_1)
        fields = {**FIELDS, "extra": Field("extra", dict, _check_shots, inside=inside)}
        reader = PayloadReader(fields, self.wire_format)
        values, paths, _ = reader.read_by_field(payload, allow_unknown=allow_unknown)
        return values, paths, True


def _check_shots(extra: Mapping[str, Any], path: str, violations: Violations) -> None:
    """Checks that every shot has both a prompt and a duration."""
    for shot in dict.fromkeys(match[1] for match in _shot_fields(extra)):
        for part in _SHOT_PARTS:
            if f"shot_{shot}_{part}" not in extra:
                violations.append(missing(f"{path}.shot_{shot}_{part}"))


def _shots(extra: Mapping[str, Any]) -> dict[int, dict[str, Any]]:
    """Returns number -> prompt and duration, for the shots of a valid `extra`."""
    return {
        int(match[1]): {"prompt": extra[match[0]], "duration": extra[f"shot_{match[1]}_duration"]}
        for match in _shot_fields(extra)
        if match[2] == "prompt" and extra.get(match[0]) is not None
    }


_SPECIAL = (
    *("images", "last_frame", "callback_url", "camera", "static_mask", "masks"),
    *_USUAL_SHOTS,
)

_read = _ExtraReader(FIELDS, "tasks_extra", special=_SPECIAL).read


def parse(payload: Mapping[str, Any], *, allow_unknown: bool = False) -> ParsedPayload:
    """Reads a payload; see `WireFormat.parse`."""
    facts, fields, special = _read(payload, allow_unknown=allow_unknown)
    media = _convert_special(payload, facts, fields) if special else ()
    add_prompt_facts(facts)
    return ParsedPayload(facts, fields, media)


def _convert_special(
    payload: Mapping[str, Any], facts: dict[str, Any], fields: dict[str, str]
) -> tuple[Medium, ...]:
    """Replaces the special inputs with their facts; returns the images."""
    facts.pop("callback_url", None)
    if "static_mask" in facts:
        facts["static_mask"] = True
    if "camera" in facts:
        add_camera_facts(facts, facts.pop("camera"))
    if "masks" in facts:
        points = [len(mask["trajectories"]) for mask in facts["masks"]]
        facts["masks"] = len(points)
        if points:
            facts["fewest_mask_points"], facts["most_mask_points"] = min(points), max(points)
    if shots := _shots(payload.get("extra") or {}):
        for name in (f"shot_{shot}_{part}" for shot in shots for part in _SHOT_PARTS):
            del facts[name], fields[name]
        _add_shots(shots, facts, fields)
    media = []
    if "images" in facts:
        media = list_media("image", "image_urls[{}]", facts["images"])
        facts["images"] = facts["start_images"] = len(media)
    if "last_frame" in facts:
        media.append(Medium("image", "last_frame", facts["last_frame"]))
        facts["last_frame"] = True
    return tuple(media)


def _add_shots(shots: Mapping[int, Mapping[str, Any]], facts: dict[str, Any], fields: dict[str, str]) -> None:
    """Adds the facts about the shots; unless the payload gives a duration, the video is as long as they are."""
    first = next(iter(shots))
    fields["shots"] = f"extra.shot_{first}_prompt"
    add_shot_facts(facts, [*shots.values()])
    facts["misnumbered_shots"] = sum(not 1 <= shot <= len(shots) for shot in shots)
    if "duration_s" in facts:
        facts["duration_beside_shots"] = True
    else:
        facts["duration_s"] = sum(shot["duration"] for shot in shots.values())
        fields["duration_s"] = f"extra.shot_{first}_duration"


def amend(payload: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a copy of the payload with other settings; see `WireFormat.amend`.

    Raises:
        WireFormatError: `extra.mode` has no value for the resolution, or only the shots decide the duration.
    """
    amended = dict(payload)
    extra = dict(payload.get("extra") or {})
    for name, value in changes.items():
        if name == "resolution":
            if value not in _MODES:
                remedy = f"use {joined_with_or(_MODES)}"
                raise _amend_error("extra.mode", f"extra.mode has no value for {value}; {remedy}")
            extra["mode"] = _MODES[value]
        elif name == "audio":
            extra["enable_audio"] = value
        elif name != "duration_s" or payload.get("duration") is not None or not (shots := _shots(extra)):
            amended[FIELD_NAMES[name]] = value
        elif value != sum(shot["duration"] for shot in shots.values()):
            raise _amend_error(
                f"extra.shot_{next(iter(shots))}_duration",
                "a multi-shot video is as long as all its shots together; change their durations so that "
                f"they add up to {value} seconds",
            )
    if extra or payload.get("extra") is not None:
        amended["extra"] = extra
    return amended


def _amend_error(field: str, message: str) -> WireFormatError:
    return WireFormatError(message, wire_format="tasks_extra", field=field)


def read_task(body: Mapping[str, Any]) -> Task:
    """Reads a response of the task system; see `read_quota_task`."""
    return read_quota_task(body, "tasks_extra")
