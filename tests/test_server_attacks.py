"""Requests of a hostile caller: other spellings and readings, the tasks of others, and floods."""

import json
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from kling_pricing import Budget, BudgetGuard, PriceBook
from tests.guards import CLIP
from tests.providers import Provider, running
from tests.server_runs import CREDENTIAL, RunningServer, serving

TEXT2VIDEO = {"model_name": "kling-v3", "prompt": "a boat", "duration": "5", "mode": "std"}
BUDGETS = [Budget(name="all", cap=50, currency="USD")]
PATIENCE_S = 20


@pytest.fixture(scope="module")
def book_of_module() -> PriceBook:
    """The bundled tables."""
    from tests.conftest import bundled_book  # noqa: PLC0415

    return bundled_book()


@pytest.fixture(scope="module")
def gateway(
    tmp_path_factory: pytest.TempPathFactory, book_of_module: PriceBook
) -> Iterator[tuple[Provider, RunningServer, BudgetGuard]]:
    """A gateway that needs a key, and a server in front of it."""
    folder = tmp_path_factory.mktemp("attacked")
    ledger = f"sqlite:///{folder}/spend.db"
    with running("qingbo", api_key=CREDENTIAL) as provider:
        guard = BudgetGuard(ledger, BUDGETS, book=book_of_module)
        with serving(ledger, folder, {"studio": {"provider": "qingbo", "url": provider.url}}, guard) as server:
            yield provider, server, guard
        guard.close()


@pytest.fixture(scope="module")
def official(
    tmp_path_factory: pytest.TempPathFactory, book_of_module: PriceBook
) -> Iterator[tuple[Provider, RunningServer]]:
    """The official API, which lists tasks, and a server in front of it."""
    folder = tmp_path_factory.mktemp("attacked-official")
    ledger = f"sqlite:///{folder}/spend.db"
    with running("kling", api_key=CREDENTIAL) as provider:
        guard = BudgetGuard(ledger, BUDGETS, book=book_of_module)
        with serving(ledger, folder, {"kling": {"url": provider.url}}, guard) as server:
            yield provider, server
        guard.close()


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
    headers: dict[str, str], gateway: tuple[Provider, RunningServer, BudgetGuard]
) -> None:
    """A body that was priced as JSON arrives as JSON, whatever its headers state."""
    provider, server, _ = gateway
    body = json.dumps(CLIP | {"prompt": "&duration=10&x="}).encode()
    reply = httpx.post(f"{server.base('studio')}/v1/tasks", content=body, headers=server.key() | headers)
    assert reply.status_code == 200, reply.text
    seen = provider.received[-1].headers
    assert seen["content-type"] == "application/json"
    assert not {"content-encoding", "content_encoding"} & {*seen}


def test_a_content_type_of_json_or_a_form_is_kept(
    gateway: tuple[Provider, RunningServer, BudgetGuard],
) -> None:
    """The provider gets a media type of JSON as the caller wrote it."""
    provider, server, _ = gateway
    for content_type in ("application/json; charset=UTF-8", "application/vnd.api+json"):
        headers = server.key() | {"Content-Type": content_type}
        httpx.post(f"{server.base('studio')}/v1/tasks", content=json.dumps(CLIP), headers=headers)
        assert provider.received[-1].headers["content-type"] == content_type


def test_two_content_types_are_refused(gateway: tuple[Provider, RunningServer, BudgetGuard]) -> None:
    """The provider might read the other one than the server."""
    provider, server, _ = gateway
    body, before = json.dumps(CLIP).encode(), len(provider.received)
    answer = exchanged(
        server,
        b"POST /p/studio/v1/tasks HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n"
        b"Content-Type: multipart/form-data; boundary=x\r\nAuthorization: %s\r\nContent-Length: %d\r\n\r\n%s"
        % (server.key()["Authorization"].encode(), len(body), body),
    )
    assert answer.startswith(b"HTTP/1.1 400 ")
    assert len(provider.received) == before


def test_no_header_moves_a_request_to_another_place(
    gateway: tuple[Provider, RunningServer, BudgetGuard],
) -> None:
    """Headers that replace the path or the method, or that carry keys, stay behind in every spelling."""
    provider, server, _ = gateway
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
