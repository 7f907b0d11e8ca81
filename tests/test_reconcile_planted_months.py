"""Planted months: whatever happened to a task, no remedy of its line books or frees money that is not true.

A month has tasks with planted fates. The test follows the remedy of each line to the letter, as a person who
knows the truth would, on a copy of the ledger. Then each task counts what it did before, or the truth.
"""

import csv
import json
import shutil
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import duckdb
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kling_pricing import BudgetGuard, PriceBook, ReservationNotFoundError
from kling_pricing.reconcile import Line
from kling_pricing.reconcile.categories import CATEGORIES
from kling_pricing.reports import write_reports
from tests.commands import run
from tests.conftest import Clock, examples
from tests.test_reconcile import NOON, SINCE, UNTIL, World
from tests.test_reconcile_remedies import CONDITIONS, Truth, steps
from tests.test_reconcile_unreadable import FILES

D = Decimal
COST = D("0.714")
MAPPING = """\
statement: planted
about: planted rows
sources:
  - {ref: our own, checked: 2026-11-01, authority: official}
columns:
  task_id: {column: task}
  amount: {column: amount, unit_column: currency, decimals: 6}
  billed_at: {column: at}
  state: {column: state, names: {done: succeeded, failed: failed}}
  duration_s: {column: seconds, optional: true}
"""
HEADER = "task,amount,currency,at,state,seconds"


class Planted:
    """A ledger, its statement, and the truth about every task and request."""

    def __init__(self, folder: Path, book: PriceBook) -> None:
        (folder / "ledger").mkdir()
        self.world = World(f"sqlite:///{folder}/ledger/spend.db", book, Clock(NOON), folder)
        self.mapping = folder / "planted.yaml"
        self.mapping.write_text(MAPPING)
        self.rows: list[str] = []
        self.october: list[str] = []
        self.truths: dict[str, Truth] = {}
        """Reservation -> the truth."""
        self.strangers: dict[str, Truth] = {}
        """Task that the ledger does not know -> the truth."""
        self.requests: dict[str, str] = {}
        """Request without a task -> the task that it became."""

    def send(self, task: str | None, truth: Truth, **fields: Any) -> str:
        """Sends a task, of which something is true."""
        reservation = self.world.send(task, **fields)
        self.truths[reservation] = truth
        return reservation

    def bill(
        self,
        task: str,
        amount: Any = COST,
        *,
        currency: str = "USD",
        state: str = "done",
        seconds: Any = "",
        days: int = 0,
    ) -> None:
        """Adds a row to the statement."""
        at = f"{NOON + timedelta(days=days):%Y-%m-%dT%H:%M:%SZ}"
        self.rows.append(f"{task},{amount},{currency},{at},{state},{seconds}")

    def statement(self, name: str, rows: list[str]) -> Path:
        """Writes rows to a file."""
        return self.world.statement("\n".join([HEADER, *rows, ""]), name=name)


Fate = Callable[[Planted, str, bool], None]
"""Plants a task; the truth about it is one of two."""


def _billed(amount: str, other: str, **row: Any) -> Fate:
    """A task with one row; in truth it costs the quote, or another amount."""

    def plant(month: Planted, task: str, other_truth: bool) -> None:  # noqa: FBT001
        month.send(task, Truth(D(other) if other_truth else COST))
        month.bill(task, amount, **row)

    return plant


def _failed_by_response(month: Planted, task: str, delivered: bool) -> None:  # noqa: FBT001
    month.send(task, Truth(COST if delivered else D(0)))
    month.world.guard.observe({"task_id": task, "status": "failed", "cost": 0}, provider="qingbo")
    month.bill(task)


def _unbilled(month: Planted, task: str, free: bool) -> None:  # noqa: FBT001
    month.send(task, Truth(D(0) if free else COST))


def _free(state: str) -> Fate:
    def plant(month: Planted, task: str, _other: bool) -> None:  # noqa: FBT001
        month.send(task, Truth(D(0)))
        month.bill(task, 0, state=state)

    return plant


def _unclaimed(month: Planted, task: str, is_the_request: bool) -> None:  # noqa: FBT001
    request = month.send(None, Truth(COST if is_the_request else D(0), is_the_request=is_the_request))
    month.requests[request] = task
    month.strangers[task] = Truth(COST, is_ours=is_the_request, is_the_request=is_the_request)
    month.bill(task)


def _stranger(month: Planted, task: str, is_ours: bool) -> None:  # noqa: FBT001
    month.strangers[task] = Truth(D("0.333") if is_ours else D(0), is_ours=is_ours)
    month.bill(task, "0.333")


def _written(text: Callable[[str], str], amount: Any = COST) -> Fate:
    """A task whose row has a changed id, or an amount that cannot be read."""

    def plant(month: Planted, task: str, _other: bool) -> None:  # noqa: FBT001
        month.send(task, Truth(COST))
        month.bill(text(task), amount)

    return plant


def _mangled_stranger(text: str) -> Fate:
    def plant(month: Planted, _task: str, _other: bool) -> None:  # noqa: FBT001
        month.bill(text)

    return plant


def _rounded(month: Planted, task: str, _other: bool) -> None:  # noqa: FBT001
    """A rounded id beside an intact one, without which the file would be refused."""
    intact = f"8672841122334{task.rpartition('x')[2]:0>4}7"
    month.send(intact, Truth(COST))
    month.bill(intact)
    month.bill("8.67E+17")


def _twice(days: int) -> Fate:
    def plant(month: Planted, task: str, _other: bool) -> None:  # noqa: FBT001
        month.send(task, Truth(COST))
        month.bill(task)
        month.bill(task, days=days)

    return plant


def _refunded(part: str) -> Fate:
    def plant(month: Planted, task: str, settled: bool) -> None:  # noqa: FBT001
        month.send(task, Truth(COST - D(part)))
        if settled:
            month.world.guard.observe(
                {"task_id": task, "status": "completed", "cost": 357000}, provider="qingbo"
            )
        month.bill(task)
        month.bill(task, f"-{part}", days=1)

    return plant


def _october(month: Planted, task: str, again: bool) -> None:  # noqa: FBT001
    """A task that October's statement charged, and November's does again, or gives back."""
    month.world.clock.now = SINCE - timedelta(days=3)
    month.send(task, Truth(COST if again else D(0)))
    month.world.clock.now = NOON
    at = f"{SINCE - timedelta(days=3):%Y-%m-%dT%H:%M:%SZ}"
    month.october.append(f"{task},{COST},USD,{at},done,")
    month.bill(task, COST if again else -COST)


def _december(month: Planted, task: str, _other: bool) -> None:  # noqa: FBT001
    month.send(task, Truth(COST))
    month.bill(task, days=(UNTIL - NOON).days + 2)


def _written_off(month: Planted, task: str, wrongly: bool) -> None:  # noqa: FBT001
    reservation = month.send(task, Truth(COST if wrongly else D(0)))
    month.world.guard.settle(reservation, 0, basis="operator")
    month.bill(task)


FATES: dict[str, Fate] = {
    "as expected": _billed("0.714", "0.714"),
    "dear by a known price": _billed("1.428", "1.428", seconds=10),
    "dear for no known reason": _billed("0.9", "0.9"),
    "cheap": _billed("0.476", "0.476"),
    "in another currency": _billed("5.1", "0.714", currency="CNY"),
    "failed by its row": _billed("0.714", "0", state="failed"),
    "failed by its row, free": _free("failed"),
    "of another length": _billed("0.714", "0.714", seconds=9),
    "failed by a response": _failed_by_response,
    "unbilled": _unbilled,
    "charged zero": _free("done"),
    "unclaimed": _unclaimed,
    "stranger": _stranger,
    "unreadable": _written(str, "12.1234567"),
    "guarded id": _written(lambda task: f"'{task}"),
    "padded id": _written(lambda task: f"  {task} "),
    "lost id": _written(lambda _task: ""),
    "rounded id": _rounded,
    "a total": _mangled_stranger("Total"),
    "an id of another place": _mangled_stranger("'stranger"),
    "twice": _twice(0),
    "twice on two days": _twice(1),
    "partly refunded": _refunded("0.238"),
    "refunded": _refunded("0.714"),
    "charged in October": _october,
    "charged in December": _december,
    "written off": _written_off,
}


class Counted(NamedTuple):
    """What a ledger counts.

    Attributes:
        by_reservation: reservation -> the amount that it holds or has spent.
        recorded: task -> the amount, of tasks that the ledger did not know.
        whole: the amount that the budget counts.
    """

    by_reservation: dict[str, Decimal]
    recorded: dict[str, Decimal]
    whole: Decimal


def counted(month: Planted, ledger: str) -> Counted:
    """Returns what a ledger counts for each task."""
    with BudgetGuard(ledger, book=month.world.book, clock=month.world.clock) as guard:
        amounts = {}
        for reservation in month.truths:
            found = guard.reservation(reservation)
            amounts[reservation] = {"settled": found.billed or D(0), "released": D(0)}.get(
                found.state, found.reserved
            )
        recorded = {}
        for task in month.strangers:
            try:
                found = guard.reservation(("qingbo", task))
            except ReservationNotFoundError:
                continue
            if found.id not in month.truths:
                recorded[task] = found.billed or D(0)
        (bucket,) = guard.status(at=month.world.clock.now)
        guard.verify()
    return Counted(amounts, recorded, bucket.held + bucket.spent)


def truth_of(month: Planted, line: Line) -> Truth:
    """Returns the truth about a line's task or request."""
    if line.reservation_id is not None:
        return month.truths[line.reservation_id]
    return month.strangers.get(line.task_id or "", Truth(D(0), is_ours=False))


def followed(month: Planted, line: Line, folder: Path, statement: Path) -> Counted | None:
    """Returns what a copy of the ledger counts after the remedy of a line; None: the remedy has no command."""
    commands = list(steps(line.remedy, truth_of(month, line), line.billed or D(0)))
    if not commands:
        return None
    copy = folder / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(folder / "ledger", copy)
    ledger = f"sqlite:///{copy}/spend.db"
    task = month.requests.get(line.reservation_id or "", line.task_id or "")
    request = next((name for name, became in month.requests.items() if became == line.task_id), "")
    for command in commands:
        words = command.replace("=TASK", f"={task}").replace("RESERVATION=", f"{request}=").split()
        words = ["trailer" if word == "PROJECT" else word for word in words]
        if words[0].startswith("--"):
            reconciling = ("reconcile", "--statement", statement, "--mapping", month.mapping)
            options = ("--provider", "qingbo", "--month", "2026-11", "--max-unreadable", "100")
            assert run(*reconciling, *options, *words, ledger=ledger).stdout
        else:
            assert run(*words[1:], ledger=ledger).returncode == 0, command
    return counted(month, ledger)


def plant_all(month: Planted, fates: list[tuple[str, bool]]) -> None:
    """Plants tasks with these fates, and adds the rows of October to the books."""
    for number, (name, other) in enumerate(fates):
        FATES[name](month, f"task-{number}x{number}", other)
    if month.october:
        statement = month.statement("october.csv", month.october)
        period = {"since": SINCE - timedelta(days=31), "until": SINCE}
        with month.world.reconcile(statement, mapping=month.mapping, **period) as october:
            october.remember()


def follow_every_remedy(fates: list[tuple[str, bool]], folder: Path, book: PriceBook) -> int:
    """Plants a month, follows the remedy of each line, and returns the number of lines with a remedy."""
    month = Planted(folder, book)
    plant_all(month, fates)
    month.world.guard.close()
    statement = month.statement("november.csv", month.rows)
    with month.world.reconcile(statement, mapping=month.mapping, max_unreadable_percent=100) as result:
        lines = [line for line in result.lines() if line.remedy]
    before = counted(month, month.world.ledger)
    for line in lines:
        after = followed(month, line, folder, statement)
        if after is None:
            continue
        shown = f"{line.category} {line.task_id}: {line.cause} {line.remedy}"
        for reservation, amount in after.by_reservation.items():
            assert amount in {before.by_reservation[reservation], month.truths[reservation].cost}, shown
        for task, amount in after.recorded.items():
            assert (month.strangers[task].is_ours, amount) == (True, month.strangers[task].cost), shown
        parts = sum((*after.by_reservation.values(), *after.recorded.values()), D(0))
        assert after.whole == parts, shown
    return len(lines)


@pytest.mark.parametrize("other", [False, True])
def test_a_month_of_every_fate_has_no_remedy_that_costs_money(
    tmp_path: Path,
    book: PriceBook,
    other: bool,  # noqa: FBT001
) -> None:
    """All fates stand in one month, each with one truth and then with the other."""
    assert follow_every_remedy([(name, other) for name in FATES], tmp_path, book) >= len(FATES) // 2


@settings(
    max_examples=examples(3, long=120),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(fates=st.lists(st.tuples(st.sampled_from(sorted(FATES)), st.booleans()), min_size=1, max_size=7))
def test_no_remedy_of_a_planted_month_costs_money(book: PriceBook, fates: list[tuple[str, bool]]) -> None:
    """Whatever fates meet in a month, each remedy moves its own task to the truth, or nothing."""
    with TemporaryDirectory() as folder:
        follow_every_remedy(fates, Path(folder), book)


CATEGORIES_OF: dict[str, tuple[str, ...]] = {
    "as expected": ("matched",),
    "dear by a known price": ("explained",),
    "dear for no known reason": ("unexplained",),
    "cheap": ("explained",),
    "in another currency": ("currency_mismatch", "currency_mismatch"),
    "failed by its row": ("explained",),
    "failed by its row, free": ("explained",),
    "of another length": ("matched",),
    "failed by a response": ("explained",),
    "unbilled": ("not_billed",),
    "charged zero": ("explained",),
    "unclaimed": ("in_doubt_candidate",),
    "stranger": ("not_in_ledger",),
    "unreadable": ("invalid_row",),
    "guarded id": ("matched",),
    "padded id": ("matched",),
    "lost id": ("not_billed",),
    "rounded id": (),
    "a total": (),
    "an id of another place": (),
    "twice": ("billed_twice",),
    "twice on two days": ("billed_twice",),
    "partly refunded": ("explained",),
    "refunded": ("explained",),
    "charged in October": ("timing",),
    "charged in December": ("timing",),
    "written off": ("explained",),
}
"""Fate -> the categories of the lines of its task."""


@pytest.mark.parametrize("kind", FILES)
def test_every_fate_has_its_category_in_every_format(kind: str, tmp_path: Path, book: PriceBook) -> None:
    """The file of each kind gives the same lines, and each format of the reports has the same categories."""
    month = Planted(tmp_path, book)
    plant_all(month, [(name, False) for name in FATES])
    columns = HEADER.split(",")
    table = [dict(zip(columns, row.split(","), strict=True)) for row in month.rows]
    statement = FILES[kind](tmp_path / f"november.{kind}", table)
    with month.world.reconcile(statement, mapping=month.mapping, max_unreadable_percent=100) as result:
        lines = list(result.lines())
        categories = [str(line.category) for line in lines]
        assert len([gap for gap in result.gaps if "total" in gap]) == 1  # the planted total is a control
        write_reports(result, tmp_path / "out", book=book)
    by_task: dict[str | None, tuple[str, ...]] = {}
    for line in lines:
        by_task[line.task_id] = (*by_task.get(line.task_id, ()), line.category)
    for number, name in enumerate(FATES):
        assert by_task.pop(f"task-{number}x{number}", ()) == CATEGORIES_OF[name], name
    assert sorted(by_task.pop(None)) == ["in_doubt_candidate", *["invalid_row"] * 2]
    assert list(by_task.values()) == [("invalid_row",)]  # the intact id beside the rounded one
    out = tmp_path / "out"
    with (out / "lines.csv").open(encoding="utf-8-sig", newline="") as file:
        assert [row["category"] for row in csv.DictReader(file)] == categories
    texts = (out / "lines.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(text)["category"] for text in texts] == categories
    rows = duckdb.execute(f"SELECT category FROM '{out}/lines.parquet'").fetchall()
    assert [category for (category,) in rows] == categories
    page = (out / "report.html").read_text(encoding="utf-8")
    assert all(CATEGORIES[line.category].title in page for line in lines)


def test_every_condition_of_a_remedy_has_a_truth() -> None:
    """The conditions that a remedy may name are those that the test can decide."""
    assert all(callable(is_met) for is_met in CONDITIONS.values())
