"""The arguments and results of a ledger's verbs. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any, Literal, NamedTuple, TypeAlias

from kling_pricing.ledger.terms import Terms
from kling_pricing.money import from_nanos
from kling_pricing.windows import Period

State: TypeAlias = Literal["reserved", "dispatching", "bound", "settled", "released"]
"""The state of a reservation. *In doubt* is derived from it, see `Reservation.in_doubt`."""

DOUBTED = "in doubt"
"""In a list of states, next to `dispatching`: includes reservations that were marked in doubt."""
Basis: TypeAlias = Literal["quote", "response", "statement", "operator"]
"""The source of the amount of a settled reservation."""

BASES: tuple[Basis, ...] = ("quote", "response", "statement", "operator")
"""The bases from the weakest to the strongest. An amount on a stronger basis replaces one on a weaker basis."""


class BucketClaim(NamedTuple):
    """The claim of a request on one bucket of a budget that matches it.

    Attributes:
        budget: the budget's name.
        definition: digest of the budget's match, window, zone and currency; the same digest shares buckets.
        labels: the labels of the bucket.
        schedule: the schedule of the budget's windows in the ledger's calendar.
        recurs: whether a new calendar window follows each window.
        cap: the bucket's cap in nanos of `currency`, used if this claim creates the bucket.
        currency: the budget's currency.
        rate: the accounting rate from the quote's currency; None: the currencies are the same.
        may_cap: whether a cheaper variant may be reserved if the request does not fit.
        observes: whether the budget counts the request, whether or not it fits.
        max_request: the maximum for a single request, in nanos; None: only the cap limits it.
        alerts: the thresholds at which an alert fires, as fractions of the cap.
        step: the step of a rolling window; None for all other windows.
    """

    budget: str
    definition: str
    labels: Mapping[str, str]
    schedule: str
    recurs: bool
    cap: int
    currency: str
    rate: Decimal | None
    may_cap: bool
    observes: bool
    max_request: int | None
    alerts: tuple[Decimal, ...]
    step: timedelta | None


class PricedVariant(NamedTuple):
    """A variant of a request, and the amounts to reserve for it.

    Attributes:
        changes: the new value of each changed setting; empty for the request as the caller wrote it.
        terms: the terms of its quote.
        reserved: the quote in nanos, rounded up to an amount that the provider's statement can show.
        amounts: the amount for each claim, in nanos of its budget's currency.
    """

    changes: Mapping[str, Any]
    terms: Terms
    reserved: int
    amounts: tuple[int, ...]


class ReservationRequest(NamedTuple):
    """A request to reserve money for a job. It holds only data that a ledger may store, and no payload.

    Attributes:
        project: the project that the job belongs to.
        key: the caller's name for the job, unique in its project. Attempts at the same job share the key.
        fingerprint: digest of the caller's original request.
        provider: the provider that bills the job.
        wire_format: the wire format of the request.
        labels: the labels that budgets may match, including the project.
        claims: one claim for each budget that matches.
        may_be_unmatched: whether the request is allowed if no budget is in force for it.
        holds: the period in which the request may be reserved.
        budgets: digest of the current budgets.
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
    """Money set aside for one job, and the outcome of the job.

    Every amount is in `currency`, and every instant is in UTC.

    Attributes:
        id: the ledger's id for the reservation.
        project: the project that the job belongs to.
        key: the caller's name for the job.
        attempt: 1 for the first attempt; each reuse of a released key adds 1.
        state: `reserved`, `dispatching`, `bound`, `settled` or `released`.
        in_doubt: whether it is unknown if the provider accepted the job, or what it charged; see `reason`.
        provider: the provider that bills the job.
        task_id: the provider's id for the task; None until it is known.
        wire_format: the wire format of the request.
        terms: the terms of the quote. The reservation also has each term as an attribute.
        reserved: the amount that was set aside.
        billed: the amount that the job was settled at; None until then.
        basis: the source of `billed`.
        labels: the labels that budgets may match.
        changes: the settings that capping changed; empty if the request is unchanged.
        reason: the reason why the reservation was released or is in doubt.
        fingerprint: digest of the caller's original request.
        created_at: the instant of the reservation.
        dispatched_at: the instant at which the payload was handed out to be sent.
        closed_at: the instant at which the job was settled or the reservation released.
        deadline: the instant at which a reserved reservation expires, or a dispatched one becomes in doubt.
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
    def failed_tasks(self) -> str:
        """See `Terms`."""
        return self.terms.failed_tasks

    def as_dict(self) -> dict[str, Any]:
        """Returns the attributes by name. Each of the terms appears in the place of `terms`."""
        terms = {name: getattr(self, name) for name in _TERMS_ATTRIBUTES}
        return {
            name: value
            for field, content in self._asdict().items()
            for name, value in (terms if field == "terms" else {field: content}).items()
        }


_TERMS_ATTRIBUTES = (
    *("model", "resolution", "tier", "quantity", "unit", "currency", "expected"),
    *("table", "statement_unit", "unit_value", "failed_tasks"),
)


SENT = (
    *("id", "project", "key", "state", "task_id", "billed", "basis", "labels"),
    *("dispatched_at", "closed_at", "ended", "terms"),
)
"""The fields of a line from `Ledger.sent`, as text; most are attributes of `Reservation`, or empty if None.

Amounts are in nanos, instants in UTC without a zone, and `ended` is `failed`, `cancelled` or empty.
"""

SENT_SEPARATOR = "\x1f"
"""Separates the fields of such a line. No field contains it, because a ledger stores only printable text."""


class Alert(NamedTuple):
    """A threshold that was reached for the first time, a bill above the reserved amount, or a doubtful charge.

    Attributes:
        kind: `threshold`, `overrun`, or `charge`.
        budget: the budget's name.
        labels: the labels of the bucket.
        threshold: the fraction of the cap that was reached; None for the other kinds.
        cap: the bucket's cap.
        used: the total of the bucket's held and spent amounts.
        currency: the currency of both amounts.
        window_end: the end of the window, UTC; of a rolling window, when it has moved past the bucket's step.
        reservation_id: the reservation that caused it; None: a change of budgets, or an opening balance.
        detail: for a doubtful charge, why it has no value or what it contradicts; else None.
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
    """The result for a request that fits every budget.

    Attributes:
        reservation: the reservation as it is now.
        replayed: whether the reservation existed before, for the same key and the same request.
        alerts: the alerts that the reservation caused.
    """

    reservation: Reservation
    replayed: bool
    alerts: tuple[Alert, ...]


class Shortfall(NamedTuple):
    """A bucket that a request does not fit into. Amounts are in nanos of `currency`.

    Attributes:
        budget: the budget's name.
        labels: the labels of the bucket.
        requested: the amount that the request needs.
        available: the amount that is left in the bucket.
        max_request: the limit for a single request; None: no limit.
        currency: the currency of these amounts.
        window_end: the end of the window, UTC; of a rolling window, when enough will have left it.
        may_cap: whether the budget accepts a cheaper variant instead.
        rolling: the length of a rolling window, such as `24h`; None for all other windows.
        covered: the amount that allowances would cover, which is not enough.
    """

    budget: str
    labels: Mapping[str, str]
    requested: int
    available: int
    max_request: int | None
    currency: str
    window_end: datetime
    may_cap: bool
    rolling: str | None
    covered: int = 0


class Refused(NamedTuple):
    """The result for a request that does not fit. The ledger stores nothing about it.

    Attributes:
        shortfalls: every bucket that the request as written does not fit into; empty: no budget matches it.
    """

    shortfalls: tuple[Shortfall, ...]

    @property
    def may_be_capped(self) -> bool:
        """Whether every bucket in `shortfalls` accepts a cheaper variant."""
        return bool(self.shortfalls) and all(shortfall.may_cap for shortfall in self.shortfalls)


class Revision(NamedTuple):
    """Budgets as a ledger stores them.

    Attributes:
        digest: the digest of the document, as computed by the release that installed it.
        document: the budgets as JSON.
    """

    digest: str
    document: str


class Outdated(NamedTuple):
    """The result for a request whose budgets are no longer in force. The ledger stores nothing about it.

    Attributes:
        revision: the budgets that are in force now.
    """

    revision: Revision


class Mistimed(NamedTuple):
    """The result for a request that is not valid at the ledger's instant. The ledger stores nothing about it.

    Attributes:
        now: the ledger's instant, UTC.
    """

    now: datetime


class Change(NamedTuple):
    """The effect of a verb on a reservation.

    Attributes:
        reservation: the reservation as it is now.
        alerts: the alerts that the verb caused.
    """

    reservation: Reservation
    alerts: tuple[Alert, ...] = ()


Ref: TypeAlias = str | tuple[str, str]
"""A reference to a reservation: its id, or the provider and the task id."""

UNSENT: State = "reserved"
"""The initial state of a reservation."""


def unsent(
    order: ReservationRequest,
    candidate: PricedVariant,
    reservation: str,
    key: str,
    attempt: int,
    created_at: datetime,
    deadline: datetime,
) -> Reservation:
    """Returns a new reservation for a request that has not been sent.

    Args:
        order: the request.
        candidate: the variant that was chosen.
        reservation: the id of the reservation.
        key: the key of the job, which differs from the request's if another job has that key.
        attempt: the number of the attempt with that key.
        created_at: the instant of the reservation.
        deadline: the instant at which the reservation expires if it is not sent.
    """
    in_doubt = False
    return Reservation(
        reservation, order.project, key, attempt, UNSENT, in_doubt, order.provider, None, order.wire_format,
        candidate.terms, from_nanos(candidate.reserved), None, None, order.labels, candidate.changes, None,
        order.fingerprint, created_at, None, None, deadline,
    )  # fmt: skip
