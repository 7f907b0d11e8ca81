"""Wire format `tasks_extra`: `POST /v1/tasks` with the model's own parameters in `extra` (seed 001)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from kling_pricing.errors import WireFormatError
from kling_pricing.wire.facts import add_prompt_facts
from kling_pricing.wire.fields import (
    Field,
    Problems,
    decimal,
    each,
    is_kind,
    not_empty,
    number,
    object_with,
    one_of,
    wrong,
)
from kling_pricing.wire.media import Medium
from kling_pricing.wire.reader import PayloadReader, Read
from kling_pricing.wire.request import ParsedPayload
from kling_pricing.wire.task import Task, read_quota_task

_RESOLUTIONS = {"std": "720p", "pro": "1080p"}
_MODES = {resolution: mode for mode, resolution in _RESOLUTIONS.items()}

_CAMERA_SETTINGS = ("horizontal", "vertical", "pan", "tilt", "roll", "zoom")
_CAMERA_CONTROL = object_with(
    {
        "type": Field("type", str, not_empty),
        "config": Field(
            "config", dict, object_with({name: Field(name, object, number) for name in _CAMERA_SETTINGS})
        ),
    },
    required=["type"],
)
_POINT = object_with({"x": Field("x", object, number), "y": Field("y", object, number)}, required=["x", "y"])
_MASK = object_with(
    {
        "mask_url": Field("mask_url", str, not_empty),
        "trajectories": Field("trajectories", list, each(dict, _POINT)),
    },
    required=["mask_url", "trajectories"],
)
_EXTRA: Mapping[str, Field] = {
    "mode": Field("resolution", str, one_of(*_RESOLUTIONS), _RESOLUTIONS.get),
    "enable_audio": Field("audio", bool),
    "cfg_scale": Field("cfg_scale", object, number, decimal),
    "camera_control": Field("camera", dict, _CAMERA_CONTROL),
    "static_mask": Field("static_mask", str, not_empty),
    "dynamic_masks": Field("masks", list, each(dict, _MASK)),
}
_SHOT = re.compile(r"shot_(0|[1-9][0-9]{0,5})_(prompt|duration)")
_SHOT_PARTS: Mapping[str, Field] = {"prompt": Field("", str, not_empty), "duration": Field("", int)}


def _named_shots(names: Iterable[Any]) -> list[re.Match[str]]:
    """Those of some names that speak of a shot."""
    return [match for name in map(str, names) if name.startswith("shot_") and (match := _SHOT.fullmatch(name))]


def _with_shots(names: Iterable[Any]) -> Mapping[str, Field]:
    """The fields of an `extra`, those of them that speak of shots included."""
    shots = {match[0]: _SHOT_PARTS[match[2]]._replace(name=match[0]) for match in _named_shots(names)}
    return {**_EXTRA, **shots}


_SHOT_1 = ("shot_1_prompt", "shot_1_duration")
_USUAL_SHOTS = tuple(f"shot_{shot}_{part}" for shot in range(1, 7) for part in _SHOT_PARTS)
"""There may be shots of any number; these are read fastest."""

FIELDS: Mapping[str, Field] = {
    "model": Field("model", str),
    "action": Field("action", str),
    "prompt": Field("prompt", str),
    "aspect_ratio": Field("aspect_ratio", str, stated="aspect_ratio_stated"),
    "duration": Field("duration_s", int),
    "negative_prompt": Field("negative_prompt", str),
    "image_urls": Field("images", list, each(str, not_empty)),
    "last_frame": Field("last_frame", str, not_empty),
    "callback_url": Field("callback_url", str, not_empty),
    "extra": Field("extra", dict, inside=_with_shots(_USUAL_SHOTS)),
}

FIELD_NAMES: Mapping[str, str] = {
    **{field.name: name for name, field in FIELDS.items() if name != "extra"},
    **{field.name: f"extra.{name}" for name, field in _EXTRA.items()},
    "shots": f"extra.{_SHOT_1[0]}",
}


class _ExtraReader(PayloadReader):
    """Reads shots of any number, and tells of those that are not whole."""

    def read_each(self, payload: Mapping[str, Any], *, allow_unknown: bool) -> Read:
        extra: Any = payload.get("extra")
        inside = _with_shots((*_SHOT_1, *extra) if is_kind(extra, dict) else _SHOT_1)
        fields = {**FIELDS, "extra": Field("extra", dict, _whole_shots, inside=inside)}
        values, said, _ = PayloadReader(fields, self.wire_format).read_each(
            payload, allow_unknown=allow_unknown
        )
        return values, said, True


def _whole_shots(extra: Mapping[str, Any], path: str, problems: Problems) -> None:
    """Checks that each shot that an `extra` begins is given whole."""
    for shot in dict.fromkeys(match[1] for match in _named_shots(extra)):
        for part in _SHOT_PARTS:
            if f"shot_{shot}_{part}" not in extra:
                problems.append(wrong(f"{path}.shot_{shot}_{part}", "present", None))


def _shots(extra: Mapping[str, Any]) -> dict[int, tuple[str, int]]:
    """Number -> prompt and length of every shot of an `extra` that was checked."""
    return {
        int(match[1]): (extra[match[0]], extra[f"shot_{match[1]}_duration"])
        for match in _named_shots(extra)
        if match[2] == "prompt" and extra.get(match[0]) is not None
    }


_SPECIAL = (
    *("negative_prompt", "images", "last_frame", "callback_url", "camera", "static_mask", "masks"),
    *_USUAL_SHOTS,
)

_read = _ExtraReader(FIELDS, "tasks_extra", special=_SPECIAL).read


def parse(payload: Mapping[str, Any], *, allow_unknown: bool = False) -> ParsedPayload:
    """Reads what a payload says; see `WireFormat.parse`."""
    facts, said, special = _read(payload, allow_unknown=allow_unknown)
    media = _take_special(payload, facts, said) if special else ()
    if (prompt := facts.pop("prompt", None)) is not None:
        add_prompt_facts(facts, prompt)
    return ParsedPayload(facts, said, media)


def _take_images(facts: dict[str, Any]) -> tuple[Medium, ...]:
    """Puts the facts of pictures in the place of their addresses, which it returns."""
    media = []
    if "images" in facts:
        media = [Medium("image", f"image_urls[{place}]", url) for place, url in enumerate(facts["images"])]
        facts["images"] = facts["start_images"] = len(media)
    if "last_frame" in facts:
        media.append(Medium("image", "last_frame", facts["last_frame"]))
        facts["last_frame"] = True
    return tuple(media)


def _take_special(
    payload: Mapping[str, Any], facts: dict[str, Any], said: dict[str, str]
) -> tuple[Medium, ...]:
    """Puts facts in the place of pictures, a camera, masks and shots; returns the pictures."""
    facts.pop("callback_url", None)
    if "negative_prompt" in facts:
        facts["negative_prompt_chars"] = len(facts.pop("negative_prompt"))
    if "static_mask" in facts:
        facts["static_mask"] = True
    if "camera" in facts:
        _take_camera(facts.pop("camera"), facts)
    if "masks" in facts:
        points = [len(mask["trajectories"]) for mask in facts["masks"]]
        facts["masks"] = len(points)
        if points:
            facts["fewest_mask_points"], facts["most_mask_points"] = min(points), max(points)
    if shots := _shots(payload.get("extra") or {}):
        for name in (f"shot_{shot}_{part}" for shot in shots for part in _SHOT_PARTS):
            del facts[name], said[name]
        _take_shots(shots, facts, said)
    return _take_images(facts)


def _take_camera(camera: Mapping[str, Any], facts: dict[str, Any]) -> None:
    facts["camera"] = camera["type"]
    config = camera.get("config") or {}
    sizes = [
        decimal(config[name]).copy_abs() for name in _CAMERA_SETTINGS if config.get(name) is not None
    ]  # and nothing else: unknown fields may be allowed
    facts["camera_config_size"] = len(sizes)
    if sizes:
        facts["camera_extreme"] = max(sizes)


def _take_shots(shots: Mapping[int, tuple[str, int]], facts: dict[str, Any], said: dict[str, str]) -> None:
    """Adds the shots, whose lengths together are the video's unless the payload gives it another."""
    first = next(iter(shots))
    said["shots"] = f"extra.shot_{first}_prompt"
    facts["shots"] = len(shots)
    facts["misnumbered_shots"] = sum(not 1 <= shot <= len(shots) for shot in shots)
    facts["shortest_shot_s"] = min(duration for _, duration in shots.values())
    facts["longest_shot_chars"] = max(len(prompt) for prompt, _ in shots.values())
    if "duration_s" in facts:
        facts["duration_beside_shots"] = True
    else:
        facts["duration_s"] = sum(duration for _, duration in shots.values())
        said["duration_s"] = f"extra.shot_{first}_duration"


def amend(payload: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of the payload with other settings; see `WireFormat.amend`.

    Raises:
        WireFormatError: a resolution that no mode makes, or another length for a video whose shots make it.
    """
    amended = dict(payload)
    extra = dict(payload.get("extra") or {})
    for name, value in changes.items():
        if name == "resolution":
            if value not in _MODES:
                raise _unsayable("extra.mode", f"makes {' or '.join(_MODES)}, not {value}; ask for one of them")
            extra["mode"] = _MODES[value]
        elif name == "audio":
            extra["enable_audio"] = value
        elif name != "duration_s" or payload.get("duration") is not None or not (shots := _shots(extra)):
            amended[FIELD_NAMES[name]] = value
        elif value != sum(duration for _, duration in shots.values()):
            field = f"extra.shot_{next(iter(shots))}_duration"
            raise _unsayable(
                field, f"and those of the other shots make the length, not {value}; change them one by one"
            )
    if extra or payload.get("extra") is not None:
        amended["extra"] = extra
    return amended


def _unsayable(field: str, why: str) -> WireFormatError:
    return WireFormatError(f"{field} {why}", wire_format="tasks_extra", field=field)


def read_task(body: Mapping[str, Any]) -> Task:
    """Reads a response of the task system; see `read_quota_task`."""
    return read_quota_task(body, "tasks_extra")
