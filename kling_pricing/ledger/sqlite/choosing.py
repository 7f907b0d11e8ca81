"""Decides about a request from the rows of the ledger. `reserve` and `decide` share it and cannot differ."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from kling_pricing.errors import BudgetFrozenError, IdempotencyError, ReservationStateError
from kling_pricing.ledger.decided import Assumed, Decided, Room
from kling_pricing.ledger.model import (
    UNSENT,
    Mistimed,
    Outdated,
    PricedVariant,
    Refused,
    Reservation,
    ReservationRequest,
)
from kling_pricing.ledger.sqlite import balances, freezes, reservations, revisions
from kling_pricing.ledger.sqlite.balances import BucketBalance
from kling_pricing.ledger.sqlite.codec import instant, written
from kling_pricing.windows import STEPS, length_text


class Chosen(NamedTuple):
    """The candidate to reserve.

    Attributes:
        place: its index among the candidates.
        attempt: the number of the attempt with the request's key.
    """

    place: int
    attempt: int


def choose(
    db: sqlite3.Connection,
    look: reservations.Look,
    order: ReservationRequest,
    candidates: Sequence[PricedVariant],
    now: datetime,
) -> Chosen | Reservation | Refused | Mistimed:
    """Returns the candidate to reserve, the unsent reservation of the key, or why nothing is reserved.

    Raises:
        IdempotencyError: the key belongs to a different request.
        ReservationStateError: the key's job was already sent.
        BudgetFrozenError: spending is frozen.
    """
    before = reservations.last_attempt(db, order, now) if look.is_known else None
    if look.is_frozen and (refusal := freezes.refusal(db)) is not None:
        raise refusal
    if before is not None and before.state == UNSENT:
        return before
    if not order.holds.start <= now < order.holds.end:
        return Mistimed(now)
    if not look.rooms and not order.may_be_unmatched:
        return Refused(())
    chosen = balances.choose(look.rooms, candidates)
    if chosen is None:
        return Refused(balances.shortfalls(look.rooms, candidates[0]))
    return Chosen(candidates.index(chosen), 1 if before is None else before.attempt + 1)


def decide(
    db: sqlite3.Connection,
    now: datetime,
    order: ReservationRequest,
    candidates: Sequence[PricedVariant],
    assumed: Assumed,
) -> Decided | Outdated | Mistimed:
    """See `Ledger.decide`. Only reads."""
    look = reservations.look(db, order, now)
    if look.budgets != order.budgets:
        return Outdated(revisions.in_force(db))
    late = _late_holds(db, now) if look.is_late else {}
    rooms = [room.without(late).with_held(assumed.get(_room(room).name, 0)) for room in look.rooms]
    shown = tuple(map(_room, rooms))
    try:
        verdict = choose(db, look._replace(rooms=rooms), order, candidates, now)
    except (IdempotencyError, ReservationStateError, BudgetFrozenError) as refusal:
        return Decided(refusal, shown, now)
    if isinstance(verdict, Mistimed):
        return verdict
    return Decided(verdict.place if isinstance(verdict, Chosen) else verdict, shown, now)


def _late_holds(db: sqlite3.Connection, now: datetime) -> Mapping[int, int]:
    """Returns the nanos that expired reservations still hold, by bucket. `reserve` would release them first."""
    return dict(
        db.execute(
            "SELECT line.bucket, sum(line.held) FROM reservation JOIN reservation_line AS line"
            " ON line.reservation = reservation.id WHERE state = 'reserved' AND deadline <= ?"
            " GROUP BY line.bucket",
            (written(now),),
        )
    )


def _room(room: BucketBalance) -> Room:
    claim = room.claim
    return Room(
        claim.budget,
        claim.labels,
        room.cap,
        room.held,
        room.spent,
        claim.max_request,
        claim.currency,
        instant(room.opens),
        instant(room.closes),
        None if claim.step is None else length_text(STEPS * claim.step),
    )
