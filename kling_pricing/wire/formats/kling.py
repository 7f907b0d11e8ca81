"""Wire format `kling`: Kling's official API, legacy endpoints `POST /v1/videos/{text2video|image2video|...}`.

Source: the legacy API reference on kling.ai (document-api).
The payload does not name its endpoint, so one reader takes the fields of all endpoints.
Durations are text (`"5"`), the resolution is a mode (`pro`), and the soundtrack is `on` or `off`.
The reference's own samples send empty text and empty lists for fields that they leave out.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from kling_pricing.display import joined_with_or, shown
from kling_pricing.errors import WireFormatError
from kling_pricing.money import sum_of
from kling_pricing.wire.camera import CAMERA_CONTROL, add_camera_facts
from kling_pricing.wire.charges import exact_number, read_charge
from kling_pricing.wire.facts import add_prompt_facts, add_shot_facts
from kling_pricing.wire.fields import (
    AllowedWords,
    Field,
    Violations,
    decimal,
    list_of,
    missing,
    not_a_data_uri,
    not_empty,
    number,
    object_with,
    wrong_value,
)
from kling_pricing.wire.media import Medium, list_media
from kling_pricing.wire.reader import PayloadReader
from kling_pricing.wire.request import ParsedPayload
from kling_pricing.wire.task import Task, read_text

_NAME = __name__.rpartition(".")[2]
_SECONDS = re.compile(r"0|[1-9][0-9]{0,8}")
_VOICE_MARKER = re.compile(r"<<<voice_([0-9]+)>>>")
_RESOLUTIONS = {"std": "720p", "pro": "1080p", "4k": "4k"}
_SOUND = {"on": True, "off": False}


def _check_seconds(value: Any, path: str, violations: Violations) -> None:
    if not isinstance(value, str) or not _SECONDS.fullmatch(value):
        expected = 'a whole number of seconds written as text, such as "5"'
        violations.append(wrong_value(path, expected, value))


def _check_flag(value: Any, path: str, violations: Violations) -> None:
    """Checks that a value is true or false, which a sample of the reference writes as text."""
    if not isinstance(value, bool) and value not in ("true", "false"):
        violations.append(wrong_value(path, "true or false", value))


def _read_flag(value: bool | str) -> bool:  # noqa: FBT001
    return value in (True, "true")


def _check_reference_image(value: Mapping[str, Any], path: str, violations: Violations) -> None:
    """Checks an entry of `image_list`: some endpoints call its image `image_url`, others `image`."""
    _REFERENCE_IMAGE(value, path, violations)
    if not (value.get("image_url") or value.get("image")):
        violations.append(missing(f"{path}.image_url"))


_REFERENCE_IMAGE = object_with(
    {
        "image_url": Field("image_url", str, not_a_data_uri),
        "image": Field("image", str, not_a_data_uri),
        "type": Field("type", str, AllowedWords("first_frame", "end_frame")),
    },
    empty_is_absent=True,
)
_REFERENCE_VIDEO = object_with(
    {
        "video_url": Field("video_url", str, not_a_data_uri),
        "refer_type": Field("refer_type", str, AllowedWords("base", "feature")),
        "keep_original_sound": Field("keep_original_sound", str, AllowedWords("yes", "no")),
    },
    required=["video_url"],
    empty_is_absent=True,
)
_SHOT = object_with(
    {
        "index": Field("index", int),
        "prompt": Field("prompt", str),
        "duration": Field("duration", object, _check_seconds),
    },
    required=["prompt", "duration"],
)
_POINT = object_with({"x": Field("x", object, number), "y": Field("y", object, number)}, required=["x", "y"])
_MASK = object_with(
    {
        "mask": Field("mask", str, not_a_data_uri),
        "trajectories": Field("trajectories", list, list_of(dict, _POINT)),
    },
    required=["mask", "trajectories"],
)

FIELDS: Mapping[str, Field] = {
    "model_name": Field("model", str),
    "model": Field("old_model", str),
    "prompt": Field("prompt", str),
    "negative_prompt": Field("negative_prompt", str),
    "mode": Field("resolution", str, AllowedWords(*_RESOLUTIONS), _RESOLUTIONS.get),
    "duration": Field("duration_s", object, _check_seconds, int),
    "sound": Field("audio", str, AllowedWords(*_SOUND), _SOUND.get),
    "aspect_ratio": Field("aspect_ratio", str, stated="aspect_ratio_stated"),
    "cfg_scale": Field("cfg_scale", object, number, decimal, stated="cfg_scale_stated"),
    "camera_control": Field("camera", dict, CAMERA_CONTROL),
    "image": Field("first_frame", str, not_a_data_uri),
    "image_tail": Field("last_frame", str, not_a_data_uri),
    "static_mask": Field("static_mask", str, not_a_data_uri),
    "dynamic_masks": Field("masks", list, list_of(dict, _MASK)),
    "image_list": Field("images", list, list_of(dict, _check_reference_image)),
    "video_list": Field("videos", list, list_of(dict, _REFERENCE_VIDEO)),
    "element_list": Field("elements", list, list_of(dict)),
    "voice_list": Field("voices", list, list_of(dict)),
    "multi_shot": Field("multi_shot", object, _check_flag, _read_flag),
    "shot_type": Field("shot_type", str),
    "multi_prompt": Field("shots", list, list_of(dict, _SHOT)),
    "character_orientation": Field("orientation", str, AllowedWords("image", "video")),
    "image_url": Field("motion_image", str, not_a_data_uri),
    "video_url": Field("motion_video", str, not_a_data_uri),
    "keep_original_sound": Field("keep_original_sound", str, AllowedWords("yes", "no")),
    "session_id": Field("edit_session", str, not_empty),
    "edit_mode": Field("edit_mode", str, AllowedWords("addition", "swap", "removal")),
    "video_id": Field("extended_video", str, not_empty),
    "watermark_info": Field("watermark", dict, object_with({"enabled": Field("enabled", bool)})),
    "callback_url": Field("callback_url", str),
    "external_task_id": Field("external_task_id", str),
}

FIELD_NAMES: Mapping[str, str] = {field.name: name for name, field in FIELDS.items() if name != "model"}

_FRAMES = ("first_frame", "last_frame")
_PRESENCES = (*_FRAMES, "motion_image", "motion_video", "static_mask", "edit_session", "extended_video")
"""Inputs for which only their presence is a fact."""

_SETTINGS = {"model", "resolution", "duration_s", "audio", "aspect_ratio", "cfg_scale", "edit_mode"}
_PROMPTS = {"prompt", "negative_prompt"}
_WITHOUT_FACTS = ("keep_original_sound", "callback_url", "external_task_id")

_read = PayloadReader(
    FIELDS,
    _NAME,
    special=(FIELD_NAMES.keys() | {"old_model"}) - _SETTINGS - _PROMPTS,
    empty_is_absent=True,
).read


def parse(payload: Mapping[str, Any], *, allow_unknown: bool = False) -> ParsedPayload:
    """Reads a payload; see `WireFormat.parse`."""
    facts, fields, special = _read(payload, allow_unknown=allow_unknown)
    images: Sequence[Mapping[str, Any]] = facts.pop("images", ()) if special else ()
    if "voices" in facts:
        _add_voice_facts(facts)
    add_prompt_facts(facts, image_count=len(images))  # markers count every image in the list, frames too
    media = _convert_special(payload, facts, fields, images) if special else ()
    return ParsedPayload(facts, fields, media)


def _add_voice_facts(facts: dict[str, Any]) -> None:
    """Replaces the voices with their number, and finds out whether the prompt cites one, which is billed."""
    count = facts["voices"] = len(facts["voices"])
    cited = _VOICE_MARKER.findall(facts.get("prompt", ""))
    facts["voice_control"] = not {str(number) for number in range(1, count + 1)}.isdisjoint(cited)


def _convert_special(
    payload: Mapping[str, Any],
    facts: dict[str, Any],
    fields: dict[str, str],
    images: Sequence[Mapping[str, Any]],
) -> tuple[Medium, ...]:
    """Replaces the special inputs with their facts; returns the files."""
    for name in _WITHOUT_FACTS:
        facts.pop(name, None)
    if "old_model" in facts:
        _add_old_model(facts, fields)
    if "watermark" in facts and (enabled := facts.pop("watermark").get("enabled")) is not None:
        facts["watermark"] = enabled
    if "camera" in facts:
        add_camera_facts(facts, facts.pop("camera"), skip_zeros=True)
    if "masks" in facts:
        points = [len(mask["trajectories"]) for mask in facts["masks"]]
        facts["masks"], facts["fewest_mask_points"], facts["most_mask_points"] = (
            len(points),
            min(points),
            max(points),
        )
    if isinstance(payload.get("multi_shot"), str) and "multi_shot" in facts:
        facts["multi_shot_as_text"] = True
    _convert_shots(facts, fields)
    return _convert_material(facts, fields, images)


def _add_old_model(facts: dict[str, Any], fields: dict[str, str]) -> None:
    """Reads the model from `model`, the older name of the field.

    Raises:
        WireFormatError: `model_name` names another model.
    """
    model, path = facts.pop("old_model"), fields.pop("old_model")
    if facts.setdefault("model", model).lower() != model.lower():
        expected = f"the same as {fields['model']} ({shown(facts['model'])}), or left out"
        violation = wrong_value(path, expected, model)
        raise WireFormatError(violation.message, wire_format=_NAME, field=path, violations=[violation])
    fields.setdefault("model", path)


def _convert_shots(facts: dict[str, Any], fields: dict[str, str]) -> None:
    """Replaces the shots with their facts; without `multi_shot: true`, they and `shot_type` have no effect."""
    shots = facts.pop("shots", ())
    if facts.get("multi_shot"):
        if shots:
            add_shot_facts(facts, shots)
            facts["shots_length_s"] = sum(int(shot["duration"]) for shot in shots)
        return
    for name in ("multi_shot", "shots", "shot_type"):
        fields.pop(name, None)
    facts.pop("shot_type", None)
    if shots:
        facts["ignored_shots"] = len(shots)


def _image_field(image: Mapping[str, Any], index: int) -> str:
    return f"image_list[{index}].{'image_url' if image.get('image_url') else 'image'}"


def _convert_material(
    facts: dict[str, Any], fields: Mapping[str, str], images: Sequence[Mapping[str, Any]]
) -> tuple[Medium, ...]:
    """Replaces the URLs of images and videos with facts about them; returns the files."""
    media = [Medium("image", fields[name], facts[name]) for name in (*_FRAMES, "motion_image") if name in facts]
    if images:
        media += [
            Medium("image", _image_field(image, index), image.get("image_url") or image["image"])
            for index, image in enumerate(images)
        ]
    if "motion_video" in facts:
        media.append(Medium("video", fields["motion_video"], facts["motion_video"]))
    videos = facts.pop("videos", ())
    for name in _PRESENCES:
        if name in facts:
            facts[name] = True
    if images:
        roles = [image.get("type") or None for image in images]
        if "first_frame" in roles:
            facts["first_frame"] = True
        if "end_frame" in roles:
            facts["last_frame"] = True
        facts["images"] = roles.count(None)
    if videos:
        media += list_media("video", "video_list[{}].video_url", [video["video_url"] for video in videos])
        facts["videos"] = len(videos)
        facts["video_use"] = " ".join(sorted({video.get("refer_type") or "base" for video in videos}))
    if "elements" in facts:
        facts["elements"] = len(facts["elements"])
    if images or facts.get("elements"):
        facts["references"] = len(images) + facts.get("elements", 0)
    if facts.get("images") or facts.get("first_frame"):
        facts["start_images"] = facts.get("images", 0) + facts.get("first_frame", False)
    return tuple(media)


_MODES = {resolution: mode for mode, resolution in _RESOLUTIONS.items()}
_SOUND_WORDS = {value: word for word, value in _SOUND.items()}


def amend(payload: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a copy of the payload with other settings; see `WireFormat.amend`.

    Raises:
        WireFormatError: `mode` has no value for the resolution, or a new duration for a payload with shots.
    """
    if "duration_s" in changes and payload.get("multi_prompt") and payload.get("multi_shot") in (True, "true"):
        raise WireFormatError(
            "a multi-shot video is as long as all its shots together; change multi_prompt and duration "
            "together",
            wire_format=_NAME,
            field="multi_prompt",
        )
    new = {FIELD_NAMES[name]: _wire_value(name, value) for name, value in changes.items()}
    if "model" in changes and payload.get("model"):
        new["model"] = changes["model"]
        if not payload.get("model_name"):
            del new["model_name"]
    return {**payload, **new}


def _wire_value(name: str, value: Any) -> Any:
    """Returns the value of a setting as this wire format writes it."""
    if name == "duration_s":
        return str(value)
    if name == "audio":
        return _SOUND_WORDS[value]
    if name == "resolution":
        if value not in _MODES:
            raise WireFormatError(
                f"mode has no value for {value}; use {joined_with_or(_MODES)}", wire_format=_NAME, field="mode"
            )
        return _MODES[value]
    return value


_NEWER_FIELDS = frozenset({"status", "outputs", "billing"})

_STATES = {
    "submitted": "queued",
    "processing": "processing",
    "succeed": "succeeded",
    "succeeded": "succeeded",
    "failed": "failed",
}


def read_task(body: Mapping[str, Any]) -> Task:
    """Reads a response, or the body of a callback, which has the same fields but no `data` around them.

    A task of the newer standard, with `id`, `outputs` and `billing`, is read too: its callbacks may be about a
    task that was submitted to an older endpoint.
    """
    data = body.get("data")
    if not isinstance(data, Mapping):
        data = body
    status = data.get("task_status") or data.get("status")
    state = _STATES.get(status) if isinstance(status, str) else None
    return Task(
        task_id=_task_id(data),
        state=state,
        charge=read_charge(data, succeeded=state == "succeeded"),
        duration_s=_length(data.get("task_result")),
        own_id=_own_id(data),
    )


def _own_id(data: Mapping[str, Any]) -> str | None:
    """Returns the caller's own id: `external_id`, or `external_task_id` in an older task."""
    info = data.get("task_info")
    older = info.get("external_task_id") if isinstance(info, Mapping) else None
    own_id = data.get("external_id") or older
    return own_id if isinstance(own_id, str) and own_id else None


def _task_id(data: Mapping[str, Any]) -> str | None:
    """Returns the task's id: `task_id`, or `id` in an object that has the fields of a newer task."""
    field = "id" if not data.get("task_id") and not _NEWER_FIELDS.isdisjoint(data) else "task_id"
    return read_text(data.get(field), field, _NAME)


def _length(result: Any) -> Decimal | None:
    """Returns the length of the files of an older task together; None if one of them has none."""
    videos = result.get("videos") if isinstance(result, Mapping) else None
    if not isinstance(videos, list | tuple):
        return None
    lengths = [exact_number(video.get("duration")) for video in videos if isinstance(video, Mapping)]
    known = [length for length in lengths if length is not None]
    return sum_of(known) if known and len(known) == len(lengths) else None
