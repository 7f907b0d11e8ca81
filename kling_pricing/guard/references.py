"""References to reservations: an admission, a reservation, an id, or a provider with its task id."""

from __future__ import annotations

from typing import TypeAlias

from kling_pricing.errors import KlingPricingError
from kling_pricing.guard.admission import Admission
from kling_pricing.ledger.model import Ref, Reservation
from kling_pricing.ledger.redaction import short_text

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
            "cannot identify a reservation by "
            f"{type(reference).__name__}; pass its admission, the reservation, its id, or (provider, task id)"
        ) from None
    return short_text("provider", provider), short_text("task_id", task_id)
