"""Allowances: files requests for them, and grants, revokes and lists them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import closing
from datetime import datetime
from decimal import Decimal

from kling_pricing.budgets import BudgetsFile, budgets_from_document
from kling_pricing.display import joined_with_and
from kling_pricing.errors import BudgetError, KlingPricingError, LedgerError
from kling_pricing.guard.admission import QuoteOptions
from kling_pricing.guard.reservation_requests import amounts
from kling_pricing.guard.state import GuardState
from kling_pricing.ledger import Ledger, connect
from kling_pricing.ledger.actions import author
from kling_pricing.ledger.claims import claims
from kling_pricing.ledger.errors import frozen, unknown_request
from kling_pricing.ledger.freezing import require_known
from kling_pricing.ledger.granting import Allowance, AllowanceRequest, Grant
from kling_pricing.ledger.model import BucketClaim
from kling_pricing.ledger.redaction import checked_labels, currency_code, short_text
from kling_pricing.money import NANOS, from_nanos, ledger_amount, nanos_up
from kling_pricing.quoting.engine import quote_payload
from kling_pricing.quoting.intake import Intake
from kling_pricing.strict_json import RequestLike, snapshot
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

    It covers the shortfall of a request: the amount that the request needs and a named budget does not have
    left, for the budget that lacks most. The request still counts in full in every budget. Releasing and
    settling the reservation give back what is not needed.
    It never lifts a freeze, or the refusal of a request that no budget matches. It lifts `max_request` only if
    it is for one key.

    Args:
        ledger: the ledger's URL.
        project: the project whose requests it covers.
        amount: the amount that it covers in total.
        currency: the currency of the amount.
        budgets: the names of the budgets above whose limits it may be used.
        until: the instant from which it covers no further request, with a time zone.
        key: the only key for which it may be used; by default, any key of the project.
        request: the id of a filed request, which gives the other arguments; those that are given prevail.
        actor: the person or program that grants it; by default, the system's user.
        reason: the reason.

    Raises:
        BudgetError: a budget is unknown, or there is no accounting rate from the currency to a budget's.
        LedgerError: it would end before it begins, the request is unknown or was granted already, or the ledger
            cannot be used or this role may not grant allowances.
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
        raise KlingPricingError(f"an allowance needs {missing}; give them, or the id of a filed request")
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
    """Revokes an allowance at once, for every process. Requests that it covers already stay covered.

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
    body = snapshot(payload)
    all_labels = checked_labels(project, labels)
    intake = Intake(book=state.book, at=state.clock(), **options)
    quote = quote_payload(body, intake)
    budgets = state.newest_budgets().budgets
    claimed = claims(budgets, all_labels, quote.currency)
    names = {claim.budget for claim in claimed}
    for freeze in state.ledger.freezes():
        if freeze.budget in {None, *names}:
            raise frozen(freeze)
    published = quote.table.billing.statement_unit
    price = nanos_up(quote.maximum, NANOS // published.per_currency_unit if published else 1)
    short = _short(state, claimed, amounts(price, claimed), is_for_key=key is not None)
    if not short:
        raise LedgerError(
            "the request needs no allowance: every budget that matches it has enough left; admit the request"
            if claimed
            else "no budget matches the request, and an allowance cannot change that; add a budget for it"
        )
    wanted = AllowanceRequest(
        id="",
        project=project,
        amount=from_nanos(price),
        currency=quote.currency,
        budgets=tuple(sorted(short)),
        key=None if key is None else short_text("key", key),
        actor=state.actor,
        reason=reason,
        created_at=intake.at,
        allowance_id=None,
    )
    return state.ledger.ask(wanted, author(state.actor, reason))


def _short(
    state: GuardState, claimed: tuple[BucketClaim, ...], needed: tuple[int, ...], *, is_for_key: bool
) -> set[str]:
    """Returns the names of the budgets that do not have the needed amounts left, or allow less per request.

    Raises:
        LedgerError: a budget allows less per request, and the allowance would not be for one key.
    """
    now = state.clock()
    left = {
        (bucket.budget, definition, *sorted(bucket.labels.items())): nanos_up(max(bucket.available, Decimal(0)))
        for definition, bucket in state.ledger.buckets(now)
    }
    open_schedules = {window.schedule for window in state.ledger.windows(now)}
    short = set()
    for claim, amount in zip(claimed, needed, strict=True):
        if claim.observes or claim.schedule not in open_schedules:
            continue
        if claim.max_request is not None and amount > claim.max_request:
            if not is_for_key:
                raise LedgerError(
                    f"the request costs more than budget {claim.budget} allows per request; only an allowance "
                    "for one key lifts that limit, so give the key of the job"
                )
            short.add(claim.budget)
        if amount > left.get((claim.budget, claim.definition, *sorted(claim.labels.items())), claim.cap):
            short.add(claim.budget)
    return short


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
            budgets.rate(grant.currency, budget)
