"""The HTML page of a report, opened offline in a real browser."""

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from kling_pricing import PriceBook
from kling_pricing.reconcile import reconcile
from kling_pricing.reports import read_spend, write_reports, write_spend
from tests.conftest import program
from tests.studio import SINCE, UNTIL, Month

pytest.importorskip(
    "playwright.sync_api", reason="playwright is not installed (pip install 'kling-pricing[dev]')"
)
from playwright.sync_api import Browser, Page, sync_playwright

FLAGS = [
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
]


CHARTS = (
    *("coverage_USD_0", "coverage_USD_1", "by_day_USD"),
    *("by_project_USD", "by_model_USD", "variance_USD"),
)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Returns a headless Chromium."""
    path = program("chromium")
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield running
        running.close()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory, book: PriceBook, studio: Month) -> Path:
    """Returns a folder with the page of a reconciliation and the page of a spend statement."""
    path = tmp_path_factory.mktemp("pages")
    with reconcile(
        studio.ledger, studio.statement, provider="qingbo", since=SINCE, until=UNTIL, book=book
    ) as result:
        write_reports(result, path / "reconciliation", formats=["html", "json"])
    write_spend(read_spend(studio.ledger, SINCE, UNTIL), path / "spend", formats=["html", "json"])
    return path


class Opened:
    """A page, with its requests and its console messages."""

    def __init__(self, browser: Browser, path: Path, **options: str) -> None:
        self.page: Page = browser.new_page(java_script_enabled=True, **options)  # type: ignore[arg-type]
        self.requests: list[str] = []
        self.messages: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", lambda message: self.messages.append(message.text))
        self.page.on("pageerror", lambda error: self.messages.append(str(error)))
        self.page.goto(path.as_uri())


@pytest.mark.parametrize("kind", ["reconciliation", "spend"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_no_request_leaves_the_page(browser: Browser, folder: Path, kind: str, scheme: str) -> None:
    """The page requests only its own file, and the console stays empty."""
    path = folder / kind / "report.html"
    opened = Opened(browser, path, color_scheme=scheme)
    opened.page.mouse.wheel(0, 20_000)
    opened.page.wait_for_load_state("networkidle")
    assert (opened.requests, opened.messages) == ([path.as_uri()], [])
    assert opened.page.locator("script[src], link[rel=stylesheet], img, iframe, object").count() == 0
    opened.page.close()


def test_the_page_has_all_charts_and_tables(browser: Browser, folder: Path) -> None:
    """Every chart has a title, a description and a drawing, and the tables agree with the figures."""
    page = Opened(browser, folder / "reconciliation" / "report.html").page
    for name in CHARTS:
        chart = page.locator(f"#chart-{name}")
        assert chart.get_attribute("role") == "img"
        assert chart.locator(f"#title-{name}").text_content()
        assert chart.locator(f"#about-{name}").text_content()
        box = chart.bounding_box()
        assert box is not None
        assert box["width"] > 300
        assert chart.locator("rect").count() > 0
    names = ("summary", "by_project", "by_model", "by_day", "causes", "exceptions", "accruals", "lines")
    assert [page.locator(f"#{name} table caption").count() for name in names] == [1] * len(names)
    assert page.locator("#chart-by_day_USD g.item").count() >= page.locator("#by_day tbody tr").count() > 20
    (billed,) = page.locator("#summary tfoot td").all_text_contents()[-1:]
    equation = page.locator(".equation .amount").all_text_contents()
    assert Decimal(billed.replace(",", "")) == Decimal(equation[-1].split()[0].replace(",", ""))
    page.close()


def test_numbers_are_aligned(browser: Browser, folder: Path) -> None:
    """Amounts are right-aligned, and all amounts of a column have the same number of decimals."""
    page = Opened(browser, folder / "reconciliation" / "report.html").page
    cells = page.locator("#by_project tbody td:last-child")
    assert set(cells.evaluate_all("all => all.map(cell => getComputedStyle(cell).textAlign)")) == {"right"}
    assert {len(text.partition(".")[2]) for text in cells.all_text_contents()} == {6}
    page.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_has_enough_contrast(browser: Browser, folder: Path, scheme: str) -> None:
    """All text has a contrast ratio of at least 4.5 to its background, in light and dark mode."""
    page = Opened(browser, folder / "reconciliation" / "report.html", color_scheme=scheme).page
    ratios = page.evaluate(CONTRASTS)
    assert len(ratios) > 5
    assert {place: ratio for place, ratio in ratios.items() if ratio < 4.5} == {}
    page.close()


CONTRASTS = """() => {
  const canvas = document.createElement('canvas').getContext('2d', {willReadFrequently: true});
  const over = (below, color) => {
    canvas.fillStyle = below; canvas.fillRect(0, 0, 1, 1);
    canvas.fillStyle = color; canvas.fillRect(0, 0, 1, 1);
    const [r, g, b] = canvas.getImageData(0, 0, 1, 1).data;
    return `rgb(${r}, ${g}, ${b})`;
  };
  const light = color => {
    const parts = color.match(/\\d+/g).slice(0, 3).map(channel => channel / 255)
      .map(channel => channel <= 0.04045 ? channel / 12.92 : ((channel + 0.055) / 1.055) ** 2.4);
    return 0.2126 * parts[0] + 0.7152 * parts[1] + 0.0722 * parts[2];
  };
  const background = element => element
    ? over(background(element.parentElement), getComputedStyle(element).backgroundColor)
    : 'rgb(255, 255, 255)';
  const ratios = {};
  for (const place of ['.eyebrow', 'h1', '.facts dd', '.verdict h2', '.verdict p', '.figure .name',
                       '.figure .unit', '.chip.good', '.chip.calm', '.chip.bad', 'th', 'td', '.legend li',
                       'nav a', 'footer']) {
    const element = document.querySelector(place);
    if (!element) continue;
    const below = background(element);
    const both = [light(over(below, getComputedStyle(element).color)), light(below)];
    ratios[place] = (Math.max(...both) + 0.05) / (Math.min(...both) + 0.05);
  }
  return ratios;
}"""


def test_the_page_fits_a_phone_and_paper(browser: Browser, folder: Path, tmp_path: Path) -> None:
    """The page is no wider than a phone screen, because wide tables scroll, and it prints to PDF."""
    page = Opened(browser, folder / "reconciliation" / "report.html").page
    page.set_viewport_size({"width": 390, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.pdf(path=str(tmp_path / "report.pdf"), prefer_css_page_size=True)
    assert (tmp_path / "report.pdf").read_bytes().startswith(b"%PDF")
    page.close()


def test_each_budget_has_a_burn_down(browser: Browser, folder: Path) -> None:
    """A budget with few windows has a line that falls from its cap, and one with many has a bar per window."""
    page = Opened(browser, folder / "spend" / "report.html").page
    titles = page.locator("figure:has([id^=chart-budget_]) h2").all_text_contents()
    assert {"Budget trailer", "Budget studio", "Budget research", "Budget each-user (user=li)"} <= set(titles)
    trailer = page.locator("figure", has_text="Budget trailer")
    assert trailer.locator("path.step").count() == 2  # for wide and for small screens
    assert trailer.locator("path.step:visible").count() == 1
    assert trailer.locator("line.pace:visible").count() == 1
    assert page.locator("figure", has_text="Budget research").locator("line.pace").count() == 0
    assert page.locator("figure", has_text="Budget each-user (user=li)").locator("g.item").count() > 4
    page.close()
