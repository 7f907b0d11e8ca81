"""The answers of the tools: sentences for the agent, and the same facts as data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple

from kling_pricing.display import shown
from kling_pricing.errors import KlingPricingError, ReservationStateError
from kling_pricing.findings import Violation
from kling_pricing.guard import Admission, BudgetEffect, BudgetForecast, Decision
from kling_pricing.hooks.error_responses import error_code
from kling_pricing.ledger.freezing import Freeze
from kling_pricing.ledger.journal import Bucket
from kling_pricing.ledger.model import Reservation
from kling_pricing.money import format_decimal
from kling_pricing.quoting.comparison import Option
from kling_pricing.quoting.quote import Quote
from kling_pricing.windows import FOREVER


class ToolAnswer(NamedTuple):
    """The answer of a tool.

    Attributes:
        text: sentences for the agent.
        data: the same facts as JSON-ready data; amounts are text.
        is_error: whether the tool refuses.
    """

    text: str
    data: Mapping[str, Any]
    is_error: bool = False


def quote_answer(quoted: Quote) -> ToolAnswer:
    """Returns the price of a payload, with the reason for every number."""
    return ToolAnswer(quoted.explain(), quoted.as_dict())


def check_answer(violations: list[Violation]) -> ToolAnswer:
    """Returns every reason why the provider's API would refuse a payload."""
    data = {"valid": not violations, "violations": [_violation(violation) for violation in violations]}
    if not violations:
        return ToolAnswer("The API would accept this payload.", data)
    reasons = "\n".join(f"- {violation.message}" for violation in violations)
    return ToolAnswer(f"The API would refuse this payload:\n{reasons}", data)


def comparison_answer(options: list[Option], limit: int) -> ToolAnswer:
    """Returns the available ways to run a job, the cheapest first, and how many are not available."""
    available = [(option, option.quote) for option in options if option.quote is not None]
    shown_options = available[:limit]
    lines = [_option_text(option, quoted) for option, quoted in shown_options]
    lines += [_option_text(*option) for option in available[limit:] if not option[0].changes]
    left_out = len(available) - len(shown_options)
    refused = len(options) - len(available)
    more = (
        f"\n{left_out} more expensive alternatives are not shown; raise `limit` to see them."
        if left_out
        else ""
    )
    closed = f"\n{refused} further combinations are not available." if refused else ""
    data = {
        "options": [_option_data(option, quoted) for option, quoted in shown_options],
        "not_shown": left_out,
        "not_available": refused,
    }
    return ToolAnswer("\n".join(lines or ["Nothing is available."]) + more + closed, data)


def decision_answer(decision: Decision) -> ToolAnswer:
    """Returns whether a request would be admitted now, and what each budget would have left."""
    currency = decision.quote.currency
    data = {
        "outcome": decision.outcome,
        "passes": decision.passes,
        "reserved": format_decimal(decision.reserved),
        "currency": currency,
        "changes": dict(decision.changes),
        "budgets": [_effect_data(effect) for effect in decision.budgets],
        "reservation_id": None if decision.reservation is None else decision.reservation.id,
        "refusal": None if decision.refusal is None else error_data(decision.refusal),
        "at": decision.at.isoformat(),
    }
    if decision.refusal is not None:
        first = f"It would be refused: {decision.refusal}"
    elif decision.reservation is not None:
        first = f"It is reserved already, as {decision.reservation.id}, for {data['reserved']} {currency}."
    else:
        changed = f" after these changes: {_changes(decision.changes)}" if decision.changes else ""
        first = f"It would be admitted{changed}. It would cost {data['reserved']} {currency}."
    lines = [_effect_text(effect) for effect in decision.budgets]
    return ToolAnswer("\n".join([first, *lines, "Nothing was reserved."]), data)


def budgets_answer(found: list[BudgetForecast], freezes: list[Freeze], at: datetime) -> ToolAnswer:
    """Returns the balances of budgets, and the freezes in force."""
    lines = [_forecast_text(forecast) for forecast in found]
    lines += [
        f"Frozen: {'all spending' if freeze.budget is None else f'budget {freeze.budget}'}, by {freeze.actor}: "
        f"{freeze.reason}"
        for freeze in freezes
    ]
    data = {
        "at": at.isoformat(),
        "budgets": [_forecast_data(forecast) for forecast in found],
        "freezes": [{**freeze._asdict(), "frozen_at": freeze.frozen_at.isoformat()} for freeze in freezes],
    }
    return ToolAnswer("\n".join(lines or ["There is no budget that you may see."]), data)


def submission_answer(admission: Admission, payload: Mapping[str, Any], balances: list[Bucket]) -> ToolAnswer:
    """Returns the payload to submit, what it costs, and what is left."""
    reservation, currency = admission.reservation, admission.quote.currency
    reserved = format_decimal(reservation.reserved)
    lines = [
        f"Reserved {reserved} {currency} as {reservation.id}.",
        f"The price is {admission.quote.shown_total()} {currency}.",
    ]
    if admission.changes:
        lines.append(f"The payload was changed so that it fits the budgets: {_changes(admission.changes)}.")
    lines += [_balance_text(bucket) for bucket in balances]
    lines.append(
        "Submit `payload` now, once, exactly as it is. Then call `bind` with the task id in the response; if "
        "the provider definitely refuses, call `release`. After a timeout or a 5xx response, call neither, "
        "because the job may be running."
    )
    data = {
        "reservation_id": reservation.id,
        "key": reservation.key,
        "project": reservation.project,
        "reserved": reserved,
        "currency": currency,
        "changes": dict(admission.changes),
        "payload": dict(payload),
        "quote": admission.quote.as_dict(),
        "left": [_balance_data(bucket) for bucket in balances],
    }
    return ToolAnswer("\n".join(lines), data)


def reservation_answer(reservation: Reservation, balances: list[Bucket]) -> ToolAnswer:
    """Returns the state of a reservation, and what is left."""
    task = f", task {reservation.task_id}" if reservation.task_id else ""
    amount = reservation.reserved if reservation.billed is None else reservation.billed
    money = (
        "its money is available again"
        if reservation.state == "released"
        else f"{format_decimal(amount)} {reservation.currency}"
    )
    first = f"{reservation.id} is {reservation.state}{task}: {money}."
    data = {
        "reservation_id": reservation.id,
        "state": reservation.state,
        "in_doubt": reservation.in_doubt,
        "provider": reservation.provider,
        "task_id": reservation.task_id,
        "reserved": format_decimal(reservation.reserved),
        "billed": None if reservation.billed is None else format_decimal(reservation.billed),
        "currency": reservation.currency,
        "left": [_balance_data(bucket) for bucket in balances],
    }
    return ToolAnswer("\n".join([first, *(_balance_text(bucket) for bucket in balances)]), data)


def error_answer(error: KlingPricingError) -> ToolAnswer:
    """Returns a refusal: the cause, every violation, and the nearest valid payloads."""
    data = error_data(error)
    lines = [f"Refused: {error}"]
    if isinstance(error, ReservationStateError) and error.task_id is None:
        lines.append(
            "If this is the same job, do not submit it again: find out first whether it is running, and then "
            "call `bind` or `release`."
        )
    for suggestion in data["suggestions"]:
        changes = ", ".join(
            f"leave out {field}" if value is None else f"{field} = {shown(value)}"
            for field, value in suggestion.items()
        )
        lines.append(f"- valid alternative: {changes}")
    return ToolAnswer("\n".join(lines), {"error": data}, is_error=True)


def error_data(error: KlingPricingError) -> dict[str, Any]:
    """Returns an error as JSON-ready data."""
    members = {name: _ready(getattr(error, name, None)) for name in _ATTRIBUTES}
    return {
        "code": "invalid_value" if type(error) is KlingPricingError else error_code(type(error)),
        "message": str(error),
        "violations": [_violation(violation) for violation in getattr(error, "violations", ())],
        "suggestions": [dict(suggestion) for suggestion in getattr(error, "suggestions", ())],
        **{name: value for name, value in members.items() if value not in (None, [])},
    }


_ATTRIBUTES = (
    *("priced_instead", "budget", "requested", "available", "currency", "window_end", "cheapest"),
    *("reservation_id", "state", "task_id", "actor", "reason", "frozen_at"),
)
"""The attributes of errors that become members of the data."""


def _ready(value: Any) -> Any:
    if isinstance(value, Decimal):
        return format_decimal(value)
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Mapping):
        return {name: _ready(item) for name, item in value.items()}
    return [_ready(item) for item in value] if isinstance(value, list | tuple) else value


def _violation(violation: Violation) -> dict[str, Any]:
    return {name: _ready(value) for name, value in violation._asdict().items()}


def _changes(changes: Mapping[str, Any]) -> str:
    return ", ".join(f"{setting} = {shown(value)}" for setting, value in changes.items())


def _option_text(option: Option, quoted: Quote) -> str:
    changes = _changes(option.changes) or "the payload as it is"
    return f"- {quoted.shown_total()} {quoted.currency} at {option.provider}: {changes}"


def _option_data(option: Option, quoted: Quote) -> dict[str, Any]:
    return {
        "changes": dict(option.changes),
        "provider": option.provider,
        "model": option.model,
        "resolution": option.resolution,
        "audio": option.audio,
        "minimum": format_decimal(quoted.minimum),
        "maximum": format_decimal(quoted.maximum),
        "currency": quoted.currency,
        "table": quoted.table.id,
    }


def _named(budget: str, labels: Mapping[str, str]) -> str:
    return ", ".join([f"budget {budget}", *(f"{label} {value}" for label, value in labels.items())])


def _effect_text(effect: BudgetEffect) -> str:
    left = f"{format_decimal(effect.left_before)} of {format_decimal(effect.cap)} {effect.currency} left now"
    after = f", {format_decimal(effect.left_after)} afterwards" if effect.fits else ", which is not enough"
    return f"{_named(effect.budget, effect.labels)}: {left}{after}"


def _effect_data(effect: BudgetEffect) -> dict[str, Any]:
    return {name: _ready(value) for name, value in effect._asdict().items()} | {"labels": dict(effect.labels)}


def _balance_text(bucket: Bucket) -> str:
    left = f"{format_decimal(bucket.available)} of {format_decimal(bucket.cap)} {bucket.currency} left"
    return f"{_named(bucket.budget, bucket.labels)}: {left}{_window(bucket)}"


def _window(bucket: Bucket) -> str:
    if bucket.rolling is not None:
        return f" in a rolling window of {bucket.rolling}"
    return "" if bucket.window_end == FOREVER.end else f" until {bucket.window_end:%Y-%m-%d %H:%M} UTC"


def _balance_data(bucket: Bucket) -> dict[str, Any]:
    bounds = {"window_start": bucket.window_start, "window_end": bucket.window_end}
    ends = {name: None if at in set(FOREVER) else at.isoformat() for name, at in bounds.items()}
    ready = {name: _ready(value) for name, value in bucket._asdict().items()}
    return ready | ends | {"labels": dict(bucket.labels)}


def _forecast_text(forecast: BudgetForecast) -> str:
    text = _balance_text(forecast.bucket)
    if forecast.exhausted_at is not None:
        text += f"; at this pace it will be used up on {forecast.exhausted_at:%Y-%m-%d %H:%M} UTC"
    return text


def _forecast_data(forecast: BudgetForecast) -> dict[str, Any]:
    return {
        **_balance_data(forecast.bucket),
        "pace_per_day": _ready(forecast.pace_per_day),
        "exhausted_at": _ready(forecast.exhausted_at),
    }


def joined(names: Iterable[str]) -> str:
    """Returns names as a list in a sentence, sorted."""
    return ", ".join(sorted(names))
