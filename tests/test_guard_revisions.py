"""Budgets that change under a ledger in use, the same on every kind of store."""

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
    """The budget that the ledger begins with, or a change of it."""
    return Budget(
        **{"name": "trailer", "match": {"project": "trailer"}, "cap": Decimal(10), "currency": "USD"} | changed
    )


@pytest.fixture
def guard(ledger: str, book: PriceBook, clock: Clock) -> BudgetGuard:
    """A guard with one budget, one job under way and one that is paid."""
    guard = BudgetGuard(ledger, [trailer()], book=book, clock=clock)
    for key in ("paid", "running"):
        admission = guard.admit(CLIP, project="trailer", key=key, labels={"user": "li"})
        guard.dispatch(admission)
        guard.bind(admission, key)
    guard.settle(("qingbo", "paid"), "0.7")
    guard.release(guard.admit(CLIP, project="trailer"))
    return guard


def balances(guard: BudgetGuard) -> dict[str, tuple[Decimal, Decimal]]:
    """Held and spent of each budget."""
    return {bucket.budget: (bucket.held, bucket.spent) for bucket in guard.status()}


def test_a_new_budget_can_count_what_was_spent_before(guard: BudgetGuard) -> None:
    """With carry_over it holds and has spent what its requests do; without, it begins at nothing."""
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


def test_a_budget_that_counts_otherwise_carries_over_or_has_another_name(guard: BudgetGuard) -> None:
    """Another window under the same name would lose what was spent; carry_over takes it along."""
    daily = {"window": "day", "timezone": "Asia/Shanghai"}
    with pytest.raises(BudgetError, match="give it another name, or say carry_over: true"):
        guard.apply([trailer(**daily)])
    assert balances(guard) == {"trailer": (COST, Decimal("0.7"))}
    guard.apply([trailer(**daily, carry_over=True)])
    assert balances(guard) == {"trailer": (COST, Decimal("0.7"))}
    guard.verify()


def test_a_name_means_the_same_also_after_it_was_taken_away(guard: BudgetGuard) -> None:
    """What it counted is still in the ledger."""
    other = Budget(name="other", cap=Decimal(5), currency="USD")
    guard.apply([other])
    with pytest.raises(BudgetError, match="give it another name"):
        guard.apply([other, trailer(window="day")])
    guard.apply([other, trailer(cap=Decimal(20))])
    assert guard.status()[1].available == Decimal("18.586")


def test_an_opening_balance_cannot_be_carried_over(guard: BudgetGuard) -> None:
    """Nobody knows of which requests it was; nothing is changed."""
    guard.open_budget("trailer", "3")
    entries = len(guard.journal())
    with pytest.raises(BudgetError, match="began its window with an opening balance"):
        guard.apply([trailer(window="month", carry_over=True)])
    assert (len(guard.journal()), guard.status()[0].window_end.year) == (entries, 9999)
    guard.verify()


def test_what_is_carried_over_counts_at_the_accounting_rate(guard: BudgetGuard) -> None:
    """Rounded up, as when it is reserved."""
    yuan = Budget(name="yuan", cap=Decimal(100), currency="CNY", carry_over=True)
    rates = [{"quote": "USD", "budget": "CNY", "rate": Decimal("7.123456789")}]
    guard.apply(Budgets([trailer(), yuan], accounting_rates=rates))
    assert balances(guard)["yuan"] == (Decimal("5.086148148"), Decimal("4.986419753"))
    guard.verify()


def test_applying_the_same_budgets_changes_nothing(guard: BudgetGuard) -> None:
    """However often, and in whatever order they are written."""
    other = Budget(name="other", cap=Decimal(5), currency="USD")
    guard.apply([trailer(), other])
    entries = len(guard.journal())
    guard.apply([other, trailer()])
    assert len(guard.journal()) == entries
