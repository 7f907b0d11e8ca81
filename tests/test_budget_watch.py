"""`budget status` shows pace, forecasts and refusals, and keeps showing them with --watch."""

from __future__ import annotations

import json
import os
import pty
import signal
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from decimal import Decimal
from fcntl import ioctl
from pathlib import Path

import pytest

from kling_pricing import Budget, BudgetExceededError, BudgetGuard, LedgerUnavailableError, PriceBook
from kling_pricing.cli.budget.status import status_command
from tests.commands import INTERRUPTIBLE, run
from tests.conftest import Clock
from tests.guards import CLIP, COST, VerifiedGuard

BUDGETS = [
    Budget(name="studio", cap=Decimal(2), currency="USD", window="month"),
    Budget(name="each-user", match={"user": "*"}, cap=Decimal(1), currency="USD"),
]
STATUS = ("budget", "status")

WAITING = """
import os, signal, threading
from kling_pricing.cli.interruption import stopping
signal.signal(signal.SIGINT, signal.default_int_handler)
for _ in range(50):
    with stopping() as stop:
        threading.Timer(0.01, os.kill, (os.getpid(), signal.SIGINT)).start()
        while not stop.wait(0):
            pass
"""
"""Interrupts a wait fifty times, mostly while the waiting thread holds the lock of the event."""


@pytest.fixture
def filled(ledger: str, book: PriceBook) -> str:
    """Returns the URL of a ledger with one reservation and one refusal, by the real clock."""
    with BudgetGuard(ledger, BUDGETS, book=book) as guard:
        guard.admit(CLIP, project="trailer", labels={"user": "li"})
        with pytest.raises(BudgetExceededError):
            guard.admit(CLIP, project="trailer", labels={"user": "li"})
    return ledger


@contextmanager
def watching(ledger: str, *words: str) -> Iterator[subprocess.Popen[str]]:
    """Runs `budget status --watch` with a pipe for its output, and ends it."""
    environment = {**os.environ, "KLING_PRICING_LEDGER": ledger, "PYTHONUNBUFFERED": "1"}
    command = [sys.executable, "-c", INTERRUPTIBLE, *STATUS, "--watch", "--every", "1", *words]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as process:
        try:
            yield process
            process.send_signal(signal.SIGINT)
            assert process.wait(60) == 0
        finally:
            process.kill()


def test_refusals_of_today_are_shown(filled: str) -> None:
    """Text names the bucket and the reason; JSON lists them."""
    shown = run(*STATUS, ledger=filled).stdout
    assert "each-user, user li: 1 request refused on " in shown
    assert shown.rstrip().endswith("because not enough was left")
    (row,) = json.loads(run(*STATUS, "--json", ledger=filled).stdout)["refusals"]
    assert (row["budget"], row["labels"], row["reason"], row["requests"]) == (
        "each-user",
        {"user": "li"},
        "cap",
        1,
    )


def test_a_budget_that_is_exhausted_too_early_is_named(tmp_path: Path, book: PriceBook, clock: Clock) -> None:
    """A guard's forecasts say when, and JSON has the pace of every budget."""
    clock.now = clock.now.replace(day=1, hour=0, minute=0)
    with VerifiedGuard(f"sqlite:///{tmp_path}/spend.db", BUDGETS, book=book, clock=clock) as guard:
        guard.dispatch(guard.admit(CLIP, project="trailer", labels={"user": "li"}))
        clock.pass_by(days=3)
        studio, user = guard.forecasts()
    assert (studio.bucket.budget, studio.pace_per_day) == ("studio", COST / 3)
    assert studio.exhausted_at == clock.now + timedelta(microseconds=-(-1286 * 3 * 86_400_000_000 // 714))
    assert user.bucket.labels == {"user": "li"}
    assert user.exhausted_at is not None


def test_a_pace_is_rounded_down_to_a_billionth(tmp_path: Path, book: PriceBook, clock: Clock) -> None:
    """Money is never a float, however long the period is."""
    clock.now = clock.now.replace(day=1, hour=0, minute=0)
    with VerifiedGuard(f"sqlite:///{tmp_path}/spend.db", BUDGETS, book=book, clock=clock) as guard:
        guard.admit_and_dispatch(CLIP, project="trailer")
        clock.pass_by(days=11)
        (studio,) = guard.forecasts()
    assert studio.pace_per_day == Decimal("0.064909090")  # 0.714 / 11 = 0.06490909090...
    assert isinstance(studio.pace_per_day, Decimal)


def test_lines_are_printed_where_there_is_no_terminal(filled: str, book: PriceBook) -> None:
    """A line comes for each balance, and then for each balance that changes, until Ctrl-C."""
    with watching(filled) as process:
        assert process.stdout is not None
        first = [process.stdout.readline() for _ in range(3)]
        assert "UTC  studio: 0 spent, 0.714 held, 1.286 left of 2 USD\n" in first[0]
        assert "UTC  each-user, user li: 0 spent, 0.714 held, 0.286 left of 1 USD\n" in first[1]
        assert "refused" in first[2]
        with BudgetGuard(filled, book=book) as guard:
            guard.admit(CLIP, project="trailer")
        assert "UTC  studio: 0 spent, 1.428 held, 0.572 left of 2 USD\n" in process.stdout.readline()


def test_json_is_one_document_per_reading(filled: str) -> None:
    """Each line is a document with the instant of the reading."""
    with watching(filled, "--json") as process:
        assert process.stdout is not None
        first, second = (json.loads(process.stdout.readline()) for _ in range(2))
    assert [row["budget"] for row in first["budgets"]] == ["studio", "each-user"]
    assert first["budgets"] == second["budgets"]
    assert first["at"] < second["at"]


@pytest.mark.parametrize("color", [True, False])
def test_a_terminal_shows_a_table_of_80_columns(filled: str, *, color: bool) -> None:
    """The table fits, is drawn again, and stays on the screen when Ctrl-C ends the command."""
    parent, child = pty.openpty()
    ioctl(child, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    environment = {**os.environ, "KLING_PRICING_LEDGER": filled, "TERM": "xterm"}
    environment.pop("NO_COLOR", None)
    if not color:
        environment["NO_COLOR"] = "1"
    command = [sys.executable, "-c", INTERRUPTIBLE, *STATUS, "--watch", "--every", "1"]
    with subprocess.Popen(command, env=environment, stdin=child, stdout=child, stderr=child) as process:
        os.close(child)
        shown = ""
        while shown.count("Exhausted (UTC)") < 2:
            shown += os.read(parent, 4096).decode(errors="replace")
        process.send_signal(signal.SIGINT)
        while True:
            try:
                part = os.read(parent, 4096)
            except OSError:  # the terminal has gone with its last process
                break
            if not part:
                break
        assert process.wait(60) == 0
    os.close(parent)
    table = [line for line in shown.splitlines() if "│" in line or "┃" in line]
    assert any("studio" in line and "1.286" in line and "2 USD" in line for line in table)
    assert all(len(line) <= 80 for line in table if "\x1b" not in line)


def test_watch_is_for_now_and_needs_a_ledger(tmp_path: Path, filled: str) -> None:
    """`--at` does not go with it, and a ledger without budgets ends it at once."""
    refused = run(*STATUS, "--watch", "--at", "2026-11-01", ledger=filled)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert "omit --at" in refused.stderr
    assert run(*STATUS, "--watch", ledger=f"sqlite:///{tmp_path}/none.db").returncode == 2
    assert "--watch" in [option for parameter in status_command.params for option in parameter.opts]


def test_a_guard_finds_its_ledger_by_the_variable(
    tmp_path: Path, book: PriceBook, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`KLING_PRICING_LEDGER` is the ledger where none is given; without it, the error says what to set."""
    monkeypatch.delenv("KLING_PRICING_LEDGER", raising=False)
    with pytest.raises(LedgerUnavailableError, match="or set KLING_PRICING_LEDGER"):
        BudgetGuard(book=book)
    monkeypatch.setenv("KLING_PRICING_LEDGER", f"sqlite:///{tmp_path}/variable.db")
    with BudgetGuard(budgets=BUDGETS, book=book) as guard:
        assert len(guard.status()) == 1
    with BudgetGuard(f"sqlite:///{tmp_path}/given.db", BUDGETS, book=book):
        assert (tmp_path / "given.db").exists()


def test_ctrl_c_ends_a_wait_at_any_moment() -> None:
    """A signal never waits for a lock that the interrupted code holds."""
    assert subprocess.run([sys.executable, "-c", WAITING], timeout=60, check=False).returncode == 0
