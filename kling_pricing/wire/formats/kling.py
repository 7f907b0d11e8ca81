"""Wire format `kling`: the official API's legacy shape, `POST /v1/videos/{text2video|image2video|...}`.

The endpoint is no part of a payload, so one reader takes the fields of all of them.
Lengths are text (`"5"`), the resolution is a mode (`pro`), the soundtrack is `on` or `off`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from kling_pricing.errors import WireFormatError
from kling_pricing.money import add
from kling_pricing.wire.facts import add_prompt_facts
from kling_pricing.wire.fields import (
    Field,
    Problems,
    decimal,
    each,
    not_empty,
    number,
    object_with,
    one_of,
    wrong,
)
from kling_pricing.wire.media import Medium
from kling_pricing.wire.reader import PayloadReader
from kling_pricing.wire.request import ParsedPayload
from kling_pricing.wire.task import Task, exact, text

_NAME = __name__.rpartition(".")[2]
_SECONDS = re.compile(r"0|[1-9][0-9]{0,8}")
_CURRENCY = re.compile(r"[A-Za-z]{3}")
_RESOLUTIONS = {"std": "720p", "pro": "1080p", "4k": "4k"}
_SOUND = {"on": True, "off": False}


def _seconds(value: Any, path: str, problems: Problems) -> None:
    if not isinstance(value, str) or not _SECONDS.fullmatch(value):
        problems.append(wrong(path, 'a whole number of seconds written as text, such as "5"', value))


_REFERENCE_IMAGE = object_with(
    {
        "image_url": Field("image_url", str, not_empty),
        "type": Field("type", str, one_of("first_frame", "end_frame")),
    },
    required=["image_url"],
)
_REFERENCE_VIDEO = object_with(
    {
        "video_url": Field("video_url", str, not_empty),
        "refer_type": Field("refer_type", str, one_of("base", "feature")),
        "keep_original_sound": Field("keep_original_sound", str, one_of("yes", "no")),
    },
    required=["video_url"],
)
_SHOT = object_with(
    {
        "index": Field("index", int),
        "prompt": Field("prompt", str),
        "duration": Field("duration", object, _seconds),
    },
    required=["prompt", "duration"],
)

FIELDS: Mapping[str, Field] = {
    "model_name": Field("model", str),
    "prompt": Field("prompt", str),
    "negative_prompt": Field("negative_prompt", str),
    "mode": Field("resolution", str, one_of(*_RESOLUTIONS), _RESOLUTIONS.get),
    "duration": Field("duration_s", object, _seconds, int),
    "sound": Field("audio", str, one_of(*_SOUND), _SOUND.get),
    "aspect_ratio": Field("aspect_ratio", str, stated="aspect_ratio_stated"),
    "cfg_scale": Field("cfg_scale", object, number, decimal),
    "camera_control": Field("camera", dict),
    "image": Field("first_frame", str, not_empty),
    "image_tail": Field("last_frame", str, not_empty),
    "image_list": Field("images", list, each(dict, _REFERENCE_IMAGE)),
    "video_list": Field("videos", list, each(dict, _REFERENCE_VIDEO)),
    "element_list": Field("elements", list, each(dict)),
    "voice_list": Field("voice_control", list, each(dict)),
    "multi_shot": Field("multi_shot", bool),
    "shot_type": Field("shot_type", str),
    "multi_prompt": Field("shots", list, each(dict, _SHOT)),
    "character_orientation": Field("orientation", str, one_of("image", "video")),
    "image_url": Field("motion_image", str, not_empty),
    "video_url": Field("motion_video", str, not_empty),
    "keep_original_sound": Field("keep_original_sound", str, one_of("yes", "no")),
    "watermark_info": Field("watermark", dict, object_with({"enabled": Field("enabled", bool)})),
    "callback_url": Field("callback_url", str, not_empty),
    "external_task_id": Field("external_task_id", str),
}

FIELD_NAMES: Mapping[str, str] = {field.name: name for name, field in FIELDS.items()}

_SETTINGS = {"model", "prompt", "resolution", "duration_s", "audio", "aspect_ratio", "cfg_scale"}
_NO_FACTS = ("camera", "keep_original_sound", "callback_url", "external_task_id")

_read = PayloadReader(FIELDS, _NAME, special=FIELD_NAMES.keys() - _SETTINGS).read


def parse(payload: Mapping[str, Any], *, allow_unknown: bool = False) -> ParsedPayload:
    """Reads what a payload says; see `WireFormat.parse`."""
    facts, said, special = _read(payload, allow_unknown=allow_unknown)
    listed: Sequence[Mapping[str, Any]] = facts.pop("images", ()) if special else ()
    if (prompt := facts.pop("prompt", None)) is not None:
        add_prompt_facts(facts, prompt, images=len(listed))  # markers count every picture there, frames too
    media = _take_special(facts, listed) if special else ()
    return ParsedPayload(facts, said, media)


def _take_special(facts: dict[str, Any], images: Sequence[Mapping[str, Any]]) -> tuple[Medium, ...]:
    """Puts facts in the place of what needs more than reading, leaves out what is none; returns the files."""
    for name in _NO_FACTS:
        facts.pop(name, None)
    if "watermark" in facts and (marked := facts.pop("watermark").get("enabled")) is not None:
        facts["watermark"] = marked
    if "negative_prompt" in facts:
        facts["negative_prompt_chars"] = len(facts.pop("negative_prompt"))
    _take_shots(facts)
    return _take_material(facts, images)


def _take_material(facts: dict[str, Any], images: Sequence[Mapping[str, Any]]) -> tuple[Medium, ...]:
    """Puts the facts of pictures and videos in the place of their addresses, which it returns."""
    media = [
        Medium("image", field, facts[name])
        for name, field in (
            ("first_frame", "image"),
            ("last_frame", "image_tail"),
            ("motion_image", "image_url"),
        )
        if name in facts
    ]
    media += [
        Medium("image", f"image_list[{place}].image_url", each["image_url"])
        for place, each in enumerate(images)
    ]
    if "motion_video" in facts:
        media.append(Medium("video", "video_url", facts["motion_video"]))
    videos = facts.pop("videos", ())
    media += [
        Medium("video", f"video_list[{place}].video_url", each["video_url"])
        for place, each in enumerate(videos)
    ]
    for name in ("first_frame", "last_frame", "motion_image", "motion_video"):
        if name in facts:
            facts[name] = True
    roles = [each.get("type") for each in images]
    if "first_frame" in roles:
        facts["first_frame"] = True
    if "end_frame" in roles:
        facts["last_frame"] = True
    if images:
        facts["images"] = roles.count(None)
    if videos:
        facts["videos"] = len(videos)
        facts["video_use"] = " ".join(sorted({each.get("refer_type") or "" for each in videos}))
    for name in ("elements", "voice_control"):
        if name in facts:
            facts[name] = len(facts[name]) if name == "elements" else bool(facts[name])
    if images or facts.get("elements"):
        facts["references"] = len(images) + facts.get("elements", 0)
    if facts.get("images") or facts.get("first_frame"):
        facts["start_images"] = facts.get("images", 0) + facts.get("first_frame", False)
    return tuple(media)


def _take_shots(facts: dict[str, Any]) -> None:
    shots = facts.pop("shots", ())
    if shots:
        lengths = [int(shot["duration"]) for shot in shots]
        facts["shots"] = len(shots)
        facts["shots_length_s"] = sum(lengths)
        facts["shortest_shot_s"] = min(lengths)
        facts["longest_shot_chars"] = max(len(shot["prompt"]) for shot in shots)
        numbers = [shot.get("index") for shot in shots]
        facts["misnumbered_shots"] = sum(
            index is not None and index != place for place, index in enumerate(numbers, 1)
        )


_MODES = {resolution: mode for mode, resolution in _RESOLUTIONS.items()}
_SWITCH = {value: word for word, value in _SOUND.items()}


def amend(payload: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of the payload with other settings; see `WireFormat.amend`.

    Raises:
        WireFormatError: `mode` has no word for the resolution, or the length is that of several shots.
    """
    if payload.get("multi_prompt") and "duration_s" in changes:
        raise WireFormatError(
            "a multi-shot request is as long as its shots; change multi_prompt together with duration",
            wire_format=_NAME,
            field="multi_prompt",
        )
    return {**payload, **{FIELD_NAMES[name]: _written(name, value) for name, value in changes.items()}}


def _written(name: str, value: Any) -> Any:
    """A setting's value in this wire's words."""
    if name == "duration_s":
        return str(value)
    if name == "audio":
        return _SWITCH[value]
    if name == "resolution":
        if value not in _MODES:
            raise WireFormatError(
                f"mode cannot say {value!r}; it can say {', '.join(_MODES)}", wire_format=_NAME, field="mode"
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
    """Reads a response, or the body of a callback, which has the same fields without `data` around them.

    A response charges either `final_unit_deduction`, in units, or `billing`, entry by entry in units or money.
    """
    data = body.get("data")
    if not isinstance(data, Mapping):
        data = body
    amount, unit = _charge(data)
    status = data.get("task_status") or data.get("status")
    return Task(
        task_id=text(data.get("task_id"), "task_id", _NAME),
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
        return exact(data.get("final_unit_deduction"), "final_unit_deduction", _NAME), "unit"
    units = {
        _unit(text(entry.get("currency"), f"billing[{place}].currency", _NAME))
        for place, entry in enumerate(entries)
    }
    if len(units) > 1:
        raise WireFormatError(
            f"billing has entries in {' and '.join(sorted(units))}, which do not add up to one amount; "
            "reconcile this task from the statement",
            wire_format=_NAME,
            field="billing",
        )
    amounts = [
        exact(entry.get("amount"), f"billing[{place}].amount", _NAME) for place, entry in enumerate(entries)
    ]
    return _sum(amounts), units.pop()


def _unit(currency: str | None) -> str:
    """A currency by its ISO 4217 code, however it is spelt; where none is named, units were deducted."""
    if currency is None:
        return "unit"
    return currency.upper() if _CURRENCY.fullmatch(currency) else currency


def _length(result: Any) -> Decimal | None:
    videos = result.get("videos") if isinstance(result, Mapping) else None
    if not isinstance(videos, list | tuple):
        return None
    return _sum(
        [
            exact(video.get("duration"), f"task_result.videos[{place}].duration", _NAME)
            for place, video in enumerate(videos)
            if isinstance(video, Mapping)
        ]
    )


def _sum(amounts: Sequence[Decimal | None]) -> Decimal | None:
    """The exact sum; None when there is nothing to add, or one number is not known."""
    total: Decimal | None = None
    for amount in amounts:
        if amount is None:
            return None
        total = amount if total is None else add(total, amount)
    return total
