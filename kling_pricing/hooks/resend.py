"""Resending a submission whose first attempt may have been accepted."""

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
from kling_pricing.wire.request import format_and_model

RESENT = "sent again"
"""The reason of a reservation that is in doubt because its request is being resent."""

_MARGIN = timedelta(minutes=5)
"""A key is not used for this long before the API forgets it: clocks differ, and requests take time."""


def resend(
    guard: BudgetGuard,
    error: ReservationStateError,
    payload: Mapping[str, Any],
    account: str | None,
    idempotency: Idempotency | None,
) -> tuple[Reservation, Mapping[str, Any]] | None:
    """Prepares to resend a job under its key: the same request with the same changes.

    The reservation is then in doubt, unless its task is known: if the job has two responses, a refusal in one
    of them proves nothing.

    Args:
        guard: the guard that has the reservation.
        error: the error with which the guard refused to admit the job again.
        payload: the caller's request.
        account: the account from which the request would be sent. The provider knows a key in one account only,
            so resending the job from another account would create a second task.
        idempotency: how the API honours idempotency keys; None: it does not, so resending would create a
            second task.

    Returns:
        The reservation and the payload to send; None: the reservation has been released in the meantime, and
        the job can be admitted again.

    Raises:
        ReservationStateError: the job must not be resent; this is the given error.
        IdempotencyError: the key belongs to a different request.
    """
    reservation = guard.reservation(error.reservation_id)
    if idempotency is None or reservation.dispatched_at is None or reservation.account != account:
        raise error
    if guard.clock() >= reservation.dispatched_at + timedelta(hours=idempotency.hours) - _MARGIN:
        raise error
    if not is_same_request(reservation, payload):
        raise IdempotencyError(
            f"key {reservation.key!r} of project {reservation.project} belongs to a different request, "
            f"reservation {reservation.id}; for a different job, use another key"
        )
    payload = wire_format_named(reservation.wire_format).amend(payload, reservation.changes)
    reservation = guard.mark_in_doubt(reservation, RESENT)
    return None if reservation.state == "released" else (reservation, payload)


def is_same_request(reservation: Reservation, payload: Mapping[str, Any]) -> bool:
    """Returns whether a reservation was made for this request of the caller.

    Raises:
        WireFormatError: the payload cannot be read in the wire format of the reservation.
    """
    parsed = wire_format_named(reservation.wire_format).parse(payload)
    urls = [media.url for media in parsed.media]
    shape = format_and_model(reservation.wire_format, parsed.fields, reservation.model)
    return fingerprint(payload, reservation.provider, shape, urls) == reservation.fingerprint
