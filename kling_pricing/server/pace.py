"""A bound on how often something may happen."""

from __future__ import annotations

import time

_NS_PER_S = 10**9


class Pace:
    """Allows a number of events per second, and as many at once after a quiet second.

    Args:
        per_s: the number.
    """

    def __init__(self, per_s: int) -> None:
        self._interval_ns = _NS_PER_S // per_s
        self._free_at_ns = 0

    def allows(self) -> bool:
        """Returns whether one more event may happen now, and if so, counts it."""
        now_ns = time.monotonic_ns()
        begin_ns = max(self._free_at_ns, now_ns - _NS_PER_S)
        if begin_ns + self._interval_ns > now_ns:
            return False
        self._free_at_ns = begin_ns + self._interval_ns
        return True
