"""What the errors of a server mean, and what to do about them."""

from __future__ import annotations

import psycopg
from psycopg import errors

from kling_pricing.errors import LedgerError, LedgerUnavailableError
from kling_pricing.ledger.postgres.connection import NoAnswerError

_PERMANENT = (
    "authentication failed",
    "does not exist",
    "no pg_hba.conf entry",
    "no password supplied",
    "not permitted to log in",
    "could not translate host name",
    "failed to resolve host",
)
"""Parts of the messages for a connection that is refused for good; libpq gives no code for it."""


def is_lost(error: psycopg.Error) -> bool:
    """Whether the connection is gone, or the server is going or coming: another try may find it back."""
    code = error.sqlstate or ""
    gone = errors.AdminShutdown | errors.CrashShutdown | errors.CannotConnectNow | errors.TooManyConnections
    if isinstance(error, gone) or code.startswith("08"):
        return True
    return isinstance(error, psycopg.OperationalError) and not code and not _is_permanent(error)


def explained(error: psycopg.Error, name: str, user: str) -> LedgerError:
    """The error to raise for one of the server of ledger `name`, to which `user` signs in."""
    message = first_line(error)
    if isinstance(error, errors.InvalidSchemaName | errors.UndefinedFunction | errors.UndefinedTable):
        return unavailable(
            name,
            f"it has no ledger ({message}); an administrator makes one with `kling-pricing ledger init URL`",
        )
    if isinstance(error, errors.InsufficientPrivilege):
        return unavailable(
            name,
            f"{message}; an administrator lets {user} use guards with `kling-pricing ledger init URL --grant "
            f"{user}`; making ledgers, budgets and opening balances is the administrator's own",
        )
    if isinstance(error, errors.ReadOnlySqlTransaction):
        return unavailable(
            name,
            "it is read-only: a standby, or default_transaction_read_only is on; name the primary, or every "
            "host with target_session_attrs=read-write",
        )
    if isinstance(error, errors.DataError | errors.IntegrityError):
        return LedgerError(
            f"ledger {name}: an amount or a reference is not one that a ledger can keep ({message}); "
            "nothing was changed"
        )
    if isinstance(error, errors.QueryCanceled | errors.LockNotAvailable):
        return unavailable(name, f"{message}; raise statement_timeout or lock_timeout, or find what is slow")
    if isinstance(error, NoAnswerError):
        return unavailable(
            name,
            f"{message}; look at what the server, or a proxy before it, is busy with, or let it take longer "
            "with ?answer_s=SECONDS behind the URL",
        )
    if isinstance(error, errors.DiskFull):
        return unavailable(name, f"{message}; make room on its disk")
    if _is_permanent(error):
        return unavailable(name, f"{message}; check user, password, host and database of the URL")
    if is_lost(error):
        return unavailable(
            name,
            f"it cannot be reached, or has gone away ({message}); check that it runs, and the URL's host and "
            "port",
        )
    return unavailable(name, message)


def unavailable(name: str, problem: str) -> LedgerUnavailableError:
    """The error for a ledger that cannot be used."""
    return LedgerUnavailableError(f"ledger {name}: {problem}; nothing may be spent")


def first_line(error: Exception) -> str:
    """The first line of what went wrong: the rest may show what was sent."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _is_permanent(error: psycopg.Error) -> bool:
    return not error.sqlstate and any(sign in str(error) for sign in _PERMANENT)
