"""Wire formats: one file for the JSON shape of each API.

A wire format reads and amends payloads, and reads responses.
Model names, defaults, limits and prices are not here but in `pricing_tables/`, as data.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib import import_module
from typing import Any, Protocol, cast

from kling_pricing.errors import WireFormatError
from kling_pricing.wire.fields import Field
from kling_pricing.wire.request import ParsedPayload
from kling_pricing.wire.task import Task

NAMES = (
    "tasks",
    "tasks_extra",
    "tasks_v2",
    "openai_videos",
    "video_generations",
    "kling",
    "kling_v2",
    "kling_services",
    "kling_images",
)
"""Every wire format, by the name of its file in this folder."""

_KNOWN_BY_PATH = {"kling_services", "kling_images"}
"""The wire formats that only the path of a URL identifies, so that no field marks them."""


class WireFormat(Protocol):
    """The functions and constants of every file in this folder."""

    FIELDS: Mapping[str, Field]
    """Every field at the top level of the payload."""

    FIELD_NAMES: Mapping[str, str]
    """Input -> the path of the field that gives it."""

    def parse(self, payload: Mapping[str, Any], *, allow_unknown: bool = False) -> ParsedPayload:
        """Reads a payload without changing it.

        Raises:
            WireFormatError: a field is unknown (unless `allow_unknown`) or has a value of another type; the
                error has one violation for every such field.
        """

    def amend(self, payload: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
        """Returns a copy of the payload with other settings.

        Args:
            payload: a payload that `parse` reads; it is not changed.
            changes: setting -> new value, for any of `model` (as this API names it), `duration_s`,
                `resolution` and `audio`.

        Returns:
            A payload that parses like the original with the changes applied.
            Only the fields of these settings differ; all other fields, their order and their spelling stay as
            the caller wrote them.
            A setting that the payload did not give is added last.

        Raises:
            WireFormatError: this wire format cannot express the change.
        """

    def read_task(self, body: Mapping[str, Any]) -> Task:
        """Reads a submit or status response, or the body of a callback.

        Raises:
            WireFormatError: a field about the state or the charge cannot be read.
        """


@cache
def wire_format(name: str) -> WireFormat:
    """Returns the wire format of that name; its file is imported on first use.

    Raises:
        WireFormatError: no wire format has that name.
    """
    if name not in NAMES:
        raise WireFormatError(f"unknown wire format {name!r}; known: {', '.join(NAMES)}", wire_format=name)
    return cast("WireFormat", import_module(f"{__name__}.{name}"))


@cache
def _marking_fields() -> Mapping[str, str]:
    """Returns field -> wire format, for the fields that only one wire format has."""
    formats_with: dict[str, list[str]] = {}
    for name in NAMES:
        for field in () if name in _KNOWN_BY_PATH else wire_format(name).FIELDS:
            formats_with.setdefault(field, []).append(name)
    return {field: names[0] for field, names in formats_with.items() if len(names) == 1}


def marked_formats(payload: Mapping[str, Any]) -> dict[str, str]:
    """Returns the wire formats that have a field of the payload to themselves, each with such a field."""
    marking = _marking_fields()
    marks = {}
    for field in payload:
        if field in marking and payload[field] is not None:
            marks[marking[field]] = field
    return marks
