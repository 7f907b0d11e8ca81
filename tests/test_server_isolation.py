"""Every path of every API with a foreign key, and no secret anywhere: what the proxy lets nobody see."""

import json
import logging
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from kling_pricing import Budget, BudgetGuard, PriceBook
from kling_pricing.server.proxy.isolation import Isolation
from kling_pricing.wire.paths import literal_segments
from tests.conftest import bundled_book
from tests.guards import CLIP
from tests.providers import running
from tests.receivers import QuietHandler
from tests.receivers import serving as http_server
from tests.server_runs import CREDENTIAL, RunningServer, serving

FOREIGN = "task-of-another-project"
PROVIDERS = sorted(name for name in bundled_book().tables if bundled_book().api_formats(name))


class _Leaking(QuietHandler):
    """An API that tells everything to whoever asks: each response names a task of another project."""

    seen: list[str]

    def _answer(self) -> None:
        body = json.dumps(
            {"data": [{"id": FOREIGN, "task_id": FOREIGN, "status": "queued"}], "count": 7}
        ).encode()
        self.seen.append(f"{self.command} {self.path}")
        self.read_body()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = _answer  # noqa: N815 (names of the library)


@pytest.fixture(scope="module")
def leaking(
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[tuple[RunningServer, dict[str, dict[str, str]]]]:
    """A server with one upstream for each provider, all of which tell everything, and a key of each role."""
    folder = tmp_path_factory.mktemp("leaking")
    ledger = f"sqlite:///{folder}/spend.db"
    guard = BudgetGuard(ledger, [Budget(name="all", cap=50, currency="USD")], book=bundled_book())
    _Leaking.seen = []
    with http_server(_Leaking) as url:
        upstreams = {name: {"provider": name, "url": url} for name in PROVIDERS}
        with serving(ledger, folder, upstreams, guard) as server:
            yield server, {role: server.key("teaser", role=role) for role in ("view", "submit", "manage")}
    guard.close()


def paths(provider: str) -> Iterator[tuple[str, str]]:
    """Yields the method and the path of everything that an API offers, with a task of another project in it."""
    book = bundled_book()
    for name in book.api_formats(provider):
        rules = book.matrices[name].http
        for entry in book.matrices[name].submissions:
            yield "GET", entry.path
            for path in (entry.status, *entry.other_status):
                if path is not None:
                    named = path.replace("{task_id}", FOREIGN)
                    yield from (("GET", named), ("HEAD", named), ("DELETE", named))
                    if "?" not in path:
                        yield from (("GET", f"{named}/content"), ("PUT", named), ("PATCH", named))
            if entry.cancel is not None:
                yield "POST", entry.cancel.replace("{task_id}", FOREIGN)
        for path in rules.task_lists:
            yield from (("GET", path), ("POST", path), ("GET", f"{path}?task_ids={FOREIGN}"))
        for pattern in (*rules.account, *rules.other_services):
            yield from (("GET", pattern.text.replace("*", "x")), ("POST", pattern.text.replace("*", "x")))
    yield from (("GET", "/"), ("GET", "/anything"), ("GET", "/v1/dashboard/billing/usage"), ("DELETE", "/v1/x"))


@pytest.mark.parametrize("provider", PROVIDERS)
def test_no_path_tells_a_project_about_another(
    provider: str, leaking: tuple[RunningServer, dict[str, dict[str, str]]]
) -> None:
    """With each role, no response names the foreign task, and nothing that names it is sent."""
    server, keys = leaking
    tried = dict.fromkeys(paths(provider))
    assert len(tried) > 10
    with httpx.Client() as client:
        for role, key in keys.items():
            _Leaking.seen.clear()
            for method, path in tried:
                reply = client.request(method, server.base(provider) + path, headers=key)
                refused = reply.headers.get("x-kling-pricing-refused") or reply.status_code in {404, 405}
                leaks = FOREIGN in reply.text and not refused
                assert not leaks, f"{role}: {method} {path}: {reply.status_code} {reply.text}"
                if reply.status_code == 200:
                    assert reply.json() == {"data": [], "count": 0}, f"{role}: {method} {path}"
            assert not [line for line in _Leaking.seen if FOREIGN in line and "?" not in line]


def test_the_most_literal_path_names_the_task(book: PriceBook) -> None:
    """A path that several patterns match names the task of the most literal one, and a repeated one both."""
    isolation = Isolation(book, "kling", "kling", [])
    for path, expected in (
        ("/v1/videos/text2video/a", {"a"}),
        ("/v1/videos/text2video", set()),
        ("/x/v1/videos/omni-video/a/y", {"a"}),
        ("/v1/videos/text2video/a/v1/videos/text2video/b", {"a", "b"}),
    ):
        assert isolation.tasks_in(literal_segments(path)).ids == expected, path


def test_no_secret_is_written_anywhere(
    tmp_path: Path, book: PriceBook, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither logs at DEBUG nor the ledger nor a response has the credential or an access key."""
    caplog.set_level(logging.DEBUG)
    ledger = f"sqlite:///{tmp_path}/spend.db"
    guard = BudgetGuard(ledger, [Budget(name="all", cap=50, currency="USD")], book=book)
    texts = []
    with running("qingbo", api_key=CREDENTIAL) as provider:
        upstreams = {
            "studio": {"provider": "qingbo", "url": provider.url},
            "gone": {"provider": "qingbo", "url": "http://127.0.0.1:1"},
        }
        with serving(ledger, tmp_path, upstreams, guard) as server:
            key = server.key()
            provider.fail_next([], "500", "lost-answer", "401")
            for upstream, path, headers in (
                *[("studio", "/v1/tasks", key)] * 4,
                ("gone", "/v1/tasks", key),
                ("studio", "/v1/nothing", key),
                ("studio", "/v1/tasks", {"Authorization": key["Authorization"] + "x"}),
            ):
                reply = httpx.post(server.base(upstream) + path, json=CLIP, headers=headers)
                texts.append(reply.text + str(reply.headers))
    guard.verify()
    guard.close()
    secrets = (CREDENTIAL, key["Authorization"].removeprefix("Bearer "))
    own = [record for record in caplog.records if not record.name.startswith(("httpx", "httpcore"))]
    assert own
    texts += [record.getMessage() + str(record.__dict__) for record in own]
    texts += [path.read_bytes().decode("latin-1") for path in tmp_path.glob("spend.db*")]
    for secret in secrets:
        assert not [text for text in texts if secret in text]


def test_an_own_id_never_names_the_job_of_another_project(tmp_path: Path, book: PriceBook) -> None:
    """The id of a reservation is refused as an own id; a task that has it from elsewhere is not found by it."""
    ledger = f"sqlite:///{tmp_path}/spend.db"
    guard = BudgetGuard(ledger, [Budget(name="all", cap=50, currency="USD")], book=book)
    job = {"model_name": "kling-v3", "prompt": "a boat", "duration": "5", "mode": "std"}
    with running("kling", api_key=CREDENTIAL) as provider:
        upstreams = {"studio": {"provider": "kling", "url": provider.url}}
        with serving(ledger, tmp_path, upstreams, guard) as server:
            url = f"{server.base('studio')}/v1/videos/text2video"
            with server.client("trailer") as trailer, server.client("teaser") as teaser:
                first = trailer.post(url, json=job).headers["x-kling-pricing-reservation"]
                before = len(provider.received)
                refused = teaser.post(url, json=job | {"external_task_id": first})
                assert refused.status_code == 400
                assert "external_task_id is the id of a reservation" in refused.json()["message"]
                assert len(provider.received) == before
                own = teaser.post(url, json=job | {"external_task_id": "shot-1"}).json()["data"]["task_id"]
                sent = httpx.post(
                    f"{provider.url}/v1/videos/text2video",
                    json=job | {"external_task_id": first},
                    headers={"Authorization": f"Bearer {CREDENTIAL}"},
                )
                assert sent.status_code == 200
                assert trailer.get(f"{url}/{first}").status_code == 404
                assert trailer.get(f"{url}/{own}").status_code == 404
                assert teaser.get(f"{url}/{own}").json()["data"]["task_id"] == own
    guard.verify()
    guard.close()
