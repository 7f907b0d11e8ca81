"""Signed callbacks over real sockets: verified, taken in once, observed."""

import asyncio
import base64
import json
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

from kling_pricing import (
    Budget,
    BudgetGuard,
    KlingPricingError,
    LedgerUnavailableError,
    PriceBook,
    WebhookError,
    WireFormatError,
)
from kling_pricing.hooks.webhooks import Webhooks
from tests.conftest import Clock
from tests.gateway import Gateway, Received, receiving, running, signed
from tests.test_docs import BLOCK, ROOT

SECRET = "whsec_" + base64.b64encode(b"a secret of the tests, 24 b").decode()
OTHER = "whsec_" + base64.b64encode(b"another one, not the same!").decode()
JOB = {"model_name": "kling-v3", "prompt": "a boat"}


@pytest.fixture
def gateway(book: PriceBook) -> Iterator[Gateway]:
    """The official API, which signs its callbacks."""
    with running("kling", book, SECRET) as started:
        yield started


@pytest.fixture
def guard(tmp_path: Path, book: PriceBook, clock: Clock) -> Iterator[BudgetGuard]:
    """A guard."""
    budget = Budget(name="all", cap=10, currency="USD")
    made = BudgetGuard(f"sqlite:///{tmp_path}/spend.db", [budget], book=book, clock=clock)
    yield made
    made.verify()
    made.close()


def submitted(guard: BudgetGuard, gateway: Gateway) -> str:
    """A task of the gateway, bound to its reservation."""
    admission = guard.admit(JOB, project="trailer", url=f"{gateway.url}/v1/videos/text2video", provider="kling")
    body = json.dumps(guard.dispatch(admission)).encode()
    job = gateway.accept("kling", "/v1/videos/text2video", Received("POST", "", {}, body))  # type: ignore[arg-type]
    guard.bind(admission, job.id)
    return job.id


def body_of(task_id: str, status: str = "succeed") -> bytes:
    """A callback's body, as a sender of its own writes it."""
    return json.dumps({"task_id": task_id, "task_status": status, "final_unit_deduction": "3"}).encode()


def test_signed_callbacks_settle_once_however_often_they_come(guard: BudgetGuard, gateway: Gateway) -> None:
    """The second is refused, answered with 200 so that its sender stops; what comes late changes nothing."""
    webhooks = Webhooks(guard, SECRET, provider="kling")

    def receive(request: Received) -> int:
        try:
            webhooks.receive(request.body, dict(request.headers))
        except WebhookError as error:
            assert error.status == 200
            return 208
        return 200

    task_id = submitted(guard, gateway)
    gateway.finish(task_id)
    with receiving(receive) as url:
        assert gateway.call_back(task_id, url, times=3) == [200, 208, 208]
        assert gateway.call_back(task_id, url, state="processing") == [200]
        assert gateway.call_back(task_id, url) == [200]
    (reservation,) = guard.history()
    assert (reservation.state, reservation.billed, reservation.basis) == (
        "settled",
        Decimal("0.42"),
        "response",
    )
    assert [entry.kind for entry in guard.journal()].count("settle") == 1
    assert reservation.unit_value is not None
    assert gateway.bill * reservation.unit_value == reservation.billed


BODY = body_of("t-1")


@pytest.fixture
def good() -> dict[str, str]:
    """The headers of `BODY`, signed just now."""
    return signed(SECRET, BODY, "m-1")


@pytest.mark.parametrize(
    ("secret", "late", "changed", "problem"),
    [
        (SECRET, timedelta(minutes=-6), {}, "too old"),
        (SECRET, timedelta(minutes=6), {}, "too new"),
        (OTHER, timedelta(0), {}, "No matching signature"),
        (SECRET, timedelta(0), {"webhook-id": "m-2"}, "No matching signature"),
        (SECRET, timedelta(0), {"webhook-timestamp": "soon"}, "signature is not valid"),
        (SECRET, timedelta(0), {"webhook-signature": "v1"}, "signature is not valid"),
        (SECRET, timedelta(0), {"webhook-signature": "v1,%"}, "signature is not valid"),
    ],
)
def test_what_is_not_signed_by_the_provider_is_refused(
    guard: BudgetGuard, secret: str, late: timedelta, changed: dict[str, str], problem: str
) -> None:
    """Forged, tampered with, old or malformed: answered with 401, and nothing is remembered."""
    headers = signed(secret, BODY, "m-1", datetime.now(UTC) + late) | changed
    with pytest.raises(WebhookError, match=problem) as caught:
        Webhooks(guard, SECRET, provider="kling").receive(BODY, headers)
    assert (caught.value.status, guard.unclaimed()) == (401, [])


def test_a_signature_of_another_scheme_or_none_is_refused(guard: BudgetGuard, good: dict[str, str]) -> None:
    """The scheme is a part of what is signed for."""
    webhooks = Webhooks(guard, SECRET, provider="kling")
    with pytest.raises(WebhookError, match="No matching signature"):
        webhooks.receive(BODY, good | {"webhook-signature": good["webhook-signature"].replace("v1", "v2")})
    with pytest.raises(WebhookError, match="Missing required headers"):
        webhooks.receive(BODY, {})
    assert guard.unclaimed() == []


def test_another_body_is_refused(guard: BudgetGuard, good: dict[str, str]) -> None:
    """The signature is that of the bytes; what is no text at all is no exception of another kind."""
    webhooks = Webhooks(guard, SECRET, provider="kling")
    for body in (BODY.replace(b"3", b"0"), b"\xff"):
        with pytest.raises(WebhookError):
            webhooks.receive(body, good)


def test_while_a_secret_is_changed_both_hold(guard: BudgetGuard, good: dict[str, str]) -> None:
    """Headers may be spelled as they like."""
    webhooks = Webhooks(guard, [OTHER, SECRET], provider="kling")
    assert webhooks.receive(BODY, {name.title(): value for name, value in good.items()}) is None
    assert webhooks.receive(body_of("t-2"), signed(OTHER, body_of("t-2"), "m-2")) is None
    assert [each.task_id for each in guard.unclaimed()] == ["t-1", "t-2"]


def test_a_callback_that_could_not_be_noted_may_come_again(
    guard: BudgetGuard, good: dict[str, str], tmp_path: Path
) -> None:
    """The sender repeats what was answered with 5xx; that is no replay."""
    webhooks = Webhooks(guard, SECRET, provider="kling")
    aside = tmp_path / "aside.db"
    (tmp_path / "spend.db").rename(aside)
    with pytest.raises(LedgerUnavailableError):
        webhooks.receive(BODY, good)
    aside.rename(tmp_path / "spend.db")
    assert webhooks.receive(BODY, good) is None
    assert len(guard.unclaimed()) == 1


def test_a_callback_that_comes_twice_at_once_is_not_lost(
    guard: BudgetGuard, good: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second is asked to come again, for the first may fail; here it does."""
    webhooks = Webhooks(guard, SECRET, provider="kling")
    in_hand, go_on = threading.Event(), threading.Event()
    observe = guard.observe

    def failing(*_said: Any, **_more: Any) -> None:
        in_hand.set()
        assert go_on.wait(10)
        raise LedgerUnavailableError("the ledger is away")

    monkeypatch.setattr(guard, "observe", failing)
    with ThreadPoolExecutor(1) as thread:
        first = thread.submit(webhooks.receive, BODY, good)
        assert in_hand.wait(10)
        with pytest.raises(WebhookError, match="send it again") as caught:
            webhooks.receive(BODY, good)
        go_on.set()
        assert isinstance(first.exception(), LedgerUnavailableError)
    assert caught.value.status == 503
    monkeypatch.setattr(guard, "observe", observe)
    assert webhooks.receive(BODY, good) is None
    with pytest.raises(WebhookError, match="^this callback was received before$"):
        webhooks.receive(BODY, good)


def test_a_callback_that_says_nothing_of_a_task_is_an_error(guard: BudgetGuard) -> None:
    """Signed or not."""
    body = b'{"hello": 1}'
    with pytest.raises(WireFormatError):
        Webhooks(guard, SECRET, provider="kling").receive(body, signed(SECRET, body, "m-1"))


def recipe(name: str) -> Any:
    """What a recipe of the docs defines."""
    page = (ROOT / "docs" / "hooks.md").read_text(encoding="utf-8")
    (block,) = [
        text for language, text in BLOCK.findall(page) if language == "python" and f"def {name}(" in text
    ]
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(block, f"docs/hooks.md: {name}", "exec"), names)  # noqa: S102 (our own page)
    return names[name]


@pytest.mark.parametrize("name", ["create_app", "create_api"])
def test_the_recipes_of_the_docs_receive_callbacks(
    name: str, guard: BudgetGuard, good: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Flask's and FastAPI's: taken in, repeated, forged, and while the ledger is away."""
    monkeypatch.setenv("KLING_WEBHOOK_SECRET", SECRET)
    app = recipe(name)(guard)

    def post(body: bytes, headers: dict[str, str]) -> int:
        if name == "create_app":
            return int(app.test_client().post("/kling", data=body, headers=headers).status_code)

        async def send() -> int:
            transport = httpx.ASGITransport(app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://here") as client:
                return (await client.post("/kling", content=body, headers=headers)).status_code

        return asyncio.run(send())

    assert [post(BODY, good), post(BODY, good), post(BODY + b" ", good)] == [204, 200, 401]
    (tmp_path / "spend.db").rename(tmp_path / "aside.db")
    other = body_of("t-2")
    assert post(other, signed(SECRET, other, "m-2")) == 500
    (tmp_path / "aside.db").rename(tmp_path / "spend.db")
    assert post(other, signed(SECRET, other, "m-2")) == 204
    assert [each.task_id for each in guard.unclaimed()] == ["t-1", "t-2"]


NO_SECRETS = ["", "whsec_", [], "whsec_a", "whsec_" + base64.b64encode(b"23 bytes are too few...").decode()]


@pytest.mark.parametrize("secret", [*NO_SECRETS, SECRET.replace("_", "_*"), 7, [None]])
def test_a_secret_that_is_none_is_an_error(guard: BudgetGuard, secret: Any) -> None:
    """At once, and not with the first callback; the message does not repeat it."""
    with pytest.raises(KlingPricingError, match="secret"):
        Webhooks(guard, secret, provider="kling")


def test_a_provider_that_is_unknown_is_an_error(guard: BudgetGuard) -> None:
    """At once; else every callback would fail."""
    with pytest.raises(KlingPricingError, match="unknown provider 'klingon'; known: "):
        Webhooks(guard, SECRET, provider="klingon")
