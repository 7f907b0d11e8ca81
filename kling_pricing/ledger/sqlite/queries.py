"""Reads buckets and the journal. Each result comes from one snapshot."""

from __future__ import annotations

import sqlite3
from datetime import date, datetime
from itertools import groupby

from kling_pricing.ledger.journal import Bucket, BucketHistory, Entry, UnpricedRequests
from kling_pricing.ledger.sqlite.balances import CAP
from kling_pricing.ledger.sqlite.codec import instant, object_of, written
from kling_pricing.money import from_nanos

_BUCKET = "budget, labels, cap, held, spent, currency, window_start, window_end"
_CAP = CAP.replace("?", "?1")
_ENTRY = "seq, at, kind, reservation, budget, labels, held_delta, spent_delta, currency, detail"


def buckets(db: sqlite3.Connection, at: datetime, now: datetime) -> list[tuple[str, Bucket]]:
    """Returns every bucket whose window contains an instant, each with its budget's definition.

    Expired reservations do not count as held, even if they have not been released yet.
    """
    rows = db.execute(
        f"SELECT definition, budget, labels, {_CAP}, held - ifnull(expired, 0), spent, currency,"  # noqa: S608
        " window_start, window_end FROM bucket LEFT JOIN (SELECT line.bucket AS id, sum(line.held) AS expired"
        " FROM reservation JOIN reservation_line AS line ON line.reservation = reservation.id"
        " WHERE state = 'reserved' AND deadline <= ?2 GROUP BY line.bucket) USING (id)"
        " WHERE window_start <= ?1 AND ?1 < window_end ORDER BY budget, labels",
        (written(at), written(now)),
    )
    return [(definition, _bucket(*row)) for definition, *row in rows]


def bucket_histories(db: sqlite3.Connection, since: datetime, until: datetime) -> list[BucketHistory]:
    """Returns every bucket whose window overlaps a period, with its journal entries."""
    period = (written(since), written(until))
    entries = db.execute(
        f"SELECT journal.bucket, {_ENTRY} FROM journal JOIN bucket ON bucket.id = journal.bucket"  # noqa: S608
        " WHERE window_end > ? AND window_start < ? AND (held_delta <> 0 OR spent_delta <> 0)"
        " ORDER BY journal.bucket, seq",
        period,
    )
    moves = {
        bucket: tuple(_entry(*row) for _, *row in group)
        for bucket, group in groupby(entries, lambda row: row[0])
    }
    rows = db.execute(
        f"SELECT id, definition, {_BUCKET} FROM bucket WHERE window_end > ? AND window_start < ?"  # noqa: S608
        " ORDER BY budget, labels, window_start, definition",
        period,
    )
    return [
        BucketHistory(_bucket(*row), definition, moves.get(bucket, ())) for bucket, definition, *row in rows
    ]


def journal(db: sqlite3.Connection) -> list[Entry]:
    """Returns every entry of the journal, the oldest first."""
    rows = db.execute(
        f"SELECT {_ENTRY} FROM journal LEFT JOIN bucket ON bucket.id = journal.bucket ORDER BY seq"  # noqa: S608
    )
    return [_entry(*row) for row in rows]


def unpriced(db: sqlite3.Connection, since: date | None, until: date | None) -> list[UnpricedRequests]:
    """Returns the numbers of requests without a price, by provider, path and day."""
    rows = db.execute(
        "SELECT provider, path, day, requests FROM unpriced_requests WHERE day >= ? AND day < ?"
        " ORDER BY provider, path, day",
        ((since or date.min).isoformat(), "a" if until is None else until.isoformat()),
    )
    return [
        UnpricedRequests(provider, path, date.fromisoformat(day), requests)
        for provider, path, day, requests in rows
    ]


def _bucket(
    budget: str, labels: str, cap: int, held: int, spent: int, currency: str, start: str, end: str
) -> Bucket:
    return Bucket(
        budget,
        object_of(labels),
        from_nanos(cap),
        from_nanos(held),
        from_nanos(spent),
        from_nanos(cap - held - spent),
        currency,
        instant(start),
        instant(end),
    )


def _entry(
    seq: int,
    at: str,
    kind: str,
    reservation: str | None,
    budget: str | None,
    labels: str | None,
    held: int,
    spent: int,
    currency: str | None,
    detail: str | None,
) -> Entry:
    return Entry(
        seq,
        instant(at),
        kind,
        reservation,
        budget,
        object_of(labels),
        from_nanos(held),
        from_nanos(spent),
        currency,
        detail,
    )
