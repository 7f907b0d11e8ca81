"""Worker processes for tests of shared transactions: interrupted, killed, or out of disk space.

Run as a script: `python group_workers.py MODE ARGUMENTS`, the arguments being a JSON object.
"""

import json
import os
import random
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from kling_pricing import Budget, BudgetGuard, LedgerUnavailableError, load_price_book

VIDEO = {"model": "kling-v3", "prompt": "a paper boat in the rain", "duration": 5, "resolution": "720p"}
DICE = random.SystemRandom()


def report(result: Any) -> None:
    """Writes one line to the process that started this one."""
    sys.stdout.write(json.dumps(result) + "\n")
    sys.stdout.flush()


def interrupted(ledger: str, seconds: float, threads: int) -> None:
    """Strikes the main thread with Ctrl-C again and again, while it and other threads use one guard.

    Reports the ids that each call returned, the number of interrupts that struck, and the errors of the other
    threads.
    """
    guard = BudgetGuard(ledger, book=load_price_book())
    guard.status()
    over = threading.Event()
    kept: list[str] = []
    sent: list[str] = []
    released: list[str] = []
    errors: list[str] = []
    strikes = 0

    def live() -> None:
        admission = guard.admit(VIDEO, project="trailer")
        kept.append(admission.reservation_id)
        if DICE.random() < 0.5:
            guard.release(admission)
            released.append(admission.reservation_id)
        else:
            guard.dispatch(admission)
            sent.append(admission.reservation_id)

    def work() -> None:
        try:
            while not over.is_set():
                live()
        except BaseException as error:  # noqa: BLE001 (the test must see every error)
            errors.append(repr(error))

    def strike() -> None:
        while not over.wait(DICE.random() / 100):
            os.kill(os.getpid(), signal.SIGINT)

    busy = [threading.Thread(target=work) for _ in range(threads)]
    striker = threading.Thread(target=strike)
    end = time.monotonic() + seconds
    for thread in [*busy, striker]:
        thread.start()
    while True:
        try:
            while time.monotonic() < end:
                live()
            over.set()
            striker.join()
            break
        except KeyboardInterrupt:
            strikes += 1
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for thread in busy:
        thread.join(60)
    hung = sum(thread.is_alive() for thread in busy)
    guard.verify()
    report(
        {"kept": kept, "sent": sent, "released": released, "errors": errors, "strikes": strikes, "hung": hung}
    )
    os._exit(0)


def until_killed(ledger: str, threads: int) -> None:
    """Admits in many threads, and writes each id as soon as the guard has returned it."""
    guard = BudgetGuard(ledger, book=load_price_book())

    def work() -> None:
        while True:
            name = guard.admit(VIDEO, project="trailer").reservation_id
            os.write(1, f"{name}\n".encode())

    for _ in range(threads):
        threading.Thread(target=work).start()


def small_files(ledger: str, threads: int, size_bytes: int) -> None:
    """Lets files grow to a size only, and then without a limit; see `_out_of_space`."""
    import resource  # noqa: PLC0415 (Windows does not have it)

    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))

    _out_of_space(ledger, threads, fill, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard)))


def small_disk(folder: str, threads: int, size_bytes: int) -> None:
    """Fills a small disk with another file, and then removes that file; see `_out_of_space`."""
    ballast = Path(folder) / "ballast"
    ballast.write_bytes(bytes(size_bytes))
    _out_of_space(f"sqlite:///{folder}/spend.db", threads, lambda: None, ballast.unlink)


def _out_of_space(ledger: str, threads: int, fill: Callable[[], None], free: Callable[[], None]) -> None:
    """Admits in many threads until there is no space, and again once there is; reports the ids returned."""
    budget = Budget(name="all", cap=Decimal(10**6), currency="USD")
    guard = BudgetGuard(ledger, [budget], book=load_price_book())
    fill()
    admitted: list[str] = []
    errors: list[str] = []

    def work() -> None:
        try:
            while True:
                admitted.append(guard.admit(VIDEO, project="trailer").reservation_id)
        except LedgerUnavailableError as error:
            errors.append(str(error))

    workers = [threading.Thread(target=work) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    free()
    before = len(admitted)
    admitted.append(guard.admit(VIDEO, project="trailer").reservation_id)
    guard.verify()
    kept = [job.id for job in guard.history()]
    report({"admitted": admitted, "before": before, "errors": errors, "kept": kept})


def forked_inside(ledger: str) -> None:
    """Forks while a thread runs the verbs of others; the child then admits once in a guard of its own.

    Reports the keys in the ledger, and the child's errors.
    """
    waiting, forked = threading.Event(), threading.Event()
    leader: list[int] = []
    readable, writable = os.pipe()
    child = 0

    def clock() -> datetime:
        nonlocal child
        if leader and threading.get_ident() == leader[0]:
            if not waiting.is_set():
                waiting.set()
                others[0].join(1)  # in vain, but the others have called their verbs by then
            elif not forked.is_set():
                forked.set()
                child = os.fork()
        return datetime.now(UTC)

    guard = BudgetGuard(ledger, book=load_price_book(), clock=clock)
    jobs = [guard.admit(VIDEO, project="trailer") for _ in range(4)]

    def lead() -> None:
        leader.append(threading.get_ident())
        try:
            guard.release(jobs[0])
        except LedgerUnavailableError as error:
            os.write(writable, f"{error}\n".encode())
        if forked.is_set() and not child:
            try:
                guard.release(jobs[0])
            except LedgerUnavailableError as error:
                os.write(writable, f"{error}\n".encode())
            os._exit(0)

    def follow(place: int) -> None:
        waiting.wait()
        guard.release(jobs[place])

    others = [threading.Thread(target=follow, args=(place,)) for place in (1, 2, 3)]
    for thread in [*others, threading.Thread(target=lead)]:
        thread.start()
    for thread in others:
        thread.join()
    os.waitpid(child, 0)
    os.close(writable)
    with os.fdopen(readable) as errors:
        report({"child": errors.read().splitlines(), "states": [guard.reservation(job).state for job in jobs]})


MODES: Mapping[str, Callable[..., None]] = {
    "interrupted": interrupted,
    "until_killed": until_killed,
    "forked_inside": forked_inside,
    "small_files": small_files,
    "small_disk": small_disk,
}


if __name__ == "__main__":
    MODES[sys.argv[1]](**json.loads(sys.argv[2]))
