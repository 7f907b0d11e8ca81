"""Wire format `tasks_v2`: QingBo's newer `POST /v1/tasks`, on api.qingbo.ai.

Source: QingBo's Kling pages of 2026-09-19 and 2026-09-24.
The API refuses any parameter that its pages do not list.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kling_pricing.errors import WireFormatError
from kling_pricing.strict_json import snapshot
from kling_pricing.wire.facts import add_prompt_facts, add_shot_facts
from kling_pricing.wire.fields import (
    AllowedWords,
    Field,
    Violations,
    list_of,
    not_empty,
    object_with,
    wrong_value,
)
from kling_pricing.wire.media import Medium, list_media
from kling_pricing.wire.reader import PayloadReader
from kling_pricing.wire.request import ParsedPayload
from kling_pricing.wire.task import Task, read_quota_task

_SHOT = object_with(
    {
        "index": Field("index", int),
        "prompt": Field("prompt", str),
        "duration": Field("duration", int),
    },
    required=["index", "prompt", "duration"],
)
_CHECK_EACH_SHOT = list_of(dict, _SHOT)
_IMAGE_WITH_ROLE = object_with(
    {
        "url": Field("url", str, not_empty),
        "role": Field("role", str, AllowedWords("first_frame", "last_frame", "reference")),
    },
    required=["url", "role"],
)

_ELEMENT = object_with(
    {
        "name": Field("name", str, not_empty),
        "description": Field("description", str),
        "element_input_urls": Field("element_input_urls", list, list_of(str, not_empty)),
    },
    required=["element_input_urls"],
)


def _check_shots(value: Sequence[Any], path: str, violations: Violations) -> None:
    if not value:
        violations.append(wrong_value(path, "a list of at least one shot", value))
    _CHECK_EACH_SHOT(value, path, violations)


FIELDS: Mapping[str, Field] = {
    "model": Field("model", str),
    "action": Field("action", str, AllowedWords("generate", "edit")),
    "prompt": Field("prompt", str),
    "negative_prompt": Field("negative_prompt", str),
    "n": Field("calls", int),
    "resolution": Field("resolution", str, read=str.lower),
    "duration": Field("duration_s", int),
    "aspect_ratio": Field("aspect_ratio", str, stated="aspect_ratio_stated"),
    "generate_audio": Field("audio", bool),
    "watermark": Field("watermark", bool),
    "image_urls": Field("images", list, list_of(str, not_empty)),
    "first_frame_image": Field("first_frame", str, not_empty),
    "last_frame_image": Field("last_frame", str, not_empty),
    "image_with_roles": Field("image_roles", list, list_of(dict, _IMAGE_WITH_ROLE)),
    "video_urls": Field("videos", list, list_of(str, not_empty)),
    "keep_original_sound": Field("keep_original_sound", str, AllowedWords("yes", "no")),
    "character_orientation": Field("orientation", str, AllowedWords("image", "video")),
    "multi_shot": Field("multi_shot", bool),
    "shot_type": Field("shot_type", str, AllowedWords("customize", "intelligence")),
    "multi_prompt": Field("shots", list, _check_shots),
    "element_list": Field("elements", list, list_of(dict, _ELEMENT)),
    "callback_url": Field("callback_url", str, not_empty),
    "callback_events": Field("callback_events", list, list_of(str)),
}

FIELD_NAMES: Mapping[str, str] = {field.name: name for name, field in FIELDS.items()}

_FRAMES = ("first_frame", "last_frame")
_IMAGES = ("images", *_FRAMES, "image_roles")
_MATERIAL = (*_IMAGES, "videos")
_WITHOUT_FACTS = ("keep_original_sound", "callback_url", "callback_events")

_read = PayloadReader(FIELDS, "tasks_v2", special=(*_MATERIAL, *_WITHOUT_FACTS, "shots", "elements")).read


def parse(payload: Mapping[str, Any], *, allow_unknown: bool = False) -> ParsedPayload:
    """Reads a payload; see `WireFormat.parse`."""
    facts, fields, special = _read(payload, allow_unknown=allow_unknown)
    image_urls = facts.get("images", ())
    media = _convert_special(facts, fields) if special else ()
    add_prompt_facts(facts, len(image_urls))
    return ParsedPayload(facts, fields, media)


def _convert_special(facts: dict[str, Any], fields: Mapping[str, str]) -> tuple[Medium, ...]:
    """Replaces the special inputs with their facts; returns the files."""
    for name in _WITHOUT_FACTS:
        facts.pop(name, None)
    if "shots" in facts:
        shots = facts["shots"]
        add_shot_facts(facts, shots)
        if "duration_s" in facts:
            facts["shots_excess_s"] = sum(shot["duration"] for shot in shots) - facts["duration_s"]
    if "elements" in facts:
        counts = [len(element["element_input_urls"]) for element in facts["elements"]]
        facts["elements"] = len(counts)
        if counts:
            facts["fewest_element_images"], facts["most_element_images"] = min(counts), max(counts)
    media = () if fields.keys().isdisjoint(_MATERIAL) else _convert_material(facts, fields)
    if references := facts.get("images", 0) + facts.get("elements", 0):
        facts["references"] = references
    return media


def _convert_material(facts: dict[str, Any], fields: Mapping[str, str]) -> tuple[Medium, ...]:
    """Replaces the URLs of images and videos with facts about them; returns the files.

    This API counts every image, whichever field it is in, so `images` is their total.
    """
    media = list_media("image", "image_urls[{}]", facts.pop("images", ()))
    media += [Medium("image", fields[name], facts[name]) for name in _FRAMES if name in facts]
    images_with_roles = facts.pop("image_roles", ())
    roles: set[str] = set()
    if images_with_roles:
        media += list_media("image", "image_with_roles[{}].url", [image["url"] for image in images_with_roles])
        roles = {image["role"] for image in images_with_roles}
    if not fields.keys().isdisjoint(_IMAGES):
        for name in _FRAMES:
            facts[name] = name in facts or name in roles
        facts["images"] = len(media)
    if "videos" in facts:
        media += list_media("video", "video_urls[{}]", facts["videos"])
        facts["videos"] = len(facts["videos"])
    return tuple(media)


def amend(payload: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a copy of the payload with other settings; see `WireFormat.amend`.

    Raises:
        WireFormatError: a new duration for a payload with shots.
    """
    amended = snapshot(payload)
    for name, value in changes.items():
        field = FIELD_NAMES[name]
        current = payload.get(field)
        if name == "duration_s" and payload.get("multi_prompt") is not None and value != current:
            raise WireFormatError(
                "a multi-shot video is as long as all its shots together; "
                "change `duration` and the durations in multi_prompt together",
                wire_format="tasks_v2",
                field="multi_prompt",
            )
        in_capitals = name == "resolution" and isinstance(current, str) and current != current.lower()
        amended[field] = value.upper() if in_capitals else value
    return amended


def read_task(body: Mapping[str, Any]) -> Task:
    """Reads a response of the task system; see `read_quota_task`."""
    return read_quota_task(body, "tasks_v2")
