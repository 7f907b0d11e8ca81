"""The commands that freeze, ask for allowances, grant and revoke them, as people and programs read them."""

import json
import re
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests import commands
from tests.commands import Done
from tests.conftest import video

BUDGETS = """\
budgets:
  - {name: trailer, match: {project: trailer}, cap: 1, currency: USD, max_request: 2}
  - {name: everyone, cap: 0.5, currency: USD, enforce: observe}
"""
CLIP = json.dumps(video(duration=5, resolution="1080p", audio=True))
COLOURS = re.compile(r"\x1b\[[0-9;]*m")
FOR_EVER = ("--until", "2100-01-01", "--reason", "launch week")

Run = Callable[..., Done]


@pytest.fixture
def run(ledger: str, tmp_path: Path) -> Run:
    """Runs `kling-pricing` on a ledger with a budget that limits and one that observes."""
    path = tmp_path / "budgets.yaml"
    path.write_text(BUDGETS)
    (tmp_path / "clip.json").write_text(CLIP)
    run_there = partial(commands.run, ledger=ledger)
    assert run_there("budget", "apply", path).returncode == 0
    return run_there


def parsed(done: Done) -> Any:
    """Returns the JSON that a command printed."""
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def lines(done: Done, *, width: int = 80) -> list[str]:
    """Returns the lines that a command printed, all of which fit a terminal of this width."""
    assert done.returncode == 0, done.stderr
    printed = done.stdout.splitlines()
    assert max(map(len, printed)) <= width, printed
    return printed


def submitted(run: Run, **options: str) -> Done:
    """Admits and dispatches a clip."""
    more = [word for name, value in options.items() for word in (f"--{name}", value)]
    return run("pre-submit", "-", "--project", "trailer", *more, stdin=CLIP)


def test_freezing_by_name_and_thawing_as_people_read_it(run: Run) -> None:
    """Each command says in one short line what is in force now."""
    (frozen,) = lines(run("budget", "freeze", "trailer", "--reason", "audit", "--actor", "li"))
    assert re.fullmatch(r"Budget trailer is frozen: li, .* UTC \(audit\)", frozen)
    refused = submitted(run)
    assert (refused.returncode, "Refused: li froze budget trailer at" in refused.stderr) == (1, True)
    assert lines(run("budget", "freeze", "trailer", "--reason", "again", "--actor", "wang")) == [frozen]
    lines(run("budget", "freeze", "--all", "--reason", "fire", "--actor", "wang"))
    over, still = lines(run("budget", "thaw", "--all", "--reason", "out"))
    assert (over, still) == ("The freeze on all spending has been lifted.", f"This freeze remains: {frozen}")
    assert frozen in lines(run("budget", "status"), width=90)
    assert lines(run("budget", "thaw", "trailer", "everyone", "--reason", "done")) == [
        "Budget trailer is thawed.",
        "Budget everyone is not frozen; there is nothing to thaw.",
    ]
    assert lines(run("budget", "thaw", "--all", "--reason", "done")) == [
        "Spending is not frozen; there is nothing to thaw."
    ]


def test_freezing_as_programs_read_it(run: Run) -> None:
    """`--json` lists the freezes with budget, actor, reason and instant; all spending has the budget null."""
    (frozen,) = parsed(run("budget", "freeze", "trailer", "--reason", "audit", "--actor", "li", "--json"))[
        "freezes"
    ]
    assert (frozen["budget"], frozen["actor"], frozen["reason"]) == ("trailer", "li", "audit")
    (everything,) = parsed(run("budget", "freeze", "--all", "--reason", "fire", "--json"))["freezes"]
    assert everything["budget"] is None
    assert parsed(run("budget", "status", "--json"))["freezes"] == [everything, frozen]
    thawed = parsed(run("budget", "thaw", "--all", "--reason", "out", "--json"))
    assert thawed == {"thawed": ["all"], "freezes": [frozen]}
    refused = run("pre-submit", "-", "--project", "trailer", "--json", stdin=CLIP)
    error = json.loads(refused.stdout)["error"]
    assert (error["type"], error["budget"], error["actor"]) == ("BudgetFrozenError", "trailer", "li")


@pytest.mark.parametrize("names", [(), ("trailer", "--all")], ids=["neither", "both"])
def test_names_or_all_spending_must_be_given(run: Run, names: tuple[str, ...]) -> None:
    """Neither names nor --all, or both, is bad usage."""
    for command in ("freeze", "thaw"):
        done = run("budget", command, *names, "--reason", "audit")
        assert (done.returncode, "give the names of budgets, or --all" in done.stderr) == (2, True)


def test_an_allowance_from_the_question_to_its_end(run: Run, tmp_path: Path) -> None:
    """A refusal says how to ask; the answer says how to grant; each step reads well and is in the list."""
    submitted(run)
    refused = submitted(run)
    remedy = re.search(r"`kling-pricing (budget ask FILE --project trailer --reason TEXT)`", refused.stderr)
    assert remedy is not None
    words = remedy[1].replace("FILE", str(tmp_path / "clip.json")).replace("TEXT", "due").split()
    filed, _, grant = lines(run(*words, "--actor", "li"))
    request = re.search(r"Filed as request ([0-9a-f]{12}): 0\.714 USD above budget trailer\.", filed)
    assert request is not None
    waiting = lines(run("budget", "allowances"))
    assert waiting[1:3] == [f"{request[1]}  trailer: 0.714 USD", "  above budget trailer"]
    words = grant.strip().replace("DATE", "2100-01-01").replace("TEXT", "granted").split()[1:]
    allowed = run(*words, "--actor", "wang")
    assert re.fullmatch(
        r"Allowance [0-9a-f]{12}: trailer may spend 0\.714 USD above budget trailer until 2100-01-01 00.*\n",
        allowed.stdout,
    )
    assert submitted(run).returncode == 0
    (allowance,) = parsed(run("budget", "allowances", "--json"))["allowances"]
    assert (allowance["held"], allowance["available"], allowance["state"]) == ("0.428", "0.286", "open")
    listed = lines(run("budget", "allowances"))
    assert listed[0] == f"{allowance['id']}  trailer: 0.286 of 0.714 USD left, open"
    status = [line for line in lines(run("budget", "status"), width=90) if line.startswith("Allowance")]
    assert status == [
        f"Allowance {allowance['id']}: trailer may spend 0.286 USD more until 2100-01-01 00:00 UTC"
    ]
    revoked = lines(run("budget", "revoke", allowance["id"], "--reason", "enough"))
    assert revoked == [f"Allowance {allowance['id']} is revoked; 0.428 USD of it had been used."]
    assert submitted(run).returncode == 1
    kinds = [json.loads(line)["action"] for line in run("budget", "log", "--json").stdout.splitlines()]
    assert kinds == ["apply", "ask", "allow", "revoke"]


def test_allowances_as_programs_read_them(run: Run) -> None:
    """Every command prints its allowance or request as JSON, with amounts as text."""
    submitted(run)
    asked = parsed(
        run("budget", "ask", "-", "--project", "trailer", "--key", "a", "--reason", "x", "--json", stdin=CLIP)
    )
    assert (asked["amount"], asked["budgets"], asked["key"]) == ("0.714", ["trailer"], "a")
    granted = parsed(run("budget", "allow", "--request", asked["id"], *FOR_EVER, "--json"))
    assert (granted["amount"], granted["key"], granted["request_id"]) == ("0.714", "a", asked["id"])
    listed = parsed(run("budget", "allowances", "--json"))
    answered = {**asked, "allowance_id": granted["id"], "state": "granted"}
    assert (asked["state"], listed) == ("open", {"allowances": [granted], "requests": [answered]})
    assert parsed(run("budget", "status", "--json"))["allowances"] == [granted]
    revoked = parsed(run("budget", "revoke", granted["id"], "--reason", "x", "--json"))
    assert (revoked["state"], parsed(run("budget", "status", "--json"))["allowances"]) == ("revoked", [])


def test_a_request_is_declined(run: Run) -> None:
    """`budget decline` answers a request, and `budget allowances` says who declined it, when and why."""
    submitted(run)
    asked = parsed(run("budget", "ask", "-", "--project", "trailer", "--reason", "due", "--json", stdin=CLIP))
    why = ("--actor", "wang", "--reason", "use 720p")
    assert lines(run("budget", "decline", asked["id"], *why)) == [
        f"Request {asked['id']} of trailer is declined."
    ]
    again = parsed(run("budget", "decline", asked["id"], *why, "--json"))
    assert (again["state"], again["declined"]["actor"], again["declined"]["reason"]) == (
        *("declined", "wang", "use 720p"),
    )
    heading, filed, declined = lines(run("budget", "allowances"))
    assert heading == f"{asked['id']}  trailer: 0.714 USD, declined"
    assert filed.endswith(": due")
    assert re.fullmatch(r"  declined by wang, [-0-9]+ [:0-9]+ UTC: use 720p", declined)
    assert run("budget", "allow", "--request", asked["id"], *FOR_EVER).returncode == 1


def test_the_list_reads_the_same_with_and_without_colours(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Colours add nothing but colours."""
    for amount in ("1", "2"):
        more = ("--amount", amount, "--currency", "USD", "--budget", "trailer")
        assert run("budget", "allow", "trailer", *more, *FOR_EVER).returncode == 0
    plain = run("budget", "allowances").stdout
    monkeypatch.setenv("FORCE_COLOR", "1")
    coloured = run("budget", "allowances").stdout
    assert (COLOURS.sub("", coloured), COLOURS.search(coloured) is not None) == (plain, True)


def test_observed_refusals_are_shown(run: Run) -> None:
    """`budget status` and the report show what the observing budget would have refused."""
    submitted(run)
    expected = "Budget everyone would have refused 1 request (0.714 USD), but it is in observe mode"
    assert expected in run("budget", "status").stdout.splitlines()
    (observed,) = parsed(run("budget", "status", "--json"))["observed"]
    assert (observed["budget"], observed["requests"], observed["amount"]) == ("everyone", 1, "0.714")
    report = parsed(run("report", "--json"))
    assert report["tables"]["observed"]["rows"] == [
        {
            "budget": "everyone",
            "labels": None,
            "project": "trailer",
            "currency": "USD",
            "jobs": 1,
            "reserved": "0.714",
        }
    ]
