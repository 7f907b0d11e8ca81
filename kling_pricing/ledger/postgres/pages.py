"""Pages of reservations in PostgreSQL. `sql/pages.sql` has the functions."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any

from kling_pricing.ledger.journal import BucketHistory, Entry, Observation
from kling_pricing.ledger.model import Reservation, State
from kling_pricing.ledger.postgres import codec
from kling_pricing.ledger.postgres.server import Server


class PostgresPages:
    """Implements `Pages` in PostgreSQL."""

    _server: Server
    _call: Callable[..., Any]

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
        """See `Pages.reservation_page`."""
        if after is not None:
            self._call("one_reservation", [after])  # raises if there is none
        chosen = (project, key, state, in_doubt, after, limit)
        period = () if since is None and until is None else (since, until)
        rows = self._server.rows("reservation_page", *chosen, *period)
        return [codec.reservation(row) for row in rows]

    def unsettled(self) -> list[Reservation]:
        """See `Pages.unsettled`."""
        return [codec.reservation(row) for row in self._server.rows("unsettled")]

    def bucket_hours(self, since: datetime, until: datetime) -> list[BucketHistory]:
        """See `Pages.bucket_hours`."""
        return [codec.history(row) for row in self._server.rows("bucket_hours", since, until)]

    def entries_of(self, reservation: str) -> list[Entry]:
        """See `Pages.entries_of`."""
        return [codec.entry(row) for row in self._server.rows("entries_of", reservation)]

    def observations_of(self, provider: str, task_id: str) -> list[Observation]:
        """See `Pages.observations_of`."""
        return [codec.observation(row) for row in self._server.rows("observations_of", provider, task_id)]

    def expire(self) -> int:
        """See `Pages.expire`."""
        return int(self._server.call("release_expired"))
