"""What a provider says it took: counted to the last digit, or visibly open. On every kind of store."""

import json
import logging
from collections.abc import Callable, Iterator
from decimal import ROUND_CEILING, Decimal
from itertools import count
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kling_pricing import Alert, Budget, BudgetGuard, Budgets, PriceBook, Reservation, load_price_book
from kling_pricing.hooks.httpx import GuardedTransport
from kling_pricing.wire.charges import Charge
from kling_pricing.wire.task import Task
from tests.charges import charge
from tests.conftest import Clock, OpenGuard
from tests.guards import VerifiedGuard, left

SINGAPORE = "https://api-singapore.klingai.com/v1/videos/text2video"
BEIJING = "https://api-beijing.klingai.com/v1/videos/text2video"
CLIP = {"model_name": "kling-v3", "prompt": "a heron", "duration": "5", "mode": "pro", "sound": "on"}
PRICE = Decimal("0.84")
"""Of the clip: 5 s x 1.2 units x 0.14 USD."""

CASH = {"charge_type": "cash", "cash_type": "balance"}


def bound(guard: BudgetGuard, url: str | None = SINGAPORE, task_id: str = "t-1") -> Reservation:
    """Admits and dispatches the clip and binds it to a task."""
    admission = guard.admit(CLIP, project="trailer", provider="kling", url=url)
    guard.dispatch(admission)
    return guard.bind(admission, task_id)


def older(status: str = "succeed", units: Any = None, quota: Any = None, list_price: Any = None) -> Any:
    """Returns a status response of the older API."""
    balance = {"quota": quota, "list_price": list_price}
    task = {"task_id": "t-1", "task_status": status, "final_unit_deduction": units}
    return {"code": 0, "data": {**task, "final_balance_deduction": balance}}


def newer(*billing: dict[str, str], status: str = "succeeded") -> Any:
    """Returns a task as the newer API describes it."""
    outputs = [{"type": "video", "id": "v", "url": "https://example.com/v.mp4", "duration": "15.041"}]
    return {"id": "t-1", "status": status, "outputs": outputs, "billing": [*billing]}


def units(amount: str, kind: str = "video") -> dict[str, str]:
    """Returns an entry of `billing` in units of a pack."""
    return {"charge_type": "unit", "package_type": kind, "amount": amount}


def cash(amount: str, currency: str = "USD", **more: str) -> dict[str, str]:
    """Returns an entry of `billing` in money."""
    return {**CASH, "amount": amount, "currency": currency, **more}


@pytest.mark.parametrize(
    ("body", "billed"),
    [
        (older(units="6"), "0.84"),
        (older(units="5.5", list_price="9"), "0.77"),
        (older(units="0", quota="0.588", list_price="0.84"), "0.588"),
        (older(units="", quota=Decimal("0.588")), "0.588"),
        (older(quota="0.588"), "0.588"),
        (older(units="2.5", quota="0.49", list_price="0.49"), "0.84"),
        (older(units="0", quota="0"), "0"),
        (older(), None),
        (newer(units("6.00")), "0.84"),
        (newer(units("2.5"), cash("0.49")), "0.84"),
        (newer(units("2.5"), units("8", "image")), "0.378"),
        (newer(cash("0.588", list_price="0.84")), "0.588"),
        (newer(cash("0.588", "")), "0.588"),
        (newer(cash("0.588", cash_type="test_balance")), "0"),
        (newer(cash("6", "CNY", cash_type="test_balance"), units("1")), "0.14"),
        (newer(), None),
    ],
)
def test_the_parts_of_a_charge_add_up(open_guard: OpenGuard, body: Any, billed: str | None) -> None:
    """Pack units count by their kind, money as it was taken; without a charge, the quote counts."""
    guard = open_guard()
    bound(guard)
    for _ in range(2):
        settled = guard.observe(body, provider="kling")
        assert settled is not None
        basis = "quote" if billed is None else "response"
        amount = PRICE if billed is None else Decimal(billed)
        assert (settled.state, settled.billed, settled.basis) == ("settled", amount, basis)
    assert guard.in_doubt() == []


@pytest.mark.parametrize(
    "body",
    [
        older("failed", units="0", quota="0"),
        older("failed", quota="0"),
        older("failed", units="0"),
        newer(units("0"), status="failed"),
    ],
)
def test_a_failed_task_without_a_charge_is_released(open_guard: OpenGuard, body: Any) -> None:
    """A charge of nothing is named, so the price table's rule for failed tasks does not matter."""
    guard = open_guard()
    bound(guard)
    released = guard.observe(body, provider="kling")
    assert released is not None
    assert (released.state, left(guard)) == ("released", (0, 0, 10))


UNCLEAR = [
    (newer(cash("6", "CNY")), "6 CNY was paid, and the reservation is in USD"),
    (newer(units("2.5"), cash("6.00", "CNY")), "6 CNY was paid, and the reservation is in USD"),
    (
        newer(units("0.05", "audio")),
        "0.05 was paid in units of audio, and the price table gives no value for that unit",
    ),
    (
        newer(units("6") | {"charge_type": "voucher"}),
        "billing[0].charge_type is voucher, which is neither unit nor cash",
    ),
    (newer(units("much")), "billing[0].amount is much, which is not an exact amount"),
    (older(units="0"), "final_unit_deduction is 0, and final_balance_deduction does not state the amount paid"),
    (older("failed", units="many"), "final_unit_deduction is many, which is not an exact amount"),
    (newer(units("99999999999")), "the charge of 13999999999.86 USD is implausibly high"),
]


@pytest.mark.parametrize(("body", "reason"), UNCLEAR)
def test_a_charge_without_a_value_leaves_the_task_open(
    open_guard: OpenGuard, caplog: pytest.LogCaptureFixture, body: Any, reason: str
) -> None:
    """The money stays held, the reservation is in doubt with the reason, and an alert and the log name it."""
    alerts: list[Alert] = []
    guard = open_guard(settings={"on_alert": alerts.append})
    reservation = bound(guard)
    for _ in range(2):
        observed = guard.observe(body, provider="kling")
        assert observed is not None
        assert (observed.state, observed.in_doubt, observed.reason) == ("bound", True, reason)
    assert left(guard) == (PRICE, 0, 10 - PRICE)
    assert [found.id for found in guard.in_doubt()] == [reservation.id]
    assert [(alert.kind, alert.detail) for alert in alerts] == [("charge", reason)]
    assert [entry.detail for entry in guard.journal() if entry.kind == "doubt"] == [reason]
    assert reason in caplog.text


@pytest.mark.parametrize("moment", ["early", "late"])
def test_a_charge_that_no_budget_can_count_leaves_the_task_open(
    ledger: str, book: PriceBook, clock: Clock, moment: str
) -> None:
    """The charge may be too large only in the currency of a budget."""
    rates = [{"quote": "USD", "budget": "CNY", "rate": Decimal("7.1")}]
    budgets = Budgets([Budget(name="yuan", cap=10**6, currency="CNY")], accounting_rates=rates)
    with VerifiedGuard(ledger, budgets, book=book, clock=clock) as guard:
        if moment == "late":
            bound(guard)
        guard.observe(newer(cash("3000000000")), provider="kling")
        if moment == "early":
            bound(guard)
        (doubted,) = guard.in_doubt()
        assert doubted.reason == "the charge of 3000000000 USD is implausibly high"
        assert doubted.state == "bound"
        assert guard.status()[0].spent == 0


def test_a_charge_that_overtakes_its_submission_leaves_the_task_open(open_guard: OpenGuard) -> None:
    """An earlier callback is applied when the task is bound, with the same result."""
    guard = open_guard()
    assert guard.observe(newer(cash("6", "CNY")), provider="kling") is None
    reservation = bound(guard)
    assert (reservation.state, reservation.in_doubt) == ("bound", True)
    assert reservation.reason == "6 CNY was paid, and the reservation is in USD"


def by_response(guard: BudgetGuard, _reservation: str) -> Reservation | None:
    """Resolves a reservation with a response that names its charge."""
    return guard.observe(newer(units("6")), provider="kling")


def by_failure(guard: BudgetGuard, _reservation: str) -> Reservation | None:
    """Resolves a reservation with a response that says that nothing was charged."""
    return guard.observe(newer(units("0"), status="failed"), provider="kling")


@pytest.mark.parametrize(
    ("resolve", "state", "billed", "basis"),
    [
        (by_response, "settled", PRICE, "response"),
        (by_failure, "released", None, None),
        (lambda guard, ref: guard.settle(ref, "0.83", basis="statement"), "settled", "0.83", "statement"),
        (lambda guard, ref: guard.resolve(ref, "charged", amount="0.85"), "settled", "0.85", "operator"),
        (lambda guard, ref: guard.resolve(ref, "not_charged"), "released", None, None),
    ],
)
def test_an_open_charge_can_be_resolved(
    open_guard: OpenGuard,
    resolve: Callable[[BudgetGuard, str], Reservation],
    state: str,
    billed: str | Decimal | None,
    basis: str | None,
) -> None:
    """A later response, a statement or an operator settles or releases it; then it is in doubt no longer."""
    guard = open_guard()
    reservation = bound(guard)
    guard.observe(newer(cash("6", "CNY")), provider="kling")
    resolved = resolve(guard, reservation.id)
    amount = None if billed is None else Decimal(billed)
    assert (resolved.state, resolved.billed, resolved.basis) == (state, amount, basis)
    assert guard.in_doubt() == []
    assert guard.reservation(reservation.id).in_doubt is False


@pytest.mark.parametrize(("outcome", "billed"), [("charged", "0.85"), ("not_charged", "0")])
def test_a_quote_that_a_charge_contradicts_is_in_doubt(
    open_guard: OpenGuard, outcome: Any, billed: str
) -> None:
    """The amount is spent at the quote already, so only a person or a better response can correct it."""
    guard = open_guard()
    reservation = bound(guard)
    guard.observe(newer(), provider="kling")
    doubted = guard.observe(newer(cash("6", "CNY")), provider="kling")
    assert doubted is not None
    assert (doubted.state, doubted.billed, doubted.basis, doubted.in_doubt) == ("settled", PRICE, "quote", True)
    assert [found.id for found in guard.in_doubt()] == [reservation.id]
    amount = {"amount": billed} if outcome == "charged" else {}
    resolved = guard.resolve(reservation.id, outcome, **amount)
    assert (resolved.billed, resolved.basis, resolved.in_doubt) == (Decimal(billed), "operator", False)
    assert left(guard)[1] == Decimal(billed)


def test_a_known_charge_is_not_put_in_doubt(open_guard: OpenGuard) -> None:
    """A response that cannot be read does not weaken an amount that a response named."""
    guard = open_guard()
    bound(guard)
    guard.observe(newer(units("6")), provider="kling")
    settled = guard.observe(newer(cash("6", "CNY")), provider="kling")
    assert settled is not None
    assert (settled.billed, settled.in_doubt) == (PRICE, False)


@pytest.mark.parametrize("url", [BEIJING, None])
def test_money_of_an_unknown_account_stays_open(open_guard: OpenGuard, url: str | None) -> None:
    """The price list is in USD, but an account in China, or at an unknown host, may be in another currency."""
    guard = open_guard()
    bound(guard, url)
    observed = guard.observe(older(units="0", quota="4.20"), provider="kling")
    assert observed is not None
    assert (observed.state, observed.in_doubt) == ("bound", True)
    assert observed.reason == (
        "4.2 was paid in money, and the currency of the account is not known; set account_currency in the "
        "price table"
    )


CONTRACT = """
extends: kling/2026-09-20
sources: [{ref: our contract, checked: 2026-11-20, authority: official}]
account_currency: CURRENCY
"""


@pytest.mark.parametrize(
    ("currency", "state", "reason"),
    [("USD", "settled", None), ("CNY", "bound", "0.588 CNY was paid, and the reservation is in USD")],
)
def test_a_contract_can_name_the_currency_of_the_account(
    tmp_path: Path, clock: Clock, currency: str, state: str, reason: str | None
) -> None:
    """It holds at every host."""
    folder = tmp_path / "tables" / "prices" / "kling"
    folder.mkdir(parents=True)
    (folder / "ours.yaml").write_text(CONTRACT.replace("CURRENCY", currency), encoding="utf-8")
    book = load_price_book(tmp_path / "tables")
    budget = Budget(name="all", cap=10, currency="USD")
    with VerifiedGuard(f"sqlite:///{tmp_path}/spend.db", [budget], book=book, clock=clock) as guard:
        bound(guard, BEIJING)
        observed = guard.observe(older(units="0", quota="0.588"), provider="kling")
        assert observed is not None
        assert (observed.state, observed.reason) == (state, reason)
        assert observed.billed == (Decimal("0.588") if currency == "USD" else None)


@pytest.mark.parametrize(
    ("body", "listed"),
    [
        (older(quota="0.84", list_price="0.84"), None),
        (older(units="2.5", quota="0.49", list_price="0.49"), None),
        (newer(units("2.5"), cash("0.2", list_price="0.49")), None),
        (older(quota="6", list_price="6"), "6"),
        (newer(units("2.5"), cash("0.49", list_price="0.50")), "0.85"),
    ],
)
def test_a_list_price_is_only_checked(open_guard: OpenGuard, body: Any, listed: str | None) -> None:
    """If it is not the price of the job, an alert names both, and the charge counts as it is given."""
    alerts: list[Alert] = []
    guard = open_guard(settings={"on_alert": alerts.append})
    bound(guard)
    settled = guard.observe(body, provider="kling")
    assert settled is not None
    assert (settled.state, settled.basis) == ("settled", "response")
    expected = (
        f"the list price in the response is {listed} USD, but the list price in the quote is 0.84 USD; the "
        "account may be in another currency, or the price may have changed"
    )
    charges = [alert.detail for alert in alerts if alert.kind == "charge"]
    assert charges == ([] if listed is None else [expected])


def test_a_list_price_is_not_compared_with_what_is_not_known(open_guard: OpenGuard) -> None:
    """Beside a problem it may be incomplete, and the price of a range is not one amount."""
    alerts: list[Alert] = []
    guard = open_guard(currency="CNY", settings={"on_alert": alerts.append})
    request: dict[str, Any] = {**OMNI, "seconds": "5", "image": "https://example.com/a.png"}
    request["metadata"] = {"output_config": {"resolution": "720P", "audio_generation": "Enabled"}}
    exact = {**request, "image": None}
    for number, (payload, problem) in enumerate([(exact, "a part is odd"), (request, None)]):
        quoted(guard, {name: value for name, value in payload.items() if value is not None}, f"v-{number}")
        seen = charge(("4", "CNY"), problem=problem, list_price=("9", "CNY"))
        guard.observe_task(Task(f"v-{number}", "succeeded", seen), provider="tencent-vod")
    assert not any("list price" in (alert.detail or "") for alert in alerts)


def test_a_list_of_tasks_settles_each(open_guard: OpenGuard) -> None:
    """Both shapes of a list are read; tasks that are not in the ledger leave no trace."""
    guard = open_guard()
    for number in range(4):
        bound(guard, task_id=f"t-{number}")
    tasks = [newer(units("6")) | {"id": f"t-{number}"} for number in (0, 1, 9)]
    page = {"code": 0, "data": {"result": tasks[1:], "count": 2, "next_cursor": "", "has_more": False}}
    assert guard.observe({"code": 0, "data": [tasks[0], tasks[2]]}, provider="kling") is None
    assert guard.observe(page, provider="kling") is None
    older_tasks = [older(units="5")["data"] | {"task_id": f"t-{number}"} for number in (2, 3)]
    guard.observe({"code": 0, "data": older_tasks[:1]}, provider="kling")
    guard.observe({"code": 0, "data": older_tasks}, provider="kling")
    assert guard.observe({"code": 0, "data": []}, provider="kling") is None
    assert [found.billed for found in guard.history()] == [PRICE, PRICE, Decimal("0.7"), Decimal("0.7")]
    assert guard.unclaimed() == []


def hooked(guard: BudgetGuard, body: Any, **options: Any) -> httpx.Client:
    """Returns a guarded client whose provider accepts a job and then describes it."""
    answers = iter([{"code": 0, "data": {"task_id": "t-1", "task_status": "submitted"}}, body])
    transport = httpx.MockTransport(lambda _request: httpx.Response(200, content=json.dumps(next(answers))))
    return httpx.Client(transport=GuardedTransport(transport, guard, project="trailer", **options))


@pytest.mark.parametrize(
    ("url", "body"),
    [
        (f"{SINGAPORE}/t-1", older(units="0", quota="0.588", list_price="0.84")),
        (SINGAPORE + "?pageNum=1&pageSize=30", {"code": 0, "data": [older(quota="0.588")["data"]]}),
        (
            "https://api-singapore.klingai.com/tasks?task_ids=t-1,t-2",
            {"code": 0, "data": [newer(cash("0.588")), newer(cash("9")) | {"id": "t-2"}]},
        ),
    ],
)
def test_hooks_settle_by_every_answer_about_a_task(open_guard: OpenGuard, url: str, body: Any) -> None:
    """A status response, a page of a list and a query of several tasks are read alike."""
    guard = open_guard()
    with hooked(guard, body) as client:
        client.post(SINGAPORE, json=CLIP)
        assert client.get(url).json() == body
    (reservation,) = guard.history()
    assert (reservation.state, reservation.billed) == ("settled", Decimal("0.588"))
    assert guard.unclaimed() == []


@pytest.mark.parametrize(
    ("url", "state"),
    [
        (SINGAPORE, "settled"),
        ("https://API.klingai.com./v1/videos/text2video", "settled"),
        (BEIJING, "bound"),
        ("http://localhost:8080/kling/v1/videos/text2video", "bound"),
    ],
)
def test_a_hook_knows_the_account_by_the_host(open_guard: OpenGuard, url: str, state: str) -> None:
    """Money without a currency counts at a host whose accounts have a known currency, and nowhere else."""
    guard = open_guard()
    with hooked(guard, older(quota="0.588"), hosts={"localhost:8080": "kling"}) as client:
        client.post(url, json=CLIP)
        client.get(f"{url}/t-1")
    (reservation,) = guard.history()
    assert (reservation.state, reservation.in_doubt) == (state, state == "bound")


# What was made

OMNI = {"model": "Kling-3.0-Omni", "prompt": "a tram"}


def quoted(guard: BudgetGuard, request: dict[str, Any], task_id: str = "v-1") -> Reservation:
    """Admits and dispatches a request of the OpenAI-shaped API and binds it to a task."""
    admission = guard.admit(request, project="trailer", provider="tencent-vod", wire_format="openai_videos")
    guard.dispatch(admission)
    return guard.bind(admission, task_id)


def omni(**config: str) -> dict[str, Any]:
    """Returns a request with an output configuration; by default 720p and silent."""
    return {
        **OMNI,
        "seconds": "5",
        "metadata": {"output_config": {"resolution": "720P", "audio_generation": "Disabled"} | config},
    }


@pytest.mark.parametrize(
    ("spec", "seconds", "billed", "remark"),
    [
        ("720p-noref-mute", None, "3", None),
        ("720p-noref-mute", "5", "3", None),
        ("720p-noref-mute", "5.041", "3", None),
        ("720p-noref-mute", "3", "3", None),
        (
            "1080p-ref-audio",
            None,
            "7",
            "1080p reference_audio (5 seconds), which costs 7 CNY",
        ),
        (
            "720p-noref-mute",
            "10",
            "6",
            "720p silent (10 seconds), which costs 6 CNY",
        ),
        (
            "4k-noref-mute",
            None,
            "3",
            "4k silent (5 seconds), which has no price",
        ),
    ],
)
def test_what_was_made_raises_what_is_spent(
    open_guard: OpenGuard, spec: str, seconds: str | None, billed: str, remark: str | None
) -> None:
    """Facts that state billing never lower an exact quote, and raise it with an alert that names both."""
    alerts: list[Alert] = []
    guard = open_guard(currency="CNY", settings={"on_alert": alerts.append})
    assert quoted(guard, omni()).expected == 3
    body = {"id": "v-1", "status": "completed", "model": f"kling-3.0-omni-{spec}", "seconds": seconds}
    for _ in range(2):
        settled = guard.observe(body, provider="tencent-vod")
        assert settled is not None
        assert (settled.state, settled.billed) == ("settled", Decimal(billed))
    details = [alert.detail for alert in alerts if alert.kind == "charge"]
    quote = "the quote was 3 CNY for kling-v3-omni 720p silent (5 seconds)"
    expected = f"the response describes kling-v3-omni {remark}; {quote}"
    assert details == ([] if remark is None else [expected])


def test_what_was_made_decides_within_a_range(open_guard: OpenGuard) -> None:
    """The quote is a range because an image may be a reference; the response says whether it was one."""
    guard = open_guard(currency="CNY")
    request: dict[str, Any] = {**OMNI, "seconds": "5", "image": "https://example.com/a.png"}
    request["metadata"] = {"output_config": {"resolution": "720P", "audio_generation": "Enabled"}}
    for number, (spec, billed) in enumerate([("noref-audio", "4"), ("ref-audio", "5.5"), ("noref-mute", "4")]):
        reservation = quoted(guard, request, f"v-{number}")
        assert (reservation.terms.minimum, reservation.expected) == (Decimal(4), Decimal("5.5"))
        body = {"id": f"v-{number}", "status": "completed", "model": f"kling-3.0-omni-720p-{spec}"}
        settled = guard.observe(body, provider="tencent-vod")
        assert settled is not None
        assert settled.billed == Decimal(billed)
        guard.settle(settled.id, 0, basis="operator")


def test_what_was_made_counts_after_an_earlier_settlement(open_guard: OpenGuard) -> None:
    """A reservation that an answer without facts settled at the quote is raised by one with facts."""
    guard = open_guard(currency="CNY")
    quoted(guard, omni())
    guard.observe({"id": "v-1", "status": "completed"}, provider="tencent-vod")
    body = {"id": "v-1", "status": "completed", "model": "kling-3.0-omni-1080p-ref-audio"}
    for _ in range(2):
        settled = guard.observe(body, provider="tencent-vod")
        assert settled is not None
        assert (settled.billed, settled.basis) == (Decimal(7), "response")


def test_what_was_made_counts_in_the_response_that_binds(
    open_guard: OpenGuard, caplog: pytest.LogCaptureFixture
) -> None:
    """A submission that is answered with a finished task settles at the price of what was made."""
    guard = open_guard(currency="CNY")
    admission = guard.admit(omni(), project="trailer", provider="tencent-vod", wire_format="openai_videos")
    guard.dispatch(admission)
    body = {"id": "v-1", "status": "completed", "model": "kling-3.0-omni-1080p-ref-audio"}
    settled = guard.observe(
        body,
        provider="tencent-vod",
        reservation=admission.reservation_id,
        wire_format="openai_videos",
    )
    assert settled is not None
    assert (settled.billed, settled.basis) == (Decimal(7), "response")
    assert "the quote was 3 CNY for kling-v3-omni 720p silent (5 seconds)" in caplog.text


def test_the_length_of_a_file_never_counts(open_guard: OpenGuard) -> None:
    """The file of a clip of 5 s may be longer; the API bills the seconds that were asked for."""
    guard = open_guard()
    bound(guard)
    videos = {"videos": [{"id": "v", "url": "https://example.com/v.mp4", "duration": "15.041"}]}
    body = {"data": {"task_id": "t-1", "task_status": "succeed", "task_result": videos}}
    settled = guard.observe(body, provider="kling")
    assert settled is not None
    assert (settled.billed, settled.basis) == (PRICE, "quote")


# Properties

_UNITS = {"USD": Decimal(1), "cash": Decimal(1), "unit": Decimal("0.14"), "video": Decimal("0.14")} | {
    "image": Decimal("0.0035")
}
_parts = st.lists(
    st.tuples(
        st.decimals("0", "999", places=6).map(lambda amount: format(amount, "f")),
        st.sampled_from([*_UNITS, *_UNITS, "CNY", "audio", "quota"]),
    ),
    min_size=1,
    max_size=4,
)


@pytest.fixture
def spender(ledger: str, book: PriceBook, clock: Clock) -> Iterator[Callable[[Charge, str], Reservation]]:
    """Yields a function that observes a charge of a new job, in a guard with plenty of money."""
    numbers = count()
    with BudgetGuard(ledger, [Budget(name="all", cap=10**9, currency="USD")], book=book, clock=clock) as guard:

        def spend(seen: Charge, state: str) -> Reservation:
            task_id = f"p-{next(numbers)}"
            bound(guard, task_id=task_id)
            observed = guard.observe_task(Task(task_id, state, seen), provider="kling")
            assert observed is not None
            return observed

        yield spend
        guard.verify()


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])  # a job each time
@given(parts=_parts, state=st.sampled_from(["succeeded", "failed", "cancelled"]))
def test_a_charge_is_settled_at_its_exact_sum_or_open(
    spender: Callable[[Charge, str], Reservation], parts: list[tuple[str, str]], state: str
) -> None:
    """No response that names a charge settles at the quote."""
    observed = spender(charge(*parts), state)
    owed = [(Decimal(amount), unit) for amount, unit in parts if Decimal(amount)]
    if any(unit not in _UNITS for _, unit in owed):
        assert (observed.state, observed.in_doubt, observed.billed) == ("bound", True, None)
        return
    total = sum((amount * _UNITS[unit] for amount, unit in owed), Decimal(0))
    if state != "succeeded" and not total:
        assert observed.state == "released"
    else:
        assert (observed.state, observed.billed, observed.basis) == ("settled", _up(total), "response")
    assert observed.in_doubt is False


def _up(amount: Decimal) -> Decimal:
    """Rounds an amount up to a billionth, as the ledger counts."""
    return amount.quantize(Decimal("1e-9"), ROUND_CEILING)


def test_a_problem_is_never_settled_at_the_quote(
    spender: Callable[[Charge, str], Reservation], caplog: pytest.LogCaptureFixture
) -> None:
    """Parts that were read beside a problem do not count either."""
    caplog.set_level(logging.WARNING)
    observed = spender(charge(("6", "unit"), problem="billing[1] is odd"), "succeeded")
    assert (observed.state, observed.reason) == ("bound", "billing[1] is odd")
