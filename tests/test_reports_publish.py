"""Report files replace those of an earlier report and never other files, all of them or none."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from kling_pricing import Budget, BudgetGuard, KlingPricingError, PriceBook
from kling_pricing.reports import Format, Spend, read_spend, write_spend

SINCE, UNTIL = datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC)
FOREIGN = "not from a report"


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory, book: PriceBook) -> str:
    """Returns a ledger with one job."""
    url = f"sqlite:///{tmp_path_factory.mktemp('ledger')}/spend.db"
    with BudgetGuard(url, [Budget(name="all", cap=9, currency="USD")], book=book) as guard:
        guard.record("qingbo", "t-1", "0.7", labels={"project": "a"}, at=SINCE)
    return url


@pytest.fixture(scope="module")
def spent(ledger: str) -> Spend:
    """Returns the spend of its month."""
    return read_spend(ledger, SINCE, UNTIL)


def _in_the_way(folder: Path, name: str) -> str:
    """Returns a pattern for the error about one file that is in the way of a report."""
    return re.escape(
        f"{folder}: cannot replace files that were not written by an earlier report or have changed since: "
        f"{name}; move this file elsewhere, or choose another folder"
    )


def everything(folder: Path) -> dict[str, bytes | str | None]:
    """Returns the contents of a folder: bytes of files, targets of links, None for folders."""
    return {
        str(path.relative_to(folder)): str(path.readlink())
        if path.is_symlink()
        else path.read_bytes()
        if path.is_file()
        else None
        for path in folder.rglob("*")
    }


def _file(path: Path) -> None:
    path.write_text(FOREIGN)


def _link(path: Path) -> None:
    _file(path.parent / "elsewhere.txt")
    path.symlink_to("elsewhere.txt")


@pytest.mark.parametrize("make", [_file, _link, Path.mkdir], ids=["file", "link", "folder"])
@pytest.mark.parametrize("name", ["by_day.csv", "report.html", "jobs.jsonl", "manifest.json"])
def test_other_files_are_not_replaced(
    spent: Spend, tmp_path: Path, name: str, make: Callable[[Path], None]
) -> None:
    """A file, link or folder in the way of a report file is an error that names it, and nothing changes."""
    make(tmp_path / name)
    before = everything(tmp_path)
    written_formats: list[str] = []
    with pytest.raises(KlingPricingError, match=_in_the_way(tmp_path, name)):
        write_spend(spent, tmp_path, formats=["html", "csv", "json"], on_format=written_formats.append)
    assert (everything(tmp_path), written_formats) == (before, [])


@pytest.mark.parametrize(
    "manifest",
    [
        {"files": [{"name": "family-photos.zip"}, {"name": "notes.csv"}]},
        {"written_by": "kling-pricing", "files": [{"name": "notes.csv", "sha256": "00"}]},
        {"written_by": "kling-pricing", "files": [{"name": "../notes.csv", "sha256": "00"}, {"name": ".."}]},
        {"written_by": "kling-pricing", "files": 7},
    ],
)
def test_a_forged_manifest_removes_nothing(spent: Spend, tmp_path: Path, manifest: object) -> None:
    """Only files with the bytes of an earlier report are removed, whatever the manifest lists."""
    out = tmp_path / "out"
    out.mkdir()
    for path in (out / "family-photos.zip", out / "notes.csv", tmp_path / "notes.csv"):
        _file(path)
    (out / "manifest.json").write_text(json.dumps(manifest))
    try:
        write_spend(spent, out, formats=["json"])
    except KlingPricingError as error:
        assert re.fullmatch(_in_the_way(out, "manifest.json"), str(error))
    for path in (out / "family-photos.zip", out / "notes.csv", tmp_path / "notes.csv"):
        assert path.read_text() == FOREIGN


def test_an_edited_report_file_stays(spent: Spend, tmp_path: Path) -> None:
    """A file that was changed after it was written is neither replaced nor removed."""
    write_spend(spent, tmp_path, formats=["csv", "json"])
    with (tmp_path / "jobs.csv").open("a") as file:
        file.write("with a note\n")
    before = everything(tmp_path)
    with pytest.raises(KlingPricingError, match=_in_the_way(tmp_path, "jobs.csv")):
        write_spend(spent, tmp_path, formats=["csv"])
    assert everything(tmp_path) == before
    write_spend(spent, tmp_path, formats=["json"])
    assert sorted(path.suffix for path in tmp_path.iterdir()) == [".csv", ".json", ".json", *[".jsonl"] * 3]
    assert (tmp_path / "jobs.csv").read_bytes() == before["jobs.csv"]


def test_a_file_that_appears_meanwhile_stays(spent: Spend, tmp_path: Path) -> None:
    """Conflicts are checked again before any file is moved."""
    write_spend(spent, tmp_path, formats=["json"])
    before = everything(tmp_path)
    with pytest.raises(KlingPricingError, match=_in_the_way(tmp_path, "report.html")):
        write_spend(spent, tmp_path, formats=["html"], on_format=lambda _: _file(tmp_path / "report.html"))
    assert everything(tmp_path) == before | {"report.html": FOREIGN.encode()}


def test_a_failed_report_leaves_no_new_folder(spent: Spend, tmp_path: Path) -> None:
    """An interrupted report removes the folder and the parent folders that it created."""

    def interrupt(_name: str) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_spend(spent, tmp_path / "2026" / "11", formats=["json"], on_format=interrupt)
    assert everything(tmp_path) == {}


@pytest.mark.parametrize("formats", [["html"], ["csv", "focus"], ["parquet", "xlsx"], ["json"]])
def test_conflicts_are_found_before_writing(spent: Spend, tmp_path: Path, formats: list[Format]) -> None:
    """A conflict with any file of any format is found before the first format is written."""
    names = write_spend(spent, tmp_path / "first", formats=formats).files
    for name in names:
        folder = tmp_path / f"with {name}"
        folder.mkdir()
        _file(folder / name)
        written_formats: list[str] = []
        with pytest.raises(KlingPricingError, match=_in_the_way(folder, name)):
            write_spend(spent, folder, formats=formats, on_format=written_formats.append)
        assert written_formats == []


_STOPPED = """\
import os, sys
from datetime import datetime
from pathlib import Path
from kling_pricing.reports import read_spend, write_spend

ledger, folder, how = sys.argv[1:]
since, middle, until = (datetime.fromisoformat(f"2026-11-{day}T00:00:00Z") for day in ("01", "15", "30"))
spent, other = read_spend(ledger, since, middle), read_spend(ledger, middle, until)
left = 0

def stop(event, arguments):
    global left
    if event == "os.rename":
        left -= 1
        if left == 0:
            if how == "killed":
                os._exit(9)
            raise KeyboardInterrupt

def contents(at):
    return {path.name: path.read_bytes() for path in at.iterdir() if not path.name.startswith(".kling-")}

sys.addaudithook(stop)
for moves in range(1, 99):
    at = Path(folder) / str(moves)
    write_spend(spent, at, formats=["json", "csv"])
    before = contents(at)
    left = moves
    child = os.fork() if how == "killed" else None
    if child:
        assert os.waitpid(child, 0)[1] in (0, 9 << 8)
    else:
        try:
            write_spend(other, at, formats=["json"])
        except KeyboardInterrupt:
            assert contents(at) == before, moves
            assert not list(at.glob(".kling-pricing-report-*"))
        if child == 0:
            os._exit(0)
    after = contents(at)
    done = after != before and b"unfinished" not in after["manifest.json"]
    left = 0
    write_spend(spent, at, formats=["json"])  # recognizes every file
    assert contents(at).keys() == {
        *("manifest.json", "report.json", "jobs.jsonl", "budgets.jsonl", "burn_down.jsonl")
    }, moves
    assert not list(at.glob(".*")), moves
    if done:
        print(moves)
        break
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="a forked child is killed")
@pytest.mark.parametrize("how", ["interrupted", "killed"])
def test_moving_files_can_be_interrupted_anywhere(ledger: str, tmp_path: Path, how: str) -> None:
    """Ctrl-C restores the earlier report; after a kill, the next report recognizes every file."""
    result = subprocess.run(
        [sys.executable, "-c", _STOPPED, ledger, str(tmp_path), how],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, "")
    assert int(result.stdout) > 15  # the moves of one report
