"""The tables and columns of schema version 5, as `sql/version_5.sql` has them for PostgreSQL."""

_ACCESS_KEYS = (
    """
    CREATE TABLE access_key (
      name TEXT NOT NULL PRIMARY KEY,
      digest TEXT NOT NULL UNIQUE CHECK (length(digest) = 64),
      project TEXT,
      role TEXT NOT NULL CHECK (role IN ('view', 'submit', 'manage')),
      labels TEXT NOT NULL,
      created_at TEXT NOT NULL,
      expires_at TEXT,
      revoked_at TEXT,
      actor TEXT NOT NULL
    ) STRICT, WITHOUT ROWID
    """,
    """
    CREATE TRIGGER access_key_is_final BEFORE UPDATE ON access_key
    WHEN OLD.revoked_at IS NOT NULL OR NEW.revoked_at IS NULL OR NEW.name <> OLD.name
      OR NEW.digest <> OLD.digest OR NEW.project IS NOT OLD.project OR NEW.role <> OLD.role
      OR NEW.labels <> OLD.labels OR NEW.expires_at IS NOT OLD.expires_at
    BEGIN SELECT RAISE(ABORT, 'access keys never change; revoke the key and issue another one'); END
    """,
    """
    CREATE TRIGGER access_key_is_kept BEFORE DELETE ON access_key
    BEGIN SELECT RAISE(ABORT, 'access keys are kept; revoke the key'); END
    """,
    """
    CREATE TABLE access_key_use (
      name TEXT NOT NULL PRIMARY KEY REFERENCES access_key (name),
      used_at TEXT NOT NULL
    ) STRICT, WITHOUT ROWID
    """,
)
"""Access keys. Their rows change only by revocation; their use is kept apart."""

VERSION_5 = (
    *_ACCESS_KEYS,
    # The reservations of running jobs
    "CREATE INDEX reservation_bound ON reservation (created_at) WHERE state = 'bound'",
    # Accounts: null stands for the account with the provider's name, which earlier versions had.
    "ALTER TABLE reservation ADD COLUMN account TEXT",
    "CREATE INDEX reservation_account ON reservation (provider, account) WHERE account IS NOT NULL",
    # Books belong to an account: `books` is their name, the provider's for the account of that name.
    *(
        f"ALTER TABLE {table} RENAME COLUMN provider TO books"
        for table in ("book_statement", "book_fact", "closed_month", "book_seal")
    ),
    # The amount of a settlement, in the currency of the quote, so that reports can look back.
    "ALTER TABLE journal ADD COLUMN billed INTEGER",
)
"""The statements that create version 5 from version 4."""
