"""`kling-pricing statement`: shows how a statement is read, and writes the mapping of one that nobody knows."""

import json
import os
import pty
import subprocess
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from kling_pricing import KlingPricingError, PriceBook, StatementError
from kling_pricing.reconcile import MappingAnswers, draft_mapping, sample_statement
from tests.commands import COMMAND, run
from tests.conftest import Clock
from tests.test_reconcile import NOON, World
from tests.test_reconcile_as_exported import sheets
from tests.test_reconcile_unreadable import FILES

D = Decimal
MOMENT = int(NOON.timestamp())
GERMAN = (
    "Bericht;;;\nJob;Betrag;Datum;Modell\nk-1;1.251,50;05.11.2026 12:00;kling-v3\nk-2;2,40;21.11.2026 12:00;\n"
)
SHOWN = """\
november.csv: mapping qingbo-tasks (tasks with their final cost in quota, one charge per row)
┏━━━━━┳━━━━━━━━━━━━━━━━┳━━━━━━━━┳━━━━━━━┳━━━━━━━━━━━━━━━━━━━━━┳━━━━━━━━━━┓
┃ row ┃ task           ┃ amount ┃ unit  ┃ time (UTC)          ┃ model    ┃
┡━━━━━╇━━━━━━━━━━━━━━━━╇━━━━━━━━╇━━━━━━━╇━━━━━━━━━━━━━━━━━━━━━╇━━━━━━━━━━┩
│   2 │ t-1            │ 357000 │ quota │ 2026-11-05 12:00:00 │ kling-v3 │
│   3 │ cannot be read │        │       │ 2026-11-05 12:00:00 │          │
└─────┴────────────────┴────────┴───────┴─────────────────────┴──────────┘
rows: 2 read, 1 unreadable
sum of the readable charges: 357000 quota
charged from 2026-11-05 12:00:00 to 2026-11-05 12:00:00 UTC
  row 3: the value in column cost has more digits than its unit allows: '12.5'. Correct the row or ask the \
provider for another statement; the row's charge is not counted anywhere.
"""


def november(folder: Path, *costs: str) -> Path:
    """Writes a table of tasks."""
    rows = [f"t-{place},kling-v3,completed,{MOMENT},{cost}" for place, cost in enumerate(costs, start=1)]
    path = folder / "november.csv"
    path.write_text("\n".join(["task_id,model,status,created_at,cost", *rows, ""]))
    return path


@pytest.fixture
def in_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which the command runs."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_check_shows_the_rows_and_the_problems(tmp_path: Path) -> None:
    """The table has the first rows as they are read; unreadable rows make the exit code 1."""
    path = november(tmp_path, "357000", "12.5")
    assert run("statement", "check", path, "--provider", "qingbo") == (SHOWN, "", 1)
    assert run("statement", "check", november(tmp_path, "5"), "--provider", "qingbo").returncode == 0


def test_check_prints_json(tmp_path: Path) -> None:
    """JSON has the sums of all rows, the rows that were asked for, and the unreadable ones."""
    path = november(tmp_path, "357000", "1", "12.5", *["2"] * 20)
    done = run("statement", "check", path, "--provider", "qingbo", "--rows", "2", "--json")
    answer = json.loads(done.stdout)
    assert (answer["read"], answer["unreadable"], answer["sums"]) == (23, 1, {"quota": "357041"})
    assert [row["amount"] for row in answer["rows"]] == ["357000", "1"]
    assert [row["row"] for row in answer["problems"]] == [4]
    assert answer["problems"][0]["task_id"] is None


@pytest.mark.parametrize("kind", FILES)
def test_every_format_is_sampled(tmp_path: Path, kind: str, book: PriceBook) -> None:
    """A sample of any format has the same rows."""
    row = {"task_id": "t-1", "model": "kling-v3", "status": "completed", "created_at": MOMENT, "cost": 357000}
    path = FILES[kind](tmp_path / f"a.{kind}", [row])
    sample = sample_statement(path, provider="qingbo", mapping="qingbo-tasks", book=book)
    ((_, task_id, amount, unit, at, model, _, state, problem, *_),) = sample.rows
    assert (task_id, amount, unit, at, model, state, problem) == (
        *("t-1", D(357000), "quota", NOON, "kling-v3", "succeeded"),
        None,
    )
    assert (sample.first, sample.last, sample.sums) == (NOON, NOON, {"quota": D(357000)})


def test_a_file_that_cannot_be_used_exits_2(tmp_path: Path, book: PriceBook) -> None:
    """A file without a known mapping, one with rounded ids, and a wrong argument are errors."""
    path = tmp_path / "a.csv"
    path.write_text("a,b\n1,2\n")
    done = run("statement", "check", path, "--provider", "qingbo")
    assert done.returncode == 2
    assert done.stderr.startswith(
        "Error: a.csv: no mapping for qingbo matches the columns of the file (a, b); write a mapping with "
        "`kling-pricing statement map FILE --provider qingbo`, or choose one with --mapping ("
    )
    path.write_text("November of the studio,,\ntask,cost,date of the charge\nt,5,2026-11-05\n")
    done = run("statement", "check", path, "--provider", "qingbo")
    assert "matches the columns of the file (task, cost, date of the charge)" in done.stderr
    path.write_text(f"task_id,model,created_at,cost\n8.67E+17,kling-v3,{MOMENT},5\n")
    done = run("statement", "check", path, "--provider", "qingbo")
    assert (done.returncode, "a spreadsheet has rounded the ids" in done.stderr) == (2, True)
    with pytest.raises(KlingPricingError, match="rows must be 1 or more, got 0"):
        sample_statement(path, provider="qingbo", rows=0, book=book)


def test_map_writes_a_mapping_from_options(in_folder: Path, book: PriceBook) -> None:
    """The mapping is written, printed and tried; `reconcile` reads the statement with it."""
    (in_folder / "m.csv").write_text(GERMAN)
    done = run("statement", "map", "m.csv", "--provider", "qingbo", "--unit", "USD", "--offset", "+01:00")
    assert done.returncode == 0
    text = Path("qingbo-statement.yaml").read_text()
    assert text in done.stdout
    assert text.partition("columns:\n")[2] == (
        '  task_id: {column: "Job"}\n'
        '  amount: {column: "Betrag", unit: USD, decimals: 2}\n'
        '  billed_at: {column: "Datum", format: "%d.%m.%Y %H:%M", offset: "+01:00"}\n'
        '  model: {column: "Modell", optional: true, names_of: [tasks, tasks_extra]}\n'
    )
    assert "sum of the readable charges: 1253.9 USD" in done.stdout
    world = World(f"sqlite:///{in_folder}/spend.db", book, Clock(NOON), in_folder)
    with world.reconcile(in_folder / "m.csv", mapping="qingbo-statement.yaml") as result:
        assert {line.task_id: line.billed for line in result.lines()} == {"k-1": D("1251.5"), "k-2": D("2.4")}


@pytest.mark.parametrize(
    ("header", "cell", "options", "problem"),
    [
        (
            "task,cost,time",
            "t,5,2026-11-05 12:00:00",
            (),
            "m.csv does not show everything that a mapping needs; give --unit or --unit-column",
        ),
        (
            "task,cost,time",
            "t,5,2026-11-05 12:00:00",
            ("--unit", "USD"),
            "give --offset, such as +00:00 or +08:00",
        ),
        (
            "task,cost (USD),time",
            "t,5,05/11/2026",
            ("--unit", "USD"),
            "give --time-format (several formats fit the times in time",
        ),
        (
            "thing,cost,time",
            "t,5,2026-11-05T12:00:00Z",
            ("--unit", "USD"),
            "m.csv does not show everything that a mapping needs; give --task",
        ),
        (
            "task,cost",
            "t,5",
            ("--unit", "USD", "--amount", "x"),
            "does not have this column; it has task, cost",
        ),
        ("task,cost", "t,5", ("--unit", "Dollars"), "must be a currency code of three capital letters"),
        ("task,cost", "8.67E+17,5", ("--unit", "USD"), "a spreadsheet has rounded the ids"),
    ],
)
def test_map_guesses_nothing_that_the_file_does_not_show(
    in_folder: Path, header: str, cell: str, options: tuple[str, ...], problem: str
) -> None:
    """Without a terminal, a missing answer is an error that names it, and no file is written."""
    (in_folder / "m.csv").write_text(f"{header}\n{cell}\n")
    done = run("statement", "map", "m.csv", "--provider", "qingbo", *options)
    assert (done.returncode, problem in done.stderr) == (2, True), done.stderr
    assert not list(in_folder.glob("*.yaml"))


def test_map_lists_everything_that_is_missing_at_once(in_folder: Path) -> None:
    """Without a terminal, one message names every option, and what a currency sign can mean."""
    (in_folder / "m.csv").write_text("task,cost,time\nt,$5,05/11/2026\n")
    done = run("statement", "map", "m.csv", "--provider", "qingbo")
    assert (done.returncode, done.stderr) == (
        2,
        (
            "Error: m.csv does not show everything that a mapping needs; give --unit or --unit-column (the "
            "amounts have the sign $, which can mean USD); --time-format (several formats fit the times in "
            "time); --offset, such as +00:00 or +08:00 (the times in time do not state their offset from UTC)\n"
        ),
    )
    (in_folder / "m.csv").write_text("day,model,cost\n2026-11-05,kling-v3,5\n")
    done = run("statement", "map", "m.csv", "--provider", "qingbo", "--sums")
    assert (
        "give --unit or --unit-column; --timezone, such as UTC or Asia/Shanghai (the days in day" in done.stderr
    )


def test_map_keeps_files_that_exist(in_folder: Path) -> None:
    """A mapping that exists is not overwritten."""
    (in_folder / "ours.yaml").write_text("mine")
    (in_folder / "m.csv").write_text("task,cost\nt,5\n")
    done = run("statement", "map", "m.csv", "--provider", "qingbo", "--unit", "USD", "--out", "ours.yaml")
    assert (done.returncode, "ours.yaml exists already" in done.stderr) == (2, True)
    assert (in_folder / "ours.yaml").read_text() == "mine"


Make = Callable[[Path], Path]


def text_file(name: str, text: str, encoding: str = "utf-8") -> Make:
    """Returns a function that writes a text file."""

    def make(folder: Path) -> Path:
        path = folder / name
        path.write_bytes(text.encode(encoding))
        return path

    return make


CHINESE = (
    "\u4efb\u52a1ID,\u91d1\u989d,\u5e01\u79cd,\u65f6\u95f4\n"
    "t-1,\uffe51.5,\u5143,2026\u5e7411\u670805\u65e5 20:00\n"
)


@pytest.mark.parametrize(
    ("make", "options", "amount", "more"),
    [
        (text_file("a.csv", CHINESE, "gb18030"), {"encoding": "gb18030"}, "1.5", {"offset": "+08:00"}),
        (text_file("a.tsv", CHINESE.replace(",", "\t"), "utf-16"), {}, "1.5", {"offset": "+08:00"}),
        (
            text_file(
                "a.json", json.dumps({"d": {"bills": [{"taskId": "t-1", "fee": "1.5", "currency": "RMB"}]}})
            ),
            *({}, "1.5", {}),
        ),
        (
            lambda folder: sheets(
                folder / "a.xlsx", Sum=[{"x": 1}], Data=[{"Task ID": "t-1", "Cost": 1.5, "Currency": "CNY"}]
            ),
            *({}, "1.5", {}),
        ),
        (
            lambda folder: FILES["parquet"](
                folder / "a.parquet", [{"job": "t-1", "amount": "1.5", "unit": "CNY"}]
            ),
            *({}, "1.5", {}),
        ),
    ],
    ids=["gb18030", "utf-16", "json", "xlsx", "parquet"],
)
def test_a_draft_reads_its_own_file(
    tmp_path: Path, make: Make, options: dict[str, Any], amount: str, more: dict[str, Any], book: PriceBook
) -> None:
    """The suggested answers, and an offset, make a mapping with which the file is read."""
    path = make(tmp_path)
    draft = draft_mapping(path, **options)
    (tmp_path / "ours.yaml").write_text(
        draft.yaml("ours", draft.suggested._replace(**more), checked=NOON.date()), encoding="utf-8"
    )
    sample = sample_statement(path, provider="qingbo", mapping=tmp_path / "ours.yaml", book=book, **options)
    assert [(row.task_id, row.amount, row.unit) for row in sample.rows] == [("t-1", D(amount), "CNY")]
    if more:
        assert sample.first == NOON


def test_a_draft_refuses_unknown_columns_and_encodings(tmp_path: Path) -> None:
    """An answer that names no column, a file that is missing and an unknown encoding are errors."""
    path = text_file("a.csv", "task,cost\nt,5\n")(tmp_path)
    draft = draft_mapping(path)
    assert draft.suggested == MappingAnswers(task_id="task", amount="cost", decimals=0)
    with pytest.raises(StatementError, match=r"a\.csv: column model: does not have this column"):
        draft.yaml("ours", draft.suggested._replace(unit="USD", model="model"), checked=NOON.date())
    with pytest.raises(StatementError, match="unknown encoding 'klingon'"):
        draft_mapping(path, encoding="klingon")
    with pytest.raises(StatementError, match="cannot be read: No such file"):
        draft_mapping(tmp_path / "b.csv")


def on_terminal(words: list[str], typed: str) -> tuple[str, int]:
    """Runs a command on a terminal, and returns its output and its exit code."""
    terminal, other = pty.openpty()
    process = subprocess.Popen(words, stdin=other, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    os.close(other)
    os.write(terminal, typed.encode())
    output, _ = process.communicate(timeout=60)
    os.close(terminal)
    return output, process.returncode


def test_map_asks_on_a_terminal(in_folder: Path) -> None:
    """On a terminal, each answer is asked for; Enter takes the suggestion, a wrong column is asked again."""
    (in_folder / "m.csv").write_text(GERMAN)
    words = [*COMMAND, "statement", "map", "m.csv", "--provider", "qingbo", "--out", "ours.yaml"]
    answers = ["Jobs", "Job", "", "", "", "-", "", "", "USD", "3", "", "+01:00"]
    output, code = on_terminal(words, "".join(f"{answer}\n" for answer in answers))
    assert code == 0, output
    assert "the file has no column 'Jobs'; it has Job, Betrag, Datum, Modell" in output
    assert (in_folder / "ours.yaml").read_text().partition("columns:\n")[2] == (
        '  task_id: {column: "Job"}\n'
        '  amount: {column: "Betrag", unit: USD, decimals: 3}\n'
        '  billed_at: {column: "Datum", format: "%d.%m.%Y %H:%M", offset: "+01:00"}\n'
    )


@pytest.mark.parametrize(
    ("amount", "typed", "words", "unit"),
    [
        ("$5.00", "\n", "Unit of all amounts (the amounts have the sign $, which can mean USD) [USD]: ", "USD"),
        ("\uff045.00", "\n", "[USD]: ", "USD"),
        (
            "\xa55.00",
            "\nCNY\n",
            "the sign \xa5, which can mean CNY or JPY): an answer is required: write",
            "CNY",
        ),
        ("5.00", "\nquota\n", "an answer is required: write a currency such as USD, or a unit of", "quota"),
    ],
)
def test_map_offers_the_sign_and_says_that_an_answer_is_required(
    in_folder: Path, amount: str, typed: str, words: str, unit: str
) -> None:
    """Enter takes the only currency of a sign; without one, the command says what to write."""
    (in_folder / "m.csv").write_text(f"job,thing,when\nt-1,{amount},2026-11-05T12:00:00Z\n", encoding="utf-8")
    command = [*COMMAND, "statement", "map", "m.csv", "--provider", "qingbo", "--out", "ours.yaml"]
    enters = "\n" * 9
    output, code = on_terminal(command, f"\n\nthing\n-\n-\n-\n-\n-\n{typed}{enters}")
    assert code in {0, 1}, output
    assert "an answer is required: write one of the columns job, thing, when\n" in output
    assert words in output
    assert f"unit: {unit}," in (in_folder / "ours.yaml").read_text()


def test_the_end_of_the_input_ends_map(in_folder: Path) -> None:
    """Ctrl-D at a question ends the command, and no file is written."""
    (in_folder / "m.csv").write_text("thing,other\nt-1,5\n")
    command = [*COMMAND, "statement", "map", "m.csv", "--provider", "qingbo"]
    output, code = on_terminal(command, "\n-\n\n\x04")
    assert (code != 0, output.count("an answer is required")) == (True, 1), output
    assert not list(in_folder.glob("*.yaml"))
