"""The lease of the background work: one process at a time does it, and another takes over if that one dies."""

from __future__ import annotations

import os
import socket
import time
from contextlib import suppress
from datetime import datetime, timedelta
from typing import NamedTuple
from uuid import uuid4

from kling_pricing.errors import LedgerError
from kling_pricing.ledger import Ledger

LEASE_NAME = "server"
"""The name of the lease in the ledger."""

_RENEWALS = 3
"""How often a lease is renewed before it would end."""


class LeaseHolder(NamedTuple):
    """The process that does the background work.

    Attributes:
        holder: its host and its process id.
        ends_at: the instant at which another process may take over, UTC.
        is_this: whether it is this process.
    """

    holder: str
    ends_at: datetime
    is_this: bool


class BackgroundStatus:
    """The knowledge of this process about the background work.

    Args:
        lasts: how long a lease lasts.

    Attributes:
        holder: the holder of the lease when this process last asked; None: it has not asked yet.
    """

    def __init__(self, lasts: timedelta) -> None:
        self.holder: LeaseHolder | None = None
        self._lasts = lasts
        self._asked_ns: int | None = None

    def saw(self, holder: LeaseHolder) -> None:
        """Keeps the holder of the lease, as this process has just read it."""
        self.holder, self._asked_ns = holder, time.monotonic_ns()

    @property
    def is_current(self) -> bool:
        """Whether this process has asked for the lease within twice the time that it lasts."""
        if self._asked_ns is None:
            return False
        return time.monotonic_ns() - self._asked_ns < 2 * _ns(self._lasts)


class WorkLease:
    """The right of this process to do the background work, for as long as it renews it.

    Args:
        ledger: the ledger.
        status: is told the holder of the lease.
        lasts: how long the lease lasts.
    """

    def __init__(self, ledger: Ledger, status: BackgroundStatus, lasts: timedelta) -> None:
        self._ledger = ledger
        self._status = status
        self._lasts = lasts
        self._holder = f"{socket.gethostname()}:{os.getpid()}:{uuid4().hex[:8]}"
        self._ends_ns = 0

    def is_held(self) -> bool:
        """Takes or renews the lease if it is time to do so, and returns whether this process has it.

        Raises:
            LedgerError: the ledger cannot be used.
        """
        now_ns, lasts_ns = time.monotonic_ns(), _ns(self._lasts)
        if now_ns < self._ends_ns - lasts_ns * (_RENEWALS - 1) // _RENEWALS:
            return True
        lease = self._ledger.take_lease(LEASE_NAME, self._holder, self._lasts)
        self._ends_ns = now_ns + lasts_ns if lease.is_held else 0
        self._status.saw(LeaseHolder(lease.holder.rpartition(":")[0], lease.ends_at, lease.is_held))
        return lease.is_held

    def end(self) -> None:
        """Lets another process take over at once. If the ledger cannot be used, the lease ends by itself."""
        if self._ends_ns:
            self._ends_ns = 0
            with suppress(LedgerError):
                self._ledger.end_lease(LEASE_NAME, self._holder)


def _ns(time_: timedelta) -> int:
    return time_ // timedelta(microseconds=1) * 1000
