"""Statements as people export them: each is read in its only meaning, or refused with a reason."""

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import xlsxwriter

from kling_pricing import PriceBook, StatementError, TableError
from kling_pricing.reconcile import Line
from tests.conftest import Clock
from tests.test_reconcile import NOON, World
from tests.test_reconcile_unreadable import FILES

D = Decimal
MAPPING = """\
statement: ours
about: our own export
sources:
  - {ref: our own gateway, checked: 2026-11-01, authority: official}
columns:
  task_id: {column: task}
  amount: {column: amount, unit_column: currency, decimals: 3}
  billed_at: {column: day, optional: true}
  duration_s: {column: length, optional: true}
"""


@pytest.fixture
def world(tmp_path: Path, book: PriceBook) -> World:
    """A world with a ledger in SQLite."""
    return World(f"sqlite:///{tmp_path}/spend.db", book, Clock(NOON), tmp_path)


def mapping(world: World, text: str = MAPPING) -> Path:
    """Writes a mapping."""
    path = world.folder / "ours.yaml"
    path.write_text(text)
    return path


def row(amount: Any, **more: Any) -> dict[str, Any]:
    """A row of a statement."""
    return {"task": "t-1", "amount": amount, "currency": "USD", "day": "2026-11-05"} | more


def each(world: World, kind: str, rows: list[dict[str, Any]]) -> list[Line]:
    """Reconciles statements of one row each, so that no row shows how to read another; returns their lines."""
    paths = [
        FILES[kind](world.folder / f"{number}.{kind}", [one | {"task": f"t-{number:02}"}])
        for number, one in enumerate(rows)
    ]
    with world.reconcile(*paths, mapping=mapping(world)) as result:
        lines = {line.rows: line for line in result.lines()}
    assert len(lines) == len(rows)
    return [lines[f"{path.name}:{2 if kind in {'csv', 'xlsx'} else 1}",] for path in paths]


WIDE = {ord(digit): 0xFF10 + int(digit) for digit in "0123456789"} | {ord("."): 0xFF0E, ord("-"): 0xFF0D}


AMOUNTS = (
    ("1.25", "1.25"),
    (" 1.25 ", "1.25"),
    ("+1.25", "1.25"),
    ("$1.25", "1.25"),
    ("-$1.25", "-1.25"),
    ("$-1.25", "-1.25"),
    ("($1.25)", "-1.25"),
    ("1.25-", "-1.25"),
    ("\u22121.25", "-1.25"),
    ("US$ 1.25", "1.25"),
    ("1.25 USD", "1.25"),
    ("usd1.25", "1.25"),
    ("'1.25", "1.25"),
    ("1,251.25", "1251.25"),
    ("1,251,000", "1251000"),
    ("1 251.25", "1251.25"),
    ("1\u00a0251", "1251"),
    ("1'251.25", "1251.25"),
    ("1.25".translate(WIDE), "1.25"),
    ("-1.25".translate(WIDE), "-1.25"),
)
"""The text of an amount -> the amount."""


@pytest.mark.parametrize("kind", FILES)
def test_an_amount_with_one_meaning_is_read(world: World, kind: str) -> None:
    """Signs, currency signs, grouped thousands and full-width digits are read in every format."""
    lines = each(world, kind, [row(written) for written, _ in AMOUNTS])
    read = [(written, line.category, line.billed) for (written, _), line in zip(AMOUNTS, lines, strict=True)]
    assert read == [(written, "not_in_ledger", D(amount)) for written, amount in AMOUNTS]


NOT_AMOUNTS = (
    ("1,251", "is not an amount in plain digits"),
    ("12,51.5", "is not an amount in plain digits"),
    ("1,2,3", "is not an amount in plain digits"),
    ("12 34", "is not an amount in plain digits"),
    ("--1.25", "is not an amount in plain digits"),
    ("(-1.25)", "is not an amount in plain digits"),
    ("(1.25", "is not an amount in plain digits"),
    ("$1.25 USD", "is not an amount in plain digits"),
    ("1.25 or 2", "is not an amount in plain digits"),
    ("1e3", "is not an amount in plain digits"),
    ("\u00a51.25", "names a different unit from the row's: text of 5 characters"),
    ("1.25 EUR", "names a different unit from the row's: '1.25 EUR'"),
    ("1.25 credits", "names a different unit from the row's"),
    ("$1.2501", "has more digits than its unit allows"),
)
"""A text that is not an amount -> the problem with it."""


def test_an_amount_with_several_meanings_is_refused(world: World) -> None:
    """An amount is never guessed, and never read in another unit than that of its row."""
    lines = each(world, "csv", [row(written) for written, _ in NOT_AMOUNTS])
    assert {line.category for line in lines} == {"invalid_row"}
    causes = [
        (written, problem, line.cause) for (written, problem), line in zip(NOT_AMOUNTS, lines, strict=True)
    ]
    assert [cause for cause in causes if cause[1] not in cause[2]] == []


@pytest.mark.parametrize(
    ("key", "delimiter", "written", "amount"),
    [
        ('thousands: ","', ",", '"1,251"', "1251"),
        ('decimal: ","\nthousands: "."', ";", "1.251", "1251"),
        ('decimal: ","\nthousands: "."', ";", "1.251,5", "1251.5"),
        ("", ";", "1.251\nt-2;2.000.000;USD;2026-11-05", "1251"),
        ("", "\t", "1,251\nt-2\t2,000.5\tUSD\t2026-11-05", "1251"),
    ],
)
def test_thousands_are_shown_by_the_mapping_or_the_file(
    world: World, key: str, delimiter: str, written: str, amount: str
) -> None:
    """A mapping gives the separator of thousands, or another number of the file shows it."""
    first, _, second = written.partition("\n")
    rows = [f"t-1,{first},USD,2026-11-05"] if delimiter == "," else [f"t-1;{first};USD;2026-11-05"]
    text = "\n".join(["task;amount;currency;day", *rows, second, ""])
    if delimiter == ",":
        text = text.replace(";", ",")
    path = world.statement(text.replace(";", delimiter), "a.csv")
    with world.reconcile(
        path, mapping=mapping(world, MAPPING.replace("columns:", f"{key}\ncolumns:"))
    ) as result:
        billed = {line.task_id: line.billed for line in result.lines()}
    assert billed["t-1"] == D(amount)


def test_one_separator_cannot_be_both(world: World) -> None:
    """A mapping whose decimal separator divides thousands too is refused."""
    path = FILES["csv"](world.folder / "a.csv", [row("1")])
    with pytest.raises(TableError, match="`thousands` is the same as the decimal separator"):
        world.line(path, mapping=mapping(world, MAPPING.replace("columns:", 'thousands: "."\ncolumns:')))


CURRENCIES = (
    ("RMB", "CNY"),
    ("rmb", "CNY"),
    ("\u5143", "CNY"),
    ("\u4eba\u6c11\u5e01", "CNY"),
    (" usd ", "USD"),
    ("US$", "USD"),
)
"""A name of a currency -> its code."""


@pytest.mark.parametrize("kind", FILES)
def test_a_currency_has_several_names(world: World, kind: str) -> None:
    """A name that only one currency has is read as that currency."""
    lines = each(world, kind, [row("1.25", currency=name) for name, _ in CURRENCIES])
    read = [(name, line.currency, line.billed) for (name, _), line in zip(CURRENCIES, lines, strict=True)]
    assert read == [(name, currency, D("1.25")) for name, currency in CURRENCIES]


def test_a_sign_of_several_currencies_is_no_unit(world: World) -> None:
    """A sign that several currencies share needs an entry in the mapping."""
    path = FILES["csv"](world.folder / "a.csv", [row("1.25", currency="\u00a5")])
    line = world.line(path, mapping=mapping(world))
    assert (line.category, "is neither a currency nor a known unit" in line.cause) == ("invalid_row", True)
    units = 'decimals: 3, units: {"\u00a5": {unit: CNY, decimals: 1}}}'
    line = world.line(path, mapping=mapping(world, MAPPING.replace("decimals: 3}", units)))
    assert "has more digits than its unit allows" in line.cause
    path = FILES["csv"](world.folder / "a.csv", [row("\u00a51.5", currency="\u00a5")])
    line = world.line(path, mapping=mapping(world, MAPPING.replace("decimals: 3}", units)))
    assert (line.currency, line.billed) == ("CNY", D("1.5"))


@pytest.mark.parametrize(
    ("written", "unit", "seconds"),
    [
        ("5", "s", "5"),
        ("5.04", "s", "5.04"),
        ("5 s", "s", "5"),
        ("5.04sec", "s", "5.04"),
        ("5 \u79d2", "s", "5"),
        ("5040 ms", "s", "5.04"),
        ("5040", "ms", "5.04"),
        ("1.5 min", "s", "90"),
        ("0.5", "min", "30"),
        ("5s", "ms", "5"),
        ("00:01:05", "s", "65"),
        ("5 days", "s", None),
        ("00:05", "s", None),
        ("five", "s", None),
    ],
)
def test_lengths_have_units(world: World, written: str, unit: str, seconds: str | None) -> None:
    """A length names its own unit, or has that of the mapping; the length explains the charge."""
    text = MAPPING.replace("{column: length,", f"{{column: length, unit: {unit},")
    path = FILES["csv"](world.folder / "a.csv", [row("1.25", length=written)])
    with world.reconcile(path, mapping=mapping(world, text)) as result:
        (line,) = result.lines()
        assert (line.category == "invalid_row") == (seconds is None)
        if seconds is None:
            assert "is not a number of seconds" in line.cause
        stored = result._workspace.one("SELECT CAST(duration_s AS VARCHAR) FROM charge")  # noqa: SLF001
    assert (stored and D(stored)) == (seconds and D(seconds))


@pytest.mark.parametrize("kind", ["csv", "xlsx", "parquet"])
def test_padded_headers_are_read(world: World, kind: str) -> None:
    """Spaces around the names of columns do no harm."""
    padded = {f" {name}\u00a0": str(value) for name, value in row("1.25").items()}
    path = FILES[kind](world.folder / f"a.{kind}", [padded])
    assert world.line(path, mapping=mapping(world)).billed == D("1.25")


def sheets(path: Path, **tables: list[dict[str, Any]]) -> Path:
    """Writes a workbook with several sheets."""
    with xlsxwriter.Workbook(path) as book:
        for name, rows in tables.items():
            sheet = book.add_worksheet(name)
            for place, cells in enumerate([list(rows[0]) if rows else [], *(list(r.values()) for r in rows)]):
                sheet.write_row(place, 0, cells)
    return path


def test_a_sheet_is_chosen_by_its_columns(world: World) -> None:
    """The only sheet with the columns is read, wherever it stands; several such sheets are not guessed."""
    summary = [{"month": "2026-11", "sum": 5}]
    path = sheets(world.folder / "a.xlsx", Empty=[], Summary=summary, Detail=[row("1.25")])
    assert world.line(path, mapping=mapping(world)).billed == D("1.25")
    path = sheets(world.folder / "a.xlsx", Nov=[row("1.25")], Dec=[row("2.5")])
    with pytest.raises(StatementError, match=r"in several sheets \(Nov, Dec\); name one of them under `sheet`"):
        world.line(path, mapping=mapping(world))
    named = mapping(world, MAPPING.replace("columns:", "sheet: Dec\ncolumns:"))
    assert world.line(path, mapping=named).billed == D("2.5")
    with pytest.raises(StatementError, match="is empty; the first row must contain the column names"):
        world.line(sheets(world.folder / "a.xlsx", One=[], Two=[]), mapping=mapping(world))


def test_the_list_of_rows_is_found_in_json(world: World) -> None:
    """The only list with the columns is read, however deep it stands; several such lists are not guessed."""
    path = world.folder / "a.json"
    path.write_text(json.dumps({"code": 0, "result": {"packs": [{"id": 1}], "page": {"bills": [row("1.25")]}}}))
    assert world.line(path, mapping=mapping(world)).billed == D("1.25")
    pages = [json.dumps({"result": {"bills": [row("1.25", task=f"t-{page}")]}}) for page in (1, 2)]
    lines = world.folder / "a.jsonl"
    lines.write_text("\n".join(pages))
    with world.reconcile(lines, mapping=mapping(world)) as result:
        assert [line.task_id for line in result.lines()] == ["t-1", "t-2"]
    path.write_text(json.dumps({"a": [row("1.25")], "b": [row("2.5")]}))
    with pytest.raises(StatementError, match=r"in several lists \(a, b\); name one of them under `rows`"):
        world.line(path, mapping=mapping(world))


@pytest.mark.parametrize("encoding", ["gb18030", "utf-32", "utf-16"])
def test_a_byte_order_mark_gives_the_encoding(world: World, encoding: str) -> None:
    """A file that begins with a byte order mark is read without an option."""
    path = world.folder / "a.csv"
    mark = "\ufeff" if encoding == "gb18030" else ""
    path.write_bytes(f"{mark}task,amount,currency,day\nt-1,1.25,\u5143,2026-11-05\n".encode(encoding))
    line = world.line(path, mapping=mapping(world))
    assert (line.currency, line.billed) == ("CNY", D("1.25"))


def test_padded_texts_are_read(world: World) -> None:
    """Spaces around units, times, signs and the texts of `where` do no harm."""
    text = MAPPING.replace("columns:", "where: {kind: [charge, refund]}\ncolumns:").replace(
        "decimals: 3}", "decimals: 3, sign: {column: kind, negative: [refund]}}"
    )
    rows = [row("1.25", day=" 2026-11-05 ", kind=" Refund "), row("2", kind="note ", task="t-2")]
    with world.reconcile(FILES["csv"](world.folder / "a.csv", rows), mapping=mapping(world, text)) as result:
        (line,) = result.lines()
        assert (line.billed, result.rows.ignored) == (D("-1.25"), 1)
