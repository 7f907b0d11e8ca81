"""Buckets, journal entries and observations, as a ledger returns them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal
from typing import Any, NamedTuple

from kling_pricing.display import html_table, json_text
from kling_pricing.money import format_decimal
from kling_pricing.wire.charges import Charge


class Bucket(NamedTuple):
    """The balance of one budget in one window, for one set of labels.

    Attributes:
        budget: the budget's name.
        labels: the labels of the bucket.
        cap: the maximum for held and spent money together.
        held: the money set aside for unfinished jobs.
        spent: the money spent on settled jobs.
        available: the money that is left; negative after an overrun or a lowered cap.
        currency: the currency of these amounts.
        window_start: the start of the window, UTC.
        window_end: the end of the window, UTC, exclusive; for a rolling window, when it next moves.
        rolling: the length of a rolling window, such as `24h`; None for all other windows.
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
    rolling: str | None = None

    def __repr__(self) -> str:
        return f"<Bucket {self._name()}: {self._left()}>"

    def as_dict(self, *, decimals: bool = False) -> dict[str, Any]:
        """Returns the balance as data; with `decimals`, amounts are `Decimal`s, otherwise text."""
        amounts = {name: getattr(self, name) for name in ("cap", "held", "spent", "available")}
        if not decimals:
            amounts = {name: format_decimal(amount) for name, amount in amounts.items()}
        bounds = {name: getattr(self, name).isoformat() for name in ("window_start", "window_end")}
        return {**self._asdict(), **amounts, **bounds, "labels": dict(self.labels)}

    def as_json(self) -> str:
        """Returns `as_dict` as JSON text."""
        return json_text(self.as_dict())

    def _repr_html_(self) -> str:
        """Returns the balance as a table for a notebook."""
        amounts = {"spent": self.spent, "held": self.held, "left": self.available, "cap": self.cap}
        rows = [(name, f"{format_decimal(amount)} {self.currency}") for name, amount in amounts.items()]
        return html_table(f"budget {self._name()}", rows)

    def _name(self) -> str:
        return ", ".join([self.budget, *(f"{label} {value}" for label, value in self.labels.items())])

    def _left(self) -> str:
        return f"{format_decimal(self.available)} of {format_decimal(self.cap)} {self.currency} left"


class WaivedRefusals(NamedTuple):
    """The refusals of a project's requests that a budget in observe mode waived, in one bucket.

    Attributes:
        budget: the budget's name.
        labels: the labels of the bucket.
        project: the project of the requests.
        requests: the number of admitted requests that the budget would have refused or made cheaper.
        amount: the amount that was reserved for these requests.
        currency: the currency of the amount.
        window_start: the start of the bucket's window, UTC.
        window_end: the end of the window, UTC, exclusive.
    """

    budget: str
    labels: Mapping[str, str]
    project: str
    requests: int
    amount: Decimal
    currency: str
    window_start: datetime
    window_end: datetime


class Entry(NamedTuple):
    """One entry of the journal. Entries never change.

    Attributes:
        seq: the number of the entry; later entries have higher numbers.
        at: the instant of the event, UTC.
        kind: the event: `reserve`, `dispatch`, `bind`, `doubt`, `settle`, `release`, `expire`, `record`,
            `opening`, `carry_over`, `alert`, `waive` (a budget in observe mode would have refused it), `cover`
            (the use of an allowance), `allow`, `revoke`, `revision`, `calendar`, `freeze`, `thaw`,
            `freeze_budget` or `thaw_budget`.
        reservation_id: the reservation that the event concerns; None: it concerns no reservation.
        budget: the budget of the bucket that the event changed; None: it changed no bucket.
        labels: the labels of that bucket.
        held: the change of the held amount, in `currency`.
        spent: the change of the spent amount, in `currency`.
        currency: the currency of the budget, or of the allowance; None: the event concerns neither.
        detail: the reason, the basis, the alert, the deadline, the task, or the digest of the budgets or the
            calendar, depending on the kind.
        allowance_id: the allowance whose balance the event changed; None: it changed none.
        billed: of a `settle` or `record`, the amount of the job, in the currency of its quote; None: another
            kind, or written before schema version 5.
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
    allowance_id: str | None = None
    billed: Decimal | None = None


class BucketHistory(NamedTuple):
    """A bucket, and the journal entries that changed its balance.

    A rolling window has one bucket for each of its steps. It counts from `window_start` to `window_end`.

    Attributes:
        bucket: the bucket as it is now.
        definition: the definition of its budget, see `BucketClaim`.
        entries: every journal entry that changed the balance, the oldest first.
    """

    bucket: Bucket
    definition: str
    entries: tuple[Entry, ...]


class Observation(NamedTuple):
    """The facts about a task in one response or callback.

    Attributes:
        provider: the provider that sent the response or callback.
        task_id: the provider's id for the task.
        state: `queued`, `processing`, `succeeded`, `failed` or `cancelled`; None: not stated.
        charge: the charge that the response names; None if it does not name one.
        duration_s: the length that was generated or billed, in seconds; None: not stated.
        model: the provider's name for the model.
        facts: other facts that the response about a successful task states, such as the resolution; empty:
            none.
        seen_at: the instant at which the observation was first stored, UTC.
    """

    provider: str
    task_id: str
    state: str | None
    charge: Charge | None
    duration_s: Decimal | None
    model: str | None
    facts: Mapping[str, Any]
    seen_at: datetime


class UnpricedRequests(NamedTuple):
    """The number of requests that hooks let pass without a price on one day.

    Attributes:
        provider: the provider at the host of the requests.
        path: the listed or allowed path that matched, such as `/v1/chat/*`.
        day: the day in UTC.
        requests: the number of requests.
    """

    provider: str
    path: str
    day: date
    requests: int
