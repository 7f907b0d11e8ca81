"""Every error of a database becomes an error of the library that names the ledger, the cause and the remedy."""

import sqlite3
from contextlib import closing
from functools import partial
from pathlib import Path

import psycopg
import pytest
from psycopg import errors

from kling_pricing import (
    Budget,
    BudgetGuard,
    KlingPricingError,
    LedgerError,
    LedgerUnavailableError,
    PriceBook,
)
from kling_pricing.ledger.postgres.connection import NoAnswerError
from kling_pricing.ledger.postgres.errors import explained, is_lost
from kling_pricing.ledger.sqlite import errors as sqlite_errors
from tests.conftest import Clock
from tests.guards import CLIP

NAME = "ledger postgresql://db/spend: "
UNTIL = "; nothing can be spent until this is resolved"
LOST = (
    "the server cannot be reached or the connection was lost (gone); check that the server is running, and "
    "check "
    "the host and port in the URL"
)


@pytest.mark.parametrize(
    ("error", "cause", "lost"),
    [
        *(
            (
                kind("no such thing\nLINE 1: SELECT 'a secret'"),
                (
                    "the database has no ledger (no such thing); an administrator can create one with "
                    "`kling-pricing "
                    "ledger init URL`"
                ),
                False,
            )
            for kind in (errors.InvalidSchemaName, errors.UndefinedFunction, errors.UndefinedTable)
        ),
        (
            errors.InsufficientPrivilege("permission denied"),
            (
                "permission denied; only an administrator may create ledgers, change budgets and set opening "
                "balances; "
                "to let li use guards, ask an administrator to run `kling-pricing ledger init URL --grant li`"
            ),
            False,
        ),
        (
            errors.ReadOnlySqlTransaction("cannot execute INSERT"),
            (
                "the database is read-only, because the server is a standby or default_transaction_read_only "
                "is "
                "on; "
                "give the URL of the primary, or list every host and add target_session_attrs=read-write"
            ),
            False,
        ),
        *(
            (
                kind("too long"),
                "too long; raise statement_timeout or lock_timeout, or find the cause of the delay",
                False,
            )
            for kind in (errors.QueryCanceled, errors.LockNotAvailable)
        ),
        (
            NoAnswerError("no answer after 30 s"),
            (
                "no answer after 30 s; check the load on the server and on any proxy in front of it, or "
                "allow more "
                "time by adding ?answer_s=SECONDS to the URL"
            ),
            True,
        ),
        (errors.DiskFull("disk full"), "disk full; free some space on the server's disk", False),
        (
            psycopg.OperationalError("fe_sendauth: no password supplied"),
            "fe_sendauth: no password supplied; check the user, password, host and database in the URL",
            False,
        ),
        *(
            (kind("gone"), LOST, True)
            for kind in (
                psycopg.OperationalError,
                errors.AdminShutdown,
                errors.CrashShutdown,
                errors.CannotConnectNow,
                errors.TooManyConnections,
                errors.ConnectionException,
                errors.ConnectionFailure,
                errors.SqlclientUnableToEstablishSqlconnection,
            )
        ),
        (errors.SyntaxError("a mistake"), "a mistake", False),
        (psycopg.InterfaceError(), "InterfaceError", False),
    ],
)
def test_an_error_of_postgresql_says_what_to_do(
    error: psycopg.Error,
    cause: str,
    lost: bool,  # noqa: FBT001
) -> None:
    """Only the first line of the server's message is shown; a lost connection is worth another attempt."""
    became = explained(error, "postgresql://db/spend", "li")
    assert (type(became), str(became)) == (LedgerUnavailableError, f"{NAME}{cause}{UNTIL}")
    assert is_lost(error) is lost


@pytest.mark.parametrize("kind", [errors.NumericValueOutOfRange, errors.UniqueViolation])
def test_a_value_that_postgresql_refuses_changes_nothing(kind: type[psycopg.Error]) -> None:
    """The error is not that the ledger cannot be used."""
    became = explained(kind("out of range"), "postgresql://db/spend", "li")
    assert (type(became), str(became)) == (
        LedgerError,
        f"{NAME}the ledger cannot store an amount or a reference (out of range); nothing was changed",
    )


def of_sqlite(code: int | None) -> sqlite3.Error:
    """Returns an error of SQLite with a code."""
    error = sqlite3.OperationalError("as SQLite puts it")
    if code is not None:
        error.sqlite_errorcode = code
    return error


@pytest.mark.parametrize(
    ("error", "cause"),
    [
        (of_sqlite(sqlite3.SQLITE_FULL), "the disk is full; free some space and try again"),
        (
            of_sqlite(sqlite3.SQLITE_READONLY_DBMOVED),
            "it is read-only; give the user that runs this program write access to the file and its folder",
        ),
        (
            of_sqlite(sqlite3.SQLITE_PERM),
            "this user is not allowed to open it; let this user read and write the file",
        ),
        (of_sqlite(sqlite3.SQLITE_BUSY), "another program has locked it for 60 s; close that program"),
        (of_sqlite(sqlite3.SQLITE_LOCKED), "another program has locked it; close that program"),
        (
            of_sqlite(sqlite3.SQLITE_CORRUPT),
            "it is damaged; restore a backup, or recover the file with sqlite3's `.recover`",
        ),
        (
            of_sqlite(sqlite3.SQLITE_NOTADB),
            "it is not a SQLite database, or it is damaged; restore a backup, or give another file",
        ),
        (
            of_sqlite(sqlite3.SQLITE_IOERR_FSYNC),
            (
                "it cannot be read or written, because of a disk error or a limit on file sizes; free some "
                "space, "
                "check the disk, and then check the ledger with `verify`"
            ),
        ),
        (
            OSError(5, "Input/output error"),
            "Input/output error; keep the ledger on a local disk of this machine",
        ),
        (OSError("no locks"), "no locks; keep the ledger on a local disk of this machine"),
    ],
)
def test_an_error_of_a_file_says_what_to_do(error: Exception, cause: str) -> None:
    """The extended codes of SQLite have the remedy of their kind."""
    became = sqlite_errors.explained(Path("/srv/spend.db"), error)
    assert (type(became), str(became)) == (
        LedgerUnavailableError,
        f"ledger /srv/spend.db: {cause}; nothing was changed",
    )
    assert sqlite_errors.is_of_file(error) is isinstance(error, sqlite3.Error)


@pytest.mark.parametrize("error", [of_sqlite(None), of_sqlite(sqlite3.SQLITE_INTERRUPT)])
def test_another_error_of_sqlite_keeps_its_words(error: sqlite3.Error) -> None:
    """An error without a remedy of ours is passed on, and is not due to the file."""
    became = sqlite_errors.explained(Path("/srv/spend.db"), error)
    assert str(became) == "ledger /srv/spend.db: as SQLite puts it; nothing was changed"
    assert not sqlite_errors.is_of_file(error)


@pytest.mark.parametrize(
    "error",
    [sqlite3.IntegrityError("bad"), sqlite3.ProgrammingError("bad"), OverflowError("bad"), UnicodeError("bad")],
)
def test_a_value_that_sqlite_refuses_changes_nothing(error: Exception) -> None:
    """The error is not that the ledger cannot be used."""
    became = sqlite_errors.explained(Path("/srv/spend.db"), error)
    assert (type(became), str(became)) == (
        LedgerError,
        "ledger /srv/spend.db: the ledger cannot store an amount or a reference (bad); nothing was changed",
    )


@pytest.mark.parametrize(
    ("became", "message"),
    [
        (
            sqlite_errors.forked(Path("/srv/spend.db")),
            (
                "this process was forked while its parent was using the ledger; start processes without "
                "forking, "
                "or "
                "open the ledger after the fork; nothing was changed"
            ),
        ),
        (
            sqlite_errors.locked(Path("/srv/spend.db")),
            "another program has locked it for 60 s; close that program; nothing was changed",
        ),
        (
            sqlite_errors.incomplete(Path("/srv/spend.db"), 6, 7),
            (
                "its last 1 journal entry is missing: the ledger ends at entry 6, but entry 7 was "
                "acknowledged. "
                "Its "
                "files were damaged, or an older copy was put in their place. Stop every program that uses the "
                "ledger, "
                "keep a copy of its files, and run `kling-pricing ledger recover sqlite:////srv/spend.db`, "
                "which "
                "shows "
                "the loss; nothing was changed"
            ),
        ),
        (
            sqlite_errors.missing(Path("/srv/no-such-folder/spend.db")),
            (
                "there is no such file; check the file's name, or create the ledger with `kling-pricing budget "
                "apply "
                "FILE`; nothing was changed"
            ),
        ),
    ],
)
def test_a_file_that_cannot_be_used_says_what_to_do(became: KlingPricingError, message: str) -> None:
    """Forks, locks, lost entries and missing files."""
    path = "/srv/no-such-folder/spend.db" if "no such file" in message else "/srv/spend.db"
    assert str(became) == f"ledger {path}: {message}"


def test_an_older_copy_of_a_ledger_names_the_entries_that_it_lacks(
    tmp_path: Path, book: PriceBook, clock: Clock
) -> None:
    """Entries that were acknowledged would be spent again, so the guard cannot be opened."""
    path, copy = tmp_path / "spend.db", tmp_path / "copy"
    opened = partial(BudgetGuard, f"sqlite:///{path}", book=book, clock=clock)
    with opened([Budget(name="all", cap=9, currency="USD")]) as guard:
        guard.admit(CLIP, project="trailer")
        before = len(guard.journal())
    copy.write_bytes(path.read_bytes())
    with opened() as guard:
        guard.admit(CLIP, project="trailer")
        guard.admit(CLIP, project="trailer")
        after = len(guard.journal())
    with path.open("r+b") as file:  # the file itself, not another one in its place
        file.truncate()
        file.write(copy.read_bytes())
    with pytest.raises(LedgerUnavailableError) as caught:
        opened()
    assert str(caught.value) == (
        f"ledger {path}: its last {after - before} journal entries are missing: the ledger ends at entry "
        f"{before}, "
        f"but entry {after} was acknowledged. Its files were damaged, or an older copy was put in their "
        f"place. Stop "
        "every program that uses the ledger, keep a copy of its files, and run `kling-pricing ledger recover "
        f"sqlite:///{path}`, which shows the loss; nothing was changed"
    )


@pytest.mark.parametrize(
    ("labels", "names"),
    [
        ("{}", "no labels"),
        ('{"team":"a"}', "the label team"),
        ('{"team":"a","user":"li"}', "the labels team, user"),
    ],
)
def test_a_bucket_with_other_labels_than_its_budget_is_named(
    tmp_path: Path, book: PriceBook, clock: Clock, labels: str, names: str
) -> None:
    """`verify` says which labels the bucket has, and which its budget gives it."""
    budget = Budget(name="each-user", match={"user": "*"}, cap=9, currency="USD")
    with BudgetGuard(f"sqlite:///{tmp_path}/spend.db", [budget], book=book, clock=clock) as guard:
        guard.admit(CLIP, project="trailer", labels={"user": "li"})
        with closing(sqlite3.connect(tmp_path / "spend.db", isolation_level=None)) as other:
            other.execute("UPDATE bucket SET labels = ?", (labels,))
        with pytest.raises(LedgerError) as caught:
            guard.verify()
    assert f"bucket each-user: it has {names}, but its budget requires the label user" in str(caught.value)
