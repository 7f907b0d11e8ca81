"""A server that is killed in the middle of its work: another one goes on, and nothing is lost or doubled."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from kling_pricing import Budget, BudgetGuard, Budgets, PriceBook
from tests.alert_workers import SECRET, Inbox
from tests.api_servers import eventually
from tests.guards import CLIP, COST, bound
from tests.providers import running
from tests.receivers import QuietHandler
from tests.receivers import serving as http_server
from tests.server_runs import background_place, serving_process

BUDGETS = [Budget(name="all", cap=50, currency="USD")]
TEXT2VIDEO = {"model_name": "kling-v3", "prompt": "a boat", "duration": "5", "mode": "std"}


@contextmanager
def silence() -> Iterator[threading.Event]:
    """Yields an event for which a silent receiver waits; it is set at the end in any case."""
    is_over = threading.Event()
    try:
        yield is_over
    finally:
        is_over.set()


class _Slow(QuietHandler):
    """A provider whose first answer about a task never comes; every later one says that the task has ended."""

    asked: list[str]
    is_over: threading.Event

    def do_GET(self) -> None:  # noqa: N802 (the library looks for this name)
        self.asked.append(self.path)
        if len(self.asked) == 1:
            self.is_over.wait(60)
            self.close_connection = True
            return
        body = json.dumps({"task_id": "task-1", "status": "completed", "cost": 357000}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def test_a_question_that_is_never_answered_is_asked_by_another_process(
    ledger: str, tmp_path: Path, book: PriceBook
) -> None:
    """The process that waits for an answer is killed; the next one takes the lease and settles the job once."""
    _Slow.asked = []
    with (
        BudgetGuard(ledger, BUDGETS, book=book) as guard,
        http_server(_Slow) as url,
        silence() as _Slow.is_over,
    ):
        job = bound(guard)
        with serving_process(ledger, tmp_path, "qingbo", url) as (first, process):
            eventually(lambda: _Slow.asked)
            assert background_place(first.url) == "here"
            process.kill()
            with serving_process(ledger, tmp_path, "qingbo", url) as (second, _):
                eventually(lambda: guard.reservation(job).state == "settled")
                assert background_place(second.url) == "here"
        assert [entry.kind for entry in guard.journal()].count("settle") == 1
        assert guard.status()[0].spent == guard.reservation(job).billed
        guard.verify()


def _never(is_over: threading.Event) -> None:
    """Ends a connection without a response, when the test is over."""
    is_over.wait(60)


def test_an_alert_that_was_being_delivered_arrives_from_another_process(
    ledger: str, tmp_path: Path, book: PriceBook, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The deliverer is killed before the receiver answers; the receiver accepts the alert once in the end."""
    with silence() as is_over, Inbox(lambda number: 200 if number > 1 else _never(is_over)) as inbox:
        monkeypatch.setenv("ALERTS_URL", inbox.url)
        monkeypatch.setenv("ALERTS_URL_SECRET", SECRET)
        budget = Budget(name="all", cap=10, currency="USD", alerts=["0.05"])
        with BudgetGuard(ledger, Budgets([budget], notify=["env:ALERTS_URL"]), book=book) as guard:
            guard.admit(CLIP, project="trailer")
            with serving_process(ledger, tmp_path, "qingbo", "http://127.0.0.1:1") as (_, process):
                eventually(lambda: inbox.requests == 1)
                process.kill()
                with serving_process(ledger, tmp_path, "qingbo", "http://127.0.0.1:1"):
                    (alert,) = eventually(lambda: list(inbox.accepted))
            assert (alert["type"], alert["data"]["budget"]) == ("budget.threshold", "all")
            assert [entry.kind for entry in guard.journal()].count("alert") == 1
            guard.verify()
        assert len(inbox.accepted) == 1


@pytest.mark.parametrize(
    ("provider_name", "path", "payload", "further"),
    [
        ("qingbo", "/v1/tasks", CLIP, {"keeps_keys": True}),
        ("kling", "/v1/videos/text2video", TEXT2VIDEO, {"send_reservation_id": True}),
    ],
)
def test_a_submission_on_its_way_becomes_one_job(
    provider_name: str,
    path: str,
    payload: dict[str, Any],
    further: dict[str, Any],
    ledger: str,
    tmp_path: Path,
    book: PriceBook,
) -> None:
    """The server is killed while the provider has the job: its money stays held, and the job is found again.

    Where the API honours keys, the caller sends its job again and gets the same task. Where it does not, the
    caller gets 409, and the next process finds the task by the reservation's id.
    """
    settings = {f"upstreams__studio__{name}": value for name, value in further.items()}
    key = {"Idempotency-Key": "shot-042"}
    with running(provider_name) as provider, BudgetGuard(ledger, BUDGETS, book=book) as guard:
        provider.fail_next("timeout")
        arguments = (ledger, tmp_path, provider_name, provider.url)
        with serving_process(*arguments, **settings) as (first, process), ThreadPoolExecutor() as pool:
            headers = first.key() | key
            url = first.base("studio") + path
            sent = pool.submit(httpx.post, url, json=payload, headers=headers, timeout=60)
            (task,) = provider.wait_for_tasks()
            process.kill()
            assert isinstance(sent.exception(), httpx.TransportError)
        (job,) = guard.history()
        assert (job.state, job.task_id, guard.status()[0].held) == ("dispatching", None, job.expected)
        with serving_process(*arguments, **settings) as (second, _):
            again = httpx.post(second.base("studio") + path, json=payload, headers=headers, timeout=60)
            if provider_name == "qingbo":
                assert (again.status_code, again.json()["task_id"]) == (200, task)
                assert job.expected == COST
            else:
                assert again.status_code == 409
                guard.mark_in_doubt(job, "the server was killed")  # as its deadline does, some minutes later
            provider.finish(task)
            settled = eventually(lambda: [each for each in guard.history() if each.state == "settled"])
        assert [(each.id, each.task_id) for each in settled] == [(job.id, task)]
        assert provider.tasks == [task]
        assert [entry.kind for entry in guard.journal()].count("settle") == 1
        guard.verify()
