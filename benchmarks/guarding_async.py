"""What awaiting a guard costs: admissions a second of many tasks, beside a driver that awaits by itself.

Run it with::

    .venv/bin/pip install -q -e '.[dev]' && .venv/bin/python benchmarks/guarding_async.py

`AsyncBudgetGuard` runs each verb in one of its threads. On PostgreSQL it stands beside the one statement that
an admission needs, awaited through psycopg's own async pool, with an order that was made beforehand: nothing
is read, checked or quoted. It also stands beside `BudgetGuard` in as many threads as there are tasks.
All take turns on one server and one file, so that a slow moment hits them alike.
"""

import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import count
from pathlib import Path
from statistics import median
from uuid import uuid4

from psycopg_pool import AsyncConnectionPool

sys.path.insert(0, str(Path(__file__).parent.parent))  # for the server of the tests

from kling_pricing import AsyncBudgetGuard, Budget, BudgetGuard, Budgets, quote
from kling_pricing.guard import apply_budgets
from kling_pricing.guard.reservation_requests import priced_variant, reservation_request
from kling_pricing.ledger.administration import prepare
from kling_pricing.ledger.postgres.codec import candidates_text, order_text
from kling_pricing.ledger.postgres.server import POOL_SIZE
from tests.servers import folder_for_servers, running

ROUNDS, TURN_S = 7, 1
TASKS = (1, 16, 64)
USERS = 64
PAYLOAD = {
    "model": "kling-v3",
    "prompt": "A paper boat crosses a puddle in the rain, seen from just above the water",
    "duration": 5,
    "resolution": "1080p",
    "audio": True,
}
BUDGETS = Budgets([Budget(name="spread", match={"user": "*"}, cap=Decimal(1_000_000_000), currency="USD")])
EXPIRES_AFTER = timedelta(minutes=15)

Turn = Callable[[int], int]
"""Admits with so many tasks for a while; returns how often."""


def tasks_of(admit: Callable[[int], Awaitable[object]], loop: asyncio.AbstractEventLoop) -> Turn:
    """Turns of tasks that await."""
    numbers = count()

    async def go_on(end: float) -> int:
        done = 0
        while time.perf_counter() < end:
            await admit(next(numbers))
            done += 1
        return done

    async def all_go_on(tasks: int) -> int:
        end = time.perf_counter() + TURN_S
        return sum(await asyncio.gather(*(go_on(end) for _ in range(tasks))))

    return lambda tasks: loop.run_until_complete(all_go_on(tasks))


def threads_of(guard: BudgetGuard) -> Turn:
    """Turns of threads that wait."""
    numbers = count()

    def go_on(end: float) -> int:
        done = 0
        while time.perf_counter() < end:
            guard.admit(PAYLOAD, project="trailer", labels={"user": f"u{next(numbers) % USERS}"})
            done += 1
        return done

    def all_go_on(tasks: int) -> int:
        with ThreadPoolExecutor(tasks) as threads:
            end = time.perf_counter() + TURN_S
            return sum(threads.map(go_on, [end] * tasks))

    return all_go_on


async def bare(url: str) -> tuple[AsyncConnectionPool, Callable[[int], Awaitable[object]]]:
    """The one statement of an admission, through psycopg's async pool."""
    pool = AsyncConnectionPool(url, min_size=1, max_size=POOL_SIZE, kwargs={"autocommit": True}, open=False)
    await pool.open()
    at = datetime.now(UTC)
    quoted = quote(PAYLOAD, at=at)
    orders = [
        reservation_request(
            quoted,
            project="trailer",
            key="key",
            mark="f" * 64,
            labels={"project": "trailer", "user": f"u{user}"},
            budgets=BUDGETS,
            revision=BUDGETS.digest,
            at=at,
            priced_until=None,
        )
        for user in range(USERS)
    ]
    texts = [(order_text(each), candidates_text([priced_variant(quoted, {}, each)])) for each in orders]

    async def admit(number: int) -> None:
        wanted, candidates = texts[number % USERS]
        name = uuid4().hex
        values = (name, wanted.replace('"key":"key"', f'"key":"{name}"'), candidates, EXPIRES_AFTER)
        async with pool.connection() as connection:
            answer = await connection.execute("SELECT kling_pricing.reserve(%s, %s, %s, %s)", values)
            assert "reserved" in (await answer.fetchone() or [{}])[0]

    return pool, admit


def awaited(guard: AsyncBudgetGuard) -> Callable[[int], Awaitable[object]]:
    """What is measured."""
    return lambda number: guard.admit(PAYLOAD, project="trailer", labels={"user": f"u{number % USERS}"})


def measured(turns: dict[str, Turn], tasks: int) -> dict[str, int]:
    """Admissions a second of each, the median turn; they take turns."""
    rates: dict[str, list[int]] = {name: [] for name in turns}
    for _ in range(ROUNDS):
        for name, turn in turns.items():
            rates[name].append(turn(tasks) // TURN_S)
    return {name: int(median(counts)) for name, counts in rates.items()}


def tables(loop: asyncio.AbstractEventLoop, url: str, file: str) -> Iterator[tuple[str, dict[str, Turn]]]:
    """Title and contestants of each table."""
    pool, admit = loop.run_until_complete(bare(url))
    for title, ledger in (("PostgreSQL", url), ("SQLite", file)):
        with BudgetGuard(ledger, BUDGETS if ledger == file else None) as guard:
            awaiting = AsyncBudgetGuard(BudgetGuard(ledger))
            turns = {"psycopg's async pool, bare": tasks_of(admit, loop)} if ledger == url else {}
            turns |= {"AsyncBudgetGuard": tasks_of(awaited(awaiting), loop), "BudgetGuard": threads_of(guard)}
            yield title, turns
            guard.verify()
            loop.run_until_complete(awaiting.close())
    loop.run_until_complete(pool.close())


def main() -> None:
    """Prints a table for each store."""
    with ExitStack() as stack:
        url = os.environ.get("KLING_PRICING_TEST_POSTGRES")
        if url is None:
            folder = stack.enter_context(folder_for_servers())
            url = stack.enter_context(running(folder / "benchmark")).url
        prepare(url, create=True)
        apply_budgets(url, BUDGETS)
        name = stack.enter_context(tempfile.TemporaryDirectory())
        loop = asyncio.new_event_loop()
        for title, turns in tables(loop, url, f"sqlite:///{name}/spend.db"):
            print(
                f"\n| {title}: admissions a second | "
                + " | ".join(f"{tasks} at once" for tasks in TASKS)
                + " |"
            )
            print("|---" * (1 + len(TASKS)) + "|")
            for turn in turns.values():
                turn(TASKS[-1])  # connections, plans and caches are warm before it counts
            columns = [measured(turns, tasks) for tasks in TASKS]
            for contestant in turns:
                print(f"| {contestant} | " + " | ".join(f"{each[contestant]:,}" for each in columns) + " |")
        loop.close()


if __name__ == "__main__":
    main()
