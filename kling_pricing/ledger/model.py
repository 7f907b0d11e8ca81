"""The nouns of a ledger: what goes into its verbs and what comes out. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import Any, Literal, NamedTuple, TypeAlias

from kling_pricing.money import from_nanos
from kling_pricing.windows import Period

State: TypeAlias = Literal["reserved", "dispatching", "bound", "settled", "released"]
"""Where a reservation stands; *in doubt* is derived, see `Reservation.in_doubt`."""

DOUBTED = "in doubt"
"""Beside `dispatching`, where states are listed: also if it was marked as in doubt."""

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
        model: canonical name.
        resolution: as billed.
        tier: the billing lane.
        quantity: billed units.
        unit: of the quantity.
        expected: the quote, in nanos of its currency; of a range its maximum.
        reserved: the same, rounded up to what the provider's statement can show.
        amounts: of each claim, in nanos of its budget's currency.
    """

    changes: Mapping[str, Any]
    model: str
    resolution: str
    tier: str
    quantity: Decimal
    unit: str
    expected: int
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
        currency: of the quote.
        table: id of the price table.
        table_digest: of that table's file.
        statement_unit: what the provider counts in; None: the currency.
        unit_value: what one of those units is worth, in the currency.
        failed_tasks: what the provider does about a failed task: `refunded`, `charged`, `unconfirmed`.
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
    currency: str
    table: str
    table_digest: str
    statement_unit: str | None
    unit_value: Decimal | None
    failed_tasks: str
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
        in_doubt: it was dispatched, and nobody knows whether the provider has it.
        provider: who bills.
        task_id: the provider's name for it, once it is known.
        wire_format: the API it was written for.
        model: canonical name.
        resolution: as quoted.
        tier: as quoted.
        quantity: units quoted.
        unit: of the quantity.
        currency: ISO 4217 code.
        expected: what was quoted; of a range the maximum.
        reserved: what was set aside.
        billed: what it was settled at; None until then.
        basis: what `billed` rests on.
        table: id of the price table.
        statement_unit: what the provider counts in; None: the currency.
        unit_value: what one of those units is worth.
        failed_tasks: what the provider does about a failed task.
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
    model: str
    resolution: str
    tier: str
    quantity: Decimal
    unit: str
    currency: str
    expected: Decimal
    reserved: Decimal
    billed: Decimal | None
    basis: Basis | None
    table: str
    statement_unit: str | None
    unit_value: Decimal | None
    failed_tasks: str
    labels: Mapping[str, str]
    changes: Mapping[str, Any]
    reason: str | None
    fingerprint: str
    created_at: datetime
    dispatched_at: datetime | None
    closed_at: datetime | None
    deadline: datetime


SENT = (
    "id", "project", "key", "state", "task_id", "billed", "basis", "labels", "dispatched_at", "ended", "terms",
)  # fmt: skip
"""The fields of a line of `Ledger.sent`, as text: most as in `Reservation`, empty where that has None.

Amounts are in nanos, labels a JSON object, `dispatched_at` in UTC without its zone; `ended` is `failed` or
`cancelled` if that is how the task was last seen to end; `terms` are the fields of `TERMS`.
"""

TERMS = (
    "model", "resolution", "tier", "quantity", "unit", "currency", "expected", "price_table", "statement_unit",
    "unit_value", "failed_tasks",
)  # fmt: skip
"""What a quote fixes. Very many reservations have the same, so a line has them as one text, to be read once."""

SENT_SEPARATOR = "\x1f"
"""Between the fields of such a line. What a ledger keeps is printable, so no field has it, nor a line feed."""

TERMS_SEPARATOR = "\x17"
"""Between the fields of the terms."""


class Alert(NamedTuple):
    """A threshold that was reached for the first time in its window, or a bill above what was reserved.

    Attributes:
        kind: `threshold` or `overrun`.
        budget: the budget's name.
        labels: of its bucket.
        threshold: the part of the cap that was reached; None for an overrun.
        cap: of the bucket.
        used: what is held and spent of it now.
        currency: of both.
        window_end: when its window ends, UTC.
        reservation_id: what brought it about; None: a change of the budgets or an opening balance.
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
        return bool(self.shortfalls) and all(each.may_cap for each in self.shortfalls)


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


class Observation(NamedTuple):
    """What one response or callback said of a task.

    Attributes:
        provider: who said it.
        task_id: of which task.
        state: `queued`, `processing`, `succeeded`, `failed`, `cancelled`; None: not said.
        amount: what was charged, in `amount_unit`; None: not said.
        amount_unit: the provider's statement unit or a currency.
        duration_s: the length that was made or billed, if it was said.
        model: as the provider named it.
        seen_at: when it was first seen, UTC.
    """

    provider: str
    task_id: str
    state: str | None
    amount: Decimal | None
    amount_unit: str | None
    duration_s: Decimal | None
    model: str | None
    seen_at: datetime


class Bucket(NamedTuple):
    """What one budget has left in one window, for one set of labels.

    Attributes:
        budget: the budget's name.
        labels: of the bucket.
        cap: what may be held and spent.
        held: set aside for jobs under way.
        spent: settled.
        available: what is left; below zero after an overrun or a lowered cap.
        currency: of these amounts.
        window_start: UTC.
        window_end: UTC, exclusive.
    """

    budget: str
    labels: Mapping[str, str]
    cap: Decimal
    held: Decimal
    spent: Decimal
    available: Decimal
    currency: str
    window_start: datetime
    window_end: datetime


class Entry(NamedTuple):
    """One entry of the journal, which is never changed.

    Attributes:
        seq: its place, rising.
        at: when, UTC.
        kind: what happened: `reserve`, `dispatch`, `bind`, `doubt`, `settle`, `release`, `expire`, `record`,
            `opening`, `carry_over`, `alert`.
        reservation_id: to which reservation; None: to a bucket alone.
        budget: of the bucket it touched; None: none.
        labels: of that bucket.
        held: by how much the held amount changed, in the budget's currency.
        spent: by how much the spent amount changed.
        currency: the budget's; None: no bucket was touched.
        detail: the reason or the basis.
    """

    seq: int
    at: datetime
    kind: str
    reservation_id: str | None
    budget: str | None
    labels: Mapping[str, str]
    held: Decimal
    spent: Decimal
    currency: str | None
    detail: str | None


class BucketHistory(NamedTuple):
    """A bucket, and what made its balance what it is.

    Attributes:
        bucket: as it now stands.
        definition: of its budget: what makes two budgets of one name count the same.
        entries: every entry of the journal that moved its balance, the oldest first.
    """

    bucket: Bucket
    definition: str
    entries: tuple[Entry, ...]


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
        candidate.model, candidate.resolution, candidate.tier, candidate.quantity, candidate.unit,
        order.currency, from_nanos(candidate.expected), from_nanos(candidate.reserved), None, None, order.table,
        order.statement_unit, order.unit_value, order.failed_tasks, order.labels, candidate.changes, None,
        order.fingerprint, created_at, None, None, deadline,
    )  # fmt: skip
