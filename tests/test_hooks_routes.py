"""Hosts that bill for jobs fail closed: a request is priced, listed as free or another service, or refused."""

import json
import logging
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kling_pricing import Budget, BudgetGuard, KlingPricingError, PriceBook, TableError, load_price_book
from kling_pricing.hooks.http_messages import TaskEndpoint
from kling_pricing.hooks.httpx import GuardedTransport
from kling_pricing.hooks.route import McpEndpoint, UnlistedPath, UnpricedPath
from kling_pricing.hooks.routes import Routes
from kling_pricing.wire.endpoints import Endpoint, locations, normalized_host
from kling_pricing.wire.paths import PathPattern, readings
from tests.conftest import PRICES, Clock, bundled, bundled_book, examples

BOOK = bundled_book()
ROUTES = Routes(BOOK, {})
HOSTS = sorted(BOOK.hosts)
SUBMISSIONS = sorted(BOOK.paths)
FREE = {pattern.text for matrix in BOOK.matrices.values() for pattern in matrix.http.free}
SERVICES = {pattern.text for matrix in BOOK.matrices.values() for pattern in matrix.http.other_services}

hosts = st.sampled_from(HOSTS)
methods = st.sampled_from(["POST", "PUT", "PATCH", "REPORT"])
words = st.sampled_from(
    [
        *("v1", "v2", "videos", "tasks", "text2video", "chat", "completions", "messages", "account", "billing"),
        *(
            "general",
            "delete-voices",
            "images",
            "audio",
            "assets",
            "mcp",
            "..",
            ".",
            "",
            "x",
            "V1",
            "Tasks",
            "cancel",
        ),
        *(
            "%2e%2e",
            "%2E",
            "a%2Fb",
            "..%2f",
            "%252e%252e",
            "..;",
            "tasks;x=1",
            "\\",
            "..%5C",
            "%00",
            "%EF%BC%8F",
            "t%61sks",
        ),
    ]
)
paths = st.one_of(
    st.lists(words, max_size=8).map(lambda parts: "/" + "/".join(parts)),
    st.text().map(lambda text: "/" + text),
    st.text("/.%;\\2eEfF5cC01avx", max_size=20).map(lambda text: "/v1/chat/" + text + "/v1/tasks"),
)


def decoded(path: str) -> str:
    """Returns a path decoded to the end, with its dots resolved: the other half of the test, written apart."""
    for _ in range(20):
        path = unquote(path)
    kept: list[str] = []
    for part in re.split("[/\\\\\uff0f]", re.sub(r";[^/\\]*", "", path.casefold())):
        if part.strip() == "..":
            kept[-1:] = []
        elif part.strip(" .\t"):
            kept.append(part.strip(" .\t"))
    return "/" + "/".join(kept)


@settings(max_examples=examples(1000))
@given(hosts, methods, paths)
def test_any_request_to_a_billing_host_is_priced_listed_or_refused(host: str, method: str, path: str) -> None:
    """Only a path that is listed as free passes uncounted, and its plainest reading is the listed path."""
    route = ROUTES.find(method, f"https://{host}{path}")
    plain = decoded(re.split(r"[?#]", path)[0])
    if route is None:
        assert plain in FREE
    elif isinstance(route, UnpricedPath):
        assert route.path in SERVICES
        assert PathPattern.of(route.path).matches(tuple(plain.strip("/").split("/")))
    elif isinstance(route, Endpoint):
        assert method == "POST"
        assert any(plain.endswith(listed) for listed in SUBMISSIONS)
    elif isinstance(route, TaskEndpoint):
        assert plain.endswith("/cancel") or (route.task_id == "" and plain in FREE)
    elif isinstance(route, McpEndpoint):
        assert plain == "/v1/mcp"
    else:
        assert isinstance(route, UnlistedPath)


def spelled(draw: Any, path: str) -> str:
    """Returns another spelling of a path, which some server reads as the path itself."""
    text = ""
    for char in path:
        ways = [char, char, char.upper(), f"%{ord(char):02x}", f"%25{ord(char):02X}"]
        ways += (
            ["//", "/./", "/%2e/", "/x/../", "/x/%2E%2e/", "\\", "%2F", "%5c", ";x=1/"] if char == "/" else []
        )
        text += draw(st.sampled_from(ways))
    ending: str = draw(st.sampled_from(["", "/", "//", "?x=1", "#x", ";a=b", "%20", "/.", ".", "/x/.."]))
    return "/" + text.lstrip("/\\") + ending


def own_submissions(host: str) -> list[str]:
    """Returns the submission paths of the API at a host."""
    matrices = [BOOK.matrices[name] for name in BOOK.formats[BOOK.hosts[host]]]
    return sorted({entry.path for matrix in matrices for entry in matrix.submissions})


@st.composite
def spelled_submissions(draw: Any) -> str:
    """A URL that some client or server reads as the URL of a submission."""
    host = draw(hosts)
    name = "".join(draw(st.sampled_from([char, char, char.upper()])) for char in host)
    name = draw(
        st.sampled_from([name, name + ".", name.replace(".", "。", 1), f"%{ord(name[0]):02x}{name[1:]}"])
    )
    user = draw(st.sampled_from(["", "user@", "user:pw@", "a@b@", "example.com@", ":@"]))
    scheme = draw(st.sampled_from(["https://", "http://", "HTTPS://", "https:/", "https:\\\\", " https://"]))
    port = draw(st.sampled_from(["", ":443", ":80", ":0443", ":8443", ":"]))
    return f"{scheme}{user}{name}{port}{spelled(draw, draw(st.sampled_from(own_submissions(host))))}"


@settings(max_examples=examples(1000))
@given(spelled_submissions())
def test_a_submission_is_priced_or_refused_however_it_is_spelled(url: str) -> None:
    """Neither the option nor a listed service lets another spelling of a submission pass."""
    for routes in (ROUTES, Routes(BOOK, {}, allow_paths=["/v1", "/x"])):
        assert isinstance(routes.find("POST", url), Endpoint | UnlistedPath)


@pytest.mark.parametrize(
    ("url", "hosts"),
    [
        ("https://User:pw@WWW.qingbo.dev.:443/v1", ["www.qingbo.dev"]),
        ("http://a@b@www.qingbo.dev:0080/", ["www.qingbo.dev"]),
        ("https:\\\\www.qingbo.dev\\v1", ["www.qingbo.dev"]),
        ("https://www.qingbo.dev\\@example.com/v1", ["www.qingbo.dev", "example.com"]),
        ("https://\uff57ww\u3002qingbo\u00ad.dev/v1", ["www.qingbo.dev"]),
        ("https://www.qingbo.dev%2e/v1", ["www.qingbo.dev"]),
        ("https://[::1]:81/v1", ["[::1]"]),
        ("mailto:www.qingbo.dev", []),
        ("/v1/tasks", []),
    ],
)
def test_a_host_is_found_in_every_spelling(url: str, hosts: list[str]) -> None:
    """Userinfo, case, dots, ports, backslashes and international spellings do not hide a host."""
    assert [place.host for place in locations(url)] == hosts


def test_a_name_that_is_not_an_international_name_stays_as_it_is() -> None:
    """A label that IDNA refuses cannot be a listed host, and causes no error."""
    assert normalized_host("ü" * 70 + ".dev") == "ü" * 70 + ".dev"


def test_a_host_that_clients_read_in_two_ways_is_refused() -> None:
    """Some clients end the host at a backslash; others take it for userinfo."""
    for url in ("https://www.qingbo.dev\\@example.com/v1/tasks", "https://example.com\\@qingbo.dev/v1/tasks"):
        route = ROUTES.find("POST", url)
        assert isinstance(route, UnlistedPath)
        assert not route.is_clear
        assert ROUTES.find("GET", url) is None


def test_a_plain_path_has_one_reading_besides_its_case() -> None:
    """Other spellings have every reading that a server may give them."""
    assert readings("/v1/tasks/") == (("v1", "tasks"),)
    assert readings("/v1/Tasks") == (("v1", "Tasks"), ("v1", "tasks"))
    assert ("v1", "tasks") in readings("/v1/chat/%252e%252e/tasks;a")


NEW_STANDARD_HOSTS = ["api-singapore.klingai.com", "api-beijing.klingai.com", "api.klingai.com"]


@pytest.mark.parametrize("host", NEW_STANDARD_HOSTS)
def test_the_official_hosts_are_guarded_alike(host: str) -> None:
    """The older name of the host bills like the newer ones, on any path."""
    assert isinstance(ROUTES.find("POST", f"https://{host}/v1/videos/text2video"), Endpoint)
    assert isinstance(ROUTES.find("POST", f"https://{host}/v9/unknown"), UnlistedPath)


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://api.qingbo.ai/v1/audio/tts", UnpricedPath("qingbo-ai", "/v1/audio/*")),
        ("http://localhost:8080/v1/images/generations", UnpricedPath("tencent-vod", "/v1/images/*")),
        ("https://api.qingbo.ai/v1/images/generations", ("kling_images",)),
        ("https://api.qingbo.ai/v1/videos", ("openai_videos",)),
    ],
)
def test_what_a_provider_lists_comes_before_the_submissions_of_others(url: str, expected: Any) -> None:
    """Where another API takes jobs, a path passes if the host's own provider lists it."""
    route = Routes(BOOK, {"localhost:8080": "tencent-vod"}).find("POST", url)
    assert (route.wire_formats if isinstance(route, Endpoint) else route) == expected


@pytest.mark.parametrize(
    ("query", "task_id"),
    [
        ("task_ids=7", "7"),
        ("x=1&task_ids=a%2Fb#y", "a/b"),
        ("task_ids=7,8", ""),
        ("task_ids=", ""),
        ("x=1", ""),
    ],
)
def test_a_status_path_can_have_the_task_in_its_query(query: str, task_id: str) -> None:
    """A query for one task is that task's status; the path alone, and a POST, list tasks."""
    matrix = BOOK.matrices["kling"]
    submission = matrix.submissions[0]._replace(status="/tasks?task_ids={task_id}")
    book = replace(BOOK, matrices={**BOOK.matrices, "kling": replace(matrix, submissions=(submission,))})
    routes = Routes(book, {})
    assert routes.find("GET", f"https://api.klingai.com/tasks?{query}") == TaskEndpoint("kling", task_id)
    assert routes.find("POST", f"https://api.klingai.com/tasks?{query}") == TaskEndpoint("kling", "")


# requests that pass


@pytest.fixture
def guard(tmp_path: Path, book: PriceBook, clock: Clock) -> Any:
    """A guard with a small budget."""
    budgets = [Budget(name="all", cap="0.1", currency="USD")]
    with BudgetGuard(f"sqlite:///{tmp_path}/spend.db", budgets, book=book, clock=clock) as opened:
        yield opened


def test_unpriced_requests_are_counted_and_logged_once(
    guard: BudgetGuard, caplog: pytest.LogCaptureFixture
) -> None:
    """Other services and allowed paths pass and are counted; free requests are not."""
    inner = httpx.MockTransport(lambda _: httpx.Response(200, json={}))
    transport = GuardedTransport(inner, guard, project="p", allow_paths=["/v1/images"])
    with caplog.at_level(logging.WARNING), httpx.Client(transport=transport) as client:
        for path in ("chat/completions", "chat/completions", "messages", "images/generations", "assets"):
            assert client.post(f"https://api.qingbo.ai/v1/{path}", json={}).status_code == 200
    assert transport.unpriced == {
        ("qingbo-ai", "/v1/chat/*"): 2,
        ("qingbo-ai", "/v1/messages/*"): 1,
        ("qingbo-ai", "/v1/images"): 1,
    }
    assert [record.getMessage() for record in caplog.records] == [
        "requests to /v1/chat/* at qingbo-ai are let through without a price; no budget counts them",
        "requests to /v1/messages/* at qingbo-ai are let through without a price; no budget counts them",
        "requests to /v1/images at qingbo-ai are let through without a price; no budget counts them",
    ]
    assert guard.history() == []


CAPABILITIES = bundled("capabilities", "tasks.yaml").read_text(encoding="utf-8")
CONTRACT = """\
extends: qingbo-ai/2026-09-19
sources: [{ref: our contract, checked: 2026-11-20, authority: official}]
allow_paths: [/v1/files]
"""


@pytest.mark.parametrize(
    ("files", "url"),
    [
        (
            {"prices/acme/2026.yaml": PRICES + "hosts: [gw.acme.example]\nallow_paths: [/v1/files]\n"},
            "https://gw.acme.example/v1/files/7",
        ),
        ({"prices/qingbo-ai/ours.yaml": CONTRACT}, "https://api.qingbo.ai/v1/files"),
        (
            {
                "capabilities/tasks.yaml": CAPABILITIES.replace(
                    "\nhttp:\n", "\nhttp:\n  allow_paths: [/v1/files]\n"
                )
            },
            "https://www.qingbo.dev/v1/files",
        ),
    ],
)
def test_a_file_of_ones_own_can_let_a_path_pass(
    folder: Callable[..., Path], files: dict[str, str], url: str
) -> None:
    """A price table, a contract and a capability file can list `allow_paths`; the request is counted."""
    route = Routes(load_price_book(folder(files)), {}).find("POST", url)
    assert isinstance(route, UnpricedPath)
    assert route.path == "/v1/files"
    assert isinstance(ROUTES.find("POST", url.replace("gw.acme.example", "qingbo.dev")), UnlistedPath)


def test_no_bundled_file_lets_a_path_pass(book: PriceBook) -> None:
    """What bundled files let through is listed with a source, as free or as another service."""
    tables = [table for provider in book.tables for table in book.tables_of(provider)]
    assert not any(table.allow_paths for table in tables)
    assert not any(matrix.http.allow_paths for matrix in book.matrices.values())


@pytest.mark.parametrize(
    ("http", "key_path", "problem"),
    [
        ("{free: [{paths: [/V1/x], source: x}]}", "free[0].paths[0]", "must be a path in lower case"),
        ("{free: [{paths: [/*], source: x}]}", "free[0].paths[0]", "must be a path in lower case"),
        ("{free: [{paths: [], source: x}]}", "free[0].paths", "must not be empty"),
        ("{other_services: [{paths: [/v1/x]}]}", "other_services[0].source", "required"),
        ("{unpriced: [{paths: [/v1/x], source: x}]}", "unpriced[0].why", "required"),
        ("{allow_paths: [v1/x]}", "allow_paths[0]", "must be the path of a URL"),
        ("{billed_below: []}", "billed_below", "unknown key"),
    ],
)
def test_listed_paths_are_checked(folder: Callable[..., Path], http: str, key_path: str, problem: str) -> None:
    """A pattern that could never match, or would match everything, is an error with its place."""
    text = bundled("capabilities", "video_generations.yaml").read_text(encoding="utf-8")
    before, _, after = text.partition("\nhttp:")
    changed = f"{before}\nhttp: {http}\n\nrequired:{after.partition('required:')[2]}"
    with pytest.raises(TableError) as caught:
        load_price_book(folder({"capabilities/video_generations.yaml": changed}))
    assert caught.value.key_path == f"http.{key_path}"
    assert problem in caught.value.problem


def test_every_listed_path_leaves_submissions_alone(book: PriceBook) -> None:
    """No pattern that passes covers a path to which jobs are submitted in a format of the same provider."""
    for wire_formats in book.formats.values():
        matrices = [book.matrices[name] for name in wire_formats]
        paths = [entry.path for matrix in matrices for entry in matrix.submissions]
        for matrix in matrices:
            for pattern in (*matrix.http.free, *matrix.http.other_services):
                assert not any(pattern.matches(tuple(path.strip("/").split("/"))) for path in paths)


# hosts given to another provider


def test_a_bundled_host_can_be_given_to_another_provider(guard: BudgetGuard) -> None:
    """The provider, the wire format and the price are those of the other provider."""
    inner = httpx.MockTransport(lambda _: httpx.Response(200, json={"task_id": "t-1", "status": "queued"}))
    options: dict[str, Any] = {"project": "p", "refusals": "respond"}
    job = {"model": "kling-v3", "prompt": "a boat", "duration": 5}
    with httpx.Client(transport=GuardedTransport(inner, guard, **options)) as client:
        refused = client.post("https://www.qingbo.dev/v1/tasks", json=job)
        assert json.loads(refused.content)["error"]["message"] == (
            "the request costs 0.357 USD, but budget all has 0.1 USD left; to ask for an allowance, run "
            "`kling-pricing budget ask FILE --project p --reason TEXT`"
        )
    moved = GuardedTransport(inner, guard, hosts={"www.qingbo.dev": "qingbo-ai"}, **options)
    with httpx.Client(transport=moved) as client:
        refused = client.post("https://www.qingbo.dev/v1/tasks", json=job)
        assert json.loads(refused.content)["error"]["message"] == (
            "the request costs 0.378 USD, but budget all has 0.1 USD left; to ask for an allowance, run "
            "`kling-pricing budget ask FILE --project p --reason TEXT`"
        )
        other_format = client.post("https://www.qingbo.dev/v1/tasks", json=job | {"extra": {}})
        assert json.loads(other_format.content)["error"]["message"].startswith("unknown field 'extra'")
    route = Routes(BOOK, {"www.qingbo.dev": "qingbo-ai"}).find("GET", "https://www.qingbo.dev/v1/tasks/t-1")
    assert route == TaskEndpoint("qingbo-ai", "t-1")


def test_a_host_of_an_official_action_path_can_be_given_away(guard: BudgetGuard) -> None:
    """A path that limits the actions limits them under the other provider too."""
    inner = httpx.MockTransport(lambda _: httpx.Response(200, json={}))
    transport = GuardedTransport(inner, guard, project="p", hosts={"api.qingbo.ai": "kling"})
    job = {"model_name": "kling-v3", "prompt": "a boat", "image": "https://example.com/a.png"}
    with (
        httpx.Client(transport=transport) as client,
        pytest.raises(KlingPricingError, match=r"/v1/videos/text2video accepts only generate"),
    ):
        client.post("https://api.qingbo.ai/v1/videos/text2video", json=job)
