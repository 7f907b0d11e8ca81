"""Rows that cannot be read: each task has one line, and no remedy frees or books its money."""

import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest
import xlsxwriter

from kling_pricing import PriceBook
from kling_pricing.reconcile import Line
from tests.conftest import Clock
from tests.test_reconcile import HEADER, NOON, World

D = Decimal
MOMENT = int(NOON.timestamp())
REMEDY = (
    "Correct the row or ask the provider for another statement; the row's charge is not counted anywhere. "
    "Until then, do not settle or release the task."
)
SNOWFLAKE = "867283741759111202"


@pytest.fixture
def world(tmp_path: Path, book: PriceBook) -> World:
    """A world with a ledger in SQLite."""
    return World(f"sqlite:///{tmp_path}/spend.db", book, Clock(NOON), tmp_path)


def lines(world: World, *rows: str, header: str = HEADER, **more: Any) -> list[Line]:
    """Reconciles a statement of these rows; the totals tie out, and each row is counted once."""
    path = world.statement(header + "".join(f"{row}\n" for row in rows))
    with world.reconcile(path, **more) as result:
        found = list(result.lines())
        assert result.rows.read == sum(result.rows[1:])
        for total in result.totals("all"):
            assert total.expected + sum(line.variance for line in found) == total.billed
        assert result.settle(despite_gaps=True).settled == sum(line.category == "matched" for line in found)
    return found


@pytest.mark.parametrize(
    ("row", "problem"),
    [
        ("t-1,kling-v3,completed,{at},12.5", "the value in column cost has more digits than its unit allows"),
        ("t-1,kling-v3,completed,{at},", "the value in column cost is empty"),
        ("t-1,kling-v3,completed,yesterday,5", "the value in column created_at is not a time in the mapping"),
        ("t-1,kling-v3,completed,{at}", "it has 4 columns, but the first row has 5"),
        ("t-1,kling-v3,completed,{at},357,000", "it has 6 columns, but the first row has 5"),
        ("'t-1,kling-v3,completed,{at},12.5", "the value in column cost has more digits than its unit allows"),
    ],
)
def test_a_task_with_an_unreadable_row_has_one_line(world: World, row: str, problem: str) -> None:
    """The line has the task, its reservation and its expected amount, and its remedy frees nothing."""
    reservation = world.send("t-1")
    (line,) = lines(world, row.format(at=MOMENT))
    assert (line.category, line.task_id, line.reservation_id) == ("invalid_row", "t-1", reservation)
    assert (line.expected, line.billed, line.rows) == (D("0.714"), None, ("november.csv:2",))
    assert line.cause.startswith(f"row 2 of november.csv cannot be read: {problem}")
    assert line.remedy == REMEDY


@pytest.mark.parametrize("extra", [0, 1, 2])
@pytest.mark.parametrize("place", [0, 1, 3])
def test_an_id_is_found_although_its_columns_are_out_of_place(world: World, extra: int, place: int) -> None:
    """A field that a delimiter splits moves the id, which is found by the fields where it may be."""
    world.send("t-1")
    names, values = ["model", "status", "created_at"], ["a" + ",b" * (extra + 1), "completed", str(MOMENT)]
    names.insert(place, "task_id")
    values.insert(place, "t-1")
    (line,) = lines(world, ",".join([*values, "357000"]), header=",".join([*names, "cost"]) + "\n")
    assert (line.category, line.task_id, line.expected) == ("invalid_row", "t-1", D("0.714"))


def test_other_rows_of_the_task_are_named_and_not_settled(world: World) -> None:
    """A task is not settled at a part of its rows, and rows of strangers are not booked."""
    world.send("t-1")
    good, bad = f"kling-v3,completed,{MOMENT},357000", f"kling-v3,completed,{MOMENT},-12.5"
    ours, theirs = lines(world, f"t-1,{good}", f"t-1,{bad}", f"t-1,{bad}", f"x,{good}", f"x,{bad}")
    assert (ours.expected, ours.billed, ours.variance) == (D("0.714"), D("0.714"), D(0))
    assert ours.rows == ("november.csv:2", "november.csv:3", "november.csv:4")
    assert ours.cause == (
        "row 3 of november.csv cannot be read, and neither can 1 more row of the task: the value in column "
        "cost has more digits than its unit allows: '-12.5'; the task's other rows charge 0.714 USD"
    )
    assert (theirs.category, theirs.task_id, theirs.billed, theirs.remedy) == (
        "invalid_row",
        "x",
        D("0.714"),
        REMEDY,
    )


def test_a_row_that_names_no_task_may_charge_any(world: World) -> None:
    """While an unreadable row may charge a missing task, nobody is told to free the money of the task."""
    world.send("t-1")
    row, task = lines(world, f",kling-v3,completed,{MOMENT},357000")
    assert (row.category, row.task_id, row.rows) == ("invalid_row", None, ("november.csv:2",))
    assert (task.category, task.task_id) == ("not_billed", "t-1")
    assert task.remedy == (
        "1 row of the statement cannot be read and may charge this task; correct it, and reconcile again."
    )
    (task,) = lines(world, f"Total,kling-v3,completed,{MOMENT},0")
    assert "--not-charged" in task.remedy


def test_a_row_of_a_stranger_may_charge_a_request_without_a_task(world: World) -> None:
    """An unreadable row of an unknown task may charge a request whose task is unknown, so neither is freed."""
    world.send()
    world.send("t-1")
    found = lines(world, f"x,kling-v3,completed,{MOMENT},12.5", f"Total,kling-v3,completed,{MOMENT},0")
    request, task = (line for line in found if line.category == "not_billed")
    if request.task_id:
        request, task = task, request
    assert request.remedy == (
        "1 row of the statement cannot be read and may charge this request; correct it, and reconcile again."
    )
    assert "--not-charged" in task.remedy


def csv_file(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Writes the rows as CSV."""
    text = "".join(",".join(f'"{value}"' for value in row.values()) + "\n" for row in rows)
    path.write_text(",".join(rows[0]) + "\n" + text)
    return path


def json_file(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Writes the rows as an array in JSON."""
    path.write_text(json.dumps(rows))
    return path


def xlsx_file(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Writes the rows as a sheet."""
    with xlsxwriter.Workbook(path, {"strings_to_formulas": False}) as book:
        sheet = book.add_worksheet()
        for place, row in enumerate([dict(zip(rows[0], rows[0], strict=True)), *rows]):
            sheet.write_row(place, 0, list(row.values()))
    return path


def parquet_file(path: Path, rows: list[dict[str, Any]]) -> Path:
    """Writes the rows as text in Parquet."""
    source = json_file(path.with_suffix(".source.json"), [{k: str(v) for k, v in row.items()} for row in rows])
    columns = ", ".join(f"\"{name}\": 'VARCHAR'" for name in rows[0])
    duckdb.sql(f"COPY (FROM read_json('{source}', columns = {{{columns}}})) TO '{path}' (FORMAT parquet)")
    return path


FILES: dict[str, Callable[[Path, list[dict[str, Any]]], Path]] = {
    "csv": csv_file,
    "json": json_file,
    "xlsx": xlsx_file,
    "parquet": parquet_file,
}


def row(task_id: str, cost: Any = 357000) -> dict[str, Any]:
    """A row of a table of tasks."""
    return {"task_id": task_id, "model": "kling-v3", "status": "completed", "created_at": MOMENT, "cost": cost}


GUARDS = ("'{}", "{} ", "\t{}", "\u00a0{}", "\u2018{}\u2019", "{}\u200b")


@pytest.mark.parametrize("kind", FILES)
def test_a_guarded_id_that_the_ledger_has_is_restored(world: World, kind: str) -> None:
    """A guard character or padding around a known id is removed, in every format."""
    ids = [f"{int(SNOWFLAKE) + number}" for number in range(len(GUARDS))]
    for task_id in ids:
        world.send(task_id)
    rows = [row(guard.format(task_id)) for guard, task_id in zip(GUARDS, ids, strict=True)]
    with world.reconcile(FILES[kind](world.folder / f"a.{kind}", rows), mapping="qingbo-tasks") as result:
        found = [(line.category, line.task_id, line.billed) for line in result.lines()]
    assert found == [("matched", task_id, D("0.714")) for task_id in ids]


@pytest.mark.parametrize(
    ("task_id", "written"),
    [
        ("12345", "12345.0"),
        ("1234567", "1,234,567"),
        ("1234567", "1 234 567"),
        ("12", "\uff11\uff12"),
        ("12", '=""12""'),
    ],
)
def test_a_number_that_was_formatted_is_restored(world: World, task_id: str, written: str) -> None:
    """Grouped digits, a fraction of zero and full-width digits are certain if the ledger has the id."""
    world.send(task_id)
    (line,) = lines(world, f'"{written}",kling-v3,completed,{MOMENT},357000')
    assert (line.category, line.task_id) == ("matched", task_id)


@pytest.mark.parametrize(
    ("written", "problem"),
    [
        ("'stranger", "is not how the provider writes ids"),
        ('=""stranger""', "is not how the provider writes ids"),
        ("stranger ", "is not how the provider writes ids"),
        ("1,234,567", "is not how the provider writes ids"),
        ("12345.0", "is not how the provider writes ids"),
        ("8.67E+17", "a spreadsheet has rounded the ids"),
        ("'8.67E+17", "a spreadsheet has rounded the ids"),
        ("123", "a spreadsheet seems to have removed its leading zeros"),
        ("9999", "a spreadsheet seems to have removed its leading zeros"),
        ("End of the report", "is not a task id but several words"),
        ("#N/A", "stands for a missing task id"),
        ("nan", "stands for a missing task id"),
        ("Sep-26", "has turned the id into a date"),
        ("2026-09-26", "has turned the id into a date"),
    ],
)
def test_nobody_is_told_to_book_a_changed_id(world: World, written: str, problem: str) -> None:
    """An id that another program changed, or a word, is a problem of its row, and no remedy names it."""
    world.send("00123")
    known = f"00123,kling-v3,completed,{MOMENT},357000"
    intact = f"{SNOWFLAKE},kling-v3,completed,{MOMENT},357000"
    found = lines(world, known, intact, f'"{written}",kling-v3,completed,{MOMENT},357000')
    (line,) = [line for line in found if line.category == "invalid_row"]
    assert problem in line.cause
    assert "record" not in line.remedy
    assert [line.task_id for line in found if "record" in line.remedy] == [SNOWFLAKE]


@pytest.mark.parametrize("written", ["Total", "'Total", "合计\uff1a"])
def test_a_word_of_a_total_is_never_booked(world: World, written: str) -> None:
    """A total in place of an id has no line, so no remedy names it."""
    world.send("t-1")
    (line,) = lines(world, f"t-1,kling-v3,completed,{MOMENT},357000", f'"{written}",,,,5')
    assert (line.category, line.task_id) == ("matched", "t-1")


def test_an_id_without_its_zeros_is_joined(world: World) -> None:
    """The task that lost its zeros has one line, whose remedy is to export the ids as text."""
    world.send("00123")
    (line,) = lines(world, f"123,kling-v3,completed,{MOMENT},357000")
    assert (line.category, line.task_id, line.expected, line.billed) == (
        "invalid_row",
        "00123",
        D("0.714"),
        None,
    )
    assert line.remedy.startswith("Export the statement again with the ids as text")


@pytest.mark.parametrize("written", ["8.67E+17", "8.67284e17", "8,67284E+17", "867284000000000000"])
def test_a_rounded_id_is_joined_to_the_only_task_that_it_can_be(world: World, written: str) -> None:
    """One task can have been rounded so: it has one line; of two, neither is told to be free."""
    world.send(SNOWFLAKE)
    other = f"intact-id-of-a-task,kling-v3,completed,{MOMENT},357000"
    rounded = f'"{written}",kling-v3,completed,{MOMENT},357000'
    intact = f"967283741759111202,kling-v3,completed,{MOMENT},357000"
    found = lines(world, intact, other, rounded)
    (line,) = [line for line in found if line.expected is not None]
    assert (line.category, line.task_id, line.rows) == ("invalid_row", SNOWFLAKE, ("november.csv:4",))
    world.send("867283741759111203")
    tasks = [line for line in lines(world, intact, other, rounded) if line.expected is not None]
    assert [line.category for line in tasks] == ["not_billed", "not_billed"]
    assert all("may charge this task" in line.remedy for line in tasks)


def test_an_answer_whose_charge_cannot_be_read_is_joined(world: World) -> None:
    """The line of a saved response names the task of the response."""
    world.send("t-1")
    answers = [{"task_id": "t-1", "status": "completed", "created_at": MOMENT, "cost": "a lot"}]
    line = world.line(json_file(world.folder / "a.json", answers), mapping="tasks-answers")
    assert (line.category, line.task_id, line.expected) == ("invalid_row", "t-1", D("0.714"))
