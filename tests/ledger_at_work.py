"""Programs that work with a ledger in a file while `power_cuts` traces them.

Run as a script: `python ledger_at_work.py SCENE FOLDER ACKNOWLEDGED ARGUMENTS`; the last is a JSON object.
Each program appends a line to the file ACKNOWLEDGED as soon as the library has answered it.
It uses the library as any program would, so it works wherever that is installed.
"""

import json
import os
import sqlite3
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from kling_pricing import Budget, BudgetGuard, PriceBook, load_price_book
from kling_pricing.guard import freeze_all, thaw_all
from kling_pricing.ledger.administration import prepare, recover

VIDEO = {"model": "kling-v3", "prompt": "a paper boat in the rain", "duration": 5, "resolution": "720p"}
PROVIDER = "qingbo"
WHEN = datetime(2026, 11, 21, tzinfo=UTC)
BUDGETS = [
    Budget(name="everyone", cap=Decimal(1000), currency="USD", alerts=(Decimal("0.001"),)),
    Budget(name="each", match={"project": "*"}, cap=Decimal(500), currency="USD", window="month"),
]
NAME = "spend.db"

STATES = ("reserved", "dispatching", "bound", "settled")
"""The states that a job of the scene `threads` passes through, in order."""


def opened(folder: Path, book: PriceBook, *budgets: Budget) -> BudgetGuard:
    """Opens the ledger in a folder, at an instant that never passes."""
    return BudgetGuard(f"sqlite:///{folder / NAME}", budgets or None, book=book, clock=lambda: WHEN)


def picture(guard: BudgetGuard) -> list[str]:
    """Returns everything that a guard knows, a line for each fact, without changing it."""
    jobs = [
        f"job {job.project}/{job.key}/{job.attempt}: {job.state} {job.task_id} {job.reserved} {job.billed}"
        f" {job.basis} in_doubt={job.in_doubt} {job.reason}"
        for job in guard.history()
    ]
    buckets = [f"bucket {row.budget} {row.labels}: {row.cap} {row.held} {row.spent}" for row in guard.status()]
    seen = [f"unclaimed {item.task_id}: {item.state} {item.charge}" for item in guard.unclaimed()]
    entries = [
        f"entry {entry.kind} {entry.budget} {entry.held} {entry.spent} {entry.detail}"
        for entry in guard.journal()
    ]
    return jobs + buckets + seen + entries


class Acknowledgements:
    """The file of the lines that were acknowledged."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def add(self, **facts: Any) -> None:
        """Acknowledges facts."""
        os.write(self._descriptor, json.dumps(facts).encode() + b"\n")


# scene `working`: one verb after another, in several processes


def working(folder: Path, acknowledged: Acknowledgements, rounds: int) -> None:
    """Lets three processes work, one after another; the first is killed, the others close the ledger."""
    book = load_price_book()
    for part in (_begin, _continue, _end):
        child = os.fork()
        if child:
            _, status = os.waitpid(child, 0)
            assert status == 0
        else:
            guard = opened(folder, book, *(BUDGETS if part is _begin else ()))
            try:
                part(_Desk(guard, acknowledged), folder, rounds)
            except BaseException:  # noqa: BLE001 (the exit status reports it)
                sys.excepthook(*sys.exc_info())
                os._exit(1)
            os._exit(0)  # like kill -9: nothing that is still open is closed


class _Desk:
    """Runs verbs, and acknowledges each with a picture of the ledger."""

    def __init__(self, guard: BudgetGuard, acknowledged: Acknowledgements) -> None:
        self.guard = guard
        self._acknowledged = acknowledged

    def run(self, verb: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
        """Runs a verb and acknowledges it."""
        result = verb(*arguments, **options)
        self.acknowledge(getattr(verb, "__name__", "?"))
        return result

    def acknowledge(self, verb: str) -> None:
        """Acknowledges a verb that has returned."""
        self._acknowledged.add(verb=verb, picture=picture(self.guard))

    def sent(self, key: str) -> str:
        """Admits and dispatches a job; returns the id of its reservation."""
        admission = self.run(self.guard.admit, VIDEO, project="trailer", key=key)
        self.run(self.guard.dispatch, admission)
        name: str = admission.reservation_id
        return name

    def jobs(self, name: str) -> None:
        """Takes a job to each of its ends."""
        guard, run = self.guard, self.run
        run(guard.bind, self.sent(f"{name} settled"), f"{name} 1")
        run(guard.settle, (PROVIDER, f"{name} 1"), Decimal("0.3"), basis="statement")
        run(guard.release, run(guard.admit, VIDEO, project="teaser", key=f"{name} unsent"), "changed my mind")
        run(guard.release_refused, self.sent(f"{name} refused"))
        doubtful = self.sent(f"{name} in doubt")
        run(guard.mark_in_doubt, doubtful, "timeout")
        early = self.sent(f"{name} early")
        run(guard.observe, {"task_id": f"{name} 2", "status": "completed", "cost": 150_000}, provider=PROVIDER)
        run(guard.bind, early, f"{name} 2")
        run(guard.record, PROVIDER, f"{name} 3", Decimal("1.5"), labels={"project": "trailer"}, at=WHEN)
        self.sent(f"{name} open")


def _begin(desk: _Desk, _folder: Path, rounds: int) -> None:
    desk.acknowledge("open")
    for number in range(rounds):
        desk.jobs(f"a{number}")


def _continue(desk: _Desk, folder: Path, rounds: int) -> None:
    for number in range(rounds):
        desk.jobs(f"b{number}")
        if number == 0:
            _checkpoint(folder, "PASSIVE")  # the next commit begins the WAL anew
    url = f"sqlite:///{folder / NAME}"
    raised = [budget.model_copy(update={"cap": budget.cap + 1}) for budget in BUDGETS]
    desk.run(desk.guard.apply, raised, allow_weaker=True)
    desk.run(freeze_all, url, actor="wang", reason="the invoice is wrong")
    desk.run(thaw_all, url, actor="wang", reason="the invoice was corrected")
    desk.jobs("c")
    desk.guard.close()


def _end(desk: _Desk, folder: Path, _rounds: int) -> None:
    desk.jobs("d")
    _checkpoint(folder, "TRUNCATE")
    desk.jobs("e")
    desk.guard.close()


def _checkpoint(folder: Path, mode: str) -> None:
    with closing(sqlite3.connect(folder / NAME)) as connection:
        connection.execute(f"PRAGMA wal_checkpoint({mode})")


# scene `threads`: many verbs at once


def threads(folder: Path, acknowledged: Acknowledgements, jobs: int, count: int) -> None:
    """Lets threads share a guard, each with its own jobs."""
    guard = opened(folder, load_price_book(), *BUDGETS)
    acknowledged.add(verb="open")
    failures: list[BaseException] = []

    def work(name: int) -> None:
        try:
            for number in range(jobs):
                for state in _life(guard, f"{name}-{number}"):
                    acknowledged.add(verb=state, key=f"{name}-{number}")
        except BaseException as error:  # noqa: BLE001 (reported below)
            failures.append(error)

    workers = [threading.Thread(target=work, args=[name]) for name in range(count)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    if failures:
        raise failures[0]
    guard.close()


def _life(guard: BudgetGuard, key: str) -> Iterator[str]:
    """Takes a job through its states; yields each when the guard has answered."""
    admission = guard.admit(VIDEO, project="trailer", key=key)
    yield "reserved"
    guard.dispatch(admission)
    yield "dispatching"
    guard.bind(admission, key)
    yield "bound"
    guard.settle((PROVIDER, key), Decimal("0.3"))
    yield "settled"


# scenes of administration


def migrating(folder: Path, acknowledged: Acknowledgements) -> None:
    """Upgrades a ledger of an earlier version."""
    prepare(f"sqlite:///{folder / NAME}", create=False)
    acknowledged.add(verb="migrate")


def recovering(folder: Path, acknowledged: Acknowledgements) -> None:
    """Opens a ledger that has lost journal entries."""
    recover(f"sqlite:///{folder / NAME}", accept_loss=True, actor="wang", reason="the disk failed")
    acknowledged.add(verb="recover")


SCENES: dict[str, Callable[..., None]] = {
    scene.__name__: scene for scene in (working, threads, migrating, recovering)
}

if __name__ == "__main__":
    scene, folder, acknowledged, arguments = sys.argv[1:]
    SCENES[scene](Path(folder), Acknowledgements(Path(acknowledged)), **json.loads(arguments))
