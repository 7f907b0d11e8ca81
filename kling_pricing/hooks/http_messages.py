"""What passes between a client's hook and the core that decides: HTTP in plain data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Outgoing(NamedTuple):
    """A request on its way out.

    Attributes:
        method: in capitals.
        url: where it goes, with its scheme and host.
        headers: name in small letters -> value.
        body: the whole body.
    """

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes


class Ticket(NamedTuple):
    """What is to be known of a submission when its answer comes.

    Attributes:
        reservation_id: the money set aside for it.
        provider: who bills.
        wire_format: of the request, and so of the answer.
        url: where it was sent.
    """

    reservation_id: str
    provider: str
    wire_format: str
    url: str


class Send(NamedTuple):
    """Leave to send a submission.

    Attributes:
        body: what to send in place of the request's body; None: that body, as it is.
        headers: to be set beside the request's own.
        ticket: for the answer.
    """

    body: bytes | None
    headers: Mapping[str, str]
    ticket: Ticket


class Answer(NamedTuple):
    """An answer that is given in the provider's place.

    Attributes:
        status: of HTTP.
        headers: name -> value.
        body: JSON, in the shape of the API's errors.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes


class Response(NamedTuple):
    """What a server answered.

    Attributes:
        status: of HTTP.
        headers: name in small letters -> value.
        body: the whole body, decompressed.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes


def may_tell_of_a_task(content_type: str) -> bool:
    """Whether an answer of this Content-Type can say what became of a task: a video, say, is not even read."""
    kind = content_type.lower()
    return not kind or "json" in kind or kind.startswith("text/plain")
