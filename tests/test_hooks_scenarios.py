"""The same scenarios through every HTTP client, over real sockets: each leaves exactly the same journal.

A journal is written here one line an event: which reservation (in the order they came), what happened, by how
much the held and the spent amount changed, and the reason or basis.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Any

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
from kling_pricing.money import format_decimal
from tests.conftest import Clock, video
from tests.gateway import Fault, Gateway, receiving, running
from tests.hook_clients import CLIENTS, Client, Reply

CLIP = video(duration=5, resolution="1080p", audio=True)
COST = Decimal("0.714")
JSON = {"Content-Type": "application/json"}
PROVIDER = "qingbo"
SHORT_S = 0.3
"""How long a client waits for an answer that does not come."""


@dataclass
class Play:
    """What a scenario acts with."""

    gateway: Gateway
    guard: BudgetGuard
    client: Client

    def submit(self, payload: dict[str, Any] = CLIP, key: str | None = None, **how: Any) -> Reply:
        """Posts a request, by a name of the caller's own if one is given."""
        headers = JSON | ({"Idempotency-Key": key} if key else {}) | how.pop("headers", {})
        url = how.pop("url", f"{self.gateway.url}/v1/tasks")
        return self.client.send("POST", url, body=json.dumps(payload).encode(), headers=headers, **how)

    def ask(self, task_id: str) -> Reply:
        """Asks for a task."""
        return self.client.send("GET", f"{self.gateway.url}/v1/tasks/{task_id}")

    @property
    def journal(self) -> list[str]:
        """The journal, one line an event."""
        seen: dict[str, int] = {}
        lines = []
        for entry in self.guard.journal():
            if entry.reservation_id is None:
                continue
            number = seen.setdefault(entry.reservation_id, len(seen) + 1)
            moved = [
                f"{'+' if amount > 0 else ''}{format_decimal(amount)} {what}"
                for what, amount in (("held", entry.held), ("spent", entry.spent))
                if amount
            ]
            detail = (entry.detail or "").replace(entry.reservation_id, "it")
            lines.append(" ".join(filter(None, [str(number), entry.kind, *moved, detail])))
        return lines


@contextmanager
def playing(folder: Path, book: PriceBook, client: str, budget: Budget, **options: Any) -> Iterator[Play]:
    """A gateway, a guard with one budget, and a client that goes through the guard."""
    with running(PROVIDER, book) as gateway:
        guard = BudgetGuard(f"sqlite:///{folder}/spend.db", [budget], book=book, clock=Clock())
        said = {"project": "trailer", "hosts": {gateway.host: PROVIDER}, "keeps_keys": True} | options
        made = CLIENTS[client](guard, **said)
        try:
            yield Play(gateway, guard, made)
            guard.verify()
        finally:
            gateway.go_on()
            made.close()
            guard.close()


def accepted(play: Play) -> None:
    """The task is bound by its answer, and settled by the status that says what it cost."""
    task_id = play.submit().json["task_id"]
    assert play.ask(task_id).json["status"] == "queued"
    play.gateway.finish(task_id)
    for _ in range(2):
        assert play.ask(task_id).json == {**play.gateway.answer(play.gateway.jobs[task_id]), "cost": 357000}


def capped(play: Play) -> None:
    """The second does not fit as it is; what goes out is what fits, and every other field is as it was."""
    play.submit({**CLIP, "watermark": False})
    reply = play.submit({**CLIP, "watermark": False})
    assert reply.status == 200
    assert play.gateway.submissions[1].json == {**CLIP, "watermark": False, "duration": 3, "audio": False}
    length = play.gateway.submissions[1].headers["Content-Length"]
    assert length == str(len(play.gateway.submissions[1].body))


def refused(play: Play) -> None:
    """A budget without room: the gateway sees nothing of it."""
    play.submit()
    with pytest.raises(BudgetExceededError) as caught:
        play.submit()
    assert (caught.value.budget, caught.value.requested) == ("all", COST)
    assert len(play.gateway.submissions) == 1


def unknown_model(play: Play) -> None:
    """What nobody sells is refused, not let through."""
    with pytest.raises(CapabilityError):
        play.submit({**CLIP, "model": "kling-v9"})
    assert play.gateway.received == []


def no_balance(play: Play) -> None:
    """402: the provider's own money is gone, and ours is free again."""
    play.gateway.will(Fault(402, "insufficient_balance"))
    reply = play.submit()
    assert (reply.status, reply.json["error"]["code"]) == (402, "insufficient_balance")


def too_many_requests(play: Play) -> None:
    """429: released, and the retry under the same key is a new attempt."""
    play.gateway.will(Fault(429, "rate_limited"))
    assert play.submit(key="shot-1").status == 429
    assert play.submit(key="shot-1").status == 200
    assert [each.attempt for each in play.guard.history(key="shot-1")] == [1, 2]


def server_error(play: Play) -> None:
    """500 before anything was accepted: nobody outside knows that, so it is in doubt."""
    play.gateway.will(Fault(500, "internal"))
    assert play.submit().status == 500
    assert [each.reason for each in play.guard.in_doubt()] == ["HTTP 500 internal"]


def server_error_after_accepting(play: Play) -> None:
    """500 after it was accepted: the retry under the same key finds the task, and nothing is billed twice."""
    play.gateway.will(Fault(500, "internal", accepts=True))
    assert play.submit(key="shot-1").status == 500
    task_id = play.submit(key="shot-1").json["task_id"]
    assert [*play.gateway.jobs] == [task_id]
    play.gateway.finish(task_id)
    play.ask(task_id)


def no_price_configured(play: Play) -> None:
    """The one 500 of which the provider says that nothing was accepted."""
    play.gateway.will(Fault(500, "price_not_configured"))
    assert play.submit().status == 500


def conflict(play: Play) -> None:
    """409 and 408 do not say that nothing was accepted."""
    play.gateway.will(Fault(409, "conflict"), Fault(408, "timeout"))
    assert [play.submit(video()).status, play.submit(video()).status] == [409, 408]
    assert len(play.guard.in_doubt()) == 2


def dropped(play: Play) -> None:
    """The connection breaks after the task was made: the retry finds it."""
    play.gateway.will(Fault(drops=True, accepts=True))
    with pytest.raises(Exception, match=r"(?i)disconnected|aborted|closed"):
        play.submit(key="shot-1")
    assert play.submit(key="shot-1").json["task_id"] == "task-qingbo-1"
    assert len(play.gateway.jobs) == 1
    sent = [each.headers["Idempotency-Key"] for each in play.gateway.submissions]
    assert sent == [each.id for each in play.guard.history()] * 2


def timed_out(play: Play) -> None:
    """The caller does not wait; the task is made all the same, and its callback settles it once it is bound."""
    play.gateway.will(Fault(hangs=True, accepts=True))
    with pytest.raises(Exception, match=r"(?i)timed? ?out|^$"):
        play.submit(timeout_s=SHORT_S)
    (doubtful,) = play.guard.in_doubt()
    (task_id,) = play.gateway.jobs
    play.gateway.finish(task_id)
    with receiving(lambda got: 200 if play.guard.observe(got.body, provider=PROVIDER) is None else 500) as url:
        assert play.gateway.call_back(task_id, url) == [200]
    play.guard.bind(doubtful, task_id)


def no_connection(play: Play) -> None:
    """Nobody listens: nothing was sent, for certain."""
    play.gateway.close()
    with pytest.raises(Exception, match=r"(?i)connect"):
        play.submit()


def failed(play: Play) -> None:
    """A failed task is refunded, as the price table says of this provider."""
    task_id = play.submit().json["task_id"]
    play.gateway.finish(task_id, "failed")
    assert play.ask(task_id).json["cost"] == 0


def cancelled(play: Play) -> None:
    """The answer to the cancellation says it already."""
    task_id = play.submit().json["task_id"]
    reply = play.client.send("POST", f"{play.gateway.url}/v1/tasks/{task_id}/cancel")
    assert reply.json["refunded_quota"] == 357000
    assert play.ask(task_id).json["status"] == "cancelled"


def called_back_twice(play: Play) -> None:
    """Callbacks come twice and in the wrong order; the money moves once."""
    task_id = play.submit().json["task_id"]
    play.gateway.finish(task_id)
    with receiving(lambda got: 204 if play.guard.observe(got.body, provider=PROVIDER) else 404) as url:
        assert play.gateway.call_back(task_id, url, times=2) == [204, 204]
        assert play.gateway.call_back(task_id, url, state="processing") == [204]
    play.ask(task_id)


def overrun(play: Play) -> None:
    """The provider charges more than it quoted: what is true is recorded."""
    task_id = play.submit().json["task_id"]
    play.gateway.finish(task_id, cost=400000)
    play.ask(task_id)
    (bucket,) = play.guard.status()
    assert (bucket.spent, play.gateway.bill) == (Decimal("0.8"), Decimal(400000))


def no_task(play: Play) -> None:
    """Success without a task's id: it may be running."""
    play.gateway.will(Fault(body=b'{"ok": true}'))
    assert play.submit().json == {"ok": True}
    (doubtful,) = play.guard.in_doubt()
    assert doubtful.reason == "answered without a task"


def redirected(play: Play) -> None:
    """307 sends the same request elsewhere: it was not taken on, and a place without a guard is not gone to."""
    with running(PROVIDER) as other:
        play.gateway.will(Fault(307, headers={"Location": f"{other.url}/v1/tasks"}))
        with pytest.raises(
            KlingPricingError,
            match="^the provider redirected the submission to a host or path that is not guarded",
        ):
            play.submit()
        assert other.received == []


def finished_at_once(play: Play) -> None:
    """With `Prefer: wait` the answer may be that of a finished task."""
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
    "dropped after accepting": (dropped, REJECT, [*ONE, "1 doubt no answer", "1 doubt sent again", "1 bind"]),
    "client timeout": (timed_out, REJECT, [*ONE, "1 doubt no answer", "1 bind", SETTLED]),
    "no connection": (no_connection, REJECT, [*ONE, "1 release -0.714 held no connection"]),
    "task failed": (failed, REJECT, [*BOUND, "1 release -0.714 held failed"]),
    "task cancelled": (cancelled, REJECT, [*BOUND, "1 release -0.714 held cancelled"]),
    "duplicate callback": (called_back_twice, REJECT, [*BOUND, SETTLED]),
    "overrun": (
        overrun,
        REJECT,
        [*BOUND, "1 settle -0.714 held +0.8 spent response", "1 alert 0.8 billed for it"],
    ),
    "answer without a task": (no_task, REJECT, [*ONE, "1 doubt answered without a task"]),
    "redirected": (redirected, REJECT, [*ONE, "1 release -0.714 held HTTP 307 error"]),
    "finished at once": (finished_at_once, REJECT, [*BOUND, SETTLED]),
}


@pytest.mark.parametrize("client", CLIENTS)
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_a_scenario_leaves_the_same_journal_through_every_client(
    scenario: str, client: str, tmp_path: Path, book: PriceBook
) -> None:
    """What happened is written down event by event, and is the same for all."""
    act, budget, journal = SCENARIOS[scenario]
    with playing(tmp_path, book, client, budget) as play:
        act(play)
        assert play.journal == journal


def refusals(play: Play) -> list[tuple[int, str, str]]:
    """The answers in the provider's place: for a budget, a request that is not valid, a job in doubt."""
    play.gateway.will(Fault(500, accepts=True))
    replies = [
        play.submit({**CLIP, "model": "kling-v9"}),
        play.submit(video(duration=10), key="shot-1"),
        play.submit(video(duration=11), key="shot-1"),
        play.submit(),
    ]
    return [
        (each.status, each.headers.get("x-kling-pricing-refused", ""), each.json["error"]["code"])
        for each in replies
    ]


@pytest.mark.parametrize("client", CLIENTS)
def test_a_refusal_can_be_an_answer_in_the_apis_own_shape(client: str, tmp_path: Path, book: PriceBook) -> None:
    """402 for a budget, 400 for what is not valid, 409 for another job; marked as not the provider's."""
    with playing(tmp_path, book, client, REJECT, refusals="respond") as play:
        assert refusals(play) == [
            (400, "CapabilityError", "capability"),
            (500, "", "error"),
            (409, "IdempotencyError", "idempotency"),
            (402, "BudgetExceededError", "budget_exceeded"),
        ]
        assert len(play.gateway.submissions) == 1
        assert play.journal == ["1 reserve +0.714 held", "1 dispatch", "1 doubt HTTP 500 error"]


@pytest.mark.parametrize("client", CLIENTS)
def test_what_may_be_running_is_not_sent_again_where_the_api_takes_no_key(
    client: str, tmp_path: Path, book: PriceBook
) -> None:
    """The retry raises an error that carries the reservation, and the provider sees one request."""
    payload = {"model": "Kling-2.6", "prompt": "a boat", "duration": 5, "size": "1280x720"}
    payload["metadata"] = {"output_config": {"audio_generation": "Disabled"}}
    with playing(tmp_path, book, client, Budget(name="all", cap=9, currency="CNY")) as play:
        hosts = {play.gateway.host: "tencent-vod"}
        play.gateway.provider = "tencent-vod"
        guarded = CLIENTS[client](play.guard, project="trailer", hosts=hosts)
        body, headers = json.dumps(payload).encode(), JSON | {"Idempotency-Key": "shot-1"}
        play.gateway.will(Fault(503, accepts=True))
        try:
            reply = guarded.send("POST", f"{play.gateway.url}/v1/videos", body=body, headers=headers)
            assert reply.status == 503
            with pytest.raises(ReservationStateError) as caught:
                guarded.send("POST", f"{play.gateway.url}/v1/videos", body=body, headers=headers)
        finally:
            guarded.close()
        (doubtful,) = play.guard.in_doubt()
        assert (caught.value.reservation_id, caught.value.state) == (doubtful.id, "dispatching")
        assert len(play.gateway.submissions) == 1
