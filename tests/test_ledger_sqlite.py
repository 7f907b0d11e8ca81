"""Ledgers in SQLite files: files that are missing, damaged, read-only, too large, or not ledgers."""

import json
import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from itertools import count
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

from kling_pricing import (
    Budget,
    BudgetError,
    BudgetExceededError,
    BudgetGuard,
    Budgets,
    LedgerError,
    LedgerUnavailableError,
    PriceBook,
    ReservationNotFoundError,
    ReservationStateError,
)
from kling_pricing.ledger.sqlite.schema import VERSION
from tests.conftest import video
from tests.guard_workers import BUDGETS, COST, PROVIDER, VIDEO, finished

unix = pytest.mark.skipif(not hasattr(os, "geteuid"), reason="this system has no users and limits of this kind")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Returns the path of a ledger that does not exist yet, in a separate folder."""
    (tmp_path / "store").mkdir()
    return tmp_path / "store" / "spend.db"


@pytest.fixture
def opened(path: Path, book: PriceBook) -> Callable[[], BudgetGuard]:
    """Returns a function that opens a guard on that file."""
    return lambda: BudgetGuard(f"sqlite:///{path}", BUDGETS, book=book)


def edited(path: Path, *statements: str) -> None:
    """Runs statements on a file, like a person with the `sqlite3` program."""
    connection = sqlite3.connect(path)
    for statement in statements:
        connection.execute(statement)
    connection.commit()
    connection.close()


def contents(folder: Path) -> dict[str, bytes]:
    """Returns the bytes of every file in a folder, by name.

    Another process reads the files, because closing them here would drop this process's locks.
    """
    code = (
        "import json, pathlib, sys; print(json.dumps({file.name: file.read_bytes().hex()"
        " for file in sorted(pathlib.Path(sys.argv[1]).iterdir())}))"
    )
    out = subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, check=True).stdout
    return {name: bytes.fromhex(data) for name, data in json.loads(out).items()}


@pytest.mark.parametrize(
    ("version", "problem"),
    [
        (
            VERSION + 1,
            rf"newer release of kling-pricing \(schema version {VERSION + 1}\); upgrade kling-pricing$",
        ),
        (VERSION - 1, r"migrate sqlite:////.*/spend\.db`$"),
        (0, "its schema version is 0, which no release of kling-pricing has used; restore a backup$"),
        (-1, "its schema version is -1, which no release of kling-pricing has used; restore a backup$"),
    ],
)
def test_a_schema_that_is_not_known_is_refused_and_left_alone(
    path: Path, opened: Callable[[], BudgetGuard], version: int, problem: str
) -> None:
    """A ledger of another version stays unchanged, and the error says what to do."""
    guard = opened()
    guard.admit(VIDEO, project="trailer")
    guard.close()
    edited(path, f"PRAGMA user_version = {version}")
    before = contents(path.parent)
    with pytest.raises(LedgerError, match=problem):
        opened()
    after = contents(path.parent)
    assert after["spend.db"] == before["spend.db"]
    edited(path, f"PRAGMA user_version = {VERSION}")
    assert opened().status()[0].held == COST


@pytest.mark.parametrize(
    "statements",
    [["CREATE TABLE films (name TEXT)"], ["PRAGMA user_version = 7"], ["PRAGMA application_id = 252006673"]],
    ids=["tables", "version", "application"],
)
def test_a_database_that_is_not_a_ledger_is_refused_and_left_alone(
    path: Path, opened: Callable[[], BudgetGuard], statements: list[str]
) -> None:
    """Not a byte of a foreign database changes, and no file appears in its folder."""
    edited(path, *statements)
    before = contents(path.parent)
    with pytest.raises(
        LedgerError,
        match=("the file is a different kind of database, not a ledger; give a file that does not exist yet"),
    ):
        opened()
    assert contents(path.parent) == before


def test_garbage_is_refused_and_left_alone(path: Path, opened: Callable[[], BudgetGuard]) -> None:
    """A file that is not a database is reported as such and stays unchanged."""
    path.write_bytes(b"no database, just some text. " * 1000)
    before = contents(path.parent)
    with pytest.raises(LedgerUnavailableError, match=r"not a SQLite database.* restore a backup"):
        opened()
    assert contents(path.parent) == before


@pytest.mark.parametrize("part", ["half", "a page"])
def test_a_truncated_file_is_refused_until_it_is_restored(
    path: Path, opened: Callable[[], BudgetGuard], part: str
) -> None:
    """A truncated file accepts no reservations until its backup is restored."""
    guard = opened()
    for place in range(20):
        guard.admit(VIDEO, project=f"p{place}")
    guard.close()
    backup = path.with_suffix(".backup")
    shutil.copy(path, backup)
    size = path.stat().st_size
    os.truncate(path, {"half": size // 2, "a page": 4096}[part])
    with pytest.raises(LedgerError, match=r"damaged; restore"):
        opened().admit(VIDEO, project="trailer")
    for file in path.parent.glob("spend.db*"):
        file.unlink()
    shutil.copy(backup, path)
    guard = opened()
    guard.verify()
    assert guard.status()[0].held == 20 * COST
    guard.admit(VIDEO, project="trailer")


def test_damage_inside_is_found_by_verify(path: Path, opened: Callable[[], BudgetGuard]) -> None:
    """Overwritten pages raise an error that says what to do."""
    guard = opened()
    for place in range(20):
        guard.admit(VIDEO, project=f"p{place}")
    guard.close()
    data = bytearray(path.read_bytes())
    data[4096:] = os.urandom(len(data) - 4096)
    path.write_bytes(data)
    with pytest.raises(LedgerError, match="restore"):
        opened().verify()


@pytest.fixture
def shared_folder() -> Iterator[Path]:
    """Returns a folder that every user can reach."""
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o755)
    yield folder
    folder.chmod(0o755)
    shutil.rmtree(folder)


@unix
@pytest.mark.parametrize("existing", [True, False], ids=["a ledger", "no ledger yet"])
def test_a_user_who_may_not_write_spends_nothing(
    shared_folder: Path, book: PriceBook, *, existing: bool
) -> None:
    """A read-only file or folder admits nothing, and the message says which permission is missing."""
    path = shared_folder / "spend.db"
    if existing:
        guard = BudgetGuard(f"sqlite:///{path}", BUDGETS, book=book)
        guard.admit(VIDEO, project="trailer")
        guard.close()
        for file in shared_folder.iterdir():
            file.chmod(0o444)
    shared_folder.chmod(0o555)
    before = contents(shared_folder)
    result = finished("as_nobody", ledger=f"sqlite:///{path}")
    assert (result["admitted"], result["error"]) == ([], "LedgerUnavailableError")
    assert re.search("this user|the user that runs this program", result["message"])
    assert contents(shared_folder) == before
    shared_folder.chmod(0o755)
    for file in shared_folder.iterdir():
        file.chmod(0o644)
    guard = BudgetGuard(f"sqlite:///{path}", BUDGETS, book=book)
    guard.admit(VIDEO, project="trailer")
    guard.verify()
    assert guard.status()[0].held == (2 if existing else 1) * COST


@unix
@pytest.mark.parametrize("size_bytes", [2_000, 20_000, 60_000, 200_000, 500_000])
def test_when_files_cannot_grow_nothing_is_half_written(
    path: Path, opened: Callable[[], BudgetGuard], size_bytes: int
) -> None:
    """At any limit on file sizes the ledger has exactly the admitted jobs, and recovers without the limit."""
    result = finished("with_small_files", ledger=f"sqlite:///{path}", size_bytes=size_bytes)
    assert result["error"] == "LedgerUnavailableError"
    assert "free some space" in result["message"]
    guard = opened()
    guard.verify()
    jobs = guard.history()
    assert sorted(job.id for job in jobs if job.state == "released") == sorted(
        name for name in result["admitted"] if guard.reservation(name).state == "released"
    )
    assert {job.id for job in jobs} == set(result["admitted"])
    assert len(result["admitted"]) >= (3 if size_bytes >= 500_000 else 0)
    guard.admit(VIDEO, project="trailer")
    guard.verify()


@unix
@pytest.mark.parametrize("how", ["truncated", "removed"])
def test_an_emptied_or_removed_ledger_is_not_replaced_by_a_new_one(
    path: Path, opened: Callable[[], BudgetGuard], how: str
) -> None:
    """A guard refuses an emptied or removed ledger, and the message says how to restore or replace it."""
    with opened() as guard:
        guard.admit(VIDEO, project="trailer")
    backup = path.read_bytes()
    if how == "truncated":
        path.write_bytes(b"")
    else:
        path.unlink()
    with pytest.raises(
        LedgerUnavailableError, match=r"put the file back, or remove .*\.lock in the same folder"
    ):
        opened()
    assert not path.exists() or path.read_bytes() == b""
    path.write_bytes(backup)
    with opened() as guard:
        assert guard.status()[0].held == COST
    path.unlink()
    path.with_name(f"{path.name}.lock").unlink()
    with opened() as guard:
        assert guard.status()[0].held == 0


def test_a_mistyped_name_makes_no_file(tmp_path: Path) -> None:
    """A guard without budgets creates no ledger, and asks to check the name."""
    for _ in range(2):
        with pytest.raises(BudgetError, match=r"/spent\.db has no budgets yet; check that this is the right"):
            BudgetGuard(f"sqlite:///{tmp_path}/spent.db")
    assert list(tmp_path.iterdir()) == []
    empty = tmp_path / "empty.db"
    empty.touch()
    with pytest.raises(BudgetError, match="check that this is the right ledger"):
        BudgetGuard(f"sqlite:///{empty}")
    assert (list(tmp_path.iterdir()), empty.read_bytes()) == ([empty], b"")


def test_a_name_that_the_disk_refuses_raises_the_ledgers_error(tmp_path: Path) -> None:
    """A file name that is too long raises an error of the library, with and without budgets."""
    for budgets in (None, BUDGETS):
        with pytest.raises(LedgerUnavailableError, match=r"x\.db"):
            BudgetGuard(f"sqlite:///{tmp_path}/{300 * 'x'}.db", budgets)


def test_a_missing_folder_is_not_made(tmp_path: Path, book: PriceBook) -> None:
    """A mistyped path creates no folders; the message says to create the folder."""
    with pytest.raises(LedgerUnavailableError, match="create its folder"):
        BudgetGuard(f"sqlite:///{tmp_path}/no/such/spend.db", BUDGETS, book=book)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_not_a_ledger(path: Path, book: PriceBook) -> None:
    """A folder instead of a file is refused, and no file appears in it or next to it."""
    with pytest.raises(LedgerUnavailableError, match="cannot be opened"):
        BudgetGuard(f"sqlite:///{path.parent}", BUDGETS, book=book)
    assert list(path.parent.parent.iterdir()) == [path.parent]
    assert list(path.parent.iterdir()) == []


@pytest.mark.parametrize(
    "url",
    [
        "spend.db",
        "sqlite:spend.db",
        "sqlite://spend.db",
        "sqlite://",
        "sqlite:///",
        "sqlite:///:memory:",
        "sqlite:///spend.db?mode=ro",
        "sqlite:///spend\0.db",
        "mysql://host/base",
    ],
)
def test_a_url_that_is_not_a_ledgers_says_how_to_write_one(
    tmp_path: Path, book: PriceBook, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    """The message for an invalid URL shows valid ones, and no file is created."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(LedgerError, match=r"write sqlite:///spend\.db"):
        BudgetGuard(url, BUDGETS, book=book)
    assert list(tmp_path.iterdir()) == []


def test_a_relative_path_stays_the_same_file(
    tmp_path: Path, book: PriceBook, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process that changes its folder, as a daemon does, keeps counting in the same ledger."""
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    guard = BudgetGuard("sqlite:///spend.db", BUDGETS, book=book)
    guard.admit(VIDEO, project="trailer")
    guard.close()
    monkeypatch.chdir(tmp_path / "elsewhere")
    guard.admit(VIDEO, project="trailer")
    assert guard.status()[0].held == 2 * COST
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="this system does not list open files")
def test_guards_that_are_dropped_or_cannot_open_leave_no_file_open(
    opened: Callable[[], BudgetGuard], tmp_path: Path, book: PriceBook
) -> None:
    """Guards that are dropped or fail to open leave no file descriptor open."""
    other = tmp_path / "other.db"
    edited(other, "CREATE TABLE films (name TEXT)")
    opened().status()
    before = len(list(Path("/proc/self/fd").iterdir()))
    for _ in range(20):
        opened().status()
        with pytest.raises(LedgerError):
            BudgetGuard(f"sqlite:///{other}", BUDGETS, book=book)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


MARK = "zq7"
"""A marker in every text that must not be stored."""

SECRETS: list[tuple[dict[str, Any], str | None]] = [
    (
        video(
            prompt=f"a boat {MARK}",
            image_urls=[f"https://cdn.{MARK}.example/a.png?signature={MARK}"],
            callback_url=f"https://user:{MARK}@hooks.example/{MARK}?api_key=sk-{MARK}",
        ),
        None,
    ),
    (
        {
            "model": "kling-v3",
            "prompt": f"a boat {MARK}",
            "duration": 5,
            "aspect_ratio": "16:9",
            "extra": {"mode": "pro", "enable_audio": True},
        },
        None,
    ),
    (
        {
            "model_name": "kling-v3",
            "prompt": f"a boat {MARK}",
            "image": f"https://cdn.{MARK}.example/a.png",
            "duration": "5",
            "mode": "pro",
            "sound": "on",
            "callback_url": f"https://hooks.example/{MARK}",
        },
        None,
    ),
    (
        {
            "model": "kling-v3-pro-audio",
            "prompt": f"a boat {MARK}",
            "duration": 5,
            "aspect_ratio": "16:9",
            "extra_body": {"cfg_scale": 0.5, "shot_type": "customize"},
        },
        "kling",
    ),
    (
        {
            "model": "Kling-3.0-Omni",
            "prompt": f"a boat {MARK}",
            "duration": 5,
            "metadata": {"output_config": {"resolution": "1080P", "audio_generation": "Enabled"}},
        },
        "tencent-vod",
    ),
]
"""Requests in several wire formats. All of their texts and URLs contain the marker."""


@pytest.mark.parametrize("after", ["while it is open", "when it is closed"])
def test_the_files_hold_no_prompt_no_url_and_no_api_key(path: Path, book: PriceBook, after: str) -> None:
    """The database, its WAL and the files next to it contain no text of a request or of a response."""
    elsewhere = Budget(name="elsewhere", match={"project": "none"}, cap=Decimal(1), currency="USD")
    guard = BudgetGuard(f"sqlite:///{path}", Budgets([elsewhere], unmatched="allow"), book=book)
    for place, (payload, provider) in enumerate(SECRETS):
        admission = guard.admit(payload, project="trailer", key=f"shot {place}", provider=provider)
        assert MARK in str(guard.dispatch(admission))
        guard.mark_in_doubt(admission, "timeout")
    first = guard.history(key="shot 0")[0]
    body = {
        "task_id": "task-visible",
        "status": "completed",
        "cost": 1000,
        "prompt": f"a boat {MARK}",
        "video_url": f"https://cdn.{MARK}.example/film.mp4",
        "data": {"url": f"https://cdn.{MARK}.example/film.mp4", "authorization": f"Bearer {MARK}"},
        "error": {"message": f"nothing {MARK}"},
    }
    guard.observe(body | {"task_id": "task-unknown"}, provider=first.provider)
    guard.observe(body, provider=first.provider, reservation=first.id)
    guard.settle(guard.history(key="shot 1")[0].id)
    if after == "when it is closed":
        guard.close()
    files = contents(path.parent)
    assert len(files) == (3 if after == "when it is closed" else 5)
    everything = b"".join(files.values())
    assert b"task-visible" in everything
    assert b"shot 0" in everything
    for hidden in (MARK, "https:", "http:", "boat", "Bearer"):
        assert hidden.encode() not in everything
        assert hidden.encode("utf-16-le") not in everything


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE journal SET spent_delta = 0",
        "UPDATE journal SET detail = 'x' WHERE seq = 1",
        "DELETE FROM journal",
        "DELETE FROM journal WHERE seq = (SELECT max(seq) FROM journal)",
        "REPLACE INTO journal (seq, at, kind) VALUES (1, '', 'x')",
    ],
)
def test_the_journal_refuses_to_be_changed(
    path: Path, opened: Callable[[], BudgetGuard], statement: str
) -> None:
    """Statements on the file cannot change or delete a journal entry."""
    guard = opened()
    guard.admit(VIDEO, project="trailer")
    entries = guard.journal()
    guard.close()
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        edited(path, statement)
    assert guard.journal() == entries


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE bucket SET held = held - 1 WHERE id = 1",
        "UPDATE bucket SET spent = 0",
        "UPDATE reservation_line SET held = held + 1",
        "UPDATE reservation_line SET spent = spent + 1",
        "DELETE FROM reservation_line WHERE bucket = 1",
        "UPDATE reservation SET state = 'released' WHERE state = 'reserved'",
        "UPDATE reservation SET billed = billed - 1 WHERE billed IS NOT NULL",
        "DELETE FROM reservation",
        "INSERT INTO journal (at, kind, bucket, held_delta) VALUES ('', 'reserve', 1, 5)",
    ],
)
def test_verify_finds_a_balance_that_was_edited(
    path: Path, opened: Callable[[], BudgetGuard], statement: str
) -> None:
    """`verify` reports every edit that makes a table differ from the journal."""
    guard = opened()
    guard.admit(VIDEO, project="trailer")
    admission = guard.admit(VIDEO, project="trailer")
    guard.dispatch(admission)
    guard.settle(admission, Decimal("0.3"))
    guard.verify()
    guard.close()
    edited(path, statement)
    with pytest.raises(
        LedgerError, match=r"difference.* between the journal and the other tables.* restore a backup"
    ):
        guard.verify()


def test_amounts_that_cannot_be_counted_are_refused_and_nothing_moves(
    opened: Callable[[], BudgetGuard],
) -> None:
    """Amounts that are too large for the file raise an error of the library and change nothing."""
    guard = opened()
    admission = guard.admit(VIDEO, project="trailer")
    guard.dispatch(admission)
    maximum = Decimal(4 * 10**9)
    for place in range(2):
        guard.record(PROVIDER, f"big-{place}", maximum, labels={"project": "trailer"})
    before = guard.journal()
    with pytest.raises(LedgerError, match="nothing was changed"):
        guard.settle(admission, maximum)
    with pytest.raises(LedgerError, match="nothing was changed"):
        guard.record(PROVIDER, "big-2", maximum, labels={"project": "trailer"})
    assert guard.journal() == before
    guard.verify()


def test_spend_from_elsewhere_is_recorded_even_if_a_job_has_its_key(opened: Callable[[], BudgetGuard]) -> None:
    """A job whose key equals that of recorded spend is counted separately, and both are counted once."""
    guard = opened()
    admission = guard.admit(VIDEO, project="trailer", key=f"{PROVIDER}:task-1")
    for _ in range(2):
        guard.record(PROVIDER, "task-1", "0.5", labels={"project": "trailer"})
    assert (guard.status()[0].held, guard.status()[0].spent) == (COST, Decimal("0.5"))
    guard.dispatch(admission)
    with pytest.raises(ReservationStateError, match="belongs to"):
        guard.bind(admission, "task-1")
    guard.verify()


def interrupted(verb: Callable[[], object], place: int) -> bool:
    """Runs a verb with Ctrl-C at the ledger's n-th function call; returns whether that interrupted the verb."""
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
def test_ctrl_c_within_a_verb_leaves_nothing_open(path: Path, opened: Callable[[], BudgetGuard]) -> None:
    """After Ctrl-C at any point of a verb, the next verb works and no lock is held."""
    import fcntl  # noqa: PLC0415 (not on Windows)

    guard = opened()
    other = sqlite3.connect(path, timeout=0, isolation_level=None)

    def refused() -> None:
        with suppress(ReservationNotFoundError):
            guard.settle("no such reservation")

    verb: Callable[[], object]
    for place in count(1):
        struck = False
        for verb in (lambda: guard.admit(VIDEO, project="trailer"), refused):
            struck = interrupted(verb, place) or struck
            for suffix in ("lock", "queue"):
                with path.with_name(f"{path.name}.{suffix}").open() as lock:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)  # raises if it is held
            other.execute("BEGIN IMMEDIATE")  # and so does this
            other.execute("ROLLBACK")
        guard.release(guard.admit(VIDEO, project="trailer"))
        if not struck:
            break
    assert place > 20
    guard.verify()


@pytest.mark.parametrize("begun", [True, False])
@pytest.mark.parametrize("shared", [True, False])
def test_waits_for_another_program_do_not_add_up(
    begun: bool,  # noqa: FBT001
    shared: bool,  # noqa: FBT001
    path: Path,
    opened: Callable[[], BudgetGuard],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Verbs of several threads and processes that wait in a queue all give up after the limit of one verb."""
    limit_s = 1.5
    monkeypatch.setattr("kling_pricing.ledger.sqlite.opening.BUSY_TIMEOUT_S", limit_s)
    first = opened()
    guards = [first] * 4 if shared else [first, *(opened() for _ in range(3))]
    if not begun:
        for guard in guards:
            guard.close()
    other = sqlite3.connect(path, timeout=0, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")

    def waited_s(guard: BudgetGuard) -> float:
        asked = time.monotonic()
        with pytest.raises(LedgerUnavailableError, match="another program has locked it"):
            guard.admit(VIDEO, project="trailer")
        return time.monotonic() - asked

    with ThreadPoolExecutor(4) as threads:
        waits = sorted(threads.map(waited_s, guards))
    assert waits[0] > limit_s / 2
    assert waits[-1] < 2 * limit_s, waits
    other.execute("ROLLBACK")
    for guard in guards:
        guard.release(guard.admit(VIDEO, project="trailer"))
    first.verify()


@unix
def test_a_signal_handler_cannot_use_the_ledger_during_a_transaction(path: Path, book: PriceBook) -> None:
    """A reentrant call from a signal handler is refused, and the transaction completes."""
    reentered: list[BaseException] = []
    ledger = f"sqlite:///{path}"
    armed = [False]

    def clock() -> datetime:
        if armed[0]:  # each transaction reads the clock
            armed[0] = False
            signal.raise_signal(signal.SIGUSR1)
        return datetime.now(UTC)

    guard = BudgetGuard(ledger, BUDGETS, book=book, clock=clock)

    def handle(*_: object) -> None:
        try:
            guard.status(datetime.now(UTC))
        except LedgerUnavailableError as error:
            reentered.append(error)

    before = signal.signal(signal.SIGUSR1, handle)
    try:
        admission = guard.admit(VIDEO, project="trailer")
        armed[0] = True
        guard.release(admission)
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert [str(error).partition("; ")[0].rpartition(": ")[2] for error in reentered] == [
        "reentrant call during a transaction"
    ]
    assert guard.reservation(admission).state == "released"
    guard.verify()


@unix
def test_a_guard_refuses_a_file_that_was_replaced(path: Path, opened: Callable[[], BudgetGuard]) -> None:
    """A guard whose file was replaced refuses every use, because two files would count separately."""
    guard = opened()
    guard.admit(VIDEO, project="trailer")
    for file in [*path.parent.iterdir()]:
        file.rename(file.with_name(f"{file.name}.old"))
    opened().admit(VIDEO, project="trailer")
    for use in (lambda: guard.admit(VIDEO, project="trailer"), guard.status, guard.verify):
        with pytest.raises(LedgerUnavailableError, match="was moved, removed or replaced while in use"):
            use()


def test_budgets_that_another_version_installed_are_used_or_refused(
    path: Path, opened: Callable[[], BudgetGuard]
) -> None:
    """Installed budgets with another digest are used, and budgets that cannot be read raise an error."""
    opened().close()
    edited(
        path,
        "INSERT INTO budget_revision (digest, document, installed_at)"
        " SELECT 'of another version', document, installed_at FROM budget_revision",
    )
    assert opened().admit(VIDEO, project="trailer").reservation.reserved == COST
    edited(
        path,
        "INSERT INTO budget_revision (digest, document, installed_at) SELECT 'newer',"
        " replace(document, '\"timezone\"', '\"zone\"'), installed_at FROM budget_revision LIMIT 1",
    )
    with pytest.raises(
        BudgetError, match="this version of kling-pricing or this machine cannot use the ledger"
    ):
        opened()


def test_a_refusal_leaves_nothing_behind(path: Path, book: PriceBook) -> None:
    """Refused requests of many users leave no buckets in the ledger."""
    per_user = Budget(name="each", match={"user": "*"}, cap=Decimal("0.01"), currency="USD")
    guard = BudgetGuard(f"sqlite:///{path}", [per_user], book=book)
    for number in range(50):
        with pytest.raises(BudgetExceededError):
            guard.admit(VIDEO, project="trailer", labels={"user": f"user-{number}"})
    assert guard.status() == []
