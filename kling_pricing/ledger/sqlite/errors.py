"""Translates errors from SQLite and the disk into ledger errors that say what to do."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from kling_pricing.errors import LedgerError, LedgerUnavailableError

BUSY_TIMEOUT_S = 60
"""How long to wait for another program that writes to the file without this library."""

CANNOT_OPEN = "it cannot be opened; create its folder, and let this user write to the folder"

_REMEDIES = {
    sqlite3.SQLITE_FULL: "the disk is full; free some space and try again",
    sqlite3.SQLITE_READONLY: (
        "it is read-only; give the user that runs this program write access to the file and its folder"
    ),
    sqlite3.SQLITE_CANTOPEN: CANNOT_OPEN,
    sqlite3.SQLITE_PERM: "this user is not allowed to open it; let this user read and write the file",
    sqlite3.SQLITE_BUSY: f"another program has locked it for {BUSY_TIMEOUT_S} s; close that program",
    sqlite3.SQLITE_LOCKED: "another program has locked it; close that program",
    sqlite3.SQLITE_CORRUPT: "it is damaged; restore a backup, or recover the file with sqlite3's `.recover`",
    sqlite3.SQLITE_NOTADB: (
        "it is not a SQLite database, or it is damaged; restore a backup, or give another file"
    ),
    sqlite3.SQLITE_IOERR: "it cannot be read or written, because of a disk error or a limit on file sizes; "
    "free some space, check the disk, and then check the ledger with `verify`",
}

ERRORS = (sqlite3.Error, OverflowError, UnicodeError, OSError)
"""The errors of a file that cannot be used, and of a value that cannot be written."""


def explained(path: Path, error: Exception) -> LedgerError:
    """Returns the ledger error for one of `ERRORS`."""
    if isinstance(error, sqlite3.IntegrityError | sqlite3.ProgrammingError | OverflowError | UnicodeError):
        return LedgerError(
            f"ledger {path}: the ledger cannot store an amount or a reference ({error}); nothing was changed"
        )
    if isinstance(error, OSError):
        return unavailable(path, f"{error.strerror or error}; keep the ledger on a local disk of this machine")
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    return unavailable(path, _REMEDIES.get(code, str(error)))


def is_of_file(error: Exception) -> bool:
    """Returns whether an error is due to the file or the disk, and not to the values of one verb."""
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in _REMEDIES


def locked(path: Path) -> LedgerUnavailableError:
    """Returns the error for a file that another program has locked until the limit of a verb."""
    return unavailable(path, _REMEDIES[sqlite3.SQLITE_BUSY])


def forked(path: Path) -> LedgerUnavailableError:
    """Returns the error for a file that the parent of this process was using when it forked."""
    return unavailable(
        path,
        "this process was forked while its parent was using the ledger; start processes without forking, or "
        "open the ledger after the fork",
    )


def unavailable(path: Path, problem: str) -> LedgerUnavailableError:
    """Returns the error for a file that cannot be used."""
    return LedgerUnavailableError(f"ledger {os.fspath(path)}: {problem}; nothing was changed")


def incomplete(path: Path, newest: int, acknowledged: int) -> LedgerUnavailableError:
    """Returns the error for a ledger that lacks journal entries.

    Args:
        path: the ledger's file.
        newest: the number of the newest journal entry in the ledger.
        acknowledged: the number of the newest journal entry that was acknowledged.
    """
    count = acknowledged - newest
    entries = "journal entry is" if count == 1 else "journal entries are"
    return unavailable(
        path,
        f"its last {count} {entries} missing: the ledger ends at entry {newest}, but entry {acknowledged} was "
        "acknowledged. Its files were damaged, or an older copy was put in their place. Stop every program "
        "that uses the ledger, keep a copy of its files, and run "
        f"`kling-pricing ledger recover sqlite:///{path}`, which shows the loss",
    )


def missing(path: Path) -> LedgerUnavailableError:
    """Returns the error for a file that does not exist, or is empty."""
    problem = "the file is empty" if path.is_file() else "there is no such file"
    return unavailable(
        path, f"{problem}; check the file's name, or create the ledger with `kling-pricing budget apply FILE`"
    )
