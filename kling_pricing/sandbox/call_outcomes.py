"""The outcomes of requests."""

from __future__ import annotations

from typing import NamedTuple

from kling_pricing.sandbox.exchange import Call, Reply
from kling_pricing.sandbox.jobs import Job


class Poll(NamedTuple):
    """A wait for the end of a task.

    Attributes:
        limit_s: the maximum length of the wait in seconds.
        call: the request that returns the task.
    """

    limit_s: int
    call: Call


class Outcome(NamedTuple):
    """The outcome of a request.

    Attributes:
        reply: the response.
        answer: `sent`, `lost` or `held`: what happens to the response; see `Plan`.
        job: the task in the response to a submission; None: there is no such task.
        poll: the wait before an MCP message is answered; None: it is answered immediately.
    """

    reply: Reply
    answer: str = "sent"
    job: Job | None = None
    poll: Poll | None = None
