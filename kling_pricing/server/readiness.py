"""Whether the ledger can be used, asked rarely enough that anybody may ask the server."""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Lock

from kling_pricing.errors import KlingPricingError
from kling_pricing.guard import BudgetGuard

_KEPT_NS = 10**9
"""How long an answer of the ledger is kept."""


class LedgerReadiness:
    """Asks the ledger at most once a second; all but the first question get the last answer meanwhile.

    Args:
        guard: returns the guard, or raises if it cannot be opened.
    """

    def __init__(self, guard: Callable[[], BudgetGuard]) -> None:
        self._guard = guard
        self._asking = Lock()
        self._problem: KlingPricingError | None = None
        self._until_ns = 0

    def problem(self) -> KlingPricingError | None:
        """Returns why the ledger cannot be used, or has no budgets; None: it can be used."""
        if self._asking.acquire(blocking=self._until_ns == 0):
            try:
                if time.monotonic_ns() >= self._until_ns:
                    self._problem = self._asked()
                    self._until_ns = time.monotonic_ns() + _KEPT_NS
            finally:
                self._asking.release()
        return self._problem

    def _asked(self) -> KlingPricingError | None:
        try:
            self._guard().budgets()
        except KlingPricingError as error:
            return error
        return None
