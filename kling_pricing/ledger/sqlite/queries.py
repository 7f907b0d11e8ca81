"""Reads buckets and the journal. Each result comes from one snapshot."""

from __future__ import annotations

import sqlite3
from datetime import date, datetime
from itertools import groupby

from kling_pricing.ledger.journal import (
    Bucket,
    BucketHistory,
    Entry,
    Observation,
    UnpricedRequests,
    WaivedRefusals,
)
from kling_pricing.ledger.kept_charges import read_charge
from kling_pricing.ledger.provider_accounts import ProviderAccount
from kling_pricing.ledger.rolled_up import rolled_up, rolling_length
from kling_pricing.ledger.sqlite.balances import CAP
from kling_pricing.ledger.sqlite.codec import decimal, instant, object_of, written
from kling_pricing.money import from_nanos

_BUCKET = "budget, labels, cap, held, spent, currency, window_start, window_end, step_us"
_CAP = CAP.replace("?", "?1")
_ENTRY = (
    "seq, at, kind, reservation, budget, labels, held_delta, spent_delta, bucket.currency, detail, billed,"
    " allowance"
)
_HOUR = (
    "max(seq) AS seq, max(at), 'sum', NULL, budget, labels, sum(held_delta), sum(spent_delta), bucket.currency,"
    " NULL, NULL, NULL"
)

_ACCOUNTS = """
    WITH named AS (SELECT DISTINCT provider, account FROM reservation WHERE account IS NOT NULL)
    SELECT provider, account FROM named
    UNION SELECT provider, provider FROM named
    WHERE EXISTS (SELECT 1 FROM reservation WHERE provider = named.provider AND account IS NULL)
"""


_OWN_BUCKETS = """
 JOIN (SELECT DISTINCT budget, definition, labels FROM reservation_line AS line
  JOIN bucket ON bucket.id = line.bucket WHERE reservation = ?3) USING (budget, definition, labels)
"""


def buckets(
    db: sqlite3.Connection, at: datetime, now: datetime, reservation: str | None = None
) -> list[tuple[str, Bucket]]:
    """Returns every bucket whose window contains an instant, each with its budget's definition.

    The steps of a rolling window become one bucket. At the ledger's instant or later, all steps count that an
    admission would count. Expired reservations do not count as held, even if they have not been released yet.
    With a reservation, returns only the buckets of the budgets and labels that count it.
    """
    own, parameters = ("", ()) if reservation is None else (_OWN_BUCKETS, (reservation,))
    rows = db.execute(
        f"SELECT definition, budget, labels, {_CAP}, held - ifnull(expired, 0), spent, currency,"  # noqa: S608
        f" window_start, window_end, step_us FROM bucket{own}"
        " LEFT JOIN (SELECT line.bucket AS id, sum(line.held) AS expired"
        " FROM reservation JOIN reservation_line AS line ON line.reservation = reservation.id"
        " WHERE state = 'reserved' AND deadline <= ?2 GROUP BY line.bucket) USING (id)"
        " WHERE (window_start <= ?1 OR step_us IS NOT NULL AND ?1 >= ?2) AND ?1 < window_end"
        " ORDER BY budget, labels, definition, window_start",
        (written(at), written(now), *parameters),
    )
    return rolled_up(((definition, _bucket(*row)) for definition, *row in rows), at)


def accounts(db: sqlite3.Connection) -> list[ProviderAccount]:
    """See `Ledger.accounts`."""
    return sorted(
        {*map(ProviderAccount._make, db.execute(_ACCOUNTS))}
        | {ProviderAccount.of_books(name) for (name,) in db.execute("SELECT books FROM book_seal")}
    )


def bucket_histories(
    db: sqlite3.Connection, since: datetime, until: datetime, *, by_hour: bool = False
) -> list[BucketHistory]:
    """Returns every bucket whose window overlaps a period, with its journal entries or their sums by hour."""
    period = (written(since), written(until))
    columns, order = (_HOUR, " GROUP BY journal.bucket, substr(at, 1, 13)") if by_hour else (_ENTRY, "")
    entries = db.execute(
        f"SELECT journal.bucket, {columns} FROM journal JOIN bucket ON bucket.id = journal.bucket"  # noqa: S608
        " WHERE window_end > ? AND window_start < ? AND (held_delta <> 0 OR spent_delta <> 0)"
        f"{order} ORDER BY journal.bucket, seq",
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


_JOURNAL = (
    f"SELECT {_ENTRY.replace('bucket.currency', 'ifnull(bucket.currency, allowance.currency)')}"  # noqa: S608
    " FROM journal LEFT JOIN bucket ON bucket.id = journal.bucket"
    " LEFT JOIN allowance ON allowance.id = journal.allowance"
)


def journal(db: sqlite3.Connection, since: datetime | None, until: datetime | None) -> list[Entry]:
    """See `Ledger.journal`."""
    rows = db.execute(
        f"{_JOURNAL} WHERE (?1 IS NULL OR at >= ?1) AND (?2 IS NULL OR at < ?2) ORDER BY seq",
        (since and written(since), until and written(until)),
    )
    return [_entry(*row) for row in rows]


def entries_of(db: sqlite3.Connection, reservation: str) -> list[Entry]:
    """See `Pages.entries_of`."""
    return [
        _entry(*row) for row in db.execute(f"{_JOURNAL} WHERE reservation = ? ORDER BY seq", (reservation,))
    ]


def observations(db: sqlite3.Connection, condition: str, *parameters: str) -> list[Observation]:
    """Returns the observations that meet a condition, the oldest first."""
    rows = db.execute(
        "SELECT provider, task_id, state, charge, duration_s, model, facts, seen_at"  # noqa: S608
        f" FROM observation WHERE {condition} ORDER BY id",
        parameters,
    )
    return [
        Observation(
            provider,
            task_id,
            state,
            read_charge(charge),
            decimal(duration_s),
            model,
            object_of(facts),
            instant(seen_at),
        )
        for provider, task_id, state, charge, duration_s, model, facts, seen_at in rows
    ]


def projects(db: sqlite3.Connection) -> list[str]:
    """See `Ledger.projects`."""
    return [project for (project,) in db.execute(_PROJECTS)]


# Reads one entry of the index for each project, where DISTINCT would read the whole index.
_PROJECTS = """
    WITH RECURSIVE known (project) AS (
      SELECT min(project) FROM reservation
      UNION ALL
      SELECT (SELECT min(project) FROM reservation WHERE project > known.project) FROM known
      WHERE known.project IS NOT NULL
    )
    SELECT project FROM known WHERE project IS NOT NULL
"""


def waived(db: sqlite3.Connection, since: datetime, until: datetime) -> list[WaivedRefusals]:
    """Returns the refusals that budgets in observe mode waived in a period, by bucket."""
    rows = db.execute(
        "SELECT budget, bucket.labels, project, count(*), sum(line.held), bucket.currency, window_start,"
        " window_end FROM journal JOIN bucket ON bucket.id = journal.bucket"
        " JOIN reservation ON reservation.id = journal.reservation"
        " JOIN reservation_line AS line"
        " ON line.reservation = journal.reservation AND line.bucket = journal.bucket"
        " WHERE kind = 'waive' AND at >= ? AND at < ?"
        " GROUP BY journal.bucket, project ORDER BY budget, bucket.labels, window_start, project",
        (written(since), written(until)),
    )
    return [
        WaivedRefusals(
            *(budget, object_of(labels), project, requests, from_nanos(amount), currency),
            *(instant(start), instant(end)),
        )
        for budget, labels, project, requests, amount, currency, start, end in rows
    ]


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
    budget: str,
    labels: str,
    cap: int,
    held: int,
    spent: int,
    currency: str,
    start: str,
    end: str,
    step_us: int | None,
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
        rolling_length(step_us),
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
    billed: int | None,
    allowance: str | None,
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
        allowance,
        None if billed is None else from_nanos(billed),
    )
