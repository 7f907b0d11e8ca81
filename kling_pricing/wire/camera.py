"""Camera control: the check of its object, and the facts about it. Two APIs take it in the same shape."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from kling_pricing.wire.fields import Field, decimal, not_empty, number, object_with

_SETTINGS = ("horizontal", "vertical", "pan", "tilt", "roll", "zoom")

CAMERA_CONTROL = object_with(
    {
        "type": Field("type", str, not_empty),
        "config": Field("config", dict, object_with({name: Field(name, object, number) for name in _SETTINGS})),
    },
    required=["type"],
)
"""Checks a `camera_control`."""


def add_camera_facts(facts: dict[str, Any], camera: Mapping[str, Any], *, skip_zeros: bool = False) -> None:
    """Adds the facts about a valid `camera_control`.

    Args:
        facts: gets the facts.
        camera: the object.
        skip_zeros: whether a setting of 0 counts as left out.
    """
    facts["camera"] = camera["type"]
    config = camera.get("config") or {}
    sizes = [  # of the listed settings only, because unknown fields may be allowed
        decimal(config[name]).copy_abs() for name in _SETTINGS if config.get(name) is not None
    ]
    if skip_zeros:
        sizes = [size for size in sizes if size]
    facts["camera_config_size"] = len(sizes)
    if sizes:
        facts["camera_extreme"] = max(sizes)
