"""The page *Month* in a real Chromium: a statement is uploaded, reconciled, read, and acted on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from kling_pricing import PriceBook
from kling_pricing.ledger import connect
from kling_pricing.windows import utc_clock
from tests.page_scenes import OWN, PageScene, page_scene

pytest.importorskip(
    "playwright.sync_api", reason="playwright is not installed (pip install 'kling-pricing[dev]')"
)
from playwright.sync_api import Browser, Page

from tests.test_server_pages import Person, axe, browser, problems_of

__all__ = ["axe", "browser"]  # fixtures

PATIENCE_MS = 60_000
"""Workers start slowly on a busy machine."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns the folder with the statement and the ledger."""
    return tmp_path_factory.mktemp("month")


@pytest.fixture(scope="module")
def scene(folder: Path, book: PriceBook) -> Iterator[PageScene]:
    """Yields a server with a filled ledger, after the end of the month."""
    with page_scene(folder, book) as found:
        found.clock.pass_by(days=2)
        yield found


@pytest.fixture(scope="module")
def run_path(scene: PageScene, folder: Path) -> str:
    """Uploads the statement with its unreadable row, and returns the path of the reconciliation."""
    visitor = scene.visitor()
    fields = {"form_token": visitor.token, "provider": "qingbo", "month": "2026-11"}
    files = {"statements": ("november.csv", (folder / "qingbo-2026-11.csv").read_bytes())}
    answer = visitor.client.post("/month", data=fields, files=files)
    assert answer.status_code == httpx.codes.SEE_OTHER, answer.text
    return answer.headers["location"]


def readable(folder: Path, name: str) -> Path:
    """Writes the statement without the row that cannot be read, and returns its path."""
    lines = (folder / "qingbo-2026-11.csv").read_bytes().splitlines(keepends=True)
    path = folder / name
    path.write_bytes(b"".join(line for line in lines if not line.startswith(b"task_bad")))
    return path


def fill(page: Page, path: Path) -> None:
    """Fills in the form for a statement."""
    page.fill("#month", "2026-11")
    page.select_option("#provider", "qingbo")
    page.set_input_files("#statements", str(path))


@pytest.mark.parametrize(
    ("has_script", "action", "effect", "outcome"),
    [
        (True, "Settle the jobs", "Writes the charges of", "Settled [0-9]+, bound"),
        (False, "Dispute charges", "Opens a dispute", "Disputes opened: [1-9]"),
    ],
)
def test_a_statement_is_reconciled_and_acted_on(
    scene: PageScene,
    browser: Browser,
    folder: Path,
    has_script: bool,  # noqa: FBT001
    action: str,
    effect: str,
    outcome: str,
) -> None:
    """Progress and result appear by themselves, with and without script; a plan precedes every change."""
    name = f"finance-{has_script}".lower()
    path = readable(folder, f"{name}.csv")
    person = Person(scene, browser, scene.key(name=name), java_script_enabled=has_script)
    page = person.page
    person.open("/month")
    assert page.input_value("#month") == "2026-11"
    fill(page, path)
    page.fill("#invoice-total", "5,0")
    page.fill("#invoice-currency", "USD")
    page.get_by_role("button", name="Reconcile").click()
    assert "invoice_total" in (page.text_content(".box.bad") or "")
    assert page.input_value("#invoice-total") == "5,0"
    fill(page, path)
    page.fill("#invoice-total", "")
    page.fill("#invoice-currency", "")
    page.get_by_role("button", name="Reconcile").click()
    page.wait_for_selector("text=need action", timeout=PATIENCE_MS)
    assert path.name in (page.text_content(".lead") or "")
    page.get_by_role("link", name=f"{action}...").click()
    assert effect in (page.text_content("main") or "")
    page.fill("#reason", f"month end {name}")
    page.get_by_role("button", name=action).click()
    assert page.text_content(".box.good p") == "The work has begun. This page shows when it is done."
    page.wait_for_selector(f"text=/{outcome}/", timeout=PATIENCE_MS)
    assert f"Reason: month end {name}" in (page.text_content("main") or "")
    assert "contain this statement" in (page.text_content("main") or "")
    ledger = connect(scene.server.ledger, clock=utc_clock(None))
    assert "finance-true" in {statement.actor for statement in ledger.books("qingbo").statements}
    ledger.close()
    assert [text for text in person.messages if "400" not in text] == []
    person.close()


def test_the_month_fits_and_is_accessible(
    scene: PageScene,
    browser: Browser,
    axe: str,
    run_path: str,
) -> None:
    """A result and a plan are no wider than the window, and have no serious finding of axe."""
    person = Person(scene, browser, scene.key(name="looker"), bypass_csp=True)
    page = person.page
    page.add_init_script(axe)
    person.open(run_path)
    page.wait_for_selector("text=The month is not reconciled", timeout=PATIENCE_MS)
    assert problems_of(person, ("/month", run_path, f"{run_path}/dispute")) == {}
    assert {url for url in person.requests if not url.startswith(scene.server.url)} == set()
    person.close()


def test_a_report_is_read_in_an_origin_of_its_own(
    scene: PageScene,
    browser: Browser,
    run_path: str,
) -> None:
    """The report can be read, but its scripts have neither an origin, nor a cookie, nor a network."""
    person = Person(scene, browser, scene.key(name="reader", role="view"))
    page = person.page
    person.open(run_path)
    page.wait_for_selector("text=The month is not reconciled", timeout=PATIENCE_MS)
    assert page.get_by_role("link", name="Dispute charges...").count() == 0
    with page.expect_download() as waiting:
        page.get_by_role("link", name="Excel").click()
    assert waiting.value.suggested_filename == "report.xlsx"
    assert Path(waiting.value.path()).read_bytes()[:2] == b"PK"
    page.get_by_role("link", name="Read the report").click()
    page.wait_for_selector("h1:has-text('qingbo')")
    assert page.evaluate("self.origin") == "null"
    assert page.evaluate("fetch('/jobs').then(() => 'reached', () => 'refused')") == "refused"
    with pytest.raises(Exception, match="sandboxed"):
        page.evaluate("document.cookie")
    person.close()


def test_who_may_not(scene: PageScene, run_path: str) -> None:
    """A key of one project sees no month, nobody acts without `manage`, and a foreign form begins nothing."""
    served = scene.server.served
    assert served is not None
    count = len(served.state.runs.all())
    own, viewer = scene.visitor(OWN), scene.visitor(role="view")
    assert [own.get(path).status_code for path in ("/month", run_path)] == [403, 403]
    assert "/month" not in own.get("/").text
    assert [viewer.get(path).status_code for path in (run_path, f"{run_path}/remember")] == [200, 403]
    assert viewer.post(f"{run_path}/remember", plan="x", reason="y").status_code == 403
    files = {"statements": ("a.csv", b"task_id\n")}
    form = {"provider": "qingbo", "month": "2026-11"}
    foreign = viewer.client.post("/month", data=form | {"form_token": own.token}, files=files)
    assert foreign.status_code == 403
    assert "belongs to another session" in foreign.text
    late = viewer.client.post("/month", files=[*files.items(), ("form_token", (None, viewer.token))])
    assert late.status_code == 403
    for path in ("/month/none", f"/month/{'0' * 32}", f"{run_path}/reports/request.json"):
        assert viewer.get(path).status_code == 404
    assert len(served.state.runs.all()) == count
