"""Callbacks to the server: signed ones count, unsigned ones only make the server ask the provider."""

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from kling_pricing import Budget, BudgetGuard, PriceBook, Reservation
from tests.guards import CLIP
from tests.providers import Provider, running
from tests.server_runs import RunningServer, serving

WEBHOOK_KEY = "whsec_dGVzdHNlY3JldHRlc3RzZWNyZXR0ZXN0c2VjcmV0MTI="
TEXT2VIDEO = {"model_name": "kling-v3", "prompt": "a boat", "duration": "5", "mode": "std"}


class Studio:
    """A provider, and a server whose guard a test may ask."""

    def __init__(self, provider: Provider, server: RunningServer, guard: BudgetGuard) -> None:
        self.provider, self.server, self.guard = provider, server, guard

    @property
    def callbacks(self) -> str:
        """The URL for callbacks."""
        return f"{self.server.url}/callbacks/studio"

    def submit(self, path: str, payload: dict[str, Any]) -> Reservation:
        """Submits a job, and returns its reservation."""
        with self.server.client() as client:
            reply = client.post(self.server.base("studio") + path, json=payload)
        return self.guard.reservation(reply.headers["x-kling-pricing-reservation"])

    def questions(self) -> int:
        """The number of questions that the provider has got."""
        return sum(request.method == "GET" for request in self.provider.received)

    def settled(self, reservation: Reservation) -> Reservation:
        """Waits until a reservation is settled, and returns it."""
        for _ in range(1000):
            current = self.guard.reservation(reservation)
            if current.state == "settled":
                return current
            threading.Event().wait(0.01)
        raise AssertionError(current)


def running_studio(
    folder: Path, book: PriceBook, name: str, account: dict[str, Any], **settings: Any
) -> Iterator[Studio]:
    """Runs a provider and a server with one upstream."""
    ledger = f"sqlite:///{folder}/spend.db"
    with running(name, **account) as provider:
        guard = BudgetGuard(ledger, [Budget(name="all", cap=50, currency="USD")], book=book)
        upstream = {"provider": name, "url": provider.url, **settings}
        with serving(ledger, folder, {"studio": upstream}, guard) as server:
            yield Studio(provider, server, guard)
            guard.verify()
        guard.close()


@pytest.fixture
def signing(tmp_path: Path, book: PriceBook) -> Iterator[Studio]:
    """A provider that signs its callbacks."""
    (tmp_path / "webhook").write_text(WEBHOOK_KEY)
    account = {"webhook_secret": WEBHOOK_KEY}
    yield from running_studio(tmp_path, book, "kling", account, webhook_secret=f"file:{tmp_path}/webhook")


@pytest.fixture
def unsigned(tmp_path: Path, book: PriceBook) -> Iterator[Studio]:
    """A provider that does not sign its callbacks."""
    yield from running_studio(tmp_path, book, "qingbo", {})


def test_a_signed_callback_settles_its_job_once(signing: Studio) -> None:
    """The callback settles the job without a question; the second delivery of it changes nothing."""
    job = signing.submit("/v1/videos/text2video", TEXT2VIDEO)
    assert job.task_id is not None
    signing.provider.finish(job.task_id)
    before = signing.questions()
    statuses = signing.provider.call_back(job.task_id, signing.callbacks, times=2)
    assert set(statuses) <= {200, 204}
    assert signing.guard.reservation(job).state == "settled"
    assert signing.questions() == before
    assert [entry.kind for entry in signing.guard.journal() if entry.kind == "settle"] == ["settle"]


def test_a_callback_with_a_wrong_signature_counts_for_nothing(signing: Studio) -> None:
    """A forged callback about a failed task is 401, and the money stays held."""
    job = signing.submit("/v1/videos/text2video", TEXT2VIDEO)
    body = json.dumps({"task_id": job.task_id, "task_status": "failed"})
    headers = {"webhook-id": "1", "webhook-timestamp": "1781080794", "webhook-signature": "v1,AAAA"}
    for given in ({}, headers):
        assert httpx.post(signing.callbacks, content=body, headers=given).status_code == 401
    assert signing.guard.reservation(job) == job
    assert httpx.get(signing.callbacks).status_code == 405
    assert httpx.post(f"{signing.server.url}/callbacks/other", content=body).status_code == 404


def test_an_unsigned_callback_is_a_reason_to_ask(unsigned: Studio) -> None:
    """What it says does not count; the provider's own answer does."""
    job = unsigned.submit("/v1/tasks", CLIP)
    before = unsigned.questions()
    forged = {"task_id": job.task_id, "status": "failed", "cost": 0}
    assert httpx.post(unsigned.callbacks, json=forged).status_code == 204
    for _ in range(1000):
        if unsigned.questions() > before:
            break
        threading.Event().wait(0.01)
    assert unsigned.guard.reservation(job).state == "bound"
    other = unsigned.submit("/v1/tasks", CLIP)
    assert other.task_id is not None
    unsigned.provider.finish(other.task_id)
    assert unsigned.provider.call_back(other.task_id, unsigned.callbacks) == [204]
    assert unsigned.settled(other).basis == "response"


def test_callbacks_cannot_make_the_server_ask_often(unsigned: Studio) -> None:
    """Many callbacks about one task cause one question; those about unknown or settled tasks cause none."""
    job = unsigned.submit("/v1/tasks", CLIP)
    assert job.task_id is not None
    unsigned.provider.finish(job.task_id)
    before = unsigned.questions()
    for number in range(20):
        hint = {"task_id": job.task_id if number % 2 else f"task_{number}", "status": "completed"}
        assert httpx.post(unsigned.callbacks, json=hint).status_code == 204
    unsigned.settled(job)
    for body in (
        b"",
        b"[]",
        b"{",
        b'{"data": [[]]}',
        b'{"task_id": 5}',
        json.dumps({"data": [{}] * 50}).encode(),
    ):
        assert httpx.post(unsigned.callbacks, content=body).status_code == 204
    assert unsigned.questions() == before + 1
