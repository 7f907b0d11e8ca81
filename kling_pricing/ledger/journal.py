"""Buckets, entries of the journal and observations, as a ledger shows them."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from typing import NamedTuple

from kling_pricing.wire.charges import Charge


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


class Observation(NamedTuple):
    """The facts about a task in one response or callback.

    Attributes:
        provider: who answered.
        task_id: the provider's name for the task.
        state: `queued`, `processing`, `succeeded`, `failed`, `cancelled`; None: not stated.
        charge: the charge that the response names; None: it names none.
        duration_s: the length that was made or billed; None: not stated.
        model: as the provider named it.
        seen_at: when it was first seen, UTC.
    """

    provider: str
    task_id: str
    state: str | None
    charge: Charge | None
    duration_s: Decimal | None
    model: str | None
    seen_at: datetime
