"""Reports of a month with 300 jobs on paper, and its sheets after LibreOffice has computed them."""

import re
import subprocess
from collections import Counter
from decimal import Decimal
from pathlib import Path
from typing import Any
from zipfile import ZipFile

import pytest
from openpyxl import load_workbook

from kling_pricing import PriceBook
from kling_pricing.reconcile import reconcile
from kling_pricing.reports import FORMATS, Chargeback, read_spend, write_reports, write_spend
from tests import months
from tests.conftest import program
from tests.paper import PaperPage, pages_of
from tests.studio import SINCE, UNTIL, Month, month

pytest.importorskip(
    "playwright.sync_api", reason="playwright is not installed (pip install 'kling-pricing[dev]')"
)
from playwright.sync_api import sync_playwright

MAX_PAGES = 6
"""The most pages of a report with 300 lines, and of each of its sheets."""

ALWAYS_COMPUTE = """\
<?xml version="1.0" encoding="UTF-8"?>
<oor:items xmlns:oor="http://openoffice.org/2001/registry" xmlns:xs="http://www.w3.org/2001/XMLSchema"
 xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">
<item oor:path="/org.openoffice.Office.Calc/Formula/Load"><prop oor:name="OOXMLRecalcMode" oor:op="fuse">
<value>0</value></prop></item>
</oor:items>
"""
"""A setting of LibreOffice: compute every formula when a workbook is opened."""

SEEDS = (1, 2, 3)
KINDS = ("reconciliation", "spend")


@pytest.fixture(scope="module")
def busy(tmp_path_factory: pytest.TempPathFactory, book: PriceBook) -> Month:
    """Returns a studio's month with 300 jobs."""
    return month(tmp_path_factory.mktemp("busy"), book, 300)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, book: PriceBook, busy: Month) -> Path:
    """Returns a folder with the page and the workbook of each kind of report, and random workbooks."""
    path = tmp_path_factory.mktemp("paper")
    with reconcile(
        busy.ledger, busy.statement, provider="qingbo", since=SINCE, until=UNTIL, book=book
    ) as result:
        write_reports(result, path / "reconciliation", formats=["html", "xlsx"], book=book)
    chargeback = Chargeback(("user", "team"))
    spent = read_spend(busy.ledger, SINCE, UNTIL)
    write_spend(spent, path / "spend", formats=["html", "xlsx"], chargeback=chargeback)
    for seed in SEEDS:
        _random_workbook(path / f"seed-{seed}", seed)
    for kind in (*KINDS, *(f"seed-{seed}" for seed in SEEDS)):
        (path / kind / "report.xlsx").rename(path / f"{kind}.xlsx")
    return path


def _random_workbook(folder: Path, seed: int) -> None:
    """Writes the workbook of a random month: split, moved, refunded, charged twice, and so on."""
    (folder / "input").mkdir(parents=True)
    prices = months.book(folder)
    grown = months.Grower(prices, seed).grow(140)
    ledger = months.write_ledger(grown, folder / "input" / "spend.db", prices)
    statement = months.write_csv(grown, folder / "input")
    with reconcile(
        ledger,
        statement,
        provider="acme",
        since=months.SINCE,
        until=months.UNTIL,
        mapping="qingbo-tasks",
        book=prices,
        max_unreadable_percent=100,
    ) as result:
        write_reports(result, folder, formats=["xlsx"], book=prices)


@pytest.fixture(scope="module")
def printed(folder: Path) -> dict[str, list[PaperPage]]:
    """Returns the pages that Chromium prints of each report."""
    paper = {}
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=program("chromium"), args=["--no-sandbox", "--disable-gpu"]
        )
        for kind in KINDS:
            page = browser.new_page()
            page.goto((folder / kind / "report.html").as_uri())
            page.pdf(path=str(folder / f"{kind}-page.pdf"), prefer_css_page_size=True)
            paper[kind] = pages_of(folder / f"{kind}-page.pdf")
        browser.close()
    return paper


@pytest.fixture(scope="module")
def computed(folder: Path) -> Path:
    """Returns a folder with the workbooks as LibreOffice saves them, and PDFs of the two reports.

    In the workbooks that it opens, every result of a formula is 0, so all results are its own.
    """
    profile = folder / "profile"
    (profile / "user").mkdir(parents=True)
    (profile / "user" / "registrymodifications.xcu").write_text(ALWAYS_COMPUTE)
    office = [program("soffice"), f"-env:UserInstallation={profile.as_uri()}", "--headless"]
    for path in sorted(folder.glob("*.xlsx")):
        _without_results(path, folder / f"{path.stem}-zero.xlsx")
    out = folder / "computed"
    workbooks = [str(path) for path in sorted(folder.glob("*-zero.xlsx"))]
    reports = [str(folder / f"{kind}.xlsx") for kind in KINDS]
    for words in (
        ["--convert-to", "xlsx:Calc MS Excel 2007 XML", "--outdir", str(out), *workbooks],
        ["--convert-to", "pdf", "--outdir", str(out), *reports],
    ):
        subprocess.run([*office, *words], check=True, capture_output=True, timeout=240)
    return out


def _without_results(source: Path, target: Path) -> None:
    """Copies a workbook; the stored results of its formulas become 0."""
    with ZipFile(source) as old, ZipFile(target, "w") as new:
        for name in old.namelist():
            data = old.read(name)
            if name.startswith("xl/worksheets/"):
                data = re.sub(rb"</f><v>[^<]*</v>", b"</f><v>0</v>", data)
            new.writestr(name, data)


@pytest.mark.parametrize("kind", KINDS)
def test_the_page_is_printed_on_few_pages_without_losing_text(
    printed: dict[str, list[PaperPage]], busy: Month, kind: str
) -> None:
    """A month of 300 jobs takes at most six pages of A4; no word is off the page or printed over another."""
    paper = printed[kind]
    assert 3 <= len(paper) <= MAX_PAGES
    assert {(round(page.width), round(page.height)) for page in paper} == {(595, 842)}
    assert [page.misplaced() for page in paper] == [[]] * len(paper)
    text = " ".join(page.text for page in paper)
    with busy.statement.open(encoding="utf-8") as file:
        tasks = {line.split(",")[0] for line in file} - {"task_id"}
    known = tasks if kind == "reconciliation" else {task for task in tasks if not task.endswith(("x", "_bad"))}
    assert len([task for task in known if task in text]) > 250
    assert [word for page in paper for word in page.words if "…" in word.text[1:]] == []


@pytest.mark.parametrize("kind", KINDS)
def test_an_equation_is_on_one_page(printed: dict[str, list[PaperPage]], kind: str) -> None:
    """All figures of the equation are on the first page, on the same line."""
    titles = {"reconciliation": ("Expected", "Variance", "Billed"), "spend": ("Spent", "Held", "Committed")}
    first = printed[kind][0]
    tops = [[word.top for word in first.words if word.text == title] for title in titles[kind]]
    assert set.intersection(*(set(map(round, each)) for each in tops))


@pytest.mark.parametrize("kind", KINDS)
def test_each_sheet_is_printed_on_few_pages_without_losing_text(computed: Path, kind: str) -> None:
    """Each sheet takes at most six pages; no word is off the page or over another, and no number is cut."""
    paper = pages_of(computed / f"{kind}.pdf")
    sheets = Counter(re.sub(r" \d+ / \d+$", "", _footer(page)) for page in paper)
    workbook = load_workbook(computed.parent / f"{kind}.xlsx", read_only=True)
    assert set(sheets) == set(workbook.sheetnames)
    assert max(sheets.values()) <= MAX_PAGES
    assert [page.misplaced() for page in paper] == [[]] * len(paper)
    assert [page.text for page in paper if "###" in page.text] == []


def _footer(page: PaperPage) -> str:
    """Returns the last line of a page: the name of the sheet and the number of the page."""
    lowest = max(word.top for word in page.words)
    return " ".join(word.text for word in sorted(page.words) if word.top > lowest - 3)


@pytest.mark.parametrize("name", [*KINDS, *(f"seed-{seed}" for seed in SEEDS)])
def test_computed_sums_equal_the_exact_text_beside_them(computed: Path, name: str) -> None:
    """LibreOffice computes every formula to the value that stands beside it with all digits."""
    formulas = load_workbook(computed.parent / f"{name}.xlsx")
    values = load_workbook(computed / f"{name}-zero.xlsx", data_only=True)
    compared = 0
    for sheet in formulas:
        for row in sheet.iter_rows():
            for cell in row:
                if cell.data_type == "f":
                    result: Any = values[sheet.title][cell.coordinate].value
                    exact = _exact(sheet, cell)
                    if exact is None:
                        assert isinstance(result, int | float), (sheet.title, cell.coordinate)
                    else:
                        difference = abs(Decimal(str(result)) - exact)
                        assert difference <= abs(exact) / 10**13 + Decimal("1e-12"), (
                            sheet.title,
                            cell.coordinate,
                        )
                        compared += 1
    assert compared > 20


def _exact(sheet: Any, cell: Any) -> Decimal | None:
    """Returns the exact amount right of a formula; None: it is a count. In the summary, it is farther right."""
    if cell.number_format == "#,##0":
        return None
    for place in (1, 2):
        text = sheet.cell(cell.row, cell.column + place).value
        if isinstance(text, str) and re.fullmatch(r"-?[0-9]+(\.[0-9]+)?", text):
            return Decimal(text)
    raise AssertionError((sheet.title, cell.coordinate, "no exact amount beside the formula"))


def test_sheets_have_labels_as_columns_and_days_as_dates(folder: Path) -> None:
    """Each label has a column, and a day is a date that a spreadsheet can sort and group."""
    workbook = load_workbook(folder / "spend.xlsx")
    heading = [cell.value for cell in workbook["All jobs"][1]]
    assert "Label user" in heading
    users = {row[heading.index("Label user")].value for row in workbook["All jobs"].iter_rows(min_row=2)}
    assert {"li", "wang", "zhao"} <= users
    assert workbook["By day"]["A2"].is_date
    assert workbook["By day"]["A2"].value.strftime("%Y-%m-%d") == "2026-11-01"
    assert set(FORMATS) >= {"html", "xlsx"}
