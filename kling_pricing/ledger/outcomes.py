"""Decides how an observation affects the money of a reservation. Pure; `observe.sql` has the same rules."""

from __future__ import annotations

from decimal import Decimal
from typing import NamedTuple

from kling_pricing.ledger.journal import Observation
from kling_pricing.ledger.model import Basis, Reservation
from kling_pricing.money import MAX_AMOUNT, add, format_decimal, multiply
from kling_pricing.wire.charges import CASH, UNIT, VIDEO, Charge, ChargePart


class Comparison(NamedTuple):
    """The difference between a response and the quote.

    Attributes:
        made: the price of what was made, in the reservation's currency, if it counts in place of the quote.
        remark: a sentence about a contradiction, with both amounts; None: there is none.
    """

    made: Decimal | None = None
    remark: str | None = None


NOTHING = Comparison()
"""The comparison of a response that says nothing other than the quote."""


class Uncompared(NamedTuple):
    """The result for observations that must be compared with the quote first. No balance was changed.

    A ledger knows no prices. So the caller compares the observations, and calls the verb again.

    Attributes:
        reservation: the reservation of the task, as it is now.
        observations: the observations, each with its number in the ledger; 0 is the caller's own observation.
    """

    reservation: Reservation
    observations: tuple[tuple[int, Observation], ...]


def needs_comparison(seen: Observation) -> bool:
    """Returns whether an observation states something that can contradict the quote."""
    has_list_price = seen.charge is not None and seen.charge.list_price is not None
    return seen.state == "succeeded" and bool(seen.facts or seen.duration_s or has_list_price)


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


class Unclear(NamedTuple):
    """The response names a charge that has no value here: hold the money, and mark the reservation in doubt."""

    reason: str


def outcome(
    reservation: Reservation, seen: Observation, made: Decimal | None = None
) -> Charged | NotCharged | Unclear | None:
    """Returns the effect of an observation on a reservation, or None while the task is unfinished.

    A charge that the response names counts or is unclear. Without a charge, a successful task costs the price
    of what was made, or else the quote. The price table decides about a failed or cancelled task: if its
    `failed_tasks` is `refunded`, the task costs nothing; if it is `charged` or `unconfirmed`, the task costs
    the quote until an amount on a stronger basis corrects it.

    Args:
        reservation: the reservation of the task.
        seen: the observation.
        made: the price of what was made, if the response states it.
    """
    if seen.state not in {"succeeded", "failed", "cancelled"}:
        return None
    charged = None if seen.charge is None else charged_amount(reservation, seen.charge)
    if isinstance(charged, Unclear):
        return charged
    if charged is not None:
        return Charged(charged, "response") if charged or seen.state == "succeeded" else NotCharged(seen.state)
    if seen.state == "succeeded":
        return Charged(reservation.expected, "quote") if made is None else Charged(made, "response")
    if reservation.failed_tasks == "refunded":
        return NotCharged(seen.state)
    return Charged(reservation.expected, "quote")


def charged_amount(reservation: Reservation, charge: Charge) -> Decimal | Unclear:
    """Returns the exact sum of a charge's parts in the reservation's currency, or why it is not known."""
    if charge.problem is not None:
        return Unclear(charge.problem)
    total = Decimal(0)
    for part in charge.parts:
        value = _value(reservation, part.unit) if part.amount else Decimal(0)
        if value is None:
            return Unclear(_why_unclear(reservation, part))
        total = add(total, multiply(part.amount, value))
    if total > MAX_AMOUNT:
        return implausible(total, reservation.currency)
    return total


def implausible(charge: Decimal, currency: str) -> Unclear:
    """Returns why a charge is not counted that is more than a ledger can hold in some budget's currency."""
    return Unclear(f"the charge of {format_decimal(charge)} {currency} is implausibly high")


def _value(reservation: Reservation, unit: str) -> Decimal | None:
    """Returns the value of a unit in the reservation's currency; None: it is not known."""
    terms = reservation.terms
    if unit == terms.currency or (unit == CASH and terms.account_currency == terms.currency):
        return Decimal(1)
    for name in (unit, {UNIT: VIDEO, VIDEO: UNIT}.get(unit)):  # a rate's own unit is that of a video pack
        if name is not None and name == terms.statement_unit:
            return terms.unit_value
        if name is not None and name in terms.pack_units:
            return terms.pack_units[name]
    return None


def _why_unclear(reservation: Reservation, part: ChargePart) -> str:
    """Returns why a part of a charge has no value in the reservation's currency."""
    terms, amount = reservation.terms, format_decimal(part.amount)
    if part.unit == CASH and terms.account_currency is None:
        return (
            f"{amount} was paid in money, and the currency of the account is not known; set account_currency "
            "in the price table"
        )
    currency = terms.account_currency if part.unit == CASH else part.unit
    if currency is not None and len(currency) == 3 and currency.isupper():  # noqa: PLR2004 (ISO 4217)
        return f"{amount} {currency} was paid, and the reservation is in {terms.currency}"
    return f"{amount} was paid in units of {part.unit}, and the price table gives no value for that unit"
