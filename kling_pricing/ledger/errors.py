"""What a ledger says when it refuses a verb: the same words whichever store it is. Pure."""

from __future__ import annotations

from decimal import Decimal

from kling_pricing.errors import (
    IdempotencyError,
    LedgerError,
    LedgerUnavailableError,
    ReservationNotFoundError,
    ReservationStateError,
)
from kling_pricing.ledger.model import Ref, Reservation
from kling_pricing.money import format_decimal


def other_version(ledger: str, version: int, needed: int, *, migrate: str = "URL") -> LedgerUnavailableError:
    """Returns the error for a ledger of another schema version.

    Args:
        ledger: the name of the ledger.
        version: the version it has.
        needed: the version that this release works with.
        migrate: the URL to migrate, as far as it may be shown.
    """
    if version > needed:
        return LedgerUnavailableError(
            f"ledger {ledger}: this ledger was written by a newer kling-pricing (schema version {version}); "
            "upgrade kling-pricing"
        )
    return LedgerUnavailableError(
        f"ledger {ledger}: this ledger has schema version {version} and this kling-pricing needs version "
        f"{needed}; stop the guards and run `kling-pricing ledger migrate {migrate}`"
    )


def wrong_state(reservation: Reservation, verb: str, why: str) -> ReservationStateError:
    """The error for a verb that comes at the wrong time."""
    state = f"{reservation.state}, in doubt" if reservation.in_doubt else reservation.state
    return ReservationStateError(
        f"reservation {reservation.id} is {state} and cannot be {verb}: {why}",
        reservation_id=reservation.id,
        state=reservation.state,
        task_id=reservation.task_id,
    )


def unknown(ref: Ref) -> ReservationNotFoundError:
    """There is no such reservation."""
    what = f"reservation {ref}" if isinstance(ref, str) else f"task {ref[1]} of {ref[0]}"
    return ReservationNotFoundError(f"the ledger knows no {what}; history lists what it knows")


def key_taken(reservation: Reservation) -> IdempotencyError:
    """The key stands for another request."""
    return IdempotencyError(
        f"key {reservation.key!r} of project {reservation.project} stands for another request, reservation "
        f"{reservation.id}; "
        "use another key for another job"
    )


def key_sent(reservation: Reservation) -> ReservationStateError:
    """The key's job was sent already."""
    known = f"its task is {reservation.task_id}" if reservation.task_id else "its task is not known yet"
    return wrong_state(reservation, "reserved again", f"key {reservation.key!r} was used for it; {known}")


def not_dispatched(reservation: Reservation) -> ReservationStateError:
    """It was dispatched already, is released, or has expired."""
    why = "its payload is given out once, and only while it is reserved"
    late = "it was not dispatched in time; admit it again"
    return wrong_state(reservation, "dispatched", late if reservation.reason == "expired" else why)


def bound_to_another(reservation: Reservation, task_id: str) -> ReservationStateError:
    """It has another task."""
    return wrong_state(reservation, f"bound to task {task_id}", f"it is bound to task {reservation.task_id}")


def bound_unsent(reservation: Reservation, task_id: str) -> ReservationStateError:
    """It cannot have become a task."""
    return wrong_state(reservation, f"bound to task {task_id}", "it was never dispatched")


def task_of_another(reservation: Reservation, task_id: str, other: str) -> ReservationStateError:
    """The task has another reservation."""
    return wrong_state(reservation, f"bound to task {task_id}", f"that task belongs to reservation {other}")


def not_doubtful(reservation: Reservation) -> ReservationStateError:
    """It was never sent, so there is nothing to doubt."""
    return wrong_state(reservation, "put in doubt", "it was never sent; release it")


def not_released(reservation: Reservation) -> ReservationStateError:
    """It is paid, or may be running."""
    remedies = {
        "reserved": "it was never sent; release it",
        "dispatching": "it was sent and may be running; say that the provider refused it, or resolve it",
        "bound": "the provider accepted it and may charge it; observe its answers, or resolve it",
        "settled": "it is paid; if it was not charged after all, settle it at 0 on the basis operator",
    }
    return wrong_state(reservation, "released", remedies[reservation.state])


def doubted(reservation: Reservation) -> ReservationStateError:
    """It was marked in doubt: it may have been accepted, whatever one answer says."""
    return wrong_state(
        reservation, "released", "nobody knows whether it was accepted; look it up, then bind it or resolve it"
    )


def settled_otherwise(reservation: Reservation, amount: Decimal) -> ReservationStateError:
    """Another amount stands on the same basis."""
    standing = amount if reservation.billed is None else reservation.billed
    return wrong_state(
        reservation,
        f"settled at {format_decimal(amount)} {reservation.currency}",
        f"it is settled at {format_decimal(standing)} on the basis {reservation.basis}; give a stronger basis",
    )


def settled_already(reservation: Reservation, amount: Decimal) -> ReservationStateError:
    """A person says what it was charged, and it is settled at something else."""
    standing = amount if reservation.billed is None else reservation.billed
    return wrong_state(
        reservation,
        f"resolved as charged {format_decimal(amount)} {reservation.currency}",
        f"it is settled at {format_decimal(standing)} on the basis {reservation.basis}; to correct that, "
        "settle it on the basis operator",
    )


def settled_unsent(reservation: Reservation) -> ReservationStateError:
    """It was never sent, so nobody can bill it."""
    return wrong_state(reservation, "settled", "it was never dispatched, so nothing can be billed for it")


def other_provider(reservation: Reservation, provider: str) -> LedgerError:
    """The answer comes from another provider than the reservation's."""
    return LedgerError(
        f"reservation {reservation.id} is of provider {reservation.provider}, the answer of {provider}; "
        "name the one that answered"
    )


def task_known(reservation: Reservation) -> IdempotencyError:
    """The task that is to be recorded is in the ledger with something else."""
    return IdempotencyError(
        f"task {reservation.task_id} of {reservation.provider} is in the ledger already, as reservation "
        f"{reservation.id} ({reservation.state}); correct that one with settle"
    )


def no_window(budget: str) -> LedgerError:
    """A window that comes once is not open."""
    return LedgerError(f"budget {budget} has no window that is open now")


def opened(budget: str) -> IdempotencyError:
    """A window has its opening balance."""
    return IdempotencyError(
        f"this window of budget {budget} has its opening balance already; book what else was spent with record"
    )
