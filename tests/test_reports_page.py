"""The HTML page of a report, opened offline in a real browser."""

import json
import re
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path

import pytest

from kling_pricing import PriceBook
from kling_pricing.reconcile import reconcile
from kling_pricing.reports import read_spend, reconciliation_document, write_reports, write_spend
from kling_pricing.reports.formats import html
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


@pytest.mark.parametrize("kind", ["reconciliation", "spend"])
@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")])
def test_no_text_is_cut_off(browser: Browser, folder: Path, kind: str, width: int, scheme: str) -> None:
    """The page is as wide as the screen, and no text is hidden, shortened, or outside of its box or drawing."""
    page = Opened(browser, folder / kind / "report.html", color_scheme=scheme).page
    page.set_viewport_size({"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert page.evaluate(CUT_OFF) == []
    if width == 1280:  # tables are as wide as the page; on a phone, they scroll
        assert (
            page.evaluate(
                "[...document.querySelectorAll('.scroll')].filter(SCROLLS)".replace(
                    "SCROLLS", "box => box.scrollWidth > box.clientWidth"
                )
            )
            == []
        )
    sizes = page.locator("svg:visible text").evaluate_all(
        "all => all.map(text => text.getScreenCTM().a * parseFloat(getComputedStyle(text).fontSize))"
    )
    assert min(sizes) >= 11
    page.close()


CUT_OFF = """() => {
  const cut = [];
  const shown = element => element.checkVisibility() && !element.closest('.unseen, .skip');
  for (const element of document.querySelectorAll('body *:not(svg, svg *)')) {
    if (!shown(element) || !element.textContent.trim()) continue;
    const style = getComputedStyle(element);
    const hides = style.overflowX === 'hidden' || style.textOverflow === 'ellipsis';
    const parent = element.parentElement.closest('.scroll') ?? document.documentElement;
    const [own, outer] = [element.getBoundingClientRect(), parent.getBoundingClientRect()];
    const isOutside = own.left < outer.left - 1 || own.right > outer.left + parent.scrollWidth + 1;
    const isTooSmall = style.display !== 'inline' && !element.matches('.scroll, html, body')
      && element.scrollWidth > element.clientWidth + 1;
    if (hides || isOutside || isTooSmall) cut.push(element.outerHTML.slice(0, 120));
  }
  for (const text of document.querySelectorAll('svg text')) {
    if (!shown(text)) continue;
    const [own, outer] = [text.getBoundingClientRect(), text.closest('svg').getBoundingClientRect()];
    const isInside = own.left >= outer.left - 1 && own.right <= outer.right + 1
      && own.top >= outer.top - 2 && own.bottom <= outer.bottom + 2;
    if (!isInside || text.textContent.includes('…')) cut.push(text.textContent);
  }
  return cut;
}"""


def test_rows_can_be_filtered_and_sorted(browser: Browser, folder: Path) -> None:
    """Words filter the rows, and a heading sorts them, both ways, numbers as numbers; no server is needed."""
    page = Opened(browser, folder / "reconciliation" / "report.html").page
    rows = page.locator("#lines tbody tr")
    everything = rows.count()
    box = page.locator("#lines .filter")
    box.locator("input").fill("TRAILER 1080p")
    shown = page.locator("#lines tbody tr:visible")
    texts = [text.lower() for text in shown.all_text_contents()]
    assert 0 < len(texts) < everything
    assert all("trailer" in text and "1080p" in text for text in texts)
    assert box.locator("[role=status]").text_content() == (
        f"{len(texts)} of {everything} rows; the totals include all rows"
    )
    box.locator("input").fill("")
    assert shown.count() == everything
    place = page.locator("#lines thead th").all_text_contents().index("Billed")
    heading = page.locator("#lines thead th").nth(place)
    for direction, sign in (("ascending", 1), ("descending", -1)):
        heading.locator("button").click()
        assert heading.get_attribute("aria-sort") == direction
        cells = page.locator(f"#lines tbody td:nth-child({place + 1})").all_text_contents()
        amounts = [sign * Decimal(cell.replace(",", "")) for cell in cells if cell]
        assert len(amounts) > 20
        assert amounts == sorted(amounts)
        assert cells == sorted(cells, key=lambda cell: not cell)  # cells without an amount come last
    page.close()


def test_the_page_is_complete_without_its_script(browser: Browser, folder: Path) -> None:
    """Without script, every row is there, and no control that would do nothing; no other script may run."""
    opened = browser.new_page(java_script_enabled=False)
    opened.goto((folder / "reconciliation" / "report.html").as_uri())
    report = json.loads((folder / "reconciliation" / "report.json").read_text(encoding="utf-8"))
    assert opened.locator("#lines tbody tr:visible").count() == report["tables"]["lines"]["length"] > 60
    assert opened.locator("button, input").count() == 0
    policy = opened.locator("meta[http-equiv]").get_attribute("content")
    assert policy is not None
    assert re.search(r"script-src 'sha256-[A-Za-z0-9+/=]{44}';", policy)
    opened.close()


def test_a_very_long_table_goes_on_in_further_pages(
    browser: Browser, book: PriceBook, studio: Month, tmp_path: Path
) -> None:
    """Each page of a table links to the others, and together they have every row once."""
    with reconcile(
        studio.ledger, studio.statement, provider="qingbo", since=SINCE, until=UNTIL, book=book
    ) as result:
        document = reconciliation_document.document(result)
        html.write(document, tmp_path, max_rows=25)
        tasks = [line.task_id or "" for line in result.lines()]
    assert {path.name for path in tmp_path.iterdir()} == set(html.page_names(document, 25))
    opened = Opened(browser, tmp_path / "report.html")
    seen = opened.page.locator("#lines tbody td:nth-child(2)").all_text_contents()
    links = opened.page.locator("#lines .pages a")
    assert links.count() == -(-len(tasks) // 25) - 1
    for link in [each.get_attribute("href") or "" for each in links.all()]:
        opened.page.goto(f"{tmp_path.as_uri()}/{link}")
        seen += opened.page.locator("#lines tbody td:nth-child(2)").all_text_contents()
        assert opened.page.locator("#lines .pages [aria-current]").count() == 1
    assert seen == tasks
    assert opened.messages == []
    opened.page.close()


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
