"""From an admission to a job that was sent, on every kind of store: keys, dispatch, doubt, `with` blocks."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from kling_pricing import (
    Budget,
    BudgetExceededError,
    BudgetFrozenError,
    BudgetGuard,
    IdempotencyError,
    PriceBook,
    ReservationStateError,
    WireFormatError,
)
from kling_pricing.guard import freeze_all
from tests.conftest import AT, Clock, OpenGuard, video
from tests.guards import CLIP, COST, ZERO, VerifiedGuard, bound, left, sent

# keys


def test_a_key_gives_the_same_reservation_while_it_is_unsent(open_guard: OpenGuard) -> None:
    """Admitting a key again holds the money once and keeps the changes, even if more money is available now."""
    guard = open_guard(cap=Decimal("0.5"), on_exceed="cap")
    first = guard.admit(CLIP, project="trailer", key="k")
    raised = Budget(name="trailer", match={"project": "trailer"}, cap=Decimal(9), currency="USD")
    guard.apply([raised], allow_weaker=True)
    replay = guard.admit(CLIP, project="trailer", key="k")
    assert (replay.reservation_id, replay.changes, replay.quote.total) == (
        first.reservation_id,
        {"duration_s": 3},
        Decimal("0.4284"),
    )
    assert (first.replayed, replay.replayed) == (False, True)
    assert guard.dispatch(replay) == CLIP | {"duration": 3}
    assert left(guard)[0] == Decimal("0.4284")


@pytest.mark.parametrize("after", ["dispatch", "doubt", "bind", "settle"])
def test_a_key_whose_job_was_sent_never_makes_another(open_guard: OpenGuard, after: str) -> None:
    """Admitting the key of a sent job raises an error with the job's reservation, state and task."""
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
    """Admitting a released key makes a new reservation with a new quote."""
    guard = open_guard()
    first = sent(guard, key="k")
    guard.release_refused(first.id, "402")
    second = guard.admit(CLIP, project="trailer", key="k")
    assert [(each.id, each.attempt, each.state) for each in guard.history(key="k")] == [
        (first.id, 1, "released"),
        (second.reservation_id, 2, "reserved"),
    ]


@pytest.mark.parametrize("released", [False, True])
def test_a_key_stands_for_one_request(open_guard: OpenGuard, released: bool) -> None:  # noqa: FBT001
    """Admitting another request with the same key is an error, even after a release."""
    guard = open_guard()
    first = guard.admit(CLIP, project="trailer", key="k")
    if released:
        guard.release(first)
    with pytest.raises(IdempotencyError, match="belongs to a different request"):
        guard.admit(CLIP | {"duration": 6}, project="trailer", key="k")


def test_a_fresh_signature_or_callback_is_the_same_request(open_guard: OpenGuard) -> None:
    """Other query strings or callbacks make the same request; another file makes a different one."""
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


def test_a_request_that_is_not_json_has_no_key(open_guard: OpenGuard) -> None:
    """A value that JSON cannot represent cannot be compared with the request of a retry."""
    guard = open_guard()
    with pytest.raises(WireFormatError) as caught:
        guard.admit(CLIP | {"seed": {1, 2}}, project="trailer", allow_unknown=True)
    assert str(caught.value) == "the payload contains a value that is not JSON; use plain JSON data"


def test_keys_of_two_projects_are_two(ledger: str, book: PriceBook, clock: Clock) -> None:
    """The same key in two projects makes two reservations."""
    guard = VerifiedGuard(ledger, [Budget(name="all", cap=Decimal(9), currency="USD")], book=book, clock=clock)
    one, two = (guard.admit(CLIP, project=name, key="k") for name in ("one", "two"))
    assert one.reservation_id != two.reservation_id


def test_refusals_are_not_kept(open_guard: OpenGuard) -> None:
    """A key that was refused is admitted after the cap is raised."""
    guard = open_guard(cap=Decimal("0.1"))
    with pytest.raises(BudgetExceededError):
        guard.admit(CLIP, project="trailer", key="k")
    raised = Budget(name="trailer", match={"project": "trailer"}, cap=Decimal(1), currency="USD")
    guard.apply([raised], allow_weaker=True)
    assert guard.admit(CLIP, project="trailer", key="k").reservation.attempt == 1


# dispatch


def test_the_payload_is_given_out_once(open_guard: OpenGuard) -> None:
    """The second dispatch of an admission is an error."""
    guard = open_guard()
    admission = guard.admit(CLIP, project="trailer")
    assert guard.dispatch(admission) == CLIP
    with pytest.raises(ReservationStateError, match="is dispatching and cannot be dispatched"):
        guard.dispatch(admission)


def test_the_callers_payload_is_never_changed(open_guard: OpenGuard) -> None:
    """Changing the dispatched payload leaves the caller's payload unchanged."""
    guard = open_guard(cap=Decimal("0.5"), on_exceed="cap")
    payload = dict(CLIP)
    guard.dispatch(guard.admit(payload, project="trailer"))["prompt"] = "changed"
    assert payload == CLIP


def test_json_text_is_admitted_like_a_mapping(open_guard: OpenGuard) -> None:
    """JSON text is dispatched as the object that it represents."""
    guard = open_guard()
    admission = guard.admit('{"model": "kling-v3", "prompt": "纸船"}', project="trailer")
    assert guard.dispatch(admission) == {"model": "kling-v3", "prompt": "纸船"}


def test_an_unsent_reservation_expires(open_guard: OpenGuard, clock: Clock) -> None:
    """An expired reservation frees its money and cannot be dispatched."""
    guard = open_guard(cap=COST)
    old = guard.admit(CLIP, project="trailer")
    clock.pass_by(minutes=15)
    with pytest.raises(ReservationStateError, match="is released and cannot be dispatched"):
        guard.dispatch(old)
    assert guard.reservation(old).reason == "expired"
    assert left(guard) == (0, 0, COST)
    new = guard.admit(CLIP, project="trailer")
    clock.pass_by(minutes=15)
    assert left(guard) == (0, 0, COST)  # although no verb has released it yet
    guard.verify()
    assert guard.admit(CLIP, project="trailer").reservation_id != new.reservation_id


def test_pre_submit_admits_and_dispatches(open_guard: OpenGuard) -> None:
    """`pre_submit` admits and dispatches, and returns the payload to send."""
    guard = open_guard(cap=Decimal("0.5"), on_exceed="cap")
    assert guard.pre_submit(CLIP, project="trailer") == CLIP | {"duration": 3}
    assert [each.state for each in guard.history()] == ["dispatching"]
    with pytest.raises(BudgetExceededError):
        guard.pre_submit(CLIP, project="trailer")


# doubt


def told(guard: BudgetGuard) -> list[tuple[Any, ...]]:
    """Returns the journal without ids: kinds, budgets, amounts and details."""
    return [(entry.kind, entry.budget, entry.held, entry.spent, entry.detail) for entry in guard.journal()]


@pytest.mark.parametrize("cap", [Decimal(10), Decimal("0.5")], ids=["unchanged", "capped"])
def test_one_transaction_has_the_effect_of_two(open_guard: OpenGuard, cap: Decimal) -> None:
    """Admitting and dispatching at once writes the same reservation and journal as one after the other."""
    guard = open_guard(cap=cap, on_exceed="cap", match={"project": "*"}, alerts=(Decimal("0.01"),))
    admitted = guard.admit(CLIP, project="trailer", labels={"user": "li"})
    payload = guard.dispatch(admitted)
    before = told(guard)
    admission, body = guard.admit_and_dispatch(CLIP, project="teaser", labels={"user": "li"})
    assert (body, admission.dispatched, admission.replayed) == (payload, True, False)
    assert admission.quote == admitted.quote
    assert [line for line in before if line[0] != "revision"] == told(guard)[len(before) :]
    two, one = guard.reservation(admitted), guard.reservation(admission)
    own: dict[str, Any] = {
        "id": "",
        "key": "",
        "project": "",
        "labels": {},
        "created_at": AT,
        "dispatched_at": AT,
        "deadline": AT,
    }
    assert one._replace(**own, fingerprint="") == two._replace(**own, fingerprint="")
    assert one.deadline - one.created_at == two.deadline - two.created_at == timedelta(minutes=5)
    assert admission.reservation == one
    with pytest.raises(ReservationStateError, match="dispatching"):
        guard.dispatch(admission)


def test_one_transaction_dispatches_an_unsent_reservation(open_guard: OpenGuard) -> None:
    """Admitting and dispatching the key of an unsent reservation hands out its payload, and only once."""
    guard = open_guard(cap=Decimal("0.5"), on_exceed="cap")
    first = guard.admit(CLIP, project="trailer", key="k")
    raised = Budget(name="trailer", match={"project": "trailer"}, cap=Decimal(9), currency="USD")
    guard.apply([raised], allow_weaker=True)
    admission, body = guard.admit_and_dispatch(CLIP, project="trailer", key="k")
    assert (admission.reservation_id, admission.replayed) == (first.reservation_id, True)
    assert body == CLIP | {"duration": 3}
    with pytest.raises(ReservationStateError, match="dispatching"):
        guard.admit_and_dispatch(CLIP, project="trailer", key="k")
    with pytest.raises(IdempotencyError):
        guard.admit_and_dispatch(CLIP | {"duration": 10}, project="trailer", key="k")


def test_one_transaction_after_an_expiry_makes_a_new_attempt(open_guard: OpenGuard, clock: Clock) -> None:
    """Admitting and dispatching the key of an expired reservation releases that one and sends a new one."""
    guard = open_guard()
    guard.admit(CLIP, project="trailer", key="k")
    clock.pass_by(minutes=15)
    admission, _ = guard.admit_and_dispatch(CLIP, project="trailer", key="k")
    assert [(job.attempt, job.state) for job in guard.history()] == [(1, "released"), (2, "dispatching")]
    assert left(guard)[0] == COST
    assert admission.reservation.attempt == 2


@pytest.mark.parametrize("known", [False, True], ids=["new", "replayed"])
def test_one_transaction_is_refused_while_spending_is_frozen(
    open_guard: OpenGuard,
    ledger: str,
    known: bool,  # noqa: FBT001
) -> None:
    """While spending is frozen, nothing is admitted or dispatched at once, and nothing is changed."""
    guard = open_guard()
    if known:
        guard.admit(CLIP, project="trailer", key="k")
    freeze_all(ledger, actor="li", reason="the bill looks wrong")
    before = guard.history()
    with pytest.raises(BudgetFrozenError, match="the bill looks wrong"):
        guard.admit_and_dispatch(CLIP, project="trailer", key="k")
    assert guard.history() == before


def test_one_transaction_adopts_new_budgets_and_refuses_beyond_them(
    open_guard: OpenGuard, ledger: str, book: PriceBook, clock: Clock
) -> None:
    """A request beyond budgets that were just installed is refused, and leaves nothing behind."""
    guard = open_guard()
    other = VerifiedGuard(ledger, book=book, clock=clock)
    other.apply([Budget(name="trailer", match={"project": "trailer"}, cap=COST, currency="USD")])
    guard.admit_and_dispatch(CLIP, project="trailer")
    with pytest.raises(BudgetExceededError):
        guard.admit_and_dispatch(CLIP, project="trailer")
    assert [job.state for job in guard.history()] == ["dispatching"]


def test_a_dispatch_without_a_task_is_in_doubt_after_a_while(open_guard: OpenGuard, clock: Clock) -> None:
    """A dispatched reservation without a task is in doubt after a while, and its money stays held."""
    guard = open_guard()
    found = sent(guard)
    assert guard.in_doubt() == []
    clock.pass_by(days=400)
    assert [each.id for each in guard.in_doubt()] == [found.id]
    assert guard.reservation(found.id).in_doubt
    assert left(guard)[0] == COST


def test_doubt_can_be_marked_at_once_and_ends_with_a_task(open_guard: OpenGuard) -> None:
    """A reservation marked in doubt is no longer in doubt once it is bound to a task."""
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
    """An operator's decision spends the money of a doubtful reservation or gives it back."""
    guard = open_guard()
    found = guard.mark_in_doubt(sent(guard).id, "timeout")
    assert guard.resolve(found.id, outcome, amount=amount).state == state
    assert left(guard)[:2] == (0, spent)


def test_a_person_can_correct_a_settled_amount(open_guard: OpenGuard) -> None:
    """An operator corrects a settled reservation with `settle`; `resolve` refuses to change it."""
    guard = open_guard()
    found = guard.settle(bound(guard))
    with pytest.raises(ReservationStateError, match="settle the reservation at 0 with the basis `operator`"):
        guard.resolve(found, "not_charged")
    with pytest.raises(
        ReservationStateError, match="to correct the amount, settle the reservation with the basis `operator`"
    ):
        guard.resolve(found, "charged", amount="0.1")
    found = guard.settle(found, 0, basis="operator")
    assert (found.state, found.billed, found.basis) == ("settled", ZERO, "operator")
    assert guard.resolve(found, "charged").billed == ZERO


def test_only_a_sent_request_can_be_in_doubt(open_guard: OpenGuard) -> None:
    """A reservation that was never dispatched can be neither marked in doubt nor resolved."""
    guard = open_guard()
    admission = guard.admit(CLIP, project="trailer")
    with pytest.raises(ReservationStateError, match="release the reservation"):
        guard.mark_in_doubt(admission, "timeout")
    with pytest.raises(ReservationStateError):
        guard.resolve(admission, "not_charged")


# the with block


def test_a_block_that_fails_before_dispatch_releases(open_guard: OpenGuard) -> None:
    """A block that fails before the dispatch releases the reservation."""
    guard = open_guard()
    with pytest.raises(ZeroDivisionError), guard.admission(CLIP, project="trailer") as admission:
        raise ZeroDivisionError
    found = guard.reservation(admission)
    assert (found.state, found.reason) == ("released", "ZeroDivisionError")


def test_a_block_that_fails_after_dispatch_leaves_doubt(open_guard: OpenGuard) -> None:
    """A block that fails after the dispatch leaves doubt; of the exception only its class is kept."""
    guard = open_guard()
    with (  # noqa: PT012 (the statements before the exception are tested)
        pytest.raises(TimeoutError),
        guard.admission(CLIP, project="trailer") as admission,
    ):
        guard.dispatch(admission)
        raise TimeoutError("POST https://api.example.com/ failed")
    found = guard.reservation(admission)
    assert (found.state, found.in_doubt, found.reason) == ("dispatching", True, "TimeoutError")


def test_a_block_that_fails_after_bind_changes_nothing(open_guard: OpenGuard) -> None:
    """A block that fails after `bind` leaves the reservation bound and not in doubt."""
    guard = open_guard()
    with (  # noqa: PT012 (the statements before the exception are tested)
        pytest.raises(ZeroDivisionError),
        guard.admission(CLIP, project="trailer") as admission,
    ):
        guard.dispatch(admission)
        guard.bind(admission, "task-1")
        raise ZeroDivisionError
    assert (guard.reservation(admission).state, guard.in_doubt()) == ("bound", [])


def test_a_block_that_never_dispatches_releases(open_guard: OpenGuard) -> None:
    """A block that ends without a dispatch releases the reservation."""
    guard = open_guard()
    with guard.admission(CLIP, project="trailer"):
        assert left(guard)[0] == COST
    assert left(guard) == (0, 0, 10)


def test_a_block_leaves_the_reservation_of_another_worker_alone(open_guard: OpenGuard) -> None:
    """A failing block does not release a reservation that another worker with the same key made."""
    guard = open_guard()
    first = guard.admit(CLIP, project="trailer", key="k")
    with pytest.raises(ZeroDivisionError), guard.admission(CLIP, project="trailer", key="k"):
        raise ZeroDivisionError
    guard.dispatch(first)
    assert guard.in_doubt() == []
    guard.bind(first, "task-1")


def test_a_job_can_be_dispatched_after_the_clock_has_stepped_back(open_guard: OpenGuard, clock: Clock) -> None:
    """A clock that steps back past the admission blocks no dispatch, and the job is in doubt in time."""
    guard = open_guard()
    admission = guard.admit(CLIP, project="trailer")
    clock.pass_by(minutes=-20)
    assert guard.dispatch(admission) == CLIP
    assert guard.in_doubt() == []
    clock.pass_by(minutes=25)
    assert [job.id for job in guard.in_doubt()] == [admission.reservation_id]
