"""What a statement may change in a ledger: the money of a task is booked whole, or left alone."""

import json
import shlex
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from kling_pricing import KlingPricingError, PriceBook, Reservation, load_price_book
from kling_pricing.reconcile import Tolerance, reconcile
from tests.commands import run
from tests.conftest import Clock
from tests.test_reconcile import MONEY, NOON, SINCE, UNTIL, World

D = Decimal
OCTOBER = datetime(2026, 10, 31, 23, tzinfo=UTC)


@pytest.fixture
def clock() -> Clock:
    """A clock that stands in the month."""
    return Clock(NOON)


@pytest.fixture
def world(tmp_path: Path, book: PriceBook, clock: Clock) -> World:
    """A world with a ledger in SQLite."""
    return World(f"sqlite:///{tmp_path}/spend.db", book, clock, tmp_path)


def settle(world: World, *statements: Path, **more: Any) -> tuple[int, int, Any]:
    """Reconciles and settles."""
    with world.reconcile(*statements, **more) as found:
        return found.settle()


def booked(world: World, reservation: str) -> tuple[str, Decimal | None, str | None]:
    """What the ledger counts."""
    found: Reservation = world.guard.reservation(reservation)
    return found.state, found.billed, found.basis


def answers(world: World, name: str, *bodies: dict[str, Any]) -> Path:
    """A dump of answers about the task t."""
    usual = {"task_id": "t", "model": "kling-v3", "created_at": int(NOON.timestamp())}
    return world.statement("".join(json.dumps(usual | body) + "\n" for body in bodies), name)


@pytest.mark.parametrize("status", ["queued", "processing"])
def test_a_running_task_is_not_free_yet(world: World, status: str) -> None:
    """That nothing was charged so far frees no money; the real charge is booked when it comes."""
    reservation = world.send("t")
    world.bill("t", 0, status=status)
    table = world.statement()
    dump = answers(world, "a.jsonl", {"status": status, "cost": 0})
    for statement, more in ((table, {}), (dump, {"mapping": "tasks-answers"})):
        line = world.line(statement, **more)
        assert (line.category, line.billed) == ("not_billed", None)
        assert f"the statement says that it is {status} and states no charge" in line.cause
        assert settle(world, statement, **more) == (0, 0, {})
    assert booked(world, reservation) == ("bound", None, None)
    world.rows.clear()
    world.bill("t", 357000)
    assert settle(world) == (1, 0, {})
    assert booked(world, reservation) == ("settled", D("0.714"), "statement")


@pytest.mark.parametrize("late_first", [True, False])
def test_the_answer_about_an_ended_task_counts(world: World, late_first: bool) -> None:  # noqa: FBT001
    """Whatever the order of the files, and though the other one states a charge too."""
    world.send("t")
    late = answers(world, "late.jsonl", {"status": "completed", "cost": 357000})
    early = answers(
        world, "early.jsonl", {"status": "processing", "cost": 400000}, {"status": "queued", "cost": 0}
    )
    files = (late, early) if late_first else (early, late)
    line = world.line(*files, mapping="tasks-answers")
    assert (line.category, line.billed) == ("matched", D("0.714"))


def test_what_falls_into_two_periods_is_booked_whole(world: World, clock: Clock) -> None:
    """Each period bills its part, the ledger counts the sum, and what is due is compared with the sum."""
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
    assert october.cause == "charged in part outside the period: 0.714 USD in all"
    assert settle(world) == (1, 0, {})
    assert booked(world, reservation) == ("settled", D("0.714"), "statement")


def test_the_last_part_of_a_charge_is_not_taken_for_all_of_it(world: World, clock: Clock) -> None:
    """A later statement alone may not say what was charged before; only the quote is booked by it."""
    clock.now = OCTOBER
    part, whole = world.send("part"), world.send("whole")
    clock.now = NOON
    world.bill("part", 57000)
    world.bill("whole", 357000)
    assert settle(world) == (1, 0, {})
    assert booked(world, part) == ("bound", None, None)
    assert booked(world, whole) == ("settled", D("0.714"), "statement")


def test_what_a_ledger_refuses_is_said(world: World) -> None:
    """A corrected statement that charges less does not replace the one before: that is no success."""
    reservation = world.send("t")
    world.bill("t", 714000)
    assert settle(world) == (1, 0, {})
    world.rows.clear()
    world.bill("t", 357000)
    period = ("--provider", "qingbo", "--from", "2026-11-01", "--until", "2026-12-01", "--settle")
    ran = run("reconcile", "--ledger", world.ledger, "--statement", str(world.statement()), *period)
    assert ran.returncode == 1
    assert "ties out; 1 reservation that could not be settled" in ran.stdout
    assert f"`kling-pricing settle {reservation} --amount 0.714 --basis operator`" in ran.stdout
    assert booked(world, reservation) == ("settled", D("1.428"), "statement")


def test_a_statement_confirms_what_rests_on_less(world: World) -> None:
    """The amount stays, its basis becomes the statement; doing it again does nothing."""
    reservation = world.send("t")
    world.guard.settle(reservation)
    world.bill("t", 357000)
    assert booked(world, reservation) == ("settled", D("0.714"), "quote")
    with world.reconcile() as found:
        assert found.settle() == (1, 0, {})
        assert found.settle() == (0, 0, {})
    assert booked(world, reservation) == ("settled", D("0.714"), "statement")


def test_settling_twice_binds_once(world: World) -> None:
    """Also within one reconciliation."""
    hold = world.send()
    world.bill("stranger", 357000)
    with world.reconcile(pairs={hold: "stranger"}) as found:
        assert found.settle() == (1, 1, {})
        assert found.settle() == (0, 0, {})


def test_an_operator_clears_what_costs_nothing(world: World, clock: Clock) -> None:
    """The remedies of what is not billed clear it; a charge that comes after all is explained."""
    task, hold = world.send("t"), world.send()
    world.guard.settle(task)
    with world.reconcile() as found:
        assert {line.category for line in found.lines()} == {"not_billed"}
    world.guard.settle(task, 0, basis="operator")
    world.guard.settle(hold, 0, basis="operator")
    with world.reconcile() as found:
        assert {(line.category, line.due, line.expected) for line in found.lines()} == {("matched", D(0), D(0))}
        assert found.exceptions == 0
    world.bill("t", 357000)
    with world.reconcile() as found:
        (line,) = found.lines("explained")
    assert line.cause == "charged, though nothing is due for this task"
    assert f"`kling-pricing settle {task} --amount 0.714 --basis operator`" in line.remedy
    assert clock.now == NOON


def test_an_operator_clears_what_two_ledgers_have(
    world: World, book: PriceBook, clock: Clock, tmp_path: Path
) -> None:
    """One reservation is written off, so the task is the other's."""
    other = World(f"sqlite:///{tmp_path}/other.db", book, clock, tmp_path)
    mine, theirs = world.send("t"), other.send("t")
    world.bill("t", 357000)
    given: Any = {"provider": "qingbo", "since": SINCE, "until": UNTIL, "book": book}
    world.guard.settle(mine)
    world.guard.settle(mine, 0, basis="operator")
    with reconcile([world.ledger, other.ledger], world.statement(), **given) as found:
        (line,) = found.lines()
        assert (line.category, line.reservation_id, line.expected) == ("matched", theirs, D("0.714"))


def test_a_ledger_is_given_once(world: World, tmp_path: Path) -> None:
    """Its tasks would be expected twice."""
    world.send("t")
    again = f"sqlite:///{tmp_path}/../{tmp_path.name}/spend.db"
    with pytest.raises(KlingPricingError, match="ledgers 1 and 2 hold the same reservations"):
        reconcile([world.ledger, again], world.statement(), provider="qingbo", since=SINCE, until=UNTIL)


def test_a_command_that_books_a_task_can_be_run(world: World) -> None:
    """It says when and in which currency, and no task breaks out of it."""
    world.bill("x$(touch y) 'z", 777)
    world.rows[0] = world.rows[0].replace("x$(touch y) 'z", '"x$(touch y) \'z"')
    line = world.line()
    assert (
        "`kling-pricing record --project PROJECT --currency USD --at 2026-11-05T12:00:00Z -- "
        "qingbo 'x$(touch y) '\"'\"'z' 0.001554`" in line.remedy
    )
    command = line.remedy.partition("`")[2].partition("`")[0]
    assert run("record", "--ledger", world.ledger, "--project", "p", *shlex.split(command)[4:]).returncode == 0
    with world.reconcile() as found:
        assert [(line.category, line.expected) for line in found.lines()] == [("matched", D("0.001554"))]


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
    """What would tolerate nothing, or not exactly what it says, is refused."""
    with pytest.raises(KlingPricingError, match="tolerance"):
        world.reconcile(tolerance=tolerance)


@pytest.mark.parametrize("edited", ["0.1", "0.5"])
def test_an_edited_table_explains_no_rounding(tmp_path: Path, clock: Clock, edited: str) -> None:
    """Prices that changed under the same id are not those of the quote, and the variance stays open."""
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
    assert line.cause == f"table {line.table} prices this differently today than when it was quoted"
    assert line.remedy


def test_the_unit_of_another_file_rounds_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file in money beside one in quota: quota still has no digits behind the point."""
    tables = world.folder / "tables" / "statements"
    tables.mkdir(parents=True)
    money = MONEY.replace("unit_column: currency", "unit: USD").replace("about:", "providers: [qingbo]\nabout:")
    (tables / "money.yaml").write_text(money)
    monkeypatch.setenv("KLING_PRICING_TABLES", str(tables.parent))
    world.send("t", resolution="4k")
    world.send("u")
    world.bill("t", 1138363)
    other = world.statement("task,amount,day\nu,0.714,2026-11-05\n", name="other.csv")
    with world.reconcile(world.statement(), other) as found:
        (line,) = found.lines("explained")
    assert (line.cause, line.remedy) == ("quota rounded up", "")


def test_files_that_overlap_charge_once(world: World) -> None:
    """The same row in two exports is one charge, and is said; in one file it is charged twice."""
    world.send("t")
    world.bill("t", 357000)
    first = world.statement(name="week1.csv")
    world.bill("u", 1)
    second = world.statement(name="week2.csv")
    with world.reconcile(first, second) as found:
        (line,) = found.lines("matched")
        assert found.rows == (3, 2, 1, 0, 0)
    assert (line.billed, line.rows) == (D("0.714"), ("week1.csv:2", "week2.csv:2"))
    assert line.cause == "several files have the same row, which counts once"
    world.bill("t", 357000)
    third = world.statement(name="week3.csv")
    with world.reconcile(first, third) as found:
        (line,) = found.lines("billed_twice")
    assert (line.billed, line.remedy) == (
        D("1.428"),
        "Dispute the repeated charge with the provider: 0.714 USD more than expected.",
    )


def test_what_might_be_as_well_does_not_go_to_the_provider(world: World) -> None:
    """The cause is one explanation; how many others there are is told to us."""
    for seconds in range(1, 31):
        for number, rate in enumerate((35700, 47600, 53550)):
            world.send(f"t{seconds}-{number}", duration=6, resolution="720p", audio=False)
            world.bill(f"t{seconds}-{number}", seconds * rate)
    with world.reconcile() as found:
        lines = list(found.lines("explained"))
    assert not any("might" in line.cause for line in lines)
    others = {line.remedy.partition("It might as well be ")[2] for line in lines}
    assert others == {
        "",
        "billed 3 times over.",
        "billed 8 s for a 6 s request.",
        "billed 9 s for a 6 s request.",
    }
