"""Decides how an observation affects the money of a reservation. Pure."""

from __future__ import annotations

from decimal import Decimal
from typing import NamedTuple

from kling_pricing.ledger.journal import Observation
from kling_pricing.ledger.model import Basis, Reservation
from kling_pricing.money import MAX_NANOS, NANOS, multiply


class Charged(NamedTuple):
    """The task was charged: settle the reservation.

    Attributes:
        amount: the charge, in the reservation's currency.
        basis: the source of the amount.
    """

    amount: Decimal
    basis: Basis


class NotCharged(NamedTuple):
    """The task finished and was not charged: release the reservation.

    Attributes:
        reason: the final state of the task.
    """

    reason: str


def outcome(reservation: Reservation, seen: Observation) -> Charged | NotCharged | None:
    """Returns the effect of an observation on a reservation, or None while the task is unfinished.

    A stated charge counts. Without a stated charge, a successful task costs the quote, and the price table
    decides about a failed or cancelled task: if its `failed_tasks` is `refunded`, the task costs nothing; if it
    is `charged` or `unconfirmed`, the task costs the quote until an amount on a stronger basis corrects it.
    """
    if seen.state not in {"succeeded", "failed", "cancelled"}:
        return None
    charged = charged_amount(reservation, seen)
    if seen.state == "succeeded":
        return Charged(reservation.expected, "quote") if charged is None else Charged(charged, "response")
    if charged:
        return Charged(charged, "response")
    if charged is not None or reservation.failed_tasks == "refunded":
        return NotCharged(seen.state)
    return Charged(reservation.expected, "quote")


def charged_amount(reservation: Reservation, seen: Observation) -> Decimal | None:
    """Returns the stated charge in the reservation's currency, or None if it cannot be determined."""
    if seen.amount is None:
        return None
    if seen.amount_unit == reservation.currency:
        stated = seen.amount
    elif seen.amount_unit == reservation.statement_unit and reservation.unit_value is not None:
        stated = multiply(seen.amount, reservation.unit_value)
    else:
        return None
    return stated if stated <= MAX_NANOS // NANOS else None  # a higher amount must be a mistake
