"""Wire format `video_generations`: `POST /v1/video/generations` (seed 004).

The model's name says resolution and audio, so no field does.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from kling_pricing.errors import WireFormatError
from kling_pricing.media import Medium
from kling_pricing.request import Said, add_prompt_facts
from kling_pricing.wire.reading import Reader
from kling_pricing.wire.shape import Field, decimal, each, not_empty, number, object_with
from kling_pricing.wire.task import Task, text

_WHOLE_NUMBER = re.compile(r"0|[1-9][0-9]{0,8}")

_SHOT = object_with({"prompt": Field("prompt", str, not_empty)}, required=["prompt"])
_EXTRA_BODY: Mapping[str, Field] = {
    "cfg_scale": Field("cfg_scale", object, number, decimal),
    "shot_type": Field("shot_type", str, not_empty),
    "negative_prompt": Field("negative_prompt", str, read=len),
    "multi_prompt": Field("shots", list, each(dict, _SHOT)),
}

FIELDS: Mapping[str, Field] = {
    "model": Field("model", str),
    "prompt": Field("prompt", str),
    "image": Field("first_frame", str, not_empty),
    "last_image": Field("last_frame", str, not_empty),
    "aspect_ratio": Field("aspect_ratio", str),
    "duration": Field("duration_s", int),
    "extra_body": Field("extra_body", dict, object_with(_EXTRA_BODY)),
}

FIELD_NAMES: Mapping[str, str] = {
    **{field.name: name for name, field in FIELDS.items() if name != "extra_body"},
    **{field.name: f"extra_body.{name}" for name, field in _EXTRA_BODY.items()},
    "resolution": "model",
    "audio": "model",
}


_read = Reader(FIELDS, "video_generations").read


def parse(payload: Mapping[str, Any], *, allow_unknown: bool = False) -> Said:
    """Reads what a payload says; see `WireFormat.parse`."""
    duration = payload.get("duration")
    if isinstance(duration, str) and _WHOLE_NUMBER.fullmatch(duration):
        payload = {**payload, "duration": int(duration)}
    facts, said = _read(payload, allow_unknown=allow_unknown)
    prompt = facts.pop("prompt", None)
    if "aspect_ratio" in facts:
        facts["aspect_ratio_stated"] = True
    media = _take_frames(facts, said) if "first_frame" in facts or "last_frame" in facts else ()
    if "extra_body" in facts:
        del said["extra_body"]
        _take_extra_body(facts.pop("extra_body"), facts, said)
    if prompt is not None:
        add_prompt_facts(facts, prompt)
    return Said(facts, said, media)


def _take_frames(facts: dict[str, Any], said: Mapping[str, str]) -> tuple[Medium, ...]:
    """Puts the facts of pictures in the place of their addresses, which it returns."""
    media = []
    for name in ("first_frame", "last_frame"):
        if name in facts:
            media.append(Medium("image", said[name], facts[name]))
            facts[name] = True
    if "first_frame" in facts:
        facts["start_images"] = 1
    return tuple(media)


def _take_extra_body(extra: Mapping[str, Any], facts: dict[str, Any], said: dict[str, str]) -> None:
    """Adds what `extra_body` says."""
    for name, value in extra.items():
        field = _EXTRA_BODY.get(name)
        if field is not None and value is not None:
            facts[field.name] = value if field.read is None else field.read(value)
            said[field.name] = f"extra_body.{name}"
    if "negative_prompt" in facts:
        facts["negative_prompt_chars"] = facts.pop("negative_prompt")
    if "shots" in facts:
        lengths = [len(shot["prompt"]) for shot in facts["shots"]]
        facts["shots"] = len(lengths)
        facts["longest_shot_chars"] = max(lengths, default=0)


def amend(payload: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A copy of the payload with other settings; see `WireFormat.amend`.

    With another model, resolution and audio may be among the changes: the new name says them.

    Raises:
        WireFormatError: another resolution or audio without another model.
    """
    amended = dict(payload)
    if payload.get("extra_body") is not None:
        amended["extra_body"] = dict(payload["extra_body"])
    for name, value in changes.items():
        if name in {"resolution", "audio"}:
            raise WireFormatError(
                f"only the model's name says {name} here; change the model instead",
                wire_format="video_generations",
                field="model",
            )
        if name == "duration_s" and isinstance(payload.get("duration"), str):
            amended["duration"] = str(value)
        else:
            amended[FIELD_NAMES[name]] = value
    return amended


def read_task(body: Mapping[str, Any]) -> Task:
    """Reads a response, of which no field is documented: no state and no charge is ever taken for granted."""
    field = "id" if body.get("task_id") is None else "task_id"
    return Task(
        task_id=text(body.get(field), field, "video_generations"),
        state=None,
        model=text(body.get("model"), "model", "video_generations"),
    )
