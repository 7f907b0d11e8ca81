"""Alerts as a ledger keeps them, their receivers, refusals and leases: the verbs that every store has for them.

The transaction that causes an alert also writes it into the ledger's *outbox*. An alert therefore exists
exactly if its cause was committed. A *deliverer* sends the alerts of the outbox to *receivers*. One process at
a time is the deliverer, because it holds a *lease*: a row with a holder and an end.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import NamedTuple, Protocol


class StoredAlert(NamedTuple):
    """An alert in the outbox. It never changes.

    Attributes:
        seq: the number of the alert; later alerts have higher numbers.
        id: the id of the alert, which is unique in all ledgers. Receivers use it to recognize a repetition.
        at: the instant of the alert, UTC.
        kind: `threshold`, `overrun`, `charge`, `freeze`, `thaw`, `refusals`, `forecast` or `in_doubt`.
        budget: the budget's name; None: the alert is not about a particular budget.
        labels: the labels of the bucket, or of the reservation if no budget is given.
        threshold: the fraction of the cap that was reached; None for the other kinds.
        cap: the bucket's cap at that instant; None: no bucket, or an alert older than the outbox.
        used: the total of the bucket's held and spent amounts at that instant; None as for `cap`.
        currency: the currency of both amounts; None: no bucket.
        window_start: the start of the bucket's window, UTC; None: no bucket, or a rolling window.
        window_end: the end of the bucket's window, UTC; None: no bucket, or a rolling window.
        reservation_id: the reservation that caused the alert; None: another cause.
        facts: other facts as text, by name: `billed` of an overrun; `detail` of a doubtful charge, a freeze
            or a job in doubt; `reason`, `day` and `requests` of refusals; `exhausted_at` and `pace_per_day` of
            a forecast.
    """

    seq: int
    id: str
    at: datetime
    kind: str
    budget: str | None
    labels: Mapping[str, str]
    threshold: Decimal | None
    cap: Decimal | None
    used: Decimal | None
    currency: str | None
    window_start: datetime | None
    window_end: datetime | None
    reservation_id: str | None
    facts: Mapping[str, str]


class AlertReceiver(NamedTuple):
    """A receiver that the current budgets name, and the state of its deliveries.

    Attributes:
        name: the name in the budgets file, `env:NAME` or `file:PATH`. The ledger never stores the URL.
        delivered: the number of the newest alert that is done: every alert up to this one was delivered to the
            receiver, or concerns other receivers only, or is older than the receiver.
        failures: the number of failed attempts since the last delivery.
        failed_at: the instant of the last failed attempt, UTC; None: the last attempt succeeded.
        problem: why the last attempt failed; None: it succeeded.
        next_at: the instant before which no further attempt is made, UTC; None: immediately.
        stopped_at: the instant from which the receiver gets nothing, because it refused all further alerts,
            UTC; None: it gets alerts.
    """

    name: str
    delivered: int
    failures: int
    failed_at: datetime | None
    problem: str | None
    next_at: datetime | None
    stopped_at: datetime | None


class Lease(NamedTuple):
    """The right of one process to do something until an instant.

    Attributes:
        holder: the process that holds the lease.
        ends_at: the instant at which another process may take the lease, UTC, by the ledger's clock.
        is_held: whether the process that asked holds the lease.
    """

    holder: str
    ends_at: datetime
    is_held: bool


class RefusedRequests(NamedTuple):
    """The number of requests that one bucket refused on one day for one reason.

    Attributes:
        budget: the budget's name; empty: the requests were refused for another reason than a budget.
        labels: the labels of the bucket.
        reason: `cap`, `max_request`, `frozen` or `unmatched`.
        day: the day in UTC.
        requests: the number of requests.
    """

    budget: str
    labels: Mapping[str, str]
    reason: str
    day: date
    requests: int


class ExpectedExhaustion(NamedTuple):
    """A forecast that a bucket is exhausted before its window ends, as the outbox takes it.

    Attributes:
        budget: the budget's name.
        definition: the definition of the budget, see `BucketClaim`.
        labels: the labels of the bucket.
        window_start: the start of the bucket's window, UTC.
        facts: facts of the alert, see `StoredAlert`.
    """

    budget: str
    definition: str
    labels: Mapping[str, str]
    window_start: datetime
    facts: Mapping[str, str]


class Opening(NamedTuple):
    """The opening balance of a bucket.

    Attributes:
        budget: the budget's name.
        labels: the labels of the bucket.
        window_start: the start of the bucket's window, UTC.
        spent: the amount that was spent before, in the budget's currency.
    """

    budget: str
    labels: Mapping[str, str]
    window_start: datetime
    spent: Decimal


class Outbox(Protocol):
    """The verbs of a ledger for alerts, refusals and leases. They raise what the verbs of `Ledger` raise."""

    def alerts(self, *, after: int = 0, limit: int | None = None) -> list[StoredAlert]:
        """Returns the alerts with a number above `after`, in the order of their numbers.

        No alert with a lower number than a returned one can appear later. Alerts of one bucket are in the order
        of their causes.

        Args:
            after: the number of an alert.
            limit: the maximum number of alerts; None: all.
        """

    def newest_alerts(self, *, before: int | None = None, limit: int) -> list[StoredAlert]:
        """Returns the newest alerts, the newest first.

        Args:
            before: only alerts with a lower number; None: all.
            limit: the maximum number of alerts.
        """

    def receivers(self) -> list[AlertReceiver]:
        """Returns the receivers that the current budgets name, sorted by name.

        A receiver gets the alerts that follow the revision which named it first.
        """

    def mark_delivered(self, receiver: str, seq: int) -> None:
        """Records that every alert up to a number is done for a receiver. A lower number has no effect."""

    def mark_failed(self, receiver: str, problem: str, retry_after: timedelta | None) -> None:
        """Records that an attempt failed.

        Args:
            receiver: the receiver's name.
            problem: why it failed.
            retry_after: how long no further attempt is made; None: the receiver is stopped until
                `resume_receiver`.
        """

    def resume_receiver(self, receiver: str) -> bool:
        """Allows the next attempt immediately. Returns False if the current budgets name no such receiver."""

    def raise_alerts(self, forecasts: Sequence[ExpectedExhaustion], *, doubtful_for: timedelta) -> int:
        """Writes the alerts that no verb of a guard causes, each once, and returns the number of new ones.

        These are: a forecast, once per bucket and cap; refusals, once per bucket, reason and day; and a job in
        doubt, once.

        Args:
            forecasts: the buckets that are expected to be exhausted before their windows end.
            doubtful_for: how long ago a job in doubt was sent, at least.
        """

    def count_refusals(self, counts: Sequence[RefusedRequests]) -> None:
        """Adds numbers of refused requests to the stored numbers; no two are of one bucket, reason and day."""

    def refusals(self, since: date | None, until: date | None) -> list[RefusedRequests]:
        """Returns the stored numbers for days at or after `since` and before `until`, sorted."""

    def begun_at(self) -> datetime | None:
        """Returns the instant at which the first budgets were installed; None: there are none yet."""

    def openings(self, at: datetime) -> list[Opening]:
        """Returns the opening balances of the windows that contain an instant."""

    def take_lease(self, name: str, holder: str, lasts: timedelta) -> Lease:
        """Takes or renews a lease, if nobody else holds it by the ledger's clock; returns the lease in force.

        Args:
            name: the name of the lease.
            holder: the process that asks, such as `host:pid`.
            lasts: how long the lease lasts from now on.
        """

    def end_lease(self, name: str, holder: str) -> None:
        """Ends a lease immediately if this process holds it."""
