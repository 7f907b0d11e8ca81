"""Requests of a hostile caller: other spellings and readings, the tasks of others, and floods."""

import json
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import httpx
import pytest

from kling_pricing import BudgetGuard, PriceBook
from tests.gateways import BUDGETS, gateway, official  # noqa: F401 (fixtures)
from tests.guards import CLIP
from tests.providers import Provider, running
from tests.receivers import QuietHandler
from tests.receivers import serving as http_server
from tests.server_runs import CREDENTIAL, RunningServer, serving

TEXT2VIDEO = {"model_name": "kling-v3", "prompt": "a boat", "duration": "5", "mode": "std"}
PATIENCE_S = 20


def exchanged(server: RunningServer, data: bytes) -> bytes:
    """Sends bytes over a connection of their own, and returns everything until the server closes it."""
    host, _, port = server.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=PATIENCE_S) as connection:
        connection.sendall(data)
        parts = []
        while part := connection.recv(1 << 16):
            parts.append(part)
    return b"".join(parts)


# other readings of one request


def test_a_caller_cannot_shorten_its_job(gateway: tuple[Provider, RunningServer]) -> None:
    """Neither stated facts about files nor a field in the URL, which the provider might read, passes."""
    provider, server = gateway
    before = len(provider.received)
    facts = {"x-kling-pricing-media": json.dumps({"https://v.example/a.mp4": {"length_s": 1}})}
    for headers, query in ((facts, ""), ({}, "?duration=10"), ({}, "?trace=1&Dura_tion=10")):
        reply = httpx.post(
            f"{server.base('studio')}/v1/tasks{query}", json=CLIP, headers=server.key() | headers
        )
        assert reply.status_code == 400, reply.text
        assert "leave the" in reply.text
    assert len(provider.received) == before


@pytest.mark.parametrize(
    "headers",
    [
        {"Content-Type": "application/x-www-form-urlencoded"},
        {"Content-Type": "application/json; charset=utf-7"},
        {"Content-Type": "application/json", "Content-Encoding": "deflate"},
        {"Content-Type": "application/json", "Content_Encoding": "deflate"},
        {"Content-Type": "application/json", "Connection": "content-type"},
        {"Content-Type": "text/plain"},
    ],
)
def test_the_provider_reads_the_body_that_was_priced(
    headers: dict[str, str], gateway: tuple[Provider, RunningServer]
) -> None:
    """A body that was priced as JSON arrives as JSON, whatever its headers state."""
    provider, server = gateway
    body = json.dumps(CLIP | {"prompt": "&duration=10&x="}).encode()
    reply = httpx.post(f"{server.base('studio')}/v1/tasks", content=body, headers=server.key() | headers)
    assert reply.status_code == 200, reply.text
    seen = provider.received[-1].headers
    assert seen["content-type"] == "application/json"
    assert not {"content-encoding", "content_encoding"} & {*seen}


def test_a_content_type_of_json_or_a_form_is_kept(
    gateway: tuple[Provider, RunningServer],
) -> None:
    """The provider gets a media type of JSON as the caller wrote it."""
    provider, server = gateway
    for content_type in ("application/json; charset=UTF-8", "application/vnd.api+json"):
        headers = server.key() | {"Content-Type": content_type}
        httpx.post(f"{server.base('studio')}/v1/tasks", content=json.dumps(CLIP), headers=headers)
        assert provider.received[-1].headers["content-type"] == content_type


def test_an_offer_of_another_protocol_changes_nothing(gateway: tuple[Provider, RunningServer]) -> None:
    """A body after the offer of HTTP/2, which Java's client makes, is read, and is no request of its own."""
    provider, server = gateway
    body, before = json.dumps(CLIP).encode(), len(provider.received)
    head = [
        "POST /p/studio/v1/tasks HTTP/1.1",
        "Host: x",
        "Connection: Upgrade, HTTP2-Settings",
        "Upgrade: h2c",
        "HTTP2-Settings: AAMAAABkAAQAoAAAAAIAAAAA",
        "Content-Type: application/json",
        f"Authorization: {server.key()['Authorization']}",
        f"Content-Length: {len(body)}",
    ]
    second = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    answers = exchanged(server, "\r\n".join([*head, "", ""]).encode() + body + second)
    assert answers.startswith(b"HTTP/1.1 200 ")
    assert answers.count(b"HTTP/1.1 ") == 2
    assert len(provider.received) == before + 1


def test_two_content_types_are_refused(gateway: tuple[Provider, RunningServer]) -> None:
    """The provider might read the other one than the server."""
    provider, server = gateway
    body, before = json.dumps(CLIP).encode(), len(provider.received)
    head = [
        "POST /p/studio/v1/tasks HTTP/1.1",
        "Host: x",
        "Connection: close",
        "Content-Type: application/json",
        "Content-Type: multipart/form-data; boundary=x",
        f"Authorization: {server.key()['Authorization']}",
        f"Content-Length: {len(body)}",
    ]
    answer = exchanged(server, "\r\n".join([*head, "", ""]).encode() + body)
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert len(provider.received) == before


def test_no_header_moves_a_request_to_another_place(
    gateway: tuple[Provider, RunningServer],
) -> None:
    """Headers that replace the path or the method, or that carry keys, stay behind in every spelling."""
    provider, server = gateway
    key = server.key()
    secret = key["Authorization"].removeprefix("Bearer ")
    headers = key | {
        "X-Original-URL": "/v1/account",
        "X-Rewrite-URL": "/v1/account",
        "X_Original_Url": "/v1/account",
        "X_HTTP_Method_Override": "DELETE",
        "X_Api_Key": secret,
        "X_Forwarded_For": "10.0.0.1",
        "X_Kling_Pricing_Labels": "project=other",
    }
    reply = httpx.post(f"{server.base('studio')}/v1/tasks", json=CLIP, headers=headers)
    assert reply.status_code == 200, reply.text
    seen = provider.received[-1].headers
    assert not [name for name in seen if name.startswith("x-") or "_" in name]
    assert secret not in str(seen.raw)


# the tasks of others


def test_only_a_get_or_a_post_asks_for_a_list(official: tuple[Provider, RunningServer]) -> None:
    """A list that cannot be filtered is refused before it is sent, in every spelling and with every method."""
    provider, server = official
    with server.client("trailer") as owner, server.client("teaser") as caller:
        reply = owner.post(f"{server.base('kling')}/v1/videos/text2video", json=TEXT2VIDEO)
        task_id = reply.json()["data"]["task_id"]
        own = caller.post(f"{server.base('kling')}/v1/videos/text2video", json=TEXT2VIDEO).json()
        own_path = f"/v1/videos/text2video/{own['data']['task_id']}"
        before = len(provider.received)
        for method, path in (
            *[(method, f"/tasks?task_ids={task_id}") for method in ("HEAD", "DELETE", "PUT", "PATCH")],
            *[(method, f"/TASKS?task_ids={task_id}") for method in ("GET", "HEAD", "DELETE", "POST", "PUT")],
            ("POST", f"/Tasks/?task_ids={task_id}"),
            ("GET", f"{own_path}?task_ids={task_id}"),
            ("DELETE", f"{own_path}?task_ids={task_id}"),
        ):
            reply = caller.request(method, server.base("kling") + path)
            assert reply.status_code in {403, 404}, f"{method} {path}: {reply.status_code}"
        assert len(provider.received) == before


def test_a_viewer_changes_no_list(official: tuple[Provider, RunningServer]) -> None:
    """A POST may ask for a list; with the role view, a PUT and a PATCH are refused there."""
    provider, server = official
    with server.client(None, role="view") as viewer:
        before = len(provider.received)
        for method in ("PUT", "PATCH", "DELETE"):
            assert viewer.request(method, f"{server.base('kling')}/tasks").status_code == 403
        assert len(provider.received) == before


def test_a_task_that_a_caller_binds_itself_is_not_reached(
    gateway: tuple[Provider, RunningServer],
) -> None:
    """A caller may bind any id to what it sends from an account of its own; the proxy does not ask about it."""
    provider, server = gateway
    reservations = f"{server.url}/api/v1/reservations"
    with server.client() as caller:
        body = {"payload": CLIP, "provider": "qingbo", "account": "mine", "dispatch": True}
        created = caller.post(reservations, json=body).json()["reservation"]
        bound = caller.post(f"{reservations}/{created['id']}/bind", json={"task_id": "task_of_nobody"})
        assert bound.status_code == 200
        before = len(provider.received)
        for method, path in (
            ("GET", "/v1/tasks/task_of_nobody"),
            ("DELETE", "/v1/tasks/task_of_nobody"),
            ("POST", "/v1/tasks/task_of_nobody/cancel"),
            ("GET", f"/v1/tasks/{created['id']}"),
        ):
            assert caller.request(method, server.base("studio") + path).status_code == 404
        assert len(provider.received) == before


def test_a_tool_call_must_name_its_task(tmp_path: Path, book: PriceBook) -> None:
    """A call of a tool about tasks reaches the provider only if it names a task of the project."""
    ledger = f"sqlite:///{tmp_path}/spend.db"
    guard = BudgetGuard(ledger, BUDGETS, book=book)
    with running("qingbo-ai", api_key=CREDENTIAL) as provider:
        upstreams = {"studio": {"provider": "qingbo-ai", "url": provider.url}}
        with serving(ledger, tmp_path, upstreams, guard) as server, server.client() as caller:
            for arguments in ({}, {"task_id": ["a", "b"]}, {"taskId": "a"}, None, {"task_id": None}):
                params = {"name": "get_task", "arguments": arguments}
                message = {"jsonrpc": "2.0", "id": 1, "method": "tools/call", "params": params}
                reply = caller.post(f"{server.base('studio')}/v1/mcp", json=message)
                assert (reply.status_code, reply.json()["error"]["code"]) == (403, "forbidden"), arguments
            assert not provider.received
    guard.close()


def test_an_id_that_no_task_has_is_not_found(official: tuple[Provider, RunningServer]) -> None:
    """The provider's own 404 answers for an id that the ledger could not even keep."""
    provider, server = official
    with server.client() as caller:
        before = len(provider.received)
        for name in ("a" * 3000, "%C2%A0", "%ff"):
            assert caller.get(f"{server.base('kling')}/v1/videos/text2video/{name}").status_code == 404
        assert len(provider.received) == before


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1", 200),
        ("localhost:1", 200),
        ("[::1]", 200),
        ("evil.example", 401),
        ("", 401),
        ("[::1", 401),
        ("[x", 401),
    ],
)
def test_metrics_are_open_under_the_names_of_this_machine_alone(
    host: str, status: int, gateway: tuple[Provider, RunningServer]
) -> None:
    """A web page that gives its own name the address of this machine does not read the metrics."""
    _, server = gateway
    answer = exchanged(server, f"GET /metrics HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n".encode())
    assert answer.startswith(b"HTTP/1.1 %d " % status)


# strange answers


class _Breaking(QuietHandler):
    """Answers with the bytes that its path names, and closes the connection."""

    answers: ClassVar[dict[str, bytes]] = {
        "/open/short": b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\nabc",
        "/open/chunk": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
        "/open/status": b"HTTP/1.1 999 Odd\r\nContent-Length: 2\r\n\r\nab",
        "/v1/videos/text2video": b"HTTP/1.1 999 Odd\r\nContent-Length: 2\r\n\r\n{}",
    }

    def do_GET(self) -> None:  # noqa: N802 (the library looks for this name)
        self.connection.sendall(self.answers[self.path])
        self.close_connection = True


def test_a_strange_answer_is_no_failure_of_the_server(
    tmp_path: Path, book: PriceBook, caplog: pytest.LogCaptureFixture
) -> None:
    """A response that breaks off closes the connection; a status that HTTP does not have becomes a 502."""
    ledger = f"sqlite:///{tmp_path}/spend.db"
    guard = BudgetGuard(ledger, BUDGETS, book=book)
    with http_server(_Breaking) as url:
        upstreams = {"kling": {"url": url, "open_paths": ["/open"]}}
        with serving(ledger, tmp_path, upstreams, guard) as server, server.client() as caller:
            for path in ("/open/short", "/open/chunk"):
                with pytest.raises(httpx.RemoteProtocolError):
                    caller.get(server.base("kling") + path)
            for path in ("/open/status", "/v1/videos/text2video"):
                assert caller.get(server.base("kling") + path).status_code == 502
    guard.close()
    assert not [record for record in caplog.records if record.exc_info]


# floods


@pytest.fixture(scope="module")
def narrow(tmp_path_factory: pytest.TempPathFactory, book: PriceBook) -> Iterator[RunningServer]:
    """A server without patience and memory."""
    folder = tmp_path_factory.mktemp("narrow")
    ledger = f"sqlite:///{folder}/spend.db"
    guard = BudgetGuard(ledger, BUDGETS, book=book)
    limits = {"body_timeout_s": 1, "submissions_in_memory_mb": 1}
    upstreams = {"studio": {"provider": "qingbo", "url": "http://127.0.0.1:1"}}
    with serving(ledger, folder, upstreams, guard, limits=limits) as server:
        yield server
    guard.close()


def test_the_api_does_not_wait_for_a_slow_body(narrow: RunningServer) -> None:
    """A body that stops arriving gets a 408, and the connection is closed."""
    head = (
        "POST /api/v1/quote HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
        f"Authorization: {narrow.key()['Authorization']}\r\nContent-Length: 100\r\n\r\n"
    )
    answer = exchanged(narrow, head.encode() + b'{"payload"')
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert b'"code":"timeout"' in answer


def test_the_bodies_of_the_api_have_a_limit_in_memory(narrow: RunningServer) -> None:
    """The API holds no more in memory than the settings allow, and answers the next request."""
    with narrow.client() as caller:
        reply = caller.post(f"{narrow.url}/api/v1/quote", json={"payload": {"prompt": "x" * (1 << 21)}})
        assert (reply.status_code, reply.json()["code"]) == (503, "overloaded")
        reply = caller.post(f"{narrow.url}/api/v1/quote", json={"payload": CLIP, "provider": "qingbo"})
        assert reply.status_code == 200, reply.text


def test_a_callback_is_small(gateway: tuple[Provider, RunningServer]) -> None:
    """Anybody may send a callback, so a large one is refused before it is read."""
    _, server = gateway
    reply = httpx.post(f"{server.url}/callbacks/studio", content=b"[" * (2 << 20))
    assert reply.status_code == 413


def test_many_unknown_fields_are_named_in_part(gateway: tuple[Provider, RunningServer]) -> None:
    """A payload with very many unknown fields is refused at once, and the answer names the first of them."""
    _, server = gateway
    payload = CLIP | {f"field_{number}": 1 for number in range(50_000)}
    with server.client() as caller:
        reply = caller.post(f"{server.url}/api/v1/quote", json={"payload": payload, "provider": "qingbo"})
        assert reply.status_code == 422
        assert "field_0" in reply.text
        assert len(reply.content) < 200_000
