"""How fast a ledger in SQLite is, beside bare transactions with the same durability in the same run.

Run it with::

    .venv/bin/pip install -q -e '.[dev]' && .venv/bin/python benchmarks/guarding.py

The floor writes the same rows to the same tables through the bare `sqlite3` module, with `synchronous=FULL`,
under one `flock` (the store takes two, so that processes take turns): a conditional update of the balance, and
the inserts.
It looks nothing up, checks nothing else, and answers nothing.
Contestants take turns within each round, so that a slow moment of the machine hits all of them alike; each
figure is the median of the rounds, and each part of the floor the median of what it was within the rounds.
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
from pathlib import Path
from statistics import median
from uuid import uuid4

from kling_pricing import Budget, BudgetGuard, load_price_book, quote
from kling_pricing.budgets import Budgets
from kling_pricing.guard.reservation_requests import priced_variant, reservation_request
from kling_pricing.ledger import connect
from kling_pricing.ledger.model import Reserved
from kling_pricing.ledger.sqlite.schema import DDL
from kling_pricing.money import nanos_up

ROUNDS, ROUND_CALLS = 200, 10
PROCESSES, CONTENDED_ROUNDS, CONTENDED_CALLS = 4, 5, 250
CALLS = max(ROUNDS * ROUND_CALLS, 1 + CONTENDED_ROUNDS * CONTENDED_CALLS)
"""Of one process at most."""

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
    """The clock."""
    return datetime.now(UTC)


class Floor:
    """Bare transactions with the rows of a ledger."""

    def __init__(self, path: Path) -> None:
        self._lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT)
        self._db = sqlite3.connect(path, timeout=60, isolation_level=None)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.execute("PRAGMA foreign_keys = ON")
        if self._db.execute("SELECT count(*) FROM sqlite_master").fetchone() == (0,):
            for statement in DDL:
                self._db.execute(statement)
            self._db.execute(
                "INSERT INTO bucket"
                " (budget, definition, labels, window_start, window_end, currency, cap, alerts)"
                " VALUES ('everyone', ?, '{}', ?, ?, 'USD', ?, '[]')",
                ("d" * 16, now().isoformat(), now().isoformat(), 10**18),
            )
        fcntl.flock(self._lock, fcntl.LOCK_UN)

    def _do(self, *statements: tuple[str, tuple[object, ...]]) -> None:
        db = self._db
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        db.execute("BEGIN IMMEDIATE")
        for statement, values in statements:
            db.execute(statement, values)
        db.execute("COMMIT")
        fcntl.flock(self._lock, fcntl.LOCK_UN)

    def admit(self) -> str:
        """The rows of one reservation."""
        name, at = uuid4().hex, now().isoformat()
        self._do(
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
        """The rows of a whole life: reserved, dispatched, bound, settled."""
        name = self.admit()
        at = now().isoformat()
        self._do(
            (
                "UPDATE reservation SET state = 'dispatching', dispatched_at = ?, deadline = ? WHERE id = ?",
                (at, at, name),
            ),
            ("INSERT INTO journal (at, kind, reservation) VALUES (?, 'dispatch', ?)", (at, name)),
        )
        self._do(
            ("UPDATE reservation SET task_id = ?, doubted = 0, state = 'bound' WHERE id = ?", (name, name)),
            ("INSERT INTO journal (at, kind, reservation) VALUES (?, 'bind', ?)", (at, name)),
        )
        self._do(
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
    """A ledger, asked with orders that are made already."""

    def __init__(self, path: Path) -> None:
        self._ledger = connect(f"sqlite:///{path}", clock=now)
        self._ledger.install(BUDGETS)
        quoted = quote(PAYLOAD)
        made = reservation_request(
            quoted,
            project="trailer",
            key="key",
            mark="f" * 64,
            labels=LABELS,
            budgets=BUDGETS,
            revision=BUDGETS.digest,
            at=now(),
            priced_until=None,
        )
        self._orders = [made._replace(key=uuid4().hex) for _ in range(CALLS)]
        self._candidates = [priced_variant(quoted, {}, made)]
        assert nanos_up(quoted.total) == COST_NANOS

    def admit(self) -> str:
        """One reservation."""
        answer = self._ledger.reserve(self._orders.pop(), self._candidates, expires_after=EXPIRES_AFTER)
        assert isinstance(answer, Reserved)
        return answer.reservation.id

    def cycle(self) -> None:
        """A whole life."""
        name = self.admit()
        self._ledger.dispatch(name, doubtful_after=DOUBTFUL_AFTER)
        self._ledger.bind(name, name)
        self._ledger.settle(name, None, "quote")


class Guard:
    """The whole guard: the request is read, checked, priced and held against the budgets."""

    def __init__(self, path: Path) -> None:
        self._guard = BudgetGuard(f"sqlite:///{path}", BUDGETS, book=load_price_book())

    def admit(self) -> str:
        """One request."""
        return self._guard.admit(PAYLOAD, project="trailer").reservation_id

    def cycle(self) -> None:
        """A whole life."""
        admission = self._guard.admit(PAYLOAD, project="trailer")
        self._guard.dispatch(admission)
        self._guard.bind(admission, admission.reservation_id)
        self._guard.settle(admission)


KINDS: dict[str, type[Floor | Store | Guard]] = {
    "floor: bare transactions": Floor,
    "the store: ledger.reserve ...": Store,
    "the guard: quote and store": Guard,
}


def measured(functions: dict[str, Callable[[], object]]) -> dict[str, tuple[int, Decimal]]:
    """Of each: the median time of one call in microseconds, and the median part of the first one's rate."""
    rounds: dict[str, list[int]] = {name: [] for name in functions}
    gc.collect()
    gc.disable()
    for _ in range(ROUNDS):
        for name, function in functions.items():
            begin = time.perf_counter_ns()
            for _ in range(ROUND_CALLS):
                function()
            rounds[name].append((time.perf_counter_ns() - begin) // ROUND_CALLS)
    gc.enable()
    first = next(iter(rounds.values()))
    return {
        name: (
            int(median(taken)) // 1000,
            median(Decimal(base) / own for base, own in zip(first, taken, strict=True)),
        )
        for name, taken in rounds.items()
    }


def contend(kind: str, path: str, verb: str) -> None:
    """What each of several processes does: for each line that comes in, calls, and says how long each took."""
    act = getattr(KINDS[kind](Path(path)), verb)
    act()
    sys.stdout.write("\n")
    sys.stdout.flush()
    for _ in sys.stdin:
        taken = []
        for _ in range(CONTENDED_CALLS):
            begin = time.perf_counter_ns()
            act()
            taken.append((time.perf_counter_ns() - begin) // 1000)
        sys.stdout.write(json.dumps(taken) + "\n")
        sys.stdout.flush()


def contended(folder: Path, verb: str) -> dict[str, tuple[int, int, int]]:
    """Of each contestant: calls a second of several processes together, median wait and slowest wait in us."""
    crews = {
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
    for crew in crews.values():
        for process in crew:
            assert process.stdout is not None
            process.stdout.readline()
    for _ in range(CONTENDED_ROUNDS):
        for kind, crew in crews.items():
            begin = time.perf_counter_ns()
            for process in crew:
                assert process.stdin is not None
                process.stdin.write("go\n")
            for process in crew:
                assert process.stdout is not None
                waits[kind] += json.loads(process.stdout.readline())
            rates[kind].append(PROCESSES * CONTENDED_CALLS * 10**9 // (time.perf_counter_ns() - begin))
    for crew in crews.values():
        for process in crew:
            process.communicate()
    return {kind: (int(median(rates[kind])), int(median(waits[kind])), max(waits[kind])) for kind in KINDS}


def main() -> None:
    """Measures and prints tables of ratios."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for verb, what in (("admit", "admit"), ("cycle", "admit, dispatch, bind, settle")):
            functions = {
                kind: getattr(make(folder / f"{place} {verb} alone.db"), verb)
                for place, (kind, make) in enumerate(KINDS.items())
            }
            print(f"{what + ', one process':<48} {'a second':>10} {'of floor':>9}")
            for kind, (taken, part) in measured(functions).items():
                print(f"{kind:<48} {10**6 // taken:>10} {part:>9.2f}")
            together = contended(folder, verb)
            first = next(iter(together.values()))[0]
            title = f"{what}, {PROCESSES} processes"
            print(f"\n{title:<48} {'a second':>10} {'of floor':>9} {'slowest/median':>15}")
            for kind, (rate, usual, slowest) in together.items():
                print(f"{kind:<48} {rate:>10} {Decimal(rate) / first:>9.2f} {Decimal(slowest) / usual:>15.1f}")
            print()


if __name__ == "__main__":
    if len(sys.argv) > 1:
        contend(*sys.argv[1:])
    else:
        main()
