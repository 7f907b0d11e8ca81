"""The findings of a check: violations, which refuse a request, and notes, which only inform."""

from __future__ import annotations

from typing import Any, NamedTuple


class Violation(NamedTuple):
    """One reason why the API would refuse a request.

    Attributes:
        code: the rule's stable name, such as `audio_resolution` or `duration_s_limit`.
        field: the wire field at fault, such as `resolution` or `image_urls[1]`.
        value: the field's value, as the rule reads it; None when the field is missing.
        allowed: the allowed values: a list, or a map with `min` and `max`; None when no value is allowed.
        message: one sentence, with the remedy.
        source: the publication that contains the rule.
    """

    code: str
    field: str
    value: Any
    allowed: Any
    message: str
    source: str


class Note(NamedTuple):
    """An assumption or observation that does not stop the request.

    Attributes:
        code: a stable name for programs, such as `assumed_resolution`.
        message: one sentence for a person.
    """

    code: str
    message: str
