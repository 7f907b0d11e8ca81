"""The errors of the refusals of the server-side functions."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from kling_pricing.errors import KlingPricingError, LedgerError
from kling_pricing.ledger import errors as ledger_errors
from kling_pricing.ledger.access_keys import name_taken, unknown_key
from kling_pricing.ledger.freezing import unknown_budget
from kling_pricing.ledger.model import Ref, Reservation
from kling_pricing.ledger.postgres import codec
from kling_pricing.ledger.postgres.interventions import freeze_of
from kling_pricing.money import format_decimal


def error_for(about: Mapping[str, Any]) -> KlingPricingError:
    """Returns the error for a refusal."""
    kind: str = about["kind"]
    if kind in _RESERVATION_ERRORS:
        return _RESERVATION_ERRORS[kind](codec.reservation(about["reservation"]), about)
    return _OTHER_ERRORS[kind](about)


_RESERVATION_ERRORS: dict[str, Callable[[Reservation, Mapping[str, Any]], KlingPricingError]] = {
    "key_taken": lambda reservation, _: ledger_errors.key_taken(reservation),
    "key_sent": lambda reservation, _: ledger_errors.key_sent(reservation),
    "dispatch": lambda reservation, _: ledger_errors.not_dispatched(reservation),
    "bound_to_another": lambda reservation, about: ledger_errors.bound_to_another(
        reservation, about["task_id"]
    ),
    "bound_unsent": lambda reservation, about: ledger_errors.bound_unsent(reservation, about["task_id"]),
    "task_of_another": lambda reservation, about: ledger_errors.task_of_another(
        reservation, about["task_id"], about["other"]
    ),
    "doubt": lambda reservation, _: ledger_errors.not_doubtful(reservation),
    "release": lambda reservation, _: ledger_errors.not_released(reservation),
    "doubted": lambda reservation, _: ledger_errors.doubted(reservation),
    "settled_otherwise": lambda reservation, about: ledger_errors.settled_otherwise(
        reservation, Decimal(about["amount"])
    ),
    "settled_unsent": lambda reservation, _: ledger_errors.settled_unsent(reservation),
    "other_provider": lambda reservation, about: ledger_errors.other_provider(reservation, about["provider"]),
    "task_known": lambda reservation, _: ledger_errors.task_known(reservation),
}
_OTHER_ERRORS: dict[str, Callable[[Mapping[str, Any]], KlingPricingError]] = {
    "unknown": lambda about: ledger_errors.unknown(_ref(about["ref"])),
    "no_window": lambda about: ledger_errors.no_window(about["budget"]),
    "no_opening": lambda about: ledger_errors.no_opening(about["budget"]),
    "opened": lambda about: ledger_errors.opened(about["budget"]),
    "calendar_over": lambda about: ledger_errors.calendar_over(
        about["budget"], datetime.fromisoformat(about["ended"])
    ),
    "too_large": lambda about: KlingPricingError(
        f"{format_decimal(Decimal(about['amount']))} is more than a ledger can store"
    ),
    "no_budgets": lambda _: LedgerError(
        "the ledger has lost its budgets because its database was replaced; restart the guard"
    ),
    "frozen": lambda about: ledger_errors.frozen(freeze_of(about["freeze"])),
    "unknown_budget": lambda about: unknown_budget(about["name"], about["known"]),
    "ended_before_it_began": lambda about: ledger_errors.ended_before_it_began(
        datetime.fromisoformat(about["until"])
    ),
    "books_changed": lambda about: ledger_errors.books_changed(about["name"]),
    "unknown_allowance": lambda about: ledger_errors.unknown_allowance(about["name"], about["known"]),
    "unknown_request": lambda about: ledger_errors.unknown_request(about["request"]),
    "granted_already": lambda about: ledger_errors.granted_already(about["request"], about["allowance"]),
    "declined_already": lambda about: ledger_errors.declined_already(
        about["request"], about["actor"], about["reason"]
    ),
    "granted_not_declined": lambda about: ledger_errors.granted_not_declined(
        about["request"], about["allowance"]
    ),
    "key_name_taken": lambda about: name_taken(about["name"]),
    "unknown_access_key": lambda about: unknown_key(about["name"], about["known"]),
    "no_rate": lambda about: ledger_errors.no_rate(**about),
}


def _ref(array: Sequence[str]) -> Ref:
    return array[0] if len(array) == 1 else (array[0], array[1])
