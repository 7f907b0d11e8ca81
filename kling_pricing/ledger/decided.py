"""The result of `Ledger.decide`: what `reserve` would do now, and the balances that it depends on. No I/O."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from types import MappingProxyType
from typing import NamedTuple, TypeAlias

from kling_pricing.errors import KlingPricingError
from kling_pricing.ledger.model import Refused, Reservation

BucketName: TypeAlias = tuple[str, frozenset[tuple[str, str]]]
"""The name of a budget, and the labels of one of its buckets."""

Assumed: TypeAlias = Mapping[BucketName | str, int]
"""The nanos to count as held in addition, by bucket and by the id of an allowance.

They are those of requests that would be reserved before.
"""


NOTHING_ASSUMED: Assumed = MappingProxyType({})


class Room(NamedTuple):
    """The balance of a bucket that a request would count in. Amounts are in nanos of `currency`.

    Attributes:
        budget: the budget's name.
        labels: the labels of the bucket.
        cap: the bucket's cap.
        held: the held money, without expired reservations and with the amounts that the caller assumes.
        spent: the spent money.
        max_request: the limit for a single request; None: only the cap limits it.
        currency: the currency of these amounts.
        window_start: the start of the window, UTC.
        window_end: the end of the window, UTC; for a rolling window, when this request would have left it.
        rolling: the length of a rolling window, such as `24h`; None for all other windows.
    """

    budget: str
    labels: Mapping[str, str]
    cap: int
    held: int
    spent: int
    max_request: int | None
    currency: str
    window_start: datetime
    window_end: datetime
    rolling: str | None

    @property
    def name(self) -> BucketName:
        """The name of the bucket."""
        return self.budget, frozenset(self.labels.items())


class Decided(NamedTuple):
    """What an admission would do now.

    Attributes:
        verdict: the index of the first candidate that fits; the unsent reservation that already exists for the
            key; why nothing fits; or the error that an admission would raise.
        rooms: the balances of the buckets that the request would count in.
        at: the instant of the decision on the ledger's clock.
        covers: the nanos of allowances that would cover the candidate, by the id of the allowance.
    """

    verdict: int | Reservation | Refused | KlingPricingError
    rooms: tuple[Room, ...]
    at: datetime
    covers: Mapping[str, int] = MappingProxyType({})
