"""Ledgers in PostgreSQL: roles, servers that cannot be used, and the server's clock."""

import multiprocessing
import os
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import psycopg
import pytest

from kling_pricing import (
    Budget,
    BudgetError,
    BudgetGuard,
    Budgets,
    LedgerError,
    LedgerUnavailableError,
    PriceBook,
)
from kling_pricing.alerts import AlertDelivery
from kling_pricing.guard import apply_budgets, freeze_all
from kling_pricing.ledger import connect
from kling_pricing.ledger.administration import info, prepare
from kling_pricing.ledger.postgres.server import VERSION
from kling_pricing.windows import utc_clock
from tests.commands import run
from tests.conftest import Clock, driven_by, video, with_database
from tests.servers import execute, running

CLIP = video(duration=5, resolution="1080p", audio=True)
COST = Decimal("0.714")
TRAILER = Budget(name="trailer", match={"project": "trailer"}, cap=Decimal(10), currency="USD")


@pytest.fixture
def role(postgres_ledger: str) -> Iterator[str]:
    """Returns the URL of a ledger with budgets, for a role that may use guards."""
    name = f"guard_{os.getpid()}"
    execute(postgres_ledger, f"CREATE ROLE {name} LOGIN PASSWORD 'secret'")
    prepare(postgres_ledger, create=True, grant=name)
    apply_budgets(postgres_ledger, [TRAILER])
    database = urlsplit(postgres_ledger).path[1:]
    yield with_database(postgres_ledger, database, f"{name}:secret")
    execute(postgres_ledger, f"DROP OWNED BY {name}", f"DROP ROLE {name}")


# roles


def test_a_granted_role_can_do_everything_that_a_guard_does(role: str, book: PriceBook) -> None:
    """A granted role can open a guard and use every verb of it."""
    guard = BudgetGuard(role, [TRAILER], book=book)
    admission = guard.admit(CLIP, project="trailer", key="k")
    guard.dispatch(admission)
    guard.mark_in_doubt(admission, "timeout")
    guard.bind(admission, "t-1")
    guard.observe({"task_id": "t-1", "status": "completed", "cost": 350000}, provider="qingbo")
    guard.settle(admission, "0.69", basis="statement")
    guard.release(guard.admit(CLIP, project="trailer"))
    guard.record("qingbo", "t-2", "1", labels={"project": "trailer"})
    assert [(bucket.spent, bucket.held) for bucket in guard.status()] == [(Decimal("1.69"), Decimal(0))]
    assert (len(guard.history()), guard.in_doubt(), guard.unclaimed()) == (3, [], [])
    assert guard.journal()[-1].kind == "record"
    (history,) = connect(role, clock=utc_clock(None)).bucket_histories(*guard.status()[0][7:9])
    assert (history.bucket, history.entries[-1].spent) == (guard.status()[0], Decimal(1))
    guard.verify()
    guard.close()


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM kling_pricing.journal",
        "INSERT INTO kling_pricing.journal (at, kind) VALUES (now(), 'settle')",
        "UPDATE kling_pricing.bucket SET cap = cap * 2",
        "UPDATE kling_pricing.budget SET cap = cap * 2",
        "DELETE FROM kling_pricing.reservation",
        "SELECT kling_pricing.enter(now(), 'settle', NULL, NULL, NULL, NULL, NULL)",
        "SELECT kling_pricing.revision_begin()",
        "SELECT kling_pricing.put_in_force('[]', now())",
        "SELECT kling_pricing.open_bucket('t', 'trailer', '{}', 0, 'me', 'because')",
        "INSERT INTO kling_pricing.calendar VALUES ('lifetime', now(), now(), '')",
        "UPDATE kling_pricing.calendar SET window_end = now()",
        "UPDATE kling_pricing.budget_revision SET document = '{}'",
        "DELETE FROM kling_pricing.frozen",
        "SELECT kling_pricing.put_calendar('[]', '{}', false, now())",
        "SELECT kling_pricing.freeze_budgets(NULL, 'me', 'because')",
        "SELECT kling_pricing.freeze_budgets('{trailer}', 'me', 'because')",
        "SELECT kling_pricing.thaw_budgets(NULL, 'me', 'because')",
        "SELECT kling_pricing.allow('a', 'trailer', 1, 'USD', '{trailer}', NULL, now(), NULL, 'me', 'because')",
        "SELECT kling_pricing.revoke('a', 'me', 'because')",
        "SELECT kling_pricing.use_allowances(now(), 'r', '[]', '{}')",
        "UPDATE kling_pricing.allowance SET amount = amount * 2",
        "SELECT kling_pricing.grant_guard('public')",
        "SELECT kling_pricing.administer(now(), 'li', 'thaw', 'all', NULL, NULL, NULL)",
        "DELETE FROM kling_pricing.administration",
        "INSERT INTO kling_pricing.alert (at, kind, cause) VALUES (now(), 'freeze', 'x')",
        "SELECT id FROM kling_pricing.alert",
        "UPDATE kling_pricing.alert_receiver SET delivered = 1000",
        "INSERT INTO kling_pricing.alert_receiver (name, delivered) VALUES ('env:MINE', 0)",
        "DELETE FROM kling_pricing.refused_requests",
        "UPDATE kling_pricing.lease SET holder = 'me'",
        "INSERT INTO kling_pricing.cap_overlay VALUES ('trailer', 9, now(), now(), 'me', 'because')",
        "SELECT kling_pricing.set_cap('c', 'trailer', 9, now(), now(), 'me', 'because', NULL, NULL)",
        "SELECT kling_pricing.end_cap_overlays('trailer')",
        "UPDATE kling_pricing.administration SET actor = 'li'",
        "CREATE TABLE kling_pricing.extra (a int)",
        "CREATE OR REPLACE FUNCTION kling_pricing.current_instant() RETURNS timestamptz AS 'now' LANGUAGE sql",
        "DROP SCHEMA kling_pricing CASCADE",
    ],
)
def test_a_granted_role_can_do_nothing_else(role: str, statement: str) -> None:
    """A granted role can neither edit the journal nor raise a cap."""
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        execute(role, statement)


@pytest.mark.parametrize("change", ["UPDATE {} SET held_delta = 0", "DELETE FROM {}", "TRUNCATE {}"])
def test_not_even_the_owner_changes_the_journal(postgres_ledger: str, change: str) -> None:
    """Triggers stop even the owner from changing the journal."""
    apply_budgets(postgres_ledger, [TRAILER])
    with pytest.raises(psycopg.errors.RaiseException, match="append-only"):
        execute(postgres_ledger, change.format("kling_pricing.journal"))


@pytest.mark.parametrize("change", ["UPDATE {} SET kind = 'thaw'", "DELETE FROM {}", "TRUNCATE {}"])
def test_not_even_the_owner_changes_the_outbox(postgres_ledger: str, change: str) -> None:
    """Triggers stop even the owner from changing or deleting alerts."""
    apply_budgets(postgres_ledger, [TRAILER])
    freeze_all(postgres_ledger, actor="li", reason="stop")
    with pytest.raises(psycopg.errors.RaiseException, match="append-only"):
        execute(postgres_ledger, change.format("kling_pricing.alert"))


def test_a_guards_role_may_deliver_alerts(role: str, postgres_ledger: str) -> None:
    """The server that guards requests can also deliver, with the same role."""
    apply_budgets(postgres_ledger, Budgets([TRAILER], notify=["env:UNSET_URL"]))
    freeze_all(postgres_ledger, actor="li", reason="stop")
    with AlertDelivery(role) as delivery:
        (status,) = delivery.deliver().receivers
        assert (status.waiting, status.receiver.failures) == (1, 1)
        delivery.resume("env:UNSET_URL")
        assert delivery.receivers()[0].receiver.failures == 0


def test_only_the_administrator_installs_budgets(role: str, postgres_ledger: str, book: PriceBook) -> None:
    """A guard's role cannot install budgets or opening balances, and the errors refer to the administrator."""
    with pytest.raises(BudgetError, match="ask an administrator to install yours"):
        BudgetGuard(role, [Budget(name="mine", cap=Decimal(99), currency="USD")], book=book)
    guard = BudgetGuard(role, book=book)
    with pytest.raises(
        LedgerError,
        match="only the role that owns the ledger may change budgets, freezes, allowances and access keys",
    ):
        guard.apply([Budget(name="mine", cap=Decimal(99), currency="USD")])
    with pytest.raises(
        LedgerError, match="ask an administrator, or use a URL with that role; nothing was changed"
    ):
        guard.open_budget("trailer", "1")
    guard.close()
    execute(postgres_ledger, "DROP SCHEMA kling_pricing CASCADE")
    prepare(postgres_ledger, create=True, grant=str(urlsplit(role).username))
    with pytest.raises(BudgetError, match="`kling-pricing budget apply FILE --ledger URL`"):
        BudgetGuard(role, [TRAILER], book=book)


def test_verify_names_what_differs(postgres_ledger: str, book: PriceBook) -> None:
    """`verify` reports a balance and a line that the owner edited by hand."""
    guard = BudgetGuard(postgres_ledger, [TRAILER], book=book)
    guard.admit(CLIP, project="trailer")
    execute(postgres_ledger, "UPDATE kling_pricing.bucket SET spent = 1")
    with pytest.raises(LedgerError, match=r"spent is 0\.000000001, but the journal gives 0; stop spending"):
        guard.verify()
    execute(postgres_ledger, "UPDATE kling_pricing.reservation_line SET held = held + 1")
    with pytest.raises(
        LedgerError, match=r"2 differences .* held is 0\.714000001, but the journal gives 0\.714"
    ):
        guard.verify()
    guard.close()


# creating and upgrading


def test_init_is_safe_when_run_twice_or_by_two_at_once(postgres_database: str) -> None:
    """Simultaneous calls of init create one ledger, and later calls leave it unchanged."""
    execute(postgres_database, "DROP SCHEMA IF EXISTS kling_pricing CASCADE")
    with ThreadPoolExecutor(4) as pool:
        sentences = [*pool.map(lambda _: prepare(postgres_database, create=True), range(4))]
    assert sorted(": created, schema" in sentence for sentence in sentences) == [False, False, False, True]
    apply_budgets(postgres_database, [TRAILER])
    repeated = run("ledger", "init", postgres_database)
    assert (repeated.returncode, repeated.stdout.partition(": ")[2]) == (0, f"up to date, schema {VERSION}\n")
    assert "revision 1" in info(postgres_database).facts["budgets"]


def test_migrate_needs_a_ledger(postgres_database: str) -> None:
    """`ledger migrate` creates no ledger, and names the command that does."""
    execute(postgres_database, "DROP SCHEMA IF EXISTS kling_pricing CASCADE")
    result = run("ledger", "migrate", postgres_database)
    assert (result.returncode, result.stdout) == (1, "")
    assert "create it with `kling-pricing ledger init URL`" in " ".join(result.stderr.split())
    prepare(postgres_database, create=True)
    assert run("ledger", "migrate", postgres_database).stdout.endswith(f"up to date, schema {VERSION}\n")


def test_a_schema_that_is_not_a_ledger_is_left_alone(postgres_database: str) -> None:
    """A foreign schema with the ledger's name is refused, and the error says what to do."""
    execute(postgres_database, "DROP SCHEMA IF EXISTS kling_pricing CASCADE", "CREATE SCHEMA kling_pricing")
    with pytest.raises(LedgerError, match="is not a ledger; drop or rename the schema"):
        prepare(postgres_database, create=True)


def test_a_role_must_exist_to_be_granted(postgres_ledger: str) -> None:
    """A grant to a role that does not exist shows the statement that creates the role."""
    with pytest.raises(LedgerError, match='CREATE ROLE "no one" LOGIN'):
        prepare(postgres_ledger, create=True, grant="no one")


def test_info_describes_the_server(postgres_ledger: str) -> None:
    """`ledger info` describes a server without standbys without warnings, as text and as JSON."""
    shown = run("ledger", "info", postgres_ledger)
    assert "server: PostgreSQL 1" in shown.stdout
    assert f"schema: {VERSION}\nbudgets: none yet\nsynchronous_commit: on\n" in shown.stdout
    assert shown.stderr == ""
    assert '"standbys":"0","warnings":[]' in run("ledger", "info", postgres_ledger, "--json").stdout


def test_administration_of_a_ledger_in_a_file(tmp_path: Path) -> None:
    """A ledger in a file needs no init and has no roles."""
    url = f"sqlite:///{tmp_path}/spend.db"
    assert "ready; the first use creates the file" in " ".join(run("ledger", "init", url).stdout.split())
    assert "there is no such file; check the file's name" in " ".join(run("ledger", "info", url).stderr.split())
    assert list(tmp_path.iterdir()) == []
    BudgetGuard(url, [Budget(name="all", cap=Decimal(1), currency="USD")]).close()
    assert run("ledger", "init", url).stdout.endswith(f": up to date, schema {VERSION}\n")
    assert "SQLite" in run("ledger", "info", url).stdout
    assert "a ledger in a file has no roles" in run("ledger", "init", url, "--grant", "guard").stderr


# a server that cannot be used


def test_a_missing_ledger_says_how_to_create_it(postgres_database: str) -> None:
    """A guard creates no schema, and its error names the command that does."""
    execute(postgres_database, "DROP SCHEMA IF EXISTS kling_pricing CASCADE")
    with pytest.raises(
        LedgerUnavailableError,
        match=("`kling-pricing ledger init URL`; nothing can be spent until this is resolved"),
    ):
        BudgetGuard(postgres_database, [TRAILER])


@pytest.mark.parametrize(
    ("version", "problem"),
    [
        (
            VERSION + 1,
            rf"newer release of kling-pricing \(schema version {VERSION + 1}\); upgrade kling-pricing$",
        ),
        (VERSION - 1, "stop the guards and run `kling-pricing ledger migrate URL`$"),
    ],
)
def test_a_schema_of_another_version_is_not_used(postgres_ledger: str, version: int, problem: str) -> None:
    """A guard refuses another schema version and says whether to upgrade the ledger or the library."""
    execute(postgres_ledger, f"UPDATE kling_pricing.schema_version SET version = {version}")
    with pytest.raises(LedgerUnavailableError, match=problem):
        BudgetGuard(postgres_ledger, [TRAILER])
    if version > VERSION:
        with pytest.raises(LedgerUnavailableError, match=problem):
            prepare(postgres_ledger, create=True)


def test_a_read_only_server_is_refused(postgres_ledger: str, book: PriceBook) -> None:
    """A guard refuses to spend on a read-only server, and the error asks for the URL of the primary."""
    guard = BudgetGuard(postgres_ledger, [TRAILER], book=book)
    guard.close()
    options = {"options": "-c default_transaction_read_only=on"}
    database = urlsplit(postgres_ledger).path[1:]
    standby = BudgetGuard(with_database(postgres_ledger, database, **options), book=book)
    with pytest.raises(LedgerUnavailableError, match=r"read-only.*give the URL of the primary"):
        standby.admit(CLIP, project="trailer")
    standby.close()


def test_a_busy_pool_says_how_to_have_more(postgres_ledger: str, book: PriceBook) -> None:
    """A verb waits for a free connection as long as `wait_s` allows, and then refuses."""
    database = urlsplit(postgres_ledger).path[1:]
    url = with_database(postgres_ledger, database, pool_size="1", wait_s="1")
    guard = BudgetGuard(url, [TRAILER], book=book)
    with psycopg.connect(postgres_ledger) as other, ThreadPoolExecutor(1) as pool:
        other.execute("LOCK TABLE kling_pricing.budget_revision IN EXCLUSIVE MODE")
        first = pool.submit(guard.admit, CLIP, project="trailer")
        while not waiting(postgres_ledger):
            assert not first.done()
        with pytest.raises(LedgerUnavailableError, match=r"all 1 connections .* add \?pool_size=2 to the URL"):
            guard.admit(CLIP, project="trailer")
        other.rollback()
        assert first.result().quote.total == COST
    guard.close()


def waiting(url: str) -> bool:
    """Returns whether a session waits for a lock."""
    with psycopg.connect(url) as connection:
        row = connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock'"
        ).fetchone()
        return bool(row and row[0])


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("postgresql://user@127.0.0.1:1/none?wait_s=1", "cannot be reached.*check that the server is running"),
        (
            "postgresql://user@127.0.0.1:1/none?wait_s=0",
            "wait_s in the ledger's URL must be a whole number of at least 1, got '0'",
        ),
        (
            "postgresql://user@127.0.0.1:1/none?nonsense=1",
            "unknown option after the question mark; use only options of libpq",
        ),
        ("postgresql://user@no.such.host.invalid/none?wait_s=1", "host"),
        ("mysql://user@host/none", "or postgresql://user@host/database"),
    ],
)
def test_a_url_that_cannot_be_used_says_what_to_check(url: str, problem: str) -> None:
    """The error for a URL that cannot be used says what to check."""
    with pytest.raises(LedgerUnavailableError, match=problem):
        BudgetGuard(url, [TRAILER])


def test_a_missing_library_is_named() -> None:
    """A ledger on a server without its library names the extra to install."""
    code = (
        "import sys; sys.modules['psycopg'] = None\n"
        "from kling_pricing import BudgetGuard, LedgerUnavailableError\n"
        "try:\n    BudgetGuard('postgresql://user@host/database')\n"
        "except LedgerUnavailableError as error:\n    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "pip install 'kling-pricing[postgres]'" in done.stdout


def test_a_wrong_password_or_database_is_not_retried(folder_of_servers: Path) -> None:
    """A wrong password or database raises an error at once, although `wait_s` allows a long wait."""
    with running(folder_of_servers / "passwords", "fsync=off") as server:
        execute(server.url, "CREATE ROLE guard LOGIN PASSWORD 'right'")
        (server.data / "pg_hba.conf").write_text("host all all 127.0.0.1/32 scram-sha-256\n")
        server.run("pg_ctl", "-D", str(server.data), "reload")
        for url in (server.url_of("postgres", "guard:wrong"), server.url_of("none", "guard:right")):
            with pytest.raises(
                LedgerUnavailableError, match="check the user, password, host and database in the URL"
            ):
                BudgetGuard(f"{url}&wait_s=600", [TRAILER])


# the server's clock


def test_a_clock_that_is_off_is_refused(postgres_ledger: str, book: PriceBook, clock: Clock) -> None:
    """The ledger's clock decides if the client's is one window off; a larger difference is refused."""
    client_clock = Clock(clock.now - timedelta(days=1))
    with driven_by(clock, postgres_ledger):
        daily = Budget(name="daily", cap=Decimal(10), currency="USD", window="day")
        guard = BudgetGuard(postgres_ledger, [daily], book=book, clock=client_clock)
        guard.admit(CLIP, project="a")
        assert [bucket.held for bucket in guard.status(clock.now)] == [COST]
        assert [bucket.held for bucket in guard.status(client_clock.now)] == [0]
        client_clock.pass_by(days=-1)
        with pytest.raises(
            LedgerError, match="fall in different windows or price periods; correct this machine's clock"
        ):
            guard.admit(CLIP, project="a")
        assert len(guard.history()) == 1
        guard.close()


# forks


def _admit_in_child(guard: BudgetGuard, pipe: Any) -> None:
    pipe.send(guard.admit(CLIP, project="trailer").quote.total)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_child_process_opens_its_own_connections(postgres_ledger: str, book: PriceBook) -> None:
    """After a fork, parent and child spend from the same budget."""
    guard = BudgetGuard(postgres_ledger, [TRAILER], book=book)
    guard.admit(CLIP, project="trailer")
    context = multiprocessing.get_context("fork")
    parent_end, child_end = context.Pipe()
    child = context.Process(target=_admit_in_child, args=(guard, child_end))
    child.start()
    assert parent_end.recv() == COST
    child.join()
    guard.admit(CLIP, project="trailer")
    assert [bucket.held for bucket in guard.status()] == [3 * COST]
    guard.close()
