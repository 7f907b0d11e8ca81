"""HTTP messages as plain data, exchanged between a client's hook and the `Hook` that decides."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class OutgoingRequest(NamedTuple):
    """A request that has not been sent yet.

    Attributes:
        method: in capitals.
        url: with its scheme and host.
        headers: lower-case name -> value.
        body: the whole body.
    """

    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes


class PendingSubmission(NamedTuple):
    """A submission that waits for the provider's response.

    Attributes:
        reservation_id: the reservation that holds its money.
        provider: the provider that bills it.
        wire_format: the format of the request and of its response.
        url: the URL of the request.
    """

    reservation_id: str
    provider: str
    wire_format: str
    url: str


class ApprovedSubmission(NamedTuple):
    """Permission to send a submission.

    Attributes:
        body: the body to send; None: the request's own body, unchanged.
        headers: headers to set in addition to the request's own.
        pending: identifies the submission when its response arrives.
    """

    body: bytes | None
    headers: Mapping[str, str]
    pending: PendingSubmission


class ErrorResponse(NamedTuple):
    """A response that the hook gives in place of the provider.

    Attributes:
        status: the HTTP status.
        headers: name -> value.
        body: JSON in the shape of the API's errors.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes


class ProviderResponse(NamedTuple):
    """A response of the provider.

    Attributes:
        status: the HTTP status.
        headers: lower-case name -> value.
        body: the whole body, decompressed.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes


def may_describe_task(content_type: str) -> bool:
    """Returns whether a response of this Content-Type can describe a task; a video, for example, cannot."""
    media_type = content_type.lower()
    return not media_type or "json" in media_type or media_type.startswith("text/plain")
