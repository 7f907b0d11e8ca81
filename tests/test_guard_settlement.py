"""From a sent job to its cost, on every kind of store."""

from decimal import Decimal
from typing import Any
from unittest.mock import Mock

import pytest

from kling_pricing import (
    Alert,
    BudgetExceededError,
    KlingPricingError,
    LedgerError,
    PriceNotFoundError,
    ReservationNotFoundError,
    ReservationStateError,
    WireFormatError,
)
from kling_pricing.guard import Reference
from kling_pricing.wire.formats import wire_format as wire_format_named
from kling_pricing.wire.task import Task
from tests.charges import charge
from tests.conftest import Clock, OpenGuard, video
from tests.guards import CLIP, COST, ZERO, answer, bound, left, sent

# binding


def test_binding_again_changes_nothing_and_another_task_is_an_error(open_guard: OpenGuard) -> None:
    """Binding the same task again changes nothing; binding another task is an error."""
    guard = open_guard()
    found = bound(guard)
    assert guard.bind(found.id, "task-1") == found
    with pytest.raises(ReservationStateError, match="it is already bound to task task-1") as caught:
        guard.bind(found.id, "task-2")
    assert caught.value.task_id == "task-1"


def test_a_task_belongs_to_one_reservation(open_guard: OpenGuard) -> None:
    """Binding a task that has a reservation is an error that names that reservation."""
    guard = open_guard()
    one, two = bound(guard), sent(guard)
    with pytest.raises(ReservationStateError, match=f"belongs to reservation {one.id}"):
        guard.bind(two.id, "task-1")


def test_an_undispatched_reservation_cannot_be_bound(open_guard: OpenGuard) -> None:
    """A reservation that was never dispatched cannot be bound."""
    guard = open_guard()
    with pytest.raises(ReservationStateError, match="never dispatched"):
        guard.bind(guard.admit(CLIP, project="trailer"), "task-1")


def test_a_reservation_is_found_by_its_task(open_guard: OpenGuard) -> None:
    """A reservation can be looked up by its provider and task id."""
    guard = open_guard()
    found = bound(guard)
    assert guard.reservation(("qingbo", "task-1")) == found
    for unknown in ("nothing", ("qingbo", "task-2"), ("kling", "task-1")):
        with pytest.raises(ReservationNotFoundError, match="is not in this ledger"):
            guard.reservation(unknown)


# settling


def test_settling_spends_the_quote_or_the_charge(open_guard: OpenGuard) -> None:
    """Settling spends the quote or the amount charged and frees the rest."""
    guard = open_guard()
    one, two = bound(guard, "one"), bound(guard, "two")
    assert (guard.settle(one.id).billed, guard.settle(one.id).basis) == (COST, "quote")
    assert guard.settle(("qingbo", "two"), Decimal("0.7")).basis == "response"
    assert guard.reservation(two.id).billed == Decimal("0.7")
    assert left(guard) == (0, Decimal("1.414"), Decimal("8.586"))


def test_a_stronger_basis_replaces_a_weaker(open_guard: OpenGuard) -> None:
    """An amount on a stronger basis replaces one on a weaker basis, never the other way round."""
    guard = open_guard()
    found = bound(guard)
    amounts = [(None, None), ("0.7", None), ("0.69", "statement"), ("0.68", "operator"), ("0.67", "operator")]
    for amount, basis in amounts:
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
    """Of two amounts on the same basis the higher counts, and a lower one afterwards is an error."""
    guard = open_guard()
    found = bound(guard)
    guard.settle(found.id, "0.7")
    assert guard.settle(found.id, "0.7").billed == Decimal("0.7")
    assert guard.settle(found.id, "0.71").billed == Decimal("0.71")
    with pytest.raises(ReservationStateError, match=r"settled at 0\.71 USD with the basis response"):
        guard.settle(found.id, "0.7")


@pytest.mark.parametrize("costs", [(0, 357000), (357000, 0), (357000, 300000), (300000, 357000)])
def test_of_two_answers_the_dearer_holds(open_guard: OpenGuard, costs: tuple[int, int]) -> None:
    """Of two answers the dearer counts, whichever comes first."""
    guard = open_guard()
    found = bound(guard)
    for cost in costs:
        guard.observe(answer("completed", cost=cost), provider="qingbo")
    assert guard.reservation(found).billed == COST
    guard.verify()


@pytest.mark.parametrize("amount", [0.7, "0.7 USD", "-1", Decimal("NaN"), Decimal("-0.1"), True, "1e3"])
def test_an_amount_is_exact_or_refused(open_guard: OpenGuard, amount: Any) -> None:
    """Floats, negative amounts and text that is not a plain decimal are refused."""
    guard = open_guard()
    found = bound(guard)
    with pytest.raises(KlingPricingError, match="invalid amount"):
        guard.settle(found.id, amount)
    assert guard.reservation(found.id).state == "bound"


def test_an_overrun_is_recorded_and_alerts(open_guard: OpenGuard) -> None:
    """A bill above the cap is recorded and alerts, and blocks later requests through the balance."""
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


def test_only_an_unsent_request_is_released(open_guard: OpenGuard) -> None:
    """`release` is for unsent requests and `release_refused` for refused ones; both can be repeated."""
    guard = open_guard()
    unsent = guard.admit(CLIP, project="trailer")
    assert guard.release(unsent, "changed my mind") == guard.release(unsent)
    dispatched = sent(guard)
    with pytest.raises(ReservationStateError, match="may be running"):
        guard.release(dispatched.id)
    assert guard.release_refused(dispatched.id, "402") == guard.release_refused(dispatched.id)
    accepted = bound(guard)
    with pytest.raises(ReservationStateError):
        guard.release_refused(accepted.id)
    assert left(guard) == (COST, 0, Decimal("9.286"))


def test_a_refusal_does_not_release_a_doubtful_reservation(open_guard: OpenGuard, clock: Clock) -> None:
    """A refusal releases a late reservation, but not one that was marked in doubt."""
    guard = open_guard()
    found = guard.mark_in_doubt(sent(guard).id, "sent again")
    with pytest.raises(
        ReservationStateError, match=r"in doubt and cannot be released: .* bind or resolve the reservation"
    ):
        guard.release_refused(found.id, "429")
    assert guard.reservation(found.id) == found
    assert left(guard)[0] == COST
    assert guard.resolve(found.id, "not_charged").state == "released"
    late = sent(guard)
    clock.pass_by(days=1)
    assert guard.reservation(late.id).in_doubt
    assert guard.release_refused(late.id, "429").state == "released"
    guard.verify()


def test_a_bill_after_a_release_is_spent_all_the_same(open_guard: OpenGuard) -> None:
    """A bill after a release is spent."""
    guard = open_guard()
    found = sent(guard)
    guard.release_refused(found.id, "500")
    assert guard.settle(found.id, "0.714").state == "settled"
    assert left(guard) == (0, COST, Decimal("9.286"))
    guard.verify()


def test_an_unsent_request_is_never_billed(open_guard: OpenGuard) -> None:
    """A reservation that was never dispatched cannot be settled."""
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
    """A stated charge counts (500,000 quota are 1 USD), and a failed task is refunded at this provider."""
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
        ("failed", {}, "released", None),
        ("failed", {"final_unit_deduction": "6"}, "settled", Decimal("0.84")),
        ("failed", {"final_unit_deduction": "0"}, "released", None),
        ("failed", {"final_balance_deduction": {"quota": "0"}}, "released", None),
    ],
)
def test_units_are_converted_and_a_stated_deduction_counts(
    open_guard: OpenGuard, status: str, fields: dict[str, str], state: str, billed: Decimal | None
) -> None:
    """A failed task is free at this provider, unless its answer states a deduction."""
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


def test_an_unconfirmed_refund_is_not_assumed(open_guard: OpenGuard) -> None:
    """A failed task is settled at the quote if the provider's refunds are unconfirmed."""
    guard = open_guard(currency="CNY")
    settings = {"output_config": {"resolution": "720P", "audio_generation": "Disabled"}}
    request = {"model": "Kling-2.6", "prompt": "a boat", "duration": 5, "metadata": settings}
    admission = guard.admit(request, project="trailer", provider="tencent-vod")
    guard.dispatch(admission)
    guard.bind(admission, "t")
    found = guard.observe({"id": "t", "status": "failed"}, provider="tencent-vod")
    assert found is not None
    assert (found.state, found.billed, found.basis) == ("settled", Decimal("1.5"), "quote")


def test_a_webhook_that_overtakes_bind_is_not_lost(open_guard: OpenGuard) -> None:
    """An observation before `bind` is listed as unclaimed and applied when the task is bound."""
    guard = open_guard()
    found = sent(guard)
    assert guard.observe(answer("completed", cost=357000), provider="qingbo") is None
    assert [(seen.task_id, seen.state) for seen in guard.unclaimed()] == [("task-1", "succeeded")]
    assert guard.bind(found.id, "task-1").billed == COST
    assert guard.unclaimed() == []


def test_an_answer_can_bind_the_reservation_it_belongs_to(open_guard: OpenGuard) -> None:
    """A submit response binds the reservation that the caller passes."""
    guard = open_guard()
    found = sent(guard)
    assert guard.observe(answer("queued"), provider="qingbo", reservation=found.id) == guard.reservation(
        ("qingbo", "task-1")
    )
    assert guard.reservation(found.id).state == "bound"
    with pytest.raises(LedgerError, match="belongs to provider qingbo"):
        guard.observe(answer("queued"), provider="qingbo-ai", reservation=found.id)


def test_an_answer_corrects_an_amount_settled_at_the_quote(open_guard: OpenGuard) -> None:
    """A response replaces an amount settled at the quote, even if it says that nothing was charged."""
    guard = open_guard()
    guard.settle(bound(guard).id)
    found = guard.observe(answer("failed"), provider="qingbo")
    assert found is not None
    assert (found.state, found.billed, found.basis) == ("settled", ZERO, "response")


def test_an_answer_without_a_task_or_provider_is_refused(open_guard: OpenGuard) -> None:
    """An answer without a task and an unknown provider are refused with the reason."""
    guard = open_guard()
    with pytest.raises(WireFormatError, match="does not name a task"):
        guard.observe({"status": "completed"}, provider="qingbo")
    with pytest.raises(PriceNotFoundError, match="unknown provider 'nobody'"):
        guard.observe(answer("completed"), provider="nobody")
    assert guard.unclaimed() == []


def test_an_answer_as_text_is_read_exactly(open_guard: OpenGuard) -> None:
    """The bytes of an answer are read with exact numbers."""
    guard = open_guard()
    bound(guard)
    found = guard.observe(b'{"task_id": "task-1", "status": "completed", "cost": 357000}', provider="qingbo")
    assert found is not None
    assert found.billed == COST


def test_a_task_that_was_read_already_is_observed_like_its_answer(open_guard: OpenGuard) -> None:
    """`observe_task` settles a reservation by a task that was read already."""
    guard = open_guard()
    found = sent(guard)
    task = Task("task-1", "succeeded", charge(("350000", "quota")))
    settled = guard.observe_task(task, provider="qingbo", reservation=found)
    assert settled is not None
    assert (settled.id, settled.task_id, settled.billed) == (found.id, "task-1", Decimal("0.7"))
    assert guard.observe_task(Task(None, "succeeded"), provider="qingbo", reservation=found) == settled
    with pytest.raises(WireFormatError, match="does not name a task"):
        guard.observe_task(Task(None, "succeeded"), provider="qingbo")


@pytest.mark.parametrize("handed_in", ["admission", "reservation", "id"])
def test_an_answer_is_read_once_and_a_reservation_handed_in_is_not_looked_up(
    open_guard: OpenGuard, monkeypatch: pytest.MonkeyPatch, handed_in: str
) -> None:
    """An answer is parsed once; only a reservation passed by its id is looked up, once."""
    guard = open_guard()
    admission = guard.admit(CLIP, project="trailer")
    guard.dispatch(admission)
    references: dict[str, Reference] = {
        "admission": admission,
        "reservation": guard.reservation(admission),
        "id": admission.reservation_id,
    }
    store = guard._state.ledger  # noqa: SLF001 (its calls are counted)
    tasks = wire_format_named("tasks")
    look_up, read_task = Mock(wraps=store.reservation), Mock(wraps=tasks.read_task)
    monkeypatch.setattr(store, "reservation", look_up)
    monkeypatch.setattr(tasks, "read_task", read_task)
    observed = guard.observe(answer("queued"), provider="qingbo", reservation=references[handed_in])
    assert observed is not None
    assert (observed.state, observed.task_id) == ("bound", "task-1")
    assert read_task.call_count == 1
    assert look_up.call_count == (1 if handed_in == "id" else 0)


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
    """An answer is read in its reservation's wire format, even if the provider has another or none."""
    guard = open_guard(currency="CNY" if provider == "tencent-vod" else "USD")
    admission = guard.admit(request_, project="trailer", provider=provider, wire_format=wire_format)
    guard.dispatch(admission)
    guard.bind(admission, "t")
    found = guard.observe(body, provider=provider)
    assert found is not None
    assert (found.state, found.basis) == ("settled", "quote")


def test_a_task_id_is_short_text(open_guard: OpenGuard) -> None:
    """The error names the argument, and the reservation stays unbound."""
    guard = open_guard()
    reservation = sent(guard)
    wrong: dict[Any, str] = {"": "''", None: "null", 5: "5"}
    for task_id, shown in wrong.items():
        with pytest.raises(KlingPricingError) as caught:
            guard.bind(reservation.id, task_id)
        assert str(caught.value) == f"task_id must be text of 1 to 200 printable characters, got {shown}"
    assert guard.reservation(reservation.id).task_id is None
