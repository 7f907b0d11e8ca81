"""Administrative actions: who changed budgets, freezes or the ledger itself, when, and why. Pure."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from getpass import getuser
from typing import Any, NamedTuple

from kling_pricing.errors import KlingPricingError
from kling_pricing.ledger.model import Reservation
from kling_pricing.ledger.redaction import kept_reason, short_text
from kling_pricing.money import format_decimal


class Author(NamedTuple):
    """The person or program that takes an administrative action, and the reason.

    Attributes:
        actor: the name of the person or program.
        reason: the reason; None: no reason was given.
    """

    actor: str
    reason: str | None


class AdministrativeAction(NamedTuple):
    """One administrative action. Actions never change, and no action can be removed.

    Attributes:
        seq: the number of the action; later actions have higher numbers.
        at: the instant of the action, UTC.
        actor: the person or program that took the action, as given; by default, the system's user.
        role: the PostgreSQL role of the session, which an actor cannot choose; None in a SQLite ledger.
        action: `apply`, `set`, `carry_over`, `open`, `freeze`, `thaw`, `ask`, `allow`, `decline`, `revoke`,
            `migrate`, `recover`, `grant`, `settle`, `record`, `issue_key`, `revoke_key`, `remember` (a
            statement), or `settle_statement` (reservations, from statements).
        subject: the budget, or `all`, or the id of the reservation, the allowance or the request for one, or
            the name of the access key, or the file of the statement, or the books, or the part of the ledger
            that the action changed.
        old: the value before the action, as JSON data; None: there was none.
        new: the value after the action, as JSON data; None: there is none.
        reason: the reason; None: no reason was given.
    """

    seq: int
    at: datetime
    actor: str
    role: str | None
    action: str
    subject: str
    old: Any
    new: Any
    reason: str | None


class CapOverlay(NamedTuple):
    """A cap that replaces the cap of a budget until an instant, and then ends by itself.

    Attributes:
        budget: the budget's name.
        cap: the cap in the budget's currency.
        set_at: the instant at which it was set, UTC.
        until: the instant at which it ends, UTC.
        actor: the person or program that set it.
        reason: the reason; None: no reason was given.
    """

    budget: str
    cap: Decimal
    set_at: datetime
    until: datetime
    actor: str
    reason: str | None


def system_user() -> str:
    """Returns the name of the system's user, or `unknown` if the system does not know it."""
    try:
        return short_text("the name of the system's user", getuser())
    except (KeyError, OSError, KlingPricingError):
        return "unknown"


def actor_name(actor: str | None) -> str:
    """Returns the name of an actor as a ledger stores it: by default, the name of the system's user.

    Raises:
        KlingPricingError: the name is empty, too long, or not printable.
    """
    return system_user() if actor is None else short_text("actor", actor)


def author(actor: str | None, reason: str | None = None) -> Author:
    """Returns the author of an action as a ledger stores it.

    Raises:
        KlingPricingError: the actor's name is empty, too long, or not printable.
    """
    return Author(actor_name(actor), None if reason is None else kept_reason(reason))


def amount_of(reservation: Reservation) -> dict[str, str] | None:
    """Returns the amount at which a reservation is settled, as JSON data; None: it is not settled."""
    if reservation.billed is None or reservation.basis is None:
        return None
    return {
        "amount": format_decimal(reservation.billed),
        "basis": reservation.basis,
        "currency": reservation.currency,
    }


def value_text(value: Any) -> str | None:
    """Returns the value before or after an action as the JSON text that a ledger stores."""
    return None if value is None else json.dumps(value, sort_keys=True, separators=(",", ":"))


def read_value(text: str | None) -> Any:
    """Returns the value in a text from `value_text`."""
    return None if text is None else json.loads(text)


def cap_value(cap: Decimal, overlay: CapOverlay | None) -> dict[str, str]:
    """Returns the value of a `set` action: the cap in force, and its end if it has one."""
    if overlay is None:
        return {"cap": format_decimal(cap)}
    return {"cap": format_decimal(overlay.cap), "until": overlay.until.isoformat()}


SEALED_ACTION_COLUMNS = ("actor", "role", "action", "subject", "old", "new", "reason")
"""The columns of an action that its seal covers, besides its instant and the seal of the action before it."""


def action_seal(previous: str, at: str, values: Sequence[str | None]) -> str:
    """Returns the seal of an action. It depends on all earlier actions, so that none can be changed or removed.

    PostgreSQL computes the same seal in `administer`.

    Args:
        previous: the seal of the action before it; empty for the first action.
        at: the instant of the action as the ledger writes it.
        values: the values of `SEALED_ACTION_COLUMNS`.
    """
    texts = (previous, at, *("" if value is None else value for value in values))
    return hashlib.sha256("\x1f".join(texts).encode()).hexdigest()[:32]
