"""`kling-pricing reconcile`: its output and exit codes; it changes nothing without `--settle`."""

import json
import re
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
    """A ledger with two bound tasks and a request without a known task."""
    url = f"sqlite:///{tmp_path}/spend.db"
    budgets = [Budget(name="all", cap=9, currency="USD", alerts=["0.1"])]
    with BudgetGuard(url, budgets, book=book, clock=Clock(NOON)) as guard:
        for key, task_id in (("a", "t-1"), ("b", "t-2"), ("unanswered", None)):
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
    """Writes a statement with one row per task."""
    created_at = int(NOON.timestamp() * 1000)
    rows = [
        f"{task_id.replace('_', '-')},kling-v3,completed,{created_at},{cost}" for task_id, cost in costs.items()
    ]
    path = folder / "november.csv"
    path.write_text("\n".join(["task_id,model,status,created_at,cost", *rows, ""]))
    return path


EXCEPTIONS = """\
┏━━━━━━━━━━━━━━━━━━━━┳━━━━━━━┳━━━━━━━━━━┳━━━━━━━━━━┳━━━━━━━━┳━━━━━━━━━━┓
┃ category           ┃ lines ┃ expected ┃ variance ┃ billed ┃ currency ┃
┡━━━━━━━━━━━━━━━━━━━━╇━━━━━━━╇━━━━━━━━━━╇━━━━━━━━━━╇━━━━━━━━╇━━━━━━━━━━┩
│ in doubt candidate │     2 │    0.714 │        0 │  0.714 │ USD      │
│ explained          │     1 │    0.714 │   +0.714 │  1.428 │ USD      │
│ matched            │     1 │    0.714 │        0 │  0.714 │ USD      │
│ all                │     4 │    2.142 │   +0.714 │  2.856 │ USD      │
└────────────────────┴───────┴──────────┴──────────┴────────┴──────────┘
statement rows: 3 read, 3 charges in the period
pay 2.856 USD, in dispute 0, accrue 0
exceptions by cause:
  lines    variance  cause
      1  +0.714 USD  explained: billed for a longer clip than requested, or billed at twice the price
      2       0 USD  in doubt candidate: a request without a known task matches a charge for an unknown task
exceptions:
  stranger: in doubt candidate, +0.714 USD: the task is not in this ledger; matching requests without a known \
task: 1. Ask the provider whether the task belongs to reservation ID; if so, assign \
the task to the reservation with `--pair RESERVATION=stranger`.
  ID: in doubt candidate, -0.714 USD: no response named a task for this request; matching charges for \
unknown tasks: 1. Ask the provider whether the request became task stranger; if so, assign the task to the \
reservation with `--pair ID=TASK`.
  t-2: explained, +0.714 USD: billed 10 s for a 5 s request, or billed at twice the price. Compare the request \
with the delivered clip. If the clip is as requested, dispute the extra 0.714 USD.
the totals tie out; 3 exceptions, 2 of them still open
"""


def test_exceptions_are_counted_and_exit_1(run: Run, tmp_path: Path) -> None:
    """The table has a row per category, each exception has its remedy, and the ledger does not change."""
    before = (tmp_path / "spend.db").read_bytes()
    result = run("--statement", statement(tmp_path, t_1=357000, t_2=714000, stranger=357000))
    assert result.returncode == 1
    assert re.sub("[0-9a-f]{32}", "ID", result.stdout) == EXCEPTIONS
    assert (tmp_path / "spend.db").read_bytes() == before


def test_one_exception_is_in_the_singular(run: Run, tmp_path: Path, book: PriceBook, ledger: str) -> None:
    """The last line has the singular for one exception."""
    path = statement(tmp_path, t_1=357000, t_2=714000, stranger=357000)
    with BudgetGuard(ledger, book=book) as guard:
        (request,) = guard.history(key="unanswered")
    result = run("--statement", path, "--pair", f"{request.id}=stranger")
    assert result.returncode == 1
    assert result.stdout.splitlines()[-1] == "the totals tie out; 1 exception, explained"


def test_an_empty_period_is_reported(tmp_path: Path, ledger: str) -> None:
    """An empty period is not reconciled; the output names the provider and the period to check."""
    period = ("--provider", "qingbo", "--from", "2026-08-01", "--until", "2026-09-01")
    paths = ("--statement", statement(tmp_path, t_1=357000))
    result = commands.run("reconcile", *period, *paths, ledger=ledger)
    assert result.returncode == 2
    assert result.stdout == (
        "statement rows: 1 read, 0 charges in the period, 1 outside the period\n"
        "no qingbo task was sent or charged from 2026-08-01T00:00:00+00:00 to 2026-09-01T00:00:00+00:00; "
        "check the provider and the period\n"
        "not reconciled: nothing was compared, because the statement charges nothing in the period\n"
    )


def test_a_month_without_exceptions_exits_0(run: Run, tmp_path: Path, book: PriceBook, ledger: str) -> None:
    """A month without exceptions exits with 0, and `--settle` writes it into the ledger once."""
    path = statement(tmp_path, t_1=357000, t_2=357000, stranger=357000)
    with BudgetGuard(ledger, book=book) as guard:
        (request,) = guard.history(key="unanswered")
    pair = ("--pair", f"{request.id}=stranger")
    result = run("--statement", path, *pair, "--json")
    assert result.returncode == 0
    answer = json.loads(result.stdout)
    assert (answer["exceptions"], answer["open"], answer["rows"]["charges"]) == (0, 0, 3)
    assert answer["totals"] == [
        {"name": "", "currency": "USD", "lines": 3, "expected": "2.142", "billed": "2.142", "variance": "0"}
    ]
    settled = run("--statement", path, *pair, "--settle")
    assert settled.stdout.splitlines()[-8:] == [
        "statement rows: 3 read, 3 charges in the period",
        "pay 2.142 USD, in dispute 0, accrue 0",
        "remembered: 1 statement, 3 rows",
        "settled: 3, bound: 1, refused: 0",
        "  stranger: 0.714 USD",
        "  t-1: 0.714 USD",
        "  t-2: 0.714 USD",
        "the totals tie out; no action needed",
    ]
    second = json.loads(run("--statement", path, *pair, "--settle", "--json").stdout)
    assert second["settled"] == {"settled": 0, "bound": 0, "refused": {}}
    with BudgetGuard(ledger, book=book) as guard:
        guard.verify()
        assert {(row.state, row.basis) for row in guard.history()} == {("settled", "statement")}


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("--statement", "none.csv"), "none.csv: cannot be read: No such file or directory"),
        (("--statement", "HERE", "--provider", "none"), "unknown provider 'none'"),
        (("--statement", "HERE", "--mapping", "none"), "unknown mapping 'none'"),
        (("--statement", "HERE", "--ledger", "sqlite:///none.db"), "there is no such file"),
        (
            ("--statement", "HERE", "--grace", "soon"),
            "'soon' is not a duration; write 90m, 24h or 3d, for example",
        ),
        (
            ("--statement", "HERE", "--tolerance", "0.1"),
            (
                "--tolerance limits the unexplained amount of each line, and --batch-tolerance limits the "
                "total of these amounts; give both options"
            ),
        ),
        (
            ("--statement", "HERE", "--format", "html"),
            "--format applies only to report files; choose their folder with --out",
        ),
        (("--statement", "HERE", "--tolerance", "1e-3"), "is not a plain decimal number"),
        (("--statement", "HERE", "--pair", "x"), "'x' is not a pair; write RESERVATION=TASK_ID"),
        (("--statement", "HERE", "--memory-limit", "lots"), "a memory limit must be a size such as 500MB"),
        ((), "Missing option '--statement'"),
    ],
)
def test_bad_input_exits_2(run: Run, tmp_path: Path, arguments: tuple[str, ...], problem: str) -> None:
    """Bad input exits with 2, and the message has the place and the remedy."""
    path = str(statement(tmp_path, t_1=357000))
    result = run(*(path if argument == "HERE" else argument for argument in arguments))
    assert result.returncode == 2
    assert problem in " ".join(result.stderr.split())


def test_rows_that_are_no_charges_are_counted(run: Run, tmp_path: Path) -> None:
    """The line below the table counts rows of other periods, invalid ones, and those that are no charges."""
    path = statement(tmp_path, t_1=357000, t_2=357000)
    october = int(datetime(2026, 10, 5, tzinfo=UTC).timestamp())
    rows = f",,,,\nt-0,kling-v3,completed,{october},5\nTotal,,,{october},714000\n"
    path.write_text(path.read_text() + rows, encoding="utf-16")
    result = run("--statement", path)
    assert "statement rows: 5 read, 2 charges in the period, 1 outside the period, 2 ignored\n" in result.stdout
    counts = json.loads(run("--statement", path, "--json").stdout)["rows"]
    assert counts == {"read": 5, "charges": 2, "uncharged": 0, "invalid": 0, "outside": 1, "ignored": 2}


def test_an_encoding_and_a_currency_can_be_named(run: Run, tmp_path: Path) -> None:
    """A file in another encoding is read with `--encoding`; without it, the error names the option."""
    path = tmp_path / "a.csv"
    at = int(NOON.timestamp())
    path.write_text(f"task_id,model,status,created_at,cost,备注\nx,kling-v3,completed,{at},1,中\n", "gb18030")
    refused = run("--statement", path)
    assert refused.returncode == 2
    assert (
        "a.csv:1: is not UTF-8 text; save it as UTF-8, or give its encoding, such as gb18030, with --encoding"
        in " ".join(refused.stderr.split())
    )
    read = run("--statement", path, "--encoding", "gb18030", "--account-currency", "USD")
    assert "statement rows: 1 read, 1 charges in the period" in read.stdout


def test_the_help_teaches() -> None:
    """The help has an example and the exit codes."""
    shown = commands.run("reconcile", "--help").stdout
    assert "--month 2026-11 --out reports/2026-11\n" in shown
    assert "Exit codes:\n    0  the totals tie out, and no action is needed\n" in shown
    assert "  reconcile " in commands.run("--help").stdout


def test_reports_are_written_to_the_folder(run: Run, tmp_path: Path) -> None:
    """The chosen formats are written, with the same bytes each time; an impossible folder exits with 2."""
    path = statement(tmp_path, t_1=357000, t_2=714000)
    for name in ("one", "two"):
        result = run("--statement", path, "--out", tmp_path / name, "--format", "html", "--format", "json")
        assert result.returncode == 1
        assert f"files in {tmp_path / name}\n" in result.stdout
    files = {path.name for path in (tmp_path / "one").iterdir()}
    assert {"report.html", "report.json", "manifest.json"} <= files
    assert "report.xlsx" not in files
    for name in files:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert "billed 10 s for a 5 s request" in (tmp_path / "one" / "report.html").read_text(encoding="utf-8")
    assert run("--statement", path, "--out", path / "below").returncode == 2


def test_only_ten_exceptions_are_listed(run: Run, tmp_path: Path) -> None:
    """The terminal lists ten exceptions and counts the others; `--json` has the same ten as objects."""
    strangers = {f"stranger_{number:02}": 357001 for number in range(20)}
    path = statement(tmp_path, t_1=357000, t_2=714000, **strangers)
    lines = run("--statement", path).stdout.splitlines()
    listed = lines[lines.index("exceptions:") + 1 : -2]
    assert len(listed) == 10
    assert lines[-2] == "  and 12 more; to write reports with all exceptions, add --out FOLDER"
    answer = json.loads(run("--statement", path, "--json").stdout)
    assert len(answer["first_exceptions"]) == 10
    assert answer["exceptions"] == 22
    assert all(
        line.startswith(f"  {exception['task_id'] or exception['reservation_id']}: ")
        for line, exception in zip(listed, answer["first_exceptions"], strict=True)
    )
