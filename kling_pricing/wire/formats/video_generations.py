"""Wire format `video_generations`: `POST /v1/video/generations` (seed 004).

The model's name says resolution and audio, so no field does.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
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
    wrong_kind,
)
from kling_pricing.wire.media import Medium
from kling_pricing.wire.reader import PayloadReader
from kling_pricing.wire.request import ParsedPayload
from kling_pricing.wire.task import Task, text

_WHOLE_NUMBER = re.compile(r"0|[1-9][0-9]{0,8}")


def _seconds(value: Any, path: str, problems: Problems) -> None:
    """Checks a length: a whole number, or one as text."""
    if not is_kind(value, int) and not (isinstance(value, str) and _WHOLE_NUMBER.fullmatch(value)):
        problems.append(wrong_kind(path, int, value))


_SHOT = object_with({"prompt": Field("prompt", str, not_empty)}, required=["prompt"])
_EXTRA_BODY: Mapping[str, Field] = {
    "cfg_scale": Field("cfg_scale", object, number, decimal),
    "shot_type": Field("shot_type", str, not_empty),
    "negative_prompt": Field("negative_prompt", str),
    "multi_prompt": Field("shots", list, each(dict, _SHOT)),
}

FIELDS: Mapping[str, Field] = {
    "model": Field("model", str),
    "prompt": Field("prompt", str),
    "image": Field("first_frame", str, not_empty),
    "last_image": Field("last_frame", str, not_empty),
    "aspect_ratio": Field("aspect_ratio", str, stated="aspect_ratio_stated"),
    "duration": Field("duration_s", object, _seconds, int),
    "extra_body": Field("extra_body", dict, inside=_EXTRA_BODY),
}

FIELD_NAMES: Mapping[str, str] = {
    **{field.name: name for name, field in FIELDS.items() if name != "extra_body"},
    **{field.name: f"extra_body.{name}" for name, field in _EXTRA_BODY.items()},
    "resolution": "model",
    "audio": "model",
}


_SPECIAL = ("first_frame", "last_frame", "negative_prompt", "shots")

_read = PayloadReader(FIELDS, "video_generations", special=_SPECIAL).read


def parse(payload: Mapping[str, Any], *, allow_unknown: bool = False) -> ParsedPayload:
    """Reads what a payload says; see `WireFormat.parse`."""
    facts, said, special = _read(payload, allow_unknown=allow_unknown)
    media = _take_special(facts, said) if special else ()
    if (prompt := facts.pop("prompt", None)) is not None:
        add_prompt_facts(facts, prompt)
    return ParsedPayload(facts, said, media)


def _take_special(facts: dict[str, Any], said: Mapping[str, str]) -> tuple[Medium, ...]:
    """Puts the facts of pictures and texts in the place of these; returns the pictures."""
    if "negative_prompt" in facts:
        facts["negative_prompt_chars"] = len(facts.pop("negative_prompt"))
    if "shots" in facts:
        lengths = [len(shot["prompt"]) for shot in facts["shots"]]
        facts["shots"] = len(lengths)
        facts["longest_shot_chars"] = max(lengths, default=0)
    media = []
    for name in ("first_frame", "last_frame"):
        if name in facts:
            media.append(Medium("image", said[name], facts[name]))
            facts[name] = True
    if "first_frame" in facts:
        facts["start_images"] = 1
    return tuple(media)


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
