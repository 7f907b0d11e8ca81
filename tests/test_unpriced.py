"""Requests that pass without a price are counted in the ledger, on every kind of store."""

import json
import logging
import os
import subprocess
import sys
import threading
from datetime import date, timedelta
from pathlib import Path

import httpx
import pytest

from kling_pricing import Budget, BudgetGuard, KlingPricingError, PriceBook
from kling_pricing.hooks.httpx import GuardedTransport
from kling_pricing.ledger import connect
from kling_pricing.ledger.journal import UnpricedRequests
from kling_pricing.ledger.postgres import PostgresLedger
from kling_pricing.ledger.postgres.server import Server
from tests.commands import run
from tests.conftest import AT, Clock, OpenGuard, driven_by

CHAT, LOGIN = "/v1/chat/*", "/v1/messages/*"
TODAY = AT.date()


def asked(guard: BudgetGuard, *paths: str) -> None:
    """Sends requests through a hook to a gateway that also sells other services."""
    inner = httpx.MockTransport(lambda _: httpx.Response(200, json={}))
    with httpx.Client(transport=GuardedTransport(inner, guard, project="p")) as client:
        for path in paths:
            assert client.post(f"https://api.qingbo.ai/v1/{path}", json={}).status_code == 200


def counted(path: str, requests: int, day: date = TODAY) -> UnpricedRequests:
    """Returns a number of requests to the gateway."""
    return UnpricedRequests("qingbo-ai", path, day, requests)


def test_requests_are_counted_by_provider_path_and_day(
    open_guard: OpenGuard, ledger: str, book: PriceBook, clock: Clock
) -> None:
    """The numbers of several guards and days add up, and no budget changes."""
    guard = open_guard()
    asked(guard, "chat/completions", "messages", "chat/completions")
    with BudgetGuard(ledger, book=book, clock=clock) as other:
        asked(other, "chat/completions")
    clock.pass_by(days=1)
    asked(guard, "messages")
    tomorrow = TODAY + timedelta(days=1)
    assert guard.unpriced() == [counted(CHAT, 3), counted(LOGIN, 1), counted(LOGIN, 1, tomorrow)]
    assert guard.unpriced(since=tomorrow) == [counted(LOGIN, 1, tomorrow)]
    assert guard.unpriced(until=tomorrow) == [counted(CHAT, 3), counted(LOGIN, 1)]
    assert guard.history() == []


def test_the_status_shows_them(open_guard: OpenGuard, ledger: str, clock: Clock) -> None:
    """Text adds up 30 days; JSON lists the days."""
    guard = open_guard()
    for days in (0, 20, 11):  # 31 days in all, so the first does not count any more
        clock.pass_by(days=days)
        asked(guard, "chat/completions", "chat/completions")
    guard.close()
    at = f"{clock.now:%Y-%m-%dT%H:%M:%SZ}"
    shown = run("budget", "status", "--ledger", ledger, "--at", at)
    assert shown.stdout.endswith(
        f"in the last 30 days, hooks let through 4 requests to {CHAT} at qingbo-ai without a price; "
        "no budget counts the cost\n"
    )
    document = json.loads(run("budget", "status", "--ledger", ledger, "--at", at, "--json").stdout)
    assert [row["budget"] for row in document["budgets"]] == ["trailer"]
    assert document["unpriced"] == [
        {"provider": "qingbo-ai", "path": CHAT, "day": day, "requests": 2}
        for day in ("2026-12-11", "2026-12-22")
    ]
    without = run("budget", "status", "--ledger", ledger, "--at", "2026-01-01T00:00:00Z").stdout
    assert "without a price" not in without


def test_a_guard_writes_its_counts_by_itself(ledger: str, book: PriceBook, clock: Clock) -> None:
    """A client that only sends such requests never uses the ledger otherwise."""
    guard = BudgetGuard(ledger, [Budget(name="all", cap=1, currency="USD")], book=book, clock=clock)
    asked(guard, "chat/completions", "chat/completions")
    timers = [thread for thread in threading.enumerate() if isinstance(thread, threading.Timer)]
    assert timers
    for timer in timers:
        timer.join()
    assert connect(ledger, clock=clock).unpriced(None, None) == [counted(CHAT, 2)]
    guard.close()
    assert connect(ledger, clock=clock).unpriced(None, None) == [counted(CHAT, 2)]


SCRIPT = """
import sys
from kling_pricing import BudgetGuard
guard = BudgetGuard(sys.argv[1])
guard.count_unpriced("qingbo-ai", "/v1/chat/*")
"""


def test_a_process_that_ends_writes_its_counts(open_guard: OpenGuard, ledger: str) -> None:
    """It need not close its guard."""
    guard = open_guard()
    subprocess.run([sys.executable, "-c", SCRIPT, ledger], check=True, timeout=60)
    assert [(row.path, row.requests) for row in guard.unpriced()] == [(CHAT, 1)]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_fork_counts_nothing_twice(open_guard: OpenGuard) -> None:
    """Counts that the parent process has not written yet are the parent's."""
    guard = open_guard()
    guard.count_unpriced("qingbo-ai", CHAT)
    child = os.fork()
    if child == 0:
        try:
            guard.count_unpriced("qingbo-ai", LOGIN)
            guard.unpriced()
        finally:
            os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert guard.unpriced() == [counted(CHAT, 1), counted(LOGIN, 1)]


def test_a_request_passes_although_its_count_cannot_be_written(
    tmp_path: Path, book: PriceBook, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """The count waits in memory until the ledger is back."""
    path, away = tmp_path / "spend.db", tmp_path / "away.db"
    budgets = [Budget(name="all", cap=1, currency="USD")]
    guard = BudgetGuard(f"sqlite:///{path}", budgets, book=book, clock=clock)
    guard.close()
    path.rename(away)
    asked(guard, "chat/completions")
    with caplog.at_level(logging.WARNING):
        guard.close()
    assert "could not count unpriced requests" in caplog.text
    away.rename(path)
    asked(guard, "chat/completions")
    assert guard.unpriced() == [counted(CHAT, 2)]
    guard.close()


def test_a_name_that_no_ledger_stores_is_refused(open_guard: OpenGuard) -> None:
    """The error names the place; nothing is counted."""
    guard = open_guard()
    with pytest.raises(KlingPricingError, match="path must be text"):
        guard.count_unpriced("qingbo-ai", "/v1/\x00")
    assert guard.unpriced() == []


def test_a_call_that_is_repeated_counts_once(postgres_ledger: str, clock: Clock) -> None:
    """A call is repeated if its connection was lost, although its transaction may have been committed."""
    with driven_by(clock, postgres_ledger):
        server = Server(postgres_ledger)
        for call in ("one", "one", "two"):
            rows = json.dumps([{"provider": "p", "path": "/x", "day": str(TODAY), "requests": 2}])
            server.call("count_unpriced", call, rows)
        server.close()
        ledger = PostgresLedger(postgres_ledger, clock)
        assert ledger.unpriced(None, None) == [UnpricedRequests("p", "/x", TODAY, 4)]
        ledger.close()
