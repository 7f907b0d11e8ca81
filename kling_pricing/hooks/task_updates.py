"""Taking in what a provider says of a task, whether it was asked by us or by somebody else."""

from __future__ import annotations

from kling_pricing.errors import WireFormatError
from kling_pricing.guard import BudgetGuard
from kling_pricing.guard.responses import read_answer
from kling_pricing.ledger.model import Reservation
from kling_pricing.wire.formats import wire_format as wire_format_named


def observe_answer(guard: BudgetGuard, reservation: Reservation, body: bytes) -> Reservation | None:
    """Observes an answer about a reservation's task, if it names that: any other may be about something else.

    Raises:
        WireFormatError: it cannot be read, or names no task.
        ReservationStateError: it names another task than the reservation's.
    """
    answer = read_answer(body)
    if wire_format_named(reservation.wire_format).read_task(answer).task_id is None:
        raise WireFormatError(
            "the answer does not name the task that was asked for, so nothing is taken from it",
            wire_format=reservation.wire_format,
        )
    return guard.observe(answer, provider=reservation.provider, reservation=reservation)
