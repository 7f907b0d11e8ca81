"""The pages of the server in a real Chromium: with and without script, at both widths, light and dark."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kling_pricing import PriceBook
from kling_pricing.guard import freeze_budgets, revoke_key, thaw_budgets
from tests.conftest import program, video
from tests.page_scenes import OWN, PageScene, page_scene

pytest.importorskip(
    "playwright.sync_api", reason="playwright is not installed (pip install 'kling-pricing[dev]')"
)
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from tests.test_reports_page import FLAGS

AXE_VARIABLE = "KLING_PRICING_TEST_AXE"
"""The variable with the folder into which npm installed axe-core."""

PAGES = (
    *("/", "/jobs", "/jobs?state=settled&label=user%3Dli", "/jobs/{reservation_id}", "/jobs/{doubtful_id}"),
    *("/in-doubt", "/calculator", "/budgets", "/budgets/trailer", "/budgets-file", "/allowances"),
    *(
        "/allowances?request={request_id}",
        "/month",
        "/audit",
        "/keys",
        "/settings",
        "/jobs/unknown",
        "/jobs/un/known",
    ),
)
WIDTHS = (1280, 390)


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory, book: PriceBook) -> Iterator[PageScene]:
    """Yields a server with a filled ledger."""
    with page_scene(tmp_path_factory.mktemp("pages"), book) as found:
        yield found


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Yields a headless Chromium."""
    path = program("chromium")
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield running
        running.close()


@pytest.fixture(scope="module")
def axe() -> str:
    """Returns the text of the accessibility checker; without it the test is skipped, in CI it fails."""
    folder = os.environ.get(AXE_VARIABLE)
    if folder is None:
        reason = f"{AXE_VARIABLE} is not set; run `npm install --prefix DIR axe-core`, and set it to DIR"
        if os.environ.get("CI"):
            pytest.fail(f"in CI nothing is skipped: {reason}")
        pytest.skip(reason)
    return Path(folder, "node_modules", "axe-core", "axe.min.js").read_text(encoding="utf-8")


class Person:
    """A signed-in person with a browser.

    Attributes:
        page: the tab.
        requests: the URLs that the browser asked for.
        messages: the messages of the console, and the errors of scripts.
    """

    def __init__(self, scene: PageScene, browser: Browser, key: str, **options: Any) -> None:
        self.scene = scene
        self.context: BrowserContext = browser.new_context(**options)
        self.page: Page = self.context.new_page()
        self.requests: list[str] = []
        self.messages: list[str] = []
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.on("console", lambda message: self.messages.append(message.text))
        self.page.on("pageerror", lambda error: self.messages.append(str(error)))
        self.open("/")
        self.page.fill("#access_key", key)
        self.page.click("button[type=submit]")

    def open(self, path: str) -> None:
        """Opens a page."""
        self.page.goto(self.scene.server.url + path.format(**self.scene.names))

    def close(self) -> None:
        """Closes the browser window."""
        self.context.close()


CUT_OFF = """() => {
  const found = [];
  for (const element of document.querySelectorAll('body *')) {
    if (element.closest('svg, .scroll, .unseen, .skip, pre, option, datalist')) continue;
    if (element.closest('details:not([open]) > :not(summary)')) continue;
    const box = element.getBoundingClientRect();
    if (box.width === 0 || box.height === 0) continue;
    const isWider = box.right > innerWidth + 0.5 || box.left < -0.5;
    const hides = getComputedStyle(element).overflowX !== 'visible';
    const isField = element.matches('input, textarea, select');
    const isCut = hides && element.scrollWidth > element.clientWidth + 1 && !isField;
    if (isWider || isCut) found.push(`${element.tagName}.${element.className}: ${box.left} to ${box.right}`);
  }
  return [document.documentElement.scrollWidth > innerWidth, found];
}"""
"""Whether the page is wider than its window, and the elements that are wider than it or cut off."""

SERIOUS = """async (rules) => {
  const some = rules.length ? {runOnly: {type: 'rule', values: rules}} : {};
  const result = await axe.run(document, {resultTypes: ['violations'], ...some});
  return result.violations.filter(each => ['serious', 'critical'].includes(each.impact))
    .map(each => `${each.id}: ${each.nodes.map(node => node.target.join(' ')).join(', ')}`);
}"""
"""The serious and critical findings of the accessibility checker."""


@pytest.mark.parametrize("width", WIDTHS)
def test_every_page_fits_and_is_accessible(scene: PageScene, browser: Browser, axe: str, width: int) -> None:
    """No page is wider than its window, asks for anything elsewhere, or has a serious finding of axe."""
    size: Any = {"width": width, "height": 900}
    key = scene.key(name=f"looker-{width}")
    person = Person(scene, browser, key, bypass_csp=True, viewport=size)  # the policy would keep axe out
    page = person.page
    page.add_init_script(axe)
    problems = {}
    for path in PAGES:
        page.emulate_media(color_scheme="light")
        person.open(path)
        found = [page.evaluate(CUT_OFF), page.evaluate(SERIOUS, [])]
        page.emulate_media(color_scheme="dark")
        found.append(page.evaluate(SERIOUS, ["color-contrast"]))
        if found != [[False, []], [], []]:
            problems[path] = found
    assert problems == {}
    assert {url for url in person.requests if not url.startswith(scene.server.url)} == set()
    person.close()


def test_the_policy_stops_nothing_that_a_page_needs(scene: PageScene, browser: Browser) -> None:
    """Under the real policy, the console has no message but those about pages that do not exist."""
    person = Person(scene, browser, scene.key(name="policy"))
    person.messages.clear()
    for path in PAGES:
        person.open(path)
        assert person.page.locator("main h1").count() == 1, path
        assert person.page.locator("[style], style, script:not([src])").count() == 0, path
    assert [text for text in person.messages if "404" not in text] == []
    person.close()


@pytest.mark.parametrize("has_script", [True, False])
def test_a_month_is_run_with_forms_alone(
    scene: PageScene,
    browser: Browser,
    has_script: bool,  # noqa: FBT001
) -> None:
    """A person asks for an allowance, grants it, changes a cap and freezes, with and without script."""
    suffix = f"{has_script}".lower()
    person = Person(scene, browser, scene.key(name=f"li-{suffix}"), java_script_enabled=has_script)
    page = person.page
    person.open("/calculator")
    page.fill("#model", "kling-v3")
    page.fill("#duration_s", "10")
    page.select_option("#resolution", "1080p")
    page.fill("#choose-project", "tight")
    page.get_by_role("button", name="Calculate").first.click()
    assert page.locator(".total").text_content() == "0.952 USD"
    assert "Budget tight has 0.5 USD left, but the job needs 0.952 USD." in (page.text_content("#answer") or "")
    page.fill("#ask-key", f"big-{suffix}")
    page.fill("#ask-reason", f"the client waits {suffix}")
    page.get_by_role("button", name="Ask").click()
    assert page.url.endswith("/allowances?done=requested")
    page.locator("tr", has_text=f"the client waits {suffix}").get_by_role("link", name="Grant").click()
    assert page.input_value("#amount") == "0.952"
    page.fill("#reason", f"granted {suffix}")
    page.get_by_role("button", name="Grant").click()
    assert page.text_content(".box.good p") == "The allowance is granted."
    assert [each.reason for each in scene.guard.allowances()][-1] == f"granted {suffix}"
    person.open("/budgets/research")
    page.fill("#new-cap", "95" if has_script else "96")
    page.fill("#cap-reason", "a longer film")
    page.get_by_role("button", name="Set the cap").click()
    assert "research: cap" in (page.text_content(".box.bad") or "")
    assert page.input_value("#cap-reason") == "a longer film"
    page.check("input[name=allow_weaker]")
    page.get_by_role("button", name="Set the cap").click()
    assert page.text_content(".box.good p") == "The new cap is in force."
    page.fill("#freeze-reason", "a pause")
    page.get_by_role("button", name="Freeze this budget").click()
    assert "This budget is frozen" in (page.text_content("main") or "")
    page.fill("#thaw-reason", "the pause is over")
    page.get_by_role("button", name="Allow spending again").click()
    assert [action.actor for action in scene.guard.log()][-1] == f"li-{suffix}"
    page.get_by_role("button", name="Sign out").click()
    assert page.url.endswith("/sign-in?done=signed-out")
    person.close()


def test_a_doubt_is_resolved_with_a_reason(scene: PageScene, browser: Browser) -> None:
    """A person states an outcome; a wrong amount is refused beside the form, with what was typed."""
    guard = scene.guard
    lost, _ = guard.admit_and_dispatch(video(duration=5, resolution="720p"), project=OWN, key="lost-again")
    guard.mark_in_doubt(lost, "timeout")
    person = Person(scene, browser, scene.key(OWN, name="wang"))
    page = person.page
    person.open("/in-doubt")
    page.locator("section", has_text="lost-again").locator("summary").click()
    section = page.locator("section", has_text="lost-again")
    section.get_by_label("The provider charged for the job").check()
    section.get_by_label("Amount charged").fill("0,3")
    section.get_by_label("Reason").fill("seen in the console")
    section.get_by_role("button", name="Record the outcome").click()
    assert "amount" in (page.text_content(".box.bad") or "")
    assert page.get_by_label("Reason").input_value() == "seen in the console"
    page.get_by_label("Amount charged").fill("0.3")
    page.get_by_role("button", name="Record the outcome").click()
    assert page.text_content(".box.good p") == "The outcome is recorded."
    assert f"{guard.reservation(lost).billed}" == "0.3"
    assert scene.guard.log()[-1].reason == "seen in the console"
    person.close()


def test_a_budgets_file_is_planned_and_applied(scene: PageScene, browser: Browser) -> None:
    """A mistake is shown with its line and the text stays; a plan names what weakens protection."""
    person = Person(scene, browser, scene.key(name="planner"))
    page = person.page
    person.open("/budgets-file")
    before = page.input_value("#file")
    page.fill("#file", before.replace("cap: 900", "cap: -1"))
    page.get_by_role("button", name="Show what would change").click()
    assert "studio" in (page.text_content(".box.bad") or "") or "cap" in (page.text_content(".box.bad") or "")
    assert "cap: -1" in page.input_value("#file")
    page.fill("#file", before.replace("cap: 900", "cap: 950"))
    page.get_by_role("button", name="Show what would change").click()
    assert "cap 900 -> 950 USD" in (page.text_content("main") or "")
    page.fill("#apply-reason", "a bigger month")
    page.get_by_role("button", name="Apply these budgets").click()
    assert "cap 900 -> 950 USD" in (page.text_content(".box.bad") or "")
    page.check("input[name=allow_weaker]")
    page.get_by_role("button", name="Apply these budgets").click()
    assert page.url.endswith("/budgets?done=budgets-applied")
    assert next(entry.cap for entry in scene.guard.budgets().budgets if entry.name == "studio") == 950
    person.close()


def test_a_key_is_shown_once(scene: PageScene, browser: Browser) -> None:
    """The text of a new key is shown on the page after the form, and not when that page is loaded again."""
    person = Person(scene, browser, scene.key(name="issuer"))
    page = person.page
    person.open("/keys")
    page.fill("#name", "fresh")
    page.fill("#project", OWN)
    page.get_by_role("button", name="Issue the key").click()
    text = page.text_content(".secret") or ""
    assert (scene.guard.access_key(text) or pytest.fail("no such key")).name == "fresh"
    page.reload()
    assert page.url.endswith("/keys")
    assert text not in page.content()
    page.locator("tr", has_text="fresh").locator("summary").click()
    page.locator("tr", has_text="fresh").get_by_label("Reason").fill("a test")
    page.get_by_role("button", name="Revoke permanently").click()
    assert page.text_content(".box.good p") == (
        "The access key is revoked. It is refused from its next request on."
    )
    assert (scene.guard.access_key(text) or pytest.fail("no such key")).revoked_at is not None
    person.close()


def test_an_open_page_updates_itself(scene: PageScene, browser: Browser) -> None:
    """A change elsewhere appears without a reload, and the stream ends with the access key."""
    key = scene.key(name="watcher")
    person = Person(scene, browser, key)
    page = person.page
    person.open("/budgets")
    page.wait_for_selector("#live-status:has-text('Live.')")
    freeze_budgets(scene.server.ledger, ["rival-cap"], actor="wang", reason="stopped elsewhere")
    page.wait_for_selector("text=stopped elsewhere")
    thaw_budgets(scene.server.ledger, ["rival-cap"], actor="wang", reason="the other tests go on")
    revoke_key(scene.server.ledger, "watcher")
    page.wait_for_selector("#live-status:has-text('has ended')")
    person.open("/budgets")
    assert "/sign-in" in page.url
    person.close()


def test_the_keyboard_reaches_everything(scene: PageScene, browser: Browser) -> None:
    """The first Tab shows the link to the content, and every control has a visible focus."""
    person = Person(scene, browser, scene.key(name="typist"))
    page = person.page
    person.open("/budgets/trailer")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.textContent") == "Skip to the content"
    box = page.evaluate("document.activeElement.getBoundingClientRect().left")
    assert box >= 0
    seen = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        style = page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
        tag = page.evaluate("document.activeElement.tagName + (document.activeElement.name || '')")
        assert style != "none" or tag == "BODY", tag
        seen.add(tag)
    assert {"INPUTcap", "INPUTuntil", "INPUTreason", "INPUTallow_weaker", "BUTTON"} <= seen
    person.close()


def test_a_stopping_server_ends_its_streams(tmp_path: Path, book: PriceBook, browser: Browser) -> None:
    """A server with an open page stops at once, and does not wait for the stream."""
    with page_scene(tmp_path, book, stop_timeout_s=60) as found:
        person = Person(found, browser, found.key(name="watcher"))
        person.page.wait_for_selector("#live-status:has-text('Live.')")
        begun_ns = time.monotonic_ns()
    assert time.monotonic_ns() - begun_ns < 30 * 10**9
    person.close()
