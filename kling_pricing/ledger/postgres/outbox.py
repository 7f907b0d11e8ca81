"""The verbs of a ledger in PostgreSQL for alerts, their receivers, refusals and leases."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

from kling_pricing.ledger.alerting import (
    AlertReceiver,
    ExpectedExhaustion,
    Lease,
    Opening,
    RefusedRequests,
    StoredAlert,
)
from kling_pricing.ledger.postgres.server import Server
from kling_pricing.money import from_nanos


class PostgresOutbox:
    """The part of `PostgresLedger` for alerts; see `Outbox` for its verbs."""

    _server: Server

    def alerts(self, *, after: int = 0, limit: int | None = None) -> list[StoredAlert]:
        """See `Outbox.alerts`."""
        return [_stored(row) for row in self._server.rows("outbox", after, limit)]

    def newest_alerts(self, *, before: int | None = None, limit: int) -> list[StoredAlert]:
        """See `Outbox.newest_alerts`."""
        return [_stored(row) for row in self._server.rows("newest_alerts", before, limit)]

    def receivers(self) -> list[AlertReceiver]:
        """See `Outbox.receivers`."""
        return [
            AlertReceiver(
                row["name"],
                row["delivered"],
                row["failures"],
                _at(row["failed_at"]),
                row["problem"],
                _at(row["next_at"]),
                _at(row["stopped_at"]),
            )
            for row in self._server.rows("receivers")
        ]

    def mark_delivered(self, receiver: str, seq: int) -> None:
        """See `Outbox.mark_delivered`."""
        self._server.call("mark_delivered", receiver, seq)

    def mark_failed(self, receiver: str, problem: str, retry_after: timedelta | None) -> None:
        """See `Outbox.mark_failed`."""
        self._server.call("mark_failed", receiver, problem, retry_after)

    def resume_receiver(self, receiver: str) -> bool:
        """See `Outbox.resume_receiver`."""
        return bool(self._server.call("resume_receiver", receiver))

    def raise_alerts(self, forecasts: Sequence[ExpectedExhaustion], *, doubtful_for: timedelta) -> int:
        """See `Outbox.raise_alerts`."""
        texts = [
            forecast._asdict()
            | {
                "labels": dict(forecast.labels),
                "window_start": forecast.window_start.isoformat(),
                "facts": dict(forecast.facts),
            }
            for forecast in forecasts
        ]
        return int(self._server.call("raise_alerts", json.dumps(texts), doubtful_for))

    def count_refusals(self, counts: Sequence[RefusedRequests]) -> None:
        """See `Outbox.count_refusals`."""
        texts = [
            count._asdict() | {"labels": dict(count.labels), "day": count.day.isoformat()} for count in counts
        ]
        self._server.call("count_refusals", uuid4().hex, json.dumps(texts))

    def refusals(self, since: date | None, until: date | None) -> list[RefusedRequests]:
        """See `Outbox.refusals`."""
        return [
            RefusedRequests(
                row["budget"],
                json.loads(row["labels"]),
                row["reason"],
                date.fromisoformat(row["day"]),
                row["requests"],
            )
            for row in self._server.rows("refusals", since, until)
        ]

    def begun_at(self) -> datetime | None:
        """See `Outbox.begun_at`."""
        return _at(self._server.call("begun_at"))

    def openings(self, at: datetime) -> list[Opening]:
        """See `Outbox.openings`."""
        return [
            Opening(
                row["budget"],
                json.loads(row["labels"]),
                datetime.fromisoformat(row["window_start"]),
                from_nanos(row["spent"]),
            )
            for row in self._server.rows("openings", at)
        ]

    def take_lease(self, name: str, holder: str, lasts: timedelta) -> Lease:
        """See `Outbox.take_lease`."""
        row = self._server.call("take_lease", name, holder, lasts)
        ends_at = datetime.fromisoformat(row["ends_at"])
        return Lease(row["holder"], ends_at, is_held=row["holder"] == holder)

    def end_lease(self, name: str, holder: str) -> None:
        """See `Outbox.end_lease`."""
        self._server.call("end_lease", name, holder)


def _stored(row: Mapping[str, Any]) -> StoredAlert:
    threshold, cap, used = row["threshold"], row["cap"], row["used"]
    return StoredAlert(
        row["seq"],
        row["id"],
        datetime.fromisoformat(row["at"]),
        row["kind"],
        row["budget"],
        dict(sorted(json.loads(row["labels"]).items())),
        None if threshold is None else Decimal(threshold),
        None if cap is None else from_nanos(cap),
        None if used is None else from_nanos(int(used)),
        row["currency"],
        _at(row["window_start"]),
        _at(row["window_end"]),
        row["reservation"],
        row["facts"],
    )


def _at(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
