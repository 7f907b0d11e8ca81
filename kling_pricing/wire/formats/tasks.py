"""Wire format `tasks`: `POST /v1/tasks` of QingBo, with every parameter at the top level of the payload.

Source: QingBo's Kling series page of 2026-04-29.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kling_pricing.wire.facts import add_prompt_facts
from kling_pricing.wire.fields import REFERENCE_VIDEOS, Field, folded, list_of, not_empty
from kling_pricing.wire.media import Medium, list_media
from kling_pricing.wire.reader import PayloadReader
from kling_pricing.wire.request import ParsedPayload
from kling_pricing.wire.task import Task, read_quota_task

FIELDS: Mapping[str, Field] = {
    "model": Field("model", str),
    "action": Field("action", str),
    "prompt": Field("prompt", str),
    "aspect_ratio": Field("aspect_ratio", str, stated="aspect_ratio_stated"),
    "resolution": Field("resolution", str, read=folded),
    "duration": Field("duration_s", int),
    "audio": Field("audio", bool),
    "watermark": Field("watermark", bool),
    "image_urls": Field("images", list, list_of(str, not_empty)),
    "first_frame_image": Field("first_frame", str, not_empty),
    "last_frame_image": Field("last_frame", str, not_empty),
    "video_urls": Field("videos", list, list_of(str, not_empty)),
    "video_list": Field("video_list", list, REFERENCE_VIDEOS),
    "callback_url": Field("callback_url", str, not_empty),
    "callback_events": Field("callback_events", list, list_of(str)),
}

FIELD_NAMES: Mapping[str, str] = {field.name: name for name, field in FIELDS.items()}

_FRAMES = ("first_frame", "last_frame")
_MATERIAL = ("images", *_FRAMES, "videos", "video_list")
_WITHOUT_FACTS = ("callback_url", "callback_events")

_read = PayloadReader(FIELDS, "tasks", special=(*_MATERIAL, *_WITHOUT_FACTS)).read


def parse(payload: Mapping[str, Any], *, allow_unknown: bool = False) -> ParsedPayload:
    """Reads a payload; see `WireFormat.parse`."""
    facts, fields, special = _read(payload, allow_unknown=allow_unknown)
    media = _convert_special(facts, fields) if special else ()
    add_prompt_facts(facts)
    return ParsedPayload(facts, fields, media)


def _convert_special(facts: dict[str, Any], fields: dict[str, str]) -> tuple[Medium, ...]:
    """Replaces the special inputs with their facts; returns the files."""
    for name in _WITHOUT_FACTS:
        facts.pop(name, None)
    if fields.keys().isdisjoint(_MATERIAL):
        return ()
    images, videos, video_list = (facts.pop(name, ()) for name in ("images", "videos", "video_list"))
    media = list_media("image", "image_urls[{}]", images)
    media += [Medium("image", fields[name], facts[name]) for name in _FRAMES if name in facts]
    media += list_media("video", "video_urls[{}]", videos)
    media += list_media("video", "video_list[{}].video_url", [video["video_url"] for video in video_list])
    if "video_list" in fields:
        fields["videos"] = fields.pop("video_list")
    for name in _FRAMES:
        facts[name] = name in facts
    facts["images"] = len(images)
    facts["start_images"] = len(images) + facts["first_frame"]
    facts["videos"] = len(videos) + len(video_list)
    return tuple(media)


def amend(payload: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a copy of the payload with other settings; see `WireFormat.amend`."""
    return {**payload, **{FIELD_NAMES[name]: value for name, value in changes.items()}}


def read_task(body: Mapping[str, Any]) -> Task:
    """Reads a response of the task system; see `read_quota_task`."""
    return read_quota_task(body, "tasks")
