"""The tables of schema version 6, as `sql/version_6.sql` has them for PostgreSQL."""

VERSION_6 = (
    # Sessions of people who signed in to the pages of the server. They are removed when they have ended.
    """
    CREATE TABLE session (
      digest TEXT NOT NULL PRIMARY KEY CHECK (length(digest) = 64),
      access_key TEXT NOT NULL REFERENCES access_key (name),
      created_at TEXT NOT NULL,
      used_at TEXT NOT NULL,
      ends_at TEXT NOT NULL
    ) STRICT, WITHOUT ROWID
    """,
    "CREATE INDEX session_of_key ON session (access_key, created_at)",
)
"""The statements that create version 6 from version 5."""
