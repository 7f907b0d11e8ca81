"""Wire format `openai_videos`: `POST /v1/videos` of OctopusX, as JSON or as the form that OpenAI's SDK sends.

Source: OctopusX's pages "Kling Video Generation, OpenAI format" and "Unified video generation".
A form (see `wire.forms`) is a flat mapping of text, with keys such as `metadata[output_config][duration]`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from math import gcd
from typing import Any, TypeAlias

from kling_pricing.errors import WireFormatError
from kling_pricing.wire.facts import add_prompt_facts
from kling_pricing.wire.fields import AllowedWords, Field, Violations, list_of, missing, not_empty, wrong_value
from kling_pricing.wire.forms import form_key, is_nested_form, nested_payload
from kling_pricing.wire.media import Medium
from kling_pricing.wire.reader import PayloadReader, ReadResult
from kling_pricing.wire.request import ParsedPayload
from kling_pricing.wire.task import Task, read_gateway_task

_NAME = "openai_videos"

Path: TypeAlias = tuple[str, ...]

_WHOLE = re.compile(r"[0-9]{1,9}")
_SIZE = re.compile(r"([1-9][0-9]{0,5})([xX])([1-9][0-9]{0,5})")
_HEIGHT = re.compile(r"([1-9][0-9]{0,5})p")
_BILLING_SPEC = re.compile(
    r"(?:(?:^|-)(?P<action>motion(?=-(?:std|pro))|avatar|identify-face))?"
    r"(?:(?<=motion)-(?P<motion_level>std|pro))?"
    r"(?:(?:^|-)(?P<resolution>[0-9]+[pk]))?"
    r"(?:(?:^|-)(?P<reference>ref|noref))?(?:(?:^|-)(?P<audio>audio|mute))?$"
)


def _check_seconds(value: Any, path: str, violations: Violations) -> None:
    """Checks a duration, which is a whole number or, as OpenAI's SDK sends it, text."""
    if type(value) is not int and not (isinstance(value, str) and _WHOLE.fullmatch(value)):
        violations.append(wrong_value(path, "a whole number of seconds, as a number or as text", value))


def _check_size(value: str, path: str, violations: Violations) -> None:
    if not _SIZE.fullmatch(value):
        violations.append(wrong_value(path, "width x height, such as 720x1280", value))


def _check_audio(value: str, path: str, violations: Violations) -> None:
    if value.lower() not in _AUDIO:
        violations.append(wrong_value(path, "Enabled or Disabled", value))


def _image_url(image: Mapping[str, Any]) -> str:
    """Returns the URL or file ID of an image that is an object; empty if it has neither."""
    values = (image.get(name) for name in ("image_url", "file_id"))
    return next((value for value in values if isinstance(value, str) and value), "")


def _check_image(value: Any, path: str, violations: Violations) -> None:
    """Checks an image: its URL or file name, or an object with its URL or file ID."""
    if isinstance(value, Mapping):
        if not _image_url(value):
            violations.append(missing(f"{path}.image_url"))
    elif not isinstance(value, str):
        violations.append(wrong_value(path, "non-empty text", value))
    else:
        not_empty(value, path, violations)


_AUDIO = {"enabled": True, "disabled": False}

_OUTPUT_CONFIG: Mapping[str, Field] = {
    "duration": Field("nested_duration", object, _check_seconds, int),
    "resolution": Field("resolution", str, read=str.lower),
    "aspect_ratio": Field("aspect_ratio", str, stated="aspect_ratio_stated"),
    "audio_generation": Field("audio", str, _check_audio, lambda value: _AUDIO[value.lower()]),
}
_METADATA: Mapping[str, Field] = {
    **dict.fromkeys(
        ("seconds", "duration", "video_duration"),  # read by a known implementation, but not published
        Field("duration_s", object, _check_seconds, int, published=False),
    ),
    "output_config": Field("output_config", dict, inside=_OUTPUT_CONFIG),
    "scene_type": Field(
        "action", str, AllowedWords("motion_control", "avatar_i2v", "lip_sync", "template_effect")
    ),
    "motion_level": Field("motion_level", str, AllowedWords("std", "pro")),
    "offpeak": Field("off_peak", bool),
    "last_frame_url": Field("last_frame_url", str, not_empty),
    "video_url": Field("video_url", str, not_empty),
    "file_infos": Field("file_infos", str),
    "ext_info": Field("ext_info", str),
}
FIELDS: Mapping[str, Field] = {
    "model": Field("model", str),
    "prompt": Field("prompt", str),
    "seconds": Field("duration_s", object, _check_seconds, int),
    "duration": Field("duration_s", object, _check_seconds, int),
    "size": Field("size", str, _check_size),
    "image": Field("image", str, not_empty),
    "images": Field("image_list", list, list_of(str, not_empty)),
    "input_reference": Field("input_reference", object, _check_image),
    "metadata": Field("metadata", dict, inside=_METADATA),
}
"""Of several fields that give a duration, the first in this list counts."""

_PASSED_THROUGH = ("file_infos", "ext_info")
_MATERIAL = frozenset(
    ("image", "image_list", "input_reference", "last_frame_url", "video_url", *_PASSED_THROUGH)
)
_SPECIAL = {"nested_duration", "size", "motion_level", *_MATERIAL}

_SECONDS_IF_NESTED = 5
"""A known implementation ignores `output_config.duration` when it bills, and bills this length."""

_RESOLUTION_OF_LEVEL = {"std": "720p", "pro": "1080p"}
"""The resolution at whose price a level of motion control may be billed."""


def _flat_fields(fields: Mapping[str, Field], parent: Path = ()) -> Iterator[tuple[Path, Field]]:
    """Yields every field with its path, each before the fields inside it."""
    for name, field in fields.items():
        yield (*parent, name), field._replace(inside={})
        yield from _flat_fields(field.inside, (*parent, name))


_FLAT_FIELDS: Mapping[Path, Field] = dict(_flat_fields(FIELDS))
_GROUPS = {("metadata",), ("metadata", "output_config")}

_PATH_OF = {field.name: path for path, field in _FLAT_FIELDS.items()}
_NESTED_DURATION = _PATH_OF["nested_duration"]
_DURATIONS = (*(path for path, field in _FLAT_FIELDS.items() if field.name == "duration_s"), _NESTED_DURATION)


def _dotted(path: Path) -> str:
    return ".".join(path)


class _JsonReader(PayloadReader):
    """Reads JSON, with violations that name fields by their dotted paths."""

    def read_by_field(self, payload: Mapping[str, Any], *, allow_unknown: bool) -> ReadResult:
        flat = {_dotted(path): value for path, value in _flat_values(payload)}
        return _dotted_reader.read_by_field(flat, allow_unknown=allow_unknown)


def _flat_reader(path_text: Callable[[Path], str]) -> PayloadReader:
    """Returns a reader of flat payloads, whose keys are paths."""
    return PayloadReader(
        {path_text(path): field for path, field in _FLAT_FIELDS.items()}, _NAME, special=_SPECIAL
    )


_read_json = _JsonReader(FIELDS, _NAME, special=_SPECIAL).read
_dotted_reader = _flat_reader(_dotted)
_read_form = _flat_reader(form_key).read
_DURATION_KEYS = tuple(path_text(path) for path_text in (_dotted, form_key) for path in _DURATIONS)

FIELD_NAMES: Mapping[str, str] = {
    "model": "model",
    "prompt": "prompt",
    "duration_s": "duration",
    "images": "image",
    **{
        name: _dotted(_PATH_OF[name])
        for name in ("resolution", "aspect_ratio", "audio", "action", "motion_level", "off_peak")
    },
    "last_frame": _dotted(_PATH_OF["last_frame_url"]),
    "videos": _dotted(_PATH_OF["video_url"]),
    "passthrough": _dotted(_PATH_OF["file_infos"]),
}


def _nested(form: Mapping[str, str]) -> dict[str, Any]:
    """Returns the payload that a form stands for, with `offpeak` as true or false."""
    payload = nested_payload(form, _NAME)
    metadata = payload.get("metadata")
    if isinstance(metadata, dict):
        off_peak = metadata.get("offpeak")
        metadata["offpeak"] = off_peak == "true" if off_peak in ("true", "false") else off_peak
    return payload


def _flat_values(tree: Mapping[Any, Any], parent: Path = ()) -> list[tuple[Path, Any]]:
    """Returns every value with its path; an object that is not a group of fields is one value."""
    values: list[tuple[Path, Any]] = []
    for name, value in tree.items():
        path = (*parent, name)
        if path in _GROUPS and isinstance(value, Mapping):
            values += _flat_values(value, path)
        elif path in _FLAT_FIELDS or (isinstance(name, str) and name.isidentifier()):
            values.append((path, value))
        else:  # quoted, because the name could look like the path of another field
            values.append(((*parent, repr(name)), value))
    return values


def parse(payload: Mapping[str, Any], *, allow_unknown: bool = False) -> ParsedPayload:
    """Reads a payload, JSON or form; see `WireFormat.parse`."""
    if is_nested_form(payload):
        flat = {form_key(path): value for path, value in _flat_values(_nested(payload))}
        facts, fields, special = _read_form(flat, allow_unknown=allow_unknown)
    else:
        facts, fields, special = _read_json(payload, allow_unknown=allow_unknown)
    media, open_facts = _convert_special(facts, fields) if special else ((), None)
    facts.setdefault("reference", False)
    add_prompt_facts(facts)
    return ParsedPayload(facts, fields, media, open_facts)


def _convert_special(
    facts: dict[str, Any], fields: dict[str, str]
) -> tuple[tuple[Medium, ...], Mapping[str, tuple[Any, ...]] | None]:
    """Replaces the special inputs with their facts.

    Returns:
        The files, and open fact -> its possible values; None if no fact is open.
    """
    media = () if _MATERIAL.isdisjoint(fields) else _convert_material(facts, fields)
    open_facts: dict[str, tuple[Any, ...]] = {}
    other_durations = [facts.pop(key) for key in _DURATION_KEYS if key in facts]
    if "nested_duration" in fields:
        nested, path = facts.pop("nested_duration"), fields.pop("nested_duration")
        if "duration_s" in fields:
            other_durations.append(nested)
        else:
            facts["duration_nested"], fields["duration_s"] = True, path
            facts["duration_s"], other_durations = nested, [_SECONDS_IF_NESTED]
    if len(durations := dict.fromkeys((facts.get("duration_s"), *other_durations))) > 1:
        facts["duration_s"], open_facts["duration_s"] = None, tuple(durations)
    if "size" in fields:
        path = fields.pop("size")
        for fact, value in _size_facts(facts.pop("size")).items():
            facts.setdefault(fact, value)
            fields.setdefault(fact, path)
            if value != facts[fact]:
                facts[fact], open_facts[fact] = None, (facts[fact], value)
        facts["aspect_ratio_stated"] = True
    if facts.get("action") == "motion_control" and "motion_level" in facts and "resolution" in facts:
        _add_resolution_of_level(facts, open_facts)
    return media, open_facts or None


def _add_resolution_of_level(facts: dict[str, Any], open_facts: dict[str, tuple[Any, ...]]) -> None:
    """Makes the billed resolution unknown if the level of motion control is that of another resolution."""
    resolutions = open_facts.get("resolution", (facts["resolution"],))
    possible = dict.fromkeys((*resolutions, _RESOLUTION_OF_LEVEL[facts["motion_level"]]))
    if len(possible) > 1:
        facts["resolution"], open_facts["resolution"] = None, tuple(possible)


def _size_facts(size: str) -> dict[str, str]:
    """Returns the resolution and the aspect ratio of a size."""
    width, height = (int(side) for side in size.lower().split("x"))
    divisor = gcd(width, height)
    return {"resolution": f"{min(width, height)}p", "aspect_ratio": f"{width // divisor}:{height // divisor}"}


def _convert_material(facts: dict[str, Any], fields: dict[str, str]) -> tuple[Medium, ...]:
    """Replaces images, videos and passed-through parameters with facts about them; returns the files."""
    inputs = {name: (fields.pop(name), facts.pop(name)) for name in _MATERIAL.intersection(fields)}
    images = [inputs[name] for name in ("image", "input_reference") if name in inputs]
    if "image_list" in inputs:
        path, urls = inputs["image_list"]
        images += [(f"{path}[{number}]", url) for number, url in enumerate(urls)]
    last_frame, video = inputs.get("last_frame_url"), inputs.get("video_url")
    passed_through = next((inputs[name] for name in _PASSED_THROUGH if name in inputs), None)
    if images:
        facts["images"] = facts["start_images"] = len(images)
        fields["images"], _ = images[0]
    if last_frame:
        facts["last_frame"] = True
        fields["last_frame"], _ = last_frame
        images.append(last_frame)
    if video:
        facts["videos"] = 1
        fields["videos"], _ = video
    if passed_through:
        facts["passthrough"] = True
        fields["passthrough"], _ = passed_through
    # Passed-through files are unread and may be a reference too.
    facts["reference"] = True if video else None if images or passed_through else False
    media = [
        Medium("image", path, value if isinstance(value, str) else _image_url(value)) for path, value in images
    ]
    return (*media, Medium("video", *video)) if video else tuple(media)


def amend(payload: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a copy of the payload with other settings; see `WireFormat.amend`.

    A setting is changed in every field that gives it.

    Raises:
        WireFormatError: the size cannot be scaled to the resolution.
    """
    form = is_nested_form(payload)
    values = _flat_values(_nested(payload) if form else payload)
    stated = {path: value for path, value in values if value is not None}
    amended = dict(payload)
    for setting, value in changes.items():
        for path, wire_value in _wire_values(setting, value, stated, form=form):
            _set_value(amended, path, wire_value, form=form)
    return amended


def _wire_values(
    setting: str, value: Any, stated: Mapping[Path, Any], *, form: bool
) -> Iterator[tuple[Path, Any]]:
    """Yields the path and new value of each field that gives the setting, or of one field to add."""
    if setting == "model":
        yield ("model",), value
    elif setting == "duration_s":
        paths = [path for path in _DURATIONS if path in stated]
        if paths in ([], [_NESTED_DURATION]):  # no field yet that is sure to be billed
            paths.append(("duration",))
        for path in paths:
            as_text = isinstance(stated[path], str) if path in stated else form
            yield path, str(value) if as_text else value
    elif setting == "resolution":
        size, path = _PATH_OF["size"], _PATH_OF["resolution"]
        if size in stated:
            yield size, _scaled_size(stated[size], value)
        if path in stated or size not in stated:
            yield path, value.upper() if stated.get(path, "P").isupper() else value
    elif setting == "audio":
        path = _PATH_OF["audio"]
        word = "Enabled" if value else "Disabled"
        old = stated.get(path, word)
        yield path, word.lower() if old.islower() else word.upper() if old.isupper() else word
    else:
        raise WireFormatError(
            f"{setting} cannot be changed; change model, duration_s, resolution or audio",
            wire_format=_NAME,
            field=setting,
        )


def _scaled_size(size: str, resolution: str) -> str:
    """Returns the size with the short side of another resolution and the same aspect ratio."""
    match, height = _SIZE.fullmatch(size), _HEIGHT.fullmatch(resolution)
    if match and height:
        sides, short = (int(match[1]), int(match[3])), int(height[1])
        if all(side * short % min(sides) == 0 for side in sides):
            width, high = (side * short // min(sides) for side in sides)
            return f"{width}{match[2]}{high}"
    raise WireFormatError(
        f"size {size!r} has no exact equivalent at {resolution}; set `size` yourself",
        wire_format=_NAME,
        field="size",
    )


def _set_value(amended: dict[str, Any], path: Path, value: Any, *, form: bool) -> None:
    if form:
        amended[form_key(path)] = value
        return
    node = amended
    for parent in path[:-1]:
        node[parent] = dict(node.get(parent) or {})
        node = node[parent]
    node[path[-1]] = value


_SPEC_WORDS: Mapping[str, Any] = {
    "motion": "motion_control",
    "avatar": "avatar_i2v",
    "identify-face": "lip_sync",
    "ref": True,
    "noref": False,
    "audio": True,
    "mute": False,
}


def read_task(body: Mapping[str, Any]) -> Task:
    """Reads a response; a billing spec at the end of `model`, such as `720p-ref-audio`, becomes facts."""
    task = read_gateway_task(body, _NAME)
    spec = _BILLING_SPEC.search((task.model or "").lower())
    words = spec.groupdict() if spec else {}
    return task._replace(facts={fact: _SPEC_WORDS.get(word, word) for fact, word in words.items() if word})
