"""The nouns of a ledger: what goes into its verbs and what comes out. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal, NamedTuple, TypeAlias

from kling_pricing.ledger.terms import Terms
from kling_pricing.money import from_nanos
from kling_pricing.windows import Period

State: TypeAlias = Literal["reserved", "dispatching", "bound", "settled", "released"]
"""Where a reservation stands; *in doubt* is derived, see `Reservation.in_doubt`."""

DOUBTED = "in doubt"
"""Beside `dispatching`, where states are listed: also if it was marked as in doubt."""

DOUBTABLE = ("dispatching", "bound", "settled")
"""The states in which a mark of doubt counts."""

Basis: TypeAlias = Literal["quote", "response", "statement", "operator"]
"""What the amount of a settled reservation rests on."""

BASES: tuple[Basis, ...] = ("quote", "response", "statement", "operator")
"""From the weakest to the strongest: a stronger one replaces the amount of a weaker."""


class BucketClaim(NamedTuple):
    """What a budget has to say about a request: the bucket that must have room for it.

    Attributes:
        budget: the budget's name.
        definition: digest of what makes two budgets of that name count the same.
        labels: the bucket's own labels.
        periods: the windows that may be the current one, in order; the ledger takes the one its clock is in,
            and the claim falls away when it is in none.
        cap: of the bucket, in nanos of `currency`, when this claim is the first to need it.
        currency: the budget's.
        rate: what one unit of the quote's currency counts as; None: they are the same.
        may_cap: whether a cheaper variant may be taken when there is no room.
        max_request: the most that a single request may take, in nanos; None: the cap alone limits it.
        alerts: parts of the cap at which an alert fires.
    """

    budget: str
    definition: str
    labels: Mapping[str, str]
    periods: tuple[Period, ...]
    cap: int
    currency: str
    rate: Decimal | None
    may_cap: bool
    max_request: int | None
    alerts: tuple[Decimal, ...]


class PricedVariant(NamedTuple):
    """One way to make a request, and what it takes.

    Attributes:
        changes: setting -> its new value; empty for the request as the caller made it.
        terms: what its quote fixes.
        reserved: the quote in nanos, rounded up to an amount that the provider's statement can show.
        amounts: the amount of each claim, in nanos of its budget's currency.
    """

    changes: Mapping[str, Any]
    terms: Terms
    reserved: int
    amounts: tuple[int, ...]


class ReservationRequest(NamedTuple):
    """A request to reserve: everything the ledger keeps of it, and nothing of what it shows.

    Attributes:
        project: whose request it is.
        key: the caller's name for the job; unique in its project, one attempt after another.
        fingerprint: digest of the caller's original request.
        provider: who bills.
        wire_format: the API it is written for.
        labels: everything budgets may match, the project among them.
        claims: one for each budget that matches.
        may_be_unmatched: whether it may pass when no budget is in force for it.
        holds: when it may be reserved; before and after, its windows or its price may be others.
        budgets: digest of the budgets that the claims come from.
    """

    project: str
    key: str
    fingerprint: str
    provider: str
    wire_format: str
    labels: Mapping[str, str]
    claims: tuple[BucketClaim, ...]
    may_be_unmatched: bool
    holds: Period
    budgets: str


class Reservation(NamedTuple):
    """Money set aside for one job, and what became of it; every amount in `currency`.

    Attributes:
        id: the ledger's name for it.
        project: whose job it is.
        key: the caller's name for the job.
        attempt: 1, and one more each time a released key is used again.
        state: `reserved`, `dispatching`, `bound`, `settled` or `released`.
        in_doubt: the provider may or may not have it, or it named a charge that has no value here; `reason`
            says which.
        provider: who bills.
        task_id: the provider's name for it, once it is known.
        wire_format: the API it was written for.
        terms: what its quote fixed; each of the terms is an attribute of the reservation too.
        reserved: what was set aside.
        billed: what it was settled at; None until then.
        basis: what `billed` rests on.
        labels: everything budgets may match.
        changes: what capping changed; empty: nothing.
        reason: why it was released or is in doubt.
        fingerprint: digest of the caller's original request.
        created_at: when it was reserved, UTC.
        dispatched_at: when its payload was given out to be sent.
        closed_at: when it was settled or released.
        deadline: until when it may stay as it is: a reserved one expires then, a dispatched one is in doubt.
    """

    id: str
    project: str
    key: str
    attempt: int
    state: State
    in_doubt: bool
    provider: str
    task_id: str | None
    wire_format: str
    terms: Terms
    reserved: Decimal
    billed: Decimal | None
    basis: Basis | None
    labels: Mapping[str, str]
    changes: Mapping[str, Any]
    reason: str | None
    fingerprint: str
    created_at: datetime
    dispatched_at: datetime | None
    closed_at: datetime | None
    deadline: datetime

    @property
    def model(self) -> str:
        """See `Terms`."""
        return self.terms.model

    @property
    def resolution(self) -> str:
        """See `Terms`."""
        return self.terms.resolution

    @property
    def tier(self) -> str:
        """See `Terms`."""
        return self.terms.tier

    @property
    def quantity(self) -> Decimal:
        """See `Terms`."""
        return self.terms.quantity

    @property
    def unit(self) -> str:
        """See `Terms`."""
        return self.terms.unit

    @property
    def currency(self) -> str:
        """See `Terms`."""
        return self.terms.currency

    @property
    def expected(self) -> Decimal:
        """See `Terms`."""
        return self.terms.expected

    @property
    def table(self) -> str:
        """See `Terms`."""
        return self.terms.price_table

    @property
    def statement_unit(self) -> str | None:
        """See `Terms`."""
        return self.terms.statement_unit

    @property
    def unit_value(self) -> Decimal | None:
        """See `Terms`."""
        return self.terms.unit_value

    @property
    def account_currency(self) -> str | None:
        """See `Terms`."""
        return self.terms.account_currency

    @property
    def failed_tasks(self) -> str:
        """See `Terms`."""
        return self.terms.failed_tasks

    def as_dict(self) -> dict[str, Any]:
        """Returns the attributes by name, with each of the terms in the place of `terms`."""
        terms = {name: getattr(self, name) for name in _TERMS_ATTRIBUTES}
        return {
            name: value
            for field, kept in self._asdict().items()
            for name, value in (terms if field == "terms" else {field: kept}).items()
        }


_TERMS_ATTRIBUTES = (
    *("model", "resolution", "tier", "quantity", "unit", "currency", "expected"),
    *("table", "statement_unit", "unit_value", "failed_tasks"),
)


SENT = (
    "id", "project", "key", "state", "task_id", "billed", "basis", "labels", "dispatched_at", "ended", "terms",
)  # fmt: skip
"""The fields of a line of `Ledger.sent`, as text: most as in `Reservation`, empty where that has None.

Amounts are in nanos, labels a JSON object, `dispatched_at` in UTC without its zone; `ended` is `failed` or
`cancelled` if that is how the task was last seen to end; `terms` are the fields of
`terms.TERMS`.
"""

SENT_SEPARATOR = "\x1f"
"""Between the fields of such a line. What a ledger keeps is printable, so no field has it, nor a line feed."""


class Alert(NamedTuple):
    """A threshold that was reached for the first time, a bill above the reserved amount, or a doubtful charge.

    Attributes:
        kind: `threshold`, `overrun`, or `charge`.
        budget: the budget's name.
        labels: of its bucket.
        threshold: the part of the cap that was reached; None for the other kinds.
        cap: of the bucket.
        used: what is held and spent of it now.
        currency: of both.
        window_end: when its window ends, UTC.
        reservation_id: what brought it about; None: a change of the budgets or an opening balance.
        detail: of a doubtful charge: why it has no value here, or what it contradicts; else None.
    """

    kind: str
    budget: str
    labels: Mapping[str, str]
    threshold: Decimal | None
    cap: Decimal
    used: Decimal
    currency: str
    window_end: datetime
    reservation_id: str | None
    detail: str | None = None


class Reserved(NamedTuple):
    """The answer to an order that fits.

    Attributes:
        reservation: as it now stands.
        replayed: whether it was there before: the same key with the same request.
        alerts: what it set off.
    """

    reservation: Reservation
    replayed: bool
    alerts: tuple[Alert, ...]


class Shortfall(NamedTuple):
    """One bucket that has no room for a request; amounts in nanos of `currency`.

    Attributes:
        budget: the budget's name.
        labels: of its bucket.
        requested: what the request would take.
        available: what is left.
        max_request: the limit of a single request; None: there is none.
        currency: of these amounts.
        window_end: when its window ends, UTC.
        may_cap: whether the budget would take a cheaper variant.
    """

    budget: str
    labels: Mapping[str, str]
    requested: int
    available: int
    max_request: int | None
    currency: str
    window_end: datetime
    may_cap: bool


class Refused(NamedTuple):
    """The answer to an order that does not fit; nothing of it is kept.

    Attributes:
        shortfalls: every bucket without room for the request as it is; empty: no budget is in force for it.
    """

    shortfalls: tuple[Shortfall, ...]

    @property
    def may_be_capped(self) -> bool:
        """Whether every bucket without room would take a cheaper variant."""
        return bool(self.shortfalls) and all(shortfall.may_cap for shortfall in self.shortfalls)


class Revision(NamedTuple):
    """Budgets as a ledger keeps them.

    Attributes:
        digest: of the document, as whoever installed it computed it.
        document: the budgets as JSON.
    """

    digest: str
    document: str


class Outdated(NamedTuple):
    """The answer to an order whose budgets are no longer those of the ledger; nothing of it is kept.

    Attributes:
        revision: the budgets that are installed now.
    """

    revision: Revision


class Mistimed(NamedTuple):
    """The answer to an order that does not hold at the ledger's instant; nothing of it is kept.

    Attributes:
        now: that instant, UTC.
    """

    now: datetime


class Change(NamedTuple):
    """What a verb did to a reservation.

    Attributes:
        reservation: as it now stands.
        alerts: what it set off.
    """

    reservation: Reservation
    alerts: tuple[Alert, ...] = ()


Ref: TypeAlias = str | tuple[str, str]
"""Which reservation: its id, or the provider and its task id."""


UNSENT: State = "reserved"
"""The state that a reservation begins in."""


def unsent(
    order: ReservationRequest,
    candidate: PricedVariant,
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
        candidate.terms, from_nanos(candidate.reserved), None, None, order.labels, candidate.changes, None,
        order.fingerprint, created_at, None, None, deadline,
    )  # fmt: skip
