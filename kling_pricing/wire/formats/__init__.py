"""Wire formats: the JSON shape an API speaks, one file each.

A wire format reads what a payload says.
It knows no model names, no defaults, no limits and no prices: those are data in `pricing_tables/`.
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

NAMES = ("tasks", "tasks_extra", "tasks_v2", "openai_videos", "video_generations", "kling")
"""Every wire format, by the name of its file here."""


class WireFormat(Protocol):
    """What each file in this folder offers."""

    FIELDS: Mapping[str, Field]
    """Every field at the payload's top level."""

    FIELD_NAMES: Mapping[str, str]
    """Input -> the wire field that says it."""

    def parse(self, payload: Mapping[str, Any], *, allow_unknown: bool = False) -> ParsedPayload:
        """Reads what a payload says, and leaves the payload as it is.

        Raises:
            WireFormatError: a field is unknown (unless `allow_unknown`) or has a value of another type; it
                carries one violation for every such field.
        """

    def amend(self, payload: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
        """A copy of the payload with other settings.

        Args:
            payload: a payload that `parse` reads; it is left as it is.
            changes: any of `model` (as written on this wire), `duration_s`, `resolution` and `audio` -> the
                new value.

        Returns:
            The payload in which only what says these settings differs: every other field, its order and its
            spelling stay as the caller wrote them, and a setting that was not said is added last.
            `parse` of it is `parse` of the payload with the changes.

        Raises:
            WireFormatError: this wire cannot say the change.
        """

    def read_task(self, body: Mapping[str, Any]) -> Task:
        """Reads a submit or status response, or the body of a callback.

        Raises:
            WireFormatError: a field that tells state or money cannot be read.
        """


@cache
def wire_format(name: str) -> WireFormat:
    """The wire format of that name; its file is imported when it is first needed.

    Raises:
        WireFormatError: there is none.
    """
    if name not in NAMES:
        raise WireFormatError(f"unknown wire format {name!r}; known: {', '.join(NAMES)}", wire_format=name)
    return cast("WireFormat", import_module(f"{__name__}.{name}"))


@cache
def _marking_fields() -> Mapping[str, str]:
    """Field -> the one wire format that knows it."""
    known_to: dict[str, list[str]] = {}
    for name in NAMES:
        for field in wire_format(name).FIELDS:
            known_to.setdefault(field, []).append(name)
    return {field: names[0] for field, names in known_to.items() if len(names) == 1}


def marked_formats(payload: Mapping[str, Any]) -> dict[str, str]:
    """The wire formats of which a payload has marks (fields that no other knows) -> one such field."""
    marking = _marking_fields()
    marks = {}
    for field in payload:
        if field in marking and payload[field] is not None:
            marks[marking[field]] = field
    return marks
