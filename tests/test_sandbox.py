"""The sandbox's simulated providers: accounts, tasks, refusals, faults, the clock, statements and callbacks."""

from __future__ import annotations

import csv
import io
import json
import re
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from decimal import Decimal
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

import httpx
import pytest

from kling_pricing import KlingPricingError, PriceBook
from kling_pricing.errors import ScenarioError
from kling_pricing.sandbox import Sandbox, load_scenario
from kling_pricing.sandbox.callbacks import signature
from tests.providers import shared_sandbox
from tests.receivers import Received, receiving

START = "2026-11-21T00:00:00Z"
STILL: dict[str, Any] = {"speed": 0, "start": START, "queue_s": 2, "run_s": 20}
TEXT = "/v1/videos/text2video"
PRO = {"model_name": "kling-v3", "prompt": "a heron", "duration": "5", "mode": "pro", "sound": "on"}
"""A job that costs 6 units or 0.84 USD."""
CLIP = {"model": "kling-v3", "prompt": "a heron", "duration": 5, "resolution": "1080p", "audio": True}
"""A job that costs 0.714 USD, which is 357000 in quota."""

Play = Callable[..., "Stage"]


class Stage:
    """A sandbox and a client of one provider in it."""

    def __init__(self, sandbox: Sandbox, provider: str) -> None:
        self.sandbox = sandbox
        self.provider = provider
        self.client = httpx.Client(base_url=sandbox.url(provider), timeout=10)

    def post(self, path: str, payload: Any, **headers: str) -> httpx.Response:
        """Posts a payload."""
        return self.client.post(path, json=payload, headers=headers)

    def get(self, path: str) -> Any:
        """Gets a path and returns the JSON of the response."""
        return self.client.get(path).json()

    def created(self, path: str = TEXT, payload: Any = PRO) -> str:
        """Submits a job and returns the id of its task."""
        response = self.post(path, payload)
        assert response.status_code == 200, response.text
        data = response.json().get("data") or response.json()
        return str(data.get("task_id") or data["id"])

    def ended(self, path: str = TEXT, payload: Any = PRO) -> Any:
        """Submits a job, advances the clock until it ends, and returns its status."""
        task = self.created(path, payload)
        self.sandbox.advance(seconds=100)
        answer = self.get(f"{path}/{task}")
        return answer.get("data", answer)

    @property
    def bill(self) -> dict[str, Decimal]:
        """The charges of the provider: currency -> amount."""
        return self.sandbox.bill(self.provider)


@pytest.fixture
def play(book: PriceBook) -> Iterator[Play]:
    """Returns a function that runs a sandbox with a scenario, and returns a client of one of its providers."""

    def start(provider: str = "kling", account: dict[str, Any] | None = None, **scenario: Any) -> Stage:
        accounts = {"providers": {provider: account}} if account else {}
        sandbox = running.enter_context(shared_sandbox({**STILL, **accounts, **scenario}, book))
        stage = Stage(sandbox, provider)
        running.callback(stage.client.close)
        return stage

    with ExitStack() as running:
        yield start


def test_a_task_queues_runs_and_ends_as_the_clock_moves(play: Play) -> None:
    """The states of a task follow the clock, and only its last status states the charge."""
    stage = play()
    task = stage.created()
    seen = []
    for seconds in (0, 2, 19, 1):
        stage.sandbox.advance(seconds=seconds)
        data = stage.get(f"{TEXT}/{task}")["data"]
        seen.append((data["task_status"], data.get("final_unit_deduction")))
    assert seen == [("submitted", None), ("processing", None), ("processing", None), ("succeed", "6")]
    assert stage.bill == {"USD": Decimal("0.84")}


@pytest.mark.parametrize(
    ("account", "deduction", "billing", "bill"),
    [
        (
            {"pays": ["pack"]},
            {"final_unit_deduction": "6"},
            [{"charge_type": "unit", "package_type": "video", "amount": "6"}],
            {"USD": Decimal("0.84")},
        ),
        (
            {"pays": ["cash"], "cash_discount": "0.3"},
            {
                "final_unit_deduction": "0",
                "final_balance_deduction": {"quota": "0.588", "list_price": "0.84"},
            },
            [
                {
                    "charge_type": "cash",
                    "cash_type": "balance",
                    "amount": "0.588",
                    "list_price": "0.84",
                    "currency": "USD",
                }
            ],
            {"USD": Decimal("0.588")},
        ),
        (
            {"pays": ["pack", "cash"], "packs": {"video": "2.5"}},
            {
                "final_unit_deduction": "2.5",
                "final_balance_deduction": {"quota": "0.49", "list_price": "0.49"},
            },
            [
                {"charge_type": "unit", "package_type": "video", "amount": "2.5"},
                {
                    "charge_type": "cash",
                    "cash_type": "balance",
                    "amount": "0.49",
                    "list_price": "0.49",
                    "currency": "USD",
                },
            ],
            {"USD": Decimal("0.84")},
        ),
        (
            {"pays": ["test_balance"]},
            {"final_unit_deduction": "0", "final_balance_deduction": {"quota": "0", "list_price": "0.84"}},
            [
                {
                    "charge_type": "cash",
                    "cash_type": "test_balance",
                    "amount": "0.84",
                    "list_price": "0.84",
                    "currency": "USD",
                }
            ],
            {"USD": Decimal(0)},
        ),
        (
            {"pays": ["cash"], "currency": "CNY", "unit_value": "1"},
            {"final_unit_deduction": "0", "final_balance_deduction": {"quota": "6", "list_price": "6"}},
            [
                {
                    "charge_type": "cash",
                    "cash_type": "balance",
                    "amount": "6",
                    "list_price": "6",
                    "currency": "CNY",
                }
            ],
            {"CNY": Decimal(6)},
        ),
        ({"states_charge": False}, {}, [], {"USD": Decimal("0.84")}),
    ],
    ids=["pack", "cash with a discount", "pack and cash", "test balance", "cash in CNY", "not stated"],
)
def test_charges_have_every_form_of_the_official_api(
    account: dict[str, Any], deduction: Any, billing: Any, bill: dict[str, Decimal], play: Play
) -> None:
    """One job of 6 units is charged in every way, through both official APIs, and the bill is exact."""
    stage = play(account=account)
    data = stage.ended()
    assert {name: value for name, value in data.items() if name.startswith("final_")} == deduction
    (newer,) = stage.get(f"/tasks?task_ids={data['task_id']}")["data"]
    assert (newer["billing"], stage.bill) == (billing, bill)


def test_quota_is_a_whole_number_and_a_half_is_rounded_as_the_scenario_says(play: Play) -> None:
    """5 seconds in 4k cost 1138362.5 in quota, which is rounded up by default, or truncated by the scenario."""
    clip = {"model": "kling-v3", "prompt": "a", "resolution": "4k"}
    nearest, truncated = play("qingbo"), play("qingbo", {"rounding": "truncate"})
    costs = [stage.ended("/v1/tasks", clip)["cost"] for stage in (nearest, truncated)]
    assert (costs, nearest.bill) == ([1138363, 1138362], {"USD": Decimal("2.276726")})


def test_a_billing_spec_is_in_the_model_and_decides_the_bill(play: Play) -> None:
    """The gateway states no charge; `model` in its response shows the settings that are billed."""
    stage = play("octopusx")
    payload = {"model": "Kling-3.0-Omni", "prompt": "a [bill:1080p-ref-audio] [seconds:10]", "seconds": "5"}
    answer = stage.ended("/v1/videos", payload)
    assert (answer["model"], answer["seconds"]) == ("kling-3.0-omni-1080p-ref-audio", "10")
    assert stage.bill == {"CNY": Decimal(14)}


def test_a_failed_task_is_refunded_or_charged_as_told(play: Play) -> None:
    """The table, the scenario and the prompt decide whether a failed task is charged."""
    stage = play()
    refunded = stage.ended(payload={**PRO, "prompt": "a [fail:moderation]"})
    charged = stage.ended(payload={**PRO, "prompt": "a [fail:charged]"})
    assert (refunded["task_status"], refunded["task_status_msg"]) == ("failed", "moderation")
    assert [refunded["final_unit_deduction"], charged["final_unit_deduction"]] == ["0", "6"]
    assert stage.bill == {"USD": Decimal("0.84")}


@pytest.mark.parametrize(
    ("provider", "path", "payload", "status", "error"),
    [
        ("kling", TEXT, {**PRO, "duration": 5}, 400, {"code": 1201}),
        ("kling", TEXT, {**PRO, "mode": "8k"}, 400, {"code": 1201}),
        ("kling", TEXT, {**PRO, "prompt": "a [429:1303]"}, 429, {"code": 1303}),
        ("kling", TEXT, {**PRO, "prompt": "a [200:1102]"}, 200, {"code": 1102, "data": None}),
        ("kling", TEXT, {**PRO, "prompt": "a [503]"}, 503, {"code": 5001}),
        ("kling", "/v1/videos/nothing", {}, 404, {"code": 1203}),
        ("qingbo", "/v1/tasks", {**CLIP, "duration": 99}, 400, {"error.code": "invalid_request"}),
        ("qingbo", "/v1/tasks", {**CLIP, "prompt": "[402]"}, 402, {"error.code": "insufficient_balance"}),
        (
            *("qingbo", "/v1/tasks"),
            {"model": "kling-v3-omni", "prompt": "a", "resolution": "4k", "audio": True},
            *(500, {"error.code": "price_not_configured"}),
        ),
        ("qingbo-ai", "/v1/tasks", {**CLIP, "extra": {"a": 1}}, 400, {"error.code": "capability_violation"}),
        ("octopusx", "/v1/videos", {"model": "sora"}, 400, {"error.type": "invalid_request_error"}),
        ("uniall", "/v1/video/generations", {"model": "x"}, 400, {"error.code": "invalid_request"}),
    ],
)
def test_each_api_refuses_in_its_own_shape(
    provider: str, path: str, payload: Any, status: int, error: dict[str, Any], play: Play
) -> None:
    """The refusal has the API's own status and code, and nothing is billed."""
    stage = play(provider)
    response = stage.post(path, payload)
    found = {}
    for name in error:
        value = response.json()
        for step in name.split("."):
            value = value[step]
        found[name] = value
    assert (response.status_code, found) == (status, error)
    stage.sandbox.advance(seconds=100)
    assert (stage.bill, stage.sandbox.tasks(provider)) == ({}, [])


def test_an_account_runs_out(play: Play) -> None:
    """If units and money are used up, the API returns code 1102; a refund makes the next job possible."""
    stage = play(account={"pays": ["pack", "cash"], "packs": {"video": "6"}, "balance": "0.5"})
    first = stage.created(payload={**PRO, "prompt": "a [fail:moderation]"})
    refused = stage.post(TEXT, PRO)
    assert (refused.status_code, refused.json()["code"]) == (429, 1102)
    stage.sandbox.advance(seconds=100)
    assert stage.get(f"{TEXT}/{first}")["data"]["task_status"] == "failed"
    assert stage.post(TEXT, PRO).status_code == 200


def test_an_idempotency_key_replays_the_task_for_a_day(play: Play) -> None:
    """The same key returns the same task, which is billed once; after 24 hours it creates a new task."""
    stage = play("qingbo")
    key = {"Idempotency-Key": "shot-1"}
    tasks = [stage.post("/v1/tasks", CLIP, **key).json()["task_id"] for _ in range(2)]
    stage.sandbox.advance(seconds=86_400)
    tasks.append(stage.post("/v1/tasks", CLIP, **key).json()["task_id"])
    assert (tasks[0] == tasks[1], tasks[1] == tasks[2], len(stage.sandbox.tasks("qingbo"))) == (True, False, 2)


def test_an_external_id_finds_the_task_and_may_not_be_used_twice(play: Play) -> None:
    """The caller's own id works in paths and queries; using it again is refused with code 1201."""
    stage = play()
    task = stage.created(payload={**PRO, "external_task_id": "mine"})
    assert stage.get(f"{TEXT}/mine")["data"]["task_id"] == task
    assert [each["id"] for each in stage.get("/tasks?external_task_ids=mine,other")["data"]] == [task]
    again = stage.post(TEXT, {**PRO, "external_task_id": "mine"})
    assert (again.json()["code"], "already exists" in again.json()["message"]) == (1201, True)


def test_queries_take_twenty_ids_and_leave_unknown_ones_out(play: Play) -> None:
    """A query for 21 ids is refused; a query for an unknown id returns an empty list with status 200."""
    stage = play()
    too_many = stage.client.get("/tasks", params={"task_ids": ",".join(map(str, range(21)))})
    assert (too_many.json()["code"], stage.get("/tasks?task_ids=1")["data"]) == (1201, [])


def test_lists_have_cursors_and_pages(play: Play) -> None:
    """The newer list uses a cursor and the older one page numbers; both return every task once."""
    stage = play()
    made = [stage.created() for _ in range(5)]
    listed, cursor = [], ""
    while True:
        page = stage.post("/tasks", {"limit": 2, "cursor": cursor}).json()["data"]
        listed += [task["id"] for task in page["result"]]
        cursor = page["next_cursor"]
        if not page["has_more"]:
            break
    pages = [stage.get(f"{TEXT}?pageNum={number}&pageSize=3")["data"] for number in (1, 2)]
    assert listed == made[::-1] == [task["task_id"] for page in pages for task in page]


def test_only_a_queued_task_can_be_cancelled(play: Play) -> None:
    """A cancelled task costs nothing; cancelling a running one returns 400 `task_not_cancellable`."""
    stage = play("qingbo")
    queued = stage.post("/v1/tasks", CLIP).json()["task_id"]
    reply = stage.post(f"/v1/tasks/{queued}/cancel", {})
    assert (reply.json()["status"], reply.json()["refunded_quota"], reply.json()["cost"]) == (
        "cancelled",
        357000,
        0,
    )
    running = stage.post("/v1/tasks", CLIP).json()["task_id"]
    stage.sandbox.advance(seconds=5)
    late = stage.post(f"/v1/tasks/{running}/cancel", {})
    assert (late.status_code, late.json()["error"]["code"]) == (400, "task_not_cancellable")
    stage.sandbox.advance(seconds=50)
    assert stage.bill == {"USD": Decimal("0.714")}


def test_results_expire(play: Play) -> None:
    """A result is deleted after the days in the scenario; the task stays."""
    stage = play(account={"results_days": 1})
    url = stage.ended()["task_result"]["videos"][0]["url"]
    task = stage.sandbox.tasks("kling")[0]["id"]
    assert httpx.get(url).headers["content-type"] == "video/mp4"
    stage.sandbox.advance(seconds=86_400)
    assert (httpx.get(url).status_code, stage.get(f"{TEXT}/{task}")["data"]["task_result"]) == (404, {})


def test_a_lost_answer_leaves_a_task(play: Play) -> None:
    """The connection is closed without a response, but the task is billed."""
    stage = play()
    with pytest.raises(httpx.RemoteProtocolError):
        stage.post(TEXT, {**PRO, "prompt": "a [lost-answer]"})
    stage.sandbox.advance(seconds=100)
    assert stage.bill == {"USD": Decimal("0.84")}


def test_a_held_answer_never_comes_but_the_task_is_there(play: Play) -> None:
    """The client gives up, but the task is billed; a sandbox that stops releases the other responses."""
    stage = play()
    with pytest.raises(httpx.ReadTimeout):
        stage.client.post(TEXT, json={**PRO, "prompt": "a [timeout]"}, timeout=0.3)
    stage.sandbox.advance(seconds=100)
    assert stage.bill == {"USD": Decimal("0.84")}


def test_a_held_answer_is_sent_when_the_sandbox_is_told_to(play: Play) -> None:
    """The client waits until `resume` is called, and then gets the usual response."""
    stage = play()
    with ThreadPoolExecutor(1) as waiting:
        response = waiting.submit(stage.post, TEXT, {**PRO, "prompt": "a [timeout]"})
        while not stage.sandbox.tasks("kling"):
            assert not response.done()
        stage.sandbox.resume()
        assert response.result(10).json()["data"]["task_id"] == stage.sandbox.tasks("kling")[0]["id"]


def test_a_duplicate_id_names_the_task_before(play: Play) -> None:
    """Two responses contain the same task id, but the bill has both tasks."""
    stage = play()
    first = stage.created()
    second = stage.created(payload={**PRO, "prompt": "a [duplicate-id]"})
    stage.sandbox.advance(seconds=100)
    assert (first == second, stage.bill) == (True, {"USD": Decimal("1.68")})


def test_an_answer_may_name_a_wrong_charge(play: Play) -> None:
    """The responses of each API state twice the charge, but the bill is correct."""
    official, tasks = play(), play("qingbo")
    said = official.ended(payload={**PRO, "prompt": "a [says:x2]"})
    (newer,) = official.get(f"/tasks?task_ids={said['task_id']}")["data"]
    assert (said["final_unit_deduction"], newer["billing"][0]["amount"]) == ("12", "12")
    assert tasks.ended("/v1/tasks", {**CLIP, "prompt": "a [says:x2]"})["cost"] == 714000
    assert (official.bill, tasks.bill) == ({"USD": Decimal("0.84")}, {"USD": Decimal("0.714")})


def test_free_calls_cost_nothing(play: Play) -> None:
    """A quote states the price, and requests for deletions and assets succeed, without a task or a charge."""
    newer, official = play("qingbo-ai"), play()
    quoted = newer.post("/waveapi/quote", {"model": "kling-v3", "prompt": "a", "duration": 5})
    assert quoted.json()["data"]["total_usd"] == 0.378
    assert newer.post("/v1/assets", {}).status_code == 200
    assert official.post("/v1/general/delete-voices", {"voice_id": "1"}).json()["code"] == 0
    assert (newer.sandbox.tasks("qingbo-ai"), newer.bill, official.bill) == ([], {}, {})


def test_faults_can_be_given_for_the_next_submissions(play: Play) -> None:
    """Each fault applies to one submission; an unknown fault is refused with a suggestion."""
    stage = play()
    stage.sandbox.fail_next("kling", "500", ["500:accepted", "charge:x2"])
    assert [stage.post(TEXT, PRO).status_code for _ in range(3)] == [500, 500, 200]
    stage.sandbox.advance(seconds=100)
    assert stage.bill == {"USD": Decimal("2.52")}
    with pytest.raises(KlingPricingError, match="did you mean 'fail'"):
        stage.sandbox.fail_next("kling", "fial")


def test_an_answer_may_have_another_body_and_headers(play: Play) -> None:
    """The task is created as usual; only the response is different."""
    stage = play()
    stage.sandbox.fail_next("kling", [], headers={"retry-after": "7"}, body=b"<html>bad gateway</html>")
    response = stage.post(TEXT, PRO)
    assert (response.text, response.headers["retry-after"]) == ("<html>bad gateway</html>", "7")
    assert len(stage.sandbox.tasks("kling")) == 1


def test_the_same_seed_gives_the_same_answers(book: PriceBook) -> None:
    """With the same seed, ids, random faults and charges are the same; with another seed, they differ."""

    def answers(seed: int) -> list[Any]:
        faults = [{"fault": "fail:moderation", "rate": "0.3"}, {"fault": "429", "rate": "0.2"}]
        with Sandbox({**STILL, "seed": seed, "faults": faults}, book=book) as sandbox:
            url = sandbox.url("kling")
            with httpx.Client() as client:
                replies = [client.post(url + TEXT, json=PRO).text for _ in range(30)]
            sandbox.advance(seconds=100)
            return [replies, sandbox.tasks("kling"), sandbox.bill("kling")]

    assert answers(1) == answers(1) != answers(2)


def test_a_fast_clock_ends_tasks_without_being_moved(book: PriceBook) -> None:
    """At the maximum speed, a task ends while the test waits for its callback."""
    with (
        receiving(lambda _request: 200) as url,
        Sandbox({"speed": 10**6}, book=book) as sandbox,
    ):
        task = httpx.post(sandbox.url("kling") + TEXT, json={**PRO, "callback_url": url}).json()["data"][
            "task_id"
        ]
        with httpx.Client() as client:
            for _ in range(1000):
                status = client.get(f"{sandbox.url('kling')}{TEXT}/{task}").json()["data"]["task_status"]
                if status == "succeed":
                    break
        assert status == "succeed"


def test_callbacks_come_at_every_change_and_are_signed(play: Play) -> None:
    """Three callbacks arrive in order, in the shape of the legacy API, signed with the account's secret."""
    received: list[Received] = []
    secret = "whsec_dGVzdHNlY3JldHRlc3RzZWNyZXR0ZXN0c2VjcmV0MTI="  # noqa: S105 (published with a test vector)

    def receive(request: Received) -> int:
        received.append(request)
        return 200

    with receiving(receive) as url:
        stage = play(account={"webhook_secret": secret})
        stage.created(payload={**PRO, "callback_url": url})
        stage.sandbox.advance(seconds=100)
        stage.sandbox.callbacks(at_least=3)
    words = [request.json["task_status"] for request in received]
    assert (words, received[-1].json["final_unit_deduction"]) == (["submitted", "processing", "succeed"], "6")
    for request in received:
        name, time = request.headers["webhook-id"], int(request.headers["webhook-timestamp"])
        assert (
            signature(secret, name, time, request.body)["webhook-signature"]
            == request.headers["webhook-signature"]
        )


def test_the_signature_is_that_of_the_published_vector() -> None:
    """The signature equals the one in the official documentation for the same secret, id, time and body."""
    body = (
        b'{"id":"1234567890","status":"succeeded","message":"",'
        b'"create_time":1781080778802,"update_time":1781080794151}'
    )
    headers = signature("whsec_dGVzdHNlY3JldHRlc3RzZWNyZXR0ZXN0c2VjcmV0MTI=", "9876543210", 1781080794, body)
    assert headers["webhook-signature"] == "v1,UsKlJP00XoQyOn410NM9xv34sP+Gl0jnOO9Lcpr7NJ4="


def rows_of(text: bytes) -> list[dict[str, str]]:
    """Returns the rows of a CSV file."""
    return [*csv.DictReader(io.StringIO(text.decode()))]


@pytest.mark.parametrize(
    ("error", "november", "december"),
    [
        ("twice", ["6", "6"], []),
        ("dearer", ["7.5"], []),
        ("too-long", ["12"], []),
        ("late", [], ["6"]),
        ("refunded-later", ["6", "-6"], []),
        ("corrected-later", ["12", "-12", "6"], []),
        ("split", ["3"], ["3"]),
        ("missing", [], []),
    ],
)
def test_statements_have_planted_errors_and_the_bill_does_not(
    error: str, november: list[str], december: list[str], play: Play
) -> None:
    """Each error changes the statement but not the bill, and `_planted` lists it."""
    stage = play()
    stage.ended(payload={**PRO, "prompt": f"a [statement:{error}]"})
    months = [("2026-11-01", "2026-12-01"), ("2026-12-01", "2027-01-01")]
    amounts = [
        [
            row["deduction_amount"]
            for row in rows_of(stage.client.get(f"/_statement?from={since}&until={until}&as=csv").content)
        ]
        for since, until in months
    ]
    assert (amounts, stage.bill) == ([november, december], {"USD": Decimal("0.84")})
    assert {planted["error"] for planted in stage.get("/_planted")} == {error}


def test_a_failed_task_may_be_on_the_statement(play: Play) -> None:
    """A failed task that was refunded is charged on the statement, but not on the bill."""
    stage = play("qingbo")
    stage.ended("/v1/tasks", {**CLIP, "prompt": "a [fail:moderation] [statement:failed-but-charged]"})
    (row,) = rows_of(stage.sandbox.statement("qingbo"))
    assert (row["status"], row["cost"], stage.bill) == ("failed", "357000", {})


def test_the_official_export_is_the_answer_of_its_api(play: Play) -> None:
    """The exports of packs and of the balance have their rows in `data.result.detail`, with exact amounts."""
    stage = play(account={"pays": ["pack", "cash"], "packs": {"video": "2.5"}})
    stage.ended()
    exports = [
        json.loads(stage.sandbox.statement("kling", export=export), parse_float=Decimal)["data"]["result"][
            "detail"
        ]
        for export in ("package", "balance")
    ]
    amounts = [row["deduction_amount"] for rows in exports for row in rows]
    assert amounts == [Decimal("2.5"), Decimal("0.49")]


@pytest.mark.parametrize("export", ["package", "balance"])
def test_the_official_exports_are_paged_by_creation(export: str, play: Play) -> None:
    """Every deduction is on exactly one page, and the cursor is next to `result`."""
    stage = play(account={"pays": [{"package": "pack", "balance": "cash"}[export]]})
    made = [stage.ended()["task_id"] for _ in range(5)]
    seen: list[str] = []
    wanted: dict[str, Any] = {"start_time": 0, "limit": 2}
    while wanted:
        data = stage.post(f"/account/billing/{export}", wanted).json()["data"]
        seen += [row["task_id"] for row in data["result"]["detail"]]
        wanted = {"cursor": data["next_cursor"], "limit": 2} if data["has_more"] else {}
    assert seen == made
    assert stage.post(f"/account/billing/{export}", {}).json()["code"] == 1201


@pytest.mark.parametrize(
    ("form", "start"),
    [
        ("csv", b"task_id,"),
        ("spreadsheet", b"\xef\xbb\xbftask_id;"),
        ("unicode-text", "task_id\t".encode("utf-16")),
        ("rounded-ids", b"task_id,"),
    ],
)
def test_a_statement_can_be_saved_as_a_spreadsheet_program_does(form: str, start: bytes, play: Play) -> None:
    """The file begins exactly as a spreadsheet program would write it."""
    stage = play(account={"pays": ["cash"]})
    stage.ended()
    content = stage.client.get(f"/_statement?export=balance&as={form}").content
    assert content.startswith(start)
    assert (b"8.60000E+17" in content) == (form == "rounded-ids")
    assert (b"0,84;" in content) == (form == "spreadsheet")


def test_the_host_can_name_the_provider(play: Play) -> None:
    """Without a prefix in the path, the Host header selects the provider, also as `<provider>.localhost`."""
    stage = play()
    url = stage.sandbox.url()
    for host in ("api.klingai.com", "kling.localhost:80"):
        assert httpx.post(url + TEXT, json=PRO, headers={"Host": host}).json()["code"] == 0
    assert httpx.post(url + TEXT, json=PRO).status_code == 404


def test_a_missing_key_is_refused(play: Play) -> None:
    """If the scenario sets an API key, requests without it are refused with 401."""
    stage = play(account={"api_key": "key-1"})
    keys: list[dict[str, str]] = [{}, {"Authorization": "Bearer key-1"}]
    assert [stage.post(TEXT, PRO, **key).status_code for key in keys] == [401, 200]


def test_recorded_calls_are_an_archive_without_keys(book: PriceBook, tmp_path: Path) -> None:
    """The file is a complete archive after every request, and does not contain the API key."""
    path = tmp_path / "calls.har"
    with Sandbox(STILL, book=book, record=path) as sandbox:
        httpx.post(sandbox.url("kling") + TEXT, json=PRO, headers={"Authorization": "Bearer sk-secret-1"})
        httpx.get(sandbox.url("kling") + "/tasks?task_ids=1")
    entries = json.loads(path.read_text())["log"]["entries"]
    assert [(each["request"]["method"], each["response"]["status"]) for each in entries] == [
        ("POST", 200),
        ("GET", 200),
    ]
    assert "sk-secret" not in path.read_text()


def test_a_sandbox_can_run_in_a_process() -> None:
    """The sandbox works as in a thread, and its process is gone afterwards."""
    with Sandbox({"speed": 0}, process=True) as sandbox:
        assert httpx.post(sandbox.url("kling") + TEXT, json=PRO).json()["code"] == 0
        assert len(sandbox.tasks("kling")) == 1
    with pytest.raises(httpx.ConnectError):
        httpx.get(sandbox.url())


@pytest.mark.parametrize(
    ("path", "body", "problem"),
    [
        ("/_clock", "{", "the body is not JSON"),
        (
            "/_clock",
            '{"now": "2020-01-01"}',
            "00:00+00:00 and cannot be set back",
        ),
        ("/_clock", '{"speed": -1}', "invalid speed -1"),
        ("/_clock", '{"speed": 1.5}', "invalid speed 1.5; give the number"),
        ("/_clock", '{"forward_s": 1000000000000000000}', "the clock cannot be set past 2201-01-01"),
        ("/_clock", '{"now": "9999-12-31T23:59:59Z"}', "the clock cannot be set past 2201-01-01"),
        ("/_reset", '{"start": "9999-12-31T23:59:59Z"}', "start: must be a day"),
        (
            "/_reset",
            '{"faults": [{"fault": 500, "provider": "klong", "job": 1}]}',
            "faults[0].provider: unknown provider klong; did you mean 'kling'?",
        ),
        ("/_clock", '{"hours": 1}', "the clock has only the settings `now`, `forward_s`"),
        ("/kling/_faults", '{"faults": 500}', "`faults` must be a list"),
        ("/kling/_faults", '{"falts": ["500"]}', "unknown key falts; did you mean 'faults'?"),
        (
            "/kling/_faults",
            '{"faults": [{"words": ["500"], "headers": {"Retry-After": "1\\n2"}}]}',
            "the header Retry-After is not valid in HTTP",
        ),
        ("/kling/_tasks/1", "{}", "unknown task 1"),
        ("/kling/_tasks/TASK", '{"sate": "failed"}', "unknown key sate; did you mean 'state'?"),
        ("/kling/_tasks/TASK", '{"state": ["failed"]}', "`state` must be cancelled, failed or succeeded"),
        ("/kling/_callback/TASK", "{}", "the task has no callback URL; give one"),
        ("/kling/_callback/TASK", '{"url": "http://localhost", "state": [1]}', "`state` must be text"),
        ("/kling/_callback/TASK", '{"ulr": "http://localhost"}', "unknown key ulr; did you mean 'url'?"),
        ("/_clocks", "", "unknown request: POST /_clocks; begin the path with one of /kling"),
        ("/klong/_bill", "", "begin the path with one of /kling"),
    ],
)
def test_a_steering_call_that_cannot_be_read_is_refused(path: str, body: str, problem: str, play: Play) -> None:
    """The response explains the error, and nothing changes."""
    stage = play()
    task = stage.created()
    before = stage.sandbox.call("GET", "/_clock"), stage.sandbox.tasks("kling")
    response = httpx.post(stage.sandbox.url() + path.replace("TASK", task), content=body)
    assert response.status_code in {400, 404}
    assert problem in response.json()["error"]
    assert (stage.sandbox.call("GET", "/_clock"), stage.sandbox.tasks("kling")) == before


@pytest.mark.parametrize(
    ("query", "problem"),
    [
        ("from=2026-12-01&until=2026-11-01", "from 2026-12-01 until 2026-11-01 is empty; give a later `until`"),
        ("since=2026-11-01", "unknown key since; use one of: as, export, from, until"),
        ("export=balances", "unknown export balances; did you mean 'balance'?"),
        ("as=cvs", "unknown statement form cvs; did you mean 'csv'?"),
        ("from=November", "November is neither a date nor a time"),
    ],
)
def test_a_statement_query_with_an_error_is_refused(query: str, problem: str, play: Play) -> None:
    """A misspelt parameter or an empty period does not return the statement of another period, or no rows."""
    response = httpx.get(f"{play().sandbox.url('kling')}/_statement?{query}")
    assert (response.status_code, response.json()["error"].count(problem)) == (400, 1)


def test_of_contradictory_words_the_later_one_applies(play: Play) -> None:
    """The order of the words decides, not their kind."""
    stage = play()
    words = ["[charge:4] [charge:x2]", "[charge:x2] [charge:4]", "[fail:refunded] [fail:charged]"]
    ended = [stage.ended(payload={**PRO, "prompt": f"a {each}"}) for each in words]
    assert [task["final_unit_deduction"] for task in ended] == ["12", "4", "6"]
    assert stage.client.post(TEXT, json={**PRO, "prompt": "a [500] [402]"}).status_code == 402
    for each in ("[lost-request] [lost-answer]", "[lost-answer] [lost-request]"):
        with pytest.raises(httpx.RemoteProtocolError):
            stage.client.post(TEXT, json={**PRO, "prompt": f"a {each}"})
    assert len(stage.sandbox.tasks("kling")) == 4


def test_an_empty_scenario_file_is_the_default_scenario(tmp_path: Path) -> None:
    """A file that contains only comments changes no setting."""
    path = tmp_path / "empty.yaml"
    path.write_text("# seed: 7\n")
    assert load_scenario(path).seed == 0


def test_a_busy_port_is_a_clear_error(book: PriceBook) -> None:
    """The message gives the address and the reason."""
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        with pytest.raises(
            KlingPricingError, match=f"cannot listen on 127.0.0.1:{port}: address already in use"
        ):
            Sandbox(port=port, book=book).start()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("sed: 1", "bad.yaml:1: sed: unknown key; did you mean 'seed'?"),
        ("faults: [{fault: fial, rate: 0.1}]", "faults[0].fault: unknown fault fial; did you mean 'fail'?"),
        ("faults: [{fault: 500, rate: 2}]", "`rate` is a share of the jobs; give a number from 0 to 1"),
        ("faults: [{fault: 500}]", "give exactly one of `rate`, `every` and `job`"),
        ("speed: -1", "bad.yaml:1: speed: "),
        (
            "providers: {kling: {webhook_secret: whsec_secret}}",
            "providers.kling.webhook_secret: is not a webhook secret; write whsec_ and the key in base64",
        ),
    ],
)
def test_a_bad_scenario_is_refused_with_its_place(text: str, problem: str, tmp_path: Path) -> None:
    """The error gives the file, the line, the key and the remedy."""
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(ScenarioError) as caught:
        load_scenario(path)
    assert problem in str(caught.value)


def test_a_scenario_with_an_unknown_provider_is_refused(book: PriceBook) -> None:
    """The error suggests the provider with the most similar name."""
    with pytest.raises(ScenarioError, match="did you mean 'kling'"):
        Sandbox({"providers": {"klong": {}}}, book=book).start()


def test_the_scenario_on_the_page_is_valid(tmp_path: Path, book: PriceBook) -> None:
    """The scenario file in the docs is valid, and a sandbox runs with it."""
    page = (Path(__file__).parent.parent / "docs" / "sandbox.md").read_text(encoding="utf-8")
    (text,) = re.findall(r"^```yaml\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    path = tmp_path / "rehearsal.yaml"
    path.write_text(text)
    with Sandbox(path, book=book) as sandbox:
        assert httpx.post(sandbox.url("kling") + TEXT, json=PRO).json()["code"] == 0


PLUGIN_TESTS = """\
import sys, urllib.request
import pytest

def test_nothing_is_imported_before():
    assert "uvicorn" not in sys.modules

@pytest.mark.kling_scenario({"speed": 0, "faults": [{"fault": "503", "job": 1}]})
def test_a_scenario(kling_sandbox):
    with pytest.raises(urllib.error.HTTPError) as caught:
        urllib.request.urlopen(kling_sandbox.url("kling") + "/v1/videos/text2video", b"{}")
    assert caught.value.code == 503

def test_the_fixture(kling_sandbox):
    assert kling_sandbox.bill("kling") == {}
"""


def test_the_pytest_plugin_offers_a_sandbox(tmp_path: Path) -> None:
    """The fixture and its marker work, and the sandbox is not imported until a test uses the fixture."""
    (tmp_path / "test_it.py").write_text(PLUGIN_TESTS)
    plugin = "kling_pricing.sandbox.pytest_plugin"
    is_installed = any(entry.value == plugin for entry in entry_points(group="pytest11"))
    given = [] if is_installed else ["-p", plugin]  # a source tree on the path has no entry points
    slow = ["-p", "no:schemathesis", "-p", "no:hypothesispytest"]  # plugins that have nothing to do with it
    command = [sys.executable, "-m", "pytest", "-q", *given, *slow, "--strict-markers"]
    done = subprocess.run([*command, str(tmp_path)], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert "3 passed" in done.stdout, done.stdout + done.stderr
