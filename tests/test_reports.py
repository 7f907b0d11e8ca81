"""Reports of the reconciliation of a month, made with a real guard, in every format."""

import csv
import json
import re
import subprocess
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
    """Reconciles the studio's month."""
    return reconcile(
        *(studio.ledger, studio.statement),
        provider="qingbo",
        since=SINCE,
        until=UNTIL,
        book=book,
        max_unreadable_percent=50,
    )


@pytest.fixture(scope="module")
def reconciled(studio: Month, book: PriceBook) -> Iterator[Reconciliation]:
    """Returns the studio's month, reconciled once."""
    with reconciled_month(studio, book) as result:
        yield result


@pytest.fixture(scope="module")
def out(reconciled: Reconciliation, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a folder with all reports of that month."""
    folder = tmp_path_factory.mktemp("reports") / "li's reports"
    write_reports(reconciled, folder)
    return folder


@pytest.fixture(scope="module")
def whole(reconciled: Reconciliation) -> Total:
    """Returns the total of all lines."""
    (total_of_all,) = reconciled.totals("all")
    return total_of_all


def rows(path: Path) -> list[dict[str, str]]:
    """Reads the rows of a CSV file."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def total(amounts: Iterator[str]) -> Decimal:
    """Returns the exact sum of amounts given as text; empty text counts as 0."""
    return sum((Decimal(amount) for amount in amounts if amount), Decimal(0))


def test_every_category_has_a_display_name() -> None:
    """Every category of the reconciliation has a name and a meaning for people."""
    assert set(CATEGORIES) == set(get_args(Category))


def test_the_month_has_something_to_report(reconciled: Reconciliation) -> None:
    """The month contains the categories that the tests below depend on."""
    categories = {line.category for line in reconciled.lines()}
    assert categories >= {
        *("matched", "explained", "unexplained", "billed_twice", "not_billed", "not_in_ledger"),
        *("in_doubt_candidate", "invalid_row"),
    }


def test_the_same_reconciliation_gives_the_same_bytes(
    studio: Month, out: Path, book: PriceBook, tmp_path: Path
) -> None:
    """Reconciling and writing again, later and elsewhere, gives identical files."""
    with reconciled_month(studio, book) as again:
        write_reports(again, tmp_path)
    assert (tmp_path / "manifest.json").read_bytes() == (out / "manifest.json").read_bytes()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == {
        path.name: path.read_bytes() for path in out.iterdir()
    }


def test_the_manifest_lists_every_file(studio: Month, out: Path) -> None:
    """The manifest lists name, size and SHA-256 of every file, and the SHA-256 of the statement."""
    manifest = json.loads((out / "manifest.json").read_text(encoding="utf-8"))
    listed = {file["name"]: (file["size_bytes"], file["sha256"]) for file in manifest["files"]}
    written = {path.name: path.read_bytes() for path in out.iterdir() if path.name != "manifest.json"}
    assert listed == {name: (len(data), sha256(data).hexdigest()) for name, data in written.items()}
    assert manifest["sources"] == {studio.statement.name: sha256(studio.statement.read_bytes()).hexdigest()}
    assert {Path(name).suffix for name in written} == {".html", ".xlsx", ".csv", ".parquet", ".json", ".jsonl"}


def test_no_report_shows_a_prompt_a_url_or_a_key(studio: Month, out: Path) -> None:
    """No file contains the prompts, URLs or API keys of requests, reasons and statements."""
    assert all(secret in studio.statement.read_text(encoding="utf-8") for secret in (PROMPT, URL, API_KEY))
    texts = {path.name: path.read_bytes() for path in out.iterdir()}
    with ZipFile(out / "report.xlsx") as workbook:
        texts |= {name: workbook.read(name) for name in workbook.namelist()}
    for name, data in texts.items():
        leaked = [secret for secret in (PROMPT, URL, API_KEY) if secret.encode() in data]
        assert (name, leaked) == (name, [])
    assert b"://" not in texts["report.html"]


def test_the_report_ties_out(reconciled: Reconciliation, whole: Total, out: Path) -> None:
    """In every table and in the list of tasks, expected + variance = billed, and the totals are the same."""
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    figures = {figure["title"]: Decimal(figure["amount"]) for figure in report["figures"]}
    assert list(figures)[:3] == ["Pay", "In dispute", "Accrue"]
    assert figures["Pay"] == whole.billed - figures["In dispute"]
    assert (figures["Expected"], figures["Variance"], figures["Billed"]) == (
        whole.expected,
        whole.variance,
        whole.billed,
    )
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
    assert (
        headline
        == f"Ties out with {exceptions_text(reconciled.exceptions, reconciled.open, reconciled.in_dispute)}"
    )
    assert len(rows(out / "exceptions.csv")) == reconciled.exceptions


class Tampered:
    """A reconciliation with one wrong number."""

    def __init__(self, true: Reconciliation, dimension: Dimension, field: str) -> None:
        self._true = true
        self._dimension = dimension
        self._field = field

    def __getattr__(self, name: str) -> Any:
        return getattr(self._true, name)

    def totals(self, dimension: Dimension) -> list[Total]:
        """Returns the true totals, with one of them off by a nano."""
        totals = self._true.totals(dimension)
        if dimension != self._dimension:
            return totals
        changed = getattr(totals[0], self._field) + Decimal("0.000000001")
        return [totals[0]._replace(**{self._field: changed}), *totals[1:]]


@pytest.mark.parametrize("dimension", ["all", "category", "standing", "project", "model", "day"])
@pytest.mark.parametrize("field", ["expected", "billed", "variance"])
def test_totals_that_do_not_tie_out_are_not_reported(
    reconciled: Reconciliation, tmp_path: Path, dimension: Dimension, field: str
) -> None:
    """One nano of difference in one total of one table raises an error, and no file is written."""
    with pytest.raises(KlingPricingError, match="does not tie out in USD"):
        write_reports(Tampered(reconciled, dimension, field), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_task_that_looks_like_a_formula_is_text_in_csv(studio: Month, out: Path) -> None:
    """CSV puts an apostrophe in front of a task like `=1+1`, and leaves negative amounts as they are."""
    lines = rows(out / "lines.csv")
    (line,) = [line for line in lines if line["task_id"].endswith(studio.formula)]
    assert (line["task_id"], line["task_id"].removeprefix("'")) == ("'=1+1", studio.formula)
    assert any(line["variance"].startswith("-") for line in lines)


def test_parquet_has_exact_decimals_and_instants(whole: Total, studio: Month, out: Path) -> None:
    """Parquet holds decimals with nine places, UTC instants, and task names unchanged."""
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
    """Each amount is a number with its exact text beside it, and only totals and figures are formulas."""
    workbook = load_workbook(out / "report.xlsx")
    assert workbook.sheetnames == [
        *("Summary", "By project", "By model", "By day", "Exceptions by cause", "Exceptions", "Journal"),
        *("Accruals", "Amount to accrue, by month", "All lines"),
    ]
    heading, *lines, sums = workbook["All lines"].iter_rows()
    place = {cell.value: number for number, cell in enumerate(heading)}
    assert len(lines) == whole.lines
    exact_texts = [line[place["Billed, exactly"]].value for line in lines]
    assert total(text for text in exact_texts if text) == whole.billed
    number, text = next(
        (line[place["Billed"]], line[place["Billed, exactly"]]) for line in lines if line[place["Billed"]].value
    )
    assert (number.data_type, text.data_type) == ("n", "s")
    (task,) = [line[place["Task"]] for line in lines if line[place["Task"]].value == studio.formula]
    assert task.data_type == "s"
    assert sums[0].value == "Total"
    formula = rf"=SUMIF\(\$[A-Z]\$2:\$[A-Z]\${whole.lines + 1},[A-Z]+{whole.lines + 2},\$[A-Z]\$2:.*\)"
    assert re.fullmatch(formula, sums[place["Billed"]].value)
    assert sums[place["Billed, exactly"]].value == str(whole.billed.normalize())
    for sheet in workbook:
        formulas = [
            (cell.row, cell.value) for row in sheet.iter_rows() for cell in row if cell.data_type == "f"
        ]
        assert {value[:4] for _, value in formulas} == {"=SUM"}
        if sheet.title != "Summary":
            assert {row for row, _ in formulas} == {sheet.max_row}


def test_a_long_table_continues_in_another_sheet(
    reconciled: Reconciliation, whole: Total, tmp_path: Path
) -> None:
    """Every sheet has a heading, and together they contain every line once."""
    xlsx.write(reconciliation_document.document(reconciled), tmp_path, max_rows=20)
    workbook = load_workbook(tmp_path / "report.xlsx")
    names = [name for name in workbook.sheetnames if name.startswith("All lines")]
    assert names == ["All lines", "All lines 2", "All lines 3", "All lines 4"][: -(-whole.lines // 19)]
    sheets = [[row[0].value for row in workbook[name].iter_rows()] for name in names]
    assert {cells[0] for cells in sheets} == {"Category"}
    assert sum(len(cells) - 1 for cells in sheets) == whole.lines + 1  # the total is on the last sheet
    place = [cell.value for cell in workbook[names[-1]][1]].index("Billed")
    formula = workbook[names[-1]].cell(workbook[names[-1]].max_row, place + 1).value
    assert [formula.count(f"'{name}'!") for name in names] == [*[2] * (len(names) - 1), 0]


def test_libreoffice_opens_the_workbook(whole: Total, studio: Month, out: Path, tmp_path: Path) -> None:
    """LibreOffice reads the same totals, and reads the task `=1+1` as text."""
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
    *lines, sums = rows(tmp_path / "report-All lines.csv")
    assert total(line["Billed, exactly"] for line in lines) == whole.billed
    assert Decimal(sums["Billed"].replace(",", "")) == whole.billed
    assert studio.formula in {line["Task"] for line in lines}


def test_accruals_are_balanced(reconciled: Reconciliation, whole: Total, out: Path) -> None:
    """Debits equal credits in every entry, and accrued liabilities are the billed plus the unbilled amounts."""
    journal = rows(out / "accruals.csv")
    for entry in {row["entry"] for row in journal}:
        sides = [row for row in journal if row["entry"] == entry]
        assert len(sides) == 2
        assert total(row["debit"] for row in sides) == total(row["credit"] for row in sides)
    liability = [row for row in journal if row["account"] == "Accrued liabilities"]
    owed = total(row["credit"] for row in liability) - total(row["debit"] for row in liability)
    unbilled = sum(
        line.expected or 0
        for line in reconciled.lines()
        if line.billed is None and line.category != "in_doubt_candidate"
    )
    assert owed == whole.billed + unbilled
    assert {row["day"] for row in journal} == {"2026-11-30"}


def test_disputes_contain_nothing_internal(reconciled: Reconciliation, out: Path) -> None:
    """Disputes list the provider's tasks and amounts, without our projects, keys, labels or reservations."""
    text = (out / "disputes.csv").read_text(encoding="utf-8")
    for line in reconciled.lines():
        internal = [line.project, line.key, line.reservation_id, line.labels.get("user")]
        assert [name for name in internal if name and re.search(rf"\b{re.escape(name)}\b", text)] == []
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


def test_only_the_requested_formats_are_written(reconciled: Reconciliation, tmp_path: Path) -> None:
    """A later report replaces the files of an earlier one, and leaves other files alone."""
    called: list[str] = []
    (tmp_path / "notes.txt").write_text("mine")
    first = write_reports(reconciled, tmp_path, formats=["json", "html"], on_format=called.append)
    assert (called, sorted(first.files)) == (
        ["html", "json"],
        ["exceptions.jsonl", "lines.jsonl", "report.html", "report.json"],
    )
    second: Manifest = write_reports(reconciled, tmp_path, formats=["disputes"])
    assert sorted(second.files) == ["disputes.csv"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["disputes.csv", "manifest.json", "notes.txt"]


def test_a_report_that_fails_leaves_the_folder_as_it_was(reconciled: Reconciliation, tmp_path: Path) -> None:
    """After an interrupted report, the folder holds exactly the files of the earlier one."""
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
        (["pdf"], "out", f"^unknown report format pdf; choose from {', '.join(FORMATS)}$"),
        ([], "out", f"^no report format given; choose from {', '.join(FORMATS)}$"),
        (
            ["json"],
            "file",
            (
                "/file: cannot write the report: .*; "
                "choose a folder that this user can write to, on a disk with enough space$"
            ),
        ),
    ],
)
def test_a_report_that_cannot_be_written_says_why(
    reconciled: Reconciliation, tmp_path: Path, formats: list[Any], folder: str, problem: str
) -> None:
    """The error names the cause and the remedy."""
    (tmp_path / "file").write_text("a file")
    with pytest.raises(KlingPricingError, match=problem):
        write_reports(reconciled, tmp_path / folder, formats=formats)
