"""References to reservations: an admission, a reservation, an id, or a provider with its task id."""

from __future__ import annotations

import re
from collections.abc import Callable
from contextlib import suppress
from typing import TypeAlias

from kling_pricing.errors import KlingPricingError, ReservationNotFoundError
from kling_pricing.guard.admission import Admission
from kling_pricing.ledger.model import Ref, Reservation
from kling_pricing.ledger.redaction import short_text
from kling_pricing.wire.task import Task

_RESERVATION_ID = re.compile("[0-9a-f]{32}")

Reference: TypeAlias = Admission | Reservation | Ref
"""A reservation's admission, the reservation itself, its id, or the provider and its task id."""


def ref_of(reference: Reference) -> Ref:
    """Returns the ledger's reference to a reservation.

    Raises:
        KlingPricingError: the reference has another type, or contains an invalid name.
    """
    if isinstance(reference, Admission):
        return reference.reservation_id
    if isinstance(reference, Reservation):
        return reference.id
    if isinstance(reference, str):
        return short_text("reservation", reference)
    try:
        provider, task_id = reference
    except (TypeError, ValueError):
        raise KlingPricingError(
            f"a value of type {type(reference).__name__} does not identify a reservation; pass an admission, "
            "a reservation, a reservation's id, or (provider, task id)"
        ) from None
    return short_text("provider", provider), short_text("task_id", task_id)


def is_reservation_id(text: str) -> bool:
    """Returns whether a text has the form of a reservation's id."""
    return bool(_RESERVATION_ID.fullmatch(text))


def named_by_own_id(find: Callable[[Ref], Reservation], provider: str, task: Task) -> Reservation | None:
    """Returns the sent reservation whose id the caller gave to a task as its own id; None: there is none.

    Hooks send the id of a reservation where an API takes one. So a response can name the reservation of a task
    whose submission had no response.

    Args:
        find: returns the reservation of a reference, or raises a `ReservationNotFoundError`.
        provider: the provider of the task.
        task: the task in the response.
    """
    if task.own_id is None or not is_reservation_id(task.own_id):
        return None
    with suppress(ReservationNotFoundError):
        reservation = find(task.own_id)
        is_sent = reservation.dispatched_at is not None and reservation.provider == provider
        if is_sent and reservation.task_id in {None, task.task_id}:
            return reservation
    return None
