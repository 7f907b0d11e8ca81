"""Admission: reserves the money for a request in every matching budget, caps the request, or refuses it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from os import urandom
from typing import Any, Generic, NamedTuple, TypedDict, TypeVar

from kling_pricing.errors import (
    BudgetExceededError,
    BudgetFrozenError,
    IdempotencyError,
    KlingPricingError,
    LedgerError,
    LedgerUnavailableError,
    ReservationStateError,
)
from kling_pricing.guard.fingerprint import fingerprint
from kling_pricing.guard.reservation_requests import (
    exceeded,
    limits,
    priced_variant,
    reservation_request,
)
from kling_pricing.guard.state import MAX_ROUNDS, GuardState, InForce
from kling_pricing.ledger.model import (
    Mistimed,
    Outdated,
    PricedVariant,
    Refused,
    Reservation,
    ReservationRequest,
    Reserved,
)
from kling_pricing.ledger.redaction import checked_labels, short_text
from kling_pricing.money import format_decimal
from kling_pricing.quoting.engine import quote_payload
from kling_pricing.quoting.intake import Intake
from kling_pricing.quoting.quote import Quote
from kling_pricing.quoting.variants import CheaperVariant, cheaper_variants
from kling_pricing.strict_json import RequestLike, snapshot
from kling_pricing.wire.formats import wire_format as wire_format_named
from kling_pricing.wire.media import MediaLike

_Answer = TypeVar("_Answer")
_Result = TypeVar("_Result")


class QuoteOptions(TypedDict, total=False):
    """The options that accompany a payload, as for `quote`."""

    provider: str | None
    wire_format: str | None
    media: MediaLike | None
    allow_unknown: bool
    url: str | None


@dataclass(frozen=True, slots=True)
class Admission:
    """Permission to submit one request for which money is reserved.

    Only `BudgetGuard.dispatch` hands out the payload to send, and only once.

    Attributes:
        reservation: the reservation as it was when the request was admitted.
        quote: the expected price of the request as it will be sent.
        replayed: whether the reservation already existed for this key.
    """

    reservation: Reservation
    quote: Quote
    replayed: bool
    _payload: Mapping[str, Any]
    _dispatches: list[bool] = field(default_factory=list)

    def __repr__(self) -> str:
        amount = f"{format_decimal(self.reservation.reserved)} {self.quote.currency}"
        return (
            f"Admission({self.reservation_id}: {amount} for {self.quote.model}, changes {dict(self.changes)})"
        )

    @property
    def reservation_id(self) -> str:
        """The id of the reservation."""
        return self.reservation.id

    @property
    def changes(self) -> Mapping[str, Any]:
        """Setting -> new value for each change that made the request fit; empty if nothing changed."""
        return self.reservation.changes

    @property
    def capped(self) -> bool:
        """Whether the request was changed to fit."""
        return bool(self.changes)

    @property
    def dispatched(self) -> bool:
        """Whether the payload of this `Admission` object was handed out."""
        return bool(self._dispatches)

    def _give_out(self) -> dict[str, Any]:
        """Returns the payload to send, and records that it was handed out; only `dispatch` calls this."""
        self._dispatches.append(True)
        return dict(self._payload)


class PricedRequest(NamedTuple):
    """A request to admit: the caller's payload under a key, and its quote.

    `account` is the account from which it is sent; None: the one with the provider's name.
    """

    payload: Mapping[str, Any]
    project: str
    key: str
    account: str | None
    labels: Mapping[str, str]
    original: Quote
    intake: Intake


class Offer(NamedTuple, Generic[_Answer]):
    """The ledger's answer to a request, and the variants from which it could choose.

    Attributes:
        answer: the answer.
        variants: the request as the caller wrote it, and then the cheaper variants that were offered.
        wanted: the request in the form that the ledger takes.
    """

    answer: _Answer
    variants: list[CheaperVariant]
    wanted: ReservationRequest


def admit(
    state: GuardState,
    payload: RequestLike,
    project: str,
    key: str | None,
    labels: Mapping[str, str] | None,
    account: str | None,
    options: QuoteOptions,
    *,
    sends_at_once: bool = False,
) -> Admission:
    """Reserves the money for a request; see `BudgetGuard.admit`.

    With `sends_at_once`, a new reservation is dispatched in the same transaction, but not one that is replayed.
    """
    ledger, expires_after, doubtful_after = state.ledger, state.expires_after, state.doubtful_after

    def reserve(
        wanted: ReservationRequest, candidates: list[PricedVariant]
    ) -> Reserved | Refused | Outdated | Mistimed:
        if sends_at_once:
            return ledger.reserve_and_dispatch(
                wanted, candidates, expires_after=expires_after, doubtful_after=doubtful_after
            )
        return ledger.reserve(wanted, candidates, expires_after=expires_after)

    def admitted(job: PricedRequest) -> Admission | Outdated | Mistimed:
        try:
            answer, variants, wanted = offer(state, job, reserve)
        except BudgetFrozenError as error:
            state.refusals.add_frozen(error.budget, job.intake.at)
            raise
        if isinstance(answer, Refused):
            state.refusals.add(answer, job.intake.at)
            raise refusal(answer, job, variants, wanted)
        if not isinstance(answer, Reserved):
            return answer
        try:
            state.deliver(answer.alerts)
            return admission(answer, job, variants)
        except BaseException as error:
            if answer.reservation.state == "dispatching":  # the caller does not receive the payload
                with suppress(KlingPricingError):
                    name, states = answer.reservation.id, ("dispatching",)
                    ledger.release(name, type(error).__name__, states=states)
            raise

    return in_rounds(state, payload, project, key, labels, account, options, admitted)


def in_rounds(
    state: GuardState,
    payload: RequestLike,
    project: str,
    key: str | None,
    labels: Mapping[str, str] | None,
    account: str | None,
    options: QuoteOptions,
    work: Callable[[PricedRequest], _Result | Outdated | Mistimed],
) -> _Result:
    """Quotes a request and does some work with it. Repeats both if the budgets or the prices have changed.

    Raises:
        LedgerUnavailableError: they keep changing, or this machine's clock is wrong.
    """
    body = snapshot(payload)
    all_labels = checked_labels(project, labels)
    job_key = urandom(16).hex() if key is None else short_text("key", key)
    if account is not None:
        short_text("account", account)
    for _ in range(MAX_ROUNDS):
        now = state.clock()
        try:
            intake = Intake(book=state.book, at=now, **options)
            original = quote_payload(body, intake)
        except KlingPricingError:
            if key is not None:
                _raise_if_sent(state, project, key)
            raise
        result = work(PricedRequest(body, project, job_key, account, all_labels, original, intake))
        if isinstance(result, Outdated):
            state.take_over(result.revision)
            reason = (
                "the ledger's budgets kept changing while money for the request was being reserved; try again"
            )
        elif isinstance(result, Mistimed):
            reason = (
                f"the times on this machine's clock ({now.isoformat()}) and on the ledger's clock "
                f"({result.now.isoformat()}) fall in different windows or price periods; correct this "
                "machine's clock"
            )
        else:
            return result
    raise LedgerUnavailableError(reason)


def offer(
    state: GuardState,
    job: PricedRequest,
    ask: Callable[[ReservationRequest, list[PricedVariant]], _Answer],
) -> Offer[_Answer]:
    """Asks the ledger about a request as the caller wrote it, and then about its variants.

    Variants are tried only if every budget that refuses the request allows capping.

    Args:
        state: the state of the guard.
        job: the request.
        ask: asks the ledger about candidates.
    """
    in_force, wanted = state.with_budgets(lambda budgets: _request(state, job, budgets))
    variants = [CheaperVariant({}, job.payload, job.original)]
    answer = ask(wanted, _candidates(variants, wanted))
    if isinstance(answer, Refused) and answer.may_be_capped:
        allowed = limits(in_force.budgets, job.labels)
        variants += cheaper_variants(job.payload, job.original, allowed, job.intake)
        answer = ask(wanted, _candidates(variants, wanted))
    return Offer(answer, variants, wanted)


def refusal(
    refused: Refused, job: PricedRequest, variants: list[CheaperVariant], wanted: ReservationRequest
) -> BudgetExceededError:
    """Returns the error for a request of which neither the original nor a variant fits."""
    cheaper = _candidates(variants[1:], wanted)
    cheapest = min(cheaper, key=lambda variant: variant.terms.expected, default=None)
    return exceeded(refused, job.original, wanted, cheapest)


def _request(state: GuardState, job: PricedRequest, in_force: InForce) -> ReservationRequest:
    original = job.original
    urls = [medium.url for medium, _ in original.request.media]
    return reservation_request(
        original,
        project=job.project,
        key=job.key,
        account=job.account,
        mark=fingerprint(job.payload, original.provider, original.request.format_and_model, urls),
        labels=job.labels,
        budgets=in_force.budgets,
        revision=in_force.digest,
        at=job.intake.at,
        priced_until=state.book.next_change(original.provider, job.intake.at),
    )


def _candidates(variants: list[CheaperVariant], wanted: ReservationRequest) -> list[PricedVariant]:
    return [priced_variant(variant.quote, variant.changes, wanted) for variant in variants]


def admission(answer: Reserved, job: PricedRequest, variants: list[CheaperVariant]) -> Admission:
    """Returns the admission for a reservation. Its payload is the caller's, with the reservation's changes.

    Raises:
        IdempotencyError: the key's unsent reservation is for another account.
        LedgerError: the request now costs more than the reserved amount.
    """
    reservation = answer.reservation
    if reservation.account != (job.account or job.original.provider):
        raise IdempotencyError(
            f"key {job.key!r} of project {job.project} has the unsent reservation {reservation.id} for account "
            f"{reservation.account}; send it from that account, or release the reservation first"
        )
    chosen = next((variant for variant in variants if variant.changes == reservation.changes), None)
    if answer.replayed or chosen is None:
        payload = wire_format_named(reservation.wire_format).amend(job.payload, reservation.changes)
        as_reserved = job.intake.with_options(
            at=reservation.created_at, provider=reservation.provider, wire_format=reservation.wire_format
        )
        chosen = CheaperVariant(reservation.changes, payload, quote_payload(payload, as_reserved))
    if chosen.quote.maximum > reservation.reserved:
        raise LedgerError(
            f"the request now costs more than reservation {reservation.id} holds; "
            "release the reservation and admit the request again"
        )
    return Admission(reservation, chosen.quote, answer.replayed, chosen.payload)


def _raise_if_sent(state: GuardState, project: str, key: str) -> None:
    """Raises an error if the key's job was already sent, which matters more than a quote that fails now.

    Raises:
        ReservationStateError: the key's job was already sent; the error carries the task id.
    """
    for reservation in state.ledger.reservations(project=project, key=key)[-1:]:
        if reservation.state not in {"reserved", "released"}:
            raise ReservationStateError(
                f"key {key!r} was already used for reservation {reservation.id}, which is "
                f"{reservation.state}; for a different job, use another key",
                reservation_id=reservation.id,
                state=reservation.state,
                task_id=reservation.task_id,
            )
