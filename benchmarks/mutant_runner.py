"""Runs tests on one mutant after the other, for `mutating.py`, in a process that has imported everything once.

It reads one job per line from its standard input and writes one answer per line.
For each job it forks: the child gives the function the code that it has in the mutant, and runs pytest.
Where that is not possible, as for a changed default of an argument, the child starts a new interpreter.
"""

import contextlib
import importlib
import json
import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, FunctionType, ModuleType
from typing import Any

import pytest

OPTIONS = ["-q", "-n", "0", "-p", "no:cacheprovider", "--simulations", "3"]


def _functions(place: ModuleType | type, module: str) -> Iterator[FunctionType]:
    """Yields the functions and methods that a module defines."""
    for value in list(vars(place).values()):
        found = value.__func__ if isinstance(value, (staticmethod, classmethod)) else value
        if isinstance(found, FunctionType):
            yield found
        elif isinstance(found, type) and found.__module__ == module and found is not place:
            yield from _functions(found, module)


def _codes(code: CodeType) -> Iterator[CodeType]:
    """Yields the code of all functions in compiled code."""
    for value in code.co_consts:
        if isinstance(value, CodeType):
            yield value
            yield from _codes(value)


def put_in_place(path: Path) -> bool:
    """Gives the functions of a module the code that its file has now; tells whether that changed any."""
    name = ".".join(path.with_suffix("").parts).removesuffix(".__init__")
    module = importlib.import_module(name)
    compiled = compile(path.read_text(), str(Path(str(module.__file__))), "exec")
    new = {(code.co_name, code.co_firstlineno): code for code in _codes(compiled)}
    changed = False
    for function in _functions(module, name):
        old = function.__code__
        code = new.get((old.co_name, old.co_firstlineno))
        if code is not None and code != old:
            if code.co_freevars != old.co_freevars:
                return False
            function.__code__ = code
            changed = True
    return changed


class _EndsAtOnce:
    """Ends the process after the last test, without waiting for connections that a test left open."""

    code: int = 70

    @pytest.hookimpl(trylast=True)
    def pytest_sessionfinish(self, exitstatus: int) -> None:
        """Keeps the exit code."""
        self.code = int(exitstatus)

    @pytest.hookimpl(tryfirst=True)
    def pytest_unconfigure(self) -> None:
        """Ends the process."""
        sys.stdout.flush()
        os._exit(self.code)


def _run(job: dict[str, Any], log: Path) -> None:
    """Runs the tests of a job in this process, which ends with the exit code of pytest."""
    os.setsid()
    file = os.open(log, os.O_CREAT | os.O_TRUNC | os.O_WRONLY)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(file, 1)
    os.dup2(file, 2)
    arguments = log.with_suffix(".tests")
    arguments.write_text("\n".join(job["tests"]))
    command = [*OPTIONS, *job["options"], f"@{arguments}"]
    if job["path"] and not put_in_place(Path(job["path"])):
        os.execv(sys.executable, [sys.executable, "-m", "pytest", *command])  # noqa: S606 (no shell is needed)
    with contextlib.suppress(BaseException):
        pytest.main(command, plugins=[_EndsAtOnce()])
    os._exit(70)


def _answer(job: dict[str, Any], log: Path) -> dict[str, Any]:
    """Runs a job in a child; its code is None if the time was up."""
    child = os.fork()
    if not child:
        _run(job, log)
    end = time.monotonic() + job["seconds"]
    while time.monotonic() < end:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return {"code": os.waitstatus_to_exitcode(status), "output": log.read_text(errors="replace")}
        time.sleep(0.02)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return {"code": None, "output": ""}


def main() -> None:
    """Imports the tests and what they import, and does the jobs."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    pytest.main([*OPTIONS, "--collect-only", "-qq", *sys.argv[1:]])
    folder = Path("build")
    folder.mkdir(exist_ok=True)
    print("ready", file=answers, flush=True)
    for line in sys.stdin:
        print(json.dumps(_answer(json.loads(line), folder / "log")), file=answers, flush=True)


if __name__ == "__main__":
    main()
