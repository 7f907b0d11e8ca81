"""HTTP messages as plain data, exchanged between a client's hook and the `Hook` that decides."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from kling_pricing.ledger.model import Reservation
from kling_pricing.tables.http_rules import McpRules


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


class McpReply(NamedTuple):
    """How the answer to an MCP tool call is read.

    Attributes:
        message_id: the id of the JSON-RPC message that the answer repeats.
        rules: the API's rules for MCP.
    """

    message_id: Any
    rules: McpRules


class TaskEndpoint(NamedTuple):
    """The URL at which a task's status is requested or a task is cancelled.

    Attributes:
        provider: the provider of the task.
        task_id: the task's id, or the caller's own id where the API accepts that; empty: the URL lists tasks.
        reply: how the answer is read; None: as the API's own answer.
    """

    provider: str
    task_id: str
    reply: McpReply | None = None


class PendingSubmission(NamedTuple):
    """A submission that waits for the provider's response.

    Attributes:
        reservation_id: the reservation that holds its money.
        provider: the provider that bills it.
        wire_format: the format of the request and of its response.
        url: the URL of the request.
        reservation: the reservation, as it was when the request was approved.
        reply: how the answer is read; None: as the API's own answer.
    """

    reservation_id: str
    provider: str
    wire_format: str
    url: str
    reservation: Reservation
    reply: McpReply | None = None


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


class PassedMessage(NamedTuple):
    """Permission to send a message that costs nothing, as it is.

    Attributes:
        task: the task that the answer describes; None: it describes none.
    """

    task: TaskEndpoint | None = None


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


class Redirect(NamedTuple):
    """A redirect that the hook follows with the caller's own request, which is admitted there again.

    Attributes:
        url: the URL to send the request to; it has the same scheme, host and port as the request's own.
    """

    url: str


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


def may_describe_task(content_type: str, *, streams: bool = False) -> bool:
    """Returns whether a response of this Content-Type can describe a task; a video, for example, cannot.

    Args:
        content_type: the response's Content-Type.
        streams: whether an event stream can.
    """
    media_type = content_type.lower()
    if streams and media_type.lstrip().startswith("text/event-stream"):
        return True
    return not media_type or "json" in media_type or media_type.startswith("text/plain")
