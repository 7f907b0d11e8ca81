"""Worker processes that tests of the guard start and kill.

Run as a script: `python guard_workers.py MODE ARGUMENTS`, the arguments being a JSON object.
It uses the library as any program would, so it works wherever that is installed.
"""

import contextlib
import json
import os
import random
import select
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import IO, Any

from kling_pricing import (
    Admission,
    Alert,
    Budget,
    BudgetExceededError,
    BudgetFrozenError,
    BudgetGuard,
    PriceBook,
    ReservationStateError,
    load_price_book,
)
from kling_pricing.guard import freeze_all, thaw_all

VIDEO = {"model": "kling-v3", "prompt": "a paper boat in the rain", "duration": 5, "resolution": "720p"}
COST = Decimal("0.357")
"""The price of `VIDEO`: five seconds at 0.0714 USD."""
PROVIDER = "qingbo"
NANO = Decimal("0.000000001")
DICE = random.SystemRandom()


def started(mode: str, **arguments: Any) -> subprocess.Popen[str]:
    """Starts a process of this script with pipes for commands and results."""
    return subprocess.Popen(
        [sys.executable, __file__, mode, json.dumps(arguments)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        bufsize=1,
    )


def finished(mode: str, **arguments: Any) -> Any:
    """Runs a process of this script to its end; returns its result."""
    with started(mode, **arguments) as process:
        out, _ = process.communicate()
    assert process.returncode == 0
    return json.loads(out)


def piped(stream: IO[str] | None) -> IO[str]:
    """Returns a pipe of a process that was started with one."""
    assert stream is not None
    return stream


def report(result: Any) -> None:
    """Writes one line to the process that started this one."""
    sys.stdout.write(json.dumps(result) + "\n")
    sys.stdout.flush()


# racing: commands come in, one line each


def race() -> None:
    """Carries out commands until the input ends."""
    book = load_price_book()
    report("ready")
    for line in sys.stdin:
        command = json.loads(line)
        alerts: list[Alert] = []
        budgets = BUDGETS if command.get("install") else None
        guard = BudgetGuard(command["ledger"], budgets, book=book, on_alert=alerts.append)
        work = {"fill": fill, "one_job": one_job, "until_frozen": until_frozen}[command["do"]]
        done: list[str] = []
        barrier = threading.Barrier(command["threads"])

        def run(
            guard: BudgetGuard = guard,
            command: Mapping[str, Any] = command,
            done: list[str] = done,
            barrier: threading.Barrier = barrier,
            work: Callable[[BudgetGuard, Mapping[str, Any]], list[str]] = work,
        ) -> None:
            barrier.wait()
            done.extend(work(guard, command))

        threads = [threading.Thread(target=run) for _ in range(command["threads"])]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        guard.close()
        fired = [[alert.budget, json.dumps(alert.labels), str(alert.threshold)] for alert in alerts]
        report({"done": done, "alerts": fired})


def fill(guard: BudgetGuard, command: Mapping[str, Any]) -> list[str]:
    """Admits until nothing fits; returns the ids of the reservations."""
    mine: list[str] = []
    orders = [dict(labels) for labels in command["orders"]]
    while orders:
        DICE.shuffle(orders)
        for labels in list(orders):
            try:
                mine.append(guard.admit(VIDEO, project=labels["project"], labels=labels).reservation_id)
            except BudgetExceededError:
                orders.remove(labels)  # nothing is given back, so it will never fit
    return mine


def until_frozen(guard: BudgetGuard, command: Mapping[str, Any]) -> list[str]:
    """Admits and dispatches until both are refused by a freeze; returns the ids of what was sent.

    It reserves several jobs ahead, so that some are reserved before the freeze and dispatched after it.
    """
    sent: list[str] = []
    ahead: list[Admission] = []
    refused = 0
    while refused < command["refusals"]:
        try:
            if len(ahead) < DICE.randrange(1, 4):
                ahead.append(guard.admit(VIDEO, project="trailer"))
            else:
                admission = ahead.pop(0)
                guard.dispatch(admission)
                sent.append(admission.reservation_id)
        except BudgetFrozenError:
            refused += 1
    return sent


def one_job(guard: BudgetGuard, command: Mapping[str, Any]) -> list[str]:
    """Admits and dispatches under the key that all workers share; returns whether this worker won."""
    try:
        admission = guard.admit(VIDEO, project="trailer", key=command["key"])
        body = guard.dispatch(admission)
    except ReservationStateError as error:
        return [f"lost {error.reservation_id}"]
    assert body == VIDEO
    return [f"won {admission.reservation_id}"]


# torture: processes that are killed at any moment


STALLED_S = 60
"""The seconds without any acknowledgement after which the workers count as stuck."""


def torture(ledger: str, acknowledged: str, seconds: int, processes: int, threads: int) -> None:
    """Keeps processes at work on one ledger, and kills one of them after every few acknowledgements.

    On a busy machine it takes longer than `seconds`, until it has killed one process per second of them.
    """
    book = load_price_book()
    readable, writable = os.pipe()
    end = time.monotonic() + seconds
    alive = {_torn(ledger, acknowledged, writable, threads, book) for _ in range(processes)}
    kills = verbs = 0
    while time.monotonic() < end or kills < seconds:
        for _ in range(DICE.randrange(1, 60)):
            assert select.select([readable], [], [], STALLED_S)[0], "no worker makes progress"
            verbs += len(os.read(readable, 1))
        victim = DICE.choice(sorted(alive))
        os.kill(victim, signal.SIGKILL)
        _, status = os.waitpid(victim, 0)
        assert os.WIFSIGNALED(status), "a worker ended by itself"
        kills += 1
        alive.remove(victim)
        alive.add(_torn(ledger, acknowledged, writable, threads, book))
    for process in alive:
        os.kill(process, signal.SIGKILL)
        os.waitpid(process, 0)
    report({"kills": kills, "verbs": verbs})


def _torn(ledger: str, acknowledged: str, writable: int, threads: int, book: PriceBook) -> int:
    """Forks a child that works until it is killed; returns its process id."""
    child = os.fork()
    if child:
        return child
    try:
        in_doubt_soon = timedelta(milliseconds=50)
        guard = BudgetGuard(ledger, book=book, doubtful_after=in_doubt_soon)
        hasty = BudgetGuard(
            ledger, book=book, expires_after=timedelta(milliseconds=20), doubtful_after=in_doubt_soon
        )
        acks = os.open(acknowledged, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

        def ack(*words: str) -> None:
            os.write(acks, (" ".join(words) + "\n").encode())
            os.write(writable, b".")

        def work() -> None:
            try:
                while True:
                    try:
                        _one_life(DICE.choice([guard, guard, guard, hasty]), ack)
                    except BudgetExceededError:
                        _clear_up(guard, ack)
            except BaseException as error:  # noqa: BLE001 (the test must see every error)
                ack("error", repr(error).replace("\n", " "))
                os._exit(1)

        for _ in range(threads - 1):
            threading.Thread(target=work).start()
        work()
    finally:
        os._exit(1)


def _one_life(guard: BudgetGuard, ack: Callable[..., None]) -> None:
    """Takes one job from its admission to a random end, and acknowledges every verb as soon as it returns."""
    key = f"shared {time.monotonic_ns() // 10**8}" if DICE.random() < 0.3 else os.urandom(8).hex()
    try:
        labels = {"project": DICE.choice(["trailer", "advert"]), "user": DICE.choice(["li", "wu", "ho"])}
        admission = guard.admit(VIDEO, project=labels["project"], key=key, labels=labels)
        name = admission.reservation_id
        ack("reserved", name)
        if DICE.random() < 0.2:
            return
        if DICE.random() < 0.3:
            guard.release(admission)
            ack("released", name)
            return
        guard.dispatch(admission)
        ack("dispatched", name)
        end = DICE.random()
        if end < 0.1:
            return
        if end < 0.4:
            guard.release_refused(admission)
            ack("released", name)
            return
        task = f"task-{name}"
        if end < 0.6:
            guard.observe({"task_id": task, "status": "completed", "cost": 1}, provider=PROVIDER)
            ack("observed", name, task)
        guard.bind(admission, task)
        ack("bound", name, task)
        if end < 0.9:
            guard.settle((PROVIDER, task), NANO, basis="operator")
            ack("settled", name)
    except ReservationStateError:
        return  # another worker has this job, or the job expired


def _clear_up(guard: BudgetGuard, ack: Callable[..., None]) -> None:
    """Ends one of the abandoned jobs, so that there is room again."""
    abandoned = guard.in_doubt()
    if not abandoned or DICE.random() < 0.1:
        abandoned = [job for job in guard.history() if job.state in {"reserved", "bound"}]
    if not abandoned:
        return
    job = DICE.choice(abandoned)
    try:
        if job.state == "reserved":
            guard.release(job.id)
        else:
            guard.resolve(job.id, "not_charged")
    except ReservationStateError:
        return  # another worker continued the job
    ack("released", job.id)


# crash points: one verb, killed after each of its steps

WHEN = datetime(2026, 11, 21, tzinfo=UTC)


class Steps:
    """Counts the steps on databases once `left` is set, and kills the process after the last step allowed."""

    left: int | None = None

    @classmethod
    def done(cls) -> None:
        """Counts one step."""
        if cls.left is not None:
            cls.left -= 1
            if cls.left == 0:
                os.kill(os.getpid(), signal.SIGKILL)


class Counting(sqlite3.Connection):
    """A connection that counts each statement, and its closing, as a step."""

    def execute(self, *arguments: Any) -> sqlite3.Cursor:
        """See `sqlite3.Connection.execute`."""
        cursor = super().execute(*arguments)
        Steps.done()
        return cursor

    def executemany(self, *arguments: Any) -> sqlite3.Cursor:
        """See `sqlite3.Connection.executemany`."""
        cursor = super().executemany(*arguments)
        Steps.done()
        return cursor

    def close(self) -> None:
        """See `sqlite3.Connection.close`."""
        super().close()
        Steps.done()


BUDGETS = [
    Budget(name="everyone", cap=Decimal(10), currency="USD", alerts=(Decimal("0.01"),)),
    Budget(name="each", match={"project": "*"}, cap=Decimal(5), currency="USD"),
]

DONE = {"task_id": "task-1", "status": "completed", "cost": 150000}
"""The provider's final response about the task: it charged 0.3 USD."""
CHARGED = Decimal("0.3")

Scene = Callable[[BudgetGuard], Callable[[], object]]
"""Prepares a ledger and returns the verb to kill."""


def _admitting(guard: BudgetGuard) -> Callable[[], object]:
    return lambda: guard.admit(VIDEO, project="trailer", key="shot")


def _dispatching(guard: BudgetGuard) -> Callable[[], object]:
    admission = guard.admit(VIDEO, project="trailer", key="shot")
    return lambda: guard.dispatch(admission)


def _admitting_and_dispatching(guard: BudgetGuard) -> Callable[[], object]:
    return lambda: guard.admit_and_dispatch(VIDEO, project="trailer", key="shot")


def _sent(guard: BudgetGuard) -> str:
    admission = guard.admit(VIDEO, project="trailer", key="shot")
    guard.dispatch(admission)
    return admission.reservation_id


def _binding(guard: BudgetGuard) -> Callable[[], object]:
    name = _sent(guard)
    return lambda: guard.bind(name, "task-1")


def _binding_late(guard: BudgetGuard) -> Callable[[], object]:
    name = _sent(guard)
    guard.observe(DONE, provider=PROVIDER)
    return lambda: guard.bind(name, "task-1")


def _bound(guard: BudgetGuard) -> str:
    name = _sent(guard)
    guard.bind(name, "task-1")
    return name


def _settling(guard: BudgetGuard) -> Callable[[], object]:
    name = _bound(guard)
    return lambda: guard.settle(name, CHARGED)


def _releasing(guard: BudgetGuard) -> Callable[[], object]:
    admission = guard.admit(VIDEO, project="trailer", key="shot")
    return lambda: guard.release(admission)


def _refusing(guard: BudgetGuard) -> Callable[[], object]:
    name = _sent(guard)
    return lambda: guard.release_refused(name)


def _doubting(guard: BudgetGuard) -> Callable[[], object]:
    name = _sent(guard)
    return lambda: guard.mark_in_doubt(name, "timeout")


def _observing_early(guard: BudgetGuard) -> Callable[[], object]:
    _sent(guard)
    return lambda: guard.observe(DONE, provider=PROVIDER)


def _observing_first(guard: BudgetGuard) -> Callable[[], object]:
    name = _sent(guard)
    return lambda: guard.observe(DONE, provider=PROVIDER, reservation=name)


def _observing(guard: BudgetGuard) -> Callable[[], object]:
    _bound(guard)
    return lambda: guard.observe(DONE, provider=PROVIDER)


def _settling_all(guard: BudgetGuard) -> Callable[[], object]:
    name = _bound(guard)
    return lambda: guard.settle_all({name: CHARGED})


def _correcting(guard: BudgetGuard) -> Callable[[], object]:
    name = _bound(guard)
    guard.settle(name)
    return lambda: guard.settle(name, CHARGED, basis="statement")


def _recording(guard: BudgetGuard) -> Callable[[], object]:
    return lambda: guard.record(PROVIDER, "elsewhere-1", CHARGED, labels={"project": "trailer"})


def _applying(guard: BudgetGuard) -> Callable[[], object]:
    _bound(guard)
    return lambda: guard.apply(
        [BUDGETS[0].model_copy(update={"cap": Decimal(20)}), BUDGETS[1]], allow_weaker=True
    )


def _freezing(guard: BudgetGuard, ledger: str) -> Callable[[], object]:
    _bound(guard)
    return lambda: freeze_all(ledger, actor="li", reason="the bill looks wrong")


def _thawing(guard: BudgetGuard, ledger: str) -> Callable[[], object]:
    _freezing(guard, ledger)()
    return lambda: thaw_all(ledger, actor="li", reason="the bill was corrected")


ADMINISTRATION = {"freeze": _freezing, "thaw": _thawing}
"""Prepares a ledger, and returns the command of an administrator to kill."""

SCENES: dict[str, Scene] = {
    "admit": _admitting,
    "dispatch": _dispatching,
    "admit_and_dispatch": _admitting_and_dispatching,
    "bind": _binding,
    "bind after the webhook": _binding_late,
    "settle": _settling,
    "settle_all": _settling_all,
    "settle again, on a stronger basis": _correcting,
    "release": _releasing,
    "release_refused": _refusing,
    "mark_in_doubt": _doubting,
    "observe before it is bound": _observing_early,
    "observe, which binds it": _observing_first,
    "observe": _observing,
    "record": _recording,
    "apply": _applying,
}


def crash(folder: str) -> None:
    """Kills each verb after its first step, its second, and so on, each time on a new ledger."""
    sqlite3.connect = partial(sqlite3.connect, factory=Counting)  # type: ignore[assignment]
    book = load_price_book()
    points = {}
    for verb in ["open", *SCENES, *ADMINISTRATION]:
        Path(folder, verb).mkdir()
        points[verb] = _crash_points(f"sqlite:///{folder}/{verb}", verb, book)
    report(points)


def _crash_points(folder: str, verb: str, book: PriceBook) -> int:
    for point in range(1, 1000):
        child = os.fork()
        if not child:
            try:
                ledger = f"{folder}/{point}.db"
                if verb == "open":
                    Steps.left = point
                    BudgetGuard(ledger, BUDGETS, book=book, clock=lambda: WHEN)
                else:
                    guard = BudgetGuard(ledger, BUDGETS, book=book, clock=lambda: WHEN)
                    is_scene = verb in SCENES
                    act = SCENES[verb](guard) if is_scene else ADMINISTRATION[verb](guard, ledger)
                    Steps.left = point
                    act()
                os._exit(0)
            finally:
                os._exit(1)
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status):
            assert os.WEXITSTATUS(status) == 0, "the verb failed by itself"
            return point - 1
    raise AssertionError("the verb has no end")


# forks: a child and its parent's guard


@contextlib.contextmanager
def forked(work: Callable[[int, int], None]) -> Iterator[tuple[int, int]]:
    """Forks a child that works; both processes have a pipe to read from and one to write to."""
    down, up = os.pipe(), os.pipe()
    child = os.fork()
    if not child:
        try:
            work(down[0], up[1])
            os._exit(0)
        finally:
            os._exit(1)
    yield up[0], down[1]
    _, status = os.waitpid(child, 0)
    assert status == 0


def fork_and_close(ledger: str) -> None:
    """Uses one guard in parent and child. The child continues after the parent closes its guard."""
    guard = BudgetGuard(ledger)
    guard.admit(VIDEO, project="trailer", key="parent 1")

    def work(down: int, up: int) -> None:
        guard.admit(VIDEO, project="trailer", key="child 1")
        os.write(up, b".")
        os.read(down, 1)
        guard.admit(VIDEO, project="trailer", key="child 2")

    with forked(work) as (up, down):
        os.read(up, 1)
        guard.close()
        finished("admit_one", ledger=ledger, key="other")
        os.write(down, b".")
    guard.admit(VIDEO, project="trailer", key="parent 2")
    report(sorted(job.key for job in guard.history()))


def admit_one(ledger: str, key: str) -> None:
    """Admits one request in a separate process, which then closes the ledger."""
    guard = BudgetGuard(ledger)
    report(guard.admit(VIDEO, project="trailer", key=key).reservation_id)
    guard.close()


def fork_in_use(ledger: str, threads: int = 3) -> None:
    """Forks repeatedly while other threads are in transactions; each child admits once."""
    guard = BudgetGuard(ledger)
    guard.admit(VIDEO, project="trailer", key="first")
    over = threading.Event()

    def work() -> None:
        while not over.is_set():
            guard.release(guard.admit(VIDEO, project="trailer"))

    def child(_down: int, _up: int) -> None:
        guard.admit(VIDEO, project="trailer", key=f"child {os.getpid()}")

    def fork_often() -> None:
        for _ in range(10):
            with forked(child):
                pass

    busy = [threading.Thread(target=work) for _ in range(threads)]
    forking = [threading.Thread(target=fork_often) for _ in range(2)]
    for thread in busy + forking:
        thread.start()
    for thread in forking:
        thread.join()
    over.set()
    for thread in busy:
        thread.join()
    children = [job for job in guard.history() if job.key.startswith("child")]
    report([job.state for job in children])


def fork_inside(ledger: str) -> None:
    """Forks inside a transaction, from the guard's clock, and lets the child try to admit."""
    inside: list[str] = []
    forks = iter([False, True])  # `admit` reads the clock before the transaction and then inside it

    def work(_down: int, up: int) -> None:
        for opened in (guard, None):
            try:
                (opened or BudgetGuard(ledger)).admit(VIDEO, project="trailer", key="child")
            except Exception as error:  # noqa: BLE001 (the test must see every error)
                os.write(up, f"{type(error).__name__}: {error}\n".encode())

    def clock() -> datetime:
        if is_opened and next(forks, False):
            with forked(work) as (up, _):
                pass
            inside.extend(os.read(up, 10**4).decode().splitlines())
        return WHEN

    is_opened = False
    guard = BudgetGuard(ledger, clock=clock)
    is_opened = True
    guard.admit(VIDEO, project="trailer", key="parent")
    report({"child": inside, "ledger": [job.key for job in guard.history()]})


# a user who may not write


def as_nobody(ledger: str) -> None:
    """Tries to admit without root's rights; writes the result."""
    book = load_price_book()
    with tempfile.TemporaryDirectory() as folder:  # imports everything while it can still be read
        _try_all(f"sqlite:///{folder}/spend.db", book)
    if os.geteuid() == 0:
        os.setgid(65534)
        os.setuid(65534)
    report(_try_all(ledger, book))


def with_small_files(ledger: str, size_bytes: int) -> None:
    """Admits until files may not grow; writes the result."""
    import resource  # noqa: PLC0415 (Windows does not have it)

    book = load_price_book()
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, size_bytes))
    report(_try_all(ledger, book))


def _try_all(ledger: str, book: PriceBook) -> dict[str, Any]:
    admitted: list[str] = []
    try:
        guard = BudgetGuard(ledger, BUDGETS, book=book)
        for place in range(200):
            labels = {"note": f"{place} " + "x" * 190}
            name = guard.admit(VIDEO, project=f"p{place}", labels=labels).reservation_id
            admitted.append(name)
            guard.release(name, "y" * 3000)
    except Exception as error:  # noqa: BLE001 (the test must see every error)
        return {"admitted": admitted, "error": type(error).__name__, "message": str(error)}
    return {"admitted": admitted, "error": None, "message": ""}


MODES: Mapping[str, Callable[..., None]] = {
    "race": race,
    "torture": torture,
    "crash": crash,
    "fork_and_close": fork_and_close,
    "fork_in_use": fork_in_use,
    "fork_inside": fork_inside,
    "admit_one": admit_one,
    "as_nobody": as_nobody,
    "with_small_files": with_small_files,
}


def main(arguments: Sequence[str]) -> None:
    """Runs one mode."""
    MODES[arguments[0]](**json.loads(arguments[1]))


if __name__ == "__main__":
    main(sys.argv[1:])
