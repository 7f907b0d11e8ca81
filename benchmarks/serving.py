"""Measures the time that the server takes for a guarded submission, and its rate and memory under load.

Run it with::

    .venv/bin/pip install -q -e '.[dev]' && .venv/bin/python benchmarks/serving.py

The baseline is the same server that passes the same request on to a path without a price.
The provider is a process that answers at once.
The load generator, the server and the provider share the cores of the machine, so the processor time of the
server, which does not depend on the others, is printed as well.
The ledger is a file in the folder of temporary files; `--folder` chooses another one, such as one in memory.

With `--requests 100000`, the memory of the server is printed after each tenth of so many requests: six of ten
submit a job that ends at once, three ask about a task, and one is refused because its budget is exhausted.
With `--litellm PYTHON`, an interpreter that has `litellm[proxy]`, the proxy of litellm passes on a chat request
of about the same size in the same run.
"""

import argparse
import asyncio
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from itertools import count
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from kling_pricing import Budget, BudgetGuard
from kling_pricing.guard import issue_key

ROUNDS, CALLS = 30, 20
CLIENTS = 64
LOAD_S = 8
SUBMISSIONS_OF_TEN, QUESTIONS_OF_TEN = 6, 3
PAYMENT_REQUIRED = 402
PATIENCE_S = 120
JOB = {"model": "kling-v3", "prompt": "A paper boat in the rain, seen from above the water", "duration": 5}
CHAT = {"model": "boat", "messages": [{"role": "user", "content": "A paper boat in the rain, seen from above"}]}
ANSWERED = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "created": 1781080794,
    "model": "boat",
    "choices": [{"index": 0, "finish_reason": "stop", "message": {"role": "assistant", "content": "A boat."}}],
    "usage": {"prompt_tokens": 12, "completion_tokens": 3, "total_tokens": 15},
}


class Request(NamedTuple):
    """A request, ready to be sent.

    Attributes:
        port: the port of the server.
        data: its bytes.
    """

    port: int
    data: bytes

    @classmethod
    def of(cls, port: int, key: str, method: str, path: str, payload: Any = None) -> "Request":
        """Returns a request with an access key."""
        body = b"" if payload is None else json.dumps(payload).encode()
        head = (
            f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {key}\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        )
        return cls(port, head.encode() + body)


class Sender(asyncio.Protocol):
    """One connection that sends a request at a time. It costs little processor time, unlike an HTTP client."""

    def __init__(self) -> None:
        self._received = b""
        self._answered: asyncio.Future[None] | None = None
        self._expected = b""
        self._transport: Any = None

    @classmethod
    async def connected(cls, port: int) -> "Sender":
        """Returns a connection."""
        _, sender = await asyncio.get_running_loop().create_connection(cls, "127.0.0.1", port)
        return sender

    def connection_made(self, transport: Any) -> None:
        """Keeps the connection."""
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Waits for the end of an answer with a Content-Length, and checks its status."""
        self._received += data
        head, ends, body = self._received.partition(b"\r\n\r\n")
        if not ends:
            return
        length = next(
            int(line.partition(b":")[2])
            for line in head.split(b"\r\n")
            if line.lower().startswith(b"content-length:")
        )
        if len(body) >= length and self._answered is not None:
            self._received = b""
            if head.startswith(self._expected):
                self._answered.set_result(None)
            else:
                self._answered.set_exception(RuntimeError(f"{head[:20]!r} {body[:500]!r}"))

    def connection_lost(self, exc: Exception | None) -> None:
        """Ends a request that has no answer."""
        if self._answered is not None and not self._answered.done():
            self._answered.set_exception(RuntimeError(f"the connection was closed: {exc}"))

    async def send(self, data: bytes, status: int = 200) -> int:
        """Sends a request, and returns the time until its answer, in nanoseconds."""
        self._expected = b"HTTP/1.1 %d " % status
        self._answered = asyncio.get_running_loop().create_future()
        begun_ns = time.perf_counter_ns()
        self._transport.write(data)
        await self._answered
        return time.perf_counter_ns() - begun_ns

    def close(self) -> None:
        """Closes the connection."""
        self._answered = None
        self._transport.close()


# the provider


class ProviderConnection(asyncio.Protocol):
    """A provider that accepts every job, and says of every task that it is in progress, or that it has ended.

    Attributes:
        ends: whether the answer to a submission says that the task has ended.
    """

    numbers = count(1)
    ends = False

    def __init__(self) -> None:
        self._received = b""
        self._transport: Any = None

    def connection_made(self, transport: Any) -> None:
        """Keeps the connection."""
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        """Answers each whole request, whose body has a length or comes in chunks."""
        self._received += data
        while b"\r\n\r\n" in self._received:
            head, _, rest = self._received.partition(b"\r\n\r\n")
            lower = head.lower()
            if b"transfer-encoding: chunked" in lower:
                end = rest.find(b"0\r\n\r\n")
                size = end + 5 if end >= 0 else len(rest) + 1
            else:
                size = int(lower.partition(b"content-length:")[2].split(b"\r\n")[0] or 0)
            if len(rest) < size:
                return
            self._received = rest[size:]
            self._answer(*head.split(b" ", 2)[:2])

    def _answer(self, method: bytes, path: bytes) -> None:
        if path.endswith(b"/chat/completions"):
            answer: Any = ANSWERED
        elif method == b"POST":
            answer = {"task_id": f"task-{next(self.numbers)}", "status": "queued"}
            if self.ends:
                answer |= {"status": "completed", "cost": 178_500}
        else:
            answer = {"task_id": path.rpartition(b"/")[2].decode(), "status": "processing"}
            if self.ends:
                answer |= {"status": "completed", "cost": 178_500}
        body = json.dumps(answer).encode()
        self._transport.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s"
            % (len(body), body)
        )


def provide(*, ends: bool) -> None:
    """Runs in the provider's process: prints the port, and answers until it is killed."""
    ProviderConnection.ends = ends

    async def serve() -> None:
        server = await asyncio.get_running_loop().create_server(ProviderConnection, "127.0.0.1", 0)
        print(server.sockets[0].getsockname()[1], flush=True)
        await server.serve_forever()

    asyncio.run(serve())


@contextmanager
def started(command: list[str], **options: Any) -> Iterator["subprocess.Popen[str]"]:
    """Runs a process for the length of a block, and kills it at the end."""
    options = {"stdout": subprocess.PIPE, "text": True, **options}
    with subprocess.Popen(command, **options) as process:  # noqa: S603 (our own commands)
        try:
            yield process
        finally:
            process.kill()


@contextmanager
def provider(kind: str = "goes-on") -> Iterator[int]:
    """Runs the provider, whose tasks go on or end at once, and yields its port."""
    with started([sys.executable, __file__, "--provide", kind]) as process:
        assert process.stdout is not None
        yield int(process.stdout.readline())


@contextmanager
def server(folder: Path, provider_port: int, workers: int) -> Iterator[tuple[int, int]]:
    """Runs the server, and yields its process id and its port."""
    settings = {
        "provider": "qingbo",
        "url": f"http://127.0.0.1:{provider_port}",
        "credential": "env:BENCHMARK_KEY",
        "allow_paths": ["/v1/unguarded"],
        "open_paths": ["/v1/unguarded"],
    }
    config = folder / "server.yaml"
    config.write_text(json.dumps({"upstreams": {"studio": settings}}))
    ledger = f"sqlite:///{folder}/spend.db"
    command = [sys.executable, "-m", "kling_pricing", "serve", "--config", str(config), "--ledger", ledger]
    command += ["--port", "0", "--workers", str(workers)]
    environment = os.environ | {"BENCHMARK_KEY": "a key of the provider"}
    with started(command, env=environment, stderr=subprocess.DEVNULL) as process:
        assert process.stdout is not None
        line = next(line for line in process.stdout if line.startswith("The API is at "))
        port = int(line.rpartition(":")[2].partition("/")[0])
        wait_for(port)
        yield process.pid, port


@contextmanager
def litellm(python: str, folder: Path, provider_port: int) -> Iterator[tuple[int, int]]:
    """Runs the proxy of litellm with one model, and yields its process id and its port."""
    config = folder / "litellm.yaml"
    route = {"model": "openai/boat", "api_base": f"http://127.0.0.1:{provider_port}/v1", "api_key": "x"}
    config.write_text(
        json.dumps(
            {
                "model_list": [{"model_name": "boat", "litellm_params": route}],
                "general_settings": {"master_key": "sk-benchmark"},
            }
        )
    )
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [str(Path(python).parent / "litellm"), "--config", str(config), "--host", "127.0.0.1"]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment["LITELLM_LOCAL_MODEL_COST_MAP"] = "True"  # its prices from the package, not from elsewhere
    with started(
        [*command, "--port", str(port)], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as process:
        wait_for(port)
        yield process.pid, port


def wait_for(port: int) -> None:
    """Returns as soon as a server listens on a port.

    Raises:
        TimeoutError: it does not.
    """
    until = time.monotonic() + PATIENCE_S
    while time.monotonic() < until:
        try:
            asyncio.run(_tried(port))
        except OSError:
            time.sleep(0.2)
        else:
            return
    raise TimeoutError(f"nothing listens on port {port}")


async def _tried(port: int) -> None:
    (await Sender.connected(port)).close()


# measuring


def tree(process: int) -> list[int]:
    """Returns a process and its children."""
    children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    return [process, *(each for child in children for each in tree(int(child)))]


def cpu_ms(process: int) -> int:
    """Returns the processor time of a process and its children, in milliseconds."""
    ticks = 0
    for each in tree(process):
        fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
        ticks += int(fields[11]) + int(fields[12])
    return ticks * 1000 // os.sysconf("SC_CLK_TCK")


def memory_mb(process: int) -> int:
    """Returns the resident memory of a process and its children, in MB."""
    pages = 0
    for each in tree(process):
        lines = Path(f"/proc/{each}/status").read_text().splitlines()
        pages += next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))
    return pages // 1024


class Times(NamedTuple):
    """The times of one kind of request.

    Attributes:
        sorted_ns: the time of each request, sorted.
        cpu_us: the processor time of the server for one request.
    """

    sorted_ns: list[int]
    cpu_us: int

    def percentile_us(self, percent: int) -> int:
        """Returns a percentile, in microseconds."""
        return self.sorted_ns[min(len(self.sorted_ns) * percent // 100, len(self.sorted_ns) - 1)] // 1000


async def one_client(process: int, requests: dict[str, Request]) -> dict[str, Times]:
    """Sends the requests by turns over one connection, in a different order each time."""
    taken: dict[str, list[int]] = {name: [] for name in requests}
    spent: dict[str, int] = dict.fromkeys(requests, 0)
    senders = {request.port: await Sender.connected(request.port) for request in requests.values()}
    order = list(requests.items())
    for request in requests.values():
        await senders[request.port].send(request.data)
    for number in range(ROUNDS):
        Random(number).shuffle(order)  # noqa: S311 (only the order has to vary)
        for name, request in order:
            before = cpu_ms(process)
            for _ in range(CALLS):
                taken[name].append(await senders[request.port].send(request.data))
            spent[name] += cpu_ms(process) - before
    for sender in senders.values():
        sender.close()
    return {name: Times(sorted(taken[name]), spent[name] * 1000 // (ROUNDS * CALLS)) for name in requests}


async def many_clients(process: int, request: Request, clients: int) -> tuple[Times, Decimal]:
    """Sends a request from many clients at once, and returns the times and the number per second."""
    until_ns = time.perf_counter_ns() + LOAD_S * 10**9
    taken: list[int] = []

    async def work() -> None:
        sender = await Sender.connected(request.port)
        await sender.send(request.data)
        taken.append(await sender.send(request.data))
        while time.perf_counter_ns() < until_ns:
            taken.append(await sender.send(request.data))
        sender.close()

    before, begun_ns = cpu_ms(process), time.perf_counter_ns()
    await asyncio.gather(*(work() for _ in range(clients)))
    wall_ns = time.perf_counter_ns() - begun_ns
    spent = cpu_ms(process) - before
    return Times(sorted(taken), spent * 1000 // len(taken)), Decimal(len(taken)) * 10**9 / wall_ns


async def memory(process: int, submission: Request, refused: Request, key: str, requests: int) -> None:
    """Prints the memory of the server after each tenth of many requests."""
    senders = [await Sender.connected(submission.port) for _ in range(CLIENTS)]
    await senders[0].send(submission.data)
    submitted = 1

    async def work(sender: Sender) -> None:
        nonlocal submitted
        for number in range(requests // 10 // CLIENTS):
            kind = number % 10
            if kind < SUBMISSIONS_OF_TEN:
                await sender.send(submission.data)
                submitted += 1
            elif kind < SUBMISSIONS_OF_TEN + QUESTIONS_OF_TEN:
                path = f"/p/studio/v1/tasks/task-{max(submitted - CLIENTS, 1)}"  # the newest may be unanswered
                await sender.send(Request.of(submission.port, key, "GET", path).data)
            else:
                await sender.send(refused.data, PAYMENT_REQUIRED)

    print(f"{0:>8} requests: {memory_mb(process)} MB", flush=True)
    for part in range(1, 11):
        await asyncio.gather(*map(work, senders))
        print(f"{requests * part // 10:>8} requests: {memory_mb(process)} MB", flush=True)
    for sender in senders:
        sender.close()


def show(times: dict[str, Times], baseline: str) -> None:
    """Prints the times of one client."""
    print(f"{'one client':<44} {'p50, us':>8} {'added':>7} {'ratio':>6} {'processor, us':>14}")
    base = times[baseline].percentile_us(50)
    for name, each in times.items():
        middle = each.percentile_us(50)
        print(f"{name:<44} {middle:>8} {middle - base:>7} {Decimal(middle) / base:>6.2f} {each.cpu_us:>14}")


def measure(folder: Path, options: argparse.Namespace) -> None:
    """Measures, and prints tables."""
    ledger = f"sqlite:///{folder}/spend.db"
    everyone = Budget(name="everyone", cap=Decimal(10**6), currency="USD")
    exhausted = Budget(name="exhausted", match={"project": "pilot"}, cap=Decimal("0.01"), currency="USD")
    BudgetGuard(ledger, [everyone, exhausted]).close()
    key, poor = (issue_key(ledger, project=project).text for project in ("trailer", "pilot"))
    with (
        provider("ends" if options.requests else "goes-on") as provider_port,
        server(folder, provider_port, options.workers) as (process, port),
    ):
        submission = Request.of(port, key, "POST", "/p/studio/v1/tasks", JOB)
        if options.requests:
            refused = Request.of(port, poor, "POST", "/p/studio/v1/tasks", JOB)
            asyncio.run(memory(process, submission, refused, key, options.requests))
            return
        asyncio.run(_sent_once(submission))
        posts = {
            "the provider alone": Request.of(provider_port, key, "POST", "/v1/tasks", JOB),
            "POST passed on, unguarded": Request.of(port, key, "POST", "/p/studio/v1/unguarded", JOB),
            "submission, guarded": submission,
        }
        gets = {
            "GET passed on, unguarded": Request.of(port, key, "GET", "/p/studio/v1/unguarded/1"),
            "status of a task, guarded": Request.of(port, key, "GET", "/p/studio/v1/tasks/task-1"),
        }
        show(asyncio.run(one_client(process, posts)), "POST passed on, unguarded")
        show(asyncio.run(one_client(process, gets)), "GET passed on, unguarded")
        print(f"{f'{CLIENTS} clients':<44} {'a second':>8} {'p50, ms':>7} {'p99':>6} {'processor, us':>14}")
        for name, request in ((name, posts[name]) for name in [*posts][1:]):
            show_load(name, *asyncio.run(many_clients(process, request, CLIENTS)))
        if options.litellm:
            with litellm(options.litellm, folder, provider_port) as (other, other_port):
                chat = Request.of(other_port, "sk-benchmark", "POST", "/v1/chat/completions", CHAT)
                show(asyncio.run(one_client(other, {"litellm, a chat": chat})), "litellm, a chat")
                show_load("litellm, a chat", *asyncio.run(many_clients(other, chat, CLIENTS)))


async def _sent_once(request: Request) -> None:
    sender = await Sender.connected(request.port)
    await sender.send(request.data)
    sender.close()


def show_load(name: str, times: Times, per_s: Decimal) -> None:
    """Prints the rate and the times of many clients."""
    middle, high = times.percentile_us(50) // 1000, times.percentile_us(99) // 1000
    print(f"{name:<44} {per_s:>8.0f} {middle:>7} {high:>6} {times.cpu_us:>14}", flush=True)


def main() -> None:
    """Reads the options, and measures."""
    parser = argparse.ArgumentParser(description="Measures the server.")
    parser.add_argument("--folder", help="the folder for the ledger, such as /dev/shm")
    parser.add_argument("--workers", type=int, default=1, help="processes of the server")
    parser.add_argument("--requests", type=int, default=0, help="measure the memory over so many requests")
    parser.add_argument("--litellm", metavar="PYTHON", help="an interpreter with litellm[proxy]")
    parser.add_argument("--provide", choices=["ends", "goes-on"], help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.provide:
        provide(ends=options.provide == "ends")
        return
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        measure(Path(folder), options)


if __name__ == "__main__":
    main()
