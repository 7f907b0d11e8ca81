"""The errors of SQLite and of the disk, and what to do about them."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from kling_pricing.errors import LedgerError, LedgerUnavailableError

BUSY_TIMEOUT_S = 60
"""How long to wait for a program that writes to the file without this library."""

CANNOT_OPEN = "it cannot be opened; the folder must exist and this user may write in it"

_REMEDIES = {
    sqlite3.SQLITE_FULL: "the disk is full; free some space and try again",
    sqlite3.SQLITE_READONLY: "it is read-only; let this user write the file and its folder",
    sqlite3.SQLITE_CANTOPEN: CANNOT_OPEN,
    sqlite3.SQLITE_PERM: "this user may not open it",
    sqlite3.SQLITE_BUSY: f"another program has kept it locked for {BUSY_TIMEOUT_S} s; close that program",
    sqlite3.SQLITE_LOCKED: "another program keeps it locked; close that program",
    sqlite3.SQLITE_CORRUPT: "it is damaged; restore it from a backup, or recover it with sqlite3's .recover",
    sqlite3.SQLITE_NOTADB: "it is not an SQLite database, or damaged; restore a backup, or name another",
    sqlite3.SQLITE_IOERR: "the disk, or a limit on the size of files, does not let it be read or written; make "
    "room, look at the disk, and check the ledger with verify",
}

ERRORS = (sqlite3.Error, OverflowError, UnicodeError, OSError)
"""The errors of a file, and of a value that cannot be written."""


def explained(path: Path, error: Exception) -> LedgerError:
    """Returns the error to raise for one of `ERRORS`."""
    if isinstance(error, sqlite3.IntegrityError | sqlite3.ProgrammingError | OverflowError | UnicodeError):
        return LedgerError(
            f"ledger {path}: an amount or a reference is not one that a ledger can keep ({error}); "
            "nothing was changed"
        )
    if isinstance(error, OSError):
        return unavailable(path, f"{error.strerror or error}; keep it on a disk of this machine")
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return unavailable(path, _REMEDIES.get(code, str(error)))


def unavailable(path: Path, problem: str) -> LedgerUnavailableError:
    """Returns the error for a file that cannot be used."""
    return LedgerUnavailableError(f"ledger {os.fspath(path)}: {problem}; nothing was changed")


def missing(path: Path) -> LedgerUnavailableError:
    """Returns the error for a file that does not exist, or is empty."""
    problem = "it is empty" if path.is_file() else "there is no such file"
    return unavailable(path, f"{problem}; check its name, or begin it with `kling-pricing budget apply FILE`")
