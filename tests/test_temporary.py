"""Temporary folders: what a killed process left is removed by the next run, and nothing else is."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from kling_pricing.reconcile.workspace import Workspace
from kling_pricing.temporary import temporary_folder

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs locks on folders")

_WAITING = """
import sys
from kling_pricing.temporary import temporary_folder
with temporary_folder("ours-", sys.argv[1]) as folder:
    (folder / "inner").mkdir()
    (folder / "inner" / "a").write_text("a")
    print(folder, flush=True)
    sys.stdin.read()
"""


def waiting(parent: Path) -> subprocess.Popen[str]:
    """Starts a process that uses a folder until its input ends."""
    return subprocess.Popen(
        [sys.executable, "-c", _WAITING, str(parent)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def folder_of(process: subprocess.Popen[str]) -> Path:
    """Returns the folder of such a process, which exists."""
    assert process.stdout is not None
    folder = Path(process.stdout.readline().strip())
    assert (folder / "inner" / "a").exists()
    return folder


def test_a_folder_is_removed_at_the_end(tmp_path: Path) -> None:
    """It also is after an error."""

    def fail() -> None:
        with temporary_folder("ours-", tmp_path) as folder:
            (folder / "a").write_text("a")
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert list(tmp_path.iterdir()) == []


def test_the_next_run_removes_what_a_killed_process_left(tmp_path: Path) -> None:
    """A folder that a process still uses stays."""
    with waiting(tmp_path) as killed, waiting(tmp_path) as living:
        left, used = folder_of(killed), folder_of(living)
        killed.send_signal(signal.SIGKILL)
        killed.wait()
        with temporary_folder("ours-", tmp_path) as folder:
            assert {*tmp_path.iterdir()} == {folder.parent, used.parent}
        assert not left.parent.exists()
        assert (used / "inner" / "a").read_text() == "a"
        living.communicate("")
    assert list(tmp_path.iterdir()) == []


def test_folders_of_the_user_stay(tmp_path: Path) -> None:
    """Only a folder with our mark is ours, and a link is none."""
    (tmp_path / "ours-november").mkdir()
    (tmp_path / "ours-november" / "a").write_text("a")
    (tmp_path / "ours-longer_name").mkdir()
    (tmp_path / "target").mkdir()
    (tmp_path / "target" / ".made-by-kling-pricing").touch()
    (tmp_path / "ours-12345678").symlink_to(tmp_path / "target")
    (tmp_path / "ours-abcdefgh").write_text("a file")
    before = {*tmp_path.rglob("*")}
    with temporary_folder("ours-", tmp_path):
        pass
    assert {*tmp_path.rglob("*")} == before


def test_an_interrupted_removal_is_finished(tmp_path: Path) -> None:
    """The mark is removed last, so a folder that is half removed is still recognized; so is an empty one."""
    for name in ("ours-aaaaaaaa", "ours-bbbbbbbb"):
        (tmp_path / name).mkdir()
    (tmp_path / "ours-aaaaaaaa" / ".made-by-kling-pricing").touch()
    with temporary_folder("ours-", tmp_path) as folder:
        assert list(tmp_path.iterdir()) == [folder.parent]


def test_simultaneous_processes_do_not_remove_each_others_folders(tmp_path: Path) -> None:
    """Each process removes abandoned folders while the others create theirs."""
    processes = [waiting(tmp_path) for _ in range(8)]
    folders = {folder_of(process).parent for process in processes}
    assert {*tmp_path.iterdir()} == folders
    assert len(folders) == len(processes)
    for process in processes:
        process.communicate("")
        assert process.returncode == 0
    assert list(tmp_path.iterdir()) == []


def test_a_killed_reconciliation_leaves_nothing_for_long(tmp_path: Path) -> None:
    """The next workspace in the folder removes the data of the one before."""
    code = (
        "import os, sys; from kling_pricing.reconcile.workspace import Workspace; "
        "w = Workspace(folder=sys.argv[1]); (w.folder / 'a').write_text('a'); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False)
    (left,) = tmp_path.iterdir()
    workspace = Workspace(folder=tmp_path)
    assert [*tmp_path.iterdir()] == [workspace.folder.parent]
    assert workspace.folder.parent != left
    workspace.close()
    assert list(tmp_path.iterdir()) == []
