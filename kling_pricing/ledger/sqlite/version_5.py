"""The statements that create schema version 5 from version 4."""

from __future__ import annotations

VERSION_5 = (
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
"""The statements, in order."""
