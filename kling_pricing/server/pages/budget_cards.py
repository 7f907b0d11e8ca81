"""The balances of budgets as pages show them: their state in a word, and their burn-down."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from threading import Lock
from typing import NamedTuple

from kling_pricing.ledger.journal import Bucket, BucketHistory
from kling_pricing.reports import burn_down
from kling_pricing.reports.burn_down import ReportTime
from kling_pricing.reports.charts import BarChart, Step, StepChart
from kling_pricing.reports.formatting import percent
from kling_pricing.reports.rolling_histories import with_rolling_windows
from kling_pricing.server.access import Caller
from kling_pricing.server.api.budget_routes import BudgetList, BudgetView, list_freezes
from kling_pricing.server.server_state import ServerState

MAX_CHARTS = 12
"""The most balances of a page with a chart."""

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
                found = server.ledger.bucket_hours(since, until)
                histories = with_rolling_windows(found, until)
                self._kept = {id(server): (now_ns, histories)}
            return histories


_histories = _Histories()


def cards_of(
    server: ServerState, caller: Caller, shown: BudgetList, *, charts: int = MAX_CHARTS
) -> list[BudgetCard]:
    """Returns the balances that a caller sees, the most used first.

    Args:
        server: the server.
        caller: the caller.
        shown: the balances.
        charts: how many of them get a chart.
    """
    frozen = {freeze.budget for freeze in list_freezes(server, caller).freezes}
    now = shown.at
    ordered = sorted(shown.budgets, key=_share_used, reverse=True)
    histories: list[BucketHistory] = []
    if charts and ordered:
        histories = _histories.of(server, min(row.window_start or now for row in ordered), now)
    return [
        _card(row, row.budget in frozen, _chart(row, histories, now, place) if place < charts else None)
        for place, row in enumerate(ordered)
    ]


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
    charts = burn_down.charts(own, ReportTime(start, row.window_end or now, UTC))
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
