"""Pages without script, states of pages that only forms lead to, and whole walks, also on PostgreSQL."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

from kling_pricing import Budget, BudgetGuard, Budgets, PriceBook
from kling_pricing.ledger.administration import prepare
from kling_pricing.server.pages.page_list import PAGES as ALL_PAGES
from tests.conftest import Clock, video
from tests.guards import CLIP
from tests.page_scenes import OWN, RIVAL, PageScene, Visitor, page_scene
from tests.providers import shared_sandbox
from tests.rehearsals import JOBS, RUN_S, SCENARIO, VIDEO, with_currency
from tests.server_runs import RunningServer, serving

pytest.importorskip(
    "playwright.sync_api", reason="playwright is not installed (pip install 'kling-pricing[dev]')"
)
from playwright.sync_api import Browser

from tests.test_server_pages import CUT_OFF, PAGES, SERIOUS, Person, axe, browser

__all__ = ["axe", "browser"]  # fixtures

PATIENCE_S = 60
"""Workers start slowly on a busy machine."""

LAYOUT = ["color-contrast", "scrollable-region-focusable"]
"""The rules of the accessibility checker whose result depends on the colours or on the width of the window."""

LOOKS: tuple[tuple[int, Any], ...] = ((1280, "light"), (390, "dark"), (1280, "dark"), (390, "light"))
"""The widths and the colours in which a browser looks at each page."""

LONG = f"P{'x' * 198}z"
"""The longest name of a project, without a place to break the line."""


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory, book: PriceBook) -> Iterator[PageScene]:
    """Yields a server after the end of the month, whose ledger has long names and a balance below zero."""
    folder = tmp_path_factory.mktemp("states")
    with page_scene(folder, book) as found:
        guard = found.guard
        long_budget = Budget(name="b" * 64, match={"project": LONG}, cap="0.4", currency="USD", window="month")
        guard.apply(Budgets([*guard.budgets().budgets, long_budget]), allow_weaker=True, reason="r " * 90)
        for key in ("j" * 200, "k" * 200):
            job, _ = guard.admit_and_dispatch(
                video(duration=5, resolution="720p"), project=LONG, key=key, labels={"user": LONG}
            )
            guard.bind(job, f"task-{key}"[:200])
            if key.startswith("j"):
                guard.settle(job, "0.01")
        guard.settle(job, "98765432.123456789")
        found.clock.pass_by(days=2)
        yield found._replace(names={**found.names, "long_id": job.reservation_id})


@pytest.fixture(scope="module")
def run(scene: PageScene) -> dict[str, Any]:
    """Reconciles the statement for the month of Shanghai, and returns the reconciliation."""
    visitor = scene.visitor()
    folder = Path(scene.server.ledger.removeprefix("sqlite:///")).parent
    fields = {
        "form_token": visitor.token,
        "provider": "qingbo",
        "month": "2026-11",
        "timezone": "Asia/Shanghai",
    }
    files = {"statements": ("november.csv", (folder / "qingbo-2026-11.csv").read_bytes())}
    answer = visitor.client.post("/month", data=fields, files=files)
    assert answer.status_code == httpx.codes.SEE_OTHER, answer.text
    return ended(scene, answer.headers["location"].rpartition("/")[2])


def api(scene: PageScene, method: str, path: str, **options: Any) -> httpx.Response:
    """Sends a request of an administrator to the API."""
    headers = scene.server.key(None, role="manage")
    return httpx.request(method, f"{scene.server.url}/api/v1{path}", headers=headers, **options)


def ended(scene: PageScene, run_id: str) -> dict[str, Any]:
    """Waits until a reconciliation is not working any more, and returns it."""
    until = time.monotonic() + PATIENCE_S
    while True:
        found: dict[str, Any] = api(scene, "GET", f"/reconciliations/{run_id}").json()
        if found["state"] != "working":
            return found
        assert time.monotonic() < until, "it did not end in time"
        time.sleep(0.1)


def _calculated(person: Person) -> None:
    person.open("/calculator")
    person.page.fill("#model", "kling-v3")
    person.page.fill("#duration_s", "10")
    person.page.select_option("#resolution", "1080p")
    person.page.fill("#choose-project", "tight")
    person.page.get_by_role("button", name="Calculate").first.click()
    person.page.wait_for_selector("#ask-reason")


def _refused_payload(person: Person) -> None:
    person.open("/calculator")
    person.page.fill("#payload", '{"model": "kling-v3", "prompt": "a", "duration": 99, "audio": 7}')
    person.page.get_by_role("button", name="Calculate").last.click()
    person.page.wait_for_selector(".box.bad")


def _planned(person: Person) -> None:
    person.open("/budgets-file")
    text = person.page.input_value("#file")
    person.page.fill("#file", text.replace("cap: 900", "cap: 950").replace("name: rival-cap", "name: rivals"))
    person.page.get_by_role("button", name="Show what would change").click()
    person.page.wait_for_selector("input[name=remove]")


def _not_declined(person: Person) -> None:
    person.open("/allowances")
    row = person.page.locator("tr", has_text="the client waits").first
    row.get_by_text("Decline").first.click()
    row.get_by_label("Reason").fill("  ")
    row.get_by_role("button", name="Decline").click()
    person.page.wait_for_selector(".box.bad")


def _issued(person: Person) -> None:
    person.open("/keys")
    person.page.fill("#project", OWN)
    person.page.get_by_role("button", name="Issue the key").click()
    person.page.wait_for_selector(".secret")


def _wrong_key(person: Person) -> None:
    person.page.get_by_role("button", name="Sign out").click()
    person.page.fill("#access_key", "kp_wrong")
    person.page.click("button[type=submit]")
    person.page.wait_for_selector(".box.bad")


STATES: tuple[Callable[[Person], None], ...] = (
    *(_calculated, _refused_payload, _planned, _not_declined, _issued, _wrong_key),
)
"""Each leads a person to a state of a page. The last one signs the person out."""


@pytest.mark.parametrize("has_script", [True, False])
def test_every_state_fits_and_is_accessible(
    scene: PageScene,
    browser: Browser,
    axe: str,
    run: dict[str, Any],
    has_script: bool,  # noqa: FBT001
) -> None:
    """Every page without script, and every state of a page with and without: nothing is cut off or serious."""
    key = scene.key(name=f"looker-{has_script}".lower())
    person = Person(scene, browser, key, bypass_csp=True, java_script_enabled=has_script)
    page, problems = person.page, {}

    def look(place: str) -> None:
        for number, (width, colours) in enumerate(LOOKS):
            page.set_viewport_size({"width": width, "height": 900})
            page.emulate_media(color_scheme=colours)
            found = [page.evaluate(CUT_OFF)]
            if has_script:  # the checker is a script
                found.append(page.evaluate(SERIOUS, LAYOUT if number else []))
            if found != [[False, []], []][: len(found)]:
                problems[f"{place} {width} {colours}"] = found

    if has_script:
        page.add_init_script(axe)
    month = f"/month/{run['id']}"
    paths = (month, *(f"{month}/{action}" for action in ("remember", "dispute")), "/jobs/{long_id}")
    for path in (*paths, *(() if has_script else PAGES)):
        person.open(path)
        look(path)
    for state in STATES:
        state(person)
        look(state.__name__)
    assert problems == {}
    assert {url for url in person.requests if not url.startswith(scene.server.url)} == set()
    assert has_script or not any(url.endswith((".js", "/live")) for url in person.requests)
    person.close()


def test_a_declined_request_tells_who_asked(scene: PageScene) -> None:
    """An administrator declines a request; its project sees who and why, nobody else does, and it is closed."""
    asker, other, admin = scene.visitor("tight", "submit"), scene.visitor(OWN), scene.visitor(name="chen")
    asked = api(scene, "GET", "/allowance-requests").json()["requests"][0]
    path = f"/allowances/requests/{asked['id']}/decline"
    assert admin.post(path, reason="").status_code == httpx.codes.BAD_REQUEST
    assert asker.post(path, reason="mine").status_code == httpx.codes.FORBIDDEN
    assert admin.post(path, reason="use 720p").headers["location"] == "/allowances?done=request-declined"
    shown = asker.get("/allowances").text
    assert "Nobody is waiting for an allowance" in shown
    assert all(text in shown for text in ("declined", "chen", "use 720p", "the client waits"))
    assert "use 720p" not in other.get("/allowances").text
    assert "use 720p" in admin.get("/audit?action=decline").text
    late = {"request": asked["id"], "until": "2026-12-24T18:00", "reason": "granted after all"}
    refused = admin.post("/allowances", **late)
    assert refused.status_code == httpx.codes.CONFLICT
    assert "chen declined request" in refused.text
    unknown = api(scene, "POST", "/allowance-requests/none/decline", json={"reason": "x"})
    assert unknown.status_code == httpx.codes.NOT_FOUND
    assert api(scene, "GET", "/allowance-requests").json()["requests"][0]["declined"]["actor"] == "chen"


def test_a_day_is_shown_page_by_page(scene: PageScene) -> None:
    """The links lead through all jobs of a day, the newest first, and through no others; filters stay."""
    guard, visitor = scene.guard, scene.visitor()
    for number in range(120):
        guard.release(guard.admit(CLIP, project=OWN, key=f"many-{number}"))
    day = scene.clock.now.date()
    found: list[str] = []
    path = f"/jobs?day={day}&state=released&project={OWN}"
    while path:
        page = visitor.get(path).text
        found += re.findall(r'<a href="/jobs/([0-9a-f]+)">', page)
        link = re.search(r'class="button" href="([^"]+)">Older jobs', page)
        path = link[1].replace("&amp;", "&") if link else ""
    since = datetime.combine(day, datetime.min.time(), UTC)
    jobs = guard.history(project=OWN, since=since, until=since + timedelta(days=1))
    assert found == [job.id for job in reversed(jobs) if job.state == "released"]
    assert len(found) == 120
    within = {"since": "2026-11-30T00:00:00Z", "until": "2026-12-01T00:00:00Z", "project": RIVAL}
    listed = api(scene, "GET", "/reservations", params=within).json()["items"]
    assert {job["key"] for job in listed} == {"rival-waiting", "rival-running", "rival-lost"}


def test_a_month_of_another_zone(scene: PageScene, run: dict[str, Any]) -> None:
    """The month begins at midnight there; remedies name pages; and the books, which are in UTC, stay open."""
    assert run["timezone"] == "Asia/Shanghai"
    assert (run["result"]["since"], run["result"]["until"]) == (
        *("2026-10-31T16:00:00Z", "2026-11-30T16:00:00Z"),
    )
    remedies = {line["reservation_id"]: line["remedy"] for line in run["result"]["lines"]}
    assert not any(re.search("kling-pricing (settle|resolve)", text) for text in remedies.values())
    stated = "state on the page of the job that the provider did not charge for it"
    job = next(job for job, text in remedies.items() if job and stated in text)
    admin = scene.visitor(name="wang")
    page = admin.get(f"/month/{run['id']}").text
    assert "the month of Asia/Shanghai" in page
    assert f'href="/jobs/{job}"' in page
    resolved = admin.post(f"/jobs/{job}/resolve", outcome="not_charged", reason="not on the statement")
    assert resolved.headers["location"] == f"/jobs/{job}?done=resolved"
    assert scene.guard.reservation(job).state == "released"
    body = {"plan": run["result"]["plan"], "reason": "the month is over"}
    assert api(scene, "POST", f"/reconciliations/{run['id']}/close", json=body).status_code == 202
    closed = ended(scene, run["id"])["steps"][-1]
    assert closed["state"] == "failed"
    assert "the books have months in UTC, and this is the month of Asia/Shanghai" in closed["text"]
    assert scene.server.served is not None
    assert scene.server.served.state.ledger.books("qingbo").closed == ()
    wrong = admin.client.post(
        "/month",
        data={"form_token": admin.token, "provider": "qingbo", "month": "2026-11", "timezone": "Mars/Base"},
        files={"statements": ("a.csv", b"task_id\n")},
    )
    assert wrong.status_code == httpx.codes.BAD_REQUEST
    assert "timezone" in wrong.text


def test_a_settled_amount_is_corrected(scene: PageScene) -> None:
    """A person with `manage` corrects a settled amount, with a reason; a job that runs has none to correct."""
    job = scene.guard.history(project=OWN)[0]
    assert job.state == "settled"
    viewer, manager = scene.visitor(OWN, "submit"), scene.visitor(OWN, name="zhao")
    path = f"/jobs/{job.id}"
    assert "Correct the amount" not in viewer.get(path).text
    assert "Correct the amount" in manager.get(path).text
    for fields in ({"amount": "0,2", "reason": "x"}, {"amount": "0.2", "reason": ""}, {"amount": "-1"}):
        refused = manager.post(f"{path}/correct", **fields)
        assert refused.status_code == httpx.codes.BAD_REQUEST
    corrected = manager.post(f"{path}/correct", amount="0.2", reason="seen on the statement")
    assert corrected.headers["location"] == f"{path}?done=corrected"
    now = scene.guard.reservation(job.id)
    assert (now.billed, now.basis) == (Decimal("0.2"), "operator")
    action = scene.guard.log()[-1]
    assert (action.actor, action.action, action.reason) == ("zhao", "settle", "seen on the statement")
    doubtful = scene.visitor().post(f"/jobs/{scene.names['doubtful_id']}/correct", amount="1", reason="x")
    assert "this job is not settled" in doubtful.text
    scene.guard.verify()


def test_each_provider_is_asked_now(tmp_path: Path, book: PriceBook) -> None:
    """A page asks every provider with prices about a job that has ended, and the answer settles it."""
    priced = with_currency(book)
    names = [name for name in JOBS if name in priced.tables]
    budgets = Budgets(
        [Budget(name="all", cap=10_000, currency="USD")],
        accounting_rates=[{"quote": "CNY", "budget": "USD", "rate": "0.14"}],
    )
    ledger = f"sqlite:///{tmp_path}/spend.db"
    with shared_sandbox(SCENARIO, book) as sandbox, BudgetGuard(ledger, budgets, book=priced) as guard:
        upstreams = {name: {"url": sandbox.url(name), "trust_media": True} for name in names}
        with serving(ledger, tmp_path, upstreams, guard, ask_after_s=86_400) as server:
            scene = PageScene(server, guard, Clock(), {}, [])
            visitor = scene.visitor(OWN, "submit")
            with server.client(OWN) as caller:
                for name in names:
                    path, payload = next(job for job in JOBS[name] if VIDEO not in f"{job}")
                    answer = caller.post(f"{server.base(name)}{path}", json=payload)
                    assert answer.is_success, (name, answer.text)
            sandbox.advance(seconds=RUN_S)
            jobs = guard.history()
            assert [job.provider for job in jobs] == names
            for job in jobs:
                asked = visitor.post(f"/jobs/{job.id}/ask")
                assert asked.headers["location"] == f"/jobs/{job.id}?done=asked", job.provider
                settled = guard.reservation(job.id)
                assert (settled.state, settled.billed) == ("settled", job.expected), job.provider
            visitor.client.close()
    assert len(names) >= 4


def _sent(visitor: Visitor, path: str, **fields: str) -> str:
    """Sends a form, which must not be refused, and returns the path to which it leads."""
    answer = visitor.post(path, **fields)
    assert answer.status_code == httpx.codes.SEE_OTHER, (path, answer.text)
    return str(answer.headers["location"])


def test_the_pages_work_on_postgresql(postgres_ledger: str, tmp_path: Path, book: PriceBook) -> None:
    """Every page shows a ledger in PostgreSQL, and every kind of form changes it as it changes a file."""
    budget = Budget(name="trailer", match={"project": OWN}, cap=1, currency="USD", window="month")
    with BudgetGuard(postgres_ledger, [budget], book=book, actor="li") as guard:
        lost, _ = guard.admit_and_dispatch(CLIP, project=OWN, key="lost")
        guard.mark_in_doubt(lost, "timeout")
        asked = [guard.ask(CLIP, project=OWN, key=key, reason="due") for key in ("first", "second")]
        with serving(postgres_ledger, tmp_path, {}, guard) as server:
            walk(server, guard, lost.reservation_id, [each.id for each in asked])
        guard.verify()


def walk(server: RunningServer, guard: BudgetGuard, lost: str, asked: list[str]) -> None:
    """Visits every page and sends the forms as an administrator, on a ledger with one job and two requests."""
    scene = PageScene(server, guard, Clock(), {}, [])
    admin, foreign = scene.visitor(name="wang"), scene.visitor(RIVAL)
    job = f"/jobs/{lost}"
    later = f"{datetime.now(UTC) + timedelta(days=1):%Y-%m-%dT%H:%M}"
    assert (
        _sent(admin, f"{job}/resolve", outcome="charged", amount="0.7", reason="seen") == f"{job}?done=resolved"
    )
    assert _sent(admin, f"{job}/correct", amount="0.5", reason="a credit") == f"{job}?done=corrected"
    _sent(admin, "/allowances", request=asked[0], until=later, reason="yes")
    _sent(admin, f"/allowances/requests/{asked[1]}/decline", reason="use 720p")
    (allowance,) = guard.allowances()
    _sent(admin, f"/allowances/{allowance.id}/revoke", reason="not needed")
    _sent(admin, "/budgets/trailer/cap", cap="2", reason="more", allow_weaker="yes")
    for path in ("/budgets/trailer/freeze", "/budgets/trailer/thaw", "/freezes", "/thaws"):
        _sent(admin, path, reason="a pause")
    file = admin.get("/budgets-file").text
    assert "cap: 2" in file
    changed = "budgets:\n  - {name: trailer, match: {project: trailer}, cap: 3, currency: USD, window: month}\n"
    assert "cap 2 -&gt; 3 USD" in admin.post("/budgets-file", file=changed).text
    _sent(admin, "/budgets-file/apply", file=changed, reason="a bigger month", allow_weaker="yes")
    assert _sent(admin, "/keys", name="ana", project=OWN, role="view") == "/keys/issued"
    _sent(admin, "/keys/ana/revoke", reason="a test")
    day = f"{guard.reservation(lost).created_at:%Y-%m-%d}"
    shown = [route.path for page in ALL_PAGES for route in page.routes if route.method == "GET"]
    names = {"reservation_id": lost, "budget": "trailer"}
    for path in (f"/jobs?day={day}", *(path.format(**names) for path in shown if "{run_id}" not in path)):
        answer = admin.get(path)
        assert answer.status_code in {httpx.codes.OK, httpx.codes.SEE_OTHER}, (path, answer.text)
    assert lost in admin.get(f"/jobs?day={day}&state=settled&label=project%3D{OWN}").text
    assert "use 720p" in admin.get("/allowances").text
    assert foreign.get(job).status_code == httpx.codes.NOT_FOUND
    assert lost not in foreign.get(f"/jobs?day={day}").text
    assert [action.action for action in guard.log() if action.actor == "wang"] == [
        *("settle", "settle", "allow", "decline", "revoke", "set", "freeze", "thaw", "freeze", "thaw"),
        *("apply", "issue_key", "revoke_key"),
    ]
    for visitor in scene.visitors:
        visitor.client.close()


def test_a_ledger_without_budgets_says_how_to_begin(tmp_path: Path) -> None:
    """Each page that needs budgets leads an administrator to the budgets file, and nobody else."""
    ledger = f"sqlite:///{tmp_path}/spend.db"
    prepare(ledger, create=True)
    with serving(ledger, tmp_path, {}) as server:
        no_guard: Any = None
        scene = PageScene(server, no_guard, Clock(), {}, [])
        admin, viewer = scene.visitor(), scene.visitor(OWN, "view")
        shown = admin.get("/").text
        assert "There are no budgets yet" in shown
        assert '<a class="button" href="/budgets-file">' in shown
        assert "Ask an administrator" in viewer.get("/").text
        assert "budgets:" in admin.get("/budgets-file").text
        file = "budgets:\n  - {name: all, cap: 5, currency: USD}\n"
        _sent(admin, "/budgets-file/apply", file=file, reason="the first ones")
        assert "on course" in admin.get("/budgets").text
        for visitor in scene.visitors:
            visitor.client.close()
