"""Whole months: every task is in its planted category, in every format of the statement."""

import json
import shutil
from collections import Counter
from datetime import timedelta
from pathlib import Path
from resource import RUSAGE_SELF, getrusage
from typing import Any

import pytest

from kling_pricing import BudgetGuard, PriceBook
from kling_pricing.reconcile import Line, Reconciliation, reconcile
from tests import months
from tests.months import EXTRA_ROWS, FORMATS, PLANTS, QUOTA, SINCE, UNTIL, Grower, Month


@pytest.fixture(scope="module")
def prices(tmp_path_factory: pytest.TempPathFactory) -> PriceBook:
    """The bundled tables and those of the tests' own provider."""
    return months.book(tmp_path_factory.mktemp("prices"))


@pytest.fixture(scope="module")
def tasks(request: pytest.FixtureRequest) -> int:
    """The number of tasks of a month."""
    return 100_000 if request.config.getoption("--long") else 2_000


@pytest.fixture(scope="module")
def month(prices: PriceBook, tasks: int) -> Month:
    """A month with every kind of task."""
    return Grower(prices, seed=7).grow(tasks)


@pytest.fixture(scope="module")
def ledger(month: Month, prices: PriceBook, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Its ledger, which passes `verify`."""
    url = months.write_ledger(month, tmp_path_factory.mktemp("ledger") / "spend.db", prices)
    with BudgetGuard(url, book=prices) as guard:
        guard.verify()
    return url


def reconciled(ledger: str, statement: Path, prices: PriceBook, **more: Any) -> Reconciliation:
    """Reconciles the month."""
    given: dict[str, Any] = {"mapping": "qingbo-tasks", "since": SINCE, "until": UNTIL} | more
    return reconcile(ledger, statement, provider="acme", book=prices, **given)


def misplaced(month: Month, lines: list[Line], unreadable: dict[str, str]) -> list[Any]:
    """Returns the lines whose category or cause is not the planted one."""
    wrong = []
    for line in lines:
        name = unreadable[line.rows[0]] if line.category == "invalid_row" else line.task_id
        if name is None:
            name = line.labels["shot"]  # a request without a known task
            planted = ("in_doubt_candidate", "no response named a task for this request")
        else:
            planted = month.planted[name]
        if line.category != planted[0] or planted[1] not in line.cause:
            wrong.append((planted, line))
    return wrong


@pytest.mark.parametrize("kind", FORMATS)
def test_every_task_is_in_its_planted_category(
    month: Month, ledger: str, prices: PriceBook, kind: str, tmp_path: Path
) -> None:
    """In each file format, the lines are as planted and the sums tie out."""
    statement = FORMATS[kind](month, tmp_path)
    first = 1 if kind in {"json", "jsonl", "parquet"} else 2
    unreadable = unreadable_rows(month, statement, first)
    with reconciled(ledger, statement, prices) as result:
        lines = list(result.lines())
        assert misplaced(month, lines, unreadable) == []
        planted = Counter(category for category, _ in month.planted.values())
        planted["in_doubt_candidate"] *= 2  # the request and the charge
        assert {total.name: total.lines for total in result.totals("category")} == planted
        assert result.exceptions == sum(bool(line.remedy) for line in lines)
        (total,) = result.totals("all")
        assert total.expected == sum(line.expected or 0 for line in lines)
        assert total.billed == sum(line.billed or 0 for line in lines)
        assert total.expected + sum(line.variance for line in lines) == total.billed
        assert result.rows.read == len(month.rows) + EXTRA_ROWS
        assert result.rows.invalid == planted["invalid_row"]
        assert result.rows.ignored == EXTRA_ROWS
        assert [len(clauses) for clauses in (result.confirmed, result.notes)] == [1, 1]
        assert "which is the sum of the rows" in result.confirmed[0]


@pytest.mark.parametrize("kind", FORMATS)
def test_the_next_month_has_what_came_later(
    month: Month, ledger: str, prices: PriceBook, kind: str, tmp_path: Path
) -> None:
    """The second part of a charge, a refund and a second charge are lines of the month in which they come."""
    statement = FORMATS[kind](month, tmp_path)
    until = UNTIL + timedelta(days=31)
    with reconciled(ledger, statement, prices, since=UNTIL, until=until) as result:
        found = {line.task_id: line for line in result.lines() if line.task_id in month.later}
    assert found.keys() == month.later.keys()
    for task, (category, cause) in month.later.items():
        assert (found[task].category, cause in found[task].cause) == (category, True), found[task]


def test_a_corrected_statement_gives_the_planted_lines(
    month: Month, ledger: str, prices: PriceBook, tmp_path: Path
) -> None:
    """The earlier statement has other amounts; once it is replaced, the books know only the correction."""
    path = Path(ledger.removeprefix("sqlite:///"))
    own = f"sqlite:///{shutil.copy(path, tmp_path / 'own.db')}"
    (tmp_path / "first").mkdir()
    first = months.write_csv(month, tmp_path / "first", corrected=False)
    given: dict[str, Any] = {"max_unreadable_percent": 20}
    with reconciled(own, first, prices, **given) as result:
        assert (
            len(misplaced(month, list(result.lines()), unreadable_rows(month, first))) >= len(month.wrong) > 0
        )
        result.remember(actor="li")
        before = result.payable()
    statement = months.write_csv(month, tmp_path)
    with reconciled(own, statement, prices, **given) as result:
        assert [conflict.tasks for conflict in result.conflicts] == [len(month.wrong)]
    with reconciled(own, statement, prices, replaces=first.name, **given) as result:
        assert misplaced(month, list(result.lines()), unreadable_rows(month, statement)) == []
        change = result.replacement()
        assert change is not None
        assert (change.tasks, change.withdrawn, change.added) == (len(month.wrong),) * 3
        result.remember(actor="li")
        after = result.payable()
    extra = 1000 * QUOTA * len(month.wrong)
    assert [amounts.invoiced for amounts in after] == [amounts.invoiced - extra for amounts in before]


def unreadable_rows(month: Month, statement: Path, first: int = 2) -> dict[str, str]:
    """Returns the task that each row of a file names; `first` is the number of its first row."""
    return {f"{statement.name}:{number}": row.task_id for number, row in enumerate(month.rows, start=first)}


def test_answers_about_tasks_are_a_statement(
    month: Month, ledger: str, prices: PriceBook, tmp_path: Path
) -> None:
    """The last answer with a charge counts, so several answers about one task do no harm."""
    statement = tmp_path / "answers.jsonl"
    wanted = {"matched", "explained", "unexplained", "not_in_ledger"}
    last = {
        row.task_id: row
        for row in month.rows
        if month.planted.get(row.task_id, ("",))[0] in wanted and not row.cost.startswith("-")
    }
    refunded = {row.task_id for row in month.rows if row.cost.startswith("-")}
    with statement.open("w") as file:
        for row in last.values():
            for status, cost in (
                ("queued", {}),
                ("processing", {}),
                *2 * [(row.status, {"cost": int(row.cost)})],
            ):
                body = {"task_id": row.task_id, "model": row.model, "status": status, **cost}
                file.write(json.dumps({**body, "result": {"videos": [{"url": "https://x.test/v"}]}}) + "\n")
    with reconciled(ledger, statement, prices, mapping="tasks-answers") as result:
        for line in result.lines("matched", "explained", "unexplained", "not_in_ledger"):
            if line.task_id in last and line.task_id not in refunded:
                category, cause = month.planted[line.task_id]
                assert (line.category, cause in line.cause) == (category, True), line
        assert result.rows == (4 * len(last), len(last), 3 * len(last), 0, 0, 0)


def test_every_kind_is_planted(month: Month) -> None:
    """A month has every kind of task, so that the tests above cover everything."""
    causes = {cause for _, cause in month.planted.values()}
    assert len(causes) >= 16
    assert len(month.planted) > 8 * len(PLANTS)


def test_the_lines_are_always_in_the_same_order(
    month: Month, ledger: str, prices: PriceBook, tmp_path: Path
) -> None:
    """The order of the lines does not depend on the memory or the run."""
    statement = months.write_csv(month, tmp_path)
    used_mb = getrusage(RUSAGE_SELF).ru_maxrss // 1000  # by the tests before this one
    with (
        reconciled(ledger, statement, prices) as one,
        reconciled(ledger, statement, prices, memory_limit=f"{used_mb + 500}MB") as two,
    ):
        assert list(one.lines()) == list(two.lines())
        assert [line.category for line in one.lines("matched", "timing")] == [
            line.category for line in one.lines() if line.category in {"matched", "timing"}
        ]


def test_settling_writes_the_charges_of_the_statement_once(prices: PriceBook, tmp_path: Path) -> None:
    """Late, different and paired charges are booked once; tasks that need a decision are not."""
    month = Grower(prices, seed=11).grow(120)
    ledger = months.write_ledger(month, tmp_path / "spend.db", prices)
    statement = months.write_csv(month, tmp_path)
    with reconciled(ledger, statement, prices) as result:
        one, other = result.lines("in_doubt_candidate")
        pairs = {str(one.reservation_id or other.reservation_id): str(one.task_id or other.task_id)}
        before = Path(tmp_path / "spend.db").read_bytes()
    assert Path(tmp_path / "spend.db").read_bytes() == before
    steps: list[tuple[str, int, int | None]] = []
    with reconciled(ledger, statement, prices, pairs=pairs) as result:
        settled = result.settle(also=["unexplained"], on_progress=lambda *step: steps.append(step))
        assert (settled.bound, dict(settled.refused)) == (1, {})
        assert settled.settled > 20
        assert steps[-1] == ("settling", settled.settled + 1, settled.settled + 1)
        billed = {line.reservation_id: line.billed for line in result.lines() if line.reservation_id}
        left = {
            line.reservation_id
            for line in result.lines("billed_twice", "not_billed", "not_billed_yet", "in_doubt_candidate")
        }
        later = {
            line.reservation_id: month.later[line.task_id]
            for line in result.lines("matched", "timing")
            if line.task_id in month.later
        }
    with BudgetGuard(ledger, book=prices) as guard:
        guard.verify()
        for reservation in guard.history():
            if reservation.id in later:  # December decides about a second charge
                is_refunded = "refunded" in later[reservation.id][1]
                assert reservation.billed == (0 if is_refunded else reservation.expected)
            elif reservation.state == "settled" and reservation.id not in left:
                assert reservation.billed == billed.get(reservation.id, reservation.billed)
        paired = guard.reservation(next(iter(pairs)))
        assert (paired.state, paired.task_id, paired.basis) == (
            "settled",
            next(iter(pairs.values())),
            "statement",
        )
    with reconciled(ledger, statement, prices, pairs=pairs) as result:
        assert result.settle(also=["unexplained"]) == (0, 0, {})
        assert all(
            line.booked == line.billed
            for line in result.lines("matched", "explained", "unexplained")
            if line.billed and line.reservation_id not in later
        )
