"""Wire format `tasks_v2`: the newer `POST /v1/tasks`, which takes no parameter that it does not list."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

from kling_pricing.errors import WireFormatError
from kling_pricing.wire.facts import add_prompt_facts
from kling_pricing.wire.fields import Field, Problems, each, not_empty, object_with, one_of, wrong
from kling_pricing.wire.media import Medium
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
_IMAGE_WITH_ROLE = object_with(
    {
        "url": Field("url", str, not_empty),
        "role": Field("role", str, one_of("first_frame", "last_frame", "reference")),
    },
    required=["url", "role"],
)


def _shots(value: Sequence[Any], path: str, problems: Problems) -> None:
    if not value:
        problems.append(wrong(path, "a list of at least one shot", value))
    each(dict, _SHOT)(value, path, problems)


FIELDS: Mapping[str, Field] = {
    "model": Field("model", str),
    "action": Field("action", str, one_of("generate", "edit")),
    "prompt": Field("prompt", str),
    "negative_prompt": Field("negative_prompt", str),
    "n": Field("calls", int),
    "resolution": Field("resolution", str, read=str.lower),
    "duration": Field("duration_s", int),
    "aspect_ratio": Field("aspect_ratio", str, stated="aspect_ratio_stated"),
    "generate_audio": Field("audio", bool),
    "watermark": Field("watermark", bool),
    "image_urls": Field("images", list, each(str, not_empty)),
    "first_frame_image": Field("first_frame", str, not_empty),
    "last_frame_image": Field("last_frame", str, not_empty),
    "image_with_roles": Field("image_roles", list, each(dict, _IMAGE_WITH_ROLE)),
    "video_urls": Field("videos", list, each(str, not_empty)),
    "keep_original_sound": Field("keep_original_sound", str, one_of("yes", "no")),
    "character_orientation": Field("orientation", str, one_of("image", "video")),
    "multi_shot": Field("multi_shot", bool),
    "shot_type": Field("shot_type", str, one_of("customize", "intelligence")),
    "multi_prompt": Field("shots", list, _shots),
    "element_list": Field("elements", list, each(dict)),
    "callback_url": Field("callback_url", str, not_empty),
    "callback_events": Field("callback_events", list, each(str)),
}

FIELD_NAMES: Mapping[str, str] = {field.name: name for name, field in FIELDS.items()}


_MATERIAL = frozenset({"images", "first_frame", "last_frame", "image_roles", "videos"})


_NO_FACTS = ("keep_original_sound", "callback_url", "callback_events")

_read = PayloadReader(
    FIELDS, "tasks_v2", special=(*_MATERIAL, *_NO_FACTS, "negative_prompt", "shots", "elements")
).read


def parse(payload: Mapping[str, Any], *, allow_unknown: bool = False) -> ParsedPayload:
    """Reads what a payload says; see `WireFormat.parse`."""
    facts, said, special = _read(payload, allow_unknown=allow_unknown)
    media = _take_special(facts, said) if special else ()
    if (prompt := facts.pop("prompt", None)) is not None:
        add_prompt_facts(facts, prompt)
    return ParsedPayload(facts, said, media)


def _take_special(facts: dict[str, Any], said: Mapping[str, str]) -> tuple[Medium, ...]:
    """Puts facts in the place of pictures, videos, shots and elements; returns the files."""
    for name in _NO_FACTS:
        facts.pop(name, None)
    if (negative_prompt := facts.pop("negative_prompt", None)) is not None:
        facts["negative_prompt_chars"] = len(negative_prompt)
    if (shots := facts.pop("shots", None)) is not None:
        _add_shots(facts, shots)
    if (elements := facts.pop("elements", None)) is not None:
        _add_elements(facts, elements)
    return () if said.keys().isdisjoint(_MATERIAL) else _take_material(facts, said)


def _add_shots(facts: dict[str, Any], shots: Sequence[Mapping[str, Any]]) -> None:
    facts["shots"] = len(shots)
    facts["misnumbered_shots"] = sum(shot["index"] != place for place, shot in enumerate(shots, start=1))
    facts["shortest_shot_s"] = min(shot["duration"] for shot in shots)
    facts["longest_shot_chars"] = max(len(shot["prompt"]) for shot in shots)
    if "duration_s" in facts:
        facts["shots_excess_s"] = sum(shot["duration"] for shot in shots) - facts["duration_s"]


def _add_elements(facts: dict[str, Any], elements: Sequence[Mapping[str, Any]]) -> None:
    """Adds how many elements there are, and of how many pictures.

    The keys inside an element are not published, so its pictures are whatever it lists.
    Where one lists nothing, the number of its pictures is not known.
    """
    facts["elements"] = len(elements)
    counts = [_listed(element) for element in elements]
    known = [count for count in counts if count is not None]
    if known and len(known) == len(counts):
        facts["fewest_element_images"], facts["most_element_images"] = min(known), max(known)


def _listed(element: Mapping[str, Any]) -> int | None:
    lists = [value for value in element.values() if isinstance(value, list | tuple)]
    return sum(map(len, lists)) if lists else None


def _take_material(facts: dict[str, Any], said: Mapping[str, str]) -> tuple[Medium, ...]:
    """Puts the facts of pictures and videos in the place of their addresses, which it returns.

    This API counts every picture, wherever it stands, so `images` is their sum.
    """
    media = [Medium("image", f"image_urls[{place}]", url) for place, url in enumerate(facts.pop("images", ()))]
    first_frame, last_frame = facts.pop("first_frame", None), facts.pop("last_frame", None)
    if first_frame is not None:
        media.append(Medium("image", "first_frame_image", first_frame))
    if last_frame is not None:
        media.append(Medium("image", "last_frame_image", last_frame))
    with_roles = facts.pop("image_roles", ())
    roles = {image["role"] for image in with_roles}
    media += [
        Medium("image", f"image_with_roles[{place}].url", image["url"])
        for place, image in enumerate(with_roles)
    ]
    if not said.keys().isdisjoint(_PICTURES):
        facts["images"] = len(media)
        facts["first_frame"] = first_frame is not None or "first_frame" in roles
        facts["last_frame"] = last_frame is not None or "last_frame" in roles
    if "videos" in facts:
        videos = facts.pop("videos")
        facts["videos"] = len(videos)
        media += [Medium("video", f"video_urls[{place}]", url) for place, url in enumerate(videos)]
    return tuple(media)


_PICTURES = ("images", "first_frame", "last_frame", "image_roles")


def amend(payload: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of the payload with other settings; see `WireFormat.amend`."""
    amended = deepcopy(dict(payload))
    for name, value in changes.items():
        field = FIELD_NAMES[name]
        current = payload.get(field)
        if name == "duration_s" and payload.get("multi_prompt") is not None and value != current:
            raise WireFormatError(
                "the length of a multi-shot request is that of its shots; "
                "change the durations in multi_prompt together with duration",
                wire_format="tasks_v2",
                field="multi_prompt",
            )
        shouted = name == "resolution" and isinstance(current, str) and current != current.lower()
        amended[field] = value.upper() if shouted else value
    return amended


def read_task(body: Mapping[str, Any]) -> Task:
    """Reads a response of the task system; see `read_quota_task`."""
    return read_quota_task(body, "tasks_v2")
