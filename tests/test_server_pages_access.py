"""Who may see and do what on the pages: signing in, sessions, tokens, roles and foreign keys on every route."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeAlias

import httpx
import pytest

from kling_pricing import PriceBook
from kling_pricing.errors import SettingsError
from kling_pricing.guard import revoke_key
from kling_pricing.ledger import connect
from kling_pricing.ledger.access_keys import ROLES, digest_of
from kling_pricing.ledger.sessions import MAX_SESSIONS
from kling_pricing.server.pages.page_list import PAGES
from kling_pricing.server.server_settings import load_settings
from tests.conftest import Clock, OpenGuard
from tests.guards import CLIP
from tests.page_scenes import OWN, RIVAL, SECRETS, PageScene, page_scene, token_in
from tests.providers import running
from tests.server_runs import CREDENTIAL

Requirement: TypeAlias = tuple[str, bool]
"""The weakest role that may use a route, and whether it needs a key of all projects."""

VIEW, SUBMIT, MANAGE = ("view", False), ("submit", False), ("manage", False)
AUDIT, ADMINISTER = ("view", True), ("manage", True)

REQUIRED: dict[tuple[str, str], Requirement] = {
    ("GET", "/"): VIEW,
    ("GET", "/jobs"): VIEW,
    ("GET", "/jobs/{reservation_id}"): VIEW,
    ("GET", "/in-doubt"): VIEW,
    ("POST", "/jobs/{reservation_id}/ask"): SUBMIT,
    ("POST", "/jobs/{reservation_id}/resolve"): MANAGE,
    ("POST", "/jobs/{reservation_id}/correct"): MANAGE,
    ("GET", "/calculator"): VIEW,
    ("POST", "/calculator"): VIEW,
    ("POST", "/calculator/ask"): SUBMIT,
    ("GET", "/budgets"): VIEW,
    ("GET", "/budgets/{budget}"): VIEW,
    ("POST", "/budgets/{budget}/cap"): ADMINISTER,
    ("POST", "/budgets/{budget}/freeze"): ADMINISTER,
    ("POST", "/budgets/{budget}/thaw"): ADMINISTER,
    ("POST", "/freezes"): ADMINISTER,
    ("POST", "/thaws"): ADMINISTER,
    ("GET", "/budgets-file"): AUDIT,
    ("POST", "/budgets-file"): ADMINISTER,
    ("POST", "/budgets-file/apply"): ADMINISTER,
    ("GET", "/allowances"): VIEW,
    ("POST", "/allowances"): ADMINISTER,
    ("POST", "/allowances/requests/{request_id}/decline"): ADMINISTER,
    ("POST", "/allowances/{allowance_id}/revoke"): ADMINISTER,
    ("GET", "/month"): AUDIT,
    ("POST", "/month"): AUDIT,
    ("GET", "/month/{run_id}"): AUDIT,
    ("GET", "/month/{run_id}/reports/{name}"): AUDIT,
    ("GET", "/month/{run_id}/{action}"): ADMINISTER,
    ("POST", "/month/{run_id}/{action}"): ADMINISTER,
    ("GET", "/audit"): ADMINISTER,
    ("GET", "/keys"): ADMINISTER,
    ("POST", "/keys"): ADMINISTER,
    ("GET", "/keys/issued"): ADMINISTER,
    ("POST", "/keys/{name}/revoke"): ADMINISTER,
    ("GET", "/settings"): AUDIT,
    ("POST", "/settings/receivers"): ADMINISTER,
}
"""Method and path -> what it requires. A route that is missing here fails the tests."""

ROUTES = [(route.method, route.path) for page in PAGES for route in page.routes]
NAMES = {"allowance_id": "none", "name": "none", "run_id": "none", "action": "settle"}
"""Parameters of paths for which the project `rival` has no object."""


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory, book: PriceBook) -> Iterator[PageScene]:
    """Yields a server with a filled ledger."""
    with page_scene(tmp_path_factory.mktemp("access"), book) as found:
        yield found


def path_of(scene: PageScene, path: str) -> str:
    """Returns a path with objects of the project `rival`."""
    return path.format(**{**NAMES, **scene.names})


def test_every_route_is_known() -> None:
    """The tests of rights cover every route of every page."""
    assert sorted(ROUTES) == sorted(REQUIRED)


@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("project", [OWN, None])
def test_a_route_takes_the_roles_that_it_requires(scene: PageScene, role: Any, project: str | None) -> None:
    """A key with a smaller role, or of one project where all are concerned, gets 403."""
    visitor = scene.visitor(project, role)
    refused = set()
    for method, path in ROUTES:
        wanted = path_of(scene, path)
        answer = visitor.get(wanted) if method == "GET" else visitor.post(wanted)
        if answer.status_code == httpx.codes.FORBIDDEN:
            refused.add((method, path))
        else:
            assert answer.status_code < 500, (method, path, answer.text)
    expected = {
        route
        for route, (least, needs_all) in REQUIRED.items()
        if ROLES.index(role) < ROLES.index(least) or (needs_all and project is not None)
    }
    assert refused == expected


def test_a_form_needs_the_token_of_the_session(scene: PageScene) -> None:
    """Every form is refused without the token, with that of another session, and without a session."""
    visitor, other = scene.visitor(), scene.visitor()
    stranger = scene.stranger()
    before = len(scene.guard.log())
    for method, path in ROUTES:
        if method == "GET":
            continue
        wanted = path_of(scene, path)
        for fields in ({}, {"form_token": other.token}, {"form_token": "é"}):
            answer = visitor.client.post(wanted, data={"reason": "attack", **fields})
            assert answer.status_code == httpx.codes.FORBIDDEN, path
            assert "belongs to another session" in answer.text
        in_json = visitor.client.post(wanted, json={"form_token": visitor.token})
        assert in_json.status_code == httpx.codes.FORBIDDEN
        sent_away = stranger.client.post(wanted, data={"form_token": visitor.token})
        assert sent_away.status_code == httpx.codes.SEE_OTHER
        assert sent_away.headers["location"].startswith("/sign-in?next=")
    assert len(scene.guard.log()) == before


@pytest.mark.parametrize("role", ROLES)
def test_a_key_of_one_project_sees_nothing_of_another(scene: PageScene, role: Any) -> None:
    """No page shows a job, a budget or an alert of the project `rival`; its objects are not found."""
    visitor = scene.visitor(OWN, role)
    for method, path in ROUTES:
        wanted = path_of(scene, path)
        answer = visitor.get(wanted) if method == "GET" else visitor.post(wanted, outcome="charged", reason="x")
        shown = answer.text.replace(f"/{wanted.strip('/')}", "")
        typed = {"rival-cap"} if "{budget}" in path else set()
        assert {secret for secret in SECRETS if secret in shown} <= typed, path
        if "{reservation_id}" in path and answer.status_code != httpx.codes.FORBIDDEN:
            assert answer.status_code == httpx.codes.NOT_FOUND, path
    assert visitor.get("/budgets/rival-cap").status_code == httpx.codes.NOT_FOUND
    assert "rival" not in visitor.get("/").text + visitor.get("/jobs").text + visitor.get("/in-doubt").text
    assert visitor.get(f"/jobs?project={RIVAL}").status_code == httpx.codes.FORBIDDEN
    assert RIVAL in scene.visitor().get("/jobs").text


def test_the_cookie_is_kept_from_scripts_and_other_sites(scene: PageScene) -> None:
    """The cookie is HttpOnly and SameSite=Strict, and the ledger does not have the token."""
    visitor = scene.stranger()
    answer = visitor.sign_in(scene.key())
    cookie = answer.headers["set-cookie"]
    assert re.fullmatch(r"kling_pricing_session=[A-Za-z0-9_-]{43}; Path=/; HttpOnly; SameSite=Strict", cookie)
    token = visitor.client.cookies["kling_pricing_session"]
    with_it = Path(scene.server.ledger.removeprefix("sqlite:///")).read_bytes()
    assert token.encode() not in with_it


def test_pages_let_nothing_in_from_elsewhere(scene: PageScene) -> None:
    """Pages have the policy and are not stored; files of the pages are stored for ever, under their digest."""
    page = scene.visitor().get("/")
    assert page.headers["content-security-policy"] == (
        "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self' data:; connect-src 'self'; "
        "form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    )
    assert page.headers["cache-control"] == "no-store"
    for url in re.findall(r'(?:href|src)="(/static/[^"]+)"', page.text):
        file = httpx.get(scene.server.url + url)
        assert file.status_code == httpx.codes.OK
        assert "immutable" in file.headers["cache-control"]
    assert httpx.get(f"{scene.server.url}/static/pages.0000000000000000.css").status_code == 404
    assert httpx.get(f"{scene.server.url}/static/..%2fpages_list.py").status_code == 404


def test_a_wrong_key_is_refused_and_attempts_are_limited(tmp_path: Path, book: PriceBook) -> None:
    """A wrong, a revoked and an empty key are refused alike; after ten, even a right one must wait."""
    with page_scene(tmp_path, book) as scene:
        key = scene.key(name="li")
        revoke_key(scene.server.ledger, "li")
        right = scene.key(name="wang")
        visitor = scene.stranger()
        texts = set()
        for wrong in (key, "", "kp_wrong", "x" * 100_000, *["kp_wrong"] * 6):
            answer = visitor.sign_in(wrong)
            assert answer.status_code == httpx.codes.UNAUTHORIZED
            assert wrong == "" or wrong not in answer.text
            texts.add(answer.text)
        assert len(texts) == 1
        limited = visitor.sign_in(right)
        assert limited.status_code == httpx.codes.TOO_MANY_REQUESTS
        assert "try again in" in limited.text


@pytest.mark.parametrize(
    ("wanted", "place"),
    [
        ("/jobs?state=settled", "/jobs?state=settled"),
        ("//evil.example/", "/"),
        ("https://evil.example/", "/"),
        ("/\\evil.example", "/"),
        ("/api/v1/keys", "/"),
        ("javascript:alert(1)", "/"),
        ("/jobs\r\nset-cookie: a=b", "/"),
        ("//[", "/"),
        ("/\t/evil.example", "/"),
    ],
)
def test_signing_in_leads_only_to_pages(scene: PageScene, wanted: str, place: str) -> None:
    """After signing in, a person goes to the page that they wanted, and never to another place."""
    visitor = scene.stranger()
    assert visitor.sign_in(scene.key(), wanted).headers["location"] == place
    again = visitor.client.get("/sign-in", params={"next": wanted})
    assert (again.status_code, again.headers["location"]) == (httpx.codes.SEE_OTHER, place)


@pytest.mark.parametrize(
    "path", ["/sign-in?next=%ff", f"/sign-in?{'a=1&' * 300}", "/sign-in?next=//%5b", "/sign-in?next=%2F%09%2Fx"]
)
def test_a_broken_address_of_the_sign_in_page_is_no_failure(scene: PageScene, path: str) -> None:
    """Whoever makes up an address gets the form, with or without a reason, and leads nobody elsewhere."""
    answer = scene.stranger().get(path)
    assert answer.status_code in {httpx.codes.OK, httpx.codes.BAD_REQUEST}
    assert '<input type="hidden" name="next" value="/">' in answer.text


def test_a_broken_origin_is_another_site(scene: PageScene) -> None:
    """An origin that is no URL is refused, as that of another site is."""
    form = {"access_key": scene.key(), "next": "/"}
    answer = httpx.post(f"{scene.server.url}/sign-in", data=form, headers={"origin": "http://["})
    assert (answer.status_code, "set-cookie" in answer.headers) == (httpx.codes.FORBIDDEN, False)


def test_dates_beyond_the_calendar_are_refused(scene: PageScene) -> None:
    """A date without a next day, or before the year 1 in UTC, is an error of the form and not of the server."""
    visitor = scene.visitor()
    assert visitor.get("/jobs?day=0001-01-01").status_code == httpx.codes.BAD_REQUEST
    assert "day: must be a date" in visitor.get("/jobs?day=9999-12-31").text
    for ends in ("0001-01-01T00:00+14:00", "9999-12-31T23:59-14:00"):
        answer = visitor.post("/keys", name="late", project=OWN, expires_at=ends)
        assert answer.status_code == httpx.codes.BAD_REQUEST
        assert "expires_at: must be a date and a time" in answer.text


def test_another_site_cannot_sign_somebody_in(scene: PageScene) -> None:
    """A form from another site is refused, by what the browser says of its origin."""
    for headers in ({"sec-fetch-site": "cross-site"}, {"origin": "https://evil.example"}, {"origin": "null"}):
        answer = httpx.post(
            f"{scene.server.url}/sign-in", data={"access_key": scene.key(), "next": "/"}, headers=headers
        )
        assert (answer.status_code, "set-cookie" in answer.headers) == (httpx.codes.FORBIDDEN, False)


def test_a_link_from_another_site_arrives(scene: PageScene) -> None:
    """A browser that comes from another site sends no cookie, so the page has it load again."""
    visitor = scene.visitor()
    headers = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate"}
    answer = httpx.get(f"{scene.server.url}/jobs?project=a%22b", headers=headers)
    assert '<meta http-equiv="refresh" content="0;url=/jobs?project=a%22b">' in answer.text
    assert visitor.get("/jobs").status_code == httpx.codes.OK


def test_signing_out_ends_the_session(scene: PageScene) -> None:
    """After signing out, the token is worthless; another session of the same key goes on."""
    key = scene.key()
    first, second = scene.stranger(), scene.stranger()
    first.sign_in(key)
    second.sign_in(key)
    stolen = first.client.cookies["kling_pricing_session"]
    assert first.client.post("/sign-out").status_code == httpx.codes.FORBIDDEN
    assert first.post("/sign-out").headers["location"] == "/sign-in?done=signed-out"
    first.client.cookies.clear()
    first.client.cookies.set("kling_pricing_session", stolen)
    assert first.get("/").headers["location"] == "/sign-in?next=%2F"
    assert second.get("/").status_code == httpx.codes.OK


def test_a_session_ends_with_its_key_and_by_time(tmp_path: Path, book: PriceBook) -> None:
    """A session ends with its key, after an idle time, and after a longest time."""
    with page_scene(tmp_path, book, session_idle_s=3600, session_lasts_s=36_000) as scene:
        clock = scene.clock
        revoked = scene.visitor(name="li")
        revoke_key(scene.server.ledger, "li")
        assert revoked.get("/").status_code == httpx.codes.SEE_OTHER
        idle, busy = scene.visitor(), scene.visitor()
        for _ in range(9):
            clock.pass_by(minutes=59)
            assert busy.get("/").status_code == httpx.codes.OK
        assert idle.get("/").status_code == httpx.codes.SEE_OTHER
        live = busy.client.get("/", headers={"x-kling-pricing-live": "1"})
        assert live.status_code == httpx.codes.OK
        clock.pass_by(minutes=59)
        assert busy.get("/").status_code == httpx.codes.OK
        clock.pass_by(minutes=30)
        assert busy.get("/").status_code == httpx.codes.SEE_OTHER


def test_live_updates_do_not_keep_a_session(tmp_path: Path, book: PriceBook) -> None:
    """An open page that updates itself is not a use, so a forgotten browser is signed out."""
    with page_scene(tmp_path, book, session_idle_s=3600) as scene:
        visitor = scene.visitor()
        for _ in range(3):
            scene.clock.pass_by(minutes=25)
            status = visitor.client.get("/", headers={"x-kling-pricing-live": "1"}).status_code
        assert status == httpx.codes.SEE_OTHER


def test_streams_are_bounded_and_need_a_session(tmp_path: Path, book: PriceBook) -> None:
    """Nobody gets a stream without a session, and one process has a largest number of them."""
    with page_scene(tmp_path, book, limits={"live_streams": 2}) as scene:
        assert httpx.get(f"{scene.server.url}/live").status_code == httpx.codes.NO_CONTENT
        visitor = scene.visitor()
        with visitor.client.stream("GET", "/live") as one, visitor.client.stream("GET", "/live"):
            events = one.iter_text()  # the stream ends with its iterator
            assert next(events).startswith(": open")
            assert visitor.get("/live").status_code == httpx.codes.SERVICE_UNAVAILABLE


def test_one_key_does_not_hold_all_streams(tmp_path: Path, book: PriceBook) -> None:
    """The pages of one key stay as they are beyond its own number; those of another key are updated."""
    with page_scene(tmp_path, book, limits={"live_streams": 3, "live_streams_per_key": 1}) as scene:
        key = scene.key(OWN, "view")
        viewers = [scene.stranger(), scene.stranger()]
        for viewer in viewers:
            viewer.sign_in(key)
        with viewers[0].client.stream("GET", "/live") as held:
            held_texts = held.iter_text()  # the connection is closed when the iterator goes
            assert next(held_texts).startswith(": open")
            assert viewers[1].get("/live").status_code == httpx.codes.SERVICE_UNAVAILABLE
            with scene.visitor().client.stream("GET", "/live") as other:
                assert next(other.iter_text()).startswith(": open")


def test_a_provider_is_asked_now(tmp_path: Path, book: PriceBook) -> None:
    """A person who may submit asks the provider about a job; the answer settles it; questions are bounded."""
    with running("qingbo", api_key=CREDENTIAL) as provider:
        upstreams = {"studio": {"provider": "qingbo", "url": provider.url}}
        with page_scene(tmp_path, book, upstreams=upstreams) as scene, scene.server.client() as caller:
            assert caller.post(f"{scene.server.base('studio')}/v1/tasks", json=CLIP).status_code < 300
            job = scene.guard.history(project=OWN)[-1]
            visitor = scene.visitor(OWN, "submit")
            path = f"/jobs/{job.id}"
            assert "Ask the provider now" in visitor.get(path).text
            assert "State the outcome" not in visitor.get(path).text
            provider.finish(str(job.task_id))
            assert visitor.post(f"{path}/ask").headers["location"] == f"{path}?done=asked"
            settled = scene.guard.reservation(job.id)
            assert (settled.state, settled.basis) == ("settled", "response")
            shown = visitor.get(f"{path}?done=asked").text
            assert "The provider was asked, and the answer is recorded." in shown
            again = visitor.post(f"{path}/ask")
            assert again.status_code == httpx.codes.BAD_REQUEST
            assert "this job has ended" in again.text


def test_a_job_that_cannot_be_found_is_not_called_unknown(tmp_path: Path, book: PriceBook) -> None:
    """A provider that never got the reservation's id cannot find it, which says nothing about the job."""
    with running("kling", api_key=CREDENTIAL) as provider:
        upstreams = {"studio": {"provider": "kling", "url": provider.url}}
        with page_scene(tmp_path, book, upstreams=upstreams) as scene, scene.server.client() as caller:
            provider.fail_next("lost-answer")
            payload = {"model_name": "kling-v3", "prompt": "a boat", "duration": "5", "mode": "std"}
            lost = caller.post(f"{scene.server.base('studio')}/v1/videos/text2video", json=payload)
            assert lost.status_code == httpx.codes.BAD_GATEWAY
            assert "do not send it again before then" in lost.text
            assert len(provider.tasks) == 1
            job = scene.guard.history(project=OWN)[-1]
            path = f"/jobs/{job.id}"
            asked = scene.visitor(OWN, "submit").post(f"{path}/ask")
            assert asked.headers["location"] == f"{path}?done=asked-unaskable"
            assert scene.guard.reservation(job.id).in_doubt


PROXIED = {"behind_proxy": True, "trust_header": "X-Forwarded-User", "trusted_proxies": ["127.0.0.0/8"]}


def test_a_trusted_proxy_names_the_key(tmp_path: Path, book: PriceBook) -> None:
    """The header of a trusted proxy signs a person in with the key of that name, while it is valid."""
    with page_scene(tmp_path, book, **PROXIED) as scene:
        scene.key(OWN, "view", name="li@example.com")
        client = scene.stranger().client
        client.headers["x-forwarded-user"] = "li@example.com"
        page = client.get("/")
        assert page.status_code == httpx.codes.OK
        assert "signed in by the proxy" in page.text
        cookie = page.headers["set-cookie"]
        assert cookie.startswith("__Host-kling_pricing_session=")
        assert cookie.endswith("; Path=/; HttpOnly; SameSite=Strict; Secure")
        assert client.get("/keys").status_code == httpx.codes.FORBIDDEN
        form = {"how": "choose", "model": "kling-v3"}
        assert client.post("/calculator", data=form).status_code == httpx.codes.FORBIDDEN
        browser = {"cookie": cookie.partition(";")[0]}
        token = token_in(client.get("/calculator", headers=browser).text)
        sent = client.post("/calculator", data={**form, "form_token": token}, headers=browser)
        assert sent.status_code == httpx.codes.OK
        for stranger in ("nobody", "li@example.com, admin"):
            answer = httpx.get(scene.server.url, headers={"x-forwarded-user": stranger})
            assert answer.status_code == httpx.codes.FORBIDDEN
        revoke_key(scene.server.ledger, "li@example.com")
        assert client.get("/").status_code == httpx.codes.FORBIDDEN


def test_the_header_of_anybody_else_is_ignored(tmp_path: Path, book: PriceBook) -> None:
    """From another address than the proxies', the header means nothing; the API never believes it."""
    settings = PROXIED | {"trusted_proxies": ["10.0.0.7"]}
    with page_scene(tmp_path, book, **settings) as scene:
        scene.key(name="li")
        headers = {"x-forwarded-user": "li"}
        answer = httpx.get(scene.server.url, headers=headers)
        assert answer.headers["location"] == "/sign-in?next=%2F"
        api = httpx.get(f"{scene.server.url}/api/v1/caller", headers=headers)
        assert api.status_code == httpx.codes.UNAUTHORIZED


@pytest.mark.parametrize(
    "missing", [{"behind_proxy": False}, {"trusted_proxies": []}, {"trusted_proxies": ["proxy.example"]}]
)
def test_a_trusted_header_needs_named_proxies(missing: dict[str, Any]) -> None:
    """The setting is refused without a proxy in front, and without the addresses of the proxies."""
    with pytest.raises(SettingsError, match="trust"):
        load_settings(environment={}, overrides=PROXIED | missing)


def test_a_ledger_keeps_sessions(open_guard: OpenGuard, ledger: str, clock: Clock) -> None:
    """A session begins with the text of a valid key alone, is found by its token, and ends; old ones go."""
    guard = open_guard()
    issued = guard.issue_key(project=OWN, name="li", expires_at=clock() + timedelta(days=2))
    store = connect(ledger, clock=clock)
    key, hour, day = digest_of(issued.text), timedelta(hours=1), timedelta(days=1)
    assert store.begin_session(digest_of("li"), digest_of("token"), day) is None
    begun = store.begin_session(key, digest_of("token"), day)
    assert begun is not None
    assert (begun.key.name, begun.ends_at) == ("li", clock() + day)
    assert store.session(digest_of("token"), hour) == begun
    assert store.session(digest_of("other"), hour) is None
    clock.pass_by(minutes=50)
    store.keep_session(digest_of("token"))
    clock.pass_by(minutes=50)
    found = store.session(digest_of("token"), hour)
    assert found is not None
    assert found.used_at == clock() - timedelta(minutes=50)
    clock.pass_by(minutes=10)
    assert store.session(digest_of("token"), hour) is None
    assert store.session(digest_of("token"), day) is not None
    clock.pass_by(hours=23)
    assert store.session(digest_of("token"), day) is None
    for number in range(MAX_SESSIONS + 1):
        clock.pass_by(seconds=1)
        store.begin_session(key, digest_of(f"token {number}"), 3 * day)
    assert store.session(digest_of("token 0"), day) is None
    assert store.session(digest_of("token 1"), day) is not None
    store.end_session(digest_of("token 1"))
    assert store.session(digest_of("token 1"), day) is None
    clock.pass_by(days=1)
    assert store.session(digest_of("token 2"), 3 * day) is None
    assert store.begin_session(key, digest_of("late"), day) is None
    guard.verify()
    store.close()


def test_a_ledger_sums_changes_by_hour(open_guard: OpenGuard, ledger: str, clock: Clock) -> None:
    """The sums of an hour are those of its entries, and the entries and answers of one job are found."""
    guard = open_guard(alerts=[Decimal("0.01"), Decimal("0.1")])
    jobs = []
    for number in range(5):
        admission, _ = guard.admit_and_dispatch(CLIP, project=OWN, key=f"{number}")
        guard.bind(admission, f"task-{number}")
        guard.observe({"task_id": f"task-{number}", "status": "completed", "cost": 350000}, provider="qingbo")
        jobs.append(admission.reservation_id)
        clock.pass_by(minutes=25)
    store = connect(ledger, clock=clock)
    since, until = clock() - timedelta(days=1), clock()
    (exact,), (summed,) = store.bucket_histories(since, until), store.bucket_hours(since, until)
    assert (summed.bucket, summed.definition) == (exact.bucket, exact.definition)
    by_hour: dict[Any, list[Any]] = {}
    for entry in exact.entries:
        by_hour.setdefault(entry.at.replace(minute=0, second=0, microsecond=0), []).append(entry)
    assert len(by_hour) == 2
    assert [(each.kind, each.at, each.seq, each.held, each.spent) for each in summed.entries] == [
        ("sum", group[-1].at, group[-1].seq, sum(e.held for e in group), sum(e.spent for e in group))
        for group in by_hour.values()
    ]
    own = store.entries_of(jobs[2])
    assert own == [entry for entry in store.journal() if entry.reservation_id == jobs[2]]
    assert len(own) >= 4
    (seen,) = store.observations_of("qingbo", "task-2")
    assert (seen.task_id, seen.state) == ("task-2", "succeeded")
    assert store.observations_of("qingbo", "task-9") == []
    alerts = store.alerts()
    assert len(alerts) == 2
    assert store.newest_alerts(limit=5) == alerts[::-1]
    assert store.newest_alerts(before=alerts[1].seq, limit=5) == alerts[:1]
    store.close()
