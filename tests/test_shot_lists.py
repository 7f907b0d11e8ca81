"""Shot lists: tables of requests are read like JSON payloads, and their results are exact."""

import csv
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from datetime import date
from decimal import Decimal
from pathlib import Path
from textwrap import wrap
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile

import duckdb
import openpyxl
import pytest
import xlsxwriter
from hypothesis import given, settings
from hypothesis import strategies as st

from kling_pricing import KlingPricingError, PriceBook
from kling_pricing.display import escape_formulas
from kling_pricing.money import sum_of
from kling_pricing.quoting.engine import quote_payload
from kling_pricing.quoting.intake import Intake
from kling_pricing.shot_lists.list_paths import expanded
from kling_pricing.shot_lists.shots import ListReading, Shot, opened_list
from kling_pricing.wire.formats import NAMES as WIRE_FORMATS
from kling_pricing.wire.formats import wire_format
from tests.commands import INTERRUPTIBLE, Done, run
from tests.conftest import AT, bundled_book, examples
from tests.result_files import results_in

EXAMPLES = Path(__file__).parent.parent / "examples"
AT_OPTION = ["--at", "2026-11-21"]
HEADER = ["model", "duration", "resolution", "audio", "prompt"]
BOAT = ["kling-v3", "5", "1080p", "true", "a boat"]
BOAT_USD = Decimal("0.714")


def write_csv(path: Path, rows: Sequence[Sequence[str]], **form: Any) -> Path:
    """Writes rows as CSV."""
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, **form).writerows(rows)
    return path


def read_csv(path: Path) -> list[dict[str, str]]:
    """Returns the rows of a CSV file, by their columns."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def shots_of(
    path: Path, book: PriceBook, intake: Mapping[str, Any] | None = None, **reading: Any
) -> list[Shot]:
    """Returns the contents of the rows of a list."""
    whole = ListReading(Intake(at=AT, book=book, **(intake or {})), **reading)
    with opened_list(str(path), whole) as shot_list:
        return [row.shot for row in shot_list.rows]


def quoted(*arguments: str | Path) -> Done:
    """Quotes with the prices of the test's instant."""
    return run("quote", *arguments, *AT_OPTION)


# reading


@pytest.mark.parametrize(
    ("columns", "cells", "payload"),
    [
        ("DURATION,Aspect Ratio", ["5", "16:9"], {"duration": 5, "aspect_ratio": "16:9"}),
        ("Duration (s),aspect-ratio", [" 5.0 ", ""], {"duration": 5}),
        ("duration_s,audio", ["", "TRUE"], {"audio": True}),
        ("audio,prompt", ["no", " two  spaces "], {"audio": False, "prompt": " two  spaces "}),
        ("image_urls", ["a.png; b.png ;"], {"image_urls": ["a.png", "b.png"]}),
        ("image_urls", ['["a;b.png"]'], {"image_urls": ["a;b.png"]}),
        ("extra.mode,extra.cfg_scale", ["pro", "0.1"], {"extra": {"mode": "pro", "cfg_scale": 0.1}}),
        ("extra", ['{"mode": "pro"}'], {"extra": {"mode": "pro"}}),
        ("duration", ["five"], {"duration": "five"}),
        ("duration", ["5.5"], {"duration": 5.5}),
    ],
)
def test_a_row_is_a_payload(
    columns: str, cells: list[str], payload: dict[str, Any], book: PriceBook, tmp_path: Path
) -> None:
    """Names of columns are compared loosely; cells become the values that the API takes."""
    rows = [["Model", *columns.split(",")], [" kling-v3 ", *cells]]
    (shot,) = shots_of(write_csv(tmp_path / "a.csv", rows), book)
    assert shot.payload == {"model": "kling-v3", **payload}


@pytest.mark.parametrize(
    ("column", "texts", "value"),
    [
        (
            "duration",
            ["10s", "10 s", "10 sec", "10 sec.", "10 Seconds", "10 Sek.", "10,0", "\uff11\uff10", "10 秒"],
            10,
        ),
        ("audio", ["ja", "YES", "y", "True", "1", "x", "X", "on", "WAHR", "vrai", "✓", "是"], True),
        ("audio", ["nein", "No", "n", "FALSE", "0", "off", "FALSCH", "否"], False),
        ("resolution", ["1080P", "1080 p", "1080"], "1080p"),
        ("resolution", ["4K", "4 k"], "4k"),
        ("aspect_ratio", ["16:9", "16 : 9", "16/9", "16x9", "16:09:00"], "16:9"),
        ("image_urls", ["a.png; b.png", "a.png\nb.png"], ["a.png", "b.png"]),
        ("image_urls", ["https://a/1.png, https://b/2.png"], ["https://a/1.png", "https://b/2.png"]),
        ("image_urls", ["a,b.png"], ["a,b.png"]),
    ],
)
def test_a_value_is_read_as_people_write_it(
    column: str, texts: list[str], value: Any, book: PriceBook, tmp_path: Path
) -> None:
    """Units, switches in several languages, and what spreadsheets make of a ratio have one meaning each."""
    rows = [["model", column], *(["kling-v3", text] for text in texts)]
    shots = shots_of(write_csv(tmp_path / "a.csv", rows), book)
    assert [shot.payload[column] for shot in shots] == [value] * len(texts)


@pytest.mark.parametrize(
    ("column", "texts", "value"),
    [
        ("duration", ["10 s", "10"], "10"),
        ("sound", ["yes", "On", "TRUE", "1"], "on"),
        ("sound", ["nein", "OFF"], "off"),
        ("mode", ["Pro", " PRO "], "pro"),
        ("multi_shot", ["ja", "TRUE"], True),
        ("cfg_scale", ["0,5", "0,500", "0.5"], 0.5),
    ],
)
def test_the_spellings_of_people_become_the_words_of_an_api(
    column: str, texts: list[str], value: Any, book: PriceBook, tmp_path: Path
) -> None:
    """An API that takes words or text for numbers gets its own words."""
    rows = [["model_name", column], *(["kling-v3", text] for text in texts)]
    shots = shots_of(write_csv(tmp_path / "a.csv", rows), book)
    assert [shot.payload[column] for shot in shots] == [value] * len(texts)


@pytest.mark.parametrize(
    ("column", "text"),
    [
        *[("duration", text) for text in ("10 min", "0:10", "1,000", "ten", "10ss", "٣")],
        *[("audio", text) for text in ("maybe", "-", "10", "yes!")],
        *[("resolution", text) for text in ("HD", "1920x1080", "p")],
        *[("aspect_ratio", text) for text in ("1.78", "wide", "16:9:30")],
    ],
)
def test_a_value_without_a_certain_meaning_stays_and_is_refused(column: str, text: str, tmp_path: Path) -> None:
    """The refusal names the row, the field and the text; nothing is guessed."""
    path = write_csv(tmp_path / "a.csv", [["model", "prompt", column], ["kling-v3", "x", text]])
    done = run("quote", path, *AT_OPTION)
    assert done.returncode == 1
    assert f"{path}:2: refused\n  {column} must be " in done.stdout
    assert ascii(text) in done.stdout or f"not {text.lower()} [" in done.stdout


def test_entries_between_commas_are_refused(tmp_path: Path) -> None:
    """Two files would count as one, so the price would be wrong."""
    rows = [["model", "prompt", "image_urls"], ["kling-v3-omni", "x", "a.png, b.png"]]
    path = write_csv(tmp_path / "a.csv", rows)
    done = quoted(path)
    assert f"{path}:2: image_urls: write semicolons between the entries of a list" in done.stderr
    assert done.returncode == 2


def test_names_are_compared_loosely(book: PriceBook, tmp_path: Path) -> None:
    """Models, providers and wire formats may differ in case and spaces; in a payload, they may not."""
    rows = [
        ["model", "provider", "wire_format"],
        *[[name, "", ""] for name in ("Kling V3", "kling_v3", "KLING-V3", "kling-v3 ")],
        ["kling-v3", "QingBo", "Tasks V2"],
    ]
    shots = shots_of(write_csv(tmp_path / "a.csv", rows), book)
    assert {shot.payload["model"] for shot in shots} == {"kling-v3"}
    assert shots[-1].options == {"provider": "qingbo", "wire_format": "tasks_v2"}
    (unknown,) = shots_of(write_csv(tmp_path / "b.csv", [["model"], ["Kling v 33"]]), book)
    assert unknown.payload["model"] == "Kling v 33"
    amended = ListReading(Intake(at=AT, book=book), {"duration": "5 s"}).changed({"model": "Kling V3"})
    assert amended == {"model": "Kling V3", "duration": 5}


def test_a_cell_is_read_as_the_rows_own_api_takes_it(book: PriceBook, tmp_path: Path) -> None:
    """The same cells are numbers or text, as the wire format of each row says; a row may name it."""
    rows = [
        ["model_name", "model", "duration", "wire_format", "provider", "project", "label.user"],
        ["kling-v3", "", "5", "", "", "trailer", "li"],
        ["", "kling-v3", "5", "tasks", "qingbo", "", ""],
        ["", "kling-v3", "5", "morse", "", "", ""],
    ]
    official, tasks, unknown = shots_of(write_csv(tmp_path / "a.csv", rows), book)
    assert (official.payload["duration"], tasks.payload["duration"]) == ("5", 5)
    assert (official.about, official.labels) == ({"project": "trailer", "label.user": "li"}, {"user": "li"})
    assert tasks.options == {"wire_format": "tasks", "provider": "qingbo"}
    assert "unknown wire format 'morse'" in str(unknown.error)


def written_as(path: Path, rows: Sequence[Sequence[Any]]) -> Path:
    """Writes rows with typed cells in the format of the file's name."""
    suffix = path.suffix
    if suffix == ".xlsx":
        options = {"strings_to_formulas": False, "default_date_format": "yyyy-mm-dd"}
        with xlsxwriter.Workbook(str(path), options) as book:
            sheet = book.add_worksheet()
            for number, row in enumerate(rows):
                sheet.write_row(number, 0, row)
    elif suffix == ".parquet":
        names, *cells = rows
        values = ", ".join(f"({', '.join(map(literal, row))})" for row in cells)
        duckdb.sql(f"COPY (SELECT * FROM (VALUES {values}) AS t({', '.join(names)})) TO '{path}'")
    else:
        texts = [["" if cell is None else str(cell) for cell in row] for row in rows]
        write_csv(path, texts, delimiter="\t" if suffix == ".tsv" else ",")
    return path


def literal(cell: Any) -> str:
    """Returns a cell in SQL."""
    if cell is None:
        return "NULL"
    return f"'{cell}'" if isinstance(cell, str) else f"{cell}::DOUBLE" if isinstance(cell, float) else str(cell)


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".xlsx", ".parquet"])
def test_every_form_of_a_list_has_the_same_payloads(suffix: str, book: PriceBook, tmp_path: Path) -> None:
    """A whole number stays whole in a spreadsheet; 0.1 is one tenth; an empty cell says nothing."""
    rows: list[list[Any]] = [
        ["model_name", "duration", "sound", "cfg_scale", "multi_shot", "prompt"],
        ["kling-v3", 5.0, "on", 0.1, None, "a boat"],
        ["kling-v3", 10, None, 0.5, False, "=1+1 is text"],
    ]
    path = written_as(tmp_path / f"a{suffix}", rows)
    first, second = shots_of(path, book)
    assert first.payload == {
        "model_name": "kling-v3",
        "duration": "5",
        "sound": "on",
        "cfg_scale": 0.1,
        "prompt": "a boat",
    }
    assert (second.payload["duration"], second.payload["multi_shot"]) == ("10", False)


def test_a_list_from_a_european_spreadsheet_is_read(book: PriceBook, tmp_path: Path) -> None:
    """Cells can be separated by semicolons, numbers have a decimal comma, and files a byte order mark."""
    path = tmp_path / "a.csv"
    path.write_bytes("\ufeffmodel_name;cfg_scale;prompt\r\nkling-v3;0,5;eins, zwei\r\n".encode())
    (shot,) = shots_of(path, book)
    assert shot.payload == {"model_name": "kling-v3", "cfg_scale": 0.5, "prompt": "eins, zwei"}
    path.write_bytes("model_name,prompt\nkling-v3,雨\n".encode("gb18030"))
    with pytest.raises(KlingPricingError, match=r"a\.csv:2: is not utf-8 text; save it as UTF-8, or give"):
        shots_of(path, book)
    (shot,) = shots_of(path, book, encoding="gb18030")
    assert shot.payload["prompt"] == "雨"
    path.write_bytes("model_name\tprompt\nkling-v3\t雨\n".encode("utf-16"))
    (shot,) = shots_of(path, book)
    assert shot.payload["prompt"] == "雨"


def test_a_cell_of_a_date_and_a_number_too_long_are_seen(book: PriceBook, tmp_path: Path) -> None:
    """A date becomes ISO 8601 text; a number that may have lost digits is refused with its row."""
    path = written_as(tmp_path / "a.xlsx", [["model", "prompt"], ["kling-v3", date(2026, 11, 21)]])
    (shot,) = shots_of(path, book)
    assert shot.payload["prompt"].startswith("2026-11-21")
    path = written_as(tmp_path / "b.xlsx", [["model", "prompt"], ["kling-v3", 12345678901234567]])
    with pytest.raises(KlingPricingError, match=r"b\.xlsx:2: the number .* may have lost digits"):
        shots_of(path, book)


@pytest.mark.parametrize(
    ("header", "problem"),
    [
        (
            ["model", "Scene"],
            "this column is not a field of any API: 'Scene'; name its field with --map Scene=FIELD",
        ),
        (
            ["model", "resolutoin"],
            r"'resolutoin' \(did you mean resolution\?\); name its field with --map resolu",
        ),
        (
            ["model", "Shot", "Length", "x"],
            r"'Length' \(did you mean duration\?\), 'x'; name the field of each with --map Shot=key --map",
        ),
        (
            ["model", "Shot no", "x"],
            r'the field of each with --map "Shot no=FIELD", or ignore them with --map "Shot no=" --map x=$',
        ),
        (["Spring campaign", "v2"], "if the names of the columns are in a later row, remove the rows above it"),
        (["model", "", "prompt"], "give every column a name"),
        (["model", "Duration", "duration"], "duration: gives the same field as Duration; remove one"),
        (["model", "extra", "extra.mode"], "extra.mode: gives the same field as extra"),
        (["project", "key"], "has no column with a field of a request, such as model"),
        ([], "is empty; the first row must contain the column names"),
    ],
)
def test_a_header_that_is_not_understood_is_refused(
    header: list[str], problem: str, book: PriceBook, tmp_path: Path
) -> None:
    """Unlike a provider, the library never ignores a misspelled column."""
    with pytest.raises(KlingPricingError, match=problem):
        shots_of(write_csv(tmp_path / "a.csv", [header, ["x"] * len(header)]), book)


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"model,prompt\n", "has no rows below its header; add a row for each request"),
        (b"model,prompt\r\n,\r\n\r\n", "has no rows below its header; add a row for each request"),
        (b"", "is empty; the first row must contain the column names"),
        (b"\xef\xbb\xbf", "is empty; the first row must contain the column names"),
        (b"\xff\xfe", "is empty; the first row must contain the column names"),
        (b"\n \n", "is empty; the first row must contain the column names"),
        (b"Scene,Who\n", "these columns are not fields of any API: 'Scene', 'Who'"),
    ],
)
@pytest.mark.parametrize("command", [["quote"], ["check"], ["quote", "--json"], ["fit", "--money", "5"]])
def test_a_list_without_requests_is_an_error(
    command: list[str], content: bytes, problem: str, tmp_path: Path
) -> None:
    """A template or an empty export is not mistaken for a list that costs nothing."""
    path, out = tmp_path / "a.csv", tmp_path / "o.csv"
    path.write_bytes(content)
    done = run(*command, path)
    assert (done.returncode, problem in done.stdout + done.stderr) == (2, True)
    done = run(*command, path, "--out", out)
    assert (done.returncode, problem in done.stdout + done.stderr, out.exists()) == (2, True, False)


@pytest.mark.parametrize("suffix", [".xlsx", ".parquet"])
def test_a_workbook_without_requests_is_an_error(suffix: str, tmp_path: Path) -> None:
    """The same holds for the other forms of lists."""
    path = tmp_path / f"a{suffix}"
    if suffix == ".xlsx":
        written_as(path, [["model", "prompt"]])
    else:
        duckdb.sql(f"COPY (SELECT 'kling-v3' AS model, 'x' AS prompt LIMIT 0) TO '{path}'")
    done = quoted(path)
    assert (done.returncode, f"{path}: has no rows below its header" in done.stderr) == (2, True)


def test_columns_are_mapped_ignored_and_set(book: PriceBook, tmp_path: Path) -> None:
    """A column can be another field, or be ignored; a value that is set counts in every row."""
    path = write_csv(
        tmp_path / "a.csv", [["model", "Seconds", "Scene", "resolution"], ["kling-v3", "5", "1", "4k"]]
    )
    maps = {"seconds": "duration", "Scene": ""}
    (shot,) = shots_of(
        path, book, maps=maps, values={"resolution": "1080p", "audio": "TRUE", "project": "trailer"}
    )
    assert shot.payload == {"model": "kling-v3", "duration": 5, "resolution": "1080p", "audio": True}
    assert shot.about == {"project": "trailer"}
    (shot,) = shots_of(path, book, maps=maps, values={"duration": ""})
    assert shot.payload == {"model": "kling-v3", "resolution": "4k"}
    with pytest.raises(KlingPricingError, match="has no column 'Secs'; did you mean 'Seconds'"):
        shots_of(path, book, maps={"Secs": "duration"})
    (shot,) = shots_of(path, book, intake={"allow_unknown": True}, maps={"Seconds": "duration"})
    assert shot.payload == {"model": "kling-v3", "duration": 5, "resolution": "4k"}


def test_a_row_that_cannot_be_read_names_its_line(tmp_path: Path) -> None:
    """A row that is too short or has broken JSON is reported with its line; the others are quoted."""
    path = tmp_path / "a.csv"
    path.write_text(
        'model,prompt,image_urls\nkling-v3,"two\nlines",\n\nkling-v3,x\nkling-v3,x,[1\nkling-v3,x,\n'
    )
    done = quoted(path)
    assert f"{path}:5: this row has 2 cells, but the header has 3" in done.stderr
    assert f"{path}:6: image_urls: not JSON" in done.stderr
    assert (done.stdout.splitlines()[-2:], done.returncode) == (["2 done, 2 unreadable", "total 0.714 USD"], 2)


# rows and payloads


def payloads_of_every_format() -> Iterator[tuple[str, str | None, dict[str, Any]]]:
    """Yields example payloads, with their wire format and the URL of those whose path names the model."""
    paths = {"edit": "/omni-video/kling-3.0-omni", "text_to_video": "/text-to-video/kling-3.0"}
    for path in sorted((EXAMPLES / "requests").rglob("*.json")):
        name = path.parent.name if path.parent.name in WIRE_FORMATS else "tasks"
        url = (
            f"https://gw.example{paths.get(path.stem, '/omni-video/kling-3.0-omni')}"
            if name == "kling_v2"
            else None
        )
        yield name, url, json.loads(path.read_text(encoding="utf-8"))
    sound = {"prompt": "rain", "duration": 5.5, "bgm_prompt": "piano"}
    yield "kling_services", "https://api.klingai.com/v1/audio/text-to-audio", sound
    image = {"model_name": "kling-v2", "prompt": "rain", "n": 2, "aspect_ratio": "16:9"}
    yield "kling_images", "https://api.klingai.com/v1/images/generations", image


PAYLOADS = [*payloads_of_every_format()]


def as_row(payload: Mapping[str, Any], fields: Mapping[str, Any], parent: str = "") -> dict[str, str]:
    """Returns the columns and cells that a person would write for a payload."""
    row: dict[str, str] = {}
    for name, value in payload.items():
        field = fields.get(name)
        if field is not None and field.inside and isinstance(value, dict):
            row |= as_row(value, field.inside, f"{parent}{name}.")
        elif isinstance(value, str):
            row[f"{parent}{name}"] = value
        elif isinstance(value, list) and all(isinstance(text, str) and ";" not in text for text in value):
            row[f"{parent}{name}"] = "; ".join(value)
        else:
            row[f"{parent}{name}"] = json.dumps(value, ensure_ascii=False)
    return row


@settings(max_examples=examples(60))
@given(data=st.data())
def test_a_row_and_its_payload_are_quoted_alike(data: st.DataObject, tmp_path_factory: Any) -> None:
    """For every wire format, a row of a list gives exactly the quote, or the refusal, of its JSON payload."""
    book = bundled_book()
    name, url, payload = data.draw(st.sampled_from(PAYLOADS))
    left_out = data.draw(st.sets(st.sampled_from(sorted(payload)), max_size=2))
    payload = {field: value for field, value in payload.items() if field not in left_out}
    duration = data.draw(st.none() | st.sampled_from([3, 5, 7, 10, 99]))
    if duration is not None and "duration" in payload:
        payload["duration"] = str(duration) if isinstance(payload["duration"], str) else duration
    if not payload:
        return
    row = as_row(payload, wire_format(name).FIELDS)
    path = write_csv(tmp_path_factory.mktemp("row") / "a.csv", [list(row), list(row.values())])
    options: dict[str, Any] = {
        "url": url,
        "wire_format": name,
        "provider": data.draw(st.sampled_from([None, "kling", "qingbo"])),
    }
    intake = Intake(at=AT, book=book, **options)
    (shot,) = shots_of(path, book, intake=options)
    assert shot.error is None
    outcomes = []
    for one in (payload, shot.payload):
        try:
            outcomes.append(quote_payload(one, intake))
        except KlingPricingError as error:
            outcomes.append((type(error), str(error)))  # type: ignore[arg-type]
    assert outcomes[0] == outcomes[1]


def test_every_wire_format_has_an_example_here() -> None:
    """The property above tries every wire format."""
    assert {name for name, _, _ in PAYLOADS} == set(WIRE_FORMATS)


# results

ROW = st.tuples(
    st.sampled_from(["kling-v3", "kling-v3-omni", "kling-v2.6", "nothing"]),
    st.sampled_from(["3", "5", "10", "15", "", "x"]),
    st.sampled_from(["720p", "1080p", "4k", ""]),
    st.sampled_from(["TRUE", "False", ""]),
    st.just("a boat"),
    st.sampled_from(["trailer", "teaser", ""]),
)


@settings(max_examples=examples(15))
@given(rows=st.lists(ROW, min_size=1, max_size=30))
def test_the_rows_add_up_to_the_summary(rows: list[tuple[str, ...]], tmp_path_factory: Any) -> None:
    """The totals of the rows add up to the total, and to the sums of the groups, to the last digit."""
    folder = tmp_path_factory.mktemp("sums")
    path = write_csv(folder / "a.csv", [[*HEADER, "project"], *rows])
    out, refused = folder / "out.csv", folder / "refused.csv"
    done = quoted(path, "--out", out, "--refusals", refused)
    results = read_csv(out)
    total = sum_of(Decimal(row["quote_total"]) for row in results)
    lines = done.stdout.splitlines()
    if results:
        assert lines[-1] == f"total {total.normalize():f} USD"
        amounts = [line.split()[-2] for line in lines if line.startswith("  qingbo")]
        assert sum_of(map(Decimal, amounts)) == total
    assert len(results) + len(read_csv(refused)) == len(rows)
    assert [int(row["quote_row"]) for row in results] == sorted(int(row["quote_row"]) for row in results)
    for row in results:
        assert Decimal(row["quote_unit_price"]) * Decimal(row["quote_quantity"]) == Decimal(row["quote_total"])


def test_the_summary_has_groups_and_reasons(tmp_path: Path) -> None:
    """Quotes are added up by provider, model, tier and project, and refusals are counted by reason."""
    rows = [
        [*HEADER, "project"],
        [*BOAT, "trailer"],
        [*BOAT, "teaser"],
        [*BOAT, "teaser"],
        ["kling-v2.6", "7", "1080p", "", "x", "teaser"],
        ["kling-v2.6", "8", "1080p", "", "x", "teaser"],
    ]
    path = write_csv(tmp_path / "a.csv", rows)
    done = quoted(path)
    assert (
        done.stdout.splitlines()[-10:]
        == [
            "by provider, model, tier and project:",
            "  Provider  Model     Tier   Project  Requests      Total",
            "  qingbo    kling-v3  audio  teaser          2  1.428 USD",
            "  qingbo    kling-v3  audio  trailer         1  0.714 USD",
            "refused, by reason:",
            "  2 x duration_s_limit",
            *wrapped(f"duration must be 5 or 10 seconds for kling-v2.6, not 7 (first in {path}:5)"),
            "3 done, 2 refused",
            "total 2.142 USD",
        ][-10:]
    )
    assert done.returncode == 1
    by_duration = quoted(path, "--group-by", "Duration", "--group-by", "provider")
    assert "  5         qingbo           3  2.142 USD" in by_duration.stdout.splitlines()
    assert all(len(line) <= 80 for line in done.stdout.splitlines() if line.startswith("  qingbo"))


def wrapped(text: str) -> list[str]:
    """Returns the lines of a reason."""
    return wrap(text, 80, initial_indent="    ", subsequent_indent="    ", break_long_words=False)


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".xlsx", ".parquet", ".jsonl"])
def test_results_are_written_in_every_form(suffix: str, tmp_path: Path) -> None:
    """Each form has the cells of the list and exact amounts; a list with results is again a list."""
    rows = [HEADER, BOAT, ["kling-v3-omni", "7", "720p", "", "=1+1"]]
    path = write_csv(tmp_path / "a.csv", rows)
    out = tmp_path / f"out{suffix}"
    done = quoted(path, "--out", out)
    assert (done.returncode, done.stdout.splitlines()[-1]) == (0, "total 1.2138 USD")
    results = results_in(out)
    assert [Decimal(str(row["quote_total"])) for row in results] == [BOAT_USD, Decimal("0.4998")]
    assert [str(row["quote_row"]) for row in results] == ["2", "3"]
    assert results[1]["prompt"] == ("'=1+1" if suffix in {".csv", ".tsv"} else "=1+1")
    if suffix != ".jsonl":
        assert quoted(out).stdout.splitlines()[-1] == "total 1.2138 USD"


@pytest.mark.parametrize("suffix", [".csv", ".tsv", ".xlsx", ".parquet", ".jsonl"])
def test_every_text_comes_back_as_it_was(suffix: str, tmp_path: Path) -> None:
    """Line breaks, delimiters and quotation marks survive; formulas get an apostrophe in CSV and TSV."""
    texts = ["two\nlines", "one\ttab", 'a, "b"; c', "  spaces ", "雨, 雨", "it's", "/path", "", "-5"]
    if suffix != ".xlsx":  # which has line feeds only
        texts.append("a\r\nb")
    formulas = ["=1+1", " @x", "a;=1", "\t=1", "-x", "\uff1d1"]
    rows = [["model", "prompt", "Notes"], *(["kling-v3", "x", text] for text in [*texts, *formulas])]
    out = tmp_path / f"o{suffix}"
    done = quoted(write_csv(tmp_path / "a.csv", rows), "--map", "Notes=", "--out", out)
    assert done.returncode == 0
    notes = [str(row["Notes"] or "") for row in results_in(out)]
    assert notes[: len(texts)] == texts
    is_text = suffix in {".csv", ".tsv"}
    assert notes[len(texts) :] == ([*map(escape_formulas, formulas)] if is_text else formulas)
    assert all((escape_formulas(text) != text) for text in formulas)


def test_a_text_that_a_sheet_would_cut_is_refused(tmp_path: Path) -> None:
    """A cell of XLSX holds 32,767 characters; the row with a longer text is named, and nothing is written."""
    longest, rows = "é" * 32_767, [["model", "prompt", "Notes"], ["kling-v3", "x", ""], ["kling-v3", "x", ""]]
    path, out = tmp_path / "a.csv", tmp_path / "o.xlsx"
    rows[2][2] = longest
    done = quoted(write_csv(path, rows), "--map", "Notes=", "--out", out)
    assert (done.returncode, results_in(out)[1]["Notes"]) == (0, longest)
    out.unlink()
    rows[2][2] = longest + "é"
    done = quoted(write_csv(path, rows), "--map", "Notes=", "--out", out)
    assert (done.returncode, [*tmp_path.glob("*o.xlsx*")]) == (2, [])
    assert f"{path}:3: Notes: the text is longer than the 32767 characters that a cell of XLSX" in done.stderr
    assert "choose a name that ends in .csv for the results, or shorten the text" in done.stderr


def test_text_is_never_taken_for_a_formula(tmp_path: Path) -> None:
    """In CSV, an apostrophe stands before cells and names of columns that a spreadsheet would calculate."""
    cells = ['=HYPERLINK("x")', "+1 boat", "-boat", "@boat", "-5", "a;=b"]
    rows = [["model", "prompt", "=note"], *(["kling-v3", cell, cell] for cell in cells)]
    path = write_csv(tmp_path / "a.csv", rows)
    assert quoted(path, "--map", "=note=", "--out", tmp_path / "o.csv").returncode == 2  # the name has a sign
    rows[0][2] = "note"
    write_csv(path, rows)
    assert quoted(path, "--map", "note=", "--out", tmp_path / "o.csv").returncode == 0
    written = [row["note"] for row in read_csv(tmp_path / "o.csv")]
    assert written == ['\'=HYPERLINK("x")', "'+1 boat", "'-boat", "'@boat", "-5", "a;'=b"]


def test_refusals_are_kept_apart(tmp_path: Path) -> None:
    """Refused rows go to their own file with codes, reasons and suggestions, and not among the results."""
    path = write_csv(
        tmp_path / "a.csv", [HEADER, BOAT, ["kling-v2.6", "5", "720p", "true", "x"], [*BOAT, "odd"]]
    )
    out, refused = tmp_path / "o.csv", tmp_path / "r.csv"
    done = quoted(path, "--out", out, "--refusals", refused)
    assert (len(read_csv(out)), done.returncode) == (1, 2)
    invalid, unreadable = read_csv(refused)
    assert (invalid["quote_row"], invalid["quote_error_codes"]) == ("3", "audio_resolution")
    assert invalid["quote_suggestions"] == '[{"resolution": "1080p"}, {"audio": false}]'
    assert (unreadable["quote_row"], unreadable["quote_total"]) == ("4", "")
    assert "this row has 6 cells" in unreadable["quote_error"]
    together = tmp_path / "together.csv"
    quoted(path, "--out", together)
    assert [row["quote_total"] for row in read_csv(together)] == ["0.714", "", ""]


def test_an_output_never_overwrites_an_input(tmp_path: Path) -> None:
    """An input is refused as an output under every name, also inside a folder that is read."""
    path = write_csv(tmp_path / "a.csv", [HEADER, BOAT])
    before = path.read_bytes()
    (tmp_path / "link.csv").symlink_to(path)
    for output in (path, tmp_path / "link.csv", tmp_path / "." / "a.csv"):
        for option in ("--out", "--refusals"):
            done = quoted(path, option, output)
            assert (done.returncode, done.stdout) == (2, "")
            assert "is one of the inputs, which are never overwritten" in done.stderr
    (tmp_path / "link.csv").unlink()
    assert quoted(tmp_path, "--out", path).returncode == 2
    assert quoted(path, "--out", tmp_path / "x.csv", "--refusals", tmp_path / "x.csv").returncode == 2
    assert (path.read_bytes(), sorted(file.name for file in tmp_path.iterdir())) == (before, ["a.csv"])


def test_an_unreadable_list_writes_nothing(tmp_path: Path) -> None:
    """If a whole list cannot be read, an older file with results stays as it is."""
    good = write_csv(tmp_path / "a.csv", [HEADER, BOAT])
    bad = write_csv(tmp_path / "b.csv", [["model", "Scene"], ["kling-v3", "1"]])
    out = tmp_path / "o.csv"
    out.write_text("older")
    done = quoted(good, bad, "--out", out)
    assert (done.returncode, out.read_text()) == (2, "older")
    assert done.stderr.count("is not a field of any API") == 1
    assert sorted(file.name for file in tmp_path.iterdir()) == ["a.csv", "b.csv", "o.csv"]


def test_folders_and_patterns_mean_their_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder means all of its files with requests, sorted; hidden files and locks do not count."""
    folder = tmp_path / "shots"
    (folder / "more").mkdir(parents=True)
    write_csv(folder / "b.csv", [HEADER, BOAT])
    write_csv(folder / "a.tsv", [HEADER, BOAT], delimiter="\t")
    (folder / "more" / "c.json").write_text(json.dumps({"model": "kling-v3", "prompt": "x"}))
    for name in ("~$b.xlsx", ".hidden.csv", "notes.txt"):
        (folder / name).write_text("nothing")
    done = quoted(folder, "--json")
    places = [json.loads(line)["place"] for line in done.stdout.splitlines()]
    assert places == [f"{folder}/a.tsv:2", f"{folder}/b.csv:2", f"{folder}/more/c.json"]
    monkeypatch.chdir(tmp_path)
    assert quoted("shots/**/*.csv").stdout.splitlines()[-1] == "total 0.714 USD"
    for path, problem in (("shots/*.ods", "matches no file"), ("empty", "contains no file with requests")):
        (tmp_path / "empty").mkdir(exist_ok=True)
        missing = quoted(path)
        assert (problem in missing.stderr, missing.returncode) == (True, 2)
    (tmp_path / "old.xls").write_bytes(b"x")
    assert "save it as XLSX or CSV" in quoted("old.xls").stderr


def test_a_pattern_follows_no_links_in_circles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file counts once, although a link in its folder leads back; other patterns mean what they did."""
    folder = tmp_path / "shots"
    (folder / "more").mkdir(parents=True)
    for path in (folder / "a.csv", folder / "more" / "b.csv", folder / ".hidden.csv"):
        write_csv(path, [HEADER, BOAT])
    for name in ("one", "two"):
        (folder / name).symlink_to(folder)
    monkeypatch.chdir(tmp_path)
    for pattern, expected in (
        ("shots/**/*.csv", ["shots/a.csv", "shots/more/b.csv"]),
        (f"{folder}/**", [f"{folder}/a.csv", f"{folder}/more/b.csv"]),
        ("shots/one/**/a**.csv", ["shots/one/a.csv"]),
        ("shots/../shots/**/b.csv", ["shots/../shots/more/b.csv"]),
        ("shots/*.csv", ["shots/a.csv"]),
    ):
        assert [*expanded([pattern])] == expected


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        ('<row r="2000000000"><c r="A2000000000"><v>1</v></c></row>', "has more than 1048576 rows"),
        ('<row><c r="XFD{}"><v/></c></row>', "or 67108864 cells"),
    ],
)
def test_a_small_workbook_cannot_have_endless_empty_cells(rows: str, problem: str, tmp_path: Path) -> None:
    """A cell far to the right or far below stands for very many empty ones, which are not read for hours."""
    plain, path = written_as(tmp_path / "plain.xlsx", [HEADER, BOAT]), tmp_path / "a.xlsx"
    added = "".join(rows.format(row) for row in range(3, 5_000)) if "{}" in rows else rows
    with ZipFile(plain) as source, ZipFile(path, "w", ZIP_DEFLATED) as target:
        for name in source.namelist():
            content = source.read(name)
            target.writestr(name, content.replace(b"</sheetData>", f"{added}</sheetData>".encode()))
    done = quoted(path)
    assert (problem in done.stderr, done.returncode) == (True, 2)


@pytest.mark.parametrize(("suffix", "problem"), [(".xlsx", "XLSX"), (".parquet", "Parquet")])
def test_a_damaged_file_is_refused(suffix: str, problem: str, tmp_path: Path) -> None:
    """The message says which format was expected."""
    path = tmp_path / f"a{suffix}"
    path.write_bytes(b"not such a file")
    done = quoted(path)
    assert (f"cannot be read as {problem}" in done.stderr, done.returncode) == (True, 2)


@pytest.mark.parametrize(("suffix", "module"), [(".xlsx", "openpyxl"), (".parquet", "duckdb")])
def test_a_missing_package_is_named(
    suffix: str, module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the extra, the message names the package and the command that installs it."""
    monkeypatch.setitem(sys.modules, module, None)
    path = tmp_path / f"a{suffix}"
    path.write_bytes(b"x")
    done = quoted(path)
    assert f"needs {module}, which is not installed; run `pip install 'kling-pricing[reports]'`" in done.stderr


def test_a_formula_counts_with_its_result_or_not_at_all(tmp_path: Path) -> None:
    """A formula whose result a spreadsheet program has saved is its result; without a result, it is refused."""
    path = tmp_path / "a.xlsx"
    for result, expected in ((10, "total 0.714 USD"), ("", "")):
        with xlsxwriter.Workbook(str(path)) as book:
            sheet = book.add_worksheet()
            sheet.write_row(0, 0, ["model", "prompt", "duration"])
            sheet.write_row(1, 0, ["kling-v3", "x"])
            sheet.write_formula(1, 2, "=5*2", value=result)
        done = quoted(path)
        assert (expected in done.stdout, done.returncode) == (True, 0 if expected else 2)
    assert f"{path}:2: a formula has no saved result; open the file in a spreadsheet program" in done.stderr


def test_a_sheet_is_chosen_by_its_name(tmp_path: Path) -> None:
    """Without a name, the first sheet counts; an unknown name is refused with those that exist."""
    book = openpyxl.Workbook()
    book.active.append(["model", "prompt"])
    other = book.create_sheet("Act 2")
    other.append(["model", "prompt"])
    other.append(["kling-v3", "x"])
    book.save(tmp_path / "a.xlsx")
    assert "a.xlsx: has no rows below its header" in quoted(tmp_path / "a.xlsx").stderr
    assert "total 0.357 USD" in quoted(tmp_path / "a.xlsx", "--sheet", "Act 2").stdout
    missing = quoted(tmp_path / "a.xlsx", "--sheet", "Act 3").stderr
    assert "has no sheet 'Act 3'; its sheets are Sheet, Act 2" in missing


def test_values_can_be_set_for_json_too(tmp_path: Path) -> None:
    """A field that is set counts in JSON requests as well, as text or number as the API takes it."""
    requests = [
        {"model": "kling-v3", "prompt": "x"},
        {"model_name": "kling-v3", "prompt": "x", "duration": "5"},
    ]
    path = tmp_path / "a.jsonl"
    path.write_text("".join(f"{json.dumps(request)}\n" for request in requests))
    done = quoted(path, "--set", "duration=10", "--json")
    assert [json.loads(line)["total"] for line in done.stdout.splitlines()] == ["0.714", "0.84"]


def test_check_reads_lists(tmp_path: Path) -> None:
    """Each row is valid or refused with its line; results and refusals can be written."""
    path = write_csv(tmp_path / "a.csv", [HEADER, BOAT, ["kling-v2.6", "7", "1080p", "", "x"]])
    done = run("check", path)
    assert done.stdout.startswith(f"{path}:2: valid\n{path}:3: refused\n  duration must be 5 or 10 seconds")
    assert done.returncode == 1
    run("check", path, "--out", tmp_path / "o.csv", "--refusals", tmp_path / "r.csv")
    assert [row["check_valid"] for row in read_csv(tmp_path / "o.csv")] == ["true"]
    assert [row["check_error_codes"] for row in read_csv(tmp_path / "r.csv")] == ["duration_s_limit"]


def test_decide_takes_projects_and_keys_from_the_list(tmp_path: Path) -> None:
    """Each row is decided for its own project and key, one after the other, against the budgets."""
    ledger = f"sqlite:///{tmp_path}/spend.db"
    budgets = tmp_path / "budgets.yaml"
    budgets.write_text(
        "budgets:\n"
        "  - {name: trailer, match: {project: trailer}, cap: 1, currency: USD}\n"
        "  - {name: teaser, match: {project: teaser}, cap: 1, currency: USD}\n"
    )
    assert run("budget", "apply", budgets, ledger=ledger).returncode == 0
    rows = [[*HEADER, "project", "key"], *([*BOAT, name, f"{name}-{place}"] for place, name in enumerate(
        ("trailer", "teaser", "trailer")))]  # fmt: skip
    path = write_csv(tmp_path / "a.csv", rows)
    out = tmp_path / "o.csv"
    done = run("decide", path, "--provider", "qingbo", "--out", out, ledger=ledger)
    results = read_csv(out)
    assert [(row["decide_outcome"], row["decide_reserved"]) for row in results] == [
        ("admitted", "0.714"),
        ("admitted", "0.714"),
        ("refused", ""),
    ]
    assert (done.returncode, "2 of 3 requests would be admitted: 1.428 USD" in done.stdout) == (1, True)
    without = write_csv(tmp_path / "b.csv", [HEADER, BOAT])
    missing = run("decide", without, ledger=ledger)
    assert ("the request has no project" in missing.stderr, missing.returncode) == (True, 2)
    assert run("decide", without, "--project", "teaser", "--provider", "qingbo", ledger=ledger).returncode == 0


def test_equal_rows_share_their_content(book: PriceBook, tmp_path: Path) -> None:
    """In a list with 20,000 rows and 2 different shots, two payloads are read, and so two are quoted."""
    path = write_csv(tmp_path / "a.csv", [HEADER, *[BOAT, ["kling-v3-omni", *BOAT[1:]]] * 10_000])
    shots = shots_of(path, book)
    assert (len(shots), len({id(shot) for shot in shots})) == (20_000, 2)
    done = quoted(path)
    assert done.stdout.splitlines()[-2:] == ["20000 done", "total 13090 USD"]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_a_long_list_needs_little_memory(tmp_path: Path) -> None:
    """The memory for 24,000 different rows is that for 4,000: the list is streamed."""
    peaks = []
    for count in (4_000, 24_000):
        rows = [[*BOAT[:4], f"a boat, take {number}"] for number in range(count)]
        path = write_csv(tmp_path / f"{count}.csv", [HEADER, *rows])
        code = (
            "import pathlib, sys; from kling_pricing.cli import main\n"
            "try: main()\n"
            "finally: print(pathlib.Path('/proc/self/status').read_text(), file=sys.stderr)"
        )
        command = [sys.executable, "-c", code, "quote", str(path), "--at", "2026-11-21"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0
        # `ru_maxrss` would include the memory of this process, from which the other one was forked
        peaks.append(int(done.stderr.partition("VmHWM:")[2].split()[0]))
    assert peaks[1] - peaks[0] < 3_000  # kilobytes


@pytest.mark.parametrize(
    ("ending", "status"),
    [(signal.SIGINT, 130), (signal.SIGTERM, -signal.SIGTERM), (signal.SIGHUP, -signal.SIGHUP)],
)
def test_an_ended_run_writes_no_half_file(ending: signal.Signals, status: int, tmp_path: Path) -> None:
    """Ctrl-C and SIGTERM leave no file with results, and an older one as it was."""
    fifo, out = tmp_path / "slow.jsonl", tmp_path / "o.csv"
    out.write_text("older")
    os.mkfifo(fifo)
    command = [sys.executable, "-c", INTERRUPTIBLE, "quote", str(fifo), "--out", str(out), *AT_OPTION]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process, fifo.open("w") as pipe:
        # the command opens its input after its output
        pipe.write(json.dumps({"model": "kling-v3", "prompt": "x"}) + "\n")
        pipe.flush()
        assert [*tmp_path.glob(".o.csv.*")] != []
        process.send_signal(ending)
        _, errors = process.communicate()
    assert (process.returncode, out.read_text()) == (status, "older")
    assert "interrupted; no file was written" in errors
    assert [*tmp_path.glob(".o.csv.*")] == []


def test_a_file_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    """A file that cannot be written is an error with its name."""
    path = write_csv(tmp_path / "a.csv", [HEADER, BOAT])
    done = quoted(path, "--out", tmp_path / "nowhere" / "o.csv")
    assert done.returncode == 2
    assert (
        "nowhere/o.csv: cannot be written: No such file or directory; choose a folder that exists"
        in done.stderr
    )


def test_prompts_that_share_a_quote_have_the_same_price(book: PriceBook, tmp_path: Path) -> None:
    """A blank prompt, a marker and a list of shots never take the quote of a prompt of the same length."""
    prompts = [
        "abcdefghijklmn",
        "mnopqrstuvwxyz",
        " " * 14,
        "<<<image_1>>>.",
        "shot 1, 5, a;.",
        "a@bcdefghijklm",
    ]
    rows = [["model", "duration", "prompt"], *(["kling-v3", "5", prompt] for prompt in prompts)]
    shots = shots_of(write_csv(tmp_path / "a.csv", rows), book)
    assert [shot.payload.get("prompt") for shot in shots] == [*prompts[:2], None, *prompts[3:]]
    assert shots[0].alike is shots[1].alike
    assert len({id(shot.alike) for shot in shots}) == len(shots) - 1
    intake = Intake(at=AT, book=book)
    assert quote_payload(shots[0].payload, intake) == quote_payload(shots[1].payload, intake)
