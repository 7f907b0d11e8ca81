"""Statement files: only the named file is read, and no digit of it is lost without an error."""

from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest
import xlsxwriter

from kling_pricing import KlingPricingError, PriceBook
from tests.conftest import Clock
from tests.test_reconcile import HEADER, MONEY, NOON, World

D = Decimal


@pytest.fixture
def world(tmp_path: Path, book: PriceBook) -> World:
    """A world with a ledger in SQLite."""
    return World(f"sqlite:///{tmp_path}/spend.db", book, Clock(NOON), tmp_path)


def parquet(path: Path, select: str) -> Path:
    """Writes a Parquet file of one row."""
    written = path.with_name("written")
    duckdb.sql(f"COPY (SELECT {select}) TO '{written}' (FORMAT parquet)")
    return written.rename(path)


def workbook(path: Path, *rows: tuple[Any, ...], dates: str = "yyyy-mm-dd hh:mm") -> Path:
    """Writes an XLSX file."""
    with xlsxwriter.Workbook(path, {"default_date_format": dates}) as book:
        sheet = book.add_worksheet()
        for number, row in enumerate(rows):
            sheet.write_row(number, 0, row)
    return path


@pytest.mark.parametrize(
    ("name", "neighbour"),
    [("nov[1]", "nov1"), ("nov*", "nov-old"), ("nov?", "nov2"), ("year=2026/nov", "nov"), ("a\\*", "a\\b")],
)
@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_name_is_not_a_pattern(world: World, name: str, neighbour: str, kind: str) -> None:
    """The file of that name is read, and not another file that the name fits as a pattern."""
    paths = [world.folder / f"{stem}.{kind}" for stem in (name, neighbour)]
    for path, task_id in zip(paths, ("right", "wrong"), strict=True):
        path.parent.mkdir(exist_ok=True)
        created_at = int(NOON.timestamp())
        if kind == "csv":
            path.write_text(f"{HEADER}{task_id},kling-v3,completed,{created_at},357000\n")
        else:
            text = f"'{task_id}' AS task_id, 'kling-v3' AS model, {created_at} AS created_at, 357000 AS cost"
            parquet(path, text)
    line = world.line(paths[0])
    assert (line.task_id, line.rows[0].rpartition(":")[0]) == ("right", paths[0].name)


def test_a_folder_that_is_a_pattern_is_refused(world: World) -> None:
    """A folder whose path is a pattern is refused, because DuckDB would look for files elsewhere."""
    folder = world.folder / "kept[1]"
    folder.mkdir()
    with pytest.raises(KlingPricingError, match="give another folder"):
        world.reconcile(folder=folder)
    assert list(folder.iterdir()) == []


def test_an_id_that_may_have_lost_digits_is_refused(world: World) -> None:
    """A spreadsheet's integer of more than 15 digits is refused, even if it ends in zeros."""
    created_at = int(NOON.timestamp())
    path = workbook(
        world.folder / "november.xlsx",
        ("task_id", "model", "status", "created_at", "cost"),
        (123456789012345000, "kling-v3", "completed", created_at, 357000),
        (1000000000000000, "kling-v3", "completed", created_at, 357000),
        (999999999999999, "kling-v3", "completed", created_at, 357000),
    )
    with world.reconcile(path) as result:
        refused = list(result.lines("invalid_row"))
        assert [line.task_id for line in result.lines("not_in_ledger")] == ["999999999999999"]
    assert [line.rows for line in refused] == [("november.xlsx:2",), ("november.xlsx:3",)]
    assert refused[0].cause == (
        "the row cannot be read: task_id: a spreadsheet keeps only 15 digits of a number; export it as text"
    )


@pytest.mark.parametrize("number", ["1e9999999999", "1e-9999999999", "-3e99999", "1e400"])
def test_a_number_with_a_huge_exponent_is_an_invalid_row(world: World, number: str) -> None:
    """A number with a huge exponent makes its row invalid, and is not expanded."""
    row = f'{{"task_id": "t", "model": "kling-v3", "created_at": 1793880000, "status": "ok", "cost": {number}}}'
    path = world.statement(f"{row}\n", "a.jsonl")
    for mapping in ("qingbo-tasks", "tasks-answers"):
        assert world.line(path, mapping=mapping).category == "invalid_row"


def test_any_column_of_parquet_may_have_any_name(world: World) -> None:
    """Parquet may have a column name that DuckDB uses, an empty column, and an instant instead of a number."""
    world.send("t")
    line = world.line(
        parquet(
            world.folder / "november.parquet",
            "'t' AS task_id, 'kling-v3' AS model, NULL AS status, 7 AS file_row_number, 357000 AS cost,"
            " TIMESTAMPTZ '2026-11-05 20:00:00+08' AS created_at",
        )
    )
    assert (line.category, line.billed_at, line.rows) == ("matched", NOON, ("november.parquet:1",))


@pytest.mark.parametrize("settings", ["format: unix", 'format: "%d/%m/%Y %H:%M"', "format: iso"])
def test_a_date_cell_is_read_whatever_the_format_of_texts_is(world: World, settings: str) -> None:
    """A date cell of a spreadsheet is read as a date in the mapping's zone."""
    mapping = world.folder / "money.yaml"
    mapping.write_text(MONEY.replace("{column: day,", f"{{column: day, {settings},"))
    path = workbook(
        world.folder / "november.xlsx",
        ("task", "amount", "currency", "day"),
        ("t", 1, "USD", datetime(2026, 11, 5, 20)),  # noqa: DTZ001 (a spreadsheet's dates have no zone)
    )
    assert world.line(path, mapping=mapping).billed_at == datetime(2026, 11, 5, 12, tzinfo=UTC)


def test_a_text_that_does_not_fit_the_pattern_is_not_a_time(world: World) -> None:
    """A time in another format than the mapping's makes its row invalid."""
    mapping = world.folder / "money.yaml"
    mapping.write_text(MONEY.replace("{column: day,", '{column: day, format: "%d/%m/%Y",'))
    path = world.statement("task,amount,currency,day\nt,1,USD,2026-11-05\n")
    assert world.line(path, mapping=mapping).category == "invalid_row"


@pytest.mark.parametrize("task_id", ["\u202et", "t\u200b", "t\u00a0u", "\u2066t", "t\u00ad", "\u3164"])
def test_an_id_with_an_invisible_character_is_refused(world: World, task_id: str) -> None:
    """An id with an invisible character is refused, because two ids that look the same would be two tasks."""
    line = world.line(world.statement(f"{HEADER}{task_id},kling-v3,completed,1793880000,5\n"))
    assert (line.category, line.task_id) == ("invalid_row", None)
    assert line.cause == "column task_id is not a task id: it has more than 200 characters or an invisible one"


def test_files_of_one_name_are_numbered(world: World) -> None:
    """Files of the same name are numbered, because a folder's name may be secret."""
    paths = []
    for number, folder in enumerate(("ours", "secret-client")):
        (world.folder / folder).mkdir()
        world.rows = [f"q{number},kling-v3,completed,1793880000,5"]
        paths.append(world.statement(name=f"{folder}/s.csv"))
    with world.reconcile(*paths) as result:
        assert list(result.statements) == ["s.csv", "s.csv (2)"]
        assert [line.rows for line in result.lines()] == [("s.csv:2",), ("s.csv (2):2",)]


def test_a_prompt_in_another_column_may_be_long(world: World) -> None:
    """A long prompt in a column that is not read does no harm, even if rows are read one by one."""
    world.send("t")
    created_at = int(NOON.timestamp())
    for length in (200_000, 3_000_000):
        rows = (
            f't,kling-v3,completed,{created_at},357000,"{"x" * length}"',
            f"u,kling-v3,completed,{created_at},1",
        )
        path = world.statement(HEADER.replace("cost", "cost,prompt") + "\n".join(rows) + "\n")
        with world.reconcile(path) as result:
            assert [line.category for line in result.lines()] == ["invalid_row", "matched"]


@pytest.mark.parametrize(("sound", "cause"), [("on", ""), ("", ""), ("loud?", "a text of 5 characters")])
def test_a_word_that_the_mapping_does_not_know_is_reported(world: World, sound: str, cause: str) -> None:
    """An unknown word states no fact, and the line reports it."""
    world.send("t")
    mapping = world.folder / "money.yaml"
    mapping.write_text(f"{MONEY}  facts:\n    - {{column: sound, means: {{'on': {{audio: true}}}}}}\n")
    path = world.statement(f"task,amount,currency,day,sound\nt,0.714,USD,2026-11-05,{sound}\n")
    line = world.line(path, mapping=mapping)
    assert line.category == "matched"
    assert line.cause == (f"column sound: the mapping does not know {cause}" if cause else "")


def test_three_letters_are_a_currency_or_a_known_unit(world: World) -> None:
    """A currency may be in lower case; a unit that is neither a currency nor known is refused."""
    mapping = world.folder / "money.yaml"
    mapping.write_text(MONEY)
    path = world.statement("task,amount,currency,day\na,1,usd,2026-11-05\nb,1,dollars,2026-11-05\n")
    with world.reconcile(path, mapping=mapping) as result:
        assert [(line.category, line.currency) for line in result.lines()] == [
            ("invalid_row", "USD"),
            ("not_in_ledger", "USD"),
        ]
    mapping.write_text(MONEY.replace("unit_column: currency", "unit: pts"))
    path = world.statement("task,amount,day\na,1,2026-11-05\n")
    assert world.line(path, mapping=mapping).category == "invalid_row"
