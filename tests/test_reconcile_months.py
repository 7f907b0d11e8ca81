"""Whole months: every task lands in its planted category, whatever the statement is written in."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from kling_pricing import BudgetGuard, PriceBook
from kling_pricing.reconcile import Line, Reconciliation, reconcile
from tests import months
from tests.months import FORMATS, PLANTS, SINCE, UNTIL, Grower, Month


@pytest.fixture(scope="module")
def prices(tmp_path_factory: pytest.TempPathFactory) -> PriceBook:
    """The tests' own provider beside the bundled ones."""
    return months.book(tmp_path_factory.mktemp("prices"))


@pytest.fixture(scope="module")
def tasks(request: pytest.FixtureRequest) -> int:
    """How many tasks a month has."""
    return 100_000 if request.config.getoption("--long") else 2_000


@pytest.fixture(scope="module")
def month(prices: PriceBook, tasks: int) -> Month:
    """A month with every kind of task."""
    return Grower(prices, seed=7).grow(tasks)


@pytest.fixture(scope="module")
def ledger(month: Month, prices: PriceBook, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Its ledger, which is sound."""
    url = months.write_ledger(month, tmp_path_factory.mktemp("ledger") / "spend.db", prices)
    with BudgetGuard(url, book=prices) as guard:
        guard.verify()
    return url


def reconciled(ledger: str, statement: Path, prices: PriceBook, **more: Any) -> Reconciliation:
    """The month, reconciled."""
    given: dict[str, Any] = {"mapping": "qingbo-tasks"} | more
    return reconcile(ledger, statement, provider="acme", since=SINCE, until=UNTIL, book=prices, **given)


def misplaced(month: Month, lines: list[Line], unreadable: dict[str, str]) -> list[Any]:
    """The lines that are in another category than planted, or say something else."""
    found = []
    for line in lines:
        name = unreadable[line.rows[0]] if line.category == "invalid_row" else line.task_id
        if name is None:
            name = line.labels["shot"]  # a hold, whose task is not known
            planted = ("in_doubt_candidate", "no answer named its task")
        else:
            planted = month.planted[name]
        if line.category != planted[0] or planted[1] not in line.cause:
            found.append((planted, line))
    return found


@pytest.mark.parametrize("kind", FORMATS)
def test_every_task_lands_in_its_planted_category(
    month: Month, ledger: str, prices: PriceBook, kind: str, tmp_path: Path
) -> None:
    """Through each kind of file; the counts are those planted, and the sums tie out."""
    statement = FORMATS[kind](month, tmp_path)
    first = 2 if kind in {"csv", "xlsx"} else 1
    unreadable = {
        f"{statement.name}:{number}": row.task_id for number, row in enumerate(month.rows, start=first)
    }
    with reconciled(ledger, statement, prices) as found:
        lines = list(found.lines())
        assert misplaced(month, lines, unreadable) == []
        planted = Counter(category for category, _ in month.planted.values())
        planted["in_doubt_candidate"] *= 2  # the hold and the charge
        assert {total.name: total.lines for total in found.totals("category")} == planted
        assert found.exceptions == sum(bool(line.remedy) for line in lines)
        (total,) = found.totals("all")
        assert total.expected == sum(line.expected or 0 for line in lines)
        assert total.billed == sum(line.billed or 0 for line in lines)
        assert total.expected + sum(line.variance for line in lines) == total.billed
        assert found.rows.read == len(month.rows)
        assert found.rows.invalid == planted["invalid_row"]


def test_answers_about_tasks_are_a_statement_too(
    month: Month, ledger: str, prices: PriceBook, tmp_path: Path
) -> None:
    """Of the answers about a task the last that states a charge counts, so polling often does no harm."""
    statement = tmp_path / "answers.jsonl"
    wanted = {"matched", "explained", "unexplained", "not_in_ledger"}
    last = {
        row.task_id: row
        for row in month.rows
        if month.planted[row.task_id][0] in wanted and not row.cost.startswith("-")
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
    with reconciled(ledger, statement, prices, mapping="tasks-answers") as found:
        for line in found.lines("matched", "explained", "unexplained", "not_in_ledger"):
            if line.task_id in last and line.task_id not in refunded:
                category, cause = month.planted[line.task_id]
                assert (line.category, cause in line.cause) == (category, True), line
        assert found.rows == (4 * len(last), len(last), 3 * len(last), 0, 0)


def test_every_kind_is_planted(month: Month) -> None:
    """Each plant grew at least once, so that the tests above ran on everything."""
    causes = {cause for _, cause in month.planted.values()}
    assert len(causes) >= 16
    assert len(month.planted) > 8 * len(PLANTS)


def test_the_lines_are_always_in_the_same_order(
    month: Month, ledger: str, prices: PriceBook, tmp_path: Path
) -> None:
    """Whatever the memory, whichever run."""
    statement = months.write_csv(month, tmp_path)
    with (
        reconciled(ledger, statement, prices) as one,
        reconciled(ledger, statement, prices, memory_limit="200MB") as two,
    ):
        assert list(one.lines()) == list(two.lines())
        assert [line.category for line in one.lines("matched", "timing")] == [
            line.category for line in one.lines() if line.category in {"matched", "timing"}
        ]


def test_settling_writes_what_the_statement_charges_once(prices: PriceBook, tmp_path: Path) -> None:
    """What is late, corrected or paired counts then, what is to be cleared up does not; and only once."""
    month = Grower(prices, seed=11).grow(120)
    ledger = months.write_ledger(month, tmp_path / "spend.db", prices)
    statement = months.write_csv(month, tmp_path)
    with reconciled(ledger, statement, prices) as found:
        hold, other = found.lines("in_doubt_candidate")
        pairs = {str(hold.reservation_id or other.reservation_id): str(hold.task_id or other.task_id)}
        before = Path(tmp_path / "spend.db").read_bytes()
    assert Path(tmp_path / "spend.db").read_bytes() == before
    steps: list[tuple[str, int, int | None]] = []
    with reconciled(ledger, statement, prices, pairs=pairs) as found:
        done = found.settle(on_progress=lambda *step: steps.append(step))
        assert (done.bound, dict(done.refused)) == (1, {})
        assert done.settled > 20
        assert steps[-1] == ("settling", done.settled + 1, done.settled + 1)
        billed = {line.reservation_id: line.billed for line in found.lines() if line.reservation_id}
        left = {
            line.reservation_id
            for line in found.lines("billed_twice", "not_billed", "not_billed_yet", "in_doubt_candidate")
        }
    with BudgetGuard(ledger, book=prices) as guard:
        guard.verify()
        for reservation in guard.history():
            if reservation.state == "settled" and reservation.id not in left:
                assert reservation.billed == billed.get(reservation.id, reservation.billed)
        paired = guard.reservation(next(iter(pairs)))
        assert (paired.state, paired.task_id, paired.basis) == (
            "settled",
            next(iter(pairs.values())),
            "statement",
        )
    with reconciled(ledger, statement, prices, pairs=pairs) as found:
        assert found.settle() == (0, 0, {})
        assert all(
            line.booked == line.billed
            for line in found.lines("matched", "explained", "unexplained")
            if line.billed
        )
