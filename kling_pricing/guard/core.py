"""What every verb of a guard stands on: the ledger, the price tables, the budgets in force, and alerts."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any, NamedTuple, Self, TypeVar

from kling_pricing.budgets import BudgetsFile, BudgetsLike, budgets_from_document, read_budgets
from kling_pricing.display import shown
from kling_pricing.errors import BudgetError, KlingPricingError
from kling_pricing.ledger import Ledger, connect
from kling_pricing.ledger.model import Alert, Change, Reservation, Revision
from kling_pricing.tables.price_table import PriceBook
from kling_pricing.windows import utc_clock

_log = logging.getLogger(__name__)

EXPIRES_AFTER = timedelta(minutes=15)
"""How long a reservation waits to be dispatched: it is certainly unsent, so its money is given back then."""

DOUBTFUL_AFTER = timedelta(minutes=5)
"""How long after its dispatch a reservation without a task is in doubt. That frees no money by itself."""

MAX_ROUNDS = 5
"""How often a request is made anew because the ledger's budgets or windows had gone on."""

_Made = TypeVar("_Made")


class InForce(NamedTuple):
    """Budgets, and the digest by which the ledger knows them."""

    budgets: BudgetsFile
    digest: str

    @classmethod
    def of(cls, revision: Revision) -> InForce:
        """Those of a revision."""
        return cls(budgets_from_document(revision.document), revision.digest)


class Core:
    """A guard without its verbs; see `BudgetGuard`."""

    def __init__(
        self,
        ledger: str,
        budgets: BudgetsLike | None = None,
        *,
        book: PriceBook | None = None,
        on_alert: Callable[[Alert], None] | None = None,
        expires_after: timedelta = EXPIRES_AFTER,
        doubtful_after: timedelta = DOUBTFUL_AFTER,
        clock: Callable[[], datetime] | None = None,
    ) -> None:
        if book is None:
            from kling_pricing.tables.loading.book import default_price_book  # noqa: PLC0415 (reading YAML is slow)

            book = default_price_book()
        self._book = book
        self._clock = utc_clock(clock)
        self._on_alert = on_alert
        self._expires_after = expires_after
        self._doubtful_after = doubtful_after
        times: dict[str, Any] = {"expires_after": expires_after, "doubtful_after": doubtful_after}
        for name, time in times.items():
            if not isinstance(time, timedelta) or time <= timedelta(0):
                raise KlingPricingError(f"{name} must be a timedelta above zero, got {shown(time)}")
        self._ledger: Ledger = connect(ledger, clock=self._clock)
        self._in_force = _installed(self._ledger, budgets)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    @property
    def max_concurrency(self) -> int:
        """How many verbs its ledger carries out at the same time; more wait for their turn."""
        return self._ledger.max_concurrency

    @property
    def book(self) -> PriceBook:
        """The price tables it goes by."""
        return self._book

    @property
    def clock(self) -> Callable[[], datetime]:
        """The clock it goes by, in UTC."""
        return self._clock

    def close(self) -> None:
        """Closes the ledger; the next use opens it again."""
        self._ledger.close()

    def _by_budgets(self, make: Callable[[InForce], _Made]) -> tuple[InForce, _Made]:
        """What is made by the budgets known here; if those will not do, by those of the ledger."""
        known = self._in_force
        try:
            return known, make(known)
        except BudgetError:
            newest = self._newest()
            if newest.digest == known.digest:
                raise
            return newest, make(newest)

    def _newest(self) -> InForce:
        """The budgets that the ledger has now."""
        revision = self._ledger.installed()
        if revision is not None and revision.digest != self._in_force.digest:
            self._in_force = InForce.of(revision)
        return self._in_force

    def _told(self, change: Change) -> Reservation:
        self._tell(change.alerts)
        return change.reservation

    def _tell(self, alerts: tuple[Alert, ...]) -> None:
        if self._on_alert is None:
            return
        for alert in alerts:
            try:
                self._on_alert(alert)
            except Exception:  # noqa: BLE001 (the money has moved; the caller must learn of that, not of this)
                _log.exception("on_alert failed for budget %s", alert.budget)


def _installed(ledger: Ledger, budgets: BudgetsLike | None) -> InForce:
    """The budgets of a ledger, installed now if it has none.

    Raises:
        BudgetError: it has none and none are given, or it has others.
    """
    if budgets is None:
        revision = ledger.installed()
        if revision is None:
            raise BudgetError(
                f"ledger {ledger.name} has no budgets yet; is it the right one? To begin it, open it with "
                "budgets, or use `kling-pricing budget apply FILE`"
            )
        return InForce.of(revision)
    given = read_budgets(budgets)
    installed = InForce.of(ledger.install(given))
    if installed.budgets.digest != given.digest:
        raise BudgetError(
            "the ledger has other budgets than those given; open it without budgets, "
            "or have an administrator install yours with `kling-pricing budget apply`"
        )
    return installed
