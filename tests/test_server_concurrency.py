"""Many callers at once, in one process and in three, on both stores: no cap is exceeded."""

import asyncio
import os
import signal
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from pathlib import Path

import httpx

from kling_pricing import Budget, BudgetGuard, PriceBook
from tests.guards import CLIP, COST
from tests.providers import Provider, running
from tests.server_runs import CREDENTIAL, RunningServer, command_running, serving

CALLERS, FITTING = 200, 37
BUDGETS = [Budget(name="all", cap=FITTING * COST, currency="USD")]


async def _submit_all(server: RunningServer, headers: dict[str, str]) -> Counter[int]:
    async with httpx.AsyncClient(
        headers=headers, timeout=60, limits=httpx.Limits(max_connections=64)
    ) as client:
        url = f"{server.base('studio')}/v1/tasks"

        async def submit(number: int) -> int:
            for _ in range(5):
                try:
                    reply = await client.post(url, json=CLIP, headers={"Idempotency-Key": f"job-{number}"})
                except httpx.TransportError:  # the process that answered was killed
                    await asyncio.sleep(0.2)
                    continue
                return reply.status_code
            return 0

        return Counter(await asyncio.gather(*map(submit, range(CALLERS))))


def _check(provider: Provider, ledger: str, book: PriceBook) -> None:
    """Verifies the ledger: exactly the jobs that fit are bound to tasks of the provider, and held."""
    with BudgetGuard(ledger, book=book) as guard:
        guard.verify()
        (bucket,) = guard.status()
        bound = {each.task_id for each in guard.history() if each.state == "bound"}
        assert (len(bound), bound) == (FITTING, {*provider.tasks})
        assert (bucket.held, bucket.available) == (FITTING * COST, Decimal(0))


def test_the_jobs_that_fit_are_made_by_one_process(ledger: str, tmp_path: Path, book: PriceBook) -> None:
    """Of 200 simultaneous submissions under a cap of 37, 37 become jobs and 163 are refused with 402."""
    BudgetGuard(ledger, BUDGETS, book=book).close()
    with running("qingbo", api_key=CREDENTIAL) as provider:
        upstreams = {"studio": {"provider": "qingbo", "url": provider.url}}
        with serving(ledger, tmp_path, upstreams) as server:
            statuses = asyncio.run(_submit_all(server, server.key()))
        assert statuses == {200: FITTING, 402: CALLERS - FITTING}
        _check(provider, ledger, book)


def test_the_jobs_that_fit_are_made_by_three_processes(ledger: str, tmp_path: Path, book: PriceBook) -> None:
    """Three processes share the cap; one is killed at work, and its callers send their jobs again."""
    BudgetGuard(ledger, BUDGETS, book=book).close()
    with running("qingbo", api_key=CREDENTIAL) as provider:
        upstreams = {"studio": {"provider": "qingbo", "url": provider.url, "keeps_keys": True}}
        with command_running(ledger, tmp_path, upstreams, "--workers", "3") as (server, process):

            async def work() -> Counter[int]:
                submitting = asyncio.create_task(_submit_all(server, server.key()))
                while not await asyncio.to_thread(lambda: provider.tasks):  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
                os.kill(_children(process.pid)[0], signal.SIGKILL)
                return await submitting

            statuses = asyncio.run(work())
        assert (statuses[200], sum(statuses.values())) == (FITTING, CALLERS)
        assert {*statuses} <= {200, 402}
        _check(provider, ledger, book)


def _children(pid: int) -> list[int]:
    """Returns the processes that answer requests: the children of the process that copies itself for them."""
    (copied,) = (child for child, command in _started_by(pid) if "forkserver" in command)
    return [child for child, _ in _started_by(copied)]


def _started_by(pid: int) -> list[tuple[int, str]]:
    """Returns the id and the command of each process that a process has started."""
    found = []
    for path in Path("/proc").iterdir():
        if path.name.isdecimal():
            try:
                status = (path / "status").read_text()
                command = (path / "cmdline").read_text()
            except OSError:
                continue
            if f"PPid:\t{pid}\n" in status:
                found.append((int(path.name), command))
    return found


def test_a_stopping_server_loses_no_submission(tmp_path: Path, book: PriceBook) -> None:
    """SIGTERM arrives while a submission is at the provider: its caller gets the answer."""
    ledger = f"sqlite:///{tmp_path}/spend.db"
    BudgetGuard(ledger, BUDGETS, book=book).close()
    with running("qingbo", api_key=CREDENTIAL) as provider:
        provider.sandbox.call("POST", "/_clock", {"speed": 1})
        upstreams = {"studio": {"provider": "qingbo", "url": provider.url}}
        with command_running(ledger, tmp_path, upstreams) as (server, process):
            headers = server.key() | {"Prefer": "wait=3"}
            with ThreadPoolExecutor() as pool:
                url = f"{server.base('studio')}/v1/tasks"
                answer = pool.submit(httpx.post, url, json=CLIP, headers=headers, timeout=60)
                while not provider.tasks:
                    threading.Event().wait(0.01)
                process.terminate()
                assert answer.result().status_code == 200
            assert process.wait(60) == 0
        with BudgetGuard(ledger, book=book) as guard:
            assert [each.state for each in guard.history()] == ["bound"]
