"""The verbs of a ledger that read its reservations page by page, and that release what has expired."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

from kling_pricing.ledger.journal import BucketHistory, Entry, Observation
from kling_pricing.ledger.model import Reservation, State

MAX_PAGE = 1000
"""The largest number of rows on a page."""


class Pages(Protocol):
    """Pages of reservations, running jobs, the life of one job, and the release of expired reservations.

    A part of `Ledger`. They raise what the verbs of `Ledger` raise.
    """

    def reservation_page(
        self,
        *,
        project: str | None = None,
        key: str | None = None,
        state: State | None = None,
        in_doubt: bool = False,
        since: datetime | None = None,
        until: datetime | None = None,
        after: str | None = None,
        limit: int,
    ) -> list[Reservation]:
        """Returns one page of the reservations that match every filter, the newest first.

        Rows that are added meanwhile appear on no later page, and no other row is left out or repeated.

        Args:
            project: only reservations of this project.
            key: only reservations with this key.
            state: only reservations in this state.
            in_doubt: only reservations in doubt.
            since: only reservations created at or after this instant.
            until: only reservations created before this instant.
            after: the id of the last reservation of the previous page; None: the first page.
            limit: the largest number of reservations on the page.

        Raises:
            ReservationNotFoundError: the ledger has no reservation with the id `after`.
        """

    def unsettled(self) -> list[Reservation]:
        """Returns the reservations that were sent and are neither settled nor released, the oldest first."""

    def bucket_hours(self, since: datetime, until: datetime) -> list[BucketHistory]:
        """Returns what `Ledger.bucket_histories` does, with one entry for all changes of an hour.

        Such an entry has the sums of the hour, the number and the instant of its last change, and the kind
        `sum`.
        """

    def entries_of(self, reservation: str) -> list[Entry]:
        """Returns the journal entries about a reservation, the oldest first. Reads the whole journal."""

    def observations_of(self, provider: str, task_id: str) -> list[Observation]:
        """Returns the observations of a task, the oldest first."""

    def expire(self) -> int:
        """Releases the reservations that have expired, and returns their number.

        Their money counts as available from their deadline on, so this only brings their state up to date.
        """
