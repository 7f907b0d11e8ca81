"""`kling-pricing doctor` finds what is wrong and shows no secret; shells complete names."""

from __future__ import annotations

import json
import os
import re
import shutil
import sqlite3
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import psycopg
import pytest
from click.shell_completion import BashComplete

from kling_pricing import Budget, BudgetGuard, PriceBook
from kling_pricing.cli.app import app
from kling_pricing.cli.doctor_checks import EXTRAS
from tests.commands import Done, run
from tests.conftest import PRICES, with_database
from tests.golden.make import golden_sql
from tests.guards import CLIP

ROOT = Path(__file__).parent.parent


def findings(*arguments: str, ledger: str | None = None) -> tuple[int, dict[str, dict[str, Any]]]:
    """Runs the doctor, and returns its exit code, and its findings by name; one that is wrong comes first."""
    done = run("doctor", "--json", *arguments, ledger=ledger)
    found: dict[str, dict[str, Any]] = {}
    for finding in json.loads(done.stdout)["findings"]:
        if found.get(finding["name"], {}).get("state") != "wrong":
            found[finding["name"]] = finding
    return done.returncode, found


@pytest.fixture
def file_ledger(tmp_path: Path) -> str:
    """A ledger in a file with two budgets and a job."""
    url = f"sqlite:///{tmp_path / 'spend.db'}"
    budgets = [
        Budget(name=name, match={"project": name}, cap=5, currency="USD") for name in ("trailer", "tests")
    ]
    with BudgetGuard(url, budgets) as guard:
        guard.pre_submit(CLIP, project="trailer")
    return url


def test_a_good_installation_is_all_right(file_ledger: str) -> None:
    """Versions, tables, cache, zones, ledger and clock are checked, and the exit code is 0."""
    code, found = findings(ledger=file_ledger)
    assert code == 0
    assert {found[name]["state"] for name in ("python", "kling-pricing", "price tables", "time zones")} == {
        "ok"
    }
    assert re.search(r"schema \d+, budgets digest ", found["ledger"]["detail"])
    assert (found["ledger"]["state"], found["clock"]["state"]) == ("ok", "ok")
    assert found["prices of kling"]["detail"].startswith("kling/2026-09-20, from a copy of 2026-09-20, ")


def test_the_text_marks_what_is_wrong(tmp_path: Path) -> None:
    """Each line has a mark, a name and the finding; the remedy follows."""
    table = tmp_path / "prices" / "acme" / "2026-11-01.yaml"
    table.parent.mkdir(parents=True)
    table.write_text(PRICES.replace("0.05", "-0.05"))
    done = run("doctor", "--tables", tmp_path)
    assert done.returncode == 1
    (wrong,) = [line for line in done.stdout.splitlines() if line.startswith("WRONG")]
    assert "price tables" in wrong
    assert "is negative" in wrong
    assert "`kling-pricing tables check` lists all" in wrong


def test_a_missing_ledger_is_a_note(tmp_path: Path) -> None:
    """A file that does not exist yet is not created, and nothing is wrong."""
    path = tmp_path / "new.db"
    code, found = findings(ledger=f"sqlite:///{path}")
    assert (code, found["ledger"]["state"], path.exists()) == (0, "note", False)
    code, found = findings()
    assert (code, found["ledger"]["state"]) == (0, "note")


def test_a_ledger_that_cannot_be_used_is_wrong(tmp_path: Path) -> None:
    """A file that is no ledger, and a URL that is none, are problems with a remedy."""
    (tmp_path / "notes.db").write_text("these are no rows")
    for url in (f"sqlite:///{tmp_path / 'notes.db'}", "sqlite:///", "postgresql://127.0.0.1:9/spend?wait_s=1"):
        code, found = findings(ledger=url)
        assert (code, found["ledger"]["state"]) == (1, "wrong"), url
        assert found["ledger"]["remedy"]


def test_an_older_schema_is_wrong(tmp_path: Path) -> None:
    """The finding names the command that upgrades the ledger."""
    path = tmp_path / "old.db"
    db = sqlite3.connect(path)
    db.executescript(golden_sql("sqlite", 2))
    db.close()
    code, found = findings(ledger=f"sqlite:///{path}")
    assert (code, found["ledger"]["state"]) == (1, "wrong")
    assert "ledger migrate" in found["ledger"]["detail"]


def test_no_secret_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither a password in a URL nor the value of a variable is in the output."""
    monkeypatch.setenv("KLING_PRICING_SERVER_UPSTREAMS__QINGBO__CREDENTIAL", "env:TOPSECRET")
    for url in ("postgresql://user:hunter2@127.0.0.1:9/spend?wait_s=1", "sqlite://user:hunter2@nowhere"):
        for form in ((), ("--json",)):
            done = run("doctor", *form, "--ledger", url)
            assert done.returncode == 1
            assert "hunter2" not in done.stdout + done.stderr
            assert "TOPSECRET" not in done.stdout
            assert "KLING_PRICING_SERVER_UPSTREAMS__QINGBO__CREDENTIAL" in done.stdout


def test_the_clock_of_a_server_is_compared(postgres_ledger: str) -> None:
    """A ledger whose clock differs by more than a few seconds is a problem."""
    with BudgetGuard(postgres_ledger, [Budget(name="all", cap=1, currency="USD")]):
        pass
    code, found = findings(ledger=postgres_ledger)
    assert (code, found["clock"]["state"]) == (0, "ok"), found
    assert "postgresql: schema " in found["ledger"]["detail"]
    with psycopg.connect(postgres_ledger, autocommit=True) as connection:
        (own,) = connection.execute(
            "SELECT pg_get_functiondef('kling_pricing.current_instant()'::regprocedure)"
        ).fetchall()[0]
        for interval in ("+1 hour", "-1 hour"):
            connection.execute(
                "CREATE OR REPLACE FUNCTION kling_pricing.current_instant() RETURNS timestamptz LANGUAGE sql"
                f" AS $$ SELECT clock_timestamp() + interval '{interval}' $$"
            )
            code, found = findings(ledger=postgres_ledger)
            assert (code, found["clock"]["state"]) == (1, "wrong")
        connection.execute(own.encode())
    absent = with_database(postgres_ledger, "nothing_here")
    assert findings(ledger=absent)[0] == 1


@pytest.mark.skipif(os.name != "posix", reason="the permissions of folders are those of POSIX")
def test_a_cache_that_others_can_write_is_wrong(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is never used, so the doctor says what to set."""
    tmp_path.chmod(0o777)
    monkeypatch.setenv("KLING_PRICING_CACHE", str(tmp_path))
    code, found = findings()
    assert (code, found["cache"]["state"]) == (1, "wrong")
    assert "KLING_PRICING_CACHE" in found["cache"]["remedy"]
    monkeypatch.setenv("KLING_PRICING_CACHE", "off")
    assert findings()[1]["cache"]["state"] == "note"


def test_a_machine_without_time_zones_is_found(tmp_path: Path) -> None:
    """Without a database of time zones, the doctor names the package that has one."""
    code = (
        "import sys; sys.modules['tzdata'] = None; from kling_pricing.cli import main; "
        "sys.argv = ['kling-pricing', 'doctor']; main()"
    )
    environment = {**os.environ, "PYTHONTZPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment
    )
    assert done.returncode == 1
    assert "pip install tzdata" in done.stdout


def test_the_extras_are_those_of_the_package() -> None:
    """The doctor knows every extra that users install, with its packages."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    declared = {
        extra: tuple(sorted(re.match(r"[a-z0-9-]+", package)[0] for package in packages))  # type: ignore[index]
        for extra, packages in project["optional-dependencies"].items()
        if extra not in {"all", "bench", "dev", "docs"}
    }
    assert {extra: tuple(sorted(packages)) for extra, packages in EXTRAS.items()} == declared


Complete: TypeAlias = Callable[..., list[str]]


@pytest.fixture
def complete(monkeypatch: pytest.MonkeyPatch) -> Complete:
    """Returns a function that returns what bash would offer for the last of some words."""
    monkeypatch.setenv("_KLING_PRICING_COMPLETE", "bash_complete")
    monkeypatch.delenv("KLING_PRICING_LEDGER", raising=False)

    def completed(words: str, ledger: str | None = None) -> list[str]:
        *begun, last = words.split(" ")[1:]
        if ledger is not None:
            monkeypatch.setenv("KLING_PRICING_LEDGER", ledger)
        completer = BashComplete(app, {}, "kling-pricing", "_KLING_PRICING_COMPLETE")
        return [item.value for item in completer.get_completions(begun, last)]

    return completed


def test_names_are_completed(complete: Complete, file_ledger: str, book: PriceBook) -> None:
    """Commands, providers, models, tables, budgets and projects, the last two from the ledger."""
    assert complete("kling-pricing quo") == ["quote"]
    assert complete("kling-pricing quote --provider q") == ["qingbo", "qingbo-ai"]
    assert complete("kling-pricing quote --model KLING-V3-O") == ["kling-v3-omni"]
    assert complete("kling-pricing tables show kling/") == [table.id for table in book.tables["kling"]]
    assert complete(f"kling-pricing history --ledger {file_ledger} --project ") == ["trailer"]
    assert complete("kling-pricing budget set tr", file_ledger) == ["trailer"]
    assert complete("kling-pricing budget freeze t", file_ledger) == ["trailer", "tests"]
    assert complete("kling-pricing history --project t", file_ledger) == ["trailer"]


def test_completion_without_a_ledger_is_silent(complete: Complete, tmp_path: Path) -> None:
    """No ledger, a missing one and a broken one complete nothing, and no ledger is created."""
    assert complete("kling-pricing budget set t") == []
    assert complete("kling-pricing budget set t", f"sqlite:///{tmp_path / 'new.db'}") == []
    assert [*tmp_path.iterdir()] == []
    (tmp_path / "notes.db").write_text("these are no rows")
    assert complete("kling-pricing budget set t", f"sqlite:///{tmp_path / 'notes.db'}") == []


def test_bash_completes_after_one_line(tmp_path: Path) -> None:
    """The line of the documentation makes a real shell complete a provider."""
    command = tmp_path / "kling-pricing"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -m kling_pricing "$@"\n')
    command.chmod(0o755)
    script = (
        'eval "$(kling-pricing completion bash)"; COMP_WORDS=(kling-pricing quote --provider qingbo-); '
        "COMP_CWORD=3; _kling_pricing_completion kling-pricing; echo ${COMPREPLY[@]}"
    )
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    bash = shutil.which("bash")
    assert bash is not None
    done = subprocess.run([bash, "-c", script], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.split() == ["qingbo-ai"], done.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_has_a_script(shell: str) -> None:
    """The script asks the command by the variable that the command reads."""
    done: Done = run("completion", shell)
    assert done.returncode == 0
    assert f"_KLING_PRICING_COMPLETE={shell}_complete" in done.stdout
