"""Allowances: amounts above the caps of named budgets, granted to one project until an instant. Pure.

An allowance covers the shortfall of a request: the amount that the request needs and a named budget does not
have left. The request still counts in full in every budget.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, NamedTuple

from kling_pricing.money import NANOS, format_decimal, nanos_up


class Grant(NamedTuple):
    """The content of an allowance to be granted.

    Attributes:
        project: the project whose requests it covers.
        amount: the amount that it covers in total.
        currency: the currency of the amount.
        budgets: the names of the budgets above whose limits it may be used, sorted.
        key: the only key for which it may be used; None: any key of the project.
        until: the instant from which it does not cover more requests, UTC.
        request_id: the request that it grants; None: nobody filed a request.
    """

    project: str
    amount: Decimal
    currency: str
    budgets: tuple[str, ...]
    key: str | None
    until: datetime
    request_id: str | None = None


class Allowance(NamedTuple):
    """A granted allowance, and its use. Every amount is in `currency`, and every instant is in UTC.

    Attributes:
        id: the ledger's id for the allowance.
        project: the project whose requests it covers.
        amount: the amount that it covers in total.
        held: the part that covers reservations of jobs that are not settled yet.
        spent: the part that covered settled jobs.
        currency: the currency of the amounts.
        budgets: the names of the budgets above whose limits it may be used, sorted.
        key: the only key for which it may be used; None: any key of the project.
        until: the instant from which it does not cover more requests.
        actor: the person or program that granted it.
        reason: the reason.
        request_id: the request that it granted; None: nobody filed a request.
        created_at: the instant of the grant.
        revoked_at: the instant at which it was revoked; None: it was not.
    """

    id: str
    project: str
    amount: Decimal
    held: Decimal
    spent: Decimal
    currency: str
    budgets: tuple[str, ...]
    key: str | None
    until: datetime
    actor: str
    reason: str
    request_id: str | None
    created_at: datetime
    revoked_at: datetime | None

    @property
    def available(self) -> Decimal:
        """The amount that is left, whether or not it can still be used; never negative."""
        return max(self.amount - self.held - self.spent, Decimal(0))

    def state(self, at: datetime) -> str:
        """Returns `open`, `used up`, `ended` or `revoked`: whether it can cover a request at an instant."""
        if self.revoked_at is not None:
            return "revoked"
        if self.until <= at:
            return "ended"
        return "open" if self.available else "used up"


class Decline(NamedTuple):
    """The decision that a filed request gets no allowance.

    Attributes:
        actor: the person or program that declined the request.
        reason: the reason, for the person who filed it.
        at: the instant at which it was declined, UTC.
    """

    actor: str
    reason: str
    at: datetime


class AllowanceRequest(NamedTuple):
    """A filed request for an allowance.

    Attributes:
        id: the ledger's id for the request.
        project: the project that needs the allowance.
        amount: the price of the job, of which an allowance covers the shortfall.
        currency: the currency of the amount.
        budgets: the names of the budgets that had too little left, sorted.
        key: the key of the job; None: the allowance is for any key of the project.
        actor: the person or program that filed the request.
        reason: the reason.
        created_at: the instant at which it was filed, UTC.
        allowance_id: the allowance that granted it; None: it was not granted.
        declined: who declined it, and why; None: nobody has declined it.
    """

    id: str
    project: str
    amount: Decimal
    currency: str
    budgets: tuple[str, ...]
    key: str | None
    actor: str
    reason: str
    created_at: datetime
    allowance_id: str | None
    declined: Decline | None = None

    @property
    def state(self) -> str:
        """`open`, `granted` or `declined`."""
        if self.allowance_id is not None:
            return "granted"
        return "open" if self.declined is None else "declined"


class Need(NamedTuple):
    """The amount that a request needs in one bucket, which does not have it. In nanos of the budget's currency.

    Attributes:
        place: the index of the claim in its request.
        budget: the budget's name.
        currency: the budget's currency.
        amount: the amount of the request.
        available: the amount that is left in the bucket; negative after an overrun, or above the cap.
        max_request: the limit for a single request; None: no limit.
    """

    place: int
    budget: str
    currency: str
    amount: int
    available: int
    max_request: int | None

    @property
    def of_cap(self) -> int:
        """The shortfall of the cap. Spend that is above the cap already is not part of it."""
        return self.amount - min(max(self.available, 0), self.amount)

    @property
    def of_limit(self) -> int:
        """The shortfall of the limit for a single request."""
        return 0 if self.max_request is None else max(self.amount - self.max_request, 0)


class Usable(NamedTuple):
    """An allowance that may cover a request.

    Attributes:
        id: the allowance's id.
        left: the nanos that are left of it.
        currency: its currency.
        budgets: the names of its budgets.
        is_for_key: whether it is for the key of the request, so that it also lifts the limit per request.
    """

    id: str
    left: int
    currency: str
    budgets: tuple[str, ...]
    is_for_key: bool


class Cover(NamedTuple):
    """The part of an allowance that covers a request.

    Attributes:
        allowance: the allowance's id.
        place: the index of the claim on the bucket with the largest shortfall.
        above: the nanos of the request in that bucket that need no cover. If the request settles for less, the
            cover shrinks to the part of the bill above this amount.
        rate: the accounting rate from the allowance's currency to the budget's; None: they are the same.
        held: the covered nanos in the allowance's currency.
    """

    allowance: str
    place: int
    above: int
    rate: Decimal | None
    held: int


class Coverage(NamedTuple):
    """The result of covering a request.

    Attributes:
        covers: the parts of allowances that cover the request, in the order in which they are used.
        lacking: the nanos that no allowance covers, by the index of the claim; empty: the request is covered.
        covered: the nanos that allowances cover, by the index of the claim.
    """

    covers: tuple[Cover, ...]
    lacking: Mapping[int, int]
    covered: Mapping[int, int]


class _Rest:
    """The shortfalls of one bucket that are not covered yet."""

    def __init__(self, need: Need) -> None:
        self.need = need
        self.of_cap = need.of_cap
        self.of_limit = need.of_limit
        self.covered = 0

    def short(self, *, is_for_key: bool) -> int:
        return max(self.of_cap, self.of_limit) if is_for_key else self.of_cap

    def take(self, nanos: int, *, is_for_key: bool) -> None:
        self.of_cap = max(self.of_cap - nanos, 0)
        self.covered += nanos
        if is_for_key:
            self.of_limit = max(self.of_limit - nanos, 0)


def cover(
    needs: Iterable[Need], allowances: Iterable[Usable], rates: Mapping[tuple[str, str], Decimal]
) -> Coverage:
    """Covers the shortfalls of a request by allowances.

    The allowances are used in their order. Each covers the largest shortfall that is left among its budgets, as
    far as it reaches. PostgreSQL does the same in `coverage`.

    Args:
        needs: the needs of the request in the buckets that do not have room for it.
        allowances: the allowances that may cover it, in the order in which they are to be used.
        rates: the accounting rates, by the currency of the allowance and that of the budget.
    """
    rests = [_Rest(need) for need in needs]
    covers = []
    for allowance in allowances:
        best: Cover | None = None
        if allowance.left <= 0:
            continue
        for rest in rests:
            short = rest.short(is_for_key=allowance.is_for_key)
            if not short or rest.need.budget not in allowance.budgets:
                continue
            is_same = allowance.currency == rest.need.currency
            rate = None if is_same else rates.get((allowance.currency, rest.need.currency))
            if is_same or rate is not None:
                wanted = min(cost(short, rate), allowance.left)
                if wanted > (best.held if best else 0):
                    best = Cover(allowance.id, rest.need.place, rest.need.amount - short, rate, wanted)
        if best is None:
            continue
        covers.append(best)
        for rest in rests:
            is_same = allowance.currency == rest.need.currency
            rate = None if is_same else rates.get((allowance.currency, rest.need.currency))
            if rest.need.budget in allowance.budgets and (is_same or rate is not None):
                short = rest.short(is_for_key=allowance.is_for_key)
                rest.take(min(worth(best.held, rate), short), is_for_key=allowance.is_for_key)
    lacking = {rest.need.place: max(rest.of_cap, rest.of_limit) for rest in rests}
    return Coverage(
        tuple(covers),
        {place: nanos for place, nanos in lacking.items() if nanos},
        {rest.need.place: rest.covered for rest in rests},
    )


def cost(nanos: int, rate: Decimal | None) -> int:
    """Returns the nanos of an allowance that cover an amount in a budget's currency, rounded up."""
    if rate is None:
        return nanos
    scaled = nanos_up(rate)  # a rate has at most nine decimal places
    return -(-nanos * NANOS // scaled)


def worth(nanos: int, rate: Decimal | None) -> int:
    """Returns the nanos in a budget's currency that a part of an allowance covers, rounded down."""
    return nanos if rate is None else nanos * nanos_up(rate) // NANOS


def still_covered(held: int, above: int, rate: Decimal | None, counted: int) -> int:
    """Returns the nanos that an allowance covers after a settlement.

    Args:
        held: the nanos that it covered at the reservation.
        above: see `Cover`.
        rate: see `Cover`.
        counted: the nanos that the settlement counts in the bucket.
    """
    return min(held, cost(max(counted - above, 0), rate))


def grant_dict(grant: Grant) -> dict[str, Any]:
    """Returns the content of an allowance as the record of administrative actions keeps it."""
    return _content(grant) | {"until": grant.until.isoformat(), "request": grant.request_id}


def request_dict(request: AllowanceRequest) -> dict[str, Any]:
    """Returns the content of a filed request as the record of administrative actions keeps it."""
    return _content(request)


def _content(wanted: Grant | AllowanceRequest) -> dict[str, Any]:
    return {
        "project": wanted.project,
        "amount": format_decimal(wanted.amount),
        "currency": wanted.currency,
        "budgets": list(wanted.budgets),
        "key": wanted.key,
    }
