"""Translates PostgreSQL's errors into ledger errors that say what to do."""

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
"""Parts of the messages for connections that no retry can open. libpq gives no error code for them."""


_OF_OWNER = "permission denied for function"
"""How the message begins if a role that may use guards calls a function of the owner's."""


def is_lost(error: psycopg.Error) -> bool:
    """Returns whether the connection was lost or the server is stopping or starting, so a retry may succeed."""
    code = error.sqlstate or ""
    gone = errors.AdminShutdown | errors.CrashShutdown | errors.CannotConnectNow | errors.TooManyConnections
    if isinstance(error, gone) or code.startswith("08"):
        return True
    return isinstance(error, psycopg.OperationalError) and not code and not _is_permanent(error)


def explained(error: psycopg.Error, name: str, user: str) -> LedgerError:
    """Returns the ledger error for an error from PostgreSQL.

    Args:
        error: the error from PostgreSQL.
        name: the name of the ledger.
        user: the role that signs in.
    """
    message = first_line(error)
    if isinstance(error, errors.InvalidSchemaName | errors.UndefinedFunction | errors.UndefinedTable):
        return unavailable(
            name,
            f"the database has no ledger ({message}); an administrator can create one with `kling-pricing "
            "ledger init URL`",
        )
    if isinstance(error, errors.InsufficientPrivilege) and _OF_OWNER in message:
        return LedgerError(
            f"ledger {name}: {message}; role {user} may use guards, but only the role that owns the ledger may "
            "change budgets, freezes, allowances and access keys; ask an administrator, or use a URL with that "
            "role; nothing was changed"
        )
    if isinstance(error, errors.InsufficientPrivilege):
        return unavailable(
            name,
            f"{message}; only an administrator may create ledgers, change budgets and set opening balances; "
            f"to let {user} use guards, ask an administrator to run `kling-pricing ledger init URL --grant "
            f"{user}`",
        )
    if isinstance(error, errors.ReadOnlySqlTransaction):
        return unavailable(
            name,
            "the database is read-only, because the server is a standby or default_transaction_read_only is "
            "on; give the URL of the primary, or list every host and add target_session_attrs=read-write",
        )
    if isinstance(error, errors.DataError | errors.IntegrityError):
        return LedgerError(
            f"ledger {name}: the ledger cannot store an amount or a reference ({message}); nothing was changed"
        )
    if isinstance(error, errors.QueryCanceled | errors.LockNotAvailable):
        return unavailable(
            name, f"{message}; raise statement_timeout or lock_timeout, or find the cause of the delay"
        )
    if isinstance(error, NoAnswerError):
        return unavailable(
            name,
            f"{message}; check the load on the server and on any proxy in front of it, or allow more time by "
            "adding ?answer_s=SECONDS to the URL",
        )
    if isinstance(error, errors.DiskFull):
        return unavailable(name, f"{message}; free some space on the server's disk")
    if _is_permanent(error):
        return unavailable(name, f"{message}; check the user, password, host and database in the URL")
    if is_lost(error):
        return unavailable(
            name,
            f"the server cannot be reached or the connection was lost ({message}); check that the server is "
            "running, and check the host and port in the URL",
        )
    return unavailable(name, message)


def unavailable(name: str, problem: str) -> LedgerUnavailableError:
    """Returns the error for a ledger that cannot be used."""
    return LedgerUnavailableError(f"ledger {name}: {problem}; nothing can be spent until this is resolved")


def older_functions(name: str, message: str) -> LedgerUnavailableError:
    """Returns the error for a ledger of this schema version that an earlier release created.

    Args:
        name: the name of the ledger.
        message: the first line of the message from PostgreSQL.
    """
    return LedgerUnavailableError(
        f"ledger {name}: an earlier release created the functions of this ledger, so this cannot be done yet "
        f"({message}); ask an administrator to run `kling-pricing ledger migrate URL`, which changes no table"
    )


def first_line(error: Exception) -> str:
    """Returns the first line of an error's message. The other lines may show the values that were sent."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def _is_permanent(error: psycopg.Error) -> bool:
    return not error.sqlstate and any(sign in str(error) for sign in _PERMANENT)
