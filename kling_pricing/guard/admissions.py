"""What an admission is, what may be said beside a payload, and how callers name a reservation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, TypedDict

from kling_pricing.errors import KlingPricingError
from kling_pricing.ledger.model import Ref, Reservation
from kling_pricing.ledger.redaction import short_text
from kling_pricing.money import format_decimal
from kling_pricing.quoting.quote import Quote
from kling_pricing.wire.media import MediaLike


class QuoteOptions(TypedDict, total=False):
    """What may be said beside a payload, as for `quote`."""

    provider: str | None
    wire_format: str | None
    media: MediaLike | None
    allow_unknown: bool
    url: str | None


@dataclass(frozen=True, slots=True)
class Admission:
    """Leave to submit one request: its money is set aside.

    What to send comes from `BudgetGuard.dispatch` alone, which gives it out once.

    Attributes:
        reservation: the money set aside, as the ledger had it when the request was admitted.
        quote: what the request, as it will be sent, is expected to cost.
        replayed: whether the key had this reservation before.
    """

    reservation: Reservation
    quote: Quote
    replayed: bool
    _payload: Mapping[str, Any]
    _given_out: list[bool] = field(default_factory=list)

    def __repr__(self) -> str:
        return (
            f"Admission({self.reservation_id}: {format_decimal(self.reservation.reserved)} {self.quote.currency} for "
            f"{self.quote.model}, changes {dict(self.changes)})"
        )

    @property
    def reservation_id(self) -> str:
        """The ledger's name for the reservation."""
        return self.reservation.id

    @property
    def changes(self) -> Mapping[str, Any]:
        """What was changed to make the request fit, setting -> new value; empty: nothing."""
        return self.reservation.changes

    @property
    def capped(self) -> bool:
        """Whether anything was changed."""
        return bool(self.changes)


Reference = Admission | Reservation | Ref
"""Which reservation: its admission, itself, its id, or the provider and its task id."""


def ref_of(ref: Reference) -> Ref:
    """How the ledger names a reservation.

    Raises:
        KlingPricingError: it is no name of one.
    """
    if isinstance(ref, Admission):
        return ref.reservation_id
    if isinstance(ref, Reservation):
        return ref.id
    if isinstance(ref, str):
        return short_text("reservation", ref)
    try:
        provider, task_id = ref
    except (TypeError, ValueError):
        raise KlingPricingError(
            "a reservation is named by its admission, itself, its id, or (provider, task id), got "
            f"{type(ref).__name__}"
        ) from None
    return short_text("provider", provider), short_text("task_id", task_id)
