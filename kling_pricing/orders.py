"""From a quote to an order on a ledger, and from a ledger's refusal to an error. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any

from kling_pricing.budgets import MAX_LABEL_CHARS, MAX_LABELS, BudgetsFile
from kling_pricing.errors import BudgetError, BudgetExceededError, KlingPricingError
from kling_pricing.findings import shown
from kling_pricing.ledger.claims import claims
from kling_pricing.ledger.records import Candidate, Claim, Order, Refused, Shortfall
from kling_pricing.money import NANOS, divide, from_nanos, multiply, nanos_up, plain
from kling_pricing.quotes import Quote
from kling_pricing.variants import RESOLUTIONS, Limits
from kling_pricing.windows import FOREVER


def order(
    quote: Quote,
    *,
    project: str,
    key: str,
    fingerprint: str,
    labels: Mapping[str, str],
    budgets: BudgetsFile,
    at: datetime,
) -> Order:
    """What the ledger is to keep of a request, and the room it needs in every budget that matches it.

    Raises:
        BudgetError: a budget counts in another currency than the quote, and no accounting rate is given.
    """
    unit, value = _statement_unit(quote)
    return Order(
        project=project,
        key=key,
        fingerprint=fingerprint,
        provider=quote.provider,
        wire_format=quote.wire_format,
        currency=quote.currency,
        table=quote.table.id,
        table_digest=quote.table.digest,
        statement_unit=unit,
        unit_value=value,
        failed_tasks=quote.table.billing.failed_tasks,
        labels=labels,
        claims=claims(budgets, labels, quote.currency, at),
        may_be_unmatched=budgets.unmatched == "allow",
        budgets=budgets.digest,
    )


def candidate(quote: Quote, changes: Mapping[str, Any], order: Order) -> Candidate:
    """What one way to make a request takes of each budget.

    What is set aside is rounded up to the provider's statement unit, in which it rounds in a way of its own: so
    rounding is never an overrun.
    """
    published = quote.table.billing.statement_unit
    step = NANOS // published.per_currency_unit if published else 1
    reserved = nanos_up(quote.maximum, max(step, 1))
    return Candidate(
        changes,
        quote.canonical_model,
        quote.resolution,
        quote.tier,
        quote.quantity,
        quote.unit,
        nanos_up(quote.maximum),
        reserved,
        amounts(reserved, order.claims),
    )


def amounts(nanos: int, claimed: Sequence[Claim]) -> tuple[int, ...]:
    """An amount of a quote as each claim's budget counts it, rounded up.

    Raises:
        BudgetError: at the accounting rate it is more than a ledger can hold.
    """
    try:
        return tuple(
            nanos if claim.rate is None else nanos_up(multiply(from_nanos(nanos), claim.rate))
            for claim in claimed
        )
    except KlingPricingError as error:
        raise BudgetError(f"with its accounting rate, {error}; check the rate") from None


def _statement_unit(quote: Quote) -> tuple[str | None, Decimal | None]:
    """What the provider counts in, if not in its currency, and what one of it is worth."""
    published = quote.table.billing.statement_unit
    if published is not None:
        return published.name, divide(Decimal(1), published.per_currency_unit)
    if quote.table.own_unit is not None and quote.rate.own_units:
        return quote.table.own_unit, divide(quote.rate.unit_price, quote.rate.own_units)
    return None, None


def checked_labels(project: str, labels: Mapping[str, str] | None) -> dict[str, str]:
    """The labels of a request, its project among them.

    Raises:
        KlingPricingError: there are too many, or one is not a short text.
    """
    given = {**(labels or {}), "project": project}
    if labels and labels.get("project", project) != project:
        raise KlingPricingError(
            f"project is {shown(project)}, and labels say {shown(labels['project'])}; say it once"
        )
    if len(given) > MAX_LABELS:
        raise KlingPricingError(f"{len(given)} labels are given; the most is {MAX_LABELS}")
    for name, value in given.items():
        short_text("labels", name)
        short_text(f"label {name}", value)
    return given


def short_text(what: str, value: Any) -> str:
    """A name that a ledger can keep.

    Raises:
        KlingPricingError: it is none.
    """
    if isinstance(value, str) and 0 < len(value) <= MAX_LABEL_CHARS and value.isprintable():
        return value
    raise KlingPricingError(
        f"{what} must be text of 1 to {MAX_LABEL_CHARS} printable characters, got {shown(value)}"
    )


def limits(budgets: BudgetsFile, labels: Mapping[str, str]) -> Limits:
    """How far a request may be changed: the floors of every budget that matches it, the strictest of each."""
    matching = [budget for budget in budgets.budgets if budget.bucket_labels(labels) is not None]
    kept = {setting for budget in matching for setting in budget.keep}
    lowest = [RESOLUTIONS.index(budget.min_resolution) for budget in matching if budget.min_resolution]
    return Limits(
        tuple(setting for setting in budgets.capping.sacrifice if setting not in kept),
        budgets.capping.models,
        max((budget.min_duration_s or 1 for budget in matching), default=1),
        RESOLUTIONS[max(lowest, default=0)],
    )


def exceeded(refused: Refused, quote: Quote, order: Order, cheapest: Candidate | None) -> BudgetExceededError:
    """The error for a refusal, which names the binding budget.

    That is one that does not cap, if there is any, for it decides; among those alike, the one that lacks most
    in proportion to what is asked of it.
    """
    if not refused.shortfalls:
        said = ", ".join(f"{name}={value}" for name, value in order.labels.items())
        return BudgetExceededError(
            f"no budget is in force for {said}, so nothing may be spent; add one, or say unmatched: allow",
            budget=None,
            requested=quote.maximum,
            available=Decimal(0),
            currency=quote.currency,
        )
    binding = min(
        refused.shortfalls, key=lambda each: (each.may_cap, Fraction(_left(each), max(each.requested, 1)))
    )
    requested, left = from_nanos(binding.requested), from_nanos(_left(binding))
    single = _is_limit_of_a_request(binding)
    ends = None if single or binding.window_end == FOREVER.end else binding.window_end
    at_least = None
    if cheapest is not None and binding.may_cap:
        budgets = [claim.budget for claim in order.claims]
        at_least = from_nanos(cheapest.amounts[budgets.index(binding.budget)])
    return BudgetExceededError(
        _why(binding, requested, left, single=single, ends=ends, cheapest=at_least),
        budget=binding.budget,
        requested=requested,
        available=left,
        currency=binding.currency,
        window_end=ends,
        cheapest=at_least,
    )


def _left(shortfall: Shortfall) -> int:
    """What the bucket has for this request: the rest of the cap, or the limit of a single request."""
    return (shortfall.max_request or 0) if _is_limit_of_a_request(shortfall) else shortfall.available


def _is_limit_of_a_request(shortfall: Shortfall) -> bool:
    return shortfall.max_request is not None and shortfall.max_request < min(
        shortfall.requested, shortfall.available
    )


def _why(
    binding: Shortfall,
    requested: Decimal,
    left: Decimal,
    *,
    single: bool,
    ends: datetime | None,
    cheapest: Decimal | None,
) -> str:
    of = "".join(f" of {name} {value}" for name, value in binding.labels.items())
    asked = f"the request takes {plain(requested)} {binding.currency}"
    if single:
        problem = f"{asked}, and budget {binding.budget}{of} allows {plain(left)} {binding.currency} a request"
    else:
        until = "" if ends is None else f" until {ends.isoformat()}"
        problem = f"{asked}, and budget {binding.budget}{of} has {plain(left)} {binding.currency} left{until}"
    if not binding.may_cap:
        return problem
    if cheapest is None:
        return f"{problem}; no cheaper valid variant is allowed"
    return f"{problem}; the cheapest valid variant takes {plain(cheapest)} {binding.currency}"
