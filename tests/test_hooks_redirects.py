"""Redirects and URLs that cannot be read: no client gets past a hook by following one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import suppress
from io import BytesIO
from pathlib import Path
from typing import Any

import httpx
import pytest
import requests
from hypothesis import given, settings
from hypothesis import strategies as st
from requests.adapters import BaseAdapter, HTTPAdapter
from urllib3 import HTTPResponse

from kling_pricing import Budget, BudgetGuard, KlingPricingError, PriceBook, load_price_book
from kling_pricing.hooks.httpx import AsyncGuardedTransport, GuardedTransport
from kling_pricing.hooks.requests import GuardedAdapter
from kling_pricing.hooks.route import UnlistedPath
from kling_pricing.hooks.routes import Routes
from kling_pricing.wire.endpoints import Endpoint
from tests.conftest import examples, video
from tests.providers import Provider, running

BOOK = load_price_book()
ROUTES = Routes(BOOK, {})
PROVIDER = "qingbo"
CLIP = video(duration=5)
ONE_JOB = Budget(name="all", cap="0.4", currency="USD")


@pytest.fixture
def guard(tmp_path: Path, book: PriceBook) -> Iterator[BudgetGuard]:
    """A guard whose budget fits one job."""
    with BudgetGuard(f"sqlite:///{tmp_path}/spend.db", [ONE_JOB], book=book) as opened:
        yield opened
        opened.verify()


@pytest.fixture(scope="module")
def kept_guard(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BudgetGuard]:
    """A guard for all examples of a property."""
    folder = tmp_path_factory.mktemp("ledger")
    with BudgetGuard(f"sqlite:///{folder}/spend.db", [ONE_JOB], book=BOOK) as opened:
        yield opened


@pytest.fixture
def provider() -> Iterator[Provider]:
    """A provider that redirects when a test says so."""
    with running(PROVIDER) as started:
        yield started


@pytest.fixture
def elsewhere() -> Iterator[Provider]:
    """Another host of the same provider, which the clients' mounts do not guard."""
    with running(PROVIDER) as started:
        yield started


def mounted(library: str, guard: BudgetGuard, provider: Provider, *others: Provider) -> Any:
    """Returns a client that guards one host's URLs only, although the hook knows the hosts of the others."""
    hosts = {place.host: PROVIDER for place in (provider, *others)}
    if library == "requests":
        session = requests.Session()
        session.trust_env = False
        session.mount(
            f"{provider.url}/v1/tasks", GuardedAdapter(HTTPAdapter(), guard, project="p", hosts=hosts)
        )
        return session
    transport = GuardedTransport(httpx.HTTPTransport(), guard, project="p", hosts=hosts)
    return httpx.Client(mounts={f"http://{provider.host}": transport}, follow_redirects=True, trust_env=False)


@pytest.mark.parametrize("status", [307, 308])
@pytest.mark.parametrize("library", ["httpx", "requests"])
def test_a_redirect_past_the_clients_mount_is_not_followed(
    library: str, status: int, guard: BudgetGuard, provider: Provider, elsewhere: Provider
) -> None:
    """The other host is guarded by name, but the client would send the request there without the hook."""
    with mounted(library, guard, provider, elsewhere) as client:
        for _ in range(5):
            provider.fail_next(str(status), headers={"Location": f"{elsewhere.url}/v1/tasks"})
            with pytest.raises(KlingPricingError, match=r"another scheme, host or port.* target URL yourself$"):
                client.post(f"{provider.url}/v1/tasks", json=CLIP)
    assert elsewhere.received == []
    assert {reservation.state for reservation in guard.history()} == {"released"}


@pytest.mark.parametrize("library", ["httpx", "requests"])
def test_the_hook_itself_follows_a_redirect_on_the_same_host(
    library: str, guard: BudgetGuard, provider: Provider
) -> None:
    """The redirected request is admitted like any other, so only as many jobs are made as fit."""
    with mounted(library, guard, provider) as client:
        provider.fail_next("307", headers={"Location": f"{provider.url}/v1/tasks"})
        reply = client.post(f"{provider.url}/v1/tasks", json=CLIP)
        assert (reply.status_code, len(provider.tasks)) == (200, 1)
        provider.fail_next("307", headers={"Location": "/v1/tasks"})
        with pytest.raises(KlingPricingError, match="budget all"):
            client.post(f"{provider.url}/v1/tasks", json=CLIP)
    assert len(provider.tasks) == 1
    assert [reservation.state for reservation in guard.history()] == ["released", "bound"]


def test_a_redirected_submission_keeps_its_body_and_its_headers(guard: BudgetGuard, provider: Provider) -> None:
    """The body was a stream that can be read once, and its length was not known."""
    with mounted("requests", guard, provider) as client:
        provider.fail_next("307", headers={"Location": "/v1/tasks"})
        body = iter([json.dumps(CLIP).encode()])
        headers = {"Content-Type": "application/json", "Authorization": "Bearer t"}
        assert client.post(f"{provider.url}/v1/tasks", data=body, headers=headers).status_code == 200
    first, second = provider.received
    assert first.json == second.json == CLIP
    assert [sent.headers["Authorization"] for sent in provider.received] == ["Bearer t"] * 2
    assert first.headers["Idempotency-Key"] != second.headers["Idempotency-Key"]


@pytest.mark.parametrize("library", ["httpx", "requests"])
def test_redirects_in_a_circle_end(library: str, guard: BudgetGuard, provider: Provider) -> None:
    """The first request and five redirected ones are sent, and no money stays reserved."""
    with mounted(library, guard, provider) as client:
        provider.fail_next(*["307"] * 9, headers={"Location": "/v1/tasks"})
        with pytest.raises(KlingPricingError, match="more than 5 times"):
            client.post(f"{provider.url}/v1/tasks", json=CLIP)
    assert len(provider.received) == 6
    assert guard.status()[0].held == 0


class Answering:
    """A guarded transport whose requests are all answered with a redirect, without a client around it.

    A client of httpx looks at the Location header even if it does not follow redirects.
    """

    def __init__(self, guard: BudgetGuard, location: str) -> None:
        reply = httpx.MockTransport(
            lambda _: httpx.Response(307, headers=[(b"Location", location.encode("latin-1"))])
        )
        self._transport = GuardedTransport(reply, guard, project="p", sends_once=True)

    def send(self, method: str, path: str) -> httpx.Response:
        """Sends a request to the provider."""
        request = httpx.Request(method, f"https://www.qingbo.dev{path}", json=CLIP)
        response = self._transport.handle_request(request)
        assert isinstance(response, httpx.Response)
        return response


@pytest.mark.parametrize(
    "location", ["http://[::1", "//[", "https://[x]:y/", "http://a]/", "", "http://[v1.example/v1/tasks"]
)
def test_the_caller_gets_a_redirect_that_no_client_can_follow(location: str, guard: BudgetGuard) -> None:
    """The client's own error would hide the provider's answer."""
    transport = Answering(guard, location)
    assert transport.send("POST", "/v1/tasks").status_code == 307
    assert transport.send("POST", "/v1/tasks/t-1/cancel").status_code == 307
    assert guard.status()[0].held == 0


@pytest.mark.parametrize(
    "location",
    ["https://[www.qingbo.dev/v1/tasks", "https://www.qingbo.dev:443]/v1/tasks", "//[www.qingbo.dev"],
)
def test_an_unreadable_redirect_that_may_lead_to_a_billing_host_is_refused(
    location: str, guard: BudgetGuard
) -> None:
    """Another parser may find the host in it."""
    with pytest.raises(KlingPricingError, match="not followed"):
        Answering(guard, location).send("POST", "/v1/tasks")


class Redirecting(BaseAdapter):
    """An adapter that redirects every request."""

    def __init__(self, location: str) -> None:
        super().__init__()
        self._location = location

    def send(self, request: requests.PreparedRequest, *_args: Any, **_kwargs: Any) -> requests.Response:
        """Returns the redirect."""
        raw = HTTPResponse(
            BytesIO(b""), status=307, headers={"Location": self._location}, preload_content=False
        )
        response: requests.Response = HTTPAdapter().build_response(request, raw)
        return response

    def close(self) -> None:
        """Has nothing to close."""


PASSING = ("/v1/tasks/t-1/cancel", "/v1/chat/completions")
"""Paths that take no jobs: a task's cancellation and another service."""


@pytest.mark.parametrize("path", PASSING)
@pytest.mark.parametrize(
    "target", ["https://qingbo.dev/v1/tasks", "/v1/tasks", "https://www.qingbo.dev/v1/new"]
)
def test_a_request_that_passes_is_not_redirected_to_a_submission(
    path: str, target: str, guard: BudgetGuard
) -> None:
    """The client would repeat the POST, with its body, where jobs are or may be submitted."""
    transport = Answering(guard, target)
    with pytest.raises(KlingPricingError, match=r"to a URL that may accept jobs, .*not followed"):
        transport.send("POST", path)
    assert transport.send("GET", path).status_code == 307
    with requests.Session() as session:
        session.mount("https://", GuardedAdapter(Redirecting(target), guard, project="p"))
        with pytest.raises(KlingPricingError, match="to a URL that may accept jobs"):
            session.post(f"https://www.qingbo.dev{path}", json=CLIP)


@pytest.mark.parametrize("path", PASSING)
def test_a_request_that_passes_may_be_redirected_elsewhere(path: str, guard: BudgetGuard) -> None:
    """The hook leaves redirects alone that lead to no submission."""
    for target in ("https://example.com/v1/tasks", "/v1/chat/completions", "http://[::1"):
        assert Answering(guard, target).send("POST", path).headers["Location"] == target


def test_async_clients_are_kept_from_redirects_too(guard: BudgetGuard) -> None:
    """The async transport refuses what the other one refuses."""

    async def work() -> None:
        reply = httpx.MockTransport(lambda _: httpx.Response(307, headers={"Location": "/v1/tasks"}))
        transport = AsyncGuardedTransport(reply, guard, project="p", sends_once=True)
        async with httpx.AsyncClient(transport=transport, base_url="https://www.qingbo.dev") as client:
            with pytest.raises(KlingPricingError, match="to a URL that may accept jobs"):
                await client.post(PASSING[0], json=CLIP)
            with pytest.raises(KlingPricingError, match="more than 5 times"):
                await client.post("/v1/tasks", json=CLIP)

    asyncio.run(work())
    assert guard.status()[0].held == 0


@settings(max_examples=examples(60))
@given(
    location=st.one_of(
        st.text("htps:/[]@#?.\\%0aw-", max_size=30),
        st.text(st.characters(codec="latin-1", exclude_categories=["Cc"]), max_size=20),
        st.tuples(
            st.sampled_from(["https://", "//", "http:/", "\\\\", ""]), st.text("[]:@w./%", max_size=12)
        ).map("".join),
    )
)
def test_no_location_raises_out_of_the_client(location: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Whatever the header holds, the caller gets the answer or this library's refusal."""
    folder = tmp_path_factory.mktemp("ledger")
    with BudgetGuard(f"sqlite:///{folder}/spend.db", [ONE_JOB], book=BOOK) as guard:
        transport = Answering(guard, location)
        for path in ("/v1/tasks", "/v1/tasks/t-1/cancel"):
            try:
                assert transport.send("POST", path).status_code == 307
            except KlingPricingError as error:
                assert "not followed" in str(error)
        assert guard.status()[0].held == 0


@pytest.mark.parametrize(
    "url",
    [
        "https://[www.qingbo.dev/v1/tasks",
        "https://www.qingbo.dev]/v1/tasks",
        "https://www.qingbo.dev <x>/v1/tasks",
        "https://www.qingbo.dev;x/v1/tasks",
        "ttps://www.qingbo.dev/v1/tasks",
        "www.qingbo.dev/v1/tasks",
    ],
)
def test_an_unreadable_url_with_a_billing_host_is_refused(url: str) -> None:
    """A client may find the host in it; a request that creates nothing passes."""
    route = ROUTES.find("POST", url)
    assert isinstance(route, UnlistedPath)
    assert not route.is_clear
    assert "write the host and the path in their plain form" in str(route.error("POST"))
    assert ROUTES.find("GET", url) is None


@pytest.mark.parametrize(
    "url",
    [
        "https://www.qingbo.dev:443:443/v1/tasks",
        "https://www.qingbo.dev:44x/v1/tasks",
        "https://www.qingbo.dev:-1/v1/tasks",
        "https://www%2Eqingbo%2Edev:x/v1/tasks",
        "https://\uff37\uff37\uff37.qingbo.dev:x/v1/tasks",
    ],
)
def test_a_submission_at_an_unreadable_port_is_priced(url: str) -> None:
    """A client may send it to the host's usual port, so it is guarded like any other submission."""
    assert isinstance(ROUTES.find("POST", url), Endpoint)


@pytest.mark.parametrize("url", ["http://[::1/v1/tasks", "", "x", "https://a:b:c/v1/tasks", "unix:///v1/tasks"])
def test_an_unreadable_url_without_a_billing_host_passes(url: str) -> None:
    """It is the client that refuses it."""
    assert ROUTES.find("POST", url) is None


@given(
    before=st.text("htps:/[]@%x", max_size=6),
    after=st.text("[]:@%x;,", min_size=1, max_size=6),
    host=st.sampled_from(sorted(BOOK.hosts)),
)
def test_no_text_around_a_billing_host_lets_a_submission_pass(before: str, after: str, host: str) -> None:
    """Unless the URL plainly names another host, a POST is guarded or refused."""
    url = f"https://{before}{host}{after}/v1/tasks"
    if ROUTES.find("POST", url) is None:
        with suppress(httpx.InvalidURL):
            assert httpx.URL(url).host not in BOOK.hosts
