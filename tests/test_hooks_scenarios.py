"""The same scenarios through every HTTP client, over real sockets: each leaves exactly the same journal.

A journal is written here with one line per entry: the number of the reservation (in order of appearance), the
kind of the entry, the changes of the held and the spent amount, and the reason or basis.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx
import pytest

from kling_pricing import (
    Budget,
    BudgetExceededError,
    BudgetGuard,
    CapabilityError,
    KlingPricingError,
    PriceBook,
    ReservationStateError,
)
from kling_pricing.guard import freeze_all
from kling_pricing.money import format_decimal
from tests.conftest import Clock, video
from tests.hook_clients import CLIENTS, FAILURES, Client, Failures, Reply
from tests.providers import Provider, closed_port, running
from tests.receivers import Received, receiving

CLIP = video(duration=5, resolution="1080p", audio=True)
COST = Decimal("0.714")
JSON = {"Content-Type": "application/json"}
PROVIDER = "qingbo"
IMPATIENT_S = 0.01
"""A read timeout. Any value is long enough, because the provider does not answer before the client gives up."""


@dataclass
class Play:
    """The participants of a scenario, the exceptions that its client raises, and a host that is not there."""

    provider: Provider
    guard: BudgetGuard
    client: Client
    failures: Failures
    nowhere: str

    def submit(
        self,
        payload: dict[str, Any] = CLIP,
        key: str | None = None,
        headers: dict[str, str] | None = None,
        host: str | None = None,
        **options: Any,
    ) -> Reply:
        """Submits a job, with a job key if one is given."""
        url = f"{f'http://{host}' if host else self.url}/v1/tasks"
        headers = JSON | ({"Idempotency-Key": key} if key else {}) | (headers or {})
        body = json.dumps(payload).encode()
        return self.client.send("POST", url, body=body, headers=headers, **options)

    @property
    def url(self) -> str:
        """The base URL at which the client finds the provider."""
        return self.provider.url

    def ask(self, task_id: str) -> Reply:
        """Requests the status of a task."""
        return self.client.send("GET", f"{self.url}/v1/tasks/{task_id}")

    def refusal(self, kind: type[KlingPricingError], *arguments: Any, **options: Any) -> str:
        """Submits a job that is refused, and returns the message; the arguments are those of `submit`."""
        with pytest.raises(kind) as caught:
            self.submit(*arguments, **options)
        return str(caught.value)

    def failure(self, name: str, **options: Any) -> None:
        """Submits a job for which the network fails; `name` is one of the fields of `Failures`."""
        kind = getattr(self.failures, name)
        with pytest.raises(kind) as caught:
            self.submit(**options)
        assert caught.type is kind

    @property
    def journal(self) -> list[str]:
        """The journal, one line per entry; without deadlines and tasks."""
        numbers: dict[str, int] = {}
        lines = []
        for entry in self.guard.journal():
            if entry.reservation_id is None:
                continue
            number = numbers.setdefault(entry.reservation_id, len(numbers) + 1)
            changes = [
                f"{'+' if amount > 0 else ''}{format_decimal(amount)} {balance}"
                for balance, amount in (("held", entry.held), ("spent", entry.spent))
                if amount
            ]
            has_reason = entry.kind not in {"reserve", "dispatch", "bind"}  # these have a deadline or a task
            detail = (entry.detail or "").replace(entry.reservation_id, "it") if has_reason else ""
            lines.append(" ".join(filter(None, [str(number), entry.kind, *changes, detail])))
        return lines


@contextmanager
def playing(folder: Path, book: PriceBook, name: str, budget: Budget, **options: Any) -> Iterator[Play]:
    """Runs a provider, a guard with one budget, and a guarded client."""
    with running(PROVIDER) as provider, closed_port() as nowhere:
        guard = BudgetGuard(f"sqlite:///{folder}/spend.db", [budget], book=book, clock=Clock())
        defaults = {
            "project": "trailer",
            "hosts": {provider.host: PROVIDER, nowhere: PROVIDER},
            "keeps_keys": True,
        }
        client = CLIENTS[name](guard, **defaults | options)
        try:
            yield Play(provider, guard, client, FAILURES[name], nowhere)
            guard.verify()
        finally:
            client.close()
            guard.close()


OBSERVED, NO_RESERVATION = 200, 404


def observe(play: Play, callback: Received) -> int:
    """Observes a callback and returns the status to answer with."""
    reservation = play.guard.observe(callback.body, provider=PROVIDER)
    return NO_RESERVATION if reservation is None else OBSERVED


def accepted(play: Play) -> None:
    """The response binds the task, and the status with its cost settles it."""
    task_id = play.submit().json["task_id"]
    assert play.ask(task_id).json["status"] == "queued"
    play.provider.finish(task_id)
    for _ in range(2):
        answer = httpx.get(f"{play.provider.url}/v1/tasks/{task_id}").json()
        assert play.ask(task_id).json == {**answer, "cost": 357000}


def capped(play: Play) -> None:
    """The second job does not fit the budget; a cheaper one is sent, and every other field stays the same."""
    play.submit({**CLIP, "watermark": False})
    reply = play.submit({**CLIP, "watermark": False})
    assert reply.status == 200
    _, sent = play.provider.submissions
    assert sent.json == {**CLIP, "watermark": False, "duration": 3, "audio": False}
    assert sent.headers["Content-Length"] == str(len(sent.body))


def refused(play: Play) -> None:
    """A job that does not fit the budget never reaches the provider."""
    play.submit()
    message = play.refusal(BudgetExceededError)
    assert message.startswith(f"the request costs {COST} USD, but budget all has 0.286 USD left")
    assert len(play.provider.submissions) == 1


def unknown_model(play: Play) -> None:
    """A job with an unknown model never reaches the provider."""
    play.refusal(CapabilityError, {**CLIP, "model": "kling-v9"})
    assert play.provider.received == []


def no_balance(play: Play) -> None:
    """402 (the account has no money at the provider) releases the reservation."""
    play.provider.fail_next("402")
    reply = play.submit()
    assert (reply.status, reply.json["error"]["code"]) == (402, "insufficient_balance")


def too_many_requests(play: Play) -> None:
    """429 releases the reservation, and the retry under the same key is a new attempt."""
    play.provider.fail_next("429")
    assert play.submit(key="shot-1").status == 429
    assert play.submit(key="shot-1").status == 200
    assert [reservation.attempt for reservation in play.guard.history(key="shot-1")] == [1, 2]


def server_error(play: Play) -> None:
    """500 leaves the job in doubt even if nothing was accepted, because the caller cannot know that."""
    play.provider.fail_next("500:internal")
    assert play.submit().status == 500
    assert [reservation.reason for reservation in play.guard.in_doubt()] == ["HTTP 500 internal"]


def server_error_after_accepting(play: Play) -> None:
    """After a 500 for an accepted job, the retry under the same key finds the task; nothing is billed twice."""
    play.provider.fail_next(["500:accepted", "500:internal"])
    assert play.submit(key="shot-1").status == 500
    task_id = play.submit(key="shot-1").json["task_id"]
    assert play.provider.tasks == [task_id]
    play.provider.finish(task_id)
    play.ask(task_id)


def no_price_configured(play: Play) -> None:
    """The provider documents one 500 after which nothing was accepted; it releases the reservation."""
    play.provider.fail_next("500:price_not_configured")
    assert play.submit().status == 500


def conflict(play: Play) -> None:
    """409 and 408 leave the job in doubt, because it may have been accepted."""
    play.provider.fail_next("409", "408")
    assert [play.submit(video()).status, play.submit(video()).status] == [409, 408]
    assert len(play.guard.in_doubt()) == 2


def dropped(play: Play) -> None:
    """The connection breaks after the task was created; the retry finds the task."""
    play.provider.fail_next("lost-answer")
    play.failure("disconnected", key="shot-1")
    assert [play.submit(key="shot-1").json["task_id"]] == play.provider.tasks
    keys = [request.headers["Idempotency-Key"] for request in play.provider.submissions]
    assert keys == [reservation.id for reservation in play.guard.history()] * 2


def timed_out(play: Play) -> None:
    """The client times out, but the task is created; its callback settles it as soon as it is bound."""
    play.provider.fail_next("timeout")
    play.failure("read_timeout", read_timeout_s=IMPATIENT_S)
    (task_id,) = play.provider.wait_for_tasks()
    (doubtful,) = play.guard.in_doubt()
    play.provider.finish(task_id)
    with receiving(lambda request: observe(play, request)) as url:
        assert play.provider.call_back(task_id, url) == [NO_RESERVATION]
    play.guard.bind(doubtful, task_id)


def no_connection(play: Play) -> None:
    """Without a connection nothing was sent, so the reservation is released."""
    play.failure("unreachable", host=play.nowhere)


def failed(play: Play) -> None:
    """A failed task releases its reservation, because this provider refunds it."""
    task_id = play.submit().json["task_id"]
    play.provider.finish(task_id, "failed")
    assert play.ask(task_id).json["cost"] == 0


def cancelled(play: Play) -> None:
    """The response to the cancellation already releases the reservation."""
    task_id = play.submit().json["task_id"]
    reply = play.client.send("POST", f"{play.url}/v1/tasks/{task_id}/cancel")
    assert reply.json["refunded_quota"] == 357000
    assert play.ask(task_id).json["status"] == "cancelled"


def called_back_twice(play: Play) -> None:
    """Callbacks arrive twice and in the wrong order; the money moves once."""
    task_id = play.submit().json["task_id"]
    play.provider.finish(task_id)
    with receiving(lambda request: observe(play, request)) as url:
        assert play.provider.call_back(task_id, url, times=2) == [OBSERVED, OBSERVED]
        assert play.provider.call_back(task_id, url, state="processing") == [OBSERVED]
    play.ask(task_id)


def overrun(play: Play) -> None:
    """The provider charges more than was reserved; the ledger records the actual charge."""
    task_id = play.submit().json["task_id"]
    play.provider.finish(task_id, charge=400000)
    play.ask(task_id)
    (bucket,) = play.guard.status()
    assert (bucket.spent, play.provider.bill) == (Decimal("0.8"), {"USD": Decimal("0.8")})


def no_task(play: Play) -> None:
    """Success without a task's id leaves the job in doubt."""
    play.provider.fail_next([], body=b'{"ok": true}')
    assert play.submit().json == {"ok": True}
    (doubtful,) = play.guard.in_doubt()
    assert doubtful.reason == "response without a task"


def redirected(play: Play) -> None:
    """A 307 means that the job was not accepted; a redirect to an unguarded host is not followed."""
    with running(PROVIDER) as other:
        play.provider.fail_next("307:error", headers={"Location": f"{other.url}/v1/tasks"})
        message = play.refusal(KlingPricingError)
        assert message.startswith(
            "the provider redirected the submission to a host or path that is not guarded"
        )
        assert other.received == []


def finished_at_once(play: Play) -> None:
    """With `Prefer: wait` the response may describe a finished task and settles it at once."""
    play.provider.sandbox.call("POST", "/_clock", {"speed": 1000})
    assert play.submit(headers={"Prefer": "wait=60"}).json["status"] == "completed"


ONE = ["1 reserve +0.714 held", "1 dispatch"]
BOUND = [*ONE, "1 bind"]
SETTLED = "1 settle -0.714 held +0.714 spent response"
CAP = Budget(name="all", cap=1, currency="USD", on_exceed="cap")
REJECT = Budget(name="all", cap=1, currency="USD")

SCENARIOS: dict[str, tuple[Callable[[Play], None], Budget, list[str]]] = {
    "accepted": (accepted, REJECT, [*BOUND, SETTLED]),
    "capped": (capped, CAP, [*BOUND, "2 reserve +0.2856 held", "2 dispatch", "2 bind"]),
    "refused": (refused, REJECT, BOUND),
    "unknown model": (unknown_model, REJECT, []),
    "402": (no_balance, REJECT, [*ONE, "1 release -0.714 held HTTP 402 insufficient_balance"]),
    "429": (
        too_many_requests,
        REJECT,
        [
            *ONE,
            "1 release -0.714 held HTTP 429 rate_limited",
            "2 reserve +0.714 held",
            "2 dispatch",
            "2 bind",
        ],
    ),
    "500 before accepting": (server_error, REJECT, [*ONE, "1 doubt HTTP 500 internal"]),
    "500 after accepting": (
        server_error_after_accepting,
        REJECT,
        [*ONE, "1 doubt HTTP 500 internal", "1 doubt sent again", "1 bind", SETTLED],
    ),
    "500 without a price": (
        no_price_configured,
        REJECT,
        [*ONE, "1 release -0.714 held HTTP 500 price_not_configured"],
    ),
    "409 and 408": (
        conflict,
        REJECT,
        [
            "1 reserve +0.357 held",
            "1 dispatch",
            "1 doubt HTTP 409 conflict",
            "2 reserve +0.357 held",
            "2 dispatch",
            "2 doubt HTTP 408 timeout",
        ],
    ),
    "dropped after accepting": (dropped, REJECT, [*ONE, "1 doubt no response", "1 doubt sent again", "1 bind"]),
    "client timeout": (timed_out, REJECT, [*ONE, "1 doubt no response", "1 bind", SETTLED]),
    "no connection": (no_connection, REJECT, [*ONE, "1 release -0.714 held no connection"]),
    "task failed": (failed, REJECT, [*BOUND, "1 release -0.714 held failed"]),
    "task cancelled": (cancelled, REJECT, [*BOUND, "1 release -0.714 held cancelled"]),
    "duplicate callback": (called_back_twice, REJECT, [*BOUND, SETTLED]),
    "overrun": (
        overrun,
        REJECT,
        [*BOUND, "1 settle -0.714 held +0.8 spent response", "1 alert 0.8 billed for it"],
    ),
    "answer without a task": (no_task, REJECT, [*ONE, "1 doubt response without a task"]),
    "redirected": (redirected, REJECT, [*ONE, "1 release -0.714 held HTTP 307 error"]),
    "finished at once": (finished_at_once, REJECT, [*BOUND, SETTLED]),
}


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_scenario_leaves_the_same_journal_through_every_client(
    scenario: str, client: str, tmp_path: Path, book: PriceBook
) -> None:
    """A scenario leaves the same journal entries whichever client runs it."""
    act, budget, journal = SCENARIOS[scenario]
    with playing(tmp_path, book, client, budget) as play:
        act(play)
        assert play.journal == journal


def refusals(play: Play) -> list[tuple[int, str, str]]:
    """Returns status, error name and code for a request that is not valid, a 500, a reused key and a budget."""
    play.provider.fail_next(["500:accepted", "500:error"])
    replies = [
        play.submit({**CLIP, "model": "kling-v9"}),
        play.submit(video(duration=10), key="shot-1"),
        play.submit(video(duration=11), key="shot-1"),
        play.submit(),
    ]
    return [
        (reply.status, reply.headers.get("x-kling-pricing-refused", ""), reply.json["error"]["code"])
        for reply in replies
    ]


@pytest.mark.parametrize("client", CLIENTS)
def test_a_refusal_can_be_an_answer_in_the_apis_own_shape(client: str, tmp_path: Path, book: PriceBook) -> None:
    """The response is 402 for a budget, 400 for an invalid request and 409 for a reused key, marked as ours."""
    with playing(tmp_path, book, client, REJECT, refusals="respond") as play:
        assert refusals(play) == [
            (400, "CapabilityError", "capability"),
            (500, "", "error"),
            (409, "IdempotencyError", "idempotency"),
            (402, "BudgetExceededError", "budget_exceeded"),
        ]
        assert len(play.provider.submissions) == 1
        assert play.journal == ["1 reserve +0.714 held", "1 dispatch", "1 doubt HTTP 500 error"]


@pytest.mark.parametrize("client", CLIENTS)
def test_a_freeze_is_an_answer_in_the_apis_own_shape(client: str, tmp_path: Path, book: PriceBook) -> None:
    """While spending is frozen, the response is 402 with the reason, and nothing is sent."""
    with playing(tmp_path, book, client, REJECT, refusals="respond") as play:
        freeze_all(f"sqlite:///{tmp_path}/spend.db", actor="li", reason="the bill looks wrong")
        reply = play.submit()
        error = reply.json["error"]
        assert (reply.status, reply.headers["x-kling-pricing-refused"]) == (402, "BudgetFrozenError")
        assert (error["code"], "the bill looks wrong" in error["message"]) == ("budget_frozen", True)
        assert play.provider.submissions == []


@pytest.mark.parametrize("client", CLIENTS)
def test_a_job_in_doubt_is_not_resent_if_the_api_honours_no_keys(
    client: str, tmp_path: Path, book: PriceBook
) -> None:
    """The retry raises an error with the reservation, and the provider sees one request."""
    payload = {"model": "Kling-2.6", "prompt": "a boat", "duration": 5, "size": "1280x720"}
    payload["metadata"] = {"output_config": {"audio_generation": "Disabled"}}
    budget = Budget(name="all", cap=9, currency="CNY")
    with playing(tmp_path, book, client, budget) as play, running("tencent-vod") as provider:
        guarded = CLIENTS[client](play.guard, project="trailer", hosts={provider.host: provider.name})
        url, body = f"{provider.url}/v1/videos", json.dumps(payload).encode()
        headers = JSON | {"Idempotency-Key": "shot-1"}
        provider.fail_next("503:accepted")
        try:
            assert guarded.send("POST", url, body=body, headers=headers).status == 503
            with pytest.raises(ReservationStateError) as caught:
                guarded.send("POST", url, body=body, headers=headers)
        finally:
            guarded.close()
        (doubtful,) = play.guard.in_doubt()
        assert (caught.value.reservation_id, caught.value.state) == (doubtful.id, "dispatching")
        assert len(provider.submissions) == 1
