"""The errors that a ledger raises when it refuses a verb. Both stores use the same messages. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal

from kling_pricing.display import did_you_mean, shown
from kling_pricing.errors import (
    BudgetError,
    BudgetFrozenError,
    IdempotencyError,
    LedgerError,
    LedgerUnavailableError,
    ReservationNotFoundError,
    ReservationStateError,
)
from kling_pricing.ledger.freezing import Freeze
from kling_pricing.ledger.model import Ref, Reservation
from kling_pricing.money import format_decimal


def other_version(ledger: str, version: int, needed: int, *, migrate: str = "URL") -> LedgerUnavailableError:
    """Returns the error for a ledger whose schema version differs from the one that this release requires.

    Args:
        ledger: the name of the ledger.
        version: the schema version of the ledger.
        needed: the schema version that this release requires.
        migrate: the URL that the command to run shows; `URL` where the real one may hold a password.
    """
    if version > needed:
        return LedgerUnavailableError(
            f"ledger {ledger}: this ledger was written by a newer release of kling-pricing (schema version "
            f"{version}); upgrade kling-pricing"
        )
    return LedgerUnavailableError(
        f"ledger {ledger}: this ledger has schema version {version}, but this release of kling-pricing needs "
        f"version {needed}; stop the guards and run `kling-pricing ledger migrate {migrate}`"
    )


def wrong_state(reservation: Reservation, verb: str, why: str) -> ReservationStateError:
    """Returns the error for a verb that the reservation's state does not allow.

    Args:
        reservation: the reservation.
        verb: the verb as a past participle, such as `released`.
        why: the cause, and then the remedy.
    """
    state = f"{reservation.state}, in doubt" if reservation.in_doubt else reservation.state
    return ReservationStateError(
        f"reservation {reservation.id} is {state} and cannot be {verb}: {why}",
        reservation_id=reservation.id,
        state=reservation.state,
        task_id=reservation.task_id,
    )


def unknown(ref: Ref) -> ReservationNotFoundError:
    """Returns the error for a reference that matches no reservation."""
    subject = f"reservation {ref}" if isinstance(ref, str) else f"task {ref[1]} of provider {ref[0]}"
    return ReservationNotFoundError(
        f"{subject} is not in this ledger; list the ledger's reservations with `history`"
    )


def key_taken(reservation: Reservation) -> IdempotencyError:
    """Returns the error for a key that already belongs to a different request."""
    return IdempotencyError(
        f"key {reservation.key!r} of project {reservation.project} belongs to a different request, reservation "
        f"{reservation.id}; for a different job, use another key"
    )


def key_sent(reservation: Reservation) -> ReservationStateError:
    """Returns the error for a key whose job was already sent."""
    task = f"its task is {reservation.task_id}" if reservation.task_id else "its task is not known yet"
    return wrong_state(
        reservation,
        "reserved again",
        f"the job with key {reservation.key!r} was already sent, and {task}; for a different job, use "
        "another key",
    )


def not_dispatched(reservation: Reservation) -> ReservationStateError:
    """Returns the error for a dispatch of a reservation that was dispatched or released, or has expired."""
    why = "the payload is handed out only once, and only while the reservation's state is reserved"
    expired = "it was not dispatched in time; admit the request again"
    return wrong_state(reservation, "dispatched", expired if reservation.reason == "expired" else why)


def bound_to_another(reservation: Reservation, task_id: str) -> ReservationStateError:
    """Returns the error for a reservation that is already bound to another task."""
    return wrong_state(
        reservation, f"bound to task {task_id}", f"it is already bound to task {reservation.task_id}"
    )


def bound_unsent(reservation: Reservation, task_id: str) -> ReservationStateError:
    """Returns the error for binding a reservation that was never dispatched, so it cannot have a task."""
    return wrong_state(reservation, f"bound to task {task_id}", "it was never dispatched")


def task_of_another(reservation: Reservation, task_id: str, other: str) -> ReservationStateError:
    """Returns the error for a task that already belongs to another reservation."""
    return wrong_state(reservation, f"bound to task {task_id}", f"the task belongs to reservation {other}")


def not_doubtful(reservation: Reservation) -> ReservationStateError:
    """Returns the error for marking a reservation in doubt that was never sent."""
    return wrong_state(reservation, "marked in doubt", "the job was never sent; release the reservation")


def not_released(reservation: Reservation) -> ReservationStateError:
    """Returns the error for releasing a reservation that is settled or whose job may be running."""
    if reservation.state == "reserved":
        return wrong_state(
            reservation,
            "released as refused or as not charged",
            "the job was never sent; use `release` instead",
        )
    causes = {
        "dispatching": "the job was sent and may be running; if the provider refused the job, release the "
        "reservation as refused; otherwise, resolve the reservation",
        "bound": "the provider accepted the job and may charge for it; observe the provider's responses, or "
        "resolve the reservation",
        "settled": "the job has been paid for; if the provider did not charge for the job after all, settle "
        "the reservation at 0 with the basis `operator`",
    }
    return wrong_state(reservation, "released", causes[reservation.state])


def doubted(reservation: Reservation) -> ReservationStateError:
    """Returns the error for releasing a reservation that was marked in doubt.

    One refusal does not prove that the provider has not accepted an earlier attempt.
    """
    return wrong_state(
        reservation,
        "released",
        "the provider may have accepted the job; look up the task at the provider, then bind or resolve the "
        "reservation",
    )


def settled_otherwise(reservation: Reservation, amount: Decimal) -> ReservationStateError:
    """Returns the error for a reservation that is settled at another amount on the same basis."""
    billed = amount if reservation.billed is None else reservation.billed
    return wrong_state(
        reservation,
        f"settled at {format_decimal(amount)} {reservation.currency}",
        f"it is already settled at {format_decimal(billed)} {reservation.currency} with the basis "
        f"{reservation.basis}; use a stronger basis",
    )


def settled_already(reservation: Reservation, amount: Decimal) -> ReservationStateError:
    """Returns the error for resolving as charged a reservation that is settled at another amount."""
    billed = amount if reservation.billed is None else reservation.billed
    return wrong_state(
        reservation,
        f"resolved as charged {format_decimal(amount)} {reservation.currency}",
        f"it is already settled at {format_decimal(billed)} {reservation.currency} with the basis "
        f"{reservation.basis}; to correct the amount, settle the reservation with the basis `operator`",
    )


def settled_unsent(reservation: Reservation) -> ReservationStateError:
    """Returns the error for settling a reservation that was never sent, so the provider cannot bill it."""
    return wrong_state(
        reservation, "settled", ("the job was never dispatched, so the provider cannot charge for it")
    )


def other_provider(reservation: Reservation, provider: str) -> LedgerError:
    """Returns the error for a response from a provider other than the reservation's."""
    return LedgerError(
        f"reservation {reservation.id} belongs to provider {reservation.provider}, but {provider} is given "
        "as the provider of the response; give the provider that sent the response"
    )


def task_known(reservation: Reservation) -> IdempotencyError:
    """Returns the error for recording a task that is already in the ledger with other details."""
    return IdempotencyError(
        f"task {reservation.task_id} of {reservation.provider} is already in the ledger as reservation "
        f"{reservation.id} ({reservation.state}); correct that reservation with `settle`"
    )


def no_window(budget: str) -> LedgerError:
    """Returns the error for a budget whose only window has not begun or is over."""
    return LedgerError(f"budget {budget} has no current window: its period has not begun or has ended")


def frozen(freeze: Freeze) -> BudgetFrozenError:
    """Returns the error for a request that a freeze concerns."""
    subject = "all spending" if freeze.budget is None else f"budget {freeze.budget}"
    return BudgetFrozenError(
        f"{freeze.actor} froze {subject} at {freeze.frozen_at.isoformat(timespec='seconds')} "
        f"({freeze.reason}); to allow spending again, ask an administrator to run `kling-pricing budget thaw "
        f"{freeze.budget or '--all'} --reason TEXT`",
        budget=freeze.budget,
        actor=freeze.actor,
        reason=freeze.reason,
        frozen_at=freeze.frozen_at,
    )


def ended_before_it_began(until: datetime) -> LedgerError:
    """Returns the error for an allowance that would end before it begins."""
    return LedgerError(
        f"the allowance would end at {until.isoformat()}, which is not in the future; give a later end"
    )


def unknown_allowance(name: str, known: Sequence[str]) -> LedgerError:
    """Returns the error for an id that no allowance has.

    Args:
        name: the id.
        known: the ids of the allowances that are not revoked.
    """
    remedy = did_you_mean(name, known) if known else "the ledger has none"
    return LedgerError(
        f"unknown allowance {shown(name)}; {remedy}; `kling-pricing budget allowances` lists the allowances"
    )


def unknown_request(name: str) -> LedgerError:
    """Returns the error for an id that no filed request for an allowance has."""
    return LedgerError(
        f"unknown request {shown(name)} for an allowance; `kling-pricing budget allowances` lists the requests"
    )


def granted_already(request: str, allowance: str) -> LedgerError:
    """Returns the error for a filed request that was granted already."""
    return LedgerError(
        f"request {request} was granted already, as allowance {allowance}; to grant more, give an "
        "amount instead of the request"
    )


def declined_already(request: str, actor: str, reason: str) -> LedgerError:
    """Returns the error for granting a filed request that was declined."""
    return LedgerError(
        f"{actor} declined request {request}: {reason}; to let the project spend more all the same, grant an "
        "allowance without the request"
    )


def granted_not_declined(request: str, allowance: str) -> LedgerError:
    """Returns the error for declining a filed request that was granted."""
    return LedgerError(
        f"request {request} was granted already, as allowance {allowance}; if the project should not use it, "
        "revoke the allowance"
    )


def no_rate(*, budget: str, currency: str, quote: str, **_about: str) -> BudgetError:
    """Returns the error for a quote in another currency than a budget, without an accounting rate."""
    return BudgetError(
        f"budget {budget} is in {currency}, but the quote is in {quote}; "
        f"add {{quote: {quote}, budget: {currency}, rate: ...}} to accounting_rates"
    )


def calendar_over(budget: str, ended: datetime) -> LedgerUnavailableError:
    """Returns the error for an instant after the last window in the ledger's calendar."""
    return LedgerUnavailableError(
        f"budget {budget}: the ledger's calendar ended at {ended.isoformat()}, so nothing may be spent; to "
        "extend the calendar, run `kling-pricing budget apply FILE` with the current budgets"
    )


def no_opening(budget: str) -> BudgetError:
    """Returns the error for an opening balance of a rolling window, which counts each amount by its instant."""
    return BudgetError(
        f"budget {budget} has a rolling window, which counts each amount from the time at which it was spent, "
        "so it has no opening balance; record each job with `kling-pricing record --at TIME`"
    )


def opened(budget: str) -> IdempotencyError:
    """Returns the error for a window that already has an opening balance."""
    return IdempotencyError(
        f"this window of budget {budget} already has an opening balance; record other spend with `record`"
    )


def books_changed(name: str) -> LedgerError:
    """Returns the error for an update of books that somebody else changed after the update was prepared."""
    return LedgerError(
        f"another command changed the books of {name} in the meantime, and nothing was added; run the "
        "command again"
    )
