"""What becomes of calls."""

from __future__ import annotations

from typing import NamedTuple

from kling_pricing.sandbox.exchange import Call, Reply
from kling_pricing.sandbox.jobs import Job


class Poll(NamedTuple):
    """A wait for the end of a task.

    Attributes:
        limit_s: the seconds after which the wait ends.
        call: the call that asks for the task.
    """

    limit_s: int
    call: Call


class Outcome(NamedTuple):
    """What becomes of a call.

    Attributes:
        reply: the answer.
        answer: whether the answer is `sent`, `lost` or `held`; see `Plan`.
        job: the task that a submission created or named; None: another call, or none.
        poll: the wait after which a message is answered; None: it is answered at once.
    """

    reply: Reply
    answer: str = "sent"
    job: Job | None = None
    poll: Poll | None = None
