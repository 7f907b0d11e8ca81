"""The demo: its story is true to the last digit, it can be stopped at any time, and its playground works."""

from __future__ import annotations

import asyncio
import csv
import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple
from urllib.request import Request, urlopen

import pytest

from kling_pricing import BudgetGuard, load_budgets
from kling_pricing.demo import NEEDED_MODULES
from kling_pricing.demo.playground import demo_folder, keep_playground, next_in_playground
from kling_pricing.demo.stories import JobMaker, demo_script
from kling_pricing.demo.telling import DemoFigures, DemoStory
from kling_pricing.money import format_decimal, sum_of
from tests.commands import COMMAND, INTERRUPTIBLE, run
from tests.conftest import bundled

SCRIPT = demo_script()
WORDS_OF_ERRORS = {
    "a task is charged twice": "Billed twice",
    "a failed task is charged": "Explained",
    "a task is missing": "Not billed",
    "a task is charged in another month": "Timing",
    "a charge is refunded two days later": "Explained",
    "a task is charged for a higher resolution": "Explained",
    "a task is charged at another list's price": "Unexplained",
    "a charge is rounded down": "Explained",
    "a spreadsheet has changed a task's id": "Restored",
    "a task that nobody sent is charged": "Not in our ledger",
    "a row cannot be read": "Unreadable row",
    "a total stands among the charges": "Not counted",
}
QUOTA = Decimal("0.000002")
"""The value of the unit in which the statement with errors counts, in USD."""
PATIENCE_S = 60


class Recorded:
    """A teller that keeps the steps and details of a story."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def step(self, text: str) -> None:
        """Keeps a step."""
        self.lines.append(text)

    def detail(self, text: str) -> None:
        """Keeps a detail."""
        self.lines.append(text)

    def progress(self, label: str, done: int, total: int) -> None:
        """Checks that progress is within bounds."""
        assert label
        assert 0 < done <= total

    @property
    def text(self) -> str:
        """All of it, on one line."""
        return " ".join(" ".join(self.lines).split())


class Told(NamedTuple):
    """A story that was told to its end, with its playground."""

    story: str
    figures: DemoFigures
    folder: Path


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> Told:
    """The demo, played once in this process, with a playground."""
    keep, teller = tmp_path_factory.mktemp("demo") / "playground", Recorded()
    with demo_folder(keep) as folder:
        figures = asyncio.run(DemoStory(SCRIPT, folder, teller, SCRIPT.seed).tell())
        keep_playground(SCRIPT, folder, keep)
    return Told(teller.text, figures, keep)


@contextmanager
def ledger_of(told: Told) -> Iterator[BudgetGuard]:
    """The ledger of the playground, opened by a guard with the budgets of the playground."""
    with BudgetGuard(f"sqlite:///{told.folder}/spend.db", load_budgets(told.folder / "budgets.yaml")) as guard:
        yield guard


def money(amount: Decimal) -> str:
    """Returns an amount as the story writes it."""
    return f"{format_decimal(amount)} USD"


def test_the_ledger_the_bill_and_the_story_have_the_same_sums(told: Told) -> None:
    """The settled amounts of each provider are those of the sandbox's bill, and stand in the story."""
    with ledger_of(told) as guard:
        guard.verify()
        history = guard.history()
    for route, amount in told.figures.spent.items():
        provider = SCRIPT.route(route).provider
        settled = [row.billed for row in history if row.provider == provider and row.billed is not None]
        assert (sum_of(settled), amount) == (told.figures.billed[route], told.figures.billed[route])
        assert f"{money(amount)} at {provider}" in told.story
    assert f"After {len(history)} jobs" in told.story
    assert [row for row in history if row.in_doubt or row.state not in {"settled", "released"}] == []


def test_each_incident_has_its_figures_in_the_ledger(told: Told) -> None:
    """Resent jobs became one task each, and no budget is used beyond its cap and its allowance."""
    with ledger_of(told) as guard:
        history, allowances = guard.history(), guard.allowances()
        buckets = guard.status(SCRIPT.end.replace(month=SCRIPT.start.month, day=28))
    tasks = [row.task_id for row in history if row.task_id is not None]
    assert len(tasks) == len({*tasks})
    resent = re.findall(r"job (\S+) gets lost|its job (\S+) is on its way", told.story)
    keys = [key for pair in resent for key in pair if key]
    assert len(keys) == 2
    for key in keys:
        (job,) = [row for row in history if row.key == key]
        assert (job.state, job.attempt) == ("settled", 1)
    assert told.story.count("1 task in all") == 2
    failed = next(row for row in history if f"the task of job {row.key} fails" in told.story)
    assert (failed.state, failed.billed) == ("released", None)
    (allowance,) = allowances
    assert f"allowance of {money(allowance.amount)}" in told.story
    over = {row.budget: row.spent + row.held - row.cap for row in buckets if row.spent + row.held > row.cap}
    assert over == {SCRIPT.allowed.project: allowance.spent}
    capped = [row for row in history if row.changes]
    assert {row.project for row in capped} == {SCRIPT.capped.project}
    assert f"makes {len(capped)} jobs cheaper" in told.story


def test_the_statement_has_twelve_things_wrong_and_each_is_found(told: Told) -> None:
    """Each error has its category, and the sums of the statement are those of the reconciliation."""
    found = {each.error.words: each.verdict for each in told.figures.findings}
    assert found == WORDS_OF_ERRORS
    rows = [*csv.DictReader((told.folder / "statement.csv").read_text(encoding="utf-8").splitlines())]
    late = next(each for each in told.figures.findings if each.verdict == "Timing").error.task_id
    charged = sum(
        int(row["cost"])
        for row in rows
        if row["cost"].lstrip("-").isdecimal() and row["task_id"] not in {late, "total"}
    )
    totals = told.figures.totals
    assert (charged * QUOTA, totals.expected + totals.variance) == (totals.billed, totals.billed)
    with ledger_of(told) as guard:
        expected = [row for row in guard.history() if row.provider == SCRIPT.scripts.provider]
    due = sum_of(row.expected for row in expected if row.state == "settled")
    assert totals.expected == due
    assert f"{money(totals.expected)} was expected" in told.story
    assert f"{money(totals.billed)} is billed" in told.story


def test_the_statement_without_errors_is_the_bill(told: Told) -> None:
    """Its units are worth the amount on the bill."""
    answer = json.loads((told.folder / "statement-of-callers.json").read_text(), parse_float=Decimal)
    units = sum_of(Decimal(row["deduction_amount"]) for row in answer["data"]["result"]["detail"])
    assert units * Decimal("0.14") == told.figures.billed["callers"]


def test_the_report_page_is_the_one_of_this_statement(told: Told) -> None:
    """The page is whole, and names tasks of the statement."""
    page = told.figures.findings[0].error.task_id
    text = (told.folder / "report.html").read_text(encoding="utf-8")
    assert text.rstrip().endswith("</html>")
    assert page is not None
    assert page in text


def test_every_command_to_try_next_works_as_printed(told: Told) -> None:
    """In a shell, each command prints its answer, and none is bad usage."""
    commands = [entry.command for entry in next_in_playground(SCRIPT, told.folder)]
    answering = [
        command for command in commands if command.startswith("kling-pricing") and "serve" not in command
    ]
    lines = [
        f"{command} > /dev/null; echo $?" if command in answering else command
        for command in commands
        if "serve" not in command
    ]
    text = "\n".join(lines).replace("kling-pricing ", f"{shlex.join(COMMAND)} ")
    done = subprocess.run(["bash", "-c", text], capture_output=True, text=True, check=False)
    codes = done.stdout.split()
    assert (len(codes), {*codes} <= {"0", "1"}) == (len(answering), True), done.stderr


def test_another_run_tells_the_same_story(told: Told, tmp_path: Path) -> None:
    """With the same seed, whatever tables the user has, the output is the same; only the report stays.

    A shell that does not find the command is told how.
    """
    provider, own = SCRIPT.scripts.provider, tmp_path / "tables"
    (own / "prices" / provider).mkdir(parents=True)
    for table in bundled("prices", provider).iterdir():
        (own / "prices" / provider / table.name).write_text(table.read_text().replace("0.1071", "0.2071"))
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    program = tmp_path / "my tools" / "kling-pricing"
    program.parent.mkdir()
    program.write_text("from kling_pricing.cli import main; main()")
    done = subprocess.run(
        [sys.executable, program, "demo", "--seed", str(SCRIPT.seed)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "TMPDIR": str(temporary), "KLING_PRICING_TABLES": str(own), "PATH": os.defpath},
    )
    assert done.returncode == 0, done.stderr
    assert max(map(len, (line for line in done.stdout.splitlines() if str(tmp_path) not in line))) <= 80
    story, _, rest = done.stdout.partition("- The report page:\n")
    assert " ".join(story.replace("\n- ", "\n").removeprefix("- ").split()) == told.story
    report = Path(rest.splitlines()[0].strip())
    assert report.read_text(encoding="utf-8").rstrip().endswith("</html>")
    assert [path for path in temporary.iterdir() if path not in report.parents] == []
    assert f"  export PATH='{program.parent}':$PATH\n" in rest
    assert "kling-pricing demo --keep playground" in rest


def test_other_seeds_make_other_jobs() -> None:
    """The same seed makes the same jobs, and another seed makes others."""

    def jobs(seed: int) -> list[Any]:
        return JobMaker(SCRIPT, seed).ordinary_jobs(SCRIPT.start, SCRIPT.end)

    assert jobs(1) == jobs(1)
    assert jobs(1) != jobs(2)


@pytest.mark.skipif(sys.platform == "win32", reason="needs process groups")
@pytest.mark.parametrize(
    ("ending", "status", "said"),
    [(signal.SIGINT, 130, "\ninterrupted\n"), (signal.SIGTERM, -signal.SIGTERM, "\n")],
)
@pytest.mark.parametrize("moment", ["A ledger in", "6 October"])
def test_an_ended_demo_leaves_nothing_behind(
    moment: str, ending: signal.Signals, status: int, said: str, tmp_path: Path
) -> None:
    """Ended at the start or within the month, by Ctrl-C or SIGTERM, the demo leaves no file and no process."""
    keep, temporary = tmp_path / "playground", tmp_path / "temporary"
    temporary.mkdir()
    command = [sys.executable, "-u", "-c", INTERRUPTIBLE, "demo", "--keep", str(keep)]
    with subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "TMPDIR": str(temporary)},
    ) as process:
        assert process.stdout is not None
        while moment not in process.stdout.readline():
            assert process.poll() is None
        process.send_signal(ending)
        _, errors = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, errors) == (status, said)
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)
    assert (keep.exists(), [*temporary.iterdir()]) == (False, [])


def test_a_folder_with_files_is_refused(tmp_path: Path) -> None:
    """Nothing is written beside the files of somebody else."""
    (tmp_path / "notes.txt").write_text("mine")
    done = run("demo", "--keep", tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert "is not empty (notes.txt); give a new folder" in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


@pytest.mark.parametrize("command", [("demo",), ("serve", "--demo")], ids=" ".join)
@pytest.mark.parametrize("module", NEEDED_MODULES)
def test_without_an_extra_the_command_names_it(
    command: tuple[str, ...], module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The message has the command that installs everything that the demo needs."""
    monkeypatch.setitem(sys.modules, module, None)
    done = run(*command)
    assert (done.returncode, done.stdout) == (2, "")
    assert (
        f"the demo needs {module}, which is not installed; run `pip install 'kling-pricing[all]'`"
        in " ".join(done.stderr.split())
    )


@pytest.mark.parametrize("option", [("--config", "server.yaml"), ("--ledger", "sqlite:///spend.db")])
def test_a_served_demo_takes_no_ledger(option: tuple[str, str]) -> None:
    """An option that the demo would ignore is refused."""
    done = run("serve", "--demo", *option)
    assert (done.returncode, done.stdout) == (2, "")
    assert f"omit {option[0]}" in " ".join(done.stderr.split())


class Served(NamedTuple):
    """A served demo.

    Attributes:
        url: the URL of its server.
        ledger: the URL of its ledger.
        keys: role -> its access key.
    """

    url: str
    ledger: str
    keys: dict[str, str]

    def get(self, path: str, role: str = "manage") -> Any:
        """Returns an answer of the API."""
        headers = {"Authorization": f"Bearer {self.keys[role]}"}
        request = Request(f"{self.url}/api/v1/{path}", headers=headers)  # noqa: S310 (http)
        with urlopen(request, timeout=PATIENCE_S) as response:  # noqa: S310 (http)
            return json.load(response, parse_float=Decimal)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    """The command `serve --demo`, which must leave nothing behind at its end."""
    temporary = tmp_path_factory.mktemp("served")
    with subprocess.Popen(
        [sys.executable, "-u", "-c", INTERRUPTIBLE, "serve", "--demo", "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "TMPDIR": str(temporary)},
    ) as process:
        assert process.stdout is not None
        lines: list[str] = []
        while not lines or not lines[-1].startswith("Press Ctrl-C"):
            lines.append(process.stdout.readline())
            assert lines[-1], process.communicate()
        text = "".join(lines)
        assert "This is a demo." in text
        found = re.search(r"(http://127\.0\.0\.1:\d+)/api/v1", text)
        ledger = re.search(r"The ledger is (\S+)\.\n", text)
        assert found is not None
        assert ledger is not None
        yield Served(
            found[1],
            f"sqlite:///{ledger[1]}",
            dict(re.findall(r"^ +(view|submit|manage) .* (kp_\S+)$", text, re.MULTILINE)),
        )
        process.send_signal(signal.SIGINT)
        rest, errors = process.communicate(timeout=PATIENCE_S)
    assert (process.returncode, errors) == (0, "")
    assert rest == "The demo has ended, and its ledger has been removed.\n"
    assert [*temporary.iterdir()] == []


def test_every_page_of_a_served_demo_has_content(served: Served) -> None:
    """There are budgets near and over their caps, alerts, a freeze, allowances and jobs in doubt."""
    budgets = {row["budget"]: row for row in served.get("budgets")["budgets"]}
    near, over = budgets[SCRIPT.capped.project], budgets[SCRIPT.common.project]
    assert 0 <= Decimal(near["available"]) < Decimal(near["cap"]) / 10
    assert Decimal(over["available"]) < 0
    assert [row["budget"] for row in served.get("freezes")["freezes"]] == [SCRIPT.common.project]
    assert {row["kind"] for row in served.get("alerts")["items"]} >= {"threshold", "freeze"}
    assert len(served.get("allowances")["allowances"]) == 1
    assert [row["allowance_id"] is None for row in served.get("allowance-requests")["requests"]] == [
        False,
        True,
    ]
    doubtful = served.get("reservations?in_doubt=true")["items"]
    assert len(doubtful) == 3
    assert {row["provider"] for row in doubtful} == {SCRIPT.scripts.provider, SCRIPT.callers.provider}


def test_the_books_of_a_served_demo_have_a_closed_month_and_disputes(served: Served) -> None:
    """At both providers, the last month is closed and intact; at one of them, charges are in dispute."""
    for route in (SCRIPT.scripts, SCRIPT.callers):
        months = run("month", "list", "--provider", route.provider, ledger=served.ledger)
        assert (months.returncode, months.stdout.count("intact")) == (0, 1)
    disputes = run("dispute", "list", "--provider", SCRIPT.scripts.provider, ledger=served.ledger)
    assert len(re.findall(r"^\d+: ", disputes.stdout, re.MULTILINE)) >= 3


def test_the_keys_of_a_served_demo_have_their_roles(served: Served) -> None:
    """Each role has a key, and a job that is sent with the submitting one is guarded and settled."""
    assert {*served.keys} == {"view", "submit", "manage"}
    shot = SCRIPT.shots[SCRIPT.doubtful.shot] | {"prompt": "a paper boat"}
    url = f"{served.url}/p/{SCRIPT.callers.provider}{SCRIPT.callers.path}"
    headers = {
        "Authorization": f"Bearer {served.keys['submit']}",
        "Content-Type": "application/json",
        "x-kling-pricing-labels": "user=guest",
    }
    request = Request(url, json.dumps(shot).encode(), headers)  # noqa: S310 (http)
    with urlopen(request, timeout=PATIENCE_S) as response:  # noqa: S310 (http)
        assert response.headers["x-kling-pricing-quote"] == "0.84 USD"
        reservation = response.headers["x-kling-pricing-reservation"]
    assert served.get(f"reservations/{reservation}", "view")["state"] in {"bound", "settled"}
