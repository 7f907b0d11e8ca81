"""`kling-pricing reconcile`: its answers, its exit codes, and that it changes nothing unless told to."""

import json
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest

from kling_pricing import Budget, BudgetGuard, PriceBook
from tests import commands
from tests.commands import Done
from tests.conftest import Clock, video

NOON = datetime(2026, 11, 5, 12, tzinfo=UTC)
NOVEMBER = ("--provider", "qingbo", "--from", "2026-11-01", "--until", "2026-12-01")
Run = Callable[..., Done]


@pytest.fixture
def ledger(tmp_path: Path, book: PriceBook) -> str:
    """A ledger with a bound task, a late one and a hold."""
    url = f"sqlite:///{tmp_path}/spend.db"
    budgets = [Budget(name="all", cap=9, currency="USD", alerts=["0.1"])]
    with BudgetGuard(url, budgets, book=book, clock=Clock(NOON)) as guard:
        for key, task_id in (("a", "t-1"), ("b", "t-2"), ("hold", None)):
            admission = guard.admit(
                video(duration=5, resolution="1080p", audio=True), project="trailer", key=key
            )
            guard.dispatch(admission)
            if task_id is not None:
                guard.bind(admission, task_id)
    return url


@pytest.fixture
def run(ledger: str) -> Run:
    """Runs `kling-pricing reconcile` on the ledger."""
    return partial(commands.run, "reconcile", *NOVEMBER, ledger=ledger)


def statement(folder: Path, **costs: int) -> Path:
    """A statement, one row a task."""
    made = int(NOON.timestamp() * 1000)
    rows = [f"{task_id.replace('_', '-')},kling-v3,completed,{made},{cost}" for task_id, cost in costs.items()]
    path = folder / "november.csv"
    path.write_text("\n".join(["task_id,model,status,created_at,cost", *rows, ""]))
    return path


def test_exceptions_are_counted_and_exit_1(run: Run, tmp_path: Path) -> None:
    """The table has a row for each category; the ledger is as it was."""
    before = (tmp_path / "spend.db").read_bytes()
    result = run("--statement", statement(tmp_path, t_1=357000, t_2=714000, stranger=357000))
    assert result.returncode == 1
    assert "│ explained          │     1 │    0.714 │   +0.714 │  1.428 │ USD      │" in result.stdout
    assert "│ in doubt candidate │     2 │    0.714 │        0 │  0.714 │ USD      │" in result.stdout
    below = result.stdout.partition("rows of the statement: 3, 3 charges of the period\n")[2].splitlines()
    assert below[0] == "exceptions:"
    assert below[1].startswith("  stranger: in doubt candidate, +0.714 USD: nobody knows the task; ")
    assert below[3].startswith("  t-2: explained, +0.714 USD: billed 10 s for a 5 s request. ")
    assert below[4] == "ties out; 3 exceptions to look at"
    assert (tmp_path / "spend.db").read_bytes() == before


def test_one_exception_is_said_as_one(run: Run, tmp_path: Path, book: PriceBook, ledger: str) -> None:
    """The last line counts in words that fit the number."""
    path = statement(tmp_path, t_1=357000, t_2=714000, stranger=357000)
    with BudgetGuard(ledger, book=book) as guard:
        (hold,) = guard.history(key="hold")
    result = run("--statement", path, "--pair", f"{hold.id}=stranger")
    assert result.returncode == 1
    assert result.stdout.endswith("\nties out; 1 exception to look at\n")


def test_a_period_in_which_nothing_was_sent_or_charged_is_said(tmp_path: Path, ledger: str) -> None:
    """There is no empty table, and the last line asks whether that is meant."""
    period = ("--provider", "qingbo", "--from", "2026-08-01", "--until", "2026-09-01")
    paths = ("--statement", statement(tmp_path, t_1=357000))
    result = commands.run("reconcile", *period, *paths, ledger=ledger)
    assert result.returncode == 0
    assert result.stdout == (
        "rows of the statement: 1, 0 charges of the period, 1 outside\n"
        "nothing of qingbo was sent or charged from 2026-08-01T00:00:00+00:00 to 2026-09-01T00:00:00+00:00; "
        "are these the right provider and the right period?\n"
    )


def test_a_month_without_exceptions_exits_0(run: Run, tmp_path: Path, book: PriceBook, ledger: str) -> None:
    """With the hold paired; and `--settle` makes the ledger say the same."""
    path = statement(tmp_path, t_1=357000, t_2=357000, stranger=357000)
    with BudgetGuard(ledger, book=book) as guard:
        (hold,) = guard.history(key="hold")
    pair = ("--pair", f"{hold.id}=stranger")
    result = run("--statement", path, *pair, "--json")
    assert result.returncode == 0
    answer = json.loads(result.stdout)
    assert (answer["exceptions"], answer["rows"]["charges"]) == (0, 3)
    assert answer["totals"] == [
        {"name": "", "currency": "USD", "lines": 3, "expected": "2.142", "billed": "2.142", "variance": "0"}
    ]
    settled = run("--statement", path, *pair, "--settle")
    assert "settled: 3, bound: 1, refused: 0\n" in settled.stdout
    again = json.loads(run("--statement", path, *pair, "--settle", "--json").stdout)
    assert again["settled"] == {"settled": 0, "bound": 0, "refused": {}}
    with BudgetGuard(ledger, book=book) as guard:
        guard.verify()
        assert {(each.state, each.basis) for each in guard.history()} == {("settled", "statement")}


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("--statement", "none.csv"), "none.csv: cannot be read: No such file or directory"),
        (("--statement", "HERE", "--provider", "nobody"), "unknown provider 'nobody'"),
        (("--statement", "HERE", "--mapping", "none"), "no mapping 'none'"),
        (("--statement", "HERE", "--ledger", "sqlite:///none.db"), "there is no such file"),
        (("--statement", "HERE", "--grace", "soon"), "'soon' is no length of time such as 90m, 24h or 3d"),
        (("--statement", "HERE", "--tolerance", "0.1"), "give --tolerance and --batch-tolerance together"),
        (("--statement", "HERE", "--format", "html"), "--format is about files; name the folder"),
        (("--statement", "HERE", "--tolerance", "1e-3"), "is not a plain decimal number"),
        (("--statement", "HERE", "--pair", "x"), "'x' is not RESERVATION=TASK_ID"),
        (("--statement", "HERE", "--memory-limit", "lots"), "a memory limit is written as 500MB"),
        ((), "Missing option '--statement'"),
    ],
)
def test_what_cannot_be_used_exits_2(
    run: Run, tmp_path: Path, arguments: tuple[str, ...], problem: str
) -> None:
    """The message says where and what to do."""
    path = str(statement(tmp_path, t_1=357000))
    result = run(*(path if argument == "HERE" else argument for argument in arguments))
    assert result.returncode == 2
    assert problem in " ".join(result.stderr.split())


def test_the_help_teaches() -> None:
    """It has an example and the exit codes."""
    shown = commands.run("reconcile", "--help").stdout
    assert "--provider qingbo --from 2026-11-01 --until 2026-12-01 --out reports/2026-11" in shown
    assert "Exit codes: 0 it ties out" in shown
    assert "  reconcile " in commands.run("--help").stdout


def test_reports_are_written_where_they_are_wanted(run: Run, tmp_path: Path) -> None:
    """Each format that is asked for, and the same bytes each time; a folder that cannot be made exits 2."""
    path = statement(tmp_path, t_1=357000, t_2=714000)
    for name in ("one", "two"):
        result = run("--statement", path, "--out", tmp_path / name, "--format", "html", "--format", "json")
        assert result.returncode == 1
        assert f"files in {tmp_path / name}\n" in result.stdout
    files = {each.name for each in (tmp_path / "one").iterdir()}
    assert {"report.html", "report.json", "manifest.json"} <= files
    assert "report.xlsx" not in files
    for name in files:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert "billed 10 s for a 5 s request" in (tmp_path / "one" / "report.html").read_text(encoding="utf-8")
    assert run("--statement", path, "--out", path / "below").returncode == 2


def test_no_more_than_ten_exceptions_are_named(run: Run, tmp_path: Path) -> None:
    """The rest is counted, and said to be in the reports; for a program the same ten are objects."""
    strangers = {f"stranger_{number:02}": 357001 for number in range(20)}
    path = statement(tmp_path, t_1=357000, t_2=714000, **strangers)
    lines = run("--statement", path).stdout.splitlines()
    named = lines[lines.index("exceptions:") + 1 : -2]
    assert len(named) == 10
    assert lines[-2].endswith(" more; --out FOLDER writes all")
    answer = json.loads(run("--statement", path, "--json").stdout)
    assert len(answer["first_exceptions"]) == 10
    assert answer["exceptions"] == 10 + int(lines[-2].split()[1])
    assert all(
        named[place].startswith(f"  {each['task_id'] or each['reservation_id']}: ")
        for place, each in enumerate(answer["first_exceptions"])
    )
