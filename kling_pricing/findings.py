"""What an examination of a request brings to light: violations, which refuse it, and notes, which do not."""

from __future__ import annotations

from typing import Any, NamedTuple


class Violation(NamedTuple):
    """One reason why the API would refuse a request.

    Attributes:
        code: stable name of the rule, such as `audio_resolution` or `duration_s_limit`.
        field: the wire field at fault, such as `resolution` or `image_urls[1]`.
        value: the offending value, as the rule sees it; None when the field is missing.
        allowed: what would do: a list of values, a map with `min` and `max`, or None when nothing would.
        message: one sentence with the remedy.
        source: where the rule was published.
    """

    code: str
    field: str
    value: Any
    allowed: Any
    message: str
    source: str


class Note(NamedTuple):
    """Something that was assumed or noticed and does not stop the request.

    Attributes:
        code: stable name to act on in a program, such as `assumed_resolution`.
        message: one sentence for a person.
    """

    code: str
    message: str
