"""The sandbox's own code to read the fields of payloads, which the faces use."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, NoReturn

from kling_pricing.display import json_kind, shown
from kling_pricing.sandbox.exchange import DeclinedError

_IMAGE_MARKER = re.compile(r"<<<image_([0-9]+)>>>")
_VOICE_MARKER = re.compile(r"<<<voice_([0-9]+)>>>")
_WHOLE = re.compile(r"0|[1-9][0-9]{0,8}")

_COUNTS = (
    *("negative_prompt_chars", "prompt_chars", "image_markers", "dangling_image_markers", "images"),
    *("start_images", "videos", "references", "voices", "ignored_shots", "elements", "shots"),
    *("shots_length_s", "shots_excess_s", "misnumbered_shots", "longest_shot_chars", "masks"),
    "camera_config_size",
)
_FLAGS = (
    *("duration_beside_shots", "duration_stated", "aspect_ratio_stated", "first_frame", "last_frame"),
    *("off_peak", "passthrough", "duration_nested", "motion_image", "motion_video", "voice_control"),
    *("original_sound", "resolution_stated", "multi_shot_as_text", "cfg_scale_stated", "top_level_prompt"),
    *("contents_prompt", "edit_session", "extended_video", "multi_shot", "static_mask", "reference"),
)
_WORDS = ("video_use", "motion_level", "orientation", "model_ignored", "edit_mode", "shot_type", "camera")

NOTHING_GIVEN: Mapping[str, Any] = {
    **dict.fromkeys(_COUNTS, 0),
    **dict.fromkeys(_FLAGS, False),
    **dict.fromkeys(_WORDS, ""),
    "calls": 1,
}
"""The facts about an empty payload; all other facts are unknown."""


@dataclass
class Reading:
    """The contents of a payload.

    Attributes:
        model: the model, as written in the payload; None: the payload names no model.
        facts: fact -> value; the capability files use the same names.
        inputs: the inputs in the payload; the capability files use the same names.
        callback_url: the URL for callbacks; empty: the payload has none.
        external_id: the caller's own id of the task; empty: the payload has none.
        video_url: the URL of the reference video or audio, whose length may be billed; empty: there is none.
    """

    model: str | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    inputs: set[str] = field(default_factory=set)
    callback_url: str = ""
    external_id: str = ""
    video_url: str = ""


def invalid(message: str) -> NoReturn:
    """Refuses a request because of its parameters."""
    raise DeclinedError("invalid", message)


class PayloadFields:
    """Takes the fields of an object one by one, checks their types, and tracks the fields not yet taken.

    Args:
        tree: the object.
        reading: the reading to which the inputs and facts are added.
        place: the path of the object in the payload, for messages.
        empty_is_absent: whether the API treats an empty string or list like a missing field.
    """

    def __init__(
        self, tree: Mapping[str, Any], reading: Reading, place: str = "", *, empty_is_absent: bool = False
    ) -> None:
        absent: tuple[Any, ...] = (None, "", []) if empty_is_absent else (None,)
        self._left = {
            name: value for name, value in tree.items() if not any(value is x or value == x for x in absent)
        }
        self._reading = reading
        self._place = f"{place}." if place else ""
        self._empty_is_absent = empty_is_absent

    def take(self, name: str, kind: type, given: str = "") -> Any:
        """Takes a field of a JSON type, and notes the input `given`; returns None if the field is missing."""
        value = self._left.pop(name, None)
        if value is None:
            return None
        matches = type(value) is kind if kind in {int, bool} else isinstance(value, kind)
        if not matches:
            invalid(f"{self._place}{name} must not be {json_kind(value)}")
        if given:
            self._reading.inputs.add(given)
        return value

    def any(self, name: str) -> Any:
        """Takes a field of any type."""
        return self._left.pop(name, None)

    def fact(self, name: str, kind: type, fact: str, read: Callable[[Any], Any] | None = None) -> Any:
        """Takes a field and stores its value, converted by `read`, as a fact."""
        value = self.take(name, kind, fact)
        if value is not None:
            value = self._reading.facts[fact] = value if read is None else read(value)
        return value

    def word(self, name: str, fact: str, words: Mapping[str, Any]) -> Any:
        """Takes a field whose value must be one of `words`, and stores the meaning of the word as a fact."""
        value = self.take(name, str, fact)
        if value is None:
            return None
        if value not in words:
            invalid(f"{self._place}{name} is {shown(value)}, which is not supported")
        self._reading.facts[fact] = words[value]
        return value

    def number(self, name: str, given: str = "") -> Decimal | None:
        """Takes a number without rounding it."""
        value = self._left.pop(name, None)
        if value is None:
            return None
        if type(value) is not int and not isinstance(value, Decimal):
            invalid(f"{self._place}{name} must be a number")
        if given:
            self._reading.inputs.add(given)
        return Decimal(value)

    def seconds(self, name: str, given: str = "duration_s", *, text_only: bool = False) -> int | None:
        """Takes a whole number of seconds, given as a string or, unless `text_only`, as a number."""
        value = self._left.pop(name, None)
        if value is None:
            return None
        if (isinstance(value, str) and _WHOLE.fullmatch(value)) or (type(value) is int and not text_only):
            if given:
                self._reading.inputs.add(given)
            return int(value)
        invalid(f"{self._place}{name} must be a whole number of seconds{' as a string' if text_only else ''}")

    def objects(self, name: str, given: str = "") -> list[PayloadFields]:
        """Takes a list of objects."""
        values = self.take(name, list, given) or []
        for value in values:
            if not isinstance(value, Mapping):
                invalid(f"{self._place}{name} must be a list of objects")
        return [
            PayloadFields(value, self._reading, f"{self._place}{name}", empty_is_absent=self._empty_is_absent)
            for value in values
        ]

    def inside(self, name: str, given: str = "") -> PayloadFields:
        """Takes an object and returns its fields; a missing object has no fields."""
        value = self.take(name, dict, given)
        return PayloadFields(
            value or {}, self._reading, f"{self._place}{name}", empty_is_absent=self._empty_is_absent
        )

    def texts(self, name: str, given: str = "") -> list[str]:
        """Takes a list of strings."""
        values = self.take(name, list, given) or []
        if not all(isinstance(value, str) and value for value in values):
            invalid(f"{self._place}{name} must be a list of strings")
        return list(values)

    def rest(self) -> None:
        """Refuses the request if it has a field that was not taken, because the API does not know it."""
        if self._left:
            invalid(f"unknown parameter {self._place}{shown(next(iter(self._left)))}")

    @property
    def names_left(self) -> list[str]:
        """The names of the fields that have not been taken."""
        return [*self._left]


def add_prompt(reading: Reading, prompt: str | None, images: int) -> None:
    """Adds the facts about a prompt, whose image markers may refer to `images` images."""
    if prompt is None:
        return
    reading.inputs.add("prompt")
    markers = _IMAGE_MARKER.findall(prompt)
    known = {str(number) for number in range(1, images + 1)}
    reading.facts["prompt_chars"] = len(prompt)
    reading.facts["image_markers"] = len(markers)
    reading.facts["dangling_image_markers"] = sum(marker not in known for marker in markers)


def add_shots(reading: Reading, shots: list[tuple[int | None, str, int]]) -> None:
    """Adds the facts about shots, each given as its number or None, its text, and its length in seconds."""
    if not shots:
        return
    reading.facts |= {
        "shots": len(shots),
        "shots_length_s": sum(seconds for _, _, seconds in shots),
        "shortest_shot_s": min(seconds for _, _, seconds in shots),
        "longest_shot_chars": max(len(text) for _, text, _ in shots),
        "misnumbered_shots": sum(index not in {None, place} for place, (index, _, _) in enumerate(shots, 1)),
    }


def cites_voice(prompt: str, voices: int) -> bool:
    """Returns whether a prompt refers to one of the listed voices."""
    return any(1 <= int(number) <= voices for number in _VOICE_MARKER.findall(prompt))
