"""The parts of the consistency checks that differ between the two stores. Pure."""

from __future__ import annotations

from typing import NamedTuple

from kling_pricing.ledger.terms import SEALED_OBSERVATION_COLUMNS


class Check(NamedTuple):
    """One column, and the value that other records require it to have.

    Attributes:
        column: the name of the column in messages.
        kept: the stored value, as SQL.
        derived: the required value, as SQL.
        source: the source of the required value, as the subject and verb of a sentence.
        when: the rows to which the check applies, as SQL.
        since: the rows to which the check applies although only their newer journal entries were read, as SQL.
        is_amount: whether the value is an amount in nanos.
    """

    column: str
    kept: str
    derived: str
    source: str = "the journal gives"
    when: str = "TRUE"
    since: str = "FALSE"
    is_amount: bool = False


class Missing(NamedTuple):
    """A row that may be missing.

    Attributes:
        what: the name of the missing row, as SQL.
        when: whether it is missing, as SQL.
        in_all: whether this shows only in all journal entries.
    """

    what: str
    when: str
    in_all: bool = False


class Scope(NamedTuple):
    """Rows that are checked together.

    Attributes:
        name: the step's name, which the progress shows.
        subject: the subject of a message, as SQL.
        tables: the rows, as SQL; `events` summarizes the journal entries of each.
        present: whether all rows that belong together exist, as SQL.
        begun: whether all entries of the row were read, if only newer entries are read, as SQL.
        missing: the rows that may be missing.
        checks: the checks.
        weight: the part of the time that the step takes.
    """

    name: str
    subject: str
    tables: str
    present: str
    begun: str
    missing: tuple[Missing, ...]
    checks: tuple[Check, ...]
    weight: int


class Query(NamedTuple):
    """A query that returns the problems of a ledger, with the columns `steps.COLUMNS`.

    Attributes:
        name: the name, which the progress shows.
        text: the query, with the fields of `Dialect` in braces. `{begun}` is a condition on the id of a
            reservation: that its first entry is one of those to read.
        since_last: whether it also runs if only newer entries are read.
        weight: the part of the time of a verification that it takes.
    """

    name: str
    text: str
    since_last: bool = True
    weight: int = 0


class Dialect(NamedTuple):
    """SQL expressions that differ between the stores, and checks for columns that only one store has.

    Attributes:
        is_not: the operator that compares two values, either of which may be null.
        project_label: the label `project` of a reservation.
        labels_differ: whether a reservation lacks any of a bucket's labels.
        deadline: a reservation's deadline as the journal writes it.
        freeze_at: the instant of a freeze, as text.
        journal_at: the instant of a journal entry, as text.
        freeze_scope: the scope of the freeze in a journal entry about a freeze.
        rate_text: the rate of a use of an allowance, as the journal writes it.
        overlay_set_at: the instant at which a cap was set, as text.
        overlay_until: the instant at which such a cap ends, as an action writes it.
        key_created_at: the instant at which an access key was issued, as the journal writes instants.
        key_expires_at: the instant at which it expires, likewise.
        key_revoked_at: the instant at which it was revoked, likewise.
        labels_text: the labels of an access key as JSON text.
        label_names: the names of a bucket's labels, in order.
        created_us: the instant at which a reservation was created, in microseconds since 1970.
        opens_us: the start of a bucket's window, likewise.
        closes_us: the end of a bucket's window, likewise.
        reached: the thresholds of a rolling window that have fired, as rows of `threshold (value)`.
        integer: the type of an amount.
        rate: the type of an accounting rate.
        since: the newest journal entry that is not read, as a parameter.
        observed: the newest observation that is not read, as a parameter.
        balances: the balances of the buckets at the last verification: bucket, held, spent, and three nulls.
        extra_reservation_checks: checks for the store's additional reservation columns.
        extra_bucket_checks: checks for the store's additional bucket columns.
        extra_queries: further queries for problems.
    """

    is_not: str
    project_label: str
    labels_differ: str
    deadline: str
    freeze_at: str
    journal_at: str
    freeze_scope: str
    rate_text: str
    overlay_set_at: str
    overlay_until: str
    key_created_at: str
    key_expires_at: str
    key_revoked_at: str
    labels_text: str
    label_names: str
    created_us: str
    opens_us: str
    closes_us: str
    reached: str
    integer: str
    rate: str
    since: str
    observed: str
    balances: str
    extra_reservation_checks: tuple[Check, ...] = ()
    extra_bucket_checks: tuple[Check, ...] = ()
    extra_queries: tuple[Query, ...] = ()


_OBSERVATION_SEALED = f"observation_sealed({', '.join(SEALED_OBSERVATION_COLUMNS)})"


def _sqlite_us(column: str) -> str:
    # strftime rounds a fraction to milliseconds, which may give the next second
    seconds, fraction = f"strftime('%s', substr({column}, 1, 19))", f"substr({column}, 21, 6)"
    return f"(CAST({seconds} AS INTEGER) * 1000000 + CAST({fraction} AS INTEGER))"


def _postgres_us(column: str) -> str:
    return f"CAST(extract(epoch FROM {column}) * 1000000 AS bigint)"


SQLITE = Dialect(
    is_not="IS NOT",
    project_label="json_extract(reservation.labels, '$.project')",
    labels_differ="EXISTS (SELECT 1 FROM json_each(bucket.labels) AS required WHERE NOT EXISTS (SELECT 1"
    " FROM json_each(reservation.labels) AS label"
    " WHERE label.key = required.key AND label.value = required.value))",
    deadline="deadline",
    freeze_at="frozen_at",
    journal_at="at",
    freeze_scope="CASE WHEN kind IN ('freeze', 'thaw') THEN 'all'"
    " ELSE 'budget:' || substr(detail, 1, instr(detail, ':') - 1) END",
    rate_text="rate",
    overlay_set_at="set_at",
    key_created_at="created_at",
    key_expires_at="expires_at",
    key_revoked_at="revoked_at",
    labels_text="labels",
    overlay_until="replace(ends_at, '.000000+', '+')",
    label_names="(SELECT group_concat(key, ', ') FROM json_each(bucket.labels))",
    created_us=_sqlite_us("created_at"),
    opens_us=_sqlite_us("window_start"),
    closes_us=_sqlite_us("window_end"),
    reached="json_each(reached) AS threshold",
    integer="INTEGER",
    rate="TEXT",
    since=":since",
    observed=":observed",
    balances="SELECT CAST(key AS INTEGER), json_extract(value, '$[0]'), json_extract(value, '$[1]'),"
    " NULL, NULL, NULL FROM verified JOIN json_each(verified.balances)",
)
POSTGRES = Dialect(
    is_not="IS DISTINCT FROM",
    project_label="reservation.labels->>'project'",
    labels_differ="NOT reservation.labels @> CAST(bucket.labels AS jsonb)",
    deadline="instant_text(deadline)",
    freeze_at="instant_text(frozen_at)",
    journal_at="instant_text(at)",
    freeze_scope="CASE WHEN kind IN ('freeze', 'thaw') THEN 'all'"
    " ELSE 'budget:' || split_part(detail, ':', 1) END",
    rate_text="trim_scale(rate)",
    overlay_set_at="instant_text(set_at)",
    key_created_at="instant_text(created_at)",
    key_expires_at="instant_text(expires_at)",
    key_revoked_at="instant_text(revoked_at)",
    labels_text="CAST(labels AS text)",
    overlay_until="replace(instant_text(ends_at), '.000000+', '+')",
    label_names="(SELECT string_agg(name, ', ' ORDER BY name COLLATE \"C\")"
    " FROM jsonb_object_keys(CAST(bucket.labels AS jsonb)) AS name)",
    created_us=_postgres_us("created_at"),
    opens_us=_postgres_us("window_start"),
    closes_us=_postgres_us("window_end"),
    reached="unnest(reached) AS threshold (value)",
    integer="bigint",
    rate="numeric",
    since="p_since",
    observed="p_observed",
    balances="SELECT CAST(key AS bigint), CAST(value->>0 AS bigint), CAST(value->>1 AS bigint),"
    " NULL, NULL, NULL FROM verified CROSS JOIN LATERAL jsonb_each(balances)",
    extra_reservation_checks=(
        Check(
            "dispatch_token",
            "CASE WHEN dispatch_token IS NULL THEN 'missing' ELSE 'known' END",
            "CASE WHEN events.sent_at IS NULL THEN 'missing' ELSE 'known' END",
            since="events.sent_at IS NOT NULL",
        ),
        Check(
            "seal",
            "reservation.seal",
            "sealed(reservation.*)",
            source="the columns that never change give",
            since="TRUE",
        ),
    ),
    extra_bucket_checks=(
        Check(
            "opening_token",
            "CASE WHEN opening_token IS NULL THEN 'missing' ELSE 'known' END",
            "CASE WHEN events.opened IS NULL THEN 'missing' ELSE 'known' END",
            since="events.opened IS NOT NULL",
        ),
    ),
    extra_queries=(
        Query(
            "seals of observations",
            f"""
            SELECT 'observation ' || id || ' of task ' || task_id, 'seal', coalesce(seal, ''),
              {_OBSERVATION_SEALED}, 'the columns that never change give', 0
            FROM observation WHERE id > {{observed}} AND seal IS DISTINCT FROM {_OBSERVATION_SEALED}
            """,  # noqa: S608 (constants only)
            weight=2,
        ),
        Query("seals of the books", "SELECT * FROM book_differences()", since_last=False, weight=5),
        Query(
            "calendar",
            """
            SELECT 'the calendar', 'digest', coalesce(recorded, ''), computed, 'its rows give', 0 FROM (
              SELECT calendar_digest() AS computed, (SELECT digest FROM calendar_digest) AS recorded
            ) AS digests
            WHERE computed IS DISTINCT FROM recorded
              AND (recorded IS NOT NULL OR EXISTS (SELECT 1 FROM calendar))
            """,
            weight=1,
        ),
    ),
)
