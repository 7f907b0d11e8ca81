"""Statement files: only the named file is read, and no digit of it is lost without an error."""

import csv
import json
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest
import xlsxwriter

from kling_pricing import KlingPricingError, PriceBook, StatementError
from kling_pricing.reconcile.staging import literal
from tests.conftest import Clock, bundled
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
        "the row cannot be read: a spreadsheet keeps only 15 digits of a number, so digits of task_id "
        "are missing; export the column as text"
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


def test_an_id_with_an_invisible_character_is_refused(world: World) -> None:
    """An id with an invisible character is refused, because two ids that look the same would be two tasks."""
    ids = ["\u202et", "t\u200b", "t\u00a0u", "\u2066t", "t\u00ad", "\u3164"]
    rows = "".join(f"{task_id},kling-v3,completed,1793880000,5\n" for task_id in ids)
    with world.reconcile(world.statement(f"{HEADER}{rows}")) as result:
        lines = list(result.lines())
    cause = (
        "the value in column task_id is not a task id: it has more than 200 characters, or an invisible "
        "character"
    )
    found = [(line.category, line.task_id, line.cause) for line in lines]
    assert found == [("invalid_row", None, cause)] * len(ids)


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


@pytest.mark.parametrize(("sound", "cause"), [("on", ""), ("", ""), ("loud?", "text of 5 characters")])
def test_a_word_that_the_mapping_does_not_know_is_reported(world: World, sound: str, cause: str) -> None:
    """An unknown word states no fact, and the line reports it."""
    world.send("t")
    mapping = world.folder / "money.yaml"
    mapping.write_text(f"{MONEY}  facts:\n    - {{column: sound, means: {{'on': {{audio: true}}}}}}\n")
    path = world.statement(f"task,amount,currency,day,sound\nt,0.714,USD,2026-11-05,{sound}\n")
    line = world.line(path, mapping=mapping)
    assert line.category == "matched"
    assert line.cause == (f"column sound: the mapping does not list {cause}" if cause else "")


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


OFFICIAL = "task_id,model_name,deduction_time,deduction_amount,duration"
IDS = ("867283741759111202", "867283741759111203", "867283741759111204")


def official(*amounts: str, ids: tuple[str, ...] = IDS, delimiter: str = ",", header: str = OFFICIAL) -> str:
    """The export of packs as text; amounts with a comma must not be delimited by one."""
    moment = int(NOON.timestamp() * 1000)
    length = "5,04" if any("," in amount for amount in amounts) else "5.04"
    rows = [
        delimiter.join((task_id, "kling-v3", str(moment), amount, length))
        for task_id, amount in zip(ids, amounts, strict=False)
    ]
    return "".join(f"{row}\n" for row in [header.replace(",", delimiter), *rows])


def billed(world: World, text: str | bytes, name: str = "november.csv", **more: Any) -> dict[str, Any]:
    """Reads a file of the official export; returns task -> amount in units, or row -> cause."""
    path = world.folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with world.reconcile(path, provider="kling", **more) as result:
        return {
            line.task_id or line.rows[0]: line.cause if line.billed is None else line.billed / D("0.14")
            for line in result.lines()
        }


NUMBER = "the value in column deduction_amount is not an amount in plain digits, such as 0.714: "
EITHER = (
    "the value in column deduction_amount has a separator that may be a decimal separator or a thousands "
    "separator: "
)


@pytest.mark.parametrize(
    ("delimiter", "amounts", "expected"),
    [
        (";", ("6", "3", "1251"), (D(6), D(3), D(1251))),
        (";", ("2,4", "3", "1,251"), (D("2.4"), D(3), D("1.251"))),
        (";", ("2.4", "3", "1.25"), (D("2.4"), D(3), D("1.25"))),
        (";", ("1,251", "3"), (D("1.251"), D(3))),
        (";", ("2,4", "1.251"), (D("2.4"), f"{NUMBER}'1.251'")),
        (";", ("2,4", "1.251,5"), (D("2.4"), D("1251.5"))),
        ("\t", ("2,4", "0,6"), (D("2.4"), D("0.6"))),
        ("|", ("2.4", "0.6"), (D("2.4"), D("0.6"))),
    ],
)
def test_delimiters_and_decimal_separators_are_seen(
    world: World, delimiter: str, amounts: tuple[str, ...], expected: tuple[Any, ...]
) -> None:
    """A file shows its delimiter by its header, and its decimal separator by its numbers."""
    found = billed(world, official(*amounts, delimiter=delimiter))
    assert (
        tuple(found.get(task_id, found.get(f"november.csv:{row}")) for row, task_id in enumerate(IDS, 2))[
            : len(amounts)
        ]
        == expected
    )


@pytest.mark.parametrize(("delimiter", "amount"), [(";", "1.251"), ("\t", "1,251"), ("\t", "1.251")])
def test_a_separator_that_may_be_one_of_thousands_is_refused(world: World, delimiter: str, amount: str) -> None:
    """If no number of the file shows what a separator means, its amounts are not guessed; a mapping says it."""
    header = OFFICIAL.replace(",duration", "")
    text = official(amount, delimiter=delimiter, header=header).replace(f"{delimiter}5.04", "")
    text = text.replace(f"{delimiter}5,04", "")
    assert billed(world, text) == {"november.csv:2": f"{EITHER}'{amount}'"}
    mapping = world.folder / "ours.yaml"
    bundled_text = bundled("statements", "kling-deductions-units.yaml").read_text()
    for decimal, units in ((".", "1.251"), (",", "1.251")):
        mapping.write_text(bundled_text.replace("providers:", f'decimal: "{decimal}"\nproviders:'))
        expected = {IDS[0]: D(units)} if decimal in amount else {"november.csv:2": f"{NUMBER}'{amount}'"}
        assert billed(world, text, mapping=mapping) == expected


@pytest.mark.parametrize(
    ("name", "encoding", "option"),
    [
        ("a.csv", "utf-8-sig", None),
        ("a.csv", "utf-16", None),
        ("a.csv", "utf-16", "gb18030"),
        ("a.txt", "utf-16", None),
        ("a.json", "utf-16", None),
        ("a.jsonl", "utf-16", None),
        ("a.csv", "gb18030", "gb18030"),
        ("a.csv", "utf-16-le", "utf-16-le"),
        ("a.jsonl", "gb18030", "gb18030"),
    ],
)
def test_encodings(world: World, name: str, encoding: str, option: str | None) -> None:
    """UTF-8 and UTF-16 with a byte order mark are read as they are, any other encoding by its name."""
    moment = int(NOON.timestamp() * 1000)
    row = {"task_id": IDS[0], "model_name": "kling-v3", "deduction_time": str(moment), "deduction_amount": 6}
    texts = {
        "csv": "task_id,model_name,deduction_time,deduction_amount,函数\n"
        f"{IDS[0]},kling-v3,{moment},6,文生视频\n",
        "json": json.dumps([row | {"函数": "文生视频"}], ensure_ascii=False),
        "jsonl": json.dumps(row | {"函数": "文生视频"}, ensure_ascii=False) + "\n",
    }
    texts["txt"] = texts["csv"].replace(",", "\t")
    text = texts[name.partition(".")[2]].encode(encoding)
    assert billed(world, text, name, encoding=option) == {IDS[0]: D(6)}


@pytest.mark.parametrize(
    ("text", "option", "problem"),
    [
        (
            "函数\n".encode("gb18030"),
            None,
            r"a\.csv:1: is not UTF-8 text; save it as UTF-8, or give its encoding, such as gb18030, with",
        ),
        (
            "a,b\n".encode("utf-16-le"),
            None,
            "if it is UTF-16 without a byte order mark, add --encoding utf-16-le",
        ),
        (b"a\n\xff\xff\n", "gb18030", r"a\.csv:2: is not gb18030 text; give its encoding with --encoding"),
        (b"a\n", "klingon", "unknown encoding 'klingon'; give a name such as gb18030"),
        (b"a\n", "base64", "unknown encoding 'base64'"),
    ],
)
def test_text_in_another_encoding_is_refused(
    world: World, text: bytes, option: str | None, problem: str
) -> None:
    """The error names the file, the line, and the option."""
    with pytest.raises(StatementError, match=problem):
        billed(world, text, "a.csv", encoding=option)


@pytest.mark.parametrize(
    "ids",
    [
        ("8.67284E+17",),
        ("8.67E+17", "8,67E+17", "8.67284e17"),
        ("8.672837417591112e+17",),
        ("867284000000000000",),
        ("867283741759111000", "867283741759112000", "867283741759113000"),
        ("867283741759111168", "867283741759111296", "867283741759111424"),
        ("867283741759111200", "867283741759111300", "867283741759115500"),
        ("867283741759111168.0", "867283741759111296.0"),
    ],
)
def test_ids_that_a_spreadsheet_rounded_are_refused(world: World, ids: tuple[str, ...]) -> None:
    """A file whose long ids are all rounded is refused, and nobody is told to book them."""
    quoted = tuple(f'"{task_id}"' for task_id in ids)
    with pytest.raises(StatementError) as caught:
        billed(world, official("6", "3", "1", ids=quoted))
    rows = f"{len(ids)} row{'s' * (len(ids) > 1)}"
    assert str(caught.value) == (
        f"november.csv:2: column task_id: '{ids[0]}': a spreadsheet has rounded the ids ({rows}); export the "
        "statement again with the ids as text"
    )


def test_a_rounded_id_among_intact_ones_is_an_invalid_row(world: World) -> None:
    """The row says why, and its remedy does not book the id."""
    path = world.statement(official("6", "3", "1", ids=(IDS[0], "867284000000000000", "8.67E+17")))
    with world.reconcile(path, provider="kling") as result:
        assert [line.task_id for line in result.lines("not_in_ledger")] == [IDS[0]]
        shown = {line.cause: line.remedy for line in result.lines("invalid_row")}
    why = "a spreadsheet has rounded the ids"
    remedy = "Export the statement again with the ids as text; the row's charge is not counted anywhere."
    assert shown == {
        f"the value in column task_id is '867284000000000000': {why}": remedy,
        f"the value in column task_id is '8.67E+17': {why}": remedy,
    }


def test_an_id_that_the_ledger_has_was_not_rounded(world: World) -> None:
    """A real id may end in zeros; the ledger proves it."""
    task_id = "867284000000000000"
    world.guard.record("kling", task_id, D("0.84"), labels={"project": "trailer"}, at=NOON)
    path = world.statement(official("6", ids=(task_id,)))
    assert world.line(path, provider="kling").category == "matched"


@pytest.mark.parametrize("word", ["Total", "TOTAL:", "Grand total", "Summe", "合计"])
def test_a_total_is_not_a_task(world: World, word: str) -> None:
    """The row of a total is not added, and is a gap only if it is not the sum of the rows."""
    for total, gaps in (("9", 0), ("8", 1)):
        text = official("6", "3") + f"{word},,,{total},\n,,,,\n"
        assert billed(world, text) == {IDS[0]: D(6), IDS[1]: D(3)}
        with world.reconcile(world.folder / "november.csv", provider="kling") as result:
            assert len([gap for gap in result.gaps if gap.startswith("november.csv:4 ")]) == gaps


def test_a_task_may_be_called_like_a_total(world: World) -> None:
    """Only the whole word is a total."""
    assert billed(world, official("6", ids=("total-1",))) == {"total-1": D(6)}


@pytest.mark.parametrize("above", ["Deductions\n", "Deductions,2026-11\n\n", ",,\n\n\n", '"a\nb",c\n'])
def test_a_title_may_stand_above_the_header(world: World, above: str) -> None:
    """The header is the first row with the columns of the mapping; rows keep their numbers."""
    path = world.statement(above + official("6"))
    line = world.line(path, provider="kling")
    first = above.count("\n") + 2
    assert (line.billed, line.rows) == (D("0.84"), (f"november.csv:{first}",))


def test_a_title_may_stand_above_the_header_of_a_workbook(world: World) -> None:
    """The header of a sheet is found as well, and a mapping that is named looks for it too."""
    moment = int(NOON.timestamp() * 1000)
    path = workbook(
        world.folder / "november.xlsx",
        ("Deductions", "2026-11"),
        (),
        tuple(OFFICIAL.split(",")),
        (IDS[0], "kling-v3", moment, 6, "5.04"),
    )
    for mapping in (None, "kling-deductions-units"):
        line = world.line(path, provider="kling", mapping=mapping)
        assert (line.billed, line.rows) == (D("0.84"), ("november.xlsx:4",))


def test_a_time_that_a_spreadsheet_rounded_is_named(world: World) -> None:
    """The row says that its time was rounded, and the remedy is to keep the column as text."""
    text = f"task_id,model_name,deduction_time,deduction_amount\n{IDS[0]},kling-v3,1.79386E+12,6\n"
    assert billed(world, text) == {
        "november.csv:2": (
            "the value in column deduction_time is '1.79386E+12', a time that was rounded by a spreadsheet"
        )
    }


@pytest.mark.parametrize("kind", ["csv", "xlsx", "parquet", "json"])
def test_json_text_in_a_column_is_read(world: World, kind: str) -> None:
    """A path reaches into JSON that a column has as text, in every format."""
    moment = int(NOON.timestamp())
    other = json.dumps({"task_id": IDS[0], "note": 'a "b", c'})
    path = world.folder / f"log.{kind}"
    header, row = ("type", "model_name", "quota", "created_at", "other"), ("2", "kling-v3", 1000, moment, other)
    if kind == "csv":
        with path.open("w", newline="") as file:
            csv.writer(file).writerows([header, row])
    elif kind == "xlsx":
        workbook(path, header, row)
    elif kind == "parquet":
        values = [value if isinstance(value, int) else literal(value) for value in row]
        parquet(path, ", ".join(f"{value} AS {name}" for name, value in zip(header, values, strict=True)))
    else:
        path.write_text(json.dumps([dict(zip(header, row, strict=True))]))
    line = world.line(path, mapping="new-api-log")
    assert (line.task_id, line.billed) == (IDS[0], D("0.002"))


def test_broken_json_text_is_an_invalid_row(world: World) -> None:
    """A path into text that is not JSON reads nothing, and the row says so."""
    moment = int(NOON.timestamp())
    path = world.statement(f"type,model_name,quota,created_at,other\n2,kling-v3,1000,{moment},{{no\n")
    line = world.line(path, mapping="new-api-log")
    assert (line.category, line.cause) == (
        "invalid_row",
        "the row cannot be read: other.task_id is not valid JSON text",
    )


def test_an_id_that_is_a_number_with_an_exponent_was_rounded(world: World) -> None:
    """JSON may have an id as a floating-point number; its digits are not made up."""
    row = f'{{"task_id": 8.672837417591112e+17, "model_name": "kling-v3", "deduction_time": "{1793880000000}", '
    path = world.statement(f'{row}"deduction_amount": 6}}\n', "a.jsonl")
    with pytest.raises(StatementError, match=r"'8\.672837417591112E\+17': a spreadsheet has rounded the ids"):
        world.reconcile(path, provider="kling")
