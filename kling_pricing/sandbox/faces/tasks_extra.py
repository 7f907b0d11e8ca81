"""Face `tasks_extra`: the task API of April 2026, with model-specific parameters in `extra`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from kling_pricing.sandbox.faces.tasks import TasksFace
from kling_pricing.sandbox.reading import PayloadFields, Reading, add_prompt, add_shots, invalid

_SHOT = re.compile(r"shot_(0|[1-9][0-9]{0,5})_prompt")
_NUMBERS = (int, Decimal, type(None))
_MODES = {"std": "720p", "pro": "1080p"}


class TasksExtraFace(TasksFace):
    """The face of the task API with `extra`."""

    NAME = "tasks_extra"

    def read(self, payload: Mapping[str, Any]) -> Reading:
        """Reads a payload."""
        reading = Reading()
        fields = PayloadFields(payload, reading)
        self.read_common(fields, reading)
        negative = fields.take("negative_prompt", str, "negative_prompt")
        images = fields.texts("image_urls", "images")
        last = fields.take("last_frame", str, "last_frame")
        extra = fields.inside("extra")
        fields.rest()
        extra.word("mode", "resolution", _MODES)
        extra.fact("enable_audio", bool, "audio")
        if (scale := extra.number("cfg_scale", "cfg_scale")) is not None:
            reading.facts["cfg_scale"] = scale
        add_camera(extra, reading, is_zero_kept=True)
        add_masks(extra, reading, "mask_url")
        shots = self._shots(extra)
        extra.rest()
        reading.facts |= {
            "images": len(images),
            "start_images": len(images),
            "last_frame": last is not None,
            "negative_prompt_chars": len(negative or ""),
        }
        if shots:
            reading.inputs.add("shots")
            add_shots(reading, [(None, text, seconds) for _, text, seconds in shots])
            reading.facts["misnumbered_shots"] = sum(not 1 <= number <= len(shots) for number, _, _ in shots)
            if "duration_s" in reading.facts:
                reading.facts["duration_beside_shots"] = True
            else:
                reading.facts["duration_s"] = reading.facts["shots_length_s"]
            reading.facts["shots_length_s"] = 0
        add_prompt(reading, payload.get("prompt"), len(images))
        return reading

    def _shots(self, extra: PayloadFields) -> list[tuple[int, str, int]]:
        shots = []
        for name in extra.names_left:
            if match := _SHOT.fullmatch(name):
                text, seconds = extra.take(name, str), extra.take(f"shot_{match[1]}_duration", int)
                if seconds is None:
                    invalid(f"extra.shot_{match[1]}_duration is required")
                shots.append((int(match[1]), text, seconds))
        return shots


def add_camera(fields: PayloadFields, reading: Reading, *, is_zero_kept: bool) -> None:
    """Reads the type and the settings in `camera_control`."""
    camera = fields.take("camera_control", dict, "camera")
    if not camera:
        return
    config = camera.get("config") or {}
    if not isinstance(config, Mapping) or not all(type(value) in _NUMBERS for value in config.values()):
        invalid("the values in camera_control.config must be numbers")
    settings = [Decimal(value) for value in config.values() if value is not None and (value or is_zero_kept)]
    reading.facts |= {
        "camera": camera.get("type") or "",
        "camera_config_size": len(settings),
        "camera_extreme": max((abs(value) for value in settings), default=Decimal(0)),
    }


def add_masks(fields: PayloadFields, reading: Reading, image: str) -> None:
    """Reads `static_mask` and `dynamic_masks`; each dynamic mask has an image and trajectories."""
    if fields.take("static_mask", str, "static_mask") is not None:
        reading.facts["static_mask"] = True
    points = []
    for mask in fields.objects("dynamic_masks", "masks"):
        mask.take(image, str)
        points.append(len(mask.objects("trajectories")))
        mask.rest()
    if points:
        reading.facts |= {
            "masks": len(points),
            "fewest_mask_points": min(points),
            "most_mask_points": max(points),
        }


FACE = TasksExtraFace
