"""`kling-pricing` as tests run it: inside their own process, which is quick, or as a process of its own.

What only a process has (signals, pipes, encodings, a full disk, what it leaves) is tested with processes.
"""

import os
import subprocess
import sys
from inspect import signature
from pathlib import Path
from typing import Any, NamedTuple

from click.testing import CliRunner

from kling_pricing.cli.app import app

_APART: dict[str, Any] = {"mix_stderr": False} if "mix_stderr" in signature(CliRunner).parameters else {}
"""What older versions of click have to be told, to keep the two outputs apart."""

COMMAND = [sys.executable, "-m", "kling_pricing"]

HEEDS_SIGINT = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
"""Python code that resets SIGINT to its default: a child of a background job ignores SIGINT otherwise."""

INTERRUPTIBLE = f"{HEEDS_SIGINT}from kling_pricing.cli import main; main()"
"""Python code that runs the command and can be interrupted."""


class Done(NamedTuple):
    """How a command ended."""

    stdout: str
    stderr: str
    returncode: int


def run(*arguments: str | Path, stdin: str = "", ledger: str | None = None) -> Done:
    """Runs it in this process."""
    done = CliRunner(**_APART).invoke(
        app,
        [*map(str, arguments)],
        input=stdin,
        env={"KLING_PRICING_TABLES": None, "KLING_PRICING_LEDGER": ledger},
        prog_name="kling-pricing",
        catch_exceptions=False,
    )
    return Done(done.stdout, done.stderr, done.exit_code)


def run_process(*arguments: str | Path, stdin: str = "", ledger: str | None = None) -> Done:
    """Runs it as a process."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("KLING_PRICING_")}
    if ledger is not None:
        environment["KLING_PRICING_LEDGER"] = ledger
    done = subprocess.run(
        [*COMMAND, *map(str, arguments)],
        input=stdin,
        capture_output=True,
        check=False,
        encoding="utf-8",
        env=environment,
    )
    return Done(done.stdout, done.stderr, done.returncode)
