"""Allowances: files requests for them, and grants, revokes and lists them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import closing
from datetime import datetime
from decimal import Decimal

from kling_pricing.budgets import BudgetsFile, budgets_from_document
from kling_pricing.display import joined_with_and
from kling_pricing.errors import BudgetError, KlingPricingError, LedgerError
from kling_pricing.guard.admission import PricedRequest, QuoteOptions, in_rounds, offer
from kling_pricing.guard.reservation_requests import priced_variant
from kling_pricing.guard.state import GuardState
from kling_pricing.ledger import Ledger, connect
from kling_pricing.ledger.actions import author
from kling_pricing.ledger.decided import Decided
from kling_pricing.ledger.errors import unknown_request
from kling_pricing.ledger.freezing import require_known
from kling_pricing.ledger.granting import Allowance, AllowanceRequest, Grant
from kling_pricing.ledger.model import Mistimed, Outdated, Refused, Reservation
from kling_pricing.ledger.redaction import currency_code, short_text
from kling_pricing.money import from_nanos, ledger_amount
from kling_pricing.strict_json import RequestLike
from kling_pricing.windows import in_utc, utc_clock


def allow(
    ledger: str,
    project: str | None = None,
    *,
    amount: Decimal | int | str | None = None,
    currency: str | None = None,
    budgets: Iterable[str] = (),
    until: datetime,
    key: str | None = None,
    request: str | None = None,
    actor: str | None = None,
    reason: str,
) -> Allowance:
    """Grants a project an allowance: an amount above the limits of named budgets, until an instant.

    It covers the shortfall of a request: the part of its price that exceeds the amount left in a named budget;
    if several have too little left, the largest part. The request still counts in full in every budget. When
    the reservation is settled or released, the allowance gets back any amount that is not needed.
    It never lifts a freeze, or the refusal of a request that no budget matches. It lifts `max_request` only if
    it is for one key.

    Args:
        ledger: the ledger's URL.
        project: the project whose requests it covers.
        amount: the amount that it covers in total.
        currency: the currency of the amount.
        budgets: the names of the budgets above whose limits it may be used.
        until: the instant from which it does not cover more requests, with a time zone.
        key: the only key for which it may be used; by default, any key of the project.
        request: the id of a filed request, which gives the other arguments; those that are given prevail.
        actor: the person or program that grants it; by default, the system's user.
        reason: the reason.

    Raises:
        BudgetError: a budget is unknown, or there is no accounting rate from the currency to a budget's.
        LedgerError: it would end before it begins, the request is unknown, was granted already or was declined,
            or the ledger cannot be used or this role may not grant allowances.
        KlingPricingError: an argument is missing or invalid.
    """
    with closing(connect(ledger, clock=utc_clock(None))) as store:
        grant = _grant(store, project, amount, currency, tuple(budgets), until, key, request)
        return store.allow(grant, author(actor, reason))


def _grant(
    store: Ledger,
    project: str | None,
    amount: Decimal | int | str | None,
    currency: str | None,
    budgets: tuple[str, ...],
    until: datetime,
    key: str | None,
    request: str | None,
) -> Grant:
    """Returns the content of an allowance from the arguments of `allow`."""
    if request is not None:
        asked = _filed(store, request)
        project, amount = project or asked.project, asked.amount if amount is None else amount
        currency, budgets, key = currency or asked.currency, budgets or asked.budgets, key or asked.key
    given = {"project": project, "amount": amount, "currency": currency, "budgets": budgets or None}
    if project is None or amount is None or currency is None or not budgets:
        missing = joined_with_and([name for name, value in given.items() if value is None])
        raise KlingPricingError(
            f"an allowance needs {missing}; give these values, or the id of a filed request"
        )
    exact = ledger_amount(amount)
    if not exact:
        raise KlingPricingError("the amount of an allowance must be greater than 0")
    grant = Grant(
        short_text("project", project),
        exact,
        currency_code(currency),
        tuple(sorted(set(budgets))),
        None if key is None else short_text("key", key),
        in_utc(until),
        request,
    )
    _require_usable(_in_force(store), grant)
    return grant


def revoke(ledger: str, allowance: str, *, actor: str | None = None, reason: str) -> Allowance:
    """Revokes an allowance immediately, for every process. Requests that it covers already stay covered.

    Args:
        ledger: the ledger's URL.
        allowance: the id of the allowance.
        actor: the person or program that revokes it; by default, the system's user.
        reason: the reason.

    Raises:
        LedgerError: the allowance is unknown, or the ledger cannot be used or this role may not revoke
            allowances.
    """
    with closing(connect(ledger, clock=utc_clock(None))) as store:
        return store.revoke(allowance, author(actor, reason))


def decline(ledger: str, request: str, *, actor: str | None = None, reason: str) -> AllowanceRequest:
    """Declines a filed request for an allowance, so that it is not open any more. Repeating it has no effect.

    The person who filed the request sees who declined it, and why.

    Args:
        ledger: the ledger's URL.
        request: the id of the filed request.
        actor: the person or program that declines it; by default, the system's user.
        reason: the reason.

    Raises:
        LedgerError: the request is unknown or was granted already, or the ledger cannot be used or this role
            may not decline requests.
    """
    with closing(connect(ledger, clock=utc_clock(None))) as store:
        return store.decline(request, author(actor, reason))


def allowances(ledger: str) -> list[Allowance]:
    """Returns every allowance of a ledger, the oldest first.

    Raises:
        LedgerError: the ledger cannot be used.
    """
    with closing(connect(ledger, clock=utc_clock(None))) as store:
        return store.allowances()


def allowance_requests(ledger: str) -> list[AllowanceRequest]:
    """Returns every filed request for an allowance, the oldest first.

    Raises:
        LedgerError: the ledger cannot be used.
    """
    with closing(connect(ledger, clock=utc_clock(None))) as store:
        return store.allowance_requests()


def ask(
    state: GuardState,
    payload: RequestLike,
    project: str,
    key: str | None,
    labels: Mapping[str, str] | None,
    reason: str,
    options: QuoteOptions,
) -> AllowanceRequest:
    """Files a request for an allowance; see `BudgetGuard.ask`."""

    def filed(job: PricedRequest) -> AllowanceRequest | Outdated | Mistimed:
        offered = offer(state, job, state.ledger.decide)
        if not isinstance(offered.answer, Decided):
            return offered.answer
        short = _short(offered.answer.verdict, is_for_key=key is not None)
        (original,) = (priced_variant(variant.quote, {}, offered.wanted) for variant in offered.variants)
        wanted = AllowanceRequest(
            id="",
            project=project,
            amount=from_nanos(original.reserved),
            currency=job.original.currency,
            budgets=short,
            key=None if key is None else job.key,
            actor=state.actor,
            reason=reason,
            created_at=job.intake.at,
            allowance_id=None,
        )
        return state.ledger.ask(wanted, author(state.actor, reason))

    return in_rounds(state, payload, project, key, labels, None, options, filed)


def _short(verdict: int | Reservation | Refused | KlingPricingError, *, is_for_key: bool) -> tuple[str, ...]:
    """Returns the names of the budgets that refuse a request, sorted.

    Raises:
        LedgerError: the request does not need an allowance, or an allowance cannot help.
        KlingPricingError: a freeze or the key of the request forbids it.
    """
    if isinstance(verdict, KlingPricingError):
        raise verdict
    if not isinstance(verdict, Refused):
        raise LedgerError(
            "the request does not need an allowance: every budget that matches it has enough left; "
            "admit the request"
        )
    if not verdict.shortfalls:
        raise LedgerError(
            "no budget matches the request, and an allowance cannot change that; add a budget for it"
        )
    for shortfall in verdict.shortfalls:
        is_limited = shortfall.max_request is not None and shortfall.requested > shortfall.max_request
        if is_limited and not is_for_key:
            raise LedgerError(
                f"the request costs more than budget {shortfall.budget} allows per request; only an allowance "
                "for one key lifts that limit, so give the key of the job"
            )
    return tuple(sorted({shortfall.budget for shortfall in verdict.shortfalls}))


def _filed(store: Ledger, request: str) -> AllowanceRequest:
    filed = next((asked for asked in store.allowance_requests() if asked.id == request), None)
    if filed is None:
        raise unknown_request(request)
    return filed


def _in_force(store: Ledger) -> BudgetsFile:
    revision = store.installed()
    if revision is None:
        raise BudgetError("the ledger has no budgets yet; install some with `kling-pricing budget apply FILE`")
    return budgets_from_document(revision.document)


def _require_usable(budgets: BudgetsFile, grant: Grant) -> None:
    """Does nothing if every budget is known and counts in the currency of the allowance.

    Raises:
        BudgetError: a budget is unknown, or there is no accounting rate for it.
    """
    require_known(grant.budgets, [budget.name for budget in budgets.budgets])
    for budget in budgets.budgets:
        if budget.name in grant.budgets:
            budgets.rate(grant.currency, budget, subject="allowance")
