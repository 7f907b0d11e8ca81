"""The proxy: who may call it, which tasks a key reaches, what passes in each direction, and what is bounded."""

import json
import select
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from kling_pricing import Budget, BudgetGuard, Budgets, PriceBook
from kling_pricing.guard import revoke_key
from tests.conftest import video
from tests.gateways import BUDGETS, gateway, official  # noqa: F401 (fixtures)
from tests.providers import Provider, running
from tests.receivers import QuietHandler
from tests.receivers import serving as http_server
from tests.server_runs import CREDENTIAL, RunningServer, serving

CLIP = video(duration=5, resolution="1080p", audio=True)
TEXT2VIDEO = {"model_name": "kling-v3", "prompt": "a boat", "duration": "5", "mode": "std"}


def submitted(client: httpx.Client, base: str, payload: dict[str, Any] = CLIP) -> str:
    """Submits a job and returns the id of its task."""
    reply = client.post(f"{base}/v1/tasks", json=payload)
    assert reply.status_code == 200, reply.text
    task_id: str = reply.json()["task_id"]
    return task_id


# who calls


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer kp_unknown"},
        {"Authorization": f"Bearer {CREDENTIAL}"},
        {"Authorization": "Basic eDp5"},
        {"X-API-Key": "kp_unknown"},
        {"Authorization": "Bearer one", "X-API-Key": "two"},
        {"Authorization": "Bearer " + "x" * 5000},
    ],
)
def test_nothing_passes_without_a_valid_key(
    headers: dict[str, str], gateway: tuple[Provider, RunningServer]
) -> None:
    """The response is 401 in the provider's error shape, and the provider sees nothing."""
    provider, server = gateway
    before = len(provider.received)
    reply = httpx.post(f"{server.base('studio')}/v1/tasks", json=CLIP, headers=headers)
    assert (reply.status_code, reply.json()["error"]["code"]) == (401, "unauthorized")
    assert (reply.headers["www-authenticate"], reply.headers["x-kling-pricing-refused"]) == (
        "Bearer",
        "AccessError",
    )
    assert len(provider.received) == before


def test_a_revoked_key_ends_with_the_next_request(gateway: tuple[Provider, RunningServer]) -> None:
    """A key works, is revoked, and then does not work any more, although the connection is the same."""
    _, server = gateway
    with server.client(name="li") as client:
        task_id = submitted(client, server.base("studio"))
        revoke_key(server.ledger, "li")
        reply = client.get(f"{server.base('studio')}/v1/tasks/{task_id}")
        assert reply.status_code == 401
        assert reply.json()["error"]["message"].startswith("the access key li was revoked")


def test_a_key_that_only_views_submits_nothing(gateway: tuple[Provider, RunningServer]) -> None:
    """It reads the tasks of its project; a submission, a cancellation and a deletion are 403."""
    provider, server = gateway
    base = server.base("studio")
    with server.client() as submitter, server.client(role="view") as viewer:
        task_id = submitted(submitter, base)
        assert viewer.get(f"{base}/v1/tasks/{task_id}").status_code == 200
        before = len(provider.received)
        for reply in (
            viewer.post(f"{base}/v1/tasks", json=CLIP),
            viewer.post(f"{base}/v1/tasks/{task_id}/cancel"),
            viewer.delete(f"{base}/v1/tasks/{task_id}"),
        ):
            assert (reply.status_code, reply.json()["error"]["code"]) == (403, "forbidden")
        assert len(provider.received) == before


# what passes


def test_the_provider_sees_its_own_credential_and_nothing_of_the_caller(
    gateway: tuple[Provider, RunningServer],
) -> None:
    """Access keys, cookies, key-like parameters and headers of one hop stay behind; other headers pass."""
    provider, server = gateway
    key = server.key()
    headers = key | {
        "X-API-Key": key["Authorization"].removeprefix("Bearer "),
        "Cookie": "session=1",
        "X-Auth-Token": "secret-1",
        "X-Goog-Api-Key": "secret-2",
        "Proxy-Authorization": "Basic secret-3",
        "X-Forwarded-For": "10.0.0.1",
        "Connection": "x-mine",
        "X-Mine": "secret-4",
        "X-Trace": "kept",
        "x-kling-pricing-labels": "shot=042",
    }
    url = f"{server.base('studio')}/v1/tasks?api_key=secret-5&access_token=secret-6&Token=secret-7&trace=1"
    reply = httpx.post(url, json=CLIP, headers=headers)
    assert reply.status_code == 200
    seen = provider.received[-1]
    assert seen.headers["Authorization"] == f"Bearer {CREDENTIAL}"
    assert seen.headers["X-Trace"] == "kept"
    text = seen.path + str(seen.headers.raw) + seen.body.decode()
    assert "secret" not in text
    assert "kp_" not in text
    assert not {"cookie", "x-api-key", "x-forwarded-for", "x-mine"} & {*seen.headers}
    assert not [name for name in seen.headers if name.startswith("x-kling-pricing")]


class _Answering(QuietHandler):
    """Answers every request with the same headers and body, as a provider might."""

    def do_GET(self) -> None:  # noqa: N802 (the library looks for this name)
        body = b"<script>alert(1)</script>" * 10
        self.send_response(200)
        for name, value in (
            ("Content-Type", "text/html"),
            ("Set-Cookie", "session=evil"),
            ("X-Kling-Pricing-Left", "all=1000000 USD"),
            ("Access-Control-Allow-Origin", "*"),
            ("Clear-Site-Data", '"*"'),
            ("Content-Security-Policy", "default-src *"),
            ("X-Request-Id", "abc"),
            ("X-Asked", str(sorted(name.lower() for name in self.headers))),
            ("Content-Length", str(len(body))),
        ):
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def do_POST(self) -> None:  # noqa: N802 (the library looks for this name)
        size = int(self.headers.get("Content-Length") or 0)
        read = 0
        if size:
            while read < size:
                read += len(self.rfile.read(min(1 << 20, size - read)))
        else:
            read = sum(map(len, self.read_chunks()))
        body = json.dumps({"read": read}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def echo(tmp_path: Path, book: PriceBook) -> Iterator[RunningServer]:
    """A server in front of an API that is not the sandbox."""
    ledger = f"sqlite:///{tmp_path}/spend.db"
    guard = BudgetGuard(ledger, BUDGETS, book=book)
    with http_server(_Answering) as url:
        upstreams = {"studio": {"provider": "qingbo", "url": url}}
        limits = {
            "upload_mb": 120,
            "body_timeout_s": 1,
            "header_timeout_s": 1,
            "connections": 20,
            "submission_mb": 1,
        }
        with serving(ledger, tmp_path, upstreams, guard, limits=limits) as server:
            yield server
    guard.close()


def test_a_browser_runs_nothing_of_an_answer(echo: RunningServer) -> None:
    """No cookie and no policy of the provider comes back; every response is sandboxed and not sniffed."""
    with echo.client(None) as client:
        reply = client.get(f"{echo.base('studio')}/v1/files/page")
    assert (reply.status_code, reply.headers["x-request-id"]) == (200, "abc")
    head = f"GET /p/studio/v1/files/page HTTP/1.1\r\nHost: x\r\n{_line(echo.key(None))}\r\n"
    assert b"x-asked: ['authorization', 'host']" in _raw(echo, head.encode())  # nothing that the caller lacks
    assert reply.headers["x-content-type-options"] == "nosniff"
    assert reply.headers["content-security-policy"] == "sandbox; default-src 'none'"
    assert not {"set-cookie", "x-kling-pricing-left", "access-control-allow-origin", "clear-site-data"} & {
        *reply.headers
    }
    for path in ("/v1//x", "/nowhere"):
        refused = httpx.get(echo.base("studio") + path)
        assert refused.headers["content-security-policy"].startswith("sandbox")


def test_uploads_of_100_mb_pass_in_parts(echo: RunningServer) -> None:
    """A large upload with a stated length and one without pass; one beyond the limit is refused at once."""
    part = b"x" * (1 << 20)
    url = f"{echo.base('studio')}/v1/assets"
    with echo.client() as client:
        stated = client.post(
            url, content=(part for _ in range(100)), headers={"Content-Length": str(100 << 20)}
        )
        assert stated.json() == {"read": 100 << 20}
        chunked = client.post(url, content=(part for _ in range(10)))
        assert chunked.json() == {"read": 10 << 20}
    head = (
        f"POST /p/studio/v1/assets HTTP/1.1\r\nHost: x\r\n{_line(echo.key())}Content-Length: {1 << 30}\r\n\r\n"
    )
    assert _raw(echo, head.encode()).startswith(b"HTTP/1.1 413 ")


def test_a_submission_beyond_the_limit_is_refused(echo: RunningServer) -> None:
    """A body that is too large is 413, whether its length is stated or not."""
    url = f"{echo.base('studio')}/v1/tasks"
    with echo.client() as client:
        body = json.dumps({**CLIP, "prompt": "x" * (1 << 20)}).encode()
        stated = client.post(url, content=body)
        assert (stated.status_code, stated.json()["error"]["code"]) == (413, "too_large")
        try:
            chunked = client.post(
                url, content=(body[start : start + 4096] for start in range(0, len(body), 4096))
            )
        except httpx.WriteError:  # the server has answered and closed the connection before the body ended
            return
        assert chunked.status_code == 413


def _line(headers: dict[str, str]) -> str:
    return "".join(f"{name}: {value}\r\n" for name, value in headers.items())


def _raw(server: RunningServer, request: bytes, wait_s: float = 5) -> bytes:
    """Sends bytes, and returns what comes back until the server closes the connection or is silent."""
    parts = urlsplit(server.url)
    with socket.create_connection((parts.hostname, parts.port), timeout=wait_s) as connection:
        connection.sendall(request)
        received = b""
        try:
            while part := connection.recv(65536):
                received += part
                if b"content-length: " in received.lower() and b"\r\n\r\n" in received:
                    break
        except (TimeoutError, ConnectionResetError):
            pass
    return received


def test_slow_callers_are_cut_off(echo: RunningServer) -> None:
    """Headers that do not end, and a body that stalls, cost a connection no longer than the limits."""
    begun = time.monotonic()
    assert _raw(echo, b"GET /healthz HTTP/1.1\r\nHost: x\r\nX-Slow: ") == b""
    head = f"POST /p/studio/v1/tasks HTTP/1.1\r\nHost: x\r\n{_line(echo.key())}Content-Length: 100\r\n\r\n{{"
    assert _raw(echo, head.encode()).startswith(b"HTTP/1.1 408 ")
    assert time.monotonic() - begun < 8


def test_connections_are_limited(echo: RunningServer) -> None:
    """Connections beyond the limit are closed at once, and places become free again."""
    parts = urlsplit(echo.url)
    address = (parts.hostname, parts.port)
    held = [socket.create_connection(address) for _ in range(25)]
    readable: set[socket.socket] = set()
    while len(readable) < 5:
        readable |= {*select.select([each for each in held if each not in readable], [], [], 5)[0]}
    refused = len(readable)
    assert refused == 5
    for connection in held:
        connection.close()
    with closing(httpx.Client()) as client:
        assert client.get(f"{echo.url}/healthz").status_code == 200


SMUGGLED = {
    "two lengths": b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    "length and chunks": b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "two codings": b"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n",
    "unknown coding": b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "space before colon": b"Content-Length : 5\r\n\r\nhello",
    "signed length": b"Content-Length: +5\r\n\r\nhello",
    "bare line feed in a value": b"X-A: b\nX-B: c\rd\r\n\r\n",
}


@pytest.mark.parametrize("name", SMUGGLED)
def test_requests_that_two_servers_read_differently_are_refused(name: str, echo: RunningServer) -> None:
    """A request with a doubtful length or header is 400, and its connection is not used again."""
    follow_up = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
    head = f"POST /p/studio/v1/assets HTTP/1.1\r\nHost: x\r\n{_line(echo.key())}".encode()
    answer = _raw(echo, head + SMUGGLED[name] + follow_up)
    assert answer.startswith((b"HTTP/1.1 400 ", b"HTTP/1.1 501 ")), answer
    assert answer.count(b"HTTP/1.1 ") == 1


# which tasks


def test_a_project_reaches_its_own_tasks_only(gateway: tuple[Provider, RunningServer]) -> None:
    """With a foreign key, status, cancellation and deletion are the provider's 404; nothing is sent."""
    provider, server = gateway
    base = server.base("studio")
    with server.client("trailer") as own, server.client("teaser") as foreign, server.client(None) as every:
        task_id = submitted(own, base)
        before = len(provider.received)
        for reply in (
            foreign.get(f"{base}/v1/tasks/{task_id}"),
            foreign.head(f"{base}/v1/tasks/{task_id}"),
            foreign.delete(f"{base}/v1/tasks/{task_id}"),
            foreign.post(f"{base}/v1/tasks/{task_id}/cancel"),
            foreign.get(f"{base}/v1/tasks/{task_id}/content"),
            foreign.get(f"{base}/x/v1/tasks/{task_id}"),
            own.get(f"{base}/v1/tasks/task_of_nobody"),
        ):
            assert reply.status_code == 404, reply.url
            assert not reply.content or reply.json()["error"]["code"] == "task_not_found"
        assert len(provider.received) == before
        assert own.get(f"{base}/v1/tasks/{task_id}").json()["task_id"] == task_id
        assert every.get(f"{base}/v1/tasks/{task_id}").json()["task_id"] == task_id
        assert own.post(f"{base}/v1/tasks/{task_id}/cancel").json()["status"] == "cancelled"


def test_what_concerns_the_account_is_refused_to_a_project(gateway: tuple[Provider, RunningServer]) -> None:
    """Balances, other services and unknown paths are 403 with a project's key; settings can open a path."""
    provider, server = gateway
    base = server.base("studio")
    with server.client() as own, server.client(None) as every:
        before = len(provider.received)
        for method, path in (
            ("GET", "/v1/dashboard/billing/balance"),
            ("GET", "/v1/assets"),
            ("GET", "/anything"),
            ("POST", "/v1/chat/completions"),
            ("DELETE", "/v1/assets/1"),
        ):
            reply = own.request(method, base + path)
            assert (reply.status_code, reply.json()["error"]["code"]) == (403, "forbidden"), path
        assert len(provider.received) == before
        assert own.get(f"{base}/v1/models").headers.get("x-kling-pricing-refused") is None
        assert every.get(f"{base}/v1/dashboard/billing/balance").status_code != 403


def test_listings_have_the_tasks_of_the_project_alone(official: tuple[Provider, RunningServer]) -> None:
    """Each project sees its own tasks in every list, by GET and by POST; an administrator sees all."""
    _, server = official
    base = server.base("kling")
    path = f"{base}/v1/videos/text2video"
    with server.client("trailer") as one, server.client("teaser") as other, server.client(None) as every:
        tasks = {
            client: {client.post(path, json=TEXT2VIDEO).json()["data"]["task_id"] for _ in range(2)}
            for client in (one, other)
        }
        for client in (one, other):
            (foreign,) = {*tasks} - {client}
            listed = client.get(path).json()
            assert {task["task_id"] for task in listed["data"]} == tasks[client]
            assert listed["code"] == 0
            assert client.get(f"{path}/{min(tasks[client])}").json()["data"]["task_id"] == min(tasks[client])
            assert client.get(f"{path}/{min(tasks[foreign])}").status_code == 404
        seen = {task["task_id"] for task in every.get(path).json()["data"]}
        assert seen >= tasks[one] | tasks[other]
        for reply in (one.get(f"{base}/account/billing/balance"), one.post(f"{base}/account/billing/package")):
            assert reply.status_code == 403


def test_tasks_named_in_a_query_are_filtered(official: tuple[Provider, RunningServer]) -> None:
    """The new API names tasks in its query: those of other projects are missing from the response."""
    _, server = official
    base = server.base("kling")
    payload = {"prompt": "a boat", "settings": {"resolution": "720p"}}
    with server.client("trailer") as one, server.client("teaser") as other:
        mine, theirs = (
            client.post(f"{base}/text-to-video/kling-3.0-turbo", json=payload).json()["data"]["id"]
            for client in (one, other)
        )
        for ids, expected in ((mine, [mine]), (theirs, []), (f"{mine},{theirs}", [mine])):
            listed = one.get(f"{base}/tasks", params={"task_ids": ids}).json()
            assert [task["id"] for task in listed["data"]] == expected
        with server.client("trailer", role="view") as viewer:
            page = viewer.post(f"{base}/tasks", json={"limit": 100}).json()
        assert theirs not in json.dumps(page)
        assert mine in json.dumps(page)


PATH_TRICKS = (
    "/v1/tasks/../tasks/{}",
    "/v1/tasks/%2e%2e/tasks/{}",
    "/v1/tasks%2f{}",
    "/v1//tasks/{}",
    "/v1/tasks/{}%00",
    "/v1/tasks/{};x",
    "/v1/tasks/{}%3bx",
    "/v1/tasks/x%5c..%5c{}",
    "/v1/tasks/%252e%252e/{}",
    "//evil.example.com/v1/tasks/{}",
    "/v1/./tasks/{}",
)

WRONG_PREFIXES = ("/p/stu%64io/v1/tasks/{}", "/%70/studio/v1/tasks/{}", "/p/%73tudio/v1/tasks/{}")


@pytest.mark.parametrize("trick", [*(f"/p/studio{trick}" for trick in PATH_TRICKS), *WRONG_PREFIXES])
def test_a_path_means_one_thing_or_is_refused(trick: str, gateway: tuple[Provider, RunningServer]) -> None:
    """A path that servers read in different ways is 400, even with a key for all projects."""
    provider, server = gateway
    with server.client() as own:
        task_id = submitted(own, server.base("studio"))
    before = len(provider.received)
    for project in ("teaser", None):
        head = f"GET {trick.format(task_id)} HTTP/1.1\r\nHost: x\r\n{_line(server.key(project))}\r\n"
        assert _raw(server, head.encode()).startswith(b"HTTP/1.1 400 ")
    assert len(provider.received) == before


def test_an_absolute_target_leads_nowhere_else(gateway: tuple[Provider, RunningServer]) -> None:
    """A request target with a host never makes the server call that host."""
    _, server = gateway
    with http_server(_Answering) as other:
        head = f"GET {other}/p/studio/v1/tasks HTTP/1.1\r\nHost: x\r\n{_line(server.key(None))}\r\n"
        assert not _raw(server, head.encode()).startswith(b"HTTP/1.1 200 ")
    reply = httpx.get(f"{server.url}/p/other/v1/tasks", headers=server.key(None))
    assert (reply.status_code, reply.json()["error"]["code"]) == (404, "unknown_upstream")
    unknown = httpx.get(f"{server.url}/p/other/v1/tasks")
    assert (unknown.status_code, "studio" in unknown.text) == (401, False)


# labels and keys of jobs


def test_a_key_fixes_its_project_and_labels(gateway: tuple[Provider, RunningServer]) -> None:
    """Labels that the key leaves open can be sent; a label that it fixes cannot be changed."""
    _, server = gateway
    base = server.base("studio")
    with server.client("trailer", labels={"user": "li"}, name="label-key") as client:
        reply = client.post(
            f"{base}/v1/tasks", json=CLIP, headers={"x-kling-pricing-labels": "shot=042, user=li"}
        )
        with BudgetGuard(server.ledger) as guard:
            reservation = guard.reservation(reply.headers["x-kling-pricing-reservation"])
        assert reservation.account == "studio"
        assert dict(reservation.labels) == {
            "project": "trailer",
            "user": "li",
            "shot": "042",
            "access_key": "label-key",
        }
        for labels, status in (
            ("user=wang", 403),
            ("project=teaser", 403),
            ("access_key=other", 400),
            ("key=x", 400),
            ("user", 400),
            ("shot=1, shot=2", 400),
        ):
            refused = client.post(f"{base}/v1/tasks", json=CLIP, headers={"x-kling-pricing-labels": labels})
            assert refused.status_code == status, labels


def test_refusals_name_what_a_caller_can_do(tmp_path: Path, book: PriceBook) -> None:
    """A caller has no shell with the ledger, so the remedies name a header, and a page or the API."""
    ledger = f"sqlite:///{tmp_path}/spend.db"
    budgets = Budgets([Budget(name="all", cap=1, currency="USD")], require_labels=["user"])
    with (
        running("qingbo") as provider,
        BudgetGuard(ledger, budgets, book=book) as guard,
        serving(ledger, tmp_path, {"qingbo": {"url": provider.url}}, guard) as server,
        server.client() as client,
    ):
        url, user = f"{server.base('qingbo')}/v1/tasks", {"x-kling-pricing-labels": "user=li"}
        unlabelled = client.post(url, json=CLIP)
        assert unlabelled.status_code == 402
        assert "add a value for each in the header x-kling-pricing-labels" in unlabelled.text
        assert client.post(url, json=CLIP, headers=user).status_code == 200
        refused = client.post(url, json=CLIP, headers=user)
        assert refused.status_code == 402
        assert refused.json()["error"]["message"].endswith(
            "use the page Calculator of this server, or POST /api/v1/allowance-requests"
        )


def test_a_key_for_all_projects_names_the_project(gateway: tuple[Provider, RunningServer]) -> None:
    """Without a project the submission is refused with the remedy; with one it counts there."""
    _, server = gateway
    with server.client(None) as every:
        url = f"{server.base('studio')}/v1/tasks"
        refused = every.post(url, json=CLIP)
        assert refused.status_code == 400
        assert "x-kling-pricing-labels: project=NAME" in refused.json()["error"]["message"]
        accepted = every.post(url, json=CLIP, headers={"x-kling-pricing-labels": "project=teaser"})
        assert accepted.status_code == 200


def test_an_sdk_that_retries_without_a_key_makes_one_job(
    gateway: tuple[Provider, RunningServer],
) -> None:
    """A retry count without a key finds the only job for the same request; several such jobs are 409."""
    provider, server = gateway
    url = f"{server.base('studio')}/v1/tasks"
    retry = {"x-stainless-retry-count": "1"}
    before = len(provider.tasks)
    with server.client("trailer") as one, server.client("trailer") as other:
        first = one.post(url, json=CLIP, headers=retry)
        assert (first.status_code, len(provider.tasks)) == (200, before + 1)
        again = one.post(url, json=CLIP, headers=retry)
        assert (again.status_code, len(provider.tasks)) == (409, before + 1)
        assert again.json()["error"]["code"] == "reservation_state"
        assert again.headers["x-should-retry"] == "false"
        assert other.post(url, json=CLIP, headers=retry).status_code == 200
        assert one.post(url, json={**CLIP, "prompt": "a heron"}, headers=retry).status_code == 200
        one.post(url, json=CLIP)
        several = one.post(url, json=CLIP, headers=retry)
        assert (several.status_code, several.json()["error"]["code"]) == (409, "idempotency")


# callers that leave


def test_a_caller_that_leaves_loses_no_answer(gateway: tuple[Provider, RunningServer]) -> None:
    """A caller disconnects while its submission is at the provider; the job is bound nevertheless."""
    provider, server = gateway
    provider.sandbox.call("POST", "/_clock", {"speed": 1})
    further = f"{_line(server.key())}Idempotency-Key: leaves\r\nPrefer: wait=2\r\n"
    head = f"POST /p/studio/v1/tasks HTTP/1.1\r\nHost: x\r\n{further}"
    body = json.dumps(CLIP)
    parts = urlsplit(server.url)
    with socket.create_connection((parts.hostname, parts.port)) as connection:
        connection.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
        before = len(provider.received)
        while len(provider.received) == before:
            threading.Event().wait(0.01)
    with BudgetGuard(server.ledger) as guard:
        for _ in range(500):
            (reservation,) = guard.history(key="leaves")
            if reservation.state == "bound":
                break
            threading.Event().wait(0.01)
        assert reservation.state == "bound"
        guard.verify()


class _Moving(BaseHTTPRequestHandler):
    """Redirects every request."""

    target = ""

    def do_GET(self) -> None:
        self.send_response(302)
        self.send_header("Location", self.target)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Prints nothing."""


def test_redirects_are_left_to_the_caller(tmp_path: Path, book: PriceBook) -> None:
    """The server follows no redirect; one that stays at the upstream leads the caller back to the proxy."""
    ledger = f"sqlite:///{tmp_path}/spend.db"
    guard = BudgetGuard(ledger, BUDGETS, book=book)
    with http_server(_Moving) as url:
        upstreams = {"studio": {"provider": "qingbo", "url": url}}
        with serving(ledger, tmp_path, upstreams, guard) as server, server.client(None) as client:
            for location, expected in (
                ("https://elsewhere.example.com/x", "https://elsewhere.example.com/x"),
                (f"{url}/v1/files/1?a=b", "/p/studio/v1/files/1?a=b"),
                ("/v1/files/1", "/p/studio/v1/files/1"),
                ("http://127.0.0.1.example.com/x", "http://127.0.0.1.example.com/x"),
            ):
                _Moving.target = location
                reply = client.get(f"{server.base('studio')}/v1/files/0")
                assert (reply.status_code, reply.headers["location"]) == (302, expected)
    guard.close()


class _Streaming(QuietHandler):
    """Sends one part of a response, and the next ones only when the test lets it."""

    may_go_on = threading.Event()
    is_broken = threading.Event()

    def do_GET(self) -> None:  # noqa: N802 (the library looks for this name)
        self.send_response(200)
        self.send_header("Content-Type", "video/mp4")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        try:
            self.wfile.write(b"5\r\nfirst\r\n")
            self.may_go_on.wait(10)
            for _ in range(2000):
                self.wfile.write(b"10000\r\n" + bytes(65536) + b"\r\n")
            self.wfile.write(b"0\r\n\r\n")
        except OSError:
            self.is_broken.set()
            self.close_connection = True


def test_downloads_pass_in_parts_and_end_with_their_caller(tmp_path: Path, book: PriceBook) -> None:
    """The first part arrives before the last is made; a caller that leaves ends the response."""
    ledger = f"sqlite:///{tmp_path}/spend.db"
    guard = BudgetGuard(ledger, BUDGETS, book=book)
    with http_server(_Streaming) as url:
        upstreams = {"studio": {"provider": "qingbo", "url": url}}
        with serving(ledger, tmp_path, upstreams, guard) as server, server.client(None) as client:
            with client.stream("GET", f"{server.base('studio')}/v1/files/video") as reply:
                parts = reply.iter_raw(5)
                assert next(parts) == b"first"
                _Streaming.may_go_on.set()
            assert _Streaming.is_broken.wait(20)
    guard.close()


def mcp(tool: str, **arguments: Any) -> dict[str, Any]:
    """Returns an MCP message that calls a tool."""
    params = {"name": tool, "arguments": arguments}
    return {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}


def test_mcp_tools_reach_the_tasks_of_the_project(tmp_path: Path, book: PriceBook) -> None:
    """A tool call is admitted like any submission; a foreign task is 404, and a batch is refused."""
    ledger = f"sqlite:///{tmp_path}/spend.db"
    guard = BudgetGuard(ledger, BUDGETS, book=book)
    with running("qingbo-ai", api_key=CREDENTIAL) as provider:
        upstreams = {"studio": {"provider": "qingbo-ai", "url": provider.url}}
        with serving(ledger, tmp_path, upstreams, guard) as server:
            url = f"{server.base('studio')}/v1/mcp"
            with server.client("trailer") as own, server.client("teaser") as foreign:
                job = mcp("create_task", model="kling-v3", input={"prompt": "a boat", "duration": 5})
                made = own.post(url, json=job)
                assert made.status_code == 200, made.text
                assert "x-kling-pricing-reservation" in made.headers
                (task_id,) = provider.tasks
                before = len(provider.received)
                assert foreign.post(url, json=mcp("get_task", task_id=task_id)).status_code == 404
                assert foreign.post(url, json=[mcp("get_task", task_id=task_id)]).status_code == 403
                assert len(provider.received) == before
                assert task_id in own.post(url, json=mcp("get_task", task_id=task_id)).text
    guard.close()


def test_an_unfinished_task_is_recorded_once_and_its_end_at_once(
    gateway: tuple[Provider, RunningServer],
) -> None:
    """The same answer about a task in progress is recorded once; the answer about its end settles it."""
    provider, server = gateway
    with server.client() as client, BudgetGuard(server.ledger) as guard:
        url = f"{server.base('studio')}/v1/tasks"
        task_id = submitted(client, server.base("studio"))
        first = client.get(f"{url}/{task_id}")
        assert client.get(f"{url}/{task_id}").content == first.content
        assert guard.reservation(("qingbo", task_id)).state == "bound"
        provider.finish(task_id)
        assert client.get(f"{url}/{task_id}").json()["status"] == "completed"
        assert guard.reservation(("qingbo", task_id)).state == "settled"
        guard.verify()
