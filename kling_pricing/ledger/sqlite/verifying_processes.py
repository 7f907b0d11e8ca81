"""Runs the steps of `verify` in two processes that read the same snapshot of a file.

Two threads would slow each other, because SQLite counts the memory of a whole process under one lock.
"""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import ExitStack, suppress
from pathlib import Path
from queue import SimpleQueue
from types import TracebackType
from typing import Any, NamedTuple, Self

from kling_pricing.errors import LedgerError, LedgerUnavailableError
from kling_pricing.ledger.sqlite.errors import unavailable
from kling_pricing.ledger.verification import Checkpoint, OnProgress, Problems

_PROCESSES = 2

_MAX_TRIES = 100
"""The maximum number of attempts to begin all transactions between two commits of guards."""

_PROGRAM = f"import sys; sys.path[:] = sys.argv[1:]; from {__package__}.verifying_worker import main; main()"
"""The program of a process. It imports modules from where this process imports them."""


class VerifiedSnapshot(NamedTuple):
    """The result of a verification of one snapshot.

    Attributes:
        checkpoint: the state of the ledger.
        first_entry: the number of the first journal entry that was read.
        fully_verified_at: the instant of the last verification of everything, as the ledger writes it; None if
            everything was read.
        problems: the problems that each step has found.
    """

    checkpoint: Checkpoint
    first_entry: int
    fully_verified_at: str | None
    problems: list[Problems]


class VerifyingProcess:
    """A process that reads a ledger and answers one question after the other.

    Raises:
        OSError: the process cannot be started.
    """

    def __init__(self) -> None:
        self._process = subprocess.Popen(  # noqa: S603 (our own module)
            [sys.executable, "-c", _PROGRAM, *sys.path],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            encoding="utf-8",
            start_new_session=True,  # Ctrl-C is for this process, which ends the other one
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.end()
        with suppress(OSError), self._process:  # waits, and closes the pipes
            pass

    def end(self) -> None:
        """Ends the process at once. A question that another thread is asking raises an `EOFError`."""
        self._process.kill()

    def say(self, message: Any) -> None:
        """Sends a message.

        Raises:
            EOFError: the process has ended.
        """
        try:
            print(json.dumps(message), file=self._process.stdin, flush=True)
        except OSError as error:
            raise EOFError from error

    def ask(self, verb: str, argument: Any = None) -> Any:
        """Asks a question and returns the answer.

        Raises:
            EOFError: the process has ended.
            LedgerError: the ledger cannot be read.
        """
        self.say([verb, argument])
        return self.answer()

    def answer(self) -> Any:
        """Returns the next answer.

        Raises:
            EOFError: the process has ended.
            LedgerError: the ledger cannot be read.
        """
        try:
            answer = json.loads(self._process.stdout.readline() if self._process.stdout else "")
        except (OSError, ValueError) as error:
            raise EOFError from error
        if "error" in answer:
            kind = LedgerUnavailableError if answer["is_unavailable"] else LedgerError
            raise kind(answer["error"])
        return answer["answer"]


def verify_in_processes(
    path: Path, watching: sqlite3.Connection, *, since_last: bool, on_progress: OnProgress
) -> VerifiedSnapshot | None:
    """Verifies a ledger; returns None if this Python cannot start processes.

    Args:
        path: the ledger's file.
        watching: a connection to it outside any transaction.
        since_last: whether to read only the entries after the last verification, if there was one.
        on_progress: called from this thread whenever a step is done.

    Raises:
        LedgerError: the ledger cannot be read, or a process was killed from outside.
    """
    with ExitStack() as stack:
        try:
            processes = [stack.enter_context(VerifyingProcess()) for _ in range(_PROCESSES)]
            for process in processes:
                process.say(str(path))
            for process in processes:
                process.answer()
        except (EOFError, OSError):
            return None
        try:
            reading = _on_one_snapshot(processes, watching)
            checkpoint, first_entry, fully_verified_at, weights = reading[0].ask("read", since_last)
            for process in reading[1:]:
                process.ask("read", since_last)
            problems = _run(reading, weights, on_progress)
        except EOFError as error:
            raise unavailable(
                path,
                "a process that verified it was killed from outside, for example because the machine ran out "
                "of memory; free some memory, and verify again",
            ) from error
    return VerifiedSnapshot(Checkpoint(*checkpoint), first_entry, fully_verified_at, problems)


def _on_one_snapshot(
    processes: Sequence[VerifyingProcess], watching: sqlite3.Connection
) -> Sequence[VerifyingProcess]:
    """Begins a transaction in each process, and returns those that see the same snapshot: one or all."""
    for _ in range(_MAX_TRIES):
        (before,) = watching.execute("PRAGMA data_version").fetchone()
        for process in processes:
            process.say(["begin", None])
        for process in processes:
            process.answer()
        (after,) = watching.execute("PRAGMA data_version").fetchone()
        if before == after:  # nobody has committed meanwhile
            return processes
    return processes[:1]  # guards are very busy


def _run(
    processes: Sequence[VerifyingProcess], weights: dict[str, int], on_progress: OnProgress
) -> list[Problems]:
    """Runs the steps, the longest first, with one thread that waits for each process."""
    free: SimpleQueue[VerifyingProcess] = SimpleQueue()
    for process in processes:
        free.put(process)

    def run(step: str) -> Problems:
        process = free.get()
        try:
            total, shown = process.ask("run", step)
            return Problems(total, tuple(shown))
        finally:
            free.put(process)

    done, total = 0, sum(weights.values())
    with ThreadPoolExecutor(len(processes)) as pool:
        try:
            futures: dict[Future[Problems], str] = {
                pool.submit(run, step): step for step in sorted(weights, key=lambda step: -weights[step])
            }
            on_progress("verifying", done, total)
            for future in as_completed(futures):
                future.result()
                done += weights[futures[future]]
                on_progress("verifying", done, total)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            for process in processes:
                process.end()
            raise
    found = {step: future.result() for future, step in futures.items()}
    return [found[step] for step in weights]
