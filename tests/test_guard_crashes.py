"""Crashes between any two steps, after which the next run continues; and forks."""

import inspect
import os
import shutil
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import TypeAlias

import pytest

from kling_pricing import (
    BudgetError,
    BudgetFrozenError,
    BudgetGuard,
    IdempotencyError,
    PriceBook,
    Reservation,
    ReservationStateError,
)
from kling_pricing.guard import freeze_all, thaw_all
from tests.conftest import Clock, video
from tests.guard_workers import BUDGETS, CHARGED, COST, DONE, PROVIDER, SCENES, VIDEO, WHEN, finished
from tests.guards import VerifiedGuard

OTHER = video(duration=10, resolution="720p")
"""A request that differs from the workers' request."""

needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")


Crashed: TypeAlias = Callable[[str], list[Path]]


class Wreck:
    """A ledger whose process was killed at some step of a verb."""

    def __init__(self, path: Path, book: PriceBook) -> None:
        self.clock = Clock(WHEN)
        self.guard = VerifiedGuard(f"sqlite:///{path}", book=book, clock=self.clock)
        self.guard.verify()

    @property
    def job(self) -> Reservation | None:
        """Returns the newest attempt at the job, if there is one."""
        jobs = self.guard.history(key="shot")
        return max(jobs, key=lambda job: job.attempt, default=None)

    @property
    def state(self) -> str:
        """Returns the job's state, with `with task` if its task is known, and its settled amount."""
        job = self.job
        if job is None:
            return "nothing"
        words = [job.state, "in doubt" if job.in_doubt else "", "with task" if job.task_id else ""]
        return " ".join(
            [word for word in words if word] + ([str(job.billed)] if job.billed is not None else [])
        )

    @property
    def money(self) -> tuple[Decimal, Decimal]:
        """Returns the amounts held and spent, which are the same in both budgets."""
        rows = self.guard.status()
        (amounts,) = {(row.held, row.spent) for row in rows}
        return amounts

    def next_run(self) -> int:
        """Continues like a worker that knows only the key; returns how often it sent the job."""
        guard = self.guard
        sent = 0
        try:
            admission = guard.admit(VIDEO, project="trailer", key="shot")
            assert guard.dispatch(admission) == VIDEO
            sent = 1
        except ReservationStateError:
            pass
        job = self.job
        assert job is not None
        with pytest.raises(ReservationStateError):
            guard.admit(VIDEO, project="trailer", key="shot")
        with pytest.raises(IdempotencyError):
            guard.admit(OTHER, project="trailer", key="shot")
        self.clock.pass_by(minutes=6)
        if job.state == "dispatching":
            assert [doubtful.id for doubtful in guard.in_doubt()] == [job.id]
        guard.observe(DONE, provider=PROVIDER)
        guard.bind(job.id, "task-1")
        guard.bind(job.id, "task-1")
        guard.observe(DONE, provider=PROVIDER)
        assert guard.settle(job.id, CHARGED, basis="statement").billed == CHARGED
        assert self.money == SPENT
        assert guard.in_doubt() == []
        assert guard.unclaimed() == []
        guard.verify()
        return sent


@pytest.fixture(scope="module")
def crashed(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], list[Path]]:
    """Returns a function that copies the ledgers of a verb, one for each step at which it was killed."""
    folder = tmp_path_factory.mktemp("crashed")
    points = finished("crash", folder=str(folder))

    def paths(verb: str) -> list[Path]:
        copies = tmp_path_factory.mktemp("wrecks") / "copies"
        shutil.copytree(folder / verb, copies)
        return [copies / f"{point}.db" for point in range(1, points[verb] + 1)]

    return paths


NO_MONEY, HELD, SPENT = (Decimal(0), Decimal(0)), (COST, Decimal(0)), (Decimal(0), CHARGED)

OUTCOMES: dict[str, tuple[tuple[str, object], tuple[str, object]]] = {
    "admit": (("nothing", None), ("reserved", HELD)),
    "dispatch": (("reserved", HELD), ("dispatching", HELD)),
    "admit_and_dispatch": (("nothing", None), ("dispatching", HELD)),
    "bind": (("dispatching", HELD), ("bound with task", HELD)),
    "bind after the webhook": (("dispatching", HELD), ("settled with task 0.3", SPENT)),
    "settle": (("bound with task", HELD), ("settled with task 0.3", SPENT)),
    "settle_all": (("bound with task", HELD), ("settled with task 0.3", SPENT)),
    "settle again, on a stronger basis": (
        ("settled with task 0.357", (Decimal(0), COST)),
        ("settled with task 0.3", SPENT),
    ),
    "release": (("reserved", HELD), ("released", NO_MONEY)),
    "release_refused": (("dispatching", HELD), ("released", NO_MONEY)),
    "mark_in_doubt": (("dispatching", HELD), ("dispatching in doubt", HELD)),
    "observe before it is bound": (("dispatching", HELD), ("dispatching", HELD)),
    "observe, which binds it": (("dispatching", HELD), ("settled with task 0.3", SPENT)),
    "observe": (("bound with task", HELD), ("settled with task 0.3", SPENT)),
}
"""Verb -> the state of the job and the money before and after it."""


@needs_fork
@pytest.mark.parametrize("verb", OUTCOMES)
def test_a_verb_killed_after_any_step_is_done_or_not_begun_and_the_next_run_continues(
    crashed: Crashed, book: PriceBook, verb: str
) -> None:
    """A killed verb has happened or not, and a retry with the same key reserves and sends the job once."""
    before, after = OUTCOMES[verb]
    seen = []
    for wreck in [Wreck(path, book) for path in crashed(verb)]:
        now = (wreck.state, wreck.money if wreck.job else None)
        seen.append(now)
        assert now in {before, after}
        unsent = now[0] in {"nothing", "reserved", "released"}
        assert wreck.next_run() == int(unsent)
        wreck.guard.close()
    assert len(seen) >= 4
    assert seen == sorted(seen, key=[before, after].index)
    assert {seen[0], seen[-1]} == {before, after}


@needs_fork
def test_a_webhook_that_overtakes_bind_is_not_lost(crashed: Crashed, book: PriceBook) -> None:
    """The observation of a killed process is either missing or waits for the task to be bound."""
    waited = []
    for wreck in [Wreck(path, book) for path in crashed("observe before it is bound")]:
        job = wreck.job
        assert job is not None
        waits = [seen.task_id for seen in wreck.guard.unclaimed()]
        waited.append(len(waits))
        bound = wreck.guard.bind(job.id, "task-1")
        assert (bound.state, bound.billed) == (("settled", CHARGED) if waits else ("bound", None))
        if not waits:  # the webhook was not acknowledged, so the provider sends it again
            settled = wreck.guard.observe(DONE, provider=PROVIDER)
            assert settled is not None
            assert settled.billed == CHARGED
        assert wreck.money == SPENT
        wreck.guard.verify()
    assert waited == sorted(waited)
    assert (waited[0], waited[-1]) == (0, 1)


@needs_fork
def test_opening_a_ledger_killed_after_any_step_leaves_one_that_opens(
    crashed: Crashed, book: PriceBook
) -> None:
    """A killed opening leaves an empty file, or a ledger with or without budgets; the next guard opens it."""
    paths = crashed("open")
    assert len(paths) > 15
    without = 0
    for path in paths:
        ledger = f"sqlite:///{path}"
        try:
            VerifiedGuard(ledger, book=book).close()
        except BudgetError:
            without += 1
        guard = VerifiedGuard(ledger, BUDGETS, book=book)
        assert len([entry for entry in guard.journal() if entry.kind == "revision"]) == 1
        guard.admit(VIDEO, project="trailer")
        guard.verify()
    assert 0 < without < len(paths)


@needs_fork
def test_recording_killed_after_any_step_counts_once(crashed: Crashed, book: PriceBook) -> None:
    """Spend that is recorded again after a crash is booked once."""
    counted = []
    for wreck in [Wreck(path, book) for path in crashed("record")]:
        counted.append(sum(row.spent for row in wreck.guard.status() if row.budget == "everyone"))
        wreck.guard.record(PROVIDER, "elsewhere-1", CHARGED, labels={"project": "trailer"})
        assert wreck.money == SPENT
        wreck.guard.verify()
    assert (counted[0], counted[-1]) == (0, CHARGED)
    assert counted == sorted(counted)


@needs_fork
def test_applying_budgets_killed_after_any_step_is_done_or_not_begun(crashed: Crashed, book: PriceBook) -> None:
    """After a crash one of the revisions is in force with its caps, and the amounts held are unchanged."""
    caps = []
    for wreck in [Wreck(path, book) for path in crashed("apply")]:
        caps.append({row.budget: row.cap for row in wreck.guard.status()})
        assert wreck.money == HELD
        assert wreck.next_run() == 0
    assert caps[0] == {"everyone": 10, "each": 5}
    assert caps[-1] == {"everyone": 20, "each": 5}
    assert caps == sorted(caps, key=lambda by_budget: by_budget["everyone"])


def is_frozen(guard: BudgetGuard) -> bool:
    """Returns whether a guard refuses to admit a job because spending is frozen."""
    try:
        guard.release(guard.admit(OTHER, project="trailer"))
    except BudgetFrozenError:
        return True
    return False


@needs_fork
@pytest.mark.parametrize("command", ["freeze", "thaw"])
def test_a_freeze_and_a_thaw_killed_after_any_step_are_done_or_not_begun(
    crashed: Crashed, book: PriceBook, command: str
) -> None:
    """After a crash, spending is frozen or not, the command can be repeated, and a sent job is settled."""
    seen = []
    for path in crashed(command):
        wreck = Wreck(path, book)
        assert wreck.money == HELD
        seen.append(is_frozen(wreck.guard))
        freeze_all(f"sqlite:///{path}", actor="wang", reason="again")
        assert is_frozen(wreck.guard)
        assert thaw_all(f"sqlite:///{path}", actor="wang", reason="repeated") is True
        job = wreck.job
        assert job is not None
        assert wreck.guard.settle(job.id, CHARGED).billed == CHARGED
        wreck.guard.close()
    assert seen == sorted(seen, reverse=command == "thaw")
    assert set(seen) == {False, True}


def test_every_verb_that_writes_has_crash_points() -> None:
    """The crash tests cover every verb that changes a ledger."""
    reading = {
        "reservation",
        "in_doubt",
        "unclaimed",
        "history",
        "history_page",
        "journal",
        "status",
        "verify",
        "close",
    }
    reading |= {"unpriced", "count_unpriced", "refusals"}  # counts of requests, which move no money
    reading |= {
        "decide",
        "plan",
        "budgets",
        "cap_change",
        "cap_overlays",
        "log",
        "forecasts",
        "freezes",
        "waived",
    }
    reading |= {"allowances", "allowance_requests", "ask"}  # a filed request moves no money either
    reading |= {"balances_of", "unsettled", "access_key", "access_keys"}
    reading |= {"issue_key", "revoke_key", "mark_key_used"}  # an access key is one row, and moves no money
    methods = {name for name, _ in inspect.getmembers(BudgetGuard, inspect.isfunction)}
    verbs = {name for name in methods if not name.startswith("_")} - reading
    composed = {"pre_submit", "admission", "close_admission", "resolve", "open_budget"}
    composed |= {"set_cap"}  # an overlay is one row, and any other change of a cap is an `apply`
    composed |= {"acting_as"}  # changes nothing
    parts = {"observe_task"}  # `observe` reads a response and calls it
    parts |= {"release_expired"}  # `admit` begins with the same statements
    assert verbs - composed - parts == {scene.split(",")[0].split(" ")[0] for scene in SCENES}


def test_an_expired_reservation_releases_its_money(ledger: str, book: PriceBook, clock: Clock) -> None:
    """A reservation of a dead process expires after 15 minutes: its money is free, and it cannot be sent."""
    guard = VerifiedGuard(ledger, BUDGETS, book=book, clock=clock)
    admissions = [guard.admit(VIDEO, project=f"p{place}", key="shot") for place in range(10 * 1000 // 357)]
    assert guard.status()[0].available == 10 - 28 * COST
    clock.pass_by(minutes=14, seconds=59)
    guard.dispatch(admissions[0])
    clock.pass_by(seconds=1)
    retry = guard.admit(VIDEO, project="p1", key="shot")
    assert retry.reservation.attempt == 2
    everyone = next(row for row in guard.status() if row.budget == "everyone")
    assert everyone.held == 2 * COST
    with pytest.raises(ReservationStateError, match="released"):
        guard.dispatch(admissions[1])
    with pytest.raises(ReservationStateError, match="released"):
        guard.dispatch(admissions[2])
    assert guard.dispatch(retry) == VIDEO
    guard.verify()


def test_a_dispatch_that_comes_too_late_releases_the_money(ledger: str, book: PriceBook, clock: Clock) -> None:
    """A dispatch after the deadline releases the reservation itself."""
    guard = VerifiedGuard(ledger, BUDGETS, book=book, clock=clock)
    admission = guard.admit(VIDEO, project="trailer")
    clock.pass_by(minutes=15)
    with pytest.raises(ReservationStateError, match="released"):
        guard.dispatch(admission)
    assert {row.held for row in guard.status()} == {0}
    guard.verify()


def test_a_response_for_another_task_is_stored_although_it_cannot_be_bound(
    ledger: str, book: PriceBook
) -> None:
    """A response for a second task of a job raises an error and is stored, because the task may be billed."""
    guard = VerifiedGuard(ledger, BUDGETS, book=book)
    admission = guard.admit(VIDEO, project="trailer")
    guard.dispatch(admission)
    guard.bind(admission, "task-1")
    with pytest.raises(ReservationStateError, match="task-1"):
        guard.observe({"task_id": "task-2", "status": "queued"}, provider=PROVIDER, reservation=admission)
    assert [seen.task_id for seen in guard.unclaimed()] == ["task-2"]
    assert guard.reservation(admission).state == "bound"


@pytest.mark.parametrize(
    "repeat",
    [
        lambda guard: guard.observe({"task_id": "task-1", "status": "failed"}, provider=PROVIDER),
        lambda guard: guard.observe({"task_id": "task-1", "status": "completed"}, provider=PROVIDER),
        lambda guard: guard.bind((PROVIDER, "task-1"), "task-1"),
    ],
    ids=["failed", "completed", "bind"],
)
def test_repeating_contradictory_responses_changes_nothing(
    ledger: str, book: PriceBook, repeat: Callable[[BudgetGuard], Reservation | None]
) -> None:
    """Repeating either of two contradictory responses leaves the money unchanged."""
    guard = VerifiedGuard(ledger, BUDGETS, book=book)
    admission = guard.admit(VIDEO, project="trailer")
    guard.dispatch(admission)
    guard.bind(admission, "task-1")
    for status in ("failed", "completed"):
        guard.observe({"task_id": "task-1", "status": status}, provider=PROVIDER)
    settled = guard.reservation(admission)
    assert (settled.state, settled.billed) == ("settled", COST)
    entries = guard.journal()
    assert repeat(guard) == settled
    assert guard.journal() == entries


@needs_fork
def test_a_guard_used_before_a_fork_works_in_parent_and_child(ledger: str, book: PriceBook) -> None:
    """The child's admissions remain although the parent closes the ledger and another process uses it."""
    guard = VerifiedGuard(ledger, BUDGETS, book=book)
    keys = finished("fork_and_close", ledger=ledger)
    assert keys == ["child 1", "child 2", "other", "parent 1", "parent 2"]
    assert sorted(job.key for job in guard.history()) == keys
    guard.verify()


@needs_fork
def test_a_fork_while_other_threads_use_the_guard_is_safe(ledger: str, book: PriceBook) -> None:
    """Every child of a fork during transactions of other threads admits, and no process hangs."""
    guard = VerifiedGuard(ledger, [BUDGETS[0]], book=book)
    assert finished("fork_in_use", ledger=ledger) == ["reserved"] * 20
    guard.verify()


@needs_fork
def test_a_fork_inside_a_transaction_leaves_a_child_that_refuses(tmp_path: Path, book: PriceBook) -> None:
    """A child forked inside a transaction refuses the ledger, and the parent's transaction is unharmed."""
    ledger = f"sqlite:///{tmp_path}/spend.db"
    guard = VerifiedGuard(ledger, BUDGETS, book=book)
    result = finished("fork_inside", ledger=ledger)
    assert [line.split(":")[0] for line in result["child"]] == ["LedgerUnavailableError"] * 2
    assert "forked" in result["child"][0]
    assert result["ledger"] == ["parent"]
    guard.verify()
