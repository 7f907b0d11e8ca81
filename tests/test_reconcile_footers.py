"""Footers below the rows of a statement: they are named, and are neither charges nor unreadable rows."""

from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from kling_pricing import PriceBook
from kling_pricing.reconcile import Reconciliation, sample_statement
from tests.commands import run
from tests.conftest import Clock
from tests.test_reconcile import HEADER, NOON, World
from tests.test_reconcile_unreadable import FILES, MOMENT, row

D = Decimal
TEXTS = (
    "End of the report",
    "以下无数据",
    "--- END ---",
    "----------",
    "共 12 条记录",
    "Printed on 2026-12-01",
    "eof",
)
COLUMNS = ("task_id", "model", "status", "created_at", "cost")


@pytest.fixture
def world(tmp_path: Path, book: PriceBook) -> World:
    """A world with a ledger in SQLite, which has the task t-1."""
    world = World(f"sqlite:///{tmp_path}/spend.db", book, Clock(NOON), tmp_path)
    world.send("t-1")
    return world


def below(world: World, *rows: str) -> Reconciliation:
    """Reconciles the task and the rows below it."""
    charge = f"t-1,kling-v3,completed,{MOMENT},357000"
    return world.reconcile(world.statement(HEADER + "\n".join([charge, *rows, ""])))


@pytest.mark.parametrize("kind", FILES)
@pytest.mark.parametrize("column", COLUMNS[:-1])
def test_a_footer_is_a_note_in_every_format(world: World, kind: str, column: str) -> None:
    """In whichever column it stands, it has no line, and the month is reconciled."""
    footers = [dict.fromkeys(COLUMNS, "") | {column: text} for text in TEXTS]
    statement = FILES[kind](world.folder / f"a.{kind}", [row("t-1"), *footers])
    with world.reconcile(statement, mapping="qingbo-tasks") as result:
        assert [line.category for line in result.lines()] == ["matched"]
        assert (result.gaps, result.exceptions) == ((), 0)
        assert (result.rows.invalid, result.rows.ignored) == (0, len(TEXTS))
        first = {"csv": 3, "xlsx": 3}.get(kind, 2)
        assert result.notes == (
            (
                f"rows {first}, {first + 1}, {first + 2} and {len(TEXTS) - 3} more of a.{kind} are footers: "
                "they have text, but no id, no amount and no date"
            ),
        )


@pytest.mark.parametrize("shape", ["{}", "{},", ",{}", '"{}",,,,', "{},,,,,,,"])
def test_a_footer_need_not_have_the_columns_of_the_table(world: World, shape: str) -> None:
    """A line of its own is a footer as well, whatever its text."""
    for number in range(2, len(TEXTS) + 1):
        world.send(f"t-{number}")
    statements = [
        world.statement(
            f"{HEADER}t-{number},kling-v3,completed,{MOMENT},357000\n{shape.format(text)}\n", f"{number}.csv"
        )
        for number, text in enumerate(TEXTS, start=1)
    ]
    with world.reconcile(*statements) as result:
        assert {line.category for line in result.lines()} == {"matched"}
        assert sorted(result.notes) == sorted(
            f"row 3 of {statement.name} is a footer: it has text, but no id, no amount and no date"
            for statement in statements
        )


@pytest.mark.parametrize(
    "written",
    [
        "End of the report,,,,357000",
        "以下无数据,,,,0",
        f"End of the report,,,{MOMENT},",
        "End of the report,kling-v3,,,",
        "End of the report,and more,,,",
        "End of the report,,,357000",
        ",,,,357000",
        "867283741",
        "task-4,,,,",
        "tas",
        "unknown,,,,",
    ],
)
def test_a_row_that_may_be_a_charge_is_never_a_footer(world: World, written: str) -> None:
    """A row with an amount, a time, a second text or an id stays a row that cannot be read."""
    with below(world, written) as result:
        assert [line.category for line in result.lines()] == ["invalid_row", "matched"]
        assert (result.notes, result.rows.invalid) == ((), 1)


@pytest.mark.parametrize("task", ["End of the report", "以下无数据"])
def test_a_task_in_the_ledger_is_never_a_footer(world: World, task: str) -> None:
    """A task whose id looks like a footer has a row without an amount, and its remedy frees nothing."""
    world.send(task)
    with below(world, f"{task},,,,") as result:
        (line,) = result.lines("invalid_row")
        assert (line.task_id, line.expected, result.notes) == (task, D("0.714"), ())
        assert "the value in column cost is empty" in line.cause
        assert line.remedy.endswith("Until then, do not settle or release the task.")


def test_a_footer_of_its_own_line_is_a_note_beside_decimal_commas(world: World) -> None:
    """The database cannot read such a file as it is, not even to find its decimal separator."""
    path = world.folder / "ours.yaml"
    path.write_text(
        "statement: ours\nabout: ours\nsources:\n"
        "  - {ref: our own, checked: 2026-11-01, authority: official}\ncolumns:\n"
        "  task_id: {column: task}\n  amount: {column: cost, unit: USD, decimals: 9}\n"
        "  billed_at: {column: day}\n"
    )
    text = "task;cost;day\nt-1;0,714;2026-11-05\n合计;0,714;\n以下无数据\n"
    statement = world.folder / "a.csv"
    statement.write_text(text, encoding="gb18030")
    with world.reconcile(statement, mapping=path, encoding="gb18030") as result:
        assert [(line.category, line.billed) for line in result.lines()] == [("matched", D("0.714"))]
        assert (len(result.notes), len(result.confirmed), result.gaps) == (1, 1, ())


def test_a_footer_below_sums_is_a_note(world: World) -> None:
    """A statement of sums has its footers in the column of the day."""
    path = world.folder / "sums.yaml"
    path.write_text(
        "statement: sums\nabout: sums\nsources:\n"
        "  - {ref: our own, checked: 2026-11-01, authority: official}\naggregates:\n"
        "  day: {column: day}\n  amount: {column: amount, unit: USD, decimals: 9}\n"
    )
    text = "day,amount\n2026-11-05,0.714\nTotal,0.714\nEnd of the report,\n以下无数据\n,0.5\n"
    with world.reconcile(world.statement(text), mapping=path, max_unreadable_percent=50) as result:
        assert [line.category for line in result.lines()] == ["invalid_row", "matched"]
        assert result.notes == (
            "rows 4, 5 of november.csv are footers: they have text, but no id, no amount and no date",
        )


def test_the_commands_name_the_footers(world: World) -> None:
    """`reconcile` and `statement check` print the note and succeed."""
    rows: Sequence[Any] = (f"t-1,kling-v3,completed,{MOMENT},357000", "以下无数据", "")
    statement = world.statement(HEADER + "\n".join(rows))
    note = "row 3 of november.csv is a footer: it has text, but no id, no amount and no date"
    done = run(
        *("reconcile", "--provider", "qingbo", "--month", "2026-11", "--statement", statement),
        ledger=world.ledger,
    )
    assert (done.returncode, note in done.stdout.splitlines()) == (0, True)
    done = run("statement", "check", statement, "--provider", "qingbo")
    assert (done.returncode, note in done.stdout.splitlines()) == (0, True)
    assert sample_statement(statement, provider="qingbo").notes == (note,)
