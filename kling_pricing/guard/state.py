"""The state that the verbs of a guard share: the ledger, the price book, the current budgets, the alerts."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple, TypeVar

from kling_pricing.budgets import (
    BudgetDifference,
    BudgetsFile,
    BudgetsLike,
    budgets_from_document,
    read_budgets,
)
from kling_pricing.budgets.differences import difference_text, differences
from kling_pricing.display import shown
from kling_pricing.errors import BudgetError, BudgetExceededError, KlingPricingError
from kling_pricing.guard.budget_plans import undone
from kling_pricing.guard.request_counts import RefusalCounter, UnpricedCounter
from kling_pricing.ledger import Ledger, connect
from kling_pricing.ledger.actions import Author, actor_name
from kling_pricing.ledger.calendars import ends_soon
from kling_pricing.ledger.environment import ledger_url
from kling_pricing.ledger.model import Alert, Change, Reservation, Revision
from kling_pricing.quoting.intake import default_book
from kling_pricing.tables.price_book import PriceBook
from kling_pricing.windows import utc_clock

_log = logging.getLogger(__name__)

EXPIRES_AFTER = timedelta(minutes=15)
"""How long a reservation waits for dispatch. After that, its money is released, because an undispatched request
is certainly unsent."""

DOUBTFUL_AFTER = timedelta(minutes=5)
"""How long a dispatched reservation waits for a task before it is in doubt. Doubt alone releases no money."""

MAX_ROUNDS = 5
"""Maximum number of attempts if the budgets or windows change while a request is being admitted."""

_Result = TypeVar("_Result")


class InForce(NamedTuple):
    """The budgets in force.

    Attributes:
        budgets: the budgets.
        digest: the digest of these budgets in the ledger.
    """

    budgets: BudgetsFile
    digest: str

    @classmethod
    def of(cls, revision: Revision) -> InForce:
        """Reads the budgets from a revision."""
        return cls(budgets_from_document(revision.document), revision.digest)


class GuardState:
    """The state of one guard; see `BudgetGuard` for the arguments.

    Attributes:
        ledger: the ledger.
        book: the price tables.
        clock: the guard's clock, in UTC.
        actor: the name under which the ledger keeps administrative actions.
        expires_after: how long a reservation waits for dispatch.
        doubtful_after: how long a dispatched reservation waits for a task before it is in doubt.
        in_force: the current budgets when this guard last read the ledger.
        unpriced: counts requests that pass without a price.
        refusals: counts requests that are refused.
    """

    def __init__(
        self,
        ledger: str | None,
        budgets: BudgetsLike | None,
        book: PriceBook | None,
        on_alert: Callable[[Alert], None] | None,
        expires_after: timedelta,
        doubtful_after: timedelta,
        clock: Callable[[], datetime] | None,
        actor: str | None,
    ) -> None:
        times: dict[str, Any] = {"expires_after": expires_after, "doubtful_after": doubtful_after}
        for name, time in times.items():
            if not isinstance(time, timedelta) or time <= timedelta(0):
                given = str(time) if isinstance(time, timedelta) else shown(time)
                raise KlingPricingError(f"{name} must be a timedelta greater than zero, got {given}")
        self.book = default_book() if book is None else book
        self.clock = utc_clock(clock)
        self.expires_after = expires_after
        self.doubtful_after = doubtful_after
        self.actor = actor_name(actor)
        self._on_alert = on_alert
        self.ledger: Ledger = connect(ledger_url(ledger), clock=self.clock)
        self.in_force = _install(self.ledger, budgets, Author(self.actor, None))
        self.unpriced = UnpricedCounter(self.ledger, self.clock)
        self.refusals = RefusalCounter(self.ledger)
        for warning in ends_soon(self.ledger.calendar_ends(), self.in_force.budgets, self.clock()):
            _log.warning("ledger %s: %s", self.ledger.name, warning)

    def with_budgets(self, make: Callable[[InForce], _Result]) -> tuple[InForce, _Result]:
        """Calls a function with the budgets that this guard knows.

        If the function raises a `BudgetError` or a `BudgetExceededError`, and the ledger has newer
        budgets, calls it again with those.

        Returns:
            The budgets used, and the function's result.

        Raises:
            BudgetError: the function also raises it for the ledger's budgets.
            BudgetExceededError: the same.
        """
        known = self.in_force
        try:
            return known, make(known)
        except (BudgetError, BudgetExceededError):
            newest = self.newest_budgets()
            if newest.digest == known.digest:
                raise
            return newest, make(newest)

    def newest_budgets(self) -> InForce:
        """Returns the ledger's current budgets."""
        revision = self.ledger.installed()
        if revision is not None and revision.digest != self.in_force.digest:
            self.in_force = InForce.of(revision)
        return self.in_force

    def take_over(self, revision: Revision) -> None:
        """Adopts the budgets of a revision."""
        self.in_force = InForce.of(revision)

    def reservation_after(self, change: Change) -> Reservation:
        """Delivers the alerts of a change and returns its reservation."""
        self.deliver(change.alerts)
        return change.reservation

    def deliver(self, alerts: tuple[Alert, ...]) -> None:
        """Calls `on_alert` for each alert; an exception that it raises is logged."""
        if self._on_alert is None:
            return
        for alert in alerts:
            try:
                self._on_alert(alert)
            except Exception:  # noqa: BLE001 (the change is committed, and the caller needs its result)
                _log.exception("on_alert failed for budget %s", alert.budget)


def _install(ledger: Ledger, budgets: BudgetsLike | None, author: Author) -> InForce:
    """Returns a ledger's budgets; if it has none, installs the given ones first.

    Raises:
        BudgetError: the ledger has no budgets and none are given, or its budgets differ from the given ones.
    """
    if budgets is None:
        revision = ledger.installed()
        if revision is None:
            raise BudgetError(
                f"ledger {ledger.name} has no budgets yet; check that this is the right ledger, then open it "
                "with budgets, or run `kling-pricing budget apply FILE`"
            )
        return InForce.of(revision)
    given = read_budgets(budgets)
    installed = InForce.of(ledger.install(given, author))
    if installed.budgets.digest != given.digest:
        changes = differences(installed.budgets, given)
        undoes = [f"; the given budgets would undo {text}" for text in undone(changes, ledger.actions())]
        raise BudgetError(
            f"the ledger's budgets differ from the given budgets ({_places(changes)}){''.join(undoes)}; open "
            "the ledger without budgets, or ask an administrator to install yours with `kling-pricing budget "
            "apply`"
        )
    return installed


_MAX_PLACES = 3
"""The maximum number of differences that the error shows."""


def _places(changes: Sequence[BudgetDifference]) -> str:
    """Returns the first differences between the installed budgets and the given ones as text."""
    texts = [
        f"{change.subject}: {difference_text(field, change.currency)}"
        if change.budget is not None and change.kind == "changed"
        else difference_text(field, change.currency)
        if change.budget is None
        else f"{change.subject} {change.kind}"
        for change in changes
        for field in (change.fields if change.kind == "changed" else change.fields[:1])
    ]
    more = len(texts) - _MAX_PLACES
    return "; ".join([*texts[:_MAX_PLACES], *([f"and {more} more"] if more > 0 else [])])
