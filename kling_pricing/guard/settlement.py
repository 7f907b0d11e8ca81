"""Settlement: binds a request to its task and records its cost."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from decimal import Decimal
from typing import Any

from kling_pricing.display import shown
from kling_pricing.errors import (
    KlingPricingError,
    LedgerUnavailableError,
    ReservationNotFoundError,
    WireFormatError,
)
from kling_pricing.guard.admission import Admission
from kling_pricing.guard.made import compare
from kling_pricing.guard.references import Reference, named_by_own_id, ref_of
from kling_pricing.guard.responses import read_answer, read_task
from kling_pricing.guard.state import GuardState
from kling_pricing.ledger.actions import author
from kling_pricing.ledger.errors import settled_already
from kling_pricing.ledger.model import BASES, DOUBTED, Basis, Change, Ref, Reservation
from kling_pricing.ledger.outcomes import Comparison, Uncompared
from kling_pricing.ledger.redaction import kept_reason, observation, short_text
from kling_pricing.money import ledger_amount
from kling_pricing.strict_json import RequestLike
from kling_pricing.wire.task import Task, listed_tasks

_log = logging.getLogger("kling_pricing.guard")


def bind(state: GuardState, reference: Reference, task_id: str) -> Reservation:
    """Records the task of a request; see `BudgetGuard.bind`."""
    change = _bound(state, ref_of(reference), short_text("task_id", task_id))
    _log_doubts(change)
    return state.reservation_after(change)


def _bound(state: GuardState, ref: Ref, task_id: str) -> Change:
    """Binds a reservation to a task, and compares earlier observations of the task with its quote.

    Every further round is due to an observation that arrived in the meantime.
    """
    change = state.ledger.bind(ref, task_id)
    while isinstance(change, Uncompared):
        change = state.ledger.bind(ref, task_id, compared=_comparisons(state, change))
    return change


def _comparisons(state: GuardState, uncompared: Uncompared) -> dict[int, Comparison]:
    return {
        number: compare(uncompared.reservation, seen, state.book) for number, seen in uncompared.observations
    }


def settle(
    state: GuardState,
    reference: Reference,
    amount: Decimal | int | str | None,
    basis: Basis | None,
    reason: str | None = None,
) -> Reservation:
    """Records the cost of a job as spent; see `BudgetGuard.settle`."""
    if basis is not None and basis not in BASES:
        raise KlingPricingError(f"basis must be one of {', '.join(BASES)}; got {shown(basis)}")
    charged = None if amount is None else ledger_amount(amount)
    amount_basis: Basis = basis or ("quote" if charged is None else "response")
    by = None if reason is None else author(state.actor, reason)
    return state.reservation_after(state.ledger.settle(ref_of(reference), charged, amount_basis, by))


def settle_all(
    state: GuardState, amounts: Mapping[str, Decimal | int | str], basis: Basis
) -> dict[str, KlingPricingError]:
    """Records the costs of many jobs as spent; see `BudgetGuard.settle_all`."""
    if basis not in BASES:
        raise KlingPricingError(f"basis must be one of {', '.join(BASES)}; got {shown(basis)}")
    charged = {short_text("reservation", name): ledger_amount(amount) for name, amount in amounts.items()}
    batch = state.ledger.settle_all(charged, basis)
    state.deliver(batch.alerts)
    return dict(batch.refused)


def release(state: GuardState, reference: Reference, reason: str) -> Reservation:
    """Releases the money of an unsent request; see `BudgetGuard.release`."""
    return state.ledger.release(ref_of(reference), kept_reason(reason), states=("reserved",))


def release_refused(state: GuardState, reference: Reference, reason: str) -> Reservation:
    """Releases the money of a refused request; see `BudgetGuard.release_refused`."""
    return state.ledger.release(ref_of(reference), kept_reason(reason), states=("reserved", "dispatching"))


def mark_in_doubt(state: GuardState, reference: Reference, reason: str) -> Reservation:
    """Marks a sent request as in doubt; see `BudgetGuard.mark_in_doubt`."""
    return state.ledger.doubt(ref_of(reference), kept_reason(reason))


def observe(
    state: GuardState,
    body: RequestLike,
    provider: str,
    reference: Reference | None,
    wire_format: str | None,
) -> Reservation | None:
    """Records a provider's response; see `BudgetGuard.observe`."""
    answer = read_answer(body)
    provider = short_text("provider", provider)
    if wire_format is None and reference is not None:
        reference = _reservation_of(state, reference)
        wire_format = reference.wire_format
    listed = listed_tasks(answer)
    if listed is not None and len(listed) != 1:
        _observe_list(state, listed, provider, reference, wire_format)
        return None
    task = task_in(state, answer if listed is None else listed[0], provider, wire_format)
    return observe_task(state, task, provider, reference)


def task_in(state: GuardState, answer: Mapping[str, Any], provider: str, wire_format: str | None) -> Task:
    """Reads what an answer says about its task; see `responses.read_task`."""
    return read_task(
        answer,
        provider,
        state.book,
        wire_format,
        format_of_task=lambda task_provider, task_id: _format_of_task(state, task_provider, task_id),
    )


def _observe_list(
    state: GuardState,
    listed: Sequence[Mapping[str, Any]],
    provider: str,
    reference: Reference | None,
    wire_format: str | None,
) -> None:
    """Records what a list says about the tasks in the ledger; other tasks leave no trace.

    Raises:
        KlingPricingError: the caller names a reservation; or a task in the list cannot be read or recorded,
            after the others were recorded.
    """
    if reference is not None:
        raise WireFormatError(f"the response lists {len(listed)} tasks; call `observe` without a reservation")
    state.book.tables_of(provider)
    first: KlingPricingError | None = None
    for answer in listed:
        try:
            task = task_in(state, answer, provider, wire_format)
            if task.task_id is None:
                continue
            is_known = _format_of_task(state, provider, task.task_id) is not None
            if is_known or named_by_own_id(state.ledger.reservation, provider, task) is not None:
                observe_task(state, task, provider, None)
        except LedgerUnavailableError:
            raise
        except KlingPricingError as error:
            first = first or error
    if first is not None:
        raise first


def observe_task(
    state: GuardState, task: Task, provider: str, reference: Reference | None
) -> Reservation | None:
    """Records the state of a task from a response; see `BudgetGuard.observe_task`."""
    provider = short_text("provider", provider)
    task_id = task.task_id
    if reference is None:
        reference = named_by_own_id(state.ledger.reservation, provider, task)
    ref = None if reference is None else ref_of(reference)
    if task_id is None and ref is not None:
        task_id = state.ledger.reservation(ref).task_id
    if task_id is None:
        raise WireFormatError(
            "the response does not name a task; release the reservation as refused if the provider definitely "
            "refused the request; otherwise, leave the reservation in doubt"
        )
    seen = observation(task, provider, short_text("task_id", task_id), state.clock())
    known = reference.reservation if isinstance(reference, Admission) else reference
    compared = compare(known, seen, state.book) if isinstance(known, Reservation) else None
    change = state.ledger.observe(seen, ref, compared)
    if isinstance(change, Uncompared) and change.reservation.task_id == seen.task_id:
        change = state.ledger.observe(seen, ref, compare(change.reservation, seen, state.book))
    if isinstance(change, Uncompared):
        change = _bound(state, change.reservation.id, seen.task_id)
    if change is None:
        return None
    _log_doubts(change, names_charge=seen.charge is not None)
    return state.reservation_after(change)


def _log_doubts(change: Change, *, names_charge: bool = False) -> None:
    """Logs a charge that has no value here, and a contradiction between a response and the quote."""
    reservation = change.reservation
    doubts = {alert.detail for alert in change.alerts if alert.kind == "charge"}
    if reservation.in_doubt and names_charge:
        doubts = {f"{reservation.reason}; the reservation stays in doubt until it is settled with an amount"}
    for doubt in doubts:
        _log.warning(
            "task %s of %s (reservation %s): %s",
            reservation.task_id,
            reservation.provider,
            reservation.id,
            doubt,
        )


def resolve(
    state: GuardState,
    reference: Reference,
    outcome: str,
    amount: Decimal | int | str | None,
    reason: str | None = None,
) -> Reservation:
    """Records the outcome that a person looked up; see `BudgetGuard.resolve`."""
    if outcome == "charged":
        reservation = state.ledger.reservation(ref_of(reference))
        if reservation.state != "settled" or reservation.in_doubt:
            return settle(state, reference, amount, "operator", reason)
        if amount is not None and ledger_amount(amount) != reservation.billed:
            raise settled_already(reservation, ledger_amount(amount))
        return reservation
    if outcome != "not_charged":
        raise KlingPricingError(f"outcome must be 'charged' or 'not_charged', got {outcome!r}")
    reservation = state.ledger.reservation(ref_of(reference))
    if reservation.state == "settled" and reservation.in_doubt:
        return settle(state, reference, 0, "operator", reason)
    why = "not charged, according to the operator"
    if reason is not None:
        why = kept_reason(f"not charged, according to {state.actor}: {reason}")
    return state.ledger.release(ref_of(reference), why, states=("dispatching", DOUBTED, "bound"))


def _reservation_of(state: GuardState, reference: Reference) -> Reservation:
    """Returns the reservation of a reference; reads the ledger only for an id or a task."""
    if isinstance(reference, Reservation):
        return reference
    if isinstance(reference, Admission):
        return reference.reservation
    return state.ledger.reservation(ref_of(reference))


def _format_of_task(state: GuardState, provider: str, task_id: str) -> str | None:
    """Returns the wire format of a task's reservation; None if the task has none."""
    try:
        return state.ledger.reservation(ref_of((provider, task_id))).wire_format or None
    except ReservationNotFoundError:
        return None
