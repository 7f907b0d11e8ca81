"""Budgets in observe mode: they count and alert, record what they would have refused, and refuse nothing."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from kling_pricing import (
    Alert,
    Budget,
    BudgetError,
    BudgetExceededError,
    BudgetFrozenError,
    BudgetGuard,
    Budgets,
    PriceBook,
)
from kling_pricing.guard import allow, allowances, freeze_budgets
from tests.conftest import AT, Clock
from tests.guards import CLIP, COST, VerifiedGuard
from tests.test_allowances import LATER


def budget(name: str = "trailer", **more: Any) -> Budget:
    """Returns a budget of 1 USD in observe mode."""
    return Budget(**{"name": name, "cap": Decimal(1), "currency": "USD", "enforce": "observe", **more})


def waived(guard: BudgetGuard) -> list[tuple[str, int, Decimal]]:
    """Returns the budget, number and amount of the refusals that a guard's budgets waived."""
    return [(refusals.budget, refusals.requests, refusals.amount) for refusals in guard.waived()]


def test_an_observing_budget_refuses_nothing_and_records_what_it_would_have_refused(
    ledger: str, book: PriceBook
) -> None:
    """Requests above the cap pass, count in full, and are recorded with the amount that was left."""
    guard = VerifiedGuard(ledger, [budget()], book=book)
    for _ in range(3):
        guard.admit(CLIP, project="trailer")
    (bucket,) = guard.status()
    assert (bucket.held, bucket.available) == (3 * COST, 1 - 3 * COST)
    assert waived(guard) == [("trailer", 2, 2 * COST)]
    details = [entry.detail for entry in guard.journal() if entry.kind == "waive"]
    assert details == ["0.286 USD left", "0 USD left"]


def test_a_limit_per_request_is_observed_too(ledger: str, book: PriceBook) -> None:
    """`max_request` of an observing budget refuses nothing, and what it would have refused is recorded."""
    guard = VerifiedGuard(ledger, [budget(cap=Decimal(10), max_request=Decimal("0.5"))], book=book)
    guard.admit(CLIP, project="trailer")
    assert waived(guard) == [("trailer", 1, COST)]


@pytest.mark.parametrize("on_exceed", ["reject", "cap"])
def test_a_budget_beside_it_still_limits(ledger: str, book: PriceBook, on_exceed: str) -> None:
    """A budget that is enforced refuses or caps; the observing one has recorded only what was admitted."""
    guard = VerifiedGuard(
        ledger,
        [
            budget("observed", cap=Decimal("0.1"), on_exceed="cap", keep=["duration_s", "resolution", "audio"]),
            budget("enforced", enforce="always", on_exceed=on_exceed),
        ],
        book=book,
    )
    guard.admit(CLIP, project="trailer")
    if on_exceed == "cap":
        assert guard.admit(CLIP, project="trailer").changes
        assert [refusals[:2] for refusals in waived(guard)] == [("observed", 2)]
        return
    with pytest.raises(BudgetExceededError) as refused:
        guard.admit(CLIP, project="trailer")
    assert refused.value.budget == "enforced"
    assert waived(guard) == [("observed", 1, COST)]


def test_it_alerts_as_ever(ledger: str, book: PriceBook) -> None:
    """Thresholds fire once, although nothing is refused."""
    alerts: list[Alert] = []
    with BudgetGuard(
        ledger, [budget(alerts=[Decimal("0.5"), Decimal(1)])], book=book, on_alert=alerts.append
    ) as guard:
        for _ in range(3):
            guard.admit(CLIP, project="trailer")
        guard.verify()
    assert [alert.threshold for alert in alerts] == [Decimal("0.5"), Decimal(1)]


def test_no_allowance_is_used_for_it(ledger: str, book: PriceBook) -> None:
    """An allowance above an observing budget stays whole."""
    guard = VerifiedGuard(ledger, [budget()], book=book)
    allow(ledger, "trailer", amount=9, currency="USD", budgets=["trailer"], until=LATER, reason="launch")
    for _ in range(2):
        guard.admit(CLIP, project="trailer")
    assert allowances(ledger)[0].available == 9


def test_observe_mode_passes_no_freeze_and_needs_an_accounting_rate(ledger: str, book: PriceBook) -> None:
    """A frozen budget refuses in observe mode too, and an amount that cannot be counted is never admitted."""
    guard = VerifiedGuard(ledger, [budget()], book=book)
    freeze_budgets(ledger, ["trailer"], reason="audit")
    with pytest.raises(BudgetFrozenError):
        guard.admit(CLIP, project="trailer")
    guard.apply([budget(), budget("euros", currency="EUR", match={"project": "teaser"})])
    with pytest.raises(BudgetError, match="quote: USD, budget: EUR"):
        guard.admit(CLIP, project="teaser")


def test_changing_the_mode_keeps_the_balance(ledger: str, book: PriceBook) -> None:
    """A budget that begins to enforce counts everything that it observed; the records stay."""
    guard = VerifiedGuard(ledger, [budget()], book=book)
    for _ in range(2):
        guard.admit(CLIP, project="trailer")
    guard.apply([budget(enforce="always")])
    with pytest.raises(BudgetExceededError):
        guard.admit(CLIP, project="trailer")
    assert waived(guard) == [("trailer", 1, COST)]
    guard.apply([budget()], allow_weaker=True)
    guard.admit(CLIP, project="trailer")
    assert waived(guard) == [("trailer", 2, 2 * COST)]


def test_the_records_are_found_by_bucket_and_period(ledger: str, book: PriceBook, clock: Clock) -> None:
    """Each bucket has its own records, and a period selects them by the instant of the admission."""
    per_user = budget("each", match={"user": "*"}, window="day")
    guard = VerifiedGuard(ledger, Budgets([per_user]), book=book, clock=clock)
    for user in ("li", "li", "wu"):
        guard.admit(CLIP, project="trailer", labels={"user": user})
    clock.pass_by(days=1)
    for user in ("wu", "wu", "wu"):
        guard.admit(CLIP, project="trailer", labels={"user": user})
    rows = [(row.labels["user"], row.window_start, row.requests) for row in guard.waived()]
    assert rows == [("li", AT, 1), ("wu", AT + timedelta(days=1), 2)]
    assert [row.requests for row in guard.waived(since=AT + timedelta(days=1))] == [2]
    assert [row.requests for row in guard.waived(until=AT + timedelta(days=1))] == [1]


def test_decide_knows_observe_mode_and_frozen_budgets(ledger: str, book: PriceBook) -> None:
    """A decision admits what an observing budget only counts, and names the freeze of a budget."""
    guard = VerifiedGuard(ledger, [budget(match={"project": "trailer"}), budget("other")], book=book)
    for _ in range(2):
        assert guard.decide(CLIP, project="trailer").passes
        guard.admit(CLIP, project="trailer")
    assert len([entry for entry in guard.journal() if entry.kind == "waive"]) == 2
    freeze_budgets(ledger, ["trailer"], reason="audit")
    assert guard.decide(CLIP, project="teaser").passes
    assert isinstance(guard.decide(CLIP, project="trailer").refusal, BudgetFrozenError)


def test_a_rolling_window_is_observed_by_all_of_its_steps(ledger: str, book: PriceBook, clock: Clock) -> None:
    """What would have been refused is judged by the whole window, not by its last step."""
    guard = VerifiedGuard(ledger, [budget(window={"rolling": "24h"})], book=book, clock=clock)
    guard.dispatch(guard.admit(CLIP, project="trailer"))
    clock.pass_by(hours=2)
    guard.admit(CLIP, project="trailer")
    assert waived(guard) == [("trailer", 1, COST)]
