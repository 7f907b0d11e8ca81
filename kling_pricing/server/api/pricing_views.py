"""Quotes, findings, comparisons and decisions as the API shows them."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from pydantic import Field

from kling_pricing.findings import Violation
from kling_pricing.guard import Decision
from kling_pricing.quoting.comparison import Option
from kling_pricing.quoting.quote import Quote
from kling_pricing.server.api.exact_fields import Instant, Number, View
from kling_pricing.server.problem_documents import ProblemDocument, ViolationView, problem_of


class LineView(View):
    """One part of a price."""

    description: str
    quantity: Number
    unit: str = Field(examples=["second"])
    unit_price: Number
    amount: Number


class NoteView(View):
    """An assumption or observation that does not stop the request."""

    code: str
    message: str


class QuoteView(View):
    """The exact price of a payload, with the reasons."""

    provider: str = Field(description="The provider that bills.")
    model: str = Field(description="The model as the payload names it.")
    canonical_model: str = Field(description="The model in the price table.")
    table: str = Field(description="The price table that applies.")
    wire_format: str = Field(description="The request format in which the payload was read.")
    action: str | None
    resolution: str
    tier: str
    unit: str
    unit_price: Number
    quantity: Number
    total: Number | None = Field(description="The price; null if it is a range, because a fact is unknown.")
    minimum: Number = Field(description="The lowest possible price.")
    maximum: Number = Field(description="The highest possible price, which is reserved.")
    list_total: Number | None = Field(description="Under a contract: the price without the contract.")
    currency: str
    lines: list[LineView]
    notes: list[NoteView]

    @classmethod
    def of(cls, quoted: Quote) -> QuoteView:
        """Returns the view of a quote."""
        is_exact = quoted.minimum == quoted.maximum
        return cls(
            provider=quoted.provider,
            model=quoted.model,
            canonical_model=quoted.canonical_model,
            table=quoted.table.id,
            wire_format=quoted.wire_format,
            action=quoted.action,
            resolution=quoted.resolution,
            tier=quoted.tier,
            unit=quoted.unit,
            unit_price=quoted.unit_price,
            quantity=quoted.quantity,
            total=quoted.maximum if is_exact else None,
            minimum=quoted.minimum,
            maximum=quoted.maximum,
            list_total=quoted.list_total,
            currency=quoted.currency,
            lines=[LineView.model_validate(line) for line in quoted.lines],
            notes=[NoteView.model_validate(note) for note in quoted.notes],
        )


class CheckView(View):
    """Whether the provider's API would accept a payload."""

    valid: bool
    violations: list[ViolationView] = Field(description="Every reason why the API would refuse the payload.")

    @classmethod
    def of(cls, violations: list[Violation]) -> CheckView:
        """Returns the view of the result of a check."""
        return cls(valid=not violations, violations=[ViolationView(**found._asdict()) for found in violations])


class OptionView(View):
    """One way to run a job."""

    changes: dict[str, Any] = Field(description="Setting -> new value; empty for the payload as it is.")
    provider: str
    model: str
    resolution: str | None
    audio: bool | None
    quote: QuoteView | None = Field(description="The price; null if the option is not available.")
    why_not: str = Field(description="The reason why the option is not available; empty if it is.")

    @classmethod
    def of(cls, option: Option) -> OptionView:
        """Returns the view of an option."""
        quoted = None if option.quote is None else QuoteView.of(option.quote)
        return cls(**option._asdict() | {"changes": dict(option.changes), "quote": quoted})


class ComparisonView(View):
    """Every way to run a job: the available ones first, by currency and price."""

    options: list[OptionView]


class EffectView(View):
    """The effect of a request on one budget. Amounts are in `currency`."""

    budget: str
    labels: Mapping[str, str]
    currency: str
    requested: Number
    fits: bool
    left_before: Number
    left_after: Number
    cap: Number
    max_request: Number | None
    window_end: Instant | None
    rolling: str | None


class DecisionView(View):
    """The decision about a request as of now. Nothing was reserved."""

    outcome: str = Field(description="`admitted`, `capped`, `replayed` or `refused`.", examples=["admitted"])
    passes: bool
    reserved: Number = Field(description="The amount that would be reserved, in the quote's currency.")
    quote: QuoteView
    changes: dict[str, Any] = Field(description="Setting -> new value, if the request would be capped.")
    budgets: list[EffectView] = Field(description="The effect on each budget that matches the request.")
    refusal: ProblemDocument | None = Field(description="The problem that an admission would have.")
    reservation_id: str | None = Field(description="The reservation that exists already for the key.")
    at: Instant

    @classmethod
    def of(cls, decision: Decision) -> DecisionView:
        """Returns the view of a decision."""
        return cls(
            outcome=decision.outcome,
            passes=decision.passes,
            reserved=decision.reserved or Decimal(0),
            quote=QuoteView.of(decision.quote),
            changes=dict(decision.changes),
            budgets=[EffectView.model_validate(effect) for effect in decision.budgets],
            refusal=None if decision.refusal is None else problem_of(decision.refusal),
            reservation_id=None if decision.reservation is None else decision.reservation.id,
            at=decision.at,
        )
