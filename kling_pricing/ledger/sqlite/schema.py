"""The tables of a ledger in SQLite.

Amounts are whole nanos (billionths of a currency unit). Instants are ISO 8601 text in UTC with six decimal
places, so that they sort as text. Labels and changes are JSON objects with sorted keys.
No table stores a payload; `redaction` decides what else is left out.
"""

from __future__ import annotations

import sqlite3
from contextlib import closing, suppress
from functools import cache
from pathlib import Path

from kling_pricing.errors import LedgerUnavailableError
from kling_pricing.ledger.errors import other_version
from kling_pricing.ledger.sqlite.book_tables import BOOK_TABLES
from kling_pricing.ledger.sqlite.outbox_tables import OUTBOX_TABLES
from kling_pricing.ledger.sqlite.version_5 import VERSION_5
from kling_pricing.ledger.sqlite.version_6 import VERSION_6
from kling_pricing.ledger.terms import Terms

APPLICATION_ID = 0x4B50524C
"""Identifies a file as a ledger (`PRAGMA application_id`)."""

RESERVATION_COLUMNS = (
    *("id", "project", "key", "attempt", "state", "doubted", "provider", "account", "task_id", "wire_format"),
    *Terms._fields,
    *("reserved", "billed", "basis", "labels", "changes", "reason", "fingerprint"),
    *("created_at", "dispatched_at", "closed_at", "deadline"),
)
"""The columns of a reservation, in the order in which they are selected."""

_TABLES = (
    """
    CREATE TABLE budget_revision (
      revision INTEGER PRIMARY KEY,
      digest TEXT NOT NULL,
      document TEXT NOT NULL,
      installed_at TEXT NOT NULL
    ) STRICT
    """,
    """
    CREATE TABLE bucket (
      id INTEGER PRIMARY KEY,
      budget TEXT NOT NULL,
      definition TEXT NOT NULL,
      labels TEXT NOT NULL,
      window_start TEXT NOT NULL,
      window_end TEXT NOT NULL,
      currency TEXT NOT NULL,
      cap INTEGER NOT NULL,
      held INTEGER NOT NULL DEFAULT 0,
      spent INTEGER NOT NULL DEFAULT 0,
      alerts TEXT NOT NULL,
      UNIQUE (budget, definition, labels, window_start)
    ) STRICT
    """,
    """
    CREATE TABLE reservation (
      id TEXT NOT NULL PRIMARY KEY,
      project TEXT NOT NULL,
      key TEXT NOT NULL,
      attempt INTEGER NOT NULL,
      state TEXT NOT NULL CHECK (state IN ('reserved', 'dispatching', 'bound', 'settled', 'released')),
      doubted INTEGER NOT NULL DEFAULT 0,
      provider TEXT NOT NULL,
      task_id TEXT,
      wire_format TEXT NOT NULL,
      model TEXT NOT NULL,
      resolution TEXT NOT NULL,
      tier TEXT NOT NULL,
      quantity TEXT NOT NULL,
      unit TEXT NOT NULL,
      currency TEXT NOT NULL,
      expected INTEGER NOT NULL,
      reserved INTEGER NOT NULL,
      billed INTEGER,
      basis TEXT CHECK (basis IN ('quote', 'response', 'statement', 'operator')),
      price_table TEXT NOT NULL,
      table_digest TEXT NOT NULL,
      statement_unit TEXT,
      unit_value TEXT,
      failed_tasks TEXT NOT NULL,
      labels TEXT NOT NULL,
      changes TEXT NOT NULL,
      reason TEXT,
      fingerprint TEXT NOT NULL,
      created_at TEXT NOT NULL,
      dispatched_at TEXT,
      closed_at TEXT,
      deadline TEXT NOT NULL,
      UNIQUE (project, key, attempt),
      CHECK ((state = 'settled') = (billed IS NOT NULL)),
      CHECK ((billed IS NULL) = (basis IS NULL))
    ) STRICT
    """,
    "CREATE UNIQUE INDEX reservation_task ON reservation (provider, task_id) WHERE task_id IS NOT NULL",
    "CREATE INDEX reservation_unsent ON reservation (deadline) WHERE state = 'reserved'",
    "CREATE INDEX reservation_sent ON reservation (deadline) WHERE state = 'dispatching'",
    """
    CREATE TABLE reservation_line (
      reservation TEXT NOT NULL REFERENCES reservation (id),
      bucket INTEGER NOT NULL REFERENCES bucket (id),
      held INTEGER NOT NULL,
      spent INTEGER NOT NULL DEFAULT 0,
      rate TEXT,
      PRIMARY KEY (reservation, bucket)
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE journal (
      seq INTEGER PRIMARY KEY,
      at TEXT NOT NULL,
      kind TEXT NOT NULL,
      reservation TEXT REFERENCES reservation (id),
      bucket INTEGER REFERENCES bucket (id),
      held_delta INTEGER NOT NULL DEFAULT 0,
      spent_delta INTEGER NOT NULL DEFAULT 0,
      detail TEXT
    ) STRICT
    """,
    "CREATE UNIQUE INDEX journal_alert ON journal (bucket, detail) WHERE kind = 'alert'",
    """
    CREATE TRIGGER journal_is_not_changed BEFORE UPDATE ON journal
    BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END
    """,
    """
    CREATE TRIGGER journal_is_not_deleted BEFORE DELETE ON journal
    BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END
    """,
    """
    CREATE TRIGGER journal_is_not_replaced BEFORE INSERT ON journal
    WHEN EXISTS (SELECT 1 FROM journal WHERE seq = NEW.seq)
    BEGIN SELECT RAISE(ABORT, 'the journal is append-only'); END
    """,
    """
    CREATE TABLE observation (
      id INTEGER PRIMARY KEY,
      provider TEXT NOT NULL,
      task_id TEXT NOT NULL,
      state TEXT,
      amount TEXT,
      amount_unit TEXT,
      duration_s TEXT,
      model TEXT,
      seen_at TEXT NOT NULL
    ) STRICT
    """,
    """
    CREATE UNIQUE INDEX observation_once ON observation
    (provider, task_id, ifnull(state, ''), ifnull(amount, ''), ifnull(amount_unit, ''))
    """,
)

STEPS: dict[int, tuple[str, ...]] = {
    1: _TABLES,
    2: (
        "ALTER TABLE reservation ADD COLUMN list_total INTEGER",
        "ALTER TABLE reservation ADD COLUMN minimum INTEGER",
        "ALTER TABLE reservation ADD COLUMN pack_units TEXT",
        "ALTER TABLE reservation ADD COLUMN account_currency TEXT",
        "CREATE INDEX reservation_doubted ON reservation (created_at) WHERE doubted = 1",
        "ALTER TABLE observation ADD COLUMN charge TEXT",
        """
        UPDATE observation SET charge = json_object('parts', json_array(json_array(amount, amount_unit)))
        WHERE amount IS NOT NULL AND amount_unit IS NOT NULL
        """,
        "DROP INDEX observation_once",
        "ALTER TABLE observation DROP COLUMN amount",
        "ALTER TABLE observation DROP COLUMN amount_unit",
        """
        CREATE UNIQUE INDEX observation_once ON observation
        (provider, task_id, ifnull(state, ''), ifnull(charge, ''))
        """,
    ),
    3: (
        "ALTER TABLE observation ADD COLUMN facts TEXT",
        "DROP INDEX observation_once",
        """
        CREATE UNIQUE INDEX observation_once ON observation
        (provider, task_id, ifnull(state, ''), ifnull(charge, ''), ifnull(duration_s, ''), ifnull(facts, ''))
        """,
        """
        CREATE TABLE unpriced_requests (
          provider TEXT NOT NULL,
          path TEXT NOT NULL,
          day TEXT NOT NULL,
          requests INTEGER NOT NULL,
          PRIMARY KEY (provider, path, day)
        ) STRICT, WITHOUT ROWID
        """,
        """
        CREATE TABLE calendar (
          schedule TEXT NOT NULL,
          window_start TEXT NOT NULL,
          window_end TEXT NOT NULL,
          zone_data TEXT NOT NULL,
          PRIMARY KEY (schedule, window_start)
        ) STRICT, WITHOUT ROWID
        """,
        "CREATE TABLE calendar_digest (digest TEXT NOT NULL, begun_at TEXT NOT NULL) STRICT",
        "ALTER TABLE reservation ADD COLUMN seal TEXT",
        "ALTER TABLE observation ADD COLUMN seal TEXT",
        "ALTER TABLE observation ADD COLUMN applied_to TEXT REFERENCES reservation (id)",
        # Version 2 stored an observation that it refused, and then ignored an equal one for ever. Such a
        # reservation is still bound, so the observation can be applied when it is made again.
        """
        UPDATE observation SET applied_to = (
          SELECT reservation.id FROM reservation
          WHERE reservation.provider = observation.provider AND reservation.task_id = observation.task_id
            AND NOT (
              reservation.state = 'bound' AND NOT reservation.doubted
              AND ifnull(observation.state, '') IN ('succeeded', 'failed', 'cancelled')
            )
        )
        """,
        """
        CREATE TABLE frozen (
          scope TEXT NOT NULL PRIMARY KEY,
          actor TEXT NOT NULL,
          reason TEXT NOT NULL,
          frozen_at TEXT NOT NULL
        ) STRICT, WITHOUT ROWID
        """,
    ),
    4: (
        # Administrative actions
        """
        CREATE TABLE administration (
          seq INTEGER PRIMARY KEY,
          at TEXT NOT NULL,
          actor TEXT NOT NULL,
          role TEXT,
          action TEXT NOT NULL,
          subject TEXT NOT NULL,
          old TEXT,
          new TEXT,
          reason TEXT,
          seal TEXT NOT NULL
        ) STRICT
        """,
        """
        CREATE TRIGGER administration_is_not_changed BEFORE UPDATE ON administration
        BEGIN SELECT RAISE(ABORT, 'the record of administrative actions is append-only'); END
        """,
        """
        CREATE TRIGGER administration_is_not_deleted BEFORE DELETE ON administration
        BEGIN SELECT RAISE(ABORT, 'the record of administrative actions is append-only'); END
        """,
        """
        CREATE TRIGGER administration_is_not_replaced BEFORE INSERT ON administration
        WHEN EXISTS (SELECT 1 FROM administration WHERE seq = NEW.seq)
        BEGIN SELECT RAISE(ABORT, 'the record of administrative actions is append-only'); END
        """,
        *BOOK_TABLES,
        # Allowances
        """
        CREATE TABLE allowance_request (
          id TEXT NOT NULL PRIMARY KEY,
          project TEXT NOT NULL,
          amount INTEGER NOT NULL,
          currency TEXT NOT NULL,
          budgets TEXT NOT NULL,
          key TEXT,
          actor TEXT NOT NULL,
          reason TEXT NOT NULL,
          created_at TEXT NOT NULL
        ) STRICT
        """,
        """
        CREATE TABLE allowance (
          id TEXT NOT NULL PRIMARY KEY,
          project TEXT NOT NULL,
          amount INTEGER NOT NULL,
          held INTEGER NOT NULL DEFAULT 0,
          spent INTEGER NOT NULL DEFAULT 0,
          currency TEXT NOT NULL,
          budgets TEXT NOT NULL,
          key TEXT,
          until TEXT NOT NULL,
          actor TEXT NOT NULL,
          reason TEXT NOT NULL,
          request TEXT UNIQUE REFERENCES allowance_request (id),
          created_at TEXT NOT NULL,
          revoked_at TEXT
        ) STRICT
        """,
        "CREATE INDEX allowance_project ON allowance (project, until)",
        """
        CREATE TABLE reservation_allowance (
          reservation TEXT NOT NULL REFERENCES reservation (id),
          allowance TEXT NOT NULL REFERENCES allowance (id),
          bucket INTEGER NOT NULL REFERENCES bucket (id),
          above INTEGER NOT NULL,
          rate TEXT,
          held INTEGER NOT NULL,
          spent INTEGER NOT NULL DEFAULT 0,
          PRIMARY KEY (reservation, allowance)
        ) STRICT, WITHOUT ROWID
        """,
        "ALTER TABLE journal ADD COLUMN allowance TEXT REFERENCES allowance (id)",
        # Observe mode
        "CREATE INDEX journal_waived ON journal (at) WHERE kind = 'waive'",
        # Rolling windows: the step of a bucket (null for all other windows), and the thresholds that have fired
        # and that the window has not been below since, as a JSON list.
        "ALTER TABLE bucket ADD COLUMN step_us INTEGER",
        """
        CREATE TABLE rolling_window (
          budget TEXT NOT NULL,
          definition TEXT NOT NULL,
          labels TEXT NOT NULL,
          reached TEXT NOT NULL,
          PRIMARY KEY (budget, definition, labels)
        ) STRICT, WITHOUT ROWID
        """,
        # Caps until an instant
        """
        CREATE TABLE cap_overlay (
          budget TEXT NOT NULL PRIMARY KEY,
          cap INTEGER NOT NULL,
          set_at TEXT NOT NULL,
          ends_at TEXT NOT NULL,
          actor TEXT NOT NULL,
          reason TEXT
        ) STRICT, WITHOUT ROWID
        """,
        # The last verification
        """
        CREATE TABLE verified (
          id INTEGER PRIMARY KEY CHECK (id = 1),
          newest_entry INTEGER NOT NULL,
          newest_observation INTEGER NOT NULL,
          balances TEXT NOT NULL,
          fully_verified_at TEXT NOT NULL
        ) STRICT
        """,
        *OUTBOX_TABLES,
    ),
    5: VERSION_5,
    6: VERSION_6,
}
"""The statements that create each version from the previous one. Version 1 starts from an empty file."""

VERSION = max(STEPS)
"""The schema version that this release requires (`PRAGMA user_version`)."""


@cache
def new_ledger() -> tuple[str, ...]:
    """Returns the statements that create a new ledger, with the same tables as a migrated one.

    They are those that SQLite keeps after all steps, because the steps change some tables several times.
    """
    with closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        for statements in STEPS.values():
            for statement in statements:
                connection.execute(statement)
        kept = connection.execute("SELECT sql FROM sqlite_master WHERE sql IS NOT NULL ORDER BY rowid")
        return tuple(statement for (statement,) in kept)


def version_of(connection: sqlite3.Connection, path: Path) -> int:
    """Returns the schema version of the ledger in a file, or 0 for an empty file.

    Raises:
        LedgerUnavailableError: the file is not a ledger.
    """
    try:
        connection.execute("BEGIN")  # one snapshot, because another process may create the tables now
        (application,) = connection.execute("PRAGMA application_id").fetchone()
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    finally:
        with suppress(sqlite3.Error):  # the first error is the one to report
            if connection.in_transaction:
                connection.execute("ROLLBACK")
    if application == APPLICATION_ID and version >= 1:
        return int(version)
    if application == APPLICATION_ID:
        raise LedgerUnavailableError(
            f"ledger {path}: its schema version is {version}, which no release of kling-pricing has used; "
            "restore a backup"
        )
    if tables or version or application:
        raise LedgerUnavailableError(
            f"ledger {path}: the file is a different kind of database, not a ledger; give a file that does not "
            "exist yet"
        )
    return 0


def ensure_current(version: int, path: Path) -> None:
    """Raises an error for a ledger of another schema version.

    Raises:
        LedgerUnavailableError: the ledger is older or newer than this release.
    """
    if version != VERSION:
        raise other_version(str(path), version, VERSION, migrate=f"sqlite:///{path}")
