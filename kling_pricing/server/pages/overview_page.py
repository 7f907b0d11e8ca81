"""The overview: each budget with its pace and burn-down, the newest alerts, and the jobs in doubt."""

from __future__ import annotations

from kling_pricing.alerts.sentences import alert_text
from kling_pricing.server.api.alert_routes import newest_alerts
from kling_pricing.server.api.budget_routes import list_freezes, show_budgets
from kling_pricing.server.api.reservation_routes import list_reservations
from kling_pricing.server.pages.budget_cards import MAX_CHARTS, cards_of
from kling_pricing.server.pages.visits import Content, Page, PageRoute, Visit

_MAX_ROWS = 200
_MAX_ALERTS = 12
_MAX_DOUBTS = 8


def show(visit: Visit) -> Content:
    """Shows the overview."""
    server, caller = visit.server, visit.caller
    shown = show_budgets(server, caller)
    freezes = list_freezes(server, caller).freezes
    cards = cards_of(server, caller, shown)
    doubts = list_reservations(server, caller, in_doubt=True, limit=_MAX_DOUBTS + 1).items
    return Content(
        "overview",
        {
            "at": shown.at,
            "cards": cards[:MAX_CHARTS],
            "others": cards[MAX_CHARTS:_MAX_ROWS],
            "left_out": max(len(cards) - _MAX_ROWS, 0),
            "frozen_all": next((freeze for freeze in freezes if freeze.budget is None), None),
            "alerts": [(alert, alert_text(alert)) for alert in newest_alerts(server, caller, _MAX_ALERTS)],
            "doubts": doubts[:_MAX_DOUBTS],
            "more_doubts": len(doubts) > _MAX_DOUBTS,
        },
    )


PAGE = Page("Overview", "/", (PageRoute("GET", "/", show),))
