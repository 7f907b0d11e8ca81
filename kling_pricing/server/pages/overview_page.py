"""The overview: each budget with its pace and burn-down, the newest alerts, and the jobs in doubt."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from threading import Lock
from typing import NamedTuple

from kling_pricing.alerts.sentences import alert_text
from kling_pricing.ledger.journal import Bucket, BucketHistory
from kling_pricing.reports import burn_down
from kling_pricing.reports.charts import BarChart, Step, StepChart
from kling_pricing.reports.formatting import percent
from kling_pricing.reports.rolling_histories import with_rolling_windows
from kling_pricing.server.api.alert_routes import newest_alerts
from kling_pricing.server.api.budget_routes import BudgetView, list_freezes, show_budgets
from kling_pricing.server.api.reservation_routes import list_reservations
from kling_pricing.server.pages.visits import Content, Page, PageRoute, Visit
from kling_pricing.server.server_state import ServerState

_MAX_CARDS = 12
"""The most budgets with a card; the others are in the table below."""

_MAX_ROWS = 200
_MAX_ALERTS = 12
_MAX_DOUBTS = 8
_HISTORIES_KEPT_NS = 10 * 10**9
_NEAR = 80
"""The percentage of a cap from which a budget counts as nearly used up."""


class BudgetCard(NamedTuple):
    """A budget as the overview shows it.

    Attributes:
        balance: the balance, with the pace and the forecast.
        used: the used part of the cap in percent; None: the cap is 0.
        tone: the colour of its state.
        state: its state in a few words.
        chart: its burn-down; None: it has none.
    """

    balance: BudgetView
    used: Decimal | None
    tone: str
    state: str
    chart: StepChart | BarChart | None


class _Histories:
    """The journal entries of the open windows, which are read at most every ten seconds."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._kept: dict[int, tuple[int, list[BucketHistory]]] = {}

    def of(self, server: ServerState, since: datetime, until: datetime) -> list[BucketHistory]:
        with self._lock:
            now_ns = time.monotonic_ns()
            read_ns, histories = self._kept.get(id(server), (0, []))
            if not read_ns or now_ns - read_ns > _HISTORIES_KEPT_NS:
                found = server.ledger.bucket_histories(since, until)
                histories = with_rolling_windows(found, until)
                self._kept = {id(server): (now_ns, histories)}
            return histories


_histories = _Histories()


def show(visit: Visit) -> Content:
    """Shows the overview."""
    server, caller = visit.server, visit.caller
    shown = show_budgets(server, caller)
    freezes = list_freezes(server, caller).freezes
    frozen = {freeze.budget for freeze in freezes}
    now = shown.at
    ordered = sorted(shown.budgets, key=_share_used, reverse=True)
    histories = _histories.of(server, min([now, *(row.window_start or now for row in shown.budgets)]), now)
    cards = [
        _card(row, row.budget in frozen, _chart(row, histories, now, place))
        for place, row in enumerate(ordered[:_MAX_CARDS])
    ]
    doubts = list_reservations(server, caller, in_doubt=True, limit=_MAX_DOUBTS + 1).items
    return Content(
        "overview",
        {
            "at": now,
            "cards": cards,
            "others": [_card(row, row.budget in frozen, None) for row in ordered[_MAX_CARDS:_MAX_ROWS]],
            "left_out": max(len(ordered) - _MAX_ROWS, 0),
            "frozen_all": next((freeze for freeze in freezes if freeze.budget is None), None),
            "alerts": [(alert, alert_text(alert)) for alert in newest_alerts(server, caller, _MAX_ALERTS)],
            "doubts": doubts[:_MAX_DOUBTS],
            "more_doubts": len(doubts) > _MAX_DOUBTS,
        },
    )


def _share_used(row: BudgetView) -> Decimal:
    used = row.spent + row.held
    return used / row.cap if row.cap else used


def _card(row: BudgetView, is_frozen: bool, chart: StepChart | BarChart | None) -> BudgetCard:  # noqa: FBT001
    used = percent(row.spent + row.held, row.cap)
    if is_frozen:
        tone, state = "bad", "frozen"
    elif row.available < 0:
        tone, state = "bad", "over its cap"
    elif not row.available:
        tone, state = "bad", "used up"
    elif row.exhausted_at is not None and row.window_end is not None:
        tone, state = "wait", "too fast"
    elif used is not None and used >= _NEAR:
        tone, state = "wait", "nearly used up"
    else:
        tone, state = "good", "on course"
    return BudgetCard(row, used, tone, state, chart)


def _chart(
    row: BudgetView, histories: Sequence[BucketHistory], now: datetime, place: int
) -> StepChart | BarChart | None:
    """Returns the burn-down of a balance, from the start of its window."""
    own = [history for history in histories if _is_of(history.bucket, row)]
    if not own:
        return None
    start = row.window_start or min((entry.at for history in own for entry in history.entries), default=now)
    if start >= now:
        return None
    charts = burn_down.charts(own, start, row.window_end or now, UTC)
    return next((_until_now(chart, now)._replace(name=f"budget_{place}") for chart in charts), None)


def _until_now(chart: StepChart | BarChart, now: datetime) -> StepChart | BarChart:
    """Returns a chart whose line goes on to the present instant."""
    if isinstance(chart, BarChart) or not chart.runs or not chart.runs[-1]:
        return chart
    *earlier, run = chart.runs
    return chart._replace(runs=(*earlier, (*run, Step(now, run[-1].amount))))


def _is_of(bucket: Bucket, row: BudgetView) -> bool:
    is_same = (bucket.budget, dict(bucket.labels)) == (row.budget, row.labels)
    return is_same and (
        row.window_start is None or bucket.rolling is not None or bucket.window_start == row.window_start
    )


PAGE = Page("Overview", "/", (PageRoute("GET", "/", show),))
