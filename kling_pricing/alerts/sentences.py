"""Alerts in words, for messages and lists, and as JSON, for programs. No payload and no URL is in them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any

from kling_pricing.ledger.alerting import StoredAlert
from kling_pricing.money import format_decimal, multiply
from kling_pricing.windows import FOREVER

_REASONS = {
    "cap": "not enough of the budget was left",
    "max_request": "the cost exceeded the maximum for a single request",
    "frozen": "spending was frozen",
    "unmatched": "no budget matched them",
}


def alert_text(alert: StoredAlert) -> str:
    """Returns one sentence about an alert."""
    return _SENTENCES[alert.kind](alert)


def alert_document(alert: StoredAlert) -> dict[str, Any]:
    """Returns an alert as JSON-ready data: amounts are text, and instants are ISO 8601."""
    return {
        "id": alert.id,
        "at": alert.at.isoformat(),
        "kind": alert.kind,
        "text": alert_text(alert),
        "budget": alert.budget,
        "labels": dict(alert.labels),
        **{name: _amount_text(getattr(alert, name)) for name in ("threshold", "cap", "used")},
        "currency": alert.currency,
        **{name: _bound_text(getattr(alert, name)) for name in ("window_start", "window_end")},
        "reservation_id": alert.reservation_id,
        "facts": dict(alert.facts),
    }


def _amount_text(amount: Decimal | None) -> str | None:
    return None if amount is None else format_decimal(amount)


def _bound_text(bound: datetime | None) -> str | None:
    return None if bound is None or bound in FOREVER else bound.isoformat()


def _budget(alert: StoredAlert) -> str:
    labels = ", ".join(f"{label} {value}" for label, value in alert.labels.items())
    return f"{alert.budget} ({labels})" if labels else f"{alert.budget}"


def _used(alert: StoredAlert) -> str:
    if alert.used is None or alert.cap is None:
        return ""
    return f"{format_decimal(alert.used)} of {format_decimal(alert.cap)} {alert.currency}"


def _until(alert: StoredAlert) -> str:
    end = alert.window_end
    return "" if end is None or end == FOREVER.end else f" in its window until {_instant(end.isoformat())}"


def _instant(text: str) -> str:
    return f"{datetime.fromisoformat(text):%Y-%m-%d %H:%M} UTC"


def _threshold(alert: StoredAlert) -> str:
    part = format_decimal(multiply(alert.threshold or Decimal(0), 100))
    used = _used(alert) or f"{part}% of its cap"
    return f"Budget {_budget(alert)} has used {used}{_until(alert)} and has reached its threshold of {part}%."


def _overrun(alert: StoredAlert) -> str:
    used = _used(alert)
    total = f", and the budget has now used {used}" if used else ""
    return (
        f"Budget {_budget(alert)}: the charge for a job is {alert.facts['billed']}, which exceeds reservation "
        f"{alert.reservation_id}{total}."
    )


def _charge(alert: StoredAlert) -> str:
    subject = f"Budget {_budget(alert)}: check the charge of reservation {alert.reservation_id}"
    return f"{subject}: {alert.facts['detail']}."


def _freeze(alert: StoredAlert) -> str:
    subject = "All spending" if alert.budget is None else f"Budget {_budget(alert)}"
    return f"{subject} is frozen by {alert.facts['detail']}."


def _thaw(alert: StoredAlert) -> str:
    subject = "Spending" if alert.budget is None else f"Spending from budget {_budget(alert)}"
    return f"{subject} is allowed again by {alert.facts['detail']}."


def _refusals(alert: StoredAlert) -> str:
    number = alert.facts["requests"]
    requests = "1 request was" if number == "1" else f"{number} requests were"
    reason = _REASONS.get(alert.facts["reason"], alert.facts["reason"])
    if number == "1":
        reason = reason.replace("matched them", "matched it")
    budget = "" if alert.budget is None else f"Budget {_budget(alert)}: "
    return f"{budget}{requests} refused on {alert.facts['day']}, because {reason}."


def _forecast(alert: StoredAlert) -> str:
    return (
        f"Budget {_budget(alert)} has used {_used(alert)} and will be exhausted at "
        f"{_instant(alert.facts['exhausted_at'])} at its pace of {alert.facts['pace_per_day']} "
        f"{alert.currency} a day, before its window ends."
    )


def _in_doubt(alert: StoredAlert) -> str:
    return (
        f"A job of project {alert.labels.get('project')} that was sent at "
        f"{_instant(alert.facts['dispatched_at'])} is still in doubt: {alert.facts['detail']}; look it up at "
        f"the provider, and resolve reservation {alert.reservation_id}."
    )


def _test(alert: StoredAlert) -> str:
    return f"This is a test: alerts from ledger {alert.facts['ledger']} reach this receiver."


_SENTENCES: Mapping[str, Callable[[StoredAlert], str]] = {
    "threshold": _threshold,
    "overrun": _overrun,
    "charge": _charge,
    "freeze": _freeze,
    "thaw": _thaw,
    "refusals": _refusals,
    "forecast": _forecast,
    "in_doubt": _in_doubt,
    "test": _test,
}
