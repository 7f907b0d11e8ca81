"""Callbacks that the server sends on: sealed URLs, what reaches a caller, and what a relay never reaches."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import pytest
from standardwebhooks import Webhook

from kling_pricing import Budget, BudgetGuard, PriceBook
from kling_pricing.errors import KlingPricingError, SettingsError
from kling_pricing.server.callback_relay import is_public
from kling_pricing.server.sealed_callbacks import CallbackSeal
from kling_pricing.server.secret_places import Secret
from kling_pricing.server.server_settings import load_settings
from tests.api_servers import eventually
from tests.guards import CLIP
from tests.providers import Provider, running
from tests.receivers import QuietHandler, Received, receiving
from tests.receivers import serving as http_server
from tests.server_runs import RunningServer, serving

WEBHOOK_KEY = "whsec_dGVzdHNlY3JldHRlc3RzZWNyZXR0ZXN0c2VjcmV0MTI="
PUBLIC_URL = "https://guard.example.com"
KEY = "a key of at least thirty-two characters"
TEXT2VIDEO = {"model_name": "kling-v3", "prompt": "a boat", "duration": "5", "mode": "std"}
NEWER = {
    "prompt": "a boat",
    "settings": {"resolution": "720p"},
    "options": {"watermark_info": {"enabled": False}},
}


class Relaying(NamedTuple):
    """A provider, a server that relays its callbacks, and the guard of the server."""

    provider: Provider
    server: RunningServer
    guard: BudgetGuard

    def submit(self, path: str, payload: dict[str, Any]) -> tuple[str, str]:
        """Submits a job; returns the id of its task, and its URL for callbacks as the provider got it."""
        with self.server.client() as client:
            reply = client.post(self.server.base("studio") + path, json=payload)
        assert reply.status_code == 200, reply.text
        task = self.guard.reservation(reply.headers["x-kling-pricing-reservation"]).task_id
        sent = json.loads(self.provider.received[-1].body)
        assert task is not None
        return task, sent.get("callback_url") or sent["options"]["callback_url"]

    def call_back(self, task: str, sealed: str, *, times: int = 1) -> list[int]:
        """Makes the provider call a sealed URL at the address of the server; returns the statuses."""
        url = self.here(sealed)

        def statuses() -> list[int]:
            return [sent["status"] for sent in self.provider.sandbox.callbacks() if sent["url"] == url]

        before = len(statuses())
        self.provider.call_back(task, url, times=times)
        eventually(lambda: len(statuses()) == before + times)
        return statuses()[before:]

    def here(self, sealed: str) -> str:
        """Returns a sealed URL at the address of the server of the test."""
        assert sealed.startswith(f"{PUBLIC_URL}/callbacks/studio/")
        return sealed.replace(PUBLIC_URL, self.server.url)


@contextmanager
def relaying(
    folder: Path,
    book: PriceBook,
    provider_name: str = "kling",
    *,
    networks: tuple[str, ...] = ("127.0.0.0/8", "::1/128"),
    signed: bool = True,
) -> Iterator[Relaying]:
    """Runs a provider and a server that relays its callbacks to this machine."""
    ledger = f"sqlite:///{folder}/spend.db"
    (folder / "webhook").write_text(WEBHOOK_KEY)
    (folder / "key").write_text(KEY)
    account: dict[str, Any] = {"webhook_secret": WEBHOOK_KEY} if signed else {}
    upstream: dict[str, Any] = {"provider": provider_name, "callbacks": "relay"}
    if signed:
        upstream["webhook_secret"] = f"file:{folder}/webhook"
    with running(provider_name, **account) as provider:
        guard = BudgetGuard(ledger, [Budget(name="all", cap=50, currency="USD")], book=book)
        with serving(
            ledger,
            folder,
            {"studio": {**upstream, "url": provider.url}},
            guard,
            public_url=PUBLIC_URL,
            callback_key=f"file:{folder}/key",
            callback_hosts=["127.0.0.1", "localhost", "*.studio.example"],
            callback_networks=[*networks],
            limits={"callback_timeout_s": 1, "callbacks_per_s": 20},
        ) as server:
            yield Relaying(provider, server, guard)
            guard.verify()
        guard.close()


@contextmanager
def caller(behave: Callable[[int], int] = lambda _: 200) -> Iterator[tuple[str, list[Received]]]:
    """Runs a caller's server, which answers its nth request with the status that `behave` returns."""
    received: list[Received] = []

    def handle(request: Received) -> int:
        received.append(request)
        return behave(len(received))

    with receiving(handle) as url:
        yield f"{url}?token=of-the-caller", received


def test_a_signed_callback_reaches_its_caller_unchanged_and_once(
    tmp_path: Path, book: PriceBook, caplog: pytest.LogCaptureFixture
) -> None:
    """The caller verifies the provider's own signature; the repetition of an id is not sent on again."""
    caplog.set_level(logging.DEBUG)
    with relaying(tmp_path, book) as scene, caller() as (url, received):
        task, sealed = scene.submit("/v1/videos/text2video", TEXT2VIDEO | {"callback_url": url})
        scene.provider.finish(task)
        statuses = scene.call_back(task, sealed, times=2)
        assert set(statuses) <= {200, 204}
        (request,) = received
        body = Webhook(WEBHOOK_KEY).verify(request.body, dict(request.headers))
        assert (body["task_id"], request.path) == (task, "/callback?token=of-the-caller")
        assert not {"x-forwarded-for", "cookie"} & {*request.headers}
        assert scene.guard.reservation(("kling", task)).state == "settled"
    own = [each for each in caplog.records if each.name.startswith("kling_pricing")]
    texts = [each.getMessage() + str(vars(each)) for each in own]
    texts += [path.read_bytes().decode("latin-1") for path in tmp_path.glob("spend.db*")]
    assert not [text for text in texts if "of-the-caller" in text or KEY in text]


@pytest.mark.parametrize(
    ("name", "path", "payload", "place"),
    [
        ("qingbo", "/v1/tasks", CLIP, ()),
        ("kling", "/v1/videos/text2video", TEXT2VIDEO, ()),
        ("kling", "/text-to-video/kling-3.0-turbo", NEWER, ("options",)),
    ],
)
def test_only_the_url_for_callbacks_is_replaced(
    name: str, path: str, payload: dict[str, Any], place: tuple[str, ...], tmp_path: Path, book: PriceBook
) -> None:
    """Every other field of the request arrives as it was sent, and the caller's URL is nowhere in it."""
    with relaying(tmp_path, book, name, signed=name == "kling") as scene, caller() as (url, received):
        given = dict(payload)
        if place:
            given["options"] = {**given["options"], "callback_url": url}
        else:
            given["callback_url"] = url
        task, sealed = scene.submit(path, given)
        sent = json.loads(scene.provider.received[-1].body)
        for part in place:
            sent, given = sent[part], given[part]
        assert sent == given | {"callback_url": sealed}
        assert "of-the-caller" not in scene.provider.received[-1].body.decode()
        scene.provider.finish(task)
        assert scene.call_back(task, sealed) == [204]
        assert task in received[0].body.decode()


def test_an_unsigned_callback_is_sent_on_but_not_believed(tmp_path: Path, book: PriceBook) -> None:
    """The caller gets it as it came; the ledger believes only the provider's answer to a question."""
    with relaying(tmp_path, book, "qingbo", signed=False) as scene, caller() as (url, received):
        task, sealed = scene.submit("/v1/tasks", CLIP | {"callback_url": url})
        body = json.dumps({"task_id": task, "status": "failed", "cost": 0}, indent=1).encode()
        assert httpx.post(scene.here(sealed), content=body).status_code == 204
        assert [each.body for each in received] == [body]
        assert scene.guard.reservation(("qingbo", task)).state == "bound"


def test_a_provider_is_asked_to_send_again_what_has_not_arrived(tmp_path: Path, book: PriceBook) -> None:
    """After an error of the caller's server the provider gets a 502, and its next attempt arrives, once."""
    with (
        relaying(tmp_path, book) as scene,
        caller(lambda number: 500 if number == 1 else 200) as (url, received),
    ):
        task, sealed = scene.submit("/v1/videos/text2video", TEXT2VIDEO | {"callback_url": url})
        statuses = scene.call_back(task, sealed, times=3)
        assert statuses == [502, 204, 204]
        assert len(received) == 2
        assert len({each.headers["webhook-id"] for each in received}) == 1


class _Moving(QuietHandler):
    """Redirects to another place, or is silent."""

    moved: list[str]

    def do_POST(self) -> None:  # noqa: N802 (the library looks for this name)
        self.read_body()
        self.moved.append(self.path)
        if self.path == "/silent":
            self.rfile.read(1)
            return
        self.send_response(307)
        self.send_header("Location", "/elsewhere")
        self.send_header("Content-Length", "0")
        self.end_headers()


def test_a_relay_follows_no_redirect_and_does_not_wait_long(tmp_path: Path, book: PriceBook) -> None:
    """A redirect and a receiver that does not answer are failures, after one request."""
    _Moving.moved = []
    with relaying(tmp_path, book) as scene, http_server(_Moving) as url:
        for path in ("/moving", "/silent"):
            task, sealed = scene.submit("/v1/videos/text2video", TEXT2VIDEO | {"callback_url": url + path})
            assert scene.call_back(task, sealed) == [502]
    assert _Moving.moved == ["/moving", "/silent"]


def test_an_address_that_is_not_public_is_never_connected(tmp_path: Path, book: PriceBook) -> None:
    """An allowed name that leads to this machine, and an allowed address, get no connection."""
    with relaying(tmp_path, book, networks=("10.9.0.0/16",)) as scene, caller() as (url, received):
        for name in ("localhost", "127.0.0.1"):
            there = url.replace("127.0.0.1", name)
            task, sealed = scene.submit("/v1/videos/text2video", TEXT2VIDEO | {"callback_url": there})
            assert scene.call_back(task, sealed) == [502]
        assert received == []


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        *[(address, True) for address in ("93.184.216.34", "2606:4700::1111", "::ffff:93.184.216.34")],
        *[(address, False) for address in ("127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1")],
        *[(address, False) for address in ("0.0.0.0", "240.0.0.1")],  # noqa: S104
        *[(address, False) for address in ("169.254.169.254", "100.64.0.1", "224.0.0.1", "255.255.255.255")],
        *[(address, False) for address in ("::1", "::", "fe80::1", "fd00:ec2::254", "fec0::1", "ff02::1")],
        *[(address, False) for address in ("::ffff:10.0.0.1", "64:ff9b::a9fe:a9fe", "2002:7f00:1::")],
        *[(address, False) for address in ("::a00:1", "::ffff:0:a00:1", "64:ff9b:1::a00:1", "5f00::1")],
    ],
)
def test_public_addresses_are_recognised(address: str, expected: bool) -> None:  # noqa: FBT001
    """Loopback, private, link-local, shared and multicast addresses are not public, also inside IPv6 ones."""
    assert is_public(ip_address(address)) is expected


@pytest.mark.parametrize(
    ("url", "problem"),
    [
        ("https://evil.example/x", "sends no callbacks to the host evil.example"),
        ("https://studio.example/x", "sends no callbacks to the host studio.example"),
        ("https://evilstudio.example/x", "sends no callbacks to the host"),
        ("https://127.0.0.1.evil.example/", "sends no callbacks to the host"),
        ("https://[2606:4700::1111%25.studio.example]/", "sends no callbacks to the host"),
        ("https://evil.example%2f.studio.example/", "sends no callbacks to the host"),
        ("https://.studio.example/", "sends no callbacks to the host"),
        ("https://localhost@evil.example/", "cannot be read"),
        ("https://a:b@localhost/", "cannot be read"),
        ("https://evil.example\\@localhost/", "cannot be read"),
        ("ftp://localhost/", "cannot be read"),
        ("//localhost/", "cannot be read"),
        ("https://localhost/a b", "cannot be read"),
        ("https://localhost/\u00e9", "cannot be read"),
        ("https://localhost:99999/", "cannot be read"),
        ("https://localhost/" + "x" * 1000, "has more than 1000 characters"),
    ],
)
def test_a_job_with_another_url_for_callbacks_is_refused(
    url: str, problem: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hosts that the settings do not list, and URLs that can be read in several ways, are refused."""
    monkeypatch.setenv("RELAY_KEY", KEY)
    seal = _seal(["localhost", "127.0.0.1", "*.studio.example"], "RELAY_KEY")
    seal.check("https://a.studio.example:8443/x?y=z")
    with pytest.raises(KlingPricingError, match=problem):
        seal.check(url)


def test_a_refused_url_reserves_nothing(tmp_path: Path, book: PriceBook) -> None:
    """The refusal comes in the provider's own shape, before any money is held or anything is sent."""
    with relaying(tmp_path, book) as scene, scene.server.client() as client:
        payload = TEXT2VIDEO | {"callback_url": "http://169.254.169.254/latest"}
        reply = client.post(f"{scene.server.base('studio')}/v1/videos/text2video", json=payload)
        assert reply.status_code == 400
        assert "callback_hosts" in reply.json()["message"]
        assert (scene.guard.history(), scene.provider.received) == ([], [])


def test_a_sealed_url_is_for_its_own_job(tmp_path: Path, book: PriceBook) -> None:
    """A changed URL, that of another upstream and a callback about another task are 404 and reach nobody."""
    with relaying(tmp_path, book, "qingbo", signed=False) as scene, caller() as (url, received):
        task, sealed = scene.submit("/v1/tasks", CLIP | {"callback_url": url})
        other, _ = scene.submit("/v1/tasks", CLIP | {"callback_url": url})
        here = scene.here(sealed)
        changed = here[:-9] + ("A" if here[-9] != "A" else "B") + here[-8:]
        for there, named in (
            (changed, task),
            (f"{here}/x", task),
            (f"{here[:60]}", task),
            (here, other),
            (here, "task_of_nobody"),
            (here, None),
        ):
            assert httpx.post(there, json={"task_id": named, "status": "completed"}).status_code == 404
        assert httpx.get(here).status_code == 405
        assert received == []


def test_callbacks_that_anybody_may_send_are_limited(tmp_path: Path, book: PriceBook) -> None:
    """Beyond the limit, unsealed callbacks get a 429 at once; those to a sealed URL still arrive."""
    with relaying(tmp_path, book, "qingbo", signed=False) as scene, caller() as (url, received):
        task, sealed = scene.submit("/v1/tasks", CLIP | {"callback_url": url})
        with httpx.Client() as client:
            unsealed = f"{scene.server.url}/callbacks/studio"
            replies = [client.post(unsealed, json={"task_id": "x"}) for _ in range(100)]
            limited = [reply for reply in replies if reply.status_code == 429]
            assert {reply.status_code for reply in replies} == {204, 429}
            assert limited[0].headers["retry-after"] == "1"
            assert client.post(scene.here(sealed), json={"task_id": task}).status_code == 204
        assert len(received) == 1


def test_keys_can_be_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    """Equal URLs are sealed equally; an old key opens what it sealed; another key and context open nothing."""
    for name in ("FIRST", "SECOND"):
        monkeypatch.setenv(name, f"{name}-{KEY}")
    first, both, second = (
        _seal(["a.example"], "FIRST"),
        _seal(["a.example"], "SECOND", "FIRST"),
        _seal([], "SECOND"),
    )
    url, reservation = "https://a.example/x?y=1", "0123456789abcdef" * 2
    sealed = first.sealed(url, reservation)
    assert sealed == first.sealed(url, reservation)
    assert sealed != first.sealed(url, reservation[::-1])
    assert "a.example" not in sealed
    token = sealed.rpartition("/")[2]
    assert first.opened(token) == both.opened(token) == (url, reservation)
    assert second.opened(both.sealed(url, reservation).rpartition("/")[2]) == (url, reservation)
    other = CallbackSeal("https://guard.example/callbacks/b", [], [Secret("env:FIRST", "callback_key")])
    assert (second.opened(token), other.opened(token)) == (None, None)
    for wrong in ("", "x", "\u00e9", "=" * 40, "A" * 5000, token + "A", token[:20]):
        assert first.opened(wrong) is None
    monkeypatch.setenv("SHORT", "short")
    with pytest.raises(SettingsError, match=r"callback_key: the key has fewer than 32 characters"):
        _seal([], "SHORT")


def _seal(hosts: list[str], *variables: str) -> CallbackSeal:
    keys = [Secret(f"env:{name}", "callback_key") for name in variables]
    return CallbackSeal("https://guard.example/callbacks/a", hosts, keys)


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({}, "the upstream a has `callbacks: relay`.*set public_url and callback_key and callback_hosts"),
        ({"public_url": "https://x.example", "callback_key": "env:K"}, "set callback_hosts"),
        ({"callback_hosts": ["Hooks.example"]}, "must be a host in lower case"),
        ({"callback_networks": ["10.0.0.1/8"]}, "must be an IP address, or a network such as"),
        ({"callback_key": "the key itself"}, "must be env:NAME or file:PATH"),
    ],
)
def test_a_relay_needs_all_of_its_settings(settings: dict[str, Any], problem: str) -> None:
    """The error names what is missing or wrong."""
    upstreams = {"a": {"url": "https://api.example", "callbacks": "relay"}}
    with pytest.raises(SettingsError, match=problem):
        load_settings(environment={}, overrides={"upstreams": upstreams, **settings})
