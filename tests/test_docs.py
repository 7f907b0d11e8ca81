"""Every command, output and piece of Python in the README, `docs/` and `examples/` is run."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from tests.commands import COMMAND, Done, run

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
INSTALL = re.compile(r"python3 -m venv \.venv && \.venv/bin/pip install .*? && \.venv/bin/(?=kling-pricing)")
SHELL = set("|<>&;$")
"""Of a command that is more than its words."""
PIPED = re.compile(r"""(kling-pricing(?:[^|<>&;$"']|"[^"$]*"|'[^']*')+?) (2>&1 )?(\||> /dev/null$)(.*)""")
"""A single command, and what a shell does with its output."""


def blocks(kind: str) -> list[tuple[str, str]]:
    """Page and text of every fenced block of a kind."""
    return [
        (page.name, text)
        for page in PAGES
        for language, text in BLOCK.findall(page.read_text(encoding="utf-8"))
        if language == kind
    ]


def commands() -> dict[str, list[tuple[str, str]]]:
    """Page -> command and shown output of every command that calls the library's command line."""
    found: dict[str, list[tuple[str, str]]] = {}
    for page, text in blocks("console"):
        for part in re.split(r"^\$ ", text, flags=re.MULTILINE)[1:]:
            command, _, output = part.partition("\n")
            command = INSTALL.sub("", command)
            if "kling-pricing" in command:
                found.setdefault(page, []).append((command, output))
    return found


@pytest.fixture(autouse=True)
def in_a_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    """Everything is run where the pages say, with no tables but the bundled ones."""
    monkeypatch.chdir(ROOT)
    monkeypatch.delenv("KLING_PRICING_TABLES", raising=False)


@pytest.mark.parametrize("page", commands())
def test_each_command_prints_what_the_page_shows(page: str, tmp_path: Path) -> None:
    """The commands of a page run in order, on a ledger of their own; each output is compared whole."""
    ledger = f"sqlite:///{tmp_path}/spend.db"
    for command, output in commands()[page]:
        piped = PIPED.fullmatch(command.strip())
        if page != "README.md" and piped and "kling-pricing" not in piped[4]:
            done = run(*shlex.split(piped[1])[1:], ledger=ledger)
            text = done.stdout + done.stderr if piped[2] else done.stdout
            done = in_a_shell(f"cat {piped[3]}{piped[4]}", ledger, stdin=text)
        elif page == "README.md" or set(command) & SHELL:
            done = in_a_shell(command, ledger)
        else:
            done = run(*shlex.split(command)[1:], ledger=ledger)
        assert (command, done.stdout) == (command, output), done.stderr


def in_a_shell(command: str, ledger: str, stdin: str | None = None) -> Done:
    """Runs a command as a person would."""
    words = ["bash", "-c", command.replace("kling-pricing", shlex.join(COMMAND))]
    environment = {**os.environ, "KLING_PRICING_LEDGER": ledger}
    done = subprocess.run(words, input=stdin, capture_output=True, text=True, check=False, env=environment)
    return Done(done.stdout, done.stderr, done.returncode)


@pytest.mark.parametrize(("page", "text"), blocks("python"))
def test_each_piece_of_python_runs(page: str, text: str) -> None:
    """What it asserts holds."""
    exec(compile(text, page, "exec"), {"__name__": "__main__"})  # noqa: S102 (our own pages)


@pytest.mark.parametrize("path", sorted((ROOT / "examples").glob("*.py")), ids=lambda path: path.name)
def test_each_example_runs(path: Path) -> None:
    """It exits 0 and prints its answer."""
    result = subprocess.run([sys.executable, path], capture_output=True, text=True, check=False)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout


def test_there_are_commands_and_code_to_check() -> None:
    """The pages are found and not empty, so the tests above ran on something."""
    assert sum(map(len, commands().values())) >= 12
    assert len(blocks("python")) >= 4
