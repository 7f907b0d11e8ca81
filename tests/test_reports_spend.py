"""Spend statements from the ledger alone, on every kind of store, in Python and on the command line."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from kling_pricing import Budget, BudgetGuard, KlingPricingError, LedgerUnavailableError, PriceBook
from kling_pricing.reports import read_spend, write_spend
from kling_pricing.reports.spend import month_of
from tests.conftest import AT, Clock, video

CLIP = video(duration=5, resolution="1080p", audio=True)
COST = Decimal("0.714")
BUDGETS = [
    Budget(name="trailer", match={"project": "trailer"}, cap=Decimal(5), currency="USD", window="month"),
    Budget(name="all", cap=Decimal(20), currency="USD"),
]
Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def spending(ledger: str, book: PriceBook, clock: Clock) -> str:
    """A ledger with a job of every standing."""
    spend(ledger, book, clock)
    return ledger


def spend(ledger: str, book: PriceBook, clock: Clock) -> None:
    """Makes a job of every standing; another project and another month have one each."""
    clock.now = datetime(2026, 11, 2, 9, tzinfo=UTC)
    with BudgetGuard(ledger, BUDGETS, book=book, clock=clock, expires_after=timedelta(days=99)) as guard:
        for name in ("final", "provisional", "under way", "sent", "reserved", "released", "refunded"):
            admission = guard.admit(CLIP, project="trailer", key=name, labels={"user": "li"})
            if name == "released":
                guard.release(admission, "not needed: see https://cdn.example/why")
            if name in {"released", "reserved"}:
                continue
            guard.dispatch(admission)
            if name == "sent":
                continue
            guard.bind(admission, f"t-{name}")
            if name == "final":
                guard.settle(admission, "0.7")
            if name == "provisional":
                guard.settle(admission)
            if name == "refunded":
                guard.observe({"task_id": "t-refunded", "status": "failed", "cost": 0}, provider="qingbo")
            clock.pass_by(days=1)
        guard.dispatch(guard.admit(CLIP, project="teaser", key="other"))
        clock.now = datetime(2026, 12, 1, tzinfo=UTC)
        guard.admit(CLIP, project="trailer", key="december")


def november(ledger: str, folder: Path, **options: Any) -> dict[str, Any]:
    """The JSON report of November."""
    spent = read_spend(ledger, datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC), **options)
    write_spend(spent, folder, formats=["json"])
    found: dict[str, Any] = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    return found


def lines(path: Path) -> list[dict[str, Any]]:
    """The objects of a file of JSON lines."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_what_is_spent_held_and_not_final_is_told_apart(spending: str, tmp_path: Path) -> None:
    """Spent is what was settled; at the quote alone it is provisional; what is not settled is held."""
    report = november(spending, tmp_path, project="trailer")
    figures = {each["title"]: (Decimal(each["amount"]), each["about"]) for each in report["figures"]}
    assert figures == {
        "Spent": (Decimal("1.414"), "of which 0.714 provisional"),
        "Held": (3 * COST, "set aside for jobs that are not settled"),
        "Committed": (Decimal("3.556"), "7 jobs"),
    }
    assert report["verdict"]["headline"] == "Not final yet"
    rows = report["tables"]["summary"]["rows"]
    summary = {row["standing"]: (row["jobs"], row["spent"], row["held"]) for row in rows}
    assert summary == {
        "final": (1, "0.7", "0"),
        "provisional": (1, "0.714", "0"),
        "under way": (1, "0", "0.714"),
        "sent": (1, "0", "0.714"),
        "reserved": (1, "0", "0.714"),
        "released": (2, "0", "0"),
    }


def test_a_job_belongs_to_the_month_and_project_it_was_reserved_in(spending: str, tmp_path: Path) -> None:
    """December's job is not November's; everybody's spend has the other project's too."""
    report = november(spending, tmp_path)
    assert {row["project"]: row["jobs"] for row in report["tables"]["by_project"]["rows"]} == {
        "trailer": 7,
        "teaser": 1,
    }
    assert [row["jobs"] for row in report["tables"]["by_project"]["totals"]] == [8]
    jobs = (tmp_path / "jobs.jsonl").read_text(encoding="utf-8")
    assert json.loads(jobs.splitlines()[0])["key"] == "final"
    assert "december" not in jobs
    assert "cdn.example" not in jobs


def test_budgets_are_those_that_the_project_moved(spending: str, tmp_path: Path) -> None:
    """What each has left now, and at the end of each day on which that changed."""
    report = november(spending, tmp_path, project="trailer")
    assert report["tables"]["budgets"]["length"] == 2
    balances = lines(tmp_path / "budgets.jsonl")
    assert [
        (each["budget"], each["window"], each["spent"], each["held"], each["left"]) for each in balances
    ] == [
        ("all", "lifetime", "1.414", "3.57", "15.016"),
        ("trailer", "2026-11-01 00:00 to 2026-11-30 23:59", "1.414", "2.142", "1.444"),
    ]
    days = lines(tmp_path / "burn_down.jsonl")
    trailer = [(each["day"], each["left"]) for each in days if each["budget"] == "trailer"]
    assert trailer == [
        ("2026-11-02", "4.3"),
        ("2026-11-03", "3.586"),
        ("2026-11-04", "2.872"),
        ("2026-11-05", "1.444"),
    ]


def test_days_and_months_begin_where_the_reader_is(spending: str, tmp_path: Path) -> None:
    """In Shanghai the month begins eight hours earlier, and so do its days."""
    since, until = month_of("2026-11", "Asia/Shanghai", AT)
    assert (since, until) == (datetime(2026, 10, 31, 16, tzinfo=UTC), datetime(2026, 11, 30, 16, tzinfo=UTC))
    assert month_of(None, "Asia/Shanghai", datetime(2026, 10, 31, 17, tzinfo=UTC)) == (since, until)
    write_spend(read_spend(spending, since, until, timezone="Asia/Shanghai"), tmp_path, formats=["json"])
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert report["title"] == "November 2026"
    (period,) = [fact["text"] for fact in report["facts"] if fact["title"] == "Period"]
    assert period == "reserved from 2026-11-01 00:00 until before 2026-12-01 00:00, Asia/Shanghai"


def test_the_same_ledger_gives_the_same_bytes(spending: str, tmp_path: Path) -> None:
    """Every file of every format, and the manifest."""
    since, until = datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC)
    for name in ("one", "two"):
        write_spend(read_spend(spending, since, until), tmp_path / name)
    assert {path.name: path.read_bytes() for path in (tmp_path / "one").iterdir()} == {
        path.name: path.read_bytes() for path in (tmp_path / "two").iterdir()
    }


def test_currencies_are_never_added_up(ledger: str, book: PriceBook, clock: Clock, tmp_path: Path) -> None:
    """Each has its own figures, totals and charts."""
    budgets = [
        Budget(name="usd", match={"project": "a"}, cap=Decimal(5), currency="USD"),
        Budget(name="cny", match={"project": "b"}, cap=Decimal(5), currency="CNY"),
    ]
    with BudgetGuard(ledger, budgets, book=book, clock=clock) as guard:
        guard.record("qingbo", "t-1", "1", labels={"project": "a"}, at=AT)
        guard.record("tencent-vod", "t-2", "2", labels={"project": "b"}, at=AT)
    report = november(ledger, tmp_path)
    spent = [(each["amount"], each["unit"]) for each in report["figures"] if each["title"] == "Spent"]
    assert spent == [("2", "CNY"), ("1", "USD")]
    by_day = report["tables"]["by_day"]["totals"]
    assert [(each["currency"], each["spent"]) for each in by_day] == [("CNY", "2"), ("USD", "1")]


def test_a_month_in_which_nothing_was_spent_says_so(ledger: str, book: PriceBook, tmp_path: Path) -> None:
    """Every format can be empty; of one project, its name is told, which may be mistyped."""
    BudgetGuard(ledger, BUDGETS, book=book).close()
    about = (
        (None, "The ledger has no job in this period."),
        ("trialer", "The ledger has no job of project trialer in this period."),
    )
    for project, told in about:
        spent = read_spend(ledger, AT, AT + timedelta(days=1), project=project)
        folder = tmp_path / str(project)
        write_spend(spent, folder)
        report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
        assert report["verdict"]["headline"] == "Nothing was spent"
        assert report["verdict"]["about"] == told


def test_reading_makes_no_ledger(tmp_path: Path) -> None:
    """A mistyped name is an error, and leaves no file behind."""
    with pytest.raises(LedgerUnavailableError, match="there is no such file"):
        read_spend(f"sqlite:///{tmp_path}/spent.db", AT, AT + timedelta(days=1))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (
            {"timezone": "Asia/Atlantis"},
            "unknown time zone Asia/Atlantis; did you mean ",
        ),
        ({"until": AT}, "a period ends after it begins"),
        ({"since": datetime(2026, 11, 1)}, "no time zone"),  # noqa: DTZ001 (that is the point)
    ],
)
def test_what_is_no_period_says_why(tmp_path: Path, options: dict[str, Any], problem: str) -> None:
    """Nothing is read."""
    given = {"since": AT, "until": AT + timedelta(days=1), **options}
    with pytest.raises(KlingPricingError, match=problem):
        read_spend(f"sqlite:///{tmp_path}/spend.db", **given)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, book: PriceBook) -> Run:
    """Runs `kling-pricing report` on such a ledger in a file."""
    spending = f"sqlite:///{tmp_path_factory.mktemp('ledger')}/spend.db"
    spend(spending, book, Clock())
    environment = {name: value for name, value in os.environ.items() if name != "KLING_PRICING_TABLES"}
    environment["KLING_PRICING_LEDGER"] = spending

    def command(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "kling_pricing", "report", *arguments],
            capture_output=True,
            text=True,
            check=False,
            encoding="utf-8",
            env=environment,
        )

    return command


def test_the_command_prints_a_month_and_writes_its_files(run: Run, tmp_path: Path) -> None:
    """The table on standard output, the files in the folder."""
    out = tmp_path / "out"
    result = run("--project", "trailer", "--month", "2026-11", "--out", str(out), "--format", "html")
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith("trailer, November 2026: not final yet\n1.414 USD spent so far on 7 jobs")
    assert "│ Total   │          │ USD      │    7 │ 1.414 │             0.714 │ 2.142 │" in result.stdout
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["manifest.json", "report.html"]
    assert "1 file" in result.stderr


def test_the_command_speaks_json(run: Run) -> None:
    """One object, the same as in report.json."""
    result = run("--from", "2026-11-01", "--until", "2026-11-03", "--json")
    report = json.loads(result.stdout)
    assert (report["report"], report["title"]) == ("spend", "2026-11-01 to 2026-11-02")


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("--month", "2026-13"), "2026-13 is no month; write it as 2026-11"),
        (("--month", "0000-01"), "0000-01 is no month; write it as 2026-11"),
        (("--month", "2000-01"), "is out of range; give an instant in the years 2001 to 2199"),
        (("--month", "9999-12"), "9999-12 is no month; write it as 2026-11"),
        (("--from", "2026-11-01"), "give --month, or both --from and --until"),
        (("--month", "2026-11", "--format", "csv"), "--format is about files; name the folder"),
        (("--month", "2026-11", "--billing-account", "team"), "--billing-account is about files; name"),
        (("--month", "2026-11", "--from", "2026-11-01", "--until", "2026-11-02"), "give --month, or both"),
        (
            ("--month", "2026-11", "--timezone", "Moon/Sea"),
            "unknown time zone Moon/Sea; write an IANA name such as Asia/Shanghai",
        ),
        (("--month", "2026-11", "--out", "/dev/null/out"), "cannot be written into /dev/null/out"),
    ],
)
def test_what_cannot_be_reported_exits_2(run: Run, arguments: tuple[str, ...], problem: str) -> None:
    """The message names the remedy, and nothing is printed."""
    result = run(*arguments)
    assert (result.returncode, result.stdout) == (2, "")
    assert problem in " ".join(result.stderr.split())


def test_bare_days_begin_where_the_reader_is(run: Run) -> None:
    """A day of --from and --until begins in --timezone; an instant stays what it is."""
    days = run("--from", "2026-11-03", "--until", "2026-11-04", "--timezone", "Asia/Shanghai", "--json")
    (period,) = [each["text"] for each in json.loads(days.stdout)["facts"] if each["title"] == "Period"]
    assert period == "reserved from 2026-11-03 00:00 until before 2026-11-04 00:00, Asia/Shanghai"
    instants = ("--from", "2026-11-02T16:00Z", "--until", "2026-11-03T16:00Z")
    assert run(*instants, "--timezone", "Asia/Shanghai", "--json").stdout == days.stdout


def test_what_expired_unsent_is_not_held(book: PriceBook, tmp_path: Path) -> None:
    """Its money is free, though nothing has happened since that would make the ledger say so."""
    ledger = f"sqlite:///{tmp_path}/spend.db"  # a server has its own clock
    clock = Clock(datetime(2025, 11, 5, tzinfo=UTC))
    with BudgetGuard(ledger, BUDGETS, book=book, clock=clock) as guard:
        guard.admit(CLIP, project="trailer", key="expired")
        guard.admit(CLIP, project="teaser", key="of another project")
    november_2025 = datetime(2025, 11, 1, tzinfo=UTC), datetime(2025, 12, 1, tzinfo=UTC)
    write_spend(read_spend(ledger, *november_2025, project="trailer"), tmp_path, formats=["json"])
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert [(row["standing"], row["held"]) for row in report["tables"]["summary"]["rows"]] == [
        ("released", "0")
    ]
    assert report["verdict"]["headline"] == "All settled"
    assert {row["budget"]: (row["held"], row["left"]) for row in lines(tmp_path / "budgets.jsonl")} == {
        "all": ("0", "20"),
        "trailer": ("0", "5"),
    }
    (day,) = [row for row in lines(tmp_path / "burn_down.jsonl") if row["budget"] == "trailer"]
    assert (day["window"], day["left"]) == ("2025-11-01 00:00 to 2025-11-30 23:59", "5")
