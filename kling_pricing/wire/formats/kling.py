"""Wire format `kling`: Kling's official API, legacy endpoints `POST /v1/videos/{text2video|image2video|...}`.

Source: the legacy API reference on kling.ai (document-api).
The payload does not name its endpoint, so one reader takes the fields of all endpoints.
Durations are text (`"5"`), the resolution is a mode (`pro`), and the soundtrack is `on` or `off`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from kling_pricing.display import joined_with_or
from kling_pricing.errors import WireFormatError
from kling_pricing.money import add
from kling_pricing.wire.facts import add_prompt_facts, add_shot_facts
from kling_pricing.wire.fields import (
    REFERENCE_VIDEOS,
    AllowedWords,
    Field,
    Violations,
    decimal,
    list_of,
    not_empty,
    number,
    object_with,
    wrong_value,
)
from kling_pricing.wire.media import Medium, list_media
from kling_pricing.wire.reader import PayloadReader
from kling_pricing.wire.request import ParsedPayload
from kling_pricing.wire.task import Task, read_number, read_text

_NAME = __name__.rpartition(".")[2]
_SECONDS = re.compile(r"0|[1-9][0-9]{0,8}")
_CURRENCY = re.compile(r"[A-Za-z]{3}")
_RESOLUTIONS = {"std": "720p", "pro": "1080p", "4k": "4k"}
_SOUND = {"on": True, "off": False}


def _check_seconds(value: Any, path: str, violations: Violations) -> None:
    if not isinstance(value, str) or not _SECONDS.fullmatch(value):
        expected = 'a whole number of seconds written as text, such as "5"'
        violations.append(wrong_value(path, expected, value))


_REFERENCE_IMAGE = object_with(
    {
        "image_url": Field("image_url", str, not_empty),
        "type": Field("type", str, AllowedWords("first_frame", "end_frame")),
    },
    required=["image_url"],
)
_SHOT = object_with(
    {
        "index": Field("index", int),
        "prompt": Field("prompt", str),
        "duration": Field("duration", object, _check_seconds),
    },
    required=["prompt", "duration"],
)

FIELDS: Mapping[str, Field] = {
    "model_name": Field("model", str),
    "prompt": Field("prompt", str),
    "negative_prompt": Field("negative_prompt", str),
    "mode": Field("resolution", str, AllowedWords(*_RESOLUTIONS), _RESOLUTIONS.get),
    "duration": Field("duration_s", object, _check_seconds, int),
    "sound": Field("audio", str, AllowedWords(*_SOUND), _SOUND.get),
    "aspect_ratio": Field("aspect_ratio", str, stated="aspect_ratio_stated"),
    "cfg_scale": Field("cfg_scale", object, number, decimal),
    "camera_control": Field("camera", dict),
    "image": Field("first_frame", str, not_empty),
    "image_tail": Field("last_frame", str, not_empty),
    "image_list": Field("images", list, list_of(dict, _REFERENCE_IMAGE)),
    "video_list": Field("videos", list, REFERENCE_VIDEOS),
    "element_list": Field("elements", list, list_of(dict)),
    "voice_list": Field("voice_control", list, list_of(dict)),
    "multi_shot": Field("multi_shot", bool),
    "shot_type": Field("shot_type", str),
    "multi_prompt": Field("shots", list, list_of(dict, _SHOT)),
    "character_orientation": Field("orientation", str, AllowedWords("image", "video")),
    "image_url": Field("motion_image", str, not_empty),
    "video_url": Field("motion_video", str, not_empty),
    "keep_original_sound": Field("keep_original_sound", str, AllowedWords("yes", "no")),
    "watermark_info": Field("watermark", dict, object_with({"enabled": Field("enabled", bool)})),
    "callback_url": Field("callback_url", str, not_empty),
    "external_task_id": Field("external_task_id", str),
}

FIELD_NAMES: Mapping[str, str] = {field.name: name for name, field in FIELDS.items()}

_FRAMES = ("first_frame", "last_frame")
_URLS = (*_FRAMES, "motion_image", "motion_video")
_SETTINGS = {"model", "resolution", "duration_s", "audio", "aspect_ratio", "cfg_scale"}
_PROMPTS = {"prompt", "negative_prompt"}
_WITHOUT_FACTS = ("camera", "keep_original_sound", "callback_url", "external_task_id")

_read = PayloadReader(FIELDS, _NAME, special=FIELD_NAMES.keys() - _SETTINGS - _PROMPTS).read


def parse(payload: Mapping[str, Any], *, allow_unknown: bool = False) -> ParsedPayload:
    """Reads a payload; see `WireFormat.parse`."""
    facts, fields, special = _read(payload, allow_unknown=allow_unknown)
    images: Sequence[Mapping[str, Any]] = facts.pop("images", ()) if special else ()
    add_prompt_facts(facts, image_count=len(images))  # markers count every image in the list, frames too
    media = _convert_special(facts, fields, images) if special else ()
    return ParsedPayload(facts, fields, media)


def _convert_special(
    facts: dict[str, Any], fields: Mapping[str, str], images: Sequence[Mapping[str, Any]]
) -> tuple[Medium, ...]:
    """Replaces the special inputs with their facts; returns the files."""
    for name in _WITHOUT_FACTS:
        facts.pop(name, None)
    if "watermark" in facts and (enabled := facts.pop("watermark").get("enabled")) is not None:
        facts["watermark"] = enabled
    if shots := facts.pop("shots", ()):
        add_shot_facts(facts, shots)
        facts["shots_length_s"] = sum(int(shot["duration"]) for shot in shots)
    return _convert_material(facts, fields, images)


def _convert_material(
    facts: dict[str, Any], fields: Mapping[str, str], images: Sequence[Mapping[str, Any]]
) -> tuple[Medium, ...]:
    """Replaces the URLs of images and videos with facts about them; returns the files."""
    media = [Medium("image", fields[name], facts[name]) for name in (*_FRAMES, "motion_image") if name in facts]
    media += list_media("image", "image_list[{}].image_url", [image["image_url"] for image in images])
    if "motion_video" in facts:
        media.append(Medium("video", fields["motion_video"], facts["motion_video"]))
    videos = facts.pop("videos", ())
    media += list_media("video", "video_list[{}].video_url", [video["video_url"] for video in videos])
    for name in _URLS:
        if name in facts:
            facts[name] = True
    roles = [image.get("type") for image in images]
    if "first_frame" in roles:
        facts["first_frame"] = True
    if "end_frame" in roles:
        facts["last_frame"] = True
    if images:
        facts["images"] = roles.count(None)
    if videos:
        facts["videos"] = len(videos)
        facts["video_use"] = " ".join(sorted({video.get("refer_type") or "" for video in videos}))
    if "elements" in facts:
        facts["elements"] = len(facts["elements"])
    if "voice_control" in facts:
        facts["voice_control"] = bool(facts["voice_control"])
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
    if payload.get("multi_prompt") and "duration_s" in changes:
        raise WireFormatError(
            "a multi-shot video lasts as long as its shots together; change multi_prompt together "
            "with duration",
            wire_format=_NAME,
            field="multi_prompt",
        )
    return {**payload, **{FIELD_NAMES[name]: _wire_value(name, value) for name, value in changes.items()}}


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


_STATES = {
    "submitted": "queued",
    "processing": "processing",
    "succeed": "succeeded",
    "succeeded": "succeeded",
    "failed": "failed",
}


def read_task(body: Mapping[str, Any]) -> Task:
    """Reads a response, or the body of a callback, which has the same fields but no `data` around them.

    The charge is either `final_unit_deduction`, in units, or the sum of the entries of `billing`, in units or
    money.
    """
    data = body.get("data")
    if not isinstance(data, Mapping):
        data = body
    amount, unit = _charge(data)
    status = data.get("task_status") or data.get("status")
    return Task(
        task_id=read_text(data.get("task_id"), "task_id", _NAME),
        state=_STATES.get(status) if isinstance(status, str) else None,
        amount=amount,
        amount_unit=unit,
        duration_s=_length(data.get("task_result")),
    )


def _charge(data: Mapping[str, Any]) -> tuple[Decimal | None, str]:
    entries = data.get("billing") or []
    if not isinstance(entries, list | tuple) or not all(isinstance(entry, Mapping) for entry in entries):
        raise WireFormatError("billing must be a list of objects", wire_format=_NAME, field="billing")
    if not entries:
        return read_number(data.get("final_unit_deduction"), "final_unit_deduction", _NAME), "unit"
    units = {
        _unit(read_text(entry.get("currency"), f"billing[{index}].currency", _NAME))
        for index, entry in enumerate(entries)
    }
    if len(units) > 1:
        raise WireFormatError(
            f"billing has entries in {' and '.join(sorted(units))}, which do not add up to one amount; "
            "reconcile this task from the statement",
            wire_format=_NAME,
            field="billing",
        )
    amounts = [
        read_number(entry.get("amount"), f"billing[{index}].amount", _NAME)
        for index, entry in enumerate(entries)
    ]
    return _sum(amounts), units.pop()


def _unit(currency: str | None) -> str:
    """Returns the ISO 4217 code of a currency in capitals; without a currency, the charge is in units."""
    if currency is None:
        return "unit"
    return currency.upper() if _CURRENCY.fullmatch(currency) else currency


def _length(result: Any) -> Decimal | None:
    videos = result.get("videos") if isinstance(result, Mapping) else None
    if not isinstance(videos, list | tuple):
        return None
    return _sum(
        [
            read_number(video.get("duration"), f"task_result.videos[{index}].duration", _NAME)
            for index, video in enumerate(videos)
            if isinstance(video, Mapping)
        ]
    )


def _sum(amounts: Sequence[Decimal | None]) -> Decimal | None:
    """Returns the exact sum; None if there are no amounts, or any amount is unknown."""
    total: Decimal | None = None
    for amount in amounts:
        if amount is None:
            return None
        total = amount if total is None else add(total, amount)
    return total
