"""The command line prints names as they are: they are no markup, and contain nothing that a terminal obeys."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.progress import Progress
from rich.table import Column, Table

from kling_pricing import Budget, BudgetGuard, load_price_book
from kling_pricing.cli.terminal import bar_columns, print_table
from kling_pricing.display import printable
from tests import commands
from tests.conftest import Clock, examples, video

BOOK = load_price_book()
NOON = datetime(2026, 11, 5, 12, tzinfo=UTC)
NOVEMBER = ("--from", "2026-11-01", "--until", "2026-12-01")
MARKUP = ["[/x]", "[bold]", "[link=x]y[/link]", ":smile:", "[red", "a\\", "\\[b]", "[@click=x]", "[[]]", "[/]"]
ESCAPES = ["\x1b[2J", "\x9b31m", "\x1b]0;x\x07", "\x7f", "\u202eabc", "\x08\x08", "\r", "\u2028", "\x00"]
OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2028\u2029\u2066-\u2069]")

names = st.one_of(
    st.sampled_from(MARKUP),
    st.text("[]/\\:=@#abdlor ", min_size=1, max_size=12).filter(lambda name: name.strip() == name != ""),
    st.tuples(st.sampled_from(MARKUP), st.sampled_from(MARKUP)).map("".join),
)


def squeezed(text: str) -> str:
    """Returns a text without white space and the lines of tables, which folded cells have in them."""
    return re.sub(r"[\s│┃]", "", text)


def spend(url: str, name: str) -> None:
    """Fills a ledger whose project, key, label, task and budget have this name."""
    budgets = [
        Budget(name="all", cap=100, currency="USD"),
        Budget(name="own", match={"user": "*"}, cap=9, currency="USD"),
    ]
    with BudgetGuard(url, budgets, book=BOOK, clock=Clock(NOON)) as guard:
        for task in (name, None):
            admission = guard.admit(
                video(duration=5), project=name, key=f"{name}{task is None}", labels={"user": name}
            )
            guard.dispatch(admission)
            if task is None:
                guard.mark_in_doubt(admission, name)
            else:
                guard.bind(admission, task)


@settings(max_examples=examples(6))
@given(name=names)
def test_names_are_printed_as_they_are(name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Text in square brackets is no markup, and text between colons is no picture."""
    folder = tmp_path_factory.mktemp("terminal")
    url = f"sqlite:///{folder}/spend.db"
    spend(url, name)
    statement = folder / "november.csv"
    rows = "task_id,model,status,created_at,cost\n"
    statement.write_text(f'{rows}"{name}x",kling-v3,completed,{int(NOON.timestamp() * 1000)},357000\n')
    reconcile = ("reconcile", "--statement", statement, "--provider", "qingbo", *NOVEMBER)
    for arguments in (
        ("history",),
        ("in-doubt",),
        ("budget", "status", "--at", "2026-11-05T12:00:00Z"),
        ("report", *NOVEMBER),
        reconcile,
    ):
        done = commands.run(*arguments, ledger=url)
        assert done.returncode in {0, 1, 2}, done.stderr
        assert squeezed(name) in squeezed(done.stdout), arguments


@pytest.mark.parametrize("name", ["[/x]" * 50, "[bold]" + "x" * 190])
def test_long_names_are_printed_as_they_are(name: str, tmp_path: Path) -> None:
    """A table that does not fit is printed one cell per line."""
    url = f"sqlite:///{tmp_path}/spend.db"
    spend(url, name[:-5])
    for arguments in (("history",), ("in-doubt",), ("budget", "status", "--at", "2026-11-05T12:00:00Z")):
        assert name[:-5] in commands.run(*arguments, ledger=url).stdout


@pytest.fixture
def odd_files(tmp_path: Path) -> list[Path]:
    """Files whose names a terminal would obey."""
    files = [tmp_path / f"{name.replace(chr(0), '')}.csv" for name in ESCAPES]
    for file in files:
        file.write_text("{not JSON,\x1b[31m\n")
    return files


def test_names_of_files_are_shown_and_not_sent(odd_files: list[Path], tmp_path: Path) -> None:
    """Every command that reads a file escapes its name and its content in errors."""
    url = f"sqlite:///{tmp_path}/spend.db"
    spend(url, "x")
    commands_with_files: list[tuple[str, ...]] = [
        ("quote",),
        ("quote", "--json"),
        ("check",),
        ("compare",),
        ("budget", "check"),
        ("budget", "apply"),
        ("observe", "--provider", "qingbo"),
        ("tables", "show", "--tables"),
        ("in-doubt", "--header"),
        ("reconcile", "--provider", "qingbo", *NOVEMBER, "--statement"),
        ("reconcile", "--provider", "qingbo", *NOVEMBER, "--statement", "x.csv", "--mapping"),
        ("no-such-command",),
        ("history", "--since"),
        ("quote", "x", "--provider"),
    ]
    for arguments in commands_with_files:
        for file in odd_files[:: 1 if arguments == ("quote",) else 4]:
            value = f"@{file}" if "--header" in arguments else str(file)
            done = commands.run(*arguments, value, ledger=url)
            assert done.returncode, arguments
            assert not OBEYED.search(done.stdout + done.stderr.replace("\r\n", "\n")), arguments


def test_a_process_shows_its_arguments_and_does_not_send_them(tmp_path: Path) -> None:
    """A real process prints the errors of the parser too."""
    for arguments in (("x\x1b[2J",), ("quote", "--\x9bm"), ("quote", "\u202e")):
        done = commands.run_process(*arguments, ledger=f"sqlite:///{tmp_path}/spend.db")
        assert done.returncode
        assert not OBEYED.search(done.stdout + done.stderr), arguments


def test_columns_and_rows_of_a_statement_are_shown_and_not_sent(tmp_path: Path) -> None:
    """A statement comes from somebody else."""
    url = f"sqlite:///{tmp_path}/spend.db"
    spend(url, "x")
    statement = tmp_path / "november.csv"
    reconcile = partial(
        commands.run, "reconcile", "--statement", statement, "--provider", "qingbo", *NOVEMBER, ledger=url
    )
    statement.write_text("task\x1b[2J,co\x9bst\n1,2\n")
    done = reconcile()
    assert done.returncode == 2
    assert not OBEYED.search(done.stdout + done.stderr)
    instant = int(NOON.timestamp() * 1000)
    statement.write_text(
        f"task_id,model,status,created_at,cost\na\x9b2J[/b],kling-v3,completed,{instant},357000\n"
    )
    done = reconcile()
    assert done.returncode == 2
    assert not OBEYED.search(done.stdout + done.stderr)


@given(st.dictionaries(st.text(), st.one_of(st.text(), st.integers(), st.none()), max_size=4))
def test_json_with_shown_characters_means_the_same(value: dict[str, str]) -> None:
    """Programs read what the command printed."""
    text = printable(json.dumps(value, ensure_ascii=False))
    assert json.loads(text) == value
    assert not OBEYED.search(text)


def test_ids_in_a_wide_table_are_not_cut_off(capsys: pytest.CaptureFixture[str]) -> None:
    """Columns that do not wrap are printed one below the other if they do not fit side by side."""
    cells = [f"{number}-" + "x" * 60 + "-end" for number in range(4)]
    grid = Table(*(Column(f"c{number}", no_wrap=True, overflow="fold") for number in range(4)))
    grid.add_row(*cells)
    print_table(grid)
    shown = capsys.readouterr().out
    assert [cell for cell in cells if cell not in shown] == []


@given(st.one_of(names, st.text()))
def test_a_progress_bar_shows_the_name_of_a_file(name: str) -> None:
    """Whatever the name, it is no markup."""
    label, *_ = bar_columns()
    progress = Progress(label)
    progress.add_task(printable(name))
    assert str(label.render(progress.tasks[0])) == printable(name)
