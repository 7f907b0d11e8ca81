"""The verbs of a ledger in SQLite for alerts, their receivers, refusals and leases."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from datetime import date, datetime, timedelta
from typing import Any

from kling_pricing.ledger.alerting import (
    AlertReceiver,
    ExpectedExhaustion,
    Lease,
    Opening,
    RefusedRequests,
    StoredAlert,
)
from kling_pricing.ledger.sqlite.codec import decimal, instant, labels_text, object_of, object_text, written
from kling_pricing.ledger.sqlite.file import SQLiteFile
from kling_pricing.money import from_nanos

_ALERT = (
    "seq, id, at, kind, budget, labels, threshold, cap, used, currency, window_start, window_end, reservation,"
    " facts"
)
_RAISE = (
    "INSERT OR IGNORE INTO alert (id, at, kind, cause, budget, labels, cap, used, currency, window_start,"
    " window_end, reservation, facts)"
)
_FORECAST = f"""
{_RAISE} SELECT lower(hex(randomblob(16))), ?, 'forecast', 'forecast of ' || id || ' with cap ' || cap, budget,
  labels, cap, held + spent, currency, window_start, window_end, NULL, ?
FROM bucket WHERE budget = ? AND definition = ? AND labels = ? AND window_start = ?
"""  # noqa: S608 (constants only)
_REFUSALS = f"""
{_RAISE} SELECT lower(hex(randomblob(16))), ?, 'refusals',
  'refusals ' || json_array(refused.budget, refused.labels, reason, day), nullif(refused.budget, ''),
  refused.labels, NULL, NULL, NULL, NULL, NULL, NULL,
  json_object('reason', reason, 'day', day, 'requests', CAST(requests AS TEXT))
FROM refused_requests AS refused ORDER BY day, refused.budget, refused.labels, reason
"""  # noqa: S608 (constants only)
_IN_DOUBT = f"""
{_RAISE} SELECT lower(hex(randomblob(16))), ?1, 'in_doubt', 'job in doubt ' || id, NULL, labels, NULL, NULL,
  NULL, NULL, NULL, id,
  json_object('detail', ifnull(reason, 'no response about the job is known'), 'dispatched_at', dispatched_at)
FROM reservation
WHERE (state = 'dispatching' AND (doubted OR deadline <= ?1) OR state IN ('bound', 'settled') AND doubted = 1)
  AND dispatched_at <= ?2 ORDER BY dispatched_at, id
"""  # noqa: S608 (constants only)


class SQLiteOutbox:
    """The part of `SQLiteLedger` for alerts; see `Outbox` for its verbs."""

    _file: SQLiteFile

    def alerts(self, *, after: int = 0, limit: int | None = None) -> list[StoredAlert]:
        """See `Outbox.alerts`."""
        with self._file.reading() as db:
            rows = db.execute(
                f"SELECT {_ALERT} FROM alert WHERE seq > ? ORDER BY seq LIMIT ?",  # noqa: S608 (constants only)
                (after, -1 if limit is None else limit),
            ).fetchall()
        return [_stored(row) for row in rows]

    def newest_alerts(self, *, before: int | None = None, limit: int) -> list[StoredAlert]:
        """See `Outbox.newest_alerts`."""
        with self._file.reading() as db:
            rows = db.execute(
                f"SELECT {_ALERT} FROM alert WHERE ?1 IS NULL OR seq < ?1 ORDER BY seq DESC LIMIT ?2",  # noqa: S608 (constants only)
                (before, limit),
            ).fetchall()
        return [_stored(row) for row in rows]

    def receivers(self) -> list[AlertReceiver]:
        """See `Outbox.receivers`."""
        with self._file.reading() as db:
            rows = db.execute(
                "SELECT name, delivered, failures, failed_at, problem, next_at, stopped_at"
                " FROM alert_receiver ORDER BY name"
            ).fetchall()
        return [
            AlertReceiver(name, delivered, failures, _at(failed_at), problem, _at(next_at), _at(stopped_at))
            for name, delivered, failures, failed_at, problem, next_at, stopped_at in rows
        ]

    def mark_delivered(self, receiver: str, seq: int) -> None:
        """See `Outbox.mark_delivered`."""
        self._file.transaction(_mark_delivered, receiver, seq)

    def mark_failed(self, receiver: str, problem: str, retry_after: timedelta | None) -> None:
        """See `Outbox.mark_failed`."""
        self._file.transaction(_mark_failed, receiver, problem, retry_after)

    def resume_receiver(self, receiver: str) -> bool:
        """See `Outbox.resume_receiver`."""
        return self._file.transaction(_resume_receiver, receiver)

    def raise_alerts(self, forecasts: Sequence[ExpectedExhaustion], *, doubtful_for: timedelta) -> int:
        """See `Outbox.raise_alerts`."""
        return self._file.transaction(_raise_alerts, forecasts, doubtful_for)

    def count_refusals(self, counts: Sequence[RefusedRequests]) -> None:
        """See `Outbox.count_refusals`."""
        self._file.transaction(_count_refusals, counts)

    def refusals(self, since: date | None, until: date | None) -> list[RefusedRequests]:
        """See `Outbox.refusals`."""
        with self._file.reading() as db:
            rows = db.execute(
                "SELECT budget, labels, reason, day, requests FROM refused_requests WHERE day >= ? AND day < ?"
                " ORDER BY budget, labels, reason, day",
                ((since or date.min).isoformat(), "a" if until is None else until.isoformat()),
            ).fetchall()
        return [
            RefusedRequests(budget, object_of(labels), reason, date.fromisoformat(day), requests)
            for budget, labels, reason, day, requests in rows
        ]

    def begun_at(self) -> datetime | None:
        """See `Outbox.begun_at`."""
        with self._file.reading() as db:
            row = db.execute("SELECT installed_at FROM budget_revision ORDER BY revision LIMIT 1").fetchone()
        return None if row is None else instant(row[0])

    def openings(self, at: datetime) -> list[Opening]:
        """See `Outbox.openings`."""
        with self._file.reading() as db:
            rows = db.execute(
                "SELECT budget, labels, window_start, spent_delta FROM journal"
                " JOIN bucket ON bucket.id = journal.bucket"
                " WHERE kind = 'opening' AND window_start <= ?1 AND ?1 < window_end ORDER BY seq",
                (written(at),),
            ).fetchall()
        return [
            Opening(budget, object_of(labels), instant(start), from_nanos(spent))
            for budget, labels, start, spent in rows
        ]

    def take_lease(self, name: str, holder: str, lasts: timedelta) -> Lease:
        """See `Outbox.take_lease`."""
        return self._file.transaction(_take_lease, name, holder, lasts)

    def end_lease(self, name: str, holder: str) -> None:
        """See `Outbox.end_lease`."""
        self._file.transaction(_end_lease, name, holder)


def _mark_delivered(db: sqlite3.Connection, _now: datetime, receiver: str, seq: int) -> None:
    db.execute(
        "UPDATE alert_receiver SET delivered = max(delivered, ?), failures = 0, failed_at = NULL,"
        " problem = NULL, next_at = NULL WHERE name = ?",
        (seq, receiver),
    )


def _mark_failed(
    db: sqlite3.Connection, now: datetime, receiver: str, problem: str, retry_after: timedelta | None
) -> None:
    next_at = None if retry_after is None else written(now + retry_after)
    stopped_at = written(now) if retry_after is None else None
    db.execute(
        "UPDATE alert_receiver SET failures = failures + 1, failed_at = ?, problem = ?, next_at = ?,"
        " stopped_at = ? WHERE name = ?",
        (written(now), problem, next_at, stopped_at, receiver),
    )


def _resume_receiver(db: sqlite3.Connection, _now: datetime, receiver: str) -> bool:
    resumed = db.execute(
        "UPDATE alert_receiver SET failures = 0, next_at = NULL, stopped_at = NULL WHERE name = ?", (receiver,)
    )
    return resumed.rowcount == 1


def _raise_alerts(
    db: sqlite3.Connection, now: datetime, forecasts: Sequence[ExpectedExhaustion], doubtful_for: timedelta
) -> int:
    at = written(now)
    raised = db.execute(_REFUSALS, (at,)).rowcount
    raised += db.execute(_IN_DOUBT, (at, written(now - doubtful_for))).rowcount
    for budget, definition, labels, window_start, facts in forecasts:
        bucket = (budget, definition, labels_text(labels), written(window_start))
        raised += db.execute(_FORECAST, (at, object_text(facts), *bucket)).rowcount
    return raised


def _count_refusals(db: sqlite3.Connection, _now: datetime, counts: Sequence[RefusedRequests]) -> None:
    db.executemany(
        "INSERT INTO refused_requests (budget, labels, reason, day, requests) VALUES (?, ?, ?, ?, ?)"
        " ON CONFLICT (budget, labels, reason, day) DO UPDATE SET requests = requests + excluded.requests",
        [
            (count.budget, labels_text(count.labels), count.reason, count.day.isoformat(), count.requests)
            for count in counts
        ],
    )


def _take_lease(db: sqlite3.Connection, now: datetime, name: str, holder: str, lasts: timedelta) -> Lease:
    db.execute(
        "INSERT INTO lease (name, holder, ends_at) VALUES (?1, ?2, ?3)"
        " ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, ends_at = excluded.ends_at"
        " WHERE holder = excluded.holder OR ends_at <= ?4",
        (name, holder, written(now + lasts), written(now)),
    )
    kept, ends_at = db.execute("SELECT holder, ends_at FROM lease WHERE name = ?", (name,)).fetchone()
    return Lease(kept, instant(ends_at), is_held=kept == holder)


def _end_lease(db: sqlite3.Connection, _now: datetime, name: str, holder: str) -> None:
    db.execute("DELETE FROM lease WHERE name = ? AND holder = ?", (name, holder))


def _stored(row: Sequence[Any]) -> StoredAlert:
    seq, id_, at, kind, budget, labels, threshold, cap, used, currency, start, end, reservation, facts = row
    return StoredAlert(
        seq,
        id_,
        instant(at),
        kind,
        budget,
        object_of(labels),
        decimal(threshold),
        None if cap is None else from_nanos(cap),
        None if used is None else from_nanos(used),
        currency,
        _at(start),
        _at(end),
        reservation,
        json.loads(facts),
    )


def _at(text: str | None) -> datetime | None:
    return None if text is None else instant(text)
