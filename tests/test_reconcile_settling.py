"""Settling: a task's charge is booked whole, or the ledger is not changed."""

import json
import shlex
import signal
import sqlite3
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from kling_pricing import KlingPricingError, PriceBook, Reservation, StatementError, load_price_book
from kling_pricing.reconcile import Invoice, Tolerance, reconcile
from kling_pricing.reconcile.settle import BATCH
from tests.commands import run
from tests.conftest import Clock
from tests.test_reconcile import MONEY, NOON, SINCE, UNTIL, World

D = Decimal
OCTOBER = datetime(2026, 10, 31, 23, tzinfo=UTC)


@pytest.fixture
def clock() -> Clock:
    """A clock that stands still in the month."""
    return Clock(NOON)


def test_nothing_is_settled_from_an_incomplete_statement(world: World) -> None:
    """Unreadable rows or another invoice total stop `settle`, and the error names the way to insist."""
    reservation = world.send("t")
    world.bill("t", 357000)
    complete = world.statement()
    world.bill("u", "12.5")
    for statement, more, gap in (
        (world.statement(name="gaps.csv"), {}, "1 of 2 rows cannot be read"),
        (complete, {"invoice": Invoice(D(9), "USD")}, "the invoice has a total of 9 USD"),
    ):
        with world.reconcile(statement, **more) as result:
            with pytest.raises(StatementError, match=gap) as refused:
                result.settle()
            assert "Nothing was settled." in str(refused.value)
            with pytest.raises(StatementError, match=gap):
                result.refuse_gaps()
    assert booked(world, reservation) == ("bound", None, None)
    words = (
        "reconcile",
        "--provider",
        "qingbo",
        "--month",
        "2026-11",
        "--statement",
        world.folder / "gaps.csv",
    )
    done = run(*words, "--settle", ledger=world.ledger)
    assert (done.returncode, "--settle-despite-gaps" in done.stderr) == (2, True)
    with world.reconcile(complete) as result:
        assert result.remember().statements == 1  # the refusal remembered nothing
    assert run(*words, "--settle-despite-gaps", ledger=world.ledger).returncode == 2
    insisted = run(*words, "--settle", "--settle-despite-gaps", ledger=world.ledger)
    assert "settled: 1, bound: 0, refused: 0" in insisted.stdout
    assert booked(world, reservation) == ("settled", D("0.714"), "statement")


@pytest.fixture
def world(tmp_path: Path, book: PriceBook, clock: Clock) -> World:
    """A world with a ledger in SQLite."""
    return World(f"sqlite:///{tmp_path}/spend.db", book, clock, tmp_path)


def settle(world: World, *statements: Path, **more: Any) -> tuple[int, int, Any]:
    """Reconciles and settles."""
    with world.reconcile(*statements, **more) as result:
        return result.settle()


def booked(world: World, reservation: str) -> tuple[str, Decimal | None, str | None]:
    """Returns the state, the amount and the basis of a reservation in the ledger."""
    row: Reservation = world.guard.reservation(reservation)
    return row.state, row.billed, row.basis


def answers(world: World, name: str, *bodies: dict[str, Any]) -> Path:
    """Writes a file of answers about the task t."""
    usual = {"task_id": "t", "model": "kling-v3", "created_at": int(NOON.timestamp())}
    return world.statement("".join(json.dumps(usual | body) + "\n" for body in bodies), name)


@pytest.mark.parametrize("status", ["queued", "processing"])
def test_a_running_task_is_not_free_yet(world: World, status: str) -> None:
    """A charge of zero for a running task releases no money; the real charge is booked when it comes."""
    reservation = world.send("t")
    world.bill("t", 0, status=status)
    table = world.statement()
    dump = answers(world, "a.jsonl", {"status": status, "cost": 0})
    for statement, more in ((table, {}), (dump, {"mapping": "tasks-answers"})):
        line = world.line(statement, **more)
        assert (line.category, line.billed) == ("not_billed", None)
        assert line.cause == (
            f"the task was sent at 2026-11-05 12:00 UTC and is on the statement as {status}, without a charge"
        )
        with world.reconcile(statement, **more) as result:
            assert result.settle(despite_gaps=True) == (0, 0, {})
    assert booked(world, reservation) == ("bound", None, None)
    world.rows.clear()
    world.bill("t", 357000)
    assert settle(world) == (1, 0, {})
    assert booked(world, reservation) == ("settled", D("0.714"), "statement")


@pytest.mark.parametrize("late_first", [True, False])
def test_the_answer_about_an_ended_task_counts(world: World, late_first: bool) -> None:  # noqa: FBT001
    """The answer about the ended task counts in any order of the files, even if another states a charge too."""
    world.send("t")
    late = answers(world, "late.jsonl", {"status": "completed", "cost": 357000})
    early = answers(
        world, "early.jsonl", {"status": "processing", "cost": 400000}, {"status": "queued", "cost": 0}
    )
    files = (late, early) if late_first else (early, late)
    line = world.line(*files, mapping="tasks-answers")
    assert (line.category, line.billed) == ("matched", D("0.714"))


def test_a_charge_across_two_periods_is_booked_whole(world: World, clock: Clock) -> None:
    """Each period has its part of the charge, and the ledger counts the sum."""
    clock.now = OCTOBER
    reservation = world.send("t")
    world.bill("t", 300000)
    world.bill("t", 57000, at=NOON)
    clock.now = NOON
    november = world.line()
    october = world.line(since=SINCE - timedelta(days=31), until=SINCE)
    assert [
        (line.category, line.due, line.expected, line.billed, line.remedy) for line in (october, november)
    ] == [
        ("timing", D("0.714"), D("0.714"), D("0.6"), ""),
        ("timing", D("0.714"), None, D("0.114"), ""),
    ]
    assert october.cause == "the task was partly charged outside the period; the whole charge is 0.714 USD"
    assert settle(world) == (1, 0, {})
    assert booked(world, reservation) == ("settled", D("0.714"), "statement")


def test_the_last_part_of_a_charge_is_not_booked_as_the_whole(world: World, clock: Clock) -> None:
    """A late charge is booked only if it is the quote, as the statement may have only its last part."""
    clock.now = OCTOBER
    part, whole = world.send("part"), world.send("whole")
    clock.now = NOON
    world.bill("part", 57000)
    world.bill("whole", 357000)
    assert settle(world) == (1, 0, {})
    assert booked(world, part) == ("bound", None, None)
    assert booked(world, whole) == ("settled", D("0.714"), "statement")


def test_a_refusal_of_the_ledger_is_reported(world: World) -> None:
    """The ledger refuses a lower amount from a corrected statement, and the command exits with 1."""
    replaces = ("--replaces", "november.csv")
    reservation = world.send("t")
    world.bill("t", 714000)
    assert settle(world) == (1, 0, {})
    world.rows.clear()
    world.bill("t", 357000)
    period = ("--provider", "qingbo", "--from", "2026-11-01", "--until", "2026-12-01", "--settle", *replaces)
    ran = run("reconcile", "--ledger", world.ledger, "--statement", str(world.statement()), *period)
    assert ran.returncode == 1
    assert ran.stdout.splitlines()[-1] == "the totals tie out; 1 reservation could not be settled"
    assert f"`kling-pricing settle {reservation} --amount 0.714 --basis operator`" in ran.stdout
    assert booked(world, reservation) == ("settled", D("1.428"), "statement")


def test_a_statement_confirms_a_weaker_basis(world: World) -> None:
    """An equal charge changes only the basis, to `statement`; a second run changes nothing."""
    reservation = world.send("t")
    world.guard.settle(reservation)
    world.bill("t", 357000)
    assert booked(world, reservation) == ("settled", D("0.714"), "quote")
    with world.reconcile() as result:
        assert result.settle() == (1, 0, {})
        assert result.settle() == (0, 0, {})
    assert booked(world, reservation) == ("settled", D("0.714"), "statement")


def test_settling_twice_binds_once(world: World) -> None:
    """A second settlement of one reconciliation binds and settles nothing."""
    request = world.send()
    world.bill("stranger", 357000)
    with world.reconcile(pairs={request: "stranger"}) as result:
        assert result.settle() == (1, 1, {})
        assert result.settle() == (0, 0, {})


def test_an_operator_clears_tasks_that_cost_nothing(world: World, clock: Clock) -> None:
    """The remedies of unbilled tasks clear them, and a charge that comes later is explained."""
    task, request = world.send("t"), world.send()
    world.guard.settle(task)
    with world.reconcile() as result:
        assert {line.category for line in result.lines()} == {"not_billed"}
    world.guard.settle(task, 0, basis="operator")
    world.guard.settle(request, 0, basis="operator")
    with world.reconcile() as result:
        assert {(line.category, line.due, line.expected) for line in result.lines()} == {
            ("matched", D(0), D(0))
        }
        assert result.exceptions == 0
    world.bill("t", 357000)
    with world.reconcile() as result:
        (line,) = result.lines("explained")
    assert line.cause == "the task was charged, although nothing is due for it"
    assert f"`kling-pricing settle {task} --amount 0.714 --basis operator`" in line.remedy
    assert clock.now == NOON


def test_an_operator_clears_a_task_of_two_ledgers(
    world: World, book: PriceBook, clock: Clock, tmp_path: Path
) -> None:
    """After one of two reservations is settled at zero, the task belongs to the other."""
    other = World(f"sqlite:///{tmp_path}/other.db", book, clock, tmp_path)
    mine, theirs = world.send("t"), other.send("t")
    world.bill("t", 357000)
    given: Any = {"provider": "qingbo", "since": SINCE, "until": UNTIL, "book": book}
    world.guard.settle(mine)
    world.guard.settle(mine, 0, basis="operator")
    with reconcile([world.ledger, other.ledger], world.statement(), **given) as result:
        (line,) = result.lines()
        assert (line.category, line.reservation_id, line.expected) == ("matched", theirs, D("0.714"))


def test_a_ledger_is_given_once(world: World, tmp_path: Path) -> None:
    """A ledger that is given twice is refused, because its tasks would be expected twice."""
    world.send("t")
    same = f"sqlite:///{tmp_path}/../{tmp_path.name}/spend.db"
    with pytest.raises(KlingPricingError, match="ledgers 1 and 2 hold the same reservations"):
        reconcile([world.ledger, same], world.statement(), provider="qingbo", since=SINCE, until=UNTIL)


def test_the_command_that_books_a_task_runs(world: World) -> None:
    """The command has time and currency, and a task id cannot break out of it."""
    world.bill("x$(touch y) 'z", 777)
    world.rows[0] = world.rows[0].replace("x$(touch y) 'z", '"x$(touch y) \'z"')
    line = world.line()
    assert (
        "`kling-pricing record --project PROJECT --currency USD --at 2026-11-05T12:00:00Z -- "
        "qingbo 'x$(touch y) '\"'\"'z' 0.001554`" in line.remedy
    )
    command = line.remedy.partition("`")[2].partition("`")[0]
    assert run("record", "--ledger", world.ledger, "--project", "p", *shlex.split(command)[4:]).returncode == 0
    with world.reconcile() as result:
        assert [(line.category, line.expected) for line in result.lines()] == [("matched", D("0.001554"))]


@pytest.mark.parametrize(
    "tolerance",
    [
        Tolerance(0.01, 0.01),  # type: ignore[arg-type]
        Tolerance(D("NaN"), D(1)),
        Tolerance(D(-1), D(1)),
        Tolerance(D(1), D("1e40")),
        Tolerance(D("0.01")),
        Tolerance(batch=D(1)),
        (D(1), D(1)),
    ],
)
def test_a_tolerance_is_exact_and_complete(world: World, tolerance: Any) -> None:
    """A tolerance that is inexact, or lacks one of its two amounts, is refused."""
    with pytest.raises(KlingPricingError, match="tolerance"):
        world.reconcile(tolerance=tolerance)


@pytest.mark.parametrize("edited", ["0.1", "0.5"])
def test_an_edited_table_does_not_explain_a_rounding(tmp_path: Path, clock: Clock, edited: str) -> None:
    """If a table has other prices under the same id, the variance remains an exception."""
    prices = tmp_path / "tables" / "prices" / "qingbo"
    prices.mkdir(parents=True)

    def written(discount: str) -> PriceBook:
        (prices / "ours.yaml").write_text(
            f"extends: qingbo/2026-04-29\ndiscount: {discount}\nvalid_from: 2026-11-01\n"
            "sources:\n  - {ref: contract, checked: 2026-11-01, authority: official}\n"
        )
        return load_price_book(tmp_path / "tables")

    world = World(f"sqlite:///{tmp_path}/spend.db", written("0.2"), clock, tmp_path)
    world.send("t")
    world.bill("t", int(357000 * (1 - D(edited))))
    world.book = written(edited)
    line = world.line()
    assert line.category == "explained"
    assert line.cause == f"the prices in table {line.table} have changed since the task was quoted"
    assert line.remedy.partition(" than expected. ")[2] == (
        "Restore the price table as it was when the task was quoted, and put the changed prices into a table "
        "with another id."
    )


def test_the_digits_of_one_unit_do_not_depend_on_another(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Quota has no digits after the point, even beside a file in money."""
    tables = world.folder / "tables" / "statements"
    tables.mkdir(parents=True)
    money = MONEY.replace("unit_column: currency", "unit: USD").replace("about:", "providers: [qingbo]\nabout:")
    (tables / "money.yaml").write_text(money)
    monkeypatch.setenv("KLING_PRICING_TABLES", str(tables.parent))
    world.send("t", resolution="4k")
    world.send("u")
    world.bill("t", 1138363)
    other = world.statement("task,amount,day\nu,0.714,2026-11-05\n", name="other.csv")
    with world.reconcile(world.statement(), other) as result:
        (line,) = result.lines("explained")
    assert (line.cause, line.remedy) == ("quota rounded up", "")


def test_files_that_overlap_charge_once(world: World) -> None:
    """The same row in two exports is one charge, with a note; in one file it is charged twice."""
    world.send("t")
    world.bill("t", 357000)
    first = world.statement(name="week1.csv")
    world.bill("u", 1)
    second = world.statement(name="week2.csv")
    with world.reconcile(first, second) as result:
        (line,) = result.lines("matched")
        assert result.rows == (3, 2, 1, 0, 0, 0)
    assert (line.billed, line.rows) == (D("0.714"), ("week1.csv:2", "week2.csv:2"))
    assert line.cause == "the same row appears more than once and is counted once"
    world.bill("t", 357000)
    third = world.statement(name="week3.csv")
    with world.reconcile(first, third) as result:
        (line,) = result.lines("billed_twice")
    assert (line.billed, line.remedy) == (
        D("1.428"),
        "The charges are 0.714 USD more than expected. Dispute the repeated charge.",
    )


def test_alternative_explanations_do_not_go_to_the_provider(world: World) -> None:
    """The cause has one explanation; the remedy lists the others."""
    for seconds in range(1, 31):
        for number, rate in enumerate((35700, 47600, 53550)):
            world.send(f"t{seconds}-{number}", duration=6, resolution="720p", audio=False)
            world.bill(f"t{seconds}-{number}", seconds * rate)
    with world.reconcile() as result:
        lines = list(result.lines("explained"))
    assert not any("possible" in line.cause for line in lines)
    alternatives = {line.remedy.partition("Equally possible: ")[2] for line in lines}
    assert alternatives == {
        "",
        "billed at 3 times the price.",
        "billed 8 s for a 6 s request.",
        "billed 9 s for a 6 s request.",
    }


def test_a_task_paid_from_the_balance_settles_at_the_quota(
    tmp_path: Path, book: PriceBook, clock: Clock
) -> None:
    """Answers with 0 units and a quota book the quota, and give no money back for it."""
    world = World(f"sqlite:///{tmp_path}/spend.db", book, clock, tmp_path, provider="kling")
    reservation = world.send("t")
    for units in ({"final_unit_deduction": "0"}, {}):
        deducted = {"final_balance_deduction": {"quota": "0.588", "list_price": "0.84"}}
        path = world.statement(
            json.dumps({"data": {"task_id": "t", "task_status": "succeed", **units, **deducted}})
        )
        path = path.rename(path.with_suffix(".json"))
        with world.reconcile(path) as result:
            result.settle(also=["unexplained"])
        assert booked(world, reservation) == ("settled", D("0.588"), "statement")


_KILLED = """
import os, signal, sys
from datetime import UTC, datetime
from kling_pricing.reconcile import reconcile

def die(stage, done, total):
    if stage == "settling" and done:
        os.kill(os.getpid(), signal.SIGKILL)

november = {"since": datetime(2026, 11, 1, tzinfo=UTC), "until": datetime(2026, 12, 1, tzinfo=UTC)}
with reconcile(sys.argv[1], sys.argv[2], provider="qingbo", **november) as result:
    result.settle(on_progress=die)
"""


def test_a_killed_settlement_is_completed_by_the_same_command(world: World) -> None:
    """After kill -9, whole batches are settled; the next run settles the rest, and each task exactly once."""
    tasks = 2 * BATCH + 100
    first = world.send("task-0")
    with sqlite3.connect(world.folder / "spend.db") as ledger:
        columns = [row[1] for row in ledger.execute("PRAGMA table_info (reservation)")]
        new = {"id": "printf('%032x', n)", "key": "'task-' || n", "task_id": "'task-' || n"}
        ledger.execute(
            f"WITH RECURSIVE s (n) AS (VALUES (1) UNION ALL SELECT n + 1 FROM s WHERE n < {tasks - 1})"
            f" INSERT INTO reservation ({', '.join(columns)})"
            f" SELECT {', '.join(new.get(column, column) for column in columns)} FROM reservation, s"
        )
        ledger.execute(
            "INSERT INTO reservation_line (reservation, bucket, held)"
            " SELECT reservation.id, line.bucket, line.held FROM reservation, reservation_line AS line"
            " WHERE reservation.id <> line.reservation"
        )
        ledger.execute("UPDATE bucket SET cap = held * ?1, held = held * ?1", (tasks,))
    for number in range(tasks):
        world.bill(f"task-{number}", 357000)
    script = world.folder / "killed.py"
    script.write_text(_KILLED)
    settled = []
    for _ in range(2):
        killed = subprocess.run([sys.executable, script, world.ledger, world.statement()], check=False)
        assert killed.returncode == -signal.SIGKILL
        settled.append(sum(entry.kind == "settle" for entry in world.guard.journal()))
    assert settled == [BATCH, 2 * BATCH]
    november = ("--provider", "qingbo", "--month", "2026-11", "--statement", world.statement())
    ran = run("reconcile", *november, "--settle", ledger=world.ledger)
    assert "settled: 100, bound: 0, refused: 0" in ran.stdout
    settlements = [entry for entry in world.guard.journal() if entry.kind == "settle"]
    assert len({entry.reservation_id for entry in settlements}) == len(settlements) == tasks
    (bucket,) = world.guard.status()
    assert (bucket.held, bucket.spent) == (D(0), tasks * D("0.714"))
    assert booked(world, first) == ("settled", D("0.714"), "statement")
