"""The tables of alerts, receivers, refusals and leases.

Triggers copy the alerts and freezes in the journal to the outbox, so that no verb can forget to do so.
"""

from __future__ import annotations

_ALERT_COLUMNS = (
    *("id", "at", "kind", "cause", "entry", "budget", "labels", "threshold", "cap", "used", "currency"),
    *("window_start", "window_end", "reservation", "facts"),
)

_IN_OUTBOX = "kind IN ('alert', 'freeze', 'thaw', 'freeze_budget', 'thaw_budget')"
"""The journal entries that are alerts, or that people want to be told about."""


def _copied(entry: str, cap: str, used: str) -> str:
    """Returns the values of an alert for a journal entry and its bucket, in the order of `_ALERT_COLUMNS`."""
    kind, detail = f"{entry}.kind", f"{entry}.detail"
    is_charge, is_overrun = f"{detail} LIKE 'charge of %'", f"{detail} LIKE '% billed for %'"
    is_of_a_budget = f"{kind} IN ('freeze_budget', 'thaw_budget')"
    after_colon = f"substr({detail}, instr({detail}, ': ') + 2)"
    return f"""
      lower(hex(randomblob(16))), {entry}.at,
      CASE WHEN {is_of_a_budget} THEN replace({kind}, '_budget', '') WHEN {kind} <> 'alert' THEN {kind}
        WHEN {is_charge} THEN 'charge' WHEN {is_overrun} THEN 'overrun' ELSE 'threshold' END,
      'journal ' || {entry}.seq, {entry}.seq,
      CASE WHEN {is_of_a_budget} THEN substr({detail}, 1, instr({detail}, ': ') - 1) ELSE bucket.budget END,
      ifnull(bucket.labels, '{{}}'),
      CASE WHEN {kind} = 'alert' AND NOT {is_charge} AND NOT {is_overrun}
        THEN substr({detail}, 1, instr({detail}, ' of ') - 1) END,
      {cap}, {used}, bucket.currency, iif(bucket.step_us IS NULL, bucket.window_start, NULL),
      iif(bucket.step_us IS NULL, bucket.window_end, NULL), {entry}.reservation,
      CASE WHEN {is_of_a_budget} OR {kind} = 'alert' AND {is_charge} THEN json_object('detail', {after_colon})
        WHEN {kind} <> 'alert' THEN json_object('detail', {detail})
        WHEN {is_overrun} THEN json_object('billed', substr({detail}, 1, instr({detail}, ' billed for ') - 1))
        ELSE '{{}}' END
    """


_USED = """
  CASE WHEN bucket.step_us IS NULL THEN bucket.held + bucket.spent ELSE (
    SELECT sum(step.held + step.spent) FROM bucket AS step WHERE step.budget = bucket.budget
      AND step.definition = bucket.definition AND step.labels = bucket.labels AND step.window_end > NEW.at
  ) END
"""
"""The amount that a bucket has used; in a rolling window, the amount of all steps that count."""

_CAP = """
  ifnull((
    SELECT overlay.cap FROM cap_overlay AS overlay
    WHERE overlay.budget = bucket.budget AND overlay.ends_at > NEW.at
  ), bucket.cap)
"""
"""The cap in force of a bucket."""

_INTO_ALERT = f"INSERT INTO alert ({', '.join(_ALERT_COLUMNS)})"

_NAMED = """
    SELECT value AS name FROM json_each(NEW.document, '$.notify')
    UNION SELECT named.value FROM json_each(NEW.document, '$.budgets') AS budget,
      json_each(budget.value, '$.notify') AS named
"""
"""The receivers that a new revision of the budgets names."""

OUTBOX_TABLES = (
    """
    CREATE TABLE alert (
      seq INTEGER PRIMARY KEY,
      id TEXT NOT NULL UNIQUE,
      at TEXT NOT NULL,
      kind TEXT NOT NULL,
      cause TEXT NOT NULL UNIQUE,
      entry INTEGER UNIQUE,
      budget TEXT,
      labels TEXT NOT NULL,
      threshold TEXT,
      cap INTEGER,
      used INTEGER,
      currency TEXT,
      window_start TEXT,
      window_end TEXT,
      reservation TEXT REFERENCES reservation (id),
      facts TEXT NOT NULL
    ) STRICT
    """,
    # The balances at the instant of an old alert are not known.
    f"""
    {_INTO_ALERT} SELECT {_copied("journal", "NULL", "NULL")}
    FROM journal LEFT JOIN bucket ON bucket.id = journal.bucket WHERE {_IN_OUTBOX} ORDER BY journal.seq
    """,  # noqa: S608 (constants only)
    f"""
    CREATE TRIGGER journal_enters_outbox AFTER INSERT ON journal WHEN NEW.{_IN_OUTBOX}
    BEGIN
      {_INTO_ALERT} SELECT {_copied("NEW", _CAP, _USED)}
      FROM (SELECT 1) LEFT JOIN bucket ON bucket.id = NEW.bucket;
    END
    """,  # noqa: S608 (constants only)
    """
    CREATE TRIGGER alert_is_not_changed BEFORE UPDATE ON alert
    BEGIN SELECT RAISE(ABORT, 'the outbox is append-only'); END
    """,
    """
    CREATE TRIGGER alert_is_not_deleted BEFORE DELETE ON alert
    BEGIN SELECT RAISE(ABORT, 'the outbox is append-only'); END
    """,
    """
    CREATE TRIGGER alert_is_not_replaced BEFORE INSERT ON alert
    WHEN EXISTS (SELECT 1 FROM alert WHERE seq = NEW.seq)
    BEGIN SELECT RAISE(ABORT, 'the outbox is append-only'); END
    """,
    """
    CREATE TABLE alert_receiver (
      name TEXT NOT NULL PRIMARY KEY,
      delivered INTEGER NOT NULL,
      failures INTEGER NOT NULL DEFAULT 0,
      failed_at TEXT,
      problem TEXT,
      next_at TEXT,
      stopped_at TEXT
    ) STRICT, WITHOUT ROWID
    """,
    f"""
    CREATE TRIGGER revision_names_receivers AFTER INSERT ON budget_revision
    BEGIN
      DELETE FROM alert_receiver WHERE name NOT IN ({_NAMED});
      INSERT OR IGNORE INTO alert_receiver (name, delivered)
      SELECT name, (SELECT ifnull(max(seq), 0) FROM alert) FROM ({_NAMED});
    END
    """,  # noqa: S608 (constants only)
    """
    CREATE TABLE refused_requests (
      budget TEXT NOT NULL,
      labels TEXT NOT NULL,
      reason TEXT NOT NULL,
      day TEXT NOT NULL,
      requests INTEGER NOT NULL,
      PRIMARY KEY (budget, labels, reason, day)
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE lease (
      name TEXT NOT NULL PRIMARY KEY,
      holder TEXT NOT NULL,
      ends_at TEXT NOT NULL
    ) STRICT, WITHOUT ROWID
    """,
    "CREATE INDEX journal_opening ON journal (bucket) WHERE kind = 'opening'",
)
"""The statements of schema version 4 for these tables."""
