"""Finds the part of a list that a sum of money pays for, by one of three rules. All sums are exact.

- In order: a shot that does not fit is left out; a cheaper shot after it may still fit.
- Most: the greatest possible number of shots, so the cheapest ones; of equally dear ones, the first.
- Shorter: every shot, but none longer than a common limit, which is the highest that fits. With the money that
  is left, shots get their next longer length, in the order of the list.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from decimal import Decimal
from typing import NamedTuple

from kling_pricing.money import add, multiply, subtract, sum_of

_NOTHING = Decimal(0)


class Length(NamedTuple):
    """A valid length of a shot, in seconds, and the price of the shot with that length."""

    duration_s: int
    amount: Decimal


class ShotPrice(NamedTuple):
    """The price of a shot.

    Attributes:
        amount: its price as it is.
        lengths: its valid lengths with their prices, the longest first and each cheaper than the one before;
            the first is its own. Empty: it can only stay as it is.
    """

    amount: Decimal
    lengths: Sequence[Length] = ()


class FittedShot(NamedTuple):
    """What a rule decides about a shot.

    Attributes:
        fits: whether the money pays for it.
        amount: its price, with a new length if it has one.
        duration_s: its new length in seconds; None: it stays as it is.
    """

    fits: bool
    amount: Decimal
    duration_s: int | None = None


class FittedList(NamedTuple):
    """What a rule decides about a list.

    Attributes:
        shots: the decision about each shot, in the order of the list.
        spent: the price of all shots that fit.
        left: the money that is left.
        longest_s: the common limit of the rule of shorter shots in seconds; None: no shot is shortened.
        lacking: the additional money that the shortest valid lengths would need; 0 if the rule is satisfied.
    """

    shots: Sequence[FittedShot]
    spent: Decimal
    left: Decimal
    longest_s: int | None = None
    lacking: Decimal = _NOTHING


def fit_in_order(prices: Sequence[ShotPrice], money: Decimal) -> FittedList:
    """Takes every shot that still fits, in the order of the list."""
    return _taken(prices, range(len(prices)), money)


def fit_most(prices: Sequence[ShotPrice], money: Decimal) -> FittedList:
    """Takes the cheapest shots first, which gives the greatest number of shots."""
    return _taken(prices, sorted(range(len(prices)), key=lambda place: prices[place].amount), money)


def _taken(prices: Sequence[ShotPrice], order: Sequence[int], money: Decimal) -> FittedList:
    shots = [FittedShot(fits=False, amount=price.amount) for price in prices]
    left = money
    for place in order:
        amount = prices[place].amount
        if amount <= left:
            left = subtract(left, amount)
            shots[place] = FittedShot(fits=True, amount=amount)
    return FittedList(shots, subtract(money, left), left)


def fit_shorter(prices: Sequence[ShotPrice], money: Decimal) -> FittedList:
    """Shortens the longest shots until all fit.

    If the shortest valid lengths do not fit either, no shot fits, and `lacking` says how much money is missing.
    """
    as_it_is = sum_of(price.amount for price in prices)
    if as_it_is <= money:
        shots = [FittedShot(fits=True, amount=price.amount) for price in prices]
        return FittedList(shots, as_it_is, subtract(money, as_it_is))
    kinds = Counter((price.amount, tuple(price.lengths)) for price in prices)

    def total(limit_s: int) -> Decimal:
        amount = _NOTHING
        for (own, lengths), count in kinds.items():
            amount = add(amount, multiply(_within(ShotPrice(own, lengths), limit_s).amount, count))
        return amount

    limits = sorted({length.duration_s for price in prices for length in price.lengths})
    if not limits or (lowest := total(limits[0])) > money:
        lowest = total(limits[0]) if limits else as_it_is
        shots = [FittedShot(fits=False, amount=price.amount) for price in prices]
        return FittedList(shots, _NOTHING, money, lacking=subtract(lowest, money))
    fitting, too_long = 0, len(limits) - 1  # the longest of all lengths is the list as it is
    while too_long - fitting > 1:
        middle = (fitting + too_long) // 2
        if total(limits[middle]) <= money:
            fitting = middle
        else:
            too_long = middle
    shots = [_within(price, limits[fitting]) for price in prices]
    left = subtract(money, sum_of(shot.amount for shot in shots))
    for place, price in enumerate(prices):
        longer = _within(price, limits[too_long])
        difference = subtract(longer.amount, shots[place].amount)
        if difference and difference <= left:
            left = subtract(left, difference)
            shots[place] = longer
    longest = max((shot.duration_s for shot in shots if shot.duration_s is not None), default=None)
    return FittedList(shots, subtract(money, left), left, longest)


def _within(price: ShotPrice, limit_s: int) -> FittedShot:
    """Returns a shot with its longest valid length within a limit, or else its shortest valid length."""
    if not price.lengths or price.lengths[0].duration_s <= limit_s:
        return FittedShot(fits=True, amount=price.amount)
    length = next((entry for entry in price.lengths if entry.duration_s <= limit_s), price.lengths[-1])
    if length is price.lengths[0]:
        return FittedShot(fits=True, amount=price.amount)
    return FittedShot(fits=True, amount=length.amount, duration_s=length.duration_s)
