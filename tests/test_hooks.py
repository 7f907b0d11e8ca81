"""What hooks promise beyond the scenarios: who spends, which job it is, what is left alone and never lost."""

import asyncio
import gzip
import json
import logging
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import httpx2
import pytest
import requests
from requests.adapters import HTTPAdapter

from kling_pricing import (
    AsyncBudgetGuard,
    Budget,
    BudgetExceededError,
    BudgetGuard,
    IdempotencyError,
    KlingPricingError,
    LedgerUnavailableError,
    PriceBook,
    ReservationStateError,
    WireFormatError,
    load_price_book,
    spending,
)
from kling_pricing.hooks.aiohttp import GuardMiddleware
from kling_pricing.hooks.http_messages import Outgoing
from kling_pricing.hooks.httpx import AsyncGuardedTransport, GuardedTransport
from kling_pricing.hooks.requests import GuardedAdapter
from kling_pricing.hooks.routes import Routes, TaskEndpoint, UnlistedPath
from kling_pricing.wire.endpoints import Endpoint
from tests.commands import HEEDS_SIGINT
from tests.conftest import AT, PRICES, Clock, video
from tests.gateway import Fault, Gateway, running
from tests.hook_clients import CLIENTS
from tests.test_hooks_scenarios import JSON, PROVIDER

CLIP = video(duration=5)
COST = Decimal("0.357")
PLENTY = Budget(name="all", cap=1000, currency="USD")


@pytest.fixture
def gateway(book: PriceBook) -> Iterator[Gateway]:
    """A gateway that bills as `PROVIDER` does."""
    with running(PROVIDER, book) as started:
        yield started


@pytest.fixture
def guard(tmp_path: Path, book: PriceBook, clock: Clock) -> Iterator[BudgetGuard]:
    """A guard with room for whatever comes."""
    made = BudgetGuard(f"sqlite:///{tmp_path}/spend.db", [PLENTY], book=book, clock=clock)
    yield made
    made.verify()
    made.close()


def client(guard: BudgetGuard, gateway: Gateway, **options: Any) -> httpx.Client:
    """A guarded client of httpx, for what no client does differently."""
    said: dict[str, Any] = {"project": "trailer", "hosts": {gateway.host: PROVIDER}, "keeps_keys": True}
    said |= options
    transport = GuardedTransport(httpx.HTTPTransport(), guard, **said)
    return httpx.Client(transport=transport, base_url=gateway.url)


# what a request is


@pytest.mark.parametrize(
    ("method", "url", "found"),
    [
        ("POST", "https://www.qingbo.dev/v1/tasks", ("tasks", "tasks_extra")),
        ("POST", "https://api.qingbo.ai/v1/tasks?x=1", ("tasks_v2",)),
        ("POST", "https://gw.example.com/kling/v1/tasks", ("tasks", "tasks_extra")),
        ("POST", "https://www.qingbo.dev//v1//t%61sks/", ("tasks", "tasks_extra")),
        ("POST", "https://gw.example.net/v1/videos/text2video", ("kling",)),
        ("POST", "http://gw.example.net/v1/videos/text2video", None),
        ("POST", "http://localhost:8080/v1/videos", ("openai_videos",)),
        ("POST", "http://localhost:8081/v1/videos", None),
        ("POST", "https://api.openai.com/v1/videos", None),
        ("POST", "https://www.qingbo.dev/v1/files", None),
        ("PUT", "https://www.qingbo.dev/v1/tasks", UnlistedPath("/v1/tasks", "tasks")),
        ("GET", "https://www.qingbo.dev/v1/tasks", None),
        ("GET", "https://www.qingbo.dev/v1/tasks/t-1", ("qingbo", "t-1")),
        ("GET", "https://gw.example.com/kling/v1/tasks/a%2Fb?wait=1", ("qingbo", "a/b")),
        ("POST", "https://www.qingbo.dev/v1/tasks/t-1/cancel", ("qingbo", "t-1")),
        ("GET", "https://www.qingbo.dev/v1/tasks/t-1/cancel", None),
        ("GET", "https://www.qingbo.dev/v1/video/generations/t-1", ("qingbo", "t-1")),
        ("GET", "https://api-singapore.klingai.com/v1/videos/image2video/7", ("kling", "7")),
        ("GET", "https://api-singapore.klingai.com/v1/videos/image2video", None),
        ("GET", "http://localhost:8080/v1/videos/v-1", ("tencent-vod", "v-1")),
        ("GET", "http://localhost:8080/v1/videos/v-1/content", None),
        ("GET", "not a url", None),
    ],
)
def test_what_a_request_is_follows_from_method_host_and_path(
    book: PriceBook, method: str, url: str, found: tuple[str, ...] | UnlistedPath | None
) -> None:
    """Hosts are those of the price tables and one's own, below any folder; the rest is nothing of ours."""
    hosts = {"GW.example.com": "qingbo", "localhost:8080": "tencent-vod", "gw.example.net:443": "kling"}
    routes = Routes(book, hosts)
    route = routes.find(method, url)
    if isinstance(route, Endpoint):
        assert route.wire_formats == found
    elif isinstance(found, UnlistedPath) or found is None:
        assert route == found
    else:
        assert route == TaskEndpoint(*found)


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"hosts": {"gw.example.com": "nobody"}}, "unknown provider 'nobody' of gw.example.com; known: "),
        ({"hosts": {"https://gw.example.com": "qingbo"}}, "is no host; write gw.example.com or localhost:8080"),
        ({"refusals": "ignore"}, "refusals must be 'raise' or 'respond', got ignore"),
        ({"projekt": "trailer"}, "unknown option 'projekt'; a hook takes project, labels"),
        ({"hosts": None}, "hosts must be a mapping"),
        ({"hosts": {5: "qingbo"}}, "hosts: '5' is no host"),
        ({"hosts": {"gw.example.com": 5}}, "hosts: unknown provider '5' of gw.example.com"),
        ({"hosts": {"*.example.com": "qingbo"}}, "each host by itself"),
        ({"hosts": {"m\u00fcnchen.example": "qingbo"}}, "a name of other letters as xn--"),
        ({"hosts": {"gw.example.com\t": "qingbo"}}, "is no host"),
        ({"hosts": {"gw.example.com:": "qingbo"}}, "is no host"),
        ({"hosts": {"::1": "qingbo"}}, "an IPv6 address in brackets"),
        ({"labels": 5}, "labels must be a mapping, or a function"),
        ({"project": 5}, "project must be text, got 5"),
        ({"key_header": ""}, "key_header must be the name of a header"),
        ({"key_header": None}, "key_header must be the name of a header, got null"),
        ({"sends_once": 1}, "sends_once must be True or False, got 1"),
    ],
)
def test_options_that_cannot_be_used_are_errors(
    guard: BudgetGuard, options: dict[str, Any], problem: str
) -> None:
    """Each says what is wrong, before anything is sent."""
    with pytest.raises(KlingPricingError) as caught:
        GuardedTransport(httpx.HTTPTransport(), guard, **options)
    assert problem in str(caught.value)
    with pytest.raises(KlingPricingError, match="a hook needs a BudgetGuard"):
        GuardedTransport(httpx.HTTPTransport(), "sqlite:///spend.db")  # type: ignore[arg-type]


def test_hosts_are_found_however_they_are_written(book: PriceBook) -> None:
    """With a dot at the end, zeros before the port, in capitals, or as an address."""
    for host, url in (
        ("GW.example.com.", "https://gw.example.com"),
        ("gw.example.com:08080", "http://gw.example.com:8080"),
        ("gw.example.com.:443", "https://gw.example.com."),
        ("[::1]:80", "http://[::1]"),
        ("10.0.0.7", "http://10.0.0.7:81"),
    ):
        assert isinstance(Routes(book, {host: "qingbo"}).find("POST", f"{url}/v1/tasks"), Endpoint), host


def test_labels_that_a_function_does_not_tell_are_an_error(guard: BudgetGuard, gateway: Gateway) -> None:
    """Nothing is sent that nobody answers for."""
    with (
        client(guard, gateway, labels=lambda _: None) as guarded,
        pytest.raises(KlingPricingError, match="must return a mapping, got null"),
    ):
        guarded.post("/v1/tasks", json=CLIP)
    assert gateway.received == []


# what is refused rather than let through


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b"", JSON),
        (b"{", JSON),
        (b"[]", JSON),
        (json.dumps({**CLIP, "colour": "red"}).encode(), JSON),
        (json.dumps({**CLIP, "duration": 5.5}).encode(), JSON),
        (json.dumps({**CLIP, "extra": {}, "generate_audio": True}).encode(), JSON),
        (gzip.compress(json.dumps(CLIP).encode()), {**JSON, "Content-Encoding": "gzip"}),
        (b"model=kling-v3&prompt=x", {"Content-Type": "application/x-www-form-urlencoded"}),
        (b"--b\r\n\r\nx\r\n--b--", {"Content-Type": "multipart/form-data; boundary=b"}),
        (
            b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\nkling-v3\r\n--b--\r\n',
            {"Content-Type": "multipart/form-data; boundary=b"},
        ),
    ],
)
def test_what_cannot_be_read_or_priced_is_refused(
    guard: BudgetGuard, gateway: Gateway, body: bytes, headers: dict[str, str]
) -> None:
    """A submission to a guarded host is understood, or it is not sent."""
    with client(guard, gateway) as guarded, pytest.raises(WireFormatError):
        guarded.post("/v1/tasks", content=body, headers=headers)
    assert (gateway.received, guard.history()) == ([], [])


def test_a_compressed_body_is_refused_by_name(guard: BudgetGuard, gateway: Gateway) -> None:
    """The error says what to do, not that it is no JSON."""
    body = gzip.compress(json.dumps(CLIP).encode())
    with client(guard, gateway) as guarded, pytest.raises(WireFormatError, match="Content-Encoding: gzip"):
        guarded.post("/v1/tasks", content=body, headers={**JSON, "Content-Encoding": "gzip"})


def test_without_a_project_nothing_is_sent(guard: BudgetGuard, gateway: Gateway) -> None:
    """Nobody's budget is no budget; the error says both remedies."""
    with client(guard, gateway, project=None) as guarded:
        with pytest.raises(KlingPricingError, match=r"project=\.\.\., or call within `with spending"):
            guarded.post("/v1/tasks", json=CLIP)
        with spending(project="trailer"):
            assert guarded.post("/v1/tasks", json=CLIP).status_code == 200
    assert len(gateway.submissions) == 1


# whose it is


def told(guard: BudgetGuard) -> list[dict[str, str]]:
    """The labels of every reservation."""
    return [dict(each.labels) for each in guard.history()]


def test_scopes_can_be_nested_and_overrule_the_hook(guard: BudgetGuard, gateway: Gateway) -> None:
    """The inner scope adds to the outer and wins, and is gone when it ends."""
    with client(guard, gateway, labels={"user": "nobody", "stage": "test"}) as guarded:
        with spending(project="teaser", user="li"):
            with spending(user="chen", shot="7"):
                guarded.post("/v1/tasks", json=CLIP)
            guarded.post("/v1/tasks", json=CLIP)
        guarded.post("/v1/tasks", json=CLIP)
    assert told(guard) == [
        {"project": "teaser", "user": "chen", "stage": "test", "shot": "7"},
        {"project": "teaser", "user": "li", "stage": "test"},
        {"project": "trailer", "user": "nobody", "stage": "test"},
    ]


def test_a_function_can_tell_it_of_the_request(guard: BudgetGuard, gateway: Gateway) -> None:
    """It is told the request in plain data, and has the last word."""

    def of(request: Outgoing) -> Mapping[str, str]:
        return {"project": request.headers["x-project"], "model": json.loads(request.body)["model"]}

    with client(guard, gateway, labels=of) as guarded, spending(project="teaser", user="li"):
        guarded.post("/v1/tasks", json=CLIP, headers={"X-Project": "ads"})
    assert told(guard) == [{"project": "ads", "user": "li", "model": "kling-v3"}]


def test_scopes_hold_in_tasks_and_threads(guard: BudgetGuard, gateway: Gateway) -> None:
    """Tasks begun in a scope have it, and none sees another's; a thread has those it opens itself."""
    hosts = {gateway.host: PROVIDER}

    async def work() -> None:
        transport = AsyncGuardedTransport(httpx.AsyncHTTPTransport(), guard, hosts=hosts)
        async with httpx.AsyncClient(transport=transport, base_url=gateway.url) as guarded:

            async def one(user: str) -> None:
                with spending(user=user):
                    await asyncio.sleep(0)
                    await guarded.post("/v1/tasks", json=CLIP)

            with spending(project="trailer"):
                await asyncio.gather(*(one(f"user-{number}") for number in range(8)))

    asyncio.run(work())
    with client(guard, gateway, project=None) as guarded:

        def one(user: str) -> None:
            with spending(project="threads", user=user):
                guarded.post("/v1/tasks", json=CLIP)

        with ThreadPoolExecutor(4) as threads:
            list(threads.map(one, [f"user-{number}" for number in range(8)]))
    assert sorted((each["project"], each["user"]) for each in told(guard)) == sorted(
        (project, f"user-{number}") for project in ("trailer", "threads") for number in range(8)
    )


# which job it is


def test_a_scope_with_a_key_is_one_job(guard: BudgetGuard, gateway: Gateway) -> None:
    """However often it is submitted: the provider gets the same key, and makes one task."""
    with client(guard, gateway) as guarded, spending(key="shot-1"):
        first, second = (guarded.post("/v1/tasks", json=CLIP).json() for _ in range(2))
        assert first == second
        with pytest.raises(IdempotencyError):
            guarded.post("/v1/tasks", json={**CLIP, "duration": 6})
        with pytest.raises(KlingPricingError, match="say it once"):
            guarded.post("/v1/tasks", json=CLIP, headers={"Idempotency-Key": "shot-2"})
    (reservation,) = guard.history()
    assert {each.headers["Idempotency-Key"] for each in gateway.submissions} == {reservation.id}
    assert (reservation.state, reservation.key, len(gateway.jobs)) == ("bound", "shot-1", 1)


def test_without_a_key_the_same_request_is_another_job(guard: BudgetGuard, gateway: Gateway) -> None:
    """Two clips of the same prompt are two clips."""
    with client(guard, gateway) as guarded:
        for _ in range(2):
            guarded.post("/v1/tasks", json=CLIP)
    assert len(gateway.jobs) == len(guard.history()) == 2


def test_the_header_that_names_a_job_can_be_another(guard: BudgetGuard, gateway: Gateway) -> None:
    """The provider still gets a key of its own, which is the reservation's id."""
    with client(guard, gateway, key_header="X-Shot") as guarded:
        for _ in range(2):
            guarded.post("/v1/tasks", json=CLIP, headers={"X-Shot": "7"})
    (reservation,) = guard.history(key="7")
    assert [each.headers["Idempotency-Key"] for each in gateway.submissions] == [reservation.id] * 2


def test_a_capped_job_is_sent_again_with_the_same_changes(
    tmp_path: Path, book: PriceBook, clock: Clock, gateway: Gateway
) -> None:
    """Even when there is room for more by then: the key stands for what was sent."""
    tight = Budget(name="all", cap=Decimal("0.25"), currency="USD", on_exceed="cap")
    with BudgetGuard(f"sqlite:///{tmp_path}/spend.db", [tight], book=book, clock=clock) as guard:
        gateway.will(Fault(500, accepts=True))
        with client(guard, gateway) as guarded, spending(key="shot-1"):
            guarded.post("/v1/tasks", json=CLIP)
            guard.apply([PLENTY])
            assert guarded.post("/v1/tasks", json=CLIP).status_code == 200
        sent = [each.json for each in gateway.submissions]
        assert sent == [{**CLIP, "duration": 3}] * 2
        assert len(gateway.jobs) == len(guard.history()) == 1


def test_a_key_is_used_only_as_long_as_the_provider_knows_it(
    guard: BudgetGuard, gateway: Gateway, clock: Clock
) -> None:
    """After 24 hours it would make a second task: the retry is refused, with the reservation in the error."""
    gateway.will(Fault(500, accepts=True))
    with client(guard, gateway) as guarded, spending(key="shot-1"):
        guarded.post("/v1/tasks", json=CLIP)
        clock.now += timedelta(hours=23, minutes=54)
        assert guarded.post("/v1/tasks", json=CLIP).status_code == 200
        clock.now += timedelta(minutes=2)
        with pytest.raises(ReservationStateError) as caught:
            guarded.post("/v1/tasks", json=CLIP)
    assert (caught.value.state, caught.value.task_id) == ("bound", "task-qingbo-1")
    assert len(gateway.submissions) == 2


def test_a_refusal_of_the_second_sending_frees_nothing(guard: BudgetGuard, gateway: Gateway) -> None:
    """It says nothing of the first, which may be running: the money stays set aside."""
    gateway.will(Fault(500, accepts=True), Fault(429, "rate_limited"))
    with client(guard, gateway) as guarded, spending(key="shot-1"):
        assert [guarded.post("/v1/tasks", json=CLIP).status_code for _ in range(3)] == [500, 429, 200]
    (reservation,) = guard.history()
    assert (reservation.state, reservation.attempt, len(gateway.jobs)) == ("bound", 1, 1)


@pytest.mark.parametrize("refusal", [Fault(429, hangs=True), Fault(402, hangs=True)])
def test_a_refusal_frees_nothing_while_the_job_is_under_way_again(
    guard: BudgetGuard, gateway: Gateway, refusal: Fault
) -> None:
    """Of two requests under one key, one refused and one accepted, whichever is answered first."""
    gateway.will(refusal, Fault(hangs=True))
    with client(guard, gateway) as guarded, ThreadPoolExecutor(2) as threads:
        replies = []
        for _ in range(2):
            key = {"Idempotency-Key": "shot-1"}
            replies.append(threads.submit(guarded.post, "/v1/tasks", json=CLIP, headers=key))
            assert gateway.arrivals.acquire(timeout=10)
        gateway.go_on()
        assert sorted(each.result().status_code for each in replies) == [200, refusal.status]
    (reservation,) = guard.history()
    assert (reservation.state, reservation.task_id) == ("bound", "task-qingbo-1")
    assert "release" not in [entry.kind for entry in guard.journal()]


RETRY = "x-stainless-retry-count"


def test_the_retries_of_an_sdk_are_the_same_job(guard: BudgetGuard, gateway: Gateway) -> None:
    """They say how often they were sent before, and come from the task or thread of the first."""
    gateway.will(Fault(429), Fault(500, accepts=True))
    with client(guard, gateway) as guarded:
        replies = [
            guarded.post("/v1/tasks", json=CLIP, headers={RETRY: str(count)}).status_code for count in range(3)
        ]
        guarded.post("/v1/tasks", json=CLIP, headers={RETRY: "0"})
    assert replies == [429, 500, 200]
    first, second, other = guard.history()
    assert (first.key, first.state, second.key, second.attempt) == (second.key, "released", first.key, 2)
    assert (second.state, other.state, len(gateway.jobs)) == ("bound", "bound", 2)
    assert other.key != first.key


def test_a_retry_of_nothing_that_is_known_is_refused(guard: BudgetGuard, gateway: Gateway) -> None:
    """Which job it is cannot be told, and a guess could make a second one."""
    with client(guard, gateway) as guarded, ThreadPoolExecutor(1) as thread:
        retry = thread.submit(guarded.post, "/v1/tasks", json=CLIP, headers={RETRY: "1"})
        with pytest.raises(KlingPricingError, match="which job it is cannot be told"):
            retry.result()
    assert (gateway.received, guard.history()) == ([], [])


def test_many_at_once_under_one_key_make_one_task(guard: BudgetGuard, gateway: Gateway) -> None:
    """One reservation, however they race; each gets the same task."""
    with client(guard, gateway) as guarded, ThreadPoolExecutor(8) as threads:
        submit = [
            threads.submit(guarded.post, "/v1/tasks", json=CLIP, headers={"Idempotency-Key": "shot-1"})
            for _ in range(16)
        ]
        assert {each.result().json()["task_id"] for each in submit} == {"task-qingbo-1"}
    assert [each.state for each in guard.history()] == ["bound"]


def test_text_of_any_kind_survives_a_change(
    tmp_path: Path, book: PriceBook, clock: Clock, gateway: Gateway
) -> None:
    """What JSON can say goes out as it was said, half a surrogate pair included."""
    tight = Budget(name="all", cap=Decimal("0.25"), currency="USD", on_exceed="cap")
    said = b'{"model": "kling-v3", "duration": 5, "prompt": "\xe7\xb4\x99\\ud83d \\u0000"}'
    with (
        BudgetGuard(f"sqlite:///{tmp_path}/spend.db", [tight], book=book, clock=clock) as guard,
        client(guard, gateway) as guarded,
    ):
        assert guarded.post("/v1/tasks", content=said, headers=JSON).status_code == 200
    assert gateway.submissions[0].json == {**json.loads(said), "duration": 3}


CHANGE = "2026-11-21T00:00:01Z"
BEFORE = PRICES.replace("valid_from: null", f"valid_from: null\nvalid_until: {CHANGE}")
AFTER = PRICES.replace("valid_from: null", f"valid_from: {CHANGE}").replace("silent: 0.1}", "silent: 0.4}")


def test_a_price_that_changes_in_between_is_quoted_anew(
    tmp_path: Path, folder: Callable[..., Path], clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is sent was reserved at the price that is in force when it is sent."""
    book = load_price_book(folder({"prices/acme/1.yaml": BEFORE, "prices/acme/2.yaml": AFTER}))
    budget = Budget(name="all", cap=9, currency="EUR")
    with (
        running("acme", book) as gateway,
        BudgetGuard(f"sqlite:///{tmp_path}/spend.db", [budget], book=book, clock=clock) as guard,
    ):
        admit = guard.admit

        def admit_slowly(*said: Any, **more: Any) -> Any:
            admission = admit(*said, **more)
            clock.now = AT + timedelta(seconds=2)
            return admission

        monkeypatch.setattr(guard, "admit", admit_slowly)
        with client(guard, gateway, hosts={gateway.host: "acme"}) as guarded:
            assert guarded.post("/v1/tasks", json=CLIP).status_code == 200
        assert [(each.state, each.reserved) for each in guard.history()] == [
            ("released", Decimal("0.5")),
            ("bound", Decimal(2)),
        ]


# bursts


def test_a_burst_of_async_submissions_stops_at_the_cap(
    ledger: str, book: PriceBook, clock: Clock, gateway: Gateway
) -> None:
    """Of 200 at once, the 37 that fit reach the gateway, and its own bill is what the ledger says is spent."""
    cap = Budget(name="all", cap=37 * COST + COST / 2, currency="USD")

    async def burst(guard: AsyncBudgetGuard) -> tuple[int, int]:
        transport = AsyncGuardedTransport(
            httpx2.AsyncHTTPTransport(limits=httpx2.Limits(max_connections=20)),
            guard,
            project="trailer",
            hosts={gateway.host: PROVIDER},
        )
        async with httpx2.AsyncClient(transport=transport, base_url=gateway.url, timeout=60) as guarded:
            posts = (guarded.post("/v1/tasks", json=CLIP) for _ in range(200))
            answers = await asyncio.gather(*posts, return_exceptions=True)
            tasks = [each.json()["task_id"] for each in answers if isinstance(each, httpx2.Response)]
            for task_id in tasks:
                gateway.finish(task_id)
            await asyncio.gather(*(guarded.get(f"/v1/tasks/{task_id}") for task_id in tasks))
        return len(tasks), sum(isinstance(each, BudgetExceededError) for each in answers)

    async def work() -> None:
        opened = await AsyncBudgetGuard.open(ledger, [cap], book=book, clock=clock)
        async with opened as guard:
            assert await burst(guard) == (37, 163)
            (bucket,) = await guard.status()
            assert (bucket.held, bucket.spent) == (Decimal(0), 37 * COST)
            assert gateway.bill / 500_000 == bucket.spent
            assert len(gateway.submissions) == 37
            await guard.verify()

    asyncio.run(work())


# what passes untouched


def chunks(gateway: Gateway) -> Iterator[bytes]:
    """A body whose second part comes only when the server has the first: nobody may wait for the whole."""
    yield b"x" * 70_000
    assert gateway.fed.wait(10)
    yield b"y" * 70_000


async def achunks(gateway: Gateway) -> Any:
    """The same, awaited."""
    yield b"x" * 70_000
    assert await asyncio.to_thread(gateway.fed.wait, 10)
    yield b"y" * 70_000


def test_other_paths_are_not_buffered_by_httpx(guard: BudgetGuard, gateway: Gateway) -> None:
    """An upload reaches the server, and a download its reader, while the rest is still to come."""
    with client(guard, gateway) as guarded:
        assert guarded.post("/v1/files", content=chunks(gateway)).json() == {"bytes": 140_000}
        with guarded.stream("GET", "/v1/files/7") as response:
            parts = response.iter_bytes()
            assert next(parts) == b"first"
            gateway.go_on()
            assert b"".join(parts) == b"last"
    assert guard.history() == []


def test_other_paths_are_not_buffered_by_requests(guard: BudgetGuard, gateway: Gateway) -> None:
    """An upload reaches the server, and a download its reader, while the rest is still to come."""
    with requests.Session() as session:
        hosts = {gateway.host: PROVIDER}
        session.mount("http://", GuardedAdapter(HTTPAdapter(), guard, project="trailer", hosts=hosts))
        reply = session.post(f"{gateway.url}/v1/files", data=chunks(gateway), timeout=20)
        assert reply.json() == {"bytes": 140_000}
        with session.get(f"{gateway.url}/v1/files/7", stream=True, timeout=20) as response:
            parts = response.iter_content(None)
            assert next(parts) == b"first"
            gateway.go_on()
            assert b"".join(parts) == b"last"


@pytest.mark.parametrize("library", [httpx, httpx2], ids=["httpx", "httpx2"])
def test_other_paths_are_not_buffered_by_async_clients(
    guard: BudgetGuard, gateway: Gateway, library: Any
) -> None:
    """An upload reaches the server, and a download its reader, while the rest is still to come."""

    async def work() -> None:
        transport = AsyncGuardedTransport(
            library.AsyncHTTPTransport(), guard, project="trailer", hosts={gateway.host: PROVIDER}
        )
        async with library.AsyncClient(transport=transport, base_url=gateway.url) as guarded:
            reply = await guarded.post("/v1/files", content=achunks(gateway))
            assert reply.json() == {"bytes": 140_000}
            async with guarded.stream("GET", "/v1/files/7") as response:
                parts = response.aiter_bytes()
                assert await anext(parts) == b"first"
                gateway.go_on()
                assert b"".join([part async for part in parts]) == b"last"

    asyncio.run(work())


def test_other_paths_are_not_buffered_by_aiohttp(guard: BudgetGuard, gateway: Gateway) -> None:
    """An upload reaches the server, and a download its reader, while the rest is still to come."""

    async def work() -> None:
        middleware = GuardMiddleware(guard, project="trailer", hosts={gateway.host: PROVIDER})
        async with aiohttp.ClientSession(gateway.url, middlewares=[middleware]) as session:
            async with session.post("/v1/files", data=achunks(gateway)) as reply:
                assert await reply.json() == {"bytes": 140_000}
            async with session.get("/v1/files/7") as response:
                assert await response.content.readany() == b"first"
                gateway.go_on()
                assert await response.content.read() == b"last"

    asyncio.run(work())


@pytest.mark.parametrize("name", CLIENTS)
def test_other_hosts_are_not_guarded(name: str, guard: BudgetGuard, gateway: Gateway) -> None:
    """The same path at a host that nobody listed is somebody else's business."""
    plain_client = CLIENTS[name](guard, project="trailer")
    try:
        reply = plain_client.send(
            "POST", f"{gateway.url}/v1/tasks", body=json.dumps(CLIP).encode(), headers=JSON
        )
        assert (reply.status, guard.history()) == (200, [])
    finally:
        plain_client.close()


def test_a_submission_may_be_streamed(guard: BudgetGuard, gateway: Gateway) -> None:
    """It has to be read before it can be priced, and goes out with its length."""
    body = json.dumps(CLIP).encode()

    async def parts() -> Any:
        yield body[:10]
        yield body[10:]

    async def with_aiohttp() -> None:
        middleware = GuardMiddleware(guard, project="trailer", hosts={gateway.host: PROVIDER})
        async with (
            aiohttp.ClientSession(gateway.url, middlewares=[middleware]) as session,
            session.post("/v1/tasks", data=parts(), headers=JSON) as reply,
        ):
            assert reply.status == 200

    with client(guard, gateway) as guarded:
        guarded.post("/v1/tasks", content=iter([body[:10], body[10:]]), headers=JSON)
    asyncio.run(with_aiohttp())
    with requests.Session() as session:
        hosts = {gateway.host: PROVIDER}
        session.mount("http://", GuardedAdapter(HTTPAdapter(), guard, project="trailer", hosts=hosts))
        session.post(f"{gateway.url}/v1/tasks", data=iter([body[:10], body[10:]]), headers=JSON, timeout=20)
    assert [each.json for each in gateway.submissions] == [CLIP] * 3


def test_an_answer_is_given_on_as_it_came(guard: BudgetGuard, gateway: Gateway) -> None:
    """Compressed or not, it can still be streamed, raw or decoded, and its headers are the provider's."""
    said = [f'{{"task_id": "task-{number}", "status": "queued"}}'.encode() for number in (8, 9)]
    packed = [gzip.compress(each, mtime=0) for each in said]
    gateway.will(*[Fault(status=200, body=each, headers={"Content-Encoding": "gzip"}) for each in packed])
    with client(guard, gateway) as guarded:
        with guarded.stream("POST", "/v1/tasks", json=CLIP) as response:
            assert b"".join(response.iter_raw()) == packed[0]
        assert response.headers["content-encoding"] == "gzip"
        assert response.extensions["http_version"] == b"HTTP/1.1"

    async def with_aiohttp() -> None:
        middleware = GuardMiddleware(guard, project="trailer", hosts={gateway.host: PROVIDER})
        async with (
            aiohttp.ClientSession(gateway.url, middlewares=[middleware]) as session,
            session.post("/v1/tasks", json=CLIP) as reply,
        ):
            assert await reply.content.read() == await reply.read() == said[1]

    asyncio.run(with_aiohttp())
    assert [each.task_id for each in guard.history()] == ["task-8", "task-9"]


def test_tasks_of_others_are_not_remembered(guard: BudgetGuard, gateway: Gateway) -> None:
    """What passes by of a task that the ledger does not know leaves no trace in it."""
    with client(guard, gateway) as guarded, httpx.Client(base_url=gateway.url) as theirs:
        task_id = theirs.post("/v1/tasks", json=CLIP).json()["task_id"]
        gateway.finish(task_id)
        assert guarded.get(f"/v1/tasks/{task_id}").json()["status"] == "completed"
        assert guarded.get("/v1/tasks/none").status_code == 404
    assert (guard.unclaimed(), guard.history()) == ([], [])


# what never gets lost


def test_a_ledger_that_fails_before_sending_refuses(
    guard: BudgetGuard, gateway: Gateway, tmp_path: Path
) -> None:
    """Nothing may be spent then; as an answer it is a 503, which may be repeated."""
    aside = tmp_path / "aside.db"
    with client(guard, gateway) as guarded, client(guard, gateway, refusals="respond") as answered:
        (tmp_path / "spend.db").rename(aside)
        with pytest.raises(LedgerUnavailableError):
            guarded.post("/v1/tasks", json=CLIP)
        reply = answered.post("/v1/tasks", json=CLIP)
        aside.rename(tmp_path / "spend.db")
    assert (reply.status_code, reply.headers.get("x-should-retry")) == (503, None)
    assert gateway.received == []


def test_a_ledger_that_fails_after_sending_loses_no_task(
    guard: BudgetGuard, gateway: Gateway, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The caller gets the provider's answer; the log says what to do; and the next request notes it."""
    aside = tmp_path / "aside.db"
    gateway.will(Fault(hangs=True, accepts=True, status=None))
    with client(guard, gateway) as guarded, ThreadPoolExecutor(1) as thread:
        reply = thread.submit(guarded.post, "/v1/tasks", json=CLIP)
        assert gateway.accepted.wait(10)
        (tmp_path / "spend.db").rename(aside)
        gateway.go_on()
        with caplog.at_level(logging.ERROR, "kling_pricing.hooks"):
            task_id = reply.result().json()["task_id"]
        aside.rename(tmp_path / "spend.db")
        (reservation,) = guard.history()
        assert reservation.state == "dispatching"
        assert f"(`kling-pricing bind {reservation.id} {task_id}`)" in caplog.text
        gateway.finish(task_id)
        guarded.get(f"/v1/tasks/{task_id}")
    (reservation,) = guard.history()
    assert (reservation.state, reservation.task_id, reservation.billed) == ("settled", task_id, COST)


def test_a_status_that_could_not_be_noted_is_noted_later(
    guard: BudgetGuard, gateway: Gateway, tmp_path: Path
) -> None:
    """The caller may ask only once, when the ledger is away: the hook's next request takes it in."""
    aside = tmp_path / "aside.db"
    with client(guard, gateway) as guarded:
        task_id = guarded.post("/v1/tasks", json=CLIP).json()["task_id"]
        gateway.finish(task_id)
        (tmp_path / "spend.db").rename(aside)
        assert guarded.get(f"/v1/tasks/{task_id}").json()["status"] == "completed"
        aside.rename(tmp_path / "spend.db")
        assert [each.state for each in guard.history()] == ["bound"]
        guarded.post("/v1/tasks", json=CLIP)
    assert [each.state for each in guard.history()] == ["settled", "bound"]


def test_an_error_that_is_none_of_ours_does_not_lose_the_answer(
    guard: BudgetGuard, gateway: Gateway, caplog: pytest.LogCaptureFixture
) -> None:
    """A status that nobody can read is given on, and logged."""
    gateway.will(Fault(status=200, body=b"\xff not json", accepts=True))
    with client(guard, gateway) as guarded, caplog.at_level(logging.WARNING, "kling_pricing.hooks"):
        assert guarded.post("/v1/tasks", json=CLIP).content == b"\xff not json"
    assert [each.reason for each in guard.in_doubt()] == ["answered without a task"]
    assert "not JSON" in caplog.text


def test_cancelling_before_it_is_sent_gives_the_money_back(
    guard: BudgetGuard, gateway: Gateway, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The step under way goes on in its thread, and takes back what it set aside."""
    dispatched, cancelled, taken_back = (threading.Event() for _ in range(3))
    dispatch, refused = guard.dispatch, guard.release_refused

    def slowly(admission: Any) -> dict[str, Any]:
        payload = dispatch(admission)
        dispatched.set()
        assert cancelled.wait(10)
        return payload

    def refused_and_told(*said: Any) -> Any:
        refused(*said)
        taken_back.set()

    monkeypatch.setattr(guard, "dispatch", slowly)
    monkeypatch.setattr(guard, "release_refused", refused_and_told)

    async def work() -> None:
        transport = AsyncGuardedTransport(
            httpx.AsyncHTTPTransport(), guard, project="trailer", hosts={gateway.host: PROVIDER}
        )
        async with httpx.AsyncClient(transport=transport, base_url=gateway.url) as guarded:
            post = asyncio.create_task(guarded.post("/v1/tasks", json=CLIP))
            assert await asyncio.to_thread(dispatched.wait, 10)
            post.cancel()
            with pytest.raises(asyncio.CancelledError):
                await post
            cancelled.set()

    asyncio.run(work())
    assert taken_back.wait(10)
    (found,) = guard.history()
    assert (found.state, found.reason, gateway.received) == ("released", "not sent", [])


@pytest.mark.parametrize("name", ["httpx-async", "httpx2-async", "aiohttp"])
def test_cancelling_while_it_is_sent_leaves_it_in_doubt(
    name: str, guard: BudgetGuard, gateway: Gateway
) -> None:
    """The provider may have it."""
    gateway.will(Fault(hangs=True, accepts=True))
    guarded: Any = CLIENTS[name](guard, project="trailer", hosts={gateway.host: PROVIDER})

    async def work() -> None:
        post = asyncio.create_task(
            guarded.asend("POST", f"{gateway.url}/v1/tasks", json.dumps(CLIP).encode(), JSON, 10)
        )
        assert await asyncio.to_thread(gateway.accepted.wait, 10)
        post.cancel()
        with pytest.raises(asyncio.CancelledError):
            await post

    guarded.run(work())
    guarded.close()
    assert [each.reason for each in guard.in_doubt()] == ["no answer"]


def test_ctrl_c_while_it_is_sent_leaves_it_in_doubt(tmp_path: Path, gateway: Gateway, book: PriceBook) -> None:
    """A process that is interrupted writes down that it does not know."""
    gateway.will(Fault(hangs=True, accepts=True))
    ledger = f"sqlite:///{tmp_path}/spend.db"
    BudgetGuard(ledger, [PLENTY], book=book).close()
    code = HEEDS_SIGINT + (
        "import httpx, sys; from kling_pricing import BudgetGuard;"
        "from kling_pricing.hooks.httpx import GuardedTransport;"
        f"t = GuardedTransport(httpx.HTTPTransport(), BudgetGuard({ledger!r}), project='trailer',"
        f" hosts={{{gateway.host!r}: {PROVIDER!r}}});"
        f"httpx.Client(transport=t).post({gateway.url + '/v1/tasks'!r}, json={CLIP!r}, timeout=60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)
    assert gateway.accepted.wait(30)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert "KeyboardInterrupt" in errors
    with BudgetGuard(ledger, book=book) as guard:
        assert [each.reason for each in guard.in_doubt()] == ["no answer"]


# every wire format

FORMATS: dict[str, tuple[str, str, str, dict[str, Any], str, str]] = {
    "tasks": ("qingbo", "/v1/tasks", "USD", CLIP, "0.357", "response"),
    "tasks_extra": ("qingbo", "/v1/tasks", "USD", video(extra={"mode": "std"}), "0.5355", "response"),
    "tasks_v2": ("qingbo-ai", "/v1/tasks", "USD", CLIP, "0.378", "response"),
    "kling": (
        "kling",
        "/v1/videos/text2video",
        "USD",
        {"model_name": "kling-v3", "prompt": "a boat", "mode": "pro"},
        "0.56",
        "response",
    ),
    "openai_videos": (
        "tencent-vod",
        "/v1/videos",
        "CNY",
        {"model": "Kling-2.5", "prompt": "a boat", "seconds": "5", "size": "1280x720"},
        "1.5",
        "quote",
    ),
    "video_generations": (
        "kling",
        "/v1/video/generations",
        "USD",
        {"model": "kling-v3-std-silent", "prompt": "a boat", "duration": 5},
        "0.42",
        "",
    ),
}


@pytest.mark.parametrize("wire_format", FORMATS)
def test_every_wire_format_goes_its_whole_way(
    wire_format: str, tmp_path: Path, book: PriceBook, clock: Clock
) -> None:
    """Submitted, bound, asked for and settled at what the gateway billed in its own unit.

    The last documents no states, so nothing is taken for granted: the reservation waits for its statement.
    """
    provider, path, currency, payload, price, basis = FORMATS[wire_format]
    budget = Budget(name="all", cap=10, currency=currency)
    with (
        running(provider, book) as gateway,
        BudgetGuard(f"sqlite:///{tmp_path}/spend.db", [budget], book=book, clock=clock) as guard,
        client(guard, gateway, hosts={gateway.host: provider}) as guarded,
    ):
        guarded.post(path, json=payload).raise_for_status()
        (bound,) = guard.history()
        assert (bound.wire_format, bound.state, bound.reserved) == (wire_format, "bound", Decimal(price))
        gateway.finish(str(bound.task_id))
        guarded.get(f"{path}/{bound.task_id}").raise_for_status()
        (now,) = guard.history()
        settled = ("settled", Decimal(price), basis) if basis else ("bound", None, None)
        assert (now.state, now.billed, now.basis) == settled
        if now.basis == "response":
            assert now.unit_value is not None
            assert gateway.bill * now.unit_value == now.billed


def test_the_official_api_can_be_given_the_reservations_id(
    tmp_path: Path, book: PriceBook, clock: Clock
) -> None:
    """In the field that it keeps for that; a name of the caller's own stays."""
    payload = {"model_name": "kling-v3", "prompt": "a boat"}
    with (
        running("kling", book) as gateway,
        BudgetGuard(f"sqlite:///{tmp_path}/spend.db", [PLENTY], book=book, clock=clock) as guard,
        client(guard, gateway, hosts={gateway.host: "kling"}, send_reservation_id=True) as guarded,
    ):
        guarded.post("/v1/videos/text2video", json=payload)
        guarded.post("/v1/videos/text2video", json={**payload, "external_task_id": "mine"})
        first, second = guard.history()
        assert [each.json for each in gateway.submissions] == [
            {**payload, "external_task_id": first.id},
            {**payload, "external_task_id": "mine"},
        ]
        for name, task_id in ((first.id, first.task_id), ("mine", second.task_id)):
            gateway.finish(str(task_id))
            assert guarded.get(f"/v1/videos/text2video/{name}").json()["data"]["task_id"] == task_id
        assert [each.state for each in guard.history()] == ["settled", "settled"]
