"""Wire format `video_generations`: `POST /v1/video/generations` of UniAll.

Source: UniAll's pages "Kling Video Generation" and "Create Video Task".
The model's name decides resolution and audio, so they have no fields.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from kling_pricing.errors import WireFormatError
from kling_pricing.wire.facts import add_prompt_facts
from kling_pricing.wire.fields import (
    Field,
    Violations,
    decimal,
    is_kind,
    list_of,
    not_empty,
    number,
    object_with,
    wrong_kind,
)
from kling_pricing.wire.media import Medium
from kling_pricing.wire.reader import PayloadReader
from kling_pricing.wire.request import ParsedPayload
from kling_pricing.wire.task import Task, read_gateway_task

_WHOLE_NUMBER = re.compile(r"0|[1-9][0-9]{0,8}")


def _check_seconds(value: Any, path: str, violations: Violations) -> None:
    """Checks a duration, which is a whole number or text."""
    if not is_kind(value, int) and not (isinstance(value, str) and _WHOLE_NUMBER.fullmatch(value)):
        violations.append(wrong_kind(path, int, value))


_SHOT = object_with({"prompt": Field("prompt", str, not_empty)}, required=["prompt"])
_EXTRA_BODY: Mapping[str, Field] = {
    "cfg_scale": Field("cfg_scale", object, number, decimal),
    "shot_type": Field("shot_type", str, not_empty),
    "negative_prompt": Field("negative_prompt", str),
    "multi_prompt": Field("shots", list, list_of(dict, _SHOT)),
    "element_list": Field("elements", list, list_of(dict)),
}

FIELDS: Mapping[str, Field] = {
    "model": Field("model", str),
    "prompt": Field("prompt", str),
    "image": Field("first_frame", str, not_empty),
    "last_image": Field("last_frame", str, not_empty),
    "aspect_ratio": Field("aspect_ratio", str, stated="aspect_ratio_stated"),
    "duration": Field("duration_s", object, _check_seconds, int),
    "extra_body": Field("extra_body", dict, inside=_EXTRA_BODY),
}

FIELD_NAMES: Mapping[str, str] = {
    **{field.name: name for name, field in FIELDS.items() if name != "extra_body"},
    **{field.name: f"extra_body.{name}" for name, field in _EXTRA_BODY.items()},
    "resolution": "model",
    "audio": "model",
}

_FRAMES = ("first_frame", "last_frame")

_read = PayloadReader(FIELDS, "video_generations", special=(*_FRAMES, "shots", "elements")).read


def parse(payload: Mapping[str, Any], *, allow_unknown: bool = False) -> ParsedPayload:
    """Reads a payload; see `WireFormat.parse`."""
    facts, fields, special = _read(payload, allow_unknown=allow_unknown)
    media = _convert_special(facts, fields) if special else ()
    add_prompt_facts(facts)
    return ParsedPayload(facts, fields, media)


def _convert_special(facts: dict[str, Any], fields: Mapping[str, str]) -> tuple[Medium, ...]:
    """Replaces the shots, elements and images with facts about them; returns the images."""
    if "shots" in facts:
        prompts = [shot["prompt"] for shot in facts["shots"]]
        facts["shots"] = len(prompts)
        facts["longest_shot_chars"] = max(map(len, prompts), default=0)
    if "elements" in facts:
        facts["elements"] = len(facts["elements"])
    media = []
    for name in _FRAMES:
        if name in facts:
            media.append(Medium("image", fields[name], facts[name]))
            facts[name] = True
    if "first_frame" in facts:
        facts["start_images"] = 1
    return tuple(media)


def amend(payload: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a copy of the payload with other settings; see `WireFormat.amend`.

    Raises:
        WireFormatError: the changes include resolution or audio, which only the model's name decides.
    """
    amended = dict(payload)
    if payload.get("extra_body") is not None:
        amended["extra_body"] = dict(payload["extra_body"])
    for name, value in changes.items():
        if name in {"resolution", "audio"}:
            raise WireFormatError(
                f"in this API, the model name determines {name}; change `model` instead",
                wire_format="video_generations",
                field="model",
            )
        if name == "duration_s" and isinstance(payload.get("duration"), str):
            amended["duration"] = str(value)
        else:
            amended[FIELD_NAMES[name]] = value
    return amended


def read_task(body: Mapping[str, Any]) -> Task:
    """Reads a response; see `read_gateway_task`."""
    return read_gateway_task(body, "video_generations")
