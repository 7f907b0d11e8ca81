"""The server as monitoring sees it: metrics, readiness, logs, and spans. None of them has a secret."""

from __future__ import annotations

import json
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from kling_pricing import Budget, BudgetGuard, PriceBook
from kling_pricing.errors import LedgerUnavailableError
from kling_pricing.server.readiness import LedgerReadiness
from tests.api_servers import eventually
from tests.commands import COMMAND
from tests.conftest import Clock
from tests.guards import CLIP, sent
from tests.providers import Provider, closed_port, running
from tests.server_runs import CREDENTIAL, RunningServer, serving

PROVIDER = "qingbo"


@pytest.fixture
def scene(
    tmp_path: Path, book: PriceBook, clock: Clock
) -> Iterator[tuple[Provider, BudgetGuard, RunningServer]]:
    """Yields a provider, a guard with two budgets, and a server with a working and a broken upstream."""
    ledger = f"sqlite:///{tmp_path}/spend.db"
    budgets = [
        Budget(name="trailer", match={"project": "trailer"}, cap=2, currency="USD"),
        Budget(name="each-user", match={"user": "*"}, cap=5, currency="USD"),
    ]
    with running(PROVIDER) as provider, closed_port() as nowhere:
        guard = BudgetGuard(ledger, budgets, book=book, clock=clock)
        upstreams = {
            "studio": {"provider": PROVIDER, "url": provider.url},
            "broken": {"provider": PROVIDER, "url": f"http://{nowhere}"},
        }
        with serving(ledger, tmp_path, upstreams, guard) as server:
            yield provider, guard, server
        guard.close()


def scraped(url: str, headers: Mapping[str, str] | None = None) -> dict[str, float]:
    """Returns the metrics of a server: name and labels -> value."""
    answer = httpx.get(f"{url}/metrics", headers=headers)
    assert answer.status_code == 200, answer.text
    return {
        f"{sample.name}{sorted(sample.labels.values())}": sample.value
        for family in text_string_to_metric_families(answer.text)
        for sample in family.samples
    }


def test_requests_are_counted_by_what_became_of_them(
    scene: tuple[Provider, BudgetGuard, RunningServer],
) -> None:
    """Each outcome of a proxied request has its counter, and an unreachable upstream is an error of it."""
    _, _, server = scene
    with server.client() as caller:
        paths = (f"{server.base('studio')}/v1/tasks", f"{server.base('broken')}/v1/tasks")
        statuses = [
            caller.post(path, json=CLIP).status_code for path in (paths[0], paths[0], paths[0], paths[1])
        ]
        statuses.append(httpx.post(paths[0], json=CLIP).status_code)
        caller.get(f"{server.url}/p/{'x' * 50}/v1/tasks")
    found = scraped(server.url)
    counted = {name: value for name, value in found.items() if name.startswith("kling_pricing_requests_total")}
    assert statuses == [200, 200, 402, 402, 401]
    assert counted == {
        "kling_pricing_requests_total['admitted', 'studio']": 2,
        "kling_pricing_requests_total['refused', 'studio']": 1,
        "kling_pricing_requests_total['broken', 'refused']": 1,
        "kling_pricing_requests_total['studio', 'unauthorized']": 1,
        "kling_pricing_requests_total['other', 'passed']": 1,
    }


def test_budgets_and_doubt_are_shown_as_they_are(
    scene: tuple[Provider, BudgetGuard, RunningServer], clock: Clock
) -> None:
    """Held, spent and left have the amounts of the ledger; users of a budget are added up and not named."""
    _, guard, server = scene
    guard.settle(sent(guard), "0.6")
    for user in ("li", "wang"):
        guard.admit(CLIP, project="other", labels={"user": user})
    sent(guard)
    clock.pass_by(minutes=10)
    found = scraped(server.url)
    assert {name: found[name] for name in found if "_budget_" in name} == {
        "kling_pricing_budget_held['USD', 'trailer']": 0.714,
        "kling_pricing_budget_spent['USD', 'trailer']": 0.6,
        "kling_pricing_budget_left['USD', 'trailer']": 0.686,
        "kling_pricing_budget_held['USD', 'each-user']": 1.428,
        "kling_pricing_budget_spent['USD', 'each-user']": 0,
        "kling_pricing_budget_left['USD', 'each-user']": 4.286,
    }
    assert (found["kling_pricing_in_doubt[]"], found["kling_pricing_in_doubt_age_seconds[]"]) == (1, 600)
    assert (found["kling_pricing_ledger_up[]"], found["kling_pricing_outbox_age_seconds[]"]) == (1, 0)


def test_the_api_is_counted_by_route_and_timed(scene: tuple[Provider, BudgetGuard, RunningServer]) -> None:
    """Routes are counted by their template, unknown paths together, and quotes and admissions are timed."""
    _, _, server = scene
    with server.client() as caller:
        for path in ("quote", "reservations", "decide"):
            caller.post(f"{server.url}/api/v1/{path}", json={"payload": CLIP})
        for name in ("one", "two"):
            caller.get(f"{server.url}/api/v1/reservations/{name}")
            caller.get(f"{server.url}/{name}")
    found = scraped(server.url)
    assert found["kling_pricing_api_answers_total['/api/v1/reservations/{reservation_id}', '404', 'GET']"] == 2
    assert found["kling_pricing_api_answers_total['404', 'other', 'other']"] == 2
    assert (found["kling_pricing_seconds_count['quote']"], found["kling_pricing_seconds_count['admit']"]) == (
        1,
        1,
    )


def test_metrics_are_open_to_this_machine_only(
    scene: tuple[Provider, BudgetGuard, RunningServer], tmp_path: Path
) -> None:
    """Behind a proxy, or with the headers of one, only a key of all projects reads the metrics."""
    _, guard, server = scene
    with serving(server.ledger, tmp_path, {}, guard, behind_proxy=True) as hidden:
        for url, headers in ((hidden.url, {}), (server.url, {"X-Forwarded-For": "192.0.2.1"})):
            metrics = f"{url}/metrics"
            assert httpx.get(metrics, headers=headers).status_code == 401
            assert httpx.get(metrics, headers=headers | hidden.key(role="view")).status_code == 403
            assert httpx.get(metrics, headers=headers | hidden.key(None, role="view")).status_code == 200


def test_only_a_key_of_all_projects_sees_who_does_the_background_work(
    scene: tuple[Provider, BudgetGuard, RunningServer],
) -> None:
    """Anybody sees whether the server is ready, and neither a host nor a process id."""
    _, _, server = scene
    url = f"{server.url}/readyz"
    eventually(lambda: httpx.get(url).status_code == 200)
    for headers in ({}, server.key(), server.key(role="manage"), {"Authorization": "Bearer kp_unknown"}):
        answer = httpx.get(url, headers=headers)
        assert (answer.status_code, answer.json()["background_holder"]) == (200, None)
        assert socket.gethostname() not in answer.text
    shown = httpx.get(url, headers=server.key(None, role="view")).json()
    assert shown["background_holder"] == f"{socket.gethostname()}:{os.getpid()}"


def test_a_flood_of_questions_asks_the_ledger_once_a_second() -> None:
    """However many ask whether the server is ready, the ledger is asked once; while it hangs, nobody waits."""
    asked, may_answer = [], threading.Event()

    def guard() -> BudgetGuard:
        asked.append(1)
        if len(asked) > 1:
            may_answer.wait(20)
        raise LedgerUnavailableError("the ledger cannot be reached")

    readiness = LedgerReadiness(guard)
    assert {str(readiness.problem()) for _ in range(1000)} == {"the ledger cannot be reached"}
    assert len(asked) == 1
    with ThreadPoolExecutor(8) as pool:
        hanging = [pool.submit(readiness.problem) for _ in range(8)]
        while len(asked) < 2:
            hanging.append(pool.submit(readiness.problem))
            threading.Event().wait(0.05)
        assert isinstance(readiness.problem(), LedgerUnavailableError)
        assert len(asked) == 2
        may_answer.set()


def test_a_server_is_ready_if_it_can_admit(tmp_path: Path) -> None:
    """Without budgets, a server is alive but not ready, and says why."""
    with serving(f"sqlite:///{tmp_path}/spend.db", tmp_path, {}) as server:
        assert httpx.get(f"{server.url}/healthz").status_code == 200
        answer = httpx.get(f"{server.url}/readyz")
        assert (answer.status_code, answer.json()["ready"]) == (503, False)
        assert answer.json()["ledger"] == "it has no budgets yet"


def test_logs_have_reservations_and_no_secrets(
    scene: tuple[Provider, BudgetGuard, RunningServer], caplog: pytest.LogCaptureFixture
) -> None:
    """At DEBUG, the logs name reservations and routes, and have no key, credential, prompt or query."""
    _, _, server = scene
    caplog.set_level(logging.DEBUG)
    key = server.key(role="manage", name="log-key")
    with httpx.Client(headers=key) as caller:
        made = caller.post(f"{server.url}/api/v1/reservations", json={"payload": CLIP}).json()["reservation"][
            "id"
        ]
        caller.get(f"{server.url}/api/v1/reservations/{made}?token=hunter2")
        caller.post(f"{server.base('studio')}/v1/tasks?api_key=hunter2", json=CLIP)
        caller.post(f"{server.url}/api/v1/quote", content=b"hunter2")
    eventually(
        lambda: sum("facts" in vars(record) for record in caplog.records) == 4
    )  # written after the answers
    records = [record for record in caplog.records if record.name.startswith("kling_pricing")]
    text = "\n".join(f"{record.getMessage()} {vars(record)}" for record in records)
    facts: list[dict[str, Any]] = [vars(record)["facts"] for record in records if "facts" in vars(record)]
    assert made in {each.get("reservation") for each in facts}
    assert {"/api/v1/reservations/{reservation_id}", "/api/v1/quote"} <= {each.get("route") for each in facts}
    (proxied,) = [each for each in facts if each.get("upstream") == "studio"]
    assert (proxied["access_key"], proxied["refused_by"]) == ("log-key", None)
    secrets = ("hunter2", CREDENTIAL, key["Authorization"].removeprefix("Bearer "), CLIP["prompt"])
    assert [secret for secret in secrets if secret in text] == []


def test_spans_cost_nothing_without_opentelemetry() -> None:
    """The server works if the API of OpenTelemetry is not installed."""
    code = (
        "import sys; sys.modules['opentelemetry'] = None; sys.modules['opentelemetry.trace'] = None\n"
        "from kling_pricing.server.tracing import span\n"
        "with span('a', b=1) as attributes: attributes['c'] = 2\n"
        "print(attributes)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "{'b': 1, 'c': 2}"


def test_two_processes_log_json_and_count_together(tmp_path: Path, book: PriceBook) -> None:
    """Each line of the log is an object, the metrics are those of both processes, and Ctrl-C ends them."""
    ledger = f"sqlite:///{tmp_path}/spend.db"
    BudgetGuard(ledger, [Budget(name="all", cap=1, currency="USD")], book=book).close()
    command = [
        sys.executable,
        "-m",
        "kling_pricing",
        "serve",
        "--ledger",
        ledger,
        "--port",
        "0",
        "--workers",
        "2",
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        line = next(line for line in server.stdout if "The API is at" in line)
        url = line.split()[-1].removesuffix(".")
        eventually(lambda: _status(f"{url}/caller") == 401)
        before = answers(url)
        assert [_status(f"{url}/caller") for _ in range(20)] == [401] * 20
        eventually(lambda: answers(url) == before + 20)
        server.send_signal(signal.SIGINT)
        _, logged = server.communicate(timeout=30)
    assert server.returncode == 0
    entries = [json.loads(line) for line in logged.splitlines()]
    (seen, *_) = [entry for entry in entries if entry.get("route") == "/api/v1/caller"]
    assert (seen["level"], seen["status"], seen["method"]) == ("info", 401, "GET")
    assert {"at", "logger", "message", "took_ms", "request_id"} <= seen.keys()


def test_the_processes_of_a_killed_server_stop(tmp_path: Path, book: PriceBook) -> None:
    """A server that is killed leaves no process behind that would still answer and keep the port."""
    ledger = f"sqlite:///{tmp_path}/spend.db"
    BudgetGuard(ledger, [Budget(name="all", cap=1, currency="USD")], book=book).close()
    command = [*COMMAND, "serve", "--ledger", ledger, "--port", "0", "--workers", "2"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        assert server.stdout is not None
        line = next(line for line in server.stdout if "The API is at" in line)
        url = line.split()[-1].removesuffix(".")
        try:
            eventually(lambda: _status(f"{url}/caller") == httpx.codes.UNAUTHORIZED)
        finally:
            server.kill()
        eventually(lambda: _status(f"{url}/caller") == 0)


def answers(url: str) -> float:
    """Returns the number of answers to `/caller`, in the metrics of all processes."""
    found = scraped(url.removesuffix("/api/v1"))
    return found["kling_pricing_api_answers_total['/api/v1/caller', '401', 'GET']"]


def _status(url: str) -> int:
    try:
        return httpx.get(url).status_code
    except httpx.TransportError:
        return 0
