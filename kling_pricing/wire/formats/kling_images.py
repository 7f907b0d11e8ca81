"""Wire format `kling_images`: image jobs of Kling's official API, such as `POST /v1/images/generations`.

Source: the image pages of kling.ai (document-api), copies of 2026-09-20.
The path names the job, and some paths also take the name of a model.
Charges in units are image units, which are worth less than the units of video packs.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kling_pricing.errors import WireFormatError
from kling_pricing.wire.charges import IMAGE, UNIT
from kling_pricing.wire.facts import add_prompt_facts
from kling_pricing.wire.fields import (
    AllowedWords,
    Check,
    Field,
    Violations,
    is_kind,
    list_of,
    not_empty,
    number,
    object_with,
    wrong_value,
)
from kling_pricing.wire.formats import kling
from kling_pricing.wire.media import Medium, list_media
from kling_pricing.wire.reader import PayloadReader
from kling_pricing.wire.request import ParsedPayload
from kling_pricing.wire.task import Task

_NAME = __name__.rpartition(".")[2]
_AUTO = "auto"
_MIN_SERIES, _MAX_SERIES, _DEFAULT_SERIES = 2, 9, 4


def _check_series(value: Any, path: str, violations: Violations) -> None:
    if value != _AUTO and not (is_kind(value, int) and _MIN_SERIES <= value <= _MAX_SERIES):
        expected = f'a whole number from {_MIN_SERIES} to {_MAX_SERIES} or "{_AUTO}"'
        violations.append(wrong_value(path, expected, value))


def _images(field: str) -> Check:
    return list_of(dict, object_with({field: Field(field, str, not_empty)}, required=[field]))


FIELDS: Mapping[str, Field] = {
    "model_name": Field("model", str),
    "prompt": Field("prompt", str),
    "negative_prompt": Field("negative_prompt", str),
    "image": Field("first_frame", str),
    "image_list": Field("images", list, _images("image")),
    "subject_image_list": Field("subjects", list, _images("subject_image")),
    "scene_image": Field("scene_image", str),
    "style_image": Field("style_image", str),
    "element_frontal_image": Field("element_frontal_image", str),
    "element_list": Field("elements", list, list_of(dict)),
    "image_reference": Field("image_reference", str),
    "image_fidelity": Field("image_fidelity", object, number),
    "human_fidelity": Field("human_fidelity", object, number),
    "up_expansion_ratio": Field("up_expansion_ratio", object, number),
    "down_expansion_ratio": Field("down_expansion_ratio", object, number),
    "left_expansion_ratio": Field("left_expansion_ratio", object, number),
    "right_expansion_ratio": Field("right_expansion_ratio", object, number),
    "resolution": Field("resolution", str),
    "n": Field("calls", int),
    "result_type": Field("result_type", str, AllowedWords("single", "series")),
    "series_amount": Field("series_amount", object, _check_series),
    "aspect_ratio": Field("aspect_ratio", str, stated="aspect_ratio_stated"),
    "watermark_info": Field("watermark", dict, object_with({"enabled": Field("enabled", bool)})),
    "callback_url": Field("callback_url", str),
    "external_task_id": Field("external_task_id", str),
}

FIELD_NAMES: Mapping[str, str] = {field.name: name for name, field in FIELDS.items()}

_SINGLE_IMAGES = ("first_frame", "scene_image", "style_image", "element_frontal_image")
_SETTINGS = ("model", "resolution", "calls", "aspect_ratio", "aspect_ratio_stated")

_read = PayloadReader(FIELDS, _NAME, special=FIELD_NAMES.keys() - {"model", "resolution", "aspect_ratio"}).read


def parse(payload: Mapping[str, Any], *, allow_unknown: bool = False) -> ParsedPayload:
    """Reads a payload; see `WireFormat.parse`."""
    given = {
        name: value for name, value in payload.items() if value not in ("", [])
    }  # as the samples send them
    inputs, fields, _ = _read(given, allow_unknown=allow_unknown)
    facts = {name: inputs[name] for name in _SETTINGS if name in inputs}
    facts |= {name: inputs[name] for name in ("prompt", "negative_prompt") if name in inputs}
    media = [Medium("image", fields[name], inputs[name]) for name in _SINGLE_IMAGES if name in inputs]
    images = [image["image"] for image in inputs.get("images", ())]
    subjects = [image["subject_image"] for image in inputs.get("subjects", ())]
    media += list_media("image", "image_list[{}].image", images)
    media += list_media("image", "subject_image_list[{}].subject_image", subjects)
    if images:
        facts["images"] = len(images)
    if subjects:
        facts["references"] = len(subjects)
    add_prompt_facts(facts)
    if "first_frame" in inputs:
        facts["first_frame"] = True
    if media:
        facts["start_images"] = len(media)
    if "elements" in inputs:
        facts["elements"] = len(inputs["elements"])
    if (enabled := inputs.get("watermark", {}).get("enabled")) is not None:
        facts["watermark"] = enabled
    possible: dict[str, tuple[Any, ...]] = {}
    if inputs.get("result_type") == "series":  # `n` has no effect then
        amount = inputs.get("series_amount", _DEFAULT_SERIES)
        facts["calls"] = None if amount == _AUTO else amount
        if amount == _AUTO:
            possible["calls"] = (1, _MAX_SERIES)
    return ParsedPayload(facts, fields, tuple(media), possible)


def amend(payload: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a copy of the payload with other settings; see `WireFormat.amend`.

    Raises:
        WireFormatError: the changes include anything but the model or the resolution.
    """
    for name in changes:
        if name not in {"model", "resolution"}:
            raise WireFormatError(f"this API has no field for {name}", wire_format=_NAME, field=name)
    return {**payload, **{FIELD_NAMES[name]: value for name, value in changes.items()}}


def read_task(body: Mapping[str, Any]) -> Task:
    """Reads a response, or the body of a callback; its units are image units."""
    task = kling.read_task(body)
    if task.charge is None:
        return task
    parts = [part._replace(unit=IMAGE) if part.unit == UNIT else part for part in task.charge.parts]
    return task._replace(charge=task.charge._replace(parts=tuple(parts)))
