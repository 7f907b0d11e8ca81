"""What the charts of a report show: negative amounts, the report's zone, every budget, and forecasts."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from xml.etree.ElementTree import Element, fromstring
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kling_pricing import Budget, BudgetGuard, PriceBook
from kling_pricing.ledger.journal import Bucket, BucketHistory, Entry
from kling_pricing.reports import Spend, read_spend, spend_document, svg
from kling_pricing.reports.charts import Bar, BarChart, Series, Step, StepChart
from kling_pricing.reports.run_rate import RunRate, forecast_line, run_rate
from kling_pricing.reports.text_width import axis_days, lines_of, width_of
from tests.conftest import Clock, video

SINCE, UNTIL = datetime(2026, 11, 1, tzinfo=UTC), datetime(2026, 12, 1, tzinfo=UTC)
SHANGHAI = ZoneInfo("Asia/Shanghai")
D = Decimal


def bars(*amounts: str, upright: bool) -> BarChart:
    """Returns a chart with a bar for each amount."""
    each = tuple(Bar(f"bar {place}", (D(amount),)) for place, amount in enumerate(amounts))
    series = (Series("Billed", "main"),)
    return BarChart("c", "C", "About.", "USD", upright=upright, wide=False, series=series, mark=None, bars=each)


def drawings(chart: Any) -> list[Element]:
    """Returns both drawings of a chart."""
    (panel,) = svg.panels(chart)
    return [fromstring(panel.svg), fromstring(panel.small)]  # noqa: S314 (our own markup)


def boxes(drawing: Element) -> list[tuple[int, int, int, int]]:
    """Returns the place and the size of each bar."""
    rects = [rect for rect in drawing.iter("rect") if rect.get("class") == "main"]
    return [tuple(int(rect.get(name, "")) for name in ("x", "y", "width", "height")) for rect in rects]  # type: ignore[misc]


@pytest.mark.parametrize("upright", [True, False])
def test_negative_amounts_are_drawn_on_the_other_side_of_zero(*, upright: bool) -> None:
    """A day of refunds has a bar below zero, and a project one to the left, as long as its amount."""
    for drawing in drawings(bars("10", "-5", upright=upright)):
        above, below = boxes(drawing)
        if upright:
            assert above[1] + above[3] == below[1]
            assert abs(above[3] - 2 * below[3]) <= 2
        else:
            assert below[0] + below[2] == above[0]
            assert abs(above[2] - 2 * below[2]) <= 2


@given(st.lists(st.decimals(D(-999), D(999), places=3), min_size=1, max_size=9), st.booleans())
def test_every_bar_is_inside_its_drawing(amounts: list[Decimal], upright: bool) -> None:  # noqa: FBT001
    """Whatever the amounts, no bar leaves the drawing."""
    for drawing in drawings(bars(*map(str, amounts), upright=upright)):
        width, height = map(int, drawing.get("viewBox", "").split()[2:])
        for x, y, across, down in boxes(drawing):
            assert (x >= 0, y >= 0, x + across <= width, y + down <= height) == (True,) * 4


@given(st.text(alphabet="ab 童话-_", max_size=60), st.integers(3, 30))
def test_a_long_name_is_divided_and_loses_nothing(text: str, width: int) -> None:
    """Lines are at most as wide as asked, and together they have every character but spaces."""
    lines = lines_of(text, width)
    assert max(map(width_of, lines)) <= width
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")


def test_the_days_of_an_axis_are_those_of_the_report_s_zone() -> None:
    """In Shanghai, November begins at 16:00 UTC of October, and the axis begins with its first day."""
    start, end = (at - timedelta(hours=8) for at in (SINCE, UNTIL))
    days = list(axis_days(start, end, SHANGHAI, 5))
    assert days[0] == (start, "11-01")
    assert [label for _, label in days] == ["11-01", "11-07", "11-13", "11-19", "11-25"]
    runs = ((Step(start, D(9)), Step(end - timedelta(hours=1), D(4))),)
    chart = StepChart("s", "S", "About.", "USD", start, end, (), runs, zone=SHANGHAI)
    large, _ = drawings(chart)
    assert "11-01" in [text.text for text in large.iter("text")]
    assert "remaining on 2026-11-30" in str([title.text for title in large.iter("title")])


def history(spent: str, cap: str = "100", *, opening: str = "0") -> BucketHistory:
    """Returns a month's budget with an amount spent, and one with which the ledger began."""
    amount = D(spent) + D(opening)
    bucket = Bucket("all", {}, D(cap), D(0), amount, D(cap) - amount, "USD", SINCE, UNTIL)
    entries = (Entry(1, SINCE, "opening", None, "all", {}, D(0), D(opening), "USD", None),)
    return BucketHistory(bucket, "d", entries)


def test_the_run_rate_is_that_of_the_window_so_far() -> None:
    """After ten of thirty days, three times as much is used at the end, or the budget is exhausted before."""
    now = SINCE + timedelta(days=10)
    rate = RunRate(D(2), D(60), None)
    assert run_rate(history("20"), SINCE, now) == rate
    line = forecast_line(history("20"), rate, now)
    assert line == (Step(now, D(80)), Step(UNTIL, D(40)))
    exhausted = RunRate(D(5), D(150), SINCE + timedelta(days=20))
    assert run_rate(history("50"), SINCE, now) == exhausted
    line = forecast_line(history("50"), exhausted, now)
    assert line == (Step(now, D(50)), Step(SINCE + timedelta(days=20), D(0)))
    begun = SINCE + timedelta(days=5)
    assert run_rate(history("10", opening="30"), begun, now) == (D(2), D(80), None)


@pytest.mark.parametrize("after", [timedelta(0), timedelta(hours=23), timedelta(days=30), timedelta(days=-1)])
def test_there_is_no_run_rate_too_early_or_outside_of_the_window(after: timedelta) -> None:
    """Less than a day says too little, and a window that is over, or has not begun, needs no forecast."""
    assert run_rate(history("20"), SINCE, SINCE + after) is None


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory, book: PriceBook) -> Spend:
    """Returns the spend of a ledger with fifteen budgets, one of them for each of twenty users."""
    ledger = f"sqlite:///{tmp_path_factory.mktemp('many')}/spend.db"
    clock = Clock(SINCE + timedelta(days=2))
    trailer = {"project": "trailer"}
    budgets = [
        *(
            Budget(name=f"b{place:02}", match=trailer, cap=D(500), currency="USD", window="month")
            for place in range(14)
        ),
        Budget(name="each-user", match=trailer | {"user": "*"}, cap=D(60), currency="USD", window="month"),
        Budget(name="yuan", match={"project": "a"}, cap=D(9000), currency="CNY", window="month"),
    ]
    with BudgetGuard(ledger, budgets, book=book, clock=clock) as guard:
        for user in range(20):
            labels = {"user": f"u{user:02}", "team": "vfx" if user % 2 else "edit"}
            guard.dispatch(guard.admit(video(), project="trailer", labels=labels))
            clock.pass_by(hours=7)
        guard.record("qingbo", "big", "900", labels={"project": "a"}, currency="CNY")
    return read_spend(ledger, SINCE, UNTIL)


def test_every_budget_has_a_chart_and_the_rest_are_counted(many: Spend) -> None:
    """Each budget has a chart, however many there are, and a sentence counts the users without one."""
    document = spend_document.document(many)
    charts = [chart for chart in document.charts if isinstance(chart, StepChart)]
    budgets = {chart.title.split()[1] for chart in charts}
    assert budgets == {*(f"b{place:02}" for place in range(14)), "each-user", "yuan"}
    assert document.remarks == (
        "Budget each-user: 1 chart for the most used labels. 19 other sets of labels are in the table Budgets.",
    )
    paced = [chart for chart in charts if chart.forecast is not None]
    assert len(paced) == len(charts)
    assert "At the current pace, " in charts[0].about
    balances = next(section for section in document.sections if section.name == "budgets")
    names = [column.name for column in balances.columns]
    row = dict(zip(names, next(iter(balances.rows())), strict=True))
    amounts = {name: row[name] for name in ("forecast", "spent", "held")}
    assert all(isinstance(amount, Decimal) for amount in amounts.values())
    forecast, spent, held = (D(str(amount)) for amount in amounts.values())
    assert forecast > spent + held


def test_the_currency_with_the_most_jobs_comes_first(many: Spend) -> None:
    """Twenty small jobs in USD come before one job of 900 CNY: amounts of two currencies do not compare."""
    document = spend_document.document(many)
    assert [equation.figures[0].unit for equation in document.equations] == ["USD", "CNY"]
    summary = document.sections[0]
    assert [row[2] for row in summary.totals] == ["USD", "CNY"]
