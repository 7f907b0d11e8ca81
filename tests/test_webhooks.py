"""Signed callbacks over real sockets: verified, accepted once, and observed."""

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
from standardwebhooks import Webhook

from kling_pricing import (
    Budget,
    BudgetGuard,
    KlingPricingError,
    LedgerUnavailableError,
    PriceBook,
    WebhookError,
)
from kling_pricing.hooks.webhooks import Webhooks
from tests.conftest import Clock
from tests.providers import Provider, running
from tests.receivers import Received, receiving
from tests.test_docs import BLOCK, ROOT

SECRET = "whsec_" + base64.b64encode(b"a secret of the tests, 24 b").decode()
OTHER = "whsec_" + base64.b64encode(b"another one, not the same!").decode()
JOB = {"model_name": "kling-v3", "prompt": "a boat"}


@pytest.fixture
def provider() -> Iterator[Provider]:
    """The official API, which signs its callbacks."""
    with running("kling", webhook_secret=SECRET) as started:
        yield started


@pytest.fixture
def guard(tmp_path: Path, book: PriceBook, clock: Clock) -> Iterator[BudgetGuard]:
    """A guard with one budget."""
    budget = Budget(name="all", cap=10, currency="USD")
    with BudgetGuard(f"sqlite:///{tmp_path}/spend.db", [budget], book=book, clock=clock) as opened:
        yield opened
        opened.verify()


def signed(secret: str, body: bytes, message_id: str, at: datetime | None = None) -> dict[str, str]:
    """Returns the headers of a signed callback."""
    timestamp = at or datetime.now(UTC)
    return {
        "webhook-id": message_id,
        "webhook-timestamp": str(int(timestamp.timestamp())),
        "webhook-signature": Webhook(secret).sign(message_id, timestamp, body.decode()),
    }


def submit(guard: BudgetGuard, provider: Provider) -> str:
    """Submits a job and returns the id of its task, which is bound to its reservation."""
    url = f"{provider.url}/v1/videos/text2video"
    admission = guard.admit(JOB, project="trailer", url=url, provider="kling")
    task_id = httpx.post(url, json=guard.dispatch(admission)).json()["data"]["task_id"]
    guard.bind(admission, task_id)
    return str(task_id)


def body_of(task_id: str, status: str = "succeed") -> bytes:
    """Returns the body of a callback."""
    return json.dumps({"task_id": task_id, "task_status": status, "final_unit_deduction": "3"}).encode()


def test_signed_callbacks_settle_once_however_often_they_arrive(guard: BudgetGuard, provider: Provider) -> None:
    """A repeated callback is refused with 200, so that its sender stops; a late one changes nothing."""
    webhooks = Webhooks(guard, SECRET, provider="kling")

    def receive(request: Received) -> int:
        try:
            webhooks.receive(request.body, dict(request.headers))
        except WebhookError as error:
            assert error.status == 200
            return 208
        return 200

    task_id = submit(guard, provider)
    provider.finish(task_id)
    with receiving(receive) as url:
        assert provider.call_back(task_id, url, times=3) == [200, 208, 208]
        assert provider.call_back(task_id, url, state="processing") == [200]
        assert provider.call_back(task_id, url) == [200]
    (reservation,) = guard.history()
    assert (reservation.state, reservation.billed, reservation.basis) == (
        "settled",
        Decimal("0.42"),
        "response",
    )
    assert [entry.kind for entry in guard.journal()].count("settle") == 1
    assert provider.bill == {"USD": reservation.billed}


BODY = body_of("t-1")


@pytest.fixture
def headers() -> dict[str, str]:
    """The headers of `BODY` with a current signature."""
    return signed(SECRET, BODY, "m-1")


@pytest.mark.parametrize(
    ("secret", "delay", "changes", "reason"),
    [
        (SECRET, timedelta(minutes=-6), {}, "Message timestamp too old"),
        (SECRET, timedelta(minutes=6), {}, "Message timestamp too new"),
        (OTHER, timedelta(0), {}, "No matching signature found"),
        (SECRET, timedelta(0), {"webhook-id": "m-2"}, "No matching signature found"),
        (SECRET, timedelta(0), {"webhook-timestamp": "soon"}, ""),
        (SECRET, timedelta(0), {"webhook-signature": "v1"}, ""),
        (SECRET, timedelta(0), {"webhook-signature": "v1,%"}, ""),
    ],
)
def test_a_callback_that_the_provider_did_not_sign_is_refused(
    guard: BudgetGuard, secret: str, delay: timedelta, changes: dict[str, str], reason: str
) -> None:
    """A forged, changed, old or malformed callback is refused with 401, and nothing is recorded."""
    headers = signed(secret, BODY, "m-1", datetime.now(UTC) + delay) | changes
    with pytest.raises(WebhookError) as caught:
        Webhooks(guard, SECRET, provider="kling").receive(BODY, headers)
    assert str(caught.value).startswith(f"the callback's signature is not valid: {reason}")
    assert (caught.value.status, guard.unclaimed()) == (401, [])


def test_a_callback_without_a_known_signature_scheme_is_refused(
    guard: BudgetGuard, headers: dict[str, str]
) -> None:
    """A signature of another version and a missing signature are refused."""
    webhooks = Webhooks(guard, SECRET, provider="kling")
    with pytest.raises(WebhookError, match="No matching signature"):
        webhooks.receive(
            BODY, headers | {"webhook-signature": headers["webhook-signature"].replace("v1", "v2")}
        )
    with pytest.raises(WebhookError, match="Missing required headers"):
        webhooks.receive(BODY, {})
    assert guard.unclaimed() == []


def test_a_changed_body_is_refused(guard: BudgetGuard, headers: dict[str, str]) -> None:
    """The signature covers the bytes of the body, even if they are not text."""
    webhooks = Webhooks(guard, SECRET, provider="kling")
    for body in (BODY.replace(b"3", b"0"), b"\xff"):
        with pytest.raises(WebhookError):
            webhooks.receive(body, headers)


def test_both_secrets_are_valid_during_a_rotation(guard: BudgetGuard, headers: dict[str, str]) -> None:
    """Callbacks signed with either secret are accepted; capitals in header names make no difference."""
    webhooks = Webhooks(guard, [OTHER, SECRET], provider="kling")
    assert webhooks.receive(BODY, {name.title(): value for name, value in headers.items()}) is None
    assert webhooks.receive(body_of("t-2"), signed(OTHER, body_of("t-2"), "m-2")) is None
    assert [observation.task_id for observation in guard.unclaimed()] == ["t-1", "t-2"]


def test_a_callback_that_could_not_be_recorded_may_be_repeated(
    guard: BudgetGuard, headers: dict[str, str], tmp_path: Path
) -> None:
    """The sender repeats a callback after a 5xx response; that is not a replay."""
    webhooks = Webhooks(guard, SECRET, provider="kling")
    aside = tmp_path / "aside.db"
    (tmp_path / "spend.db").rename(aside)
    with pytest.raises(LedgerUnavailableError):
        webhooks.receive(BODY, headers)
    aside.rename(tmp_path / "spend.db")
    assert webhooks.receive(BODY, headers) is None
    assert len(guard.unclaimed()) == 1


def test_a_callback_that_arrives_twice_at_once_is_not_lost(
    guard: BudgetGuard, headers: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The sender is asked to repeat the second delivery, because the first may still fail, as it does here."""
    webhooks = Webhooks(guard, SECRET, provider="kling")
    started, resumed = threading.Event(), threading.Event()
    observe = guard.observe_task

    def wait_and_fail(*_args: Any, **_kwargs: Any) -> None:
        started.set()
        assert resumed.wait(10)
        raise LedgerUnavailableError("the ledger is unavailable")

    monkeypatch.setattr(guard, "observe_task", wait_and_fail)
    with ThreadPoolExecutor(1) as thread:
        first = thread.submit(webhooks.receive, BODY, headers)
        assert started.wait(10)
        with pytest.raises(WebhookError, match=r"^this callback is being processed; retry later$") as caught:
            webhooks.receive(BODY, headers)
        resumed.set()
        assert isinstance(first.exception(), LedgerUnavailableError)
    assert caught.value.status == 503
    monkeypatch.setattr(guard, "observe_task", observe)
    assert webhooks.receive(BODY, headers) is None
    with pytest.raises(WebhookError, match=r"^this callback was already received$"):
        webhooks.receive(BODY, headers)


def test_a_callback_that_names_no_task_is_an_error(guard: BudgetGuard) -> None:
    """A valid signature makes no difference; the provider is answered 400, never 500."""
    assert_unreadable(guard, b'{"hello": 1}', "the response does not name a task")


def assert_unreadable(guard: BudgetGuard, body: bytes, reason: str) -> None:
    """Asserts that a signed callback is rejected for a reason, however often it is sent."""
    webhooks = Webhooks(guard, SECRET, provider="kling")
    for _ in range(2):
        with pytest.raises(WebhookError, match=f"^the callback cannot be read: {reason}") as caught:
            webhooks.receive(body, signed(SECRET, body, "m-1"))
        assert caught.value.status == 400
    assert guard.unclaimed() == []
    guard.verify()


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"", "not JSON"),
        (b"[]", "a response must be a JSON object, got a list"),
        (b"[" * 100_000, "the JSON is nested too deeply"),
        (b'{"id": 5, "status": "succeeded"}', "id must be text"),
        (b'{"task_id": ["t"]}', "task_id must be text"),
        (b'{"task_id": "", "status": "succeeded"}', "the response does not name a task"),
        (b'{"task_id": "\\u0000", "status": "succeeded"}', "task_id must be text of 1 to 200 printable"),
        (b'{"task_id": "a", "task_id": "b"}', "key 'task_id' appears twice"),
        (b'{"code": 0, "data": [{"id": 5, "status": "failed"}]}', "id must be text"),
    ],
)
def test_an_unreadable_callback_is_rejected(guard: BudgetGuard, body: bytes, reason: str) -> None:
    """Whatever the body is, the error is a `WebhookError`, and nothing is recorded."""
    assert_unreadable(guard, body, reason)


def test_the_test_call_of_a_console_is_accepted(guard: BudgetGuard) -> None:
    """Its task is in no ledger and was only submitted, so it leaves no trace."""
    body = json.dumps({"id": "1234567890", "status": "submitted", "outputs": [], "message": ""}).encode()
    webhooks = Webhooks(guard, SECRET, provider="kling")
    assert webhooks.receive(body, signed(SECRET, body, "m-1")) is None
    assert guard.unclaimed() == []


def test_a_callback_of_the_newer_standard_settles(guard: BudgetGuard) -> None:
    """Its body is the task itself: `id`, `status`, `outputs` and `billing`, without an envelope."""
    admission = guard.admit(JOB, project="trailer", provider="kling")
    guard.dispatch(admission)
    guard.bind(admission, "t-1")
    webhooks = Webhooks(guard, SECRET, provider="kling")
    body = json.dumps(
        {
            "id": "t-1",
            "status": "succeeded",
            "message": "",
            "outputs": [{"type": "video", "id": "v", "url": "https://example.com/v.mp4", "duration": "5.041"}],
            "billing": [{"charge_type": "unit", "package_type": "video", "amount": "2.40"}],
        }
    ).encode()
    settled = webhooks.receive(body, signed(SECRET, body, "m-1"))
    assert settled is not None
    assert (settled.state, settled.billed, settled.basis) == ("settled", Decimal("0.336"), "response")


def test_a_callback_before_its_submission_is_recorded_is_kept(guard: BudgetGuard) -> None:
    """A finished task that is in no ledger yet is remembered until it is bound."""
    body = json.dumps({"id": "t-1", "status": "succeeded", "billing": []}).encode()
    assert Webhooks(guard, SECRET, provider="kling").receive(body, signed(SECRET, body, "m-1")) is None
    assert [(seen.task_id, seen.state) for seen in guard.unclaimed()] == [("t-1", "succeeded")]


def recipe(name: str) -> Any:
    """Returns the function that a recipe in the docs defines."""
    page = (ROOT / "docs" / "hooks.md").read_text(encoding="utf-8")
    (block,) = [
        text for language, text in BLOCK.findall(page) if language == "python" and f"def {name}(" in text
    ]
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(block, f"docs/hooks.md: {name}", "exec"), names)  # noqa: S102 (the project's own page)
    return names[name]


@pytest.mark.parametrize("name", ["create_app", "create_api"])
def test_the_recipes_of_the_docs_receive_callbacks(
    name: str, guard: BudgetGuard, headers: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both recipes answer accepted, repeated and forged callbacks, and 500 while the ledger is unavailable."""
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

    statuses = [post(BODY, headers), post(BODY, headers), post(BODY + b" ", headers)]
    assert statuses == [204, 200, 401]
    (tmp_path / "spend.db").rename(tmp_path / "aside.db")
    other = body_of("t-2")
    assert post(other, signed(SECRET, other, "m-2")) == 500
    (tmp_path / "aside.db").rename(tmp_path / "spend.db")
    assert post(other, signed(SECRET, other, "m-2")) == 204
    assert [observation.task_id for observation in guard.unclaimed()] == ["t-1", "t-2"]


TOO_SHORT = "whsec_" + base64.b64encode(b"23 bytes are too few...").decode()


@pytest.mark.parametrize(
    "secret", ["", "whsec_", "whsec_a", TOO_SHORT, SECRET.replace("_", "_*"), 7, [None], [SECRET, ""]]
)
def test_a_secret_that_is_not_valid_is_an_error(guard: BudgetGuard, secret: Any) -> None:
    """The error comes before the first callback and does not repeat the secret."""
    with pytest.raises(KlingPricingError) as caught:
        Webhooks(guard, secret, provider="kling")
    assert str(caught.value) == (
        "a webhook secret must be the base64 encoding of at least 24 bytes; copy it from the provider"
    )


def test_an_empty_list_of_secrets_is_an_error(guard: BudgetGuard) -> None:
    """Without a secret no callback could be verified."""
    with pytest.raises(KlingPricingError) as caught:
        Webhooks(guard, [], provider="kling")
    assert str(caught.value) == "the list of webhook secrets is empty; give at least one secret"


def test_an_unknown_provider_is_an_error(guard: BudgetGuard) -> None:
    """The error comes when the object is created, because every callback would fail."""
    with pytest.raises(KlingPricingError, match="unknown provider 'klingon'; did you mean 'kling'"):
        Webhooks(guard, SECRET, provider="klingon")
