"""Reports of a real reconciliation: a month made with a guard, held against a statement, in every format."""

import csv
import json
import re
import subprocess
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from hashlib import sha256
from pathlib import Path
from typing import Any, get_args
from zipfile import ZipFile

import duckdb
import pytest
from openpyxl import load_workbook

from kling_pricing import KlingPricingError, PriceBook
from kling_pricing.reconcile import Reconciliation, Total, reconcile
from kling_pricing.reconcile.categories import CATEGORIES, Category, exceptions_text
from kling_pricing.reconcile.model import Dimension
from kling_pricing.reports import FORMATS, Manifest, reconciliation_document, write_reports
from kling_pricing.reports.formats import xlsx
from tests.conftest import program
from tests.studio import API_KEY, PROMPT, SINCE, UNTIL, URL, Month


def reconciled_month(studio: Month, book: PriceBook) -> Reconciliation:
    """That month, reconciled."""
    return reconcile(studio.ledger, studio.statement, provider="qingbo", since=SINCE, until=UNTIL, book=book)


@pytest.fixture(scope="module")
def reconciled(studio: Month, book: PriceBook) -> Iterator[Reconciliation]:
    """That month, reconciled once."""
    with reconciled_month(studio, book) as found:
        yield found


@pytest.fixture(scope="module")
def out(reconciled: Reconciliation, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with all its reports."""
    folder = tmp_path_factory.mktemp("reports") / "li's reports"
    write_reports(reconciled, folder)
    return folder


@pytest.fixture(scope="module")
def whole(reconciled: Reconciliation) -> Total:
    """All lines taken together."""
    (found,) = reconciled.totals("all")
    return found


def rows(path: Path) -> list[dict[str, str]]:
    """The rows of a CSV file."""
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def total(amounts: Iterator[str]) -> Decimal:
    """The exact sum of amounts as text; what is empty counts as nothing."""
    return sum((Decimal(amount) for amount in amounts if amount), Decimal(0))


def test_every_category_has_words() -> None:
    """What a line is in is said in the reader's words, in each format the same."""
    assert set(CATEGORIES) == set(get_args(Category))


def test_the_month_has_something_to_report(reconciled: Reconciliation) -> None:
    """The tests below would prove little on a month where all matches."""
    found = Counter(line.category for line in reconciled.lines())
    assert set(found) >= {
        *("matched", "explained", "unexplained", "billed_twice", "not_billed", "not_in_ledger"),
        *("in_doubt_candidate", "invalid_row"),
    }


def test_the_same_reconciliation_gives_the_same_bytes(
    studio: Month, out: Path, book: PriceBook, tmp_path: Path
) -> None:
    """Reconciled and written again, elsewhere and later: every file is the same, and so is the manifest."""
    with reconciled_month(studio, book) as again:
        write_reports(again, tmp_path)
    assert (tmp_path / "manifest.json").read_bytes() == (out / "manifest.json").read_bytes()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        path.name: path.read_bytes() for path in out.iterdir()
    }


def test_the_manifest_vouches_for_every_file(studio: Month, out: Path) -> None:
    """Name, size and SHA-256 of each, and the statement that they were made from."""
    manifest = json.loads((out / "manifest.json").read_text(encoding="utf-8"))
    listed = {each["name"]: (each["size_bytes"], each["sha256"]) for each in manifest["files"]}
    there = {path.name: path.read_bytes() for path in out.iterdir() if path.name != "manifest.json"}
    assert listed == {name: (len(data), sha256(data).hexdigest()) for name, data in there.items()}
    assert manifest["sources"] == {studio.statement.name: sha256(studio.statement.read_bytes()).hexdigest()}
    assert {Path(name).suffix for name in there} == {".html", ".xlsx", ".csv", ".parquet", ".json", ".jsonl"}


def test_no_report_shows_a_prompt_a_url_or_a_key(studio: Month, out: Path) -> None:
    """Not in any file, nor inside the workbook, though requests, reasons and the statement have them."""
    assert all(secret in studio.statement.read_text(encoding="utf-8") for secret in (PROMPT, URL, API_KEY))
    texts = {path.name: path.read_bytes() for path in out.iterdir()}
    with ZipFile(out / "report.xlsx") as workbook:
        texts |= {name: workbook.read(name) for name in workbook.namelist()}
    for name, data in texts.items():
        found = [secret for secret in (PROMPT, URL, API_KEY) if secret.encode() in data]
        assert (name, found) == (name, [])
    assert b"://" not in texts["report.html"]


def test_the_report_ties_out(reconciled: Reconciliation, whole: Total, out: Path) -> None:
    """Each table sums to the same money: expected + variance = billed, and so do the tasks themselves."""
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    figures = {each["title"]: Decimal(each["amount"]) for each in report["figures"]}
    assert figures == {"Expected": whole.expected, "Variance": whole.variance, "Billed": whole.billed}
    for name in ("summary", "by_project", "by_model", "by_day"):
        table = report["tables"][name]
        for column in ("expected", "variance", "billed"):
            assert total(row[column] for row in table["rows"]) == getattr(whole, column), (name, column)
        assert sum(row["lines"] for row in table["rows"]) == whole.lines
        assert [row["billed"] for row in table["totals"]] == [str(whole.billed.normalize())]
    lines = rows(out / "lines.csv")
    assert len(lines) == whole.lines
    assert total(line["variance"] for line in lines) == whole.variance
    headline = report["verdict"]["headline"]
    assert headline == f"Ties out with {exceptions_text(reconciled.exceptions, reconciled.open)}"
    assert len(rows(out / "exceptions.csv")) == reconciled.exceptions


class Tampered:
    """A reconciliation in which one number is another."""

    def __init__(self, true: Reconciliation, dimension: Dimension, field: str) -> None:
        self._true = true
        self._dimension = dimension
        self._field = field

    def __getattr__(self, name: str) -> Any:
        return getattr(self._true, name)

    def totals(self, dimension: Dimension) -> list[Total]:
        """The true totals, but for one nano."""
        found = self._true.totals(dimension)
        if dimension != self._dimension:
            return found
        changed = getattr(found[0], self._field) + Decimal("0.000000001")
        return [found[0]._replace(**{self._field: changed}), *found[1:]]


@pytest.mark.parametrize("dimension", ["all", "category", "standing", "project", "model", "day"])
@pytest.mark.parametrize("field", ["expected", "billed", "variance"])
def test_what_does_not_tie_out_is_not_reported(
    reconciled: Reconciliation, tmp_path: Path, dimension: Dimension, field: str
) -> None:
    """One nano in one total of one table: an error, and no file."""
    with pytest.raises(KlingPricingError, match="does not tie out in USD"):
        write_reports(Tampered(reconciled, dimension, field), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_task_that_looks_like_a_formula_is_text_in_csv(studio: Month, out: Path) -> None:
    """It has an apostrophe in front, and is the task again without it; amounts below zero stay as they are."""
    lines = rows(out / "lines.csv")
    (line,) = [line for line in lines if line["task_id"].endswith(studio.formula)]
    assert (line["task_id"], line["task_id"].removeprefix("'")) == ("'=1+1", studio.formula)
    assert any(line["variance"].startswith("-") for line in lines)


def test_parquet_has_exact_decimals_and_instants(whole: Total, studio: Month, out: Path) -> None:
    """DuckDB reads decimals of nine places, UTC instants, and the task as it is."""
    with duckdb.connect() as database:

        def ask(query: str) -> list[tuple[Any, ...]]:
            return database.execute(query, [str(out / "lines.parquet")]).fetchall()

        types = {name: kind for name, kind, *_ in ask("DESCRIBE SELECT * FROM read_parquet(?)")}
        assert types["billed"] == types["variance"] == "DECIMAL(38,9)"
        assert types["submitted_at"] == "TIMESTAMP WITH TIME ZONE"
        sums = ask("SELECT count(*), sum(expected), sum(variance), sum(billed) FROM read_parquet(?)")
        assert sums == [(whole.lines, whole.expected, whole.variance, whole.billed)]
        tasks = ask("SELECT task_id FROM read_parquet(?) WHERE task_id LIKE '=%'")
        assert tasks == [(studio.formula,)]


def test_the_workbook_has_numbers_and_their_exact_text(whole: Total, studio: Month, out: Path) -> None:
    """Amounts to add up, every digit beside them, no formula anywhere."""
    workbook = load_workbook(out / "report.xlsx", read_only=True)
    assert workbook.sheetnames == [
        *("Summary", "By project", "By model", "By day", "Exceptions", "Accruals", "All lines"),
    ]
    heading, *lines = workbook["All lines"].iter_rows()
    place = {cell.value: number for number, cell in enumerate(heading)}
    assert len(lines) == whole.lines
    exactly = [line[place["Billed, exactly"]].value for line in lines]
    assert total(each for each in exactly if each) == whole.billed
    number, text = next(
        (line[place["Billed"]], line[place["Billed, exactly"]]) for line in lines if line[place["Billed"]].value
    )
    assert (number.data_type, text.data_type) == ("n", "s")
    (task,) = [line[place["Task"]] for line in lines if line[place["Task"]].value == studio.formula]
    assert task.data_type == "s"
    for sheet in workbook:
        assert [cell.value for row in sheet.iter_rows() for cell in row if cell.data_type == "f"] == []


def test_a_table_that_is_longer_than_a_sheet_goes_on_in_another(
    reconciled: Reconciliation, whole: Total, tmp_path: Path
) -> None:
    """Every line is there once, below a heading on each sheet."""
    xlsx.write(reconciliation_document.document(reconciled), tmp_path, most_rows=20)
    workbook = load_workbook(tmp_path / "report.xlsx", read_only=True)
    names = [name for name in workbook.sheetnames if name.startswith("All lines")]
    assert names == ["All lines", "All lines 2", "All lines 3", "All lines 4"][: -(-whole.lines // 19)]
    found = [[row[0].value for row in workbook[name].iter_rows()] for name in names]
    assert {each[0] for each in found} == {"Category"}
    assert sum(len(each) - 1 for each in found) == whole.lines


def test_libreoffice_opens_the_workbook(whole: Total, studio: Month, out: Path, tmp_path: Path) -> None:
    """Converted to CSV by a real office: the totals are right, and the task is text."""
    every_sheet = "csv:Text - txt - csv (StarCalc):44,34,76,1,,0,false,true,false,false,false,-1"
    subprocess.run(
        [
            program("soffice"),
            f"-env:UserInstallation={(tmp_path / 'profile').as_uri()}",
            *("--headless", "--convert-to", every_sheet, "--outdir", str(tmp_path), str(out / "report.xlsx")),
        ],
        check=True,
        capture_output=True,
        timeout=120,
    )
    projects = rows(tmp_path / "report-By project.csv")
    assert projects[-1]["Project"] == "Total"
    assert projects[-1]["Billed, exactly"] == str(whole.billed.normalize())
    shown = [Decimal(row["Billed"].replace(",", "")) for row in projects]
    assert sum(shown[:-1]) == shown[-1] == whole.billed
    lines = rows(tmp_path / "report-All lines.csv")
    assert total(line["Billed, exactly"] for line in lines) == whole.billed
    assert studio.formula in {line["Task"] for line in lines}


def test_accruals_are_balanced(reconciled: Reconciliation, whole: Total, out: Path) -> None:
    """Debits are credits in every entry; what the liability holds beyond the bill is what was not billed."""
    journal = rows(out / "accruals.csv")
    for entry in {row["entry"] for row in journal}:
        own = [row for row in journal if row["entry"] == entry]
        assert len(own) == 2
        assert total(row["debit"] for row in own) == total(row["credit"] for row in own)
    liability = [row for row in journal if row["account"] == "Accrued liabilities"]
    owed = total(row["credit"] for row in liability) - total(row["debit"] for row in liability)
    unbilled = sum(
        line.expected or 0
        for line in reconciled.lines()
        if line.billed is None and line.category != "in_doubt_candidate"
    )
    assert owed == whole.billed + unbilled
    assert {row["day"] for row in journal} == {"2026-11-30"}


def test_disputes_say_nothing_of_ours(reconciled: Reconciliation, out: Path) -> None:
    """The provider's own tasks, what they billed and should have; no project, key, label or reservation."""
    text = (out / "disputes.csv").read_text(encoding="utf-8")
    for line in reconciled.lines():
        ours = [line.project, line.key, line.reservation_id, line.labels.get("user")]
        assert [name for name in ours if name and re.search(rf"\b{re.escape(name)}\b", text)] == []
    disputes = rows(out / "disputes.csv")
    overcharged = {
        line.task_id
        for line in reconciled.lines("billed_twice", "explained", "not_in_ledger", "unexplained")
        if line.remedy and line.variance > 0
    }
    assert {row["task_id"] for row in disputes} - {"", "task_bad"} == overcharged
    for row in disputes:
        if row["should_be"]:
            assert Decimal(row["billed"]) - Decimal(row["should_be"]) == Decimal(row["difference"]) > 0
        assert row["rows"].startswith("qingbo-2026-11.csv:")
        assert row["reason"].endswith(".")


def test_only_what_is_asked_for_is_written(reconciled: Reconciliation, tmp_path: Path) -> None:
    """A later report replaces an earlier one of the folder, and leaves other people's files alone."""
    told: list[str] = []
    (tmp_path / "notes.txt").write_text("mine")
    first = write_reports(reconciled, tmp_path, formats=["json", "html"], on_format=told.append)
    assert (told, sorted(first.files)) == (
        ["html", "json"],
        ["exceptions.jsonl", "lines.jsonl", "report.html", "report.json"],
    )
    second: Manifest = write_reports(reconciled, tmp_path, formats=["disputes"])
    assert sorted(second.files) == ["disputes.csv"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["disputes.csv", "manifest.json", "notes.txt"]


def test_a_report_that_fails_leaves_the_folder_as_it_was(reconciled: Reconciliation, tmp_path: Path) -> None:
    """The earlier files are whole, nothing of the later one is there."""
    write_reports(reconciled, tmp_path, formats=["json"])
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}

    def fail(name: str) -> None:
        if name == "csv":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_reports(reconciled, tmp_path, formats=["html", "csv"], on_format=fail)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    ("formats", "folder", "problem"),
    [
        (["pdf"], "out", f"there is no format pdf here; there are: {', '.join(FORMATS)}"),
        ([], "out", "no format is given"),
        (["json"], "file", "cannot be written into .*name a folder that this user can write"),
    ],
)
def test_what_cannot_be_written_says_why(
    reconciled: Reconciliation, tmp_path: Path, formats: list[Any], folder: str, problem: str
) -> None:
    """The message names the remedy."""
    (tmp_path / "file").write_text("a file")
    with pytest.raises(KlingPricingError, match=problem):
        write_reports(reconciled, tmp_path / folder, formats=formats)
