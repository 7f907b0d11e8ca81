"""The verbs that wait for the thread that uses a ledger's file, the leader, to run them in its transaction.

One flush to the disk then serves many verbs. A verb waits as a ticket. Whoever takes the token of a ticket
decides its fate: a leader, which runs the verb, or the caller, which withdraws it. Taking the token is atomic,
so a verb runs at most once, however Ctrl-C, timeouts and leaders that fail coincide.
"""

from __future__ import annotations

import sqlite3
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from datetime import datetime
from pathlib import Path
from threading import Lock
from typing import Any, Generic, TypeVar, cast

from kling_pricing.ledger.sqlite import opening
from kling_pricing.ledger.sqlite.errors import ERRORS, explained, forked, locked

MAX_BATCH = 64
"""The maximum number of verbs in one transaction."""

_POLL_MS = 50
"""How often a waiting caller checks whether it must lead itself, because the wake-up call may be lost."""

_Answer = TypeVar("_Answer")


class Batch:
    """The tickets that a leader has claimed for one transaction.

    Attributes:
        tickets: the tickets.
        is_over: whether the callers may take their results. It is set after the commit, or after a failure.
        failure: the error that undid the transaction; None: it was committed.
    """

    __slots__ = ("failure", "is_over", "tickets")

    def __init__(self) -> None:
        self.tickets: list[Ticket[Any]] = []
        self.is_over = False
        self.failure: Exception | None = None

    def end(self, failure: Exception | None = None) -> None:
        """Gives all callers their results at once, and wakes them."""
        self.failure = failure
        self.is_over = True
        for ticket in self.tickets:
            ticket.wake()


class Ticket(Generic[_Answer]):
    """A verb that waits for a leader.

    Attributes:
        work: the function of the verb, with a connection and the instant of the verb as its first arguments.
        arguments: its further arguments.
        asked: the time, on the monotonic clock, at which the verb was requested.
        batch: the batch whose leader has claimed the ticket; None: it waits.
        answer: the result of the verb; only valid once the batch is over.
        error: the error that the verb raised, which undid the changes of this verb only.
    """

    __slots__ = (
        *("_is_awake", "_path", "_token", "_withdrawn"),
        *("answer", "arguments", "asked", "batch", "error", "work"),
    )

    def __init__(
        self, work: Callable[..., _Answer], arguments: tuple[Any, ...], asked: float, path: Path
    ) -> None:
        self.work = work
        self.arguments = arguments
        self.asked = asked
        self._path = path
        self.batch: Batch | None = None
        self.answer: _Answer | None = None
        self.error: Exception | None = None
        self._token = [None]
        self._withdrawn: list[None] = []
        self._is_awake = Lock()
        self._is_awake.acquire()

    def run(self, connection: sqlite3.Connection, clock: Callable[[], datetime]) -> None:
        """Runs the verb in the leader's transaction, at an instant of its own."""
        self.answer = self.work(connection, clock(), *self.arguments)

    def claim(self) -> bool:
        """Takes the token for a leader. Returns False if the caller has withdrawn the ticket."""
        try:
            self._token.pop()
        except IndexError:
            return False
        return True

    def withdraw(self) -> bool:
        """Takes the token for the caller. Returns whether the caller has it, so that nobody runs the verb."""
        with suppress(IndexError):
            # a single call, so that Ctrl-C cannot strike between taking the token and keeping it
            self._withdrawn.extend(map(self._token.pop, (0,)))
        return bool(self._withdrawn)

    def unclaim(self) -> bool:
        """Puts the token back for the next leader. Returns False if the caller has withdrawn the ticket."""
        self.batch = self.answer = self.error = None
        if self._token:  # the leader was struck before it claimed the ticket
            return True
        if self._withdrawn:
            return False
        self._token.append(None)
        return True

    @property
    def is_over(self) -> bool:
        """Whether the verb has its result."""
        return self.batch is not None and self.batch.is_over

    def result(self) -> _Answer:
        """Returns the answer of the verb, or raises its error, once the verb is over."""
        error = (self.batch and self.batch.failure) or self.error
        if error is None:
            return cast("_Answer", self.answer)  # the verb has run
        if isinstance(error, ERRORS):
            raise explained(self._path, error) from error
        raise error

    def refuse_to_wait(self, tickets: Tickets) -> None:
        """Raises an error if nobody will run the verb in time."""
        if tickets.is_inherited:  # a signal handler has forked
            raise forked(self._path)
        if tickets.is_blocked and opening.is_overdue(self.asked) and tickets.withdraw(self):
            raise locked(self._path)

    def wait(self) -> None:
        """Waits for `wake`, but not for long."""
        self._is_awake.acquire(timeout=_POLL_MS / 1000)

    def wake(self) -> None:
        """Ends the caller's wait, or its next one."""
        with suppress(RuntimeError):  # it was woken already
            self._is_awake.release()


class Tickets:
    """The queue of the tickets that wait for one file.

    Attributes:
        waiting: the tickets, the oldest first.
        leader: the thread that uses the file; None: nobody does.
        is_blocked: whether the leader may be waiting for another program.
        is_inherited: whether the leader and the callers are threads of the parent process.
    """

    def __init__(self) -> None:
        self.leader: int | None = None
        self.is_blocked = False
        self.is_inherited = False
        self.waiting: deque[Ticket[Any]] = deque()

    def wait_for(self, ticket: Ticket[_Answer], undo: Callable[[_Answer], object] | None) -> bool:
        """Waits until a leader has run a verb. Returns False if there is no leader, so that the caller leads.

        Args:
            ticket: the verb, which does not wait yet.
            undo: called with an answer that the caller does not receive, because an exception struck it.

        Raises:
            LedgerUnavailableError: another program has locked the file until the limit of the verb.
        """
        try:
            self.waiting.append(ticket)
            while not ticket.is_over:
                if self.leader is None and self.withdraw(ticket):
                    return False
                ticket.wait()
                ticket.refuse_to_wait(self)
        except BaseException:
            self._abandon(ticket, undo)
            raise
        return True

    def _abandon(self, ticket: Ticket[_Answer], undo: Callable[[_Answer], object] | None) -> None:
        """Withdraws a ticket, or undoes its effect if a leader has claimed it."""
        while not self.is_inherited and not self.withdraw(ticket):
            if ticket.is_over:
                with suppress(Exception):  # a reservation that is not undone expires or becomes in doubt
                    answer = ticket.result()
                    if undo is not None:
                        undo(answer)
                return
            with suppress(BaseException):  # the leader is about to end; a further Ctrl-C changes nothing
                ticket.wait()

    def withdraw(self, ticket: Ticket[Any]) -> bool:
        """Takes a ticket back for its caller. Returns False if a leader has claimed it."""
        if not ticket.withdraw():
            return False
        with suppress(ValueError):
            self.waiting.remove(ticket)
        return True

    def claim_next(self, batch: Batch) -> Ticket[Any] | None:
        """Claims the oldest ticket for a batch; returns None if none waits or the batch is full."""
        while len(batch.tickets) < MAX_BATCH - 1:  # the leader's own verb is the first one
            try:
                ticket = self.waiting.popleft()
            except IndexError:
                return None
            batch.tickets.append(ticket)
            if ticket.claim():
                ticket.batch = batch
                return ticket
            batch.tickets.pop()
        return None

    def put_back(self, batch: Batch) -> None:
        """Puts the tickets of a batch that was undone in front of the queue, in their order."""
        tickets, batch.tickets = batch.tickets, []
        self.waiting.extendleft([ticket for ticket in reversed(tickets) if ticket.unclaim()])

    def wake_first(self) -> None:
        """Wakes the caller of the oldest ticket, so that it leads."""
        with suppress(IndexError):
            self.waiting[0].wake()
