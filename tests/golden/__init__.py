"""Golden ledgers of every schema version."""
