"""What hooks believe, and what they doubt: no job is made twice, unpriced, or with its money given back."""

import asyncio
import http.client
import json
import socket
import zlib
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

from kling_pricing import (
    Budget,
    BudgetGuard,
    KlingPricingError,
    LedgerUnavailableError,
    PriceBook,
    ReservationStateError,
    WireFormatError,
    spending,
)
from kling_pricing.hooks.aiohttp import GuardMiddleware
from kling_pricing.hooks.httpx import GuardedTransport
from kling_pricing.hooks.recovery import poll
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
                with pytest.raises(ReservationStateError) as caught:
                    guarded.post(f"{url}/v1/tasks", json=CLIP, headers=KEY)
                assert caught.value.__notes__ == [
                    "Hosts listed in `hosts` are not assumed to honour idempotency keys; "
                    "set `keeps_keys=True` if they do and share one backend with the provider."
                ]
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
    "/v1\\videos\\effects",
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


@pytest.mark.parametrize(
    "error", [httpx.PoolTimeout, httpx.ConnectTimeout, httpx.ProxyError, httpx.UnsupportedProtocol]
)
def test_what_fails_before_there_is_a_connection_frees(
    guard: BudgetGuard, gateway: Gateway, error: type[httpx.TransportError]
) -> None:
    """Nothing was sent; a timeout of reading says nothing of the kind."""
    for raised in (error, httpx.ReadTimeout):

        def fail(_: httpx.Request, raised: type[httpx.TransportError] = raised) -> httpx.Response:
            raise raised("no")

        with client(guard, gateway, httpx.MockTransport(fail)) as guarded, pytest.raises(raised):
            guarded.post("/v1/tasks", json=CLIP)
    assert standing(guard) == [("released", False, "no connection"), ("dispatching", True, "no answer")]


# what is said of a task


@pytest.mark.parametrize(
    ("said", "after"),
    [
        ({"status": "failed"}, "bound"),
        ({"task_id": "other", "status": "failed"}, "bound"),
        ({"task_id": "task-qingbo-1", "status": "failed"}, "released"),
    ],
)
def test_an_answer_that_does_not_name_the_task_frees_nothing(
    guard: BudgetGuard, gateway: Gateway, said: dict[str, str], after: str
) -> None:
    """It may be an error of something in between, or about another task."""

    def answer(request: httpx.Request) -> httpx.Response:
        if request.method == "POST":
            return httpx.Response(200, json={"task_id": "task-qingbo-1", "status": "queued"})
        return httpx.Response(200, json=said)

    with client(guard, gateway, httpx.MockTransport(answer)) as guarded:
        guarded.post("/v1/tasks", json=CLIP)
        assert guarded.get("/v1/tasks/task-qingbo-1").json() == said
    assert [each.state for each in guard.history()] == [after]


def test_every_place_is_asked_until_one_names_the_task(guard: BudgetGuard, official: Gateway) -> None:
    """The official API has one for each kind, and answers 200 at the wrong ones."""
    with client(guard, official) as guarded:
        picture = {**JOB, "image": "https://example.com/a.png"}
        guarded.post("/v1/videos/image2video", json=picture)
    (job,) = official.jobs.values()
    official.finish(job.id)
    asked: list[str] = []

    def fetch(url: str) -> tuple[int, bytes]:
        asked.append(url)
        found = official.answer(job) if "image2video" in url else {"code": 1203, "data": None}
        return 200, json.dumps(found).encode()

    assert [each.outcome for each in poll(guard, fetch, base_url=official.url)] == ["settled"]
    assert len(asked) == 2


# what is noted later


def test_what_could_not_be_noted_is_kept_in_its_order(
    guard: BudgetGuard, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the ledger is away it stays the next to be noted, and none is lost."""
    noted: list[str] = []
    observe, away = guard.observe, [True]

    def failing(body: Any, **said: Any) -> Any:
        if away:
            raise LedgerUnavailableError("the ledger is away")
        found = observe(body, **said)
        noted.append(str(found and found.task_id))
        return found

    monkeypatch.setattr(guard, "observe", failing)
    with client(guard, gateway) as guarded:
        tasks = [guarded.post("/v1/tasks", json=CLIP).json()["task_id"] for _ in range(3)]
        away.clear()
        tasks.append(guarded.post("/v1/tasks", json=CLIP).json()["task_id"])
    assert noted == tasks
    assert [(each.state, each.task_id) for each in guard.history()] == [("bound", each) for each in tasks]


def test_an_answer_with_another_jobs_task_is_in_doubt(guard: BudgetGuard, gateway: Gateway) -> None:
    """Whatever the ledger refuses of an answer, the job may be running."""
    gateway.will(*[Fault(body=b'{"task_id": "t-1", "status": "queued"}', accepts=True)] * 2)
    with client(guard, gateway) as guarded:
        for _ in range(2):
            guarded.post("/v1/tasks", json=CLIP)
    assert standing(guard) == [("bound", False, None), ("dispatching", True, "answered without a task")]


# what goes out


@pytest.mark.parametrize("budget", [PLENTY, TIGHT], ids=["as it is", "capped"])
def test_a_compressed_request_of_aiohttp_arrives(
    open_guard: Callable[..., BudgetGuard], gateway: Gateway, budget: Budget
) -> None:
    """Changed, it goes out as it is; unchanged, as aiohttp compresses it."""
    guard = open_guard(budget)
    gateway.will(Fault(200, body=b'{"task_id": "t-1", "status": "queued"}'))

    async def work() -> None:
        middleware = GuardMiddleware(guard, project="trailer", hosts={gateway.host: PROVIDER})
        async with (
            aiohttp.ClientSession(gateway.url, middlewares=[middleware]) as session,
            session.post("/v1/tasks", json=CLIP, compress=True) as reply,
        ):
            assert reply.status == 200

    asyncio.run(work())
    (sent,) = gateway.received
    if budget is PLENTY:
        assert sent.headers["Content-Encoding"] == "deflate"
        assert json.loads(zlib.decompress(sent.body)) == CLIP
    else:
        assert "Content-Encoding" not in sent.headers
        assert sent.json == {**CLIP, "duration": 3}


@pytest.mark.parametrize("status", [307, 308])
@pytest.mark.parametrize("name", ["httpx", "httpx-async", "requests", "aiohttp"])
def test_a_redirect_is_followed_with_the_callers_own_request(
    name: str, status: int, open_guard: Callable[..., BudgetGuard], gateway: Gateway
) -> None:
    """To a guarded place for the same job: it is admitted there anew, and changed anew."""
    guard = open_guard(TIGHT)
    with running(PROVIDER) as other:
        gateway.will(Fault(status, headers={"Location": f"{other.url}/v1/tasks"}))
        hosts = {gateway.host: PROVIDER, other.host: PROVIDER}
        guarded = CLIENTS[name](guard, project="trailer", hosts=hosts)
        for inner in (getattr(guarded, "client", None), getattr(guarded, "_client", None)):
            if inner is not None and hasattr(inner, "follow_redirects"):
                inner.follow_redirects = True
        try:
            reply = guarded.send("POST", f"{gateway.url}/v1/tasks", body=BODY, headers=JSON | KEY)
        finally:
            guarded.close()
        assert reply.status == 200
        assert [each.json for each in (*gateway.received, *other.received)] == [{**CLIP, "duration": 3}] * 2
        assert [each.headers["Content-Type"] for each in other.received] == ["application/json"]
        first, second = guard.history()
        assert (first.state, first.attempt, first.key) == ("released", 1, "shot-1")
        assert (second.state, second.attempt, second.changes) == ("bound", 2, first.changes)
        assert [each.headers["Idempotency-Key"] for each in other.received] == [second.id]


def test_a_redirected_request_of_aiohttp_is_given_its_own_id(guard: BudgetGuard, official: Gateway) -> None:
    """What the hook wrote into the first request is not in the second."""
    with running("kling") as other:
        official.will(Fault(307, headers={"Location": f"{other.url}/v1/videos/text2video"}))
        hosts = {official.host: "kling", other.host: "kling"}

        async def work() -> None:
            middleware = GuardMiddleware(guard, project="trailer", hosts=hosts, send_reservation_id=True)
            async with (
                aiohttp.ClientSession(official.url, middlewares=[middleware]) as session,
                session.post("/v1/videos/text2video", json=JOB) as reply,
            ):
                assert reply.status == 200

        asyncio.run(work())
        first, second = guard.history()
        sent = [each.json["external_task_id"] for each in (*official.received, *other.received)]
        assert sent == [first.id, second.id]
        assert other.received[0].headers["Content-Type"] == "application/json"


def test_a_file_in_the_place_of_a_text_is_refused(
    open_guard: Callable[..., BudgetGuard], book: PriceBook
) -> None:
    """Its name says 5 seconds, and its content, which the API may read, says 15."""
    guard = open_guard(Budget(name="all", cap=1000, currency="CNY"))
    fields = {"model": "Kling-2.5", "prompt": "a boat", "size": "1280x720"}
    picture = {"input_reference": ("a.png", b"x", "image/png")}
    with running("tencent-vod", book) as gateway, client(guard, gateway) as guarded:
        with pytest.raises(
            WireFormatError, match=r"^'seconds' is not a file field but is sent as a file; send it as text$"
        ):
            guarded.post("/v1/videos", data=fields, files={"seconds": ("5", b"15"), **picture})
        assert gateway.received == []
        said = {**fields, "seconds": "5"}
        assert guarded.post("/v1/videos", data=said, files=picture).status_code == 200
    assert [each.state for each in guard.history()] == ["bound"]
