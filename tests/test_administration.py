"""The record of administrative actions: who changed what, when, and why. On both stores."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from decimal import Decimal
from pathlib import Path

import psycopg
import pytest

from kling_pricing import Budget, BudgetGuard, KlingPricingError
from kling_pricing.guard import freeze_all, thaw_all
from kling_pricing.tables.price_book import PriceBook
from tests.commands import run
from tests.conftest import Clock
from tests.servers import execute

TRAILER = Budget(name="trailer", match={"project": "trailer"}, cap=Decimal(25), currency="USD")


def test_the_ledger_keeps_who_did_what(ledger: str, book: PriceBook, clock: Clock) -> None:
    """Every administrative verb writes its actor, its reason, and the values before and after it."""
    with BudgetGuard(ledger, [TRAILER], book=book, clock=clock, actor="li") as guard:
        guard.apply([TRAILER.model_copy(update={"cap": Decimal(50)})], reason="the second trailer")
        guard.open_budget("trailer", "1.5", reason="spent by hand")
        freeze_all(ledger, actor="wang", reason="the bill looks wrong")
        freeze_all(ledger, actor="wang", reason="again")
        assert thaw_all(ledger, actor="li", reason="corrected") is True
        assert thaw_all(ledger, actor="li", reason="again") is False
        log = guard.log()
        assert [(act.actor, act.action, act.subject, act.reason) for act in log] == [
            ("li", "apply", "budgets", None),
            ("li", "apply", "budgets", "the second trailer"),
            ("li", "open", "trailer", "spent by hand"),
            ("wang", "freeze", "all", "the bill looks wrong"),
            ("li", "thaw", "all", "corrected"),
        ]
        caps = [[value and value["budgets"][0]["cap"] for value in (act.old, act.new)] for act in log[:2]]
        assert caps == [[None, "25"], ["25", "50"]]
        assert log[2].new == {"spent": "1.5", "labels": {}}
        assert {act.role for act in log} == {None if ledger.startswith("sqlite") else "postgres"}
        assert [act.seq for act in log] == sorted(act.seq for act in log)
        guard.verify()


def test_an_actor_is_the_systems_user_by_default(
    tmp_path: Path, book: PriceBook, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without an actor, the ledger keeps the name of the system's user; a name must be printable."""
    monkeypatch.setenv("LOGNAME", "zhang")
    with BudgetGuard(f"sqlite:///{tmp_path}/spend.db", [TRAILER], book=book) as guard:
        assert (guard.actor, guard.log()[0].actor) == ("zhang", "zhang")
    with pytest.raises(KlingPricingError, match="actor"):
        BudgetGuard(f"sqlite:///{tmp_path}/spend.db", book=book, actor="")


@pytest.mark.parametrize("change", ["UPDATE {} SET actor = 'x'", "DELETE FROM {}"])
def test_nobody_changes_the_record(ledger: str, book: PriceBook, clock: Clock, change: str) -> None:
    """Triggers stop even the owner of a ledger from changing the record."""
    BudgetGuard(ledger, [TRAILER], book=book, clock=clock).close()
    if ledger.startswith("sqlite"):
        with (
            closing(sqlite3.connect(ledger.removeprefix("sqlite:///"))) as connection,
            pytest.raises(sqlite3.IntegrityError, match="append-only"),
        ):
            connection.execute(change.format("administration"))
    else:
        with pytest.raises(psycopg.errors.RaiseException, match="append-only"):
            execute(ledger, change.format("kling_pricing.administration"))


def test_the_command_shows_the_log(ledger: str, book: PriceBook, clock: Clock) -> None:
    """`budget log` shows one line per action, or one JSON object per line."""
    BudgetGuard(ledger, [TRAILER], book=book, clock=clock, actor="li").close()
    run("budget", "freeze", "--all", "--reason", "why not", "--actor", "wang", "--ledger", ledger)
    shown = run("budget", "log", "--ledger", ledger)
    role = "" if ledger.startswith("sqlite") else " (postgres)"
    lines = [line.partition(" UTC  ")[2] for line in shown.stdout.splitlines()]
    assert lines == [f"li{role}  apply budgets", f"wang{role}  freeze all: why not"]
    rows = [json.loads(line) for line in run("budget", "log", "--json", "--ledger", ledger).stdout.splitlines()]
    assert [(row["actor"], row["action"], row["subject"]) for row in rows] == [
        ("li", "apply", "budgets"),
        ("wang", "freeze", "all"),
    ]
