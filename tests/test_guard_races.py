"""Many processes and threads on one ledger, some of them killed: no cap is exceeded and nothing is lost."""

import json
import sys
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from kling_pricing import Budget, BudgetExceededError, BudgetGuard, PriceBook
from kling_pricing.guard import allow, freeze_all, freeze_budgets, thaw_all, thaw_budgets
from tests.guard_workers import BUDGETS, COST, NANO, PROVIDER, VIDEO, finished, piped, started

PROCESSES, THREADS = 8, 4
LATER = datetime(2100, 1, 1, tzinfo=UTC)

USERS = {
    "li": {"project": "trailer", "team": "film", "user": "li"},
    "wu": {"project": "trailer", "team": "film", "user": "wu"},
    "ho": {"project": "teaser", "team": "film", "user": "ho"},
    "mo": {"project": "advert", "team": "sales", "user": "mo"},
    "ng": {"project": "advert", "team": "sales", "user": "ng"},
    "oz": {"project": "advert", "team": "sales", "user": "oz"},
}
"""Each user is in one project and each project in one team, so the same number of requests fits however they
interleave."""


class Crew:
    """Worker processes that wait for commands."""

    def __init__(self) -> None:
        self._processes = [started("race") for _ in range(PROCESSES)]
        for process in self._processes:
            assert json.loads(piped(process.stdout).readline()) == "ready"

    def all_do(self, **command: Any) -> list[dict[str, Any]]:
        """Sends the same command to all processes simultaneously; returns their results."""
        line = json.dumps(command) + "\n"
        for process in self._processes:
            piped(process.stdin).write(line)
        return [json.loads(piped(process.stdout).readline()) for process in self._processes]

    def dismiss(self) -> None:
        """Ends the processes."""
        for process in self._processes:
            process.communicate()
            assert process.returncode == 0


@pytest.fixture(scope="module")
def crew() -> Iterator[Crew]:
    """Returns worker processes that are started once."""
    workers = Crew()
    yield workers
    workers.dismiss()


def budget(name: str, cap: Decimal, **more: Any) -> Budget:
    """Returns a budget in the currency of the requests."""
    return Budget(name=name, cap=cap, currency="USD", **more)


@pytest.mark.parametrize(
    ("cap", "fit"),
    [(57 * COST, 57), (57 * COST - NANO, 56), (57 * COST + NANO, 57), (COST, 1), (COST - NANO, 0)],
    ids=["exactly", "a nano short", "a nano more", "one", "none"],
)
def test_exactly_as_many_are_admitted_as_fit_one_cap(
    crew: Crew, ledger: str, book: PriceBook, cap: Decimal, fit: int
) -> None:
    """Of the requests of 32 threads in 8 processes, as many are admitted as fit the cap, to the nano."""
    guard = BudgetGuard(ledger, [budget("tight", cap)], book=book)
    results = crew.all_do(do="fill", ledger=ledger, threads=THREADS, orders=[USERS["li"]])
    admitted = [name for result in results for name in result["done"]]
    assert len(admitted) == fit
    assert sorted(admitted) == sorted(job.id for job in guard.history())
    assert {job.state for job in guard.history()} <= {"reserved"}
    (row,) = guard.status()
    assert (row.held, row.spent, row.available) == (fit * COST, Decimal(0), cap - fit * COST)
    guard.verify()


@pytest.mark.parametrize("run", range(3))
def test_exactly_as_many_are_admitted_as_fit_several_overlapping_caps(
    crew: Crew, ledger: str, book: PriceBook, run: int
) -> None:
    """Overlapping caps of a project, a team, a user and everyone fill up, and none is exceeded by a nano."""
    guard = BudgetGuard(
        ledger,
        [
            budget("trailer", 14 * COST, match={"project": "trailer"}),
            budget("film", 20 * COST + NANO, match={"team": "film"}),
            budget("each", 10 * COST - NANO, match={"user": "*"}),
            budget("everyone", 45 * COST - NANO, alerts=(Decimal("0.5"), Decimal("0.9"))),
        ],
        book=book,
    )
    results = crew.all_do(do="fill", ledger=ledger, threads=THREADS, orders=list(USERS.values()))
    admitted = [name for result in results for name in result["done"]]
    assert len(admitted) == min(45 * COST - NANO, (20 + 3 * 9) * COST) // COST == 44, run
    assert sorted(admitted) == sorted(job.id for job in guard.history())
    rows = {(row.budget, row.labels.get("user")): row for row in guard.status()}
    reservations = Counter(job.labels["user"] for job in guard.history())
    held = {who: reservations[who] * COST for who in USERS}
    assert rows["everyone", None].held == 44 * COST
    assert rows["film", None].held == held["li"] + held["wu"] + held["ho"] <= 20 * COST
    assert rows["trailer", None].held == held["li"] + held["wu"] <= 14 * COST
    assert {who: rows["each", who].held for who in reservations} == {who: held[who] for who in reservations}
    assert max(reservations.values()) <= 9
    guard.verify()


@pytest.mark.parametrize("run", range(3))
def test_processes_that_make_the_ledger_together_share_it(
    crew: Crew, ledger: str, book: PriceBook, run: int
) -> None:
    """Of eight processes that open a new ledger, one installs the budgets and all share them."""
    results = crew.all_do(do="fill", ledger=ledger, threads=1, orders=[USERS["li"]], install=True)
    assert sum(len(result["done"]) for result in results) == Decimal(5) // COST, run
    guard = BudgetGuard(ledger, BUDGETS, book=book)
    assert [entry.kind for entry in guard.journal()].count("revision") == 1
    guard.verify()


def test_alerts_fire_once_for_each_bucket_and_threshold(crew: Crew, ledger: str, book: PriceBook) -> None:
    """Only the process that reaches a threshold is alerted, and the journal has the alert once."""
    guard = BudgetGuard(
        ledger,
        [
            budget("everyone", 48 * COST, alerts=(Decimal("0.5"), Decimal("0.8"), Decimal(1))),
            budget("each", 8 * COST, match={"user": "*"}, alerts=(Decimal("0.25"), Decimal(1))),
        ],
        book=book,
    )
    results = crew.all_do(do="fill", ledger=ledger, threads=THREADS, orders=list(USERS.values()))
    fired = sorted(tuple(alert) for result in results for alert in result["alerts"])
    assert fired == sorted(
        [("everyone", "{}", part) for part in ("0.5", "0.8", "1")]
        + [("each", json.dumps({"user": who}), part) for who in USERS for part in ("0.25", "1")]
    )
    journal = [entry for entry in guard.journal() if entry.kind == "alert"]
    assert fired == sorted(
        (entry.budget, json.dumps(entry.labels), str(entry.detail).split()[0]) for entry in journal
    )
    guard.verify()


def test_many_workers_with_one_key_make_one_job(crew: Crew, ledger: str, book: PriceBook) -> None:
    """Workers that admit and dispatch under one key make one reservation and receive one payload in total."""
    guard = BudgetGuard(ledger, [budget("everyone", 100 * COST)], book=book)
    for threads in (1, 2, 4):
        key = f"shot by {threads}"
        results = crew.all_do(do="one_job", ledger=ledger, threads=threads, key=key)
        outcomes = [line.split() for result in results for line in result["done"]]
        (job,) = guard.history(key=key)
        assert Counter(verdict for verdict, _ in outcomes) == {"won": 1, "lost": PROCESSES * threads - 1}
        assert {name for _, name in outcomes} == {job.id}
        assert (job.attempt, job.state) == (1, "dispatching")
    assert guard.status()[0].held == 3 * COST
    guard.verify()


def test_nothing_is_lost_when_processes_are_killed(
    ledger: str, book: PriceBook, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    """After processes were killed at random moments, every acknowledged verb holds and the cap is exact."""
    cap = 30 * COST + 5000 * NANO
    guard = BudgetGuard(
        ledger,
        [
            budget("everyone", cap, alerts=(Decimal("0.5"), Decimal(1))),
            budget("advert", 12 * COST, match={"project": "advert"}),
            budget("each", 16 * COST, match={"user": "*"}),
        ],
        book=book,
    )
    acknowledged = tmp_path / "acknowledged"
    seconds = request.config.getoption("--torture")
    figures = finished(
        "torture",
        ledger=ledger,
        acknowledged=str(acknowledged),
        seconds=seconds,
        processes=PROCESSES,
        threads=THREADS,
    )
    guard.verify()
    jobs = {job.id: job for job in guard.history()}
    lines = [line.split() for line in acknowledged.read_text().splitlines()]
    for word, name, *task in lines:
        assert word != "error", (name, *task)
        job = jobs[name]
        if word == "dispatched":
            assert job.dispatched_at is not None
        if word == "bound":
            assert job.task_id == task[0]
        if word == "released":
            assert job.state == "released" or (job.dispatched_at is not None and job.state == "settled")
        if word == "settled":
            assert (job.state, job.billed, job.basis) == ("settled", NANO, "operator")
    dispatched = Counter(name for word, name, *_ in lines if word == "dispatched")
    assert set(dispatched.values()) == {1}
    known = {job.task_id for job in jobs.values()} | {seen.task_id for seen in guard.unclaimed()}
    assert {task for word, _, *tasks in lines if word == "observed" for task in tasks} <= known
    alerted = Counter((e.budget, str(e.detail).split()[0]) for e in guard.journal() if e.kind == "alert")
    assert alerted["everyone", "0.5"] == 1
    assert set(alerted.values()) == {1}

    unfinished = [job for job in jobs.values() if job.state not in {"released", "settled"}]
    for job in unfinished:
        if job.state == "reserved":
            assert guard.release(job.id).state == "released"
        elif job.state == "dispatching":
            assert guard.bind(job.id, f"task-{job.id}").state in {"bound", "settled"}
    for job in unfinished:
        if guard.reservation(job.id).state == "bound":
            assert guard.resolve((PROVIDER, f"task-{job.id}"), "not_charged").state == "released"
    assert {row.held for row in guard.status()} == {0}
    guard.verify()

    spent = guard.status()[0].spent
    fits = (cap - spent) // COST
    refilled = 0
    while True:
        try:
            guard.admit(VIDEO, project="refill")
        except BudgetExceededError as refusal:
            assert refusal.available == cap - spent - refilled * COST < COST
            break
        refilled += 1
    assert refilled == fits
    guard.verify()
    figures |= {
        "acknowledged": len(lines),
        "reservations": len(jobs),
        "open": len(unfinished),
        "refilled": refilled,
    }
    sys.stdout.write(f"{figures}\n")  # for -s, or -rP
    assert figures["kills"] >= seconds


@pytest.mark.parametrize("by_name", [True, False], ids=["by name", "all spending"])
def test_nothing_is_admitted_or_dispatched_after_a_freeze_returned(
    crew: Crew, ledger: str, book: PriceBook, *, by_name: bool
) -> None:
    """Eight processes admit and dispatch; after the entry of the freeze, the journal has releases only.

    Thawing gives back exactly what was left.
    """
    guard = BudgetGuard(ledger, [budget("trailer", 10**6 * COST, match={"project": "trailer"})], book=book)
    workers = Thread(target=lambda: results.extend(crew.all_do(**command)))
    command = {"do": "until_frozen", "ledger": ledger, "threads": 2, "refusals": 9}
    results: list[dict[str, Any]] = []
    workers.start()
    while not any(job.state == "dispatching" for job in guard.history()):
        pass  # the race has not begun
    if by_name:
        freeze_budgets(ledger, ["trailer"], actor="li", reason="audit")
    else:
        freeze_all(ledger, actor="li", reason="audit")
    workers.join()
    entries = guard.journal()
    (frozen,) = [entry.seq for entry in entries if entry.kind.startswith("freeze")]
    assert {entry.kind for entry in entries if entry.seq > frozen} <= {"release"}
    assert {entry.kind for entry in entries if entry.seq < frozen} >= {"reserve", "dispatch"}
    sent = {name for result in results for name in result["done"]}
    assert sent == {job.id for job in guard.history() if job.state == "dispatching"}
    before = guard.status()
    assert before[0].held == COST * sum(job.state in {"reserved", "dispatching"} for job in guard.history())
    if by_name:
        thaw_budgets(ledger, ["trailer"], actor="li", reason="done")
    else:
        thaw_all(ledger, actor="li", reason="done")
    assert guard.status() == before
    guard.dispatch(guard.admit(VIDEO, project="trailer"))
    guard.verify()


@pytest.mark.parametrize(
    ("amount", "fit"),
    [(20 * COST, 35), (20 * COST - NANO, 34), (20 * COST + NANO, 35)],
    ids=["exactly", "a nano short", "a nano more"],
)
def test_an_allowance_that_is_raced_for_is_used_to_the_nano(
    crew: Crew, ledger: str, book: PriceBook, amount: Decimal, fit: int
) -> None:
    """32 threads in 8 processes use a cap and an allowance above it in full, and nobody exceeds their sum.

    The cap and the amount are not multiples of the price, so that one request takes from both.
    """
    cap = 15 * COST
    budgets = [budget("trailer", cap - 7 * NANO, match={"project": "trailer"}), budget("everyone", cap)]
    guard = BudgetGuard(ledger, budgets, book=book)
    allow(
        ledger, "trailer", amount=amount + 7 * NANO, currency="USD", budgets=["trailer", "everyone"],
        until=LATER, reason="race",
    )  # fmt: skip
    results = crew.all_do(do="fill", ledger=ledger, threads=THREADS, orders=[USERS["li"]])
    admitted = [name for result in results for name in result["done"]]
    assert len(admitted) == fit
    (allowance,) = guard.allowances()
    assert allowance.held == fit * COST - cap + 7 * NANO
    assert allowance.available == cap + amount - fit * COST
    guard.verify()
    for name in admitted:
        guard.release(name)
    assert guard.allowances()[0].available == amount + 7 * NANO
    guard.verify()
