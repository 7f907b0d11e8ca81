"""Wire format `kling_v2`: Kling's official API, newer endpoints such as `POST /omni-video/kling-3.0-omni`.

Source: the pages of the newer API on kling.ai (document-api), copies of 2026-09-20.
The path of the URL names the model.
Images, videos, elements and most prompts are entries of `contents`; resolution and length are in `settings`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from kling_pricing.display import joined_with_or
from kling_pricing.errors import WireFormatError
from kling_pricing.money import sum_of
from kling_pricing.wire.charges import exact_number
from kling_pricing.wire.facts import add_prompt_facts, add_shot_facts
from kling_pricing.wire.fields import (
    AllowedWords,
    Check,
    Field,
    Violations,
    is_kind,
    missing,
    not_a_data_uri,
    not_empty,
    object_with,
    wrong_kind,
    wrong_value,
)
from kling_pricing.wire.formats import kling
from kling_pricing.wire.media import Medium
from kling_pricing.wire.reader import PayloadReader
from kling_pricing.wire.request import ParsedPayload
from kling_pricing.wire.task import Task, read_text

_NAME = __name__.rpartition(".")[2]

_SHOT = re.compile(r"\s*shot\s+([0-9]{1,3})\s*,\s*([0-9]{1,6})\s*,([^;]*)(?:;|$)", re.IGNORECASE)
_SOUND = {"native": True, "original": False, "off": False}

_TYPE = Field("type", str)
_ID = Field("id", str, not_empty)
_URL = Field("url", str, not_a_data_uri)


def _material(*required: str, **fields: Field) -> Check:
    return object_with({"type": _TYPE, "id": _ID, **fields}, required=required, empty_is_absent=True)


_IMAGE = _material("url", url=_URL)
_MATERIALS: Mapping[str, Check] = {
    "prompt": _material("text", text=Field("text", str)),
    **dict.fromkeys(("first_frame", "last_frame", "refer_image", "image"), _IMAGE),
    **dict.fromkeys(("feature_video", "base_video", "video"), _IMAGE),
    "element": _material("element_id", "id", element_id=Field("element_id", str, not_empty)),
    "voice": _material("voice_id", "id", voice_id=Field("voice_id", str, not_empty)),
}
"""Type of an entry of `contents` -> the check of the entry."""

_SINGLE = {
    "first_frame": "first_frame",
    "last_frame": "last_frame",
    "image": "motion_image",
    "video": "motion_video",
}
"""Type of an entry that may occur once -> its input, which is whether it is there."""

_COUNTED = {
    "refer_image": "images",
    "feature_video": "videos",
    "base_video": "videos",
    "element": "elements",
    "voice": "voices",
}
"""Type of an entry that may occur more often -> its input, which is their number."""

_VIDEO_USES = {"base_video": "base", "feature_video": "feature"}


def _check_contents(contents: Sequence[Any], path: str, violations: Violations) -> None:
    """Checks every entry, and that single entries and ids are not given twice."""
    seen: set[tuple[str, str]] = set()
    for index, entry in enumerate(contents):
        place = f"{path}[{index}]"
        if not is_kind(entry, dict):
            violations.append(wrong_kind(place, dict, entry))
            continue
        kind = entry.get("type")
        if kind is None:
            violations.append(missing(f"{place}.type"))
        elif not isinstance(kind, str) or kind not in _MATERIALS:
            violations.append(wrong_value(f"{place}.type", joined_with_or(_MATERIALS), kind))
        else:
            _MATERIALS[kind](entry, place, violations)
            marks = [("type", kind)] if kind in _SINGLE or kind == "prompt" else []
            marks += [("id", entry["id"])] if isinstance(entry.get("id"), str) and entry["id"] else []
            for name, value in marks:
                if (name, value) in seen:
                    violations.append(wrong_value(f"{place}.{name}", "different from every other entry", value))
                seen.add((name, value))


_SETTINGS: Mapping[str, Field] = {
    "resolution": Field("resolution", str, AllowedWords("720p", "1080p", "4k")),
    "duration": Field("duration_s", int),
    "audio": Field("audio", str, AllowedWords(*_SOUND), _SOUND.get),
    "aspect_ratio": Field("aspect_ratio", str, stated="aspect_ratio_stated"),
    "multi_shot": Field("multi_shot", bool),
    "character_orientation": Field("orientation", str, AllowedWords("image", "video")),
}
_OPTIONS: Mapping[str, Field] = {
    "callback_url": Field("callback_url", str),
    "external_task_id": Field("external_task_id", str),
    "watermark_info": Field("watermark", dict, object_with({"enabled": Field("enabled", bool)})),
}

FIELDS: Mapping[str, Field] = {
    "prompt": Field("prompt", str),
    "contents": Field("contents", list, _check_contents),
    "settings": Field("settings", dict, inside=_SETTINGS),
    "options": Field("options", dict, inside=_OPTIONS),
}

FIELD_NAMES: Mapping[str, str] = {
    "prompt": "prompt",
    **{field.name: f"settings.{name}" for name, field in _SETTINGS.items()},
    **{field.name: f"options.{name}" for name, field in _OPTIONS.items()},
    **dict.fromkeys((*_SINGLE.values(), *_COUNTED.values()), "contents"),
    "shots": "prompt",
}

_read = PayloadReader(
    FIELDS,
    _NAME,
    special=("contents", "audio", "callback_url", "external_task_id", "watermark"),
    empty_is_absent=True,
).read


def parse(payload: Mapping[str, Any], *, allow_unknown: bool = False) -> ParsedPayload:
    """Reads a payload; see `WireFormat.parse`."""
    facts, fields, special = _read(payload, allow_unknown=allow_unknown)
    if "prompt" in facts:
        facts["top_level_prompt"] = True
    if not special:
        _add_prompt_and_shots(facts)
        return ParsedPayload(facts, fields)
    for name in ("callback_url", "external_task_id"):
        facts.pop(name, None)
    if "watermark" in facts and (enabled := facts.pop("watermark").get("enabled")) is not None:
        facts["watermark"] = enabled
    if "audio" in facts and payload["settings"]["audio"] == "original":
        facts["original_sound"] = True
    contents = facts.pop("contents", ())
    fields.pop("contents", None)
    media = _convert_contents(contents, facts, fields)
    cited = _cites_voice(contents, facts.get("prompt", "")) if facts.get("voices") else None
    _add_prompt_and_shots(facts)
    if cited is False:  # the pages do not say whether a voice is billed that the prompt does not cite
        return ParsedPayload(facts, fields, media, {"voice_control": (False, True)})
    if cited:
        facts["voice_control"] = True
    return ParsedPayload(facts, fields, media)


def _convert_contents(
    contents: Sequence[Mapping[str, Any]], facts: dict[str, Any], fields: dict[str, str]
) -> tuple[Medium, ...]:
    """Adds the facts about the entries of `contents`; returns the files."""
    media = []
    uses = set()
    for index, entry in enumerate(contents):
        kind, path = entry["type"], f"contents[{index}]"
        if kind == "prompt":
            facts["contents_prompt"] = True
            facts.setdefault("prompt", entry["text"])
            fields.setdefault("prompt", f"{path}.text")
            continue
        if kind in _SINGLE:
            facts[_SINGLE[kind]] = True
            fields[_SINGLE[kind]] = path
        else:
            facts[_COUNTED[kind]] = facts.get(_COUNTED[kind], 0) + 1
            fields.setdefault(_COUNTED[kind], path)
        if kind in _VIDEO_USES:
            uses.add(_VIDEO_USES[kind])
        if "url" in entry:
            is_video = kind == "video" or kind in _VIDEO_USES
            media.append(Medium("video" if is_video else "image", f"{path}.url", entry["url"]))
    if uses:
        facts["video_use"] = " ".join(sorted(uses))
    frames = facts.get("first_frame", 0) + facts.get("last_frame", 0)
    if references := facts.get("images", 0) + facts.get("elements", 0) + frames:
        facts["references"] = references
    if starts := facts.get("images", 0) + facts.get("first_frame", 0):
        facts["start_images"] = starts
    return tuple(media)


def _cites_voice(contents: Sequence[Mapping[str, Any]], prompt: str) -> bool:
    return any(entry["type"] == "voice" and f"@{entry['id']}" in prompt for entry in contents)


def _add_prompt_and_shots(facts: dict[str, Any]) -> None:
    """Replaces the prompt with its facts, and adds those about the shots that it lists.

    A prompt lists shots if all of it has the form `shot n, seconds, text;`.
    """
    prompt = facts.get("prompt")
    add_prompt_facts(facts)
    if prompt is None or facts.get("multi_shot") is False:
        return
    shots, rest = [], prompt
    while match := _SHOT.match(rest):
        shots.append({"index": int(match[1]), "duration": match[2], "prompt": match[3].strip()})
        rest = rest[match.end() :]
    if shots and not rest.strip():
        add_shot_facts(facts, shots)
        facts["shots_length_s"] = sum(int(shot["duration"]) for shot in shots)


def amend(payload: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a copy of the payload with other settings; see `WireFormat.amend`.

    Raises:
        WireFormatError: another model, which only the URL can name, or a new duration for a prompt with shots.
    """
    if "model" in changes:
        raise WireFormatError(
            "the path of the URL names the model; post the request to the path of the other model",
            wire_format=_NAME,
            field="url",
        )
    if "duration_s" in changes and parse(payload, allow_unknown=True).facts.get("shots"):
        raise WireFormatError(
            "a multi-shot video is as long as all its shots together; change the prompt and duration together",
            wire_format=_NAME,
            field="prompt",
        )
    if not changes:
        return dict(payload)
    settings = dict(payload.get("settings") or {})
    for name, value in changes.items():
        wire_name = FIELD_NAMES[name].removeprefix("settings.")
        settings[wire_name] = _sound_word(settings, value) if name == "audio" else value
    return {**payload, "settings": settings}


def _sound_word(settings: Mapping[str, Any], audio: bool) -> str:  # noqa: FBT001
    """Returns the setting for generated sound or none; the original sound stays."""
    if audio:
        return "native"
    return "original" if settings.get("audio") == "original" else "off"


def read_task(body: Mapping[str, Any]) -> Task:
    """Reads a response about one task, or the body of a callback, which has the same fields at its top level.

    A callback in the older shape is read too, because the page about callbacks ties its shape to the model.
    """
    data = body.get("data")
    if isinstance(data, list | tuple) and len(data) == 1:
        (data,) = data
    if not isinstance(data, Mapping):
        data = body if data is None else {}
    task = kling.read_task(data)
    if task.task_id is not None:
        return task._replace(duration_s=task.duration_s or _length(data.get("outputs")))
    return task._replace(task_id=read_text(data.get("id"), "id", _NAME))


def _length(outputs: Any) -> Decimal | None:
    """Returns the length of the videos together; None if one of them has none."""
    if not isinstance(outputs, list | tuple):
        return None
    videos = [output for output in outputs if isinstance(output, Mapping) and output.get("type") == "video"]
    lengths = [exact_number(video.get("duration")) for video in videos]
    known = [length for length in lengths if length is not None]
    return sum_of(known) if known and len(known) == len(lengths) else None
