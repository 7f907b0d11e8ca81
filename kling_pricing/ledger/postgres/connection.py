"""A connection that does not wait for ever: whoever is at the other end may be gone without a word."""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import suppress
from typing import Any

import psycopg
from psycopg import capabilities

ANSWER_S = 30
"""How long a server may say nothing while an answer is awaited, unless the ledger's URL says otherwise."""

_CANCEL_S = 3
"""How long to wait until a server that said nothing has been told that nobody waits any more."""


class NoAnswerError(psycopg.OperationalError):
    """The server said nothing for too long; what it was asked may have been done, or may still be."""


class Connection(psycopg.Connection[tuple[Any, ...]]):
    """One that is closed when the server says nothing for `answer_s` seconds.

    TCP notices a machine that is gone (`tcp_user_timeout`, keepalives); this notices a peer whose machine is
    there and that does not answer: a server that hangs, or something in between that forgot the connection.

    Attributes:
        answer_s: how long the server may say nothing.
    """

    answer_s: int = ANSWER_S

    def wait(self, gen: Generator[Any, Any, Any], *args: Any, **kwargs: Any) -> Any:
        """See `psycopg.Connection.wait`.

        Raises:
            NoAnswerError: the connection is closed, since an answer may still come.
        """
        try:
            return super().wait(_while_it_speaks(gen, self.answer_s), *args, **kwargs)
        except NoAnswerError:
            if capabilities.has_cancel_safe():  # older ways to cancel may wait for ever themselves
                with suppress(psycopg.Error):
                    self.cancel_safe(timeout=_CANCEL_S)
            self.close()
            raise


def _while_it_speaks(steps: Generator[Any, Any, Any], answer_s: int) -> Generator[Any, Any, Any]:
    """The same steps, as long as there is something to read or write now and then.

    Whoever takes the steps sends what the socket is ready for, and nothing (0) several times a second if it is
    ready for nothing.
    """
    heard_at = time.monotonic()
    try:
        step = next(steps)
        while True:
            ready = yield step
            if ready:
                heard_at = time.monotonic()
            elif time.monotonic() - heard_at > answer_s:
                raise NoAnswerError(f"no answer for {answer_s} s")
            step = steps.send(ready)
    except StopIteration as done:
        return done.value
