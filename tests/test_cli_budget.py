"""The commands that plan, apply, set and show budgets: what they print, ask and refuse."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import re
import struct
import subprocess
import termios
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import pytest

from kling_pricing import BudgetGuard, load_budgets
from tests import commands
from tests.commands import Done, run

FILE = """\
budgets:
  - {name: all, cap: 100, currency: USD}
  - {name: trailer, match: {project: trailer}, cap: 25, currency: USD, window: month}
  - {name: teaser, match: {project: teaser}, cap: 10, currency: USD}
"""
PARTIAL = """\
budgets:
  - {name: trailer, match: {project: trailer}, cap: 25, currency: USD, window: month}
"""
WEAKER = FILE.replace("cap: 25", "cap: 50") + "unmatched: allow\n"
STRICTER = FILE.replace("cap: 25", "cap: 20")
ESCAPE = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")


class Desk(NamedTuple):
    """A ledger with budgets, and a folder for files."""

    ledger: str
    folder: Path

    def run(self, *arguments: str) -> Done:
        """Runs a `budget` command on the ledger."""
        return run("budget", *arguments, ledger=self.ledger)

    def file(self, text: str) -> str:
        """Writes a budgets file, and returns its path."""
        path = self.folder / "budgets.yaml"
        path.write_text(text, encoding="utf-8")
        return str(path)

    def in_force(self) -> dict[str, str]:
        """Returns the cap of each budget in force."""
        return {
            budget["name"]: budget["cap"] for budget in json.loads(self.run("show", "--json").stdout)["budgets"]
        }

    def on_a_terminal(self, *arguments: str, answers: str = "", colours: bool = False) -> tuple[int, str]:
        """Runs a `budget` command on a terminal with 80 columns; returns its exit code and its output."""
        ours, its = pty.openpty()
        fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        hidden = {"COLUMNS", "NO_COLOR", "FORCE_COLOR"}
        environment = {name: value for name, value in os.environ.items() if name not in hidden}
        environment |= {"TERM": "xterm", "KLING_PRICING_LEDGER": self.ledger}
        environment |= {} if colours else {"NO_COLOR": "1"}
        command = [*commands.COMMAND, "budget", *arguments]
        with subprocess.Popen(command, stdin=its, stdout=its, stderr=its, env=environment) as process:
            os.close(its)
            os.write(ours, answers.encode())
            shown = b""
            with suppress(OSError):  # the error at the end of a terminal's output
                while part := os.read(ours, 65536):
                    shown += part
        os.close(ours)
        return process.returncode, shown.decode().replace("\r\n", "\n")


@pytest.fixture
def desk(ledger: str, tmp_path: Path) -> Desk:
    """Returns a ledger with three budgets, of which one has spent something."""
    desk = Desk(ledger, tmp_path)
    assert desk.run("apply", desk.file(FILE), "--actor", "li").returncode == 0
    assert run("record", "qingbo", "t-1", "12.5", "--project", "trailer", ledger=ledger).returncode == 0
    return desk


def test_a_partial_file_is_refused_with_yes(desk: Desk) -> None:
    """--yes answers nothing but the plain question: a budget is removed only by its name."""
    path = desk.file(PARTIAL)
    for options in ((), ("--yes",), ("--yes", "--allow-weaker"), ("--yes", "--remove", "all")):
        refused = desk.run("apply", path, *options)
        assert (refused.returncode, "Refused: nothing was changed" in refused.stderr) == (1, True)
        assert "teaser" in refused.stderr.partition("Refused")[2]
        assert desk.in_force() == {"all": "100", "trailer": "25", "teaser": "10"}
    applied = desk.run("apply", path, "--remove", "all", "--remove", "teaser")
    assert (applied.returncode, applied.stdout.splitlines()[-1]) == (0, "Installed 1 budget: trailer")
    assert desk.in_force() == {"trailer": "25"}


def test_a_partial_file_is_refused_on_an_unused_ledger(ledger: str, tmp_path: Path) -> None:
    """Whether a budget has counted anything makes no difference."""
    desk = Desk(ledger, tmp_path)
    assert desk.run("apply", desk.file(FILE)).returncode == 0
    assert desk.run("apply", desk.file(PARTIAL), "--yes").returncode == 1
    assert desk.in_force() == {"all": "100", "trailer": "25", "teaser": "10"}


def test_the_exit_code_of_a_plan(desk: Desk) -> None:
    """0: no change, 1: changes, 2: a file or ledger that cannot be read."""
    assert desk.run("plan", desk.file(FILE)).returncode == 0
    assert (
        desk.run("plan", desk.file(FILE)).stdout
        == "No change: the ledger has 3 budgets (all, trailer, teaser)\n"
    )
    assert desk.run("plan", desk.file(STRICTER)).returncode == 1
    for text in ("budgets: []\n", "{"):
        assert desk.run("plan", desk.file(text)).returncode == 2
        assert desk.run("apply", desk.file(text)).returncode == 2
    assert desk.run("plan", str(desk.folder / "none.yaml")).returncode == 2


def test_a_plan_reads_well(desk: Desk) -> None:
    """It marks what is weaker, shows the balances, and names the options that `apply` needs."""
    text = WEAKER.replace("  - {name: teaser, match: {project: teaser}, cap: 10, currency: USD}\n", "")
    plan = desk.run("plan", desk.file(text))
    assert plan.stdout == (
        "~ trailer changed: cap 25 -> 50 USD (weaker)\n"
        "    spent 12.5, held 0 USD\n"
        "- teaser removed: match {project: teaser}, cap 10 USD\n"
        "~ changed: unmatched refuse -> allow (weaker)\n"
        "`budget apply` needs these options: --remove teaser --allow-weaker\n"
    )
    document = json.loads(desk.run("plan", desk.file(text), "--json").stdout)
    assert (document["removed"], document["weaker"]) == (
        ["teaser"],
        ["trailer: cap 25 -> 50 USD", "unmatched refuse -> allow"],
    )
    refused = desk.run("apply", desk.file(text), "--json", "--yes")
    answer = json.loads(refused.stdout)
    assert (refused.returncode, answer["applied"], answer["error"]["type"]) == (1, False, "BudgetWeakenedError")
    assert (answer["error"]["removed"], len(answer["error"]["weaker"])) == (["teaser"], 2)
    applied = desk.run("apply", desk.file(text), "--json", "--remove", "teaser", "--allow-weaker")
    assert (applied.returncode, json.loads(applied.stdout)["applied"]) == (0, True)


@pytest.mark.parametrize("is_weaker", [False, True], ids=["plain", "weaker"])
@pytest.mark.parametrize("answer", ["y", "n"])
def test_a_terminal_asks(tmp_path: Path, answer: str, is_weaker: bool) -> None:  # noqa: FBT001 (a parameter)
    """In a terminal, `apply` asks before it changes anything; --yes answers only the plain question."""
    desk = Desk(f"sqlite:///{tmp_path}/spend.db", tmp_path)
    desk.run("apply", desk.file(FILE))
    path = desk.file(WEAKER if is_weaker else STRICTER)
    code, shown = desk.on_a_terminal("apply", path, *(["--yes"] if is_weaker else []), answers=f"{answer}\n")
    assert ("weaken protection" in shown, "Make these changes? [y/N]" in shown) == (is_weaker, True)
    assert code == (0 if answer == "y" else 1)
    cap = {("y", True): "50", ("y", False): "20"}.get((answer, is_weaker), "25")
    assert desk.in_force()["trailer"] == cap


def test_yes_answers_the_plain_question(tmp_path: Path) -> None:
    """With --yes, or without changes, a terminal asks nothing; nor does it ask about a removal."""
    desk = Desk(f"sqlite:///{tmp_path}/spend.db", tmp_path)
    assert "[y/N]" not in desk.on_a_terminal("apply", desk.file(FILE))[1]
    for text, code in ((STRICTER, 0), (STRICTER, 0), (PARTIAL, 1)):
        done, shown = desk.on_a_terminal("apply", desk.file(text), "--yes")
        assert (done, "[y/N]" in shown) == (code, False)


def test_the_shown_file_applies_as_no_change(desk: Desk) -> None:
    """`show --yaml` is a budgets file; `plan` finds no change, and `apply` makes none."""
    desk.run("set", "trailer", "--cap", "80", "--until", "2099-12-01", "--reason", "rush: # 1", "--yes")
    shown = desk.run("show", "--yaml").stdout
    assert shown.startswith("# trailer: until 2099-12-01 00:00 UTC, the cap is 80 USD (")
    path = desk.file(shown)
    assert load_budgets(path).digest == load_budgets(desk.file(FILE)).digest
    log = desk.run("log", "--json").stdout
    assert (desk.run("plan", desk.file(shown)).returncode, desk.run("apply", path).returncode) == (0, 0)
    assert desk.run("log", "--json").stdout == log
    alone = desk.run("show", "trailer", "--yaml").stdout
    assert alone.splitlines()[0].startswith("# one of the 3 current budgets")
    assert [budget.name for budget in load_budgets(desk.file(alone)).budgets] == ["trailer"]


def test_show_and_log_read_well(desk: Desk) -> None:
    """They say what is in force, what it has spent, and who changed what, with the old and the new value."""
    assert desk.run(
        "set", "trailer", "--cap", "50", "--reason", "the second trailer", "--actor", "wang"
    ).stdout == ("trailer: cap 25 -> 50 USD (weaker)\n")
    shown = desk.run("show").stdout
    for line in ("  cap              50 USD", "  window           month", "  match            every request"):
        assert f"{line}\n" in shown
    assert "  now              spent 12.5, held 0, left 37.5 USD\n" in shown
    assert re.search(r"in effect since .* wang.* set trailer: the second trailer\n", shown)
    assert desk.run("show", "trailr").returncode == 2
    assert "did you mean 'trailer'?" in desk.run("show", "trailr").stderr
    lines = desk.run("log").stdout.splitlines()
    assert "    + trailer added: match {project: trailer}, cap 25 USD, window month" in lines
    assert lines[-1] == "    {cap: 25} -> {cap: 50}"
    with BudgetGuard(desk.ledger) as guard:
        assert guard.log()[-1].reason == "the second trailer"
    result = json.loads(desk.run("set", "trailer", "--cap", "10", "--reason", "less", "--json").stdout)
    assert (result["old"], result["new"]["cap"], result["weaker"], len(result["notes"])) == (
        {"cap": "50", "until": None},
        "10",
        False,
        1,
    )


def test_set_says_what_it_does(desk: Desk) -> None:
    """A cap that changes nothing, a wrong name, an end that is over and a missing reason are named."""
    assert (
        desk.run("set", "trailer", "--cap", "25", "--reason", "x").stdout == "trailer: no change: cap 25 USD\n"
    )
    assert desk.run("set", "nobody", "--cap", "25", "--reason", "x").returncode == 2
    assert desk.run("set", "trailer", "--cap", "25", "--until", "2020-01-01", "--reason", "x").returncode == 2
    assert desk.run("set", "trailer", "--cap", "25").returncode == 2
    assert desk.in_force()["trailer"] == "25"


@pytest.mark.parametrize("colours", [False, True])
def test_the_commands_fit_80_columns(tmp_path: Path, colours: bool) -> None:  # noqa: FBT001 (a parameter)
    """In a terminal with 80 columns no line is longer, with and without colours."""
    desk = Desk(f"sqlite:///{tmp_path}/spend.db", tmp_path)
    desk.run("apply", desk.file(FILE))
    run("record", "qingbo", "t-1", "12.5", "--project", "trailer", ledger=desk.ledger)
    desk.run("set", "trailer", "--cap", "80", "--until", "2099-12-01", "--reason", "a long reason " * 6)
    match = "{project: [autumn, spring, summer, winter], user: any, team: '*', reel: any}"
    more = f"  - {{name: many, match: {match}, cap: 0.000000001, currency: USD}}\n"
    text = STRICTER.replace("cap: 20", "cap: 2") + more
    for arguments in (["plan", desk.file(text)], ["apply", desk.file(text), "--yes"], ["show"], ["log"]):
        _, shown = desk.on_a_terminal(*arguments, colours=colours)
        assert ("\x1b[3" in shown) == (colours and arguments[0] in {"plan", "apply", "log"})
        lines = ESCAPE.sub("", shown).splitlines()
        assert lines
        assert [line for line in lines if len(line) > 80] == []
