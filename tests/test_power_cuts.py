"""Power cuts: whatever part of the unsynced writes a disk keeps, a ledger has everything that it acknowledged.

Each test traces the writes and syncs of a working ledger once, and replays them as crash states:
120 in a usual run, 300 in CI.
For thousands of states: `pytest -n 2 tests/test_power_cuts.py --power-cuts 20000`.
"""

import shutil
import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import NamedTuple, TypeAlias

import pytest

from kling_pricing import (
    BudgetFrozenError,
    BudgetGuard,
    KlingPricingError,
    LedgerUnavailableError,
    PriceBook,
)
from kling_pricing.guard import thaw_all
from kling_pricing.ledger.administration import prepare, recover
from tests import ledger_at_work
from tests.conftest import in_memory
from tests.golden.make import golden_sql
from tests.ledger_at_work import BUDGETS, NAME, STATES, VIDEO, opened, picture
from tests.power_cuts import Cut, Event, contents, cuts, restored, traced

PARTS = 3
"""The states of a ledger at work are divided among this many tests, which may run at once."""


class Trace(NamedTuple):
    """What a scene did to a folder.

    Attributes:
        before: the files before it.
        events: the writes, syncs and answers.
    """

    before: dict[str, bytes]
    events: list[Event]


Tracing: TypeAlias = Callable[..., Trace]
Check: TypeAlias = Callable[[Cut, Path], None]


@pytest.fixture
def room() -> Iterator[Path]:
    """Yields a folder in memory where there is one, because the traced programs sync often."""
    with tempfile.TemporaryDirectory(dir=in_memory()) as folder:
        yield Path(folder)


def trace_in(
    room: Path, scene: str, fill: Callable[[Path], None] = lambda _folder: None, **arguments: int
) -> Trace:
    """Traces a scene in a new folder that is first filled."""
    folder = room / "ledger"
    folder.mkdir()
    fill(folder)
    before = contents(folder)
    return Trace(before, traced(ledger_at_work.__file__, scene, folder, room / "answers", **arguments))


@pytest.fixture
def trace(room: Path) -> Tracing:
    """Returns a function that traces a scene in a folder that it first fills."""
    return partial(trace_in, room)


@pytest.fixture(scope="module")
def working() -> Trace:
    """The trace of the scene `working`, which several tests replay; each process records it once."""
    with tempfile.TemporaryDirectory(dir=in_memory()) as folder:
        return trace_in(Path(folder), "working", rounds=2)


@pytest.fixture
def states(pytestconfig: pytest.Config) -> Callable[[int], int]:
    """Returns a function from a percentage to a number of crash states."""
    count: int = pytestconfig.getoption("--power-cuts")
    return lambda percent: max(1, count * percent // 100)


def examine(trace: Trace, numbers: range, room: Path, check: Check) -> None:
    """Checks a ledger after power cuts.

    Raises:
        AssertionError: a check fails; the message tells the story of the cut.
    """
    for cut in cuts(trace.before, trace.events, numbers):
        folder = room / f"cut-{cut.number}"
        restored(cut, folder)
        try:
            check(cut, folder)
        except (AssertionError, KlingPricingError, sqlite3.Error) as error:
            raise AssertionError(f"{cut.story}\n{type(error).__name__}: {error}") from error
        shutil.rmtree(folder)


def goes_on(guard: BudgetGuard) -> None:
    """Spends after a cut, as if nothing had happened."""
    admission = guard.admit(VIDEO, project="after", key="the cut")
    assert guard.dispatch(admission) == VIDEO
    guard.bind(admission, "after the cut")
    assert guard.settle(admission.reservation_id).state == "settled"


def is_complete_and_goes_on(book: PriceBook) -> Check:
    """Returns a check of the scene `working`.

    The ledger opens without a refusal. Its content is that after the last answer, or that after the verb that
    was about to be answered, so each verb is done or not begun.
    """

    def check(cut: Cut, folder: Path) -> None:
        known = [line["picture"] for line in (*cut.acknowledged[-1:], *cut.following[:1])]
        with opened(folder, book, *(() if cut.acknowledged else BUDGETS)) as guard:
            seen = picture(guard)
            if cut.acknowledged:
                assert seen in known, "\n".join(sorted(set(known[0]) ^ set(seen)))
            guard.verify()
            try:
                goes_on(guard)
            except BudgetFrozenError:
                assert any(line.startswith("entry freeze") for line in seen)
                assert thaw_all(f"sqlite:///{folder / NAME}", actor="wang", reason="the power is back")
                goes_on(guard)
            guard.verify()
        assert recover(f"sqlite:///{folder / NAME}").missing == 0

    return check


@pytest.mark.parametrize("part", range(PARTS))
def test_no_power_cut_loses_an_acknowledged_verb(
    working: Trace, states: Callable[[int], int], room: Path, book: PriceBook, part: int
) -> None:
    """After a power cut at any point, each verb is done or not begun, and those acknowledged are done."""
    count = states(75)
    examine(working, range(part, count, PARTS), room, is_complete_and_goes_on(book))


def test_no_power_cut_loses_what_threads_were_answered(
    trace: Tracing, states: Callable[[int], int], room: Path, book: PriceBook
) -> None:
    """The jobs of threads that share a guard are at least in the states that were acknowledged."""

    def check(cut: Cut, folder: Path) -> None:
        reached = {line["key"]: line["verb"] for line in cut.acknowledged if "key" in line}
        with opened(folder, book, *(() if cut.acknowledged else BUDGETS)) as guard:
            actual = {job.key: job.state for job in guard.history()}
            for key, state in reached.items():
                assert STATES.index(actual[key]) >= STATES.index(state), f"{key}: {state}, not {actual[key]}"
            guard.verify()
            goes_on(guard)

    examine(trace("threads", jobs=6, count=4), range(states(13)), room, check)


def test_with_syncs_ignored_most_power_cuts_lose_something(
    working: Trace, states: Callable[[int], int], room: Path, book: PriceBook
) -> None:
    """The same checks notice most of the losses on a disk that ignores syncs, so they can fail."""
    check, failures = is_complete_and_goes_on(book), 0
    count = min(states(30), 300)
    for cut in cuts(working.before, working.events, range(count), honours_syncs=False):
        folder = room / f"cut-{cut.number}"
        restored(cut, folder)
        try:
            check(cut, folder)
        except (AssertionError, KlingPricingError, sqlite3.Error):
            failures += 1
    assert failures > count * 0.6


def test_a_power_cut_during_a_migration_leaves_the_old_ledger_or_the_new_one(
    trace: Tracing, states: Callable[[int], int], room: Path, book: PriceBook
) -> None:
    """A migration that was cut off can be repeated, and an acknowledged one is complete, with its copy."""

    def fill(folder: Path) -> None:
        with closing(sqlite3.connect(folder / NAME)) as connection:
            connection.executescript(golden_sql("sqlite", 2))
            connection.execute("PRAGMA journal_mode = WAL")

    recorded = trace("migrating", fill)
    with opened(room / "ledger", book) as guard:
        migrated = picture(guard)

    def check(cut: Cut, folder: Path) -> None:
        try:
            opened(folder, book).close()
        except LedgerUnavailableError as error:
            assert "ledger migrate" in str(error)
            assert not cut.acknowledged
            prepare(f"sqlite:///{folder / NAME}", create=False)
        with opened(folder, book) as guard:
            assert picture(guard) == migrated
            guard.verify()
        copies = [path for path in folder.iterdir() if ".version-2." in path.name]
        assert copies
        for path in copies:
            with closing(sqlite3.connect(path)) as connection:
                assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
                assert connection.execute("PRAGMA user_version").fetchone() == (2,)

    examine(recorded, range(states(6)), room, check)


def test_a_power_cut_during_a_recovery_leaves_a_ledger_that_is_refused_or_frozen(
    trace: Tracing, states: Callable[[int], int], room: Path, book: PriceBook
) -> None:
    """A ledger with losses never opens for spending by accident, and its recovery can be repeated."""

    def fill(folder: Path) -> None:
        with opened(folder, book, *BUDGETS) as guard:
            guard.admit(VIDEO, project="trailer")
        older = folder.joinpath(NAME).read_bytes()
        with opened(folder, book) as guard:
            guard.pre_submit(VIDEO, project="trailer")
        folder.joinpath(NAME).write_bytes(older)

    def check(cut: Cut, folder: Path) -> None:
        url = f"sqlite:///{folder / NAME}"
        try:
            with opened(folder, book) as guard:
                guard.status()
        except LedgerUnavailableError as error:
            assert "`kling-pricing ledger recover" in str(error)
            assert not cut.acknowledged
            recover(url, accept_loss=True, actor="wang", reason="again")
        with opened(folder, book) as guard:
            guard.verify()
            with pytest.raises(BudgetFrozenError, match="journal entries were lost"):
                guard.admit(VIDEO, project="after")
            assert thaw_all(url, actor="wang", reason="the lost jobs were recorded")
            goes_on(guard)

    examine(trace("recovering", fill), range(states(6)), room, check)
