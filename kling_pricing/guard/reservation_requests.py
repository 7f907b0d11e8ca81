"""Converts quotes to reservation requests, and a ledger's refusals to errors. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any
from uuid import uuid4

from kling_pricing.budgets import BudgetsFile
from kling_pricing.errors import BudgetError, BudgetExceededError, KlingPricingError
from kling_pricing.guard.fingerprint import fingerprint
from kling_pricing.ledger.claims import claims, clocks_agree
from kling_pricing.ledger.model import BucketClaim, PricedVariant, Refused, ReservationRequest, Shortfall
from kling_pricing.ledger.terms import Terms
from kling_pricing.money import NANOS, format_decimal, from_nanos, multiply, nanos_up
from kling_pricing.quoting.quote import Quote
from kling_pricing.quoting.settings import RESOLUTIONS, Limits
from kling_pricing.windows import FOREVER


def reservation_request(
    quote: Quote,
    *,
    project: str,
    key: str,
    account: str | None,
    mark: str,
    labels: Mapping[str, str],
    budgets: BudgetsFile,
    revision: str,
    at: datetime,
    priced_until: datetime | None,
) -> ReservationRequest:
    """Returns the reservation request for a ledger, with a claim on every matching budget.

    Args:
        quote: the price of the request.
        project: the project that the request belongs to.
        key: the caller's name for the job.
        account: the account from which the request is sent; None: the one with the provider's name.
        mark: the fingerprint of the request.
        labels: the labels of the request, including its project.
        budgets: the current budgets.
        revision: the digest of these budgets in the ledger.
        at: the instant of the quote.
        priced_until: the instant at which a new price may come into force; None if no such instant is known.

    Raises:
        BudgetExceededError: the budgets do not let the project or the labels spend.
        BudgetError: the quote's currency differs from a budget's, and there is no accounting rate.
    """
    refusal = budgets.refusal(labels)
    if refusal is not None:
        raise BudgetExceededError(
            refusal, budget=None, requested=quote.maximum, available=Decimal(0), currency=quote.currency
        )
    claimed = claims(budgets, labels, quote.currency)
    return ReservationRequest(
        project=project,
        key=key,
        fingerprint=mark,
        provider=quote.provider,
        account=account or quote.provider,
        wire_format=quote.wire_format,
        labels=labels,
        claims=claimed,
        may_be_unmatched=budgets.unmatched == "allow",
        holds=clocks_agree(budgets, claimed, at, priced_until),
        budgets=revision,
    )


def priced_variant(quote: Quote, changes: Mapping[str, Any], order: ReservationRequest) -> PricedVariant:
    """Returns a variant with the amount to reserve in each budget.

    The reserved amount is rounded up to the provider's statement unit, because the provider's rounding is
    unknown. Rounding therefore never causes an overrun.
    """
    published = quote.table.billing.statement_unit
    reserved = nanos_up(quote.maximum, NANOS // published.per_currency_unit if published else 1)
    return PricedVariant(changes, quoted_terms(quote), reserved, amounts(reserved, order.claims))


def quoted_terms(quote: Quote) -> Terms:
    """Returns the terms that a quote fixes for a reservation."""
    unit, value = quote.table.counted_in(quote.rate) or (None, None)
    host = quote.request.endpoint.host if quote.request.endpoint else ""
    return Terms(
        model=quote.canonical_model,
        resolution=quote.resolution,
        tier=quote.tier,
        quantity=quote.quantity,
        unit=quote.unit,
        currency=quote.currency,
        expected=from_nanos(nanos_up(quote.maximum)),
        minimum=None if quote.minimum == quote.maximum else from_nanos(nanos_up(quote.minimum)),
        list_total=None if quote.list_total is None else from_nanos(nanos_up(quote.list_total)),
        price_table=quote.table.id,
        table_digest=quote.table.digest,
        statement_unit=unit,
        unit_value=value,
        pack_units=_unit_values(quote),
        account_currency=quote.table.account_currency(host),
        failed_tasks=quote.table.billing.failed_tasks,
    )


def _unit_values(quote: Quote) -> dict[str, Decimal]:
    """Returns the value of a unit by kind of pack, after any discount of the contract."""
    contract, cell = quote.table.contract, quote.rate.cell
    return {
        kind: value if contract is None else contract.unit_value(cell, value)
        for kind, value in quote.table.units.items()
    }


def amounts(nanos: int, claimed: Sequence[BucketClaim]) -> tuple[int, ...]:
    """Converts an amount to the budget currency of each claim, rounding up.

    Raises:
        BudgetError: at the accounting rate, the amount is more than a ledger can hold.
    """
    try:
        return tuple(
            nanos if claim.rate is None else nanos_up(multiply(from_nanos(nanos), claim.rate))
            for claim in claimed
        )
    except KlingPricingError as error:
        raise BudgetError(f"at the accounting rate, {error}; check the rate") from None


def booking(
    provider: str,
    task_id: str,
    amount: Decimal,
    currency: str,
    *,
    account: str,
    labels: Mapping[str, str],
    claimed: tuple[BucketClaim, ...],
    revision: str,
) -> tuple[ReservationRequest, PricedVariant]:
    """Returns spend that did not go through the guard, in the form that the ledger stores."""
    identity = {"task_id": task_id, "currency": currency, "labels": dict(labels)}
    if account != provider:
        identity["account"] = account
    nanos = nanos_up(amount)
    booked = ReservationRequest(
        project=labels["project"],
        key=uuid4().hex,  # cannot equal a key that a caller chose
        fingerprint=fingerprint(identity, provider, ""),
        provider=provider,
        account=account,
        wire_format="",
        labels=labels,
        claims=claimed,
        may_be_unmatched=True,
        holds=FOREVER,
        budgets=revision,
    )
    terms = Terms(
        model="",
        resolution="",
        tier="",
        quantity=Decimal(1),
        unit="task",
        currency=currency,
        expected=from_nanos(nanos),
        minimum=None,
        list_total=None,
        price_table="",
        table_digest="",
        statement_unit=None,
        unit_value=None,
        pack_units={},
        account_currency=None,
        failed_tasks="unconfirmed",
    )
    return booked, PricedVariant({}, terms, nanos, amounts(nanos, claimed))


def limits(budgets: BudgetsFile, labels: Mapping[str, str]) -> Limits:
    """Returns the limits of capping for a request: the strictest minimums of all matching budgets."""
    matching = [
        budget for budget in budgets.budgets if not budget.observes and budget.bucket_labels(labels) is not None
    ]
    kept = {setting for budget in matching for setting in budget.keep}
    lowest = [RESOLUTIONS.index(budget.min_resolution) for budget in matching if budget.min_resolution]
    return Limits(
        tuple(setting for setting in budgets.capping.sacrifice if setting not in kept),
        budgets.capping.models,
        max((budget.min_duration_s or 1 for budget in matching), default=1),
        RESOLUTIONS[max(lowest, default=0)],
    )


def exceeded(
    refused: Refused, quote: Quote, order: ReservationRequest, cheapest: PricedVariant | None
) -> BudgetExceededError:
    """Returns the error for a refusal; the error names the budget that restricts the request most.

    A budget that does not allow capping takes precedence over budgets that do. Among equals, the budget that
    can cover the smallest share of its requested amount takes precedence.
    """
    if not refused.shortfalls:
        labels = ", ".join(f"{name}={value}" for name, value in order.labels.items())
        return BudgetExceededError(
            f"no budget matches {labels}, so nothing may be spent; add a matching budget, or set "
            "unmatched: allow",
            budget=None,
            requested=quote.maximum,
            available=Decimal(0),
            currency=quote.currency,
        )
    binding = min(
        refused.shortfalls,
        key=lambda shortfall: (shortfall.may_cap, Fraction(_left(shortfall), max(shortfall.requested, 1))),
    )
    requested, left = from_nanos(binding.requested), from_nanos(_left(binding))
    single = _is_limit_of_a_request(binding)
    ends = None if single or binding.window_end == FOREVER.end else binding.window_end
    at_least = None
    if cheapest is not None and binding.may_cap:
        budgets = [claim.budget for claim in order.claims]
        at_least = from_nanos(cheapest.amounts[budgets.index(binding.budget)])
    asking = f"; to ask for an allowance, run `kling-pricing budget ask FILE --project {order.project}"
    asking += f"{' --key KEY' if single else ''} --reason TEXT`"
    return BudgetExceededError(
        _why(binding, requested, left, single=single, ends=ends, cheapest=at_least) + asking,
        budget=binding.budget,
        requested=requested,
        available=left,
        currency=binding.currency,
        window_end=ends,
        cheapest=at_least,
    )


def _left(shortfall: Shortfall) -> int:
    """Returns the amount that the bucket allows: the rest of the cap, or the limit per request."""
    return (shortfall.max_request or 0) if _is_limit_of_a_request(shortfall) else shortfall.available


def _is_limit_of_a_request(shortfall: Shortfall) -> bool:
    return shortfall.max_request is not None and shortfall.max_request < min(
        shortfall.requested, shortfall.available
    )


def _until(binding: Shortfall, ends: datetime | None) -> str:
    """Says until when a bucket has no more than is left."""
    if binding.rolling is None:
        return "" if ends is None else f" until {ends.isoformat()}"
    window = f" in its window of {binding.rolling}"
    if ends is None:
        return f"{window}, and its cap is lower than the cost"
    return f"{window}; by {ends.isoformat()}, enough of the money that is counted now will have left the window"


def _why(
    binding: Shortfall,
    requested: Decimal,
    left: Decimal,
    *,
    single: bool,
    ends: datetime | None,
    cheapest: Decimal | None,
) -> str:
    bucket = binding.budget + "".join(f" for {name} {value}" for name, value in binding.labels.items())
    asked = f"the request costs {format_decimal(requested)} {binding.currency}"
    amount = f"{format_decimal(left)} {binding.currency}"
    if single:
        problem = f"{asked}, but budget {bucket} allows {amount} per request"
    else:
        problem = f"{asked}, but budget {bucket} has {amount} left{_until(binding, ends)}"
        if binding.covered:
            covered = format_decimal(from_nanos(binding.covered))
            problem += f", and allowances cover only {covered} {binding.currency}"
    if not binding.may_cap:
        return problem
    if cheapest is None:
        return f"{problem}; no cheaper valid variant is allowed"
    return f"{problem}; the cheapest valid variant costs {format_decimal(cheapest)} {binding.currency}"
