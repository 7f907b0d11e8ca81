"""The record of administrative actions: who changed what, when, and why. On both stores."""

from __future__ import annotations

import json
import os
import sqlite3
from contextlib import closing
from decimal import Decimal
from pathlib import Path

import psycopg
import pytest

from kling_pricing import Budget, BudgetGuard, KlingPricingError
from kling_pricing.guard import freeze_all, thaw_all
from kling_pricing.ledger.administration import prepare
from kling_pricing.tables.price_book import PriceBook
from tests.commands import run
from tests.conftest import Clock
from tests.golden.make import golden_sql
from tests.guards import sent
from tests.servers import execute

TRAILER = Budget(name="trailer", match={"project": "trailer"}, cap=Decimal(25), currency="USD")


def test_the_ledger_keeps_who_did_what(ledger: str, book: PriceBook, clock: Clock) -> None:
    """Every administrative verb writes its actor, its reason, and the values before and after it."""
    with BudgetGuard(ledger, [TRAILER], book=book, clock=clock, actor="li") as guard:
        raised = TRAILER.model_copy(update={"cap": Decimal(50)})
        guard.apply([raised], allow_weaker=True, reason="the second trailer")
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


def test_corrections_keep_their_reason(ledger: str, book: PriceBook, clock: Clock) -> None:
    """`settle` and `record` with a reason are actions with the amounts before and after; repeats add none."""
    with BudgetGuard(ledger, [TRAILER], book=book, clock=clock, actor="li") as guard:
        labels = {"project": "trailer"}
        recorded = guard.record("qingbo", "t", "0.7", labels=labels)
        for _ in range(2):
            guard.settle(recorded.id, "0.5", basis="operator", reason="ticket 77")
            guard.record("qingbo", "u", "0.3", labels=labels, reason="sent by hand")
        settled, added = guard.log()[1:]
        assert (settled.actor, settled.action, settled.subject) == ("li", "settle", recorded.id)
        assert settled.reason == "ticket 77"
        assert settled.old == {"amount": "0.7", "basis": "operator", "currency": "USD"}
        assert settled.new == {"amount": "0.5", "basis": "operator", "currency": "USD"}
        assert (added.action, added.old, added.new) == (
            "record",
            None,
            {"amount": "0.3", "basis": "operator", "currency": "USD"},
        )
        guard.verify()


def test_a_correction_of_a_job_in_doubt_keeps_its_reason(ledger: str, book: PriceBook, clock: Clock) -> None:
    """A job that was dispatched and has no task yet has no amount before it is settled."""
    with BudgetGuard(ledger, [TRAILER], book=book, clock=clock, actor="li") as guard:
        job = sent(guard)
        clock.pass_by(hours=1)
        guard.settle(job.id, "0.5", basis="operator", reason="ticket 77")
        (settled,) = guard.log()[1:]
        assert (settled.subject, settled.reason) == (job.id, "ticket 77")
        assert (settled.old, settled.new) == (None, {"amount": "0.5", "basis": "operator", "currency": "USD"})
        guard.verify()


def test_many_corrections_are_shown_before_they_are_made(
    ledger: str, book: PriceBook, clock: Clock, tmp_path: Path
) -> None:
    """`settle --file` shows a plan, makes the changes only with `--yes`, and a second run changes nothing."""
    with BudgetGuard(ledger, [TRAILER], book=book, clock=clock) as guard:
        ids = [guard.record("qingbo", task, "0.7", labels={"project": "trailer"}).id for task in ("t", "u")]
    path = tmp_path / "corrections.csv"
    path.write_text("ref,amount,reason\nqingbo:t,0.5,ticket 77\nqingbo:u,0.7,\n")
    command = ("settle", "--file", path, "--reason", "month end", "--actor", "li", "--ledger", ledger)
    planned = run(*command)
    assert planned.stdout == (
        f"~ {ids[0]} (task t): 0.7 (operator) becomes 0.5 USD\n"
        "1 reservation to change, 1 unchanged; -0.2 USD\n"
        "nothing was changed; add --yes to make these changes\n"
    )
    with BudgetGuard(ledger, book=book, clock=clock) as guard:
        assert guard.reservation(ids[0]).billed == Decimal("0.7")
    assert run(*command, "--yes").returncode == 0
    again = run(*command, "--yes")
    assert again.stdout == "0 reservations to change, 2 unchanged\n"
    with BudgetGuard(ledger, book=book, clock=clock) as guard:
        assert guard.reservation(ids[0]).billed == Decimal("0.5")
        assert [(act.actor, act.reason) for act in guard.log()[1:]] == [("li", "ticket 77")]
        guard.verify()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("amount\n1\n", "corrections.csv:1: the column ref is missing"),
        ("ref,amount,why\n", "corrections.csv:1: unknown column why"),
        ("ref,amount\n", "corrections.csv: has no rows"),
        ("ref,amount\nqingbo:t,much\n", "corrections.csv:2: "),
        ("ref,amount\nqingbo:t,1\nqingbo:t,2\n", "is also in corrections.csv:2; keep one of the rows"),
        ("ref,amount\nqingbo:t,1\nqingbo:x,2\n", "corrections.csv:3: "),
    ],
)
def test_corrections_that_cannot_be_made_change_nothing(
    book: PriceBook, clock: Clock, tmp_path: Path, text: str, problem: str
) -> None:
    """An error in any row is found before the first change."""
    ledger = f"sqlite:///{tmp_path}/spend.db"
    with BudgetGuard(ledger, [TRAILER], book=book, clock=clock) as guard:
        known = guard.record("qingbo", "t", "0.7", labels={"project": "trailer"})
        path = tmp_path / "corrections.csv"
        path.write_text(text)
        done = run("settle", "--file", path, "--yes", "--ledger", ledger)
        assert done.returncode in {1, 2}
        assert problem in " ".join(done.stderr.split())
        assert guard.reservation(known.id).billed == Decimal("0.7")


def test_an_actor_is_the_systems_user_by_default(
    tmp_path: Path, book: PriceBook, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without an actor, the ledger keeps the name of the system's user; a name must be printable."""
    monkeypatch.setenv("LOGNAME", "zhang")
    with BudgetGuard(f"sqlite:///{tmp_path}/spend.db", [TRAILER], book=book) as guard:
        assert (guard.actor, guard.log()[0].actor) == ("zhang", "zhang")
    with pytest.raises(KlingPricingError, match="actor"):
        BudgetGuard(f"sqlite:///{tmp_path}/spend.db", book=book, actor="")


def test_the_ledger_keeps_who_administers_it(postgres_ledger: str, tmp_path: Path, book: PriceBook) -> None:
    """A grant, a migration and an accepted loss are kept too; a repeated grant is kept once."""
    name = f"guards_{os.getpid()}"
    execute(postgres_ledger, f"CREATE ROLE {name}")
    try:
        for _ in range(2):
            prepare(postgres_ledger, create=True, grant=name, actor="li", reason="a new team")
    finally:
        execute(postgres_ledger, f"DROP OWNED BY {name}", f"DROP ROLE {name}")
    with BudgetGuard(postgres_ledger, [TRAILER], book=book, actor="li") as guard:
        granted, _ = guard.log()
    assert (granted.actor, granted.action, granted.new, granted.reason) == (
        "li",
        "grant",
        {"role": name},
        "a new team",
    )
    path = tmp_path / "old.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.executescript(golden_sql("sqlite", 3))
    prepare(f"sqlite:///{path}", create=False, actor="wang")
    with BudgetGuard(f"sqlite:///{path}", book=book) as guard:
        (migrated,) = guard.log()
    assert (migrated.actor, migrated.action, migrated.old) == ("wang", "migrate", {"schema": 3})


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
    lines = [line.partition(" UTC  ")[2] for line in shown.stdout.splitlines() if not line.startswith(" ")]
    assert lines == [f"li{role}  apply budgets", f"wang{role}  freeze all: why not"]
    rows = [json.loads(line) for line in run("budget", "log", "--json", "--ledger", ledger).stdout.splitlines()]
    assert [(row["actor"], row["action"], row["subject"]) for row in rows] == [
        ("li", "apply", "budgets"),
        ("wang", "freeze", "all"),
    ]
