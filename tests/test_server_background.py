"""The work that a server does by itself: asking about tasks, delivering alerts, and expiring reservations."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest

from kling_pricing import Budget, BudgetGuard, Budgets, PriceBook
from kling_pricing.ledger import connect
from kling_pricing.server.leases import BackgroundStatus, WorkLease
from tests.alert_workers import SECRET, Inbox
from tests.api_servers import eventually
from tests.conftest import Clock, video
from tests.guards import CLIP, bound
from tests.providers import Provider, running
from tests.receivers import QuietHandler
from tests.receivers import serving as serving_handler
from tests.server_runs import RunningServer, background_place, serving, serving_process

PROVIDER = "qingbo"
KLING = "kling"
JOB = {"model_name": "kling-v3", "prompt": "a boat"}


@contextmanager
def asking(
    folder: Path, book: PriceBook, clock: Clock, name: str, **settings: Any
) -> Iterator[tuple[Provider, BudgetGuard, RunningServer]]:
    """Runs a provider and a server that has it as its only upstream, with a clock of the test."""
    ledger = f"sqlite:///{folder}/spend.db"
    with running(name) as provider:
        guard = BudgetGuard(ledger, [Budget(name="all", cap=100, currency="USD")], book=book, clock=clock)
        upstreams = {"studio": {"provider": name, "url": provider.url}}
        with serving(ledger, folder, upstreams, guard, lease_s=1, **settings) as server:
            yield provider, guard, server
        guard.verify()
        guard.close()


def polls(provider: Provider) -> list[str]:
    """Returns the paths at which a provider was asked, in order."""
    return [request.path for request in provider.received if request.method == "GET"]


def test_a_finished_task_is_settled_without_a_request(tmp_path: Path, book: PriceBook, clock: Clock) -> None:
    """The server asks about a task once it is old enough, and settles it at the provider's charge."""
    with asking(tmp_path, book, clock, PROVIDER) as (provider, guard, server), server.client() as caller:
        assert caller.post(f"{server.base('studio')}/v1/tasks", json=CLIP).status_code < 300
        (task,) = provider.tasks
        provider.finish(task)
        assert polls(provider) == []
        clock.pass_by(seconds=11)
        settled = eventually(lambda: [each for each in guard.history() if each.state == "settled"])
        assert (settled[0].task_id, settled[0].basis) == (task, "response")
        assert dict(provider.bill) == {settled[0].currency: settled[0].billed}


def test_the_older_a_job_is_the_less_often_it_is_asked_about(
    tmp_path: Path, book: PriceBook, clock: Clock
) -> None:
    """After an hour, the same task is asked about every six minutes and not every ten seconds."""
    with asking(tmp_path, book, clock, PROVIDER) as (provider, _, server), server.client() as caller:
        caller.post(f"{server.base('studio')}/v1/tasks", json=CLIP)
        clock.pass_by(hours=1)
        eventually(lambda: len(polls(provider)) == 1)
        clock.pass_by(minutes=5)
        clock.pass_by(minutes=2)
        eventually(lambda: len(polls(provider)) == 2)


def test_many_tasks_are_asked_about_with_few_lists(tmp_path: Path, book: PriceBook, clock: Clock) -> None:
    """Where the API lists tasks, twenty of them take as many questions as there are lists."""
    with asking(tmp_path, book, clock, KLING) as (provider, guard, server), server.client() as caller:
        for _ in range(20):
            caller.post(f"{server.base('studio')}/v1/videos/text2video", json=JOB)
        for task in provider.tasks:
            provider.finish(task)
        clock.pass_by(seconds=11)
        eventually(lambda: all(each.state == "settled" for each in guard.history()))
        asked = polls(provider)
        assert len(asked) < 20
        assert [path for path in asked if any(task in path for task in provider.tasks)] == []


def test_an_upstream_that_fails_is_left_alone_for_a_while(
    tmp_path: Path, book: PriceBook, clock: Clock
) -> None:
    """After an error, an upstream is not asked until its pause is over; then the job is settled."""
    asked: list[str] = []

    class Failing(QuietHandler):
        def do_GET(self) -> None:  # noqa: N802 (the library calls it)
            asked.append(self.path)
            body = json.dumps({"task_id": "task-1", "status": "completed", "cost": 357000}).encode()
            self.send_response(500 if len(asked) == 1 else 200)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

    ledger = f"sqlite:///{tmp_path}/spend.db"
    guard = BudgetGuard(ledger, [Budget(name="all", cap=100, currency="USD")], book=book, clock=clock)
    with serving_handler(Failing) as url:
        upstreams = {"studio": {"provider": PROVIDER, "url": url}}
        with serving(ledger, tmp_path, upstreams, guard) as server, server.client(None, role="view") as watcher:
            bound(guard)
            clock.pass_by(seconds=11)
            eventually(lambda: asked)
            scraped = eventually(lambda: failures(watcher.get(f"{server.url}/metrics").text))
            assert scraped == ['kling_pricing_upstream_errors_total{kind="other",upstream="studio"} 1.0']
            clock.pass_by(seconds=11)
            eventually(lambda: guard.history()[0].state == "settled")
            assert asked == ["/v1/tasks/task-1"] * 2
    guard.close()


def failures(metrics: str) -> list[str]:
    """Returns the lines of the metrics about errors of upstreams."""
    return [line for line in metrics.splitlines() if line.startswith("kling_pricing_upstream_errors_total{")]


def test_expired_reservations_are_released(tmp_path: Path, book: PriceBook, clock: Clock) -> None:
    """A reservation that nobody dispatches is released while nobody uses the ledger."""
    with asking(tmp_path, book, clock, PROVIDER) as (_, guard, _server):
        guard.admit(CLIP, project="trailer")
        clock.pass_by(minutes=16)
        eventually(lambda: guard.history()[0].state == "released")


def test_alerts_are_delivered(tmp_path: Path, book: PriceBook, monkeypatch: pytest.MonkeyPatch) -> None:
    """A server delivers the alerts of its ledger to the receivers in the budgets."""
    ledger = f"sqlite:///{tmp_path}/spend.db"
    with Inbox(lambda _: 200) as inbox:
        monkeypatch.setenv("ALERTS_URL", inbox.url)
        monkeypatch.setenv("ALERTS_URL_SECRET", SECRET)
        budget = Budget(name="all", cap=10, currency="USD", alerts=["0.05"])
        with BudgetGuard(ledger, Budgets([budget], notify=["env:ALERTS_URL"]), book=book) as guard:
            with serving(ledger, tmp_path, {}, lease_s=2):
                guard.admit(CLIP, project="trailer")
                (alert,) = eventually(lambda: list(inbox.accepted))
            assert (alert["type"], alert["data"]["budget"]) == ("budget.threshold", "all")


def test_one_process_has_the_lease_and_another_takes_over(ledger: str, book: PriceBook, clock: Clock) -> None:
    """A lease has one holder at a time; it passes on when it is ended, and when it is not renewed in time."""
    BudgetGuard(ledger, [Budget(name="all", cap=1, currency="USD")], book=book, clock=clock).close()
    store = connect(ledger, clock=clock)
    lasts = timedelta(minutes=1)
    statuses = [BackgroundStatus(lasts) for _ in range(3)]
    first, second, third = (WorkLease(store, status, lasts) for status in statuses)
    assert [first.is_held(), second.is_held(), first.is_held()] == [True, False, True]
    assert [status.holder and status.holder.is_this for status in statuses] == [True, False, None]
    first.end()
    assert [second.is_held(), third.is_held()] == [True, False]
    clock.pass_by(seconds=61)
    assert third.is_held()
    store.close()


def test_a_killed_process_is_replaced_within_its_lease(tmp_path: Path, book: PriceBook) -> None:
    """If the process that asks about tasks is killed, another one settles the job, once."""
    ledger = f"sqlite:///{tmp_path}/spend.db"
    BudgetGuard(ledger, [Budget(name="all", cap=10, currency="USD")], book=book).close()
    with (
        running(PROVIDER) as provider,
        serving_process(ledger, tmp_path, PROVIDER, provider.url) as first,
        serving_process(ledger, tmp_path, PROVIDER, provider.url) as second,
    ):
        servers = {server.url: process for server, process in (first, second)}
        eventually(lambda: sorted(map(background_place, servers)) == ["elsewhere", "here"])
        holder, other = sorted(servers, key=background_place, reverse=True)
        with BudgetGuard(ledger, book=book) as guard:
            admission, payload = guard.admit_and_dispatch(video(duration=5), project="trailer")
            answer = httpx.post(f"{provider.url}/v1/tasks", json=payload)
            guard.observe(answer.content, provider=PROVIDER, reservation=admission)
            servers[holder].kill()
            provider.finish(provider.tasks[0])
            eventually(lambda: guard.reservation(admission).state == "settled")
            assert background_place(other) == "here"
            kinds = [
                entry.kind for entry in guard.journal() if entry.reservation_id == admission.reservation_id
            ]
            assert kinds.count("settle") == 1
            guard.verify()
