"""The guard's contract, the same on every kind of store: what each verb does to a job and to the money."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, TypeAlias

import pytest

from kling_pricing import (
    Alert,
    Bucket,
    Budget,
    BudgetError,
    BudgetExceededError,
    BudgetGuard,
    Budgets,
    CapabilityError,
    IdempotencyError,
    KlingPricingError,
    LedgerError,
    LedgerUnavailableError,
    PriceBook,
    PriceNotFoundError,
    Reservation,
    ReservationNotFoundError,
    ReservationStateError,
    WireFormatError,
    load_price_book,
)
from kling_pricing.ledger import connect
from tests.conftest import Clock, video

CLIP = video(duration=5, resolution="1080p", audio=True)
COST = Decimal("0.714")
"""Of `CLIP` at qingbo: 5 s x 0.1428 USD."""

ZERO = Decimal(0)

OpenGuard = Callable[..., BudgetGuard]


@pytest.fixture
def open_guard(ledger: str, book: PriceBook, clock: Clock) -> OpenGuard:
    """Opens a guard on the test's ledger; the budgets are those given, or one of the keywords given."""

    def opened(*budgets: Budget, settings: dict[str, Any] | None = None, **budget: Any) -> BudgetGuard:
        one = {"name": "trailer", "match": {"project": "trailer"}, "cap": Decimal(10), "currency": "USD"}
        return BudgetGuard(
            ledger, budgets or [Budget(**one | budget)], book=book, clock=clock, **settings or {}
        )

    return opened


Amounts: TypeAlias = tuple[Decimal | int, ...]


def left(guard: BudgetGuard) -> Amounts:
    """Held, spent and available of the only bucket."""
    (bucket,) = guard.status()
    return bucket.held, bucket.spent, bucket.available


def sent(guard: BudgetGuard, **said: Any) -> Reservation:
    """The reservation of a clip that was dispatched."""
    admission = guard.admit(CLIP, project="trailer", **said)
    guard.dispatch(admission)
    return guard.reservation(admission)


def bound(guard: BudgetGuard, task_id: str = "task-1") -> Reservation:
    """The reservation of a clip that became a task."""
    return guard.bind(sent(guard).id, task_id)


def answer(status: str, task_id: str = "task-1", **fields: Any) -> dict[str, Any]:
    """A status response of the first provider's task system."""
    return {"task_id": task_id, "status": status, **fields}


# admission


def test_admitting_sets_the_quote_aside(open_guard: OpenGuard) -> None:
    """What is held is the quote, and nothing is spent."""
    guard = open_guard()
    admission = guard.admit(CLIP, project="trailer", key="shot-042", labels={"user": "li"})
    assert (admission.quote.total, admission.capped, dict(admission.changes)) == (COST, False, {})
    assert left(guard) == (COST, 0, Decimal("9.286"))
    kept = guard.reservation(admission.reservation_id)
    assert kept == admission.reservation
    assert (kept.state, kept.key, kept.labels) == ("reserved", "shot-042", {"project": "trailer", "user": "li"})
    assert (kept.expected, kept.reserved, kept.billed) == (COST, COST, None)


def test_the_last_nano_is_available_and_no_more(open_guard: OpenGuard) -> None:
    """A request that takes exactly what is left is admitted, and the next is refused with nothing left."""
    guard = open_guard(cap=COST)
    guard.admit(CLIP, project="trailer")
    with pytest.raises(BudgetExceededError) as caught:
        guard.admit(CLIP, project="trailer")
    error = caught.value
    assert (error.budget, error.requested, error.available) == ("trailer", COST, ZERO)
    assert (error.currency, error.window_end, error.cheapest) == ("USD", None, None)
    assert left(guard) == (COST, 0, 0)


def test_a_cap_that_lacks_one_nano_refuses(open_guard: OpenGuard) -> None:
    """There is no tolerance."""
    guard = open_guard(cap=COST - Decimal("0.000000001"))
    with pytest.raises(BudgetExceededError, match=r"takes 0\.714 USD, and budget trailer has 0\.713999999 USD"):
        guard.admit(CLIP, project="trailer")
    assert guard.history() == []


def test_every_budget_that_matches_must_fit(open_guard: OpenGuard) -> None:
    """If one lacks room, nothing is held in the others, and the error names the one that binds."""
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
    """What one user spends is not missed by another."""
    guard = open_guard(name="each", match={"user": "*"}, cap=Decimal(1))
    for user in ("li", "wu"):
        guard.admit(CLIP, project="trailer", labels={"user": user})
    with pytest.raises(BudgetExceededError, match="budget each of user li"):
        guard.admit(CLIP, project="trailer", labels={"user": "li"})
    assert [(bucket.labels, bucket.held) for bucket in guard.status()] == [
        ({"user": "li"}, COST),
        ({"user": "wu"}, COST),
    ]


def test_a_refused_request_leaves_nothing_behind(open_guard: OpenGuard) -> None:
    """Not even an empty bucket for its own label: whoever asks in vain cannot make the ledger grow."""
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
    """Unless the budgets say otherwise, no budget means no money."""
    guard = open_guard()
    with pytest.raises(BudgetExceededError, match="no budget is in force for project=other") as caught:
        guard.admit(CLIP, project="other")
    assert (caught.value.budget, caught.value.requested, caught.value.available) == (None, COST, ZERO)


def test_unmatched_requests_can_be_allowed(ledger: str, book: PriceBook, clock: Clock) -> None:
    """They are counted nowhere, and still leave once, under one key."""
    only = Budget(name="trailer", match={"project": "trailer"}, cap=Decimal(0), currency="USD")
    guard = BudgetGuard(ledger, Budgets([only], unmatched="allow"), book=book, clock=clock)
    admission = guard.admit(CLIP, project="other", key="k")
    guard.dispatch(admission)
    assert guard.settle(admission).billed == COST
    guard.verify()


def test_a_single_request_can_be_limited(open_guard: OpenGuard) -> None:
    """The limit binds although the cap has room, and the error says that it does."""
    guard = open_guard(max_request=Decimal("0.5"))
    with pytest.raises(BudgetExceededError, match=r"allows 0\.5 USD a request") as caught:
        guard.admit(CLIP, project="trailer")
    assert (caught.value.available, caught.value.window_end) == (Decimal("0.5"), None)


def test_what_cannot_be_quoted_is_never_admitted(open_guard: OpenGuard) -> None:
    """Invalid, unpriced and unreadable requests raise as in quoting, and leave no trace."""
    guard = open_guard()
    with pytest.raises(CapabilityError):
        guard.admit(video(duration=99), project="trailer")
    with pytest.raises(PriceNotFoundError):
        guard.admit(video("kling-v3-omni", resolution="4k", audio=True), project="trailer")
    with pytest.raises(WireFormatError):
        guard.admit("{", project="trailer")
    assert (guard.history(), guard.status()[0].held) == ([], ZERO)


def test_half_a_quota_is_reserved_as_a_whole_one(open_guard: OpenGuard) -> None:
    """How a provider rounds its own unit is not ours to guess, so the reservation can take either."""
    guard = open_guard()
    admission = guard.admit(video(resolution="4k", duration=5), project="trailer")
    assert admission.quote.total == Decimal("2.276725")
    assert (admission.reservation.expected, admission.reservation.reserved) == (
        Decimal("2.276725"),
        Decimal("2.276726"),
    )


def test_a_range_is_reserved_at_its_maximum(open_guard: OpenGuard) -> None:
    """What is not known is held as if it were the dearest; telling it holds what it costs."""
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
    told = guard.admit(
        request, project="trailer", media={"https://media.example.com/b.mp4": {"length_s": "10"}}
    )
    assert told.reservation.reserved == Decimal("1.134")


@pytest.mark.parametrize(
    ("said", "problem"),
    [
        ({"project": ""}, "project must be text"),
        ({"project": 5}, "project must be text"),
        ({"project": "a", "key": ""}, "key must be text"),
        ({"project": "a", "labels": {"user": "x" * 201}}, "label user must be text"),
        ({"project": "a", "labels": {"project": "b"}}, "say it once"),
        ({"project": "a", "labels": {f"l{n}": "x" for n in range(16)}}, "the most is 16"),
    ],
)
def test_names_that_cannot_be_kept_are_refused(
    open_guard: OpenGuard, said: dict[str, Any], problem: str
) -> None:
    """Each says what is wrong, and nothing is reserved."""
    guard = open_guard()
    with pytest.raises(KlingPricingError, match=problem):
        guard.admit(CLIP, **said)
    assert guard.history() == []


def test_a_guards_budgets_hold_however_late_the_ledgers_turn_comes(
    ledger: str, book: PriceBook, clock: Clock
) -> None:
    """If days pass between the quote and the transaction, the day it then is counts."""
    day = Budget(name="day", match={"project": "trailer"}, cap=Decimal("0.1"), currency="USD", window="day")
    everyone = Budget(name="everyone", cap=Decimal(10), currency="USD")
    slow = [0]

    def late() -> datetime:
        slow[0] += 1
        return clock() + (timedelta(days=3) if slow[0] % 2 else timedelta(0))

    with BudgetGuard(ledger, [day, everyone], book=book, clock=late) as guard:
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


def test_a_price_that_changes_before_the_dispatch_is_not_sent_at_the_old_one(
    ledger: str, folder: Callable[..., Path], clock: Clock
) -> None:
    """The reservation is released, and the next admission reserves at the new price."""
    before = CHANGING.format(valid_from="null", valid_until="2026-11-21T00:10:00Z", rate="0.1")
    after = CHANGING.format(valid_from="2026-11-21T00:10:00Z", valid_until="null", rate="0.9")
    files = {"prices/acme/2026-01-01.yaml": before, "prices/acme/2026-11-21.yaml": after}
    book = load_price_book(folder(files))
    budget = Budget(name="all", cap=Decimal(100), currency="USD")
    with BudgetGuard(ledger, [budget], book=book, clock=clock) as guard:
        request = video("kling-v2.6", duration=5)
        first = guard.admit(request, project="trailer", key="k", provider="acme")
        assert first.reservation.reserved == Decimal("0.5")
        clock.pass_by(minutes=10)
        with pytest.raises(ReservationStateError, match="before another price came into force"):
            guard.dispatch(first)
        second = guard.admit(request, project="trailer", key="k", provider="acme")
        assert (second.reservation.reserved, guard.dispatch(second)) == (Decimal("4.5"), request)
        assert left(guard)[0] == Decimal("4.5")


def test_a_key_whose_job_was_sent_says_so_even_when_it_has_no_price_any_more(open_guard: OpenGuard) -> None:
    """That the job is running matters more than that it cannot be quoted again."""
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
def test_whatever_is_wrong_is_said_in_our_own_words(open_guard: OpenGuard, wrong: Callable[[Any], Any]) -> None:
    """Never an error of Python's or the store's, and nothing changes."""
    guard = open_guard()
    with pytest.raises(KlingPricingError):
        wrong(guard)
    assert (guard.history(), guard.unmatched()) == ([], [])


def test_a_payload_that_contains_itself_is_refused(open_guard: OpenGuard) -> None:
    """It is no JSON."""
    payload: dict[str, Any] = video()
    payload["image_urls"] = [payload]
    with pytest.raises(WireFormatError, match="nested too deeply"):
        open_guard().admit(payload, project="trailer")


def test_a_reason_is_kept_without_what_must_not_be_kept(open_guard: OpenGuard) -> None:
    """The text of an error is what callers have at hand; its URLs and keys do not get into the ledger."""
    guard = open_guard()
    error = "POST https://api.example.com/v1?key=abc failed: Bearer sk-abcdef1234567890, \ud800 timeout"
    found = guard.mark_in_doubt(sent(guard).id, error)
    assert found.reason == "POST [...] failed: [...] timeout"


def test_a_guard_can_be_opened_for_a_block(open_guard: OpenGuard) -> None:
    """Its files are closed when the block ends."""
    with open_guard() as guard:
        guard.admit(CLIP, project="trailer")
    assert len(guard.history()) == 1


# capping


def test_a_capped_request_is_the_best_that_fits(open_guard: OpenGuard) -> None:
    """Shortening comes first; only what shortening cannot do is done by other means."""
    guard = open_guard(cap=Decimal("0.5"), on_exceed="cap")
    admission = guard.admit(CLIP, project="trailer")
    assert dict(admission.changes) == {"duration_s": 3}
    assert admission.quote.total == Decimal("0.4284")
    assert guard.dispatch(admission) == CLIP | {"duration": 3}
    assert left(guard) == (Decimal("0.4284"), 0, Decimal("0.0716"))


def test_an_error_of_a_capping_budget_names_the_cheapest_variant(open_guard: OpenGuard) -> None:
    """So that the caller knows what it would take."""
    guard = open_guard(cap=Decimal("0.1"), on_exceed="cap")
    with pytest.raises(BudgetExceededError, match=r"the cheapest valid variant takes 0\.2142 USD") as caught:
        guard.admit(CLIP, project="trailer")
    assert caught.value.cheapest == Decimal("0.2142")


def test_a_rejecting_budget_rejects_although_another_would_cap(open_guard: OpenGuard) -> None:
    """One budget that does not cap is enough."""
    guard = open_guard(
        Budget(name="caps", cap=Decimal("0.5"), currency="USD", on_exceed="cap"),
        Budget(name="rejects", cap=Decimal("0.5"), currency="USD"),
    )
    with pytest.raises(BudgetExceededError) as caught:
        guard.admit(CLIP, project="trailer")
    assert (caught.value.budget, caught.value.cheapest) == ("rejects", None)


def test_a_rejecting_budget_with_room_does_not_hinder_capping(open_guard: OpenGuard) -> None:
    """It counts what is sent, not what was asked."""
    guard = open_guard(
        Budget(name="caps", cap=Decimal("0.5"), currency="USD", on_exceed="cap"),
        Budget(name="rejects", cap=Decimal(5), currency="USD"),
    )
    guard.admit(CLIP, project="trailer")
    assert [bucket.held for bucket in guard.status()] == [Decimal("0.4284"), Decimal("0.4284")]


# keys


def test_a_key_gives_the_same_reservation_while_it_is_unsent(open_guard: OpenGuard) -> None:
    """The money is held once, and the changes are the same even when more has become available."""
    guard = open_guard(cap=Decimal("0.5"), on_exceed="cap")
    first = guard.admit(CLIP, project="trailer", key="k")
    guard.apply([Budget(name="trailer", match={"project": "trailer"}, cap=Decimal(9), currency="USD")])
    again = guard.admit(CLIP, project="trailer", key="k")
    assert (again.reservation_id, again.changes, again.quote.total) == (
        first.reservation_id,
        {"duration_s": 3},
        Decimal("0.4284"),
    )
    assert (first.replayed, again.replayed) == (False, True)
    assert guard.dispatch(again) == CLIP | {"duration": 3}
    assert left(guard)[0] == Decimal("0.4284")


@pytest.mark.parametrize("after", ["dispatch", "doubt", "bind", "settle"])
def test_a_key_whose_job_was_sent_never_makes_another(open_guard: OpenGuard, after: str) -> None:
    """The error carries what is known of the job."""
    guard = open_guard()
    found = sent(guard, key="k")
    if after == "doubt":
        guard.mark_in_doubt(found.id, "timeout")
    if after in {"bind", "settle"}:
        guard.bind(found.id, "task-1")
    if after == "settle":
        guard.settle(found.id)
    with pytest.raises(ReservationStateError) as caught:
        guard.admit(CLIP, project="trailer", key="k")
    state = {"dispatch": "dispatching", "doubt": "dispatching", "bind": "bound", "settle": "settled"}[after]
    assert (caught.value.reservation_id, caught.value.state) == (found.id, state)
    assert caught.value.task_id == ("task-1" if after in {"bind", "settle"} else None)
    assert len(guard.history()) == 1


def test_a_released_key_makes_a_new_attempt(open_guard: OpenGuard) -> None:
    """It is a new reservation, quoted anew."""
    guard = open_guard()
    first = sent(guard, key="k")
    guard.refused(first.id, "402")
    second = guard.admit(CLIP, project="trailer", key="k")
    assert [(each.id, each.attempt, each.state) for each in guard.history(key="k")] == [
        (first.id, 1, "released"),
        (second.reservation_id, 2, "reserved"),
    ]


@pytest.mark.parametrize("released", [False, True])
def test_a_key_stands_for_one_request(open_guard: OpenGuard, released: bool) -> None:  # noqa: FBT001
    """Another request under the same key is an error, even after a release."""
    guard = open_guard()
    first = guard.admit(CLIP, project="trailer", key="k")
    if released:
        guard.release(first)
    with pytest.raises(IdempotencyError, match="stands for another request"):
        guard.admit(CLIP | {"duration": 6}, project="trailer", key="k")


def test_a_fresh_signature_or_callback_is_the_same_request(open_guard: OpenGuard) -> None:
    """Query strings sign and expire, and callbacks say where to report; neither changes the job."""
    guard = open_guard()
    one = video("kling-video-o1", image_urls=["https://media.example.com/a.png?sig=1"])
    two = video(
        "kling-video-o1",
        image_urls=["https://media.example.com/a.png?sig=2"],
        callback_url="https://example.com/done",
    )
    three = video("kling-video-o1", image_urls=["https://media.example.com/b.png?sig=1"])
    first = guard.admit(one, project="trailer", key="k")
    assert guard.admit(two, project="trailer", key="k").reservation_id == first.reservation_id
    with pytest.raises(IdempotencyError):
        guard.admit(three, project="trailer", key="k")


def test_keys_of_two_projects_are_two(ledger: str, book: PriceBook, clock: Clock) -> None:
    """A key is a name within its project."""
    guard = BudgetGuard(ledger, [Budget(name="all", cap=Decimal(9), currency="USD")], book=book, clock=clock)
    one, two = (guard.admit(CLIP, project=name, key="k") for name in ("one", "two"))
    assert one.reservation_id != two.reservation_id


def test_refusals_are_not_kept(open_guard: OpenGuard) -> None:
    """After a top-up the same key succeeds."""
    guard = open_guard(cap=Decimal("0.1"))
    with pytest.raises(BudgetExceededError):
        guard.admit(CLIP, project="trailer", key="k")
    guard.apply([Budget(name="trailer", match={"project": "trailer"}, cap=Decimal(1), currency="USD")])
    assert guard.admit(CLIP, project="trailer", key="k").reservation.attempt == 1


# dispatch


def test_the_payload_is_given_out_once(open_guard: OpenGuard) -> None:
    """The second caller gets an error in its place."""
    guard = open_guard()
    admission = guard.admit(CLIP, project="trailer")
    assert guard.dispatch(admission) == CLIP
    with pytest.raises(ReservationStateError, match="is dispatching and cannot be dispatched"):
        guard.dispatch(admission)


def test_the_callers_payload_is_never_changed(open_guard: OpenGuard) -> None:
    """What is dispatched is a copy."""
    guard = open_guard(cap=Decimal("0.5"), on_exceed="cap")
    payload = dict(CLIP)
    guard.dispatch(guard.admit(payload, project="trailer"))["prompt"] = "changed"
    assert payload == CLIP


def test_json_text_is_admitted_like_a_mapping(open_guard: OpenGuard) -> None:
    """What is dispatched is the object that the text stands for."""
    guard = open_guard()
    admission = guard.admit('{"model": "kling-v3", "prompt": "纸船"}', project="trailer")
    assert guard.dispatch(admission) == {"model": "kling-v3", "prompt": "纸船"}


def test_an_unsent_reservation_expires(open_guard: OpenGuard, clock: Clock) -> None:
    """Its money is free for others, and it cannot be dispatched any more."""
    guard = open_guard(cap=COST)
    old = guard.admit(CLIP, project="trailer")
    clock.pass_by(minutes=15)
    with pytest.raises(ReservationStateError, match="is released and cannot be dispatched"):
        guard.dispatch(old)
    assert guard.reservation(old).reason == "expired"
    assert left(guard) == (0, 0, COST)
    new = guard.admit(CLIP, project="trailer")
    clock.pass_by(minutes=15)
    assert left(guard) == (0, 0, COST)  # although nothing has released it yet
    guard.verify()
    assert guard.admit(CLIP, project="trailer").reservation_id != new.reservation_id


def test_pre_submit_admits_and_dispatches(open_guard: OpenGuard) -> None:
    """The smallest hook gives back what to send."""
    guard = open_guard(cap=Decimal("0.5"), on_exceed="cap")
    assert guard.pre_submit(CLIP, project="trailer") == CLIP | {"duration": 3}
    assert [each.state for each in guard.history()] == ["dispatching"]
    with pytest.raises(BudgetExceededError):
        guard.pre_submit(CLIP, project="trailer")


# doubt


def test_a_dispatch_without_a_task_is_in_doubt_after_a_while(open_guard: OpenGuard, clock: Clock) -> None:
    """Doubt frees no money, however long it lasts."""
    guard = open_guard()
    found = sent(guard)
    assert guard.in_doubt() == []
    clock.pass_by(days=400)
    assert [each.id for each in guard.in_doubt()] == [found.id]
    assert guard.reservation(found.id).in_doubt
    assert left(guard)[0] == COST


def test_doubt_can_be_said_at_once_and_ends_with_a_task(open_guard: OpenGuard) -> None:
    """After a timeout nobody knows, until the task turns up."""
    guard = open_guard()
    found = guard.mark_in_doubt(sent(guard).id, "ReadTimeout")
    assert (found.in_doubt, found.reason) == (True, "ReadTimeout")
    assert not guard.bind(found.id, "task-1").in_doubt
    assert not guard.mark_in_doubt(found.id, "late").in_doubt


@pytest.mark.parametrize(
    ("outcome", "amount", "state", "spent"),
    [
        ("charged", None, "settled", COST),
        ("charged", "0.5", "settled", Decimal("0.5")),
        ("not_charged", None, "released", 0),
    ],
)
def test_a_person_can_resolve_doubt(
    open_guard: OpenGuard, outcome: Any, amount: str | None, state: str, spent: Decimal
) -> None:
    """The money is spent or given back, on the operator's word."""
    guard = open_guard()
    found = guard.mark_in_doubt(sent(guard).id, "timeout")
    assert guard.resolve(found.id, outcome, amount=amount).state == state
    assert left(guard)[:2] == (0, spent)


def test_a_person_can_correct_what_was_settled(open_guard: OpenGuard) -> None:
    """Not by resolving, which might be meant for what it was before, but by settling it at nothing."""
    guard = open_guard()
    found = guard.settle(bound(guard))
    with pytest.raises(ReservationStateError, match="settle it at 0 on the basis operator"):
        guard.resolve(found, "not_charged")
    found = guard.settle(found, 0, basis="operator")
    assert (found.state, found.billed, found.basis) == ("settled", ZERO, "operator")


def test_doubt_is_for_what_was_sent(open_guard: OpenGuard) -> None:
    """What was never dispatched is released instead."""
    guard = open_guard()
    admission = guard.admit(CLIP, project="trailer")
    with pytest.raises(ReservationStateError, match="release it"):
        guard.mark_in_doubt(admission, "timeout")
    with pytest.raises(ReservationStateError):
        guard.resolve(admission, "not_charged")


# the with block


def test_a_block_that_fails_before_dispatch_releases(open_guard: OpenGuard) -> None:
    """Nothing was sent, so nothing is held."""
    guard = open_guard()
    with pytest.raises(ZeroDivisionError), guard.admission(CLIP, project="trailer") as admission:
        raise ZeroDivisionError
    found = guard.reservation(admission)
    assert (found.state, found.reason) == ("released", "ZeroDivisionError")


def test_a_block_that_fails_after_dispatch_leaves_doubt(open_guard: OpenGuard) -> None:
    """It may be running; the message of the exception, which may show the request, is not kept."""
    guard = open_guard()
    with (  # noqa: PT012 (what the block did before is the point)
        pytest.raises(TimeoutError),
        guard.admission(CLIP, project="trailer") as admission,
    ):
        guard.dispatch(admission)
        raise TimeoutError("POST https://api.example.com/ failed")
    found = guard.reservation(admission)
    assert (found.state, found.in_doubt, found.reason) == ("dispatching", True, "TimeoutError")


def test_a_block_that_fails_after_bind_changes_nothing(open_guard: OpenGuard) -> None:
    """The task is known, so there is no doubt."""
    guard = open_guard()
    with (  # noqa: PT012 (what the block did before is the point)
        pytest.raises(ZeroDivisionError),
        guard.admission(CLIP, project="trailer") as admission,
    ):
        guard.dispatch(admission)
        guard.bind(admission, "task-1")
        raise ZeroDivisionError
    assert (guard.reservation(admission).state, guard.in_doubt()) == ("bound", [])


def test_a_block_that_never_dispatches_releases(open_guard: OpenGuard) -> None:
    """Leaving without sending gives the money back."""
    guard = open_guard()
    with guard.admission(CLIP, project="trailer"):
        assert left(guard)[0] == COST
    assert left(guard) == (0, 0, 10)


def test_a_block_leaves_alone_what_another_worker_made(open_guard: OpenGuard) -> None:
    """Of two workers with one key, the one that fails takes nothing from the one that sends."""
    guard = open_guard()
    first = guard.admit(CLIP, project="trailer", key="k")
    with pytest.raises(ZeroDivisionError), guard.admission(CLIP, project="trailer", key="k"):
        raise ZeroDivisionError
    guard.dispatch(first)
    assert guard.in_doubt() == []
    guard.bind(first, "task-1")


# binding


def test_binding_again_changes_nothing_and_another_task_is_an_error(open_guard: OpenGuard) -> None:
    """One reservation, one task."""
    guard = open_guard()
    found = bound(guard)
    assert guard.bind(found.id, "task-1") == found
    with pytest.raises(ReservationStateError, match="it is bound to task task-1") as caught:
        guard.bind(found.id, "task-2")
    assert caught.value.task_id == "task-1"


def test_a_task_belongs_to_one_reservation(open_guard: OpenGuard) -> None:
    """The error names the reservation that has it."""
    guard = open_guard()
    one, two = bound(guard), sent(guard)
    with pytest.raises(ReservationStateError, match=f"belongs to reservation {one.id}"):
        guard.bind(two.id, "task-1")


def test_what_was_never_dispatched_is_not_bound(open_guard: OpenGuard) -> None:
    """Only `dispatch` gives out what can become a task."""
    guard = open_guard()
    with pytest.raises(ReservationStateError, match="never dispatched"):
        guard.bind(guard.admit(CLIP, project="trailer"), "task-1")


def test_a_reservation_is_found_by_its_task(open_guard: OpenGuard) -> None:
    """Provider and task id are as good a name as the reservation's own."""
    guard = open_guard()
    found = bound(guard)
    assert guard.reservation(("qingbo", "task-1")) == found
    for unknown in ("nothing", ("qingbo", "task-2"), ("kling", "task-1")):
        with pytest.raises(ReservationNotFoundError, match="the ledger knows no"):
            guard.reservation(unknown)


# settling


def test_settling_spends_the_quote_or_what_was_charged(open_guard: OpenGuard) -> None:
    """What is not spent of what was held is free again."""
    guard = open_guard()
    one, two = bound(guard, "one"), bound(guard, "two")
    assert (guard.settle(one.id).billed, guard.settle(one.id).basis) == (COST, "quote")
    assert guard.settle(("qingbo", "two"), Decimal("0.7")).basis == "response"
    assert guard.reservation(two.id).billed == Decimal("0.7")
    assert left(guard) == (0, Decimal("1.414"), Decimal("8.586"))


def test_a_stronger_basis_replaces_a_weaker(open_guard: OpenGuard) -> None:
    """Quote, response, statement, operator: each may correct the ones before it, never the other way."""
    guard = open_guard()
    found = bound(guard)
    told = [(None, None), ("0.7", None), ("0.69", "statement"), ("0.68", "operator"), ("0.67", "operator")]
    for amount, basis in told:
        guard.settle(found.id, amount, basis=basis)  # type: ignore[arg-type]
    for amount, basis in (("0.5", "response"), ("0.5", "statement"), (None, None)):
        assert guard.settle(found.id, amount, basis=basis).billed == Decimal("0.67")  # type: ignore[arg-type]
    assert left(guard) == (0, Decimal("0.67"), Decimal("9.33"))
    assert [entry.spent for entry in guard.journal() if entry.kind == "settle"] == [
        COST,
        Decimal("-0.014"),
        Decimal("-0.01"),
        Decimal("-0.01"),
        Decimal("-0.01"),
    ]


def test_of_two_amounts_on_one_basis_the_dearer_holds(open_guard: OpenGuard) -> None:
    """So that it does not matter which comes first; saying a lower one is an error."""
    guard = open_guard()
    found = bound(guard)
    guard.settle(found.id, "0.7")
    assert guard.settle(found.id, "0.7").billed == Decimal("0.7")
    assert guard.settle(found.id, "0.71").billed == Decimal("0.71")
    with pytest.raises(ReservationStateError, match=r"settled at 0\.71 on the basis response"):
        guard.settle(found.id, "0.7")


@pytest.mark.parametrize("costs", [(0, 357000), (357000, 0), (357000, 300000), (300000, 357000)])
def test_of_two_answers_the_dearer_holds(open_guard: OpenGuard, costs: tuple[int, int]) -> None:
    """Callbacks may come in any order; what is spent does not depend on it."""
    guard = open_guard()
    found = bound(guard)
    for cost in costs:
        guard.observe(answer("completed", cost=cost), provider="qingbo")
    assert guard.reservation(found).billed == COST
    guard.verify()


@pytest.mark.parametrize("amount", [0.7, "0.7 USD", "-1", Decimal("NaN"), Decimal("-0.1"), True, "1e3"])
def test_an_amount_is_exact_or_refused(open_guard: OpenGuard, amount: Any) -> None:
    """A float is already rounded; nothing is guessed from text."""
    guard = open_guard()
    found = bound(guard)
    with pytest.raises(KlingPricingError, match="amount of money"):
        guard.settle(found.id, amount)
    assert guard.reservation(found.id).state == "bound"


def test_an_overrun_is_recorded_and_alerts(open_guard: OpenGuard) -> None:
    """What was billed is true even above the cap; it blocks only through what is left."""
    seen: list[Alert] = []
    guard = open_guard(cap=Decimal(1), settings={"on_alert": seen.append})
    found = bound(guard)
    guard.settle(found.id, "1.5")
    assert left(guard) == (0, Decimal("1.5"), Decimal("-0.5"))
    assert [(alert.kind, alert.budget, alert.used, alert.reservation_id) for alert in seen] == [
        ("overrun", "trailer", Decimal("1.5"), found.id)
    ]
    with pytest.raises(BudgetExceededError):
        guard.admit(CLIP, project="trailer")


def test_release_is_for_what_was_not_sent(open_guard: OpenGuard) -> None:
    """What may be running keeps its money; a definite refusal gives it back; both can be said twice."""
    guard = open_guard()
    unsent = guard.admit(CLIP, project="trailer")
    assert guard.release(unsent, "changed my mind") == guard.release(unsent)
    dispatched = sent(guard)
    with pytest.raises(ReservationStateError, match="may be running"):
        guard.release(dispatched.id)
    assert guard.refused(dispatched.id, "402") == guard.refused(dispatched.id)
    accepted = bound(guard)
    with pytest.raises(ReservationStateError):
        guard.refused(accepted.id)
    assert left(guard) == (COST, 0, Decimal("9.286"))


def test_a_refusal_does_not_free_what_is_in_doubt(open_guard: OpenGuard, clock: Clock) -> None:
    """Another answer may have accepted it: a person has to know. That it is late is no such mark."""
    guard = open_guard()
    found = guard.mark_in_doubt(sent(guard).id, "sent again")
    with pytest.raises(
        ReservationStateError, match=r"in doubt and cannot be released: .* bind it or resolve it"
    ):
        guard.refused(found.id, "429")
    assert guard.reservation(found.id) == found
    assert left(guard)[0] == COST
    assert guard.resolve(found.id, "not_charged").state == "released"
    late = sent(guard)
    clock.pass_by(days=1)
    assert guard.reservation(late.id).in_doubt
    assert guard.refused(late.id, "429").state == "released"
    guard.verify()


def test_a_bill_after_a_release_is_spent_all_the_same(open_guard: OpenGuard) -> None:
    """What the provider charges is true, whatever it said before."""
    guard = open_guard()
    found = sent(guard)
    guard.refused(found.id, "500")
    assert guard.settle(found.id, "0.714").state == "settled"
    assert left(guard) == (0, COST, Decimal("9.286"))
    guard.verify()


def test_what_was_never_sent_is_never_billed(open_guard: OpenGuard) -> None:
    """A bill for it is somebody else's."""
    guard = open_guard()
    unsent = guard.admit(CLIP, project="trailer")
    with pytest.raises(ReservationStateError, match="never dispatched"):
        guard.settle(unsent)
    guard.release(unsent)
    with pytest.raises(ReservationStateError, match="never dispatched"):
        guard.settle(unsent, "0.714")


# observations


@pytest.mark.parametrize(
    ("seen", "state", "billed", "basis"),
    [
        (answer("queued"), "bound", None, None),
        (answer("processing", cost=1), "bound", None, None),
        (answer("unheard of"), "bound", None, None),
        (answer("completed"), "settled", COST, "quote"),
        (answer("completed", cost=357000), "settled", COST, "response"),
        (answer("completed", cost=350001), "settled", Decimal("0.700002"), "response"),
        (answer("completed", cost=0), "settled", 0, "response"),
        (answer("failed"), "released", None, None),
        (answer("failed", cost=0), "released", None, None),
        (answer("failed", cost=100), "settled", Decimal("0.0002"), "response"),
        (answer("cancelled", cost=0), "released", None, None),
    ],
)
def test_an_answer_settles_or_releases(
    open_guard: OpenGuard, seen: dict[str, Any], state: str, billed: Decimal | None, basis: str | None
) -> None:
    """The charge that is stated is believed (500,000 quota are 1 USD); a failed task is refunded here."""
    guard = open_guard()
    bound(guard)
    for _ in range(2):
        found = guard.observe(seen, provider="qingbo")
        assert found is not None
        assert (found.state, found.billed, found.basis) == (state, billed, basis)
    guard.verify()


@pytest.mark.parametrize(
    ("status", "fields", "state", "billed"),
    [
        ("succeed", {"final_unit_deduction": "6"}, "settled", Decimal("0.84")),
        ("succeed", {}, "settled", Decimal("0.84")),
        ("failed", {}, "settled", Decimal("0.84")),
        ("failed", {"final_unit_deduction": "0"}, "released", None),
    ],
)
def test_units_are_money_and_an_unconfirmed_refund_is_not_counted_on(
    open_guard: OpenGuard, status: str, fields: dict[str, str], state: str, billed: Decimal | None
) -> None:
    """A provider that does not say whether it refunds failed tasks is taken to charge them until it does."""
    guard = open_guard()
    request = {"model_name": "kling-v3", "prompt": "a boat", "mode": "pro", "sound": "on", "duration": "5"}
    admission = guard.admit(request, project="trailer")
    guard.dispatch(admission)
    guard.bind(admission, "task-1")
    found = guard.observe(
        {"code": 0, "data": {"task_id": "task-1", "task_status": status, **fields}}, provider="kling"
    )
    assert found is not None
    assert (found.state, found.billed) == (state, billed)


def test_a_webhook_that_overtakes_bind_is_not_lost(open_guard: OpenGuard) -> None:
    """It is remembered, shown as unmatched, and applied when the task is bound."""
    guard = open_guard()
    found = sent(guard)
    assert guard.observe(answer("completed", cost=357000), provider="qingbo") is None
    assert [(seen.task_id, seen.state) for seen in guard.unmatched()] == [("task-1", "succeeded")]
    assert guard.bind(found.id, "task-1").billed == COST
    assert guard.unmatched() == []


def test_an_answer_can_bind_the_reservation_it_belongs_to(open_guard: OpenGuard) -> None:
    """A submit response names the task; the caller says whose it is."""
    guard = open_guard()
    found = sent(guard)
    assert guard.observe(answer("queued"), provider="qingbo", reservation=found.id) == guard.reservation(
        ("qingbo", "task-1")
    )
    assert guard.reservation(found.id).state == "bound"
    with pytest.raises(LedgerError, match="is of provider qingbo"):
        guard.observe(answer("queued"), provider="qingbo-ai", reservation=found.id)


def test_an_answer_corrects_what_was_settled_at_the_quote(open_guard: OpenGuard) -> None:
    """A response is a stronger basis than the quote, also when it says that nothing was charged."""
    guard = open_guard()
    guard.settle(bound(guard).id)
    found = guard.observe(answer("failed"), provider="qingbo")
    assert found is not None
    assert (found.state, found.billed, found.basis) == ("settled", ZERO, "response")


def test_an_answer_that_names_no_task_or_nobody_is_refused(open_guard: OpenGuard) -> None:
    """The error says what is missing."""
    guard = open_guard()
    with pytest.raises(WireFormatError, match="names no task"):
        guard.observe({"status": "completed"}, provider="qingbo")
    with pytest.raises(PriceNotFoundError, match="unknown provider 'nobody'"):
        guard.observe(answer("completed"), provider="nobody")
    with pytest.raises(WireFormatError, match="cost must be"):
        guard.observe(answer("completed", cost=0.5), provider="qingbo")
    assert guard.unmatched() == []


def test_an_answer_as_text_is_read_exactly(open_guard: OpenGuard) -> None:
    """Bytes of a webhook need no decoding by the caller."""
    guard = open_guard()
    bound(guard)
    found = guard.observe(b'{"task_id": "task-1", "status": "completed", "cost": 357000}', provider="qingbo")
    assert found is not None
    assert found.billed == COST


@pytest.mark.parametrize(
    ("provider", "wire_format", "request_", "body"),
    [
        ("kling", "tasks", video(duration=5), {"task_id": "t", "status": "completed"}),
        (
            "tencent-vod",
            "openai_videos",
            {
                "model": "Kling-2.6",
                "prompt": "a boat",
                "duration": 5,
                "metadata": {"output_config": {"resolution": "720P"}},
            },
            {"id": "t", "status": "completed"},
        ),
    ],
)
def test_an_answer_is_read_in_the_format_of_its_reservation(
    open_guard: OpenGuard, provider: str, wire_format: str, request_: dict[str, Any], body: dict[str, str]
) -> None:
    """A provider may be reached through another API than its own, or have none of its own."""
    guard = open_guard(currency="CNY" if provider == "tencent-vod" else "USD")
    admission = guard.admit(request_, project="trailer", provider=provider, wire_format=wire_format)
    guard.dispatch(admission)
    guard.bind(admission, "t")
    found = guard.observe(body, provider=provider)
    assert found is not None
    assert (found.state, found.basis) == ("settled", "quote")


# spend from elsewhere


def test_recorded_spend_counts_whatever_the_cap_says(open_guard: OpenGuard) -> None:
    """It is booked once; the same task with something else is an error."""
    guard = open_guard(cap=Decimal(1))
    booked = guard.record("qingbo", "t-9", "1.25", labels={"project": "trailer"})
    assert (booked.state, booked.billed, booked.task_id) == ("settled", Decimal("1.25"), "t-9")
    assert guard.record("qingbo", "t-9", "1.25", labels={"project": "trailer"}) == booked
    with pytest.raises(IdempotencyError, match="task t-9 of qingbo is in the ledger already"):
        guard.record("qingbo", "t-9", "1.3", labels={"project": "trailer"})
    assert left(guard) == (0, Decimal("1.25"), Decimal("-0.25"))
    guard.verify()


def test_recorded_spend_counts_in_the_window_it_was_spent_in(open_guard: OpenGuard) -> None:
    """Last month's spend is not this month's."""
    guard = open_guard(window="month")
    guard.record(
        "qingbo", "t-9", "2", labels={"project": "trailer"}, at=datetime(2026, 10, 31, 23, 59, tzinfo=UTC)
    )
    assert left(guard)[1] == 0
    (october,) = guard.status(datetime(2026, 10, 5, tzinfo=UTC))
    assert (october.spent, october.window_end) == (Decimal(2), datetime(2026, 11, 1, tzinfo=UTC))


def test_a_bill_for_recorded_spend_is_not_counted_twice(open_guard: OpenGuard) -> None:
    """An answer about its task finds it, and has nothing stronger to say."""
    guard = open_guard()
    guard.record("qingbo", "task-1", "0.714", labels={"project": "trailer"})
    guard.observe(answer("completed", cost=1), provider="qingbo")
    assert left(guard)[1] == COST


def test_a_window_can_be_opened_with_what_was_spent_before(open_guard: OpenGuard) -> None:
    """Once, and for a bucket that exists."""
    guard = open_guard(window="month")
    guard.open_budget("trailer", "7.5")
    assert left(guard) == (0, Decimal("7.5"), Decimal("2.5"))
    with pytest.raises(IdempotencyError, match="opening balance already"):
        guard.open_budget("trailer", "1")
    with pytest.raises(BudgetError, match="there is no budget nothing; there are: trailer"):
        guard.open_budget("nothing", "1")
    with pytest.raises(BudgetError, match="told apart by labels: none"):
        guard.open_budget("trailer", "1", labels={"user": "li"})
    guard.verify()


def test_recorded_spend_does_not_take_a_callers_key(open_guard: OpenGuard) -> None:
    """If a caller has used the same name for a job, both are kept."""
    guard = open_guard()
    own = guard.admit(CLIP, project="trailer", key="qingbo:t-9")
    guard.record("qingbo", "t-9", "1", labels={"project": "trailer"})
    assert [each.id for each in guard.history(key="qingbo:t-9")] == [own.reservation_id]
    assert left(guard) == (COST, 1, Decimal("8.286"))


def test_an_amount_that_cannot_be_counted_is_refused(open_guard: OpenGuard) -> None:
    """A ledger counts up to four thousand million; beyond that is a mistake."""
    guard = open_guard()
    with pytest.raises(KlingPricingError, match="is too large; the most is 4000000000"):
        guard.record("qingbo", "t-9", "4000000001", labels={"project": "trailer"})
    for task_id in ("a", "b"):
        guard.record("qingbo", task_id, "4000000000", labels={"project": "trailer"})
    with pytest.raises(LedgerError, match="nothing was changed"):
        guard.record("qingbo", "c", "4000000000", labels={"project": "trailer"})
    assert left(guard)[1] == Decimal(8000000000)
    guard.verify()


# alerts


def test_each_threshold_alerts_once_a_window(open_guard: OpenGuard, clock: Clock) -> None:
    """Reaching it counts, passing it again does not, and a new window begins anew."""
    seen: list[Alert] = []
    alerts = [Decimal("0.5"), Decimal("0.714"), Decimal(1)]
    guard = open_guard(cap=Decimal(1), alerts=alerts, window="day", settings={"on_alert": seen.append})
    admission = guard.admit(CLIP, project="trailer")
    assert [(alert.kind, alert.threshold, alert.used, alert.cap) for alert in seen] == [
        ("threshold", Decimal("0.5"), COST, Decimal(1)),
        ("threshold", Decimal("0.714"), COST, Decimal(1)),
    ]
    guard.release(admission)
    guard.admit(CLIP, project="trailer")
    assert len(seen) == 2
    clock.pass_by(days=1)
    guard.admit(CLIP, project="trailer")
    assert len(seen) == 4
    assert [entry.detail for entry in guard.journal() if entry.kind == "alert"] == [
        "0.5 of 1",
        "0.714 of 1",
    ] * 2


def test_a_failing_alert_does_not_hide_the_admission(
    open_guard: OpenGuard, caplog: pytest.LogCaptureFixture
) -> None:
    """The money is set aside, so the caller must get the admission; the failure is logged."""

    def fail(_alert: Alert) -> None:
        raise ZeroDivisionError

    guard = open_guard(cap=Decimal(1), alerts=[Decimal("0.5")], settings={"on_alert": fail})
    assert guard.admit(CLIP, project="trailer").quote.total == COST
    assert "on_alert failed for budget trailer" in caplog.text


# windows and revisions


def test_a_reservation_settles_in_the_window_it_was_reserved_in(open_guard: OpenGuard, clock: Clock) -> None:
    """Midnight in Shanghai is four in the afternoon in UTC."""
    guard = open_guard(window="day", timezone="Asia/Shanghai")
    clock.now = datetime(2026, 11, 21, 15, 59, 59, tzinfo=UTC)
    found = bound(guard)
    clock.pass_by(seconds=1)
    guard.settle(found.id)
    assert left(guard) == (0, 0, 10)
    (before,) = guard.status(datetime(2026, 11, 21, 15, 59, 59, tzinfo=UTC))
    assert (before.spent, before.window_start, before.window_end) == (
        COST,
        datetime(2026, 11, 20, 16, tzinfo=UTC),
        datetime(2026, 11, 21, 16, tzinfo=UTC),
    )


def test_a_lowered_cap_blocks_and_takes_nothing_back(open_guard: OpenGuard) -> None:
    """What is held stays held; nothing more is admitted."""
    guard = open_guard()
    found = bound(guard)
    guard.apply([Budget(name="trailer", match={"project": "trailer"}, cap=Decimal("0.1"), currency="USD")])
    assert left(guard) == (COST, 0, Decimal("-0.614"))
    with pytest.raises(BudgetExceededError):
        guard.admit(CLIP, project="trailer")
    assert guard.settle(found.id).billed == COST


def test_a_running_guard_takes_up_a_new_revision(open_guard: OpenGuard, ledger: str) -> None:
    """The administrator's cap holds from the next admission on, in every guard."""
    guard, admin = open_guard(cap=Decimal("0.1")), BudgetGuard(ledger)
    with pytest.raises(BudgetExceededError):
        guard.admit(CLIP, project="trailer")
    admin.apply([Budget(name="trailer", match={"project": "trailer"}, cap=Decimal(1), currency="USD")])
    assert guard.admit(CLIP, project="trailer").quote.total == COST
    with pytest.raises(BudgetError, match="the ledger has other budgets"):
        open_guard(cap=Decimal("0.1"))


def test_a_guard_without_budgets_needs_a_ledger_that_has_some(ledger: str) -> None:
    """The error says what to do."""
    with pytest.raises(BudgetError, match="no budgets yet"):
        BudgetGuard(ledger)


def test_the_status_shows_each_budget(open_guard: OpenGuard) -> None:
    """Also one that nothing was spent of; amounts and windows are exact."""
    guard = open_guard(window="year")
    assert guard.status() == [
        Bucket(
            budget="trailer",
            labels={},
            cap=Decimal(10),
            held=Decimal(0),
            spent=Decimal(0),
            available=Decimal(10),
            currency="USD",
            window_start=datetime(2026, 1, 1, tzinfo=UTC),
            window_end=datetime(2027, 1, 1, tzinfo=UTC),
        )
    ]


def test_history_is_filtered_and_in_order(open_guard: OpenGuard, clock: Clock) -> None:
    """By project, key and time; the oldest first."""
    guard = open_guard(Budget(name="all", cap=Decimal(100), currency="USD"))
    for number in range(4):
        guard.admit(CLIP, project="ab"[number % 2], key=f"k{number}")
        clock.pass_by(minutes=1)
    start = guard.history()[0].created_at
    assert [each.key for each in guard.history()] == ["k0", "k1", "k2", "k3"]
    assert [each.key for each in guard.history(project="b")] == ["k1", "k3"]
    assert [
        each.key for each in guard.history(since=start.replace(minute=1), until=start.replace(minute=3))
    ] == [
        "k1",
        "k2",
    ]
    with pytest.raises(KlingPricingError, match="no time zone"):
        guard.history(since=datetime(2026, 11, 1))  # noqa: DTZ001 (that is the point)


def test_the_journal_tells_the_whole_story(open_guard: OpenGuard) -> None:
    """Every step stands there, with what it moved."""
    guard = open_guard()
    found = bound(guard)
    guard.observe(answer("completed", cost=350000), provider="qingbo")
    story = [(entry.kind, entry.held, entry.spent, entry.detail) for entry in guard.journal()]
    assert story[1:] == [
        ("reserve", COST, 0, None),
        ("dispatch", 0, 0, None),
        ("bind", 0, 0, None),
        ("settle", -COST, Decimal("0.7"), "response"),
    ]
    assert {entry.reservation_id for entry in guard.journal()[1:]} == {found.id}


def test_the_history_of_a_bucket_makes_its_balance(open_guard: OpenGuard, ledger: str, clock: Clock) -> None:
    """Windows that touch a period are there, each with its own entries, which add up to its balance."""
    first_day = clock.now
    guard = open_guard(
        Budget(name="daily", cap=Decimal(10), currency="USD", window="day"),
        Budget(name="each", match={"user": "*"}, cap=Decimal(10), currency="USD"),
    )
    first = bound(guard)
    clock.pass_by(days=1)
    guard.settle(first, "0.7")
    guard.release(guard.admit(CLIP, project="trailer", labels={"user": "li"}))
    guard.admit(CLIP, project="trailer", labels={"user": "wang"})
    store = connect(ledger, clock=clock)
    histories = store.bucket_histories(first_day, first_day + timedelta(days=2))
    assert [
        (each.bucket.budget, dict(each.bucket.labels), each.bucket.window_start.day) for each in histories
    ] == [
        ("daily", {}, 21),
        ("daily", {}, 22),
        ("each", {"user": "li"}, 1),
        ("each", {"user": "wang"}, 1),
    ]
    assert [[(entry.kind, entry.held, entry.spent) for entry in each.entries] for each in histories] == [
        [("reserve", COST, 0), ("settle", -COST, Decimal("0.7"))],
        [("reserve", COST, 0), ("release", -COST, 0), ("reserve", COST, 0)],
        [("reserve", COST, 0), ("release", -COST, 0)],
        [("reserve", COST, 0)],
    ]
    for each in histories:
        bucket = each.bucket
        assert sum(entry.held for entry in each.entries) == bucket.held
        assert sum(entry.spent for entry in each.entries) == bucket.spent
    assert [
        each.bucket.window_start.day
        for each in store.bucket_histories(first_day + timedelta(days=1), first_day + timedelta(days=2))
    ] == [22, 1, 1]
