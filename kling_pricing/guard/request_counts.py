"""Counts of the requests that the guard refused, and of those that hooks let pass without a price."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import date, datetime
from functools import partial
from typing import TypeAlias

from kling_pricing.guard.daily_counter import DailyCounter
from kling_pricing.ledger import Ledger
from kling_pricing.ledger.alerting import RefusedRequests
from kling_pricing.ledger.journal import UnpricedRequests
from kling_pricing.ledger.model import Refused
from kling_pricing.ledger.redaction import short_text

_Path: TypeAlias = tuple[str, str, date]
_Refusal: TypeAlias = tuple[str, tuple[tuple[str, str], ...], str, date]


class UnpricedCounter:
    """Counts the requests that hooks let pass without a price.

    Args:
        ledger: the ledger.
        clock: the clock that decides about the day, in UTC.
    """

    def __init__(self, ledger: Ledger, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        # without a reference to this object, so that a guard that is dropped closes its files
        self._counter: DailyCounter[_Path] = DailyCounter("unpriced requests", partial(_write_unpriced, ledger))
        self.write = self._counter.write

    def add(self, provider: str, path: str) -> None:
        """Counts one request to a listed path of a provider.

        Raises:
            KlingPricingError: the ledger cannot store these names.
        """
        self._counter.add((short_text("provider", provider), short_text("path", path), self._clock().date()))


class RefusalCounter:
    """Counts the requests that the guard refused. Each refusal counts once in each bucket that refused it.

    Args:
        ledger: the ledger.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._counter: DailyCounter[_Refusal] = DailyCounter(
            "refused requests", partial(_write_refusals, ledger)
        )
        self.write = self._counter.write

    def add(self, refused: Refused, at: datetime) -> None:
        """Counts a request that does not fit, on the day of an instant in UTC."""
        self._add(
            at,
            (
                (
                    shortfall.budget,
                    shortfall.labels,
                    "cap" if shortfall.available < shortfall.requested else "max_request",
                )
                for shortfall in refused.shortfalls
            ),
        )
        if not refused.shortfalls:
            self._add(at, [("", {}, "unmatched")])

    def add_frozen(self, budget: str | None, at: datetime) -> None:
        """Counts a request that was refused because a budget is frozen, or all spending."""
        self._add(at, [(budget or "", {}, "frozen")])

    def _add(self, at: datetime, refusals: Iterable[tuple[str, Mapping[str, str], str]]) -> None:
        for budget, labels, reason in refusals:
            self._counter.add((budget, tuple(sorted(labels.items())), reason, at.date()))


def _write_unpriced(ledger: Ledger, pending: Mapping[_Path, int]) -> None:
    ledger.count_unpriced([UnpricedRequests(*path, requests) for path, requests in sorted(pending.items())])


def _write_refusals(ledger: Ledger, pending: Mapping[_Refusal, int]) -> None:
    ledger.count_refusals(
        [
            RefusedRequests(budget, dict(labels), reason, day, requests)
            for (budget, labels, reason, day), requests in sorted(pending.items())
        ]
    )
