"""Reservations as the API shows them, and the bodies of the requests about them."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from kling_pricing.guard import Admission
from kling_pricing.guard.payload_documents import DecisionDocument
from kling_pricing.ledger.model import Basis, Reservation, State
from kling_pricing.server.api.exact_fields import (
    Amount,
    ApiBody,
    Instant,
    NextCursor,
    Number,
    ShortText,
    View,
)
from kling_pricing.server.api.pricing_views import QuoteView


class ReservationView(View):
    """Money set aside for one job, and the outcome of the job. Amounts are in `currency`."""

    id: str
    project: str
    key: str
    attempt: int
    state: State
    in_doubt: bool = Field(description="Whether it is unknown if the provider accepted the job; see `reason`.")
    provider: str
    account: str = Field(description="Your account at the provider that the job is sent with.")
    task_id: str | None
    wire_format: str
    model: str
    resolution: str
    tier: str
    quantity: Number
    unit: str
    currency: str
    expected: Number = Field(description="The price in the quote.")
    reserved: Number = Field(description="The amount that was set aside.")
    billed: Number | None = Field(description="The amount that the job was settled at.")
    basis: Basis | None = Field(description="The source of `billed`.")
    table: str
    labels: dict[str, str]
    changes: dict[str, Any] = Field(description="The settings that capping changed.")
    reason: str | None
    created_at: Instant
    dispatched_at: Instant | None
    closed_at: Instant | None
    deadline: Instant


class AdmissionBody(DecisionDocument):
    """A payload to reserve money for."""

    account: ShortText | None = Field(
        None, description="The account that you send the job with; null: the one with the provider's name."
    )
    dispatch: bool = Field(
        default=False,
        description="Whether to dispatch at once; the answer then contains the payload to submit.",
    )


class AdmissionView(View):
    """A reservation, the price of the payload as it will be sent, and the payload if it was dispatched."""

    reservation: ReservationView
    quote: QuoteView
    replayed: bool = Field(description="Whether the reservation existed already for the key.")
    payload: dict[str, Any] | None = Field(
        description="The body to submit, exactly as it is, once; null: not dispatched yet."
    )

    @classmethod
    def of(
        cls, admission: Admission, reservation: Reservation, payload: dict[str, Any] | None
    ) -> AdmissionView:
        """Returns the view of an admission."""
        return cls(
            reservation=ReservationView.model_validate(reservation),
            quote=QuoteView.of(admission.quote),
            replayed=admission.replayed,
            payload=payload,
        )


class ReservationPage(View):
    """A page of reservations, the newest first."""

    items: list[ReservationView]
    next: NextCursor


class BindBody(ApiBody):
    """The provider's task of a reservation."""

    task_id: ShortText


class ObserveBody(ApiBody):
    """A response of the provider about the task of a reservation."""

    body: dict[str, Any] = Field(description="The response as it is.")


class SettleBody(ApiBody):
    """The cost of a job."""

    amount: Amount | None = Field(None, description="The amount charged; null: the quoted amount.")
    basis: Basis | None = Field(
        None, description="The source of the amount; `statement` and `operator` need the role `manage`."
    )
    reason: ShortText | None = Field(None, description="The reason, which the audit log keeps.")


class ReleaseBody(ApiBody):
    """The reason why the money is not needed."""

    refused: bool = Field(
        default=False,
        description="Whether the request was sent and the provider definitely refused it (most 4xx).",
    )
    reason: ShortText | None = None


class DoubtBody(ApiBody):
    """The reason why it is unknown whether the provider accepted the job."""

    reason: ShortText


class ResolveBody(ApiBody):
    """The outcome of a job, after a person looked it up at the provider."""

    outcome: Literal["charged", "not_charged"]
    amount: Amount | None = Field(None, description="The amount charged; null: the quoted amount.")
    reason: ShortText | None = Field(None, description="How you know the outcome; the ledger keeps this text.")
