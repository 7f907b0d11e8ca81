"""Runs tests on one mutant after the other, for `mutating.py`, in a process that has collected all tests once.

It divides into as many runners as it is given pairs of pipes.
A runner reads one job per line, forks for it, and writes one answer per line.
The child gives the functions of one module the code that they have in the mutant, and runs the tests.
So a mutant costs the time of its tests alone; neither imports nor the collection of tests add to it.
The file of the module stays as it is, because some tests notice that a file has changed since it was imported.
"""

import contextlib
import gc
import importlib
import json
import os
import select
import shutil
import signal
import sys
import tempfile
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import IO

import coverage
import pytest

OPTIONS = ["-q", "-n", "0", "-p", "no:cacheprovider", "--simulations", "3"]
BETWEEN_TESTS_S = 60
"""How long a child may take to begin, between two tests, and to write what was measured."""
NOT_REPLACED = 71
"""The exit code of a child that could not put the mutant in place."""


@dataclass
class Job:
    """Tests to run in a child."""

    tests: list[str]
    """The tests, in this order; the first failure ends the job, unless lines are measured."""
    limits_s: list[float]
    """How long each test may take."""
    module: str = ""
    """The module to change, for example `kling_pricing.guard.state`; empty for none."""
    mutant: str = ""
    """The file with the module's code in the mutant."""
    lines: str = ""
    """The file into which coverage.py writes the lines that each test reaches; empty for none."""
    included: list[str] = field(default_factory=list)
    """The patterns of the files whose lines are measured."""
    postgres: str = ""
    """The URL of the PostgreSQL server that the tests use."""
    forget: bool = False
    """Whether to forget what the process has cached, above all the price book, so that it is loaded again."""


@dataclass
class Answer:
    """How the tests of a job ended."""

    durations_s: dict[str, float]
    """How long each test took."""
    failed: list[str]
    """The tests that failed."""
    stopped: str = ""
    """The test that took too long or ended its process."""
    has_ended: bool = True
    """Whether the process got to the end of the tests, by passing, by failing or by taking too long."""
    replaced: bool = True
    """Whether the mutant could be put in place; if not, no test ran."""


def _functions(place: ModuleType | type, module: ModuleType) -> Iterator[FunctionType]:
    """Yields the functions and methods that a module defines, from the module itself or one of its classes."""
    for value in list(vars(place).values()):
        unwrapped = value.__func__ if isinstance(value, (staticmethod, classmethod)) else value
        if isinstance(unwrapped, FunctionType) and unwrapped.__code__.co_filename == module.__file__:
            yield unwrapped
        elif isinstance(unwrapped, type) and unwrapped.__module__ == module.__name__ and unwrapped is not place:
            yield from _functions(unwrapped, module)


def _codes(code: CodeType) -> Iterator[CodeType]:
    """Yields the code of all functions in compiled code."""
    for value in code.co_consts:
        if isinstance(value, CodeType):
            yield value
            yield from _codes(value)


def put_in_place(name: str, mutant: Path) -> bool:
    """Gives the functions of a module the code that a file has; returns whether that changed any."""
    module = importlib.import_module(name)
    compiled = compile(mutant.read_text(), str(module.__file__), "exec")
    new = {(code.co_qualname, code.co_firstlineno): code for code in _codes(compiled)}
    changed = False
    for function in _functions(module, module):
        old = function.__code__
        code = new.get((old.co_qualname, old.co_firstlineno))
        if code is not None and code != old:
            if code.co_freevars != old.co_freevars:
                return False
            function.__code__ = code
            changed = True
    return changed


def _forget(folder: Path) -> None:
    """Empties the caches of the modules, and lets price books be stored in a new folder."""
    os.environ["KLING_PRICING_CACHE"] = str(folder / "cache")
    for name, module in list(sys.modules.items()):
        if name.partition(".")[0] in ("kling_pricing", "tests"):
            for value in list(vars(module).values()):
                if hasattr(value, "cache_clear"):
                    value.cache_clear()


class Runner:
    """A plugin of pytest that runs jobs in children in place of its own loop."""

    def __init__(self, pipes: list[list[int]]) -> None:
        self._pipes = pipes
        self._reports: IO[str] | None = None  # in a child: where it writes how tests end
        self._failed: set[str] = set()
        self._coverage: coverage.Coverage | None = None

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool | None:
        """Answers jobs until there are no more; in a child, leaves its tests to pytest's own loop."""
        if session.testsfailed:
            return None
        gc.collect()
        gc.freeze()  # children then share this memory
        by_id = {item.nodeid: item for item in session.items}
        own, *others = self._pipes
        for pipes in others:
            if not os.fork():
                own = pipes
                break
        for pipes in self._pipes:
            if pipes != own:
                os.close(pipes[0])
                os.close(pipes[1])
        jobs, answers = os.fdopen(own[0]), os.fdopen(own[1], "w")
        print(json.dumps(list(by_id)), file=answers, flush=True)
        for line in jobs:
            job = Job(**json.loads(line))
            folder = Path(tempfile.mkdtemp(prefix="mutant-"))
            folder.chmod(0o755)  # servers of PostgreSQL run as another user
            reading, writing = os.pipe()
            child = os.fork()
            if not child:
                os.close(reading)
                jobs.close()
                answers.close()
                self._reports = os.fdopen(writing, "w", buffering=1)
                self._prepare(job, folder, session)
                session.items[:] = [by_id[test] for test in job.tests if test in by_id]
                return None
            os.close(writing)
            answer = _followed(job, child, Reports(reading))
            os.close(reading)
            print(json.dumps(vars(answer)), file=answers, flush=True)
            shutil.rmtree(folder, ignore_errors=True)
        return True

    def _prepare(self, job: Job, folder: Path, session: pytest.Session) -> None:
        """Makes this child ready: its own temporary folder, the mutant, and coverage.py."""
        os.setsid()
        os.environ["KLING_PRICING_TEST_POSTGRES"] = job.postgres
        os.environ["TMPDIR"] = os.environ["PYTEST_DEBUG_TEMPROOT"] = str(folder)
        tempfile.tempdir = None
        if job.forget:
            _forget(folder)
        if job.module and not put_in_place(job.module, Path(job.mutant)):
            os._exit(NOT_REPLACED)
        if job.lines:
            self._coverage = coverage.Coverage(job.lines, include=job.included, config_file=False)
            self._coverage.start()
        else:
            session.config.option.maxfail = 1

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        """Reports that a test begins and ends."""
        self._report("begins", item.nodeid)
        if self._coverage is not None:
            self._coverage.switch_context(item.nodeid)
        try:
            return (yield)
        finally:
            if self._coverage is not None:
                self._coverage.switch_context("")
            self._report("fails" if item.nodeid in self._failed else "passes", item.nodeid)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Keeps which tests fail, also in a fixture."""
        if report.failed:
            self._failed.add(report.nodeid)

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_sessionfinish(self, exitstatus: int) -> Iterator[None]:
        """Ends a child after its fixtures have ended, without waiting for connections that a test left open."""
        if self._reports is None:
            return (yield)
        if exitstatus != pytest.ExitCode.INTERNAL_ERROR:
            if self._coverage is not None:
                self._coverage.stop()
                with warnings.catch_warnings(action="ignore"):  # the tests may reach none of the files
                    self._coverage.save()
            self._report("ends", "")
        try:
            return (yield)
        finally:
            os._exit(exitstatus)

    def _report(self, event: str, test: str) -> None:
        if self._reports is not None:
            print(json.dumps([event, test]), file=self._reports, flush=True)


class Reports:
    """The reports of a child: pairs of an event and a test."""

    def __init__(self, pipe: int) -> None:
        self._pipe = pipe
        self._unread = b""

    def next(self, end: float) -> tuple[str, str] | None:
        """Returns the next report; None if there is none until an instant, or no further one."""
        while b"\n" not in self._unread:
            if not select.select([self._pipe], [], [], max(0, end - time.monotonic()))[0]:
                return None
            if not (received := os.read(self._pipe, 65536)):
                return None
            self._unread += received
        line, _, self._unread = self._unread.partition(b"\n")
        event, test = json.loads(line)
        return event, test


def _followed(job: Job, child: int, reports: Reports) -> Answer:
    """Follows the reports of a child, and stops it if a test takes too long."""
    limits_s = dict(zip(job.tests, job.limits_s, strict=True))
    answer = Answer({}, [])
    running, began, end = "", time.monotonic(), time.monotonic() + BETWEEN_TESTS_S
    has_ended = False
    while (report := reports.next(end)) is not None:
        event, test = report
        if event == "ends":
            has_ended = True
            break
        if event == "begins":
            running, began = test, time.monotonic()
            end = began + limits_s[test]
            continue
        answer.durations_s[test] = time.monotonic() - began
        if event == "fails":
            answer.failed.append(test)
        running, end = "", time.monotonic() + BETWEEN_TESTS_S
    answer.stopped = running
    if has_ended:  # its fixtures may end, too
        end = time.monotonic() + 10
        while time.monotonic() < end and not os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            time.sleep(0.005)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    code = os.waitstatus_to_exitcode(status)
    answer.replaced = code != NOT_REPLACED
    answer.has_ended = has_ended or bool(running)
    return answer


def main() -> None:
    """Collects tests and does jobs.

    The arguments are the pipes, a file for the lines that collecting the tests reaches, and files of tests.
    """
    pipes, lines, *tests = sys.argv[1:]
    measured = None
    if lines:
        measured = coverage.Coverage(lines, include=["kling_pricing/*"], config_file=False)
        measured.start()

    class Collected:
        """Ends the measurement after the tests are collected."""

        def pytest_collection_finish(self) -> None:
            """Writes the lines."""
            if measured is not None:
                measured.stop()
                measured.save()

    pytest.main([*OPTIONS, *tests], plugins=[Collected(), Runner(json.loads(pipes))])


if __name__ == "__main__":
    main()
