"""Digests of rows that never change, with which `verify` finds an edit of any of their columns."""

from __future__ import annotations

import hashlib
import json
import sqlite3

_text = json.JSONEncoder(separators=(",", ":")).encode


def seal(*values: str | int | None) -> str:
    """Returns the digest of values."""
    return hashlib.sha256(_text(values).encode()).hexdigest()[:32]


def register(connection: sqlite3.Connection) -> None:
    """Makes the function `seal` available in SQL."""
    connection.create_function("seal", -1, seal, deterministic=True)
