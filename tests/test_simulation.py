"""One seeded simulation of everything: no cap is passed, nothing is lost, and the truth settles every job.

A usual run tries 80 seeds, CI tries 200, and a tenth of them on PostgreSQL.
For hours: `pytest -n 2 tests/test_simulation.py --simulations 100000`.
A failure prints the script of its seed; to run it again: `pytest tests/test_simulation.py --seed N`.
"""

import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, ClassVar, TypeAlias

import psycopg
import pytest

from kling_pricing import (
    Admission,
    BudgetExceededError,
    BudgetFrozenError,
    BudgetGuard,
    PriceBook,
    Reservation,
    ReservationStateError,
)
from kling_pricing.guard import freeze_all, thaw_all
from kling_pricing.ledger.postgres.schema import prepare
from tests.conftest import with_database
from tests.servers import execute
from tests.simulated_studio import INSTALLED, WINDOWS, budgets, first_caps, rules_of, window_of
from tests.simulation import Simulation, Store
from tests.simulation_books import Breach

EVENTS = 70
"""The events of a simulation, before the provider tells the truth."""


class FileStore:
    """A copy of a ledger in a file. A restart goes on in a copy of the files, as kill -9 leaves them."""

    def __init__(self, folder: Path, template: Path) -> None:
        self._folder, self._template, self._number = folder, template, 0
        self._copy(template)

    def _copy(self, source: Path) -> None:
        self._number += 1
        self.folder = self._folder / str(self._number)
        self.folder.mkdir()
        for path in source.iterdir():
            if not path.name.endswith("-shm"):
                shutil.copyfile(path, self.folder / path.name)
        self.url = f"sqlite:///{self.folder}/spend.db"

    def set_clock(self, now: datetime) -> None:
        """A file has no clock of its own."""

    def restart(self) -> None:
        """See `Store`."""
        self._copy(self.folder)

    def begin_again(self) -> None:
        """Goes on in a copy of the empty ledger, which is a fault."""
        self._copy(self._template)


class ServerStore:
    """A copy of a ledger in PostgreSQL, whose clock is a table. After a restart, only connections are gone."""

    def __init__(self, server: str, template: str) -> None:
        self._server, self._name = server, f"simulation_{os.getpid()}"
        execute(server, f"CREATE DATABASE {self._name} TEMPLATE {template}")
        self.url = with_database(server, self._name)
        self._clock = psycopg.connect(self.url, autocommit=True)

    def set_clock(self, now: datetime) -> None:
        """See `Store`."""
        self._clock.execute("UPDATE kling_pricing.test_clock SET now = %s", [now])

    def restart(self) -> None:
        """See `Store`."""

    def drop(self) -> None:
        """Removes the ledger."""
        self._clock.close()
        execute(self._server, f"DROP DATABASE {self._name} WITH (FORCE)")


OpenStore = Callable[[int], AbstractContextManager[Store]]
"""Makes a store for a seed."""


def install(url: str, window: str, book: PriceBook) -> None:
    """Installs the first budgets with windows of a length."""
    rules = rules_of(window)
    BudgetGuard(url, budgets(rules, first_caps(rules)), book=book, clock=lambda: INSTALLED).close()


@pytest.fixture(scope="module")
def open_file(book: PriceBook) -> Iterator[OpenStore]:
    """Yields a function that makes a store in a file, in memory where the system has a folder in memory."""
    memory = Path("/dev/shm")  # noqa: S108 (pytest's folders are on a disk)
    with tempfile.TemporaryDirectory(dir=memory if os.access(memory, os.W_OK) else None) as folder:
        for window in WINDOWS:
            Path(folder, window).mkdir()
            install(f"sqlite:///{folder}/{window}/spend.db", window, book)

        @contextmanager
        def opened(seed: int) -> Iterator[FileStore]:
            with tempfile.TemporaryDirectory(dir=folder) as own:
                yield FileStore(Path(own), Path(folder, window_of(seed)))

        yield opened


@pytest.fixture(scope="module")
def open_database(postgres_url: str, book: PriceBook) -> Iterator[OpenStore]:
    """Yields a function that makes a store in PostgreSQL."""
    templates = {window: f"simulation_of_{window}s_{os.getpid()}" for window in WINDOWS}
    for window, template in templates.items():
        execute(postgres_url, f"CREATE DATABASE {template}")
        url = with_database(postgres_url, template)
        prepare(url, create=True)
        execute(
            url,
            "CREATE TABLE kling_pricing.test_clock (now timestamptz)",
            f"INSERT INTO kling_pricing.test_clock VALUES ('{INSTALLED.isoformat()}')",
            "CREATE OR REPLACE FUNCTION kling_pricing.current_instant() RETURNS timestamptz LANGUAGE sql"
            " AS 'SELECT now FROM kling_pricing.test_clock'",
        )
        install(url, window, book)

    @contextmanager
    def opened(seed: int) -> Iterator[ServerStore]:
        store = ServerStore(postgres_url, templates[window_of(seed)])
        try:
            yield store
        finally:
            store.drop()

    yield opened
    for template in templates.values():
        execute(postgres_url, f"DROP DATABASE {template} WITH (FORCE)")


Seeds: TypeAlias = Callable[..., range]


@pytest.fixture
def seeds(pytestconfig: pytest.Config) -> Seeds:
    """Returns a function from a part of all parts, and a percentage of the simulations, to seeds."""
    count, seed = pytestconfig.getoption("--simulations"), pytestconfig.getoption("--seed")

    def of_part(part: int, parts: int, percent: int = 100) -> range:
        if seed is not None:
            return range(seed, seed + 1) if part == seed % parts else range(0)
        return range(part, count * percent // 100, parts)

    return of_part


@pytest.mark.parametrize("part", range(4))
def test_no_seed_breaks_a_promise_in_a_file(
    open_file: OpenStore, book: PriceBook, seeds: Seeds, part: int
) -> None:
    """Guards, clients, a moody provider, callbacks, clocks and crashes break no promise of a ledger."""
    for seed in seeds(part, 4):
        with open_file(seed) as store:
            Simulation(seed, store, book).run(EVENTS)


@pytest.mark.parametrize("part", range(2))
def test_no_seed_breaks_a_promise_in_postgresql(
    open_database: OpenStore, book: PriceBook, seeds: Seeds, part: int
) -> None:
    """The same on PostgreSQL, with a tenth of the seeds, because each of them takes several times as long."""
    for seed in seeds(part, 2, percent=10):
        with open_database(seed) as store:
            Simulation(seed, store, book).run(EVENTS)


# planted faults, each of which the checker must notice


class PassingCaps(BudgetGuard):
    """A guard that checks requests against caps that are not in force."""

    def admit(self, payload: Any, **options: Any) -> Admission:
        """Admits a request that was refused."""
        try:
            return super().admit(payload, **options)
        except BudgetExceededError:
            rules = rules_of("week")
            caps = first_caps(rules) | {row.budget: row.cap for row in self.status()}
            self.apply(budgets(rules, dict.fromkeys(caps, Decimal(10**6))), allow_weaker=True)
            admission = super().admit(payload, **options)
            self.apply(budgets(rules, caps))
            return admission


class Forgetting(BudgetGuard):
    """A guard that answers `bind` without writing anything."""

    def bind(self, ref: Any, task_id: str) -> Reservation:
        """Answers as if it had bound the task."""
        row = self.reservation(ref)
        return row._replace(state="bound", task_id=task_id) if row.state == "dispatching" else row


class DispatchingTwice(BudgetGuard):
    """A guard that gives payloads out again."""

    given_out: ClassVar[dict[str, dict[str, Any]]] = {}

    def dispatch(self, admission: Admission) -> dict[str, Any]:
        """Gives a payload out, whatever the ledger says."""
        name = admission.reservation_id
        try:
            self.given_out[name] = super().dispatch(admission)
        except ReservationStateError:
            if name not in self.given_out:
                raise
        return self.given_out[name]


class Overcharging(BudgetGuard):
    """A guard that settles at a little more than the provider charged."""

    def observe(self, body: Any, **options: Any) -> Reservation | None:
        """Adds a unit to the charge."""
        return super().observe(body | {"cost": body["cost"] + 1} if "cost" in body else body, **options)


class KeepingAmounts(BudgetGuard):
    """A guard that ignores what statements and operators say about an amount."""

    def settle(self, ref: Any, *_amount: Any, **_options: Any) -> Reservation:
        """Changes nothing."""
        return self.reservation(ref)


class Thawing(BudgetGuard):
    """A guard that goes on when spending is frozen."""

    def __init__(self, ledger: str, **options: Any) -> None:
        super().__init__(ledger, **options)
        self._url = ledger

    def admit(self, payload: Any, **options: Any) -> Admission:
        """Thaws spending for a moment."""
        try:
            return super().admit(payload, **options)
        except BudgetFrozenError:
            thaw_all(self._url, actor="nobody", reason="a planted fault")
            try:
                return super().admit(payload, **options)
            finally:
                freeze_all(self._url, actor="nobody", reason="a planted fault")


FAULTS: dict[type[BudgetGuard], str] = {
    PassingCaps: "cap",
    Forgetting: "lost",
    DispatchingTwice: "one dispatch",
    Overcharging: "settlement",
    KeepingAmounts: "bill",
    Thawing: "freeze",
}
"""A guard with a planted fault, and the promise that it breaks."""

TRIED = [seed for seed in range(30) if window_of(seed) == "week"]
"""The seeds among which one must show a planted fault."""


def breach_of(open_file: OpenStore, book: PriceBook, guard: type[BudgetGuard], seeds: Iterable[int]) -> Breach:
    """Returns the first breach among seeds."""
    for seed in seeds:
        with open_file(seed) as store:
            try:
                Simulation(seed, store, book, guard).run(EVENTS)
            except Breach as breach:
                return breach
    raise AssertionError(f"no seed has noticed the fault of {guard.__name__}")


@pytest.mark.parametrize("guard", FAULTS)
def test_a_planted_fault_is_noticed(open_file: OpenStore, book: PriceBook, guard: type[BudgetGuard]) -> None:
    """The checker notices a cap that is passed, a lost answer, a second dispatch and a wrong settlement."""
    breach = breach_of(open_file, book, guard, TRIED)
    assert breach.promise == FAULTS[guard], str(breach)


def test_a_restart_from_an_older_copy_is_noticed(open_file: OpenStore, book: PriceBook) -> None:
    """The checker notices that a ledger in a file has lost what was acknowledged before a crash."""

    def forgetful(seed: int) -> AbstractContextManager[Store]:
        @contextmanager
        def opened() -> Iterator[Store]:
            with open_file(seed) as store:
                assert isinstance(store, FileStore)
                store.restart = store.begin_again  # type: ignore[method-assign]
                yield store

        return opened()

    assert breach_of(forgetful, book, BudgetGuard, TRIED).promise == "lost"


def test_a_failing_seed_prints_a_script_that_can_be_repeated(open_file: OpenStore, book: PriceBook) -> None:
    """The message of a breach is a table with one event a line, which is the same in each run of the seed."""
    seed = int(str(breach_of(open_file, book, Overcharging, TRIED)).partition("--seed ")[2].split()[0])
    first, second = (str(breach_of(open_file, book, Overcharging, [seed])) for _ in range(2))
    assert first == second
    problem, again, *rows = first.splitlines()
    assert problem.startswith("settlement: shot-")
    assert again == f"seed {seed}; to run it again: pytest tests/test_simulation.py --seed {seed}"
    assert rows[0].split() == ["instant", "(UTC)", "who", "event", "job", "detail", "result"]
    assert [int(row.split()[0]) for row in rows[1:]] == list(range(1, len(rows)))
    assert any(" admit " in row for row in rows)
