"""Allowances: what they cover, for whom, until when, and what they never lift, on both kinds of store."""

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from kling_pricing import (
    Budget,
    BudgetError,
    BudgetExceededError,
    BudgetFrozenError,
    BudgetGuard,
    Budgets,
    KlingPricingError,
    LedgerError,
    PriceBook,
)
from kling_pricing.guard import allow, allowance_requests, allowances, decline, freeze_budgets, revoke
from tests.conftest import Clock
from tests.guards import CLIP, COST, ZERO, VerifiedGuard

LATER = datetime(2100, 1, 1, tzinfo=UTC)
NANO = Decimal("0.000000001")


def budget(name: str = "trailer", cap: Decimal | str = "1", **more: Any) -> Budget:
    """Returns a budget in USD; a budget whose name is a project matches that project."""
    match = {} if name == "all" else {"project": name}
    return Budget(**{"name": name, "match": match, "cap": Decimal(cap), "currency": "USD", **more})


def granted(ledger: str, amount: Decimal | str = "20", **more: Any) -> str:
    """Grants project `trailer` an allowance above budget `trailer`, and returns its id."""
    arguments: dict[str, Any] = {"currency": "USD", "budgets": ["trailer"], "until": LATER, "reason": "launch"}
    return allow(ledger, "trailer", amount=amount, **arguments | more).id


def use(ledger: str, place: int = 0) -> tuple[Decimal, Decimal]:
    """Returns the held and spent amounts of an allowance."""
    allowance = allowances(ledger)[place]
    return allowance.held, allowance.spent


@pytest.fixture
def guard(ledger: str, book: PriceBook) -> BudgetGuard:
    """A guard with one budget of 1 USD, of which a clip takes 0.714 USD."""
    return VerifiedGuard(ledger, [budget()], book=book)


def test_an_allowance_covers_only_the_shortfall(guard: BudgetGuard, ledger: str) -> None:
    """The first clip fits; of the second, the allowance covers what the budget does not have left."""
    granted(ledger)
    guard.admit(CLIP, project="trailer")
    assert use(ledger) == (ZERO, ZERO)
    guard.admit(CLIP, project="trailer")
    assert use(ledger) == (2 * COST - 1, ZERO)
    guard.admit(CLIP, project="trailer")
    assert use(ledger) == (3 * COST - 1, ZERO)
    (bucket,) = guard.status()
    assert (bucket.held, bucket.available) == (3 * COST, 1 - 3 * COST)


@pytest.mark.parametrize(
    ("amount", "fits"), [(2 * COST - 1, True), (2 * COST - 1 - NANO, False)], ids=["exactly", "a nano short"]
)
def test_an_allowance_is_exact_to_the_nano(
    guard: BudgetGuard, ledger: str, amount: Decimal, *, fits: bool
) -> None:
    """A request passes if the budget and the allowance have exactly enough, and not with a nano less."""
    granted(ledger, amount)
    guard.admit(CLIP, project="trailer")
    if fits:
        guard.admit(CLIP, project="trailer")
        assert allowances(ledger)[0].available == 0
    else:
        with pytest.raises(BudgetExceededError, match=r"and allowances cover only 0\.427999999 USD"):
            guard.admit(CLIP, project="trailer")
        assert use(ledger) == (ZERO, ZERO)


def test_release_expiry_and_settlement_give_back_as_for_a_hold(
    ledger: str, book: PriceBook, clock: Clock
) -> None:
    """A released or expired reservation gives back its whole cover, a settled one what was not billed above."""
    guard = VerifiedGuard(ledger, [budget()], book=book, clock=clock)
    granted(ledger)
    fitting = guard.admit(CLIP, project="trailer")
    short = 2 * COST - 1
    guard.release(guard.admit(CLIP, project="trailer", key="released"))
    assert use(ledger) == (ZERO, ZERO)
    guard.admit(CLIP, project="trailer", key="expires")
    assert use(ledger) == (short, ZERO)
    guard.dispatch(fitting)
    clock.pass_by(minutes=16)
    covered = guard.admit(CLIP, project="trailer", key="settled")
    assert use(ledger) == (short, ZERO)
    guard.dispatch(covered)
    guard.bind(covered, "t-1")
    guard.settle(covered, "0.5")
    assert use(ledger) == (ZERO, Decimal("0.5") - (1 - COST))
    guard.settle(covered, "0.2", basis="statement")
    assert use(ledger) == (ZERO, ZERO)
    guard.settle(covered, "0.9", basis="operator")
    assert use(ledger) == (ZERO, short), "a bill above the reservation never takes more than it held"


def test_the_largest_shortfall_among_the_named_budgets_is_covered(ledger: str, book: PriceBook) -> None:
    """Two named budgets are short by different amounts: the allowance covers the larger one, once."""
    guard = VerifiedGuard(ledger, [budget(), budget("all", "1.2")], book=book)
    granted(ledger, budgets=["trailer", "all"])
    guard.admit(CLIP, project="trailer")
    guard.admit(CLIP, project="trailer")
    assert use(ledger) == (2 * COST - 1, ZERO)


def test_a_budget_that_is_not_named_still_refuses(ledger: str, book: PriceBook) -> None:
    """The allowance lifts the named budget only, and the refusal takes nothing of it."""
    guard = VerifiedGuard(ledger, [budget(), budget("all", "1.2")], book=book)
    granted(ledger)
    guard.admit(CLIP, project="trailer")
    with pytest.raises(BudgetExceededError) as refused:
        guard.admit(CLIP, project="trailer")
    assert refused.value.budget == "all"
    assert use(ledger) == (ZERO, ZERO)


def test_allowances_combine_and_the_one_that_ends_first_is_used_first(guard: BudgetGuard, ledger: str) -> None:
    """Several allowances cover one request together; the one that ends first goes first, and each in full."""
    granted(ledger, "20", until=LATER)
    granted(ledger, "0.1", until=LATER - timedelta(days=1))
    guard.admit(CLIP, project="trailer")
    both = guard.admit(CLIP, project="trailer")
    short = 2 * COST - 1
    assert (use(ledger, 0)[0], use(ledger, 1)[0]) == (short - Decimal("0.1"), Decimal("0.1"))
    guard.dispatch(both)
    guard.settle(both, 1 - COST + Decimal("0.15"))
    assert (use(ledger, 0)[1], use(ledger, 1)[1]) == (Decimal("0.05"), Decimal("0.1"))


def test_allowances_above_different_budgets_combine(ledger: str, book: PriceBook) -> None:
    """One allowance lifts one budget, another one the other."""
    guard = VerifiedGuard(ledger, [budget(), budget("all", "1.2")], book=book)
    granted(ledger)
    granted(ledger, budgets=["all"])
    guard.admit(CLIP, project="trailer")
    guard.admit(CLIP, project="trailer")
    assert (use(ledger, 0)[0], use(ledger, 1)[0]) == (2 * COST - 1, 2 * COST - Decimal("1.2"))


def test_an_allowance_is_for_its_project_and_key_only(ledger: str, book: PriceBook) -> None:
    """Other projects, and other keys if it has one, are refused as without it."""
    guard = VerifiedGuard(ledger, [Budget(name="trailer", cap=COST, currency="USD")], book=book)
    granted(ledger, key="shot-1")
    guard.admit(CLIP, project="trailer")
    for project, key in (("teaser", "shot-1"), ("trailer", "shot-2"), ("trailer", None)):
        with pytest.raises(BudgetExceededError):
            guard.admit(CLIP, project=project, key=key)
    guard.admit(CLIP, project="trailer", key="shot-1")
    assert use(ledger) == (COST, ZERO)


def test_max_request_is_lifted_only_for_a_key(ledger: str, book: PriceBook) -> None:
    """An allowance without a key leaves the limit per request; one with a key covers what is above it."""
    guard = VerifiedGuard(ledger, [budget(cap="10", max_request="0.5")], book=book)
    granted(ledger)
    with pytest.raises(
        BudgetExceededError, match=r"allows 0\.5 USD per request.*ask FILE --project trailer --key KEY"
    ):
        guard.admit(CLIP, project="trailer", key="shot-1")
    granted(ledger, key="shot-1")
    guard.admit(CLIP, project="trailer", key="shot-1")
    assert (use(ledger, 0)[0], use(ledger, 1)[0]) == (ZERO, COST - Decimal("0.5"))


def test_an_allowance_ends_and_can_be_revoked(ledger: str, book: PriceBook, clock: Clock) -> None:
    """After its end or its revocation it covers nothing new, and what it covers already stays covered."""
    guard = VerifiedGuard(ledger, [budget(cap=COST)], book=book, clock=clock)
    guard.admit(CLIP, project="trailer")
    ends = datetime.now(UTC) + timedelta(days=1)
    clock.now = ends - timedelta(minutes=1)
    granted(ledger, until=ends)
    covered = guard.admit(CLIP, project="trailer")
    assert allowances(ledger)[0].state(clock.now) == "open"
    clock.pass_by(minutes=1)
    with pytest.raises(BudgetExceededError):
        guard.admit(CLIP, project="trailer")
    assert allowances(ledger)[0].state(clock.now) == "ended"
    second = granted(ledger)
    guard.admit(CLIP, project="trailer")
    revoked = revoke(ledger, second, actor="wang", reason="enough")
    assert (revoked.state(clock.now), revoked.held) == ("revoked", COST)
    assert revoke(ledger, second, reason="again") == revoked
    with pytest.raises(BudgetExceededError):
        guard.admit(CLIP, project="trailer")
    assert guard.reservation(covered).state == "reserved"
    assert [action.action for action in guard.log()][-1] == "revoke"


def test_an_allowance_lifts_no_freeze_and_no_refusal_of_unmatched_requests(
    guard: BudgetGuard, ledger: str
) -> None:
    """A frozen budget and a request without a budget are refused as without an allowance."""
    granted(ledger)
    allow(ledger, "other", amount=20, currency="USD", budgets=["trailer"], until=LATER, reason="a mistake")
    with pytest.raises(BudgetExceededError, match="no budget matches"):
        guard.admit(CLIP, project="other")
    freeze_budgets(ledger, ["trailer"], reason="audit")
    with pytest.raises(BudgetFrozenError):
        guard.admit(CLIP, project="trailer")


def test_the_original_is_covered_before_it_is_capped(ledger: str, book: PriceBook) -> None:
    """A budget that caps leaves a request unchanged if an allowance covers it, and caps it otherwise."""
    guard = VerifiedGuard(ledger, [budget(on_exceed="cap")], book=book)
    guard.admit(CLIP, project="trailer")
    capped = guard.admit(CLIP, project="trailer")
    assert capped.changes
    guard.release(capped)
    granted(ledger)
    unchanged = guard.admit(CLIP, project="trailer")
    assert (unchanged.changes, use(ledger)[0]) == ({}, 2 * COST - 1)


def test_an_allowance_in_another_currency_counts_at_the_accounting_rate(ledger: str, book: PriceBook) -> None:
    """It covers the shortfall at the rate at which a quote in its currency would count, rounded up."""
    budgets = Budgets(
        [budget()], accounting_rates=[{"quote": "CNY", "budget": "USD", "rate": Decimal("0.141")}]
    )
    guard = VerifiedGuard(ledger, budgets, book=book)
    with pytest.raises(BudgetError, match=r"but the allowance is in EUR; add \{quote: EUR, budget: USD"):
        granted(ledger, currency="EUR")
    granted(ledger, currency="CNY")
    guard.admit(CLIP, project="trailer")
    covered = guard.admit(CLIP, project="trailer")
    assert use(ledger)[0] == Decimal("3.035460993")
    guard.dispatch(covered)
    guard.settle(covered, 1 - COST + Decimal("0.141"))
    assert use(ledger) == (ZERO, Decimal(1))
    for _ in range(3):
        guard.admit(CLIP, project="trailer")
    with pytest.raises(BudgetExceededError):
        guard.admit(CLIP, project="trailer")
    held, spent = use(ledger)
    assert held + spent <= 20


def test_an_invalid_allowance_is_refused_and_changes_nothing(guard: BudgetGuard, ledger: str) -> None:
    """Each error names the problem and the remedy."""
    refusals: list[tuple[dict[str, Any], type[Exception], str]] = [
        ({"budgets": ["trailr"]}, BudgetError, "did you mean 'trailer'"),
        ({"budgets": []}, KlingPricingError, "an allowance needs budgets"),
        ({"amount": 0}, KlingPricingError, "greater than 0"),
        ({"amount": 0.5}, KlingPricingError, "not float"),
        ({"currency": "usd"}, KlingPricingError, "three capital letters"),
        ({"until": datetime(2026, 1, 1, tzinfo=UTC)}, LedgerError, "not in the future"),
        ({"request": "nothing"}, LedgerError, "unknown request nothing"),
    ]
    for arguments, error, message in refusals:
        with pytest.raises(error, match=message):
            granted(ledger, **arguments)
    with pytest.raises(LedgerError, match="unknown allowance nothing; the ledger has none"):
        revoke(ledger, "nothing", reason="x")
    assert guard.allowances() == []
    assert [action.action for action in guard.log()] == ["apply"]


def test_a_request_is_filed_listed_and_granted(ledger: str, book: PriceBook) -> None:
    """`ask` names the budgets that are short; granting it by its id lets the request pass."""
    guard = VerifiedGuard(ledger, [budget(), budget("all", "1.2")], book=book, actor="li")
    guard.admit(CLIP, project="trailer")
    with pytest.raises(
        BudgetExceededError, match=r"run `kling-pricing budget ask FILE --project trailer --reason"
    ):
        guard.admit(CLIP, project="trailer")
    asked = guard.ask(CLIP, project="trailer", reason="the trailer is due")
    assert (asked.amount, asked.currency, asked.budgets) == (COST, "USD", ("all", "trailer"))
    assert (asked.actor, asked.reason, asked.key) == ("li", "the trailer is due", None)
    assert guard.allowance_requests() == [asked]
    allowance = allow(ledger, request=asked.id, until=LATER, actor="wang", reason="granted")
    assert (allowance.project, allowance.amount, allowance.budgets) == ("trailer", COST, ("all", "trailer"))
    assert allowance_requests(ledger)[0].allowance_id == allowance.id
    with pytest.raises(LedgerError, match="was granted already"):
        allow(ledger, request=asked.id, until=LATER, reason="twice")
    guard.admit(CLIP, project="trailer")
    assert [(action.actor, action.action) for action in guard.log()] == [
        ("li", "apply"),
        ("li", "ask"),
        ("wang", "allow"),
    ]


def test_a_request_is_declined_with_a_reason(ledger: str, book: PriceBook) -> None:
    """A declined request keeps the first answer and cannot be granted; a granted one cannot be declined."""
    guard = VerifiedGuard(ledger, [budget()], book=book, actor="li")
    guard.admit(CLIP, project="trailer")
    first, second = (guard.ask(CLIP, project="trailer", reason=reason) for reason in ("due", "due soon"))
    assert first.state == "open"
    declined = decline(ledger, first.id, actor="wang", reason="use 720p")
    assert declined.state == "declined"
    assert decline(ledger, first.id, actor="chen", reason="again") == declined
    assert guard.allowance_requests() == [declined, second]
    with pytest.raises(LedgerError, match=r"wang declined request \w+: use 720p; .* an allowance without"):
        allow(ledger, request=first.id, until=LATER, reason="granted all the same")
    allowance = allow(ledger, request=second.id, until=LATER, reason="granted")
    with pytest.raises(LedgerError, match=f"granted already, as allowance {allowance.id}; .* revoke"):
        decline(ledger, second.id, reason="too late")
    with pytest.raises(LedgerError, match="unknown request nothing for an allowance"):
        decline(ledger, "nothing", reason="x")
    action = next(action for action in guard.log() if action.action == "decline")
    assert (action.subject, action.old, action.new) == (first.id, {"declined": False}, {"declined": True})
    assert declined.declined == (action.actor, action.reason, action.at) == ("wang", "use 720p", action.at)


def test_asking_without_need_says_why(ledger: str, book: PriceBook) -> None:
    """A request that fits, one without a budget, a limit per request without a key, and a freeze."""
    guard = VerifiedGuard(ledger, [budget(cap="10", max_request="0.8")], book=book)
    dear = {**CLIP, "duration": 10}
    with pytest.raises(LedgerError, match="does not need an allowance"):
        guard.ask(CLIP, project="trailer", reason="x")
    with pytest.raises(LedgerError, match="no budget matches the request"):
        guard.ask(CLIP, project="other", reason="x")
    with pytest.raises(LedgerError, match="give the key of the job"):
        guard.ask(dear, project="trailer", reason="x")
    assert guard.ask(dear, project="trailer", key="shot-1", reason="x").key == "shot-1"
    freeze_budgets(ledger, ["trailer"], reason="audit")
    with pytest.raises(BudgetFrozenError):
        guard.ask(dear, project="trailer", key="shot-1", reason="x")


def test_decide_agrees_with_admit_about_allowances(ledger: str, book: PriceBook, clock: Clock) -> None:
    """Decisions count on allowances as admissions do, one after the other, and without expired reservations."""
    guard = VerifiedGuard(ledger, [budget()], book=book, clock=clock)
    granted(ledger, 3 * COST - 1)
    for expired in ("late 1", "late 2"):
        guard.admit(CLIP, project="trailer", key=expired)
    clock.pass_by(minutes=16)
    before = (guard.journal(), guard.allowances())
    decisions = [guard.decide(CLIP, project="trailer")]
    for _ in range(3):
        decisions.append(guard.decide(CLIP, project="trailer", after=decisions[-1]))
    assert (guard.journal(), guard.allowances()) == before
    assert [decision.outcome for decision in decisions] == ["admitted"] * 3 + ["refused"]
    for decision in decisions[:3]:
        assert guard.decide(CLIP, project="trailer").passes
        assert guard.admit(CLIP, project="trailer").reservation.reserved == decision.reserved
    assert not guard.decide(CLIP, project="trailer").passes
    with pytest.raises(BudgetExceededError):
        guard.admit(CLIP, project="trailer")


def test_a_rolling_window_can_be_covered(ledger: str, book: PriceBook, clock: Clock) -> None:
    """The shortfall of a rolling window is what all of its steps leave."""
    guard = VerifiedGuard(ledger, [budget(window={"rolling": "24h"})], book=book, clock=clock)
    granted(ledger)
    guard.admit(CLIP, project="trailer", key="first")
    guard.dispatch(guard.admit(CLIP, project="trailer", key="first"))
    clock.pass_by(hours=2)
    guard.admit(CLIP, project="trailer")
    assert use(ledger) == (2 * COST - 1, ZERO)
