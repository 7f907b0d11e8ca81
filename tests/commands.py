"""Runs `kling-pricing` for tests, in the test's own process or in a separate one.

The test's own process is faster. A separate process is for signals, pipes, encodings and a full disk.
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from inspect import signature
from pathlib import Path
from typing import Any, NamedTuple

import click
from click.testing import CliRunner

from kling_pricing.cli.app import app

_APART: dict[str, Any] = {"mix_stderr": False} if "mix_stderr" in signature(CliRunner).parameters else {}
"""The argument with which older versions of click keep the two outputs apart."""

COMMAND = [sys.executable, "-m", "kling_pricing"]

HEEDS_SIGINT = "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
"""Python code that resets SIGINT to its default: a child of a background job ignores SIGINT otherwise."""

INTERRUPTIBLE = f"{HEEDS_SIGINT}from kling_pricing.cli import main; main()"
"""Python code that runs the command and can be interrupted."""


def leaves(group: click.Command, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], click.Command]]:
    """Yields every command that does something, with the words that call it."""
    if isinstance(group, click.Group):
        context = click.Context(group)
        for name in group.list_commands(context):
            command = group.get_command(context, name)
            assert command is not None
            yield from leaves(command, (*path, name))
    else:
        yield path, group


COMMANDS = dict(leaves(app))
"""The words that call each command -> the command."""


class Done(NamedTuple):
    """The outputs and the exit code of a command."""

    stdout: str
    stderr: str
    returncode: int


def run(*arguments: str | Path, stdin: str = "", ledger: str | None = None) -> Done:
    """Runs a command in this process."""
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
    """Runs a command in a separate process."""
    environment = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("KLING_PRICING_") or name == "KLING_PRICING_CACHE"
    }
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
