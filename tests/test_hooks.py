"""The guarantees of hooks beyond the scenarios: routing, labels, job keys, streaming and failures."""

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
from http.server import BaseHTTPRequestHandler
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
from kling_pricing.hooks.http_messages import OutgoingRequest, TaskEndpoint
from kling_pricing.hooks.httpx import AsyncGuardedTransport, GuardedTransport
from kling_pricing.hooks.requests import GuardedAdapter
from kling_pricing.hooks.route import UnlistedPath, UnpricedPath
from kling_pricing.hooks.routes import Routes
from kling_pricing.wire.endpoints import Endpoint
from tests.commands import HEEDS_SIGINT
from tests.conftest import AT, PRICES, Clock, video
from tests.hook_clients import CLIENTS
from tests.providers import Provider, running
from tests.receivers import QuietHandler, serving
from tests.test_hooks_scenarios import JSON, PROVIDER

CLIP = video(duration=5)
COST = Decimal("0.357")
PLENTY = Budget(name="all", cap=1000, currency="USD")


@pytest.fixture
def provider() -> Iterator[Provider]:
    """The provider `PROVIDER`."""
    with running(PROVIDER) as started:
        yield started


@pytest.fixture
def guard(tmp_path: Path, book: PriceBook, clock: Clock) -> Iterator[BudgetGuard]:
    """A guard with a large budget."""
    with BudgetGuard(f"sqlite:///{tmp_path}/spend.db", [PLENTY], book=book, clock=clock) as opened:
        yield opened
        opened.verify()


def client(guard: BudgetGuard, provider: "Provider | Streams", **options: Any) -> httpx.Client:
    """Creates a guarded client of httpx, for tests of behaviour that all clients share."""
    defaults: dict[str, Any] = {"project": "trailer", "hosts": {provider.host: PROVIDER}, "keeps_keys": True}
    transport = GuardedTransport(httpx.HTTPTransport(), guard, **defaults | options)
    return httpx.Client(transport=transport, base_url=provider.url)


# routing


@pytest.mark.parametrize(
    ("method", "url", "expected"),
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
        ("POST", "https://www.qingbo.dev/v1/files", UnlistedPath("/v1/files", "tasks")),
        ("POST", "https://www.qingbo.dev/v1/assets", None),
        ("POST", "https://www.qingbo.dev/v1/assets/x", UnlistedPath("/v1/assets/x", "tasks")),
        ("POST", "https://gw.example.com/proxy/v1/assets", None),
        ("POST", "https://www.qingbo.dev/proxy/v1/assets", UnlistedPath("/proxy/v1/assets", "tasks")),
        ("POST", "https://gw.example.net/x/tasks", ("kling", "")),
        ("POST", "https://gw.example.net/v1/tasks/tasks", UnlistedPath("/v1/tasks/tasks", "kling")),
        ("POST", "https://api.klingai.com/tasks", ("kling", "")),
        ("POST", "https://api.klingai.com/x/tasks", UnlistedPath("/x/tasks", "kling")),
        ("POST", "https://api.klingai.com/account/billing/balance", None),
        ("POST", "https://api.klingai.com/v1/general/delete-voices", None),
        ("DELETE", "https://api.klingai.com/v1/x", None),
        ("COPY", "https://api.klingai.com/v1/x", UnlistedPath("/v1/x", "kling")),
        ("POST", "https://api.qingbo.ai/v1/chat/completions", UnpricedPath("qingbo-ai", "/v1/chat/*")),
        ("POST", "http://localhost:8080/x/api/user/login", UnpricedPath("tencent-vod", "/api/user/*")),
        ("PUT", "https://www.qingbo.dev/v1/tasks", UnlistedPath("/v1/tasks", "tasks", meant="/v1/tasks")),
        ("GET", "https://www.qingbo.dev/v1/tasks", ("qingbo", "")),
        ("GET", "https://www.qingbo.dev/v1/tasks/t-1", ("qingbo", "t-1")),
        ("GET", "https://gw.example.com/kling/v1/tasks/a%2Fb?wait=1", ("qingbo", "a/b")),
        ("POST", "https://www.qingbo.dev/v1/tasks/t-1/cancel", ("qingbo", "t-1")),
        ("GET", "https://www.qingbo.dev/v1/tasks/t-1/cancel", None),
        ("GET", "https://www.qingbo.dev/v1/video/generations/t-1", ("qingbo", "t-1")),
        ("GET", "https://api-singapore.klingai.com/v1/videos/image2video/7", ("kling", "7")),
        ("GET", "https://api-singapore.klingai.com/v1/videos/image2video", ("kling", "")),
        ("GET", "http://localhost:8080/v1/videos/v-1", ("tencent-vod", "v-1")),
        ("GET", "http://localhost:8080/v1/videos/v-1/content", None),
        ("GET", "not a url", None),
    ],
)
def test_method_host_and_path_classify_a_request(
    book: PriceBook, method: str, url: str, expected: tuple[str, ...] | UnlistedPath | UnpricedPath | None
) -> None:
    """Hosts of the price tables and of the option are guarded, with any path prefix; others are not."""
    hosts = {"GW.example.com": "qingbo", "localhost:8080": "tencent-vod", "gw.example.net:443": "kling"}
    routes = Routes(book, hosts)
    route = routes.find(method, url)
    if isinstance(route, Endpoint):
        assert route.wire_formats == expected
    elif isinstance(expected, UnlistedPath | UnpricedPath) or expected is None:
        assert route == expected
    else:
        provider, task_id = expected
        assert route == TaskEndpoint(provider, task_id)


KNOWN = "use one of: kling, octopusx, qingbo, qingbo-ai, tencent-vod, uniall"
NOT_A_HOST = (
    "is not a host; write a host such as gw.example.com or localhost:8080, put an IPv6 address in brackets, "
    "write an international name as xn--..., and list each host separately"
)
OPTIONS = (
    "project",
    "labels",
    "hosts",
    "account",
    "keeps_keys",
    "allow_paths",
    "media",
    "sends_once",
    "refusals",
    "key_header",
    "send_reservation_id",
)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"hosts": {"gw.example.com": "acme"}}, f"hosts: gw.example.com: unknown provider 'acme'; {KNOWN}"),
        ({"hosts": {"gw.example.com": 5}}, f"hosts: gw.example.com: unknown provider 5; {KNOWN}"),
        ({"hosts": {"https://gw.example.com": "qingbo"}}, f"hosts: 'https://gw.example.com' {NOT_A_HOST}"),
        ({"hosts": {5: "qingbo"}}, f"hosts: 5 {NOT_A_HOST}"),
        ({"hosts": {"*.example.com": "qingbo"}}, f"hosts: '*.example.com' {NOT_A_HOST}"),
        ({"hosts": {"m\u00fcnchen.example": "qingbo"}}, rf"hosts: 'm\xfcnchen.example' {NOT_A_HOST}"),
        ({"hosts": {"gw.example.com\t": "qingbo"}}, rf"hosts: 'gw.example.com\t' {NOT_A_HOST}"),
        ({"hosts": {"gw.example.com:": "qingbo"}}, f"hosts: 'gw.example.com:' {NOT_A_HOST}"),
        ({"hosts": {"::1": "qingbo"}}, f"hosts: '::1' {NOT_A_HOST}"),
        ({"hosts": None}, "hosts must be a mapping from hosts to providers, got null"),
        ({"refusals": "ignore"}, "refusals must be 'raise' or 'respond', got ignore"),
        ({"projekt": "trailer"}, f"unknown option 'projekt'; the options are {', '.join(OPTIONS)}"),
        ({"labels": 5}, "labels must be a mapping, or a function that returns one, got 5"),
        ({"project": 5}, "project must be text, got 5"),
        (
            {"media": 5},
            (
                "media must be a mapping from URLs to facts, or a function that returns the facts about a "
                "URL, got 5"
            ),
        ),
        ({"key_header": ""}, "key_header must be the name of a header, got ''"),
        ({"key_header": None}, "key_header must be the name of a header, got null"),
        ({"sends_once": 1}, "sends_once must be True or False, got 1"),
    ],
)
def test_options_that_cannot_be_used_are_errors(
    guard: BudgetGuard, options: dict[str, Any], message: str
) -> None:
    """The error names the option and the problem before anything is sent."""
    with pytest.raises(KlingPricingError) as caught:
        GuardedTransport(httpx.HTTPTransport(), guard, **options)
    assert str(caught.value) == message


def test_a_hook_needs_a_guard() -> None:
    """The URL of a ledger is refused in place of a guard."""
    with pytest.raises(KlingPricingError) as caught:
        GuardedTransport(httpx.HTTPTransport(), "sqlite:///spend.db")  # type: ignore[arg-type]
    assert str(caught.value) == "a hook needs a BudgetGuard or an AsyncBudgetGuard, got sqlite:///spend.db"


def test_the_spelling_of_a_host_makes_no_difference(book: PriceBook) -> None:
    """A host matches with a final dot, leading zeros in the port, capitals, or as an address."""
    for host, url in (
        ("GW.example.com.", "https://gw.example.com"),
        ("gw.example.com:08080", "http://gw.example.com:8080"),
        ("gw.example.com.:443", "https://gw.example.com."),
        ("[::1]:80", "http://[::1]"),
        ("10.0.0.7", "http://10.0.0.7:81"),
    ):
        assert isinstance(Routes(book, {host: "qingbo"}).find("POST", f"{url}/v1/tasks"), Endpoint), host


def test_a_labels_function_must_return_a_mapping(guard: BudgetGuard, provider: Provider) -> None:
    """If it returns no labels, nothing is sent."""
    with (
        client(guard, provider, labels=lambda _: None) as guarded,
        pytest.raises(KlingPricingError, match=r"^the `labels` function must return a mapping, got null$"),
    ):
        guarded.post("/v1/tasks", json=CLIP)
    assert provider.received == []


# refusals


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (b"", JSON),
        (b"{", JSON),
        (b"[]", JSON),
        (json.dumps({**CLIP, "colour": "red"}).encode(), JSON),
        (json.dumps({**CLIP, "duration": 5.5}).encode(), JSON),
        (json.dumps({**CLIP, "extra": {}, "generate_audio": True}).encode(), JSON),
        (gzip.compress(json.dumps(CLIP).encode(), mtime=0), {**JSON, "Content-Encoding": "gzip"}),
        (b"model=kling-v3&prompt=x", {"Content-Type": "application/x-www-form-urlencoded"}),
        (b"--b\r\n\r\nx\r\n--b--", {"Content-Type": "multipart/form-data; boundary=b"}),
        (
            b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\nkling-v3\r\n--b--\r\n',
            {"Content-Type": "multipart/form-data; boundary=b"},
        ),
    ],
)
def test_a_body_that_cannot_be_read_or_priced_is_refused(
    guard: BudgetGuard, provider: Provider, body: bytes, headers: dict[str, str]
) -> None:
    """A submission to a guarded host is sent only if its body can be read and priced."""
    with client(guard, provider) as guarded, pytest.raises(WireFormatError):
        guarded.post("/v1/tasks", content=body, headers=headers)
    assert (provider.received, guard.history()) == ([], [])


def test_a_compressed_body_is_refused_by_name(guard: BudgetGuard, provider: Provider) -> None:
    """The error names the encoding and the remedy instead of calling the body invalid JSON."""
    body = gzip.compress(json.dumps(CLIP).encode(), mtime=0)
    with client(guard, provider) as guarded, pytest.raises(WireFormatError) as caught:
        guarded.post("/v1/tasks", content=body, headers={**JSON, "Content-Encoding": "gzip"})
    assert str(caught.value) == (
        "the body is compressed (Content-Encoding: gzip), so the request cannot be priced; send the body "
        "uncompressed"
    )


def test_without_a_project_nothing_is_sent(guard: BudgetGuard, provider: Provider) -> None:
    """A submission without a project is refused; the error names both remedies."""
    with client(guard, provider, project=None) as guarded:
        with pytest.raises(KlingPricingError, match=r"project=\.\.\., or make the call inside `with spending"):
            guarded.post("/v1/tasks", json=CLIP)
        with spending(project="trailer"):
            assert guarded.post("/v1/tasks", json=CLIP).status_code == 200
    assert len(provider.submissions) == 1


# project and labels


def labels_of_all(guard: BudgetGuard) -> list[dict[str, str]]:
    """Returns the labels of every reservation."""
    return [dict(reservation.labels) for reservation in guard.history()]


def test_scopes_can_be_nested_and_override_the_hook(guard: BudgetGuard, provider: Provider) -> None:
    """An inner scope adds to the outer one and overrides it, until the inner one ends."""
    with client(guard, provider, labels={"user": "test-user", "stage": "test"}) as guarded:
        with spending(project="teaser", user="li"):
            with spending(user="chen", shot="7"):
                guarded.post("/v1/tasks", json=CLIP)
            guarded.post("/v1/tasks", json=CLIP)
        guarded.post("/v1/tasks", json=CLIP)
    assert labels_of_all(guard) == [
        {"project": "teaser", "user": "chen", "stage": "test", "shot": "7"},
        {"project": "teaser", "user": "li", "stage": "test"},
        {"project": "trailer", "user": "test-user", "stage": "test"},
    ]


def test_a_function_can_derive_labels_from_the_request(guard: BudgetGuard, provider: Provider) -> None:
    """It receives the request as plain data, and its result overrides scope and hook."""

    def derive(request: OutgoingRequest) -> Mapping[str, str]:
        return {"project": request.headers["x-project"], "model": json.loads(request.body)["model"]}

    with client(guard, provider, labels=derive) as guarded, spending(project="teaser", user="li"):
        guarded.post("/v1/tasks", json=CLIP, headers={"X-Project": "ads"})
    assert labels_of_all(guard) == [{"project": "ads", "user": "li", "model": "kling-v3"}]


def test_scopes_apply_in_tasks_and_threads(guard: BudgetGuard, provider: Provider) -> None:
    """A task inherits the scope it starts in and sees no other task's; a thread has only its own scopes."""
    hosts = {provider.host: PROVIDER}

    async def work() -> None:
        transport = AsyncGuardedTransport(httpx.AsyncHTTPTransport(), guard, hosts=hosts)
        async with httpx.AsyncClient(transport=transport, base_url=provider.url) as guarded:

            async def one(user: str) -> None:
                with spending(user=user):
                    await asyncio.sleep(0)
                    await guarded.post("/v1/tasks", json=CLIP)

            with spending(project="trailer"):
                await asyncio.gather(*(one(f"user-{number}") for number in range(8)))

    asyncio.run(work())
    with client(guard, provider, project=None) as guarded:

        def one(user: str) -> None:
            with spending(project="threads", user=user):
                guarded.post("/v1/tasks", json=CLIP)

        with ThreadPoolExecutor(4) as threads:
            list(threads.map(one, [f"user-{number}" for number in range(8)]))
    assert sorted((labels["project"], labels["user"]) for labels in labels_of_all(guard)) == sorted(
        (project, f"user-{number}") for project in ("trailer", "threads") for number in range(8)
    )


# job keys


def test_a_scope_with_a_key_is_one_job(guard: BudgetGuard, provider: Provider) -> None:
    """However often it is submitted, the provider gets the same key and creates one task."""
    with client(guard, provider) as guarded, spending(key="shot-1"):
        first, second = (guarded.post("/v1/tasks", json=CLIP).json() for _ in range(2))
        assert first == second
        with pytest.raises(IdempotencyError):
            guarded.post("/v1/tasks", json={**CLIP, "duration": 6})
        with pytest.raises(
            KlingPricingError, match=r"another key is in the header Idempotency-Key; give only one key$"
        ):
            guarded.post("/v1/tasks", json=CLIP, headers={"Idempotency-Key": "shot-2"})
    (reservation,) = guard.history()
    assert {request.headers["Idempotency-Key"] for request in provider.submissions} == {reservation.id}
    assert (reservation.state, reservation.key, len(provider.tasks)) == ("bound", "shot-1", 1)


def test_without_a_key_the_same_request_is_another_job(guard: BudgetGuard, provider: Provider) -> None:
    """Two submissions of the same prompt create two tasks."""
    with client(guard, provider) as guarded:
        for _ in range(2):
            guarded.post("/v1/tasks", json=CLIP)
    assert len(provider.tasks) == len(guard.history()) == 2


def test_another_header_can_carry_the_job_key(guard: BudgetGuard, provider: Provider) -> None:
    """The provider still gets the reservation's id as its key."""
    with client(guard, provider, key_header="X-Shot") as guarded:
        for _ in range(2):
            guarded.post("/v1/tasks", json=CLIP, headers={"X-Shot": "7"})
    (reservation,) = guard.history(key="7")
    keys = [request.headers["Idempotency-Key"] for request in provider.submissions]
    assert keys == [reservation.id] * 2


def test_a_capped_job_is_resent_with_the_same_changes(
    tmp_path: Path, book: PriceBook, clock: Clock, provider: Provider
) -> None:
    """The same request is resent even if the original would fit the budget by then."""
    tight = Budget(name="all", cap=Decimal("0.25"), currency="USD", on_exceed="cap")
    with BudgetGuard(f"sqlite:///{tmp_path}/spend.db", [tight], book=book, clock=clock) as guard:
        provider.fail_next("500:accepted")
        with client(guard, provider) as guarded, spending(key="shot-1"):
            guarded.post("/v1/tasks", json=CLIP)
            guard.apply([PLENTY], remove=[], allow_weaker=True)
            assert guarded.post("/v1/tasks", json=CLIP).status_code == 200
        payloads = [request.json for request in provider.submissions]
        assert payloads == [{**CLIP, "duration": 3}] * 2
        assert len(provider.tasks) == len(guard.history()) == 1


def test_a_key_is_used_only_as_long_as_the_provider_knows_it(
    guard: BudgetGuard, provider: Provider, clock: Clock
) -> None:
    """After 24 hours a retry would create a second task, so it is refused with the reservation in the error."""
    provider.fail_next("500:accepted")
    with client(guard, provider) as guarded, spending(key="shot-1"):
        guarded.post("/v1/tasks", json=CLIP)
        clock.now += timedelta(hours=23, minutes=54)
        assert guarded.post("/v1/tasks", json=CLIP).status_code == 200
        clock.now += timedelta(minutes=2)
        with pytest.raises(ReservationStateError) as caught:
            guarded.post("/v1/tasks", json=CLIP)
    assert (caught.value.state, [caught.value.task_id]) == ("bound", provider.tasks)
    assert len(provider.submissions) == 2


def test_a_refused_retry_releases_nothing(guard: BudgetGuard, provider: Provider) -> None:
    """The money stays held, because the first attempt may be running."""
    provider.fail_next("500:accepted", "429")
    with client(guard, provider) as guarded, spending(key="shot-1"):
        assert [guarded.post("/v1/tasks", json=CLIP).status_code for _ in range(3)] == [500, 429, 200]
    (reservation,) = guard.history()
    assert (reservation.state, reservation.attempt, len(provider.tasks)) == ("bound", 1, 1)


@pytest.mark.parametrize("status", [429, 402])
def test_a_refusal_releases_nothing_while_the_job_is_being_resent(
    guard: BudgetGuard, provider: Provider, status: int
) -> None:
    """One of two requests under a key is refused and one accepted; the order of the responses is irrelevant."""
    provider.fail_next([str(status), "hold"], "hold")
    with client(guard, provider) as guarded, ThreadPoolExecutor(2) as threads:
        replies = []
        for number in (1, 2):
            key = {"Idempotency-Key": "shot-1"}
            replies.append(threads.submit(guarded.post, "/v1/tasks", json=CLIP, headers=key))
            provider.sandbox.calls(at_least=number)
        provider.sandbox.resume()
        assert sorted(reply.result().status_code for reply in replies) == [200, status]
    (reservation,) = guard.history()
    assert (reservation.state, [reservation.task_id]) == ("bound", provider.tasks)
    assert "release" not in [entry.kind for entry in guard.journal()]


RETRY = "x-stainless-retry-count"


def test_the_retries_of_an_sdk_are_the_same_job(guard: BudgetGuard, provider: Provider) -> None:
    """Retries carry a count and come from the same task or thread as the first attempt."""
    provider.fail_next("429", "500:accepted")
    with client(guard, provider) as guarded:
        replies = [
            guarded.post("/v1/tasks", json=CLIP, headers={RETRY: str(count)}).status_code for count in range(3)
        ]
        guarded.post("/v1/tasks", json=CLIP, headers={RETRY: "0"})
    assert replies == [429, 500, 200]
    first, second, other = guard.history()
    assert (first.key, first.state, second.key, second.attempt) == (second.key, "released", first.key, 2)
    assert (second.state, other.state, len(provider.tasks)) == ("bound", "bound", 2)
    assert other.key != first.key


def test_a_retry_without_a_known_first_attempt_is_refused(guard: BudgetGuard, provider: Provider) -> None:
    """The job cannot be identified, and a wrong guess would create a second one."""
    with client(guard, provider) as guarded, ThreadPoolExecutor(1) as thread:
        retry = thread.submit(guarded.post, "/v1/tasks", json=CLIP, headers={RETRY: "1"})
        with pytest.raises(KlingPricingError) as caught:
            retry.result()
    assert str(caught.value) == (
        "x-stainless-retry-count marks this request as a retry, but this thread or asyncio task has sent no "
        "earlier attempt, so the job cannot be identified; give the call a key, in a header or through `with "
        "spending(key=...)`"
    )
    assert (provider.received, guard.history()) == ([], [])


def test_concurrent_submissions_under_one_key_create_one_task(guard: BudgetGuard, provider: Provider) -> None:
    """Racing submissions share one reservation, and each gets the same task."""
    with client(guard, provider) as guarded, ThreadPoolExecutor(8) as threads:
        replies = [
            threads.submit(guarded.post, "/v1/tasks", json=CLIP, headers={"Idempotency-Key": "shot-1"})
            for _ in range(16)
        ]
        assert [*{reply.result().json()["task_id"] for reply in replies}] == provider.tasks
    assert [reservation.state for reservation in guard.history()] == ["bound"]


def test_any_text_survives_a_change(tmp_path: Path, book: PriceBook, clock: Clock, provider: Provider) -> None:
    """A changed request keeps every text that JSON allows, even half a surrogate pair."""
    tight = Budget(name="all", cap=Decimal("0.25"), currency="USD", on_exceed="cap")
    body = b'{"model": "kling-v3", "duration": 5, "prompt": "\xe7\xb4\x99\\ud83d \\u0000"}'
    with (
        BudgetGuard(f"sqlite:///{tmp_path}/spend.db", [tight], book=book, clock=clock) as guard,
        client(guard, provider) as guarded,
    ):
        assert guarded.post("/v1/tasks", content=body, headers=JSON).status_code == 200
    assert provider.submissions[0].json == {**json.loads(body), "duration": 3}


CHANGE = "2026-11-21T00:00:01Z"
BEFORE = PRICES.replace("valid_from: null", f"valid_from: null\nvalid_until: {CHANGE}")
AFTER = PRICES.replace("valid_from: null", f"valid_from: {CHANGE}").replace("silent: 0.1}", "silent: 0.4}")


def test_a_price_change_before_the_dispatch_causes_a_new_quote(
    tmp_path: Path, folder: Callable[..., Path], clock: Clock
) -> None:
    """A request is reserved at the price in force when it is sent."""
    book = load_price_book(folder({"prices/acme/1.yaml": BEFORE, "prices/acme/2.yaml": AFTER}))
    budget = Budget(name="all", cap=9, currency="EUR")
    with (
        running("acme", book) as provider,
        BudgetGuard(f"sqlite:///{tmp_path}/spend.db", [budget], book=book, clock=clock) as guard,
    ):
        guard.admit(CLIP, project="trailer", key="shot", provider="acme")
        clock.now = AT + timedelta(seconds=2)
        with client(guard, provider, hosts={provider.host: "acme"}) as guarded:
            sent = guarded.post("/v1/tasks", json=CLIP, headers={"Idempotency-Key": "shot"})
            assert sent.status_code == 200
        assert [(reservation.state, reservation.reserved) for reservation in guard.history()] == [
            ("released", Decimal("0.5")),
            ("bound", Decimal(2)),
        ]


# bursts


def test_a_burst_of_async_submissions_stops_at_the_cap(
    ledger: str, book: PriceBook, clock: Clock, provider: Provider
) -> None:
    """Of 200 concurrent jobs, the 37 that fit reach the provider, and its bill equals the ledger's spending."""
    cap = Budget(name="all", cap=37 * COST + COST / 2, currency="USD")

    async def burst(guard: AsyncBudgetGuard) -> tuple[int, int]:
        transport = AsyncGuardedTransport(
            httpx2.AsyncHTTPTransport(limits=httpx2.Limits(max_connections=20)),
            guard,
            project="trailer",
            hosts={provider.host: PROVIDER},
        )
        async with httpx2.AsyncClient(transport=transport, base_url=provider.url, timeout=60) as guarded:
            posts = (guarded.post("/v1/tasks", json=CLIP) for _ in range(200))
            results = await asyncio.gather(*posts, return_exceptions=True)
            tasks = [result.json()["task_id"] for result in results if isinstance(result, httpx2.Response)]
            for task_id in tasks:
                provider.finish(task_id)
            await asyncio.gather(*(guarded.get(f"/v1/tasks/{task_id}") for task_id in tasks))
        return len(tasks), sum(isinstance(result, BudgetExceededError) for result in results)

    async def work() -> None:
        opened = await AsyncBudgetGuard.open(ledger, [cap], book=book, clock=clock)
        async with opened as guard:
            assert await burst(guard) == (37, 163)
            (bucket,) = await guard.status()
            assert (bucket.held, bucket.spent) == (Decimal(0), 37 * COST)
            assert provider.bill == {"USD": bucket.spent}
            assert len(provider.submissions) == 37
            await guard.verify()

    asyncio.run(work())


# requests that pass untouched


class Streams:
    """A server whose uploads and downloads show whether a client buffers them.

    Attributes:
        url: its base URL.
        upload_started: set when the first part of an upload has arrived.
        resumed: a download sends its last part when the test sets this.
    """

    def __init__(self) -> None:
        self.url = ""
        self.upload_started, self.resumed = threading.Event(), threading.Event()

    @property
    def host(self) -> str:
        """The host and port."""
        return self.url.removeprefix("http://")

    def chunks(self) -> Iterator[bytes]:
        """Yields a body that cannot be buffered: its second part follows when the server has the first."""
        yield b"x" * 70_000
        assert self.upload_started.wait(10)
        yield b"y" * 70_000

    async def achunks(self) -> Any:
        """Yields the same body asynchronously."""
        yield b"x" * 70_000
        assert await asyncio.to_thread(self.upload_started.wait, 10)
        yield b"y" * 70_000


@pytest.fixture
def streams() -> Iterator[Streams]:
    """A running server."""
    streams = Streams()

    class Handler(QuietHandler, BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            size_bytes = 0
            for chunk in self.read_chunks():
                size_bytes += len(chunk)
                streams.upload_started.set()
            body = json.dumps({"bytes": size_bytes}).encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(body)

        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            self.wfile.write(b"5\r\nfirst\r\n")
            streams.resumed.wait(10)
            self.wfile.write(b"4\r\nlast\r\n0\r\n\r\n")

    with serving(Handler) as streams.url:
        yield streams


def test_other_paths_are_not_buffered_by_httpx(guard: BudgetGuard, streams: Streams) -> None:
    """An upload reaches the server, and a download its reader, before the whole body is available."""
    with client(guard, streams) as guarded:
        assert guarded.post("/v1/audio", content=streams.chunks()).json() == {"bytes": 140_000}
        with guarded.stream("GET", "/v1/audio/7") as response:
            parts = response.iter_bytes()
            assert next(parts) == b"first"
            streams.resumed.set()
            assert b"".join(parts) == b"last"
    assert guard.history() == []


def test_other_paths_are_not_buffered_by_requests(guard: BudgetGuard, streams: Streams) -> None:
    """An upload reaches the server, and a download its reader, before the whole body is available."""
    with requests.Session() as session:
        hosts = {streams.host: PROVIDER}
        session.mount("http://", GuardedAdapter(HTTPAdapter(), guard, project="trailer", hosts=hosts))
        reply = session.post(f"{streams.url}/v1/audio", data=streams.chunks(), timeout=20)
        assert reply.json() == {"bytes": 140_000}
        with session.get(f"{streams.url}/v1/audio/7", stream=True, timeout=20) as response:
            parts = response.iter_content(None)
            assert next(parts) == b"first"
            streams.resumed.set()
            assert b"".join(parts) == b"last"


@pytest.mark.parametrize("library", [httpx, httpx2], ids=["httpx", "httpx2"])
def test_other_paths_are_not_buffered_by_async_clients(
    guard: BudgetGuard, streams: Streams, library: Any
) -> None:
    """An upload reaches the server, and a download its reader, before the whole body is available."""

    async def work() -> None:
        transport = AsyncGuardedTransport(
            library.AsyncHTTPTransport(), guard, project="trailer", hosts={streams.host: PROVIDER}
        )
        async with library.AsyncClient(transport=transport, base_url=streams.url) as guarded:
            reply = await guarded.post("/v1/audio", content=streams.achunks())
            assert reply.json() == {"bytes": 140_000}
            async with guarded.stream("GET", "/v1/audio/7") as response:
                parts = response.aiter_bytes()
                assert await anext(parts) == b"first"
                streams.resumed.set()
                assert b"".join([part async for part in parts]) == b"last"

    asyncio.run(work())


def test_other_paths_are_not_buffered_by_aiohttp(guard: BudgetGuard, streams: Streams) -> None:
    """An upload reaches the server, and a download its reader, before the whole body is available."""

    async def work() -> None:
        middleware = GuardMiddleware(guard, project="trailer", hosts={streams.host: PROVIDER})
        async with aiohttp.ClientSession(streams.url, middlewares=[middleware]) as session:
            async with session.post("/v1/audio", data=streams.achunks()) as reply:
                assert await reply.json() == {"bytes": 140_000}
            async with session.get("/v1/audio/7") as response:
                assert await response.content.readany() == b"first"
                streams.resumed.set()
                assert await response.content.read() == b"last"

    asyncio.run(work())


@pytest.mark.parametrize("name", CLIENTS)
def test_other_hosts_are_not_guarded(name: str, guard: BudgetGuard, provider: Provider) -> None:
    """A submission to a host that is not listed passes without a reservation."""
    guarded = CLIENTS[name](guard, project="trailer")
    try:
        reply = guarded.send("POST", f"{provider.url}/v1/tasks", body=json.dumps(CLIP).encode(), headers=JSON)
        assert (reply.status, guard.history()) == (200, [])
    finally:
        guarded.close()


def test_a_submission_may_be_streamed(guard: BudgetGuard, provider: Provider) -> None:
    """A streamed body is read, priced, and sent with its length."""
    body = json.dumps(CLIP).encode()

    async def parts() -> Any:
        yield body[:10]
        yield body[10:]

    async def with_aiohttp() -> None:
        middleware = GuardMiddleware(guard, project="trailer", hosts={provider.host: PROVIDER})
        async with (
            aiohttp.ClientSession(provider.url, middlewares=[middleware]) as session,
            session.post("/v1/tasks", data=parts(), headers=JSON) as reply,
        ):
            assert reply.status == 200

    with client(guard, provider) as guarded:
        guarded.post("/v1/tasks", content=iter([body[:10], body[10:]]), headers=JSON)
    asyncio.run(with_aiohttp())
    with requests.Session() as session:
        hosts = {provider.host: PROVIDER}
        session.mount("http://", GuardedAdapter(HTTPAdapter(), guard, project="trailer", hosts=hosts))
        session.post(f"{provider.url}/v1/tasks", data=iter([body[:10], body[10:]]), headers=JSON, timeout=20)
    assert [request.json for request in provider.submissions] == [CLIP] * 3


def test_the_caller_gets_the_response_unchanged(guard: BudgetGuard, provider: Provider) -> None:
    """A compressed response can still be streamed, raw or decoded, and has the provider's headers."""
    answers = [f'{{"task_id": "task-{number}", "status": "queued"}}'.encode() for number in (8, 9)]
    bodies = [gzip.compress(answer, mtime=0) for answer in answers]
    for body in bodies:
        provider.fail_next([], body=body, headers={"Content-Encoding": "gzip"})
    with client(guard, provider) as guarded:
        with guarded.stream("POST", "/v1/tasks", json=CLIP) as response:
            assert b"".join(response.iter_raw()) == bodies[0]
        assert response.headers["content-encoding"] == "gzip"
        assert response.extensions["http_version"] == b"HTTP/1.1"

    async def with_aiohttp() -> None:
        middleware = GuardMiddleware(guard, project="trailer", hosts={provider.host: PROVIDER})
        async with (
            aiohttp.ClientSession(provider.url, middlewares=[middleware]) as session,
            session.post("/v1/tasks", json=CLIP) as reply,
        ):
            assert await reply.content.read() == await reply.read() == answers[1]

    asyncio.run(with_aiohttp())
    assert [reservation.task_id for reservation in guard.history()] == ["task-8", "task-9"]


def test_tasks_that_are_not_in_the_ledger_leave_no_trace(guard: BudgetGuard, provider: Provider) -> None:
    """A status answer about an unknown task is passed on and not recorded."""
    with client(guard, provider) as guarded, httpx.Client(base_url=provider.url) as unguarded:
        task_id = unguarded.post("/v1/tasks", json=CLIP).json()["task_id"]
        provider.finish(task_id)
        assert guarded.get(f"/v1/tasks/{task_id}").json()["status"] == "completed"
        assert guarded.get("/v1/tasks/none").status_code == 404
    assert (guard.unclaimed(), guard.history()) == ([], [])


# failures


def test_nothing_is_sent_while_the_ledger_is_unavailable(
    guard: BudgetGuard, provider: Provider, tmp_path: Path
) -> None:
    """The submission is refused; as a response it is a 503, which clients may retry."""
    aside = tmp_path / "aside.db"
    with client(guard, provider) as guarded, client(guard, provider, refusals="respond") as answered:
        (tmp_path / "spend.db").rename(aside)
        with pytest.raises(LedgerUnavailableError):
            guarded.post("/v1/tasks", json=CLIP)
        reply = answered.post("/v1/tasks", json=CLIP)
        aside.rename(tmp_path / "spend.db")
    assert (reply.status_code, reply.headers.get("x-should-retry")) == (503, None)
    assert provider.received == []


def test_a_ledger_failure_after_sending_loses_no_task(
    guard: BudgetGuard, provider: Provider, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The caller gets the response, the log names the command, and the next request records the task."""
    aside = tmp_path / "aside.db"
    provider.fail_next("timeout")
    with client(guard, provider) as guarded, ThreadPoolExecutor(1) as thread:
        reply = thread.submit(guarded.post, "/v1/tasks", json=CLIP)
        provider.wait_for_tasks()
        (tmp_path / "spend.db").rename(aside)
        provider.sandbox.resume()
        with caplog.at_level(logging.ERROR, "kling_pricing.hooks"):
            task_id = reply.result().json()["task_id"]
        aside.rename(tmp_path / "spend.db")
        (reservation,) = guard.history()
        assert reservation.state == "dispatching"
        assert f"(to bind it, run `kling-pricing bind {reservation.id} {task_id}`)" in caplog.text
        provider.finish(task_id)
        guarded.get(f"/v1/tasks/{task_id}")
    (reservation,) = guard.history()
    assert (reservation.state, reservation.task_id, reservation.billed) == ("settled", task_id, COST)


def test_a_status_that_could_not_be_recorded_is_recorded_later(
    guard: BudgetGuard, provider: Provider, tmp_path: Path
) -> None:
    """A status received while the ledger is unavailable is recorded with the hook's next request."""
    aside = tmp_path / "aside.db"
    with client(guard, provider) as guarded:
        task_id = guarded.post("/v1/tasks", json=CLIP).json()["task_id"]
        provider.finish(task_id)
        (tmp_path / "spend.db").rename(aside)
        assert guarded.get(f"/v1/tasks/{task_id}").json()["status"] == "completed"
        aside.rename(tmp_path / "spend.db")
        assert [reservation.state for reservation in guard.history()] == ["bound"]
        guarded.post("/v1/tasks", json=CLIP)
    assert [reservation.state for reservation in guard.history()] == ["settled", "bound"]


def test_a_response_that_cannot_be_read_still_reaches_the_caller(
    guard: BudgetGuard, provider: Provider, caplog: pytest.LogCaptureFixture
) -> None:
    """A response that is not JSON is passed on and logged, and its job is in doubt."""
    provider.fail_next([], body=b"\xff not json")
    with client(guard, provider) as guarded, caplog.at_level(logging.WARNING, "kling_pricing.hooks"):
        assert guarded.post("/v1/tasks", json=CLIP).content == b"\xff not json"
    (doubtful,) = guard.in_doubt()
    assert doubtful.reason == "response without a task"
    (message,) = caplog.messages
    assert message.startswith(f"could not bind reservation {doubtful.id} to a task: not JSON")


def test_cancelling_before_the_request_is_sent_releases_the_reservation(
    guard: BudgetGuard, provider: Provider, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The running step continues in its thread and then releases the reservation."""
    dispatched, cancelled, released = (threading.Event() for _ in range(3))
    admit_and_dispatch, release_refused = guard.admit_and_dispatch, guard.release_refused

    def dispatch_slowly(*args: Any, **options: Any) -> Any:
        result = admit_and_dispatch(*args, **options)
        dispatched.set()
        assert cancelled.wait(10)
        return result

    def release_and_report(*args: Any) -> None:
        release_refused(*args)
        released.set()

    monkeypatch.setattr(guard, "admit_and_dispatch", dispatch_slowly)
    monkeypatch.setattr(guard, "release_refused", release_and_report)

    async def work() -> None:
        transport = AsyncGuardedTransport(
            httpx.AsyncHTTPTransport(), guard, project="trailer", hosts={provider.host: PROVIDER}
        )
        async with httpx.AsyncClient(transport=transport, base_url=provider.url) as guarded:
            post = asyncio.create_task(guarded.post("/v1/tasks", json=CLIP))
            assert await asyncio.to_thread(dispatched.wait, 10)
            post.cancel()
            with pytest.raises(asyncio.CancelledError):
                await post
            cancelled.set()

    asyncio.run(work())
    assert released.wait(10)
    (reservation,) = guard.history()
    assert (reservation.state, reservation.reason, provider.received) == ("released", "not sent", [])


@pytest.mark.parametrize("name", ["httpx-async", "httpx2-async", "aiohttp"])
def test_cancelling_while_the_request_is_sent_leaves_it_in_doubt(
    name: str, guard: BudgetGuard, provider: Provider
) -> None:
    """The provider may have accepted the job."""
    provider.fail_next("timeout")
    guarded: Any = CLIENTS[name](guard, project="trailer", hosts={provider.host: PROVIDER})

    async def work() -> None:
        post = asyncio.create_task(
            guarded.asend("POST", f"{provider.url}/v1/tasks", json.dumps(CLIP).encode(), JSON, 10)
        )
        await asyncio.to_thread(provider.wait_for_tasks)
        post.cancel()
        with pytest.raises(asyncio.CancelledError):
            await post

    guarded.run(work())
    guarded.close()
    assert [reservation.reason for reservation in guard.in_doubt()] == ["no response"]


def test_ctrl_c_while_the_request_is_sent_leaves_it_in_doubt(
    tmp_path: Path, provider: Provider, book: PriceBook
) -> None:
    """An interrupted process records that the job is in doubt before it exits."""
    provider.fail_next("timeout")
    ledger = f"sqlite:///{tmp_path}/spend.db"
    BudgetGuard(ledger, [PLENTY], book=book).close()
    code = HEEDS_SIGINT + (
        "import httpx, sys; from kling_pricing import BudgetGuard;"
        "from kling_pricing.hooks.httpx import GuardedTransport;"
        f"t = GuardedTransport(httpx.HTTPTransport(), BudgetGuard({ledger!r}), project='trailer',"
        f" hosts={{{provider.host!r}: {PROVIDER!r}}});"
        f"httpx.Client(transport=t).post({provider.url + '/v1/tasks'!r}, json={CLIP!r}, timeout=60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE, text=True)
    provider.wait_for_tasks()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert "KeyboardInterrupt" in errors
    with BudgetGuard(ledger, book=book) as guard:
        assert [reservation.reason for reservation in guard.in_doubt()] == ["no response"]


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
        "quote",
    ),
}
SOLD_BY = {"video_generations": "uniall"}
"""Wire format -> the provider of its API, if another provider's tables price it."""


@pytest.mark.parametrize("wire_format", FORMATS)
def test_every_wire_format_works_from_submission_to_settlement(
    wire_format: str, tmp_path: Path, book: PriceBook, clock: Clock
) -> None:
    """A job is submitted, bound, polled and settled, at the charge that the API names or else the quote."""
    name, path, currency, payload, price, basis = FORMATS[wire_format]
    budget = Budget(name="all", cap=10, currency=currency)
    with (
        running(SOLD_BY.get(wire_format, name)) as provider,
        BudgetGuard(f"sqlite:///{tmp_path}/spend.db", [budget], book=book, clock=clock) as guard,
        client(guard, provider, hosts={provider.host: name}) as guarded,
    ):
        guarded.post(path, json=payload).raise_for_status()
        (bound,) = guard.history()
        assert (bound.wire_format, bound.state, bound.reserved) == (wire_format, "bound", Decimal(price))
        provider.finish(str(bound.task_id))
        guarded.get(f"{path}/{bound.task_id}").raise_for_status()
        (polled,) = guard.history()
        assert (polled.state, polled.billed, polled.basis) == ("settled", Decimal(price), basis)
        assert provider.bill == {currency: polled.billed}


def test_the_official_api_can_receive_the_reservations_id(
    tmp_path: Path, book: PriceBook, clock: Clock
) -> None:
    """The id goes into the API's field for the caller's own id; a value that the caller set stays."""
    payload = {"model_name": "kling-v3", "prompt": "a boat"}
    with (
        running("kling") as provider,
        BudgetGuard(f"sqlite:///{tmp_path}/spend.db", [PLENTY], book=book, clock=clock) as guard,
        client(guard, provider, hosts={provider.host: "kling"}, send_reservation_id=True) as guarded,
    ):
        guarded.post("/v1/videos/text2video", json=payload)
        guarded.post("/v1/videos/text2video", json={**payload, "external_task_id": "mine"})
        first, second = guard.history()
        assert [request.json for request in provider.submissions] == [
            {**payload, "external_task_id": first.id},
            {**payload, "external_task_id": "mine"},
        ]
        for own_id, task_id in ((first.id, first.task_id), ("mine", second.task_id)):
            provider.finish(str(task_id))
            assert guarded.get(f"/v1/videos/text2video/{own_id}").json()["data"]["task_id"] == task_id
        assert [reservation.state for reservation in guard.history()] == ["settled", "settled"]
