"""Damaged and hostile statement files: each is read, or refused with a `StatementError`, within bounds."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pytest
import xlsxwriter
from hypothesis import given, settings
from hypothesis import strategies as st

from kling_pricing import StatementError
from tests.conftest import examples
from tests.statement_reading import read

COLUMNS = ["task_id", "model", "status", "created_at", "cost"]
ROWS = [[f"t-{number}", "kling-v3", "completed", 1762344000 + number, 357000] for number in range(4)]
TABLE: list[list[Any]] = [COLUMNS, *ROWS]
SHEET = "xl/worksheets/sheet1.xml"


def refusal(path: Path) -> str:
    """Returns the error with which a file is refused, which names the file."""
    began = time.monotonic()
    with pytest.raises(StatementError) as caught:
        read(path, path.parent)
    assert time.monotonic() - began < 20
    assert str(caught.value).startswith(path.name)
    return str(caught.value)


def as_csv() -> bytes:
    """Returns a statement as CSV."""
    return "".join(",".join(str(cell) for cell in row) + "\n" for row in TABLE).encode()


def as_jsonl() -> bytes:
    """Returns a statement as JSON Lines."""
    return "".join(json.dumps(dict(zip(COLUMNS, row, strict=True))) + "\n" for row in ROWS).encode()


def as_json() -> bytes:
    """Returns a statement as one JSON array."""
    return json.dumps([dict(zip(COLUMNS, row, strict=True)) for row in ROWS]).encode()


def as_xlsx() -> bytes:
    """Returns a statement as a workbook."""
    written = io.BytesIO()
    with xlsxwriter.Workbook(written) as book:
        sheet = book.add_worksheet()
        for number, row in enumerate(TABLE):
            sheet.write_row(number, 0, row)
    return written.getvalue()


def parts(book: bytes) -> dict[str, bytes]:
    """Returns the files in a workbook."""
    with zipfile.ZipFile(io.BytesIO(book)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def packed(files: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED) -> bytes:
    """Returns a workbook with these files in it."""
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", compression) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return written.getvalue()


TOKENS = [
    b"\xff",
    b"\x00",
    b'"',
    b"\n",
    b",",
    b"{",
    b"[",
    b"\\ud800",
    b"1e999999",
    b"NaN",
    b"\xed\xa0\x80",
    b";",
    b"<x>",
]
edits = st.lists(
    st.tuples(
        st.integers(0, 1 << 16), st.one_of(st.sampled_from(TOKENS), st.binary(max_size=6)), st.integers(0, 12)
    ),
    min_size=1,
    max_size=8,
)


def edited(content: bytes, changes: list[tuple[int, bytes, int]]) -> bytes:
    """Returns bytes in which some are replaced, inserted or left out."""
    for place, new, length in changes:
        at = place % (len(content) + 1)
        content = content[:at] + new + content[at + length :]
    return content


@pytest.mark.parametrize(
    ("suffix", "original"), [("csv", as_csv), ("jsonl", as_jsonl), ("json", as_json), ("xlsx", as_xlsx)]
)
def test_a_damaged_file_is_read_or_refused(
    suffix: str, original: Callable[[], bytes], tmp_path_factory: pytest.TempPathFactory
) -> None:
    """No other error than a `StatementError` leaves the readers."""
    folder, whole = tmp_path_factory.mktemp("damaged"), original()
    path = folder / f"november.{suffix}"

    @settings(max_examples=examples(12, long=500))
    @given(edits)
    def damage(changes: list[tuple[int, bytes, int]]) -> None:
        path.write_bytes(edited(whole, changes))
        try:
            read(path, folder)
        except StatementError as error:
            assert error.file == path.name

    damage()


@settings(max_examples=examples(20, long=800))
@given(
    part=st.integers(0, 30),
    changes=edits,
    leaves_out=st.booleans(),
    compression=st.sampled_from([0, 8, 12, 14]),
)
def test_a_workbook_with_damaged_parts_is_read_or_refused(
    part: int,
    changes: list[tuple[int, bytes, int]],
    leaves_out: bool,  # noqa: FBT001
    compression: int,
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    """The archive is whole, but one of the files in it is damaged or missing."""
    files = parts(as_xlsx())
    name = sorted(files)[part % len(files)]
    damaged = {**files, name: edited(files[name], changes)}
    if leaves_out:
        del damaged[name]
    folder = tmp_path_factory.mktemp("damaged")
    path = folder / "november.xlsx"
    path.write_bytes(packed(damaged, compression))
    try:
        read(path, folder)
    except StatementError as error:
        assert error.file == path.name


def test_a_workbook_with_another_compression_is_refused(tmp_path: Path) -> None:
    """A method that Python does not know is named in the archive."""
    content = bytearray(as_xlsx())
    for sign, place in ((b"PK\x03\x04", 8), (b"PK\x01\x02", 10)):
        at = content.find(sign)
        while at >= 0:
            content[at + place : at + place + 2] = (99).to_bytes(2, "little")
            at = content.find(sign, at + 4)
    path = tmp_path / "november.xlsx"
    path.write_bytes(content)
    assert "cannot be read as XLSX" in refusal(path)


def test_a_row_beyond_a_spreadsheet_is_refused(tmp_path: Path) -> None:
    """A small workbook must not stand for millions of empty rows."""
    files = parts(as_xlsx())
    files[SHEET] = files[SHEET].replace(b'<row r="3"', b'<row r="400000000"')
    path = tmp_path / "november.xlsx"
    path.write_bytes(packed(files))
    assert "more than 1048576 rows" in refusal(path)


def test_a_column_beyond_a_spreadsheet_is_refused(tmp_path: Path) -> None:
    """A cell far to the right would make each row thousands of cells long."""
    files = parts(as_xlsx())
    files[SHEET] = files[SHEET].replace(b'r="E2"', b'r="ZZZ2"')
    path = tmp_path / "november.xlsx"
    path.write_bytes(packed(files))
    assert "more than 16384 columns" in refusal(path)


@pytest.mark.parametrize("name", [SHEET, "xl/sharedStrings.xml", "xl/styles.xml", "extra.bin"])
def test_a_zip_bomb_is_refused_unread(name: str, tmp_path: Path) -> None:
    """A megabyte that expands to a gigabyte is no statement."""
    path = tmp_path / "november.xlsx"
    written = io.BytesIO()
    with zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as archive:
        for part, content in parts(as_xlsx()).items():
            if part != name:
                archive.writestr(part, content)
        with archive.open(name, "w") as file:
            for _ in range(200):
                file.write(b" " * (1 << 20))
    path.write_bytes(written.getvalue())
    assert "which is too much for a statement" in refusal(path)


def limited(work: str, megabytes: int) -> subprocess.CompletedProcess[str]:
    """Runs Python code in a process with a limit on its memory."""
    limit = f"import resource; resource.setrlimit(resource.RLIMIT_AS, ({megabytes << 20}, {megabytes << 20}))\n"
    return subprocess.run(
        [sys.executable, "-c", limit + work], capture_output=True, text=True, check=False, timeout=600
    )


READ = """
import sys
from pathlib import Path
from kling_pricing import StatementError
from tests.statement_reading import read
path = Path({path!r})
try:
    read(path, path.parent)
except StatementError as error:
    print("refused", str(error)[:300])
"""


@pytest.mark.parametrize("kind", ["columns", "line", "field", "quotes", "title"])
def test_wide_and_long_csv_does_not_take_the_memory(kind: str, tmp_path: Path) -> None:
    """A million columns, a line or a field without end, and records that span the file are refused."""
    text = {
        "columns": lambda: (
            ",".join(f"c{number}" for number in range(1_000_000)) + "\n" + "1," * 999_999 + "1\n"
        ),
        "line": lambda: as_csv().decode() + "x" * (20 << 20) + "\n",
        "field": lambda: as_csv().decode() + '"' + "x\n" * (40 << 20),
        "quotes": lambda: as_csv().decode() + '"a","b\n' * (12 << 20),
        "title": lambda: "x" * (20 << 20) + "\n" + as_csv().decode(),
    }[kind]()
    path = tmp_path / "november.csv"
    path.write_text(text)
    del text
    done = limited(READ.format(path=str(path)), 2200)
    assert done.stdout.startswith("refused november.csv"), done.stderr[-2000:]


@pytest.mark.parametrize("text", ["\\ud800", "\\udfff\\ud800", "a\\ud83d"])
@pytest.mark.parametrize("suffix", ["jsonl", "json"])
def test_half_a_character_is_no_crash(text: str, suffix: str, tmp_path: Path) -> None:
    """JSON can write a lone surrogate, in a value, a name, or the text of nested JSON."""
    first, *_ = (dict(zip(COLUMNS, row, strict=True)) for row in ROWS)
    rows: list[dict[str, Any]] = [
        {**first, "task_id": "MARK"},
        {**first, "model": "MARK"},
        {**first, "MARK": 1},
        {**first, "cost": {"MARK": 1}},
        {**first, "status": '{"a": "MARK"}'},
    ]
    path = tmp_path / f"november.{suffix}"
    lines = [json.dumps(row).replace("MARK", text) for row in rows]
    path.write_text("\n".join(lines) if suffix == "jsonl" else f"[{','.join(lines)}]")
    (statement,) = read(path, tmp_path)
    assert statement.name == path.name


@pytest.mark.parametrize("suffix", ["jsonl", "json"])
@pytest.mark.parametrize("depth", [500, 900, 990, 5_000, 200_000])
def test_deeply_nested_json_is_read_or_refused(suffix: str, depth: int, tmp_path: Path) -> None:
    """Objects in objects do not exhaust the stack."""
    nested = '{"a":' * depth + "1" + "}" * depth
    path = tmp_path / f"november.{suffix}"
    path.write_text(f'{{"task_id": "t", "x": {nested}}}\n')
    assert refusal(path)


def test_json_with_too_many_columns_is_refused(tmp_path: Path) -> None:
    """Each object may have columns of its own."""
    path = tmp_path / "november.jsonl"
    path.write_text("".join(f'{{"c{number}": 1}}\n' for number in range(20_000)))
    assert "more than 16384 columns" in refusal(path)


def test_a_json_line_without_end_is_refused(tmp_path: Path) -> None:
    """A line is read as a whole, so its length is bounded."""
    path = tmp_path / "november.jsonl"
    path.write_text('{"task_id": "' + "x" * (17 << 20) + '"}\n')
    assert "line that is too long" in refusal(path)


def test_an_error_lists_few_of_many_columns(tmp_path: Path) -> None:
    """Thousands of names would hide the remedy."""
    path = tmp_path / "november.csv"
    path.write_text(",".join(f"c{number}" for number in range(9_000)) + "\n")
    assert "and 8960 more" in refusal(path)


def test_damaged_parquet_is_refused(tmp_path: Path) -> None:
    """The database's own error becomes one about the file."""
    whole = tmp_path / "whole"
    duckdb.sql(
        "COPY (SELECT 't-1' AS task_id, 'kling-v3' AS model, 'completed' AS status, 1762344000 AS created_at, "
        f"357000 AS cost) TO '{whole}' (FORMAT parquet)"
    )
    content = whole.read_bytes()
    path = tmp_path / "november.parquet"
    for cut in range(8, len(content), 16):
        path.write_bytes(content[:cut] + content[cut + 8 :])
        try:
            read(path, tmp_path)
        except StatementError as error:
            assert error.file == path.name
