"""Admission on every kind of store: reserving, refusing and capping."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from kling_pricing import (
    Budget,
    BudgetExceededError,
    Budgets,
    CapabilityError,
    KlingPricingError,
    LedgerUnavailableError,
    PriceBook,
    PriceNotFoundError,
    ReservationStateError,
    WireFormatError,
    load_price_book,
)
from tests.conftest import Clock, OpenGuard, video
from tests.guards import CLIP, COST, ZERO, VerifiedGuard, left, sent

# admission


def test_admitting_sets_the_quote_aside(open_guard: OpenGuard) -> None:
    """Admitting holds the quoted amount and spends nothing."""
    guard = open_guard()
    admission = guard.admit(CLIP, project="trailer", key="shot-042", labels={"user": "li"})
    assert (admission.quote.total, admission.capped, dict(admission.changes)) == (COST, False, {})
    assert left(guard) == (COST, 0, Decimal("9.286"))
    kept = guard.reservation(admission.reservation_id)
    assert kept == admission.reservation
    assert (kept.state, kept.key, kept.labels) == ("reserved", "shot-042", {"project": "trailer", "user": "li"})
    assert (kept.expected, kept.reserved, kept.billed) == (COST, COST, None)


def test_the_last_nano_is_available_and_no_more(open_guard: OpenGuard) -> None:
    """A request that takes exactly the rest of the cap is admitted, and the next request is refused."""
    guard = open_guard(cap=COST)
    guard.admit(CLIP, project="trailer")
    with pytest.raises(BudgetExceededError) as caught:
        guard.admit(CLIP, project="trailer")
    error = caught.value
    assert (error.budget, error.requested, error.available) == ("trailer", COST, ZERO)
    assert (error.currency, error.window_end, error.cheapest) == ("USD", None, None)
    assert left(guard) == (COST, 0, 0)


def test_a_cap_that_lacks_one_nano_refuses(open_guard: OpenGuard) -> None:
    """A cap that is one nano short refuses the request."""
    guard = open_guard(cap=COST - Decimal("0.000000001"))
    with pytest.raises(BudgetExceededError, match=r"costs 0\.714 USD, but budget trailer has 0\.713999999 USD"):
        guard.admit(CLIP, project="trailer")
    assert guard.history() == []


def test_every_budget_that_matches_must_fit(open_guard: OpenGuard) -> None:
    """If one budget lacks room, nothing is held in the others, and the error names the binding budget."""
    guard = open_guard(
        Budget(name="everyone", cap=Decimal(100), currency="USD"),
        Budget(name="team", match={"team": "film"}, cap=Decimal("0.7"), currency="USD", window="day"),
        Budget(name="other", match={"project": "other"}, cap=Decimal(0), currency="USD"),
    )
    guard.admit(CLIP, project="trailer", labels={"team": "sound"})
    with pytest.raises(BudgetExceededError) as caught:
        guard.admit(CLIP, project="trailer", labels={"team": "film"})
    assert (caught.value.budget, caught.value.available) == ("team", Decimal("0.7"))
    assert caught.value.window_end == datetime(2026, 11, 22, tzinfo=UTC)
    assert [(bucket.budget, bucket.held) for bucket in guard.status()] == [
        ("everyone", COST),
        ("team", 0),
        ("other", 0),
    ]


def test_each_value_of_a_starred_label_has_a_bucket_of_its_own(open_guard: OpenGuard) -> None:
    """The spend of one user leaves the buckets of other users unchanged."""
    guard = open_guard(name="each", match={"user": "*"}, cap=Decimal(1))
    for user in ("li", "wu"):
        guard.admit(CLIP, project="trailer", labels={"user": user})
    with pytest.raises(BudgetExceededError, match="budget each for user li"):
        guard.admit(CLIP, project="trailer", labels={"user": "li"})
    assert [(bucket.labels, bucket.held) for bucket in guard.status()] == [
        ({"user": "li"}, COST),
        ({"user": "wu"}, COST),
    ]


def test_a_refused_request_leaves_nothing_behind(open_guard: OpenGuard) -> None:
    """A refused request creates no bucket, so that refused requests cannot make the ledger grow."""
    guard = open_guard(
        Budget(name="everyone", cap=COST, currency="USD"),
        Budget(name="each", match={"user": "*"}, cap=Decimal(10), currency="USD"),
    )
    guard.admit(CLIP, project="trailer", labels={"user": "li"})
    for user in ("wu", "ho"):
        with pytest.raises(BudgetExceededError):
            guard.admit(CLIP, project="trailer", labels={"user": user})
    assert [(row.budget, row.labels) for row in guard.status()] == [("everyone", {}), ("each", {"user": "li"})]
    assert len(guard.history()) == 1


def test_a_request_that_nothing_matches_is_refused(open_guard: OpenGuard) -> None:
    """A request that matches no budget is refused unless the budgets allow it."""
    guard = open_guard()
    with pytest.raises(BudgetExceededError, match="no budget matches project=other") as caught:
        guard.admit(CLIP, project="other")
    assert (caught.value.budget, caught.value.requested, caught.value.available) == (None, COST, ZERO)


def test_unmatched_requests_can_be_allowed(ledger: str, book: PriceBook, clock: Clock) -> None:
    """An unmatched request that is allowed counts in no bucket and can still be dispatched and settled."""
    only = Budget(name="trailer", match={"project": "trailer"}, cap=Decimal(0), currency="USD")
    guard = VerifiedGuard(ledger, Budgets([only], unmatched="allow"), book=book, clock=clock)
    admission = guard.admit(CLIP, project="other", key="k")
    guard.dispatch(admission)
    assert guard.settle(admission).billed == COST
    guard.verify()


def test_unmatched_requests_end_as_others_do(ledger: str, book: PriceBook, clock: Clock) -> None:
    """Releasing or expiring an unmatched request gives nothing back, because nothing was held for it."""
    only = Budget(name="trailer", match={"project": "trailer"}, cap=Decimal(1), currency="USD")
    guard = VerifiedGuard(ledger, Budgets([only], unmatched="allow"), book=book, clock=clock)
    assert guard.release(guard.admit(CLIP, project="other", key="k")).state == "released"
    late = guard.admit(CLIP, project="other", key="l")
    clock.now += timedelta(hours=1)
    guard.admit(CLIP, project="trailer")
    assert guard.reservation(late).state == "released"
    guard.verify()


def test_a_single_request_can_be_limited(open_guard: OpenGuard) -> None:
    """The limit per request binds although the cap has room, and the error says so."""
    guard = open_guard(max_request=Decimal("0.5"))
    with pytest.raises(BudgetExceededError, match=r"allows 0\.5 USD per request") as caught:
        guard.admit(CLIP, project="trailer")
    assert (caught.value.available, caught.value.window_end) == (Decimal("0.5"), None)


def test_a_request_that_cannot_be_quoted_is_not_admitted(open_guard: OpenGuard) -> None:
    """Invalid, unpriced and unreadable requests raise the errors of `quote` and leave the ledger unchanged."""
    guard = open_guard()
    with pytest.raises(CapabilityError):
        guard.admit(video(duration=99), project="trailer")
    with pytest.raises(PriceNotFoundError):
        guard.admit(video("kling-v3-omni", resolution="4k", audio=True), project="trailer")
    with pytest.raises(WireFormatError):
        guard.admit("{", project="trailer")
    assert (guard.history(), guard.status()[0].held) == ([], ZERO)


def test_half_a_quota_is_reserved_as_a_whole_one(open_guard: OpenGuard) -> None:
    """A reservation is rounded up to a whole unit of the statement, so that it covers either rounding."""
    guard = open_guard()
    admission = guard.admit(video(resolution="4k", duration=5), project="trailer")
    assert admission.quote.total == Decimal("2.276725")
    assert (admission.reservation.expected, admission.reservation.reserved) == (
        Decimal("2.276725"),
        Decimal("2.276726"),
    )


def test_a_range_is_reserved_at_its_maximum(open_guard: OpenGuard) -> None:
    """An unknown length is reserved at its dearest value; a known length at its price."""
    guard = open_guard()
    request = {
        "model": "kling-v3-motion-control",
        "prompt": "dance",
        "duration": 0,
        "image_urls": ["https://media.example.com/a.png"],
        "video_urls": ["https://media.example.com/b.mp4"],
        "character_orientation": "video",
    }
    ranged = guard.admit(request, project="trailer")
    assert (ranged.quote.minimum, ranged.reservation.reserved) == (Decimal("0.3402"), Decimal("3.402"))
    known = guard.admit(
        request, project="trailer", media={"https://media.example.com/b.mp4": {"length_s": "10"}}
    )
    assert known.reservation.reserved == Decimal("1.134")


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        ({"project": ""}, "project must be text"),
        ({"project": 5}, "project must be text"),
        ({"project": "a", "key": ""}, "key must be text"),
        ({"project": "a", "labels": {"user": "x" * 201}}, "label user must be text"),
        (
            {"project": "a", "labels": {"project": "b"}},
            "labels give the project b; give the project only once",
        ),
        (
            {"project": "a", "labels": {f"l{n}": "x" for n in range(16)}},
            "the maximum is 16; remove some",
        ),
    ],
)
def test_names_that_cannot_be_kept_are_refused(
    open_guard: OpenGuard, arguments: dict[str, Any], problem: str
) -> None:
    """The error says which name is wrong, and nothing is reserved."""
    guard = open_guard()
    with pytest.raises(KlingPricingError, match=problem):
        guard.admit(CLIP, **arguments)
    assert guard.history() == []


def test_a_guards_budgets_hold_however_late_the_ledgers_turn_comes(
    ledger: str, book: PriceBook, clock: Clock
) -> None:
    """If days pass between the quote and the transaction, the budget of the transaction's day decides."""
    day = Budget(name="day", match={"project": "trailer"}, cap=Decimal("0.1"), currency="USD", window="day")
    everyone = Budget(name="everyone", cap=Decimal(10), currency="USD")
    slow = [0]

    def late() -> datetime:
        slow[0] += 1
        return clock() + (timedelta(days=3) if slow[0] % 2 else timedelta(0))

    with VerifiedGuard(ledger, [day, everyone], book=book, clock=late) as guard:
        for _ in range(4):
            with pytest.raises((BudgetExceededError, LedgerUnavailableError)):
                guard.admit(CLIP, project="trailer")
        assert guard.history() == []


CHANGING = """\
provider: acme
wire_formats: [tasks]
currency: USD
valid_from: {valid_from}
valid_until: {valid_until}
sources: [{{ref: price page, checked: 2026-11-01, authority: official}}]
billing: {{failed_tasks: refunded}}
tiers: [{{tier: silent}}]
quantity: [{{fact: duration_s}}]
rates:
  kling-v2-6: {{720p: {{silent: {rate}}}, 1080p: {{silent: {rate}}}}}
unpriced:
  - {{model: kling-v3, why: not sold}}
  - {{model: kling-v3-omni, why: not sold}}
  - {{model: kling-video-o1, why: not sold}}
"""


def test_a_request_is_not_dispatched_at_an_old_price(
    ledger: str, folder: Callable[..., Path], clock: Clock
) -> None:
    """A dispatch after a price change releases the reservation; the next admission reserves the new price."""
    before = CHANGING.format(valid_from="null", valid_until="2026-11-21T00:10:00Z", rate="0.1")
    after = CHANGING.format(valid_from="2026-11-21T00:10:00Z", valid_until="null", rate="0.9")
    files = {"prices/acme/2026-01-01.yaml": before, "prices/acme/2026-11-21.yaml": after}
    book = load_price_book(folder(files))
    budget = Budget(name="all", cap=Decimal(100), currency="USD")
    with VerifiedGuard(ledger, [budget], book=book, clock=clock) as guard:
        request = video("kling-v2.6", duration=5)
        first = guard.admit(request, project="trailer", key="k", provider="acme")
        assert first.reservation.reserved == Decimal("0.5")
        clock.pass_by(minutes=10)
        with pytest.raises(ReservationStateError, match="a new price took effect after reservation"):
            guard.dispatch(first)
        second = guard.admit(request, project="trailer", key="k", provider="acme")
        assert (second.reservation.reserved, guard.dispatch(second)) == (Decimal("4.5"), request)
        assert left(guard)[0] == Decimal("4.5")


def test_the_key_of_a_sent_job_is_reported_even_without_a_price(open_guard: OpenGuard) -> None:
    """Admitting a key whose job was sent reports the job, even if the request cannot be quoted now."""
    guard = open_guard()
    found = guard.bind(sent(guard, key="k"), "task-9")
    with pytest.raises(ReservationStateError) as caught:
        guard.admit(CLIP, project="trailer", key="k", provider="nobody")
    assert (caught.value.reservation_id, caught.value.task_id) == (found.id, "task-9")


@pytest.mark.parametrize(
    "wrong",
    [
        lambda guard: guard.admit(CLIP, project="trailer", labels=["user"]),
        lambda guard: guard.admit(CLIP | {"prompt": float("nan")}, project="trailer", allow_unknown=True),
        lambda guard: guard.admit(CLIP | {"prompts": {1, 2}}, project="trailer", allow_unknown=True),
        lambda guard: guard.record("qingbo", "t", 1, labels=None),
        lambda guard: guard.record("qingbo", "t", 1, labels={"project": "a"}, currency="usd"),
        lambda guard: guard.record(
            "qingbo", "t", 1, labels={"project": "a"}, at=datetime.max.replace(tzinfo=UTC)
        ),
        lambda guard: guard.reservation(None),
        lambda guard: guard.reservation(("qingbo", "t", "x")),
        lambda guard: guard.reservation("\ud800"),
        lambda guard: guard.observe(None, provider="qingbo"),
        lambda guard: guard.observe("[1]", provider="qingbo"),
        lambda guard: guard.observe({"task_id": "\ud800"}, provider="qingbo"),
        lambda guard: guard.observe({"task_id": "t"}, provider=[]),
        lambda guard: guard.bind("x", "y" * 201),
        lambda guard: guard.resolve("x", "perhaps"),
        lambda guard: guard.history(since="yesterday"),
    ],
)
def test_every_wrong_argument_raises_an_error_of_the_library(
    open_guard: OpenGuard, wrong: Callable[[Any], Any]
) -> None:
    """Every wrong argument raises a `KlingPricingError`, and nothing changes."""
    guard = open_guard()
    with pytest.raises(KlingPricingError):
        wrong(guard)
    assert (guard.history(), guard.unclaimed()) == ([], [])


def test_a_payload_that_contains_itself_is_refused(open_guard: OpenGuard) -> None:
    """A payload that contains itself is refused as nested too deeply."""
    payload: dict[str, Any] = video()
    payload["image_urls"] = [payload]
    with pytest.raises(WireFormatError, match="nested too deeply"):
        open_guard().admit(payload, project="trailer")


def test_a_reason_is_kept_without_urls_and_keys(open_guard: OpenGuard) -> None:
    """The URLs and keys in the text of an error do not get into the ledger."""
    guard = open_guard()
    error = "POST https://api.example.com/v1?key=abc failed: Bearer sk-abcdef1234567890, \ud800 timeout"
    found = guard.mark_in_doubt(sent(guard).id, error)
    assert found.reason == "POST [...] failed: [...] timeout"


def test_a_guard_can_be_opened_for_a_block(open_guard: OpenGuard) -> None:
    """A guard closes its ledger when the block ends and opens it again at the next use."""
    with open_guard() as guard:
        guard.admit(CLIP, project="trailer")
    assert len(guard.history()) == 1


# capping


def test_a_capped_request_is_the_best_that_fits(open_guard: OpenGuard) -> None:
    """The request is shortened first."""
    guard = open_guard(cap=Decimal("0.5"), on_exceed="cap")
    admission = guard.admit(CLIP, project="trailer")
    assert dict(admission.changes) == {"duration_s": 3}
    assert admission.quote.total == Decimal("0.4284")
    assert guard.dispatch(admission) == CLIP | {"duration": 3}
    assert left(guard) == (Decimal("0.4284"), 0, Decimal("0.0716"))


def test_an_error_of_a_capping_budget_names_the_cheapest_variant(open_guard: OpenGuard) -> None:
    """The error names the price of the cheapest valid variant."""
    guard = open_guard(cap=Decimal("0.1"), on_exceed="cap")
    with pytest.raises(BudgetExceededError, match=r"the cheapest valid variant costs 0\.2142 USD") as caught:
        guard.admit(CLIP, project="trailer")
    assert caught.value.cheapest == Decimal("0.2142")


def test_a_rejecting_budget_rejects_although_another_would_cap(open_guard: OpenGuard) -> None:
    """If one budget without room does not cap, the request is rejected."""
    guard = open_guard(
        Budget(name="caps", cap=Decimal("0.5"), currency="USD", on_exceed="cap"),
        Budget(name="rejects", cap=Decimal("0.5"), currency="USD"),
    )
    with pytest.raises(BudgetExceededError) as caught:
        guard.admit(CLIP, project="trailer")
    assert (caught.value.budget, caught.value.cheapest) == ("rejects", None)


def test_a_rejecting_budget_with_room_does_not_hinder_capping(open_guard: OpenGuard) -> None:
    """A rejecting budget with room counts the capped request, not the original."""
    guard = open_guard(
        Budget(name="caps", cap=Decimal("0.5"), currency="USD", on_exceed="cap"),
        Budget(name="rejects", cap=Decimal(5), currency="USD"),
    )
    guard.admit(CLIP, project="trailer")
    assert [bucket.held for bucket in guard.status()] == [Decimal("0.4284"), Decimal("0.4284")]
