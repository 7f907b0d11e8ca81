"""The meanings of field names: the input that each name stands for in any wire format.

A name that means one thing in one API can look like the name of another thing in a second API.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from kling_pricing.wire.fields import Field

PLACES: Mapping[str, tuple[str, ...]] = {
    "images": ("images", "image", "image_list", "first_frame", "motion_image", "subjects"),
    "first_frame": ("first_frame", "image", "image_list", "images"),
    "last_frame": ("last_frame", "last_frame_url"),
    "videos": ("videos", "video_list", "motion_video", "video_url"),
}
"""Kind of file -> the inputs that can give such a file, the most usual one first."""

_OTHER_NAMES: Mapping[str, tuple[str, ...]] = {
    "aspect_ratio": ("ratio", "aspect"),
    "first_frame": ("start_image", "start_image_url", "start_frame", "first_frame_url"),
    "last_frame": (
        "end_image",
        "end_image_url",
        "end_frame",
        "last_image",
        "last_image_url",
        "tail_image",
        "tail_image_url",
    ),
    "videos": ("video", "reference_video"),
}
"""Input -> names that sellers use for it whose APIs are not read here."""


def leaf_fields(
    fields: Mapping[str, Field], parent: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], Field]]:
    """Yields the path and the field of every input of a wire format."""
    for name, field in fields.items():
        path = (*parent, name)
        if field.inside:
            yield from leaf_fields(field.inside, path)
        else:
            yield path, field


def with_value(payload: Mapping[str, Any], path: tuple[str, ...], value: Any) -> dict[str, Any]:
    """Returns a payload with another value at a path."""
    first, *rest = path
    return {**payload, first: with_value(payload.get(first) or {}, tuple(rest), value) if rest else value}


def related(inputs: frozenset[str]) -> frozenset[str]:
    """Returns the inputs and all inputs that can give the same kind of file."""
    families = [frozenset(places) for places in PLACES.values()]
    return inputs.union(*(family for family in families if not family.isdisjoint(inputs)))


@cache
def meanings() -> Mapping[str, frozenset[str]]:
    """Returns the field names of all wire formats, in lower case, each with the inputs that it stands for."""
    from kling_pricing.wire.formats import NAMES, wire_format  # noqa: PLC0415 (the formats import the fields)

    inputs: dict[str, set[str]] = {}
    for wire_format_name in NAMES:
        for path, field in leaf_fields(wire_format(wire_format_name).FIELDS):
            inputs.setdefault(path[-1].lower(), set()).add(field.name)
    for name, words in _OTHER_NAMES.items():
        for word in words:
            inputs.setdefault(word, set()).add(name)
    return {name: frozenset(names) for name, names in inputs.items()}
