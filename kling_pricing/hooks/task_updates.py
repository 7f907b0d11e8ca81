"""Recording a provider's answer about a task: it is parsed once, and its reservation is read once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any

from kling_pricing.errors import (
    KlingPricingError,
    LedgerUnavailableError,
    ReservationNotFoundError,
    WireFormatError,
)
from kling_pricing.guard import BudgetGuard
from kling_pricing.guard.references import named_by_own_id
from kling_pricing.guard.responses import read_answer
from kling_pricing.hooks.http_messages import TaskEndpoint
from kling_pricing.ledger.model import Ref, Reservation
from kling_pricing.wire.formats import wire_format as wire_format_named
from kling_pricing.wire.task import Task, listed_tasks


def observe_answer(guard: BudgetGuard, reservation: Reservation, body: bytes) -> Reservation | None:
    """Records an answer about a reservation's task.

    Raises:
        WireFormatError: the answer cannot be read, or names no task and so may be about another one.
        ReservationStateError: the answer names another task than the reservation's.
    """
    return _observe_answer(guard, reservation, read_answer(body))


def _observe_answer(
    guard: BudgetGuard, reservation: Reservation, answer: Mapping[str, Any]
) -> Reservation | None:
    listed = listed_tasks(answer)
    tasks = [_read_task(item, reservation.wire_format) for item in ([answer] if listed is None else listed)]
    if reservation.task_id is None:  # the caller asked by its own id
        tasks = [
            task for task in tasks if task.own_id == reservation.id or (task.own_id is None and not listed)
        ]
    elif len(tasks) != 1:
        tasks = [task for task in tasks if task.task_id == reservation.task_id]
    return _observe(guard, reservation, tasks[0] if tasks else Task(None, None))


def observe_task_answer(guard: BudgetGuard, endpoint: TaskEndpoint, body: bytes) -> Reservation | None:
    """Records an answer that came from a task's URL, if the task is in the ledger.

    The reservation is found by the task's id in the URL, by its own id in the URL (where the API takes the
    caller's own id), by the task's id in the answer, or by its own id in the answer. Other tasks leave no trace
    in the ledger.

    An answer that lists tasks is recorded for each of them that is in the ledger.

    Returns:
        The updated reservation; None: the task is not in the ledger, or the answer lists tasks.

    Raises:
        WireFormatError: the task is in the ledger, but the answer cannot be read or names no task.
        ReservationStateError: the answer names another task than the reservation's.
    """
    if endpoint.task_id:
        reservation = _find(guard, (endpoint.provider, endpoint.task_id)) or _find(guard, endpoint.task_id)
        if reservation is not None:
            answer = read_answer(body)
            others = listed_tasks(answer) or ()
            if len(others) > 1:  # the URL asked for several tasks
                _observe_list(guard, endpoint.provider, others)
                return None
            return _observe_answer(guard, reservation, answer)
    try:
        answer = read_answer(body)
    except WireFormatError:
        return None
    listed = listed_tasks(answer)
    if listed is not None:
        _observe_list(guard, endpoint.provider, listed)
        return None
    if not endpoint.task_id:
        return None  # a list without tasks, or an error
    with suppress(WireFormatError):
        return _observe_item(guard, endpoint.provider, answer)
    return None


def _observe_list(guard: BudgetGuard, provider: str, listed: Sequence[Mapping[str, Any]]) -> None:
    """Records each task of a list that is in the ledger.

    Raises:
        KlingPricingError: a task in the list cannot be read or recorded; the others were recorded.
    """
    first: KlingPricingError | None = None
    for answer in listed:
        try:
            _observe_item(guard, provider, answer)
        except LedgerUnavailableError:
            raise
        except KlingPricingError as error:
            first = first or error
    if first is not None:
        raise first


def _observe_item(guard: BudgetGuard, provider: str, answer: Mapping[str, Any]) -> Reservation | None:
    """Records an answer about one task; None: the task is not in the ledger."""
    wire_format, task = _first_task(answer, guard.book.formats.get(provider, ()))
    if task.task_id is None:
        return None
    reservation = _find(guard, (provider, task.task_id)) or named_by_own_id(guard.reservation, provider, task)
    if reservation is None:
        return None
    if reservation.wire_format != wire_format:
        task = _read_task(answer, reservation.wire_format)
    return _observe(guard, reservation, task)


def _find(guard: BudgetGuard, ref: Ref) -> Reservation | None:
    with suppress(ReservationNotFoundError):
        return guard.reservation(ref)
    return None


def _first_task(answer: Mapping[str, Any], wire_formats: tuple[str, ...]) -> tuple[str, Task]:
    """Reads an answer in the first of these formats in which it names a task."""
    for name in wire_formats:
        task = _read_task(answer, name)
        if task.task_id is not None:
            return name, task
    return "", Task(None, None)


def _read_task(answer: Mapping[str, Any], wire_format: str) -> Task:
    return wire_format_named(wire_format).read_task(answer)


def _observe(guard: BudgetGuard, reservation: Reservation, task: Task) -> Reservation | None:
    if task.task_id is None:
        raise WireFormatError(
            "the response does not name the requested task, so nothing was recorded",
            wire_format=reservation.wire_format,
        )
    return guard.observe_task(task, provider=reservation.provider, reservation=reservation)
