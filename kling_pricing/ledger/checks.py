"""The consistency checks behind `verify`: one list for both stores, in SQL that both understand. Pure.

Each check derives the value of a column from other rows, mostly from the journal, and finds the rows whose
stored value differs. The queries read each table once, no matter how many of its columns they check.
`verification` handles the checks that SQL cannot express: documents, and amounts at an accounting rate.
"""

from __future__ import annotations

from kling_pricing.ledger.dialects import Check, Dialect

_OPEN = "state IN ('reserved', 'dispatching', 'bound')"
_KINDS = (
    *("revision", "opening", "reserve", "dispatch", "bind", "doubt", "settle", "release", "expire", "record"),
    *("carry_over", "alert", "calendar", "freeze", "thaw"),
)

RESERVATION_CHECKS = (
    Check(
        "state",
        "state",
        "CASE WHEN events.settled IS NOT NULL THEN 'settled' WHEN events.released IS NOT NULL THEN 'released'"
        " WHEN events.bound IS NOT NULL THEN 'bound' WHEN events.sent_at IS NOT NULL THEN 'dispatching'"
        " ELSE 'reserved' END",
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
    ),
    Check("created_at", "created_at", "events.reserved_at", when="events.reserved_at IS NOT NULL"),
    Check(
        "dispatched_at",
        "dispatched_at",
        "CASE WHEN events.recorded IS NULL THEN events.sent_at ELSE created_at END",
    ),
    Check("closed_at", "closed_at", "closed.at"),
    Check(
        "basis",
        "basis",
        "CASE closed.kind WHEN 'settle' THEN closed.detail WHEN 'record' THEN 'operator' END",
    ),
    Check(
        "reason",
        "reason",
        "CASE WHEN state = 'released' THEN closed.detail END",
        when="state IN ('released', 'reserved') OR state = 'settled' AND NOT reservation.doubted",
    ),
    Check("project", "project", "{project_label}", source="the labels give"),
    Check(
        "reserved", "reserved", "expected", source="the quote is", when="reserved < expected", is_amount=True
    ),
    Check("task_id", "task_id", "events.task", when="events.task IS NOT NULL AND task_id IS NOT NULL"),
    Check(
        "deadline",
        "{deadline}",
        "coalesce(events.doubtful_from, events.expires_at)",
        when="coalesce(events.doubtful_from, events.expires_at) IS NOT NULL",
    ),
)
LINE_CHECKS = (
    Check("held", f"CASE WHEN {_OPEN} THEN line.held ELSE 0 END", "events.held", is_amount=True),
    Check(
        "held",
        "line.held",
        "events.set_aside",
        when=f"events.set_aside IS NOT NULL AND NOT {_OPEN}",
        is_amount=True,
    ),
    Check(
        "held",
        "line.held",
        "reserved",
        source="its reservation gives",
        when="events.set_aside IS NULL AND events.recorded IS NULL AND rate IS NULL",
        is_amount=True,
    ),
    Check(
        "reserved",
        "reserved",
        "line.held",
        source="its line gives",
        when="events.set_aside IS NOT NULL AND rate IS NULL AND line.held = events.set_aside",
        is_amount=True,
    ),
    Check("spent", "line.spent", "events.spent", is_amount=True),
    Check("billed", "coalesce(billed, 0)", "line.spent", when="rate IS NULL", is_amount=True),
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
)
BUCKET_CHECKS = (
    Check("held", "bucket.held", "coalesce(events.held, 0)", is_amount=True),
    Check("spent", "bucket.spent", "coalesce(events.spent, 0)", is_amount=True),
    Check("window_end", "window_end", "window_start", source="its start is", when="window_end <= window_start"),
)

_JOURNAL = """
  by_line AS MATERIALIZED (
    SELECT reservation, bucket, sum(held_delta) AS held, sum(spent_delta) AS spent, max(seq) AS newest,
      sum(CASE WHEN kind = 'reserve' THEN held_delta END) AS set_aside,
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
      max(CASE WHEN kind IN ('release', 'expire') THEN seq END) AS released,
      max(CASE WHEN kind = 'opening' THEN seq END) AS opened
    FROM journal GROUP BY reservation, bucket
  ), by_reservation AS MATERIALIZED (
    SELECT reservation, min(begun) AS begun, max(recorded) AS recorded, min(reserved_at) AS reserved_at,
      max(sent_at) AS sent_at, max(expires_at) AS expires_at, max(doubtful_from) AS doubtful_from,
      max(task) AS task,
      max(bound) AS bound, max(doubted) AS doubted, max(settled) AS settled, max(released) AS released
    FROM by_line WHERE reservation IS NOT NULL GROUP BY reservation
  ), revised AS MATERIALIZED (
    SELECT seq, detail, at FROM journal WHERE kind = 'revision'
  ), by_bucket AS MATERIALIZED (
    SELECT bucket, sum(held) AS held, sum(spent) AS spent, max(opened) AS opened
    FROM by_line WHERE bucket IS NOT NULL GROUP BY bucket
  )
"""

_SCOPES = (
    (
        "reservations",
        "'reservation ' || reservation.id",
        """
        reservation JOIN by_reservation AS events ON events.reservation = reservation.id
        LEFT JOIN (
          SELECT seq, at, kind, detail FROM journal WHERE kind IN ('settle', 'record', 'release', 'expire')
        ) AS closed ON closed.seq = coalesce(events.settled, events.released)
        """,
        RESERVATION_CHECKS,
    ),
    (
        "lines",
        "'reservation ' || line.reservation",
        """
        reservation_line AS line JOIN reservation ON reservation.id = line.reservation
        JOIN bucket ON bucket.id = line.bucket
        JOIN by_line AS events ON events.reservation = line.reservation AND events.bucket = line.bucket
        """,
        LINE_CHECKS,
    ),
    (
        "buckets",
        "'bucket ' || budget || ' ' || labels || ' from ' || window_start",
        "bucket LEFT JOIN by_bucket AS events ON events.bucket = bucket.id",
        BUCKET_CHECKS,
    ),
)
"""The scopes of the checks: name, SQL for the subject of a message, tables, and checks."""

_MISSING = (
    """
    SELECT 'reservation ' || events.reservation, 'its line in bucket ' || events.bucket
    FROM by_line AS events LEFT JOIN reservation_line AS line
      ON line.reservation = events.reservation AND line.bucket = events.bucket
    WHERE events.reservation IS NOT NULL AND events.bucket IS NOT NULL AND line.bucket IS NULL
    """,
    """
    SELECT 'reservation ' || line.reservation, 'the journal entry for its line in bucket ' || line.bucket
    FROM reservation_line AS line LEFT JOIN by_line AS events
      ON events.reservation = line.reservation AND events.bucket = line.bucket
    WHERE events.newest IS NULL
    """,
    """
    SELECT 'reservation ' || reservation.id, 'the journal entry that created it'
    FROM reservation LEFT JOIN by_reservation AS events ON events.reservation = reservation.id
    WHERE events.begun IS NULL
    """,
    """
    SELECT 'reservation ' || events.reservation, 'the reservation that a journal entry refers to'
    FROM by_reservation AS events LEFT JOIN reservation ON reservation.id = events.reservation
    WHERE reservation.id IS NULL
    """,
    """
    SELECT 'reservation ' || line.reservation, 'the reservation that a line refers to'
    FROM reservation_line AS line LEFT JOIN reservation ON reservation.id = line.reservation
    WHERE reservation.id IS NULL
    """,
    """
    SELECT 'bucket ' || events.bucket, 'the bucket that a journal entry refers to'
    FROM by_bucket AS events LEFT JOIN bucket ON bucket.id = events.bucket WHERE bucket.id IS NULL
    """,
    """
    SELECT DISTINCT 'bucket ' || line.bucket, 'the bucket that a line refers to'
    FROM reservation_line AS line LEFT JOIN bucket ON bucket.id = line.bucket WHERE bucket.id IS NULL
    """,
    """
    SELECT 'budget revision ' || revision, 'its journal entry' FROM budget_revision
    WHERE NOT EXISTS (SELECT 1 FROM revised WHERE detail = digest AND at = installed_at)
    """,
    """
    SELECT 'budget revision ' || revision, 'the administrative action that installed it' FROM budget_revision
    WHERE NOT EXISTS (SELECT 1 FROM administration WHERE action = 'apply' AND at = installed_at)
      AND NOT EXISTS (SELECT 1 FROM administration WHERE action = 'migrate' AND at >= installed_at)
    """,
    """
    SELECT 'administrative action ' || seq, 'its budget revision' FROM administration
    WHERE action = 'apply' AND NOT EXISTS (SELECT 1 FROM budget_revision WHERE installed_at = at)
    """,
    """
    SELECT 'journal entry ' || seq, 'its budget revision' FROM revised
    WHERE NOT EXISTS (SELECT 1 FROM budget_revision WHERE digest = detail AND installed_at = at)
    """,
)
"""Each query finds missing rows and selects two columns: the subject, and the name of the missing row."""

_FURTHER_CHECKS = (
    f"""
    SELECT 'journal entry ' || seq, 'kind', kind, 'one of the known kinds', 'it must be', 0
    FROM journal WHERE kind NOT IN ({", ".join(f"'{kind}'" for kind in _KINDS)})
    """,  # noqa: S608 (constants only)
    """
    SELECT 'key ' || key || ' of project ' || project, 'attempt', CAST(max(attempt) AS TEXT),
      CAST(count(*) AS TEXT), 'the number of its reservations is', 0
    FROM reservation GROUP BY project, key HAVING max(attempt) <> count(*)
    """,
    """
    SELECT 'reservation ' || min(line.reservation), 'labels', CAST(reservation.labels AS TEXT), bucket.labels,
      'its bucket requires', 0
    FROM reservation_line AS line JOIN reservation ON reservation.id = line.reservation
    JOIN bucket ON bucket.id = line.bucket
    WHERE bucket.labels <> '{{}}' GROUP BY bucket.labels, reservation.labels
    HAVING {labels_differ}
    """,
    """
    SELECT 'observation ' || id || ' of task ' || task_id, 'applied_to', applied_to, 'another reservation',
      'the task belongs to', 0
    FROM observation WHERE applied_to IS NOT NULL AND NOT EXISTS (
      SELECT 1 FROM reservation WHERE reservation.id = applied_to
        AND reservation.provider = observation.provider AND reservation.task_id = observation.task_id
    )
    """,
    """
    SELECT 'the freeze', 'actor, reason and instant', kept, derived, 'the journal gives', 0 FROM (
      SELECT (SELECT {freeze_at} || ' ' || actor || ': ' || reason FROM frozen) AS kept,
        (SELECT CASE kind WHEN 'freeze' THEN {journal_at} || ' ' || detail END FROM journal
          WHERE kind IN ('freeze', 'thaw') ORDER BY seq DESC LIMIT 1) AS derived
    ) AS freezes WHERE kept {is_not} derived
    """,
)
"""Queries for problems that no `Check` can express; each selects the columns of `differences`."""


def differences(dialect: Dialect) -> str:
    """Returns the query that finds every inconsistency.

    Its columns are subject, what, kept, derived, source and is_amount. `kept` and `derived` are text. For a
    missing row both are null.
    """
    nothing = "CAST(NULL AS TEXT), CAST(NULL AS TEXT), '', 0"
    branches = [_select(f"missing.*, {nothing}", f"({query}) AS missing") for query in _MISSING]
    branches += _FURTHER_CHECKS + dialect.extra_queries
    parts = [_JOURNAL]
    extra = {"reservations": dialect.extra_reservation_checks, "buckets": dialect.extra_bucket_checks}
    for name, subject, tables, common in _SCOPES:
        columns, conditions = [f"{subject} AS subject"], []
        for place, check in enumerate(common + extra.get(name, ())):
            kept, must_be = f"kept_{place}", f"derived_{place}"
            derived = f"CASE WHEN {check.when} THEN {check.derived} ELSE {check.kept} END"
            columns += [f"CAST({check.kept} AS TEXT) AS {kept}", f"CAST({derived} AS TEXT) AS {must_be}"]
            conditions.append(f"(({check.when}) AND {check.kept} {{is_not}} {check.derived})")
            values = f"subject, '{check.column}', {kept}, {must_be}, '{check.source}', {int(check.is_amount)}"
            branches.append(_select(values, f"different_{name} WHERE {kept} {{is_not}} {must_be}"))
        rows = _select(", ".join(columns), f"{tables} WHERE {' OR '.join(conditions)}")
        parts.append(f"different_{name} AS MATERIALIZED ({rows})")
    all_columns = "subject, what, kept, derived, source, is_amount"
    parts.append(f"difference ({all_columns}) AS ({' UNION ALL '.join(branches)})")
    return f"WITH {', '.join(parts)} {_select('*', 'difference')}".format(**dialect._asdict())


def _select(columns: str, tables: str) -> str:
    return f"SELECT {columns} FROM {tables}"  # noqa: S608 (constants only)


_FACTS = {
    "revision": "SELECT revision, digest, document, installed_at FROM budget_revision ORDER BY revision",
    "bucket": """
        SELECT budget, definition, currency, cap, alerts, max(window_end) AS window_end FROM bucket
        GROUP BY budget, definition, currency, cap, alerts ORDER BY budget, definition, cap
    """,
    "label_names": "SELECT DISTINCT budget, definition, {label_names} AS names FROM bucket",
    "window": """
        SELECT used.*, calendar.schedule FROM (
          SELECT DISTINCT budget, definition, window_start, window_end FROM bucket
          WHERE window_end > (SELECT begun_at FROM calendar_digest)
        ) AS used LEFT JOIN calendar USING (window_start, window_end)
    """,
    "rounding": """
        SELECT min(id) AS reservation, expected, reserved, unit_value FROM reservation WHERE reserved > expected
        GROUP BY expected, reserved, unit_value
    """,
    "action": """
        SELECT seq, {journal_at} AS at, actor, role, action, subject, old, new, reason, seal FROM administration
        ORDER BY seq
    """,
    "converted": """
        SELECT min(line.reservation) AS reservation, reservation.currency AS quote, bucket.currency AS budget,
          CAST(rate AS TEXT) AS rate, reserved, billed, line.held AS held, line.spent AS spent
        FROM reservation_line AS line JOIN reservation ON reservation.id = line.reservation
        JOIN bucket ON bucket.id = line.bucket
        WHERE rate IS NOT NULL
        GROUP BY reservation.currency, bucket.currency, rate, reserved, billed, line.held, line.spent
    """,
}


def facts(dialect: Dialect) -> dict[str, str]:
    """Returns the queries for the facts that `verification` checks.

    The queries group equal rows, so they return few.
    """
    return {name: query.format(**dialect._asdict()) for name, query in _FACTS.items()}
