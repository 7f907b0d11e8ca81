"""Changes of the budgets of a ledger in use, on both kinds of store."""

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import pytest

from kling_pricing import Budget, BudgetError, BudgetGuard, Budgets, PriceBook
from tests.conftest import Clock, video

CLIP = video(duration=5, resolution="1080p", audio=True)
COST = Decimal("0.714")
ZERO = Decimal(0)

OpenGuard = Callable[[], BudgetGuard]


def trailer(**changed: Any) -> Budget:
    """Returns the ledger's first budget, with changes."""
    return Budget(
        **{"name": "trailer", "match": {"project": "trailer"}, "cap": Decimal(10), "currency": "USD"} | changed
    )


@pytest.fixture
def guard(ledger: str, book: PriceBook, clock: Clock) -> BudgetGuard:
    """Returns a guard with one budget, one unfinished job and one paid job."""
    guard = BudgetGuard(ledger, [trailer()], book=book, clock=clock)
    for key in ("paid", "running"):
        admission = guard.admit(CLIP, project="trailer", key=key, labels={"user": "li"})
        guard.dispatch(admission)
        guard.bind(admission, key)
    guard.settle(("qingbo", "paid"), "0.7")
    guard.release(guard.admit(CLIP, project="trailer"))
    return guard


def balances(guard: BudgetGuard) -> dict[str, tuple[Decimal, Decimal]]:
    """Returns the held and spent amounts of each budget."""
    return {bucket.budget: (bucket.held, bucket.spent) for bucket in guard.status()}


def test_a_new_budget_can_count_what_was_spent_before(guard: BudgetGuard) -> None:
    """A new budget with carry_over counts existing reservations; one without starts at zero."""
    guard.apply(
        [
            trailer(),
            Budget(name="all", cap=Decimal(5), currency="USD", carry_over=True),
            Budget(
                name="li", match={"user": "li"}, cap=Decimal(5), currency="USD", window="month", carry_over=True
            ),
            Budget(name="fresh", cap=Decimal(5), currency="USD"),
        ]
    )
    assert balances(guard) == {
        "trailer": (COST, Decimal("0.7")),
        "all": (COST, Decimal("0.7")),
        "li": (COST, Decimal("0.7")),
        "fresh": (ZERO, ZERO),
    }
    guard.settle(("qingbo", "running"), "0.714")
    guard.settle(("qingbo", "paid"), "0.6", basis="statement")
    assert balances(guard)["all"] == (ZERO, Decimal("1.314"))
    assert [entry.kind for entry in guard.journal()].count("carry_over") == 5
    guard.verify()


def test_a_budget_with_another_definition_carries_over_or_has_another_name(guard: BudgetGuard) -> None:
    """A new window under the same name needs carry_over, because it would otherwise forget earlier spend."""
    daily = {"window": "day", "timezone": "Asia/Shanghai"}
    with pytest.raises(BudgetError, match="give the budget another name, or set carry_over: true"):
        guard.apply([trailer(**daily)])
    assert balances(guard) == {"trailer": (COST, Decimal("0.7"))}
    guard.apply([trailer(**daily, carry_over=True)], allow_weaker=True)
    assert balances(guard) == {"trailer": (COST, Decimal("0.7"))}
    guard.verify()


def test_a_removed_budget_comes_back_and_counts(guard: BudgetGuard) -> None:
    """A budget that comes back counts all spend in its window, unless it says `carry_over: false`."""
    other = Budget(name="other", cap=Decimal(5), currency="USD")
    guard.apply([other], remove=["trailer"])
    with pytest.raises(BudgetError, match="give the budget another name"):
        guard.apply([other, trailer(window="day", carry_over=False)])
    guard.admit(CLIP, project="trailer")
    guard.apply([other, trailer(cap=Decimal(20), carry_over=False)])
    assert guard.status()[1].available == Decimal("18.586")
    guard.apply([other], remove=["trailer"])
    guard.apply([other, trailer(cap=Decimal(20))])
    assert guard.status()[1].available == Decimal("17.872")
    guard.apply([other], remove=["trailer"])
    guard.apply([other, trailer(window="month")])
    assert guard.status()[1].available == Decimal("7.872")
    guard.verify()


def test_an_opening_balance_cannot_be_carried_over(guard: BudgetGuard) -> None:
    """A carry-over of an opening balance is refused and changes nothing, because its requests are unknown."""
    guard.open_budget("trailer", "3")
    entries = len(guard.journal())
    with pytest.raises(BudgetError, match="began its window with an opening balance"):
        guard.apply([trailer(window="month", carry_over=True)], allow_weaker=True)
    assert (len(guard.journal()), guard.status()[0].window_end.year) == (entries, 9999)
    guard.verify()


def test_carried_over_amounts_count_at_the_accounting_rate(guard: BudgetGuard) -> None:
    """Carried-over amounts are converted at the accounting rate and rounded up, like reserved amounts."""
    yuan = Budget(name="yuan", cap=Decimal(100), currency="CNY", carry_over=True)
    rates = [{"quote": "USD", "budget": "CNY", "rate": Decimal("7.123456789")}]
    guard.apply(Budgets([trailer(), yuan], accounting_rates=rates))
    assert balances(guard)["yuan"] == (Decimal("5.086148148"), Decimal("4.986419753"))
    guard.verify()


def test_applying_the_same_budgets_changes_nothing(guard: BudgetGuard) -> None:
    """Applying the same budgets in another order writes no journal entry."""
    other = Budget(name="other", cap=Decimal(5), currency="USD")
    guard.apply([trailer(), other])
    entries = len(guard.journal())
    guard.apply([other, trailer()])
    assert len(guard.journal()) == entries
