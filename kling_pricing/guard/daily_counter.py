"""Counts by day that reach the ledger in batches.

Counting never waits for the ledger and never fails: a request must not be delayed by its count.
"""

from __future__ import annotations

import atexit
import logging
import os
from collections import Counter
from collections.abc import Callable, Mapping
from functools import cache
from threading import Lock, Timer
from typing import Any, Generic, TypeVar
from weakref import WeakSet

_log = logging.getLogger(__name__)

_BATCH_S = 1
"""How long things are counted in memory before they are written."""

_MAX_PENDING = 10_000
"""The highest number of counts kept in memory while the ledger is unavailable."""

_Counted = TypeVar("_Counted")


class DailyCounter(Generic[_Counted]):
    """Counts in memory, and writes the counts to a ledger from a thread of its own.

    Args:
        what: the name of the things that are counted, for a warning.
        write: writes numbers to the ledger.
    """

    def __init__(self, what: str, write: Callable[[Mapping[_Counted, int]], None]) -> None:
        self._what = what
        self._write = write
        self._pending: Counter[_Counted] = Counter()
        self._counting, self._writing = Lock(), Lock()
        self._timer: Timer | None = None
        _COUNTERS.add(self)

    def add(self, counted: _Counted) -> None:
        """Counts one thing."""
        with self._counting:
            if counted in self._pending or len(self._pending) < _MAX_PENDING:
                self._pending[counted] += 1
            if self._timer is None:
                _write_at_exit()
                self._timer = Timer(_BATCH_S, self._write_late)
                self._timer.daemon = True
                self._timer.start()

    def write(self) -> None:
        """Writes the counts to the ledger now. If the ledger cannot be written, they stay in memory."""
        with self._writing:
            with self._counting:
                pending, self._pending = self._pending, Counter()
            if not pending:
                return
            try:
                self._write(pending)
            except Exception as error:  # noqa: BLE001 (the guard's `clock` may fail too; nobody would see it here)
                _log.warning("could not count %s: %s", self._what, error)
                with self._counting:
                    self._pending.update(pending)

    def _write_late(self) -> None:
        with self._counting:
            self._timer = None
        self.write()

    def forget(self) -> None:
        """Forgets the counts: after a fork, the parent process writes them."""
        self._counting, self._writing = Lock(), Lock()
        self._pending, self._timer = Counter(), None


_COUNTERS: WeakSet[DailyCounter[Any]] = WeakSet()


@cache
def _write_at_exit() -> None:
    """Has all counts written when the interpreter exits.

    The last function that is registered runs first. So this one is registered after a ledger was opened, and
    runs before the ledger's connections are closed.
    """
    atexit.register(write_all)


def write_all() -> None:
    """Writes the counts of every guard of this process to its ledger now."""
    for counter in list(_COUNTERS):
        counter.write()


def _forget_all() -> None:
    for counter in list(_COUNTERS):
        counter.forget()


if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(after_in_child=_forget_all)
