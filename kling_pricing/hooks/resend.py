"""Sending a submission again whose first sending is not known to have failed."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from kling_pricing.errors import IdempotencyError, ReservationStateError
from kling_pricing.guard import BudgetGuard
from kling_pricing.guard.fingerprint import fingerprint
from kling_pricing.ledger.model import Reservation
from kling_pricing.tables.http_rules import Idempotency
from kling_pricing.wire.formats import wire_format as wire_format_named

SENT_AGAIN = "sent again"
"""Why a reservation is in doubt whose request is under way for a second time."""

_MARGIN = timedelta(minutes=5)
"""So long before the API forgets a key it is not used any more: clocks differ, and requests take their time."""


def sent_again(
    guard: BudgetGuard,
    error: ReservationStateError,
    payload: Mapping[str, Any],
    idempotency: Idempotency | None,
) -> tuple[Reservation, Mapping[str, Any]] | None:
    """What to send once more under a key whose job was sent: the same request, with the same changes.

    The reservation is in doubt from then on, unless its task is known: of two answers to one job a refusal
    proves nothing.

    Args:
        guard: has the reservation.
        error: with which the guard refused to admit the job again.
        payload: the caller's request.
        idempotency: of the API; None: it would make a second task of it.

    Returns:
        The reservation, and the payload to send; None: it was released meanwhile, and can be admitted anew.

    Raises:
        ReservationStateError: it must not be sent again; it is the error given.
        IdempotencyError: the key stands for another request.
    """
    found = guard.reservation(error.reservation_id)
    if idempotency is None or found.dispatched_at is None:
        raise error
    if guard.clock() >= found.dispatched_at + timedelta(hours=idempotency.hours) - _MARGIN:
        raise error
    wire = wire_format_named(found.wire_format)
    media = [each.url for each in wire.parse(payload).media]
    if fingerprint(payload, found.provider, found.wire_format, media) != found.fingerprint:
        raise IdempotencyError(
            f"key {found.key!r} of project {found.project} stands for another request, reservation {found.id}; "
            "use another key for another job"
        )
    payload = wire.amend(payload, found.changes)
    found = guard.mark_in_doubt(found, SENT_AGAIN)
    return None if found.state == "released" else (found, payload)
