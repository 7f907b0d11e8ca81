"""Freezes by name: who is stopped, who is not, and what can be changed meanwhile, on both kinds of store."""

import re
from decimal import Decimal

import pytest

from kling_pricing import Budget, BudgetError, BudgetFrozenError, BudgetGuard, Budgets, PriceBook
from kling_pricing.guard import freeze_all, freeze_budgets, freezes, thaw_all, thaw_budgets
from tests.guards import CLIP, COST, VerifiedGuard

TRAILER = Budget(name="trailer", match={"project": "trailer"}, cap=Decimal(10), currency="USD")
TEASER = Budget(name="teaser", match={"project": "teaser"}, cap=Decimal(10), currency="USD")
ALL = Budget(name="all", cap=Decimal(20), currency="USD")


@pytest.fixture
def guard(ledger: str, book: PriceBook) -> BudgetGuard:
    """A guard with a budget for each of two projects."""
    return VerifiedGuard(ledger, [TRAILER, TEASER], book=book)


def test_a_frozen_budget_stops_its_own_requests_only(guard: BudgetGuard, ledger: str) -> None:
    """Requests that the frozen budget matches are refused with who, when and why; others are admitted."""
    (freeze,) = freeze_budgets(ledger, ["trailer"], actor="li", reason="the bill looks wrong")
    with pytest.raises(
        BudgetFrozenError,
        match=r"^li froze budget trailer at .*\(the bill looks wrong\); .*`kling-pricing budget thaw trailer -",
    ) as refused:
        guard.admit(CLIP, project="trailer")
    error = refused.value
    assert (error.budget, error.actor, error.reason) == ("trailer", "li", "the bill looks wrong")
    assert error.frozen_at == freeze.frozen_at
    assert guard.admit(CLIP, project="teaser").reservation.state == "reserved"


def test_one_frozen_budget_among_several_is_enough(ledger: str, book: PriceBook) -> None:
    """A request is refused if any of the budgets that match it is frozen, and dispatched if none is."""
    guard = VerifiedGuard(ledger, [TRAILER, TEASER, ALL], book=book)
    unsent = guard.admit(CLIP, project="teaser")
    freeze_budgets(ledger, ["all"], reason="audit")
    for project in ("trailer", "teaser"):
        with pytest.raises(BudgetFrozenError, match="froze budget all"):
            guard.admit(CLIP, project=project)
    with pytest.raises(BudgetFrozenError, match="froze budget all"):
        guard.dispatch(unsent)
    assert guard.reservation(unsent).state == "released"
    assert thaw_budgets(ledger, ["all"], reason="done")[0].budget == "all"
    guard.dispatch(guard.admit(CLIP, project="teaser"))


def test_only_reservations_in_the_frozen_budget_are_refused_at_their_dispatch(
    guard: BudgetGuard, ledger: str
) -> None:
    """An unsent reservation of the frozen budget is released at its dispatch; others and sent jobs go on."""
    unsent, sent_job = (guard.admit(CLIP, project="trailer", key=key) for key in ("unsent", "sent"))
    other = guard.admit(CLIP, project="teaser")
    guard.dispatch(sent_job)
    freeze_budgets(ledger, ["trailer"], reason="audit")
    with pytest.raises(BudgetFrozenError):
        guard.dispatch(unsent)
    assert (guard.reservation(unsent).state, guard.reservation(unsent).reason) == (
        "released",
        "spending is frozen",
    )
    guard.dispatch(other)
    guard.bind(sent_job, "t-1")
    assert guard.settle(sent_job).state == "settled"


def test_thawing_gives_back_exactly_what_was_left(guard: BudgetGuard, ledger: str) -> None:
    """Freezing and thawing change no balance."""
    guard.admit(CLIP, project="trailer")
    before = guard.status()
    freeze_budgets(ledger, ["trailer", "teaser"], reason="audit")
    freeze_all(ledger, reason="audit")
    assert guard.status() == before
    assert thaw_all(ledger, reason="done")
    thaw_budgets(ledger, ["trailer", "teaser"], reason="done")
    assert guard.status() == before
    assert guard.admit(CLIP, project="trailer").reservation.reserved == COST


def test_a_repeated_freeze_keeps_the_first_and_a_repeated_thaw_changes_nothing(
    guard: BudgetGuard, ledger: str
) -> None:
    """The first freeze stays with its actor and reason, and the journal and the log have each change once."""
    first = freeze_budgets(ledger, ["trailer"], actor="li", reason="first")
    both = freeze_budgets(ledger, ["teaser", "trailer", "trailer"], actor="wang", reason="second")
    assert both[0] == first[0]
    assert [(freeze.budget, freeze.actor) for freeze in both] == [("trailer", "li"), ("teaser", "wang")]
    assert list(both) == freezes(ledger) == guard.freezes()
    assert [freeze.budget for freeze in thaw_budgets(ledger, ["trailer"], reason="done")] == ["trailer"]
    assert thaw_budgets(ledger, ["trailer"], reason="again") == ()
    kinds = [entry.kind for entry in guard.journal() if "budget" in entry.kind]
    assert kinds == ["freeze_budget", "freeze_budget", "thaw_budget"]
    actions = [
        (action.action, action.subject, action.reason)
        for action in guard.log()
        if action.action in {"freeze", "thaw"}
    ]
    assert actions == [
        ("freeze", "trailer", "first"),
        ("freeze", "teaser", "second"),
        ("thaw", "trailer", "done"),
    ]
    guard.verify()


def test_an_unknown_budget_is_an_error_that_changes_nothing(guard: BudgetGuard, ledger: str) -> None:
    """The error suggests the nearest name, and the budgets that were named rightly are not frozen either."""
    for change in (freeze_budgets, thaw_budgets):
        with pytest.raises(BudgetError, match="unknown budget trailr; did you mean 'trailer'"):
            change(ledger, ["teaser", "trailr"], reason="audit")
    assert guard.freezes() == []


def test_freezing_by_name_and_freezing_everything_are_apart(guard: BudgetGuard, ledger: str) -> None:
    """Each of the two freezes stays in force when the other one ends."""
    freeze_budgets(ledger, ["trailer"], actor="li", reason="one budget")
    freeze_all(ledger, actor="wang", reason="everything")
    with pytest.raises(BudgetFrozenError, match="wang froze all spending"):
        guard.admit(CLIP, project="trailer")
    assert thaw_all(ledger, reason="done")
    with pytest.raises(BudgetFrozenError, match="li froze budget trailer"):
        guard.admit(CLIP, project="trailer")
    guard.admit(CLIP, project="teaser")
    freeze_all(ledger, actor="wang", reason="everything")
    thaw_budgets(ledger, ["trailer"], reason="done")
    with pytest.raises(BudgetFrozenError, match="wang froze all spending") as refused:
        guard.admit(CLIP, project="trailer")
    assert refused.value.budget is None


def test_freezing_everything_covers_unmatched_requests_and_later_budgets(ledger: str, book: PriceBook) -> None:
    """A request that no budget matches is refused, and so is one of a budget that is added afterwards."""
    guard = VerifiedGuard(ledger, Budgets([TRAILER], unmatched="allow"), book=book)
    guard.admit(CLIP, project="other")
    freeze_all(ledger, reason="audit")
    guard.apply(Budgets([TRAILER, TEASER], unmatched="allow"))
    for project in ("other", "teaser"):
        with pytest.raises(BudgetFrozenError, match="all spending"):
            guard.admit(CLIP, project=project)


@pytest.mark.parametrize(
    ("after", "change"),
    [
        ([TEASER], "removed or renamed"),
        ([TEASER, Budget(**{**TRAILER.model_dump(), "name": "trailer-2"})], "removed or renamed"),
        (
            [TEASER, Budget(**{**TRAILER.model_dump(), "match": {"project": "x"}, "carry_over": True})],
            "given another match",
        ),
    ],
    ids=["removed", "renamed", "another match"],
)
def test_a_frozen_budget_cannot_be_removed_renamed_or_narrowed(
    guard: BudgetGuard, ledger: str, after: list[Budget], change: str
) -> None:
    """New budgets that would let requests past the freeze are refused, and work after a thaw."""
    freeze_budgets(ledger, ["trailer"], actor="li", reason="audit")
    problem = (
        rf"budget trailer is frozen and cannot be {change}: li froze it .*budget thaw trailer --reason TEXT"
    )
    gone = {"trailer"} - {budget.name for budget in after}
    with pytest.raises(BudgetError, match=problem):
        guard.apply(after, remove=gone, allow_weaker=True)
    raised = Budget(**{**TRAILER.model_dump(), "cap": Decimal(11)})
    guard.apply([raised, TEASER], allow_weaker=True)
    thaw_budgets(ledger, ["trailer"], reason="done")
    assert {budget.name for budget in guard.apply(after, remove=gone, allow_weaker=True).budgets} >= {"teaser"}


def test_a_key_that_was_sent_says_so_before_the_freeze(guard: BudgetGuard, ledger: str) -> None:
    """Replaying an unsent key is refused by the freeze; a sent key is reported as sent."""
    sent_job = guard.admit(CLIP, project="trailer", key="sent")
    guard.dispatch(sent_job)
    guard.admit(CLIP, project="trailer", key="unsent")
    freeze_budgets(ledger, ["trailer"], reason="audit")
    with pytest.raises(BudgetFrozenError):
        guard.admit(CLIP, project="trailer", key="unsent")
    with pytest.raises(Exception, match=re.escape("already sent")):
        guard.admit(CLIP, project="trailer", key="sent")


def test_a_freeze_of_a_later_budget_stops_a_dispatch(ledger: str, book: PriceBook) -> None:
    """A reservation from before a budget was added is not dispatched while that budget is frozen."""
    guard = VerifiedGuard(ledger, [ALL], book=book)
    admission = guard.admit(CLIP, project="trailer")
    guard.apply([ALL, TRAILER])
    freeze_budgets(ledger, ["trailer"], reason="the bill looks wrong")
    with pytest.raises(BudgetFrozenError):
        guard.dispatch(admission)
    assert guard.reservation(admission).state == "released"
