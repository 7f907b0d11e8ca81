"""Observations may overtake the submission: their order and the moment of binding change no amount."""

from collections.abc import Callable, Iterator
from decimal import Decimal
from itertools import count
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kling_pricing import (
    Alert,
    Budget,
    BudgetGuard,
    Budgets,
    PriceBook,
    Reservation,
    ReservationStateError,
)
from tests.conftest import Clock, OpenGuard, examples
from tests.guards import left

RANGE: dict[str, Any] = {
    "model": "Kling-3.0-Omni",
    "prompt": "a tram",
    "seconds": "5",
    "image": "https://example.com/a.png",
    "metadata": {"output_config": {"resolution": "720P", "audio_generation": "Enabled"}},
}
"""A request whose quote is 4 to 5.5 CNY, because the image may be a reference."""

EXACT = {name: value for name, value in RANGE.items() if name != "image"}
"""The same request without the image: 4 CNY."""

CLIP = {"model_name": "kling-v3", "prompt": "a heron", "duration": "5", "mode": "pro", "sound": "on"}
SINGAPORE = "https://api-singapore.klingai.com/v1/videos/text2video"


def sent(guard: BudgetGuard, request: dict[str, Any]) -> str:
    """Admits and dispatches a request; returns the id of its reservation."""
    if request is CLIP:
        admission = guard.admit(request, project="trailer", provider="kling", url=SINGAPORE)
    else:
        admission = guard.admit(request, project="trailer", provider="tencent-vod", wire_format="openai_videos")
    guard.dispatch(admission)
    return admission.reservation_id


def made(spec: str, seconds: str | None = None, task_id: str = "v-1") -> dict[str, Any]:
    """Returns a response about a finished task whose model name states what is billed."""
    return {"id": task_id, "status": "completed", "model": f"kling-3.0-omni-{spec}", "seconds": seconds}


@pytest.mark.parametrize(
    ("request_body", "spec", "seconds", "billed"),
    [
        (RANGE, "720p-noref-audio", None, "4"),
        (RANGE, "720p-ref-audio", None, "5.5"),
        (RANGE, "720p-noref-mute", None, "4"),
        (EXACT, "1080p-ref-audio", None, "7"),
        (EXACT, "720p-noref-audio", "10", "8"),
        (EXACT, "720p-noref-mute", "3", "4"),
    ],
)
def test_facts_that_overtake_the_submission_count(
    open_guard: OpenGuard, request_body: dict[str, Any], spec: str, seconds: str | None, billed: str
) -> None:
    """An earlier response decides within a range, or raises an exact quote with an alert; never less."""
    alerts: list[Alert] = []
    guard = open_guard(currency="CNY", settings={"on_alert": alerts.append})
    reservation = sent(guard, request_body)
    assert guard.observe(made(spec, seconds), provider="tencent-vod", wire_format="openai_videos") is None
    (unclaimed,) = guard.unclaimed()
    assert unclaimed.facts["audio"] is spec.endswith("audio")
    settled = guard.bind(reservation, "v-1")
    assert (settled.state, settled.billed) == ("settled", Decimal(billed))
    assert left(guard)[:2] == (0, Decimal(billed))
    raised = Decimal(billed) > settled.expected
    assert [alert.kind for alert in alerts if alert.kind == "charge"] == ["charge"] * raised
    assert guard.bind(reservation, "v-1") == guard.reservation(reservation)


def test_a_response_with_other_facts_is_another_observation(open_guard: OpenGuard) -> None:
    """Of two early responses, the second of which states more, both count."""
    guard = open_guard(currency="CNY")
    reservation = sent(guard, EXACT)
    for body in ({"id": "v-1", "status": "completed"}, made("720p-noref-audio"), made("1080p-ref-audio")):
        guard.observe(body, provider="tencent-vod", wire_format="openai_videos")
    assert len(guard.unclaimed()) == 3
    assert guard.bind(reservation, "v-1").billed == 7


def test_other_facts_do_not_mark_a_refused_response_as_applied(open_guard: OpenGuard) -> None:
    """A response that was refused still counts later, after a response with other facts was applied."""
    guard = open_guard(currency="CNY")
    first = guard.bind(sent(guard, EXACT), "v-1")
    second = guard.bind(sent(guard, EXACT), "v-2")
    dearer, cheaper = made("1080p-ref-audio", task_id="v-2"), made("720p-noref-audio", task_id="v-2")
    with pytest.raises(ReservationStateError, match="bound to task v-2"):
        guard.observe(dearer, provider="tencent-vod", wire_format="openai_videos", reservation=first)
    for body, billed in ((cheaper, 4), (dearer, 7), (dearer, 7)):
        settled = guard.observe(body, provider="tencent-vod", wire_format="openai_videos")
        assert settled is not None
        assert (settled.id, settled.billed) == (second.id, Decimal(billed))
    guard.verify()


def test_an_early_list_price_raises_its_alert(open_guard: OpenGuard) -> None:
    """The list price of an early response is compared with the quote when the task is bound."""
    alerts: list[Alert] = []
    guard = open_guard(settings={"on_alert": alerts.append})
    reservation = sent(guard, CLIP)
    balance = {"quota": "6", "list_price": "6"}
    task = {"task_id": "t-1", "task_status": "succeed", "final_balance_deduction": balance}
    guard.observe({"code": 0, "data": task}, provider="kling")
    settled = guard.bind(reservation, "t-1")
    assert settled.billed == 6
    details = [alert.detail or "" for alert in alerts if alert.kind == "charge"]
    assert ["the list price in the response is 6 USD" in detail for detail in details] == [True]


@pytest.mark.parametrize("unbindable", ["unsent", "bound", "taken"])
def test_early_facts_do_not_hide_why_a_task_cannot_be_bound(open_guard: OpenGuard, unbindable: str) -> None:
    """The error is that of a task without observations."""
    guard = open_guard(cap="40", currency="CNY")
    reservation = sent(guard, EXACT)
    if unbindable == "unsent":
        options: dict[str, Any] = {"provider": "tencent-vod", "wire_format": "openai_videos"}
        reservation = guard.admit(EXACT, project="trailer", **options).reservation_id
    elif unbindable == "bound":
        guard.bind(reservation, "v-0")
    else:
        guard.bind(sent(guard, EXACT), "v-1")
    problem = {"unsent": "never dispatched", "bound": "v-0", "taken": "v-1"}[unbindable]
    guard.observe(made("1080p-ref-audio"), provider="tencent-vod", wire_format="openai_videos")
    before = guard.reservation(reservation)
    with pytest.raises(ReservationStateError, match=problem):
        guard.bind(reservation, "v-1")
    assert guard.reservation(reservation) == before


# the property


class Outcome(NamedTuple):
    """The end of a job, and what it told."""

    state: str
    billed: Decimal | None
    basis: str | None
    in_doubt: bool
    reason: str | None
    details: set[str]


def outcome(reservation: Reservation, alerts: list[Alert]) -> Outcome:
    """Returns the outcome of a job; the alerts are those of this job."""
    details = {alert.detail or "" for alert in alerts if alert.kind == "charge"}
    return Outcome(
        reservation.state,
        reservation.billed,
        reservation.basis,
        reservation.in_doubt,
        reservation.reason,
        details,
    )


_specs = st.builds(
    "-".join,
    st.tuples(
        st.sampled_from(["720p", "1080p", "4k"]),
        st.sampled_from(["ref", "noref"]),
        st.sampled_from(["audio", "mute"]),
    ),
)
_gateway = st.builds(
    lambda status, spec, seconds: (
        {"status": status, "seconds": seconds} | ({"model": f"kling-3.0-omni-{spec}"} if spec else {})
    ),
    st.sampled_from(["completed", "completed", "completed", "failed", "in_progress", "queued"]),
    st.none() | _specs,
    st.sampled_from([None, "3", "5", "10", "5.041"]),
)
_amounts = st.sampled_from([None, "", "0", "0.588", "0.84", "2.5", "6"])
_official = st.builds(
    lambda status, units, quota, listed: {
        "task_status": status,
        "final_unit_deduction": units,
        "final_balance_deduction": {"quota": quota, "list_price": listed},
    },
    st.sampled_from(["succeed", "succeed", "failed", "processing"]),
    _amounts,
    _amounts,
    _amounts,
)
_jobs = st.one_of(
    st.tuples(st.sampled_from([RANGE, EXACT]), st.lists(_gateway, min_size=1, max_size=4)),
    st.tuples(st.just(CLIP), st.lists(_official, min_size=1, max_size=4)),
)


@pytest.fixture
def ended(ledger: str, book: PriceBook, clock: Clock) -> Iterator[Callable[..., Outcome]]:
    """Yields a function that runs a job whose task is bound before some of its observations."""
    numbers = count()
    alerts: list[Alert] = []
    rates = [
        {"quote": "USD", "budget": "CNY", "rate": Decimal(7)},
        {"quote": "CNY", "budget": "USD", "rate": Decimal("0.14")},
    ]
    caps = [Budget(name=currency.lower(), cap=10**9, currency=currency) for currency in ("USD", "CNY")]
    budgets = Budgets(caps, accounting_rates=rates)
    with BudgetGuard(ledger, budgets, book=book, clock=clock, on_alert=alerts.append) as guard:

        def end(request: dict[str, Any], bodies: list[dict[str, Any]], bound_before: int) -> Outcome:
            task_id = f"p-{next(numbers)}"
            provider = "kling" if request is CLIP else "tencent-vod"
            alerts.clear()
            reservation = sent(guard, request)
            for place, body in enumerate(bodies):
                if place == bound_before:
                    guard.bind(reservation, task_id)
                name = "task_id" if request is CLIP else "id"
                seen = {name: task_id, **body}
                wire_format = "kling" if request is CLIP else "openai_videos"
                guard.observe(
                    {"data": seen} if request is CLIP else seen, provider=provider, wire_format=wire_format
                )
            if bound_before >= len(bodies):
                guard.bind(reservation, task_id)
            return outcome(guard.reservation(reservation), alerts)

        yield end
        guard.verify()


@settings(max_examples=examples(25), suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(job=_jobs, bound_before=st.integers(1, 4))
def test_the_moment_of_binding_changes_nothing(
    ended: Callable[..., Outcome], job: tuple[dict[str, Any], list[dict[str, Any]]], bound_before: int
) -> None:
    """A job that is bound late ends as the same job that is bound before the first observation."""
    request, bodies = job
    assert ended(request, bodies, bound_before) == ended(request, bodies, 0)
