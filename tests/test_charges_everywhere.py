"""No answer that names a charge settles at the quote, whatever its shape and whichever way it arrives."""

import base64
import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime
from decimal import ROUND_CEILING, Decimal
from itertools import count
from typing import Any, NamedTuple

import httpx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from standardwebhooks import Webhook

from kling_pricing import Budget, BudgetGuard, KlingPricingError, PriceBook, Reservation
from kling_pricing.hooks.httpx import GuardedTransport
from kling_pricing.hooks.recovery import poll
from kling_pricing.hooks.webhooks import Webhooks
from tests.conftest import Clock, examples

SINGAPORE = "https://api-singapore.klingai.com"
SECRET = "whsec_" + base64.b64encode(b"a secret of the tests, 24 b").decode()
ZERO = Decimal(0)
VIDEO, IMAGE = Decimal("0.14"), Decimal("0.0035")
"""The worth of a unit of each pack, in USD."""


class Named(NamedTuple):
    """Fields of a task that name a charge.

    Attributes:
        fields: the fields.
        owed: the exact charge in USD; None: it has no value, so the task must stay open.
    """

    fields: dict[str, Any]
    owed: Decimal | None


# amounts


class Amount(NamedTuple):
    """An amount as a response writes it, and its value; None: it cannot be read."""

    written: Any
    value: Decimal | None


_exact = st.decimals("0", "9999", places=6).map(lambda value: Amount(format(value, "f"), value))
_whole = st.integers(0, 10**6).map(lambda value: Amount(value, Decimal(value)))
_odd = st.sampled_from(
    [
        *(
            "-1",
            "+1",
            " 1",
            "1 ",
            "1e2",
            "1E-3",
            ".5",
            "1.",
            "1,5",
            "0x1",
            "NaN",
            "Infinity",
            "ten",
            "\u0661",
            "--",
        ),
        *("9" * 16, "0." + "1" * 13, "1_0", "1/2", "0.1.2", "\u00bd"),
        *(True, False, [], ["1"], {}, {"amount": "1"}, [[1]], -1, 10**15, 10**30),
    ]
).map(lambda written: Amount(written, None))
_amounts = st.one_of(_exact, _exact, _whole, _odd)


def times(amount: Amount, worth: Decimal | None) -> Decimal | None:
    """Returns the worth of an amount of units; nothing is worth nothing in any unit."""
    if amount.value is None:
        return None
    if not amount.value:
        return ZERO
    return None if worth is None else amount.value * worth


def summed(parts: list[Decimal | None]) -> Decimal | None:
    """Returns an exact sum; None if a part is not known, or the sum is more than a video can cost."""
    known = [part for part in parts if part is not None]
    total = sum(known, ZERO)
    return total if len(known) == len(parts) and total <= 4 * 10**9 else None


# the newer official API


def _units(amount: Amount, kind: Any) -> Named:
    worths = {"video": VIDEO, "Video": VIDEO, "image": IMAGE}
    is_kind = isinstance(kind, str) and kind in {*worths, "audio", "try-on", "USD"}
    owed = times(amount, worths.get(kind)) if is_kind else None
    return Named({"charge_type": "unit", "package_type": kind, "amount": amount.written}, owed)


def _cash(amount: Amount, currency: Any, kind: Any) -> Named:
    fields = {"charge_type": "cash", "amount": amount.written}
    fields |= {
        name: value for name, value in (("currency", currency), ("cash_type", kind)) if value != "absent"
    }
    is_read = currency in ("USD", "usd", "", None, "absent", "CNY", "JPY") and amount.value is not None
    if not is_read or kind not in ("balance", "absent", None, "", "test_balance"):
        return Named(fields, None)
    if kind == "test_balance":
        return Named(fields, ZERO)
    return Named(fields, times(amount, None if currency in ("CNY", "JPY") else Decimal(1)))


_kinds = st.sampled_from(
    [
        "video",
        "video",
        "Video",
        "image",
        "audio",
        "try-on",
        "cash",
        "unit",
        "quota",
        "USD",
        "",
        None,
        7,
        ["video"],
        "a b",
    ]
)
_currencies = st.sampled_from(
    ["USD", "USD", "usd", "", None, "absent", "CNY", "JPY", "$", "dollar", 840, ["USD"]]
)
_cash_types = st.sampled_from(["balance", "balance", "absent", "", None, "test_balance", "voucher", "gift", 1])
_odd_entries: st.SearchStrategy[tuple[Any, None]] = st.sampled_from(
    [
        *(
            {},
            {"amount": "1"},
            {"charge_type": "unit"},
            {"charge_type": "voucher", "amount": "1"},
            "1",
            1,
            None,
            [],
        ),
        *(
            {"charge_type": ["unit"], "amount": "1", "package_type": "video"},
            {"charge_type": "UNIT", "amount": "1"},
        ),
    ]
).map(lambda entry: (entry, None))
_entries = st.one_of(
    st.builds(_units, _amounts, _kinds),
    st.builds(_cash, _amounts, _currencies, _cash_types),
    st.builds(_units, _exact, st.just("video")),
    _odd_entries,
)


def _billing(entries: list[Any]) -> Named:
    return Named({"billing": [entry[0] for entry in entries]}, summed([entry[1] for entry in entries]))


_billings = st.one_of(
    st.lists(_entries, min_size=1, max_size=4).map(_billing),
    st.sampled_from([{}, {"amount": "1"}, "6", 6, True, [[{"amount": "1"}]]]).map(
        lambda odd: Named({"billing": odd}, None)
    ),
)

# the older official API


def _deductions(units: Amount | None, quota: Amount | None) -> Named:
    fields: dict[str, Any] = {}
    if units is not None:
        fields["final_unit_deduction"] = units.written
    if quota is not None:
        fields["final_balance_deduction"] = {"quota": quota.written, "list_price": "0.84"}
    if units is not None and quota is None and units.value == 0:
        return Named(fields, None)  # an account that pays in money has 0 units too
    parts = [
        None if units is None else times(units, VIDEO),
        None if quota is None else times(quota, Decimal(1)),
    ]
    return Named(fields, summed([part for part, amount in zip(parts, (units, quota), strict=True) if amount]))


_older = st.one_of(
    st.builds(_deductions, _amounts, _amounts),
    st.builds(_deductions, _amounts, st.none()),
    st.builds(_deductions, st.none(), _amounts),
    st.sampled_from(["0.5", 1, [], ["0.5"], {"amount": "0.5"}, {"quota": None, "currency": "USD"}, True]).map(
        lambda odd: Named({"final_balance_deduction": odd}, None)
    ),
)

# quota of the task systems: 500,000 are 1 USD


def _cost(amount: Amount) -> Named:
    is_whole = amount.value is not None and not amount.value % 1
    return Named({"cost": amount.written}, times(amount, Decimal("0.000002")) if is_whole else None)


_quotas = st.one_of(_whole, _amounts).map(_cost)


class Api(NamedTuple):
    """An API: its job, and how it describes a task.

    Attributes:
        provider: the provider.
        url: the URL of submissions.
        job: a payload.
        status: the URL of a task's status.
        task: returns the description of a task.
        charges: the charges that it names.
    """

    provider: str
    url: str
    job: dict[str, Any]
    status: str
    task: Callable[[str, dict[str, Any]], dict[str, Any]]
    charges: st.SearchStrategy[Named]


def _newer_task(task_id: str, fields: dict[str, Any]) -> dict[str, Any]:
    return {"id": task_id, "status": "succeeded", "outputs": [], **fields}


def _older_task(task_id: str, fields: dict[str, Any]) -> dict[str, Any]:
    return {"task_id": task_id, "task_status": "succeed", **fields}


def _quota_task(task_id: str, fields: dict[str, Any]) -> dict[str, Any]:
    return {"task_id": task_id, "status": "completed", **fields}


APIS = [
    Api(
        "kling",
        f"{SINGAPORE}/omni-video/kling-3.0-omni",
        {"contents": [{"type": "prompt", "text": "a heron"}]},
        f"{SINGAPORE}/tasks?task_ids=",
        _newer_task,
        _billings,
    ),
    Api(
        "kling",
        f"{SINGAPORE}/v1/videos/text2video",
        {"model_name": "kling-v3", "prompt": "a heron"},
        f"{SINGAPORE}/v1/videos/text2video/",
        _older_task,
        st.one_of(_older, _billings),
    ),
    *(
        Api(
            provider,
            f"https://{host}/v1/tasks",
            {"model": "kling-v3", "prompt": "a heron", "duration": 5},
            f"https://{host}/v1/tasks/",
            _quota_task,
            _quotas,
        )
        for provider, host in (("qingbo", "www.qingbo.dev"), ("qingbo-ai", "api.qingbo.ai"))
    ),
]
"""The APIs whose responses name charges."""


class Job(NamedTuple):
    """A job that was sent and is not bound yet."""

    api: Api
    reservation: str
    task_id: str


WAYS = ["observe", "early", "list", "page", "hook", "hook list", "webhook", "poll", "submission"]


def arrive(guard: BudgetGuard, job: Job, task: dict[str, Any], way: str) -> None:
    """Delivers the description of a task to the guard; an answer that is refused changes nothing."""
    api = job.api
    if way not in {"early", "submission"}:
        guard.bind(job.reservation, job.task_id)
    wrapped = task if api.provider != "kling" or "status" in task else {"code": 0, "data": task}
    lists = {"list": {"data": [task, task]}, "page": {"data": {"result": [task], "has_more": False}}}
    text = json.dumps(lists.get(way.removeprefix("hook "), wrapped))
    if way in {"hook", "hook list"}:
        transport = GuardedTransport(httpx.MockTransport(lambda _: httpx.Response(200, content=text)), guard)
        with httpx.Client(transport=transport) as client:
            client.get(api.status + job.task_id)
    elif way == "poll":
        list(poll(guard, lambda _: (200, text.encode()), reservations=[guard.reservation(job.reservation)]))
    elif way == "webhook":
        now = datetime.now(UTC)
        headers = {"webhook-id": job.task_id, "webhook-timestamp": str(int(now.timestamp()))}
        headers["webhook-signature"] = Webhook(SECRET).sign(job.task_id, now, json.dumps(task))
        Webhooks(guard, SECRET, provider=api.provider).receive(json.dumps(task).encode(), headers)
    elif way == "submission":
        guard.observe(text, provider=api.provider, reservation=job.reservation)
    else:
        guard.observe(text, provider=api.provider)
    if way == "early":
        guard.bind(job.reservation, job.task_id)


@pytest.fixture
def sent(ledger: str, book: PriceBook, clock: Clock) -> Iterator[tuple[BudgetGuard, Callable[[Api], Job]]]:
    """Yields a guard with plenty of money, and a function that sends a job of an API."""
    numbers = count()
    with BudgetGuard(ledger, [Budget(name="all", cap=10**9, currency="USD")], book=book, clock=clock) as guard:

        def send(api: Api) -> Job:
            admission = guard.admit(api.job, project="p", url=api.url, provider=api.provider)
            guard.dispatch(admission)
            return Job(api, admission.reservation_id, f"t-{next(numbers)}")

        yield guard, send
        guard.verify()


@settings(
    max_examples=examples(40, long=1600),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data(), api=st.sampled_from(APIS), way=st.sampled_from(WAYS))
def test_a_named_charge_is_settled_exactly_or_left_open(
    sent: tuple[BudgetGuard, Callable[[Api], Job]], data: st.DataObject, api: Api, way: str
) -> None:
    """A charge that can be valued settles the job at its exact sum; any other leaves it open with a reason."""
    guard, send = sent
    job = send(api)
    charge = data.draw(api.charges)
    arrive(guard, job, api.task(job.task_id, charge.fields), way)
    ended = guard.reservation(job.reservation)
    _check(ended, charge.owed)


def _check(ended: Reservation, owed: Decimal | None) -> None:
    if owed is None:
        assert (ended.state, ended.in_doubt, ended.billed) == ("bound", True, None)
        assert ended.reason
    else:
        billed = owed.quantize(Decimal("1e-9"), ROUND_CEILING)
        assert (ended.state, ended.billed, ended.basis, ended.in_doubt) == (
            "settled",
            billed,
            "response",
            False,
        )


_json = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(10**20), 10**20),
        st.text(max_size=5),
        st.floats(allow_nan=False, allow_infinity=False),
    ),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
_NAMES = {
    "_newer_task": ["billing"],
    "_older_task": ["final_unit_deduction", "final_balance_deduction", "billing"],
    "_quota_task": ["cost"],
}


def _is_nothing(value: Any) -> bool:
    """Returns whether a value is empty, or an object whose fields are."""
    inside = value.values() if isinstance(value, dict) else ()
    return value in (None, "", [], {}) or (bool(inside) and all(each in (None, "") for each in inside))


@settings(
    max_examples=examples(40, long=1600),
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(data=st.data(), api=st.sampled_from(APIS), way=st.sampled_from(WAYS))
def test_any_json_in_the_place_of_a_charge_never_settles_at_the_quote(
    sent: tuple[BudgetGuard, Callable[[Api], Job]], data: st.DataObject, api: Api, way: str
) -> None:
    """Whatever stands there, the job settles by the response, stays open, or the response is refused."""
    guard, send = sent
    job = send(api)
    fields = {name: data.draw(_json) for name in _NAMES[api.task.__name__]}
    with suppress(KlingPricingError):
        arrive(guard, job, api.task(job.task_id, fields), way)
    ended = guard.reservation(job.reservation)
    if not all(_is_nothing(value) for value in fields.values()):
        assert ended.basis != "quote"
        assert ended.state == "settled" or ended.in_doubt or ended.task_id is None or way == "hook"
