"""The content of plans and of changed caps, exactly: changes, balances, notes and their JSON."""

from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from kling_pricing import Budget, BudgetError
from tests.conftest import AT, OpenGuard
from tests.guards import CLIP

TRAILER = Budget(name="trailer", match={"project": "trailer"}, cap=Decimal(9), currency="USD")
DAY = Budget(name="day", match={"project": "trailer"}, cap=Decimal(5), currency="USD", window="day")
TOMORROW = AT + timedelta(days=1)
STUDIO = {"actor": "li"}


@pytest.fixture
def ledger(tmp_path: Path) -> str:
    """The URL of a ledger in a file; plans are the same on every store."""
    return f"sqlite:///{tmp_path}/spend.db"


def with_fields(budget: Budget, **fields: Any) -> Budget:
    """Returns a budget with other fields."""
    return Budget(**{name: getattr(budget, name) for name in budget.model_fields_set} | fields)


def capped(budget: Budget, cap: str) -> Budget:
    """Returns a budget with another cap."""
    return with_fields(budget, cap=cap)


def balance(available: str) -> dict[str, Any]:
    """Returns the balance of a budget after one clip was admitted."""
    return {"labels": {}, "spent": "0", "held": "0.714", "available": available, "currency": "USD"}


def test_a_lower_cap_names_what_was_used(open_guard: OpenGuard) -> None:
    """A cap below the amounts already used has a note with these amounts and the end of the window."""
    guard = open_guard(TRAILER, DAY)
    guard.admit(CLIP, project="trailer")
    used = "has already used 0.714 USD (spent 0, held 0.714), more than the new cap of 0.5: jobs that were sent"
    go_on = "continue, and no request is admitted until"
    assert guard.plan([capped(TRAILER, "0.5"), capped(DAY, "0.5")]).as_dict() == {
        "changes": [
            {
                "kind": "changed",
                "budget": name,
                "fields": [{"field": "cap", "old": old, "new": "0.5", "weaker": False}],
                "balances": [balance(available)],
            }
            for name, old, available in (("trailer", "9", "8.286"), ("day", "5", "4.286"))
        ],
        "removed": [],
        "weaker": [],
        "notes": [
            f"trailer {used} {go_on} the cap is raised, or until enough of the held money is released",
            (
                f"day {used} {go_on} its window ends at 2026-11-22 00:00 UTC, or until enough of the held "
                f"money is "
                "released"
            ),
        ],
        "problems": [],
        "warnings": [],
    }
    assert guard.plan([capped(TRAILER, "0.714"), DAY]).notes == ()


def test_a_plan_names_the_caps_that_stay_or_end(open_guard: OpenGuard) -> None:
    """A cap until an instant stays over a new cap, and ends with its budget or in another currency."""
    guard = open_guard(TRAILER, DAY, settings=STUDIO)
    guard.set_cap("trailer", 3, until=TOMORROW)
    guard.set_cap("day", 4, until=AT + timedelta(hours=1))
    changed = guard.plan([capped(TRAILER, "8"), with_fields(DAY, currency="CNY")])
    assert changed.notes == (
        "until 2026-11-22 00:00 UTC, the cap of trailer stays at 3 USD, which li set",
        "the cap of day until 2026-11-21 01:00 UTC ends now, because it is in another currency; set it again",
    )
    assert changed.problems == (
        (
            "budget day now has a different match, window, time zone or currency; give the budget another "
            "name, "
            "or set "
            "carry_over: true so that the budget counts earlier spend"
        ),
    )
    assert changed.weaker == ("day: currency USD -> CNY",)
    renamed = guard.plan([with_fields(TRAILER, name="new")])
    assert (renamed.removed, renamed.notes, renamed.weaker) == (
        ("trailer", "day"),
        (
            "the cap of trailer until 2026-11-22 00:00 UTC is removed too",
            "the cap of day until 2026-11-21 01:00 UTC is removed too",
        ),
        (),
    )
    assert [(change["kind"], change["budget"]) for change in renamed.as_dict()["changes"]] == [
        ("added", "new"),
        ("removed", "trailer"),
        ("removed", "day"),
    ]


def test_a_budget_that_comes_back_says_what_it_counts(open_guard: OpenGuard) -> None:
    """What was spent meanwhile counts, unless the budget says otherwise."""
    guard = open_guard(TRAILER, DAY)
    guard.apply([TRAILER], remove=["day"])
    assert guard.plan([TRAILER, DAY]).notes == (
        "day was removed earlier; it counts the money that was spent in its window while it was removed",
    )
    assert guard.plan([TRAILER, with_fields(DAY, carry_over=False)]).notes == (
        (
            "day was removed earlier; it does not count, because of carry_over: false, the money that was "
            "spent in "
            "its window while it was removed"
        ),
    )
    assert guard.plan([TRAILER, with_fields(DAY, name="week", window="week")]).notes == ()


def test_budgets_that_undo_a_cap_say_whose(open_guard: OpenGuard) -> None:
    """A cap that `budget set` changed for good is named if a plan, or a guard, would change it back."""
    guard = open_guard(TRAILER, DAY, settings=STUDIO)
    guard.set_cap("trailer", 7, reason="a retake")
    undone = "`budget set trailer --cap 7`, which li ran at 2026-11-21 00:00 UTC (a retake)"
    plan = guard.plan([TRAILER, DAY])
    assert (plan.notes, plan.weaker) == ((f"this undoes {undone}",), ("trailer: cap 7 -> 9 USD",))
    with pytest.raises(BudgetError) as caught:
        open_guard(TRAILER, DAY)
    assert str(caught.value) == (
        f"the ledger's budgets differ from the given budgets (trailer: cap 7 -> 9 USD); the given budgets "
        f"would undo "
        f"{undone}; open the ledger without budgets, or ask an administrator to install yours with "
        f"`kling-pricing "
        "budget apply`"
    )
    guard.apply([capped(TRAILER, "6"), DAY])
    assert guard.plan([TRAILER, DAY]).notes == ()


def test_only_the_last_lasting_cap_of_a_budget_can_be_undone(open_guard: OpenGuard) -> None:
    """A cap until an instant, another budget's cap and other changes of the budgets hide no `budget set`."""
    guard = open_guard(TRAILER, DAY, settings=STUDIO)
    guard.set_cap("trailer", 6)
    guard.set_cap("trailer", 7)
    undone = "this undoes `budget set trailer --cap 7`, which li ran at 2026-11-21 00:00 UTC"
    guard.set_cap("day", 4, reason="a quiet day")
    guard.set_cap("trailer", 3, until=TOMORROW)
    stays = "until 2026-11-22 00:00 UTC, the cap of trailer stays at 3 USD, which li set"
    day = "this undoes `budget set day --cap 4`, which li ran at 2026-11-21 00:00 UTC (a quiet day)"
    assert guard.plan([TRAILER, DAY]).notes == (stays, undone, day)
    assert guard.plan([capped(TRAILER, "7"), DAY]).notes == (day,)
    guard.apply([capped(TRAILER, "7"), with_fields(capped(DAY, "4"), max_request="2")])
    assert guard.plan([TRAILER, with_fields(DAY, max_request="2")]).notes == (stays, undone, day)
    guard.apply([capped(TRAILER, "8"), with_fields(capped(DAY, "4"), max_request="2")], allow_weaker=True)
    assert guard.plan([TRAILER, with_fields(DAY, max_request="2")]).notes == (stays, day)
    with pytest.raises(BudgetError, match=r"trailer: cap 8 -> 9 USD.*undo `budget set day --cap 4`"):
        open_guard(TRAILER, with_fields(DAY, max_request="2"))


@pytest.mark.parametrize(
    ("cap", "days", "weaker", "notes"),
    [
        ("7", None, False, ()),
        ("8", None, True, ()),
        ("6", None, False, ()),
        ("9", 1, True, ()),
        ("6", 1, False, ()),
        ("7", 1, False, ()),
    ],
)
def test_the_effect_of_a_cap_is_exact(
    open_guard: OpenGuard,
    cap: str,
    days: int | None,
    weaker: bool,  # noqa: FBT001
    notes: tuple[str, ...],
) -> None:
    """A cap is weaker only if it lets more be spent, and its data has both caps and their ends."""
    guard = open_guard(capped(TRAILER, "7"))
    until = None if days is None else AT + timedelta(days=days)
    change = guard.cap_change("trailer", cap, until=until)
    assert change.as_dict() == {
        "budget": "trailer",
        "currency": "USD",
        "old": {"cap": "7", "until": None},
        "new": {"cap": cap, "until": until and until.isoformat()},
        "weaker": weaker,
        "notes": list(notes),
    }


def test_a_cap_that_is_higher_later_is_weaker_from_then_on(open_guard: OpenGuard) -> None:
    """In place of a low cap that ends late, a cap that ends early, or for good, raises it from some instant."""
    guard = open_guard(TRAILER)
    guard.set_cap("trailer", 2, until=AT + timedelta(days=3))
    earlier = guard.cap_change("trailer", 1, until=TOMORROW)
    assert (earlier.old, earlier.new, earlier.weaker, earlier.notes) == (
        (Decimal(2), AT + timedelta(days=3)),
        (Decimal(1), TOMORROW),
        True,
        ("from 2026-11-22 00:00 UTC, the cap is 9 USD instead of 2",),
    )
    later = guard.cap_change("trailer", 1, until=AT + timedelta(days=4))
    assert (later.weaker, later.notes) == (False, ())
    assert guard.cap_change("trailer", 3).weaker
    assert not guard.cap_change("trailer", 2).weaker
