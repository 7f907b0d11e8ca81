"""`kling-pricing demo`: plays a made-up month with simulated providers, and tells it."""

from __future__ import annotations

import asyncio
import os
import shlex
import shutil
import sys
import textwrap
import webbrowser
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Self

import click
from rich.console import Console
from rich.progress import Progress

from kling_pricing.cli.exit_codes import exit_codes_help
from kling_pricing.cli.failures import errors_shown
from kling_pricing.cli.output import echo
from kling_pricing.cli.terminal import bar_columns
from kling_pricing.demo import NEEDED_MODULES
from kling_pricing.display import not_installed

if TYPE_CHECKING:
    from kling_pricing.demo.playground import TryNext

_WIDTH = 80
_PROGRAM = "kling-pricing"


@click.command(
    "demo",
    epilog=exit_codes_help(
        done="the month was played to its end",
        unreadable="bad usage, a folder that is not empty, or a missing extra",
    ),
)
@click.option(
    "--keep",
    metavar="FOLDER",
    type=click.Path(file_okay=False, path_type=Path),
    help="New or empty folder in which to keep the ledger, the statements, the budgets, the settings of the "
    "server and the report. Default: only the report is kept.",
)
@click.option("--seed", type=int, help="Seed for all random choices. The same seed tells the same story.")
@click.option(
    "--no-open", is_flag=True, help="Do not open the report in a browser; its path is printed anyway."
)
def demo_command(keep: Path | None, seed: int | None, no_open: bool) -> None:
    """Play a made-up month with simulated providers.

    In less than a minute, three projects spend a month's budgets at two providers that the sandbox simulates:
    through a hook and through the server, with lost responses, a killed script, a failed task, jobs in doubt, a
    user who spends too much, and an exception for a deadline. Then a statement with twelve errors arrives, and
    is compared with the ledger. The command reports each step with its figures, and writes the report page.

    The demo needs no account and no network, and costs nothing. You need the extra `all`.

    \b
    Examples:
      kling-pricing demo
      kling-pricing demo --keep playground
    """
    with demo_required():
        from kling_pricing.demo import playground  # noqa: PLC0415 (needs extras)
        from kling_pricing.demo.stories import demo_script  # noqa: PLC0415
        from kling_pricing.demo.telling import DemoStory  # noqa: PLC0415

    script, teller = demo_script(), PrintedStory()
    with errors_shown(as_json=False):
        with playground.demo_folder(keep) as folder, teller:
            asyncio.run(DemoStory(script, folder, teller, script.seed if seed is None else seed).tell())
            if keep is None:
                report = playground.keep_report(folder)
                commands = playground.next_without_playground(script)
            else:
                report = playground.keep_playground(script, folder, keep)
                commands = playground.next_in_playground(script, keep)
        teller.step("The report page:")
        echo(f"    {report.resolve()}")
        _show_next(commands)
        if not no_open and _may_open():
            webbrowser.open(report.resolve().as_uri())


@contextmanager
def demo_required() -> Iterator[None]:
    """Refuses to go on if a package that the demo needs is not installed; the block imports its modules.

    Raises:
        click.UsageError: a package is missing; the message names the extra.
    """
    feature, extra = "the demo", "all"
    for module in NEEDED_MODULES:
        if find_spec(module) is None:
            raise click.UsageError(not_installed(feature, module, extra))
    try:
        yield
    except ModuleNotFoundError as error:
        raise click.UsageError(not_installed(feature, f"{error.name}", extra)) from None


class PrintedStory:
    """Prints a story, 80 columns wide, and shows a progress bar on a terminal while a step takes long."""

    def __init__(self) -> None:
        self._console = Console(stderr=True)
        self._bars: Progress | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self._stop_bar()

    def step(self, text: str) -> None:
        """Prints a step of the story."""
        self._stop_bar()
        echo(textwrap.fill(text, _WIDTH, initial_indent="- ", subsequent_indent="  "))

    def detail(self, text: str) -> None:
        """Prints a detail of the newest step."""
        self._stop_bar()
        echo(textwrap.fill(text, _WIDTH, initial_indent="    ", subsequent_indent="      "))

    def progress(self, label: str, done: int, total: int) -> None:
        """Shows how much of a long step is done, until the next step."""
        if not self._console.is_terminal:
            return
        if self._bars is None:
            self._bars = Progress(*bar_columns(), console=self._console, transient=True, redirect_stdout=False)
            self._bars.add_task(label, total=total)
            self._bars.start()
        self._bars.update(self._bars.task_ids[0], description=label, completed=done)

    def _stop_bar(self) -> None:
        if self._bars is not None:
            self._bars.stop()
            self._bars = None


def _show_next(commands: Sequence[TryNext]) -> None:
    """Prints the commands to try next, and first, how a shell finds `kling-pricing` if it does not know it."""
    echo("\nWhat to try next:")
    program = Path(sys.argv[0]).absolute()
    if program.name == _PROGRAM and shutil.which(_PROGRAM) is None:
        echo(
            f"  # so that your shell finds the command\n  export PATH={shlex.quote(str(program.parent))}:$PATH"
        )
    for command, purpose in commands:
        for line in (*([f"# {purpose}"] if purpose else ()), *command.split("\n")):
            echo(f"  {line}")


def _may_open() -> bool:
    """Returns whether there is a person who looks at a screen of this machine."""
    has_screen = sys.platform in {"win32", "darwin"} or any(map(os.environ.get, ("DISPLAY", "WAYLAND_DISPLAY")))
    return has_screen and sys.stdout.isatty()
