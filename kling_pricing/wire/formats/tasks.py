"""Wire format `tasks`: `POST /v1/tasks` with every parameter at the payload's top level (seeds 000 and 002)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kling_pricing.wire.facts import add_prompt_facts
from kling_pricing.wire.fields import Field, each, folded, not_empty, object_with, one_of
from kling_pricing.wire.media import Medium
from kling_pricing.wire.reader import PayloadReader
from kling_pricing.wire.request import ParsedPayload
from kling_pricing.wire.task import Task, read_quota_task

_REFERENCE_VIDEO = object_with(
    {
        "video_url": Field("video_url", str, not_empty),
        "refer_type": Field("refer_type", str, one_of("base", "feature")),
        "keep_original_sound": Field("keep_original_sound", str, one_of("yes", "no")),
    },
    required=["video_url"],
)

FIELDS: Mapping[str, Field] = {
    "model": Field("model", str),
    "action": Field("action", str),
    "prompt": Field("prompt", str),
    "aspect_ratio": Field("aspect_ratio", str, stated="aspect_ratio_stated"),
    "resolution": Field("resolution", str, read=folded),
    "duration": Field("duration_s", int),
    "audio": Field("audio", bool),
    "watermark": Field("watermark", bool),
    "image_urls": Field("images", list, each(str, not_empty)),
    "first_frame_image": Field("first_frame", str, not_empty),
    "last_frame_image": Field("last_frame", str, not_empty),
    "video_urls": Field("videos", list, each(str, not_empty)),
    "video_list": Field("video_list", list, each(dict, _REFERENCE_VIDEO)),
    "callback_url": Field("callback_url", str, not_empty),
    "callback_events": Field("callback_events", list, each(str)),
}

FIELD_NAMES: Mapping[str, str] = {field.name: name for name, field in FIELDS.items()}

_MATERIAL = ("images", "first_frame", "last_frame", "videos", "video_list")
_NO_FACTS = ("callback_url", "callback_events")

_read = PayloadReader(FIELDS, "tasks", special=(*_MATERIAL, *_NO_FACTS)).read


def parse(payload: Mapping[str, Any], *, allow_unknown: bool = False) -> ParsedPayload:
    """Reads what a payload says; see `WireFormat.parse`."""
    facts, said, special = _read(payload, allow_unknown=allow_unknown)
    media = _take_special(facts, said) if special else ()
    if (prompt := facts.pop("prompt", None)) is not None:
        add_prompt_facts(facts, prompt)
    return ParsedPayload(facts, said, media)


def _take_special(facts: dict[str, Any], said: dict[str, str]) -> tuple[Medium, ...]:
    """Puts the facts of pictures and videos in the place of their addresses, which it returns."""
    for name in _NO_FACTS:
        facts.pop(name, None)
    if said.keys().isdisjoint(_MATERIAL):
        return ()
    images, videos = facts.pop("images", ()), facts.pop("videos", ())
    first_frame, last_frame = facts.pop("first_frame", None), facts.pop("last_frame", None)
    video_list = facts.pop("video_list", ())
    if "video_list" in said:
        said["videos"] = said.pop("video_list")
    facts["images"] = len(images)
    facts["first_frame"] = first_frame is not None
    facts["last_frame"] = last_frame is not None
    facts["start_images"] = len(images) + facts["first_frame"]
    facts["videos"] = len(videos) + len(video_list)
    media = [Medium("image", f"image_urls[{place}]", url) for place, url in enumerate(images)]
    if first_frame is not None:
        media.append(Medium("image", "first_frame_image", first_frame))
    if last_frame is not None:
        media.append(Medium("image", "last_frame_image", last_frame))
    media += [Medium("video", f"video_urls[{place}]", url) for place, url in enumerate(videos)]
    media += [
        Medium("video", f"video_list[{place}].video_url", video["video_url"])
        for place, video in enumerate(video_list)
    ]
    return tuple(media)


def amend(payload: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of the payload with other settings; see `WireFormat.amend`."""
    return {**payload, **{FIELD_NAMES[name]: value for name, value in changes.items()}}


def read_task(body: Mapping[str, Any]) -> Task:
    """Reads a response of the task system; see `read_quota_task`."""
    return read_quota_task(body, "tasks")
