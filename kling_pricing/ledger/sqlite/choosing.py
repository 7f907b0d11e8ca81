"""Decides about a request from the rows of the ledger. `reserve` and `decide` share it and cannot differ."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import NamedTuple

from kling_pricing.errors import BudgetFrozenError, IdempotencyError, ReservationStateError
from kling_pricing.ledger.decided import Assumed, Decided, Room
from kling_pricing.ledger.granting import Cover, Coverage
from kling_pricing.ledger.model import (
    UNSENT,
    Mistimed,
    Outdated,
    PricedVariant,
    Refused,
    Reservation,
    ReservationRequest,
    Shortfall,
)
from kling_pricing.ledger.sqlite import allowances, freezes, reservations, revisions
from kling_pricing.ledger.sqlite.balances import BucketBalance, Move
from kling_pricing.ledger.sqlite.codec import instant, written
from kling_pricing.money import format_decimal, from_nanos
from kling_pricing.windows import STEPS, length_text


class Chosen(NamedTuple):
    """The candidate to reserve.

    Attributes:
        place: its index among the candidates.
        attempt: the number of the attempt with the request's key.
        covers: the parts of allowances that cover it.
    """

    place: int
    attempt: int
    covers: tuple[Cover, ...]


def choose(
    db: sqlite3.Connection,
    look: reservations.Look,
    order: ReservationRequest,
    candidates: Sequence[PricedVariant],
    now: datetime,
    allowing: allowances.Allowing,
) -> Chosen | Reservation | Refused | Mistimed:
    """Returns the candidate to reserve, the unsent reservation of the key, or why nothing is reserved.

    Raises:
        IdempotencyError: the key belongs to a different request.
        ReservationStateError: the key's job was already sent.
        BudgetFrozenError: all spending, or a budget that the request claims, is frozen.
    """
    before = reservations.last_attempt(db, order, now) if look.is_known else None
    if look.is_frozen:
        refusal = freezes.refusal(db, {claim.budget for claim in order.claims})
        if refusal is not None:
            raise refusal
    if before is not None and before.state == UNSENT:
        return before
    if not order.holds.start <= now < order.holds.end:
        return Mistimed(now)
    if not look.rooms and not order.may_be_unmatched:
        return Refused(())
    selection = _select(look.rooms, candidates, allowing)
    if not isinstance(selection, _Selection):
        return Refused(selection)
    attempt = 1 if before is None else before.attempt + 1
    return Chosen(candidates.index(selection.candidate), attempt, selection.covers)


class _Selection(NamedTuple):
    """The candidate to reserve, and the parts of allowances that cover it."""

    candidate: PricedVariant
    covers: tuple[Cover, ...]


def _select(
    rooms: Sequence[BucketBalance], candidates: Sequence[PricedVariant], allowing: allowances.Allowing
) -> _Selection | tuple[Shortfall, ...]:
    """Returns the first candidate that fits every bucket, by itself or with allowances.

    If a budget that does not cap refuses the first candidate, the others are not tried.

    Args:
        rooms: the balances of the buckets.
        candidates: the candidates, in order of preference.
        allowing: covers shortfalls by allowances.

    Returns:
        The choice; or, if no candidate fits, the shortfalls of the first one.
    """
    refused: tuple[Shortfall, ...] = ()
    for candidate in candidates:
        too_small = [room for room in rooms if not room.takes(candidate.amounts[room.place])]
        if not too_small:
            return _Selection(candidate, ())
        coverage = allowing.cover(too_small, candidate)
        if not coverage.lacking:
            return _Selection(candidate, coverage.covers)
        if candidate is candidates[0]:
            refused = _shortfalls(too_small, candidate, coverage)
            if not all(shortfall.may_cap for shortfall in refused):
                break
    return refused


def _shortfalls(
    rooms: Iterable[BucketBalance], candidate: PricedVariant, coverage: Coverage
) -> tuple[Shortfall, ...]:
    """Returns a shortfall for every bucket that a candidate does not fit into, even with allowances."""
    return tuple(
        Shortfall(
            room.claim.budget,
            room.claim.labels,
            candidate.amounts[room.place],
            room.available,
            room.claim.max_request,
            room.claim.currency,
            room.ends(candidate.amounts[room.place]),
            room.claim.may_cap,
            None if room.claim.step is None else length_text(STEPS * room.claim.step),
            coverage.covered[room.place],
        )
        for room in rooms
        if room.place in coverage.lacking
    )


def waive(
    db: sqlite3.Connection,
    now: datetime,
    reservation: str,
    rooms: Sequence[BucketBalance],
    moves: Sequence[Move],
) -> None:
    """Records the budgets in observe mode that would have refused a new reservation."""
    for room, move in zip(rooms, moves, strict=True):
        if room.claim.observes and not room.fits(move.held):
            left = f"{format_decimal(from_nanos(max(room.available, 0)))} {room.claim.currency} left"
            detail = left if room.available < move.held else "maximum per request"
            db.execute(
                "INSERT INTO journal (at, kind, reservation, bucket, detail) VALUES (?, 'waive', ?, ?, ?)",
                (written(now), reservation, move.bucket, detail),
            )


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
    allowing = allowances.Allowing(db, order, now, _uses(assumed))
    try:
        verdict = choose(db, look._replace(rooms=rooms), order, candidates, now, allowing)
    except (IdempotencyError, ReservationStateError, BudgetFrozenError) as refusal:
        return Decided(refusal, shown, now)
    if isinstance(verdict, Mistimed):
        return verdict
    if not isinstance(verdict, Chosen):
        return Decided(verdict, shown, now)
    return Decided(verdict.place, shown, now, {cover.allowance: cover.held for cover in verdict.covers})


def _uses(assumed: Assumed) -> Mapping[str, int]:
    """Returns the assumed uses of allowances."""
    return {name: nanos for name, nanos in assumed.items() if isinstance(name, str)}


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
