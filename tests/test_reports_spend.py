"""Spend statements from the ledger alone, on every store, in Python and on the command line."""

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from kling_pricing import Budget, BudgetGuard, KlingPricingError, LedgerUnavailableError, PriceBook
from kling_pricing.reports import read_spend, write_spend
from kling_pricing.reports.spend import month_of
from tests import commands
from tests.conftest import AT, Clock, video

CLIP = video(duration=5, resolution="1080p", audio=True)
COST = Decimal("0.714")
BUDGETS = [
    Budget(name="trailer", match={"project": "trailer"}, cap=Decimal(5), currency="USD", window="month"),
    Budget(name="all", cap=Decimal(20), currency="USD"),
]
_AT = re.escape(AT.isoformat())
Run = Callable[..., commands.Done]


@pytest.fixture
def spending(ledger: str, book: PriceBook, clock: Clock) -> str:
    """Returns a ledger with a job of every status."""
    spend(ledger, book, clock)
    return ledger


def spend(ledger: str, book: PriceBook, clock: Clock) -> None:
    """Creates a job of every status, and one job each in another project and another month."""
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
    """Writes and reads the JSON report of November."""
    spent = read_spend(ledger, datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC), **options)
    write_spend(spent, folder, formats=["json"])
    report: dict[str, Any] = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    return report


def lines(path: Path) -> list[dict[str, Any]]:
    """Reads the objects of a JSON Lines file."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_spent_provisional_and_held_are_separate(spending: str, tmp_path: Path) -> None:
    """Settled jobs are spent, jobs settled at the quote are provisional, and unsettled jobs are held."""
    report = november(spending, tmp_path, project="trailer")
    figures = {figure["title"]: (Decimal(figure["amount"]), figure["about"]) for figure in report["figures"]}
    assert figures == {
        "Spent": (Decimal("1.414"), "including 0.714 provisional"),
        "Held": (3 * COST, "reserved for unsettled jobs"),
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
    """November's report has the jobs reserved in November, of all projects, and none of December."""
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


def test_a_project_shows_the_budgets_that_it_moved(spending: str, tmp_path: Path) -> None:
    """A project's report has the balances and the burn-down of the budgets that its jobs moved."""
    report = november(spending, tmp_path, project="trailer")
    assert report["tables"]["budgets"]["length"] == 2
    balances = lines(tmp_path / "budgets.jsonl")
    assert [(row["budget"], row["window"], row["spent"], row["held"], row["left"]) for row in balances] == [
        ("all", "lifetime", "1.414", "3.57", "15.016"),
        ("trailer", "2026-11-01 00:00 to 2026-11-30 23:59", "1.414", "2.142", "1.444"),
    ]
    days = lines(tmp_path / "burn_down.jsonl")
    trailer = [(row["day"], row["left"]) for row in days if row["budget"] == "trailer"]
    assert trailer == [
        ("2026-11-02", "4.3"),
        ("2026-11-03", "3.586"),
        ("2026-11-04", "2.872"),
        ("2026-11-05", "1.444"),
    ]


def test_days_and_months_start_in_the_time_zone(spending: str, tmp_path: Path) -> None:
    """In Shanghai the month starts eight hours earlier than in UTC."""
    since, until = month_of("2026-11", "Asia/Shanghai", AT)
    assert (since, until) == (datetime(2026, 10, 31, 16, tzinfo=UTC), datetime(2026, 11, 30, 16, tzinfo=UTC))
    assert month_of(None, "Asia/Shanghai", datetime(2026, 10, 31, 17, tzinfo=UTC)) == (since, until)
    write_spend(read_spend(spending, since, until, timezone="Asia/Shanghai"), tmp_path, formats=["json"])
    report = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))
    assert report["title"] == "November 2026"
    (period,) = [fact["text"] for fact in report["facts"] if fact["title"] == "Period"]
    assert period == "2026-11-01 00:00 to 2026-12-01 00:00 (exclusive), Asia/Shanghai, by reservation time"


def test_the_same_ledger_gives_the_same_bytes(spending: str, tmp_path: Path) -> None:
    """Every file of every format, and the manifest, is identical the second time."""
    since, until = datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC)
    for name in ("one", "two"):
        write_spend(read_spend(spending, since, until), tmp_path / name)
    assert {path.name: path.read_bytes() for path in (tmp_path / "one").iterdir()} == {
        path.name: path.read_bytes() for path in (tmp_path / "two").iterdir()
    }


def test_currencies_are_never_added_up(ledger: str, book: PriceBook, clock: Clock, tmp_path: Path) -> None:
    """Each currency has its own figures and totals."""
    budgets = [
        Budget(name="usd", match={"project": "a"}, cap=Decimal(5), currency="USD"),
        Budget(name="cny", match={"project": "b"}, cap=Decimal(5), currency="CNY"),
    ]
    with BudgetGuard(ledger, budgets, book=book, clock=clock) as guard:
        guard.record("qingbo", "t-1", "1", labels={"project": "a"}, at=AT)
        guard.record("tencent-vod", "t-2", "2", labels={"project": "b"}, at=AT)
    report = november(ledger, tmp_path)
    spent = [(figure["amount"], figure["unit"]) for figure in report["figures"] if figure["title"] == "Spent"]
    assert spent == [("2", "CNY"), ("1", "USD")]
    by_day = report["tables"]["by_day"]["totals"]
    assert [(row["currency"], row["spent"]) for row in by_day] == [("CNY", "2"), ("USD", "1")]


def test_a_month_without_spend_says_so(ledger: str, book: PriceBook, tmp_path: Path) -> None:
    """Every format can be empty, and the report names the project, which a budget names but no job has."""
    BudgetGuard(ledger, BUDGETS, book=book).close()
    cases = (
        (None, "The ledger has no jobs in this period."),
        ("trailer", "The ledger has no jobs for project trailer in this period."),
    )
    for project, about in cases:
        spent = read_spend(ledger, AT, AT + timedelta(days=1), project=project)
        folder = tmp_path / str(project)
        write_spend(spent, folder)
        report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
        assert report["verdict"]["headline"] == "No spend"
        assert report["verdict"]["about"] == about


def test_reading_creates_no_ledger(tmp_path: Path) -> None:
    """A misspelled file name is an error, and no file is created."""
    with pytest.raises(LedgerUnavailableError, match="there is no such file"):
        read_spend(f"sqlite:///{tmp_path}/spent.db", AT, AT + timedelta(days=1))
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"timezone": "Asia/Atlantis"}, "unknown time zone Asia/Atlantis; did you mean "),
        (
            {"until": AT},
            f"the period {_AT} to {_AT} is empty; choose an end that is after the start",
        ),
        ({"since": datetime(2026, 11, 1)}, "no time zone"),  # noqa: DTZ001 (that is the point)
    ],
)
def test_an_invalid_period_or_zone_says_why(tmp_path: Path, options: dict[str, Any], problem: str) -> None:
    """An invalid period or time zone is an error."""
    given = {"since": AT, "until": AT + timedelta(days=1), **options}
    with pytest.raises(KlingPricingError, match=problem):
        read_spend(f"sqlite:///{tmp_path}/spend.db", **given)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory, book: PriceBook) -> Run:
    """Returns a function that runs `kling-pricing report` on a ledger with a job of every status."""
    spending = f"sqlite:///{tmp_path_factory.mktemp('ledger')}/spend.db"
    spend(spending, book, Clock())
    return partial(commands.run, "report", ledger=spending)


def test_the_command_prints_a_month_and_writes_its_files(run: Run, tmp_path: Path) -> None:
    """The command prints a table and writes the files into the folder."""
    out = tmp_path / "out"
    result = run("--project", "trailer", "--month", "2026-11", "--out", str(out), "--format", "html")
    assert result.returncode == 0, result.stderr
    assert result.stdout.startswith(
        "trailer, November 2026: not final yet\n"
        "1.414 USD spent so far. Of 7 jobs, 1 is settled provisionally at the quoted price and 3 are not "
        "settled yet.\n"
    )
    assert "│ Total   │          │ USD      │    7 │ 1.414 │       0.714 │ 2.142 │" in result.stdout
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["manifest.json", "report.html"]
    assert f"wrote 1 file and manifest.json to {out}" in result.stderr


def test_the_command_prints_json(run: Run) -> None:
    """--json prints the object of report.json."""
    result = run("--from", "2026-11-01", "--until", "2026-11-03", "--json")
    report = json.loads(result.stdout)
    assert (report["report"], report["title"]) == ("spend", "2026-11-01 to 2026-11-02")


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (("--month", "2026-13"), "2026-13 is not a month; write it as YYYY-MM, such as 2026-11"),
        (("--month", "0000-01"), "0000-01 is not a month; write it as YYYY-MM, such as 2026-11"),
        (("--month", "2000-01"), "is out of range; give an instant in the years 2001 to 2199"),
        (("--month", "9999-12"), "9999-12 is not a month; write it as YYYY-MM, such as 2026-11"),
        (
            ("--from", "2026-11-01"),
            "give either --month or both --from and --until; omit all three for the current month",
        ),
        (
            ("--month", "2026-11", "--format", "csv"),
            "--format applies only to report files; choose their folder with --out",
        ),
        (
            ("--month", "2026-11", "--billing-account", "team"),
            "--billing-account applies only to report files; choose",
        ),
        (
            ("--month", "2026-11", "--from", "2026-11-01", "--until", "2026-11-02"),
            "give either --month or both --from and --until",
        ),
        (("--month", "2026-11", "--timezone", "Moon/Sea"), "unknown time zone Moon/Sea; write an IANA name"),
        (("--month", "2026-11", "--out", "/dev/null/out"), "/dev/null/out: cannot write the report: "),
    ],
)
def test_bad_usage_exits_2(run: Run, arguments: tuple[str, ...], problem: str) -> None:
    """The error names the remedy, standard output stays empty, and the exit code is 2."""
    result = run(*arguments)
    assert (result.returncode, result.stdout) == (2, "")
    assert problem in " ".join(result.stderr.split())


def test_days_start_in_the_time_zone(run: Run) -> None:
    """A day in --from and --until starts in --timezone, and an instant stays as it is."""
    days = run("--from", "2026-11-03", "--until", "2026-11-04", "--timezone", "Asia/Shanghai", "--json")
    (period,) = [fact["text"] for fact in json.loads(days.stdout)["facts"] if fact["title"] == "Period"]
    assert period == "2026-11-03 00:00 to 2026-11-04 00:00 (exclusive), Asia/Shanghai, by reservation time"
    instants = ("--from", "2026-11-02T16:00Z", "--until", "2026-11-03T16:00Z")
    assert run(*instants, "--timezone", "Asia/Shanghai", "--json").stdout == days.stdout


def test_expired_jobs_are_not_held(book: PriceBook, tmp_path: Path) -> None:
    """A job that expired before it was sent is released, even if the ledger has not recorded that yet."""
    ledger = f"sqlite:///{tmp_path}/spend.db"  # a server has its own clock
    clock = Clock(datetime(2026, 10, 5, tzinfo=UTC))
    with BudgetGuard(ledger, BUDGETS, book=book, clock=clock) as guard:
        guard.admit(CLIP, project="trailer", key="expired")
        guard.admit(CLIP, project="teaser", key="of another project")
    october = datetime(2026, 10, 1, tzinfo=UTC), datetime(2026, 11, 1, tzinfo=UTC)
    write_spend(read_spend(ledger, *october, project="trailer"), tmp_path, formats=["json"])
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
    assert (day["window"], day["left"]) == ("2026-10-01 00:00 to 2026-10-31 23:59", "5")
