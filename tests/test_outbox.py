"""The outbox of a ledger: which alerts it has, for whom, and how leases and refusals are kept, on both stores."""

from datetime import timedelta
from decimal import Decimal

import pytest

from kling_pricing import Budget, BudgetGuard, Budgets, LedgerError
from tests.conftest import Clock, OpenGuard
from tests.guards import CLIP, COST, sent


def kinds(guard: BudgetGuard) -> list[tuple[str, str | None]]:
    """Returns the kind and the budget of every alert in the outbox."""
    return [(alert.kind, alert.budget) for alert in guard._state.ledger.alerts()]


def test_a_threshold_is_in_the_outbox_with_the_balance_that_reached_it(open_guard: OpenGuard) -> None:
    """The reservation that reaches a threshold writes the alert, and further reservations write none."""
    guard = open_guard(cap=Decimal(1), alerts=[Decimal("0.5")])
    reservation = guard.admit(CLIP, project="trailer").reservation
    (alert,) = guard._state.ledger.alerts()
    assert (alert.kind, alert.budget, alert.threshold, alert.cap, alert.used, alert.currency) == (
        "threshold", "trailer", Decimal("0.5"), Decimal(1), COST, "USD",
    )  # fmt: skip
    assert (alert.reservation_id, alert.at, alert.facts) == (reservation.id, reservation.created_at, {})


def test_an_overrun_states_the_bill(open_guard: OpenGuard) -> None:
    """A bill above the reserved amount is an alert of its own."""
    guard = open_guard()
    guard.settle(sent(guard).id, Decimal(2))
    (alert,) = guard._state.ledger.alerts()
    assert (alert.kind, alert.used, alert.facts) == ("overrun", Decimal(2), {"billed": "2"})
