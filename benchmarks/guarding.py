"""Measures the speed of a SQLite ledger, in the same run as plain transactions that are equally durable.

Run it with::

    .venv/bin/pip install -q -e '.[dev]' && .venv/bin/python benchmarks/guarding.py

The baseline writes the same rows to the same tables in plain `sqlite3` transactions with `synchronous=FULL`,
under one `flock`.
Each transaction updates the balance if enough is left, and inserts the other rows.
(The store takes two locks, so that processes take turns.)
The baseline looks nothing up, makes no other checks, and returns nothing.

With threads, the store runs the verbs that wait in one transaction. It is compared with itself behind a lock,
so that each verb has a transaction of its own, and with the baseline behind a lock.
One table uses the disk; another one uses memory, where each commit takes 0.7 ms longer, as on a slower disk.

Contestants take turns within each round, so that a slow moment of the machine affects all of them.
Each time is the median over all rounds; each ratio to the baseline is the median of the ratios within rounds.
"""

import fcntl
import gc
import json
import os
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path
from statistics import median
from threading import Lock, Thread
from typing import Any
from uuid import uuid4

from kling_pricing import Budget, BudgetGuard, load_price_book, quote
from kling_pricing.budgets import Budgets
from kling_pricing.guard.reservation_requests import priced_variant, reservation_request
from kling_pricing.ledger import connect
from kling_pricing.ledger.actions import Author
from kling_pricing.ledger.model import Reserved
from kling_pricing.ledger.sqlite.schema import new_ledger
from kling_pricing.money import nanos_up

ROUNDS, ROUND_CALLS = 200, 10
PROCESSES, CONTENDED_ROUNDS, CONTENDED_CALLS = 4, 5, 250
THREADS, THREAD_ROUNDS, THREAD_CALLS = 16, 7, 40
PROCESSOR_CALLS = 200
FLUSH_US = 700
CALLS = max(
    ROUNDS * ROUND_CALLS,
    1 + CONTENDED_ROUNDS * CONTENDED_CALLS,
    1 + THREADS * THREAD_ROUNDS * THREAD_CALLS,
)
"""Maximum number of calls of one process."""

PAYLOAD = {"model": "kling-v3", "prompt": "A paper boat in the rain", "duration": 5, "resolution": "1080p"}
BUDGETS = Budgets([Budget(name="everyone", cap=Decimal(10**9), currency="USD", window="month")])
LABELS = {"project": "trailer"}
EXPIRES_AFTER, DOUBTFUL_AFTER = timedelta(minutes=15), timedelta(minutes=5)

COST_NANOS = 476000000

INSERT_RESERVATION = (
    "INSERT INTO reservation (id, project, key, attempt, state, provider, wire_format, model,"
    " resolution, tier, quantity, unit, currency, expected, reserved, price_table, table_digest,"
    " statement_unit, unit_value, failed_tasks, labels, changes, fingerprint, created_at, deadline)"
    " VALUES (?, 'trailer', ?, 1, 'reserved', 'qingbo', 'tasks', 'kling-v3', '1080p', 'silent', '5', 'second',"
    " 'USD', ?, ?, 'qingbo/2026-04-29', ?, 'quota', '0.000002', 'refunded', '{\"project\":\"trailer\"}', '{}',"
    " ?, ?, ?)"
)
INSERT_HELD = (
    "INSERT INTO journal (at, kind, reservation, bucket, held_delta, spent_delta, detail)"
    " VALUES (?, 'reserve', ?, 1, ?, 0, NULL)"
)
UPDATE_SETTLED = (
    "UPDATE reservation SET state = 'settled', billed = ?, basis = 'quote', closed_at = ?, doubted = 0"
    " WHERE id = ?"
)
INSERT_SPENT = (
    "INSERT INTO journal (at, kind, reservation, bucket, held_delta, spent_delta, detail)"
    " VALUES (?, 'settle', ?, 1, ?, ?, 'quote')"
)


def now() -> datetime:
    """Returns the current time."""
    return datetime.now(UTC)


class Baseline:
    """Plain transactions that write the rows of a ledger."""

    def __init__(self, path: Path) -> None:
        self._lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT)
        self._db = sqlite3.connect(path, timeout=60, isolation_level=None, check_same_thread=False)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.execute("PRAGMA foreign_keys = ON")
        if self._db.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,):
            for statement in new_ledger():
                self._db.execute(statement)
            self._db.execute(
                "INSERT INTO bucket"
                " (budget, definition, labels, window_start, window_end, currency, cap, alerts)"
                " VALUES ('everyone', ?, '{}', ?, ?, 'USD', ?, '[]')",
                ("d" * 16, now().isoformat(), now().isoformat(), 10**18),
            )
        fcntl.flock(self._lock, fcntl.LOCK_UN)

    def _write(self, *statements: tuple[str, tuple[object, ...]]) -> None:
        db = self._db
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        db.execute("BEGIN IMMEDIATE")
        for statement, values in statements:
            db.execute(statement, values)
        db.execute("COMMIT")
        fcntl.flock(self._lock, fcntl.LOCK_UN)

    def admit(self) -> str:
        """Writes the rows of one reservation."""
        name, at = uuid4().hex, now().isoformat()
        self._write(
            ("UPDATE bucket SET held = held + ?1 WHERE id = 1 AND cap - held - spent >= ?1", (COST_NANOS,)),
            (
                INSERT_RESERVATION,
                (name, name, COST_NANOS, COST_NANOS, "d" * 64, "f" * 64, at, at),
            ),
            ("INSERT INTO reservation_line (reservation, bucket, held) VALUES (?, 1, ?)", (name, COST_NANOS)),
            (
                INSERT_HELD,
                (at, name, COST_NANOS),
            ),
        )
        return name

    def cycle(self) -> None:
        """Writes the rows of a reservation from admission to settlement."""
        name = self.admit()
        at = now().isoformat()
        self._write(
            (
                "UPDATE reservation SET state = 'dispatching', dispatched_at = ?, deadline = ? WHERE id = ?",
                (at, at, name),
            ),
            ("INSERT INTO journal (at, kind, reservation) VALUES (?, 'dispatch', ?)", (at, name)),
        )
        self._write(
            ("UPDATE reservation SET task_id = ?, doubted = 0, state = 'bound' WHERE id = ?", (name, name)),
            ("INSERT INTO journal (at, kind, reservation) VALUES (?, 'bind', ?)", (at, name)),
        )
        self._write(
            ("UPDATE reservation_line SET spent = ? WHERE reservation = ? AND bucket = 1", (COST_NANOS, name)),
            (
                UPDATE_SETTLED,
                (COST_NANOS, at, name),
            ),
            ("UPDATE bucket SET held = held - ?1, spent = spent + ?1 WHERE id = 1", (COST_NANOS,)),
            (
                INSERT_SPENT,
                (at, name, -COST_NANOS, COST_NANOS),
            ),
        )


class Store:
    """A ledger, with reservation requests that are ready beforehand."""

    def __init__(self, path: Path) -> None:
        self._ledger = connect(f"sqlite:///{path}", clock=now)
        self._ledger.install(BUDGETS, Author("bench", None))
        quoted = quote(PAYLOAD)
        request = reservation_request(
            quoted,
            project="trailer",
            key="key",
            account=None,
            mark="f" * 64,
            labels=LABELS,
            budgets=BUDGETS,
            revision=BUDGETS.digest,
            at=now(),
            priced_until=None,
        )
        self._requests = [request._replace(key=uuid4().hex) for _ in range(CALLS)]
        self._variants = [priced_variant(quoted, {}, request)]
        assert nanos_up(quoted.total) == COST_NANOS

    def admit(self) -> str:
        """Reserves once."""
        answer = self._ledger.reserve(self._requests.pop(), self._variants, expires_after=EXPIRES_AFTER)
        assert isinstance(answer, Reserved)
        return answer.reservation.id

    def cycle(self) -> None:
        """Reserves, dispatches, binds and settles once."""
        name = self.admit()
        self._ledger.dispatch(name, doubtful_after=DOUBTFUL_AFTER)
        self._ledger.bind(name, name)
        self._ledger.settle(name, None, "quote")


class Guard:
    """The whole guard: reads, checks and quotes the request, and reserves the amount in the budgets."""

    def __init__(self, path: Path) -> None:
        self._guard = BudgetGuard(f"sqlite:///{path}", BUDGETS, book=load_price_book())

    def admit(self) -> str:
        """Admits one request."""
        return self._guard.admit(PAYLOAD, project="trailer").reservation_id

    def cycle(self) -> None:
        """Reserves, dispatches, binds and settles once."""
        admission = self._guard.admit(PAYLOAD, project="trailer")
        self._guard.dispatch(admission)
        self._guard.bind(admission, admission.reservation_id)
        self._guard.settle(admission)


KINDS: dict[str, type[Baseline | Store | Guard]] = {
    "baseline: plain transactions": Baseline,
    "the store: ledger.reserve ...": Store,
    "the guard: quote and store": Guard,
}


def measured(functions: dict[str, Callable[[], object]]) -> dict[str, tuple[int, Decimal]]:
    """Returns the median time per call in microseconds, and the median rate relative to the first function."""
    rounds: dict[str, list[int]] = {name: [] for name in functions}
    gc.collect()
    gc.disable()
    for _ in range(ROUNDS):
        for name, function in functions.items():
            start = time.perf_counter_ns()
            for _ in range(ROUND_CALLS):
                function()
            rounds[name].append((time.perf_counter_ns() - start) // ROUND_CALLS)
    gc.enable()
    first = next(iter(rounds.values()))
    return {
        name: (
            int(median(times_ns)) // 1000,
            median(Decimal(base) / time_ns for base, time_ns in zip(first, times_ns, strict=True)),
        )
        for name, times_ns in rounds.items()
    }


class SlowFlush(sqlite3.Connection):
    """A connection whose commits take longer, as on a disk that takes `FLUSH_US` to flush."""

    def execute(self, *arguments: Any) -> sqlite3.Cursor:
        """See `sqlite3.Connection.execute`."""
        cursor = super().execute(*arguments)
        if arguments[0] == "COMMIT":
            time.sleep(FLUSH_US / 10**6)
        return cursor


def threaded(folder: Path) -> dict[str, tuple[int, Decimal, Decimal]]:
    """Returns calls per second of many threads, relative to single transactions, and to the baseline."""
    lock = Lock()

    def alone(act: Callable[[], object]) -> Callable[[], object]:
        def run() -> object:
            with lock:
                return act()

        return run

    baseline, single, shared, guard = (
        Baseline(folder / "baseline.db"),
        Store(folder / "single.db"),
        Store(folder / "shared.db"),
        Guard(folder / "guard.db"),
    )
    functions = {
        "baseline behind a lock": alone(baseline.admit),
        "the store, single transactions": alone(single.admit),
        "the store, shared transactions": shared.admit,
        "the guard, shared transactions": guard.admit,
    }
    for function in functions.values():
        function()
    rounds: dict[str, list[int]] = {name: [] for name in functions}
    for _ in range(THREAD_ROUNDS):
        for name, function in functions.items():
            threads = [Thread(target=repeat, args=(function,)) for _ in range(THREADS)]
            start = time.perf_counter_ns()
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            rounds[name].append(time.perf_counter_ns() - start)
    plain, alone_ns, *_ = rounds.values()
    return {
        name: (
            THREADS * THREAD_CALLS * 10**9 // int(median(times_ns)),
            median(Decimal(other) / own for other, own in zip(alone_ns, times_ns, strict=True)),
            median(Decimal(other) / own for other, own in zip(plain, times_ns, strict=True)),
        )
        for name, times_ns in rounds.items()
    }


def repeat(function: Callable[[], object]) -> None:
    """Makes the calls of one thread."""
    for _ in range(THREAD_CALLS):
        function()


def processor_us(function: Callable[[], object]) -> int:
    """Returns the processor time of one call in one thread, in microseconds: that of the best of many rounds.

    A round is so long that the WAL is copied into the database in it.
    """
    times_ns = []
    for _ in range(ROUNDS * ROUND_CALLS // PROCESSOR_CALLS):
        start = time.process_time_ns()
        for _ in range(PROCESSOR_CALLS):
            function()
        times_ns.append((time.process_time_ns() - start) // PROCESSOR_CALLS)
    return min(times_ns) // 1000


def print_threads() -> None:
    """Prints the figures of many threads, and the processor time of one."""
    in_memory = "/dev/shm" if Path("/dev/shm").is_dir() else None  # noqa: S108 (benchmarks keep no secrets)
    plain_connect = sqlite3.connect
    for title, place, flush in (("disk", None, False), (f"flush of {FLUSH_US} us", in_memory, True)):
        with tempfile.TemporaryDirectory(dir=place) as name:
            if flush:
                sqlite3.connect = partial(plain_connect, factory=SlowFlush)  # type: ignore[assignment]
            figures = threaded(Path(name))
            sqlite3.connect = plain_connect
        print(
            f"{f'admit, {THREADS} threads, {title}':<48} {'per second':>10} {'/ single':>10} {'/ baseline':>10}"
        )
        for kind, (rate, to_single, to_baseline) in figures.items():
            print(f"{kind:<48} {rate:>10} {to_single:>10.2f} {to_baseline:>10.2f}")
        print()
    for title, place in (("disk", None), ("memory", in_memory)):
        with tempfile.TemporaryDirectory(dir=place) as name:
            store, guard = Store(Path(name) / "store.db"), Guard(Path(name) / "guard.db")
            for kind, function in (("ledger.reserve", store.admit), ("guard.admit", guard.admit)):
                print(f"{f'processor time of {kind}, {title}':<48} {processor_us(function):>7} us")


def contend(kind: str, path: str, verb: str) -> None:
    """Runs in each of several processes: for each line of input, makes calls and prints their times."""
    act = getattr(KINDS[kind](Path(path)), verb)
    act()
    sys.stdout.write("\n")
    sys.stdout.flush()
    for _ in sys.stdin:
        waits_us = []
        for _ in range(CONTENDED_CALLS):
            start = time.perf_counter_ns()
            act()
            waits_us.append((time.perf_counter_ns() - start) // 1000)
        sys.stdout.write(json.dumps(waits_us) + "\n")
        sys.stdout.flush()


def contended(folder: Path, verb: str) -> dict[str, tuple[int, int, int]]:
    """Returns each contestant's calls per second in several processes, median wait and slowest wait in us."""
    processes = {
        kind: [
            subprocess.Popen(  # noqa: S603
                [sys.executable, __file__, kind, str(folder / f"{place} {verb}.db"), verb],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                bufsize=1,
            )
            for _ in range(PROCESSES)
        ]
        for place, kind in enumerate(KINDS)
    }
    waits: dict[str, list[int]] = {kind: [] for kind in KINDS}
    rates: dict[str, list[int]] = {kind: [] for kind in KINDS}
    for group in processes.values():
        for process in group:
            assert process.stdout is not None
            process.stdout.readline()
    for _ in range(CONTENDED_ROUNDS):
        for kind, group in processes.items():
            start = time.perf_counter_ns()
            for process in group:
                assert process.stdin is not None
                process.stdin.write("go\n")
            for process in group:
                assert process.stdout is not None
                waits[kind] += json.loads(process.stdout.readline())
            rates[kind].append(PROCESSES * CONTENDED_CALLS * 10**9 // (time.perf_counter_ns() - start))
    for group in processes.values():
        for process in group:
            process.communicate()
    return {kind: (int(median(rates[kind])), int(median(waits[kind])), max(waits[kind])) for kind in KINDS}


def main() -> None:
    """Measures, and prints tables of ratios."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for verb, title in (("admit", "admit"), ("cycle", "admit, dispatch, bind, settle")):
            functions = {
                kind: getattr(make(folder / f"{place} {verb} alone.db"), verb)
                for place, (kind, make) in enumerate(KINDS.items())
            }
            print(f"{title + ', one process':<48} {'per second':>10} {'/ baseline':>10}")
            for kind, (time_us, ratio) in measured(functions).items():
                print(f"{kind:<48} {10**6 // time_us:>10} {ratio:>10.2f}")
            together = contended(folder, verb)
            first = next(iter(together.values()))[0]
            heading = f"{title}, {PROCESSES} processes"
            print(f"\n{heading:<48} {'per second':>10} {'/ baseline':>10} {'slowest/median':>15}")
            for kind, (rate, usual, slowest) in together.items():
                print(f"{kind:<48} {rate:>10} {Decimal(rate) / first:>10.2f} {Decimal(slowest) / usual:>15.1f}")
            print()
    print_threads()


if __name__ == "__main__":
    if len(sys.argv) > 1:
        contend(*sys.argv[1:])
    else:
        main()
