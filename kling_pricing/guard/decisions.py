"""Decisions: what `admit` would do with a request now. They share its code, and change nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal, NamedTuple, TypeAlias

from kling_pricing.errors import IdempotencyError, KlingPricingError, LedgerError
from kling_pricing.guard.admission import (
    Offer,
    PricedRequest,
    QuoteOptions,
    admission,
    in_rounds,
    offer,
    refusal,
)
from kling_pricing.guard.reservation_requests import priced_variant
from kling_pricing.guard.state import GuardState
from kling_pricing.ledger.decided import NOTHING_ASSUMED, Assumed, BucketName, Decided, Room
from kling_pricing.ledger.model import (
    Mistimed,
    Outdated,
    PricedVariant,
    Refused,
    Reservation,
    ReservationRequest,
    Reserved,
)
from kling_pricing.money import format_decimal, from_nanos
from kling_pricing.quoting.quote import Quote
from kling_pricing.strict_json import RequestLike
from kling_pricing.windows import FOREVER

_NOTHING = Decimal(0)

DecisionOutcome: TypeAlias = Literal["admitted", "capped", "replayed", "refused"]

_Verdict: TypeAlias = int | Reservation | Refused | KlingPricingError


class BudgetEffect(NamedTuple):
    """The effect of a request on one budget that matches it. Amounts are in `currency`.

    Attributes:
        budget: the budget's name.
        labels: the labels of the bucket.
        currency: the currency of the amounts.
        requested: the amount that the request needs; 0 if it is already reserved.
        fits: whether the request fits into this budget.
        left_before: the amount left now, without expired reservations; negative after an overrun.
        left_after: the amount left after an admission; equals `left_before` if nothing would be reserved.
        cap: the cap of the budget.
        max_request: the limit for a single request; None: only the cap limits it.
        window_end: the end of the window, UTC; for a rolling window, when the request would have left it. None
            if the window never ends.
        rolling: the length of a rolling window, such as `24h`; None for all other windows.
    """

    budget: str
    labels: Mapping[str, str]
    currency: str
    requested: Decimal
    fits: bool
    left_before: Decimal
    left_after: Decimal
    cap: Decimal
    max_request: Decimal | None
    window_end: datetime | None
    rolling: str | None


@dataclass(frozen=True, slots=True)
class Decision:
    """What `admit` would do with a request now. Nothing was reserved.

    Attributes:
        outcome: `admitted` as it is; `capped`, which means admitted after `changes`; `replayed`, because the
            key's reservation exists already and is unsent; or `refused`.
        quote: the expected price of the request as it would be sent; of a refused request, as it is.
        reserved: the amount that would be reserved, in the quote's currency; the amount that is reserved
            already, if the outcome is `replayed`; 0 if the request would be refused.
        changes: setting -> new value for each change that would make the request fit.
        budgets: the effect on each budget that matches; empty if none does.
        refusal: the error that `admit` would raise: `BudgetExceededError`, `BudgetFrozenError`,
            `IdempotencyError`, `ReservationStateError` or `LedgerError`; None if it would admit the request.
        reservation: the reservation that exists already for the key; None unless the outcome is `replayed`.
        at: the instant of the decision on the ledger's clock, UTC.
        assumed: the amounts in nanos that this decision and those before it would reserve, by bucket and by
            allowance; see `BudgetGuard.decide`.
    """

    outcome: DecisionOutcome
    quote: Quote
    reserved: Decimal
    changes: Mapping[str, Any]
    budgets: tuple[BudgetEffect, ...]
    refusal: KlingPricingError | None
    reservation: Reservation | None
    at: datetime
    assumed: Assumed = field(repr=False, compare=False)

    @property
    def passes(self) -> bool:
        """Whether `admit` would return an admission."""
        return self.refusal is None

    def __str__(self) -> str:
        if self.refusal is not None:
            return f"refused: {self.refusal}"
        return f"{self.outcome}: {format_decimal(self.reserved)} {self.quote.currency}"


def decide(
    state: GuardState,
    payload: RequestLike,
    project: str,
    key: str | None,
    labels: Mapping[str, str] | None,
    account: str | None,
    after: Decision | None,
    options: QuoteOptions,
) -> Decision:
    """Returns what `admit` would do; see `BudgetGuard.decide`."""
    assumed = NOTHING_ASSUMED if after is None else after.assumed

    def decided(job: PricedRequest) -> Decision | Outdated | Mistimed:
        answers: list[Decided] = []

        def ask(wanted: ReservationRequest, candidates: list[PricedVariant]) -> _Verdict | Outdated | Mistimed:
            answer = state.ledger.decide(wanted, candidates, assumed=_claimed(assumed, wanted))
            if not isinstance(answer, Decided):
                return answer
            answers.append(answer)
            return answer.verdict

        offered = offer(state, job, ask)
        verdict = offered.answer
        if isinstance(verdict, Outdated | Mistimed):
            return verdict
        return _decision(job, verdict, offered, answers[-1], assumed)

    return in_rounds(state, payload, project, key, labels, account, options, decided)


def _claimed(assumed: Assumed, wanted: ReservationRequest) -> Assumed:
    """Returns the assumed amounts in the buckets that a request claims, and those of allowances."""
    if not assumed:
        return assumed
    names = {(claim.budget, frozenset(claim.labels.items())) for claim in wanted.claims}
    return {name: nanos for name, nanos in assumed.items() if isinstance(name, str) or name in names}


def _decision(
    job: PricedRequest, verdict: _Verdict, offered: Offer[Any], decided: Decided, assumed: Assumed
) -> Decision:
    variants, wanted = offered.variants, offered.wanted
    if isinstance(verdict, Reservation):
        return _replay(job, verdict, offered, decided, assumed)
    chosen = variants[verdict if isinstance(verdict, int) else 0]
    priced = priced_variant(chosen.quote, chosen.changes, wanted)
    needed = {claim.budget: nanos for claim, nanos in zip(wanted.claims, priced.amounts, strict=True)}
    if not isinstance(verdict, int):
        error = refusal(verdict, job, variants, wanted) if isinstance(verdict, Refused) else verdict
        effects = _effects(decided.rooms, needed, is_reserved=False)
        return Decision("refused", chosen.quote, _NOTHING, {}, effects, error, None, decided.at, assumed)
    used: dict[BucketName | str, int] = {room.name: needed[room.budget] for room in decided.rooms}
    used.update(dict(decided.covers))
    held = {name: assumed.get(name, 0) + nanos for name, nanos in used.items()}
    return Decision(
        "capped" if chosen.changes else "admitted",
        chosen.quote,
        from_nanos(priced.reserved),
        chosen.changes,
        _effects(decided.rooms, needed, is_reserved=True),
        None,
        None,
        decided.at,
        {**assumed, **held},
    )


def _replay(
    job: PricedRequest, existing: Reservation, offered: Offer[Any], decided: Decided, assumed: Assumed
) -> Decision:
    """Returns the decision about a key whose unsent reservation `admit` would return again."""
    effects = _effects(decided.rooms, {}, is_reserved=False)
    try:
        again = admission(Reserved(existing, replayed=True, alerts=()), job, offered.variants)
    except (IdempotencyError, LedgerError) as error:
        quote = offered.variants[0].quote
        return Decision("refused", quote, _NOTHING, {}, effects, error, None, decided.at, assumed)
    return Decision(
        "replayed",
        again.quote,
        existing.reserved,
        existing.changes,
        effects,
        None,
        existing,
        decided.at,
        assumed,
    )


def _effects(
    rooms: tuple[Room, ...], needed: Mapping[str, int], *, is_reserved: bool
) -> tuple[BudgetEffect, ...]:
    effects = []
    for room in rooms:
        nanos, left = needed.get(room.budget, 0), room.cap - room.held - room.spent
        limit = room.max_request
        effects.append(
            BudgetEffect(
                budget=room.budget,
                labels=room.labels,
                currency=room.currency,
                requested=from_nanos(nanos),
                fits=not nanos or (nanos <= left and (limit is None or nanos <= limit)),
                left_before=from_nanos(left),
                left_after=from_nanos(left - nanos if is_reserved else left),
                cap=from_nanos(room.cap),
                max_request=None if limit is None else from_nanos(limit),
                window_end=None if room.window_end == FOREVER.end else room.window_end,
                rolling=room.rolling,
            )
        )
    return tuple(effects)
