"""Wire format `kling_services`: services of Kling's official API beside video generation.

Source: the pages of the legacy resources on kling.ai (document-api), copies of 2026-09-20.
Each service has its own path, which names the service, and its own fields; one reader takes the fields of all.
Some services answer at once: their answer has the charge and no task.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from kling_pricing.errors import WireFormatError
from kling_pricing.wire.charges import read_charge
from kling_pricing.wire.facts import FACT_TYPES, add_prompt_facts
from kling_pricing.wire.fields import (
    AllowedWords,
    Field,
    Violations,
    is_kind,
    number,
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
_RESOLUTIONS = {"std": "720p", "pro": "1080p"}
_MODES = {resolution: mode for mode, resolution in _RESOLUTIONS.items()}

_FACE = object_with(
    {
        "face_id": Field("face_id", str),
        "audio_id": Field("audio_id", str),
        "sound_file": Field("sound_file", str),
        "sound_start_time": Field("sound_start_time", int),
        "sound_end_time": Field("sound_end_time", int),
        "sound_insert_time": Field("sound_insert_time", int),
        "sound_volume": Field("sound_volume", object, number),
        "original_audio_volume": Field("original_audio_volume", object, number),
    },
    required=["face_id", "sound_start_time", "sound_end_time", "sound_insert_time"],
)


def _check_faces(faces: Sequence[Any], path: str, violations: Violations) -> None:
    """Checks the one face that the API takes."""
    if len(faces) != 1:
        violations.append(wrong_value(path, "a list with exactly one face", faces))
    for index, face in enumerate(faces):
        if is_kind(face, dict):
            _FACE(face, f"{path}[{index}]", violations)
        else:
            violations.append(wrong_kind(f"{path}[{index}]", dict, face))


def _check_sound_length(value: Any, path: str, violations: Violations) -> None:
    number(value, path, violations)
    if not violations and not _MIN_SOUND_S <= value <= _MAX_SOUND_S:
        violations.append(wrong_value(path, f"{_MIN_SOUND_S} to {_MAX_SOUND_S} seconds", value))


FIELDS: Mapping[str, Field] = {
    "prompt": Field("prompt", str),
    "text": Field("text", str),
    "mode": Field("resolution", str, AllowedWords(*_RESOLUTIONS), _RESOLUTIONS.get),
    "image": Field("image", str),
    "audio_id": Field("audio_id", str),
    "sound_file": Field("sound_file", str),
    "session_id": Field("session_id", str),
    "face_choose": Field("face_choose", list, _check_faces),
    "video_id": Field("video_id", str),
    "video_url": Field("video_url", str),
    "voice_id": Field("voice_id", str),
    "voice_language": Field("voice_language", str),
    "voice_speed": Field("voice_speed", object, number),
    "voice_name": Field("voice_name", str),
    "voice_url": Field("voice_url", str),
    "duration": Field("sound_length", object, _check_sound_length),
    "sound_effect_prompt": Field("sound_effect_prompt", str),
    "bgm_prompt": Field("bgm_prompt", str),
    "asmr_mode": Field("asmr_mode", bool),
    "watermark_info": Field("watermark", dict, object_with({"enabled": Field("enabled", bool)})),
    "callback_url": Field("callback_url", str),
    "external_task_id": Field("external_task_id", str),
}

FIELD_NAMES: Mapping[str, str] = {
    **{field.name: name for name, field in FIELDS.items()},
    "videos": "sound_file",  # the sound is as long as the video
}

_SOUNDS = ("sound_file", "audio_id")
_MS = Decimal(1000)
_MIN_SOUND_S, _MAX_SOUND_S = 3, 10
"""The lengths of a generated sound, in seconds."""

_read = PayloadReader(FIELDS, _NAME, special=FIELD_NAMES.keys() - {"resolution"}).read


def parse(payload: Mapping[str, Any], *, allow_unknown: bool = False) -> ParsedPayload:
    """Reads a payload; see `WireFormat.parse`."""
    given = {name: value for name, value in payload.items() if value != ""}  # as the official samples send it
    inputs, fields, _ = _read(given, allow_unknown=allow_unknown)
    facts = {name: value for name, value in inputs.items() if name in FACT_TYPES and name != "watermark"}
    if "prompt" in inputs:
        facts["prompt"] = inputs["prompt"]
        add_prompt_facts(facts)
    elif "text" in inputs:
        facts["prompt_chars"] = len(inputs["text"])
    if (enabled := inputs.get("watermark", {}).get("enabled")) is not None:
        facts["watermark"] = enabled
    sounds = [Medium("video", fields[name], inputs[name]) for name in _SOUNDS if name in inputs]
    if len(sounds) > 1:
        raise WireFormatError(
            "sound_file and audio_id both give the sound; keep one of them",
            wire_format=_NAME,
            field="audio_id",
        )
    for face in inputs.get("face_choose", ()):
        facts["video_length_s"] = (face["sound_end_time"] - face["sound_start_time"]) / _MS
    return ParsedPayload(facts, fields, tuple(sounds))


def amend(payload: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a copy of the payload with other settings; see `WireFormat.amend`.

    Raises:
        WireFormatError: the changes include anything but a resolution that `mode` has.
    """
    for name, value in changes.items():
        if name != "resolution" or value not in _MODES:
            raise WireFormatError(f"this API cannot express {name} {value}", wire_format=_NAME, field=name)
    return {**payload, "mode": _MODES[changes["resolution"]]} if changes else dict(payload)


def read_task(body: Mapping[str, Any]) -> Task:
    """Reads a response, or the body of a callback.

    A service that answers at once may name no task. The session, or else the request, then stands for it.
    """
    data = body.get("data")
    inside = data if isinstance(data, Mapping) else body
    task = kling.read_task(body)
    if task.task_id is None and inside is data and "task_status" not in inside:
        name = read_text(inside.get("session_id"), "session_id", _NAME)
        name = name or read_text(body.get("request_id"), "request_id", _NAME)
        task = task._replace(task_id=name, state="succeeded")
    # Services take units of a video pack, even if their result is images.
    charge = read_charge({**inside, "task_result": None}, succeeded=task.state == "succeeded")
    return task._replace(charge=charge)
