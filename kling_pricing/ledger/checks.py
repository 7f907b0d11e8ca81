"""The consistency checks behind `verify`: one list for both stores, in SQL that both understand. Pure.

Each check derives the value of a column from other rows, mostly from the journal, and finds the rows whose
stored value differs. `steps` turns this list into queries. `verification` handles the checks that SQL cannot
express: documents, seals of administrative actions, and amounts at an accounting rate.

To check another table, add a `Check` to the scope of its rows, or a `Query` to `QUERIES`.
"""

from __future__ import annotations

from kling_pricing.ledger import intervention_checks, rolling_checks
from kling_pricing.ledger.dialects import Check, Missing, Query, Scope

_OPEN = "state IN ('reserved', 'dispatching', 'bound')"
_KINDS = (
    *("revision", "opening", "reserve", "dispatch", "bind", "doubt", "settle", "release", "expire", "record"),
    *("carry_over", "alert", "calendar", "set", *intervention_checks.KINDS),
)

RESERVATION_CHECKS = (
    Check(
        "state",
        "state",
        "CASE WHEN events.settled IS NOT NULL THEN 'settled' WHEN events.released IS NOT NULL THEN 'released'"
        " WHEN events.bound IS NOT NULL THEN 'bound' WHEN events.sent_at IS NOT NULL THEN 'dispatching'"
        " ELSE 'reserved' END",
        since="closed.at IS NOT NULL",
    ),
    Check(
        "doubted",
        "CASE WHEN reservation.doubted THEN 'yes' ELSE 'no' END",
        "CASE WHEN events.doubted IS NOT NULL AND state = 'dispatching'"
        " OR events.doubted > events.bound AND state = 'bound'"
        " OR events.doubted > events.settled AND state = 'settled' THEN 'yes' ELSE 'no' END",
        when="events.doubted IS NULL OR state <> 'released'",
    ),
    Check(
        "task_id",
        "CASE WHEN task_id IS NULL THEN 'missing' ELSE 'known' END",
        "CASE WHEN events.bound IS NULL AND events.recorded IS NULL THEN 'missing' ELSE 'known' END",
        since="events.bound IS NOT NULL",
    ),
    Check("created_at", "created_at", "events.reserved_at", when="events.reserved_at IS NOT NULL"),
    Check(
        "dispatched_at",
        "dispatched_at",
        "CASE WHEN events.recorded IS NULL THEN events.sent_at ELSE created_at END",
        since="events.sent_at IS NOT NULL",
    ),
    Check("closed_at", "closed_at", "closed.at", since="closed.at IS NOT NULL"),
    Check(
        "basis",
        "basis",
        "CASE closed.kind WHEN 'settle' THEN closed.detail WHEN 'record' THEN 'operator' END",
        since="closed.at IS NOT NULL",
    ),
    Check(
        "billed",
        "reservation.billed",
        "closed.billed",
        when="closed.billed IS NOT NULL",
        since="closed.at IS NOT NULL",
        is_amount=True,
    ),
    Check(
        "reason",
        "reason",
        "CASE WHEN state = 'released' THEN closed.detail END",
        when="state IN ('released', 'reserved') OR state = 'settled' AND NOT reservation.doubted",
        since="closed.at IS NOT NULL",
    ),
    Check("project", "project", "{project_label}", source="the labels give", since="TRUE"),
    Check(
        "reserved",
        "reserved",
        "expected",
        source="the quote is",
        when="reserved < expected",
        since="TRUE",
        is_amount=True,
    ),
    Check(
        "task_id",
        "task_id",
        "events.task",
        when="events.task IS NOT NULL AND task_id IS NOT NULL",
        since="TRUE",
    ),
    Check(
        "deadline",
        "{deadline}",
        "coalesce(events.doubtful_from, events.expires_at)",
        when="coalesce(events.doubtful_from, events.expires_at) IS NOT NULL",
        since="TRUE",
    ),
)
"""Each compares a reservation with its journal entries."""


LINE_CHECKS = (
    Check("held", f"CASE WHEN {_OPEN} THEN line_held ELSE 0 END", "events.held", is_amount=True),
    Check(
        "held",
        "line_held",
        "events.set_aside",
        when=f"events.set_aside IS NOT NULL AND NOT {_OPEN}",
        is_amount=True,
    ),
    Check(
        "held",
        "line_held",
        "reserved",
        source="its reservation gives",
        when="events.set_aside IS NULL AND events.recorded IS NULL AND rate IS NULL",
        is_amount=True,
    ),
    Check(
        "reserved",
        "reserved",
        "line_held",
        source="its line gives",
        when="events.set_aside IS NOT NULL AND rate IS NULL AND line_held = events.set_aside",
        is_amount=True,
    ),
    Check("spent", "line_spent", "events.spent", is_amount=True),
    Check("billed", "coalesce(billed, 0)", "line_spent", when="rate IS NULL", is_amount=True),
    Check(
        "rate",
        "CASE WHEN rate IS NULL THEN 'missing' ELSE 'given' END",
        "CASE WHEN reservation.currency = bucket.currency THEN 'missing' ELSE 'given' END",
        source="the currencies give",
    ),
    Check(
        "created_at",
        "created_at",
        "window_start",
        source="the window of its bucket starts at",
        when="created_at < window_start OR created_at >= window_end",
    ),
    *rolling_checks.LINE_CHECKS,
)
"""Each compares the line of a reservation in a bucket with its journal entries, and with both."""

BUCKET_CHECKS = (
    Check("held", "bucket.held", "coalesce(events.held, 0)", since="TRUE", is_amount=True),
    Check("spent", "bucket.spent", "coalesce(events.spent, 0)", since="TRUE", is_amount=True),
    Check(
        "window_end",
        "window_end",
        "window_start",
        source="its start is",
        when="window_end <= window_start",
        since="TRUE",
    ),
    *rolling_checks.BUCKET_CHECKS,
)
"""Each compares a bucket with its journal entries."""

_RESERVATION_EVENTS = """
(
  SELECT reservation,
    min(CASE WHEN kind IN ('reserve', 'record') THEN seq END) AS begun,
    max(CASE WHEN kind = 'record' THEN seq END) AS recorded,
    min(CASE WHEN kind = 'reserve' THEN at END) AS reserved_at,
    max(CASE WHEN kind = 'dispatch' THEN at END) AS sent_at,
    max(CASE WHEN kind = 'reserve' THEN detail END) AS expires_at,
    max(CASE WHEN kind = 'dispatch' THEN detail END) AS doubtful_from,
    max(CASE WHEN kind IN ('bind', 'record') THEN detail END) AS task,
    max(CASE WHEN kind = 'bind' THEN seq END) AS bound,
    max(CASE WHEN kind = 'doubt' THEN seq END) AS doubted,
    max(CASE WHEN kind IN ('settle', 'record') THEN seq END) AS settled,
    max(CASE WHEN kind IN ('release', 'expire') THEN seq END) AS released
  FROM journal WHERE reservation {part} AND seq > {since} GROUP BY reservation
) AS events
LEFT JOIN reservation ON reservation.id = events.reservation
LEFT JOIN journal AS closed ON closed.seq = coalesce(events.settled, events.released)
"""
_LINE_EVENTS = """
(
  SELECT reservation, bucket, sum(held) AS held, sum(spent) AS spent, sum(set_aside) AS set_aside,
    max(recorded) AS recorded, max(line_held) AS line_held, max(line_spent) AS line_spent, max(rate) AS rate
  FROM (
    SELECT reservation, bucket, held_delta AS held, spent_delta AS spent,
      CASE WHEN kind = 'reserve' THEN held_delta END AS set_aside,
      CASE WHEN kind = 'record' THEN 1 END AS recorded,
      CAST(NULL AS {integer}) AS line_held, CAST(NULL AS {integer}) AS line_spent, CAST(NULL AS {rate}) AS rate
    FROM journal WHERE reservation {part} AND reservation {begun} AND bucket IS NOT NULL AND seq > {since}
    UNION ALL
    SELECT reservation, bucket, NULL, NULL, NULL, NULL, held, spent, rate
    FROM reservation_line WHERE reservation {part} AND reservation {begun}
  ) AS moves GROUP BY reservation, bucket
) AS events
LEFT JOIN reservation ON reservation.id = events.reservation
LEFT JOIN bucket ON bucket.id = events.bucket
"""
_BUCKET_EVENTS = """
(
  SELECT bucket, sum(held) AS held, sum(spent) AS spent, max(opened) AS opened, max(line) AS line,
    max(entry) AS entry
  FROM (
    SELECT bucket, held_delta AS held, spent_delta AS spent, CASE WHEN kind = 'opening' THEN seq END AS opened,
      1 AS entry, CAST(NULL AS {integer}) AS line
    FROM journal WHERE bucket IS NOT NULL AND seq > {since}
    UNION ALL SELECT id, 0, 0, CAST(NULL AS {integer}), CAST(NULL AS {integer}), CAST(NULL AS {integer})
    FROM bucket
    UNION ALL SELECT bucket, 0, 0, NULL, NULL, 1 FROM reservation_line WHERE reservation {begun}
    {balances}
  ) AS moves GROUP BY bucket
) AS events
LEFT JOIN bucket ON bucket.id = events.bucket
"""

SCOPES = (
    Scope(
        "reservations",
        "'reservation ' || events.reservation",
        _RESERVATION_EVENTS,
        "reservation.id IS NOT NULL",
        "events.begun IS NOT NULL",
        (
            Missing("'the reservation that a journal entry refers to'", "reservation.id IS NULL"),
            Missing("'the journal entry that created it'", "events.begun IS NULL", in_all=True),
        ),
        RESERVATION_CHECKS,
        30,
    ),
    Scope(
        "lines",
        "'reservation ' || events.reservation",
        _LINE_EVENTS,
        "reservation.id IS NOT NULL AND line_held IS NOT NULL AND events.held IS NOT NULL"
        " AND bucket.id IS NOT NULL",
        "TRUE",
        (
            Missing("'its line in bucket ' || events.bucket", "line_held IS NULL"),
            Missing("'the journal entry for its line in bucket ' || events.bucket", "events.held IS NULL"),
            Missing(
                "'the reservation that a line refers to'", "reservation.id IS NULL AND line_held IS NOT NULL"
            ),
        ),
        LINE_CHECKS,
        18,
    ),
    Scope(
        "buckets",
        "'bucket ' || coalesce(bucket.budget || ' ' || labels || ' from ' || window_start,"
        " CAST(events.bucket AS TEXT))",
        _BUCKET_EVENTS,
        "bucket.id IS NOT NULL",
        "FALSE",
        (
            Missing("'the bucket that a journal entry refers to'", "bucket.id IS NULL AND entry IS NOT NULL"),
            Missing("'the bucket that a line refers to'", "bucket.id IS NULL AND line IS NOT NULL"),
        ),
        BUCKET_CHECKS,
        5,
    ),
)

QUERIES = (
    Query(
        "books",
        """
        SELECT 'fact ' || fact.seq || ' of the books of ' || fact.books, 'the fact that it concerns',
          {nothing}
        FROM book_fact AS fact LEFT JOIN book_fact AS subject
          ON subject.seq = fact.subject AND subject.books = fact.books AND subject.task = fact.task
          AND subject.kind = CASE fact.kind WHEN 'dispute' THEN 'row' ELSE 'dispute' END
        WHERE fact.kind IN ('dispute', 'resolution') AND subject.seq IS NULL
        UNION ALL
        SELECT 'fact ' || fact.seq || ' of the books of ' || fact.books, 'its statement', {nothing}
        FROM book_fact AS fact LEFT JOIN book_statement
          ON book_statement.number = fact.statement AND book_statement.books = fact.books
        WHERE fact.kind = 'row' AND book_statement.number IS NULL
        """,
        since_last=False,
        weight=2,
    ),
    Query(
        "unbegun",
        """
        SELECT 'reservation ' || id, 'the journal entry that created it', {nothing} FROM (
          SELECT id FROM reservation
          EXCEPT SELECT reservation FROM journal WHERE kind IN ('reserve', 'record') ORDER BY 1
        ) AS unbegun
        """,
        since_last=False,
        weight=5,
    ),
    Query(
        "revisions",
        """
        SELECT 'budget revision ' || revision, 'its journal entry', {nothing} FROM budget_revision
        WHERE NOT EXISTS (
          SELECT 1 FROM journal WHERE kind = 'revision' AND detail = digest AND at = installed_at
        )
        UNION ALL
        SELECT 'budget revision ' || revision, 'the administrative action that installed it', {nothing}
        FROM budget_revision
        WHERE NOT EXISTS (SELECT 1 FROM administration WHERE action IN ('apply', 'set') AND at = installed_at)
          AND NOT EXISTS (SELECT 1 FROM administration WHERE action = 'migrate' AND at >= installed_at)
        UNION ALL
        SELECT 'administrative action ' || seq, 'its budget revision', {nothing} FROM administration
        WHERE action = 'apply' AND NOT EXISTS (SELECT 1 FROM budget_revision WHERE installed_at = at)
        UNION ALL
        SELECT 'journal entry ' || seq, 'its budget revision', {nothing} FROM journal
        WHERE kind = 'revision' AND NOT EXISTS (
          SELECT 1 FROM budget_revision WHERE digest = detail AND installed_at = at
        )
        """,
        since_last=False,
        weight=2,
    ),
    Query(
        "kinds",
        f"""
        SELECT 'journal entry ' || seq, 'kind', kind, 'one of the known kinds', 'it must be', 0
        FROM journal WHERE seq > {{since}} AND kind NOT IN ({", ".join(f"'{kind}'" for kind in _KINDS)})
        """,  # noqa: S608 (constants only)
        weight=1,
    ),
    Query(
        "newest entry",
        """
        SELECT 'the journal', 'the newest entry', CAST(newest AS TEXT), CAST(newest_entry AS TEXT),
          'the last verification read entries up to', 0
        FROM verified CROSS JOIN (SELECT coalesce(max(seq), 0) AS newest FROM journal) AS last
        WHERE newest < newest_entry
        """,
    ),
    Query(
        "keys",
        """
        SELECT 'key ' || key || ' of project ' || project, 'attempt', CAST(max(attempt) AS TEXT),
          CAST(count(*) AS TEXT), 'the number of its reservations is', 0
        FROM reservation GROUP BY project, key HAVING max(attempt) <> count(*)
        """,
        since_last=False,
        weight=1,
    ),
    Query(
        "labels",
        """
        SELECT 'reservation ' || min(line.reservation), 'labels', CAST(reservation.labels AS TEXT),
          bucket.labels, 'its bucket requires', 0
        FROM reservation_line AS line JOIN reservation ON reservation.id = line.reservation
        JOIN bucket ON bucket.id = line.bucket
        WHERE bucket.labels <> '{{}}' AND line.reservation {begun}
        GROUP BY bucket.labels, reservation.labels
        HAVING {labels_differ}
        """,
        weight=5,
    ),
    Query(
        "observations",
        """
        SELECT 'observation ' || id || ' of task ' || task_id, 'applied_to', applied_to, 'another reservation',
          'the task belongs to', 0
        FROM observation WHERE id > {observed} AND applied_to IS NOT NULL AND NOT EXISTS (
          SELECT 1 FROM reservation WHERE reservation.id = applied_to
            AND reservation.provider = observation.provider AND reservation.task_id = observation.task_id
        )
        """,
        weight=2,
    ),
    *rolling_checks.QUERIES,
    *intervention_checks.QUERIES,
)
"""Queries for problems that no `Check` can express. A query for a missing row selects `{nothing}`."""
