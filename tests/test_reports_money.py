"""Reports of lines whose money is easily counted twice, or missed."""

import csv
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from kling_pricing import PriceBook
from kling_pricing.display import escape_formulas
from kling_pricing.reconcile import reconcile
from kling_pricing.reports import write_reports
from kling_pricing.reports.formatting import safe
from tests.conftest import Clock
from tests.test_reconcile import NOON, SINCE, UNTIL, World

OCTOBER = datetime(2026, 10, 1, tzinfo=UTC)
COST = Decimal("0.714")


@pytest.fixture
def world(tmp_path: Path, book: PriceBook) -> World:
    """A guard and a statement."""
    return World(f"sqlite:///{tmp_path}/spend.db", book, Clock(NOON), tmp_path)


def written(world: World, name: str, since: datetime = SINCE, until: datetime = UNTIL) -> list[dict[str, str]]:
    """Returns the rows of one CSV file of the reports of a period."""
    out = world.folder / f"{since:%m}-{name}"
    with world.reconcile(since=since, until=until) as result:
        write_reports(result, out, formats=["csv", "disputes", "focus"], book=world.book)
    with (out / name).open(encoding="utf-8-sig", newline="") as file:
        return list(csv.DictReader(file))


def owed(journal: list[dict[str, str]]) -> Decimal:
    """Returns the amount that a journal adds to the liability."""
    liability = [row for row in journal if row["account"] == "Accrued liabilities"]

    def total(side: str) -> Decimal:
        return sum((Decimal(row[side]) for row in liability if row[side]), Decimal(0))

    return total("credit") - total("debit")


@pytest.mark.parametrize(("quota", "more"), [(357000, Decimal(0)), (714000, COST), (238000, Decimal(0))])
def test_a_task_across_the_cut_off_is_accrued_once(world: World, quota: int, more: Decimal) -> None:
    """A task of October that November's statement charges is accrued once; what it lacks stays owed."""
    world.clock.now = SINCE - timedelta(minutes=1)
    world.send("t")
    world.bill("t", quota, at=SINCE + timedelta(minutes=5))
    assert owed(written(world, "accruals.csv", OCTOBER, SINCE)) == COST
    november = written(world, "accruals.csv")
    assert owed(november) == more
    assert {row["purpose"] for row in november} == ({"billed differently"} if more else set())


def test_an_unknown_charge_replaces_one_request(world: World) -> None:
    """Of three requests that one unknown charge fits, two are accrued, and the charge."""
    for _ in range(3):
        world.send()
    world.bill("stray", 357000)
    assert owed(written(world, "accruals.csv")) == 3 * COST


def test_charges_do_not_replace_requests_of_another_amount(world: World) -> None:
    """A request of another amount is another job and is accrued, even beside an extra charge."""
    world.send()
    world.send(duration=10)
    world.bill("stray-1", 357000)
    world.bill("stray-2", 357000)
    assert owed(written(world, "accruals.csv")) == 2 * COST + 2 * COST


def test_too_much_for_a_task_of_another_period_is_disputed(world: World) -> None:
    """A task sent in October and charged twice the price in November is disputed."""
    world.clock.now = SINCE - timedelta(minutes=1)
    world.send("t")
    world.bill("t", 714000, at=SINCE + timedelta(minutes=5))
    (dispute,) = written(world, "disputes.csv")
    assert (dispute["task_id"], dispute["billed"], dispute["should_be"], dispute["difference"]) == (
        *("t", "1.428", "0.714", "0.714"),
    )
    assert dispute["reason"] == (
        "The charge differs from the price; this task was submitted in another period."
    )


def test_focus_has_the_price_of_a_task_that_should_cost_nothing(world: World) -> None:
    """A failed task that was charged has its published unit price in FOCUS."""
    world.send("t")
    world.guard.observe({"task_id": "t", "status": "failed", "cost": 0}, provider="qingbo")
    world.bill("t", 357000)
    (charge,) = written(world, "focus.csv")
    assert (charge["ListUnitPrice"], charge["ListCost"], charge["PricingQuantity"]) == (
        *("0.1428", "0.714", "5.0"),
    )


def test_a_task_that_was_reserved_twice_has_one_unit_price(world: World, tmp_path: Path) -> None:
    """A task of two ledgers has the unit price of the table, not twice that price."""
    (tmp_path / "other").mkdir()
    other = World(f"sqlite:///{tmp_path}/other/spend.db", world.book, world.clock, tmp_path / "other")
    for owner in (world, other):
        owner.send("t")
    world.bill("t", 357000)
    ledgers, statement = [world.ledger, other.ledger], world.statement()
    with reconcile(ledgers, statement, provider="qingbo", since=SINCE, until=UNTIL, book=world.book) as result:
        assert {line.category for line in result.lines()} == {"reserved_twice"}
        write_reports(result, tmp_path / "out", formats=["focus"], book=world.book)
    with (tmp_path / "out" / "focus.csv").open(encoding="utf-8", newline="") as file:
        (charge,) = csv.DictReader(file)
    assert (charge["ContractedUnitPrice"], charge["ListUnitPrice"], charge["ListCost"]) == (
        *("0.1428", "0.1428", "0.714"),
    )


TEXTS = [
    *[("a;=1+1", "a;'=1+1"), ("a; -1", "a;' -1"), ("a\n@x", "a\n'@x"), ("a;'=1", "a;''=1")],
    *[("=1;=2", "'=1;'=2"), ("a;b", "a;b"), ("a=b-c", "a=b-c"), ("\tx", "'\tx")],
]


@pytest.mark.parametrize(("text", "cell"), TEXTS)
def test_no_part_of_a_text_is_a_formula(text: str, cell: str) -> None:
    """A cell is escape_formulas even if a spreadsheet splits it at semicolons, tabs or line breaks."""
    assert escape_formulas(text) == cell


@pytest.mark.parametrize("key", ["sk-abcdefghijklmnop1234", "ak_0123456789abcdef", "sk-proj-0123456789abcdef"])
def test_a_name_shows_no_api_key(key: str) -> None:
    """A project, label or task that is named like an API key is hidden; other names stay."""
    assert safe(f"of {key}") == "of [...]"
    assert safe("key-visual-campaign-2026 sk-short") == "key-visual-campaign-2026 sk-short"
