"""Measures the cost of awaiting a guard: admissions per second of many tasks, beside a native async driver.

Run it with::

    .venv/bin/pip install -q -e '.[dev]' && .venv/bin/python benchmarks/guarding_async.py

`AsyncBudgetGuard` runs each verb in one of its threads.
On PostgreSQL it is compared with the one statement that an admission needs, awaited through psycopg's own async
pool; the reservation request is ready beforehand, so that nothing is read, checked or quoted.
On both stores it is compared with `BudgetGuard` in as many threads as there are tasks.
All take turns on one server and one file, so that a slow moment affects all of them.
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

sys.path.insert(0, str(Path(__file__).parent.parent))  # for the PostgreSQL server of the tests

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
"""Admits with the given number of tasks for `TURN_S` seconds, and returns the number of admissions."""


def tasks_of(admit: Callable[[int], Awaitable[object]], loop: asyncio.AbstractEventLoop) -> Turn:
    """Returns a turn of asyncio tasks."""
    numbers = count()

    async def admit_until(end: float) -> int:
        done = 0
        while time.perf_counter() < end:
            await admit(next(numbers))
            done += 1
        return done

    async def admit_together(tasks: int) -> int:
        end = time.perf_counter() + TURN_S
        return sum(await asyncio.gather(*(admit_until(end) for _ in range(tasks))))

    return lambda tasks: loop.run_until_complete(admit_together(tasks))


def threads_of(guard: BudgetGuard) -> Turn:
    """Returns a turn of threads."""
    numbers = count()

    def admit_until(end: float) -> int:
        done = 0
        while time.perf_counter() < end:
            guard.admit(PAYLOAD, project="trailer", labels={"user": f"u{next(numbers) % USERS}"})
            done += 1
        return done

    def admit_together(tasks: int) -> int:
        with ThreadPoolExecutor(tasks) as threads:
            end = time.perf_counter() + TURN_S
            return sum(threads.map(admit_until, [end] * tasks))

    return admit_together


async def bare(url: str) -> tuple[AsyncConnectionPool, Callable[[int], Awaitable[object]]]:
    """Returns psycopg's async pool, and a function that runs the one statement of an admission through it."""
    pool = AsyncConnectionPool(url, min_size=1, max_size=POOL_SIZE, kwargs={"autocommit": True}, open=False)
    await pool.open()
    at = datetime.now(UTC)
    quoted = quote(PAYLOAD, at=at)
    requests = [
        reservation_request(
            quoted,
            project="trailer",
            key="key",
            account=None,
            mark="f" * 64,
            labels={"project": "trailer", "user": f"u{user}"},
            budgets=BUDGETS,
            revision=BUDGETS.digest,
            at=at,
            priced_until=None,
        )
        for user in range(USERS)
    ]
    texts = [
        (order_text(request), candidates_text([priced_variant(quoted, {}, request)])) for request in requests
    ]

    async def admit(number: int) -> None:
        request, variants = texts[number % USERS]
        name = uuid4().hex
        values = (name, request.replace('"key":"key"', f'"key":"{name}"'), variants, EXPIRES_AFTER)
        async with pool.connection() as connection:
            answer = await connection.execute("SELECT kling_pricing.reserve(%s, %s, %s, %s)", values)
            assert "deadline" in (await answer.fetchone() or [{}])[0]  # it is reserved

    return pool, admit


def awaited(guard: AsyncBudgetGuard) -> Callable[[int], Awaitable[object]]:
    """Returns a function that admits through an async guard."""
    return lambda number: guard.admit(PAYLOAD, project="trailer", labels={"user": f"u{number % USERS}"})


def measured(turns: dict[str, Turn], tasks: int) -> dict[str, int]:
    """Returns the admissions per second of each contestant in its median turn; they take turns."""
    rates: dict[str, list[int]] = {name: [] for name in turns}
    for _ in range(ROUNDS):
        for name, turn in turns.items():
            rates[name].append(turn(tasks) // TURN_S)
    return {name: int(median(counts)) for name, counts in rates.items()}


def tables(loop: asyncio.AbstractEventLoop, url: str, file: str) -> Iterator[tuple[str, dict[str, Turn]]]:
    """Yields the title and the contestants of each table."""
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
                f"\n| {title}: admissions per second | "
                + " | ".join(f"{tasks} task{'' if tasks == 1 else 's'}" for tasks in TASKS)
                + " |"
            )
            print("|---" * (1 + len(TASKS)) + "|")
            for turn in turns.values():
                turn(TASKS[-1])  # warms up connections, plans and caches
            columns = [measured(turns, tasks) for tasks in TASKS]
            for contestant in turns:
                print(f"| {contestant} | " + " | ".join(f"{rates[contestant]:,}" for rates in columns) + " |")
        loop.close()


if __name__ == "__main__":
    main()
