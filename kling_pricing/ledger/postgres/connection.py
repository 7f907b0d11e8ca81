"""A connection that does not wait for ever: whoever is at the other end may be gone without a word."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import suppress
from typing import Any

import psycopg
from psycopg import capabilities

ANSWER_S = 30
"""How long an answer of the server may take, unless the ledger's URL says otherwise."""

_CANCEL_S = 3
"""How long to wait until a server that does not answer has been told that nobody waits any more."""


class NoAnswerError(psycopg.OperationalError):
    """The server did not answer in time; what it was asked may have been done, or may still be."""


class Connection(psycopg.Connection[tuple[Any, ...]]):
    """One that is closed when an answer takes longer than `answer_s` seconds.

    TCP notices a machine that is gone (`tcp_user_timeout`, keepalives); this notices a peer whose machine is
    there and that does not answer: a server that hangs, or something in between that forgot the connection.

    Attributes:
        answer_s: how long an answer may take.
    """

    answer_s: int = ANSWER_S

    def wait(self, gen: Generator[Any, Any, Any], *args: Any, **kwargs: Any) -> Any:
        """See `psycopg.Connection.wait`.

        Raises:
            NoAnswerError: the connection is closed, since an answer may still come.
        """
        try:
            return super().wait(_until(time.monotonic() + self.answer_s, gen), *args, **kwargs)
        except _TooLateError:
            if capabilities.has_cancel_safe():  # older ways to cancel may wait for ever themselves
                with suppress(psycopg.Error):
                    self.cancel_safe(timeout=_CANCEL_S)
            self.close()
            raise NoAnswerError(f"no answer for {self.answer_s} s") from None


class _TooLateError(Exception):
    """The time is over."""


def _until(end: float, steps: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
    """The same steps, until a time; whoever takes them does so several times a second, news or none."""
    try:
        step = next(steps)
        while True:
            ready = yield step
            step = steps.send(ready)  # what has come is taken, however late
            if time.monotonic() > end:
                raise _TooLateError
    except StopIteration as done:
        return done.value
