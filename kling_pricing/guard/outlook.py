"""The verbs of `BudgetGuard` about the pace of spending and about refusals. `BudgetGuard` inherits them."""

from __future__ import annotations

from datetime import date

from kling_pricing.guard.forecasts import BudgetForecast, forecasts
from kling_pricing.guard.state import GuardState
from kling_pricing.ledger.alerting import RefusedRequests


class GuardOutlook:
    """The pace of spending, and the requests that were refused."""

    _state: GuardState

    def forecasts(self) -> list[BudgetForecast]:
        """Returns each balance of `status` with the pace of spending, and when the budget would be exhausted.

        The pace is the amount held and spent since the start of the window, per day. If the ledger began to
        count later, it is measured since then, without the opening balance. There is no pace until a tenth of
        the window, or a day, has passed.
        """
        state = self._state
        return forecasts(state.ledger, state.newest_budgets().budgets, state.clock())

    def refusals(self, *, since: date | None = None, until: date | None = None) -> list[RefusedRequests]:
        """Returns the numbers of refused requests by bucket, reason and day: from `since`, before `until`.

        The numbers reach the ledger within a second; a process that is killed loses those that it has not
        written yet. `admit` counts a request that it refuses, but not a request that capping made fit.
        """
        self._state.refusals.write()
        return self._state.ledger.refusals(since, until)
