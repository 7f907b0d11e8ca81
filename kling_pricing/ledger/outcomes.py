"""What an answer of the provider means for the money set aside. Pure."""

from __future__ import annotations

from decimal import Decimal
from typing import NamedTuple

from kling_pricing.ledger.journal import Observation
from kling_pricing.ledger.model import Basis, Reservation
from kling_pricing.money import MAX_NANOS, NANOS, multiply


class Charged(NamedTuple):
    """The task was charged: settle the reservation.

    Attributes:
        amount: in the reservation's currency.
        basis: what the amount rests on.
    """

    amount: Decimal
    basis: Basis


class NotCharged(NamedTuple):
    """The task ended and was not charged: release the reservation."""

    reason: str


def outcome(reservation: Reservation, seen: Observation) -> Charged | NotCharged | None:
    """What an observation means for a reservation; None while the task is under way.

    A charge that is stated is believed. Where none is, success costs the quote, and a failed or cancelled task
    what the provider's price table says: nothing (`refunded`), or the quote (`charged`, and also `unconfirmed`,
    until somebody with better knowledge corrects it).
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
    """The charge that an observation states, in the reservation's currency; None: none that can be read."""
    if seen.amount is None:
        return None
    if seen.amount_unit == reservation.currency:
        stated = seen.amount
    elif seen.amount_unit == reservation.statement_unit and reservation.unit_value is not None:
        stated = multiply(seen.amount, reservation.unit_value)
    else:
        return None
    return stated if stated <= MAX_NANOS // NANOS else None  # beyond that it is no charge but a mistake
