"""A ledger in a file notices that its files were removed, replaced, damaged, linked or mounted on their own."""

import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing, suppress
from decimal import Decimal
from pathlib import Path

import pytest

from kling_pricing import (
    Budget,
    BudgetExceededError,
    BudgetFrozenError,
    BudgetGuard,
    LedgerUnavailableError,
    PriceBook,
)
from kling_pricing.guard import thaw_all
from kling_pricing.ledger.administration import recover
from tests.commands import run
from tests.guard_workers import COST, VIDEO

pytestmark = pytest.mark.skipif(os.name == "nt", reason="this system has no POSIX locks")

FITS = 10
BUDGET = Budget(name="all", cap=FITS * COST, currency="USD")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Returns the path of a ledger that does not exist yet, in a folder of its own."""
    (tmp_path / "store").mkdir()
    return tmp_path / "store" / "spend.db"


@pytest.fixture
def opened(path: Path, book: PriceBook) -> Callable[[], BudgetGuard]:
    """Returns a function that opens a guard on that file, with room for ten videos."""
    return lambda: BudgetGuard(f"sqlite:///{path}", [BUDGET], book=book)


ADMIT = """
import sys
from kling_pricing import BudgetGuard, KlingPricingError
admitted = 0
try:
    guard = BudgetGuard(sys.argv[1])
    for _ in range(int(sys.argv[2])):
        guard.admit({"model": "kling-v3", "prompt": "a boat", "duration": 5, "resolution": "720p"}, project="p")
        admitted += 1
except KlingPricingError as error:
    print(admitted, type(error).__name__, error)
else:
    print(admitted, "done")
"""


def admitted_elsewhere(path: Path, count: int) -> tuple[int, str]:
    """Admits videos in another process; returns how many, and the error that ended it."""
    done = subprocess.run(
        [sys.executable, "-c", ADMIT, f"sqlite:///{path}", str(count)],
        capture_output=True,
        text=True,
        check=True,
    )
    number, _, problem = done.stdout.partition(" ")
    return int(number), problem.strip()


def admitted_here(guard: BudgetGuard, count: int) -> tuple[int, str]:
    """Admits videos in this process; returns how many, and the error that ended it."""
    for number in range(count):
        try:
            guard.admit(VIDEO, project="p")
        except (BudgetExceededError, LedgerUnavailableError) as error:
            return number, str(error)
    return count, ""


# a second WAL


@pytest.mark.parametrize("reader", ["open", "copy"])
def test_a_process_that_reads_its_own_ledgers_file_passes_no_cap(
    path: Path, opened: Callable[[], BudgetGuard], tmp_path: Path, reader: str
) -> None:
    """Closing the file drops SQLite's locks, so another process removes the WAL; the guard then refuses."""
    guard = opened()
    admitted, _ = admitted_here(guard, 2)
    if reader == "open":
        path.open("rb").close()
    else:
        shutil.copy(path, tmp_path / "copy.db")
    elsewhere, _ = admitted_elsewhere(path, 4)
    here, problem = admitted_here(guard, 2 * FITS)
    assert "spend.db-wal was removed or replaced while in use" in problem
    last, _ = admitted_elsewhere(path, 2 * FITS)
    assert admitted + elsewhere + here + last == FITS
    guard.close()
    with opened() as reopened:
        reopened.verify()
        assert reopened.status()[0].held == FITS * COST


@pytest.mark.parametrize("suffix", ["-shm", "-wal"])
def test_a_file_that_is_removed_while_in_use_passes_no_cap(
    path: Path, opened: Callable[[], BudgetGuard], suffix: str
) -> None:
    """A guard whose WAL or shared memory was removed refuses every further use."""
    guard = opened()
    total, _ = admitted_here(guard, 3)
    path.with_name(f"spend.db{suffix}").unlink()
    for use in (lambda: guard.admit(VIDEO, project="p"), guard.status, guard.verify):
        with pytest.raises(
            LedgerUnavailableError, match=f"spend.db{suffix} was removed or replaced while in use"
        ):
            use()
    for _ in range(3):
        elsewhere, _ = admitted_elsewhere(path, FITS)
        here, _ = admitted_here(guard, FITS)
        total += elsewhere + here
    assert total <= FITS
    guard.close()


# missing entries


def lose_the_wal(path: Path, opened: Callable[[], BudgetGuard]) -> None:
    """Admits three videos, and then loses the newest entries with the WAL, as a damaged disk would."""
    with opened() as guard:
        guard.admit(VIDEO, project="p")
    admitted_and_killed(path, 2)
    path.with_name("spend.db-wal").unlink()
    path.with_name("spend.db-shm").unlink()


def admitted_and_killed(path: Path, count: int) -> None:
    """Admits videos in a process that is then killed, so that its WAL stays."""
    code = f"{ADMIT}\nimport os, signal; os.kill(os.getpid(), signal.SIGKILL)"
    done = subprocess.run([sys.executable, "-c", code, f"sqlite:///{path}", str(count)], check=False)
    assert done.returncode == -9


@pytest.mark.parametrize("place", [0, 1])
def test_a_damaged_wal_after_a_kill_gives_no_room_again(
    path: Path, opened: Callable[[], BudgetGuard], place: int
) -> None:
    """One flipped bit in the WAL of a killed process hides its commits, and the ledger refuses to go on."""
    opened().close()
    admitted_and_killed(path, 4)
    wal = path.with_name("spend.db-wal")
    data = bytearray(wal.read_bytes())
    data[len(data) // 2 * place + 100] ^= 1
    wal.write_bytes(data)
    with pytest.raises(
        LedgerUnavailableError, match=r"journal entr.* missing: .*`kling-pricing ledger recover sqlite:///"
    ):
        opened()
    for command in (["history"], ["verify"], ["budget", "status"]):
        refused = run(*command, "--ledger", f"sqlite:///{path}")
        assert (refused.returncode, "missing" in " ".join(refused.stderr.split())) == (2, True)


def test_an_older_copy_in_the_place_of_a_ledger_is_refused(
    path: Path, opened: Callable[[], BudgetGuard], tmp_path: Path
) -> None:
    """A ledger that was restored from an older backup does not forget the spend since then in silence."""
    with opened() as guard:
        guard.admit(VIDEO, project="p")
    backup = tmp_path / "backup.db"
    shutil.copy(path, backup)
    with opened() as guard:
        guard.admit(VIDEO, project="p")
    shutil.copy(backup, path)
    with pytest.raises(LedgerUnavailableError, match="its last 1 journal entry is missing"):
        opened()


def test_an_open_guard_notices_that_entries_are_missing(path: Path, opened: Callable[[], BudgetGuard]) -> None:
    """A guard compares its snapshot with the number beside the ledger before each commit."""
    guard = opened()
    guard.admit(VIDEO, project="p")
    lock = path.with_name("spend.db.lock")
    text = lock.read_bytes()
    newest = len(guard.journal())
    lock.write_bytes(text.replace(b"%020d" % newest, b"%020d" % (newest + 5)))
    for use in (lambda: guard.admit(VIDEO, project="p"), guard.status, guard.verify):
        with pytest.raises(LedgerUnavailableError, match="its last 5 journal entries are missing"):
            use()
    lock.write_bytes(text.replace(b"%020d" % newest, b"%020d" % (newest - 1)))  # it may lag
    guard.admit(VIDEO, project="p")
    guard.close()


def test_recover_shows_the_loss_and_freezes_the_ledger(path: Path, opened: Callable[[], BudgetGuard]) -> None:
    """Without `--accept-loss` nothing changes; with it the ledger opens, frozen until it is thawed."""
    lose_the_wal(path, opened)
    url = f"sqlite:///{path}"
    shown = run("ledger", "recover", url)
    assert (shown.returncode, "missing: 2 journal entries" in shown.stdout) == (1, True)
    with pytest.raises(LedgerUnavailableError, match="its last 2 journal entries are missing"):
        opened()
    assert run("ledger", "recover", url, "--accept-loss").returncode == 2
    accepted = run("ledger", "recover", url, "--accept-loss", "--reason", "the disk failed")
    assert (accepted.returncode, "all spending is frozen" in accepted.stdout) == (0, True)
    with opened() as guard:
        guard.verify()
        with pytest.raises(
            BudgetFrozenError, match=r"2 journal entries were lost: the disk failed.*budget thaw"
        ) as frozen:
            guard.admit(VIDEO, project="p")
        assert frozen.value.reason == "2 journal entries were lost: the disk failed"
        assert [(action.action, action.subject) for action in guard.log()[-2:]] == [
            ("recover", "journal"),
            ("freeze", "all"),
        ]
        guard.record("qingbo", "lost-1", COST, labels={"project": "p"})
        thawed = run("budget", "thaw", "--all", "--reason", "lost jobs recorded", "--ledger", url)
        assert thawed.stdout == "Spending is allowed again.\n"
        guard.admit(VIDEO, project="p")
        assert [entry.kind for entry in guard.journal()][-5:] == [
            "reserve",
            "freeze",
            "record",
            "thaw",
            "reserve",
        ]
        guard.verify()


def test_recover_changes_nothing_in_a_complete_ledger(path: Path, opened: Callable[[], BudgetGuard]) -> None:
    """A ledger that has lost nothing is neither changed nor frozen."""
    with opened() as guard:
        guard.admit(VIDEO, project="p")
        entries = guard.journal()
        for options in ([], ["--accept-loss", "--reason", "to be sure"]):
            shown = run("ledger", "recover", f"sqlite:///{path}", *options)
            assert (shown.returncode, "no journal entry is missing" in shown.stdout) == (0, True)
        assert guard.journal() == entries
        guard.admit(VIDEO, project="p")
    assert recover(f"sqlite:///{path}").missing == 0
    assert thaw_all(f"sqlite:///{path}", actor="li", reason="to be sure") is False


# one file, two names


def test_a_file_with_two_names_is_refused(
    path: Path, opened: Callable[[], BudgetGuard], tmp_path: Path
) -> None:
    """A hard link, made before or while a guard is open, is refused under both names."""
    guard = opened()
    guard.admit(VIDEO, project="p")
    other = tmp_path / "other.db"
    os.link(path, other)
    with pytest.raises(LedgerUnavailableError, match=r"2 names \(hard links\).*`cp -l`.*\.backup copy\.db"):
        guard.admit(VIDEO, project="p")
    guard.close()
    for name in (path, other):
        with pytest.raises(LedgerUnavailableError, match="2 names"):
            BudgetGuard(f"sqlite:///{name}", [BUDGET])
    other.unlink()
    total, _ = admitted_here(guard, 2 * FITS)
    assert total == FITS - 1


def test_a_symbolic_link_is_the_same_ledger(
    path: Path, opened: Callable[[], BudgetGuard], tmp_path: Path
) -> None:
    """Guards that open a ledger by its name and by a symbolic link share its cap and its lock files."""
    with opened() as guard:
        guard.admit(VIDEO, project="p")
        link = tmp_path / "link.db"
        link.symlink_to(path)
        with BudgetGuard(f"sqlite:///{link}", [BUDGET]) as linked:
            admitted_here(linked, 4)
            assert admitted_here(guard, 2 * FITS)[0] == FITS - 5
            assert linked.status()[0].available == Decimal(0)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["link.db", "store"]


MOUNTED = """
mount --bind "$1" "$2" && exec "$3" -c "$4" "sqlite:///$2" 3
"""


def test_a_file_that_is_mounted_on_its_own_is_refused(path: Path, opened: Callable[[], BudgetGuard]) -> None:
    """A database file that is a mount point of its own is refused, and the message says to mount the folder."""
    if subprocess.run(["unshare", "-m", "true"], capture_output=True, check=False).returncode:
        pytest.skip("this user may not make mounts")
    opened().close()
    inside = path.parent.parent / "in side"
    inside.mkdir()
    (inside / "spend.db").touch()
    done = subprocess.run(
        [
            "unshare",
            "-m",
            "sh",
            "-c",
            MOUNTED,
            "sh",
            str(path),
            str(inside / "spend.db"),
            sys.executable,
            ADMIT,
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert "mount the folder of the ledger instead of the file" in done.stdout
    assert [file.name for file in inside.iterdir()] == ["spend.db"]


def test_a_copy_by_sqlite_is_a_ledger(path: Path, opened: Callable[[], BudgetGuard], tmp_path: Path) -> None:
    """A backup by SQLite, taken while a guard is open, opens as a ledger in another folder."""
    with opened() as guard:
        guard.admit(VIDEO, project="p")
        with closing(sqlite3.connect(path)) as source, closing(sqlite3.connect(tmp_path / "copy.db")) as copy:
            source.backup(copy)
        with suppress(BudgetExceededError):
            guard.admit(VIDEO, project="p")
    with BudgetGuard(f"sqlite:///{tmp_path}/copy.db", [BUDGET]) as restored:
        assert restored.status()[0].held == COST
        restored.verify()
