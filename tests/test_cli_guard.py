"""The guard on the command line, as a shell script uses it."""

import fcntl
import json
import os
import re
import struct
import subprocess
import termios
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests import commands
from tests.commands import Done
from tests.conftest import video

BUDGETS = """\
budgets:
  - {name: trailer, match: {project: trailer}, cap: 1, currency: USD, on_exceed: cap, alerts: [0.7]}
"""
CLIP = json.dumps(video(duration=5, resolution="1080p", audio=True))

Run = Callable[..., Done]


@pytest.fixture
def budgets(ledger: str, tmp_path: Path) -> str:
    """A ledger with one budget."""
    path = tmp_path / "budgets.yaml"
    path.write_text(BUDGETS)
    assert commands.run("budget", "apply", path, ledger=ledger).returncode == 0
    return ledger


@pytest.fixture
def run(budgets: str) -> Run:
    """Runs `kling-pricing` on a ledger with one budget."""
    return partial(commands.run, ledger=budgets)


@pytest.fixture
def run_process(budgets: str) -> Run:
    """Runs it as a process, so that only the ledger connects two runs."""
    return partial(commands.run_process, ledger=budgets)


def admitted(run: Run, key: str) -> dict[str, Any]:
    """Returns the answer of `pre-submit --json` for a clip."""
    result = run("pre-submit", "-", "--project", "trailer", "--key", key, "--json", stdin=CLIP)
    assert result.returncode == 0, result.stderr
    answer: dict[str, Any] = json.loads(result.stdout)
    return answer


def test_a_charge_without_a_value_is_shown_with_its_reason(run: Run) -> None:
    """`observe` raises an alert once, and `in-doubt` lists the job until `resolve` settles it."""
    reservation = admitted(run, "shot-1")["reservation_id"]
    assert run("bind", reservation, "t-1").returncode == 0
    body = '{"task_id": "t-1", "status": "completed", "cost": "0.357"}'
    reason = "cost is 0.357, which is not a whole number of units and may be an amount of money"
    for repeated in (False, True):
        observed = run("observe", "--provider", "qingbo", "-", stdin=body)
        assert observed.returncode == 0, observed.stderr
        assert observed.stdout == f"{reservation}: bound, in doubt, 0.714 USD, task t-1; {reason}\n"
        alert = f"alert: reservation {reservation} (budget trailer): {reason}\n"
        assert observed.stderr == ("" if repeated else alert)
    listed = run("in-doubt").stdout
    assert f"{reservation}: {reason}\n" in listed
    assert run("resolve", reservation, "--charged", "--amount", "0.7").returncode == 0
    assert run("in-doubt").stdout == "no reservations\n"


def test_a_shell_script_can_spend_from_admission_to_settlement(run_process: Run, run: Run) -> None:
    """It submits a job, observes the submit response and the status, and sees the rest of the budget."""
    job = admitted(run_process, "shot-1")
    assert (job["reserved"], job["capped"], job["payload"]) == ("0.714", False, json.loads(CLIP))
    reservation = job["reservation_id"]
    queued = run_process(
        "observe",
        "-",
        "--provider",
        "qingbo",
        "--reservation",
        reservation,
        stdin='{"task_id": "t-1", "status": "queued"}',
    )
    assert queued.stdout == f"{reservation}: bound, 0.714 USD, task t-1\n"
    done = run_process(
        "observe",
        "-",
        "--provider",
        "qingbo",
        "--json",
        stdin='{"task_id": "t-1", "status": "completed", "cost": 350000}',
    )
    assert (json.loads(done.stdout)["state"], json.loads(done.stdout)["billed"]) == ("settled", "0.7")
    (bucket,) = json.loads(run("budget", "status", "--json").stdout)["budgets"]
    assert (bucket["spent"], bucket["held"], bucket["available"]) == ("0.7", "0", "0.3")
    assert run("verify").stdout == "OK: the balances match the journal\n"


def test_pre_submit_prints_only_the_payload_on_standard_output(run: Run) -> None:
    """The reservation and the alerts go to standard error."""
    result = run("pre-submit", "-", "--project", "trailer", stdin=CLIP)
    assert json.loads(result.stdout) == json.loads(CLIP)
    alert, reserved = result.stderr.splitlines()
    (reservation,) = map(json.loads, run("history", "--json").stdout.splitlines())
    assert alert == f"alert: budget trailer has used 0.714 of 1 USD (reservation {reservation['id']})"
    assert reserved == f"reserved 0.714 USD as {reservation['id']}"


def test_pre_submit_names_the_settings_that_it_changed(run: Run) -> None:
    """A payload that was made cheaper to fit the budget is announced on standard error."""
    admitted(run, "shot-1")
    result = run("pre-submit", "-", "--project", "trailer", "--key", "shot-2", stdin=CLIP)
    (reservation,) = map(json.loads, run("history", "--key", "shot-2", "--json").stdout.splitlines())
    assert result.stderr == (
        f"reserved 0.2856 USD as {reservation['id']}; changed to fit: duration_s = 3, audio = false\n"
    )


def test_a_refused_request_exits_1_and_prints_nothing_to_send(run: Run) -> None:
    """The reason goes to standard error, or with --json to standard output as one object."""
    admitted(run, "shot-1")
    capped = admitted(run, "shot-2")
    assert (capped["capped"], capped["changes"], capped["reserved"]) == (
        True,
        {"duration_s": 3, "audio": False},
        "0.2856",
    )
    plain = run("pre-submit", "-", "--project", "trailer", stdin=CLIP)
    assert (plain.stdout, plain.returncode) == ("", 1)
    assert "has 0.0004 USD left; the cheapest valid variant costs 0.2142 USD" in plain.stderr
    error = json.loads(run("pre-submit", "-", "--project", "trailer", "--json", stdin=CLIP).stdout)["error"]
    assert {name: error[name] for name in ("type", "budget", "requested", "available", "cheapest")} == {
        "type": "BudgetExceededError",
        "budget": "trailer",
        "requested": "0.714",
        "available": "0.0004",
        "cheapest": "0.2142",
    }


def test_a_key_is_sent_once(run: Run) -> None:
    """A script that runs twice submits its job once."""
    first = admitted(run, "shot-1")
    repeated = run("pre-submit", "-", "--project", "trailer", "--key", "shot-1", "--json", stdin=CLIP)
    assert repeated.returncode == 1
    error = json.loads(repeated.stdout)["error"]
    assert (error["type"], error["reservation_id"]) == ("ReservationStateError", first["reservation_id"])


def test_references_are_ids_or_tasks(run: Run) -> None:
    """A reservation is bound by its id, and settled and corrected by its provider and task."""
    reservation = admitted(run, "shot-1")["reservation_id"]
    assert run("bind", reservation, "t-1").stdout == f"{reservation}: bound, 0.714 USD, task t-1\n"
    assert run("settle", "qingbo:t-1").stdout == f"{reservation}: settled, 0.714 USD, task t-1\n"
    corrected = run("settle", "qingbo:t-1", "--amount", "0.5", "--basis", "operator")
    assert corrected.stdout == f"{reservation}: settled, 0.5 USD, task t-1\n"
    weaker = run("settle", "qingbo:t-1", "--amount", "0.9")
    assert weaker.stdout == f"{reservation}: settled, 0.5 USD, task t-1\n"
    assert weaker.stderr == (
        "the amount was not changed to 0.9, because the recorded amount has a stronger basis (operator)\n"
    )
    for arguments in (("settle", "nothing"), ("release", reservation), ("bind", reservation, "t-2")):
        result = run(*arguments)
        assert (result.returncode, result.stdout) == (1, "")
        assert re.match(r"Refused: \S", result.stderr)


def test_doubt_is_listed_and_resolved(run: Run) -> None:
    """A person decides the outcome of a job that was sent and never answered."""
    one, two = (admitted(run, key)["reservation_id"] for key in ("shot-1", "shot-2"))
    assert run("resolve", one, "--charged", "--amount", "0.7").stdout == f"{one}: settled, 0.7 USD\n"
    assert run("resolve", two, "--not-charged").stdout == f"{two}: released, nothing to pay\n"
    assert run("in-doubt", "--json").stdout == ""
    assert run("resolve", two, "--not-charged", "--amount", "1").returncode == 2
    refused = run("release", admitted(run, "shot-3")["reservation_id"], "--refused", "--reason", "402")
    assert refused.returncode == 0


def test_history_lists_reservations_with_their_reasons(run: Run) -> None:
    """--json prints one object per line, the oldest first."""
    reservation = admitted(run, "shot-1")["reservation_id"]
    run("release", reservation, "--refused", "--reason", "402")
    admitted(run, "shot-1")
    attempts = [json.loads(line) for line in run("history", "--key", "shot-1", "--json").stdout.splitlines()]
    assert [(attempt["attempt"], attempt["state"], attempt["reason"]) for attempt in attempts] == [
        (1, "released", "402"),
        (2, "dispatching", None),
    ]
    assert run("history", "--project", "other", "--json").stdout == ""
    assert reservation in run("history").stdout


def test_a_narrow_terminal_cuts_nothing_off(run: Run, ledger: str) -> None:
    """A table that does not fit is printed with one cell per line, so that ids can be copied."""
    reservation = admitted(run, "a-job-with-quite-a-long-name")["reservation_id"]
    shown = on_a_terminal(["history"], columns=60, ledger=ledger)
    assert f"Reservation    {reservation}\n" in shown
    assert "Project        trailer\n" in shown
    assert "Left            0.286\n" in on_a_terminal(["budget", "status"], columns=40, ledger=ledger)
    assert "│ trailer │" in on_a_terminal(["budget", "status"], columns=120, ledger=ledger)


def on_a_terminal(arguments: list[str], *, columns: int, ledger: str) -> str:
    """Returns the output of a command on a terminal of this width."""
    ours, its = os.openpty()
    environment = {name: value for name, value in os.environ.items() if name != "COLUMNS"}  # it would win
    fcntl.ioctl(its, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    done = subprocess.run(
        [*commands.COMMAND, *arguments, "--ledger", ledger],
        stdout=its,
        stdin=subprocess.DEVNULL,
        check=True,
        env={**environment, "TERM": "xterm", "NO_COLOR": "1"},
    )
    os.close(its)
    assert done.returncode == 0
    shown = b""
    with suppress(OSError):  # the error at the end of a terminal's output
        while part := os.read(ours, 65536):
            shown += part
    os.close(ours)
    return shown.decode().replace("\r\n", "\n")


def test_spend_from_elsewhere_is_recorded_and_opened(run: Run) -> None:
    """Both count in the budget at once."""
    assert run("record", "qingbo", "t-9", "0.25", "--project", "trailer").returncode == 0
    assert run("budget", "open", "trailer", "--spent", "0.5").stdout == "trailer: 0.5 counted as spent\n"
    assert json.loads(run("budget", "status", "--json").stdout)["budgets"][0]["available"] == "0.25"
    assert run("budget", "open", "trailer", "--spent", "0.5").returncode == 1


def test_the_status_draws_what_is_spent_held_and_left(run: Run) -> None:
    """Each bucket has a bar, which is full when nothing is left."""
    admitted(run, "shot-1")
    shown = run("budget", "status").stdout
    assert "│ trailer │     0 │ 0.714 │ 0.286 │ 1 USD │ ▒▒▒▒▒▒▒▒▒▒▒▒▒▒······ │ never       │" in shown
    run("record", "--project", "trailer", "--currency", "USD", "qingbo", "t-9", "0.9")
    shown = run("budget", "status").stdout
    assert "│ -0.614 │ 1 USD │ ████████████▒▒▒▒▒▒▒▒ │" in shown


@pytest.mark.parametrize(
    ("arguments", "problem", "code"),
    [
        (("budget", "check", "BAD"), "BAD:1: budgets[0].cop: unknown key; did you mean 'cap'?", 1),
        (("budget", "apply", "BAD"), "BAD:1: budgets[0].cop: unknown key; did you mean 'cap'?", 2),
        (("budget", "check", "NONE"), "File 'NONE' does not exist.", 2),
        (("budget", "status", "--ledger", "sqlite:///"), "is not the URL of a ledger", 2),
        (
            ("budget", "status", "--ledger", "sqlite:////no/such/folder/spend.db"),
            "create its folder, and let this user write to the folder",
            2,
        ),
        (("pre-submit", "-", "--project", "trailer"), "standard input: not JSON", 2),
        (("observe", "-", "--provider", "qingbo"), "standard input: not JSON", 2),
        (
            ("pre-submit", "-", "--project", "trailer", "--label", "user"),
            "'user' is not a label with a value; write LABEL=VALUE, such as user=li",
            2,
        ),
    ],
)
def test_input_that_cannot_be_used_is_refused_in_its_place(
    run: Run, tmp_path: Path, arguments: tuple[str, ...], problem: str, code: int
) -> None:
    """The message names the file, the option or the line; a checked file that is invalid exits 1."""
    bad = tmp_path / "bad.yaml"
    bad.write_text("budgets: [{name: a, cop: 1, currency: USD}]\n")
    names = {"BAD": str(bad), "NONE": str(tmp_path / "none.yaml")}
    result = run(*(names.get(argument, argument) for argument in arguments), stdin="not JSON")
    for name, path in names.items():
        problem = problem.replace(name, path)
    assert problem in " ".join(result.stderr.split())
    assert (result.returncode, result.stdout) == (code, "")


def test_the_schema_of_budgets_is_printed() -> None:
    """It is JSON, and lists the keys of a budgets file."""
    assert "accounting_rates" in json.loads(commands.run("budget", "schema").stdout)["properties"]
