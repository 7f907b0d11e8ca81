"""Rows with totals: a mapping says how they are recognised, and they are never charges."""

from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from kling_pricing import PriceBook, TableError
from kling_pricing.reconcile import Reconciliation, draft_mapping
from tests.commands import run
from tests.conftest import Clock
from tests.test_reconcile import NOON, World
from tests.test_reconcile_as_exported import sheets

D = Decimal
NAMES = ("task", "note", "amount", "day", "kind")


@pytest.fixture
def world(tmp_path: Path, book: PriceBook) -> World:
    """A world with a ledger in SQLite, which has the tasks t-1 and t-2."""
    world = World(f"sqlite:///{tmp_path}/spend.db", book, Clock(NOON), tmp_path)
    world.send("t-1")
    world.send("t-2")
    return world


def mapping(folder: Path, totals: str, top: str = "") -> Path:
    """Writes a mapping with totals."""
    path = folder / "ours.yaml"
    path.write_text(
        "statement: ours\nabout: ours\nsources:\n"
        f"  - {{ref: our own, checked: 2026-11-01, authority: official}}\n{totals}{top}columns:\n"
        "  task_id: {column: task}\n  amount: {column: amount, unit: USD, decimals: 9}\n"
        "  billed_at: {column: day}\n"
    )
    return path


def reconciled(world: World, rows: list[str], totals: str, top: str = "", **more: Any) -> Reconciliation:
    """Reconciles the two tasks and more rows."""
    charges = ["t-1,,0.714,2026-11-05,charge", "t-2,,0.714,2026-11-05,charge"]
    text = "\n".join([",".join(NAMES), *charges, *rows, ""])
    return world.reconcile(world.statement(text), mapping=mapping(world.folder, totals, top), **more)


MARKS = {
    "a text of another column": ("- {column: note, texts: [Month total]}", ",month TOTAL:,1.428,,"),
    "a pattern": ("- {column: note, pattern: 'sum of [0-9]+ rows'}", ",Sum of 2 rows,1.428,,"),
    "an empty id": ("- {column: task, empty: true}", ",,1.428,,"),
    "a text in place of an id": ("- {column: task, texts: [Gesamtbetrag]}", "Gesamtbetrag,,1.428,,"),
    "one of several columns": (
        "- {column: task, texts: [Nothing]}\n  - {column: nope, also: [note], texts: [Saldo]}",
        ",Saldo,1.428,,",
    ),
    "a built-in word": ("- {column: note, texts: [x]}", "合计,,1.428,,"),
}


@pytest.mark.parametrize("mark", MARKS)
def test_a_mapping_says_which_rows_are_totals(world: World, mark: str) -> None:
    """A total that agrees is confirmed; one that does not is a gap; it is a charge in no case."""
    entry, row = MARKS[mark]
    totals = f"totals:\n  {entry}\n"
    with reconciled(world, [row], totals) as result:
        assert [line.category for line in result.lines()] == ["matched", "matched"]
        assert (result.gaps, result.rows.ignored) == ((), 1)
        assert result.confirmed == ("november.csv:4 gives a total of 1.428 USD, which is the sum of the rows",)
    with reconciled(world, [row.replace("1.428", "9")], totals) as result:
        assert sum(line.billed or 0 for line in result.lines()) == D("1.428")
        assert "gives a total of 9 USD" in " ".join(result.gaps)
        assert (result.exceptions, result.rows.invalid, result.rows.ignored) == (0, 0, 1)


def test_without_the_entry_only_ids_are_looked_at(world: World) -> None:
    """A word in another column is not a total by default, so its row has no id and cannot be read."""
    with reconciled(world, [",Total,1.428,2026-11-05,"], "") as result:
        (invalid,) = result.lines("invalid_row")
        assert invalid.cause == "the value in column task is empty"


def test_a_total_is_found_although_where_leaves_other_rows_out(world: World) -> None:
    """A total has no kind, and is still compared."""
    totals = "totals:\n  - {column: note, texts: [Total]}\n"
    top = "where: {kind: [charge]}\n"
    with reconciled(world, ["t-9,,5,2026-11-05,topup", ",Total,1.428,,"], totals, top) as result:
        assert (len(result.confirmed), result.rows.ignored, result.exceptions) == (1, 2, 0)


def test_a_charge_without_an_id_is_not_taken_for_a_total_in_silence(world: World) -> None:
    """With `empty: true`, a charge that lost its id is compared as a total, so the month is not reconciled."""
    with reconciled(world, [",,0.714,2026-11-05,"], "totals:\n  - {column: task, empty: true}\n") as result:
        assert "gives a total of 0.714 USD, but the sum of the readable rows is 1.428" in result.gaps[-1]


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ("- {column: note}", "give `texts`, `pattern` or `empty: true`"),
        ("- {column: note, pattern: '('}", "is not a regular expression"),
        ("- {column: note, pattern: '(?=Total).*'}", "must not contain"),
        ("- {column: note, pattern: '(a)\\1'}", "must not contain"),
        ("- {texts: [Total]}", "column"),
    ],
)
def test_totals_are_read_strictly(world: World, entry: str, words: str) -> None:
    """Each mistake in the entry is an error that names its place."""
    with pytest.raises(TableError, match=words):
        reconciled(world, [], f"totals:\n  {entry}\n")


@pytest.mark.parametrize(
    ("rows", "mark"),
    [
        (["a,,1", "b,,2", ",Total,3"], (("note", "Total"),)),
        (["a,,1", "b,,2", ",小计,3", "c,,1", ",合计,4"], (("note", "合计"), ("note", "小计"))),
        (["a,,1", "b,,2", "c,,1", ",,4"], (("task", ""),)),
        (["a,,1", "b,,2", "Total,,3"], ()),
        (["a,,1", ",,2"], ()),
        ([",,1", "b,,2", ",,3"], ()),
        (["a,,1", "b,,2", "c,,1"], ()),
    ],
)
def test_a_draft_finds_the_marks_of_totals(
    tmp_path: Path, rows: list[str], mark: tuple[tuple[str, str], ...]
) -> None:
    """A word in another column than the id, or a last row without an id, is suggested as a mark."""
    path = tmp_path / "a.csv"
    path.write_text("\n".join(["task,note,amount", *rows, ""]), encoding="utf-8")
    assert draft_mapping(path).suggested.totals == mark


def test_a_draft_looks_at_all_rows_of_a_workbook(tmp_path: Path) -> None:
    """The total stands below a thousand rows of a sheet."""
    rows = [{"Task": f"t-{n}", "Note": "x", "Cost": 1} for n in range(1000)]
    path = sheets(tmp_path / "a.xlsx", Data=[*rows, {"Task": "", "Note": "Grand total:", "Cost": 1000}])
    assert draft_mapping(path).suggested.totals == (("Note", "Grand total:"),)


def test_map_writes_the_totals_and_check_compares_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`statement map` writes the suggested or the given marks; `statement check` says what the total says."""
    monkeypatch.chdir(tmp_path)
    Path("m.csv").write_text("task,note,amount\na,,1\nb,,2\n,Total,3\n")
    written = ("statement", "map", "m.csv", "--provider", "qingbo", "--unit", "USD")
    done = run(*written)
    assert done.returncode == 0, done.stderr
    assert 'totals:\n  - {column: "note", texts: ["Total"]}\n' in Path("qingbo-statement.yaml").read_text()
    assert "m.csv:4 gives a total of 3 USD, which is the sum of the rows" in done.stdout
    Path("m.csv").write_text("task,note,amount\na,,1\nb,,2\n,,3\n")
    done = run(*written, "--totals", "task=", "--totals", "note=y", "--out", "b.yaml")
    assert done.returncode == 0, done.stderr
    marks = 'totals:\n  - {column: "task", empty: true}\n  - {column: "note", texts: ["y"]}\n'
    assert marks in Path("b.yaml").read_text()
    done = run("statement", "check", "m.csv", "--provider", "qingbo", "--mapping", "b.yaml")
    assert "rows: 3 read, 0 unreadable, 1 ignored" in done.stdout
    done = run(*written, "--totals", "Total", "--out", "c.yaml")
    assert (done.returncode, "write COLUMN=TEXT" in done.stderr) == (2, True)


def test_map_writes_a_mapping_of_sums(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With `--sums`, the mapping has the days with their zone, the models, and the number of tasks."""
    monkeypatch.chdir(tmp_path)
    Path("m.csv").write_text("Day,Model,Tasks,Cost\n2026-11-05,kling-v3,3,2.142\nTotal,,3,2.142\n")
    words = ("statement", "map", "m.csv", "--provider", "qingbo", "--sums", "--unit", "USD")
    done = run(*words)
    assert (done.returncode, "give --timezone, such as UTC or Asia/Shanghai" in done.stderr) == (2, True)
    done = run(*words, "--timezone", "Asia/Shanghai")
    assert done.returncode == 0, done.stderr
    text = Path("qingbo-statement.yaml").read_text()
    assert text.partition("aggregates:\n")[2] == (
        '  amount: {column: "Cost", unit: USD, decimals: 3}\n'
        '  tasks: {column: "Tasks"}\n'
        '  day: {column: "Day", format: "iso", timezone: "Asia/Shanghai"}\n'
        '  model: {column: "Model", names_of: [tasks, tasks_extra]}\n'
    )
    assert "2026-11-05, kling-v3" in done.stdout
    done = run(*words[:5], "--unit", "USD", "--tasks", "Tasks", "--out", "x.yaml")
    assert (done.returncode, "--tasks concerns sums; add --sums" in done.stderr) == (2, True)
    done = run(*words[:5], "--unit", "USD", "--out", "x.yaml")
    assert (done.returncode, "--task (or --sums)" in done.stderr) == (2, True)
    Path("n.csv").write_text("What,Cost\nx,5\n")
    done = run(
        "statement", "map", "n.csv", "--provider", "qingbo", "--sums", "--unit", "USD", "--out", "x.yaml"
    )
    assert (done.returncode, "sums need a column that says which tasks" in done.stderr) == (2, True)
