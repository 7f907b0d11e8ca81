"""The tables of the books; see `ledger.books`. Amounts are whole billionths."""

from __future__ import annotations

BOOK_TABLES = (
    """
    CREATE TABLE book_statement (
      number INTEGER PRIMARY KEY,
      provider TEXT NOT NULL,
      name TEXT NOT NULL,
      digest TEXT NOT NULL,
      since TEXT NOT NULL,
      until TEXT NOT NULL,
      is_answers INTEGER NOT NULL CHECK (is_answers IN (0, 1)),
      remembered_at TEXT NOT NULL,
      actor TEXT NOT NULL,
      reason TEXT NOT NULL,
      replaces INTEGER UNIQUE REFERENCES book_statement (number),
      replaced_in TEXT,
      CHECK ((replaces IS NULL) = (replaced_in IS NULL))
    ) STRICT
    """,
    """
    CREATE TABLE book_fact (
      seq INTEGER PRIMARY KEY,
      provider TEXT NOT NULL,
      kind TEXT NOT NULL CHECK (kind IN ('use', 'row', 'dispute', 'resolution', 'write_off')),
      period TEXT NOT NULL,
      at TEXT NOT NULL,
      task TEXT NOT NULL,
      project TEXT NOT NULL,
      currency TEXT NOT NULL,
      amount INTEGER NOT NULL,
      native INTEGER,
      unit TEXT,
      statement INTEGER REFERENCES book_statement (number),
      "row" INTEGER,
      row_id TEXT,
      billed_at TEXT,
      submitted_at TEXT,
      subject INTEGER REFERENCES book_fact (seq),
      actor TEXT,
      reason TEXT,
      CHECK ((kind = 'row') = (statement IS NOT NULL)),
      CHECK ((kind IN ('dispute', 'resolution')) = (subject IS NOT NULL))
    ) STRICT
    """,
    "CREATE INDEX book_fact_of_provider ON book_fact (provider, seq)",
    "CREATE UNIQUE INDEX book_resolution ON book_fact (subject) WHERE kind = 'resolution'",
    """
    CREATE TABLE closed_month (
      month TEXT NOT NULL,
      provider TEXT NOT NULL,
      digest TEXT NOT NULL,
      closed_at TEXT NOT NULL,
      actor TEXT NOT NULL,
      reason TEXT NOT NULL,
      PRIMARY KEY (provider, month)
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TABLE book_seal (
      number INTEGER PRIMARY KEY,
      provider TEXT NOT NULL,
      facts INTEGER NOT NULL,
      statements INTEGER NOT NULL,
      closed TEXT NOT NULL,
      seal TEXT NOT NULL
    ) STRICT
    """,
    *(
        f"CREATE TRIGGER {table}_is_not_{done} BEFORE {verb} ON {table}"
        f" BEGIN SELECT RAISE(ABORT, 'the books are append-only'); END"
        for table in ("book_statement", "book_fact", "closed_month", "book_seal")
        for done, verb in (("changed", "UPDATE"), ("deleted", "DELETE"))
    ),
)
"""The statements that create the tables."""
