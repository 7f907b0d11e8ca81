"""Categories, exceptions and open lines: one decision, and the same numbers wherever they are read."""

import json
import re
from collections.abc import Callable
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import get_args

import pytest

from kling_pricing import PriceBook
from kling_pricing.reconcile.categories import CATEGORIES, STANDINGS, Category, Standing, exceptions_text
from kling_pricing.reports import reconciliation_document, write_reports
from kling_pricing.reports.charts import ShareChart
from kling_pricing.reports.reconciliation_tables import TONES
from tests.commands import run
from tests.conftest import Clock
from tests.test_reconcile import NOON, SINCE, World

NOVEMBER = ("--provider", "qingbo", "--from", "2026-11-01", "--until", "2026-12-01")

Plant = Callable[[World, str], None]


@pytest.fixture
def world(tmp_path: Path, book: PriceBook) -> World:
    """A world with a ledger in SQLite."""
    return World(f"sqlite:///{tmp_path}/spend.db", book, Clock(NOON), tmp_path)


def _charged(cost: int, *, sent_at: datetime = NOON, **fields: object) -> Plant:
    def plant(world: World, task_id: str) -> None:
        world.clock.now = sent_at
        world.send(task_id, **fields)
        world.clock.now = NOON
        world.bill(task_id, cost)

    return plant


def _unknown(cost: int) -> Plant:
    return lambda world, task_id: world.bill(task_id, cost)


def _unbilled(world: World, task_id: str) -> None:
    world.send(task_id)


def _twice(world: World, task_id: str) -> None:
    _charged(357000)(world, task_id)
    world.bill(task_id, 357000)


def _settled_at_zero(world: World, task_id: str) -> None:
    reservation = world.send(task_id)
    world.guard.settle(reservation, Decimal(0), basis="response")
    world.bill(task_id, 0)


def _unreadable(world: World, task_id: str) -> None:
    world.bill(task_id, "12.5")


OCTOBER = SINCE - timedelta(minutes=10)
LINES: dict[str, tuple[Plant, Category, Standing, bool]] = {
    "matched": (_charged(357000), "matched", "matched", False),
    "longer": (_charged(714000), "explained", "explained", True),
    "rounded": (_charged(1138363, resolution="4k"), "explained", "explained", False),
    "free": (_charged(0), "explained", "explained", True),
    "free and settled so": (_settled_at_zero, "explained", "explained", False),
    "odd": (_charged(357001), "unexplained", "open", True),
    "late": (_charged(357000, sent_at=OCTOBER), "timing", "timing", False),
    "late and longer": (_charged(714000, sent_at=OCTOBER), "timing", "timing", True),
    "late and odd": (_charged(1, sent_at=OCTOBER), "timing", "open", True),
    "unbilled": (_unbilled, "not_billed", "open", True),
    "twice": (_twice, "billed_twice", "open", True),
    "unknown": (_unknown(77777), "not_in_ledger", "open", True),
    "unknown and free": (_unknown(0), "not_in_ledger", "matched", False),
    "unreadable": (_unreadable, "invalid_row", "open", True),
}
"""Name of a task -> how it is planted, its category and standing, and whether its line is an exception."""


@pytest.mark.parametrize("name", LINES)
def test_a_line_has_one_category_and_one_standing(world: World, name: str) -> None:
    """Category, standing, exception and open agree for each kind of line."""
    plant, category, standing, is_exception = LINES[name]
    plant(world, name.replace(" ", "-"))
    with world.reconcile() as result:
        (line,) = result.lines()
        (total,) = result.totals("standing")
        assert (line.category, total.name, bool(line.remedy)) == (category, standing, is_exception)
        assert (result.exceptions, result.open) == (is_exception, standing == "open")


def test_page_json_terminal_and_attributes_have_the_same_numbers(world: World, tmp_path: Path) -> None:
    """The page, the tables, `--json`, the terminal and the attributes count exceptions and open lines alike."""
    for name, (plant, *_) in LINES.items():
        plant(world, name.replace(" ", "-"))
    statement = world.statement()
    exceptions = sum(is_exception for *_, is_exception in LINES.values())
    still_open = sum(standing == "open" for _, _, standing, _ in LINES.values())
    words = f"{exceptions} exceptions, {still_open} of them still open"
    with world.reconcile(max_unreadable_percent=50) as result:
        assert (result.exceptions, result.open) == (exceptions, still_open)
        assert sum(bool(line.remedy) for line in result.lines()) == exceptions
        document = reconciliation_document.document(result)
        (section,) = [section for section in document.sections if section.name == "exceptions"]
        assert (section.length, len(list(section.rows()))) == (exceptions, exceptions)
        write_reports(result, tmp_path / "out", formats=["html", "json"], book=world.book)
    assert document.verdict.headline == f"Ties out with {words}"
    (coverage,) = [chart for chart in document.charts if isinstance(chart, ShareChart)]
    places = [series.name for series in coverage.series]
    assert places == list(STANDINGS.values())
    assert coverage.shares[0].parts == tuple(
        sum(standing == name for _, _, standing, _ in LINES.values()) for name in STANDINGS
    )
    due, equation = document.equations
    assert [figure.title for figure in due.figures] == ["Pay", "In dispute", "Accrue"]
    assert equation.figures[1].about.endswith(f" on {still_open} lines")
    page = (tmp_path / "out" / "report.html").read_text(encoding="utf-8")
    assert set(re.findall(r"[0-9]+ exceptions[^.<]*", page)) == {words}
    report = json.loads((tmp_path / "out" / "report.json").read_text(encoding="utf-8"))
    assert report["verdict"]["headline"] == document.verdict.headline
    paths = ("--ledger", world.ledger, "--statement", str(statement), "--max-unreadable", "50")
    shown = run("reconcile", *NOVEMBER, *paths)
    assert (shown.returncode, shown.stdout.splitlines()[-1]) == (1, f"the totals tie out; {words}")
    answer = json.loads(run("reconcile", *NOVEMBER, *paths, "--json").stdout)
    assert (answer["exceptions"], answer["open"]) == (exceptions, still_open)


def test_every_category_and_standing_is_described() -> None:
    """Each category has a rule, and each standing a title and a tone."""
    assert set(CATEGORIES) == set(get_args(Category))
    assert set(STANDINGS) == set(TONES) == set(get_args(Standing))


@pytest.mark.parametrize(
    ("exceptions", "still_open", "disputed", "words"),
    [
        (1, 1, 0, "1 exception, still open"),
        (1, 0, 0, "1 exception, explained"),
        (1, 0, 1, "1 exception, in dispute"),
        (2, 2, 0, "2 exceptions, all of them still open"),
        (2, 0, 0, "2 exceptions, all of them explained"),
        (2, 0, 2, "2 exceptions, all of them in dispute"),
        (3, 0, 2, "3 exceptions, 2 of them in dispute"),
        (3, 1, 2, "3 exceptions, 2 of them in dispute, and 1 still open"),
        (1040, 1025, 0, "1,040 exceptions, 1,025 of them still open"),
    ],
)
def test_exceptions_in_words(exceptions: int, still_open: int, disputed: int, words: str) -> None:
    """The words fit the numbers."""
    assert exceptions_text(exceptions, still_open, disputed) == words
