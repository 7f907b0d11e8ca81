"""What a quote says beside the number."""

from __future__ import annotations

from typing import NamedTuple


class Note(NamedTuple):
    """Something that was assumed or noticed and does not stop the request.

    Attributes:
        code: stable name to act on in a program, such as `assumed_resolution`.
        message: one sentence for a person.
    """

    code: str
    message: str
