"""From an order to a reservation, the same on every kind of store. Pure."""

from __future__ import annotations

from datetime import datetime

from kling_pricing.ledger.records import Candidate, Order, Reservation, State
from kling_pricing.money import from_nanos

UNSENT: State = "reserved"
"""The state that a reservation begins in."""


def unsent(
    order: Order,
    candidate: Candidate,
    reservation: str,
    key: str,
    attempt: int,
    created_at: datetime,
    deadline: datetime,
) -> Reservation:
    """The reservation of an order that is still to be sent.

    Args:
        order: what was asked for.
        candidate: what was chosen.
        reservation: its id.
        key: of the job; the order's, unless that stands for another.
        attempt: which one of that key.
        created_at: when it was made.
        deadline: when it is released if it is not sent.
    """
    in_doubt = False
    return Reservation(
        reservation, order.project, key, attempt, UNSENT, in_doubt, order.provider, None, order.wire_format,
        candidate.model, candidate.resolution, candidate.tier, candidate.quantity, candidate.unit,
        order.currency, from_nanos(candidate.expected), from_nanos(candidate.reserved), None, None, order.table,
        order.statement_unit, order.unit_value, order.failed_tasks, order.labels, candidate.changes, None,
        order.fingerprint, created_at, None, None, deadline,
    )  # fmt: skip
