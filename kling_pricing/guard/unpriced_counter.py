"""Counts of the requests that hooks let pass without a price. They reach the ledger in batches.

Counting never waits for the ledger and never fails: a request must not be delayed by its count.
"""

from __future__ import annotations

import atexit
import logging
import os
from collections import Counter
from collections.abc import Callable
from datetime import date, datetime
from functools import cache
from threading import Lock, Timer
from typing import TypeAlias
from weakref import WeakSet

from kling_pricing.errors import KlingPricingError
from kling_pricing.ledger import Ledger
from kling_pricing.ledger.journal import UnpricedRequests
from kling_pricing.ledger.redaction import short_text

_log = logging.getLogger(__name__)

_BATCH_S = 1
"""How long requests are counted in memory before they are written."""

_MAX_PENDING = 10_000
"""The highest number of counts kept in memory while the ledger is unavailable."""

_Place: TypeAlias = tuple[str, str, date]


class UnpricedCounter:
    """Counts requests in memory, and writes the counts to a ledger from a thread of its own.

    Args:
        ledger: the ledger.
        clock: the clock that decides about the day, in UTC.
    """

    def __init__(self, ledger: Ledger, clock: Callable[[], datetime]) -> None:
        self._ledger = ledger
        self._clock = clock
        self._pending: Counter[_Place] = Counter()
        self._counting, self._writing = Lock(), Lock()
        self._timer: Timer | None = None
        _COUNTERS.add(self)

    def add(self, provider: str, path: str) -> None:
        """Counts one request to a listed path of a provider.

        Raises:
            KlingPricingError: the ledger cannot store these names.
        """
        place = (short_text("provider", provider), short_text("path", path), self._clock().date())
        with self._counting:
            if place in self._pending or len(self._pending) < _MAX_PENDING:
                self._pending[place] += 1
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
            counts = [UnpricedRequests(*place, requests) for place, requests in sorted(pending.items())]
            try:
                self._ledger.count_unpriced(counts)
            except KlingPricingError as error:
                _log.warning("could not count unpriced requests: %s", error)
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


_COUNTERS: WeakSet[UnpricedCounter] = WeakSet()


@cache
def _write_at_exit() -> None:
    """Has all counts written when the interpreter exits.

    The last function that is registered runs first. So this one is registered after a ledger was opened, and
    runs before the ledger's connections are closed.
    """
    atexit.register(_write_all)


def _write_all() -> None:
    for counter in list(_COUNTERS):
        counter.write()


def _forget_all() -> None:
    for counter in list(_COUNTERS):
        counter.forget()


if hasattr(os, "register_at_fork"):  # Windows has no fork
    os.register_at_fork(after_in_child=_forget_all)
