"""Requests in odd spellings: a hook decides by the place to which a client or a server would take them."""

import asyncio
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from io import BytesIO
from types import MappingProxyType
from typing import Any, NamedTuple

import aiohttp
import httpx
import pytest
import requests
import yarl
from hypothesis import given, settings
from hypothesis import strategies as st
from requests.adapters import HTTPAdapter
from urllib3.util import parse_url

from kling_pricing import Budget, BudgetGuard, KlingPricingError, PriceBook
from kling_pricing.hooks.aiohttp import GuardMiddleware
from kling_pricing.hooks.http_messages import TaskEndpoint
from kling_pricing.hooks.httpx import GuardedTransport
from kling_pricing.hooks.requests import GuardedAdapter
from kling_pricing.hooks.route import McpEndpoint, UnlistedPath, UnpricedPath
from kling_pricing.wire.endpoints import Endpoint
from kling_pricing.wire.paths import PathPattern
from tests.conftest import Clock, examples
from tests.test_hooks_routes import BOOK, FREE, HOSTS, ROUTES, SERVICES, decoded

# URLs as clients send them


class Sent(NamedTuple):
    """The place to which a client sends a request.

    Attributes:
        host: the host to which it connects.
        path: the path in the request.
        url: the URL that the hook sees.
    """

    host: str
    path: str
    url: str


def sent_by_clients(url: str) -> Iterator[Sent]:
    """Yields the place to which each client sends a request to a URL, unless it refuses the URL."""
    with suppress(Exception):
        request = httpx.Request("POST", url)
        if request.url.scheme in {"http", "https"}:
            yield Sent(request.url.raw_host.decode(), request.url.raw_path.decode("latin-1"), str(request.url))
    with suppress(Exception):
        prepared = requests.Request("POST", url).prepare()
        url_sent = str(prepared.url)
        yield Sent(str(parse_url(url_sent).host), prepared.path_url, url_sent)
    for encoded in (False, True):
        with suppress(Exception):
            spelled = yarl.URL(url, encoded=encoded)
            if spelled.scheme in {"http", "https", "ws", "wss", ""} and spelled.raw_host:
                yield Sent(spelled.raw_host, spelled.raw_path_qs, str(spelled))


def resolved(host: str) -> str:
    """Returns a host as a resolver looks it up."""
    with suppress(UnicodeError):
        host = host.encode("idna").decode()
    return host.lower().rstrip(".")


LETTERS: dict[str, list[str]] = {
    "s": ["\u017f"],
    "k": ["\u212a"],
    "i": ["\uff49", "\u2170", "\u0131"],
    ".": ["\u3002", "\uff0e", "\uff61"],
}
"""Characters that a client may read as another one, by that character."""

SLASHES = [
    *("//", "/./", "/../", "\\", "%2f", "%5c", "/%2e/", "/x/..;/", "/;a/", "/\t", "/%09", "\uff0f", "/%c0%af"),
    *("/x/%2e%2e/", "%252f", "/..%2f", "/.%2e/", "/x/.. /", "/ /"),
]
DROPPED = ["\u00ad", "\u200b", "\u2060", "\t", "\n", "\r", "\ufe0f", " "]


@st.composite
def spelled_urls(draw: Any) -> str:
    """Draws a URL on a billing host in a spelling that some client or server may accept."""

    def spelled(char: str, ways: list[str]) -> str:
        usual = [char] * 12
        return str(draw(st.sampled_from([*usual, char.upper(), f"%{ord(char):02x}", *ways])))

    host = draw(st.sampled_from(HOSTS))
    path = draw(st.sampled_from([*sorted(BOOK.paths), "/v1/mcp", "/v9/x", "/v1/tasks/7/cancel", "/v1/chat/x"]))
    wide = {char: chr(ord(char) + 0xFEE0) for char in host + path}
    name = "".join(
        spelled(char, [wide[char], char + draw(st.sampled_from(DROPPED)), *LETTERS.get(char, [])])
        for char in host
    )
    place = "".join(
        spelled(char, SLASHES if char == "/" else [wide[char], f"%25{ord(char):02x}", f"{char}%00"])
        for char in path
    )
    schemes = ["https://", "http://", "HTTPS://", "https:/", "https:\\\\", " https://", "ht\ttps://", "https:"]
    scheme = draw(st.sampled_from([*schemes, "https:////", "wss://", "ws://", "//"]))
    user = draw(st.sampled_from(["", "", "u@", "u:p@", "a@b@", "u%40@", ":@", "example.com\\@", "x:80@"]))
    dot = draw(st.sampled_from(["", "", ".", "..", "%2e", "\u3002", " "]))
    port = draw(
        st.sampled_from(["", ":443", ":0443", ":8443", ":", ":\u0664\u0664\u0663", ":443 ", ":+443", ":4_43"])
    )
    end = draw(
        st.sampled_from(["", "/", "//", "?x=/v1/chat", "#x", ";a", "%3f", "%20", "/..", ".", "/%2e%2e/x"])
    )
    return f"{scheme}{user}{name}{dot}{port}{place}{end}"


@settings(max_examples=examples(1000))
@given(spelled_urls(), st.sampled_from(["POST", "PUT", "PATCH"]))
def test_whatever_reaches_a_billing_host_is_priced_listed_or_refused(url: str, method: str) -> None:
    """The host is the one to which the client connects, and the path is the one that it sends."""
    for sent in sent_by_clients(url):
        if resolved(sent.host) not in BOOK.hosts:
            continue
        route = ROUTES.find(method, sent.url)
        plain = decoded(re.split("[?#]", sent.path)[0])
        if route is None:
            assert plain in FREE
        elif isinstance(route, UnpricedPath):
            assert route.path in SERVICES
            assert PathPattern.of(route.path).matches(tuple(plain.strip("/").split("/")))
        elif isinstance(route, TaskEndpoint):
            assert plain.endswith("/cancel") or plain in FREE
        elif isinstance(route, Endpoint):
            assert method == "POST"
        elif isinstance(route, McpEndpoint):
            assert plain == "/v1/mcp"
        else:
            assert isinstance(route, UnlistedPath)


@pytest.mark.parametrize(
    "url",
    [
        "ws://api.qingbo.ai/v9/x",
        "WSS://api.qingbo.ai/v9/x",
        "//api.qingbo.ai:443/v9/x",
        "http://api.qingbo.ai:+443/v9/x",
        "http://api.qingbo.ai:443 /v9/x",
        "http://api.qingbo.ai:\u0664\u0664\u0663/v9/x",
        "http://api.qingbo.ai:port/v9/x",
    ],
)
def test_odd_schemes_and_ports_do_not_hide_a_host(url: str) -> None:
    """Aiohttp sends a POST to each of them."""
    assert isinstance(ROUTES.find("POST", url), UnlistedPath)


# requests whose headers or target name another place


@pytest.fixture
def guard(tmp_path: Any, book: PriceBook, clock: Clock) -> Iterator[BudgetGuard]:
    """A guard with a budget."""
    budgets = [Budget(name="all", cap=10, currency="USD")]
    with BudgetGuard(f"sqlite:///{tmp_path}/spend.db", budgets, book=book, clock=clock) as opened:
        yield opened


class Request(NamedTuple):
    """A request, and the part of it that another place or method is named in."""

    method: str
    url: str
    headers: Mapping[str, str] = MappingProxyType({})
    target: bytes | None = None
    problem: str = "the Host header"


HOST = {"Host": "api.qingbo.ai"}
CONTRADICTIONS = [
    Request("POST", "http://10.0.0.7/v1/tasks", HOST),
    Request("POST", "http://10.0.0.7/v9/x", {"host": "API.QingBo.ai.:443"}),
    Request("PUT", "https://example.com/v1/tasks", {"Host": "www.qingbo.dev:443"}),
    Request("POST", "https://api.qingbo.ai/v1/chat/completions", {"Host": "api.klingai.com"}),
    Request("GET", "https://api.qingbo.ai/v1/x", {"X-HTTP-Method-Override": "post"}, None, "the header X-HTTP"),
    Request(
        "DELETE", "https://api.qingbo.ai/v1/tasks", {"X-Method-Override": "POST"}, None, "the header X-Method"
    ),
]
TARGETS = [
    Request("POST", "https://api.qingbo.ai/v1/chat/x", {}, b"/v1/tasks", "the request target"),
    Request("POST", "https://example.com/", {}, b"https://api.qingbo.ai/v1/tasks", "the request target"),
    Request("POST", "https://example.com/", HOST, b"/v1/tasks", "the Host header"),
]


def by_httpx(guard: BudgetGuard, request: Request) -> int:
    """Sends a request with httpx."""
    inner = httpx.MockTransport(lambda _: httpx.Response(204))
    with httpx.Client(transport=GuardedTransport(inner, guard, project="p")) as client:
        extensions = {} if request.target is None else {"target": request.target}
        built = client.build_request(
            request.method, request.url, headers=request.headers, json={}, extensions=extensions
        )
        return client.send(built).status_code


def by_requests(guard: BudgetGuard, request: Request) -> int:
    """Sends a request with requests; an adapter that refuses to connect stands for the network."""
    session = requests.Session()
    session.trust_env = False
    for scheme in ("https://", "http://"):
        session.mount(scheme, GuardedAdapter(_Nowhere(), guard, project="p"))
    headers = {name: value.encode() for name, value in request.headers.items()}
    return session.request(request.method, request.url, headers=headers, json={}).status_code


class _Nowhere(HTTPAdapter):
    def send(self, request: requests.PreparedRequest, *_args: Any, **_kwargs: Any) -> requests.Response:
        """Answers every request itself."""
        response = requests.Response()
        response.raw = BytesIO()
        response.status_code, response.request = 204, request
        return response


def by_aiohttp(guard: BudgetGuard, request: Request) -> int:
    """Sends a request with aiohttp; a second middleware stands for the network."""

    async def nowhere(_request: aiohttp.ClientRequest, _handler: Any) -> aiohttp.ClientResponse:
        raise aiohttp.ClientPayloadError("it passed")

    async def run() -> int:
        middlewares = (GuardMiddleware(guard, project="p"), nowhere)
        async with aiohttp.ClientSession(middlewares=middlewares) as session:
            try:
                await session.request(request.method, request.url, headers=request.headers, json={})
            except aiohttp.ClientPayloadError:
                return 204
        raise AssertionError("no request ends without an error")

    return asyncio.run(run())


CLIENTS = [by_httpx, by_requests, by_aiohttp]


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("request_sent", CONTRADICTIONS)
def test_a_header_that_contradicts_the_url_is_refused(
    guard: BudgetGuard, client: Callable[[BudgetGuard, Request], int], request_sent: Request
) -> None:
    """A proxy or a server may go by the header, and then the request would be billed."""
    with pytest.raises(KlingPricingError, match=f"{request_sent.problem}.* contradicts the URL"):
        client(guard, request_sent)
    assert guard.history() == []


@pytest.mark.parametrize("request_sent", TARGETS)
def test_a_target_that_contradicts_the_url_is_refused(guard: BudgetGuard, request_sent: Request) -> None:
    """Httpx lets the caller replace the target of a request, in any form."""
    with pytest.raises(KlingPricingError, match=f"{request_sent.problem}.* contradicts the URL"):
        by_httpx(guard, request_sent)


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize(
    "request_sent",
    [
        Request("POST", "https://example.com/v1/tasks", {"Host": "example.org"}),
        Request("POST", "https://api.qingbo.ai:443/v1/chat/completions", HOST),
        Request("GET", "http://10.0.0.7/v1/tasks/7", HOST),
        Request("POST", "https://api.qingbo.ai/v1/chat/completions", {"X-HTTP-Method-Override": "GET"}),
    ],
)
def test_a_header_that_changes_nothing_passes(
    guard: BudgetGuard, client: Callable[[BudgetGuard, Request], int], request_sent: Request
) -> None:
    """The same host in another spelling, another host without a bill, and a request that creates nothing."""
    assert client(guard, request_sent) == 204
