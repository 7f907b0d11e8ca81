"""Limits how often somebody may try to sign in with a wrong access key."""

from __future__ import annotations

import time
from collections import OrderedDict

from kling_pricing.errors import AccessError

_ATTEMPTS = 10
"""The number of wrong attempts from one address that need no wait."""

_ATTEMPT_NS = 6 * 10**9
"""The time after which an address may try once more."""

_MAX_ADDRESSES = 10_000
TOO_MANY_REQUESTS = 429


class AttemptLimits:
    """Counts the attempts to sign in from each address, in this process. Not for several threads at once."""

    def __init__(self) -> None:
        self._full_at_ns: OrderedDict[str, int] = OrderedDict()

    def begin(self, address: str) -> None:
        """Counts an attempt from an address.

        Raises:
            AccessError: there were too many; the message says when the next one is possible (429).
        """
        now_ns = time.monotonic_ns()
        full_at_ns = max(self._full_at_ns.get(address, 0), now_ns) + _ATTEMPT_NS
        wait_ns = full_at_ns - now_ns - _ATTEMPTS * _ATTEMPT_NS
        if wait_ns > 0:
            raise AccessError(
                f"too many wrong access keys came from your address; try again in {-(-wait_ns // 10**9)} s",
                status=TOO_MANY_REQUESTS,
            )
        self._full_at_ns[address] = full_at_ns
        self._full_at_ns.move_to_end(address)
        if len(self._full_at_ns) > _MAX_ADDRESSES:
            self._full_at_ns.popitem(last=False)

    def succeeded(self, address: str) -> None:
        """Takes back an attempt, because its access key was right."""
        if address in self._full_at_ns:
            self._full_at_ns[address] -= _ATTEMPT_NS
