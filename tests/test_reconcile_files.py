"""Files that statements come in: only the file that is named is read, and not a digit of it is lost unsaid."""

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
    """A Parquet file of one row."""
    made = path.with_name("made")
    duckdb.sql(f"COPY (SELECT {select}) TO '{made}' (FORMAT parquet)")
    return made.rename(path)


def workbook(path: Path, *rows: tuple[Any, ...], dates: str = "yyyy-mm-dd hh:mm") -> Path:
    """An XLSX file."""
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
def test_a_name_is_no_pattern(world: World, name: str, neighbour: str, kind: str) -> None:
    """The file of that name is read, and no other that the name would fit as a pattern."""
    paths = [world.folder / f"{each}.{kind}" for each in (name, neighbour)]
    for path, task_id in zip(paths, ("right", "wrong"), strict=True):
        path.parent.mkdir(exist_ok=True)
        made = int(NOON.timestamp())
        if kind == "csv":
            path.write_text(f"{HEADER}{task_id},kling-v3,completed,{made},357000\n")
        else:
            text = f"'{task_id}' AS task_id, 'kling-v3' AS model, {made} AS created_at, 357000 AS cost"
            parquet(path, text)
    line = world.line(paths[0])
    assert (line.task_id, line.rows[0].rpartition(":")[0]) == ("right", paths[0].name)


def test_a_folder_that_is_a_pattern_is_refused(world: World) -> None:
    """What is kept there would be looked for elsewhere."""
    folder = world.folder / "kept[1]"
    folder.mkdir()
    with pytest.raises(KlingPricingError, match="give another folder"):
        world.reconcile(folder=folder)
    assert list(folder.iterdir()) == []


def test_a_spreadsheet_may_have_lost_the_last_digits_of_an_id(world: World) -> None:
    """A whole number of more than 15 digits may have been another one, whatever zeros it ends in."""
    made = int(NOON.timestamp())
    path = workbook(
        world.folder / "november.xlsx",
        ("task_id", "model", "status", "created_at", "cost"),
        (123456789012345000, "kling-v3", "completed", made, 357000),
        (1000000000000000, "kling-v3", "completed", made, 357000),
        (999999999999999, "kling-v3", "completed", made, 357000),
    )
    with world.reconcile(path) as found:
        refused = list(found.lines("invalid_row"))
        assert [line.task_id for line in found.lines("not_in_ledger")] == ["999999999999999"]
    assert [line.rows for line in refused] == [("november.xlsx:2",), ("november.xlsx:3",)]
    assert "export it as text" in refused[0].cause


@pytest.mark.parametrize("number", ["1e9999999999", "1e-9999999999", "-3e99999", "1e400"])
def test_a_number_of_endless_digits_is_an_invalid_row(world: World, number: str) -> None:
    """It is not written out."""
    row = f'{{"task_id": "t", "model": "kling-v3", "created_at": 1793880000, "status": "ok", "cost": {number}}}'
    path = world.statement(f"{row}\n", "a.jsonl")
    for mapping in ("qingbo-tasks", "tasks-answers"):
        assert world.line(path, mapping=mapping).category == "invalid_row"


def test_any_column_of_parquet_may_have_any_name(world: World) -> None:
    """A column called like one that DuckDB can add; an empty one; and an instant where a number is usual."""
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
def test_a_date_of_a_spreadsheet_is_read_whatever_the_texts_are(world: World, settings: str) -> None:
    """A cell that is a date is one; its zone is the mapping's."""
    mapping = world.folder / "money.yaml"
    mapping.write_text(MONEY.replace("{column: day,", f"{{column: day, {settings},"))
    path = workbook(
        world.folder / "november.xlsx",
        ("task", "amount", "currency", "day"),
        ("t", 1, "USD", datetime(2026, 11, 5, 20)),  # noqa: DTZ001 (a spreadsheet's dates have no zone)
    )
    assert world.line(path, mapping=mapping).billed_at == datetime(2026, 11, 5, 12, tzinfo=UTC)


def test_a_text_that_the_pattern_does_not_fit_is_no_time(world: World) -> None:
    """Day and month are not guessed from another way of writing."""
    mapping = world.folder / "money.yaml"
    mapping.write_text(MONEY.replace("{column: day,", '{column: day, format: "%d/%m/%Y",'))
    path = world.statement("task,amount,currency,day\nt,1,USD,2026-11-05\n")
    assert world.line(path, mapping=mapping).category == "invalid_row"


@pytest.mark.parametrize("seen", ["\u202et", "t\u200b", "t\u00a0u", "\u2066t", "t\u00ad", "\u3164"])
def test_an_id_has_no_character_that_cannot_be_seen(world: World, seen: str) -> None:
    """Two ids that look the same would be two tasks."""
    line = world.line(world.statement(f"{HEADER}{seen},kling-v3,completed,1793880000,5\n"))
    assert (line.category, line.task_id) == ("invalid_row", None)
    assert "cannot be seen" in line.cause


def test_files_of_one_name_are_numbered(world: World) -> None:
    """Their folders may name a client, and the names go to the provider."""
    paths = []
    for number, folder in enumerate(("ours", "secret-client")):
        (world.folder / folder).mkdir()
        world.rows = [f"q{number},kling-v3,completed,1793880000,5"]
        paths.append(world.statement(name=f"{folder}/s.csv"))
    with world.reconcile(*paths) as found:
        assert list(found.statements) == ["s.csv", "s.csv (2)"]
        assert [line.rows for line in found.lines()] == [("s.csv:2",), ("s.csv (2):2",)]


def test_a_prompt_in_another_column_may_be_long(world: World) -> None:
    """The column is not read, so its length is nobody's concern, also where rows have to be read one by one."""
    world.send("t")
    made = int(NOON.timestamp())
    for length in (200_000, 3_000_000):
        rows = (f't,kling-v3,completed,{made},357000,"{"x" * length}"', f"u,kling-v3,completed,{made},1")
        path = world.statement(HEADER.replace("cost", "cost,prompt") + "\n".join(rows) + "\n")
        with world.reconcile(path) as found:
            assert [line.category for line in found.lines()] == ["invalid_row", "matched"]


@pytest.mark.parametrize(("sound", "cause"), [("on", ""), ("", ""), ("loud?", "a text of 5 characters")])
def test_a_word_that_the_mapping_does_not_know_is_said(world: World, sound: str, cause: str) -> None:
    """It tells nothing of the task, and the line says so."""
    world.send("t")
    mapping = world.folder / "money.yaml"
    mapping.write_text(f"{MONEY}  facts:\n    - {{column: sound, means: {{'on': {{audio: true}}}}}}\n")
    path = world.statement(f"task,amount,currency,day,sound\nt,0.714,USD,2026-11-05,{sound}\n")
    line = world.line(path, mapping=mapping)
    assert line.category == "matched"
    assert line.cause == (f"column sound says what its mapping does not know: {cause}" if cause else "")


def test_three_letters_are_a_currency_or_a_known_unit(world: World) -> None:
    """Small letters of a currency are that currency, and what is neither is refused."""
    mapping = world.folder / "money.yaml"
    mapping.write_text(MONEY)
    path = world.statement("task,amount,currency,day\na,1,usd,2026-11-05\nb,1,dollars,2026-11-05\n")
    with world.reconcile(path, mapping=mapping) as found:
        assert [(line.category, line.currency) for line in found.lines()] == [
            ("invalid_row", "USD"),
            ("not_in_ledger", "USD"),
        ]
    mapping.write_text(MONEY.replace("unit_column: currency", "unit: pts"))
    path = world.statement("task,amount,day\na,1,2026-11-05\n")
    assert world.line(path, mapping=mapping).category == "invalid_row"
