"""What hooks believe, and what they doubt: no job is made twice, unpriced, or with its money given back."""

import asyncio
import http.client
import json
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import httpx
import pytest
import requests
from requests.adapters import HTTPAdapter
from urllib3 import Retry

from kling_pricing import Budget, BudgetGuard, KlingPricingError, PriceBook, ReservationStateError, spending
from kling_pricing.hooks.aiohttp import GuardMiddleware
from kling_pricing.hooks.httpx import GuardedTransport
from kling_pricing.hooks.requests import GuardedAdapter
from tests.conftest import Clock, video
from tests.gateway import Fault, Gateway, running
from tests.hook_clients import CLIENTS
from tests.test_hooks_scenarios import JSON, PROVIDER

CLIP = video(duration=5)
BODY = json.dumps(CLIP).encode()
JOB = {"model_name": "kling-v3", "prompt": "a boat"}
PLENTY = Budget(name="all", cap=1000, currency="USD")
TIGHT = Budget(name="all", cap="0.25", currency="USD", on_exceed="cap")
KEY = {"Idempotency-Key": "shot-1"}


@pytest.fixture
def gateway(book: PriceBook) -> Iterator[Gateway]:
    """A gateway whose API takes keys."""
    with running(PROVIDER, book) as started:
        yield started


@pytest.fixture
def official(book: PriceBook) -> Iterator[Gateway]:
    """A gateway whose API takes none."""
    with running("kling", book) as started:
        yield started


@pytest.fixture
def open_guard(tmp_path: Path, book: PriceBook, clock: Clock) -> Iterator[Callable[..., BudgetGuard]]:
    """Opens guards of one ledger, as processes of their own would have them."""
    opened: list[BudgetGuard] = []

    def make(budget: Budget = PLENTY) -> BudgetGuard:
        opened.append(BudgetGuard(f"sqlite:///{tmp_path}/spend.db", [budget], book=book, clock=clock))
        return opened[-1]

    yield make
    for each in opened:
        each.verify()
        each.close()


@pytest.fixture
def guard(open_guard: Callable[..., BudgetGuard]) -> BudgetGuard:
    """A guard with room for whatever comes."""
    return open_guard()


def client(guard: BudgetGuard, gateway: Gateway, inner: Any = None, **options: Any) -> httpx.Client:
    """A guarded client of httpx."""
    said: dict[str, Any] = {"project": "trailer", "hosts": {gateway.host: gateway.provider}} | options
    transport = GuardedTransport(inner or httpx.HTTPTransport(), guard, **said)
    return httpx.Client(transport=transport, base_url=gateway.url)


def standing(guard: BudgetGuard) -> list[tuple[str, bool, str | None]]:
    """State, doubt and reason of every reservation."""
    return [(each.state, each.in_doubt, each.reason) for each in guard.history()]


# one job under two requests


def test_a_refusal_frees_nothing_while_another_process_sends_the_job_again(
    open_guard: Callable[..., BudgetGuard], gateway: Gateway
) -> None:
    """Of two hooks that know nothing of each other one is refused: the ledger knows that there are two."""
    gateway.will(Fault(429, hangs=True), Fault(hangs=True))
    first, second = open_guard(), open_guard()
    with (
        client(first, gateway, keeps_keys=True) as one,
        client(second, gateway, keeps_keys=True) as other,
        ThreadPoolExecutor(2) as threads,
    ):
        replies = []
        for guarded in (one, other):
            replies.append(threads.submit(guarded.post, "/v1/tasks", json=CLIP, headers=KEY))
            assert gateway.arrivals.acquire(timeout=10)
        gateway.go_on()
        assert sorted(each.result().status_code for each in replies) == [200, 429]
    assert [(each.state, each.in_doubt) for each in first.history()] == [("bound", False)]
    assert "release" not in [entry.kind for entry in first.journal()]


def test_no_connection_the_second_time_frees_nothing(guard: BudgetGuard, gateway: Gateway) -> None:
    """The first may be running."""
    gateway.will(Fault(500, accepts=True))
    with running(PROVIDER) as gone:
        hosts = {gateway.host: PROVIDER, gone.host: PROVIDER}
    with client(guard, gateway, hosts=hosts, keeps_keys=True) as guarded:
        guarded.post("/v1/tasks", json=CLIP, headers=KEY)
        with pytest.raises(httpx.ConnectError):
            guarded.post(f"{gone.url}/v1/tasks", json=CLIP, headers=KEY)
    assert standing(guard) == [("dispatching", True, "sent again")]


# one job, one name at the provider


@pytest.mark.parametrize(
    ("options", "headers"),
    [
        ({"key_header": "X-Shot"}, [{"X-Shot": "7", "Idempotency-Key": f"auto-{count}"} for count in range(2)]),
        ({"labels": lambda _: {"key": "7"}, "key_header": "X-None"}, [{"Idempotency-Key": "a"}, {}]),
    ],
)
def test_a_job_has_one_name_at_the_provider_whatever_key_the_caller_sends(
    guard: BudgetGuard, gateway: Gateway, options: dict[str, Any], headers: list[dict[str, str]]
) -> None:
    """The reservation's id takes the place of the caller's own header, which would make a second job."""
    gateway.will(Fault(500, accepts=True))
    with client(guard, gateway, keeps_keys=True, **options) as guarded:
        for each in headers:
            guarded.post("/v1/tasks", json=CLIP, headers=each)
    (found,) = guard.history()
    assert [each.headers.get_all("Idempotency-Key") for each in gateway.submissions] == [[found.id]] * 2
    assert (found.state, len(gateway.jobs)) == ("bound", 1)


def test_a_job_named_by_header_and_then_by_scope_is_one(guard: BudgetGuard, gateway: Gateway) -> None:
    """Both name the job to us; the provider knows it by the reservation."""
    gateway.will(Fault(500, accepts=True))
    with client(guard, gateway, keeps_keys=True) as guarded:
        guarded.post("/v1/tasks", json=CLIP, headers=KEY)
        with spending(key="shot-1"):
            assert guarded.post("/v1/tasks", json=CLIP).status_code == 200
    assert len(gateway.jobs) == len(guard.history()) == 1


def test_attempts_and_projects_share_no_name_at_the_provider(guard: BudgetGuard, gateway: Gateway) -> None:
    """A job that failed is made anew under the same key, and the same key of another project is another job."""
    with client(guard, gateway, project=None) as guarded:
        for project in ("trailer", "teaser"):
            with spending(project=project):
                task_id = guarded.post("/v1/tasks", json=CLIP, headers=KEY).json()["task_id"]
                gateway.finish(task_id, "failed")
                guarded.get(f"/v1/tasks/{task_id}")
                guarded.post("/v1/tasks", json=CLIP, headers=KEY)
    assert [(each.attempt, each.state) for each in guard.history()] == [(1, "released"), (2, "bound")] * 2
    assert len(gateway.jobs) == len({each.task_id for each in guard.history()}) == 4


@pytest.mark.parametrize("keeps_keys", [False, True])
def test_what_may_be_running_is_sent_again_only_where_keys_are_kept(
    guard: BudgetGuard, gateway: Gateway, *, keeps_keys: bool
) -> None:
    """Nobody knows what stands at a host of the caller's own, so the caller has to say that it keeps keys."""
    gateway.will(Fault(500, accepts=True))
    with client(guard, gateway, keeps_keys=keeps_keys) as guarded:
        guarded.post("/v1/tasks", json=CLIP, headers=KEY)
        if keeps_keys:
            assert guarded.post("/v1/tasks", json=CLIP, headers=KEY).status_code == 200
        else:
            for url in (gateway.url, "https://www.qingbo.dev"):
                with pytest.raises(ReservationStateError):
                    guarded.post(f"{url}/v1/tasks", json=CLIP, headers=KEY)
    assert len(gateway.submissions) == 1 + keeps_keys


# paths

UNLISTED = [
    "/v1/videos/lip-sync",
    "/v1/videos/avatar/image2video",
    "/v1/videos/text2video;x=1",
    "/v1/videos/Text2Video",
    "/v1/videos/text2video/x",
    "/v1/videos/text2video%2F",
    "/v1/videos/text2video%20",
    "/v1//Videos/effects",
    "/v1%2Fvideos%2Ftext2video/x",
    "/v1/x/%2E%2E/videos/effects",
    "/v1/images/generations",
    "/v1/audio/tts",
    "/v2/videos/text2video",
    "/proxy/v1/video/generations/x",
]


@pytest.mark.parametrize("path", UNLISTED)
def test_where_jobs_are_billed_nothing_is_sent_that_cannot_be_priced(
    guard: BudgetGuard, official: Gateway, path: str
) -> None:
    """However the path is spelled; the error names it, and the option by which it passes."""
    with client(guard, official) as guarded:
        for method in ("POST", "put", "PATCH"):
            with pytest.raises(KlingPricingError, match=r"no capability file lists .* allow_paths=\['/"):
                guarded.request(method, f"{official.url}{path}", json=JOB)
        assert guarded.get(path).status_code == 404
    assert [each.method for each in official.received] == ["GET"]
    assert guard.history() == []


@pytest.mark.parametrize("name", CLIENTS)
def test_every_client_refuses_an_unlisted_path(name: str, guard: BudgetGuard, official: Gateway) -> None:
    """As an error or as an answer; a path that is allowed passes, and what is below it."""
    url = f"{official.url}/v1/images/generations"
    said: dict[str, Any] = {"project": "trailer", "hosts": {official.host: "kling"}}
    for options in ({}, {"refusals": "respond"}, {"allow_paths": ["/v1/images"]}):
        guarded = CLIENTS[name](guard, **said, **options)
        try:
            if not options:
                with pytest.raises(KlingPricingError, match="allow_paths"):
                    guarded.send("POST", url, body=b"{}", headers=JSON)
                assert official.received == []
            else:
                status = 400 if "refusals" in options else 200
                assert guarded.send("POST", url, body=b"{}", headers=JSON).status == status
        finally:
            guarded.close()
    assert len(official.received) == 1


@pytest.mark.parametrize("paths", ["/v1/images", ["v1/images"], ["/"], [7], None])
def test_paths_that_cannot_be_allowed_are_errors(guard: BudgetGuard, official: Gateway, paths: Any) -> None:
    """A word in the place of a list, no path, or all of them."""
    with pytest.raises(KlingPricingError, match="allow_paths"):
        client(guard, official, allow_paths=paths)


@pytest.mark.parametrize("status", [307, 308])
@pytest.mark.parametrize("name", CLIENTS)
def test_a_redirect_to_an_unknown_path_is_not_followed(
    name: str, status: int, guard: BudgetGuard, gateway: Gateway
) -> None:
    """At a guarded host a job could be made there as well, and nobody would have priced it."""
    with running(PROVIDER) as other:
        hosts = {gateway.host: PROVIDER, other.host: PROVIDER}
        guarded = CLIENTS[name](guard, project="trailer", hosts=hosts)
        try:
            for path in ("/v1/files", "/v1/tasks/x", "/v1/tasks/x/cancel"):
                gateway.will(Fault(status, headers={"Location": f"{other.url}{path}"}))
                with pytest.raises(KlingPricingError, match="not followed"):
                    guarded.send("POST", f"{gateway.url}/v1/tasks", body=BODY, headers=JSON)
        finally:
            guarded.close()
        assert other.received == []
    assert {each.state for each in guard.history()} == {"released"}


# who sends


class _GivesOnAndDrops(BaseHTTPRequestHandler):
    """A proxy that gives a request on, and closes without telling what was answered."""

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        url = urlsplit(self.path)
        server = http.client.HTTPConnection(str(url.hostname), url.port, timeout=10)
        server.request("POST", url.path, body, {"Content-Type": "application/json"})
        server.getresponse().read()
        server.close()
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Stays quiet."""


@contextmanager
def dropping_proxy() -> Iterator[str]:
    """The URL of such a proxy."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _GivesOnAndDrops)
    thread = Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def through_requests(guard: BudgetGuard, gateway: Gateway, inner: HTTPAdapter, **how: Any) -> requests.Response:
    """A submission through an adapter of requests."""
    with requests.Session() as session:
        session.trust_env = False
        hosts = {gateway.host: gateway.provider}
        session.mount("http://", GuardedAdapter(inner, guard, project="trailer", hosts=hosts))
        path = "/v1/tasks" if gateway.provider == PROVIDER else "/v1/videos/text2video"
        payload = CLIP if gateway.provider == PROVIDER else JOB
        return session.post(f"{gateway.url}{path}", json=payload, timeout=10, **how)


@pytest.mark.parametrize("retries", [0, 3, Retry(3, allowed_methods=None, other=3, read=3)])
def test_what_a_proxy_lost_is_in_doubt_and_not_sent_again(
    guard: BudgetGuard, official: Gateway, retries: Any
) -> None:
    """A proxy that fails may have given the job on, and urllib3 would send it again."""
    with dropping_proxy() as proxy, pytest.raises(requests.exceptions.ProxyError):
        through_requests(guard, official, HTTPAdapter(max_retries=retries), proxies={"http": proxy})
    assert len(official.jobs) == 1
    assert standing(guard) == [("dispatching", True, "no answer")]


def test_a_proxy_that_is_not_there_has_sent_nothing(guard: BudgetGuard, official: Gateway) -> None:
    """There was no connection to it."""
    with dropping_proxy() as gone:
        pass
    with pytest.raises(requests.exceptions.ProxyError):
        through_requests(guard, official, HTTPAdapter(max_retries=3), proxies={"http": gone})
    assert standing(guard) == [("released", False, "no connection")]


def test_an_adapter_does_not_repeat_submissions(guard: BudgetGuard, gateway: Gateway) -> None:
    """Whatever it was told: the caller sees the first answer, and keeps its other requests' retries."""
    gateway.will(Fault(500, accepts=True))
    inner = HTTPAdapter(max_retries=Retry(3, status_forcelist=[500], allowed_methods=["POST"]))
    assert through_requests(guard, gateway, inner).status_code == 500
    assert (len(gateway.submissions), inner.max_retries.total) == (1, 3)
    assert standing(guard) == [("dispatching", True, "HTTP 500 error")]


class _Patient(httpx.BaseTransport):
    """A transport that tries again by itself."""

    def __init__(self) -> None:
        self._inner = httpx.HTTPTransport()

    def close(self) -> None:
        self._inner.close()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        response = self._inner.handle_request(request)
        if response.status_code == 503:
            response.read()
            response = self._inner.handle_request(request)
        return response


class _PatientAdapter(HTTPAdapter):
    """An adapter that tries again by itself."""

    def send(self, *args: Any, **kwargs: Any) -> requests.Response:
        response = super().send(*args, **kwargs)
        if response.content and response.status_code == 503:
            response = super().send(*args, **kwargs)
        return response


async def _patiently(request: aiohttp.ClientRequest, handler: Any) -> aiohttp.ClientResponse:
    """A middleware that tries again by itself."""
    response: aiohttp.ClientResponse = await handler(request)
    if response.status == 503:
        response.release()
        response = await handler(request)
    return response


def _with_httpx(guard: BudgetGuard, gateway: Gateway, options: dict[str, Any]) -> int:
    with client(guard, gateway, _Patient(), **options) as guarded:
        return guarded.post("/v1/videos/text2video", json=JOB).status_code


def _with_requests(guard: BudgetGuard, gateway: Gateway, options: dict[str, Any]) -> int:
    with requests.Session() as session:
        hosts = {gateway.host: "kling"}
        adapter = GuardedAdapter(_PatientAdapter(), guard, project="trailer", hosts=hosts, **options)
        session.mount("http://", adapter)
        return session.post(f"{gateway.url}/v1/videos/text2video", json=JOB, timeout=10).status_code


def _with_aiohttp(guard: BudgetGuard, gateway: Gateway, options: dict[str, Any]) -> int:
    async def work() -> int:
        middleware = GuardMiddleware(guard, project="trailer", hosts={gateway.host: "kling"}, **options)
        async with (
            aiohttp.ClientSession(gateway.url, middlewares=[middleware, _patiently]) as session,
            session.post("/v1/videos/text2video", json=JOB) as reply,
        ):
            return reply.status

    return asyncio.run(work())


@pytest.mark.parametrize("send", [_with_httpx, _with_requests, _with_aiohttp])
def test_a_refusal_is_not_believed_of_what_may_have_sent_before(
    send: Callable[..., int], guard: BudgetGuard, official: Gateway
) -> None:
    """The try that it did not show may have been accepted; unless the caller says that it sends once."""
    official.will(Fault(503, accepts=True), Fault(429), Fault(429))
    assert send(guard, official, {}) == 429
    assert standing(guard) == [("dispatching", True, "HTTP 429")]
    assert send(guard, official, {"sends_once": True}) == 429
    assert [each.state for each in guard.history()] == ["dispatching", "released"]
