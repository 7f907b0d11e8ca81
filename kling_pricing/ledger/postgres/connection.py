"""A connection with a time limit for responses, because a server may vanish without closing the connection."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import suppress
from typing import Any

import psycopg
from psycopg import capabilities

ANSWER_S = 30
"""The default time limit for a response from the server. The ledger's URL can set another."""

_CANCEL_S = 3
"""How long to wait until a server that does not respond has accepted the cancellation of a request."""


class NoAnswerError(psycopg.OperationalError):
    """The server did not respond in time. It may have carried out the request, or may still do so."""


class Connection(psycopg.Connection[tuple[Any, ...]]):
    """A connection that closes itself if a response takes longer than `answer_s` seconds.

    TCP detects a machine that is gone, by `tcp_user_timeout` and keepalives. This time limit detects a machine
    that is there but does not respond: a server that hangs, or a proxy that has forgotten the connection.

    Attributes:
        answer_s: the time limit for a response, in seconds.
    """

    answer_s: int = ANSWER_S

    def wait(self, gen: Generator[Any, Any, Any], *args: Any, **kwargs: Any) -> Any:
        """See `psycopg.Connection.wait`.

        Raises:
            NoAnswerError: no response came in time. The connection is closed, because a late response may still
                come.
        """
        try:
            return super().wait(_until(time.monotonic() + self.answer_s, gen), *args, **kwargs)
        except _TooLateError:
            if capabilities.has_cancel_safe():  # the older way to cancel may itself wait forever
                with suppress(psycopg.Error):
                    self.cancel_safe(timeout=_CANCEL_S)
            self.close()
            raise NoAnswerError(f"no response for {self.answer_s} s") from None


class _TooLateError(Exception):
    """The time limit has passed."""


def _until(end: float, steps: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
    """Yields the same steps until a time. The caller resumes it several times per second, even without news."""
    try:
        step = next(steps)
        while True:
            ready = yield step
            step = steps.send(ready)  # a response that has arrived is accepted, even if it is late
            if time.monotonic() > end:
                raise _TooLateError
    except StopIteration as done:
        return done.value
