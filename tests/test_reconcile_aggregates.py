"""Statements of sums: every cell compares what the ledger expects with what the statement charges."""

import json
import random
from collections import defaultdict
from collections.abc import Sequence
from datetime import date, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, get_args

import duckdb
import pytest

from kling_pricing import Budget, BudgetGuard, KlingPricingError, PriceBook, StatementError, TableError
from kling_pricing.reconcile import (
    Line,
    Reconciliation,
    exceptions_by_cause,
    open_dispute,
    reconcile,
    sample_statement,
)
from kling_pricing.reconcile.model import Grain
from kling_pricing.reports import write_reports
from tests.commands import run
from tests.conftest import Clock, video
from tests.test_reconcile import NOON, SINCE, UNTIL, World

D = Decimal
CORRECT_IT = "correct it, and reconcile again"
SHANGHAI = timedelta(hours=8)
COLUMNS = {
    "day": "day: {column: day}",
    "model": "model: {column: model, names_of: [tasks]}",
    "resolution": "resolution: {column: resolution}",
    "tier": "tier: {column: tier}",
    "project": "project: {column: project}",
    "account": "account: {column: account}",
}


@pytest.fixture
def world(tmp_path: Path, book: PriceBook) -> World:
    """A world with a ledger in SQLite."""
    return World(f"sqlite:///{tmp_path}/spend.db", book, Clock(NOON), tmp_path)


def mapping(folder: Path, *columns: str, top: str = "", name: str = "sums") -> Path:
    """Writes a mapping of sums with an amount in USD, and more columns as given."""
    path = folder / f"{name}.yaml"
    lines = ["amount: {column: amount, unit: USD, decimals: 9}", *columns]
    path.write_text(
        f"statement: {name}\nabout: sums of ours\nsources:\n"
        f"  - {{ref: our own, checked: 2026-11-01, authority: official}}\n{top}aggregates:\n"
        + "".join(f"  {line}\n" for line in lines)
    )
    return path


def compare(world: World, text: str, *columns: str, top: str = "", **more: Any) -> Reconciliation:
    """Reconciles November with a statement of sums."""
    given = {"mapping": mapping(world.folder, *columns, top=top)} | more
    return world.reconcile(world.statement(text, name="sums.csv"), **given)


def only(world: World, text: str, *columns: str, **more: Any) -> Line:
    """Returns the only line of such a reconciliation."""
    with compare(world, text, *columns, **more) as result:
        (line,) = result.lines()
    return line


BY_DAY = ("day: {column: day}", "tasks: {column: tasks}")


class Studio:
    """A month of random tasks, and a plain-Python book of them."""

    def __init__(
        self,
        ledger: str,
        book: PriceBook,
        clock: Clock,
        seed: int,
        jobs: int,
        *,
        several_accounts: bool = False,
    ) -> None:
        rng = random.Random(seed)  # noqa: S311 (a test)
        self.tasks: list[dict[str, Any]] = []
        budgets = [Budget(name="all", cap=D(9000), currency="USD")]
        with BudgetGuard(ledger, budgets, book=book, clock=clock) as guard:
            for number, second in enumerate(sorted(rng.randrange(30 * 86400) for _ in range(jobs))):
                clock.now = SINCE + timedelta(seconds=second)
                clip = video(
                    model=rng.choice(("kling-v3", "kling-v2.6")),
                    duration=rng.choice((5, 10)),
                    resolution="1080p",
                    audio=rng.random() < 0.5,
                )
                project = rng.choice(("trailer", "童话"))
                account = rng.choice(("qingbo", "studio-a")) if several_accounts else "qingbo"
                admission = guard.admit(
                    clip, project=project, key=f"{number}", account=None if account == "qingbo" else account
                )
                guard.dispatch(admission)
                guard.bind(admission, f"task-{number}")
                quote = admission.quote
                self.tasks.append(
                    {
                        "at": clock.now,
                        "model": quote.canonical_model,
                        "resolution": quote.resolution,
                        "tier": quote.tier,
                        "project": project,
                        "account": account,
                        "amount": quote.total,
                    }
                )

    def cells(self, grain: Sequence[str], ahead: timedelta) -> dict[tuple[str, ...], tuple[Decimal, int]]:
        """Returns the sum and the number of tasks of each cell."""
        cells: dict[tuple[str, ...], tuple[Decimal, int]] = defaultdict(lambda: (D(0), 0))
        for task in self.tasks:
            names = task | {"day": f"{task['at'] + ahead:%Y-%m-%d}"}
            key = tuple(names[name] for name in grain)
            cells[key] = (cells[key][0] + task["amount"], cells[key][1] + 1)
        return dict(cells)


def statement_of(grain: Sequence[str], cells: dict[tuple[str, ...], tuple[Decimal, int]]) -> str:
    """Returns a statement of cells as CSV, with a total below it."""
    rows = [",".join((*key, str(amount), str(tasks))) for key, (amount, tasks) in sorted(cells.items())]
    total = sum((amount for amount, _ in cells.values()), D(0))
    return "\n".join([",".join((*grain, "amount", "tasks")), *rows, f"Total{',' * len(grain)}{total},", ""])


GRAINS: tuple[tuple[Grain, ...], ...] = (
    ("day",),
    ("model",),
    ("project",),
    ("tier",),
    ("day", "model"),
    ("model", "resolution", "tier"),
    ("day", "model", "resolution", "tier", "project"),
)


def test_the_ledgers_sums_match_at_every_grain(
    ledger: str, book: PriceBook, clock: Clock, tmp_path: Path
) -> None:
    """A statement of the true sums matches cell by cell and task count by task count, in both stores."""
    studio = Studio(ledger, book, clock, 7, 40)
    for grain in GRAINS:
        path = mapping(tmp_path, *(COLUMNS[name] for name in grain), "tasks: {column: tasks}")
        cells = studio.cells(grain, timedelta(0))
        text = tmp_path / "sums.csv"
        text.write_text(statement_of(grain, cells), encoding="utf-8")
        with reconcile(
            ledger, text, provider="qingbo", since=SINCE, until=UNTIL, mapping=path, book=book
        ) as result:
            lines = list(result.lines())
            (total,) = result.totals("all")
            assert (result.grain, result.exceptions, result.gaps) == (grain, 0, ())
            assert len(result.confirmed) == 1
        assert {line.category for line in lines} == {"matched"}
        assert {
            tuple(f"{getattr(line, name)}" for name in grain): (line.billed, line.expected_tasks)
            for line in lines
        } == cells
        assert all(line.billed_tasks == line.expected_tasks for line in lines)
        assert total.expected == total.billed == sum(task["amount"] for task in studio.tasks)


@pytest.mark.parametrize("grain", [("account",), ("day", "model", "account"), ("account", "project")])
def test_sums_by_account_concern_all_accounts(
    ledger: str, book: PriceBook, clock: Clock, tmp_path: Path, grain: tuple[Grain, ...]
) -> None:
    """One statement has the sums of each account, which match without a choice; a choice is refused."""
    studio = Studio(ledger, book, clock, 11, 30, several_accounts=True)
    renamed = "account: {column: account, names: {main: qingbo}}"
    columns = [renamed if name == "account" else COLUMNS[name] for name in grain]
    path = mapping(tmp_path, *columns, "tasks: {column: tasks}")
    order = sorted(grain, key=get_args(Grain).index)
    cells = studio.cells(order, timedelta(0))
    text = tmp_path / "sums.csv"
    text.write_text(statement_of(order, cells).replace("qingbo", "main"), encoding="utf-8")
    given: dict[str, Any] = {"provider": "qingbo", "since": SINCE, "until": UNTIL, "book": book}
    with reconcile(ledger, text, mapping=path, **given) as result:
        lines = list(result.lines())
        assert (result.grain, result.account, result.exceptions) == (tuple(order), "qingbo", 0)
        assert (result.gaps, result.journal(), result.set_aside) == ((), [], ())
        write_reports(result, tmp_path / "out", formats=["csv", "parquet"], book=book)
    assert {tuple(f"{getattr(line, name)}" for name in order): line.billed for line in lines} == {
        key: amount for key, (amount, _) in cells.items()
    }
    assert {line.account for line in lines} == {"qingbo", "studio-a"}
    assert all((line.account or "") in (line.cell or "") for line in lines)
    accounts = duckdb.execute(
        f"SELECT DISTINCT account FROM '{tmp_path}/out/lines.parquet' ORDER BY 1"
    ).fetchall()
    assert accounts == [("qingbo",), ("studio-a",)]
    with pytest.raises(StatementError, match="concerns all accounts; leave out `account`"):
        reconcile(ledger, text, mapping=path, account="studio-a", **given)
    text.write_text("day,amount\n2026-11-05,1\n")
    with pytest.raises(KlingPricingError, match="has 2 accounts at qingbo, each with statements of its own"):
        reconcile(ledger, text, mapping=mapping(tmp_path, COLUMNS["day"], name="other"), **given)


def test_a_variance_of_sums_stays_in_its_account(world: World, book: PriceBook) -> None:
    """Two accounts whose errors cancel out are two exceptions, and an unknown account is not in the ledger."""
    ledger = f"sqlite:///{world.folder}/accounts.db"
    studio = Studio(ledger, book, Clock(SINCE), 5, 20, several_accounts=True)
    sums = {key: amount for (key,), (amount, _) in studio.cells(["account"], timedelta(0)).items()}
    text = f"account,amount\nqingbo,{sums['qingbo'] + 1}\nstudio-a,{sums['studio-a'] - 1}\nstudio-b,0.5\n"
    given: dict[str, Any] = {"provider": "qingbo", "since": SINCE, "until": UNTIL, "book": book}
    path = mapping(world.folder, COLUMNS["account"])
    with reconcile(ledger, world.statement(text, name="sums.csv"), mapping=path, **given) as result:
        found = {line.account: (line.category, line.variance) for line in result.lines()}
    assert found == {
        "qingbo": ("unexplained", D(1)),
        "studio-a": ("unexplained", D(-1)),
        "studio-b": ("not_in_ledger", D("0.5")),
    }


def test_days_are_those_of_the_providers_zone(world: World, book: PriceBook) -> None:
    """With the zone in the mapping every day matches; a period of other days is refused with the remedy."""
    studio = Studio(f"sqlite:///{world.folder}/other.db", book, Clock(SINCE), 3, 60)
    text = world.statement(statement_of(("day",), studio.cells(("day",), SHANGHAI)), name="sums.csv")
    zoned = mapping(world.folder, "day: {column: day, timezone: Asia/Shanghai}", "tasks: {column: tasks}")
    given: dict[str, Any] = {"provider": "qingbo", "mapping": zoned, "book": book}
    ledger = f"sqlite:///{world.folder}/other.db"
    with reconcile(ledger, text, since=SINCE - SHANGHAI, until=UNTIL - SHANGHAI, **given) as result:
        assert {line.category for line in result.lines()} == {"matched"}
        inside = sum(t["amount"] for t in studio.tasks if t["at"] < UNTIL - SHANGHAI)
        assert result.totals("all")[0].billed == inside
        assert result.rows.outside == (len(studio.cells(("day",), SHANGHAI)) > 30)
    with pytest.raises(
        StatementError, match="of whole days in this zone, for example with --timezone Asia/Shanghai"
    ):
        reconcile(ledger, text, since=SINCE, until=UNTIL, **given)
    done = run(
        *("reconcile", "--provider", "qingbo", "--month", "2026-11", "--timezone", "Asia/Shanghai"),
        *("--statement", str(text), "--mapping", str(zoned)),
        ledger=ledger,
    )
    assert "the statement gives sums by day: they do not show which task" in done.stdout
    assert "exceptions:" not in done.stdout


def test_days_of_another_zone_are_named(world: World, book: PriceBook) -> None:
    """If most sums agree with the days of another zone, the mapping's zone is the first gap."""
    ledger = f"sqlite:///{world.folder}/other.db"
    studio = Studio(ledger, book, Clock(SINCE), 5, 240)
    given: dict[str, Any] = {"provider": "qingbo", "since": SINCE, "until": UNTIL, "book": book}
    for ahead, is_named in ((SHANGHAI, True), (timedelta(hours=-5), True), (timedelta(0), False)):
        text = world.statement(statement_of(("day",), studio.cells(("day",), ahead)), name="sums.csv")
        with reconcile(ledger, text, mapping=mapping(world.folder, *BY_DAY), **given) as result:
            hours = ahead // timedelta(hours=1)
            clause = f"the days of the statement seem to be those of UTC{hours:+03}:00 instead of UTC"
            assert [clause in gap for gap in result.gaps[:1]] == [True] * is_named
    unknown = world.statement("day,amount,tasks\n" + "".join(f"2026-11-{n:02},9,1\n" for n in range(1, 20)))
    with reconcile(ledger, unknown, mapping=mapping(world.folder, *BY_DAY), **given) as result:
        assert result.gaps == ()


PLANTS: dict[str, tuple[str, str, str, str]] = {
    "as expected": ("2.142,3", "matched", "", ""),
    "one unbilled": (
        "1.428,2",
        "unexplained",
        "the variance is the amount of 1 task at 0.714; the statement counts 2 tasks and the ledger 3",
        "The sum is 0.714 USD less than expected. Ask the provider for the tasks behind this sum",
    ),
    "one twice, one missing": (
        "2.142,4",
        "unexplained",
        "the amounts agree, but the statement counts 4",
        "two errors",
    ),
    "odd": (
        "2.2,3",
        "unexplained",
        "no single cause that sums can show accounts",
        "0.058 USD more",
    ),
    "rounded": ("2.15,3", "explained", "the sum is rounded", ""),
    "no row": ("", "not_billed", "the statement has no row for these tasks", "will be charged"),
}


@pytest.mark.parametrize("name", PLANTS)
def test_a_cell_has_the_category_of_its_difference(world: World, name: str) -> None:
    """Three equal tasks of a day, charged in different ways."""
    amounts, category, cause, remedy = PLANTS[name]
    for task in ("a", "b", "c"):
        world.send(task)
    decimals = "amount: {column: amount, unit: USD, decimals: 2}" if name == "rounded" else None
    path = mapping(world.folder, *BY_DAY)
    if decimals:
        path.write_text(path.read_text().replace("decimals: 9", "decimals: 2"))
    rows = f"2026-11-05,{amounts}\n" if amounts else ""
    statement = world.statement(f"day,amount,tasks\n{rows}", name="sums.csv")
    with world.reconcile(statement, mapping=path) as result:
        (line,) = result.lines()
        assert bool(line.remedy) == bool(remedy)
        assert result.exceptions == bool(remedy)
    assert (line.category, line.cell, line.expected, line.expected_tasks) == (
        category,
        "2026-11-05",
        D("2.142"),
        3,
    )
    assert cause in line.cause
    assert remedy in line.remedy


def test_failed_tasks_and_unknown_requests_explain_a_cell(world: World) -> None:
    """As much more as the failed tasks cost, or as much less as the requests without a task: one cause each."""
    world.send("good")
    world.send("failed")
    world.guard.observe({"task_id": "failed", "status": "failed", "cost": 0}, provider="qingbo")
    line = only(world, "day,amount\n2026-11-05,1.428\n", "day: {column: day}")
    assert (line.category, line.expected, line.expected_tasks) == ("explained", D("0.714"), 1)
    assert line.cause.startswith("1 failed task was charged, although the price table says")
    assert line.remedy.endswith("and reconcile them, and dispute the extra 0.714 USD.")
    world.send()
    line = only(world, "day,amount\n2026-11-05,0.714\n", "day: {column: day}")
    assert (line.category, line.cause) == ("explained", "1 request without a known task was not charged")
    assert line.remedy.endswith("Ask the provider for the tasks behind this sum, and reconcile them.")


def test_amounts_in_quota_round_task_by_task(world: World) -> None:
    """Sums in the provider's own unit are exact, and a rounding of each task explains its last digits."""
    for task in ("a", "b", "c"):
        world.send(task, resolution="4k")
    path = mapping(world.folder, "day: {column: day}")
    path.write_text(path.read_text().replace("unit: USD, decimals: 9", "unit: quota, decimals: 0"))
    for quota, category in ((3 * 1138363, "explained"), (3 * 1138363 - 4, "unexplained")):
        with world.reconcile(world.statement(f"day,amount\n2026-11-05,{quota}\n"), mapping=path) as result:
            (line,) = result.lines()
            assert (line.category, line.billed) == (category, quota * D("0.000002"))
            assert bool(line.remedy) == (category == "unexplained")


def test_late_tasks_move_to_the_next_day(world: World) -> None:
    """The last task of a day in the next day's sum is timing, on both days and at the month's end."""
    world.send("noon")
    world.clock.now = NOON + timedelta(hours=11, minutes=55)
    world.send("late", audio=False)
    world.clock.now = UNTIL - timedelta(minutes=5)
    world.send("last")
    text = "day,amount\n2026-11-05,0.714\n2026-11-06,0.476\n"
    with compare(world, text, "day: {column: day}") as result:
        lines = {line.cell: (line.category, line.variance, line.cause) for line in result.lines()}
        assert result.exceptions == 0
    assert lines == {
        "2026-11-05": ("timing", D("-0.476"), "the last task of the day is charged after it, or not yet"),
        "2026-11-06": ("timing", D("0.476"), "the last task of the day before is charged on this day"),
        "2026-11-30": (
            "not_billed_yet",
            D("-0.714"),
            "the statement has no row for these tasks; the grace period for late billing has not ended",
        ),
    }


def test_a_first_day_that_is_too_dear_is_not_timing(world: World) -> None:
    """Nothing shows that a charge on the first day belongs to the month before, so it stays an exception."""
    world.clock.now = SINCE - timedelta(minutes=5)
    world.send("before")
    world.clock.now = SINCE + timedelta(hours=1)
    world.send("first")
    line = only(world, "day,amount\n2026-11-01,1.428\n", "day: {column: day}")
    assert (line.category, bool(line.remedy)) == ("unexplained", True)


def test_an_early_task_that_is_missing_is_not_timing(world: World) -> None:
    """Only tasks of the last hours of a day can be charged on the next."""
    world.send("noon")
    world.clock.now = NOON + timedelta(days=1)
    world.send("next")
    text = "day,amount\n2026-11-06,1.428\n"
    with compare(world, text, "day: {column: day}") as result:
        assert {line.cell: line.category for line in result.lines()} == {
            "2026-11-05": "not_billed",
            "2026-11-06": "unexplained",
        }


def test_an_unknown_cell_and_another_currency_are_exceptions(world: World) -> None:
    """A model that the ledger lacks is not in the ledger; a sum in another currency has a line in each."""
    world.send("t")
    text = "model,amount,currency\nkling-v3,5.1,CNY\nkling-v2.6,1,USD\n"
    path = mapping(world.folder, COLUMNS["model"])
    path.write_text(path.read_text().replace("unit: USD", "unit_column: currency"))
    with world.reconcile(world.statement(text), mapping=path) as result:
        lines = [
            (line.category, line.model, line.currency, line.expected, line.billed) for line in result.lines()
        ]
        assert result.exceptions == len(lines)
        assert all(line.remedy for line in result.lines())
    assert sorted(lines, key=str) == [
        ("currency_mismatch", "kling-v3", "CNY", None, D("5.1")),
        ("currency_mismatch", "kling-v3", "USD", D("0.714"), None),
        ("not_in_ledger", "kling-v2-6", "USD", None, D(1)),
    ]


def test_rows_of_the_same_cell_are_refused_unless_the_mapping_adds_them_up(world: World) -> None:
    """A second row of a cell may be a copy, so it counts only with `several_rows`."""
    world.send("t")
    text = "day,amount\n2026-11-05,0.357\n2026-11-05,0.357\n"
    with compare(world, text, "day: {column: day}") as result:
        invalid = next(result.lines("invalid_row"))
        assert "(sums.csv:2)" in invalid.cause
        assert "set `several_rows: true`" in invalid.remedy
        assert result.gaps
    line = only(world, text, "day: {column: day}", "several_rows: true")
    assert (line.category, line.rows) == ("matched", ("sums.csv:2", "sums.csv:3"))


@pytest.mark.parametrize("several", [False, True])
def test_files_that_overlap_count_a_cell_once(world: World, several: bool) -> None:  # noqa: FBT001
    """The same sum in two files is one sum; another sum of the same cell is refused, with both places."""
    for day in range(2):
        world.clock.now = NOON + timedelta(days=day)
        world.send(f"t{day}")
    path = mapping(world.folder, "day: {column: day}", f"several_rows: {several}".lower())
    first = world.statement("day,amount\n2026-11-05,0.714\n", name="first.csv")
    second = world.statement("day,amount\n2026-11-05,0.714\n2026-11-06,0.714\n", name="second.csv")
    with world.reconcile(first, second, mapping=path) as result:
        assert {line.category for line in result.lines()} == {"matched"}
        assert result.rows == (3, 2, 0, 0, 0, 1)
    second = world.statement("day,amount\n2026-11-05,0.8\n2026-11-06,0.714\n", name="second.csv")
    with world.reconcile(first, second, mapping=path) as result:
        invalid = next(result.lines("invalid_row"))
        assert invalid.rows == ("second.csv:2",)
        assert "first.csv:2" in invalid.cause


def test_subtotals_are_no_sums(world: World) -> None:
    """A row without a model is refused as unreadable, or compared as a total if the mapping says so."""
    world.send("t")
    world.send("u", model="kling-v2.6", duration=5)
    text = "day,model,amount\n2026-11-05,kling-v3,0.714\n2026-11-05,kling-v2.6,{}\n2026-11-05,,{}\nTotal,,{}\n"
    with compare(world, text.format("0.714", "1.428", "1.428"), COLUMNS["day"], COLUMNS["model"]) as result:
        billed = {line.model: line.expected for line in result.lines() if line.cell}
        assert "list the column under `totals`" in next(result.lines("invalid_row")).remedy
    sums = str(billed["kling-v2-6"]), str(sum(filter(None, billed.values())))
    marked = {"top": "totals:\n  - {column: model, empty: true}\n"}
    with compare(
        world, text.format(sums[0], sums[1], sums[1]), COLUMNS["day"], COLUMNS["model"], **marked
    ) as result:
        assert {line.category for line in result.lines()} == {"matched"}
        assert len(result.confirmed) == 2
    with compare(
        world, text.format(sums[0], "9", sums[1]), COLUMNS["day"], COLUMNS["model"], **marked
    ) as result:
        assert any("gives a total of 9 USD" in gap for gap in result.gaps)


def test_unreadable_rows_are_not_missing_sums(world: World) -> None:
    """A row that cannot be read has its own line, and a missing sum says to correct the row first."""
    world.send("t")
    for row, cause in (
        ("2026-11-05,zero,1", "not an amount"),
        ("yesterday,0.714,1", "not a time"),
        ("2026-11-05T12:00:00,0.714,1", "not a day"),
        ("2026-11-05,0.714,many", "not a number of tasks"),
    ):
        with compare(world, f"day,amount,tasks\n{row}\n", *BY_DAY) as result:
            invalid, missing = result.lines()
        assert cause in invalid.cause
        assert (missing.category, missing.remedy) == (
            "not_billed",
            f"1 row of the statement cannot be read, and it may belong to this sum; {CORRECT_IT}.",
        )


def test_sums_are_never_booked(world: World) -> None:
    """Nothing of them is remembered, disputed or settled, and no journal is made of them."""
    world.send("t")
    with compare(world, "day,amount\n2026-11-05,1.428\n", "day: {column: day}") as result:
        for act in (
            result.remember,
            lambda: result.dispute(reason="too much"),
            result.settle,
            result.to_settle,
        ):
            with pytest.raises(StatementError, match="one row per task"):
                act()
        assert (result.journal(), result.payable(), result.replacement()) == ([], [], None)
    for option in ({"pairs": {"r": "t"}}, {"replaces": "x.csv"}):
        with pytest.raises(StatementError, match="gives sums, not tasks"):
            compare(world, "day,amount\n2026-11-05,1.428\n", "day: {column: day}", **option)
    with pytest.raises(Exception, match="no statement in the books"):
        open_dispute(world.ledger, "t", provider="qingbo", reason="r", amount=1)
    done = run(
        *("reconcile", "--provider", "qingbo", "--month", "2026-11", "--settle"),
        *("--statement", str(world.folder / "sums.csv"), "--mapping", str(world.folder / "sums.yaml")),
        ledger=world.ledger,
    )
    assert (done.returncode, "one row per task" in done.stderr) == (2, True)
    world.bill("t", 357000)
    with world.reconcile(world.statement(name="tasks.csv")) as result:
        assert result.set_aside == ()
        result.remember()
    done = run(
        *("reconcile", "--provider", "qingbo", "--month", "2026-11"),
        *("--statement", str(world.folder / "sums.csv"), "--mapping", str(world.folder / "sums.yaml")),
        ledger=world.ledger,
    )
    assert "the books contain tasks.csv for this period; its charges are not compared" in done.stdout
    assert "pay " not in done.stdout
    assert world.guard.status(at=NOON)[0].spent == 0
    world.guard.verify()


def test_sums_are_not_mixed_with_tasks_or_other_sums(world: World) -> None:
    """Files of tasks and of sums, of different sums, or of days in different zones are refused together."""
    folder = world.folder / "tables" / "statements"
    folder.mkdir(parents=True)
    for name, columns in (
        ("by-day", ("day: {column: day}",)),
        ("by-model", (COLUMNS["model"],)),
        ("by-date", ("day: {column: date, timezone: Asia/Shanghai}",)),
    ):
        text = mapping(world.folder, *columns, name=name).read_text()
        (folder / f"{name}.yaml").write_text(text.replace("about:", "providers: [qingbo]\nabout:"))
    by_day = world.statement("day,amount\n2026-11-05,1\n", name="by-day.csv")
    by_model = world.statement("model,amount\nkling-v3,1\n", name="by-model.csv")
    by_date = world.statement("date,amount\n2026-11-05,1\n", name="by-date.csv")
    tasks = world.statement(name="tasks.csv")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KLING_PRICING_TABLES", str(folder.parent))
        for files, words in (
            ((by_day, tasks), "a mix of sums and tables of tasks"),
            ((by_day, by_model), "gives sums by model, but by-day.csv gives sums by day"),
            ((by_day, by_date), "has days in Asia/Shanghai, but by-day.csv has days in UTC"),
        ):
            with pytest.raises(StatementError, match=words):
                world.reconcile(*files)


@pytest.mark.parametrize(
    ("columns", "words"),
    [
        ((), "give at least one of day, model"),
        (("day: {column: day, timezone: Mars}",), "Mars"),
        (("model: {column: model, optional: true}",), "`model` cannot be optional"),
        (("model: {column: model, names_of: [nothing]}",), "unknown wire format"),
        (("day: {column: day, format: '%d'}",), "pattern"),
    ],
)
def test_a_mapping_of_sums_is_read_strictly(world: World, columns: tuple[str, ...], words: str) -> None:
    """Each mistake is an error that names its place."""
    with pytest.raises(TableError, match=words):
        compare(world, "day,amount\n", *columns)


def test_every_format_has_the_sums(world: World, tmp_path: Path) -> None:
    """The reports list the same cells with their numbers of tasks, and say what sums cannot show."""
    for number in range(3):
        world.send(f"t{number}")
    text = "day,model,amount,tasks\n2026-11-05,kling-v3,2.5,3\n2026-11-09,kling-v3,1,1\n"
    out = tmp_path / "out"
    with compare(world, text, COLUMNS["day"], COLUMNS["model"], "tasks: {column: tasks}") as result:
        write_reports(result, out)
        causes = exceptions_by_cause(result)
    assert [(cause.lines, cause.variance, cause.example) for cause in causes] == [
        (1, D(1), "2026-11-09, kling-v3"),
        (1, D("0.358"), "2026-11-05, kling-v3"),
    ]
    lines = [json.loads(line) for line in (out / "lines.jsonl").read_text().splitlines()]
    assert [(line["day"], line["model"], line["expected_tasks"], line["billed_tasks"]) for line in lines] == [
        ("2026-11-09", "kling-v3", 0, 1),
        ("2026-11-05", "kling-v3", 3, 3),
    ]
    report = json.loads((out / "report.json").read_text())
    assert list(report["tables"]) == ["summary", "by_model", "by_day", "causes", "exceptions", "lines"]
    assert "they do not show which task" in next(
        f["text"] for f in report["facts"] if f["title"] == "Compared by"
    )
    assert "they do not show which task" in (out / "report.html").read_text()
    rows = duckdb.execute(f"SELECT day, billed FROM '{out}/lines.parquet' ORDER BY day").fetchall()
    assert rows == [(date(2026, 11, 5), D("2.5")), (date(2026, 11, 9), D(1))]
    focus = duckdb.execute(
        f"SELECT CAST(ChargePeriodStart AS VARCHAR)[1:10], BilledCost FROM '{out}/focus.parquet' ORDER BY 1"
    ).fetchall()
    assert focus == [("2026-11-05", D("2.5")), ("2026-11-09", D(1))]
    disputes = (out / "disputes.csv").read_text()
    assert "None of our tasks belong to this sum." in disputes
    assert "The sum differs from the prices of our tasks." in disputes


def test_a_check_shows_how_sums_are_read(world: World) -> None:
    """`statement check` names the cells, and counts totals as ignored."""
    path = mapping(world.folder, *BY_DAY, COLUMNS["model"])
    text = "day,model,amount,tasks\n2026-11-05,kling-v3,2.5,3\n2026-11-06,,1,1\nTotal,,2.5,\n"
    statement = world.statement(text, name="sums.csv")
    sample = sample_statement(statement, provider="qingbo", mapping=path)
    assert (sample.read, sample.unreadable, sample.ignored, sample.sums) == (3, 1, 1, {"USD": D("2.5")})
    assert sample.rows[0].cell == "2026-11-05, kling-v3"
    assert sample.rows[0].task_id is None
    done = run("statement", "check", str(statement), "--provider", "qingbo", "--mapping", str(path))
    assert "2026-11-05, kling-v3" in done.stdout
    assert "which is the sum of the rows" in done.stdout


def test_the_grain_names_are_those_of_a_line() -> None:
    """Every column that divides sums is an attribute of a line."""
    assert set(get_args(Grain)) <= set(Line._fields)
