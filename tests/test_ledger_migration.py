"""Ledgers of earlier schema versions are refused until they are migrated, and keep their content."""

import json
import os
import resource
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from types import FrameType
from typing import Any

import psycopg
import pytest

from kling_pricing import BudgetGuard, LedgerError, LedgerUnavailableError, PriceBook
from kling_pricing.ledger import connect
from kling_pricing.ledger.administration import info, prepare
from kling_pricing.ledger.postgres.server import VERSION as POSTGRES_VERSION
from kling_pricing.ledger.sqlite import migration, schema
from tests.commands import run
from tests.conftest import Clock, driven_by
from tests.golden.make import CLIP, END, HERE, golden_sql, reported, second_budgets
from tests.servers import execute

VERSIONS = range(1, schema.VERSION + 1)
COST = Decimal("0.714")

unix = pytest.mark.skipif(os.name == "nt", reason="this system has no signals and limits of this kind")


def golden(store: str, version: int) -> Any:
    """Returns the report about the golden ledger that the code of its version wrote.

    Version 1 stored one amount of a charge, and its unit. Versions before 3 stored no facts, and did not count
    requests without a price. Versions before 5 stored no accounts.
    """
    report = json.loads((HERE / f"{store}-{version}.json").read_text(encoding="utf-8"))
    if version == 1:
        report["unclaimed"] = [_with_charge(**observation) for observation in report["unclaimed"]]
    if version < 3:
        report["unclaimed"] = [{**observation, "facts": {}} for observation in report["unclaimed"]]
        report["unpriced"] = []
    if version < 5:
        for jobs in (report["reservations"], report["in doubt"]):
            jobs[:] = [{**job, "account": job["provider"]} for job in jobs]
    return report


def _with_charge(*, amount: str | None, amount_unit: str | None, **observation: Any) -> dict[str, Any]:
    part = {"amount": amount, "unit": amount_unit}
    charge = None if amount is None else {"parts": [part], "problem": None, "list_price": None}
    return {**observation, "charge": charge}


def golden_file(path: Path, version: int) -> str:
    """Creates the golden ledger of a version in a file; returns its URL."""
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(golden_sql("sqlite", version))
        connection.execute("PRAGMA journal_mode = WAL")
    return f"sqlite:///{path}"


def golden_database(url: str, version: int) -> str:
    """Creates the golden ledger of a version in a database; returns its URL."""
    execute(url, "DROP SCHEMA IF EXISTS kling_pricing CASCADE")
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute(golden_sql("postgres", version).encode())
    return url


@pytest.fixture
def clock() -> Clock:
    """Returns a clock that shows the end of the golden ledgers' story."""
    return Clock(END)


@pytest.fixture(params=["sqlite", "postgres"])
def store(request: pytest.FixtureRequest) -> str:
    """Returns the name of each kind of store."""
    name: str = request.param
    return name


@pytest.fixture
def old(store: str, tmp_path: Path, request: pytest.FixtureRequest) -> Callable[[int], str]:
    """Returns a function that creates the golden ledger of a version and returns its URL."""
    if store == "sqlite":
        return lambda version: golden_file(tmp_path / "spend.db", version)
    url: str = request.getfixturevalue("postgres_database")
    return lambda version: golden_database(url, version)


@pytest.fixture
def by_clock(store: str, clock: Clock) -> Callable[[str], Any]:
    """Returns a function that makes a migrated ledger use the test's clock."""
    return lambda url: driven_by(clock, url) if store == "postgres" else closing(_Nothing())


class _Nothing:
    def close(self) -> None:
        """Does nothing."""


@pytest.mark.parametrize("version", VERSIONS)
def test_a_ledger_of_any_version_is_the_same_after_it_was_migrated(
    old: Callable[[int], str], by_clock: Callable[[str], Any], clock: Clock, store: str, version: int
) -> None:
    """A migrated ledger reports the same content as before, and can admit and settle."""
    url = old(version)
    prepare(url, create=False)
    with by_clock(url):
        assert reported(url, clock) == golden(store, version)
        with BudgetGuard(url, second_budgets(), clock=clock) as guard:
            before = {bucket.budget: bucket for bucket in guard.status()}
            admission = guard.admit(CLIP, project="trailer", labels={"user": "new"})
            guard.dispatch(admission)
            guard.bind(admission, "t-new")
            guard.settle(admission, "0.7")
            after = {bucket.budget: bucket for bucket in guard.status()}
            assert after["all"].spent - before["all"].spent == Decimal("0.7")
            assert after["all"].held == before["all"].held
            assert guard.reservation(admission).terms.list_total is None
            guard.verify()


@pytest.mark.parametrize("version", VERSIONS)
def test_a_migrated_ledger_has_the_tables_of_a_new_one(tmp_path: Path, version: int) -> None:
    """A migrated file has the same tables, checks, indexes and triggers as a new one."""

    def described(path: Path) -> list[Any]:
        with closing(sqlite3.connect(path)) as connection:
            return connection.execute("SELECT type, name, sql FROM sqlite_master ORDER BY name").fetchall()

    golden_file(tmp_path / "old.db", version)
    migration.migrate(tmp_path / "old.db", END)
    BudgetGuard(f"sqlite:///{tmp_path}/new.db", second_budgets()).close()
    spaceless = [
        [(kind, name, " ".join((text or "").split())) for kind, name, text in described(tmp_path / file)]
        for file in ("old.db", "new.db")
    ]
    assert spaceless[0] == spaceless[1]


def test_a_migrated_schema_equals_a_new_one(postgres_database: str) -> None:
    """A migrated server has the same columns, constraints, indexes, functions and rights as a new one."""

    def described() -> list[Any]:
        with psycopg.connect(postgres_database) as connection:
            return [
                connection.execute(query).fetchall()
                for query in (
                    """SELECT table_name, column_name, data_type, is_nullable, column_default
                    FROM information_schema.columns WHERE table_schema = 'kling_pricing' ORDER BY 1, 2""",
                    """SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid) FROM pg_constraint
                    WHERE connamespace = 'kling_pricing'::regnamespace ORDER BY 1, 2""",
                    "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'kling_pricing' ORDER BY 1",
                    """SELECT oid::regprocedure::text, pg_get_functiondef(oid), proacl::text FROM pg_proc
                    WHERE pronamespace = 'kling_pricing'::regnamespace ORDER BY 1""",
                )
            ]

    golden_database(postgres_database, 1)
    prepare(postgres_database, create=False)
    migrated = described()
    execute(postgres_database, "DROP SCHEMA kling_pricing CASCADE")
    prepare(postgres_database, create=True)
    assert described() == migrated


def test_an_observation_that_an_earlier_version_refused_is_applied_when_it_is_made_again(
    old: Callable[[int], str], by_clock: Callable[[str], Any], clock: Clock, store: str
) -> None:
    """Version 2 stored the charge of a bound task that it refused to apply; repeating it now settles the task.

    An observation that version 2 did apply remains a repetition.
    """
    url = old(2)
    table = "observation" if store == "sqlite" else "kling_pricing.observation"
    refused = (
        f"INSERT INTO {table} (provider, task_id, state, charge, seen_at) VALUES ('qingbo', 't-10',"
        """ 'succeeded', '{"parts":[["350000","quota"]]}', '2026-11-15T10:00:00.000000+00:00')"""
    )
    if store == "sqlite":
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection:
            connection.execute(refused)
            connection.commit()
    else:
        execute(url, refused)
    prepare(url, create=False)
    with by_clock(url), BudgetGuard(url, clock=clock) as guard:
        assert guard.reservation(("qingbo", "t-10")).state == "bound"
        guard.observe({"task_id": "t-10", "status": "completed", "cost": 350000}, provider="qingbo")
        settled = guard.reservation(("qingbo", "t-10"))
        assert (settled.state, settled.billed, settled.basis) == ("settled", Decimal("0.7"), "response")
        entries = len(guard.journal())
        guard.observe({"task_id": "t-10", "status": "completed", "cost": 350000}, provider="qingbo")
        guard.observe({"task_id": "t-2", "status": "completed", "cost": 350000}, provider="qingbo")
        assert len(guard.journal()) == entries
        guard.verify()


# refused until it is migrated


def test_an_older_ledger_is_refused_with_the_command_to_run(
    old: Callable[[int], str], store: str, book: PriceBook
) -> None:
    """Guards and read-only commands refuse an older ledger, name the command to run, and change nothing."""
    url = old(1)
    place = url if store == "sqlite" else "URL"
    problem = (
        "this ledger has schema version 1, but this release of kling-pricing needs version "
        f"{schema.VERSION}; stop the guards and run `kling-pricing ledger migrate {place}`"
    )
    for budgets in (None, second_budgets()):
        with pytest.raises(LedgerUnavailableError) as refusal:
            BudgetGuard(url, budgets, book=book)
        assert str(refusal.value).endswith(f": {problem}")
    for command in (["history"], ["in-doubt"], ["budget", "status"], ["verify"]):
        result = run(*command, "--ledger", url)
        assert (result.returncode, result.stdout) == (2, "")
        assert problem in " ".join(result.stderr.split())
    shown = run("ledger", "info", url)
    assert (shown.returncode, "schema: 1\n" in shown.stdout) == (0, True)
    assert problem in " ".join(shown.stderr.split())
    assert info(url).facts["schema"] == "1"


def newer(url: str, store: str) -> None:
    """Changes a ledger's schema version to the next one, as a migration would."""
    if store == "sqlite":
        with closing(sqlite3.connect(url.removeprefix("sqlite:///"))) as connection:
            connection.execute(f"PRAGMA user_version = {schema.VERSION + 1}")
        return
    version = POSTGRES_VERSION + 1
    with psycopg.connect(url, autocommit=True) as connection:
        (row,) = connection.execute(
            "SELECT pg_get_functiondef('kling_pricing.require_version(integer)'::regprocedure)"
        ).fetchall()
        text = str(row[0]).replace(f"<> {POSTGRES_VERSION}", f"<> {version}")
        connection.execute(text.replace(f"'{POSTGRES_VERSION}'", f"'{version}'").encode())
        connection.execute("UPDATE kling_pricing.schema_version SET version = %s", [version])


def test_a_newer_ledger_is_refused_and_says_to_upgrade(
    old: Callable[[int], str], store: str, book: PriceBook
) -> None:
    """Guards and migrations refuse a newer ledger and say to upgrade the library."""
    url = old(schema.VERSION)
    newer(url, store)
    problem = (
        f"this ledger was written by a newer release of kling-pricing (schema version {schema.VERSION + 1}); "
        "upgrade kling-pricing"
    )
    for refused in (
        lambda: BudgetGuard(url, book=book),
        lambda: prepare(url, create=False),
        lambda: prepare(url, create=True),
    ):
        with pytest.raises(LedgerUnavailableError) as refusal:
            refused()
        assert str(refusal.value).endswith(f": {problem}")
    assert info(url).facts["schema"] == str(schema.VERSION + 1)


def test_a_guard_that_is_open_notices_a_migration(
    old: Callable[[int], str], store: str, clock: Clock, by_clock: Callable[[str], Any]
) -> None:
    """A guard that is open during a migration refuses every further use."""
    url = old(schema.VERSION)
    with by_clock(url), BudgetGuard(url, clock=clock) as guard:
        admission = guard.admit(CLIP, project="trailer", labels={"user": "new"})
        other = connect(url, clock=clock)
        other.installed()
        newer(url, store)
        for verb in (
            lambda: guard.admit(CLIP, project="trailer", labels={"user": "new"}),
            lambda: guard.dispatch(admission),
            lambda: guard.release(admission),
            lambda: guard.record("qingbo", "other", 1, labels={"project": "trailer"}),
            lambda: guard.apply(second_budgets(), allow_weaker=True),
            guard.status,
            guard.history,
            guard.journal,
            guard.verify,
            lambda: list(other.sent("qingbo", clock.now + timedelta(days=1))),
        ):
            with pytest.raises(
                LedgerUnavailableError, match=r"newer release of kling-pricing .*; upgrade kling-pricing$"
            ):
                verb()
        other.close()


# migrating


def test_a_repeated_migration_changes_nothing(old: Callable[[int], str], store: str, tmp_path: Path) -> None:
    """Migrating a ledger of the current version changes nothing and makes no copy."""
    url = old(1)
    first = run("ledger", "migrate", url)
    assert (first.returncode, first.stderr) == (0, "")
    assert f"upgraded from schema 1 to schema {schema.VERSION}" in " ".join(first.stdout.split())
    files = sorted(tmp_path.iterdir())
    for command in ("migrate", "init"):
        repeated = run("ledger", command, url)
        assert (repeated.returncode, repeated.stderr) == (0, "")
        assert f": up to date, schema {schema.VERSION}" in " ".join(repeated.stdout.split())
    assert sorted(tmp_path.iterdir()) == files
    assert len([file for file in files if ".version-1." in file.name]) == (1 if store == "sqlite" else 0)


def test_the_copy_equals_the_old_ledger(tmp_path: Path) -> None:
    """The copy includes the WAL, keeps the file's permissions, and has the instant in its name."""
    path = tmp_path / "spend.db"
    golden_file(path, 1)
    path.chmod(0o600)
    with closing(sqlite3.connect(path)) as connection:
        before = list(connection.iterdump())
        connection.execute(
            "INSERT INTO observation (provider, task_id, seen_at) VALUES ('p', 'in the WAL', '')"
        )
        connection.commit()
        _, copy = migration.migrate(path, END)
        assert copy == tmp_path / "spend.db.version-1.20261121T093000.000000Z"
    assert copy.stat().st_mode & 0o777 == 0o600
    with closing(sqlite3.connect(copy)) as connection:
        assert connection.execute("PRAGMA user_version").fetchone() == (1,)
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        rows = connection.execute("DELETE FROM observation WHERE task_id = 'in the WAL'")
        assert (rows.rowcount, list(connection.iterdump())) == (1, before)
    copy.rename(path)
    assert migration.migrate(path, END + timedelta(seconds=1)).version == 1
    assert sorted(file.name for file in tmp_path.glob("*.version-*")) == [
        "spend.db.version-1.20261121T093001.000000Z"
    ]


def test_a_copy_never_replaces_another_file(tmp_path: Path) -> None:
    """A migration whose copy would replace a file is refused, and changes neither the file nor the ledger."""
    path = tmp_path / "spend.db"
    golden_file(path, 1)
    other = tmp_path / "spend.db.version-1.20261121T093000.000000Z"
    other.write_text("mine")
    with pytest.raises(
        LedgerUnavailableError,
        match=(r"the copy would replace spend\.db\.version-1\S+Z; move that file elsewhere"),
    ):
        migration.migrate(path, END)
    assert (other.read_text(), migration.describe(path).version) == ("mine", 1)
    assert not path.with_name("spend.db.copying").exists()
    assert migration.migrate(path, END + timedelta(microseconds=1)).version == 1


@unix
def test_without_room_for_the_copy_nothing_is_migrated(tmp_path: Path) -> None:
    """A migration without space for the copy leaves no partial copy, and succeeds once there is space."""
    path = tmp_path / "spend.db"
    url = golden_file(path, 1)
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000));"
        "from kling_pricing.cli import main; sys.argv[1:] = ['ledger', 'migrate', sys.argv[1]]; main()"
    )
    done = subprocess.run([sys.executable, "-c", code, url], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "free some space" in " ".join(done.stderr.split())
    assert "nothing was changed" in " ".join(done.stderr.split())
    assert migration.describe(path).version == 1
    assert [file.name for file in tmp_path.iterdir() if "version-" in file.name or "copying" in file.name] == []
    prepare(url, create=False)
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 40_000


def test_a_file_that_is_not_a_ledger_is_not_migrated(tmp_path: Path) -> None:
    """A missing file, an empty file and a foreign database are refused and not changed."""
    path = tmp_path / "spend.db"
    url = f"sqlite:///{path}"
    assert "there is no such file" in run("ledger", "migrate", url).stderr
    assert list(tmp_path.iterdir()) == []
    path.touch()
    assert "the file is empty" in run("ledger", "migrate", url).stderr
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE films (name TEXT)")
    assert "the file is a different kind of database, not a ledger" in " ".join(
        run("ledger", "migrate", url).stderr.split()
    )
    assert list(tmp_path.iterdir()) == [path]


@pytest.fixture
def _third_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Adds a schema version whose migration has two statements."""
    third = ("CREATE TABLE third (a INTEGER) STRICT", "INSERT INTO third VALUES (3)")
    monkeypatch.setitem(schema.STEPS, schema.VERSION + 1, third)
    monkeypatch.setattr(schema, "VERSION", schema.VERSION + 1)


@pytest.mark.usefixtures("_third_step")
def test_the_next_version_is_added_by_one_entry(tmp_path: Path) -> None:
    """The migration of a version-1 ledger applies the steps of every later version."""
    path = tmp_path / "spend.db"
    golden_file(path, 1)
    assert migration.migrate(path, END).version == 1
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT a FROM third").fetchall() == [(3,)]
        assert connection.execute("SELECT list_total FROM reservation").fetchone() == (None,)
        assert connection.execute("PRAGMA user_version").fetchone() == (schema.VERSION,)


@unix
def test_ctrl_c_while_migrating_leaves_the_old_ledger_or_the_new_one(tmp_path: Path, clock: Clock) -> None:
    """After Ctrl-C at any point the ledger is valid, no lock is held, and a retry completes the migration."""
    import fcntl  # noqa: PLC0415 (not on Windows)

    struck = True
    place = 0
    while struck:
        place += 1 + max(0, place - 30) // 2  # a migration calls a function for every window of the calendar
        folder = tmp_path / str(place)
        folder.mkdir()
        path = folder / "spend.db"
        url = golden_file(path, 1)
        struck = interrupted(lambda: migration.migrate(path, END), place)  # noqa: B023 (called now)
        assert migration.describe(path).version in {1, schema.VERSION}
        for suffix in ("lock", "queue"):
            with path.with_name(f"{path.name}.{suffix}").open("a") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # raises if it is held
        migration.migrate(path, END + timedelta(seconds=1))
        assert reported(url, clock) == golden("sqlite", 1)
        assert not path.with_name("spend.db.copying").exists()
    assert place > 10


def interrupted(verb: Callable[[], object], place: int) -> bool:
    """Runs a migration with Ctrl-C at its n-th function call; returns whether that interrupted it."""
    remaining = place

    def trace(frame: FrameType, event: str, _: object) -> None:
        nonlocal remaining
        if event == "call" and "/ledger/sqlite/" in frame.f_code.co_filename:
            remaining -= 1
            if remaining == 0:
                sys.settrace(None)
                raise KeyboardInterrupt

    sys.settrace(trace)
    try:
        verb()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(None)
    return False


@unix
@pytest.mark.parametrize("statement", ["1", "2"])
def test_a_migration_that_is_killed_leaves_the_old_ledger(tmp_path: Path, clock: Clock, statement: str) -> None:
    """A migration that is killed before its commit leaves the old ledger, and the next one succeeds."""
    path = tmp_path / "spend.db"
    url = golden_file(path, 1)
    code = (
        "import os, pathlib, signal, sys\n"
        "from datetime import UTC, datetime\n"
        "from kling_pricing.ledger.sqlite import migration, schema\n"
        "class Steps(list):\n"
        "    def __iter__(self):\n"
        "        for number, statement in enumerate(list.__iter__(self), start=1):\n"
        "            yield statement\n"
        "            if number == int(sys.argv[2]):\n"
        "                os.kill(os.getpid(), signal.SIGKILL)\n"
        "schema.STEPS[2] = Steps([*schema.STEPS[2], 'CREATE TABLE third (a INTEGER) STRICT'])\n"
        "migration.migrate(pathlib.Path(sys.argv[1]), datetime.now(UTC))\n"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path), statement], check=False)
    assert done.returncode == -signal.SIGKILL
    assert migration.describe(path).version == 1
    with closing(sqlite3.connect(path)) as connection:
        assert connection.execute("SELECT name FROM sqlite_master WHERE name = 'third'").fetchall() == []
    prepare(url, create=False)
    assert reported(url, clock) == golden("sqlite", 1)
    assert len([*tmp_path.glob("spend.db.version-1.*")]) == 2


def test_two_simultaneous_migrations_both_succeed(
    old: Callable[[int], str], store: str, clock: Clock, by_clock: Callable[[str], Any]
) -> None:
    """One of two simultaneous migrations upgrades the ledger, and the other reports that it is up to date."""
    url = old(1)
    command = [sys.executable, "-m", "kling_pricing", "ledger", "migrate", url]
    both = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    texts = [process.communicate()[0] for process in both]
    assert sorted("up to date" in text for text in texts) == [False, True]
    with by_clock(url):
        assert reported(url, clock) == golden(store, 1)


def test_a_migration_that_fails_leaves_a_server_as_it_was(postgres_database: str) -> None:
    """A failed migration of a server is rolled back completely."""
    golden_database(postgres_database, 1)
    execute(
        postgres_database,
        "ALTER TABLE kling_pricing.reservation ADD COLUMN list_total text",  # conflicts with the migration
    )
    with pytest.raises(LedgerError, match="list_total"):
        prepare(postgres_database, create=False)
    execute(postgres_database, "ALTER TABLE kling_pricing.reservation DROP COLUMN list_total")
    assert info(postgres_database).facts["schema"] == "1"
    prepare(postgres_database, create=False)
    assert info(postgres_database).facts["schema"] == str(POSTGRES_VERSION)


def test_roles_that_could_use_guards_still_can(postgres_database: str, book: PriceBook) -> None:
    """A migration grants the new functions to roles that could use guards, and drops the renamed function."""
    golden_database(postgres_database, 1)
    name = f"guard_{os.getpid()}"
    execute(
        postgres_database,
        f"CREATE ROLE {name} LOGIN",
        f"SELECT kling_pricing.grant_guard('{name}')",
    )
    try:
        prepare(postgres_database, create=False)
        url = postgres_database.replace("postgres@", f"{name}@")
        with BudgetGuard(url, book=book) as guard:
            assert [seen.task_id for seen in guard.unclaimed()] == ["stray"]
            guard.release(guard.admit(CLIP, project="trailer", labels={"user": "new"}))
            guard.verify()
        with pytest.raises(psycopg.errors.UndefinedFunction):
            execute(postgres_database, "SELECT kling_pricing.unmatched()")
    finally:
        execute(postgres_database, f"DROP OWNED BY {name}", f"DROP ROLE {name}")


def test_functions_of_an_earlier_release_are_renewed(postgres_database: str, book: PriceBook) -> None:
    """A ledger of this version without a newer function says how to get it, and then has it."""
    execute(postgres_database, "DROP SCHEMA IF EXISTS kling_pricing CASCADE")
    prepare(postgres_database, create=True)
    execute(
        postgres_database,
        "DROP FUNCTION kling_pricing.reservation_page(text, text, text, boolean, text, bigint, timestamptz,"
        " timestamptz)",
    )
    with BudgetGuard(postgres_database, second_budgets(), book=book) as guard:
        assert guard.history_page() == []
        with pytest.raises(LedgerUnavailableError, match="run `kling-pricing ledger migrate URL`"):
            guard.history_page(since=END)
        prepare(postgres_database, create=False)
        assert guard.history_page(since=END) == []


def test_a_guard_of_the_first_version_is_asked_to_upgrade(postgres_database: str) -> None:
    """A version-1 guard that was open during the migration cannot reserve, and the error says to upgrade it."""
    golden_database(postgres_database, 1)
    prepare(postgres_database, create=False)
    order = {"project": "p", "key": "k", "fingerprint": "f", "claims": [], "may_be_unmatched": True}
    with psycopg.connect(postgres_database) as connection:
        (row,) = connection.execute("SELECT kling_pricing.installed()").fetchall()
        order |= {"budgets": row[0]["digest"], "holds": ["0001-01-01T00:00:00Z", "9999-12-31T00:00:00Z"]}
        with pytest.raises(
            psycopg.errors.RaiseException, match=r"older than the ledger.*upgrade kling-pricing"
        ):
            connection.execute(
                "SELECT kling_pricing.reserve('id', %s, %s, '1 min')",
                [json.dumps(order), json.dumps([{"model": "kling-v3", "amounts": []}])],
            )
