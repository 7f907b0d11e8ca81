"""Ledgers store reservations, balances and the journal. Each kind of store has its own package.

A ledger knows nothing about prices or payloads. It only counts.
Every verb is one transaction. When a verb returns, its changes are durable. When a verb raises an error, it
changes nothing, with two exceptions: expired reservations stay released, and observations stay stored.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import datetime
from importlib import import_module
from pathlib import Path
from typing import Any

from kling_pricing.display import not_installed
from kling_pricing.errors import LedgerUnavailableError
from kling_pricing.ledger.interface import Ledger

__all__ = ["Ledger", "connect", "file_of", "is_on_a_server", "store"]

_HARMLESS = re.compile(r"(?:sqlite:/{0,4})?(?::memory:|[\w.\\/-]{0,80})")
_USERINFO = re.compile(r"[^/]*:[^/]*@|:/")
"""A user and a password, or another URL, in the path of a file."""


def connect(url: str, *, clock: Callable[[], datetime]) -> Ledger:
    """Opens a ledger.

    Args:
        url: `sqlite:///spend.db` for a file in the working folder, `sqlite:////srv/spend.db` for an absolute
            path, or `postgresql://user@host/database`. A PostgreSQL URL may have the options of libpq, and
            `pool_size`, `wait_s` and `answer_s`.
        clock: returns the current instant, with a time zone.

    Raises:
        LedgerUnavailableError: the URL is not the URL of a ledger.
    """
    if not isinstance(url, str):
        raise LedgerUnavailableError(
            f"the ledger must be a URL such as sqlite:///spend.db, got an object of type {type(url).__name__}"
        )
    if is_on_a_server(url):
        server: Ledger = store("postgres").PostgresLedger(url, clock)
        return server
    ledger: Ledger = store("sqlite").SQLiteLedger(file_of(url), clock)
    return ledger


def file_of(url: str) -> Path:
    """Returns the absolute path in a ledger's URL. The process may then change its working folder.

    Raises:
        LedgerUnavailableError: the URL is not the URL of a ledger in a file.
    """
    scheme, separator, rest = url.partition("://")
    is_path = rest.startswith("/") and rest[1:] and rest != "/:memory:" and not set(rest) & set("?\0")
    if scheme == "sqlite" and separator and is_path and not _USERINFO.search(rest):
        return Path(rest[1:]).absolute()
    shown = repr(url) if _HARMLESS.fullmatch(url) else "this"  # a mistyped URL may have a password anywhere
    raise LedgerUnavailableError(
        f"{shown} is not the URL of a ledger; write sqlite:///spend.db for a file in the current folder, "
        "sqlite:////srv/spend.db for a file elsewhere, or postgresql://user@host/database"
    )


def is_on_a_server(url: str) -> bool:
    """Returns whether a URL is the URL of a ledger in PostgreSQL."""
    return url.startswith(("postgresql://", "postgres://"))


def store(name: str, part: str | None = None) -> Any:
    """Loads the package of a kind of store, or one of its modules, and returns it.

    Raises:
        LedgerUnavailableError: a library that the store requires is not installed.
    """
    module = f"kling_pricing.ledger.{name}"
    try:
        return import_module(module if part is None else f"{module}.{part}")
    except ModuleNotFoundError as error:
        if (error.name or "").startswith(__name__):
            raise
        raise LedgerUnavailableError(not_installed(f"a ledger in {name}", f"{error.name}", name)) from error
