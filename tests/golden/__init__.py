"""Ledgers of every schema version."""
